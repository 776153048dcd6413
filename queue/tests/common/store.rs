//! A store for checkpoints in memory: what a metadata store does with them, and what it must hold at any time.

use std::collections::BTreeMap;

use lakefall_queue::ledger::proto::ExtentRow;
use lakefall_queue::ledger::{Checkpoint, Ledger, Row, RowKey, ShardRow};
use lakefall_queue::{CursorName, NamespaceName, PartitionIndex, SegmentId, ShardId, TopicId, TopicName};
use uuid::Uuid;

#[derive(Clone, Debug, Default)]
pub(crate) struct Store {
    pub(crate) shard: Option<ShardRow>,
    pub(crate) rows: BTreeMap<RowKey, Row>,
    pub(crate) extents: BTreeMap<(TopicId, PartitionIndex), BTreeMap<u64, ExtentRow>>,
}

impl Store {
    pub(crate) fn write(&mut self, checkpoint: &Checkpoint) {
        self.shard = Some(checkpoint.shard);
        for row in &checkpoint.puts {
            self.rows.insert(key_of(row), row.clone());
        }
        for key in &checkpoint.deletes {
            self.rows.remove(key);
        }
        for (topic, partition, from, to) in &checkpoint.replaced {
            if let Some(of) = self.extents.get_mut(&(*topic, *partition)) {
                of.retain(|base, _| *base < from.0 || *base >= to.0);
            }
        }
        for extent in &checkpoint.extents {
            let of = self.extents.entry((TopicId(extent.topic), PartitionIndex(extent.partition))).or_default();
            of.insert(extent.base_offset, extent.clone());
        }
        for (topic, partition, below) in &checkpoint.retired {
            if let Some(of) = self.extents.get_mut(&(*topic, *partition)) {
                of.retain(|base, _| *base >= below.0);
            }
        }
        self.extents.retain(|_, of| !of.is_empty());
        self.check();
    }

    /// The ledger as a new owner finds it, before it replays the journal's tail.
    pub(crate) fn load(&self, shard: ShardId) -> Option<Ledger> {
        let row = self.shard.as_ref()?;
        Some(Ledger::restore(shard, row, self.rows.values().cloned()).expect("rows that a ledger wrote can be read"))
    }

    /// What holds between a ledger's rows: extents lie dense from `retired` to `next`, and each is counted by its object.
    fn check(&self) {
        let mut counted: BTreeMap<SegmentId, u32> = BTreeMap::new();
        let mut partitions = 0;
        for row in self.rows.values() {
            let Row::Partition(row) = row else { continue };
            let none = BTreeMap::new();
            let extents = self.extents.get(&(TopicId(row.topic), PartitionIndex(row.partition))).unwrap_or(&none);
            partitions += usize::from(!extents.is_empty());
            let (mut at, mut bytes) = (row.retired, 0);
            for extent in extents.values() {
                assert_eq!(extent.base_offset, at, "L2: a gap in the stored extents of {}/{}", row.topic, row.partition);
                at += u64::from(extent.records);
                bytes += u64::from(extent.length);
                *counted.entry(SegmentId(Uuid::from_slice(&extent.object).unwrap())).or_default() += 1;
            }
            assert_eq!(at, row.next, "L2: the stored extents of {}/{} end elsewhere", row.topic, row.partition);
            assert_eq!((bytes, extents.len() as u64), (row.bytes, row.extents), "the sums of {}/{}", row.topic, row.partition);
            assert!(row.retired <= row.log_start && row.log_start <= row.next, "bounds of {}/{}", row.topic, row.partition);
        }
        assert_eq!(partitions, self.extents.len(), "extents without a partition");
        for row in self.rows.values() {
            let Row::Object(row) = row else { continue };
            let live = counted.remove(&SegmentId(Uuid::from_slice(&row.id).unwrap())).unwrap_or(0);
            assert_eq!(row.live_extents, live, "an object counts its extents");
            assert_eq!(row.released_ms.is_some(), live == 0, "an object is released with its last extent");
            assert!(!row.refused || live == 0, "L5: a refused object holds nothing");
        }
        assert!(counted.is_empty(), "extents in objects that are not known: {counted:?}");
    }
}

fn key_of(row: &Row) -> RowKey {
    let hash = |bytes: &[u8]| u128::from_be_bytes(bytes.try_into().unwrap());
    match row {
        Row::Namespace(w) => RowKey::Namespace(NamespaceName::new(&w.name).unwrap()),
        Row::Topic(w) => RowKey::Topic(TopicId(w.id)),
        Row::Partition(w) => RowKey::Partition(TopicId(w.topic), PartitionIndex(w.partition)),
        Row::Object(w) => RowKey::Object(SegmentId(Uuid::from_slice(&w.id).unwrap())),
        Row::Cursor(w) => RowKey::Cursor((
            NamespaceName::new(&w.namespace).unwrap(),
            CursorName::new(&w.cursor).unwrap(),
            TopicName::new(&w.topic).unwrap(),
        )),
        Row::Producer(w) => RowKey::Producer((TopicId(w.topic), PartitionIndex(w.partition), w.id.as_str().into())),
        Row::Dedup(w) => RowKey::Dedup(TopicId(w.topic), hash(&w.hash)),
        Row::Idempotency(w) => RowKey::Idempotency(NamespaceName::new(&w.namespace).unwrap(), w.key.as_str().into()),
        Row::Queue(_) | Row::QueuePartition(_) | Row::QueueBlock(_) | Row::Subject(_) | Row::Schema(_) => row.key().unwrap(),
        Row::Usage(_) | Row::UsageReporter(_) => row.key().unwrap(),
    }
}
