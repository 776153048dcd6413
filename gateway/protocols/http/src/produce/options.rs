//! The options of a produce request, from query and headers.

use std::sync::Arc;

use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName};
use lakefall_queue::verbs::{Caller, Idempotency, ProducerStamp, TopicAppend};
use lakefall_queue::{Offset, PartitionIndex, Properties, Record, TopicName};
use xxhash_rust::xxh3::Xxh3;

use super::json::Batch;
use super::ndjson::{LineFormat, parse_pointer};
use super::record::Shape;
use crate::extract::{Query, single_header};
use crate::problem::{self, Problem, Result};
use crate::router::App;

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

const PARAMETERS: &[&str] = &[
    "partition",
    "atomic",
    "acks",
    "format",
    "key",
    "partial",
    "durability",
    "expect_offset",
    "fencing_token",
    "producer_id",
    "producer_epoch",
    "producer_sequence",
];

/// How acknowledgements are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum AckStyle {
    /// One for each record.
    #[default]
    Records,
    /// One for each run of consecutive offsets.
    Ranges,
    /// Only how many.
    None,
}

/// What a produce request asks for, whatever its body is.
#[derive(Clone)]
pub(crate) struct Options {
    pub(crate) topic: TopicName,
    pub(crate) partition: Option<PartitionIndex>,
    pub(crate) atomic: bool,
    pub(crate) acks: AckStyle,
    pub(crate) expect_offset: Option<Offset>,
    pub(crate) fencing_token: Option<u64>,
    pub(crate) producer: Option<ProducerStamp>,
    pub(crate) partial: bool,
    pub(crate) format: LineFormat,
}

impl Options {
    /// Reads the query.
    pub(crate) fn read(topic: TopicName, parts: &Parts) -> Result<Self> {
        let query = Query::parse(&parts.uri, PARAMETERS)?;
        check_durability(query.get("durability"))?;
        let acks = match query.get("acks") {
            None | Some("records") => AckStyle::Records,
            Some("ranges") => AckStyle::Ranges,
            Some("none") => AckStyle::None,
            Some(_) => return Err(Problem::invalid("acks", "acks must be records, ranges or none")),
        };
        let values = match query.get("format") {
            None | Some("records") => false,
            Some("values") => true,
            Some(_) => return Err(Problem::invalid("format", "format must be records or values")),
        };
        Ok(Self {
            topic,
            partition: query.partition("partition")?,
            atomic: query.flag("atomic")?,
            acks,
            expect_offset: query.offset("expect_offset")?,
            fencing_token: query.number("fencing_token", 0, u64::MAX)?,
            producer: producer(&query)?,
            partial: query.flag("partial")?,
            format: LineFormat { values, key: query.get("key").map(parse_pointer).transpose()? },
        })
    }

    /// Takes the options that stood in the body; none may be given twice.
    pub(crate) fn merge(&mut self, batch: &mut Batch) -> Result<()> {
        let twice = |name: &str| Err(Problem::invalid(name, format!("{name} is given in the query and in the body")));
        if self.partition.is_some() && batch.partition.is_some() {
            return twice("partition");
        }
        if self.expect_offset.is_some() && batch.expect_offset.is_some() {
            return twice("expect_offset");
        }
        if self.fencing_token.is_some() && batch.fencing_token.is_some() {
            return twice("fencing_token");
        }
        if self.producer.is_some() && batch.producer.is_some() {
            return twice("producer");
        }
        self.partition = self.partition.or(batch.partition);
        self.expect_offset = self.expect_offset.or(batch.expect_offset);
        self.fencing_token = self.fencing_token.or(batch.fencing_token);
        self.producer = self.producer.take().or(batch.producer.take());
        self.atomic |= batch.atomic.unwrap_or(false);
        Ok(())
    }

    /// The append of `records`, which follow `before` others of the same request: conditions move along.
    pub(crate) fn append(&self, records: Vec<Record>, before: u64) -> TopicAppend {
        let moved = |stamp: &ProducerStamp| ProducerStamp { sequence: stamp.sequence + before, ..stamp.clone() };
        TopicAppend {
            topic: self.topic.clone(),
            records,
            partition: self.partition,
            expect_offset: self.expect_offset.map(|offset| offset.plus(before)),
            fencing_token: self.fencing_token,
            producer: self.producer.as_ref().map(moved),
        }
    }
}

fn check_durability(durability: Option<&str>) -> Result<()> {
    match durability {
        None | Some("durable") => Ok(()),
        Some("buffered") => {
            let reason = "only durability=durable is available: an acknowledgement means stored";
            Err(Problem::new(problem::NOT_SUPPORTED, reason).at("durability", reason))
        }
        Some(_) => Err(Problem::invalid("durability", "durability must be durable")),
    }
}

fn producer(query: &Query<'_>) -> Result<Option<ProducerStamp>> {
    let epoch = query.number("producer_epoch", 0, u32::MAX)?;
    let sequence = query.number("producer_sequence", 0, u64::MAX >> 1)?;
    match (query.get("producer_id"), epoch, sequence) {
        (None, None, None) => Ok(None),
        (Some(id), Some(epoch), Some(sequence)) if (1..=255).contains(&id.len()) => {
            Ok(Some(ProducerStamp { id: id.into(), epoch, sequence }))
        }
        _ => Err(Problem::invalid("producer_id", "producer_id (1 to 255 bytes), producer_epoch and producer_sequence go together")),
    }
}

/// The `Idempotency-Key`, if there is one.
pub(crate) fn idempotency_key(headers: &HeaderMap) -> Result<Option<Arc<str>>> {
    match single_header(headers, &IDEMPOTENCY_KEY)? {
        None => Ok(None),
        Some(key) if (1..=255).contains(&key.len()) && key.bytes().all(|b| b.is_ascii_graphic()) => Ok(Some(key.into())),
        Some(_) => Err(Problem::invalid("idempotency-key", "Idempotency-Key must be 1 to 255 visible ASCII characters")),
    }
}

/// The key and what the request is: method, path, query, media type and body.
pub(crate) fn idempotency(key: Option<Arc<str>>, parts: &Parts, body: &[u8]) -> Option<Idempotency> {
    let key = key?;
    let mut hash = Xxh3::new();
    let media = parts.headers.get(axum::http::header::CONTENT_TYPE).map_or(&[][..], |v| v.as_bytes());
    for part in [parts.method.as_str().as_bytes(), parts.uri.path().as_bytes(), parts.uri.query().unwrap_or("").as_bytes(), media] {
        hash.update(&(part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    hash.update(body);
    Some(Idempotency { key, fingerprint: hash.digest128() })
}

/// What all records of the request share.
pub(crate) fn shape(api: &App, headers: &HeaderMap) -> Shape {
    let text = |name: &HeaderName| headers.get(name).and_then(|v| v.to_str().ok()).filter(|v| (1..=512).contains(&v.len())).map(Arc::from);
    let trace = text(&TRACEPARENT).map(|traceparent| Properties {
        traceparent: Some(traceparent),
        tracestate: text(&TRACESTATE),
        ..Properties::default()
    });
    Shape { limits: api.limits(), now: api.ambient.now(), trace }
}

/// Who asks, of whom, for what: what a produce request's parts pass on.
#[derive(Clone)]
pub(crate) struct Job {
    pub(crate) api: App,
    pub(crate) caller: Caller,
    pub(crate) options: Options,
    pub(crate) shape: Shape,
}
