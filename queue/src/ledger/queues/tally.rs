//! What a queue's messages come to as of a time, counted as they change. Nothing here is stored: it follows from the blocks.

use std::collections::{BTreeMap, BTreeSet};

use super::super::PartitionKey;
use super::entry::PRIORITIES;
use crate::id::{PartitionIndex, TopicId};

/// Counts over all partitions of a queue.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    /// Entries available at this time or earlier are ready, the others leased or waiting.
    pub(super) as_of_ms: i64,
    /// Entries that could be leased; of a group only its first one.
    pub(super) ready: u64,
    /// The same, of each priority.
    lanes: [u64; PRIORITIES],
    /// Entries whose lease goes on.
    pub(super) leased: u64,
    /// All entries.
    pub(super) live: u64,
    /// Groups one of whose messages is leased: no other one is, in whatever partition.
    pub(super) locks: BTreeMap<u64, Lock>,
    /// Groups with messages, and the partitions where these are.
    homes: BTreeSet<(u64, PartitionKey)>,
}

/// A group's lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Lock {
    pub(super) partition: PartitionKey,
    pub(super) offset: u64,
    pub(super) until_ms: i64,
}

impl Tally {
    /// So many more entries of a priority could be leased.
    pub(super) fn add_ready(&mut self, priority: u8, count: u64) {
        self.ready += count;
        self.lanes[usize::from(priority) % PRIORITIES] += count;
    }

    /// So many fewer.
    pub(super) fn remove_ready(&mut self, priority: u8, count: u64) {
        self.ready -= count;
        self.lanes[usize::from(priority) % PRIORITIES] -= count;
    }

    /// Whether entries of this priority could be leased.
    pub(super) fn has_ready(&self, priority: u8) -> bool {
        self.lanes[usize::from(priority) % PRIORITIES] > 0
    }

    /// A group has messages in a partition.
    pub(super) fn at_home(&mut self, group: u64, partition: PartitionKey) {
        self.homes.insert((group, partition));
    }

    /// It has none there any more.
    pub(super) fn left_home(&mut self, group: u64, partition: PartitionKey) {
        self.homes.remove(&(group, partition));
    }

    /// Where a group has messages.
    pub(super) fn homes(&self, group: u64) -> impl Iterator<Item = PartitionKey> {
        let (low, high) = (TopicId(0), TopicId(u64::MAX));
        let (low, high) = ((group, (low, PartitionIndex(0))), (group, (high, PartitionIndex(u32::MAX))));
        self.homes.range(low..=high).map(|(_, partition)| *partition)
    }

    /// Whether a message of the group must wait for another one.
    pub(super) fn is_locked(&self, group: u64, partition: PartitionKey, offset: u64) -> bool {
        self.is_locked_at(group, partition, offset, self.as_of_ms)
    }

    /// The same at a later time.
    pub(super) fn is_locked_at(&self, group: u64, partition: PartitionKey, offset: u64, now_ms: i64) -> bool {
        let other = |lock: &Lock| lock.until_ms > now_ms && (lock.partition, lock.offset) != (partition, offset);
        self.locks.get(&group).is_some_and(other)
    }

    pub(super) fn lock(&mut self, group: u64, lock: Lock) {
        // Leases that are over may still be noted in entries: of several, the longest is the one that counts.
        if self
            .locks
            .get(&group)
            .is_none_or(|known| (known.partition, known.offset) == (lock.partition, lock.offset) || known.until_ms <= lock.until_ms)
        {
            self.locks.insert(group, lock);
        }
    }

    pub(super) fn unlock(&mut self, group: u64, partition: PartitionKey, offset: u64) {
        if self.locks.get(&group).is_some_and(|lock| (lock.partition, lock.offset) == (partition, offset)) {
            self.locks.remove(&group);
        }
    }
}
