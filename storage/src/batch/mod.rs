//! Kafka RecordBatch v2 (magic 2; Kafka protocol guide "Record Batch", KIP-98, KIP-110): the unit in which records are
//! stored, compressed, checked and served. This module never touches a socket, a file or a clock, and never
//! allocates more than the input or the caller's bound allows.
//!
//! | at | bytes | field |
//! |---:|---:|---|
//! | 0 | 8 | base offset; outside the CRC, so that it can be patched. 0 in a segment |
//! | 8 | 4 | bytes after this field |
//! | 12 | 4 | partition leader epoch, outside the CRC; -1. In a merged segment: milliseconds since the extent's `appended_at` |
//! | 16 | 1 | magic, 2 |
//! | 17 | 4 | CRC32C of everything from `attributes` to the end |
//! | 21 | 2 | attributes: bits 0-2 codec, bit 3 log-append time, bit 4 transactional, bit 5 control |
//! | 23 | 4 | last offset delta |
//! | 27 | 8 | base timestamp: the first record's, in ms |
//! | 35 | 8 | largest timestamp, in ms |
//! | 43 | 8 | producer id, -1 |
//! | 51 | 2 | producer epoch, -1 |
//! | 53 | 4 | base sequence, -1 |
//! | 57 | 4 | record count |
//! | 61 | | records, compressed together |
//!
//! Numbers are big-endian; inside records they are zigzag varints. Two things are Lakefall's own, and invisible to
//! Kafka clients: bit 0 of a *record's* attributes (unused in Kafka) marks a value that is JSON, and
//! [`lakefall_queue::Properties`] are headers named `lakefall.*` (W3C trace context goes under its own names).
//!
//! When a batch was appended is not in it, as the ledger decides that later: all batches of a gateway's extent share the
//! extent's time. An extent of a merged segment has batches of many commits, copied as they are. Each says by how much it was
//! later than the first ([`patch_appended_delta`]), in the one field that neither the checksum covers nor Lakefall has a use for.
//! That the field is sound is what the checksum in the segment's index is for; readers refuse more than a day. Whoever
//! serves batches to Kafka clients writes -1 there.

mod codec;
mod decode;
mod encode;
mod header;
pub(crate) mod properties;
mod varint;

pub use codec::Codec;
pub(crate) use decode::Names;
pub use decode::{DecodeContext, decode};
pub use encode::{BatchEncoder, EncodedBatch};
pub use header::{BatchHeader, Walk, patch_appended_delta, patch_base_offset, walk};

/// Largest sum of a batch's records before compression, in bytes: the largest value (64 MiB) with key, headers and
/// framing. The encoder refuses more and, unless told otherwise, so does the decoder.
pub const MAX_UNCOMPRESSED_BYTES: usize = 68 << 20;

/// Why bytes are not a batch, or records do not fit into one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// The bytes end before the batch does. Fetch more, or treat them as damaged.
    #[error("the batch is cut off")]
    Truncated,
    /// Another format, or not a batch at all.
    #[error("the batch has magic {0}: only 2 is supported")]
    BadMagic(i8),
    /// The bytes were damaged. Fetch them again; never serve them.
    #[error("the batch's checksum does not match: its bytes are damaged")]
    BadCrc,
    /// A codec that Kafka did not define when this was written.
    #[error("the batch's compression codec {0} is unknown")]
    UnknownCompression(u8),
    /// The checksum matches but the content makes no sense: whoever wrote it was wrong.
    #[error("the batch is malformed: {0}")]
    Corrupt(&'static str),
    /// More bytes after decompression than allowed. Nothing beyond the bound was allocated.
    #[error("the batch's records are larger than {limit} bytes")]
    TooLarge {
        /// The bound, in bytes.
        limit: usize,
    },
}
