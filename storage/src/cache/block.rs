//! A cached block: its key, its bytes, and how both stand on the cache disk.

use std::io::{Read, Write};

use bytes::{Bytes, BytesMut};
use foyer::Code;
use lakefall_queue::SegmentId;
use lakefall_queue::planted::{self, Bug};
#[cfg(test)]
use uuid::Uuid;

/// Part of every key: a cache disk written by another version of this format is never hit.
const FORMAT: u8 = 2;
/// An encoded key.
const KEY_BYTES: usize = 25;
/// What an entry costs besides its bytes, roughly: key, pointers, list links.
const ENTRY_OVERHEAD: usize = 192;
/// The largest block there is; a damaged length on disk allocates no more.
pub(super) const MAX_BLOCK: usize = 8 << 20;
/// Stands in a key's `format` for a piece, which begins anywhere.
const PIECE: u8 = 0x80;

/// Names the `number`th block of an object cut into blocks of `size` bytes. The size is in the name, as the number means
/// another range after it was changed. Or a piece of an object, of `size` bytes from byte `number` on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct BlockKey {
    object: [u8; 16],
    pub(super) number: u32,
    size: u32,
    format: u8,
}

impl BlockKey {
    pub(super) fn new(object: SegmentId, number: u32, size: usize) -> Self {
        let size = u32::try_from(size).unwrap_or(u32::MAX);
        Self { object: named(object), number, size, format: FORMAT }
    }

    pub(super) fn piece(object: SegmentId, start: u32, length: u32) -> Self {
        Self { object: named(object), number: start, size: length, format: FORMAT | PIECE }
    }

    #[cfg(test)]
    pub(super) fn object(&self) -> SegmentId {
        SegmentId(Uuid::from_bytes(self.object))
    }

    fn to_bytes(self) -> [u8; KEY_BYTES] {
        let mut out = [0; KEY_BYTES];
        out[..16].copy_from_slice(&self.object);
        out[16..20].copy_from_slice(&self.number.to_be_bytes());
        out[20..24].copy_from_slice(&self.size.to_be_bytes());
        out[24] = self.format;
        out
    }
}

/// A block's bytes under a checksum that also covers the key, so that a block in the wrong place is damaged too.
#[derive(Clone, Debug)]
pub(super) struct Block {
    pub(super) bytes: Bytes,
    crc32c: u32,
}

impl Block {
    pub(super) fn new(key: &BlockKey, bytes: Bytes) -> Self {
        let crc32c = checksum(key, &bytes);
        Self { bytes, crc32c }
    }

    /// Whether the block is what was put in under `key`.
    pub(super) fn is_intact(&self, key: &BlockKey) -> bool {
        checksum(key, &self.bytes) == self.crc32c
    }

    /// Bytes that count against the cache's size.
    pub(super) fn weight(&self) -> usize {
        self.bytes.len() + ENTRY_OVERHEAD
    }
}

/// The object's part of a key: all of its id.
fn named(object: SegmentId) -> [u8; 16] {
    let mut name = *object.0.as_bytes();
    if planted::is(Bug::CacheKeyTooShort) {
        name[4..].fill(0);
    }
    name
}

fn checksum(key: &BlockKey, bytes: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&key.to_bytes()), bytes)
}

impl Code for BlockKey {
    fn encode(&self, writer: &mut impl Write) -> foyer::Result<()> {
        writer.write_all(&self.to_bytes()).map_err(foyer::Error::io_error)
    }

    fn decode(reader: &mut impl Read) -> foyer::Result<Self> {
        let mut object = [0; 16];
        reader.read_exact(&mut object).map_err(foyer::Error::io_error)?;
        let mut rest = [0; KEY_BYTES - 16];
        reader.read_exact(&mut rest).map_err(foyer::Error::io_error)?;
        let [n0, n1, n2, n3, s0, s1, s2, s3, format] = rest;
        Ok(Self { object, number: u32::from_be_bytes([n0, n1, n2, n3]), size: u32::from_be_bytes([s0, s1, s2, s3]), format })
    }

    fn estimated_size(&self) -> usize {
        KEY_BYTES
    }
}

impl Code for Block {
    fn encode(&self, writer: &mut impl Write) -> foyer::Result<()> {
        let mut head = [0; 8];
        head[..4].copy_from_slice(&self.crc32c.to_be_bytes());
        head[4..].copy_from_slice(&(self.bytes.len() as u32).to_be_bytes());
        writer.write_all(&head).and_then(|()| writer.write_all(&self.bytes)).map_err(foyer::Error::io_error)
    }

    /// Damage is not an error here: an error would count against the disk, and the checksum finds it anyway.
    fn decode(reader: &mut impl Read) -> foyer::Result<Self> {
        let mut head = [0; 8];
        reader.read_exact(&mut head).map_err(foyer::Error::io_error)?;
        let [c0, c1, c2, c3, l0, l1, l2, l3] = head;
        let length = u32::from_be_bytes([l0, l1, l2, l3]) as usize;
        let mut bytes = Vec::with_capacity(length.min(MAX_BLOCK));
        reader.take(length.min(MAX_BLOCK) as u64).read_to_end(&mut bytes).map_err(foyer::Error::io_error)?;
        if bytes.len() != length {
            // A damaged length: without its bytes the block is damaged for the checksum, too.
            bytes.clear();
        }
        let crc32c = u32::from_be_bytes([c0, c1, c2, c3]);
        Ok(Self { bytes: Bytes::from(bytes), crc32c })
    }

    fn estimated_size(&self) -> usize {
        self.bytes.len() + 8
    }
}

/// Cuts an object's chunks into blocks. A block that lies in one chunk and is most of it shares the chunk's memory;
/// any other is copied, since a small block would keep a large chunk alive uncounted.
pub(super) fn cut(chunks: &[Bytes], block_bytes: usize) -> impl Iterator<Item = Bytes> {
    let mut rest = chunks.iter();
    let mut current = Bytes::new();
    let mut whole = 0;
    std::iter::from_fn(move || {
        let mut joined = BytesMut::new();
        while joined.len() < block_bytes {
            if current.is_empty() {
                match rest.next() {
                    Some(chunk) => (current, whole) = (chunk.clone(), chunk.len()),
                    None => break,
                }
                continue;
            }
            let piece = current.split_to(current.len().min(block_bytes - joined.len()));
            if joined.is_empty() && piece.len() == block_bytes && whole <= 2 * block_bytes {
                return Some(piece);
            }
            if joined.capacity() == 0 {
                let ahead = current.len() + rest.as_slice().iter().map(Bytes::len).sum::<usize>();
                joined.reserve((piece.len() + ahead).min(block_bytes));
            }
            joined.extend_from_slice(&piece);
        }
        (!joined.is_empty()).then(|| joined.freeze())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cutting_keeps_every_byte_in_order() {
        let whole: Vec<u8> = (0..10_000_u32).map(|n| n as u8).collect();
        for sizes in [vec![10_000], vec![1, 999, 4_000, 5_000], vec![2_500; 4], vec![4_096, 0, 5_904]] {
            let mut rest = Bytes::from(whole.clone());
            let chunks: Vec<Bytes> = sizes.iter().map(|size| rest.split_to(*size)).collect();
            let blocks: Vec<Bytes> = cut(&chunks, 4_096).collect();
            assert_eq!(blocks.iter().map(Bytes::len).collect::<Vec<_>>(), [4_096, 4_096, 1_808], "{sizes:?}");
            assert_eq!(blocks.concat(), whole, "{sizes:?}");
        }
    }

    #[test]
    fn a_block_survives_the_disk_and_a_flipped_bit_or_another_key_is_noticed() {
        let key = BlockKey::new(SegmentId(Uuid::from_u128(7)), 3, 4_096);
        let mut stored = Vec::new();
        Block::new(&key, Bytes::from_static(b"some bytes")).encode(&mut stored).unwrap();
        assert!(Block::decode(&mut &stored[..]).unwrap().is_intact(&key));
        for other in [BlockKey::new(key.object(), 4, 4_096), BlockKey::new(key.object(), 3, 8_192)] {
            assert!(!Block::decode(&mut &stored[..]).unwrap().is_intact(&other));
        }
        let older = BlockKey { format: FORMAT - 1, ..key };
        assert!(older != key && !Block::decode(&mut &stored[..]).unwrap().is_intact(&older));
        for bit in 0..stored.len() * 8 {
            let mut damaged = stored.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(!Block::decode(&mut &damaged[..]).unwrap().is_intact(&key), "bit {bit}");
        }
    }
}
