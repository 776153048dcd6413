//! The 61 bytes in front of a batch's records, and how to step from batch to batch. Reads no record.

use std::ops::Range;

use lakefall_queue::{Offset, Timestamp};

use super::{BatchError, Codec};

/// The partition leader epoch.
const EPOCH_AT: usize = 12;
/// Batches that lie in one extent of a merged segment are of one day.
const MAX_DELTA_MS: i32 = 86_400_000;
pub(super) const CRC_AT: usize = 17;
pub(super) const ATTRIBUTES_AT: usize = 21;
/// The length field counts from its own end.
pub(super) const LENGTH_END: usize = 12;
const LOG_APPEND_TIME: u16 = 1 << 3;
const CONTROL: u16 = 1 << 5;

/// What a batch says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchHeader {
    /// The batch's size with this header, in bytes.
    pub total_len: usize,
    /// As it stands in the bytes: 0 in a segment, since the ledger knows better.
    pub base_offset: Offset,
    /// How many records; their offsets span `last_offset_delta + 1`.
    pub records: u32,
    /// The last record's distance from the base offset.
    pub last_offset_delta: u32,
    /// The partition leader epoch, not covered by the checksum: nothing but in a merged segment.
    pub leader_epoch: i32,
    /// How the records are compressed.
    pub compression: Codec,
    /// CRC32C of everything from the attributes to the end.
    pub crc: u32,
    /// What record timestamps are relative to: the first record's own.
    pub base_timestamp: Timestamp,
    /// The largest timestamp of the batch.
    pub max_timestamp: Timestamp,
    /// All records carry `max_timestamp` (Kafka's LogAppendTime).
    pub log_append_time: bool,
    /// A transaction marker of Kafka's, not data.
    pub control: bool,
}

impl BatchHeader {
    /// Bytes in front of the records.
    pub const LEN: usize = 61;

    /// Reads a header. The batch itself need not be there to its end; the checksum is not verified.
    pub fn parse(bytes: &[u8]) -> Result<Self, BatchError> {
        let header: &[u8; Self::LEN] = bytes.first_chunk().ok_or(BatchError::Truncated)?;
        let magic = header[16] as i8;
        if magic != 2 {
            return Err(BatchError::BadMagic(magic));
        }
        let length = usize::try_from(i32::from_be_bytes(field(header, 8)))
            .ok()
            .filter(|length| *length >= Self::LEN - LENGTH_END)
            .ok_or(BatchError::Corrupt("its length is shorter than its header"))?;
        let attributes = u16::from_be_bytes(field(header, ATTRIBUTES_AT));
        let unsigned = |at, what| u32::try_from(i32::from_be_bytes(field(header, at))).map_err(|_| BatchError::Corrupt(what));
        let parsed = Self {
            leader_epoch: i32::from_be_bytes(field(header, EPOCH_AT)),
            total_len: length + LENGTH_END,
            base_offset: u64::try_from(i64::from_be_bytes(field(header, 0)))
                .map(Offset)
                .map_err(|_| BatchError::Corrupt("its base offset is negative"))?,
            records: unsigned(57, "its record count is negative")?,
            last_offset_delta: unsigned(23, "its last offset delta is negative")?,
            compression: Codec::from_attributes(attributes)?,
            crc: u32::from_be_bytes(field(header, CRC_AT)),
            base_timestamp: Timestamp::from_millis(i64::from_be_bytes(field(header, 27))),
            max_timestamp: Timestamp::from_millis(i64::from_be_bytes(field(header, 35))),
            log_append_time: attributes & LOG_APPEND_TIME != 0,
            control: attributes & CONTROL != 0,
        };
        if u64::from(parsed.records) > u64::from(parsed.last_offset_delta) + 1 {
            return Err(BatchError::Corrupt("it has more records than offsets"));
        }
        Ok(parsed)
    }

    /// In a merged segment, by how many milliseconds the batch was appended after the first one of its extent.
    pub fn appended_delta_ms(&self) -> Result<u32, BatchError> {
        let delta = (0..=MAX_DELTA_MS).contains(&self.leader_epoch).then_some(self.leader_epoch.unsigned_abs());
        delta.ok_or(BatchError::Corrupt("it was not appended on the day of its extent"))
    }

    /// Whether `batch`, which begins with this header, is whole and undamaged.
    pub fn verify(&self, batch: &[u8]) -> Result<(), BatchError> {
        let checked = batch.get(ATTRIBUTES_AT..self.total_len).ok_or(BatchError::Truncated)?;
        if crc32c::crc32c(checked) == self.crc { Ok(()) } else { Err(BatchError::BadCrc) }
    }
}

fn field<const N: usize>(header: &[u8; BatchHeader::LEN], at: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&header[at..at + N]);
    out
}

/// Writes the base offset into a batch; the checksum stays valid.
pub fn patch_base_offset(batch: &mut [u8], base: Offset) -> Result<(), BatchError> {
    let slot = batch.first_chunk_mut::<8>().ok_or(BatchError::Truncated)?;
    *slot = base.0.to_be_bytes();
    Ok(())
}

/// Writes by how much a batch was appended after the first batch of its extent; the checksum stays valid.
///
/// Errors: [`BatchError::Corrupt`] beyond a day.
pub fn patch_appended_delta(batch: &mut [u8], millis: u32) -> Result<(), BatchError> {
    let delta = i32::try_from(millis).ok().filter(|delta| *delta <= MAX_DELTA_MS);
    let delta = delta.ok_or(BatchError::Corrupt("it was not appended on the day of its extent"))?;
    let slot = batch.get_mut(EPOCH_AT..EPOCH_AT + 4).ok_or(BatchError::Truncated)?;
    slot.copy_from_slice(&delta.to_be_bytes());
    Ok(())
}

/// Steps through batches that lie one after the other, each with its place in `bytes`. Ends after the first error.
pub fn walk(bytes: &[u8]) -> Walk<'_> {
    Walk { bytes, at: 0 }
}

/// See [`walk`].
#[derive(Clone, Debug)]
pub struct Walk<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Iterator for Walk<'_> {
    type Item = Result<(BatchHeader, Range<usize>), BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        let rest = &self.bytes[self.at..];
        if rest.is_empty() {
            return None;
        }
        let found =
            BatchHeader::parse(rest).and_then(|header| if header.total_len > rest.len() { Err(BatchError::Truncated) } else { Ok(header) });
        let start = self.at;
        self.at = match &found {
            Ok(header) => start + header.total_len,
            Err(_) => self.bytes.len(),
        };
        Some(found.map(|header| (header, start..start + header.total_len)))
    }
}
