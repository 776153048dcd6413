//! The state as rows: what a checkpoint writes, and how a ledger is built again from them.
//!
//! A checkpoint holds the rows that changed since the last one. Extents are rows that are only ever added, and go when
//! their partition's `retired` passes them; they stay in the store when they leave memory.

use std::sync::Arc;

use super::codec::{Decoded, Malformed, config_from_json, config_json, hash, hash_bytes, offsets_to_proto, segment_id, uuid_bytes};
use super::compaction::Compaction;
use super::compaction::codec::{state_from_proto as compaction_state_from_proto, state_to_proto as compaction_state_to_proto};
use super::cursors::CursorState;
use super::objects::Object;
use super::queue_codec::{queue_from_proto, queue_to_proto};
use super::queues::QueueRows;
use super::reply_codec::{acks_from_proto, acks_to_proto, reply_from_proto, reply_to_proto};
use super::schema_codec::{schema_key, subject_key};
use super::usage_codec::{reporter_key, usage_key};
use super::windows::{DedupEntry, Producer, ProducerBatch, Remembered, RememberedReply};
use super::{CursorKey, EntryError, Extent, Ledger, ObjectLevel, Partition, PartitionKey, ProducerKey};
use crate::id::{
    CursorName, Epoch, JournalSeq, NamespaceName, Offset, PartitionIndex, QueueId, SegmentId, ShardId, SubjectName, TopicId, TopicName,
};
use crate::planted::{self, Bug};
use crate::time::Timestamp;
use crate::topic::Topic;
use crate::usage::Grain;
use crate::verbs::Namespace;

/// The generated messages of `proto/ledger.proto`.
#[expect(missing_docs, reason = "generated; the .proto file is the documentation")]
pub mod proto {
    include!(concat!(env!("OUT_DIR"), "/lakefall.ledger.v1.rs"));
}

pub use proto::ShardRow;

/// The versions of the rows of a shard without queues, with queues, and after a first swap or schema: who knows only an earlier one must
/// not serve a later. This program reads all. Usage raises none: who does not know it may pass over its rows, as nothing depends on them.
const VERSIONS: (u32, u32, u32) = (1, 2, 3);

/// Partitions whose newest extents may all be in memory: beyond it, only the busy ones keep theirs.
const FULL_PARTITIONS: usize = 1_024;

/// Which row.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RowKey {
    /// A namespace.
    Namespace(NamespaceName),
    /// A topic.
    Topic(TopicId),
    /// A partition.
    Partition(TopicId, PartitionIndex),
    /// An object.
    Object(SegmentId),
    /// A cursor in one topic.
    Cursor((NamespaceName, CursorName, TopicName)),
    /// A producer in one partition.
    Producer((TopicId, PartitionIndex, Arc<str>)),
    /// A dedup id in one topic.
    Dedup(TopicId, u128),
    /// A request with an idempotency key.
    Idempotency(NamespaceName, Arc<str>),
    /// A queue.
    Queue(QueueId),
    /// How far a queue is in a partition.
    QueuePartition(QueueId, TopicId, PartitionIndex),
    /// What a queue knows of a block of messages.
    QueueBlock(QueueId, TopicId, PartitionIndex, u64),
    /// A subject.
    Subject((NamespaceName, SubjectName)),
    /// A version of a subject.
    Schema((NamespaceName, SubjectName), u32),
    /// What was used in an hour or a day.
    Usage((NamespaceName, Option<TopicId>, Grain, Timestamp)),
    /// A process that reports usage.
    UsageReporter(u128),
}

/// A row as it is to be written.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "each variant is the message of its name in proto/ledger.proto")]
#[expect(clippy::large_enum_variant, reason = "rows are many and of the small kinds; a box would be one more allocation for each")]
pub enum Row {
    Namespace(proto::NamespaceRow),
    Topic(proto::TopicRow),
    Partition(proto::PartitionRow),
    Object(proto::ObjectRow),
    Cursor(proto::CursorRow),
    Producer(proto::ProducerRow),
    Dedup(proto::DedupRow),
    Idempotency(proto::IdempotencyRow),
    Queue(proto::QueueRow),
    QueuePartition(proto::QueuePartitionRow),
    QueueBlock(proto::QueueBlockRow),
    Subject(proto::SubjectRow),
    Schema(proto::SchemaRow),
    Usage(proto::UsageRow),
    UsageReporter(proto::UsageReporterRow),
}

/// What changed since the last checkpoint: to be written in one transaction.
#[derive(Clone, Debug, PartialEq)]
pub struct Checkpoint {
    /// Journal entries up to `shard.seq` are in it.
    pub shard: ShardRow,
    /// Rows to be written.
    pub puts: Vec<Row>,
    /// Rows to be deleted.
    pub deletes: Vec<RowKey>,
    /// Extents to be added.
    pub extents: Vec<proto::ExtentRow>,
    /// Extents to be deleted before others are added: those of the partition that begin from the first offset on and before the
    /// second.
    pub replaced: Vec<(TopicId, PartitionIndex, Offset, Offset)>,
    /// Extents to be deleted: all of the partition below the offset.
    pub retired: Vec<(TopicId, PartitionIndex, Offset)>,
    /// Given back by [`Ledger::checkpoint_failed`] and [`Ledger::checkpointed`].
    keys: Vec<RowKey>,
}

impl Ledger {
    /// Takes what changed since the last call. All of it must be durable in the journal.
    pub fn checkpoint(&mut self) -> Checkpoint {
        let mut keys: Vec<RowKey> = std::mem::take(&mut self.dirty).into_iter().collect();
        if keys.len() > 1 && planted::is(Bug::CheckpointSkipsRow) {
            keys.pop();
        }
        let mut checkpoint = Checkpoint {
            shard: self.shard_row(),
            puts: Vec::new(),
            deletes: Vec::new(),
            extents: Vec::new(),
            replaced: Vec::new(),
            retired: Vec::new(),
            keys: Vec::new(),
        };
        for key in &keys {
            match self.row(key) {
                Some(row) => checkpoint.puts.push(row),
                None => checkpoint.deletes.push(key.clone()),
            }
            if let RowKey::Partition(topic, index) = key {
                self.extents_to_write(*topic, *index, &mut checkpoint);
            }
        }
        checkpoint.keys = keys;
        checkpoint
    }

    /// The checkpoint is in the store: extents in it may leave memory, down to the newest `keep` of each partition. When
    /// all partitions together hold more than [`FULL_PARTITIONS`] times `keep`, those longest without an append keep none.
    pub fn checkpointed(&mut self, checkpoint: &Checkpoint, keep: usize) {
        let seq = JournalSeq(checkpoint.shard.seq);
        for (topic, index, ..) in &checkpoint.replaced {
            if let Some(state) = self.partitions.get_mut(&(*topic, *index)).and_then(|partition| partition.compaction.as_mut()) {
                state.stored(seq);
            }
        }
        for extent in &checkpoint.extents {
            let key = (TopicId(extent.topic), PartitionIndex(extent.partition));
            let Some(partition) = self.partitions.get_mut(&key) else { continue };
            let end = Offset(extent.base_offset + u64::from(extent.records));
            self.recents.evictable.remove(&(partition.stored_by(), key));
            partition.stored(end, seq);
            self.recents.count -= partition.evict(keep);
            if partition.recent_count() > 0 {
                self.recents.evictable.insert((seq, key));
            }
        }
        while self.recents.count > keep.saturating_mul(FULL_PARTITIONS)
            && let Some((_, key)) = self.recents.evictable.pop_first()
        {
            self.recents.count -= self.partitions.get_mut(&key).map_or(0, |partition| partition.evict(0));
        }
    }

    /// The checkpoint is not in the store: its rows are due again.
    pub fn checkpoint_failed(&mut self, checkpoint: Checkpoint) {
        self.dirty.extend(checkpoint.keys);
    }

    /// How many rows the next checkpoint would have to look at.
    pub fn dirty_rows(&self) -> usize {
        self.dirty.len()
    }

    /// The whole state as bytes, for comparing two ledgers (L6): every row in key order, and every extent in memory.
    pub fn snapshot(&self) -> Vec<u8> {
        use prost::Message;
        let mut bytes = self.shard_row().encode_length_delimited_to_vec();
        for key in self.all_keys() {
            if let Some(row) = self.row(&key) {
                bytes.extend(row.encode());
            }
        }
        for ((topic, index), partition) in &self.partitions {
            for extent in partition.overlay_from(Offset(0)).chain(partition.recent()) {
                bytes.extend(extent_row(*topic, *index, extent).encode_length_delimited_to_vec());
            }
        }
        bytes
    }

    /// Builds a ledger from the rows of its checkpoints. The journal's entries after `shard.seq` are to be replayed on it.
    pub fn restore(id: ShardId, shard: &ShardRow, rows: impl IntoIterator<Item = Row>) -> Result<Self, EntryError> {
        if shard.version == 0 || shard.version > VERSIONS.2 {
            return Err(EntryError::UnknownVersion(shard.version));
        }
        let mut ledger = Self::empty(id);
        ledger.seq = JournalSeq(shard.seq);
        ledger.epoch = Epoch(shard.epoch);
        ledger.time = Timestamp::from_millis(shard.time_ms);
        ledger.next_topic = shard.next_topic;
        ledger.has_later_rows = shard.version >= VERSIONS.2;
        // Built at once, the map's nodes are full: one by one, in order, they would be half empty, and there may be millions.
        let mut partitions = Vec::new();
        let mut queues = QueueRows::default();
        for row in rows.into_iter().filter_map(|row| queues.take(row)) {
            match row {
                Row::Partition(w) => partitions.push(((TopicId(w.topic), PartitionIndex(w.partition)), partition_from_row(&w))),
                row => ledger.restore_row(row).map_err(|e| EntryError::Corrupt(e.0))?,
            }
        }
        ledger.partitions = partitions.into_iter().collect();
        let keys: Vec<PartitionKey> = ledger.partitions.keys().copied().collect();
        keys.into_iter().for_each(|key| ledger.note_compactable(key));
        ledger.restore_queues(queues).map_err(|e| EntryError::Corrupt(e.0))?;
        ledger.usage.restored(ledger.time);
        Ok(ledger)
    }

    fn shard_row(&self) -> ShardRow {
        let version = match (self.has_later_rows, self.queues.is_empty()) {
            (true, _) => VERSIONS.2,
            (false, false) => VERSIONS.1,
            (false, true) => VERSIONS.0,
        };
        ShardRow { version, seq: self.seq.0, epoch: self.epoch.0, time_ms: self.time.as_millis(), next_topic: self.next_topic }
    }

    fn extents_to_write(&mut self, topic: TopicId, index: PartitionIndex, checkpoint: &mut Checkpoint) {
        let Some(partition) = self.partitions.get_mut(&(topic, index)) else {
            checkpoint.retired.push((topic, index, Offset(u64::MAX)));
            return;
        };
        if partition.retired > Offset(0) {
            checkpoint.retired.push((topic, index, partition.retired));
        }
        partition.handed = partition.next;
        let replaced = partition.compaction.iter().flat_map(|state| &state.replaced);
        checkpoint.replaced.extend(replaced.map(|(_, from, to)| (topic, index, *from, *to)));
        let fresh = partition.overlay_from(Offset(0)).chain(partition.recent_from(partition.persisted));
        checkpoint.extents.extend(fresh.map(|extent| extent_row(topic, index, extent)));
    }

    fn all_keys(&self) -> Vec<RowKey> {
        let mut keys: Vec<RowKey> = self.namespaces.keys().cloned().map(RowKey::Namespace).collect();
        keys.extend(self.topics.keys().copied().map(RowKey::Topic));
        keys.extend(self.partitions.keys().map(|(topic, index)| RowKey::Partition(*topic, *index)));
        keys.extend(self.objects.by_id.keys().copied().map(RowKey::Object));
        keys.extend(self.cursors.keys().cloned().map(RowKey::Cursor));
        keys.extend(self.producers.by_key.keys().cloned().map(RowKey::Producer));
        keys.extend(self.dedup.by_hash.keys().map(|(topic, hash)| RowKey::Dedup(*topic, *hash)));
        keys.extend(self.idempotency.by_key.keys().map(|(ns, key)| RowKey::Idempotency(ns.clone(), key.clone())));
        keys.extend(self.queues.keys());
        keys.extend(self.schemas.keys());
        keys.extend(self.usage.keys());
        keys
    }

    fn row(&self, key: &RowKey) -> Option<Row> {
        Some(match key {
            RowKey::Namespace(name) => Row::Namespace(namespace_row(self.namespaces.get(name)?)),
            RowKey::Topic(id) => Row::Topic(topic_row(self.topics.get(id)?)),
            RowKey::Partition(topic, index) => Row::Partition(partition_row(*topic, *index, self.partitions.get(&(*topic, *index))?)),
            RowKey::Object(id) => Row::Object(object_row(*id, self.objects.by_id.get(id)?)),
            RowKey::Cursor(key) => Row::Cursor(cursor_row(key, self.cursors.get(key)?)),
            RowKey::Producer(key) => Row::Producer(producer_row(key, self.producers.by_key.get(key)?)),
            RowKey::Dedup(topic, hash) => Row::Dedup(dedup_row(*topic, *hash, self.dedup.by_hash.get(&(*topic, *hash))?)),
            RowKey::Idempotency(ns, key) => {
                Row::Idempotency(idempotency_row(ns, key, self.idempotency.by_key.get(&(ns.clone(), key.clone()))?))
            }
            RowKey::Queue(_) | RowKey::QueuePartition(..) | RowKey::QueueBlock(..) => return self.queues.row(key),
            RowKey::Subject(key) => return self.subject_row(key),
            RowKey::Schema(key, version) => return self.schema_row(key, *version),
            RowKey::Usage(_) | RowKey::UsageReporter(_) => return self.usage.row(key),
        })
    }

    fn restore_row(&mut self, row: Row) -> Decoded<()> {
        match row {
            Row::Namespace(w) => {
                let namespace = namespace_from_row(w)?;
                self.namespaces.insert(namespace.name.clone(), namespace);
            }
            Row::Topic(w) => {
                let topic = topic_from_row(&w)?;
                self.names.insert((topic.namespace.clone(), topic.name.clone()), topic.id);
                self.topics.insert(topic.id, topic);
            }
            Row::Partition(w) => {
                self.partitions.insert((TopicId(w.topic), PartitionIndex(w.partition)), partition_from_row(&w));
            }
            Row::Object(w) => self.restore_object(w)?,
            Row::Cursor(w) => self.restore_cursor(&w)?,
            Row::Producer(w) => self.restore_producer(w),
            Row::Dedup(w) => {
                let (topic, hash) = (TopicId(w.topic), hash(&w.hash)?);
                let entry = DedupEntry {
                    partition: PartitionIndex(w.partition),
                    offset: Offset(w.offset),
                    expires_at: Timestamp::from_millis(w.expires_ms),
                };
                self.dedup.by_expiry.insert((entry.expires_at, topic, hash));
                self.dedup.by_hash.insert((topic, hash), entry);
            }
            Row::Idempotency(w) => self.restore_idempotency(w)?,
            Row::Subject(w) => self.restore_subject(&w)?,
            Row::Schema(w) => self.restore_schema(w)?,
            Row::Usage(w) => self.usage.restore_row(&w)?,
            Row::UsageReporter(w) => self.usage.restore_reporter(&w)?,
            // Taken before, as they are to be restored in order.
            Row::Queue(_) | Row::QueuePartition(_) | Row::QueueBlock(_) => {}
        }
        Ok(())
    }

    fn restore_object(&mut self, w: proto::ObjectRow) -> Decoded<()> {
        let id = segment_id(&w.id)?;
        let object = Object {
            size: w.size,
            live_extents: w.live_extents,
            committed_at: Timestamp::from_millis(w.committed_ms),
            released_at: w.released_ms.map(Timestamp::from_millis),
            refused: w.refused,
            answer: w.answer.map(|a| reply_from_proto(a).map(Arc::new)).transpose()?,
            key: w.key.map(Into::into),
        };
        if object.answer.is_some() {
            self.objects.answered.insert((object.committed_at, id));
        }
        if object.released_at.is_some() {
            self.objects.released.insert(id);
        }
        self.objects.by_id.insert(id, object);
        Ok(())
    }

    fn restore_cursor(&mut self, w: &proto::CursorRow) -> Decoded<()> {
        let key = (NamespaceName::new(&w.namespace)?, CursorName::new(&w.cursor)?, TopicName::new(&w.topic)?);
        let state = CursorState {
            topic: TopicId(w.topic_id),
            version: w.version,
            updated_at: Timestamp::from_millis(w.updated_ms),
            offsets: w.offsets.iter().map(|o| (PartitionIndex(o.partition), Offset(o.offset))).collect(),
        };
        self.cursors.insert(key, state);
        Ok(())
    }

    fn restore_producer(&mut self, w: proto::ProducerRow) {
        let key: ProducerKey = (TopicId(w.topic), PartitionIndex(w.partition), w.id.into());
        let batch = |b: proto::ProducerBatch| ProducerBatch { sequence: b.sequence, records: b.records, base: Offset(b.base_offset) };
        let producer = Producer {
            epoch: w.epoch,
            next_sequence: w.next_sequence,
            seen_at: Timestamp::from_millis(w.seen_ms),
            batches: w.batches.into_iter().map(batch).collect(),
        };
        self.producers.by_age.insert((producer.seen_at, key.clone()));
        self.producers.by_key.insert(key, producer);
    }

    fn restore_idempotency(&mut self, w: proto::IdempotencyRow) -> Decoded<()> {
        let reply = match (&w.topic, w.queue) {
            (Some(topic), _) => RememberedReply::Topic(Box::new(topic_from_row(topic)?)),
            (None, Some(queue)) => RememberedReply::Queue(Box::new(queue_from_proto(queue)?)),
            (None, None) => RememberedReply::Acks(acks_from_proto(w.acks)),
        };
        let remembered = Remembered { fingerprint: hash(&w.fingerprint)?, expires_at: Timestamp::from_millis(w.expires_ms), reply };
        self.idempotency.restore(NamespaceName::new(&w.namespace)?, w.key.into(), remembered);
        Ok(())
    }
}

impl Row {
    /// Which row it is; `None` if a name or an id in it is malformed.
    pub fn key(&self) -> Option<RowKey> {
        Some(match self {
            Row::Namespace(w) => RowKey::Namespace(NamespaceName::new(&w.name).ok()?),
            Row::Topic(w) => RowKey::Topic(TopicId(w.id)),
            Row::Partition(w) => RowKey::Partition(TopicId(w.topic), PartitionIndex(w.partition)),
            Row::Object(w) => RowKey::Object(segment_id(&w.id).ok()?),
            Row::Cursor(w) => {
                RowKey::Cursor((NamespaceName::new(&w.namespace).ok()?, CursorName::new(&w.cursor).ok()?, TopicName::new(&w.topic).ok()?))
            }
            Row::Producer(w) => RowKey::Producer((TopicId(w.topic), PartitionIndex(w.partition), w.id.as_str().into())),
            Row::Dedup(w) => RowKey::Dedup(TopicId(w.topic), hash(&w.hash).ok()?),
            Row::Idempotency(w) => RowKey::Idempotency(NamespaceName::new(&w.namespace).ok()?, w.key.as_str().into()),
            Row::Queue(w) => RowKey::Queue(QueueId(w.id)),
            Row::QueuePartition(w) => RowKey::QueuePartition(QueueId(w.queue), TopicId(w.topic), PartitionIndex(w.partition)),
            Row::QueueBlock(w) => RowKey::QueueBlock(QueueId(w.queue), TopicId(w.topic), PartitionIndex(w.partition), w.block),
            Row::Subject(w) => subject_key(w)?,
            Row::Schema(w) => schema_key(w)?,
            Row::Usage(w) => usage_key(w).ok().map(RowKey::Usage)?,
            Row::UsageReporter(w) => reporter_key(w)?,
        })
    }

    /// The message's bytes, length-delimited.
    pub fn encode(&self) -> Vec<u8> {
        use prost::Message;
        match self {
            Row::Namespace(w) => w.encode_length_delimited_to_vec(),
            Row::Topic(w) => w.encode_length_delimited_to_vec(),
            Row::Partition(w) => w.encode_length_delimited_to_vec(),
            Row::Object(w) => w.encode_length_delimited_to_vec(),
            Row::Cursor(w) => w.encode_length_delimited_to_vec(),
            Row::Producer(w) => w.encode_length_delimited_to_vec(),
            Row::Dedup(w) => w.encode_length_delimited_to_vec(),
            Row::Idempotency(w) => w.encode_length_delimited_to_vec(),
            Row::Queue(w) => w.encode_length_delimited_to_vec(),
            Row::QueuePartition(w) => w.encode_length_delimited_to_vec(),
            Row::QueueBlock(w) => w.encode_length_delimited_to_vec(),
            Row::Subject(w) => w.encode_length_delimited_to_vec(),
            Row::Schema(w) => w.encode_length_delimited_to_vec(),
            Row::Usage(w) => w.encode_length_delimited_to_vec(),
            Row::UsageReporter(w) => w.encode_length_delimited_to_vec(),
        }
    }
}

impl proto::ExtentRow {
    /// As the ledger keeps it. `None` if the object's id is malformed, or its level of a later program.
    pub fn to_extent(&self) -> Option<Extent> {
        Some(Extent {
            base_offset: Offset(self.base_offset),
            records: self.records,
            length: self.length,
            object: segment_id(&self.object).ok()?,
            level: ObjectLevel::from_number(self.level)?,
            object_size: self.object_size,
            position: self.position,
            first_timestamp: Timestamp::from_millis(self.first_timestamp_ms),
            max_timestamp: Timestamp::from_millis(self.max_timestamp_ms),
            appended_at: Timestamp::from_millis(self.appended_ms),
        })
    }
}

pub(super) fn extent_row(topic: TopicId, index: PartitionIndex, extent: &Extent) -> proto::ExtentRow {
    proto::ExtentRow {
        topic: topic.0,
        partition: index.0,
        base_offset: extent.base_offset.0,
        records: extent.records,
        object: uuid_bytes(extent.object),
        position: extent.position,
        length: extent.length,
        first_timestamp_ms: extent.first_timestamp.as_millis(),
        max_timestamp_ms: extent.max_timestamp.as_millis(),
        appended_ms: extent.appended_at.as_millis(),
        object_size: extent.object_size,
        level: extent.level.number().into(),
    }
}

pub(super) fn namespace_row(namespace: &Namespace) -> proto::NamespaceRow {
    proto::NamespaceRow {
        name: namespace.name.to_string(),
        version: namespace.version,
        created_ms: namespace.created_at.as_millis(),
        description: namespace.description.clone(),
    }
}

pub(super) fn namespace_from_row(w: proto::NamespaceRow) -> Decoded<Namespace> {
    Ok(Namespace {
        name: NamespaceName::new(&w.name)?,
        version: w.version,
        created_at: Timestamp::from_millis(w.created_ms),
        description: w.description,
    })
}

pub(super) fn topic_row(topic: &Topic) -> proto::TopicRow {
    proto::TopicRow {
        id: topic.id.0,
        namespace: topic.namespace.to_string(),
        name: topic.name.to_string(),
        version: topic.version,
        created_ms: topic.created_at.as_millis(),
        config_json: config_json(&topic.config),
    }
}

pub(super) fn topic_from_row(w: &proto::TopicRow) -> Result<Topic, Malformed> {
    Ok(Topic {
        namespace: NamespaceName::new(&w.namespace)?,
        name: TopicName::new(&w.name)?,
        id: TopicId(w.id),
        version: w.version,
        created_at: Timestamp::from_millis(w.created_ms),
        config: config_from_json(&w.config_json)?,
    })
}

fn partition_row(topic: TopicId, index: PartitionIndex, partition: &Partition) -> proto::PartitionRow {
    proto::PartitionRow {
        topic: topic.0,
        partition: index.0,
        log_start: partition.log_start.0,
        next: partition.next.0,
        retired: partition.retired.0,
        fencing_token: partition.fencing_token(),
        bytes: partition.bytes,
        extents: partition.extents,
        deleted: partition.deleted,
        compaction: partition.compaction.as_deref().map(compaction_state_to_proto),
    }
}

/// A checkpoint writes a partition together with all its extents: what it tells of is in the store.
fn partition_from_row(w: &proto::PartitionRow) -> Partition {
    let mut partition = Partition {
        log_start: Offset(w.log_start),
        next: Offset(w.next),
        retired: Offset(w.retired),
        persisted: Offset(w.next),
        handed: Offset(w.next),
        compaction: compaction_from_row(w),
        bytes: w.bytes,
        extents: w.extents,
        deleted: w.deleted,
        ..Partition::default()
    };
    if let Some(token) = w.fencing_token {
        partition.fence(token);
    }
    partition
}

/// Rows that nobody compacted yet tell nothing of it: all waits.
fn compaction_from_row(w: &proto::PartitionRow) -> Option<Box<Compaction>> {
    let all = || Compaction { unmerged_bytes: w.bytes, unmerged_extents: w.extents, unrolled_bytes: w.bytes, ..Compaction::default() };
    let state = w.compaction.as_ref().map(compaction_state_from_proto).or_else(|| (w.next > 0).then(all))?;
    Some(Box::new(state))
}

fn object_row(id: SegmentId, object: &Object) -> proto::ObjectRow {
    proto::ObjectRow {
        id: uuid_bytes(id),
        size: object.size,
        live_extents: object.live_extents,
        committed_ms: object.committed_at.as_millis(),
        released_ms: object.released_at.map(Timestamp::as_millis),
        refused: object.refused,
        answer: object.answer.as_deref().map(reply_to_proto),
        key: object.key.as_deref().map(ToOwned::to_owned),
    }
}

fn cursor_row(key: &CursorKey, state: &CursorState) -> proto::CursorRow {
    proto::CursorRow {
        namespace: key.0.to_string(),
        cursor: key.1.to_string(),
        topic: key.2.to_string(),
        topic_id: state.topic.0,
        version: state.version,
        updated_ms: state.updated_at.as_millis(),
        offsets: offsets_to_proto(&state.offsets),
    }
}

fn producer_row(key: &ProducerKey, producer: &Producer) -> proto::ProducerRow {
    let batch = |b: &ProducerBatch| proto::ProducerBatch { sequence: b.sequence, records: b.records, base_offset: b.base.0 };
    proto::ProducerRow {
        topic: key.0.0,
        partition: key.1.0,
        id: key.2.to_string(),
        epoch: producer.epoch,
        next_sequence: producer.next_sequence,
        seen_ms: producer.seen_at.as_millis(),
        batches: producer.batches.iter().map(batch).collect(),
    }
}

fn dedup_row(topic: TopicId, hash: u128, entry: &DedupEntry) -> proto::DedupRow {
    proto::DedupRow {
        topic: topic.0,
        hash: hash_bytes(hash),
        partition: entry.partition.0,
        offset: entry.offset.0,
        expires_ms: entry.expires_at.as_millis(),
    }
}

fn idempotency_row(namespace: &NamespaceName, key: &str, remembered: &Remembered) -> proto::IdempotencyRow {
    let (acks, topic, queue) = match &remembered.reply {
        RememberedReply::Acks(acks) => (acks_to_proto(acks), None, None),
        RememberedReply::Topic(topic) => (Vec::new(), Some(topic_row(topic)), None),
        RememberedReply::Queue(queue) => (Vec::new(), None, Some(queue_to_proto(queue))),
    };
    proto::IdempotencyRow {
        namespace: namespace.to_string(),
        key: key.to_owned(),
        fingerprint: hash_bytes(remembered.fingerprint),
        expires_ms: remembered.expires_at.as_millis(),
        acks,
        topic,
        queue,
    }
}
