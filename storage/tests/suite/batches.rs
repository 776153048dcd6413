//! Encoding and decoding batches.

use std::sync::Arc;

use bytes::Bytes;
use lakefall_queue::topic::Compression;
use lakefall_queue::{Header, Offset, Properties, Record, Timestamp, ValueKind};
use lakefall_storage::batch::{BatchEncoder, BatchError, BatchHeader, Codec, MAX_UNCOMPRESSED_BYTES, decode, patch_base_offset, walk};
use proptest::prelude::*;

use crate::samples::{COMPRESSIONS, context, decode_all, encode, records, stored};

#[test]
fn every_shape_of_record_comes_back_as_it_went_in() {
    for (name, compression) in COMPRESSIONS {
        let batch = encode(compression, &records());
        let mut out = Vec::new();
        decode(&batch.bytes, context(1_000), Offset(0), &mut out).unwrap();
        assert_eq!(out, stored(&records(), 1_000), "{name}");
        let header = BatchHeader::parse(&batch.bytes).unwrap();
        assert_eq!(header.compression, Codec::from(compression));
        assert_eq!((header.base_timestamp, header.max_timestamp), (batch.first_timestamp, batch.max_timestamp));
    }
}

#[test]
fn decoding_starts_at_the_offset_asked_for() {
    let batch = encode(Compression::Zstd, &records()).bytes;
    let all = stored(&records(), 50);
    for from in [0, 50, 51, 100, 115, 116, 1_000] {
        let mut out = Vec::new();
        decode(&batch, context(50), Offset(from), &mut out).unwrap();
        assert_eq!(out, all.iter().filter(|record| record.offset.0 >= from).cloned().collect::<Vec<_>>(), "{from}");
    }
}

#[test]
fn an_uncompressed_value_is_a_slice_of_the_batch() {
    let record = Record { value: Some(Bytes::from_static(b"shared")), ..Record::default() };
    let batch = encode(Compression::None, &[(record, Timestamp::from_millis(0))]).bytes;
    let value = decode_all(&batch).unwrap().remove(0).value.unwrap();
    assert!(batch.as_ptr_range().contains(&value.as_ptr()));
}

#[test]
fn a_batch_that_does_not_shrink_is_stored_as_it_is() {
    // A linear congruential generator: nothing for a compressor to find.
    let noise: Vec<u8> = (0..4_096)
        .scan(1_u64, |x, _| {
            Some({
                *x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (*x >> 56) as u8
            })
        })
        .collect();
    let record = Record { value: Some(noise.into()), ..Record::default() };
    for compression in [Compression::Lz4, Compression::Zstd] {
        let batch = encode(compression, &[(record.clone(), Timestamp::from_millis(0))]).bytes;
        assert_eq!(BatchHeader::parse(&batch).unwrap().compression, Codec::None);
        assert_eq!(decode_all(&batch).unwrap()[0].value, record.value);
    }
}

#[test]
fn a_decompression_bomb_is_refused_in_every_codec() {
    let bomb = Record { value: Some(vec![0; 8 << 20].into()), ..Record::default() };
    for compression in [Compression::Lz4, Compression::Zstd] {
        let batch = encode(compression, &[(bomb.clone(), Timestamp::from_millis(0))]).bytes;
        let mut context = context(0);
        context.max_bytes = 1 << 20;
        let mut out = Vec::new();
        assert_eq!(decode(&batch, context, Offset(0), &mut out), Err(BatchError::TooLarge { limit: 1 << 20 }));
        context.max_bytes = 9 << 20;
        assert_eq!(decode(&batch, context, Offset(0), &mut out), Ok(()));
    }
}

#[test]
fn more_than_a_batch_may_hold_is_refused_by_the_encoder() {
    let half = Record { value: Some(vec![0; MAX_UNCOMPRESSED_BYTES / 2].into()), ..Record::default() };
    let mut encoder = BatchEncoder::new(Compression::None);
    encoder.push(&half, Timestamp::from_millis(0));
    encoder.push(&half, Timestamp::from_millis(0));
    assert_eq!(encoder.finish(), Err(BatchError::TooLarge { limit: MAX_UNCOMPRESSED_BYTES }));
    assert!(BatchEncoder::new(Compression::None).finish().is_err());
}

#[test]
fn patching_the_base_offset_leaves_the_checksum_valid() {
    let mut batch = encode(Compression::Zstd, &records()).bytes.to_vec();
    patch_base_offset(&mut batch, Offset(77)).unwrap();
    let header = BatchHeader::parse(&batch).unwrap();
    assert_eq!(header.base_offset, Offset(77));
    header.verify(&batch).unwrap();
}

#[test]
fn walking_finds_each_batch_and_stops_at_a_torn_one() {
    let one = encode(Compression::None, &records()).bytes;
    let two = encode(Compression::Zstd, &records()).bytes;
    let both = [&one[..], &two[..]].concat();
    let ranges: Vec<_> = walk(&both).map(|step| step.unwrap().1).collect();
    assert_eq!(ranges, [0..one.len(), one.len()..both.len()]);
    let torn: Vec<_> = walk(&both[..both.len() - 1]).collect();
    assert_eq!((torn.len(), torn[1].clone()), (2, Err(BatchError::Truncated)));
}

#[test]
fn any_flipped_bit_after_the_leader_epoch_is_an_error() {
    for (name, compression) in COMPRESSIONS {
        let whole = encode(compression, &records()[..8]).bytes;
        for bit in 16 * 8..whole.len() * 8 {
            let mut damaged = whole.to_vec();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(decode_all(&damaged.into()).is_err(), "{name}: bit {bit}");
        }
    }
}

#[test]
fn what_looks_like_a_property_but_is_none_stays_a_header() {
    let odd = ["lakefall.priority=300", "lakefall.priority=+7", "lakefall.unknown=x", "trace=1", "lakefall.deliver_at=soon"];
    let headers: Vec<Header> = odd
        .iter()
        .map(|text| text.split_once('=').unwrap())
        .map(|(name, value)| Header { name: name.into(), value: Some(Bytes::from_static(value.as_bytes())) })
        .collect();
    let record = Record { headers: headers.clone(), ..Record::default() };
    let found = decode_all(&encode(Compression::None, &[(record, Timestamp::from_millis(0))]).bytes).unwrap().remove(0);
    assert_eq!((found.headers, found.properties), (headers, None));
}

fn any_text() -> impl Strategy<Value = Option<Arc<str>>> {
    proptest::option::of("\\PC{0,20}").prop_map(|text| text.map(Arc::from))
}

prop_compose! {
    fn any_properties()(
        texts in proptest::array::uniform8(any_text()),
        priority in proptest::option::of(0..=9_u8),
        times in proptest::array::uniform2(proptest::option::of(any::<i64>().prop_map(Timestamp::from_millis))),
    ) -> Option<Box<Properties>> {
        let [dedup_id, ordering_key, correlation_id, reply_to, traceparent, tracestate, for_queue, schema_error] = texts;
        let [deliver_at, expires_at] = times;
        let all = Properties {
            dedup_id,
            ordering_key,
            priority,
            deliver_at,
            expires_at,
            correlation_id,
            reply_to,
            for_queue,
            schema_error,
            traceparent,
            tracestate,
        };
        (!all.is_empty()).then(|| Box::new(all))
    }
}

fn any_blob() -> impl Strategy<Value = Option<Bytes>> {
    proptest::option::of(proptest::collection::vec(any::<u8>(), 0..300)).prop_map(|bytes| bytes.map(Bytes::from))
}

prop_compose! {
    fn any_record()(
        key in any_blob(), value in any_blob(), json in any::<bool>(), properties in any_properties(),
        headers in proptest::collection::vec(("[a-z]{0,6}", any_blob()), 0..4), at in any::<i64>(),
    ) -> (Record, Timestamp) {
        let headers = headers.into_iter().map(|(name, value)| Header { name: name.as_str().into(), value }).collect();
        let kind = if json { ValueKind::Json } else { ValueKind::Opaque };
        (Record { key, value, kind, headers, properties, ..Record::default() }, Timestamp::from_millis(at))
    }
}

proptest! {
    #[test]
    fn any_records_come_back_as_they_went_in(records in proptest::collection::vec(any_record(), 1..20)) {
        for (_, compression) in COMPRESSIONS {
            let batch = encode(compression, &records);
            prop_assert_eq!(decode_all(&batch.bytes).unwrap().len(), records.len());
            let mut out = Vec::new();
            decode(&batch.bytes, context(9), Offset(0), &mut out).unwrap();
            prop_assert_eq!(out, stored(&records, 9));
        }
    }
}
