//! Record batches: bytes of any kind, and the same with a right checksum, without which hardly anything gets past the door.

use bytes::Bytes;
use lakefall_queue::topic::Compression;
use lakefall_queue::{Offset, PartitionIndex, Record, StoredRecord, Timestamp};
use lakefall_storage::batch::{BatchEncoder, BatchHeader, DecodeContext, decode, walk};

/// What the caller allows the records to have after decompression.
const MOST_BYTES: usize = 1 << 20;

/// No panic, no memory beyond the bound, no record of a batch that is refused; and what is decoded comes back when it is
/// encoded again.
pub fn batch_decode(input: &[u8]) -> bool {
    let taken = run(input);
    let sealed = sealed(input);
    run(&sealed) || taken
}

fn run(input: &[u8]) -> bool {
    let bytes = Bytes::copy_from_slice(input);
    let _ = walk(&bytes).count();
    let mut taken = false;
    for merged in [false, true] {
        let mut context = DecodeContext::new(PartitionIndex(0), Offset(10), Timestamp::from_millis(0));
        (context.max_bytes, context.merged) = (MOST_BYTES, merged);
        let mut records = Vec::new();
        match decode(&bytes, context, Offset(12), &mut records) {
            Ok(()) => {
                assert!(records.iter().all(|record| record.offset >= Offset(12)), "a record below the first one wanted");
                assert!(records.is_sorted_by(|a, b| a.offset < b.offset), "offsets do not ascend");
                taken = true;
            }
            Err(_) => assert!(records.is_empty(), "records of a batch that is refused"),
        }
        assert!(records.iter().map(StoredRecord::payload_bytes).sum::<usize>() <= MOST_BYTES, "more bytes than allowed");
        if !merged {
            comes_back(&records);
        }
    }
    taken
}

/// Encodes records again, and decodes that.
fn comes_back(records: &[StoredRecord]) {
    if records.is_empty() {
        return;
    }
    let mut encoder = BatchEncoder::new(Compression::None);
    for stored in records {
        let record = Record {
            key: stored.key.clone(),
            value: stored.value.clone(),
            kind: stored.kind,
            headers: stored.headers.clone(),
            properties: stored.properties.clone(),
            ..Record::default()
        };
        encoder.push(&record, stored.timestamp);
    }
    let again = encoder.finish().unwrap();
    let mut found = Vec::new();
    decode(&again.bytes, DecodeContext::new(PartitionIndex(0), Offset(0), Timestamp::from_millis(0)), Offset(0), &mut found).unwrap();
    assert_eq!(found.len(), records.len());
    for (found, expected) in found.iter().zip(records) {
        let same = StoredRecord { offset: expected.offset, appended_at: expected.appended_at, ..found.clone() };
        assert_eq!(same, *expected, "a record changed on its way");
    }
}

/// The input as a batch whose length and checksum are right.
pub(super) fn sealed(input: &[u8]) -> Vec<u8> {
    let mut batch = input.to_vec();
    if batch.len() > BatchHeader::LEN {
        let length = (batch.len() - 12) as u32;
        batch[8..12].copy_from_slice(&length.to_be_bytes());
        batch[16] = 2;
        let crc = crc(&batch[21..]);
        batch[17..21].copy_from_slice(&crc.to_be_bytes());
    }
    batch
}

/// CRC32C bit by bit: an implementation apart from the one under test.
fn crc(bytes: &[u8]) -> u32 {
    !bytes
        .iter()
        .fold(!0_u32, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg())))
}
