//! CloudEvents 1.0 over HTTP: structured, batch and binary mode.
//!
//! Attributes become record headers named as the CloudEvents Kafka protocol binding names them (`ce_id`, `ce_type`, …;
//! `datacontenttype` is `content-type`), so Kafka clients find events where they look for them. `partitionkey`, else
//! `subject`, is the key; `time` the timestamp.

use std::borrow::Cow;
use std::fmt;

use axum::http::{HeaderMap, header as names};
use bytes::Bytes;
use lakefall_queue::{Record, Timestamp, ValueKind};
use percent_encoding::percent_decode_str;
use serde::Deserialize;
use serde::de::{self, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::json::utf8;
use super::raw::apply_headers;
use super::record::{Shape, bare, header};
use super::value::{Encoding, decode_value, decode_with, unquote};
use crate::problem::{self, Problem, Result};

/// One event in JSON format. Names are checked by `attribute`; duplicates are refused.
struct Event<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Event<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = Event<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a CloudEvent")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members: Vec<(Cow<'de, str>, &'de RawValue)> = Vec::new();
                while let Some(name) = map.next_key::<Cow<'de, str>>()? {
                    if members.len() >= 100 {
                        return Err(de::Error::custom("an event has at most 100 attributes"));
                    }
                    if members.iter().any(|(n, _)| *n == name) {
                        return Err(de::Error::custom(format!("duplicate field `{name}`")));
                    }
                    members.push((name, map.next_value()?));
                }
                Ok(Event(members))
            }
        }
        deserializer.deserialize_map(Members)
    }
}

/// `application/cloudevents+json`.
pub(super) fn structured(body: &Bytes, headers: &HeaderMap, shape: &Shape) -> Result<Record> {
    let event: Event<'_> = serde_json::from_str(utf8(body)?).map_err(|e| problem::from_json(&e))?;
    let mut record = event_record(event, body)?;
    let key = record.key.take();
    apply_headers(&mut record, headers, shape)?;
    record.key = record.key.or(key);
    shape.finish(record)
}

/// `application/cloudevents-batch+json`.
pub(super) fn batch(body: &Bytes, shape: &Shape) -> Result<Vec<Record>> {
    let events: Vec<Event<'_>> = serde_json::from_str(utf8(body)?).map_err(|e| problem::from_json(&e))?;
    let most = shape.limits.batch_records;
    if events.len() > most {
        return Err(super::too_many(events.len(), most));
    }
    let numbered = events.into_iter().enumerate();
    numbered.map(|(at, event)| event_record(event, body).and_then(|r| shape.finish(r)).map_err(|p| p.inside(&format!("/{at}")))).collect()
}

/// Binary mode: `ce-*` headers are the attributes, the body is the data.
pub(super) fn binary(body: &Bytes, headers: &HeaderMap, shape: &Shape) -> Result<Record> {
    let mut draft = Draft::default();
    for (name, value) in headers {
        let Some(attribute) = name.as_str().strip_prefix("ce-") else { continue };
        let text = value.to_str().ok().and_then(|text| percent_decode_str(text).decode_utf8().ok());
        let text = text.ok_or_else(|| Problem::invalid(name.as_str(), format!("{name} is not text")))?;
        draft.attribute(attribute, Bytes::from(text.into_owned()))?;
    }
    if let Some(media) = headers.get(names::CONTENT_TYPE) {
        draft.attribute("datacontenttype", Bytes::copy_from_slice(media.as_bytes()))?;
    }
    draft.check()?;
    let mut record = bare((!body.is_empty()).then(|| body.clone()), ValueKind::Opaque);
    if draft.is_json && !body.is_empty() {
        let text = utf8(body)?;
        let raw: &RawValue = serde_json::from_str(text).map_err(|e| problem::from_json(&e))?;
        super::value::check_json(raw.get())?;
        record.kind = ValueKind::Json;
    }
    record.headers = draft.headers;
    record.timestamp = draft.time;
    apply_headers(&mut record, headers, shape)?;
    record.key = record.key.or(draft.partition_key).or(draft.subject);
    shape.finish(record)
}

#[derive(Default)]
struct Draft {
    headers: Vec<lakefall_queue::Header>,
    time: Option<Timestamp>,
    subject: Option<Bytes>,
    partition_key: Option<Bytes>,
    is_json: bool,
    required: [bool; 4],
}

impl Draft {
    fn attribute(&mut self, name: &str, value: Bytes) -> Result<()> {
        let well_named = (1..=64).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        if !well_named {
            return Err(Problem::invalid(name, "a CloudEvents attribute is named with a-z and 0-9"));
        }
        let text = std::str::from_utf8(&value).unwrap_or("");
        if let Some(at) = ["specversion", "id", "source", "type"].iter().position(|required| *required == name) {
            self.required[at] = if at == 0 { text == "1.0" } else { !value.is_empty() };
        }
        match name {
            "time" => self.time = Some(Timestamp::parse(text).map_err(|e| Problem::invalid("time", e.to_string()))?),
            "subject" => self.subject = Some(value.clone()),
            "partitionkey" => self.partition_key = Some(value.clone()),
            "datacontenttype" => self.is_json = text.split(';').next().is_some_and(|t| t.trim().ends_with("json")),
            _ => {}
        }
        let stored = if name == "datacontenttype" { "content-type".to_owned() } else { format!("ce_{name}") };
        self.headers.push(header(&stored, Some(value)));
        Ok(())
    }

    fn check(&self) -> Result<()> {
        let names = ["specversion", "id", "source", "type"];
        match self.required.iter().position(|there| !there) {
            Some(0) => Err(Problem::invalid("specversion", "specversion must be \"1.0\"")),
            Some(at) => Err(Problem::invalid(names[at], format!("an event needs {}", names[at]))),
            None => Ok(()),
        }
    }
}

fn event_record(event: Event<'_>, body: &Bytes) -> Result<Record> {
    let mut draft = Draft::default();
    let (mut data, mut data_base64) = (None, None);
    for (name, raw) in event.0 {
        match (&*name, raw.get()) {
            ("data", raw) => data = Some(raw),
            ("data_base64", raw) => data_base64 = Some(raw),
            (_, "null") => {}
            (name, raw) if raw.starts_with('"') => draft.attribute(name, unquote(raw, body)?)?,
            (name, raw) if raw.starts_with(['{', '[']) => {
                return Err(Problem::invalid(name, format!("attribute {name} must be a string, number or boolean")));
            }
            (name, raw) => draft.attribute(name, body.slice_ref(raw.as_bytes()))?,
        }
    }
    draft.check()?;
    let (value, kind) = match (data, data_base64) {
        (Some(_), Some(_)) => return Err(Problem::invalid("data", "data and data_base64 exclude each other")),
        (None, None) => (None, ValueKind::Opaque),
        (None, Some(raw)) => (decode_with(raw, Encoding::Base64, body).map_err(|p| p.inside("/data_base64"))?, ValueKind::Opaque),
        (Some(raw), None) => decode_value(raw, draft.is_json.then_some(Encoding::Json), body).map_err(|p| p.inside("/data"))?,
    };
    Ok(Record {
        value,
        kind,
        headers: draft.headers,
        timestamp: draft.time,
        key: draft.partition_key.or(draft.subject),
        ..Record::default()
    })
}
