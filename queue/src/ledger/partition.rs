//! One partition: its bounds, its recent extents, and how they grow and go.

use std::collections::{BTreeSet, VecDeque};

use super::PartitionKey;
use super::command::{Extent, RetiredExtent, Slice};
use crate::error::{Error, Result};
use crate::id::{JournalSeq, Offset, PartitionIndex};
use crate::topic::PartitionStatus;

/// The state of a partition.
///
/// Always `retired <= log_start <= next`; the extents from `retired` to `next` follow each other without a gap (L2).
/// Those from `first_recent` on are in memory, the older ones only in the store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Partition {
    pub(crate) log_start: Offset,
    pub(crate) next: Offset,
    /// Extents below were let go of.
    pub(crate) retired: Offset,
    /// Extents below are in the store.
    pub(crate) persisted: Offset,
    pub(crate) fencing_token: Option<u64>,
    pub(crate) bytes: u64,
    pub(crate) extents: u64,
    /// The topic is gone; the partition goes when its last extent was retired.
    pub(crate) deleted: bool,
    pub(crate) recent: VecDeque<Extent>,
    /// The last checkpoint that took extents of it to the store.
    pub(crate) stored_by: JournalSeq,
}

/// Extents in memory, all partitions together.
#[derive(Debug, Default)]
pub(crate) struct Recents {
    pub(crate) count: usize,
    /// Partitions with extents that are in the store too, those longest without an append first.
    pub(crate) evictable: BTreeSet<(JournalSeq, PartitionKey)>,
}

impl Partition {
    /// The first offset whose extent is in memory.
    pub fn first_recent(&self) -> Offset {
        self.recent.front().map_or(self.next, |extent| extent.base_offset)
    }

    /// The offset of the next record.
    pub fn end(&self) -> Offset {
        self.next
    }

    /// The oldest offset that readers see.
    pub fn log_start(&self) -> Offset {
        self.log_start
    }

    /// The first offset of the oldest extent that was not let go of.
    pub fn retired(&self) -> Offset {
        self.retired
    }

    /// Extents in memory, oldest first.
    pub fn recent(&self) -> impl Iterator<Item = &Extent> {
        self.recent.iter()
    }

    pub(crate) fn push(&mut self, extent: Extent) {
        assert_eq!(extent.base_offset, self.next, "L2: offsets are dense");
        self.next = extent.end();
        self.bytes += u64::from(extent.length);
        self.extents += 1;
        self.recent.push_back(extent);
    }

    /// Lengthens the newest extent by a slice that follows it in the same object.
    pub(crate) fn grow_last(&mut self, slice: &Slice) {
        if let Some(last) = self.recent.back_mut() {
            last.length += slice.length;
            last.records += slice.records;
            last.first_timestamp = last.first_timestamp.min(slice.first_timestamp);
            last.max_timestamp = last.max_timestamp.max(slice.max_timestamp);
            self.next = last.end();
            self.bytes += u64::from(slice.length);
        }
    }

    /// Extents from the one that holds `from` on, as far as they are in memory.
    pub(crate) fn recent_from(&self, from: Offset) -> impl Iterator<Item = &Extent> {
        let begin = self.recent.partition_point(|extent| extent.end() <= from);
        self.recent.range(begin..)
    }

    /// Lets go of the oldest extents, which must be named in order and lie wholly below the log start.
    pub(crate) fn retire(&mut self, extents: &[RetiredExtent]) -> Result<()> {
        let mut at = self.retired;
        for extent in extents {
            let end = at.plus(u64::from(extent.records));
            if extent.base_offset != at || end > self.log_start {
                return Err(Error::Internal(format!(
                    "extent {} cannot be retired: the next one is {at}, the log start {}",
                    extent.base_offset, self.log_start
                )));
            }
            at = end;
        }
        for extent in extents {
            self.bytes = self.bytes.saturating_sub(u64::from(extent.length));
            self.extents = self.extents.saturating_sub(1);
        }
        self.retired = at;
        self.persisted = self.persisted.max(at);
        while self.recent.front().is_some_and(|extent| extent.end() <= at) {
            self.recent.pop_front();
        }
        Ok(())
    }

    /// Forgets extents that are in the store, down to the newest `keep`. Returns how many.
    pub(crate) fn evict(&mut self, keep: usize) -> usize {
        let before = self.recent.len();
        while self.recent.len() > keep && self.recent.front().is_some_and(|extent| extent.end() <= self.persisted) {
            self.recent.pop_front();
        }
        before - self.recent.len()
    }

    /// What is told of it.
    pub fn status(&self, partition: PartitionIndex) -> PartitionStatus {
        PartitionStatus { partition, log_start: self.log_start, end: self.next, bytes: self.bytes, extents: self.extents }
    }
}
