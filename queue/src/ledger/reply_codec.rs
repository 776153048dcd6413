//! A commit's answer to protobuf and back: it is kept with the segment's object for its repetition (L3).

use super::codec::{Decoded, Malformed, required};
use super::rows::proto;
use super::{AtomOutcome, CommitReply, DedupHit, Refusal, SliceOutcome};
use crate::id::{CursorName, Offset, PartitionIndex, QueueId, QueueName, TopicId};
use crate::time::Timestamp;
use crate::verbs::AckRange;

pub(super) fn reply_to_proto(reply: &CommitReply) -> proto::CommitReply {
    proto::CommitReply {
        appended_ms: reply.appended_at.as_millis(),
        slices: reply.slices.iter().map(slice_to_proto).collect(),
        atoms: reply.atoms.iter().map(atom_to_proto).collect(),
    }
}

pub(super) fn reply_from_proto(wire: proto::CommitReply) -> Decoded<CommitReply> {
    Ok(CommitReply {
        appended_at: Timestamp::from_millis(wire.appended_ms),
        slices: wire.slices.into_iter().map(slice_from_proto).collect::<Decoded<_>>()?,
        atoms: wire.atoms.into_iter().map(atom_from_proto).collect::<Decoded<_>>()?,
    })
}

pub(super) fn acks_to_proto(acks: &[(u32, AckRange)]) -> Vec<proto::Ack> {
    let ack = |(append, range): &(u32, AckRange)| proto::Ack {
        append: *append,
        partition: range.partition.0,
        first_offset: range.first_offset.0,
        count: range.count,
    };
    acks.iter().map(ack).collect()
}

/// A remembered answer is always told as a duplicate.
pub(super) fn acks_from_proto(acks: Vec<proto::Ack>) -> Vec<(u32, AckRange)> {
    let range = |a: proto::Ack| AckRange {
        partition: PartitionIndex(a.partition),
        first_offset: Offset(a.first_offset),
        count: a.count,
        duplicate: true,
    };
    acks.into_iter().map(|a| (a.append, range(a))).collect()
}

fn slice_to_proto(outcome: &SliceOutcome) -> proto::SliceOutcome {
    use proto::slice_outcome::Kind;
    let kind = match outcome {
        SliceOutcome::Stored(base) => Kind::Stored(base.0),
        SliceOutcome::Duplicate(base) => Kind::Duplicate(base.0),
        SliceOutcome::Refused(refusal) => Kind::Refused(refusal_to_proto(refusal)),
    };
    proto::SliceOutcome { kind: Some(kind) }
}

fn slice_from_proto(wire: proto::SliceOutcome) -> Decoded<SliceOutcome> {
    use proto::slice_outcome::Kind;
    Ok(match required(wire.kind, "a slice's outcome")? {
        Kind::Stored(base) => SliceOutcome::Stored(Offset(base)),
        Kind::Duplicate(base) => SliceOutcome::Duplicate(Offset(base)),
        Kind::Refused(refusal) => SliceOutcome::Refused(refusal_from_proto(refusal)?),
    })
}

fn atom_to_proto(outcome: &AtomOutcome) -> proto::AtomOutcome {
    use proto::atom_outcome::Kind;
    let kind = match outcome {
        AtomOutcome::Applied => Kind::Applied(true),
        AtomOutcome::Replayed(acks) => Kind::Replayed(proto::Replay { acks: acks_to_proto(acks) }),
        AtomOutcome::Refused(refusal) => Kind::Refused(refusal_to_proto(refusal)),
    };
    proto::AtomOutcome { kind: Some(kind) }
}

fn atom_from_proto(wire: proto::AtomOutcome) -> Decoded<AtomOutcome> {
    use proto::atom_outcome::Kind;
    Ok(match required(wire.kind, "an atom's outcome")? {
        Kind::Applied(_) => AtomOutcome::Applied,
        Kind::Replayed(replay) => AtomOutcome::Replayed(acks_from_proto(replay.acks)),
        Kind::Refused(refusal) => AtomOutcome::Refused(refusal_from_proto(refusal)?),
    })
}

fn refusal_to_proto(refusal: &Refusal) -> proto::Refusal {
    use proto::refusal::Kind;
    let plain = |kind: Kind, given: u64, current: u64| proto::Refusal { kind: kind.into(), given, current, ..Default::default() };
    match refusal {
        Refusal::TopicGone => plain(Kind::TopicGone, 0, 0),
        Refusal::OffsetMismatch { partition, expected, end } => {
            proto::Refusal { partition: partition.0, ..plain(Kind::OffsetMismatch, expected.0, end.0) }
        }
        Refusal::Fenced { token, current } => plain(Kind::Fenced, *token, *current),
        Refusal::ProducerFenced { epoch, current } => plain(Kind::ProducerFenced, u64::from(*epoch), u64::from(*current)),
        Refusal::SequenceGap { sequence, expected } => plain(Kind::SequenceGap, *sequence, *expected),
        Refusal::Deduplicated(hits) => {
            let hit = |h: &DedupHit| proto::DedupHit { index: h.index, partition: h.partition.0, offset: h.offset.0 };
            proto::Refusal { hits: hits.iter().map(hit).collect(), ..plain(Kind::Deduplicated, 0, 0) }
        }
        Refusal::Atom => plain(Kind::Atom, 0, 0),
        Refusal::IdempotencyConflict => plain(Kind::IdempotencyConflict, 0, 0),
        Refusal::CursorVersion { expected, actual } => plain(Kind::CursorVersion, *expected, *actual),
        Refusal::CursorOffset { cursor } => proto::Refusal { name: cursor.to_string(), ..plain(Kind::CursorOffset, 0, 0) },
        Refusal::ExtentsChanged => plain(Kind::ExtentsChanged, 0, 0),
        Refusal::SegmentRefused => plain(Kind::SegmentRefused, 0, 0),
        Refusal::Lease { queue, topic, partition, offset } => {
            proto::Refusal { queue: queue.0, topic: topic.0, partition: partition.0, ..plain(Kind::Lease, offset.0, 0) }
        }
        Refusal::QueueChanged { queue } => proto::Refusal { name: queue.to_string(), ..plain(Kind::QueueChanged, 0, 0) },
        Refusal::QueueFull { queue, max_depth } => proto::Refusal { name: queue.to_string(), ..plain(Kind::QueueFull, 0, *max_depth) },
    }
}

fn refusal_from_proto(wire: proto::Refusal) -> Decoded<Refusal> {
    use proto::refusal::Kind;
    let kind = Kind::try_from(wire.kind).map_err(|e| Malformed(e.to_string()))?;
    let epoch = |n: u64| u32::try_from(n).map_err(|e| Malformed(e.to_string()));
    Ok(match kind {
        Kind::TopicGone => Refusal::TopicGone,
        Kind::OffsetMismatch => {
            Refusal::OffsetMismatch { partition: PartitionIndex(wire.partition), expected: Offset(wire.given), end: Offset(wire.current) }
        }
        Kind::Fenced => Refusal::Fenced { token: wire.given, current: wire.current },
        Kind::ProducerFenced => Refusal::ProducerFenced { epoch: epoch(wire.given)?, current: epoch(wire.current)? },
        Kind::SequenceGap => Refusal::SequenceGap { sequence: wire.given, expected: wire.current },
        Kind::Deduplicated => {
            let hit = |h: proto::DedupHit| DedupHit { index: h.index, partition: PartitionIndex(h.partition), offset: Offset(h.offset) };
            Refusal::Deduplicated(wire.hits.into_iter().map(hit).collect())
        }
        Kind::Atom => Refusal::Atom,
        Kind::IdempotencyConflict => Refusal::IdempotencyConflict,
        Kind::CursorVersion => Refusal::CursorVersion { expected: wire.given, actual: wire.current },
        Kind::CursorOffset => Refusal::CursorOffset { cursor: CursorName::new(&wire.name)? },
        Kind::ExtentsChanged => Refusal::ExtentsChanged,
        Kind::SegmentRefused => Refusal::SegmentRefused,
        Kind::Lease => Refusal::Lease {
            queue: QueueId(wire.queue),
            topic: TopicId(wire.topic),
            partition: PartitionIndex(wire.partition),
            offset: Offset(wire.given),
        },
        Kind::QueueChanged => Refusal::QueueChanged { queue: QueueName::new(&wire.name)? },
        Kind::QueueFull => Refusal::QueueFull { queue: QueueName::new(&wire.name)?, max_depth: wire.current },
    })
}
