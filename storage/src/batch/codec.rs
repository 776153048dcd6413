//! The compression codecs of record batches. Output is bounded by the caller before it is allocated.

use std::cell::RefCell;
use std::io::Read;

use bytes::Bytes;
use lakefall_queue::topic::Compression;
use lz4_flex::frame::{BlockMode, BlockSize, FrameDecoder, FrameEncoder, FrameInfo};

use super::BatchError;

/// How a batch's records are compressed. All can be read; Lakefall writes none, LZ4 and Zstandard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Codec {
    /// Not at all.
    None,
    /// RFC 1952.
    Gzip,
    /// Raw Snappy, or in the "xerial" framing of Java clients.
    Snappy,
    /// LZ4 frames.
    Lz4,
    /// RFC 8878.
    Zstd,
}

impl From<Compression> for Codec {
    fn from(compression: Compression) -> Self {
        match compression {
            Compression::None => Self::None,
            Compression::Lz4 => Self::Lz4,
            Compression::Zstd => Self::Zstd,
        }
    }
}

/// Trades size for time; level 1 is what the produce path can afford on its cores.
const ZSTD_LEVEL: i32 = 1;
/// A thread keeps its output buffer for the next batch up to this size, so that a rare large one is not held for ever.
const SCRATCH_KEEP_BYTES: usize = 4 << 20;

#[derive(Default)]
struct Scratch {
    compressor: Option<zstd::bulk::Compressor<'static>>,
    decompressor: Option<zstd::bulk::Decompressor<'static>>,
    out: Vec<u8>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

impl Codec {
    pub(super) fn from_attributes(attributes: u16) -> Result<Self, BatchError> {
        Ok(match attributes & 7 {
            0 => Self::None,
            1 => Self::Gzip,
            2 => Self::Snappy,
            3 => Self::Lz4,
            4 => Self::Zstd,
            other => return Err(BatchError::UnknownCompression(other as u8)),
        })
    }

    pub(super) fn attributes(self) -> u16 {
        match self {
            Self::None => 0,
            Self::Gzip => 1,
            Self::Snappy => 2,
            Self::Lz4 => 3,
            Self::Zstd => 4,
        }
    }
}

/// Compresses `records` behind `prefix` bytes left free, in an exactly sized buffer. `None` where that would not
/// make them smaller, or fails: then they are stored as they are.
pub(super) fn compress(compression: Compression, records: &[u8], prefix: usize) -> Option<Vec<u8>> {
    SCRATCH.with_borrow_mut(|scratch| {
        let mut out = std::mem::take(&mut scratch.out);
        out.clear();
        let written = match compression {
            Compression::None => None,
            Compression::Lz4 => compress_lz4(records, &mut out),
            Compression::Zstd => compress_zstd(&mut scratch.compressor, records, &mut out),
        };
        let exact = written.filter(|()| out.len() < records.len()).map(|()| {
            let mut exact = Vec::with_capacity(prefix + out.len());
            exact.resize(prefix, 0);
            exact.extend_from_slice(&out);
            exact
        });
        if out.capacity() <= SCRATCH_KEEP_BYTES {
            scratch.out = out;
        }
        exact
    })
}

fn compress_zstd(slot: &mut Option<zstd::bulk::Compressor<'static>>, records: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let compressor = match slot {
        Some(compressor) => compressor,
        None => slot.insert(zstd::bulk::Compressor::new(ZSTD_LEVEL).ok()?),
    };
    out.reserve(zstd::zstd_safe::compress_bound(records.len()));
    compressor.compress_to_buffer(records, out).ok().map(|_| ())
}

fn compress_lz4(records: &[u8], out: &mut Vec<u8>) -> Option<()> {
    // The Java client reads only independent blocks.
    let info = FrameInfo::new().block_mode(BlockMode::Independent).block_size(BlockSize::Max64KB);
    let mut encoder = FrameEncoder::with_frame_info(info, out);
    std::io::Write::write_all(&mut encoder, records).ok()?;
    encoder.finish().ok().map(|_| ())
}

/// Decompresses into one buffer of at most `limit` bytes. An uncompressed input is passed on uncopied.
pub(super) fn decompress(codec: Codec, input: Bytes, limit: usize) -> Result<Bytes, BatchError> {
    let out = match codec {
        Codec::None if input.len() > limit => return Err(BatchError::TooLarge { limit }),
        Codec::None => return Ok(input),
        Codec::Gzip => read_bounded(flate2::read::MultiGzDecoder::new(&*input), limit)?,
        Codec::Snappy => decompress_snappy(&input, limit)?,
        Codec::Lz4 => read_bounded(FrameDecoder::new(&*input), limit)?,
        Codec::Zstd => decompress_zstd(&input, limit)?,
    };
    Ok(Bytes::from(out))
}

fn read_bounded(reader: impl Read, limit: usize) -> Result<Vec<u8>, BatchError> {
    let mut out = Vec::new();
    // One byte beyond the limit tells "exactly the limit" from "more".
    let read = reader.take(limit as u64 + 1).read_to_end(&mut out);
    if out.len() > limit {
        return Err(BatchError::TooLarge { limit });
    }
    read.map_err(|_| BatchError::Corrupt("its records cannot be decompressed"))?;
    Ok(out)
}

fn decompress_zstd(input: &[u8], limit: usize) -> Result<Vec<u8>, BatchError> {
    let declared = zstd::zstd_safe::get_frame_content_size(input).ok().flatten();
    if declared.is_some_and(|size| size > limit as u64) {
        return Err(BatchError::TooLarge { limit });
    }
    if let Some(size) = declared {
        let whole = SCRATCH.with_borrow_mut(|scratch| {
            let decompressor = match &mut scratch.decompressor {
                Some(decompressor) => decompressor,
                slot => slot.insert(zstd::bulk::Decompressor::new().ok()?),
            };
            decompressor.decompress(input, size as usize).ok()
        });
        if let Some(out) = whole {
            return Ok(out);
        }
    }
    // Streaming writers declare no size, and more than one frame may follow the first.
    let reader = zstd::stream::read::Decoder::with_buffer(input).map_err(|_| BatchError::Corrupt("its records cannot be decompressed"))?;
    read_bounded(reader, limit)
}

/// snappy-java's stream header: magic, then version and compatible version, four bytes each.
const XERIAL_MAGIC: &[u8] = b"\x82SNAPPY\0";
const XERIAL_HEADER: usize = 16;

fn decompress_snappy(input: &[u8], limit: usize) -> Result<Vec<u8>, BatchError> {
    let mut out = Vec::new();
    if !input.starts_with(XERIAL_MAGIC) {
        append_snappy(input, limit, &mut out)?;
        return Ok(out);
    }
    let mut rest = input.get(XERIAL_HEADER..).ok_or(BatchError::Truncated)?;
    while !rest.is_empty() {
        let (length, after) = rest.split_first_chunk::<4>().ok_or(BatchError::Truncated)?;
        let length = u32::from_be_bytes(*length) as usize;
        let (block, after) = after.split_at_checked(length).ok_or(BatchError::Truncated)?;
        append_snappy(block, limit, &mut out)?;
        rest = after;
    }
    Ok(out)
}

fn append_snappy(block: &[u8], limit: usize, out: &mut Vec<u8>) -> Result<(), BatchError> {
    const BAD: BatchError = BatchError::Corrupt("its records cannot be decompressed");
    let start = out.len();
    let length = snap::raw::decompress_len(block).map_err(|_| BAD)?;
    if length > limit - start {
        return Err(BatchError::TooLarge { limit });
    }
    out.resize(start + length, 0);
    let written = snap::raw::Decoder::new().decompress(block, &mut out[start..]).map_err(|_| BAD)?;
    out.truncate(start + written);
    Ok(())
}
