//! Records and segments that several tests use.

use bytes::Bytes;
use lakefall_queue::topic::Compression;
use lakefall_queue::{Header, Offset, PartitionIndex, Properties, Record, StoredRecord, Timestamp, TopicId, ValueKind};
use lakefall_storage::batch::{BatchEncoder, BatchError, DecodeContext, EncodedBatch, decode};
use lakefall_storage::segment::{Segment, SegmentBuilder};

pub(crate) const BASE: i64 = 1_700_000_000_000;
pub(crate) const COMPRESSIONS: [(&str, Compression); 3] =
    [("none", Compression::None), ("lz4", Compression::Lz4), ("zstd", Compression::Zstd)];

fn bytes(text: &str) -> Option<Bytes> {
    Some(Bytes::copy_from_slice(text.as_bytes()))
}

fn header(name: &str, value: Option<&[u8]>) -> Header {
    Header { name: name.into(), value: value.map(Bytes::copy_from_slice) }
}

/// Every shape that a record has, then enough of the same to compress.
pub(crate) fn records() -> Vec<(Record, Timestamp)> {
    let properties = Properties {
        dedup_id: Some("d-1".into()),
        ordering_key: Some("o".into()),
        priority: Some(9),
        deliver_at: Some(Timestamp::from_millis(BASE + 1)),
        expires_at: Some(Timestamp::from_millis(-1)),
        correlation_id: Some("c".into()),
        reply_to: Some("replies".into()),
        for_queue: None,
        schema_error: None,
        traceparent: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into()),
        tracestate: Some("a=b".into()),
    };
    let shapes = vec![
        Record { key: bytes("key"), value: bytes("value"), ..Record::default() },
        Record { value: bytes("{\"a\":1}"), kind: ValueKind::Json, ..Record::default() },
        Record { key: bytes("gone"), headers: vec![header("h", None), header("", Some(b""))], ..Record::default() },
        Record { key: bytes(""), value: bytes(""), ..Record::default() },
        Record::default(),
        Record {
            value: bytes("with properties"),
            headers: vec![header("h", Some(&[0, 159, 255])), header("h", Some(b"2"))],
            properties: Some(Box::new(properties)),
            ..Record::default()
        },
    ];
    let many = (0..60).map(|n| Record { value: bytes(&format!("a value that repeats itself, number {n}")), ..Record::default() });
    let times = [0, -5_000, 1, 1, 2, 100_000].into_iter().chain(10..);
    shapes.into_iter().chain(many).zip(times).map(|(record, at)| (record, Timestamp::from_millis(BASE + at))).collect()
}

pub(crate) fn encode(compression: Compression, records: &[(Record, Timestamp)]) -> EncodedBatch {
    let mut encoder = BatchEncoder::new(compression);
    records.iter().for_each(|(record, at)| encoder.push(record, *at));
    encoder.finish().unwrap()
}

pub(crate) fn context(base: u64) -> DecodeContext {
    DecodeContext::new(PartitionIndex(3), Offset(base), Timestamp::from_millis(BASE + 7))
}

pub(crate) fn decode_all(batch: &Bytes) -> Result<Vec<StoredRecord>, BatchError> {
    let mut out = Vec::new();
    decode(batch, context(0), Offset(0), &mut out).map(|()| out)
}

/// What decoding should give back.
pub(crate) fn stored(records: &[(Record, Timestamp)], base: u64) -> Vec<StoredRecord> {
    let each = records.iter().enumerate().map(|(n, (record, at))| StoredRecord {
        partition: PartitionIndex(3),
        offset: Offset(base + n as u64),
        timestamp: *at,
        appended_at: Timestamp::from_millis(BASE + 7),
        key: record.key.clone(),
        value: record.value.clone(),
        kind: record.kind,
        headers: record.headers.clone(),
        properties: record.properties.clone(),
    });
    each.collect()
}

/// Three extents in two topics, one of them of two batches.
pub(crate) fn segment() -> Segment {
    let records = records();
    let mut builder = SegmentBuilder::new();
    let mut add = |topic, partition, compression, records: &[(Record, Timestamp)]| {
        builder.add(TopicId(topic), PartitionIndex(partition), encode(compression, records)).unwrap();
    };
    add(1, 0, Compression::Zstd, &records);
    add(1, 4, Compression::None, &records[..3]);
    add(1, 4, Compression::Lz4, &records[3..60]);
    add(1 << 40, 0, Compression::Lz4, &records[60..]);
    builder.finish()
}

pub(crate) fn joined(segment: &Segment) -> Bytes {
    Bytes::from(segment.chunks.concat())
}

/// A file below `storage/tests`.
pub(crate) fn path(name: &str) -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(name)
}

pub(crate) fn file(name: &str) -> Bytes {
    Bytes::from(std::fs::read(path(name)).unwrap_or_else(|error| panic!("{name}: {error}")))
}

/// Whether this run makes the committed samples anew: only ever for a new format version.
pub(crate) fn freezing() -> bool {
    std::env::var_os("LAKEFALL_FREEZE").is_some()
}
