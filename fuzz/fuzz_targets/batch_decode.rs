//! Any bytes through the batch decoder: no panic, no memory beyond the bound, no record from damaged bytes.
#![no_main]

use bytes::Bytes;
use lakefall_queue::{Offset, PartitionIndex, Timestamp};
use lakefall_storage::batch::{BatchHeader, DecodeContext, decode, walk};
use libfuzzer_sys::fuzz_target;

const MAX_BYTES: usize = 1 << 20;

fuzz_target!(|input: &[u8]| {
    run(input);
    // The same with a right checksum: without it hardly anything gets past the front door.
    let mut sealed = input.to_vec();
    if sealed.len() > BatchHeader::LEN {
        let length = (sealed.len() - 12) as u32;
        sealed[8..12].copy_from_slice(&length.to_be_bytes());
        sealed[16] = 2;
        let crc = crc(&sealed[21..]);
        sealed[17..21].copy_from_slice(&crc.to_be_bytes());
        run(&sealed);
    }
});

fn run(input: &[u8]) {
    let bytes = Bytes::copy_from_slice(input);
    let _ = walk(&bytes).count();
    let mut context = DecodeContext::new(PartitionIndex(0), Offset(10), Timestamp::from_millis(0));
    context.max_bytes = MAX_BYTES;
    let mut records = Vec::new();
    match decode(&bytes, context, Offset(12), &mut records) {
        Ok(()) => assert!(records.iter().all(|record| record.offset >= Offset(12))),
        Err(_) => assert!(records.is_empty()),
    }
    assert!(records.iter().map(|record| record.payload_bytes()).sum::<usize>() <= MAX_BYTES);
}

/// CRC32C bit by bit: an implementation apart from the one under test.
fn crc(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0_u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg()))
    })
}
