//! Reads a whole file as an outsider would: every checksum, every record, and their hash.

use bytes::Bytes;

use super::{ChainDigest, ChainHash, ParquetError, ParquetFile, Want};

/// What a file was found to hold.
#[derive(Clone, Debug)]
pub struct ParquetReport {
    /// Its footer.
    pub file: ParquetFile,
    /// Bytes of keys, values and headers.
    pub payload_bytes: u64,
}

/// Decodes all records of `object` and compares their hash with `expected`, or with what the file says of itself. Takes the
/// memory of one row group.
///
/// Errors: [`ParquetError::OtherRecords`] if the file is sound, but another one than expected.
pub fn verify(object: &Bytes, expected: Option<ChainDigest>) -> Result<ParquetReport, ParquetError> {
    let file = ParquetFile::open(object, object.len() as u64)?;
    let mut hash = ChainHash::new();
    let mut payload_bytes = 0;
    let mut records = Vec::new();
    for (index, group) in file.row_groups().iter().enumerate() {
        // In bounds: the footer was found consistent with the file's length.
        let bytes = object.slice(group.bytes.start as usize..group.bytes.end as usize);
        let data = &object[group.data_bytes.start as usize..group.data_bytes.end as usize];
        if group.data_crc.is_some_and(|crc| crc != crc32c::crc32c(data)) {
            return Err(ParquetError::BadRowGroupCrc { first: group.first });
        }
        file.decode(index, &bytes, Want::from(group.first), &mut records)?;
        for record in records.drain(..) {
            hash.update(&record);
            payload_bytes += record.payload_bytes() as u64;
        }
    }
    let rows_end = file.row_groups().last().map_or(0, |group| group.data_bytes.end) as usize;
    let index = &object[rows_end..file.trailer.position as usize];
    if crc32c::crc32c(index) != file.trailer.index_crc {
        return Err(ParquetError::BadIndexCrc);
    }
    let found = hash.digest();
    match [Some(file.hash()), expected].into_iter().flatten().find(|expected| *expected != found) {
        Some(expected) => Err(ParquetError::OtherRecords { found, expected }),
        None => Ok(ParquetReport { file, payload_bytes }),
    }
}
