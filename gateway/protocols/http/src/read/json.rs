//! Records as JSON, written by hand: values that are JSON go out as they stand.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{BufMut, Bytes, BytesMut};
use lakefall_queue::verbs::{Fetched, Position};
use lakefall_queue::{Header, Properties, StoredRecord, TopicName, ValueKind};
use memchr::memchr2;

use super::Place;
use super::cursor::seal_cursor;
use super::plan::{Encoding, Scope};
use crate::text::{TimeText, push_str, push_u64};

/// Writes records of one topic, each on one line.
pub(crate) struct RecordWriter {
    /// `"topic":"…","partition":`
    head: Vec<u8>,
    encoding: Option<Encoding>,
    timestamps: TimeText,
    appended: TimeText,
}

impl RecordWriter {
    /// A writer that forces `encoding`, if one is given.
    pub(crate) fn new(topic: &TopicName, encoding: Option<Encoding>) -> Self {
        let head = format!("\"topic\":\"{topic}\",\"partition\":").into_bytes();
        Self { head, encoding, timestamps: TimeText::default(), appended: TimeText::default() }
    }

    /// Appends one record.
    pub(crate) fn put(&mut self, out: &mut BytesMut, record: &StoredRecord) {
        out.put_u8(b'{');
        self.put_members(out, record);
        out.put_u8(b'}');
    }

    /// Appends a record's members, for an object that has others before them.
    pub(crate) fn put_members(&mut self, out: &mut BytesMut, record: &StoredRecord) {
        out.put_slice(&self.head);
        push_u64(out, u64::from(record.partition.0));
        out.put_slice(b",\"offset\":");
        push_u64(out, record.offset.0);
        out.put_slice(b",\"timestamp\":");
        self.timestamps.push(out, record.timestamp);
        out.put_slice(b",\"appended_at\":");
        self.appended.push(out, record.appended_at);
        if let Some(key) = &record.key {
            put_bytes(out, "key", "key_encoding", key);
        }
        self.put_value(out, record.value.as_ref(), record.kind);
        if !record.headers.is_empty() {
            put_headers(out, &record.headers);
        }
        if let Some(properties) = &record.properties {
            put_properties(out, properties);
        }
    }

    fn put_value(&self, out: &mut BytesMut, value: Option<&Bytes>, kind: ValueKind) {
        out.put_slice(b",\"value\":");
        let Some(value) = value else { return out.put_slice(b"null") };
        // Almost every value is checked once here; simdutf8 makes it cheaper than the copy that follows.
        let text = simdutf8::basic::from_utf8(value).ok();
        let is_json = kind == ValueKind::Json
            || (self.encoding == Some(Encoding::Json) && text.is_some_and(|t| serde_json::from_str::<serde::de::IgnoredAny>(t).is_ok()));
        match (self.encoding, text) {
            (None | Some(Encoding::Json), Some(text)) if is_json => {
                put_raw(out, text);
                if text.starts_with('"') {
                    out.put_slice(b",\"encoding\":\"json\"");
                }
            }
            (None | Some(Encoding::Json | Encoding::Utf8), Some(text)) => {
                push_str(out, text);
                if kind == ValueKind::Json {
                    out.put_slice(b",\"encoding\":\"utf8\"");
                }
            }
            _ => {
                push_base64(out, value);
                out.put_slice(b",\"encoding\":\"base64\"");
            }
        }
    }
}

/// JSON as it stands, on one line: a line break in JSON is only ever white space between tokens.
fn put_raw(out: &mut BytesMut, json: &str) {
    let start = out.len();
    out.put_slice(json.as_bytes());
    if memchr2(b'\n', b'\r', json.as_bytes()).is_some() {
        for byte in &mut out[start..] {
            if matches!(byte, b'\n' | b'\r') {
                *byte = b' ';
            }
        }
    }
}

fn push_base64(out: &mut BytesMut, bytes: &[u8]) {
    out.put_u8(b'"');
    out.put_slice(STANDARD.encode(bytes).as_bytes());
    out.put_u8(b'"');
}

fn put_bytes(out: &mut BytesMut, name: &str, encoding_name: &str, bytes: &[u8]) {
    put_name(out, name);
    match std::str::from_utf8(bytes) {
        Ok(text) => push_str(out, text),
        Err(_) => {
            push_base64(out, bytes);
            put_name(out, encoding_name);
            out.put_slice(b"\"base64\"");
        }
    }
}

fn put_name(out: &mut BytesMut, name: &str) {
    out.put_slice(b",\"");
    out.put_slice(name.as_bytes());
    out.put_slice(b"\":");
}

/// A name that occurs more than once gets an array, at the place of its first occurrence.
fn put_headers(out: &mut BytesMut, headers: &[Header]) {
    put_name(out, "headers");
    out.put_u8(b'{');
    let mut first = true;
    for (at, header) in headers.iter().enumerate() {
        if headers[..at].iter().any(|earlier| earlier.name == header.name) {
            continue;
        }
        if !std::mem::take(&mut first) {
            out.put_u8(b',');
        }
        push_str(out, &header.name);
        out.put_u8(b':');
        let same = || headers[at..].iter().filter(|h| h.name == header.name);
        if same().nth(1).is_none() {
            put_header_value(out, header);
            continue;
        }
        for (n, one) in same().enumerate() {
            out.put_u8(if n == 0 { b'[' } else { b',' });
            put_header_value(out, one);
        }
        out.put_u8(b']');
    }
    out.put_u8(b'}');
}

fn put_header_value(out: &mut BytesMut, header: &Header) {
    match header.value.as_deref().map(|value| (std::str::from_utf8(value), value)) {
        None => out.put_slice(b"null"),
        Some((Ok(text), _)) => push_str(out, text),
        Some((Err(_), bytes)) => {
            out.put_slice(b"{\"base64\":");
            push_base64(out, bytes);
            out.put_u8(b'}');
        }
    }
}

fn put_properties(out: &mut BytesMut, properties: &Properties) {
    let texts = [
        ("dedup_id", &properties.dedup_id),
        ("ordering_key", &properties.ordering_key),
        ("correlation_id", &properties.correlation_id),
        ("reply_to", &properties.reply_to),
        ("for_queue", &properties.for_queue),
        ("schema_error", &properties.schema_error),
        ("traceparent", &properties.traceparent),
        ("tracestate", &properties.tracestate),
    ];
    for (name, text) in texts {
        if let Some(text) = text {
            put_name(out, name);
            push_str(out, text);
        }
    }
    if let Some(priority) = properties.priority {
        put_name(out, "priority");
        push_u64(out, u64::from(priority));
    }
    for (name, at) in [("deliver_at", properties.deliver_at), ("expires_at", properties.expires_at)] {
        if let Some(at) = at {
            put_name(out, name);
            TimeText::default().push(out, at);
        }
    }
}

fn put_position(out: &mut BytesMut, position: &Position) {
    for (name, offset) in [("next_offset", position.next), ("log_start", position.log_start), ("end", position.end)] {
        put_name(out, name);
        push_u64(out, offset.0);
    }
    if position.is_stale() {
        put_name(out, "stale");
        out.put_slice(b"true");
    }
}

/// A page: the records and where to go on.
pub(super) fn put_page(out: &mut BytesMut, writer: &mut RecordWriter, fetched: &Fetched, scope: Scope, topic: &TopicName) {
    out.put_slice(b"{\"records\":[");
    for (at, record) in fetched.records.iter().enumerate() {
        if at > 0 {
            out.put_u8(b',');
        }
        writer.put(out, record);
    }
    out.put_u8(b']');
    match (scope, fetched.next.first()) {
        (Scope::Partition(_), Some(position)) => {
            put_position(out, position);
        }
        _ => {
            let places: Vec<Place> = fetched.next.iter().map(|p| (p.partition, p.next)).collect();
            put_name(out, "cursor");
            push_str(out, &seal_cursor(topic, &places));
            put_name(out, "partitions");
            out.put_u8(b'[');
            for (at, position) in fetched.next.iter().enumerate() {
                out.put_slice(if at == 0 { &b"{\"partition\":"[..] } else { b",{\"partition\":" });
                push_u64(out, u64::from(position.partition.0));
                put_position(out, position);
                out.put_u8(b'}');
            }
            out.put_u8(b']');
        }
    }
    out.put_u8(b'}');
}
