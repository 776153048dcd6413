//! Acknowledgements: gathered from appends, written as JSON.
//!
//! Must never grow without bound: a stream of any length is acknowledged in bounded memory.

use axum::body::Body;
use axum::http::{HeaderValue, header};
use axum::response::Response;
use bytes::{BufMut, Bytes, BytesMut};
use lakefall_queue::Offset;
use lakefall_queue::verbs::{AckRange, Appended};

use super::options::AckStyle;
use crate::text::push_u64;

/// Most ranges that one answer lists (24 bytes each while the request runs); beyond, the answer only counts.
const RANGES_MAX: usize = 1_000_000;

/// Records of an answer up to which it is written in one piece.
const PIECE_RECORDS: u64 = 4_096;

/// What was stored, in the order of the records.
#[derive(Default)]
pub(crate) struct Acks {
    ranges: Vec<AckRange>,
    /// Records stored.
    pub(crate) count: u64,
    end: Option<Offset>,
    omitted: bool,
}

impl Acks {
    /// The acks of one append.
    pub(crate) fn of(appended: Appended) -> Self {
        let mut acks = Self::default();
        acks.add(appended);
        acks
    }

    /// Adds what was stored after the rest.
    pub(crate) fn add(&mut self, appended: Appended) {
        self.end = appended.end;
        for range in appended.ranges {
            self.count += u64::from(range.count);
            let full = self.ranges.len() >= RANGES_MAX;
            match self.ranges.last_mut() {
                Some(last) if follows(last, &range) => last.count += range.count,
                _ if full => self.omitted = true,
                _ => self.ranges.push(range),
            }
        }
    }

    /// The first ranges, as a problem tells them.
    pub(crate) fn to_json(&self) -> serde_json::Value {
        let ranges = self.ranges.iter().take(1_000);
        ranges.map(|r| serde_json::json!({"partition": r.partition.0, "first_offset": r.first_offset.0, "count": r.count})).collect()
    }

    /// The answer to a produce request.
    pub(crate) fn into_response(self, style: AckStyle) -> Response {
        let listed = style != AckStyle::None && !self.omitted;
        let mut head = BytesMut::with_capacity(256);
        head.put_slice(b"{\"acks\":[");
        let body = if !listed {
            self.put_tail(&mut head);
            Body::from(head.freeze())
        } else if style == AckStyle::Ranges || self.count <= PIECE_RECORDS {
            put_acks(&mut head, &self.ranges, style);
            self.put_tail(&mut head);
            Body::from(head.freeze())
        } else {
            Body::from_stream(futures::stream::iter(self.pieces(head)))
        };
        let mut response = Response::new(body);
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        response
    }

    /// The members of an answer that is part of a larger object, and that object's end.
    pub(crate) fn put_members(&self, out: &mut BytesMut, style: AckStyle) {
        out.put_slice(b"\"acks\":[");
        if style != AckStyle::None && !self.omitted {
            put_acks(out, &self.ranges, style);
        }
        self.put_tail(out);
    }

    fn put_tail(&self, out: &mut BytesMut) {
        out.put_slice(b"],\"count\":");
        push_u64(out, self.count);
        if self.omitted {
            out.put_slice(b",\"acks_omitted\":true");
        }
        if let Some(end) = self.end {
            out.put_slice(b",\"end\":");
            push_u64(out, end.0);
        }
        out.put_u8(b'}');
    }

    /// The answer in pieces, each written only when it is sent.
    fn pieces(self, head: BytesMut) -> impl Iterator<Item = std::io::Result<Bytes>> {
        let mut tail = BytesMut::new();
        self.put_tail(&mut tail);
        let parts = self.ranges.into_iter().flat_map(split_range);
        let mut first = true;
        let acks = parts.map(move |range| {
            let mut out = BytesMut::with_capacity(range.count as usize * 36);
            if !std::mem::take(&mut first) {
                out.put_u8(b',');
            }
            put_acks(&mut out, &[range], AckStyle::Records);
            Ok(out.freeze())
        });
        std::iter::once(Ok(head.freeze())).chain(acks).chain(std::iter::once(Ok(tail.freeze())))
    }
}

fn follows(last: &AckRange, next: &AckRange) -> bool {
    last.partition == next.partition
        && last.duplicate == next.duplicate
        && last.first_offset.plus(u64::from(last.count)) == next.first_offset
        && last.count.checked_add(next.count).is_some()
}

fn split_range(range: AckRange) -> impl Iterator<Item = AckRange> {
    let step = PIECE_RECORDS as u32;
    (0..range.count).step_by(PIECE_RECORDS as usize).map(move |at| AckRange {
        first_offset: range.first_offset.plus(u64::from(at)),
        count: step.min(range.count - at),
        ..range
    })
}

/// Writes the acks without brackets.
fn put_acks(out: &mut BytesMut, ranges: &[AckRange], style: AckStyle) {
    let mut first = true;
    for range in ranges {
        if style == AckStyle::Ranges {
            put_one(out, &mut first, b",\"first_offset\":", range, 0, Some(range.count));
        } else {
            for at in 0..range.count {
                put_one(out, &mut first, b",\"offset\":", range, at, None);
            }
        }
    }
}

fn put_one(out: &mut BytesMut, first: &mut bool, offset_name: &[u8], range: &AckRange, at: u32, count: Option<u32>) {
    if !std::mem::take(first) {
        out.put_u8(b',');
    }
    out.put_slice(b"{\"partition\":");
    push_u64(out, u64::from(range.partition.0));
    out.put_slice(offset_name);
    push_u64(out, range.first_offset.0 + u64::from(at));
    if let Some(count) = count {
        out.put_slice(b",\"count\":");
        push_u64(out, u64::from(count));
    }
    if range.duplicate {
        out.put_slice(b",\"duplicate\":true");
    }
    out.put_u8(b'}');
}

/// Writes each ack on a line of its own.
pub(crate) fn ack_lines(appended: &Appended, style: AckStyle) -> Bytes {
    let mut out = BytesMut::new();
    for range in &appended.ranges {
        let counts = if style == AckStyle::Records { range.count } else { 1 };
        for at in 0..counts {
            let mut first = true;
            if style == AckStyle::Records {
                put_one(&mut out, &mut first, b",\"offset\":", range, at, None);
            } else {
                put_one(&mut out, &mut first, b",\"first_offset\":", range, 0, Some(range.count));
            }
            out.put_u8(b'\n');
        }
    }
    out.freeze()
}
