//! What the fuzz targets do, in little and on a stable compiler: damaged golden inputs never panic a decoder.

use bytes::Bytes;
use lakefall_queue::Offset;
use lakefall_storage::batch::{BatchHeader, decode, walk};
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
