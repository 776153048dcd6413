//! Errors to protobuf and back. Here, where the enum is known to its last variant, so that none is forgotten.

use std::time::Duration;

use super::super::codec::{Decoded, Malformed, segment_id, uuid_bytes};
use super::super::rows::proto;
use crate::error::{Error, Outcome};
use crate::id::{BindingName, CursorName, NamespaceName, Offset, PartitionIndex, QueueName, SubjectName, TopicName};

/// The kinds of things that errors name; another program's may have more.
const THINGS: [&str; 13] = [
    "subject",
    "namespace",
    "topic",
    "cursor",
    "queue",
    "binding",
    "a record",
    "the value",
    "the key",
    "the headers",
    "the body",
    "a line",
    "a metadata request",
];

fn thing(name: &str, otherwise: &'static str) -> &'static str {
    THINGS.into_iter().find(|known| *known == name).unwrap_or(otherwise)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

pub(super) fn to_proto(error: &Error) -> proto::Failure {
    use proto::failure::Kind;
    let of =
        |kind: Kind| proto::Failure { kind: kind.into(), not_applied: error.outcome() == Outcome::NotApplied, ..proto::Failure::default() };
    let compared = |kind: Kind, given: u64, current: u64| proto::Failure { given, current, ..of(kind) };
    let named = |kind: Kind, name: &str| proto::Failure { name: name.to_owned(), ..of(kind) };
    let told = |kind: Kind, text: &str| proto::Failure { text: text.to_owned(), ..of(kind) };
    match error {
        Error::Invalid { field, reason } => proto::Failure { text: reason.clone(), ..named(Kind::Invalid, field) },
        Error::TooLarge { what, limit, actual } => proto::Failure { name: (*what).to_owned(), ..compared(Kind::TooLarge, *actual, *limit) },
        Error::NamespaceNotFound(name) => named(Kind::NamespaceNotFound, name.as_str()),
        Error::TopicNotFound(name) => named(Kind::TopicNotFound, name.as_str()),
        Error::PartitionNotFound { topic, partition, partitions } => {
            proto::Failure { partition: partition.0, current: u64::from(*partitions), ..named(Kind::PartitionNotFound, topic.as_str()) }
        }
        Error::CursorNotFound(name) => named(Kind::CursorNotFound, name.as_str()),
        Error::AlreadyExists { what, name } => proto::Failure { text: name.clone(), ..named(Kind::AlreadyExists, what) },
        Error::NamespaceNotEmpty(name) => named(Kind::NamespaceNotEmpty, name.as_str()),
        Error::VersionMismatch { expected, actual } => compared(Kind::VersionMismatch, *expected, *actual),
        Error::OffsetMismatch { partition, expected, end } => {
            proto::Failure { partition: partition.0, ..compared(Kind::OffsetMismatch, expected.0, end.0) }
        }
        Error::Fenced { token, current } => compared(Kind::Fenced, *token, *current),
        Error::ProducerFenced { epoch, current } => compared(Kind::ProducerFenced, u64::from(*epoch), u64::from(*current)),
        Error::SequenceGap { sequence, expected } => compared(Kind::SequenceGap, *sequence, *expected),
        Error::IdempotencyConflict => of(Kind::IdempotencyConflict),
        Error::StreamPoisoned => of(Kind::StreamPoisoned),
        Error::BelowLogStart { partition, offset, log_start } => {
            proto::Failure { partition: partition.0, ..compared(Kind::BelowLogStart, offset.0, log_start.0) }
        }
        Error::Unavailable { reason, retry_after } => {
            proto::Failure { retry_after_ms: millis(*retry_after), ..told(Kind::Unavailable, reason) }
        }
        Error::Unknown { reason } => told(Kind::Unknown, reason),
        Error::DataUnavailable { object, reason } => proto::Failure { object: uuid_bytes(*object), ..told(Kind::DataUnavailable, reason) },
        Error::Internal(reason) => told(Kind::Internal, reason),
        Error::QueueNotFound(name) => named(Kind::QueueNotFound, name.as_str()),
        Error::BindingNotFound { queue, binding } => {
            proto::Failure { text: binding.to_string(), ..named(Kind::BindingNotFound, queue.as_str()) }
        }
        Error::QueueFull { queue, max_depth } => proto::Failure { current: *max_depth, ..named(Kind::QueueFull, queue.as_str()) },
        Error::QueueWithoutTopic(name) => named(Kind::QueueWithoutTopic, name.as_str()),
        Error::QueueChanged(queue) => told(Kind::QueueChanged, queue),
        Error::LeaseOver { partition, offset } => proto::Failure { partition: partition.0, given: offset.0, ..of(Kind::LeaseOver) },
        Error::ReceiptForged => of(Kind::ReceiptForged),
        Error::ReceiptNotFound(queue) => named(Kind::ReceiptNotFound, queue.as_str()),
        Error::MessageNotFound(message) => told(Kind::MessageNotFound, message),
        Error::DeadLetterCycle { queue, topic } => {
            proto::Failure { text: topic.to_string(), ..named(Kind::DeadLetterCycle, queue.as_str()) }
        }
        Error::DeadLetterQueueTaken { queue, topic } => {
            proto::Failure { text: topic.to_string(), ..named(Kind::DeadLetterQueueTaken, queue.as_str()) }
        }
        Error::NoReply { topic, partition, offset, waited } => proto::Failure {
            partition: partition.0,
            given: offset.0,
            retry_after_ms: millis(*waited),
            ..named(Kind::NoReply, topic.as_str())
        },
        Error::OperationNotFound(id) => told(Kind::OperationNotFound, id),
        Error::SchemaNotFound { subject, version } => {
            proto::Failure { given: version.map_or(0, u64::from), ..named(Kind::SchemaNotFound, subject.as_str()) }
        }
        Error::SchemaInUse { subject, topic } => proto::Failure { text: topic.to_string(), ..named(Kind::SchemaInUse, subject.as_str()) },
        // A gateway's own; no ledger answers them.
        Error::SchemaInvalid(_) | Error::SchemaIncompatible { .. } | Error::RecordsInvalid(_) => {
            proto::Failure { text: error.to_string(), ..named(Kind::Invalid, "schema") }
        }
        // Statements are judged by gateways: no ledger says this.
        Error::Sql(refusal) => told(Kind::Internal, &refusal.to_string()),
        Error::ReplayConflict { reason, .. } => told(Kind::Internal, reason),
    }
}

pub(super) fn from_proto(wire: proto::Failure) -> Decoded<Error> {
    use proto::failure::Kind;
    let Ok(kind) = Kind::try_from(wire.kind) else { return Ok(newer(wire)) };
    let small = |n: u64| u32::try_from(n).map_err(|e| Malformed(e.to_string()));
    let partition = PartitionIndex(wire.partition);
    let queue = QueueName::new;
    Ok(match kind {
        Kind::Internal => Error::Internal(wire.text),
        Kind::Invalid => Error::Invalid { field: wire.name, reason: wire.text },
        Kind::TooLarge => Error::TooLarge { what: thing(&wire.name, "the request"), limit: wire.current, actual: wire.given },
        Kind::NamespaceNotFound => Error::NamespaceNotFound(NamespaceName::new(&wire.name)?),
        Kind::TopicNotFound => Error::TopicNotFound(TopicName::new(&wire.name)?),
        Kind::PartitionNotFound => {
            Error::PartitionNotFound { topic: TopicName::new(&wire.name)?, partition, partitions: small(wire.current)? }
        }
        Kind::CursorNotFound => Error::CursorNotFound(CursorName::new(&wire.name)?),
        Kind::AlreadyExists => Error::AlreadyExists { what: thing(&wire.name, "the resource"), name: wire.text },
        Kind::NamespaceNotEmpty => Error::NamespaceNotEmpty(NamespaceName::new(&wire.name)?),
        Kind::VersionMismatch => Error::VersionMismatch { expected: wire.given, actual: wire.current },
        Kind::OffsetMismatch => Error::OffsetMismatch { partition, expected: Offset(wire.given), end: Offset(wire.current) },
        Kind::Fenced => Error::Fenced { token: wire.given, current: wire.current },
        Kind::ProducerFenced => Error::ProducerFenced { epoch: small(wire.given)?, current: small(wire.current)? },
        Kind::SequenceGap => Error::SequenceGap { sequence: wire.given, expected: wire.current },
        Kind::IdempotencyConflict => Error::IdempotencyConflict,
        Kind::StreamPoisoned => Error::StreamPoisoned,
        Kind::BelowLogStart => Error::BelowLogStart { partition, offset: Offset(wire.given), log_start: Offset(wire.current) },
        Kind::Unavailable => Error::Unavailable { reason: wire.text, retry_after: Duration::from_millis(wire.retry_after_ms) },
        Kind::Unknown => Error::Unknown { reason: wire.text },
        Kind::DataUnavailable => Error::DataUnavailable { object: segment_id(&wire.object)?, reason: wire.text },
        Kind::QueueNotFound => Error::QueueNotFound(queue(&wire.name)?),
        Kind::BindingNotFound => Error::BindingNotFound { queue: queue(&wire.name)?, binding: BindingName::new(&wire.text)? },
        Kind::QueueFull => Error::QueueFull { queue: queue(&wire.name)?, max_depth: wire.current },
        Kind::QueueWithoutTopic => Error::QueueWithoutTopic(queue(&wire.name)?),
        Kind::QueueChanged => Error::QueueChanged(wire.text),
        Kind::LeaseOver => Error::LeaseOver { partition, offset: Offset(wire.given) },
        Kind::ReceiptForged => Error::ReceiptForged,
        Kind::ReceiptNotFound => Error::ReceiptNotFound(queue(&wire.name)?),
        Kind::MessageNotFound => Error::MessageNotFound(wire.text),
        Kind::DeadLetterCycle => Error::DeadLetterCycle { queue: queue(&wire.name)?, topic: TopicName::new(&wire.text)? },
        Kind::DeadLetterQueueTaken => Error::DeadLetterQueueTaken { queue: queue(&wire.name)?, topic: TopicName::new(&wire.text)? },
        Kind::NoReply => Error::NoReply {
            topic: TopicName::new(&wire.name)?,
            partition,
            offset: Offset(wire.given),
            waited: Duration::from_millis(wire.retry_after_ms),
        },
        Kind::OperationNotFound => Error::OperationNotFound(wire.text),
        Kind::SchemaNotFound => Error::SchemaNotFound {
            subject: SubjectName::new(&wire.name)?,
            version: Some(small(wire.given)?).filter(|version| *version > 0),
        },
        Kind::SchemaInUse => Error::SchemaInUse { subject: SubjectName::new(&wire.name)?, topic: TopicName::new(&wire.text)? },
    })
}

/// An error that a newer program added.
fn newer(wire: proto::Failure) -> Error {
    let reason = format!("the metadata service, which is newer, answered error {}: {} {}", wire.kind, wire.name, wire.text);
    if wire.not_applied { Error::unavailable(reason) } else { Error::unknown(reason) }
}
