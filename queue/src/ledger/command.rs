//! What a ledger is told and what it answers. Pure data.

#![expect(missing_docs, reason = "every type and variant is documented; fields are named after what they hold")]

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::compaction::{ClaimWork, Swap, Work};
use super::queues::{PutQueue, ReceiveMessages, Received, SeekQueue, SettleMessages, SettledRun};
use super::schemas::{SchemaCommand, SchemaReply};
use super::take_back::TakeBack;
use crate::error::Error;
use crate::id::{CursorName, NamespaceName, Offset, PartitionIndex, QueueId, QueueName, SegmentId, TopicId, TopicName};
use crate::queue::Queue;
use crate::time::Timestamp;
use crate::topic::{Topic, TopicConfig};
use crate::usage::UsageReport;
use crate::verbs::{AckRange, Cursor, CursorMove, Idempotency, Namespace, Precondition, ProducerStamp};

/// A change of a shard's state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Creates a namespace or replaces its description.
    PutNamespace { name: NamespaceName, description: String, condition: Precondition },
    /// Deletes a namespace that holds nothing.
    DeleteNamespace { name: NamespaceName, condition: Precondition },
    /// Creates a topic or replaces its settings.
    PutTopic { namespace: NamespaceName, name: TopicName, config: TopicConfig, condition: Precondition, idempotency: Option<Idempotency> },
    /// Deletes a topic; its extents are retired afterwards.
    DeleteTopic { namespace: NamespaceName, name: TopicName, condition: Precondition },
    /// Raises the log start.
    Trim { topic: TopicId, partition: Option<PartitionIndex>, before: Offset },
    /// Moves a cursor.
    PutCursor { namespace: NamespaceName, change: CursorMove },
    /// Forgets a cursor in one topic or in all.
    DeleteCursor { namespace: NamespaceName, cursor: CursorName, topic: Option<TopicName> },
    /// Gives a stored segment's records their offsets.
    Commit(SegmentCommit),
    /// Refuses segments for ever that were never committed, so that their objects may be deleted (L5).
    RefuseSegments { segments: Vec<SegmentId> },
    /// Lets go of extents wholly below the log start, from the oldest on. At another generation than that before which they were
    /// located others may have taken their place: it is refused. Callers who were not told one yet have none.
    Retire { topic: TopicId, partition: PartitionIndex, extents: Vec<RetiredExtent>, generation: Option<u64> },
    /// Forgets objects that were deleted from the bucket.
    ForgetObjects { objects: Vec<SegmentId> },
    /// Creates a queue or replaces its settings.
    PutQueue(Box<PutQueue>),
    /// Deletes a queue; its topics stay.
    DeleteQueue { namespace: NamespaceName, name: QueueName, condition: Precondition },
    /// Moves a queue; to its end, that is purging it.
    SeekQueue(SeekQueue),
    /// Classifies and leases messages.
    Receive(ReceiveMessages),
    /// Settles leases.
    Settle(SettleMessages),
    /// Puts the extents of a new object in the place of old ones.
    Swap(Box<Swap>),
    /// Says that a compactor works on something. Changes nothing that is journaled.
    Claim(ClaimWork),
    /// Takes that back.
    Unclaim { worker: u128, works: Vec<Work> },
    /// Changes the schemas of a subject.
    Schema(Box<SchemaCommand>),
    /// Counts what a process saw used; a second one of the same number counts nothing.
    ReportUsage(Box<UsageReport>),
    /// Creates a topic as a lost ledger had it, over the Parquet files that are left of it.
    TakeBack(Box<TakeBack>),
}

/// A segment that is stored, and what it proposes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentCommit {
    /// The segment; a second commit of it gets the first answer (L3).
    pub segment: SegmentId,
    /// Bytes of the object.
    pub size: u64,
    /// At most one per partition.
    pub extents: Vec<ProposedExtent>,
    /// Requests that are taken or refused as a whole, in the order in which they came.
    pub atoms: Vec<Atom>,
}

/// A segment's bytes for one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProposedExtent {
    /// The topic.
    pub topic: TopicId,
    /// The partition.
    pub partition: PartitionIndex,
    /// Where its bytes begin in the object.
    pub position: u64,
    /// Back to back from `position` on. Each is taken or refused by itself, unless an atom binds it.
    pub slices: Vec<Slice>,
}

/// One or more whole record batches.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Slice {
    /// Bytes.
    pub length: u32,
    /// How many records.
    pub records: u32,
    /// Smallest timestamp of a record.
    pub first_timestamp: Timestamp,
    /// Largest timestamp of a record.
    pub max_timestamp: Timestamp,
    /// Index into [`SegmentCommit::atoms`].
    pub atom: Option<u32>,
    /// What must hold, for the few slices that ask for something.
    pub condition: Option<Box<SliceCondition>>,
}

/// What must hold for a slice to be taken.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SliceCondition {
    /// The partition must end here.
    pub expect_offset: Option<Offset>,
    /// No higher token may have been seen.
    pub fencing_token: Option<u64>,
    /// The next batch of this producer.
    pub producer: Option<ProducerStamp>,
    /// No record may have been stored within the topic's dedup window.
    pub dedup: Vec<DedupClaim>,
}

/// A record's `dedup_id`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DedupClaim {
    /// The record's place in the slice.
    pub index: u32,
    /// A 128-bit hash of the id.
    pub hash: u128,
}

/// A request that is taken or refused as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Atom {
    /// The caller's.
    pub namespace: NamespaceName,
    /// Remembers the answer.
    pub idempotency: Option<Idempotency>,
    /// How the request's records lie over partitions, in the order of the request: rebuilds the answer on replay.
    pub layout: Vec<LayoutRun>,
    /// Cursors that move with it.
    pub cursors: Vec<CursorMove>,
    /// Leases that are settled with it: all of them, or the atom is refused ([`Refusal::Lease`]). At most one per queue.
    pub settles: Vec<SettleMessages>,
}

/// Consecutive records of a request that went to one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LayoutRun {
    /// Which append of the request.
    pub append: u32,
    /// Where to.
    pub topic: TopicId,
    /// Where to.
    pub partition: PartitionIndex,
    /// How many.
    pub count: u32,
}

/// An extent to let go of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetiredExtent {
    /// Its first offset.
    pub base_offset: Offset,
    /// How many records.
    pub records: u32,
    /// Its bytes.
    pub length: u32,
    /// The object it lies in.
    pub object: SegmentId,
}

/// What a command answers when it was applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// To `PutNamespace`: the flag tells whether it was created.
    Namespace(Namespace, bool),
    /// To `PutTopic` and `TakeBack`: the flag tells whether it was created.
    Topic(Topic, bool),
    /// To `PutCursor`.
    Cursor(Cursor),
    /// To `Commit`, and to `Swap` with an outcome for each part.
    Committed(Arc<CommitReply>),
    /// To `RefuseSegments`: those that are refused now; the others are committed or were known before.
    Refused(Vec<SegmentId>),
    /// To `PutQueue` and `SeekQueue`: the flag tells whether it was created.
    Queue(Box<Queue>, bool),
    /// To `Receive`.
    Received(Box<Received>),
    /// To `Settle`.
    Settled(Vec<SettledRun>),
    /// To `Claim`, in the order of its works: whether the worker has it now.
    Claimed(Vec<bool>),
    /// To `Schema`, but for deletes.
    Schema(Box<SchemaReply>),
    /// To the others.
    Done,
}

/// What became of each slice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommitReply {
    /// The ledger's time: the records' `appended_at`.
    pub appended_at: Timestamp,
    /// In the order of the extents and their slices.
    pub slices: Vec<SliceOutcome>,
    /// In the order of the atoms.
    pub atoms: Vec<AtomOutcome>,
}

/// What became of a slice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SliceOutcome {
    /// Its first record has this offset.
    Stored(Offset),
    /// An earlier batch of the same producer and sequence has this first offset.
    Duplicate(Offset),
    /// Its bytes are dead.
    Refused(Refusal),
}

/// What became of an atom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AtomOutcome {
    /// Its slices tell the offsets.
    Applied,
    /// An earlier request with this idempotency key was applied: its answer, each range with the index of its append.
    Replayed(Vec<(u32, AckRange)>),
    /// Nothing of it was applied.
    Refused(Refusal),
}

/// Why a slice or an atom was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The topic was deleted, or never had the partition.
    TopicGone,
    /// See [`Error::OffsetMismatch`].
    OffsetMismatch { partition: PartitionIndex, expected: Offset, end: Offset },
    /// See [`Error::Fenced`].
    Fenced { token: u64, current: u64 },
    /// See [`Error::ProducerFenced`].
    ProducerFenced { epoch: u32, current: u32 },
    /// See [`Error::SequenceGap`].
    SequenceGap { sequence: u64, expected: u64 },
    /// Some records were stored before: append the others again without them.
    Deduplicated(Vec<DedupHit>),
    /// Another part of the same atom was refused.
    Atom,
    /// See [`Error::IdempotencyConflict`].
    IdempotencyConflict,
    /// See [`Error::VersionMismatch`].
    CursorVersion { expected: u64, actual: u64 },
    /// A cursor was to move to a topic, partition or offset that is not there.
    CursorOffset { cursor: CursorName },
    /// The segment was refused before it was committed: it is too old, or it was swept.
    SegmentRefused,
    /// A lease that was to be settled is over: the first such message.
    Lease { queue: QueueId, topic: TopicId, partition: PartitionIndex, offset: Offset },
    /// See [`Error::QueueFull`].
    QueueFull { queue: QueueName, max_depth: u64 },
    /// The extents to be swapped or let go of are not those that the partition holds now.
    ExtentsChanged,
    /// The settings on which a settlement hangs are not the queue's any more.
    QueueChanged { queue: QueueName },
}

impl Refusal {
    /// As the caller of a verb sees it. Deduplicated slices and gone topics are the gateway's to handle first.
    pub fn into_error(self) -> Error {
        match self {
            Self::TopicGone => Error::unavailable("the topic was deleted or changed while the request was under way"),
            Self::OffsetMismatch { partition, expected, end } => Error::OffsetMismatch { partition, expected, end },
            Self::Fenced { token, current } => Error::Fenced { token, current },
            Self::ProducerFenced { epoch, current } => Error::ProducerFenced { epoch, current },
            Self::SequenceGap { sequence, expected } => Error::SequenceGap { sequence, expected },
            Self::Deduplicated(_) => Error::unavailable("records of this batch were stored by another request at the same moment"),
            Self::Atom => Error::unavailable("another part of the request was refused"),
            Self::IdempotencyConflict => Error::IdempotencyConflict,
            Self::CursorVersion { expected, actual } => Error::VersionMismatch { expected, actual },
            Self::CursorOffset { cursor } => Error::invalid(
                "cursors",
                format!("cursor {cursor} cannot move there: the topic, the partition or the offset does not exist"),
            ),
            Self::Lease { partition, offset, .. } => Error::LeaseOver { partition, offset },
            Self::QueueChanged { queue } => Error::QueueChanged(queue.to_string()),
            Self::QueueFull { queue, max_depth } => Error::QueueFull { queue, max_depth },
            Self::ExtentsChanged => Error::unavailable("other extents have taken the place of those that were named"),
            Self::SegmentRefused => Error::unavailable("the segment came too late to be committed"),
        }
    }
}

/// A record that is stored already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DedupHit {
    /// Its place in the slice.
    pub index: u32,
    /// Where the first one is.
    pub partition: PartitionIndex,
    /// Where the first one is.
    pub offset: Offset,
}

/// What kind of object an extent lies in: how far compaction brought its records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ObjectLevel {
    /// A segment as a gateway wrote it.
    #[default]
    Segment,
    /// A segment that a compactor made of many.
    Merged,
    /// A Parquet file, which holds one extent.
    Parquet,
}

impl ObjectLevel {
    /// As it is written in settings, metrics and tables.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Segment => "segment",
            Self::Merged => "merged",
            Self::Parquet => "parquet",
        }
    }

    /// The number by which it is stored.
    pub fn number(self) -> u8 {
        self as u8
    }

    /// Of a stored number; `None` for what a later program made up.
    pub fn from_number(number: u32) -> Option<Self> {
        [Self::Segment, Self::Merged, Self::Parquet].into_iter().find(|level| u32::from(level.number()) == number)
    }
}

/// A range of one object that holds consecutive offsets of one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// The first offset.
    pub base_offset: Offset,
    /// How many offsets it covers: as many records, but for what key compaction took out.
    pub records: u32,
    /// Bytes.
    pub length: u32,
    /// The object.
    pub object: SegmentId,
    /// The object's kind.
    pub level: ObjectLevel,
    /// Bytes of the whole object.
    pub object_size: u64,
    /// Where its bytes begin in the object.
    pub position: u64,
    /// Smallest timestamp of a record.
    pub first_timestamp: Timestamp,
    /// Largest timestamp of a record.
    pub max_timestamp: Timestamp,
    /// When it was journaled; where it is made of several, when the first of them was.
    pub appended_at: Timestamp,
}

impl Extent {
    /// The offset after its last record.
    pub fn end(&self) -> Offset {
        self.base_offset.plus(u64::from(self.records))
    }
}

/// What others want to know once the group is durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// Records were appended.
    Appended { topic: TopicId, partition: PartitionIndex, extent: Extent },
    /// The topic was created, changed, trimmed or deleted: what was known of it may be stale.
    TopicChanged { namespace: NamespaceName, name: TopicName, topic: TopicId },
    /// The queue was created, changed, moved or deleted.
    QueueChanged { namespace: NamespaceName, name: QueueName, queue: QueueId },
    /// A message of the queue became ready otherwise than by being sent: given back, due, its lease over, its turn come.
    QueueReady { queue: QueueId },
    /// The queue has more messages than it is to have: its oldest are to become dead letters.
    QueueOver { namespace: NamespaceName, name: QueueName, queue: QueueId },
}
