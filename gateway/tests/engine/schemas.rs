//! Schemas: what may be registered, and what records of a topic are held against.

use std::sync::Arc;

use lakefall_gateway::Engine;
use lakefall_queue::error::Error;
use lakefall_queue::schema::{Compatibility, SchemaText, SchemaType, SchemaVerbs, SchemaVersion};
use lakefall_queue::topic::{InvalidRecords, TopicConfig, TopicSchema};
use lakefall_queue::verbs::{Admission, Commit, Precondition, Verbs};
use lakefall_queue::{Record, SubjectName, ValueKind};

use crate::support::{World, all, append, caller, record, topic};

const OPEN: &str = r#"{"type":"object","properties":{"n":{"type":"integer"}}}"#;
const NEWER: &str = r#"{"type":"object","properties":{"n":{"type":"integer"},"note":{"type":"string"}}}"#;
const STRICTER: &str = r#"{"type":"object","properties":{"n":{"type":"integer"}},"required":["n"]}"#;

fn subject() -> SubjectName {
    SubjectName::new("numbers").unwrap()
}

fn json(text: &str) -> SchemaText {
    SchemaText { kind: SchemaType::Json, text: text.into(), message: None }
}

async fn register(engine: &Engine, text: &str) -> Result<SchemaVersion, Error> {
    engine.register_schema(&caller(), &subject(), json(text)).await.map(|(version, _)| version)
}

async fn put_topic(engine: &Engine, name: &str, invalid: InvalidRecords) -> Result<(), Error> {
    let config = TopicConfig { schema: Some(TopicSchema { subject: subject(), invalid }), ..TopicConfig::default() };
    engine.put_topic(&caller(), &topic(name), config, Precondition::Always, None).await.map(|_| ())
}

/// With the topic `t`, whose records are held against [`OPEN`].
async fn world(invalid: InvalidRecords) -> World {
    let world = World::new().await;
    register(&world.engine, OPEN).await.unwrap();
    put_topic(&world.engine, "t", invalid).await.unwrap();
    world
}

fn value(text: &str) -> Record {
    Record { kind: ValueKind::Json, ..record(text) }
}

async fn send(engine: &Arc<Engine>, values: &[&str]) -> Result<(), Error> {
    engine.append(&caller(), append("t", values.iter().map(|text| value(text)).collect())).await.map(|_| ())
}

#[tokio::test]
async fn records_that_do_not_match_are_refused_with_their_places_and_nothing_is_stored() {
    let world = world(InvalidRecords::Reject).await;
    send(&world.engine, &[r#"{"n":1}"#, r#"{}"#]).await.unwrap();
    let refused = send(&world.engine, &[r#"{"n":2}"#, r#"{"n":"x"}"#, "nonsense"]).await.unwrap_err();
    let Error::RecordsInvalid(invalid) = refused else { panic!("{refused:?}") };
    let places: Vec<_> = invalid.iter().map(|i| (i.append, i.record, i.wrong.pointer.as_str())).collect();
    assert_eq!(places, [(None, 1, "/n"), (None, 2, "")]);
    assert_eq!(world.values("t").await, [r#"{"n":1}"#, "{}"]);
    let tombstone = Record { key: Some("k".into()), ..Record::default() };
    world.engine.append(&caller(), append("t", vec![tombstone])).await.unwrap();
}

#[tokio::test]
async fn a_large_request_is_checked_to_its_last_record() {
    let world = world(InvalidRecords::Reject).await;
    let long = format!(r#"{{"n":1,"text":"{}"}}"#, "x".repeat(1_000));
    let mut values = vec![long.as_str(); 500];
    send(&world.engine, &values).await.unwrap();
    values.push("[]");
    let refused = send(&world.engine, &values).await.unwrap_err();
    assert!(matches!(refused, Error::RecordsInvalid(ref invalid) if invalid[0].record == 500), "{refused:?}");
}

#[tokio::test]
async fn where_a_topic_takes_them_records_that_do_not_match_are_marked() {
    let world = world(InvalidRecords::Mark).await;
    send(&world.engine, &[r#"{"n":1}"#, r#"{"n":"x"}"#]).await.unwrap();
    let stored = all(&world.engine, "t").await;
    assert_eq!(stored[0].properties, None, "what matches gets nothing");
    let reason = stored[1].properties.as_ref().unwrap().schema_error.as_deref().unwrap();
    assert!(reason.starts_with("/n: "), "{reason}");
}

#[tokio::test]
async fn an_atomic_commit_names_the_append_and_the_record_that_do_not_match() {
    let world = world(InvalidRecords::Reject).await;
    world.topic("free", 1).await;
    let appends = vec![append("free", vec![value("[]")]).batch, append("t", vec![value("{}"), value("[]")]).batch];
    let commit = Commit { appends, cursors: Vec::new(), settlements: Vec::new(), idempotency: None, admission: Admission::default() };
    let refused = world.engine.commit(&caller(), commit).await.unwrap_err();
    assert!(matches!(refused, Error::RecordsInvalid(ref i) if (i[0].append, i[0].record) == (Some(1), 1)), "{refused:?}");
    assert!(world.values("free").await.is_empty() && world.values("t").await.is_empty());
}

#[tokio::test]
async fn a_new_version_counts_at_once_here_and_soon_elsewhere() {
    let world = world(InvalidRecords::Reject).await;
    let other = world.other_engine().await;
    send(&other, &["{}"]).await.unwrap();
    world.engine.put_compatibility(&caller(), &subject(), Compatibility::None, Precondition::Present).await.unwrap();
    register(&world.engine, STRICTER).await.unwrap();
    assert!(matches!(send(&world.engine, &["{}"]).await, Err(Error::RecordsInvalid(_))));
    while send(&other, &["{}"]).await.is_ok() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_version_may_follow_only_if_it_is_compatible_and_the_same_one_is_known() {
    let world = World::new().await;
    let first = register(&world.engine, OPEN).await.unwrap();
    assert_eq!(register(&world.engine, OPEN).await.unwrap(), first);
    assert_eq!(register(&world.engine, NEWER).await.unwrap().version, 2);
    let refused = register(&world.engine, STRICTER).await.unwrap_err();
    let Error::SchemaIncompatible { version: 2, reasons, .. } = refused else { panic!("{refused:?}") };
    assert_eq!(reasons[0].pointer, "/required");
    assert_eq!(register(&world.engine, OPEN).await.unwrap(), first, "what is registered is not judged again");
    let judged = world.engine.check_schema(&caller(), &subject(), Some(1), json(STRICTER)).await.unwrap();
    assert_eq!(judged, reasons);
    world.engine.put_compatibility(&caller(), &subject(), Compatibility::Forward, Precondition::Always).await.unwrap();
    assert_eq!(register(&world.engine, STRICTER).await.unwrap().version, 3);
    let invalid = register(&world.engine, r#"{"type":7}"#).await.unwrap_err();
    assert!(matches!(invalid, Error::SchemaInvalid(_)), "{invalid:?}");
}

#[tokio::test]
async fn many_who_register_at_once_get_versions_one_after_the_other() {
    let world = World::new().await;
    let text = |n: usize| format!(r#"{{"properties":{{"p{n}":{{"type":"integer"}}}}}}"#);
    let registered = futures::future::join_all((0..6).map(|n| {
        let engine = Arc::clone(&world.engine);
        async move { register(&engine, &text(n % 3)).await.unwrap().version }
    }));
    let mut versions = registered.await;
    versions.sort_unstable();
    assert_eq!(versions, [1, 1, 2, 2, 3, 3]);
}

#[tokio::test]
async fn avro_values_may_name_the_version_that_they_were_written_with() {
    let world = World::new().await;
    let avro = |fields: &str| {
        let text = format!(r#"{{"type":"record","name":"R","fields":[{{"name":"a","type":"int"}}{fields}]}}"#);
        SchemaText { kind: SchemaType::Avro, text: text.into(), message: None }
    };
    let (old, _) = world.engine.register_schema(&caller(), &subject(), avro("")).await.unwrap();
    put_topic(&world.engine, "t", InvalidRecords::Reject).await.unwrap();
    let bytes = |prefix: Option<u32>, value: &[u8]| {
        let prefix = prefix.map(|id| [&[0], &id.to_be_bytes()[..]].concat()).unwrap_or_default();
        Record { value: Some([&prefix, value].concat().into()), ..Record::default() }
    };
    let send = |record: Record| world.append(append("t", vec![record]));
    send(bytes(None, &[2])).await.unwrap();
    let newer = avro(r#",{"name":"b","type":"int","default":0}"#);
    let (new, _) = world.engine.register_schema(&caller(), &subject(), newer).await.unwrap();
    send(bytes(None, &[2, 4])).await.unwrap();
    send(bytes(Some(old.id), &[2])).await.unwrap();
    send(bytes(Some(new.id), &[2, 4])).await.unwrap();
    assert!(matches!(send(bytes(None, &[2])).await, Err(Error::RecordsInvalid(_))));
    assert!(matches!(send(bytes(Some(old.id), &[2, 4])).await, Err(Error::RecordsInvalid(_))));
}
