//! One record as JSON: its fields, how its value is stored, what is refused.
//!
//! Must never copy a key or value that stands in the body as it is to be stored.

use std::sync::Arc;

use bytes::Bytes;
use lakefall_queue::limits::Limits;
use lakefall_queue::queue::DELAY_MAX;
use lakefall_queue::time::parse_duration;
use lakefall_queue::{Error, Header, PartitionIndex, Properties, Record, Timestamp, ValueKind};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::headers::HeadersIn;
use super::value::{Encoding, decode_value, decode_with};
use crate::problem::{Problem, Result};

/// What all records of a request share.
#[derive(Clone)]
pub(crate) struct Shape {
    /// What is too large.
    pub(crate) limits: Arc<Limits>,
    /// What delays count from.
    pub(crate) now: Timestamp,
    /// `traceparent` and `tracestate` of the request, for records that have none.
    pub(crate) trace: Option<Properties>,
}

impl Shape {
    /// Checks a record against the limits and gives it the request's trace.
    pub(crate) fn finish(&self, mut record: Record) -> Result<Record> {
        if let Some(trace) = &self.trace {
            let own = record.properties.get_or_insert_default();
            if own.traceparent.is_none() {
                own.traceparent.clone_from(&trace.traceparent);
                own.tracestate.clone_from(&trace.tracestate);
            }
        }
        let value = record.value.as_ref().map_or(0, Bytes::len);
        let key = record.key.as_ref().map_or(0, Bytes::len);
        let headers = record.payload_bytes() - key - value;
        self.within("value", "the value", value, self.limits.value_bytes)?;
        self.within("key", "the key", key, self.limits.key_bytes)?;
        self.within("headers", "the sum of the headers", headers, self.limits.header_bytes)?;
        if let Some(header) = record.headers.iter().find(|h| h.name.is_empty() || h.name.starts_with(Properties::RESERVED_PREFIX)) {
            let reason = format!(
                "{:?} cannot be a header's name: it is empty or starts with the reserved {:?}",
                header.name,
                Properties::RESERVED_PREFIX
            );
            return Err(Problem::invalid("headers", reason));
        }
        Ok(record)
    }

    fn within(&self, field: &str, what: &'static str, actual: usize, limit: usize) -> Result<()> {
        if actual <= limit {
            return Ok(());
        }
        let error = Error::TooLarge { what, limit: limit as u64, actual: actual as u64 };
        let reason = error.to_string();
        Err(Problem::from(error).at(field, reason))
    }
}

/// A record as producers write it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RecordIn<'a> {
    #[serde(borrow)]
    value: &'a RawValue,
    #[serde(borrow, default)]
    key: Option<&'a RawValue>,
    #[serde(default)]
    key_encoding: Option<Encoding>,
    #[serde(default)]
    encoding: Option<Encoding>,
    #[serde(borrow, default)]
    headers: Option<HeadersIn<'a>>,
    #[serde(default)]
    timestamp: Option<Timestamp>,
    #[serde(default)]
    partition: Option<u32>,
    #[serde(default)]
    dedup_id: Option<Arc<str>>,
    #[serde(default)]
    ordering_key: Option<Arc<str>>,
    #[serde(default)]
    priority: Option<u8>,
    #[serde(default)]
    delay: Option<String>,
    #[serde(default)]
    deliver_at: Option<Timestamp>,
    #[serde(default)]
    ttl: Option<String>,
    #[serde(default)]
    expires_at: Option<Timestamp>,
    #[serde(default)]
    correlation_id: Option<Arc<str>>,
    #[serde(default)]
    reply_to: Option<Arc<str>>,
    #[serde(default)]
    traceparent: Option<Arc<str>>,
    #[serde(default)]
    tracestate: Option<Arc<str>>,
}

impl RecordIn<'_> {
    /// The record, its key and value slices of `body`, in which it stands.
    pub(crate) fn into_record(mut self, body: &Bytes, shape: &Shape) -> Result<Record> {
        let (value, kind) = decode_value(self.value.get(), self.encoding, body).map_err(|p| p.inside("/value"))?;
        let key = match self.key {
            None => None,
            Some(raw) => decode_with(raw.get(), self.key_encoding.unwrap_or(Encoding::Utf8), body).map_err(|p| p.inside("/key"))?,
        };
        let headers = self.headers.take().map_or(Ok(Vec::new()), |h| h.into_headers(body))?;
        let record = Record {
            key,
            value,
            kind,
            headers,
            timestamp: self.timestamp,
            partition: self.partition.map(PartitionIndex),
            properties: self.properties(shape)?,
        };
        shape.finish(record)
    }

    fn properties(self, shape: &Shape) -> Result<Option<Box<Properties>>> {
        let draft = PropertiesIn {
            dedup_id: self.dedup_id,
            ordering_key: self.ordering_key,
            priority: self.priority,
            delay: self.delay,
            deliver_at: self.deliver_at,
            ttl: self.ttl,
            expires_at: self.expires_at,
            correlation_id: self.correlation_id,
            reply_to: self.reply_to,
            traceparent: self.traceparent,
            tracestate: self.tracestate,
        };
        draft.check(shape.now, self.timestamp)
    }
}

/// Properties as any wire writes them, before they are checked.
#[derive(Default)]
pub(crate) struct PropertiesIn {
    pub(crate) dedup_id: Option<Arc<str>>,
    pub(crate) ordering_key: Option<Arc<str>>,
    pub(crate) priority: Option<u8>,
    pub(crate) delay: Option<String>,
    pub(crate) deliver_at: Option<Timestamp>,
    pub(crate) ttl: Option<String>,
    pub(crate) expires_at: Option<Timestamp>,
    pub(crate) correlation_id: Option<Arc<str>>,
    pub(crate) reply_to: Option<Arc<str>>,
    pub(crate) traceparent: Option<Arc<str>>,
    pub(crate) tracestate: Option<Arc<str>>,
}

impl PropertiesIn {
    /// What is set, in bounds; `delay` counts from `now`, `ttl` from the record's own time.
    pub(crate) fn check(self, now: Timestamp, own: Option<Timestamp>) -> Result<Option<Box<Properties>>> {
        if self.priority.is_some_and(|priority| priority > 9) {
            return Err(Problem::invalid("priority", "priority must be 0 to 9"));
        }
        for (name, text, least) in [
            ("dedup_id", &self.dedup_id, 1),
            ("ordering_key", &self.ordering_key, 1),
            ("correlation_id", &self.correlation_id, 0),
            ("reply_to", &self.reply_to, 1),
            ("traceparent", &self.traceparent, 1),
            ("tracestate", &self.tracestate, 0),
        ] {
            if text.as_ref().is_some_and(|text| text.len() < least || text.len() > 1_024) {
                return Err(Problem::invalid(name, format!("{name} must be {least} to 1024 bytes")));
            }
        }
        if self.deliver_at.is_some_and(|at| at > now.plus(DELAY_MAX)) {
            return Err(Problem::invalid("deliver_at", "deliver_at must be within 365 days from now"));
        }
        let properties = Properties {
            deliver_at: instant("delay", self.delay.as_deref(), "deliver_at", self.deliver_at, now)?,
            expires_at: instant("ttl", self.ttl.as_deref(), "expires_at", self.expires_at, own.unwrap_or(now))?,
            dedup_id: self.dedup_id,
            ordering_key: self.ordering_key,
            priority: self.priority,
            correlation_id: self.correlation_id,
            reply_to: self.reply_to,
            for_queue: None,
            schema_error: None,
            traceparent: self.traceparent,
            tracestate: self.tracestate,
        };
        Ok((!properties.is_empty()).then(|| Box::new(properties)))
    }
}

fn instant(after: &str, span: Option<&str>, at: &str, instant: Option<Timestamp>, from: Timestamp) -> Result<Option<Timestamp>> {
    match (span, instant) {
        (Some(_), Some(_)) => Err(Problem::invalid(after, format!("{after} and {at} exclude each other"))),
        (None, instant) => Ok(instant),
        (Some(text), None) => match parse_duration(text) {
            Ok(span) if span <= DELAY_MAX => Ok(Some(from.plus(span))),
            _ => Err(Problem::invalid(after, format!("{after} must be a duration like \"30s\" of at most 365d"))),
        },
    }
}

/// A record that is nothing but a value.
pub(crate) fn bare(value: Option<Bytes>, kind: ValueKind) -> Record {
    Record { value, kind, ..Record::default() }
}

/// A header of a record.
pub(crate) fn header(name: &str, value: Option<Bytes>) -> Header {
    Header { name: name.into(), value }
}
