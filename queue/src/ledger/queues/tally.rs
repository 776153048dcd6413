//! What a queue's messages come to as of a time, counted as they change. Nothing here is stored: it follows from the blocks.

use std::collections::BTreeMap;

use super::super::PartitionKey;

/// Counts over all partitions of a queue.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// Entries available at this time or earlier are ready, the others leased or waiting.
    pub(super) as_of_ms: i64,
    /// Entries that could be leased; of a group only its first one.
    pub(super) ready: u64,
    /// Entries whose lease goes on.
    pub(super) leased: u64,
    /// All entries.
    pub(super) live: u64,
    /// Groups one of whose messages is leased: no other one is, in whatever partition.
    pub(super) locks: BTreeMap<u64, Lock>,
}

/// A group's lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Lock {
    pub(super) partition: PartitionKey,
    pub(super) offset: u64,
    pub(super) until_ms: i64,
}

impl Tally {
    /// Whether a message of the group must wait for another one.
    pub(super) fn is_locked(&self, group: u64, partition: PartitionKey, offset: u64) -> bool {
        let other = |lock: &Lock| lock.until_ms > self.as_of_ms && (lock.partition, lock.offset) != (partition, offset);
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
