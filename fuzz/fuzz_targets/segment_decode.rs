//! Any bytes through the segment decoder and the offline verification: no panic, and what passes describes itself.
#![no_main]

use bytes::Bytes;
use lakefall_storage::segment::{SegmentIndex, verify};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let object = Bytes::copy_from_slice(input);
    let index = SegmentIndex::decode(&object, object.len() as u64);
    let tail = &object[object.len() / 2..];
    let _ = SegmentIndex::decode(tail, object.len() as u64);
    if let Ok(index) = &index {
        assert!(object.ends_with(&index.encode()));
    }
    if let Ok(report) = verify(&object) {
        assert_eq!(Ok(report.index), index);
    }
});
