//! What the fuzz targets do, in little and on a stable compiler: damaged golden inputs never panic a decoder.

use bytes::Bytes;
use lakefall_queue::Offset;
use lakefall_storage::batch::{BatchError, BatchHeader, MAX_UNCOMPRESSED_BYTES, decode, walk};
use lakefall_storage::segment::{SegmentIndex, verify};
use proptest::prelude::*;

use crate::samples::{context, file};

const INPUTS: [&str; 10] = [
    "golden/kafka-none.bin",
    "golden/kafka-gzip.bin",
    "golden/kafka-snappy.bin",
    "golden/kafka-snappy-raw.bin",
    "golden/kafka-lz4.bin",
    "golden/kafka-zstd.bin",
    "golden/lakefall-none.bin",
    "golden/lakefall-lz4.bin",
    "golden/lakefall-zstd.bin",
    "frozen/segment-v1.seg",
];

/// Overwrites, cuts and repeats.
fn damage(input: &[u8], edits: &[(usize, u8, u8)]) -> Vec<u8> {
    let mut out = input.to_vec();
    for (place, kind, byte) in edits {
        let at = place % out.len().max(1);
        match kind % 4 {
            0 if at < out.len() => out[at] = *byte,
            1 => out.truncate(at),
            2 => drop(out.splice(at..at, std::iter::repeat_n(*byte, usize::from(*byte)))),
            _ => drop(out.drain(at..(at + usize::from(*byte)).min(out.len()))),
        }
    }
    out
}

/// Makes the checksum right, so that the damage reaches the decoder behind it.
fn reseal(batch: &mut [u8]) {
    if batch.len() > BatchHeader::LEN {
        let length = (batch.len() - 12) as u32;
        batch[8..12].copy_from_slice(&length.to_be_bytes());
        batch[16] = 2;
        let crc = crc32c::crc32c(&batch[21..]);
        batch[17..21].copy_from_slice(&crc.to_be_bytes());
    }
}

fn exercise(bytes: Vec<u8>) {
    let bytes = Bytes::from(bytes);
    let mut out = Vec::new();
    let mut small = context(0);
    small.max_bytes = 1 << 20;
    let _ = decode(&bytes, small, Offset(3), &mut out);
    assert!(out.iter().map(|record| record.payload_bytes()).sum::<usize>() <= 1 << 20);
    let _ = walk(&bytes).count();
    let _ = SegmentIndex::decode(&bytes, bytes.len() as u64);
    let _ = verify(&bytes);
}

/// A batch of zeros that counts as many records as its bytes could hold, each of which would have seven.
fn forged(bytes: usize) -> Vec<u8> {
    let mut batch = vec![0; BatchHeader::LEN];
    let last = (bytes / 7) as u32 - 1;
    batch[21..23].copy_from_slice(&4_u16.to_be_bytes());
    batch[23..27].copy_from_slice(&last.to_be_bytes());
    batch[57..61].copy_from_slice(&(last + 1).to_be_bytes());
    batch.extend(zstd::bulk::compress(&vec![0; bytes], 1).unwrap());
    reseal(&mut batch);
    batch
}

#[test]
fn a_batch_that_counts_more_records_than_it_has_takes_no_memory_for_them() {
    let batch = Bytes::from(forged(MAX_UNCOMPRESSED_BYTES));
    assert!(batch.len() < 100_000, "{} bytes are enough to ask for ten million records", batch.len());
    let (mut out, mut told) = (Vec::new(), None);
    let taken = allocation_counter::measure(|| told = Some(decode(&batch, context(0), Offset(0), &mut out)));
    assert!(matches!(told, Some(Err(BatchError::Truncated))), "{told:?}");
    let most = MAX_UNCOMPRESSED_BYTES as u64 + (4 << 20);
    assert!(
        taken.bytes_max <= most,
        "{} bytes for a batch of {}: at most what it says when unpacked, and a little",
        taken.bytes_max,
        batch.len()
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn damaged_input_never_panics_a_decoder(
        input in proptest::sample::select(&INPUTS[..]),
        edits in proptest::collection::vec((any::<usize>(), any::<u8>(), any::<u8>()), 1..8),
        // Often near the front, where the lengths are.
        front in any::<bool>(),
    ) {
        let edits: Vec<_> = edits.into_iter().map(|(at, kind, byte)| (if front { at % 120 } else { at }, kind, byte)).collect();
        let mut damaged = damage(&file(input), &edits);
        exercise(damaged.clone());
        reseal(&mut damaged);
        exercise(damaged);
    }
}
