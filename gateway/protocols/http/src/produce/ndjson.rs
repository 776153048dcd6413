//! Lines of JSON as records: each a record object, or (`format=values`) each a value.
//!
//! Must never store a line that is not valid, and always says which line that is.

use std::fmt;

use bytes::Bytes;
use lakefall_queue::{Record, ValueKind};
use memchr::memchr;
use serde::de::{self, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::record::{RecordIn, Shape, bare};
use super::value::{decode_value, plain_text_line, unquote};
use crate::problem::{self, Problem, Result};

/// How lines are read.
#[derive(Clone, Default)]
pub(crate) struct LineFormat {
    /// Each line is the value.
    pub(crate) values: bool,
    /// Where in the value the key stands: the tokens of a JSON pointer (RFC 6901).
    pub(crate) key: Option<Vec<String>>,
}

/// Counts of what came before, so that a refusal can say where it stands in the whole.
#[derive(Clone, Copy, Default)]
pub(crate) struct Count {
    /// Lines, empty ones included.
    pub(crate) lines: u64,
    /// Records.
    pub(crate) records: u64,
}

/// What was read: all records, or those before the first bad line.
pub(crate) struct Parsed {
    /// In order.
    pub(crate) records: Vec<Record>,
    /// Why reading stopped.
    pub(crate) bad: Option<Problem>,
}

/// Reads whole lines; the last may lack its newline. `count` goes on from where it stands.
pub(crate) fn parse_lines(body: &Bytes, format: &LineFormat, shape: &Shape, count: &mut Count) -> Parsed {
    let (text, damaged) = valid_text(body);
    let mut records = Vec::with_capacity(memchr::memchr_iter(b'\n', body).count() + 1);
    let mut start = 0;
    while start < body.len() {
        let end = memchr(b'\n', &body[start..]).map_or(body.len(), |at| start + at);
        count.lines += 1;
        // Cut at newlines, so always at character boundaries; outside the valid text only where the line is damaged.
        let line = text.get(start..end).map(|line| line.trim_matches([' ', '\t', '\r']));
        start = end + 1;
        let parsed = match line {
            Some("") => continue,
            Some(line) => parse_line(line, body, format, shape),
            None => Err(Problem::new(problem::MALFORMED_RECORD, damaged.clone().unwrap_or_default())),
        };
        match parsed {
            Ok(record) => records.push(record),
            Err(problem) => return Parsed { records, bad: Some(locate(problem, *count)) },
        }
        count.records += 1;
    }
    Parsed { records, bad: None }
}

/// The longest valid prefix, and what is wrong after it. One pass for the whole body: lines are not checked again.
fn valid_text(body: &[u8]) -> (&str, Option<String>) {
    if let Ok(text) = simdutf8::basic::from_utf8(body) {
        return (text, None);
    }
    match std::str::from_utf8(body) {
        Ok(text) => (text, None),
        Err(error) => {
            let good = std::str::from_utf8(&body[..error.valid_up_to()]).unwrap_or("");
            (good, Some("this line is not UTF-8".to_owned()))
        }
    }
}

fn locate(problem: Problem, count: Count) -> Problem {
    let problem = if problem.code() == problem::MALFORMED_BODY { problem.recoded(problem::MALFORMED_RECORD) } else { problem };
    let problem = problem.inside(&format!("/{}", count.records)).because(&format!("line {}", count.lines));
    problem.with("line", count.lines).with("record", count.records + 1)
}

fn parse_line(line: &str, body: &Bytes, format: &LineFormat, shape: &Shape) -> Result<Record> {
    if format.values {
        let raw = serde_json::from_str::<&RawValue>(line).map_err(|e| problem::from_json(&e))?.get();
        let (value, kind) = decode_value(raw, None, body)?;
        return finish(bare(value, kind), raw, body, format, shape);
    }
    if format.key.is_none()
        && let Some(text) = plain_text_line(line)
    {
        return shape.finish(bare(Some(body.slice_ref(text.as_bytes())), ValueKind::Opaque));
    }
    let record = serde_json::from_str::<RecordIn<'_>>(line).map_err(|e| problem::from_json(&e))?.into_record(body, shape)?;
    if format.key.is_none() || record.key.is_some() {
        return Ok(record);
    }
    let value = record.value.clone().unwrap_or_default();
    match std::str::from_utf8(&value) {
        Ok(raw) if record.kind == ValueKind::Json => finish(record, raw, &value, format, shape),
        _ => Ok(record),
    }
}

fn finish(mut record: Record, raw: &str, body: &Bytes, format: &LineFormat, shape: &Shape) -> Result<Record> {
    if let Some(pointer) = &format.key {
        record.key = key_at(raw, pointer, body)?;
    }
    shape.finish(record)
}

/// The key at `pointer` in the JSON text `raw`, which stands in `body`: a string's text, or a number or boolean as it
/// stands; none where there is nothing or null.
pub(crate) fn key_at(raw: &str, pointer: &[String], body: &Bytes) -> Result<Option<Bytes>> {
    let mut reader = serde_json::Deserializer::from_str(raw);
    let found = Find(pointer).deserialize(&mut reader).map_err(|e| problem::from_json(&e))?;
    match found.map(RawValue::get) {
        None | Some("null") => Ok(None),
        Some(text) if text.starts_with('"') => unquote(text, body).map(Some),
        Some(text) if text.starts_with(['{', '[']) => {
            Err(Problem::invalid("", format!("the key at /{} is neither a string nor a number", pointer.join("/"))))
        }
        Some(text) => Ok(Some(body.slice_ref(text.as_bytes()))),
    }
}

/// Tokens of a JSON pointer; `~1` is `/`, `~0` is `~`.
pub(crate) fn parse_pointer(text: &str) -> Result<Vec<String>> {
    match text.strip_prefix('/') {
        Some(rest) => Ok(rest.split('/').map(|token| token.replace("~1", "/").replace("~0", "~")).collect()),
        None => Err(Problem::invalid("key", "key must be a JSON pointer (RFC 6901), like /user/id")),
    }
}

/// Walks down to one place of a JSON text without building the rest.
struct Find<'p>(&'p [String]);

impl<'de> DeserializeSeed<'de> for Find<'_> {
    type Value = Option<&'de RawValue>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        if self.0.is_empty() {
            return de::Deserialize::deserialize(deserializer).map(Some);
        }
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Find<'_> {
    type Value = Option<&'de RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        while let Some(name) = map.next_key::<std::borrow::Cow<'de, str>>()? {
            if name == self.0[0].as_str() {
                found = map.next_value_seed(Find(&self.0[1..]))?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let wanted = self.0[0].parse::<usize>().ok();
        let (mut found, mut at) = (None, 0);
        loop {
            if Some(at) == wanted {
                match seq.next_element_seed(Find(&self.0[1..]))? {
                    Some(inner) => found = inner,
                    None => return Ok(None),
                }
            } else if seq.next_element::<IgnoredAny>()?.is_none() {
                return Ok(found);
            }
            at += 1;
        }
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_str<E>(self, _: &str) -> Result<Self::Value, E> {
        Ok(None)
    }
}
