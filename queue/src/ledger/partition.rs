//! One partition: its bounds, its recent extents, and how they grow and go.

use std::collections::{BTreeSet, VecDeque};

use super::PartitionKey;
use super::command::{Extent, RetiredExtent, Slice};
use super::compaction::Compaction;
use crate::error::{Error, Result};
use crate::id::{JournalSeq, Offset, PartitionIndex};
use crate::topic::PartitionStatus;

/// The state of a partition.
///
/// Always `retired <= log_start <= next`; the extents from `retired` to `next` follow each other without a gap (L2).
/// Those from `first_recent` on are in memory, the older ones only in the store.
///
/// Most partitions of a large shard are idle: what only a busy one has is apart, so that the others cost little.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Partition {
    pub(crate) log_start: Offset,
    pub(crate) next: Offset,
    /// Extents below were let go of.
    pub(crate) retired: Offset,
    /// Extents below are in the store.
    pub(crate) persisted: Offset,
    /// Extents below were given to a checkpoint, which may still be under way.
    pub(crate) handed: Offset,
    pub(crate) bytes: u64,
    pub(crate) extents: u64,
    /// The topic is gone; the partition goes when its last extent was retired.
    pub(crate) deleted: bool,
    /// There once anything was appended.
    pub(crate) compaction: Option<Box<Compaction>>,
    /// `None` stands for [`Busy::default`], and nothing else does.
    pub(super) busy: Option<Box<Busy>>,
}

/// What an idle partition does without.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Busy {
    fencing_token: Option<u64>,
    /// Extents in memory, oldest first.
    pub(super) recent: VecDeque<Extent>,
    /// The last checkpoint that took extents of it to the store, while some of them are in memory.
    stored_by: JournalSeq,
}

/// Extents in memory, all partitions together.
#[derive(Clone, Debug, Default)]
pub(crate) struct Recents {
    pub(crate) count: usize,
    /// Partitions with extents that are in the store too, those longest without an append first.
    pub(crate) evictable: BTreeSet<(JournalSeq, PartitionKey)>,
}

impl Partition {
    /// One that begins with Parquet files of before, which follow each other, and holds nothing else yet.
    pub(crate) fn taken_back(files: &[Extent]) -> Self {
        let Some(base) = files.first().map(|file| file.base_offset) else { return Self::default() };
        let mut partition = Self { log_start: base, next: base, retired: base, persisted: base, handed: base, ..Self::default() };
        files.iter().for_each(|file| partition.push(*file));
        let next = partition.next;
        let state = partition.compaction.get_or_insert_default();
        (state.settled, state.merged, state.rolled, state.small) = (base, next, next, files.len() as u32);
        state.note_end(next);
        partition
    }

    /// The first offset whose extent is in memory.
    pub fn first_recent(&self) -> Offset {
        self.oldest_recent().map_or(self.next, |extent| extent.base_offset)
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
        self.busy.iter().flat_map(|busy| &busy.recent)
    }

    /// Raised by each swap: who located extents at one generation knows them as they are for as long as it lasts.
    pub(crate) fn generation(&self) -> u64 {
        self.compaction.as_ref().map_or(0, |state| state.generation)
    }

    /// How many extents are in memory.
    pub(crate) fn recent_count(&self) -> usize {
        self.busy.as_ref().map_or(0, |busy| busy.recent.len())
    }

    /// Extents that take the place of stored ones, from the one that holds `from` on.
    pub(crate) fn overlay_from(&self, from: Offset) -> impl Iterator<Item = &Extent> {
        let all = self.compaction.iter().flat_map(|state| state.overlay.values()).map(|(_, extent)| extent);
        all.skip_while(move |extent| extent.end() <= from)
    }

    /// All extents that were not let go of, of which `stored` are those that the store holds below [`Partition::first_recent`]: what
    /// was swapped since the last checkpoint is not in the store yet.
    pub fn extents_with(&self, stored: Vec<Extent>) -> Vec<Extent> {
        let over: Vec<Extent> = self.overlay_from(Offset(0)).copied().collect();
        let is_replaced = |extent: &Extent| {
            let at = over.partition_point(|over| over.base_offset <= extent.base_offset);
            at.checked_sub(1).is_some_and(|at| extent.end() <= over[at].end())
        };
        let mut extents: Vec<Extent> = stored.into_iter().filter(|extent| !is_replaced(extent)).chain(over.iter().copied()).collect();
        extents.sort_by_key(|extent| extent.base_offset);
        extents.extend(self.recent());
        extents
    }

    /// The newest extent, if it is in memory.
    pub(crate) fn newest(&self) -> Option<&Extent> {
        self.busy.as_ref()?.recent.back()
    }

    fn oldest_recent(&self) -> Option<&Extent> {
        self.busy.as_ref()?.recent.front()
    }

    /// Writers with a lower token are shut out.
    pub(crate) fn fencing_token(&self) -> Option<u64> {
        self.busy.as_ref()?.fencing_token
    }

    /// Shuts out writers with a token below this.
    pub(crate) fn fence(&mut self, token: u64) {
        let busy = self.busy.get_or_insert_default();
        busy.fencing_token = busy.fencing_token.max(Some(token));
    }

    /// The last checkpoint that took extents of it to the store, while some of them are in memory.
    pub(crate) fn stored_by(&self) -> JournalSeq {
        self.busy.as_ref().map_or(JournalSeq(0), |busy| busy.stored_by)
    }

    /// A checkpoint took extents of it to the store, up to `end`.
    pub(crate) fn stored(&mut self, end: Offset, by: JournalSeq) {
        self.persisted = self.persisted.max(end);
        if let Some(busy) = self.busy.as_mut().filter(|busy| !busy.recent.is_empty()) {
            busy.stored_by = by;
        }
    }

    /// Without extents in memory a partition is idle.
    pub(super) fn settle(&mut self) {
        if let Some(busy) = &mut self.busy
            && busy.recent.is_empty()
        {
            **busy = Busy { fencing_token: busy.fencing_token, ..Busy::default() };
            if busy.fencing_token.is_none() {
                self.busy = None;
            }
        }
    }

    pub(crate) fn push(&mut self, extent: Extent) {
        assert_eq!(extent.base_offset, self.next, "L2: offsets are dense");
        self.next = extent.end();
        self.bytes += u64::from(extent.length);
        self.extents += 1;
        self.compaction.get_or_insert_default().grew(extent.length, 1, extent.appended_at);
        self.busy.get_or_insert_default().recent.push_back(extent);
    }

    /// Lengthens the newest extent by a slice that follows it in the same object.
    pub(crate) fn grow_last(&mut self, slice: &Slice) {
        if let Some(last) = self.busy.as_mut().and_then(|busy| busy.recent.back_mut()) {
            last.length += slice.length;
            last.records += slice.records;
            last.first_timestamp = last.first_timestamp.min(slice.first_timestamp);
            last.max_timestamp = last.max_timestamp.max(slice.max_timestamp);
            self.next = last.end();
            self.bytes += u64::from(slice.length);
            let at = last.appended_at;
            self.compaction.get_or_insert_default().grew(slice.length, 0, at);
        }
    }

    /// Extents from the one that holds `from` on, as far as they are in memory.
    pub(crate) fn recent_from(&self, from: Offset) -> impl Iterator<Item = &Extent> {
        self.busy.iter().flat_map(move |busy| {
            let begin = busy.recent.partition_point(|extent| extent.end() <= from);
            busy.recent.range(begin..)
        })
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
        let next = self.next;
        if let Some(state) = &mut self.compaction {
            state.shrank(extents, at, next);
        }
        self.forget_while(|extent, _| extent.end() <= at);
        Ok(())
    }

    /// Forgets extents that are in the store, down to the newest `keep`. Returns how many.
    pub(crate) fn evict(&mut self, keep: usize) -> usize {
        let persisted = self.persisted;
        self.forget_while(|extent, count| count > keep && extent.end() <= persisted)
    }

    /// Forgets the oldest extent in memory as long as it is to be, given how many there are. Returns how many.
    fn forget_while(&mut self, goes: impl Fn(&Extent, usize) -> bool) -> usize {
        let before = self.recent_count();
        if let Some(busy) = &mut self.busy {
            while busy.recent.front().is_some_and(|extent| goes(extent, busy.recent.len())) {
                busy.recent.pop_front();
            }
        }
        let forgotten = before - self.recent_count();
        self.settle();
        forgotten
    }

    /// What is told of it.
    pub fn status(&self, partition: PartitionIndex) -> PartitionStatus {
        PartitionStatus { partition, log_start: self.log_start, end: self.next, bytes: self.bytes, extents: self.extents }
    }
}
