//! Requests that produce, of every format of text. An input is a request: the query on the first line, headers on the next ones, an
//! empty line, the body.

use lakefall_queue::limits::Limits;
use lakefall_queue::{Properties, Record, ValueKind};
use serde_json::Value;
use serde_json::value::RawValue;

use super::room::{Answer, post};

/// Headers that say how a body travels, which is chosen here.
const OF_THE_BODY: [&str; 3] = ["content-length", "transfer-encoding", "content-encoding"];

/// An answer of 200 or 400 to 499; nothing is stored of what is refused; however the body comes, the same is stored; records are
/// within the limits; and lines of values are what `serde_json` reads in them.
pub fn http_produce(input: &[u8]) -> bool {
    let Some((head, body)) = split(input) else { return false };
    let mut lines = head.lines();
    let query = lines.next().unwrap_or_default();
    let headers = lines.filter_map(|line| line.split_once(':')).map(|(name, value)| (name.trim(), value.trim()));
    let headers: Vec<(&str, &str)> = headers.filter(|(name, _)| !OF_THE_BODY.iter().any(|of| of.eq_ignore_ascii_case(name))).collect();
    let path = format!("/v1/topics/t/records{query}");
    let Some(whole) = post(&path, &headers, body, None) else { return false };
    let Some(pieces) = post(&path, &headers, body, Some(1 + body.len() % 97)) else { panic!("a request in pieces is none") };
    assert_eq!((whole.status, &whole.appends), (pieces.status, &pieces.appends), "in pieces: {}, whole: {}", pieces.body, whole.body);
    let taken = whole.status == 200;
    if !taken {
        assert!(whole.appends.is_empty() || query.contains("partial"), "stored, but refused: {}", whole.body);
        return false;
    }
    check(whole, body, query == "?format=values" && headers.iter().any(|(_, value)| *value == "application/x-ndjson"));
    true
}

/// Head and body.
fn split(input: &[u8]) -> Option<(&str, &[u8])> {
    let at = input.windows(2).position(|window| window == b"\n\n")?;
    Some((std::str::from_utf8(&input[..at]).ok()?, &input[at + 2..]))
}

fn check(answer: Answer, body: &[u8], is_values: bool) {
    let records = answer.records();
    assert!(!records.is_empty(), "nothing was stored");
    records.iter().for_each(within_limits);
    if !is_values {
        return;
    }
    let text = std::str::from_utf8(body).expect("lines that are taken are UTF-8");
    let lines: Vec<&str> = text.split('\n').map(|line| line.trim_matches([' ', '\t', '\r'])).filter(|line| !line.is_empty()).collect();
    assert_eq!(records.len(), lines.len(), "lines and records");
    for (record, line) in records.iter().zip(lines) {
        // Numbers that no float holds are kept as they stand, and cannot be compared.
        let Ok(expected) = serde_json::from_str::<Value>(line) else { continue };
        let found = match (record.kind, &record.value) {
            (_, None) => Value::Null,
            (ValueKind::Json, Some(value)) => serde_json::from_slice(value).unwrap(),
            (ValueKind::Opaque, Some(value)) => Value::from(std::str::from_utf8(value).unwrap()),
        };
        assert_eq!(found, expected, "{line}");
    }
}

pub(super) fn within_limits(record: &Record) {
    let limits = Limits::default();
    let (key, value) = (record.key.as_ref().map_or(0, |key| key.len()), record.value.as_ref().map_or(0, |value| value.len()));
    assert!(value <= limits.value_bytes && key <= limits.key_bytes && record.payload_bytes() - key - value <= limits.header_bytes);
    for header in &record.headers {
        assert!(!header.name.is_empty() && !header.name.starts_with(Properties::RESERVED_PREFIX), "a header is named {:?}", header.name);
    }
    if let (ValueKind::Json, Some(value)) = (record.kind, &record.value) {
        let text = std::str::from_utf8(value).expect("JSON is UTF-8");
        serde_json::from_str::<&RawValue>(text).expect("a JSON value is JSON");
    }
    if let Some(properties) = &record.properties {
        assert!(!properties.is_empty() && properties.priority.is_none_or(|priority| priority <= 9));
    }
}
