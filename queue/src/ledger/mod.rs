//! The ledger: the state of one shard as a pure, deterministic machine. It assigns offsets, keeps cursors, producers
//! and dedup windows, leases the messages of queues, and knows which object holds what.
//!
//! It reads no clock, does no I/O and draws no randomness. Its owner takes commands in groups: [`Ledger::group_time`],
//! then [`Ledger::apply`] for each, then [`Ledger::seal`], which yields the journal entry. Nothing that a group changed
//! may be shown to anyone before that entry is durable.
//!
//! Invariants, each asserted where its name stands and proved by a test of that name:
//! - **L1** Nothing is visible or answered before its entry is durable (kept by the owner, which answers queries only
//!   between groups).
//! - **L2** Offsets of a partition are dense; a refused slice takes none.
//! - **L3** A commit is idempotent by segment id: repeated, it gets the first answer.
//! - **L4** An ambiguous journal append is settled by writing it again (kept by the stores and their owner).
//! - **L5** An orphan is swept only after the ledger refused it for ever; a late commit of it fails.
//! - **L6** Replaying the journal yields byte-identical state: see [`Ledger::snapshot`].
//! - **L7** Time never goes back, whatever the owners' clocks do.

mod codec;
mod command;
mod commit;
mod compaction;
mod cursors;
mod entry;
pub mod journal;
pub mod key;
mod lenient;
mod objects;
mod partition;
mod query;
mod queue_codec;
mod queues;
mod reply_codec;
mod rows;
mod schema_codec;
mod schemas;
mod take_back;
mod topics;
mod usage;
mod usage_codec;
mod windows;
pub mod wire;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

pub use command::*;
pub use compaction::{Claim, ClaimWork, Compactable, CompactablePartition, NewExtent, SMALL_FILES, Swap, SwapPart, Work};
pub use entry::{EntryError, JournalEntry};
pub use key::object_key;
pub use objects::{COMMIT_WINDOW, ObjectStatus};
pub use partition::Partition;
pub use query::{Answer, JournalPosition, Located, Query, Reclaimable, ReclaimablePartition};
pub use queues::*;
pub use rows::{Checkpoint, Row, RowKey, ShardRow, proto};
pub use schemas::{SchemaAnswer, SchemaCommand, SchemaQuery, SchemaReply};
pub use take_back::{TakeBack, TakenFile, TakenPartition};
pub use usage::{UsageAnswer, UsageQuery};
pub use windows::IDEMPOTENCY_WINDOW;

use crate::error::{Error, Result};
use crate::id::{CursorName, Epoch, JournalSeq, NamespaceName, PartitionIndex, ShardId, TopicId, TopicName};
use crate::time::Timestamp;
use crate::topic::Topic;
use crate::verbs::{Namespace, Precondition};

pub(crate) type PartitionKey = (TopicId, PartitionIndex);
pub(crate) type CursorKey = (NamespaceName, CursorName, TopicName);

/// One shard's state. Production has one of each; the model of the protocol clones it to follow all that may come next.
#[derive(Clone, Debug)]
pub struct Ledger {
    shard: ShardId,
    seq: JournalSeq,
    epoch: Epoch,
    time: Timestamp,
    next_topic: u64,
    namespaces: BTreeMap<NamespaceName, Namespace>,
    topics: BTreeMap<TopicId, Topic>,
    names: BTreeMap<(NamespaceName, TopicName), TopicId>,
    partitions: BTreeMap<PartitionKey, Partition>,
    recents: partition::Recents,
    objects: objects::Objects,
    cursors: BTreeMap<CursorKey, cursors::CursorState>,
    producers: windows::Producers,
    dedup: windows::Dedup,
    idempotency: windows::IdempotencyWindow,
    queues: queues::Queues,
    claims: compaction::Claims,
    /// Partitions in which compactors may find something.
    compactable: BTreeSet<PartitionKey>,
    /// There was a swap or a schema once: rows are not all what the first programs knew.
    has_later_rows: bool,
    schemas: schemas::Schemas,
    usage: usage::UsageState,
    dirty: BTreeSet<RowKey>,
    notices: Vec<Notice>,
}

/// What became of a command.
#[derive(Debug)]
pub struct Applied {
    /// To be given to the caller once the group is durable.
    pub reply: Result<Reply>,
    /// Whether the command belongs into the group's entry. What changed nothing is not journaled.
    pub changed: bool,
}

impl Applied {
    fn changed(reply: Reply) -> Self {
        Self { reply: Ok(reply), changed: true }
    }

    fn unchanged(reply: Result<Reply>) -> Self {
        Self { reply, changed: false }
    }
}

impl From<Result<Reply>> for Applied {
    fn from(reply: Result<Reply>) -> Self {
        let changed = reply.is_ok();
        Self { reply, changed }
    }
}

impl Ledger {
    /// A shard that has seen nothing, in a cluster of `shards` shards. The shard of the default namespace has it from
    /// the start.
    pub fn new(shard: ShardId, shards: u32) -> Self {
        let mut ledger = Self::empty(shard);
        let name = NamespaceName::default_name();
        if name.shard(shards) == shard {
            let namespace = Namespace { name: name.clone(), version: 1, created_at: Timestamp::default(), description: String::new() };
            ledger.namespaces.insert(name.clone(), namespace);
            ledger.dirty.insert(RowKey::Namespace(name));
        }
        ledger
    }

    pub(crate) fn empty(shard: ShardId) -> Self {
        Self {
            shard,
            seq: JournalSeq(0),
            epoch: Epoch(0),
            time: Timestamp::default(),
            next_topic: 1,
            namespaces: BTreeMap::new(),
            topics: BTreeMap::new(),
            names: BTreeMap::new(),
            partitions: BTreeMap::new(),
            recents: partition::Recents::default(),
            objects: objects::Objects::default(),
            cursors: BTreeMap::new(),
            producers: windows::Producers::default(),
            dedup: windows::Dedup::default(),
            idempotency: windows::IdempotencyWindow::default(),
            queues: queues::Queues::default(),
            claims: compaction::Claims::default(),
            compactable: BTreeSet::new(),
            has_later_rows: false,
            schemas: schemas::Schemas::default(),
            usage: usage::UsageState::default(),
            dirty: BTreeSet::new(),
            notices: Vec::new(),
        }
    }

    /// Which shard this is.
    pub fn shard(&self) -> ShardId {
        self.shard
    }

    /// The last entry that is in the state.
    pub fn seq(&self) -> JournalSeq {
        self.seq
    }

    /// The reign under which the last entry was written.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The time of the group that begins when the owner's clock says `clock` (L7). Not before what was applied or told at a
    /// later time without being journaled, either: what became due by then is due, and must be so when the group is replayed.
    pub fn group_time(&self, clock: Timestamp) -> Timestamp {
        self.time.max(self.queues.clock).max(clock)
    }

    /// Applies a command at `now`, which is the group's time. A refused command leaves the state as it was.
    pub fn apply(&mut self, command: &Command, now: Timestamp) -> Applied {
        debug_assert!(now >= self.time, "L7: time went back");
        self.queues.clock = self.queues.clock.max(now);
        match command {
            Command::PutNamespace { name, description, condition } => self.put_namespace(name, description, *condition, now).into(),
            Command::DeleteNamespace { name, condition } => self.delete_namespace(name, *condition).into(),
            Command::PutTopic { namespace, name, config, condition, idempotency } => {
                self.put_topic(namespace, name, config, *condition, idempotency.as_ref(), now)
            }
            Command::DeleteTopic { namespace, name, condition } => self.delete_topic(namespace, name, *condition).into(),
            Command::Trim { topic, partition, before } => self.trim(*topic, *partition, *before),
            Command::PutCursor { namespace, change } => self.put_cursor(namespace, change, now).into(),
            Command::DeleteCursor { namespace, cursor, topic } => self.delete_cursor(namespace, cursor, topic.as_ref()).into(),
            Command::Commit(commit) => self.commit(commit, now),
            Command::RefuseSegments { segments } => self.refuse_segments(segments, now),
            Command::Retire { topic, partition, extents, generation } => {
                self.retire((*topic, *partition), extents, *generation, now).into()
            }
            Command::ForgetObjects { objects } => self.forget_objects(objects, now),
            Command::PutQueue(put) => self.put_queue(put, now),
            Command::DeleteQueue { namespace, name, condition } => self.delete_queue(namespace, name, *condition).into(),
            Command::SeekQueue(seek) => self.seek_queue(seek).into(),
            Command::Receive(receive) => self.receive(receive, now),
            Command::Settle(settle) => self.settle(settle, now),
            Command::Swap(swap) => self.swap(swap, now),
            Command::Claim(claim) => self.claim(claim, now),
            Command::Unclaim { worker, works } => self.unclaim(*worker, works),
            Command::Schema(command) => self.change_schemas(command, now),
            Command::ReportUsage(report) => self.report_usage(report, now),
            Command::TakeBack(taken) => self.take_back(taken, now).into(),
        }
    }

    /// Closes a group: raises the sequence, moves time, forgets what expired. The entry must be made durable before
    /// anything the group did is shown.
    pub fn seal(&mut self, epoch: Epoch, now: Timestamp, commands: Vec<Command>) -> JournalEntry {
        let seq = JournalSeq(self.seq.0 + 1);
        self.advance(seq, epoch, now);
        JournalEntry { shard: self.shard, seq, epoch, time: now, commands }
    }

    /// Applies an entry read from the journal.
    pub fn replay(&mut self, entry: &JournalEntry) -> Result<(), EntryError> {
        if entry.shard != self.shard || entry.seq.0 != self.seq.0 + 1 {
            return Err(EntryError::OutOfTurn { expected: self.seq.0 + 1, found: entry.seq.0 });
        }
        if entry.epoch < self.epoch || entry.time < self.time {
            return Err(EntryError::WentBack { seq: entry.seq.0 });
        }
        for command in &entry.commands {
            if !self.apply(command, entry.time).changed {
                return Err(EntryError::NotReproduced { seq: entry.seq.0 });
            }
        }
        self.advance(entry.seq, entry.epoch, entry.time);
        self.notices.clear();
        Ok(())
    }

    /// What others want to know of the groups since the last call. To be told only when those are durable.
    pub fn take_notices(&mut self) -> Vec<Notice> {
        std::mem::take(&mut self.notices)
    }

    fn advance(&mut self, seq: JournalSeq, epoch: Epoch, now: Timestamp) {
        self.seq = seq;
        self.epoch = epoch;
        self.time = now;
        self.producers.expire(now, &mut self.dirty);
        self.dedup.expire(now, &mut self.dirty);
        self.idempotency.expire(now, &mut self.dirty);
        self.objects.expire_answers(now, &mut self.dirty);
        self.usage.expire(now, &mut self.dirty);
    }

    fn put_namespace(&mut self, name: &NamespaceName, description: &str, condition: Precondition, now: Timestamp) -> Result<Reply> {
        let current = self.namespaces.get(name);
        check_condition(
            condition,
            current.map(|n| n.version),
            || Error::AlreadyExists { what: "namespace", name: name.to_string() },
            || Error::NamespaceNotFound(name.clone()),
        )?;
        let namespace = Namespace {
            name: name.clone(),
            version: current.map_or(1, |n| n.version + 1),
            created_at: current.map_or(now, |n| n.created_at),
            description: description.to_owned(),
        };
        let created = self.namespaces.insert(name.clone(), namespace.clone()).is_none();
        self.dirty.insert(RowKey::Namespace(name.clone()));
        Ok(Reply::Namespace(namespace, created))
    }

    fn delete_namespace(&mut self, name: &NamespaceName, condition: Precondition) -> Result<Reply> {
        let current = self.namespaces.get(name).ok_or_else(|| Error::NamespaceNotFound(name.clone()))?;
        check_condition(
            condition,
            Some(current.version),
            || Error::NamespaceNotEmpty(name.clone()),
            || Error::NamespaceNotFound(name.clone()),
        )?;
        let used = |ns: &NamespaceName| ns == name;
        let has_others = self.queues.has_some(name) || self.schemas.has_some(name);
        if has_others || self.names.keys().any(|(ns, _)| used(ns)) || self.cursors.keys().any(|(ns, ..)| used(ns)) {
            return Err(Error::NamespaceNotEmpty(name.clone()));
        }
        if *name == NamespaceName::default_name() {
            return Err(Error::invalid("namespace", "the namespace default cannot be deleted"));
        }
        self.namespaces.remove(name);
        self.idempotency.forget_namespace(name, &mut self.dirty);
        self.usage.forget_namespace(name, &mut self.dirty);
        self.dirty.insert(RowKey::Namespace(name.clone()));
        Ok(Reply::Done)
    }

    fn require_namespace(&self, name: &NamespaceName) -> Result<()> {
        if self.namespaces.contains_key(name) { Ok(()) } else { Err(Error::NamespaceNotFound(name.clone())) }
    }
}

/// Checks a precondition against the version that is there.
fn check_condition(
    condition: Precondition,
    current: Option<u64>,
    exists: impl FnOnce() -> Error,
    absent: impl FnOnce() -> Error,
) -> Result<()> {
    match (condition, current) {
        (Precondition::Always, _) | (Precondition::Absent, None) | (Precondition::Present, Some(_)) => Ok(()),
        (Precondition::Absent, Some(_)) => Err(exists()),
        (Precondition::Present, None) | (Precondition::Version(_), None) => Err(absent()),
        (Precondition::Version(expected), Some(actual)) if expected == actual => Ok(()),
        (Precondition::Version(expected), Some(actual)) => Err(Error::VersionMismatch { expected, actual }),
    }
}

/// A producer's name as a key.
pub(crate) type ProducerKey = (TopicId, PartitionIndex, Arc<str>);
