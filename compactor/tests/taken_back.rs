//! A ledger that was lost: what is left of its topics in Parquet files is listed and kept, and is taken back when an operator asks for
//! it, as it was or not at all.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail where it stands")]

mod support;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use lakefall_compactor::recover::{Decision, TakenBack, Wanted, accept, examine, take_back};
use lakefall_queue::ledger::{Answer, Command, Extent, ObjectLevel, Query, TakenFile, object_key};
use lakefall_queue::topic::{Cleanup, Topic, TopicConfig};
use lakefall_queue::verbs::Precondition;
use lakefall_queue::{Offset, SegmentId, StoredRecord, Timestamp, TopicId};
use lakefall_storage::parquet::{Options, ParquetWriter};
use object_store::ObjectStoreExt;
use object_store::path::Path as ObjectPath;
use support::rolling::numbered;
use support::{Bench, Bucket, GRACE, MS, ORPHAN_GRACE, P0, S0, START};

/// Records are in a Parquet file after this.
const ROLLED: Duration = Duration::from_secs(301);
/// When the second ledger begins.
const LATER: i64 = START + 7_200_000;

/// A ledger of its own over a bucket that others used.
async fn ledger(folder: &Path, name: &str, bucket: &Arc<Bucket>, now: i64) -> Bench {
    let folder = folder.join(name);
    std::fs::create_dir_all(&folder).unwrap();
    Bench::sqlite(&folder, Arc::clone(bucket), now).await
}

/// Appends records and waits until they are in Parquet files.
async fn roll(bench: &Bench, topic: &Topic, from: usize, count: usize) {
    bench.append(&[(topic, numbered(from, count))]).await;
    bench.clock.pass(ROLLED);
    bench.settle(&bench.compactor()).await;
    assert_eq!(bench.levels(topic).await, [ObjectLevel::Parquet]);
}

fn only(topic: &Topic) -> Wanted {
    Wanted::Topics(BTreeSet::from([(topic.namespace.clone(), topic.name.clone())]))
}

async fn back(bench: &Bench, wanted: &Wanted) -> TakenBack {
    let before = bench.all_keys().await;
    let taken = take_back(&*bench.metadata, &bench.store, wanted).await.unwrap();
    assert_eq!(bench.all_keys().await, before, "an object was written or deleted");
    taken
}

async fn described(bench: &Bench, id: TopicId) -> Option<Topic> {
    match bench.metadata.query(id.shard(), Query::TopicById(id)).await {
        Ok(Answer::Topic(topic)) => Some(topic),
        Ok(other) => panic!("{other:?}"),
        Err(_) => None,
    }
}

fn reasons(taken: &TakenBack) -> Vec<&str> {
    taken.passed_over.iter().map(|file| file.reason.as_str()).collect()
}

/// Changes one byte of an object, as no store should.
async fn damage(bucket: &Bucket, topic: &Topic, extent: &Extent) {
    let (store, key) = (bucket.honest(), ObjectPath::from(object_key(&topic.namespace, &topic.name, extent)));
    let mut bytes = store.get(&key).await.unwrap().bytes().await.unwrap().to_vec();
    bytes[100] ^= 1;
    store.put(&key, Bytes::from(bytes).into()).await.unwrap();
}

/// Stores records as a file of a topic that nobody swaps in.
async fn store_file(bench: &Bench, topic: &Topic, records: &[StoredRecord], topic_created: Option<Timestamp>) {
    let mut writer = ParquetWriter::new(topic.id, P0, Options { topic_created, ..Options::default() }).unwrap();
    writer.push(records).unwrap();
    let written = writer.finish().unwrap();
    let file = TakenFile {
        object: SegmentId::mint(bench.ambient.now(), bench.ambient.entropy.draw()),
        base_offset: written.first,
        records: written.records as u32,
        length: written.bytes.len() as u32,
        first_timestamp: written.first_timestamp,
        max_timestamp: written.max_timestamp,
        appended_at: written.first_appended_at,
    };
    let key = object_key(&topic.namespace, &topic.name, &file.extent());
    bench.store.put_new(&key, vec![written.bytes]).await.unwrap();
}

#[tokio::test]
async fn a_topic_comes_back_over_its_files_at_their_offsets_with_the_same_records_and_goes_on() {
    let (folder, bucket) = (tempfile::tempdir().unwrap(), Bucket::new());
    let bench = ledger(folder.path(), "lost", &bucket, START).await;
    let other = bench.topic_with(S0, "other", TopicConfig::default()).await;
    let topic = bench.topic_with(S0, "t", TopicConfig::default()).await;
    roll(&bench, &other, 0, 3).await;
    roll(&bench, &topic, 0, 50).await;
    roll(&bench, &topic, 50, 50).await;
    let (records, files) = (bench.read(&topic).await, bench.extents(&topic).await);
    assert_eq!((records.len(), files.len()), (100, 2));
    // In a segment only: these are lost to their offsets.
    bench.append(&[(&topic, numbered(100, 5))]).await;
    bench.finish().await;

    let bench = ledger(folder.path(), "anew", &bucket, LATER).await;
    let report = examine(&*bench.metadata, &bench.store, bench.ambient.now()).await.unwrap();
    let table = report.tables.iter().find(|table| table.topic.ends_with("/t")).unwrap();
    let part = &table.partitions[0];
    assert_eq!((part.topic_id.clone(), part.created_at), (topic.id.to_string(), Some(topic.created_at)));
    assert_eq!((part.files, part.records, part.first, part.end), (2, 100, Offset(0), Offset(100)));
    assert_eq!(described(&bench, topic.id).await, None, "what is only listed is not taken");

    let taken = back(&bench, &only(&topic)).await;
    assert_eq!((taken.files, taken.records, reasons(&taken), taken.missing.len()), (2, 100, Vec::new(), 0));
    assert_eq!(described(&bench, topic.id).await, Some(Topic { version: 1, ..topic.clone() }));
    assert_eq!(bench.extents(&topic).await, files);
    assert_eq!(bench.read(&topic).await, records);
    assert_eq!(described(&bench, other.id).await, None, "a topic that nobody named may have been deleted");
    // The log goes on where the files end, and they are rolled and merged as ever.
    for n in 0..3 {
        roll(&bench, &topic, 200 + n * 5, 5).await;
    }
    let now = bench.read(&topic).await;
    assert_eq!((&now[..100], now[100].offset, now.len()), (&records[..], Offset(100), 115));
    let report = examine(&*bench.metadata, &bench.store, bench.ambient.now()).await.unwrap();
    assert!(report.tables.iter().all(|table| table.topic.ends_with("/other")), "{report:?}");
    // Numbers go up: what lies below is not taken any more, and said so.
    let taken = back(&bench, &Wanted::All).await;
    assert_eq!((taken.topics.len(), taken.passed_over.len()), (0, 1));
    assert!(reasons(&taken)[0].contains("another topic's"), "{taken:?}");
    bench.finish().await;
}

#[tokio::test]
async fn parquet_files_that_no_ledger_knows_are_kept_until_they_are_discarded() {
    let (folder, bucket) = (tempfile::tempdir().unwrap(), Bucket::new());
    let bench = ledger(folder.path(), "lost", &bucket, START).await;
    let collector = bench.marked().await;
    let topic = bench.topic_with(S0, "t", TopicConfig::default()).await;
    roll(&bench, &topic, 0, 50).await;
    bench.clock.pass(GRACE + MS);
    collector.round().await;
    let files = bench.all_keys().await;
    assert_eq!(files, bench.referenced(&[&topic]).await, "no segment is left that would tell of a loss");
    bench.finish().await;

    let bench = ledger(folder.path(), "anew", &bucket, LATER).await;
    let report = examine(&*bench.metadata, &bench.store, bench.ambient.now()).await.unwrap();
    assert!(report.is_halted());
    assert_eq!((report.objects, report.unknown.len(), report.tables.len()), (1, 0, 1));
    assert!(report.lines().iter().any(|line| line.contains("50 records in 1 files")), "{:#?}", report.lines());
    accept(&*bench.metadata, &bench.store, &report, Decision::default()).await.unwrap();
    let collector = bench.collector();
    assert_eq!(collector.check().await.unwrap(), None);
    bench.clock.pass(ORPHAN_GRACE + MS);
    let swept = collector.sweep().await.unwrap();
    assert_eq!((swept.spared, swept.deleted), (1, 0));
    assert_eq!(bench.all_keys().await, files);
    let report = examine(&*bench.metadata, &bench.store, bench.ambient.now()).await.unwrap();
    accept(&*bench.metadata, &bench.store, &report, Decision { discard: true }).await.unwrap();
    assert_eq!(collector.sweep().await.unwrap().deleted, 1);
    bench.finish().await;
}

#[tokio::test]
async fn of_merged_files_and_those_they_were_made_of_each_offset_comes_back_once_and_a_damaged_one_does_not() {
    let (folder, bucket) = (tempfile::tempdir().unwrap(), Bucket::new());
    let bench = ledger(folder.path(), "lost", &bucket, START).await;
    let topic = bench.topic_with(S0, "t", TopicConfig::default()).await;
    for n in 0..4 {
        roll(&bench, &topic, n * 50, 50).await;
    }
    let (records, files) = (bench.read(&topic).await, bench.extents(&topic).await);
    assert_eq!((records.len(), files.len()), (200, 1), "four became one");
    bench.finish().await;

    let bench = ledger(folder.path(), "anew", &bucket, LATER).await;
    let taken = back(&bench, &Wanted::All).await;
    assert_eq!((taken.files, taken.records, taken.passed_over.len()), (1, 200, 4));
    assert!(reasons(&taken).iter().all(|reason| reason.contains("other files")), "{taken:?}");
    assert_eq!(bench.extents(&topic).await, files);
    bench.finish().await;

    damage(&bucket, &topic, &files[0]).await;
    let bench = ledger(folder.path(), "again", &bucket, LATER).await;
    let taken = back(&bench, &Wanted::All).await;
    assert_eq!((taken.files, taken.records, taken.passed_over.len()), (4, 200, 1));
    assert!(reasons(&taken)[0].contains("damaged"), "{taken:?}");
    assert_eq!(bench.read(&topic).await, records);
    bench.finish().await;
}

#[tokio::test]
async fn offsets_that_key_compaction_emptied_stay_empty() {
    let (folder, bucket) = (tempfile::tempdir().unwrap(), Bucket::new());
    let bench = ledger(folder.path(), "lost", &bucket, START).await;
    let topic = bench.topic_with(S0, "t", TopicConfig { cleanup: Cleanup::Compact, ..TopicConfig::default() }).await;
    for n in 0..4 {
        roll(&bench, &topic, n * 50, 50).await;
    }
    let (records, files) = (bench.read(&topic).await, bench.extents(&topic).await);
    assert!(records.len() < 200 && files.last().unwrap().end() == Offset(200), "{} records", records.len());
    bench.finish().await;

    let bench = ledger(folder.path(), "anew", &bucket, LATER).await;
    let taken = back(&bench, &only(&topic)).await;
    assert_eq!(taken.records, records.len() as u64, "{taken:?}");
    assert_eq!((bench.extents(&topic).await, bench.read(&topic).await), (files, records));
    assert_eq!(described(&bench, topic.id).await.unwrap().config.cleanup, Cleanup::Compact);
    roll(&bench, &topic, 300, 5).await;
    assert_eq!(bench.read(&topic).await.last().unwrap().offset, Offset(204));
    bench.finish().await;
}

#[tokio::test]
async fn files_of_an_earlier_topic_of_the_name_or_of_nobody_knows_which_are_left_alone() {
    let (folder, bucket) = (tempfile::tempdir().unwrap(), Bucket::new());
    let bench = ledger(folder.path(), "lost", &bucket, START).await;
    let earlier = bench.topic_with(S0, "t", TopicConfig::default()).await;
    roll(&bench, &earlier, 0, 50).await;
    let (namespace, name) = (earlier.namespace.clone(), earlier.name.clone());
    let delete = Command::DeleteTopic { namespace, name, condition: Precondition::Always };
    bench.metadata.execute(S0, delete).await.unwrap();
    bench.clock.pass(MS);
    let topic = bench.topic_with(S0, "t", TopicConfig::default()).await;
    roll(&bench, &topic, 500, 10).await;
    let records = bench.read(&topic).await;
    let older = bench.topic_with(S0, "older", TopicConfig::default()).await;
    store_file(&bench, &older, &records, None).await;
    let object = SegmentId::mint(bench.ambient.now(), bench.ambient.entropy.draw());
    let empty = format!("tables/{}/older/date=2026-01-01/{:020}-{:020}-{object}.parquet", older.namespace, 0, 9);
    bucket.honest().put(&ObjectPath::from(empty), Bytes::new().into()).await.unwrap();
    bench.finish().await;

    let bench = ledger(folder.path(), "anew", &bucket, LATER).await;
    let taken = back(&bench, &Wanted::All).await;
    assert_eq!((taken.files, taken.topics.len()), (1, 1), "{taken:?}");
    let mut told = reasons(&taken);
    told.sort_unstable();
    let [unnamed, empty, earlier_one] = told[..] else { panic!("{told:?}") };
    assert!(unnamed.contains("when its topic was created") && earlier_one.contains("an earlier topic"), "{told:?}");
    assert_eq!(empty, "it is empty");
    assert_eq!(bench.read(&topic).await, records);
    assert_eq!((described(&bench, earlier.id).await, described(&bench, older.id).await), (None, None));
    let missing = back(&bench, &only(&older)).await.missing;
    assert_eq!(missing, [format!("{}/older", older.namespace)]);
    bench.finish().await;
}

#[tokio::test]
async fn a_topic_whose_files_hold_different_records_at_one_offset_is_not_taken_back() {
    let (folder, bucket) = (tempfile::tempdir().unwrap(), Bucket::new());
    let bench = ledger(folder.path(), "lost", &bucket, START).await;
    let topic = bench.topic_with(S0, "t", TopicConfig::default()).await;
    roll(&bench, &topic, 0, 50).await;
    // As after a restore to an earlier time: offsets were given out again.
    let mut others = bench.read(&topic).await.split_off(20);
    others.iter_mut().for_each(|record| record.value = Some(Bytes::from_static(b"other")));
    store_file(&bench, &topic, &others, Some(topic.created_at)).await;
    bench.finish().await;

    let bench = ledger(folder.path(), "anew", &bucket, LATER).await;
    let taken = back(&bench, &only(&topic)).await;
    assert_eq!((taken.topics.len(), taken.missing.len(), taken.passed_over.len()), (0, 1, 2));
    assert!(reasons(&taken).iter().all(|reason| reason.contains("other records")), "{taken:?}");
    assert_eq!(described(&bench, topic.id).await, None);
    bench.finish().await;
}
