//! A body that is a value, byte for byte: `Lakefall-*` headers carry what else a record has.

use std::sync::Arc;

use axum::http::HeaderMap;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_PAD_INDIFFERENT;
use bytes::Bytes;
use lakefall_queue::{PartitionIndex, Record, ValueKind};

use super::record::{PropertiesIn, Shape, bare, header};
use crate::extract::parse_timestamp;
use crate::problem::{self, Problem, Result};

/// Headers of ours that the edge reads.
const EDGE: &[&str] = &["namespace", "request-id"];

/// The record.
pub(super) fn parse(body: &Bytes, headers: &HeaderMap, shape: &Shape) -> Result<Record> {
    let mut record = bare(Some(body.clone()), ValueKind::Opaque);
    apply_headers(&mut record, headers, shape)?;
    shape.finish(record)
}

/// Refuses the headers that this file reads.
pub(super) fn no_headers(headers: &HeaderMap) -> Result<()> {
    let own = headers.keys().find(|name| name.as_str().strip_prefix("lakefall-").is_some_and(|field| !EDGE.contains(&field)));
    match own {
        None => Ok(()),
        Some(name) => {
            let reason = format!("{name} goes with a body that is a value; with this media type, a record's fields stand in the body");
            Err(Problem::new(problem::UNKNOWN_PARAMETER, reason.clone()).at(name.as_str(), reason))
        }
    }
}

/// Puts what the `Lakefall-*` headers say into a record.
pub(super) fn apply_headers(record: &mut Record, headers: &HeaderMap, shape: &Shape) -> Result<()> {
    let mut properties = PropertiesIn::default();
    let mut key_is_base64 = false;
    for (name, value) in headers {
        let Some(field) = name.as_str().strip_prefix("lakefall-").filter(|field| !EDGE.contains(field)) else { continue };
        if let Some(own) = field.strip_prefix("header-") {
            record.headers.push(header(own, Some(Bytes::copy_from_slice(value.as_bytes()))));
            continue;
        }
        if headers.get_all(name).iter().nth(1).is_some() {
            return Err(Problem::invalid(name.as_str(), format!("{name} is given twice")));
        }
        if field == "key" {
            record.key = Some(Bytes::copy_from_slice(value.as_bytes()));
            continue;
        }
        let text = value.to_str().map_err(|_| Problem::invalid(name.as_str(), format!("{name} must be visible ASCII")))?;
        let shared = || Some(Arc::<str>::from(text));
        let number = |what: &str| Problem::invalid(name.as_str(), format!("{name} must be {what}"));
        match field {
            "key-encoding" if text == "base64" => key_is_base64 = true,
            "key-encoding" if text == "utf8" => {}
            "key-encoding" => return Err(number("utf8 or base64")),
            "partition" => record.partition = Some(PartitionIndex(text.parse().map_err(|_| number("a whole number from 0"))?)),
            "timestamp" => record.timestamp = Some(parse_timestamp(name.as_str(), text)?),
            "dedup-id" => properties.dedup_id = shared(),
            "ordering-key" => properties.ordering_key = shared(),
            "priority" => properties.priority = Some(text.parse().map_err(|_| number("0 to 9"))?),
            "delay" => properties.delay = Some(text.to_owned()),
            "deliver-at" => properties.deliver_at = Some(parse_timestamp(name.as_str(), text)?),
            "ttl" => properties.ttl = Some(text.to_owned()),
            "expires-at" => properties.expires_at = Some(parse_timestamp(name.as_str(), text)?),
            "correlation-id" => properties.correlation_id = shared(),
            "reply-to" => properties.reply_to = shared(),
            _ => {
                let reason = format!("there is no header {name}; a record's own headers are written Lakefall-Header-*");
                return Err(Problem::new(problem::UNKNOWN_PARAMETER, reason.clone()).at(name.as_str(), reason));
            }
        }
    }
    if key_is_base64 && let Some(key) = record.key.take() {
        let decoded =
            STANDARD_PAD_INDIFFERENT.decode(&key).map_err(|e| Problem::invalid("lakefall-key", format!("the key is not base64: {e}")))?;
        record.key = Some(decoded.into());
    }
    record.properties = properties.check(shape.now, record.timestamp)?;
    Ok(())
}
