//! Anything that may be asked of a ledger or answered, with every variant of every enum.

#[path = "compaction.rs"]
pub(crate) mod compaction;
#[path = "queues.rs"]
pub(crate) mod queues;
#[path = "schemas.rs"]
pub(crate) mod schemas;
#[path = "usage.rs"]
pub(crate) mod usage;

use std::sync::Arc;
use std::time::Duration;

use lakefall_queue::error::Error;
use lakefall_queue::id::{Epoch, JournalSeq};
use lakefall_queue::ledger::{
    Answer, Atom, AtomOutcome, Command, CommitReply, DedupClaim, DedupHit, Extent, JournalPosition, LayoutRun, Located, ObjectStatus,
    ProposedExtent, Query, Reclaimable, ReclaimablePartition, Refusal, Reply, RetiredExtent, SegmentCommit, Slice, SliceCondition,
    SliceOutcome,
};
use lakefall_queue::topic::{Cleanup, Compression, PartitionStatus, Retention, Topic, TopicConfig, Urgency};
use lakefall_queue::verbs::{
    AckRange, Cursor, CursorMove, CursorPosition, Idempotency, Namespace, Page, PageRequest, Precondition, ProducerStamp,
};
use lakefall_queue::{CursorName, NamespaceName, Offset, PartitionIndex, SegmentId, Timestamp, TopicId, TopicName};
use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;

pub(crate) fn name() -> impl Strategy<Value = String> {
    "[A-Za-z0-9][A-Za-z0-9._-]{0,20}"
}

pub(crate) fn namespace_name() -> impl Strategy<Value = NamespaceName> {
    name().prop_map(|n| NamespaceName::new(&n).unwrap())
}

pub(crate) fn topic_name() -> impl Strategy<Value = TopicName> {
    name().prop_map(|n| TopicName::new(&n).unwrap())
}

pub(crate) fn cursor_name() -> impl Strategy<Value = CursorName> {
    name().prop_map(|n| CursorName::new(&n).unwrap())
}

prop_compose! {
    pub(crate) fn segment()(bits in any::<u128>()) -> SegmentId {
        SegmentId(uuid::Uuid::from_u128(bits))
    }
}

pub(crate) fn offset() -> impl Strategy<Value = Offset> {
    any::<u64>().prop_map(Offset)
}

pub(crate) fn topic_id() -> impl Strategy<Value = TopicId> {
    any::<u64>().prop_map(TopicId)
}

pub(crate) fn partition() -> impl Strategy<Value = PartitionIndex> {
    any::<u32>().prop_map(PartitionIndex)
}

pub(crate) fn timestamp() -> impl Strategy<Value = Timestamp> {
    any::<i64>().prop_map(Timestamp::from_millis)
}

pub(crate) fn condition() -> impl Strategy<Value = Precondition> {
    prop_oneof![
        Just(Precondition::Always),
        Just(Precondition::Absent),
        Just(Precondition::Present),
        any::<u64>().prop_map(Precondition::Version)
    ]
}

pub(crate) fn idempotency() -> impl Strategy<Value = Idempotency> {
    (".{1,20}", any::<u128>()).prop_map(|(key, fingerprint)| Idempotency { key: key.into(), fingerprint })
}

pub(crate) fn config() -> impl Strategy<Value = TopicConfig> {
    let retention =
        (of(1_u64..1 << 40), of(any::<u64>())).prop_map(|(age, bytes)| Retention { age: age.map(Duration::from_millis), bytes });
    let compression = prop_oneof![Just(Compression::None), Just(Compression::Lz4), Just(Compression::Zstd)];
    let urgency = prop_oneof![Just(Urgency::Express), Just(Urgency::Standard), Just(Urgency::Economy)];
    let cleanup = prop_oneof![Just(Cleanup::Delete), Just(Cleanup::Compact)];
    (any::<u32>(), retention, cleanup, compression, urgency, 0_u64..1 << 40, of(any::<u64>()), of(schemas::of_topic())).prop_map(
        |(partitions, retention, cleanup, compression, urgency, dedup_ms, max_record_bytes, schema)| TopicConfig {
            partitions,
            retention,
            cleanup,
            compression,
            urgency,
            dedup_window: Duration::from_millis(dedup_ms),
            max_record_bytes,
            schema,
            ..TopicConfig::default()
        },
    )
}

pub(crate) fn cursor_move() -> impl Strategy<Value = CursorMove> {
    (cursor_name(), topic_name(), vec((partition(), offset()), 0..4), of(any::<u64>()))
        .prop_map(|(cursor, topic, offsets, if_version)| CursorMove { cursor, topic, offsets, if_version })
}

pub(crate) fn slice() -> impl Strategy<Value = Slice> {
    let stamp = (".{1,9}", any::<u32>(), any::<u64>()).prop_map(|(id, epoch, sequence)| ProducerStamp { id: id.into(), epoch, sequence });
    let claims = vec((any::<u32>(), any::<u128>()).prop_map(|(index, hash)| DedupClaim { index, hash }), 0..3);
    let condition = (of(offset()), of(any::<u64>()), of(stamp), claims).prop_map(|(expect_offset, fencing_token, producer, dedup)| {
        Box::new(SliceCondition { expect_offset, fencing_token, producer, dedup })
    });
    (any::<u32>(), any::<u32>(), timestamp(), timestamp(), of(any::<u32>()), of(condition)).prop_map(
        |(length, records, first_timestamp, max_timestamp, atom, condition)| Slice {
            length,
            records,
            first_timestamp,
            max_timestamp,
            atom,
            condition,
        },
    )
}

pub(crate) fn segment_commit() -> impl Strategy<Value = SegmentCommit> {
    let extent = (topic_id(), partition(), any::<u64>(), vec(slice(), 0..3))
        .prop_map(|(topic, partition, position, slices)| ProposedExtent { topic, partition, position, slices });
    let run = (any::<u32>(), topic_id(), partition(), any::<u32>()).prop_map(|(append, topic, partition, count)| LayoutRun {
        append,
        topic,
        partition,
        count,
    });
    let atom = (namespace_name(), of(idempotency()), vec(run, 0..3), vec(cursor_move(), 0..3), vec(queues::settle(), 0..2))
        .prop_map(|(namespace, idempotency, layout, cursors, settles)| Atom { namespace, idempotency, layout, cursors, settles });
    (segment(), any::<u64>(), vec(extent, 0..4), vec(atom, 0..3)).prop_map(|(segment, size, extents, atoms)| SegmentCommit {
        segment,
        size,
        extents,
        atoms,
    })
}

pub(crate) fn retired() -> impl Strategy<Value = RetiredExtent> {
    (offset(), any::<u32>(), any::<u32>(), segment()).prop_map(|(base_offset, records, length, object)| RetiredExtent {
        base_offset,
        records,
        length,
        object,
    })
}

pub(crate) fn command() -> impl Strategy<Value = Command> {
    prop_oneof![
        (namespace_name(), ".{0,9}", condition()).prop_map(|(name, description, condition)| Command::PutNamespace {
            name,
            description,
            condition
        }),
        (namespace_name(), condition()).prop_map(|(name, condition)| Command::DeleteNamespace { name, condition }),
        (namespace_name(), topic_name(), config(), condition(), of(idempotency())).prop_map(
            |(namespace, name, config, condition, idempotency)| Command::PutTopic { namespace, name, config, condition, idempotency }
        ),
        (namespace_name(), topic_name(), condition()).prop_map(|(namespace, name, condition)| Command::DeleteTopic {
            namespace,
            name,
            condition
        }),
        (topic_id(), of(partition()), offset()).prop_map(|(topic, partition, before)| Command::Trim { topic, partition, before }),
        (namespace_name(), cursor_move()).prop_map(|(namespace, change)| Command::PutCursor { namespace, change }),
        (namespace_name(), cursor_name(), of(topic_name())).prop_map(|(namespace, cursor, topic)| Command::DeleteCursor {
            namespace,
            cursor,
            topic
        }),
        segment_commit().prop_map(Command::Commit),
        vec(segment(), 0..4).prop_map(|segments| Command::RefuseSegments { segments }),
        (topic_id(), partition(), vec(retired(), 0..4), of(any::<u64>()))
            .prop_map(|(topic, partition, extents, generation)| { Command::Retire { topic, partition, extents, generation } }),
        vec(segment(), 0..4).prop_map(|objects| Command::ForgetObjects { objects }),
        queues::command(),
        compaction::command(),
        schemas::command(),
        usage::command(),
    ]
}

pub(crate) fn page() -> impl Strategy<Value = PageRequest> {
    (of(".{0,9}"), any::<usize>()).prop_map(|(after, limit)| PageRequest { after, limit })
}

pub(crate) fn query() -> impl Strategy<Value = Query> {
    prop_oneof![
        namespace_name().prop_map(Query::Namespace),
        page().prop_map(Query::Namespaces),
        (namespace_name(), topic_name()).prop_map(|(namespace, name)| Query::Topic(namespace, name)),
        (namespace_name(), page()).prop_map(|(namespace, page)| Query::Topics(namespace, page)),
        topic_id().prop_map(Query::Partitions),
        (topic_id(), partition(), offset(), any::<u64>(), any::<usize>()).prop_map(|(topic, partition, from, max_bytes, max_extents)| {
            Query::Locate { topic, partition, from, max_bytes, max_extents }
        }),
        (topic_id(), partition(), timestamp()).prop_map(|(topic, partition, at)| Query::LocateTime { topic, partition, at }),
        (namespace_name(), cursor_name()).prop_map(|(namespace, cursor)| Query::Cursor(namespace, cursor)),
        (namespace_name(), page()).prop_map(|(namespace, page)| Query::Cursors(namespace, page)),
        (any::<usize>(), of((topic_id(), partition())), of(segment()), timestamp(), any::<u64>()).prop_map(
            |(limit, after, after_object, now, grace)| Query::Reclaimable {
                limit,
                after,
                after_object,
                now,
                grace: Duration::from_millis(grace)
            }
        ),
        vec(segment(), 0..4).prop_map(Query::Objects),
        Just(Query::Position),
        queues::query(),
        compaction::query(),
        schemas::query(),
        usage::query(),
    ]
}

prop_compose! {
    pub(crate) fn namespace()(name in namespace_name(), version in any::<u64>(), created_at in timestamp(), description in ".{0,9}") -> Namespace {
        Namespace { name, version, created_at, description }
    }
}

prop_compose! {
    pub(crate) fn topic()(
        namespace in namespace_name(), name in topic_name(), id in topic_id(), version in any::<u64>(), created_at in timestamp(),
        config in config()
    ) -> Topic {
        Topic { namespace, name, id, version, created_at, config }
    }
}

pub(crate) fn cursor() -> impl Strategy<Value = Cursor> {
    let position = (partition(), offset(), any::<u64>()).prop_map(|(partition, offset, lag)| CursorPosition { partition, offset, lag });
    (cursor_name(), topic_name(), any::<u64>(), timestamp(), vec(position, 0..3))
        .prop_map(|(name, topic, version, updated_at, positions)| Cursor { name, topic, version, updated_at, positions })
}

prop_compose! {
    pub(crate) fn extent()(
        base_offset in offset(), records in any::<u32>(), length in any::<u32>(), object in segment(), object_size in any::<u64>(),
        position in any::<u64>(), first_timestamp in timestamp(), max_timestamp in timestamp(), appended_at in timestamp(),
        level in compaction::level()
    ) -> Extent {
        Extent { base_offset, records, length, object, object_size, position, first_timestamp, max_timestamp, appended_at, level }
    }
}

pub(crate) fn paged<T: std::fmt::Debug>(items: impl Strategy<Value = T>) -> impl Strategy<Value = Page<T>> {
    (vec(items, 0..3), of(".{0,9}")).prop_map(|(items, next)| Page { items, next })
}

pub(crate) fn answer() -> impl Strategy<Value = Answer> {
    let status = (partition(), offset(), offset(), any::<u64>(), any::<u64>())
        .prop_map(|(partition, log_start, end, bytes, extents)| PartitionStatus { partition, log_start, end, bytes, extents });
    let located = (offset(), offset(), vec(extent(), 0..4), offset(), offset(), any::<bool>()).prop_map(
        |(log_start, end, extents, first_recent, retired, deleted)| Located {
            log_start,
            end,
            extents,
            overlay: Vec::new(),
            first_recent,
            retired,
            deleted,
        },
    );
    let reclaimable =
        (topic_id(), partition(), offset(), offset(), of(any::<u64>())).prop_map(|(topic, partition, oldest, log_start, generation)| {
            ReclaimablePartition { topic, partition, oldest, log_start, generation }
        });
    let reclaimable = (vec(reclaimable, 0..3), vec(segment(), 0..3), any::<usize>(), of(timestamp()))
        .prop_map(|(partitions, objects, waiting, next_release)| Reclaimable { partitions, objects, waiting, next_release });
    let object =
        (segment(), any::<u64>(), any::<u32>(), of(timestamp()), of(".{1,20}")).prop_map(|(id, size, live_extents, released_at, key)| {
            ObjectStatus { id, size, live_extents, released_at, key: key.map(Into::into) }
        });
    prop_oneof![
        namespace().prop_map(Answer::Namespace),
        paged(namespace()).prop_map(Answer::Namespaces),
        topic().prop_map(Answer::Topic),
        paged(topic()).prop_map(Answer::Topics),
        vec(status, 0..3).prop_map(Answer::Partitions),
        located.prop_map(Answer::Located),
        vec(cursor(), 0..3).prop_map(Answer::Cursor),
        paged(cursor()).prop_map(Answer::Cursors),
        reclaimable.prop_map(Answer::Reclaimable),
        vec(of(object), 0..4).prop_map(Answer::Objects),
        (any::<u64>(), any::<u64>(), timestamp()).prop_map(|(seq, epoch, time)| Answer::Position(JournalPosition {
            seq: JournalSeq(seq),
            epoch: Epoch(epoch),
            time
        })),
        queues::answer(),
        compaction::answer(),
        schemas::answer(),
        usage::answer(),
    ]
}

pub(crate) fn refusal() -> impl Strategy<Value = Refusal> {
    let hit = (any::<u32>(), partition(), offset()).prop_map(|(index, partition, offset)| DedupHit { index, partition, offset });
    prop_oneof![
        Just(Refusal::TopicGone),
        (partition(), offset(), offset()).prop_map(|(partition, expected, end)| Refusal::OffsetMismatch { partition, expected, end }),
        (any::<u64>(), any::<u64>()).prop_map(|(token, current)| Refusal::Fenced { token, current }),
        (any::<u32>(), any::<u32>()).prop_map(|(epoch, current)| Refusal::ProducerFenced { epoch, current }),
        (any::<u64>(), any::<u64>()).prop_map(|(sequence, expected)| Refusal::SequenceGap { sequence, expected }),
        vec(hit, 0..3).prop_map(Refusal::Deduplicated),
        Just(Refusal::Atom),
        Just(Refusal::IdempotencyConflict),
        (any::<u64>(), any::<u64>()).prop_map(|(expected, actual)| Refusal::CursorVersion { expected, actual }),
        cursor_name().prop_map(|cursor| Refusal::CursorOffset { cursor }),
        Just(Refusal::SegmentRefused),
        Just(Refusal::ExtentsChanged),
        queues::refusal(),
    ]
}

pub(crate) fn reply() -> impl Strategy<Value = Reply> {
    let slice = prop_oneof![
        offset().prop_map(SliceOutcome::Stored),
        offset().prop_map(SliceOutcome::Duplicate),
        refusal().prop_map(SliceOutcome::Refused)
    ];
    // What is remembered is always told as a duplicate.
    let range = (partition(), offset(), any::<u32>()).prop_map(|(partition, first_offset, count)| AckRange {
        partition,
        first_offset,
        count,
        duplicate: true,
    });
    let atom = prop_oneof![
        Just(AtomOutcome::Applied),
        vec((any::<u32>(), range), 0..3).prop_map(AtomOutcome::Replayed),
        refusal().prop_map(AtomOutcome::Refused)
    ];
    let committed = (timestamp(), vec(slice, 0..4), vec(atom, 0..3))
        .prop_map(|(appended_at, slices, atoms)| Reply::Committed(Arc::new(CommitReply { appended_at, slices, atoms })));
    prop_oneof![
        (namespace(), any::<bool>()).prop_map(|(namespace, created)| Reply::Namespace(namespace, created)),
        (topic(), any::<bool>()).prop_map(|(topic, created)| Reply::Topic(topic, created)),
        cursor().prop_map(Reply::Cursor),
        committed,
        vec(segment(), 0..4).prop_map(Reply::Refused),
        Just(Reply::Done),
        queues::reply(),
        vec(any::<bool>(), 0..4).prop_map(Reply::Claimed),
        schemas::reply(),
    ]
}

pub(crate) fn error() -> impl Strategy<Value = Error> {
    prop_oneof![
        (".{0,9}", ".{0,9}").prop_map(|(field, reason)| Error::Invalid { field, reason }),
        (any::<u64>(), any::<u64>()).prop_map(|(limit, actual)| Error::TooLarge { what: "a record", limit, actual }),
        namespace_name().prop_map(Error::NamespaceNotFound),
        topic_name().prop_map(Error::TopicNotFound),
        (topic_name(), partition(), any::<u32>()).prop_map(|(topic, partition, partitions)| Error::PartitionNotFound {
            topic,
            partition,
            partitions
        }),
        cursor_name().prop_map(Error::CursorNotFound),
        (prop_oneof![Just("namespace"), Just("topic")], ".{0,9}").prop_map(|(what, name)| Error::AlreadyExists { what, name }),
        namespace_name().prop_map(Error::NamespaceNotEmpty),
        (any::<u64>(), any::<u64>()).prop_map(|(expected, actual)| Error::VersionMismatch { expected, actual }),
        (partition(), offset(), offset()).prop_map(|(partition, expected, end)| Error::OffsetMismatch { partition, expected, end }),
        (any::<u64>(), any::<u64>()).prop_map(|(token, current)| Error::Fenced { token, current }),
        (any::<u32>(), any::<u32>()).prop_map(|(epoch, current)| Error::ProducerFenced { epoch, current }),
        (any::<u64>(), any::<u64>()).prop_map(|(sequence, expected)| Error::SequenceGap { sequence, expected }),
        Just(Error::IdempotencyConflict),
        Just(Error::StreamPoisoned),
        (partition(), offset(), offset()).prop_map(|(partition, offset, log_start)| Error::BelowLogStart { partition, offset, log_start }),
        (".{0,9}", any::<u32>()).prop_map(|(reason, ms)| Error::Unavailable { reason, retry_after: Duration::from_millis(u64::from(ms)) }),
        ".{0,9}".prop_map(|reason| Error::Unknown { reason }),
        (segment(), ".{0,9}").prop_map(|(object, reason)| Error::DataUnavailable { object, reason }),
        ".{0,9}".prop_map(Error::Internal),
        queues::error(),
        schemas::error(),
    ]
}
