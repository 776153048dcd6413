//! Parquet files: the records of one partition, of consecutive offsets, as columns. Readers of Lakefall get exactly the
//! records back that were appended; whoever has another reader of Parquet sees an ordinary table. Version 1. This module
//! never reads or writes files, and never takes damaged bytes for good.
//!
//! | column | type | encoding |
//! |---|---|---|
//! | `partition` | int32 | dictionary |
//! | `offset` | int64 | delta |
//! | `timestamp` | timestamp(ms, UTC) | delta |
//! | `appended_at` | timestamp(ms, UTC) | delta |
//! | `key` | binary, nullable | dictionary, falls back to plain; bloom filter |
//! | `value` | binary, nullable | lengths as deltas, then the bytes |
//! | `headers` | list of struct (`name` string, `value` binary, nullable) | dictionary |
//! | `json` | boolean: the value is one JSON text | |
//! | `data` | struct, nullable, optional: the value's fields as columns of their own ([`TypedColumns`]) | dictionary |
//!
//! Properties are headers, as in a batch ([`crate::batch`]), and stand before the others. Rows are sorted by offset. In a
//! file of a topic of which only the last record of each key is kept, offsets may be missing.
//! Everything is compressed with zstd. A row group ends after 65,536 records, or when keys, values and headers reach
//! 16 MiB; without `data`, the columns of a row group are one range of the file.
//!
//! The library that writes Parquet leaves the format's page checksums out. What stands instead covers every byte that is
//! decoded, page headers too, and is checked before a decoder sees it. The file's end:
//!
//! | at | bytes | field |
//! |---:|---:|---|
//! | | | bloom filters and page indexes, for other readers |
//! | m-16 | 8 | mark: `LKFPQT`, then the version (2 bytes) |
//! | m-8 | 4 | CRC32C of everything between the last row group and the mark |
//! | m-4 | 4 | CRC32C of the mark, the field before, and everything from m to the end |
//! | m | | Parquet's file metadata |
//! | end-8 | 8 | its length (little-endian) and `PAR1`, as in every Parquet file |
//!
//! Parquet allows bytes that nothing points at. The file metadata's key-value pairs:
//!
//! | key | value |
//! |---|---|
//! | `lakefall.format` | `1` |
//! | `lakefall.topic` | topic id |
//! | `lakefall.topic_created_ms` | when the topic was created (since 1970): tells it from one of the same id in a ledger that was lost; optional |
//! | `lakefall.partition` | partition |
//! | `lakefall.first_offset`, `lakefall.last_offset` | offsets |
//! | `lakefall.records` | their count; less than the offsets' span where some are missing |
//! | `lakefall.hash` | [`ChainHash`] of all records, 32 hexadecimal digits |
//! | `lakefall.crc32c` | CRC32C of each row group's bytes without `data`, 8 hexadecimal digits each, with commas between |
//! | `lakefall.crc32c.data` | the same of `data`, if there is any |
//! | `lakefall.crc32c.columns` | the same of each column of each row group, so that a few of them can be read alone; optional |

mod columns;
mod file;
mod footer;
mod gather;
mod guard;
mod hash;
mod infer;
mod json;
mod pages;
mod read;
mod schema;
mod shape;
mod trailer;
mod typed;
mod verify;
mod write;

pub use arrow_schema::Schema as ColumnSchema;
pub use columns::{Bound, Bounds, ColumnBatches, ColumnReader};
pub use file::{ParquetFile, RowGroup};
pub use hash::{ChainDigest, ChainHash, key_hash};
pub use infer::{Inference, MOST_COLUMNS, infer_json};
pub use read::Want;
pub use typed::{TypedColumns, ValuesAsJson};
pub use verify::{ParquetReport, Verification, verify};
pub use write::{Options, ParquetWriter, Written};

use lakefall_queue::Offset;

use crate::batch::MAX_UNCOMPRESSED_BYTES;

/// The version that is written, and the only one that is read.
pub const VERSION: u16 = 1;

/// A row group ends with the record that brings its keys, values and headers to this many bytes.
pub const ROW_GROUP_BYTES: usize = 16 << 20;

/// Most records of a row group.
pub const ROW_GROUP_RECORDS: usize = 65_536;

/// Most bytes that a row group's records may take when decoded: a full group, the largest record, and the framing.
/// A file that needs more was not written by a [`ParquetWriter`], and is refused before anything is allocated.
const MAX_GROUP_BYTES: usize = ROW_GROUP_BYTES + MAX_UNCOMPRESSED_BYTES + (12 << 20);

/// Why bytes are not a Parquet file of Lakefall, or records do not fit into one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParquetError {
    /// Not a Parquet file, one of somebody else, or one whose end is missing.
    #[error("these bytes are not a whole Parquet file of Lakefall")]
    NotOurs,
    /// Written by another version of Lakefall. Read it with that one.
    #[error("the Parquet file has format version {0}: this executable reads version {VERSION}")]
    UnknownVersion(u16),
    /// The bytes given do not reach back to the start of the footer. Give at least this many from the end.
    #[error("the last {needed} bytes of the Parquet file are needed")]
    NeedMore {
        /// Bytes needed, counted from the end of the object.
        needed: u64,
    },
    /// The footer was damaged. Fetch it again.
    #[error("the Parquet file's footer is damaged")]
    BadFooterCrc,
    /// A row group was damaged, or other bytes were given. Fetch them again; never serve them.
    #[error("the row group of the Parquet file that begins at offset {first} is damaged")]
    BadRowGroupCrc {
        /// The row group's first offset.
        first: Offset,
    },
    /// The page indexes were damaged: no reader of Lakefall needs them, others may.
    #[error("the Parquet file's page indexes are damaged")]
    BadIndexCrc,
    /// The checksums match but the content makes no sense: whoever wrote it was wrong.
    #[error("the Parquet file is malformed: {0}")]
    Corrupt(String),
    /// The file is sound, and holds other records than expected: never put it in the place of anything.
    #[error("the Parquet file holds other records than those that it was made of: hash {found}, expected {expected}")]
    OtherRecords {
        /// Of the records in the file.
        found: ChainDigest,
        /// What they should have.
        expected: ChainDigest,
    },
    /// Records were pushed that do not follow each other, or are of another partition: a defect of the caller.
    #[error("a record at offset {found} does not follow offset {last} of the same partition")]
    OutOfOrder {
        /// The last record taken.
        last: Offset,
        /// The one refused.
        found: Offset,
    },
    /// The file cannot be written: a record larger than every limit, or no record at all.
    #[error("the records cannot be written as Parquet: {0}")]
    Unwritable(String),
}

/// Anything that a decoder of the library says: what passed the checksums was written wrongly.
fn corrupt(error: impl std::fmt::Display) -> ParquetError {
    ParquetError::Corrupt(error.to_string())
}
