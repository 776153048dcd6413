//! The spans of this crate, named by the semantic conventions for messaging. Each function makes one only where what it is of is
//! traced: else it looks at an `Option`, and that is all.

use bytes::Bytes;
use lakefall_queue::error::Error;
use lakefall_queue::ledger::SegmentCommit;
use lakefall_queue::verbs::Caller;
use lakefall_queue::{SegmentId, ShardId, StoredRecord, TraceContext};
use lakefall_service::trace::{KeyValue, Span, SpanKind, current, system};

pub(crate) use lakefall_service::trace::is_enabled;

use crate::ingest::Submission;

/// What is done with messages, as the conventions have it: its own name, and its kind.
pub(crate) struct Operation {
    pub(crate) name: &'static str,
    pub(crate) of_type: &'static str,
    pub(crate) kind: SpanKind,
}

/// A span of a verb, `destination` being the topic or the queue, if it is one.
pub(crate) fn verb(
    caller: &Caller,
    parent: &TraceContext,
    operation: Operation,
    destination: Option<&str>,
    links: impl IntoIterator<Item = TraceContext>,
) -> Span {
    let mut attributes = vec![
        system(),
        KeyValue::new("messaging.operation.name", operation.name),
        KeyValue::new("messaging.operation.type", operation.of_type),
        KeyValue::new("lakefall.namespace", caller.namespace.to_string()),
        KeyValue::new("lakefall.request_id", caller.request_id.to_string()),
    ];
    let name = match destination {
        Some(destination) => {
            attributes.push(KeyValue::new("messaging.destination.name", destination.to_owned()));
            format!("{} {destination}", operation.name)
        }
        None => operation.name.to_owned(),
    };
    Span::start(name, operation.kind, Some(parent), links, attributes)
}

/// What a record was sent in, as it tells itself.
pub(crate) fn sent_in(record: &StoredRecord) -> Option<TraceContext> {
    TraceContext::parse(record.properties.as_ref()?.traceparent.as_deref()?)
}

/// A segment's way out, linked with every traced request that it carries. It stands below the first of them, so that what became of a
/// lone message is in one trace with it.
pub(crate) fn segment(id: SegmentId, submissions: &[Submission]) -> Option<Span> {
    let first = submissions.iter().find_map(|submission| submission.trace)?;
    let records: usize = submissions.iter().flat_map(|submission| &submission.parts).map(|part| part.records.len()).sum();
    let attributes = vec![
        system(),
        KeyValue::new("messaging.batch.message_count", records as i64),
        KeyValue::new("lakefall.segment", id.to_string()),
        KeyValue::new("lakefall.segment.requests", submissions.len() as i64),
    ];
    let links = submissions.iter().filter_map(|submission| submission.trace);
    Some(Span::start("segment", SpanKind::Internal, Some(&first), links, attributes))
}

/// A segment's PUT, repetitions included.
pub(crate) fn upload(id: SegmentId, chunks: &[Bytes]) -> Option<Span> {
    let segment = current()?;
    let bytes: usize = chunks.iter().map(Bytes::len).sum();
    let attributes = vec![KeyValue::new("lakefall.segment", id.to_string()), KeyValue::new("lakefall.segment.size", bytes as i64)];
    Some(Span::start("upload", SpanKind::Client, Some(&segment), [], attributes))
}

/// A segment's commit in one shard, repetitions included.
pub(crate) fn commit(shard: ShardId, commit: &SegmentCommit) -> Option<Span> {
    let segment = current()?;
    let attributes = vec![
        system(),
        KeyValue::new("lakefall.segment", commit.segment.to_string()),
        KeyValue::new("lakefall.shard", i64::from(shard.0)),
        KeyValue::new("lakefall.extents", commit.extents.len() as i64),
    ];
    Some(Span::start("commit", SpanKind::Client, Some(&segment), [], attributes))
}

/// Ends a span, with why it failed if it did.
pub(crate) fn ended(span: Option<Span>, error: Option<&Error>) {
    if let (Some(span), Some(error)) = (span, error) {
        let kind = match error {
            Error::Unavailable { .. } => "unavailable",
            Error::Unknown { .. } => "unknown",
            Error::Internal(_) => "internal",
            _ => "refused",
        };
        span.failed(kind, error.to_string());
    }
}
