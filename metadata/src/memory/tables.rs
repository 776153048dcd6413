//! Checkpointed rows in maps.

use std::collections::BTreeMap;

use lakefall_queue::ledger::{Checkpoint, Extent, Row, RowKey, ShardRow};
use lakefall_queue::{Offset, PartitionIndex, Timestamp, TopicId};

use crate::store::ExtentScan;

#[derive(Default)]
pub(super) struct Tables {
    pub(super) shard: Option<ShardRow>,
    rows: BTreeMap<RowKey, Row>,
    extents: BTreeMap<(TopicId, PartitionIndex, Offset), Extent>,
}

impl Tables {
    pub(super) fn rows(&self) -> Vec<Row> {
        self.rows.values().cloned().collect()
    }

    pub(super) fn apply(&mut self, checkpoint: &Checkpoint) {
        for row in &checkpoint.puts {
            if let Some(key) = row.key() {
                self.rows.insert(key, row.clone());
            }
        }
        for key in &checkpoint.deletes {
            self.rows.remove(key);
        }
        for (topic, partition, from, to) in &checkpoint.replaced {
            self.extents.retain(|(t, p, base), _| (t, p) != (topic, partition) || base < from || base >= to);
        }
        for row in &checkpoint.extents {
            if let Some(extent) = row.to_extent() {
                self.extents.insert((TopicId(row.topic), PartitionIndex(row.partition), extent.base_offset), extent);
            }
        }
        for (topic, partition, below) in &checkpoint.retired {
            self.extents.retain(|(t, p, base), _| (t, p) != (topic, partition) || base >= below);
        }
        self.shard = Some(checkpoint.shard);
    }

    pub(super) fn scan(&self, scan: &ExtentScan) -> Vec<Extent> {
        let of = self.of(scan.topic, scan.partition);
        let mut found: Vec<Extent> = of.filter(|e| e.end() > scan.from && e.base_offset < scan.below).copied().collect();
        scan.cut(&mut found);
        found
    }

    pub(super) fn find(&self, topic: TopicId, partition: PartitionIndex, from: Offset, at: Timestamp) -> Option<Extent> {
        self.of(topic, partition).find(|e| e.end() > from && e.max_timestamp >= at).copied()
    }

    fn of(&self, topic: TopicId, partition: PartitionIndex) -> impl Iterator<Item = &Extent> {
        self.extents.range((topic, partition, Offset(0))..=(topic, partition, Offset(u64::MAX))).map(|(_, extent)| extent)
    }
}
