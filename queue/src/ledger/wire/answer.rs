//! Answers to questions to protobuf and back.

use bytes::Bytes;

use super::super::codec::{Decoded, required, segment_id, segment_ids, uuid_bytes};
use super::super::compaction::codec::{compactable_from_proto, compactable_to_proto};
use super::super::queue_codec::{queue_from_proto, queue_to_proto};
use super::super::rows::{extent_row, namespace_from_row, namespace_row, proto, topic_from_row, topic_row};
use super::super::{FreeMessages, JournalPosition, Located, ObjectStatus, Reclaimable, ReclaimablePartition, schema_codec, usage_codec};
use super::Answer;
use super::query::{count, size};
use super::queues;
use crate::id::{CursorName, Epoch, JournalSeq, Offset, PartitionIndex, TopicId, TopicName};
use crate::time::Timestamp;
use crate::topic::PartitionStatus;
use crate::verbs::{Cursor, CursorPosition, Page};

pub(super) fn to_proto(answer: &Answer) -> proto::Answer {
    use proto::answer::Kind;
    let kind = match answer {
        Answer::Namespace(namespace) => Kind::Namespace(namespace_row(namespace)),
        Answer::Namespaces(page) => {
            Kind::Namespaces(proto::NamespacePage { items: page.items.iter().map(namespace_row).collect(), next: page.next.clone() })
        }
        Answer::Topic(topic) => Kind::Topic(topic_row(topic)),
        Answer::Topics(page) => {
            Kind::Topics(proto::TopicPage { items: page.items.iter().map(topic_row).collect(), next: page.next.clone() })
        }
        Answer::Partitions(items) => Kind::Partitions(proto::PartitionStatuses { items: items.iter().map(partition_to_proto).collect() }),
        Answer::Located(located) => Kind::Located(located_to_proto(located)),
        Answer::Cursor(cursors) => Kind::Cursor(proto::CursorPage { items: cursors.iter().map(cursor_to_proto).collect(), next: None }),
        Answer::Cursors(page) => {
            Kind::Cursors(proto::CursorPage { items: page.items.iter().map(cursor_to_proto).collect(), next: page.next.clone() })
        }
        Answer::Reclaimable(found) => Kind::Reclaimable(reclaimable_to_proto(found)),
        Answer::Compactable(found) => Kind::Compactable(compactable_to_proto(found)),
        Answer::Objects(items) => Kind::Objects(proto::ObjectStatuses { items: items.iter().map(object_to_proto).collect() }),
        Answer::Position(position) => {
            Kind::Position(proto::JournalPosition { seq: position.seq.0, epoch: position.epoch.0, time_ms: position.time.as_millis() })
        }
        Answer::Queue(queue) => Kind::Queue(queue_to_proto(queue)),
        Answer::Queues(page) => {
            Kind::Queues(proto::QueuePage { items: page.items.iter().map(queue_to_proto).collect(), next: page.next.clone() })
        }
        Answer::Schema(answer) => Kind::Schema(schema_codec::answer_to_proto(answer)),
        Answer::Usage(answer) => Kind::Usage(usage_codec::answer_to_proto(answer)),
        Answer::QueueNumbers(numbers) => Kind::QueueNumbers(queues::numbers_to_proto(numbers)),
        Answer::QueuePeek(items) => Kind::QueuePeek(proto::PeekedMessages { items: items.iter().map(queues::peeked_to_proto).collect() }),
        Answer::QueueLeases(runs) => Kind::QueueLeases(queues::settled_to_proto(runs)),
        Answer::QueueFree(free) => Kind::QueueFree(proto::FreeMessages {
            offsets: free.offsets.iter().map(|offset| offset.0).collect(),
            next: free.next.0,
            attempts: free.attempts.clone(),
        }),
    };
    proto::Answer { kind: Some(kind) }
}

pub(super) fn from_proto(wire: proto::Answer) -> Decoded<Answer> {
    use proto::answer::Kind;
    Ok(match required(wire.kind, "an answer's kind")? {
        Kind::Namespace(w) => Answer::Namespace(namespace_from_row(w)?),
        Kind::Namespaces(w) => Answer::Namespaces(Page { items: all(w.items, namespace_from_row)?, next: w.next }),
        Kind::Topic(w) => Answer::Topic(topic_from_row(&w)?),
        Kind::Topics(w) => Answer::Topics(Page { items: all(w.items, |t| topic_from_row(&t))?, next: w.next }),
        Kind::Partitions(w) => Answer::Partitions(w.items.into_iter().map(partition_from_proto).collect()),
        Kind::Located(w) => Answer::Located(located_from_proto(w)?),
        Kind::Cursor(w) => Answer::Cursor(all(w.items, cursor_from_proto)?),
        Kind::Cursors(w) => Answer::Cursors(Page { items: all(w.items, cursor_from_proto)?, next: w.next }),
        Kind::Reclaimable(w) => Answer::Reclaimable(reclaimable_from_proto(w)?),
        Kind::Compactable(w) => Answer::Compactable(compactable_from_proto(w)?),
        Kind::Objects(w) => Answer::Objects(all(w.items, object_from_proto)?),
        Kind::Position(w) => {
            Answer::Position(JournalPosition { seq: JournalSeq(w.seq), epoch: Epoch(w.epoch), time: Timestamp::from_millis(w.time_ms) })
        }
        Kind::Queue(w) => Answer::Queue(Box::new(queue_from_proto(w)?)),
        Kind::Queues(w) => Answer::Queues(Page { items: all(w.items, queue_from_proto)?, next: w.next }),
        Kind::Schema(w) => Answer::Schema(Box::new(schema_codec::answer_from_proto(w)?)),
        Kind::Usage(w) => Answer::Usage(Box::new(usage_codec::answer_from_proto(w)?)),
        Kind::QueueNumbers(w) => Answer::QueueNumbers(Box::new(queues::numbers_from_proto(w))),
        Kind::QueuePeek(w) => Answer::QueuePeek(w.items.into_iter().map(queues::peeked_from_proto).collect()),
        Kind::QueueLeases(w) => Answer::QueueLeases(queues::settled_from_proto(w)?),
        Kind::QueueFree(w) => Answer::QueueFree(FreeMessages {
            offsets: w.offsets.into_iter().map(Offset).collect(),
            next: Offset(w.next),
            attempts: w.attempts,
        }),
    })
}

fn all<W, T>(items: Vec<W>, one: impl FnMut(W) -> Decoded<T>) -> Decoded<Vec<T>> {
    items.into_iter().map(one).collect()
}

fn partition_to_proto(status: &PartitionStatus) -> proto::PartitionStatus {
    proto::PartitionStatus {
        partition: status.partition.0,
        log_start: status.log_start.0,
        end: status.end.0,
        bytes: status.bytes,
        extents: status.extents,
    }
}

fn partition_from_proto(wire: proto::PartitionStatus) -> PartitionStatus {
    PartitionStatus {
        partition: PartitionIndex(wire.partition),
        log_start: Offset(wire.log_start),
        end: Offset(wire.end),
        bytes: wire.bytes,
        extents: wire.extents,
    }
}

fn located_to_proto(located: &Located) -> proto::Located {
    proto::Located {
        log_start: located.log_start.0,
        end: located.end.0,
        // Zeros take no bytes.
        extents: located.extents.iter().map(|extent| extent_row(TopicId(0), PartitionIndex(0), extent)).collect(),
        first_recent: located.first_recent.0,
        retired: located.retired.0,
        deleted: located.deleted,
    }
}

fn located_from_proto(wire: proto::Located) -> Decoded<Located> {
    Ok(Located {
        log_start: Offset(wire.log_start),
        end: Offset(wire.end),
        extents: all(wire.extents, |row| required(row.to_extent(), "an extent's object"))?,
        overlay: Vec::new(),
        first_recent: Offset(wire.first_recent),
        retired: Offset(wire.retired),
        deleted: wire.deleted,
    })
}

pub(super) fn cursor_to_proto(cursor: &Cursor) -> proto::Cursor {
    let position = |p: &CursorPosition| proto::CursorPosition { partition: p.partition.0, offset: p.offset.0, lag: p.lag };
    proto::Cursor {
        name: cursor.name.to_string(),
        topic: cursor.topic.to_string(),
        version: cursor.version,
        updated_ms: cursor.updated_at.as_millis(),
        positions: cursor.positions.iter().map(position).collect(),
    }
}

pub(super) fn cursor_from_proto(wire: proto::Cursor) -> Decoded<Cursor> {
    let position =
        |p: proto::CursorPosition| CursorPosition { partition: PartitionIndex(p.partition), offset: Offset(p.offset), lag: p.lag };
    Ok(Cursor {
        name: CursorName::new(&wire.name)?,
        topic: TopicName::new(&wire.topic)?,
        version: wire.version,
        updated_at: Timestamp::from_millis(wire.updated_ms),
        positions: wire.positions.into_iter().map(position).collect(),
    })
}

fn reclaimable_to_proto(found: &Reclaimable) -> proto::Reclaimable {
    let partition = |found: &ReclaimablePartition| proto::ReclaimablePartition {
        topic: found.topic.0,
        partition: found.partition.0,
        oldest: found.oldest.0,
        log_start: found.log_start.0,
        generation: found.generation,
    };
    proto::Reclaimable {
        partitions: found.partitions.iter().map(partition).collect(),
        objects: found.objects.iter().copied().map(uuid_bytes).collect(),
        waiting: count(found.waiting),
        next_release_ms: found.next_release.map(Timestamp::as_millis),
    }
}

fn reclaimable_from_proto(wire: proto::Reclaimable) -> Decoded<Reclaimable> {
    let partition = |wire: proto::ReclaimablePartition| ReclaimablePartition {
        topic: TopicId(wire.topic),
        partition: PartitionIndex(wire.partition),
        oldest: Offset(wire.oldest),
        log_start: Offset(wire.log_start),
        generation: wire.generation,
    };
    Ok(Reclaimable {
        partitions: wire.partitions.into_iter().map(partition).collect(),
        objects: segment_ids(&wire.objects)?,
        waiting: size(wire.waiting),
        next_release: wire.next_release_ms.map(Timestamp::from_millis),
    })
}

fn object_to_proto(status: &Option<ObjectStatus>) -> proto::ObjectStatus {
    status.as_ref().map_or_else(proto::ObjectStatus::default, |status| proto::ObjectStatus {
        id: uuid_bytes(status.id),
        size: status.size,
        live_extents: status.live_extents,
        released_ms: status.released_at.map(Timestamp::as_millis),
        key: status.key.as_deref().map(ToOwned::to_owned),
    })
}

fn object_from_proto(wire: proto::ObjectStatus) -> Decoded<Option<ObjectStatus>> {
    if Bytes::is_empty(&wire.id) {
        return Ok(None);
    }
    Ok(Some(ObjectStatus {
        id: segment_id(&wire.id)?,
        size: wire.size,
        live_extents: wire.live_extents,
        released_at: wire.released_ms.map(Timestamp::from_millis),
        key: wire.key.map(Into::into),
    }))
}
