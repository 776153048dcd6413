//! How far compaction is in a partition, and the extents it put there since the last checkpoint.

use std::collections::BTreeMap;

use super::super::{Extent, RetiredExtent};
use crate::id::{JournalSeq, Offset};
use crate::time::Timestamp;

/// Always `settled <= rolled <= merged`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Compaction {
    pub(crate) generation: u64,
    pub(crate) settled: Offset,
    pub(crate) rolled: Offset,
    pub(crate) merged: Offset,
    pub(crate) unmerged_bytes: u64,
    pub(crate) unmerged_extents: u64,
    pub(crate) unrolled_bytes: u64,
    pub(crate) unrolled_since: Option<Timestamp>,
    pub(crate) small: u32,
    /// Extents that take the place of stored ones, until a checkpoint has put them into the store. By their first offsets,
    /// each with the entry that brought it; all below the extents in memory.
    pub(crate) overlay: BTreeMap<Offset, (JournalSeq, Extent)>,
    /// Ranges of which the store holds other extents than it should, each with the entry since when.
    pub(crate) replaced: Vec<(JournalSeq, Offset, Offset)>,
}

impl Compaction {
    /// Records were appended.
    pub(crate) fn grew(&mut self, bytes: u32, extents: u64, at: Timestamp) {
        self.unmerged_bytes += u64::from(bytes);
        self.unmerged_extents += extents;
        self.unrolled_bytes += u64::from(bytes);
        self.unrolled_since.get_or_insert(at);
    }

    /// Extents were let go of, up to `at`.
    pub(crate) fn shrank(&mut self, gone: &[RetiredExtent], at: Offset, next: Offset) {
        for extent in gone {
            self.forget(extent);
        }
        self.settled = self.settled.max(at);
        self.rolled = self.rolled.max(at);
        self.merged = self.merged.max(at);
        self.note_end(next);
        while let Some(first) = self.overlay.first_entry().filter(|first| first.get().1.end() <= at) {
            first.remove();
        }
    }

    /// An extent is not to be merged or rolled any more.
    pub(crate) fn forget(&mut self, extent: &RetiredExtent) {
        let bytes = u64::from(extent.length);
        if extent.base_offset >= self.merged {
            self.unmerged_bytes = self.unmerged_bytes.saturating_sub(bytes);
            self.unmerged_extents = self.unmerged_extents.saturating_sub(1);
        }
        if extent.base_offset >= self.rolled {
            self.unrolled_bytes = self.unrolled_bytes.saturating_sub(bytes);
        }
    }

    /// What is rolled to the end has nothing that waits.
    pub(crate) fn note_end(&mut self, next: Offset) {
        if self.rolled >= next {
            self.unrolled_since = None;
            self.unrolled_bytes = 0;
        }
        if self.merged >= next {
            self.unmerged_bytes = 0;
            self.unmerged_extents = 0;
        }
    }

    /// A checkpoint with everything up to this entry is in the store.
    pub(crate) fn stored(&mut self, by: JournalSeq) {
        self.overlay.retain(|_, (since, _)| *since > by);
        self.replaced.retain(|(since, ..)| *since > by);
    }
}
