//! Seeds that no hand can write: what Lakefall's own code makes of a few real records (`fuzz/samples`). Seeds that are text lie in
//! the corpus only.

use std::io::Write;
use std::sync::Arc;

use arrow_array::builder::{BinaryBuilder, ListBuilder, StringBuilder, StructBuilder};
use arrow_array::{ArrayRef, BooleanArray, Int64Array, RecordBatch, StringArray, StructArray, TimestampMillisecondArray};
use arrow_ipc::writer::StreamWriter;
use arrow_schema::{DataType, Field, Fields};
use bytes::Bytes;
use lakefall_check::generate::{Size, generate};
use lakefall_gateway::engine::ReceiptKeys;
use lakefall_gateway::{Receipt, Receipts};
use lakefall_metadata::rpc::proto::{Answered, Answers, Ask, Asks, answered, ask};
use lakefall_queue::id::Epoch;
use lakefall_queue::ledger::{Command, Query, wire};
use lakefall_queue::topic::Compression;
use lakefall_queue::verbs::PageRequest;
use lakefall_queue::{
    Header, NamespaceName, Offset, PartitionIndex, Properties, QueueId, Record, StoredRecord, Timestamp, TopicId, ValueKind,
};
use lakefall_storage::batch::{BatchEncoder, EncodedBatch};
use lakefall_storage::parquet::{Options, ParquetWriter, TypedColumns, infer_json};
use lakefall_storage::segment::SegmentBuilder;
use prost::Message;
use serde_json::Value;

use crate::targets::ledger::{AT, groups, ledger};
use crate::targets::{fixed, rows_as_input};

const FLIGHTS: &str = include_str!("../../../fuzz/samples/flights.ndjson");
const WEBHOOKS: &str = include_str!("../../../fuzz/samples/webhooks.ndjson");
const BASE: i64 = 1_700_000_000_000;

/// An input for a target.
pub struct Seed {
    /// The target's name.
    pub target: &'static str,
    /// The file's name.
    pub name: String,
    /// The input.
    pub bytes: Vec<u8>,
}

/// All of them.
pub fn seeds() -> Vec<Seed> {
    type Named = Vec<(String, Vec<u8>)>;
    let made: [(&'static str, Named); 10] = [
        ("batch_decode", batches()),
        ("segment_decode", vec![("records".to_owned(), segment())]),
        ("parquet_read", files()),
        ("http_arrow", streams()),
        ("http_decompress", compressed()),
        ("receipt", receipts()),
        ("journal_entry", entries()),
        ("ledger_rows", rows()),
        ("rpc_message", messages()),
        ("history", histories()),
    ];
    made.into_iter().flat_map(|(target, seeds)| seeds.into_iter().map(move |(name, bytes)| Seed { target, name, bytes })).collect()
}

fn named(name: &str, bytes: impl Into<Vec<u8>>) -> (String, Vec<u8>) {
    (name.to_owned(), bytes.into())
}

/// A record for each line: of a flight, with its carrier as key; of a webhook, with its event.
fn records(lines: &str) -> Vec<Record> {
    let record = |line: &str| {
        let value: Value = serde_json::from_str(line).unwrap();
        let key = value["carrier"].as_str().or(value["event"].as_str()).map(|key| Bytes::copy_from_slice(key.as_bytes()));
        Record { key, value: Some(Bytes::copy_from_slice(line.as_bytes())), kind: ValueKind::Json, ..Record::default() }
    };
    let mut records: Vec<Record> = lines.lines().map(record).collect();
    // Whatever else a record may have.
    records[0].headers =
        vec![Header { name: "source".into(), value: Some(Bytes::from_static(b"\0\xff")) }, Header { name: "none".into(), value: None }];
    let properties = Properties {
        dedup_id: Some("d-1".into()),
        ordering_key: Some("o".into()),
        priority: Some(9),
        deliver_at: Some(Timestamp::from_millis(BASE)),
        traceparent: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into()),
        ..Properties::default()
    };
    records[1].properties = Some(Box::new(properties));
    records.push(Record { key: Some(Bytes::from_static(b"gone")), ..Record::default() });
    records
}

fn batch(compression: Compression, records: &[Record]) -> EncodedBatch {
    let mut encoder = BatchEncoder::new(compression);
    records.iter().zip(0..).for_each(|(record, n)| encoder.push(record, Timestamp::from_millis(BASE + n)));
    encoder.finish().unwrap()
}

fn batches() -> Vec<(String, Vec<u8>)> {
    let (flights, webhooks) = (records(FLIGHTS), records(WEBHOOKS));
    vec![
        named("flights-none", batch(Compression::None, &flights[..3]).bytes),
        named("flights-lz4", batch(Compression::Lz4, &flights).bytes),
        named("flights-zstd", batch(Compression::Zstd, &flights).bytes),
        named("webhooks-zstd", batch(Compression::Zstd, &webhooks).bytes),
    ]
}

fn segment() -> Vec<u8> {
    let (flights, webhooks) = (records(FLIGHTS), records(WEBHOOKS));
    let mut builder = SegmentBuilder::new();
    let mut add = |topic, partition, batch| builder.add(TopicId(topic), PartitionIndex(partition), batch).unwrap();
    add(1, 0, batch(Compression::Zstd, &flights));
    add(1, 3, batch(Compression::None, &flights[..2]));
    add(1, 3, batch(Compression::Lz4, &flights[2..6]));
    add(1 << 40, 0, batch(Compression::Zstd, &webhooks));
    builder.finish().chunks.concat()
}

fn stored(records: &[Record], every: u64) -> Vec<StoredRecord> {
    let each = records.iter().zip(0_i64..).map(|(record, n)| StoredRecord {
        partition: PartitionIndex(3),
        offset: Offset(1_000 + n as u64 * every),
        timestamp: Timestamp::from_millis(BASE + n),
        appended_at: Timestamp::from_millis(BASE + 7),
        key: record.key.clone(),
        value: record.value.clone(),
        kind: record.kind,
        headers: record.headers.clone(),
        properties: record.properties.clone(),
    });
    each.collect()
}

fn files() -> Vec<(String, Vec<u8>)> {
    let file = |records: &[StoredRecord], columns: usize| {
        let typed = infer_json(None, records, columns).map(|schema| TypedColumns::new(&schema).unwrap());
        let options =
            Options { typed: typed.filter(|_| columns > 0), gaps: records[1].offset.0 - records[0].offset.0 > 1, ..Options::default() };
        let mut writer = ParquetWriter::new(TopicId(1 << 40), PartitionIndex(3), options).unwrap();
        writer.push(records).unwrap();
        writer.finish().unwrap().bytes
    };
    let (flights, webhooks) = (records(FLIGHTS), records(WEBHOOKS));
    vec![
        named("flights", file(&stored(&flights, 1), 0)),
        named("flights-typed", file(&stored(&flights, 1), 8)),
        named("flights-gaps", file(&stored(&flights, 3), 0)),
        named("webhooks-typed", file(&stored(&webhooks, 1), 12)),
    ]
}

fn stream(columns: Vec<(&str, ArrayRef)>) -> Vec<u8> {
    let batch = RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, column)| (name, column, true))).unwrap();
    let mut bytes = Vec::new();
    let mut writer = StreamWriter::try_new(&mut bytes, &batch.schema()).unwrap();
    writer.write(&batch).unwrap();
    writer.write(&batch.slice(1, 1)).unwrap();
    writer.finish().unwrap();
    drop(writer);
    bytes
}

fn streams() -> Vec<(String, Vec<u8>)> {
    let lines: Vec<&str> = FLIGHTS.lines().take(3).collect();
    let values: ArrayRef = Arc::new(StringArray::from(lines));
    let keys: ArrayRef = Arc::new(StringArray::from(vec![Some("AA"), None, Some("UA")]));
    let times: ArrayRef = Arc::new(TimestampMillisecondArray::from(vec![BASE, BASE + 1, BASE + 2]));
    let json: ArrayRef = Arc::new(BooleanArray::from(vec![true, false, true]));
    let priority: ArrayRef = Arc::new(Int64Array::from(vec![Some(0), None, Some(9)]));
    let fields: Fields = [Field::new("name", DataType::Utf8, false), Field::new("value", DataType::Binary, true)].into_iter().collect();
    let mut headers = ListBuilder::new(StructBuilder::from_fields(fields, 4));
    for count in [2, 0, 1] {
        for number in 0..count {
            let entry = headers.values();
            entry.field_builder::<StringBuilder>(0).unwrap().append_value(format!("h{number}"));
            entry.field_builder::<BinaryBuilder>(1).unwrap().append_option((number == 0).then_some(b"\xff"));
            entry.append(true);
        }
        headers.append(true);
    }
    let headers: ArrayRef = Arc::new(headers.finish());
    let carrier: ArrayRef = Arc::new(StringArray::from(vec!["AA", "B6", "UA"]));
    let object = StructArray::from(vec![
        (Arc::new(Field::new("carrier", DataType::Utf8, true)), carrier),
        (Arc::new(Field::new("n", DataType::Int64, true)), Arc::clone(&priority)),
    ]);
    vec![
        named("lines", stream(vec![("value", Arc::clone(&values)), ("key", Arc::clone(&keys)), ("timestamp", times), ("json", json)])),
        named("headers", stream(vec![("value", values), ("headers", headers), ("priority", priority)])),
        named("objects", stream(vec![("value", Arc::new(object) as ArrayRef), ("key", keys)])),
    ]
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// The first byte says which: even for gzip, odd for zstd.
fn compressed() -> Vec<(String, Vec<u8>)> {
    let flights = FLIGHTS.as_bytes();
    let zeros = vec![0; 1 << 20];
    let zstd = |bytes: &[u8]| zstd::encode_all(bytes, 3).unwrap();
    vec![
        named("flights-gzip", [&[0][..], &gzip(flights)].concat()),
        named("two-members-gzip", [&[0][..], &gzip(b"one"), &gzip(b"two")].concat()),
        named("zeros-gzip", [&[0][..], &gzip(&zeros)].concat()),
        named("flights-zstd", [&[1][..], &zstd(flights)].concat()),
        named("two-frames-zstd", [&[1][..], &zstd(b"one"), &zstd(b"two")].concat()),
        named("zeros-zstd", [&[1][..], &zstd(&zeros)].concat()),
    ]
}

fn receipts() -> Vec<(String, Vec<u8>)> {
    let receipt = Receipt {
        queue: QueueId(0x0102_0304_0506_0708),
        generation: 1,
        topic: TopicId(77),
        partition: PartitionIndex(3),
        offset: Offset(1 << 40),
        attempt: 2,
        undelivered: 1,
        trace: None,
    };
    let sealed = |key: u8| Receipts::new(&ReceiptKeys::new(vec![key; 32], Vec::new()), &fixed()).seal(&receipt).as_bytes().to_vec();
    vec![named("current-key", sealed(7)), named("previous-key", sealed(8))]
}

fn entries() -> Vec<(String, Vec<u8>)> {
    let (_, known) = ledger();
    let entry = |(number, commands): (usize, Vec<Command>)| {
        let (mut ledger, _) = ledger();
        named(&format!("commands-{number}"), ledger.seal(Epoch(1), AT, commands).encode())
    };
    groups(known).into_iter().enumerate().map(entry).collect()
}

/// The rows of the ledger after each group.
fn rows() -> Vec<(String, Vec<u8>)> {
    let (_, known) = ledger();
    let rows = |(number, commands): (usize, Vec<Command>)| {
        let (mut ledger, _) = ledger();
        for command in &commands {
            ledger.apply(command, AT).reply.unwrap();
        }
        ledger.seal(Epoch(1), AT, commands);
        named(&format!("rows-{number}"), rows_as_input(&ledger.checkpoint().puts))
    };
    groups(known).into_iter().enumerate().filter(|(number, _)| [0, 1, 3, 4, 7, 8].contains(number)).map(rows).collect()
}

fn messages() -> Vec<(String, Vec<u8>)> {
    let (mut ledger, known) = ledger();
    let page = PageRequest { after: Some("a".to_owned()), limit: 7 };
    let queries = [
        Query::Topics(NamespaceName::default_name(), page),
        Query::Locate { topic: known.topic, partition: PartitionIndex(0), from: Offset(1), max_bytes: 1 << 20, max_extents: 9 },
        Query::QueuePeek(known.queue, 5),
        Query::QueueNumbers(known.queue),
        Query::Compactable { limit: 9, after: None },
        Query::Objects(Vec::new()),
    ];
    let commands: Vec<Command> = groups(known).into_iter().flatten().collect();
    let mut made = Vec::new();
    let with_kind = |kind: u8, bytes: &[u8]| [&[kind][..], bytes].concat();
    for (number, query) in queries.iter().enumerate() {
        made.push(named(&format!("query-{number}"), with_kind(6, &wire::encode_query(query))));
        made.push(named(&format!("answer-{number}"), with_kind(8, &wire::encode_answer(&ledger.query(query)))));
    }
    let asks = commands.iter().map(wire::encode_command).map(ask::What::Command).chain([ask::What::Query(wire::encode_query(&queries[1]))]);
    let asks =
        asks.zip(1..).map(|(what, id)| Ask { id, shard: 0, within_ms: 1_000, what: Some(what), traceparent: String::new() }).collect();
    made.push(named("asks", with_kind(0, &Asks { asks }.encode_to_vec())));
    let mut answers = Vec::new();
    for (number, command) in commands.iter().enumerate() {
        made.push(named(&format!("command-{number}"), with_kind(5, &wire::encode_command(command))));
        let reply = wire::encode_reply(&ledger.apply(command, AT).reply);
        made.push(named(&format!("reply-{number}"), with_kind(7, &reply)));
        answers.push(Answered { id: number as u64, what: Some(answered::What::Outcome(reply)) });
    }
    made.push(named("answers", with_kind(1, &Answers { answers, now_ms: AT.as_millis(), stopping: false }.encode_to_vec())));
    made
}

/// Of runs in which everything held.
fn histories() -> Vec<(String, Vec<u8>)> {
    let of = |records, messages| {
        let mut bytes = Vec::new();
        generate(Size { records, batch: 5, messages }, &mut bytes).unwrap();
        bytes
    };
    vec![named("records", of(40, 0)), named("messages", of(0, 20)), named("both", of(20, 20))]
}
