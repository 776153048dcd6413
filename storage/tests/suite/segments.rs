//! Building, listing and verifying segments.

use bytes::Bytes;
use lakefall_queue::topic::Compression;
use lakefall_queue::{PartitionIndex, TopicId};
use lakefall_storage::segment::{SegmentBuilder, SegmentError, SegmentIndex, verify};
use proptest::prelude::*;

use crate::samples::{encode, file, freezing, joined, path, records, segment};

#[test]
fn a_segment_is_listed_and_verified_from_itself_alone() {
    let segment = segment();
    let object = joined(&segment);
    assert_eq!(object.len() as u64, segment.len);
    let report = verify(&object).unwrap();
    assert_eq!(report.index, segment.index);
    assert_eq!((report.batches, report.records), (4, 66 + 60 + 6));
    assert_eq!(SegmentIndex::decode(&object, segment.len).unwrap(), segment.index);
}

#[test]
fn a_tail_that_is_too_short_says_how_much_is_needed() {
    let segment = segment();
    let object = joined(&segment);
    let mut tail = 1;
    let mut asked = Vec::new();
    loop {
        match SegmentIndex::decode(&object[object.len() - tail..], segment.len) {
            Ok(index) => break assert_eq!(index, segment.index),
            Err(SegmentError::NeedMore { needed }) => tail = needed as usize,
            Err(other) => panic!("{other}"),
        }
        asked.push(tail);
    }
    assert_eq!(asked, [16, 16 + 3 * 56]);
}

#[test]
fn batches_out_of_order_are_refused() {
    let batch = encode(Compression::None, &records());
    for (topic, partition) in [(4, 9), (5, 1)] {
        let mut builder = SegmentBuilder::new();
        builder.add(TopicId(5), PartitionIndex(2), batch.clone()).unwrap();
        assert_eq!(builder.add(TopicId(topic), PartitionIndex(partition), batch.clone()), Err(SegmentError::OutOfOrder));
    }
}

#[test]
fn an_empty_segment_is_a_segment() {
    let report = verify(&joined(&SegmentBuilder::new().finish())).unwrap();
    assert_eq!((report.index.extents.len(), report.records), (0, 0));
}

#[test]
fn the_frozen_segment_of_version_1_is_still_read() {
    if freezing() {
        std::fs::write(path("frozen/segment-v1.seg"), joined(&segment())).unwrap();
    }
    let report = verify(&file("frozen/segment-v1.seg")).unwrap();
    assert_eq!((report.batches, report.records), (4, 132));
    // Compressed lengths are the compressor's affair; the rest is the format's.
    let described = |index: &SegmentIndex| {
        index.extents.iter().map(|e| (e.topic, e.partition, e.records, e.first_timestamp, e.max_timestamp)).collect::<Vec<_>>()
    };
    assert_eq!(described(&report.index), described(&segment().index));
}

#[test]
fn another_version_is_refused_by_name() {
    let mut object = joined(&segment()).to_vec();
    let end = object.len();
    object[end - 1] = 2;
    assert_eq!(SegmentIndex::decode(&object, end as u64), Err(SegmentError::UnknownVersion(2)));
    object[7] = 2;
    let error = verify(&object.into()).unwrap_err();
    assert_eq!(error.to_string(), "the segment has format version 2: this executable reads version 1");
}

#[test]
fn every_truncation_and_every_flipped_bit_is_an_error() {
    let whole = joined(&segment());
    for length in 0..whole.len() {
        assert!(verify(&whole.slice(..length)).is_err(), "cut to {length}");
    }
    for byte in 0..whole.len() {
        let mut damaged = whole.to_vec();
        damaged[byte] ^= 1 << (byte % 8);
        assert!(verify(&damaged.into()).is_err(), "byte {byte}");
    }
}

proptest! {
    #[test]
    fn any_sorted_batches_are_found_again(places in proptest::collection::btree_map((any::<u64>(), any::<u32>()), 1..3_usize, 0..20)) {
        let records = records();
        let mut builder = SegmentBuilder::new();
        for ((topic, partition), batches) in &places {
            for _ in 0..*batches {
                builder.add(TopicId(*topic), PartitionIndex(*partition), encode(Compression::Lz4, &records[..9])).unwrap();
            }
        }
        let segment = builder.finish();
        let report = verify(&joined(&segment)).unwrap();
        prop_assert_eq!(&report.index, &segment.index);
        let found: Vec<_> = report.index.extents.iter().map(|e| ((e.topic.0, e.partition.0), e.records as usize / 9)).collect();
        prop_assert_eq!(found, places.into_iter().collect::<Vec<_>>());
    }

    #[test]
    fn random_bytes_are_never_a_segment(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(verify(&Bytes::from(bytes)).is_err());
    }
}
