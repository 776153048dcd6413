//! What is the SQLite store's own: files, locks, and what is on disk when it is opened again.

use std::path::Path;
use std::sync::Arc;

use lakefall_metadata::sqlite::SqliteStore;
use lakefall_metadata::store::ExtentScan;
use lakefall_metadata::{MetadataStore, StoreError};
use lakefall_queue::Offset;

use crate::bench::{Bench, TOKEN, sorted};
use crate::fixtures::{P0, SHARD, commit};

async fn bench(path: &Path) -> Bench {
    let store = SqliteStore::open(path).await.unwrap();
    store.initialize(1).await.unwrap();
    Bench::on(Arc::new(store), ()).await
}

#[tokio::test]
async fn a_store_opened_again_finds_everything() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("metadata.sqlite");
    let mut first = bench(&path).await;
    let topic = first.topic("orders", 1).await;
    first.group(vec![commit(1, topic, 5)]).await;
    first.checkpoint().await;
    first.group(vec![commit(2, topic, 7)]).await;
    let (epoch, before) = (first.lease.epoch, first.load().await);
    let ledger = std::mem::replace(&mut first.ledger, lakefall_queue::ledger::Ledger::new(SHARD, 1));
    drop(first);

    let mut second = bench(&path).await;
    assert!(second.lease.epoch > epoch);
    let after = second.load().await;
    assert_eq!((after.shard, sorted(after.rows), after.entries), (before.shard, sorted(before.rows), before.entries));
    let scan = ExtentScan { topic, partition: P0, from: Offset(0), below: Offset(100), max_bytes: 1 << 20, max_extents: 10 };
    let extents = second.store.scan_extents(SHARD, scan).await.unwrap();
    assert_eq!(extents.iter().map(|e| (e.base_offset, e.records)).collect::<Vec<_>>(), [(Offset(0), 5)]);
    second.ledger = ledger;
    second.check_rebuilt().await;
    let Err(StoreError::Misconfigured(message)) = second.store.initialize(3).await else { panic!("another number was taken") };
    assert_eq!(message, "metadata.shards is 3, but this store was created with 1: set it to 1");
}

#[tokio::test]
async fn a_second_store_on_the_same_path_is_refused_until_the_first_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("metadata.sqlite");
    let first = SqliteStore::open(&path).await.unwrap();
    let Err(StoreError::Misconfigured(message)) = SqliteStore::open(&path).await else { panic!("it was opened twice") };
    let expected = format!("{} is in use by another lakefall process: stop it, or choose another directory", path.display());
    assert_eq!(message, expected);
    drop(first);
    SqliteStore::open(&path).await.unwrap();
}

#[tokio::test]
async fn a_store_in_a_directory_that_is_not_there_is_refused_with_its_path() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("missing").join("metadata.sqlite");
    let Err(StoreError::Misconfigured(message)) = SqliteStore::open(&path).await else { panic!("it was opened") };
    assert!(message.contains("cannot open") && message.contains("missing"), "{message}");
}

#[tokio::test]
async fn a_path_may_hold_the_characters_that_mean_something_in_a_url() {
    let dir = tempfile::tempdir().unwrap();
    let inner = dir.path().join("100% of a?b=c#d e");
    std::fs::create_dir(&inner).unwrap();
    let path = inner.join("metadata.sqlite");
    let mut bench = bench(&path).await;
    bench.topic("orders", 1).await;
    bench.checkpoint().await;
    let mut files: Vec<String> = std::fs::read_dir(&inner).unwrap().map(|f| f.unwrap().file_name().into_string().unwrap()).collect();
    files.retain(|name| !name.ends_with("-wal") && !name.ends_with("-shm"));
    files.sort();
    assert_eq!(files, ["metadata.sqlite", "metadata.sqlite-journal.sqlite", "metadata.sqlite.lock"]);
}

#[tokio::test]
async fn a_store_is_looked_at_while_its_owner_is_at_work_and_nothing_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("metadata.sqlite");
    let mut owner = bench(&path).await;
    let topic = owner.topic("orders", 1).await;
    owner.checkpoint().await;
    owner.group(vec![commit(1, topic, 5)]).await;
    let reader = SqliteStore::open_read_only(&path).await.unwrap();
    let (seen, there) = (reader.inspect(SHARD).await.unwrap(), owner.load().await);
    assert_eq!((seen.shard, sorted(seen.rows), seen.entries), (there.shard, sorted(there.rows), there.entries));
    assert!(reader.take(SHARD).await.is_err(), "a store to be looked at was written");
    owner.append(owner.ledger.seq().0 + 1, TOKEN, b"still the owner".to_vec()).await.unwrap();
}

#[tokio::test]
async fn a_file_that_is_no_database_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("metadata.sqlite");
    std::fs::write(&path, "this is not a database, however long it may be").unwrap();
    assert!(matches!(SqliteStore::open(&path).await, Err(StoreError::Misconfigured(_) | StoreError::Corrupt(_))));
}

#[tokio::test]
async fn a_store_from_before_clusters_had_an_identity_gets_one_and_keeps_all_else() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("metadata.sqlite");
    let mut first = bench(&path).await;
    first.topic("orders", 1).await;
    let before = first.load().await;
    drop(first);
    let journal = format!("sqlite://{}-journal.sqlite", path.display());
    let mut database = sqlx::SqlitePool::connect(&journal).await.unwrap().acquire().await.unwrap();
    sqlx::query("ALTER TABLE cluster DROP COLUMN id").execute(&mut *database).await.unwrap();
    drop(database);
    let second = bench(&path).await;
    let identity = second.store.identity().await.unwrap();
    assert_eq!(identity.cluster.len(), 32, "{identity:?}");
    assert_eq!(second.load().await.entries, before.entries);
    drop(second);
    assert_eq!(bench(&path).await.store.identity().await.unwrap(), identity);
}

#[tokio::test]
async fn a_store_from_before_queues_is_looked_at_as_it_is_and_gets_their_tables_when_it_is_opened() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("metadata.sqlite");
    let mut first = bench(&path).await;
    first.topic("orders", 1).await;
    first.checkpoint().await;
    let before = sorted(first.load().await.rows);
    drop(first);
    let url = format!("sqlite://{}", path.display());
    let database = sqlx::SqlitePool::connect(&url).await.unwrap();
    for table in ["queues", "queue_partitions", "queue_blocks", "subjects", "schemas", "usage", "usage_reporters"] {
        sqlx::query(sqlx::AssertSqlSafe(format!("DROP TABLE {table}"))).execute(&database).await.unwrap();
    }
    database.close().await;
    let reader = SqliteStore::open_read_only(&path).await.unwrap();
    assert_eq!(sorted(reader.inspect(SHARD).await.unwrap().rows), before);
    drop(reader);
    let second = bench(&path).await;
    assert_eq!(sorted(second.load().await.rows), before);
    let database = sqlx::SqlitePool::connect(&url).await.unwrap();
    let queues: i64 = sqlx::query_scalar("SELECT count(*) FROM queues").fetch_one(&database).await.unwrap();
    assert_eq!(queues, 0);
}
