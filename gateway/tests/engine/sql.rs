//! What a query sees through a gateway: all that was acknowledged, wherever it lies, and nothing wrong when the store is.

use std::sync::Arc;

use bytes::Bytes;
use lakefall_gateway::Engine;
use lakefall_metadata::Metadata;
use lakefall_queue::error::{Error, Result};
use lakefall_queue::ledger::{
    Answer, Command, Extent, NewExtent, ObjectLevel, Query, Reply, RetiredExtent, SliceOutcome, Swap, SwapPart, object_key,
};
use lakefall_queue::sql::{Parameters, RowsForm, SqlRefusal, Statement, Statistics};
use lakefall_queue::topic::{ParquetConfig, TopicConfig};
use lakefall_queue::verbs::{Caller, Precondition, Verbs};
use lakefall_queue::{NamespaceName, Offset, PartitionIndex, Record, SegmentId, ShardId, StoredRecord, ValueKind};
use lakefall_storage::parquet::{Options, ParquetWriter, TypedColumns, infer_json};
use object_store::ObjectStoreExt;
use object_store::path::Path;
use serde_json::{Value, json};

use crate::support::faults::Fault;
use crate::support::{World, all, append, caller, record, topic};

async fn ask(engine: &Engine, text: &str) -> Result<(Value, Statistics)> {
    let statement = Statement { text: text.into(), parameters: Parameters::None, form: RowsForm::JsonRows, max_rows: None, timeout: None };
    let mut rows = engine.sql(&caller(), statement).await?;
    let mut text = String::new();
    while let Some(portion) = rows.next().await? {
        text.push_str(std::str::from_utf8(&portion).unwrap());
    }
    Ok((serde_json::from_str(&format!("[{text}]")).unwrap(), rows.statistics()))
}

fn number(n: u64) -> Record {
    Record { kind: ValueKind::Json, ..record(&json!({"n": n, "s": format!("text {n}")}).to_string()) }
}

async fn send(world: &World, from: u64, until: u64) {
    world.append(append("t", (from..until).map(number).collect())).await.unwrap();
}

/// A world with a topic whose JSON values get columns.
async fn world(partitions: u32) -> World {
    let world = World::new().await;
    let parquet = ParquetConfig { infer_json: true, ..ParquetConfig::default() };
    world.topic_like("t", TopicConfig { partitions, parquet, ..TopicConfig::default() }).await;
    world
}

/// Puts all records of the topic's only partition into a Parquet file, as a compactor does.
async fn roll(world: &World) {
    let records: Vec<StoredRecord> = all(&world.engine, "t").await;
    let described = world.engine.describe_topic(&caller(), &topic("t")).await.unwrap().topic;
    let typed = infer_json(None, &records, 100).map(|schema| TypedColumns::new(&schema).unwrap());
    let mut writer = ParquetWriter::new(described.id, PartitionIndex(0), Options { typed, ..Options::default() }).unwrap();
    writer.push(&records).unwrap();
    let written = writer.finish().unwrap();
    let query =
        Query::Locate { topic: described.id, partition: PartitionIndex(0), from: Offset(0), max_bytes: u64::MAX, max_extents: 1_000 };
    let Ok(Answer::Located(located)) = world.metadata.query(ShardId(0), query).await else { panic!("not located") };
    let Ok(Answer::Compactable(compactable)) = world.metadata.query(ShardId(0), Query::Compactable { limit: 10, after: None }).await else {
        panic!("nothing to compact")
    };
    let object = SegmentId::mint(world.ambient.now(), 77);
    let size = written.bytes.len() as u32;
    let new = NewExtent {
        position: 0,
        length: size,
        first_timestamp: written.first_timestamp,
        max_timestamp: written.max_timestamp,
        appended_at: written.first_appended_at,
    };
    let extent = Extent {
        base_offset: written.first,
        records: records.len() as u32,
        length: size,
        object,
        object_size: size.into(),
        position: 0,
        first_timestamp: new.first_timestamp,
        max_timestamp: new.max_timestamp,
        appended_at: new.appended_at,
        level: ObjectLevel::Parquet,
    };
    let key = object_key(&described.namespace, &described.name, &extent);
    world.objects.put(&Path::from(key.clone()), Bytes::clone(&written.bytes).into()).await.unwrap();
    let retired = |extent: &Extent| RetiredExtent {
        base_offset: extent.base_offset,
        records: extent.records,
        length: extent.length,
        object: extent.object,
    };
    let part = SwapPart {
        topic: described.id,
        partition: PartitionIndex(0),
        generation: compactable.partitions[0].generation,
        old: located.extents.iter().map(retired).collect(),
        new,
        settled: None,
        rest_since: None,
    };
    let swap = Swap { object, size: size.into(), level: ObjectLevel::Parquet, key: Some(key.into()), parts: vec![part] };
    let Ok(Reply::Committed(reply)) = world.metadata.execute(ShardId(0), Command::Swap(Box::new(swap))).await else { panic!("no swap") };
    assert!(matches!(reply.slices[0], SliceOutcome::Stored(_)), "{reply:?}");
}

#[tokio::test]
async fn every_acknowledged_record_is_seen_by_the_next_query() {
    let world = world(3).await;
    let mut sent = 0;
    for count in [1, 30, 7, 200] {
        send(&world, sent, sent + count).await;
        sent += count;
        let (rows, _) = ask(&world.engine, "SELECT count(*), sum(n), max(s) IS NOT NULL FROM t").await.unwrap();
        assert_eq!(rows, json!([[sent, sent * (sent - 1) / 2, true]]));
        // Also through a gateway that never heard of it.
        let (rows, _) = ask(&*world.other_engine().await, "SELECT count(n) FROM t").await.unwrap();
        assert_eq!(rows, json!([[sent]]));
    }
}

#[tokio::test]
async fn a_file_and_the_tail_behind_it_are_one_table() {
    let world = world(1).await;
    send(&world, 0, 1_000).await;
    roll(&world).await;
    send(&world, 1_000, 1_100).await;
    let other = world.other_engine().await;
    let (rows, statistics) = ask(&other, "SELECT count(n), sum(n), min(_offset), max(_offset) FROM t").await.unwrap();
    assert_eq!(rows, json!([[1_100, 1_100 * 1_099 / 2, 0, 1_099]]));
    assert_eq!((statistics.row_groups_read, statistics.extents_read, statistics.untyped), (1, 1, 0));
    let (rows, statistics) = ask(&other, "SELECT s FROM t WHERE n = 1005").await.unwrap();
    assert_eq!((rows, statistics.row_groups_read, statistics.row_groups_pruned), (json!([["text 1005"]]), 0, 1));
    other.trim(&caller(), &topic("t"), None, Offset(990)).await.unwrap();
    let (rows, _) = ask(&other, "SELECT count(n), min(n) FROM t").await.unwrap();
    assert_eq!(rows, json!([[110, 990]]), "nothing below the log start");
}

#[tokio::test]
async fn a_query_sees_no_other_namespace_and_no_deleted_topic() {
    let world = world(1).await;
    send(&world, 0, 3).await;
    let stranger = Caller { namespace: NamespaceName::new("other").unwrap(), ..caller() };
    world.engine.put_namespace(&caller(), &stranger.namespace, String::new(), Precondition::Always).await.unwrap();
    let statement =
        Statement { text: "SELECT * FROM t".into(), parameters: Parameters::None, form: RowsForm::JsonRows, max_rows: None, timeout: None };
    let refused = |found: Result<()>| assert!(matches!(found, Err(Error::Sql(SqlRefusal::TableNotFound { .. }))), "{found:?}");
    refused(world.engine.sql(&stranger, statement).await.map(drop));
    world.engine.delete_topic(&caller(), &topic("t"), Precondition::Always).await.unwrap();
    refused(ask(&world.engine, "SELECT * FROM t").await.map(drop));
}

#[tokio::test]
async fn system_tables_tell_what_the_namespace_has() {
    let world = world(2).await;
    send(&world, 0, 10).await;
    let (rows, _) = ask(&world.engine, "SELECT name, partitions, records, cleanup FROM system.topics").await.unwrap();
    assert_eq!(rows, json!([["t", 2, 10, "delete"]]));
    let (rows, _) = ask(&world.engine, "SELECT topic, sum(records) FROM system.objects WHERE topic = 't' GROUP BY topic").await.unwrap();
    assert_eq!(rows, json!([["t", 10]]));
    for (text, count) in [("cursors", 0), ("queues", 0), ("objects WHERE topic = 'gone'", 0)] {
        assert_eq!(ask(&world.engine, &format!("SELECT count(*) FROM system.{text}")).await.unwrap().0, json!([[count]]));
    }
}

#[tokio::test]
async fn a_store_that_fails_is_told_and_never_wrong_rows() {
    let world = world(1).await;
    send(&world, 0, 500).await;
    roll(&world).await;
    send(&world, 500, 600).await;
    let expected = json!([[600, 600 * 599 / 2, "text 99"]]);
    let text = "SELECT count(n), sum(n), max(s) FROM t";
    world.objects.every_get(Some(Fault::Flip));
    let mut refused = 0;
    for _ in 0..30 {
        match ask(&*world.other_engine().await, text).await {
            Ok((rows, _)) => assert_eq!(rows, expected),
            Err(Error::DataUnavailable { .. }) => refused += 1,
            Err(other) => panic!("{other:?}"),
        }
    }
    assert!(refused > 5, "only {refused} of 30 were hit");
    for (fault, is_kept) in [(Fault::Throttle, true), (Fault::Missing, false)] {
        world.objects.every_get(Some(fault));
        let found = ask(&*world.other_engine().await, text).await;
        match found {
            Err(Error::Unavailable { .. }) if is_kept => {}
            Err(Error::DataUnavailable { .. }) if !is_kept => {}
            other => panic!("{other:?}"),
        }
    }
    world.objects.every_get(None);
    assert_eq!(ask(&*world.other_engine().await, text).await.unwrap().0, expected);
}

#[tokio::test]
async fn queries_do_not_keep_a_gateway_from_its_other_work() {
    let world = world(1).await;
    send(&world, 0, 100).await;
    let engine = Arc::clone(&world.engine);
    let endless = "SELECT count(*) FROM t a, t b, t c, t d, t e WHERE a.n + b.n + c.n + d.n + e.n = -1";
    let query = tokio::spawn(async move { ask(&engine, endless).await.map(drop) });
    for sent in 100..120 {
        send(&world, sent, sent + 1).await;
        assert_eq!(world.values("t").await.len() as u64, sent + 1);
    }
    assert!(!query.is_finished(), "ten billion rows are not counted so soon");
    query.abort();
    assert!(query.await.unwrap_err().is_cancelled());
}
