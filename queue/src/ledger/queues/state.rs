//! A queue as the ledger keeps it: its settings, its partitions, and what follows from them.

use std::collections::{BTreeMap, BTreeSet};

use super::super::{PartitionKey, RowKey};
use super::Grant;
use super::partition::{DueIndex, QueuePartition};
use super::returned::Returned;
use super::stats::Outflow;
use super::tally::Tally;
use crate::id::{PartitionIndex, TopicId};
use crate::queue::Queue;
use crate::time::Timestamp;

/// Messages of a queue that have an entry, at most: beyond it, no more are set apart or leased.
pub(super) const TRACKED_MAX: u64 = 16_777_216;

/// A receive that named itself, and what it got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RememberedReceive {
    pub(super) until: Timestamp,
    pub(super) grants: Vec<Grant>,
}

/// A queue.
#[derive(Clone, Debug)]
pub(crate) struct QueueState {
    /// Without `sources`: their names are the topics'.
    pub(super) about: Queue,
    pub(super) sources: BTreeSet<TopicId>,
    pub(super) acked_total: u64,
    pub(super) dead_total: u64,
    pub(super) receives: BTreeMap<u128, RememberedReceive>,
    pub(super) returned: Returned,
    pub(super) partitions: BTreeMap<PartitionKey, QueuePartition>,
    /// From here on nothing is stored: it follows from the above, or is only told.
    pub(super) tally: Tally,
    pub(super) due: DueIndex,
    /// What was due by then was told to those who wait.
    pub(super) told_ms: i64,
    /// As the ledger's index of wakes has it.
    pub(super) wake_ms: Option<i64>,
    pub(super) outflow: Outflow,
}

impl QueueState {
    pub(super) fn new(about: Queue) -> Self {
        Self {
            about,
            sources: BTreeSet::new(),
            acked_total: 0,
            dead_total: 0,
            receives: BTreeMap::new(),
            returned: Returned::default(),
            partitions: BTreeMap::new(),
            tally: Tally::default(),
            due: DueIndex::new(),
            told_ms: i64::MIN,
            wake_ms: None,
            outflow: Outflow::default(),
        }
    }

    /// Counts everything anew: after it was restored, or partitions came or went.
    pub(super) fn count(&mut self) {
        (self.tally, self.due) = (Tally::default(), DueIndex::new());
        for partition in self.partitions.values_mut() {
            partition.count(&mut self.tally);
        }
    }

    /// What is due at `now` becomes ready.
    pub(super) fn promote(&mut self, now: Timestamp) {
        self.tally.as_of_ms = self.tally.as_of_ms.max(now.as_millis());
        while let Some((at_ms, key, number)) = self.due.first().copied()
            && at_ms <= self.tally.as_of_ms
        {
            self.due.pop_first();
            if let Some(partition) = self.partitions.get_mut(&key) {
                partition.promote(number, &mut self.due, &mut self.tally);
            }
        }
    }

    /// After changes of its messages.
    pub(super) fn flush(&mut self, dirty: &mut BTreeSet<RowKey>) {
        for partition in self.partitions.values_mut() {
            partition.flush(self.about.id, &mut self.due, dirty);
        }
    }

    /// Marks the row of the queue itself.
    pub(super) fn mark(&self, dirty: &mut BTreeSet<RowKey>) {
        dirty.insert(RowKey::Queue(self.about.id));
    }

    /// Marks all its rows.
    pub(super) fn mark_all(&self, dirty: &mut BTreeSet<RowKey>) {
        self.mark(dirty);
        self.partitions.keys().for_each(|key| self.mark_partition(*key, dirty));
    }

    /// Marks all rows of a partition.
    pub(super) fn mark_partition(&self, (topic, index): PartitionKey, dirty: &mut BTreeSet<RowKey>) {
        let id = self.about.id;
        dirty.insert(RowKey::QueuePartition(id, topic, index));
        if let Some(partition) = self.partitions.get(&(topic, index)) {
            dirty.extend(partition.blocks.keys().map(|number| RowKey::QueueBlock(id, topic, index, *number)));
        }
    }

    /// Stops reading a topic.
    pub(super) fn detach(&mut self, topic: TopicId, dirty: &mut BTreeSet<RowKey>) {
        self.sources.remove(&topic);
        // Read again, it begins anew: leases of then would be taken for those of now.
        self.receives.values_mut().for_each(|known| known.grants.retain(|grant| grant.topic != topic));
        self.returned.detach(topic);
        let range = (topic, PartitionIndex(0))..=(topic, PartitionIndex(u32::MAX));
        let keys: Vec<PartitionKey> = self.partitions.range(range).map(|(key, _)| *key).collect();
        for key in keys {
            self.mark_partition(key, dirty);
            self.partitions.remove(&key);
        }
    }

    /// Whether no more may be leased now.
    pub(super) fn is_held_back(&self) -> bool {
        self.in_flight_left() == 0 || self.tally.live >= TRACKED_MAX
    }

    /// How many more may be leased at a time.
    pub(super) fn in_flight_left(&self) -> u64 {
        self.about.config.max_in_flight.map_or(u64::MAX, |most| most.saturating_sub(self.tally.leased))
    }
}
