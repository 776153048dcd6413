//! Reads a whole file as an outsider would: every checksum, every record, and their hash.

use std::ops::Range;

use bytes::Bytes;
use lakefall_queue::turn;

use super::{ChainDigest, ChainHash, ParquetError, ParquetFile, Want};

/// What a file was found to hold.
#[derive(Clone, Debug)]
pub struct ParquetReport {
    /// Its footer.
    pub file: ParquetFile,
    /// Bytes of keys, values and headers.
    pub payload_bytes: u64,
}

/// Reads a file piece by piece: takes the memory of a piece, and of the records of one row group.
pub struct Verification {
    file: ParquetFile,
    hash: ChainHash,
    payload_bytes: u64,
    /// The row group that comes next.
    next: usize,
}

impl Verification {
    /// Of the file with this footer, from its first row group on.
    pub fn new(file: ParquetFile) -> Self {
        Self { file, hash: ChainHash::new(), payload_bytes: 0, next: 0 }
    }

    /// The bytes of the piece that comes after `taken` more row groups, and how many row groups it has: as many as go into `most`
    /// bytes, at least one. `None` behind the last.
    pub fn piece(&self, taken: usize, most: u64) -> Option<(Range<u64>, usize)> {
        let groups = self.file.row_groups().get(self.next + taken..).filter(|groups| !groups.is_empty())?;
        let start = groups[0].bytes.start;
        let count = groups.iter().take_while(|group| group.data_bytes.end - start <= most).count().max(1);
        Some((start..groups[count - 1].data_bytes.end, count))
    }

    /// The bytes behind the row groups that a checksum of their own covers; for [`Self::finish`].
    pub fn index(&self) -> Range<u64> {
        let rows_end = self.file.row_groups().last().map_or(0, |group| group.data_bytes.end);
        rows_end..self.file.trailer.position
    }

    /// Checks the next `count` row groups, whose bytes these are.
    pub fn take(&mut self, piece: &Bytes, count: usize) -> Result<(), ParquetError> {
        let groups = self.file.row_groups();
        let taken = &groups[self.next..groups.len().min(self.next + count)];
        let start = taken.first().map_or(0, |group| group.bytes.start);
        let mut records = Vec::new();
        for (index, group) in (self.next..).zip(taken) {
            let within = |range: &Range<u64>| Some(usize::try_from(range.start - start).ok()?..usize::try_from(range.end - start).ok()?);
            let own = within(&group.bytes).filter(|own| own.end <= piece.len());
            let data = within(&group.data_bytes).and_then(|data| piece.get(data));
            let (Some(own), Some(data)) = (own, data) else { return Err(ParquetError::BadRowGroupCrc { first: group.first }) };
            if group.data_crc.is_some_and(|crc| crc != crc32c::crc32c(data)) {
                return Err(ParquetError::BadRowGroupCrc { first: group.first });
            }
            self.file.decode(index, &piece.slice(own), Want::from(group.first), &mut records)?;
            for record in records.drain(..) {
                turn::step(record.payload_bytes());
                self.hash.update(&record);
                self.payload_bytes += record.payload_bytes() as u64;
            }
        }
        self.next += taken.len();
        Ok(())
    }

    /// Compares the hash of all records with `expected` and with what the file says of itself.
    ///
    /// Errors: [`ParquetError::OtherRecords`] if the file is sound, but another one than expected.
    pub fn finish(self, index: &[u8], expected: Option<ChainDigest>) -> Result<ParquetReport, ParquetError> {
        let Self { file, hash, payload_bytes, .. } = self;
        if crc32c::crc32c(index) != file.trailer.index_crc {
            return Err(ParquetError::BadIndexCrc);
        }
        let found = hash.digest();
        match [Some(file.hash()), expected].into_iter().flatten().find(|expected| *expected != found) {
            Some(expected) => Err(ParquetError::OtherRecords { found, expected }),
            None => Ok(ParquetReport { file, payload_bytes }),
        }
    }
}

/// Decodes all records of `object`, which is in memory, and compares their hash with what the file says of itself, and with `expected`.
///
/// Errors: as [`Verification::finish`].
pub fn verify(object: &Bytes, expected: Option<ChainDigest>) -> Result<ParquetReport, ParquetError> {
    let mut reading = Verification::new(ParquetFile::open(object, object.len() as u64)?);
    // In bounds: the footer was found consistent with the file's length.
    let slice = |range: Range<u64>| object.slice(range.start as usize..range.end as usize);
    while let Some((range, count)) = reading.piece(0, 0) {
        reading.take(&slice(range), count)?;
    }
    let index = slice(reading.index());
    reading.finish(&index, expected)
}
