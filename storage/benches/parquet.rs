//! What a Parquet file costs: its size beside that of the NDJSON, and the time to write and read it on one core, with zstd-1
//! and zstd-3, without and with typed columns. `LAKEFALL_BENCH_NDJSON` names a file of JSON lines, which may end in `.gz`;
//! without it, made-up flights are taken.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a measurement that fails has nothing to clean up, and sizes are printed")]

use std::hint::black_box;
use std::io::Read;

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use lakefall_queue::{Offset, PartitionIndex, StoredRecord, Timestamp, TopicId, ValueKind};
use lakefall_storage::parquet::{MOST_COLUMNS, Options, ParquetFile, ParquetWriter, TypedColumns, Want, Written, infer_json, verify};

fn lines() -> Vec<u8> {
    let Some(path) = std::env::var_os("LAKEFALL_BENCH_NDJSON") else { return made_up() };
    let bytes = std::fs::read(&path).unwrap();
    if !path.to_string_lossy().ends_with(".gz") {
        return bytes;
    }
    let mut lines = Vec::new();
    flate2::read::MultiGzDecoder::new(&bytes[..]).read_to_end(&mut lines).unwrap();
    lines
}

fn made_up() -> Vec<u8> {
    let line = |n: u64| {
        let r = n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20;
        let (day, flight, tail, time, distance) = (r % 28 + 1, r % 8_000, r % 99_999, r % 600, r % 4_900);
        format!(
            r#"{{"year":2013,"day":{day},"carrier":"UA","flight":{flight},"tailnum":"N{tail}UA","origin":"EWR","air_time":{time},"distance":{distance}}}"#
        ) + "
"
    };
    (0..200_000).map(line).collect::<String>().into_bytes()
}

fn records(lines: &Bytes) -> Vec<StoredRecord> {
    let values = lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let each = values.enumerate().map(|(n, line)| StoredRecord {
        partition: PartitionIndex(0),
        offset: Offset(n as u64),
        timestamp: Timestamp::from_millis(1_700_000_000_000 + n as i64),
        appended_at: Timestamp::from_millis(1_700_000_000_000 + n as i64 / 100 * 100),
        key: None,
        value: Some(lines.slice_ref(line)),
        kind: ValueKind::Json,
        headers: Vec::new(),
        properties: None,
    });
    each.collect()
}

fn write(records: &[StoredRecord], options: Options) -> Written {
    let mut writer = ParquetWriter::new(TopicId(1), PartitionIndex(0), options).unwrap();
    writer.push(records).unwrap();
    writer.finish().unwrap()
}

fn read(object: &Bytes) -> usize {
    let file = ParquetFile::open(object, object.len() as u64).unwrap();
    let mut records = Vec::new();
    let mut count = 0;
    for (index, group) in file.row_groups().iter().enumerate() {
        let bytes = object.slice(group.bytes.start as usize..group.bytes.end as usize);
        file.decode(index, &bytes, Want::from(group.first), &mut records).unwrap();
        count += records.drain(..).count();
    }
    count
}

fn one_in_the_middle(file: &ParquetFile, object: &Bytes) -> StoredRecord {
    let wanted = Offset(file.records() / 2);
    let index = file.row_group_of(wanted).unwrap();
    let range = file.row_groups()[index].bytes.clone();
    let mut records = Vec::new();
    let want = Want { from: wanted, records: 1, bytes: usize::MAX };
    file.decode(index, &object.slice(range.start as usize..range.end as usize), want, &mut records).unwrap();
    records.remove(0)
}

fn files(c: &mut Criterion) {
    let lines = Bytes::from(lines());
    let records = records(&lines);
    let schema = infer_json(None, records.iter().take(10_000), MOST_COLUMNS).unwrap();
    let mut group = c.benchmark_group("parquet");
    group.sample_size(10).throughput(Throughput::Bytes(lines.len() as u64));
    for (name, is_typed) in [("value", false), ("typed", true)] {
        for level in [1, 3] {
            let options =
                || Options { zstd_level: level, typed: is_typed.then(|| TypedColumns::new(&schema).unwrap()), ..Options::default() };
            let written = write(&records, options());
            let share = written.bytes.len() as f64 * 100.0 / lines.len() as f64;
            println!("{name}, zstd-{level}: {} of {} bytes, {share:.2} %, {} not typed", written.bytes.len(), lines.len(), written.untyped);
            verify(&written.bytes, Some(written.hash)).unwrap();
            group.bench_function(format!("encode-{name}-zstd-{level}"), |b| b.iter(|| write(black_box(&records), options())));
            group.bench_function(format!("decode-{name}-zstd-{level}"), |b| b.iter(|| read(black_box(&written.bytes))));
        }
    }
    group.finish();
    let object = write(&records, Options::default()).bytes;
    let file = ParquetFile::open(&object, object.len() as u64).unwrap();
    c.bench_function("parquet-open", |b| b.iter(|| ParquetFile::open(black_box(&object), object.len() as u64).unwrap()));
    c.bench_function("parquet-one-record", |b| b.iter(|| one_in_the_middle(black_box(&file), &object)));
}

criterion_group!(benches, files);
criterion_main!(benches);
