//! A segment: one object holding many topics' batches, which can be listed and verified from itself alone. Version 1.
//! This module never trusts a length that it has not checked, and never reads or writes files.
//!
//! | at | bytes | field |
//! |---:|---:|---|
//! | 0 | 8 | mark: `LKFSEG`, then the version (2 bytes) |
//! | 8 | | extents, one after the other, in the order of the index: batches ([`crate::batch`]) with base offset 0 |
//! | | 56 each | index: one entry per extent, sorted by (topic, partition), each pair at most once |
//! | end-16 | 4 | length of the index in bytes |
//! | end-12 | 4 | CRC32C of the index, its length field and the mark at the end |
//! | end-8 | 8 | mark, as at the start |
//!
//! An index entry:
//!
//! | at | bytes | field |
//! |---:|---:|---|
//! | 0 | 8 | topic id |
//! | 8 | 4 | partition |
//! | 12 | 8 | position of the extent in the object |
//! | 20 | 8 | its length in bytes |
//! | 28 | 8 | its record count |
//! | 36 | 8 | its first record's timestamp, in ms |
//! | 44 | 8 | its largest timestamp, in ms |
//! | 52 | 4 | CRC32C of its bytes |
//!
//! A merged segment is one that a compactor made of others' batches: the same bytes, but for the field of each batch that tells
//! when it was appended ([`crate::batch`]).
//!
//! Numbers are big-endian. Readers take extents from the metadata service, not from a segment: what the ledger
//! refused is dead bytes here.

mod build;
mod copy;
mod index;
mod verify;

pub use build::{Segment, SegmentBuilder};
pub use copy::take_over;
pub use index::{Extent, SegmentIndex};
pub use verify::{SegmentReport, verify};

use crate::batch::BatchError;

/// The version that is written, and the only one that is read.
pub const VERSION: u16 = 1;

/// Both ends of a segment.
const MARK: [u8; 8] = *b"LKFSEG\x00\x01";
const MAGIC_LEN: usize = 6;
const ENTRY_LEN: usize = 56;
const FOOTER_LEN: usize = 16;

/// Why bytes are not a segment, or batches do not fit into one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SegmentError {
    /// Not a segment, or one whose end is missing.
    #[error("these bytes are not a whole Lakefall segment")]
    NotASegment,
    /// Written by another version of Lakefall. Read it with that one.
    #[error("the segment has format version {0}: this executable reads version {VERSION}")]
    UnknownVersion(u16),
    /// The bytes given do not reach back to the start of the index. Give at least this many from the end.
    #[error("the last {needed} bytes of the segment are needed")]
    NeedMore {
        /// Bytes needed, counted from the end of the object.
        needed: u64,
    },
    /// The index was damaged.
    #[error("the segment's index is damaged")]
    BadIndexCrc,
    /// The checksums match but the content makes no sense: whoever wrote it was wrong.
    #[error("the segment is malformed: {0}")]
    Corrupt(&'static str),
    /// An extent was damaged.
    #[error("the extent of topic {topic} partition {partition} is damaged")]
    BadExtentCrc {
        /// Its topic.
        topic: lakefall_queue::TopicId,
        /// Its partition.
        partition: lakefall_queue::PartitionIndex,
    },
    /// A batch cannot be read.
    #[error("at byte {position}: {error}")]
    Batch {
        /// Where the batch begins in the object.
        position: u64,
        /// What is wrong with it.
        error: BatchError,
    },
    /// Batches were added out of (topic, partition) order: a defect of the caller.
    #[error("batches must be added in the order of topic and partition")]
    OutOfOrder,
    /// More extents than the format can index.
    #[error("a segment cannot hold more extents")]
    TooManyExtents,
}

/// The checksum of an extent, as in its index entry.
pub fn checksum(extent: &[u8]) -> u32 {
    crc32c::crc32c(extent)
}

fn check_mark(mark: [u8; 8]) -> Result<(), SegmentError> {
    if mark == MARK {
        return Ok(());
    }
    if mark[..MAGIC_LEN] != MARK[..MAGIC_LEN] {
        return Err(SegmentError::NotASegment);
    }
    Err(SegmentError::UnknownVersion(u16::from_be_bytes([mark[6], mark[7]])))
}
