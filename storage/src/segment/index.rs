//! A segment's index and footer as bytes.

use bytes::{BufMut, Bytes, BytesMut};
use lakefall_queue::{PartitionIndex, Timestamp, TopicId};

use super::{ENTRY_LEN, FOOTER_LEN, MARK, SegmentError, check_mark};

/// What a segment holds, sorted by (topic, partition) and without gaps.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SegmentIndex {
    /// One per (topic, partition).
    pub extents: Vec<Extent>,
}

/// The batches of one partition in one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Whose records.
    pub topic: TopicId,
    /// Of which partition.
    pub partition: PartitionIndex,
    /// Where they begin in the object.
    pub position: u64,
    /// Their bytes.
    pub length: u64,
    /// How many records, over all batches.
    pub records: u64,
    /// The first record's timestamp.
    pub first_timestamp: Timestamp,
    /// The largest timestamp.
    pub max_timestamp: Timestamp,
    /// CRC32C of the extent's bytes.
    pub crc32c: u32,
}

impl SegmentIndex {
    /// How many bytes from the end to fetch first: holds the index of over a thousand extents.
    pub const TAIL_BYTES: u64 = 64 << 10;

    /// Index and footer: everything after the last extent.
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(self.extents.len() * ENTRY_LEN + FOOTER_LEN);
        for extent in &self.extents {
            out.put_u64(extent.topic.0);
            out.put_u32(extent.partition.0);
            out.put_u64(extent.position);
            out.put_u64(extent.length);
            out.put_u64(extent.records);
            out.put_i64(extent.first_timestamp.as_millis());
            out.put_i64(extent.max_timestamp.as_millis());
            out.put_u32(extent.crc32c);
        }
        let length = out.len() as u32;
        out.put_u32(length);
        let crc = checksum(&out, &MARK);
        out.put_u32(crc);
        out.put_slice(&MARK);
        out.freeze()
    }

    /// Reads the index from the last bytes of an object that is `object_len` bytes long.
    ///
    /// Errors: [`SegmentError::NeedMore`] if the tail is too short to hold the index.
    pub fn decode(object_tail: &[u8], object_len: u64) -> Result<Self, SegmentError> {
        let shortest = (MARK.len() + FOOTER_LEN) as u64;
        if object_len < shortest || object_tail.len() as u64 > object_len {
            return Err(SegmentError::NotASegment);
        }
        let Some((before, footer)) = object_tail.split_last_chunk::<FOOTER_LEN>() else {
            return Err(SegmentError::NeedMore { needed: FOOTER_LEN as u64 });
        };
        let mut mark = [0; 8];
        mark.copy_from_slice(&footer[8..]);
        check_mark(mark)?;
        let index_len = be_u32(footer, 0) as usize;
        let index_start = (object_len - FOOTER_LEN as u64)
            .checked_sub(index_len as u64)
            .filter(|start| *start >= MARK.len() as u64)
            .ok_or(SegmentError::Corrupt("its index is longer than the segment"))?;
        let Some(index) = before.len().checked_sub(index_len).map(|start| &before[start..]) else {
            return Err(SegmentError::NeedMore { needed: (index_len + FOOTER_LEN) as u64 });
        };
        let mut crc = crc32c::crc32c(index);
        crc = crc32c::crc32c_append(crc, &footer[..4]);
        if crc32c::crc32c_append(crc, &footer[8..]) != be_u32(footer, 4) {
            return Err(SegmentError::BadIndexCrc);
        }
        if !index_len.is_multiple_of(ENTRY_LEN) {
            return Err(SegmentError::Corrupt("its index ends inside an entry"));
        }
        let extents: Vec<Extent> = index.chunks_exact(ENTRY_LEN).map(read_entry).collect();
        check_layout(&extents, index_start)?;
        Ok(Self { extents })
    }
}

/// Extents ascend and fill the segment from its mark to its index.
fn check_layout(extents: &[Extent], index_start: u64) -> Result<(), SegmentError> {
    let sorted = extents.is_sorted_by(|a, b| (a.topic, a.partition) < (b.topic, b.partition));
    if !sorted {
        return Err(SegmentError::Corrupt("its index is not sorted"));
    }
    let end = extents.iter().try_fold(MARK.len() as u64, |at, extent| {
        if extent.position == at && extent.length > 0 { at.checked_add(extent.length) } else { None }
    });
    if end == Some(index_start) { Ok(()) } else { Err(SegmentError::Corrupt("its extents leave gaps or overlap")) }
}

fn checksum(index_and_length: &[u8], mark: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(index_and_length), mark)
}

fn read_entry(entry: &[u8]) -> Extent {
    Extent {
        topic: TopicId(be_u64(entry, 0)),
        partition: PartitionIndex(be_u32(entry, 8)),
        position: be_u64(entry, 12),
        length: be_u64(entry, 20),
        records: be_u64(entry, 28),
        first_timestamp: Timestamp::from_millis(be_u64(entry, 36) as i64),
        max_timestamp: Timestamp::from_millis(be_u64(entry, 44) as i64),
        crc32c: be_u32(entry, 52),
    }
}

fn be_u32(bytes: &[u8], at: usize) -> u32 {
    bytes[at..at + 4].iter().fold(0, |n, byte| (n << 8) | u32::from(*byte))
}

fn be_u64(bytes: &[u8], at: usize) -> u64 {
    bytes[at..at + 8].iter().fold(0, |n, byte| (n << 8) | u64::from(*byte))
}
