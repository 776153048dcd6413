//! Compaction, as far as the ledger knows of it: new extents take the place of old ones that hold the same records, and
//! compactors say what they work on, so that no two do the same.
//!
//! A [`Swap`] is right or refused by what the ledger holds, whoever sends it: claims only save work. They are not journaled and
//! end with the owner's reign.

mod claims;
pub(super) mod codec;
mod query;
mod state;
mod swap;

use std::sync::Arc;
use std::time::Duration;

pub(super) use claims::Claims;
pub(super) use state::Compaction;

use super::{ObjectLevel, RetiredExtent};
use crate::id::{Offset, PartitionIndex, SegmentId, TopicId};
use crate::time::Timestamp;

/// So many Parquet files of a partition that may be merged make it [`Compactable`].
pub const SMALL_FILES: u32 = 4;

/// Puts the extents of one new object in the place of old ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Swap {
    /// The new object: stored, read again, and found to hold the same records. A second swap of it gets the first answer.
    pub object: SegmentId,
    /// Its bytes.
    pub size: u64,
    /// Its kind; never [`ObjectLevel::Segment`].
    pub level: ObjectLevel,
    /// The key of a Parquet file.
    pub key: Option<Arc<str>>,
    /// At most one per partition; of a Parquet file, one. Each is taken or refused by itself.
    pub parts: Vec<SwapPart>,
}

/// What an object holds of one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SwapPart {
    /// The topic.
    pub topic: TopicId,
    /// The partition.
    pub partition: PartitionIndex,
    /// The partition's generation when the old extents were located: another one refuses.
    pub generation: u64,
    /// What goes: extents that follow each other. Merged segments begin where the last ended; Parquet files too, or they take
    /// the place of Parquet files.
    pub old: Vec<RetiredExtent>,
    /// What comes; it covers the same offsets.
    pub new: NewExtent,
    /// Parquet files below this offset will not be merged any more.
    pub settled: Option<Offset>,
    /// When the first record after the old extents was appended, if there was one.
    pub rest_since: Option<Timestamp>,
}

/// An extent whose offsets are those of the extents in whose place it comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewExtent {
    /// Where its bytes begin in the object.
    pub position: u64,
    /// Bytes.
    pub length: u32,
    /// Smallest timestamp of a record.
    pub first_timestamp: Timestamp,
    /// Largest timestamp of a record.
    pub max_timestamp: Timestamp,
    /// When the first of its records was appended.
    pub appended_at: Timestamp,
}

/// What one compactor works on at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Work {
    /// Merging the shard's segments.
    Merge,
    /// The Parquet files of a partition.
    Partition(TopicId, PartitionIndex),
}

/// Says that a compactor works on something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimWork {
    /// Who; drawn anew at each start.
    pub worker: u128,
    /// For how long, unless it is said again.
    pub lease: Duration,
    /// On what.
    pub works: Vec<Work>,
}

/// A claim that lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// On what.
    pub work: Work,
    /// Whose.
    pub worker: u128,
    /// Until when, by the ledger's time.
    pub until: Timestamp,
}

/// What compactors may work on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Compactable {
    /// In the order of their ids.
    pub partitions: Vec<CompactablePartition>,
    /// There are others after the last.
    pub more: bool,
    /// Claims of this shard that last.
    pub claims: Vec<Claim>,
    /// The ledger's time.
    pub now: Timestamp,
}

/// A partition and how far compaction is in it: Parquet files to `rolled`, then merged segments to `merged`, then segments of
/// gateways to `end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompactablePartition {
    /// The topic.
    pub topic: TopicId,
    /// The partition.
    pub partition: PartitionIndex,
    /// Raised by each swap.
    pub generation: u64,
    /// The first offset of the oldest extent.
    pub retired: Offset,
    /// The oldest offset that readers see.
    pub log_start: Offset,
    /// Parquet files below are not merged any more.
    pub settled: Offset,
    /// Everything below lies in Parquet files.
    pub rolled: Offset,
    /// Nothing below lies in segments of gateways.
    pub merged: Offset,
    /// The offset of the next record.
    pub end: Offset,
    /// Bytes from `merged` on.
    pub unmerged_bytes: u64,
    /// Extents from `merged` on.
    pub unmerged_extents: u64,
    /// Bytes from `rolled` on.
    pub unrolled_bytes: u64,
    /// When the oldest of them was appended, or somewhat before; absent: not known, long ago.
    pub unrolled_since: Option<Timestamp>,
    /// Parquet files from `settled` on, about.
    pub small: u32,
}
