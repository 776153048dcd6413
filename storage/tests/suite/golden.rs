//! Batches that crossed between Lakefall and a real Kafka client library (kafka-python), both ways.

use std::process::Command;

use bytes::Bytes;
use lakefall_queue::{Record, StoredRecord};
use lakefall_storage::batch::{BatchHeader, Codec};
use serde_json::{Value, json};

use crate::samples::{COMPRESSIONS, decode_all, encode, file, freezing, path, records};

fn hex(bytes: &Option<Bytes>) -> Value {
    match bytes {
        None => Value::Null,
        Some(bytes) => bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>().into(),
    }
}

fn plain(record: &StoredRecord) -> Value {
    let mut headers: Vec<Value> = record.headers.iter().map(|h| json!([&*h.name, hex(&h.value)])).collect();
    if let Some(trace) = record.properties.as_ref().and_then(|p| p.traceparent.as_deref()) {
        headers.insert(0, json!(["traceparent", hex(&Some(Bytes::copy_from_slice(trace.as_bytes())))]));
    }
    json!({"offset": record.offset.0, "timestamp": record.timestamp.as_millis(), "key": hex(&record.key), "value": hex(&record.value), "headers": headers})
}

#[test]
fn batches_of_a_kafka_client_are_read_in_every_codec() {
    let expected: Vec<Value> = serde_json::from_slice(&file("golden/kafka.json")).unwrap();
    let codecs = [
        ("none", Codec::None),
        ("gzip", Codec::Gzip),
        ("snappy", Codec::Snappy),
        ("snappy-raw", Codec::Snappy),
        ("lz4", Codec::Lz4),
        ("zstd", Codec::Zstd),
    ];
    for (name, codec) in codecs {
        let batch = file(&format!("golden/kafka-{name}.bin"));
        let header = BatchHeader::parse(&batch).unwrap();
        assert_eq!((header.compression, header.total_len), (codec, batch.len()), "{name}");
        let found: Vec<Value> = decode_all(&batch).unwrap().iter().map(plain).collect();
        assert_eq!(found, expected, "{name}");
    }
}

/// What kafka-python should see: properties are ordinary headers to it, in front of the record's own.
fn as_kafka_sees_them() -> Value {
    let encoded = |text: &str| hex(&Some(Bytes::copy_from_slice(text.as_bytes())));
    let headers = |record: &Record| {
        let mut out = Vec::new();
        if let Some(p) = &record.properties {
            let texts = [
                ("lakefall.dedup_id", &p.dedup_id),
                ("lakefall.ordering_key", &p.ordering_key),
                ("lakefall.correlation_id", &p.correlation_id),
                ("lakefall.reply_to", &p.reply_to),
                ("traceparent", &p.traceparent),
                ("tracestate", &p.tracestate),
            ];
            out.extend(texts.iter().map(|(name, text)| json!([name, encoded(text.as_deref().unwrap())])));
            out.push(json!(["lakefall.priority", encoded("9")]));
            out.push(json!(["lakefall.deliver_at", encoded("1700000000001")]));
            out.push(json!(["lakefall.expires_at", encoded("-1")]));
        }
        out.extend(record.headers.iter().map(|h| json!([&*h.name, hex(&h.value)])));
        out
    };
    let each = records();
    let each = each.iter().enumerate().map(|(n, (record, at))| {
        json!({"offset": n, "timestamp": at.as_millis(), "key": hex(&record.key), "value": hex(&record.value), "headers": headers(record)})
    });
    each.collect::<Vec<_>>().into()
}

#[test]
fn a_kafka_client_reads_the_batches_that_lakefall_makes() {
    let directory = tempfile::tempdir().unwrap();
    let target = if freezing() { path("golden") } else { directory.path().to_owned() };
    for (name, compression) in COMPRESSIONS {
        std::fs::write(target.join(format!("lakefall-{name}.bin")), encode(compression, &records()).bytes).unwrap();
    }
    std::fs::write(target.join("lakefall.json"), format!("{}\n", as_kafka_sees_them())).unwrap();
    match std::env::var_os("LAKEFALL_TEST_PYTHON") {
        Some(python) => {
            let ran = Command::new(python).arg(path("golden/check.py")).arg(&target).output().unwrap();
            assert!(ran.status.success(), "{}{}", String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
        }
        // Without Python: these bytes passed check.py when they were committed, and nothing has changed since.
        None => assert_unchanged(),
    }
}

fn assert_unchanged() {
    assert_eq!(serde_json::from_slice::<Value>(&file("golden/lakefall.json")).unwrap(), as_kafka_sees_them());
    for (name, compression) in COMPRESSIONS {
        let checked = file(&format!("golden/lakefall-{name}.bin"));
        let now = encode(compression, &records()).bytes;
        if name == "zstd" {
            // Another version of the library may compress to other bytes.
            assert_eq!(decode_all(&checked).unwrap(), decode_all(&now).unwrap());
        } else {
            assert!(checked == now, "lakefall-{name}.bin is no longer what the encoder makes: run with LAKEFALL_TEST_PYTHON set");
        }
    }
}
