//! What a batch costs: encode (with zstd-1, CRC) and decode, of random printable text and of flights-like JSON.
#![allow(clippy::unwrap_used, reason = "a measurement that fails has nothing to clean up")]

use std::hint::black_box;

use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use lakefall_queue::topic::Compression;
use lakefall_queue::{Offset, PartitionIndex, Record, Timestamp, ValueKind};
use lakefall_storage::batch::{BatchEncoder, DecodeContext, EncodedBatch, decode};

const RECORDS: usize = 1_000;

/// A fixed stream of numbers (SplitMix64), so that runs compare.
fn numbers() -> impl Iterator<Item = u64> {
    (1_u64..).map(|n| {
        let z = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    })
}

fn printable() -> Vec<Record> {
    let text: Vec<u8> = numbers().take(RECORDS * 1_024).map(|n| b' ' + (n % 95) as u8).collect();
    text.chunks(1_024).map(|value| Record { value: Some(Bytes::copy_from_slice(value)), ..Record::default() }).collect()
}

fn flights() -> Vec<Record> {
    let carriers = ["UA", "AA", "B6", "DL", "EV"];
    let json = numbers().take(RECORDS).map(|n| {
        format!(
            r#"{{"year":2013,"month":{},"day":{},"dep_time":{},"sched_dep_time":{},"dep_delay":{},"arr_time":{},"sched_arr_time":{},"arr_delay":{},"carrier":"{}","flight":{},"tailnum":"N{}UA","origin":"EWR","dest":"IAH","air_time":{},"distance":{},"hour":5,"minute":15,"time_hour":"2013-01-01T05:00:00Z"}}"#,
            n % 12 + 1, n % 28 + 1, n % 2_400, n % 2_399, n % 90, n % 2_398, n % 2_397, n % 70, carriers[n as usize % 5], n % 8_000, n % 99_999, n % 600, n % 4_900
        )
    });
    json.map(|value| Record { value: Some(value.into()), kind: ValueKind::Json, ..Record::default() }).collect()
}

fn encode(compression: Compression, records: &[Record], bytes: usize) -> EncodedBatch {
    let mut encoder = BatchEncoder::with_capacity(compression, bytes);
    for (n, record) in records.iter().enumerate() {
        encoder.push(record, Timestamp::from_millis(1_700_000_000_000 + n as i64));
    }
    encoder.finish().unwrap()
}

fn batches(c: &mut Criterion) {
    for (name, records) in [("printable", printable()), ("flights", flights())] {
        let bytes = encode(Compression::None, &records, 0).bytes.len();
        let mut group = c.benchmark_group(name);
        group.sample_size(20).throughput(Throughput::Bytes(bytes as u64));
        for (codec, compression) in [("none", Compression::None), ("lz4", Compression::Lz4), ("zstd", Compression::Zstd)] {
            group.bench_function(format!("encode-{codec}"), |b| b.iter(|| encode(compression, black_box(&records), bytes)));
            let batch = encode(compression, &records, bytes).bytes;
            let context = DecodeContext::new(PartitionIndex(0), Offset(0), Timestamp::from_millis(0));
            group.bench_function(format!("decode-{codec}"), |b| {
                b.iter_batched_ref(Vec::new, |out| decode(black_box(&batch), context, Offset(0), out).unwrap(), BatchSize::LargeInput)
            });
        }
        group.finish();
    }
}

criterion_group!(benches, batches);
criterion_main!(benches);
