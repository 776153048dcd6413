//! The end of a file: the mark and the checksums in front of Parquet's own metadata.

use bytes::Bytes;

use super::{ParquetError, VERSION};

const MARK: [u8; 8] = *b"LKFPQT\x00\x01";
const MAGIC_LEN: usize = 6;
/// The mark and two checksums.
const TRAILER_LEN: usize = 16;
/// What ends every Parquet file: the length of its metadata, then [`PARQUET_MARK`].
const END_LEN: usize = 8;
const PARQUET_MARK: &[u8; 4] = b"PAR1";

/// What an end says, after its checksum was found right.
#[derive(Debug)]
pub(super) struct Trailer {
    /// Parquet's metadata, as the library decodes it.
    pub(super) metadata: Bytes,
    /// CRC32C of everything between the last row group and the mark.
    pub(super) index_crc: u32,
    /// Where the mark begins in the file.
    pub(super) position: u64,
}

/// Puts the trailer into a finished Parquet file, whose row groups end at `rows_end`. Nothing in it moves to which anything
/// points.
pub(super) fn insert(file: &mut Vec<u8>, rows_end: usize) -> Result<(), ParquetError> {
    let metadata_at = file.split_last_chunk::<END_LEN>().and_then(|(before, end)| before.len().checked_sub(metadata_len(end)));
    let Some((at, index)) = metadata_at.and_then(|at| Some((at, file.get(rows_end..at)?))) else {
        return Err(ParquetError::Unwritable("the library did not end the file where it says".to_owned()));
    };
    let mut trailer = [0; TRAILER_LEN];
    trailer[..8].copy_from_slice(&MARK);
    trailer[8..12].copy_from_slice(&crc32c::crc32c(index).to_le_bytes());
    let crc = crc32c::crc32c_append(crc32c::crc32c(&trailer[..12]), &file[at..]);
    trailer[12..].copy_from_slice(&crc.to_le_bytes());
    file.splice(at..at, trailer);
    Ok(())
}

/// Reads the end of a file of `file_len` bytes from its last bytes.
pub(super) fn read(tail: &Bytes, file_len: u64) -> Result<Trailer, ParquetError> {
    if file_len < (PARQUET_MARK.len() + TRAILER_LEN + END_LEN) as u64 || tail.len() as u64 > file_len {
        return Err(ParquetError::NotOurs);
    }
    let Some((before, end)) = tail.split_last_chunk::<END_LEN>() else {
        return Err(ParquetError::NeedMore { needed: END_LEN as u64 });
    };
    if !end.ends_with(PARQUET_MARK) {
        return Err(ParquetError::NotOurs);
    }
    let needed = TRAILER_LEN + metadata_len(end);
    let position = (file_len - END_LEN as u64)
        .checked_sub(needed as u64)
        .filter(|at| *at >= PARQUET_MARK.len() as u64)
        .ok_or(ParquetError::NotOurs)?;
    let Some(at) = before.len().checked_sub(needed) else {
        return Err(ParquetError::NeedMore { needed: (needed + END_LEN) as u64 });
    };
    let trailer = &tail[at..at + TRAILER_LEN];
    check_mark(&trailer[..8])?;
    let crc = crc32c::crc32c_append(crc32c::crc32c(&trailer[..12]), &tail[at + TRAILER_LEN..]);
    if crc != le_u32(&trailer[12..]) {
        return Err(ParquetError::BadFooterCrc);
    }
    let metadata = tail.slice(at + TRAILER_LEN..tail.len() - END_LEN);
    Ok(Trailer { metadata, index_crc: le_u32(&trailer[8..12]), position })
}

fn check_mark(mark: &[u8]) -> Result<(), ParquetError> {
    if mark == MARK {
        return Ok(());
    }
    if mark[..MAGIC_LEN] != MARK[..MAGIC_LEN] {
        return Err(ParquetError::NotOurs);
    }
    let version = u16::from_be_bytes([mark[6], mark[7]]);
    debug_assert_ne!(version, VERSION);
    Err(ParquetError::UnknownVersion(version))
}

fn metadata_len(end: &[u8; END_LEN]) -> usize {
    le_u32(&end[..4]) as usize
}

fn le_u32(bytes: &[u8]) -> u32 {
    bytes.iter().rev().fold(0, |number, byte| (number << 8) | u32::from(*byte))
}
