//! R12: a metadata store that went back in time, or is another one, halts every deletion until an operator accepted it.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail where it stands")]

mod support;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use lakefall_compactor::CollectError;
use lakefall_compactor::mark::{self, Halt, Mark};
use lakefall_compactor::recover::{Decision, State, accept, examine};
use lakefall_metadata::{Identity, Metadata, News};
use lakefall_queue::ShardId;
use lakefall_queue::error::Result;
use lakefall_queue::id::JournalSeq;
use lakefall_queue::ledger::{Answer, COMMIT_WINDOW, Command, Query, Reply};
use support::{Bench, Bucket, GRACE, MS, ORPHAN_GRACE, S0, S1, START, was_stored};
use tokio::sync::broadcast;

/// A metadata service that can be made to seem another one, or to have gone back.
struct Changing {
    inner: Arc<dyn Metadata>,
    identity: Mutex<Identity>,
    /// Entries that it seems to have lost.
    lost: AtomicU64,
    /// Entries that it loses with the next refusal.
    loses_at_refusal: AtomicU64,
    /// Entries that others seem to journal between two questions.
    grows_by: AtomicU64,
    grown: AtomicU64,
}

impl Changing {
    async fn over(bench: &Bench) -> Arc<Self> {
        let identity = bench.metadata.identity().await.unwrap();
        let inner = Arc::clone(&bench.metadata);
        let none = || AtomicU64::new(0);
        Arc::new(Self { inner, identity: Mutex::new(identity), lost: none(), loses_at_refusal: none(), grows_by: none(), grown: none() })
    }
}

#[async_trait::async_trait]
impl Metadata for Changing {
    fn shards(&self) -> u32 {
        self.inner.shards()
    }

    async fn execute(&self, shard: ShardId, command: Command) -> Result<Reply> {
        if matches!(command, Command::RefuseSegments { .. }) {
            self.lost.fetch_add(self.loses_at_refusal.swap(0, Ordering::SeqCst), Ordering::SeqCst);
        }
        self.inner.execute(shard, command).await
    }

    async fn query(&self, shard: ShardId, query: Query) -> Result<Answer> {
        Ok(match self.inner.query(shard, query).await? {
            Answer::Position(mut position) => {
                let grown = self.grown.fetch_add(self.grows_by.load(Ordering::SeqCst), Ordering::SeqCst);
                position.seq = JournalSeq(position.seq.0 + grown - self.lost.load(Ordering::SeqCst));
                Answer::Position(position)
            }
            other => other,
        })
    }

    fn subscribe(&self) -> broadcast::Receiver<Arc<News>> {
        self.inner.subscribe()
    }

    async fn identity(&self) -> Result<Identity> {
        Ok(self.identity.lock().unwrap().clone())
    }
}

async fn stored_mark(bench: &Bench) -> Mark {
    Mark::decode(&bench.store.get_control(mark::KEY).await.unwrap().unwrap()).unwrap()
}

/// Copies a store as soon as its last connection is closed, which happens behind its back: it takes the log with it.
async fn copy(from: &Path, to: &Path) {
    let is_log = |entry: std::io::Result<std::fs::DirEntry>| entry.unwrap().file_name().to_string_lossy().contains("-wal");
    let closed = async {
        while std::fs::read_dir(from).unwrap().any(is_log) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), closed).await.unwrap();
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        // What is left beside the database while it is open holds nothing.
        if entry.file_name().to_string_lossy().contains("-shm") {
            continue;
        }
        std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

#[tokio::test]
async fn a_restored_metadata_store_halts_deletion_until_recover_and_what_it_lost_is_listed_and_kept() {
    let folder = tempfile::tempdir().unwrap();
    let (live, backup) = (folder.path().join("live"), folder.path().join("backup"));
    std::fs::create_dir_all(&live).unwrap();
    let bucket = Bucket::new();

    let bench = Bench::sqlite(&live, bucket.clone(), START).await;
    let topic = bench.topic(S0).await;
    bench.marked().await;
    let first = bench.put_and_commit(topic).await;
    let second = bench.put_and_commit(topic).await;
    bench.finish().await;
    copy(&live, &backup).await;

    let bench = Bench::sqlite(&live, bucket.clone(), START + 60_000).await;
    let mut lost = Vec::new();
    for _ in 0..3 {
        lost.push(bench.put_and_commit(topic).await);
    }
    bench.collector().check().await.unwrap();
    bench.finish().await;

    // Restored: three records were acknowledged that no ledger knows.
    let bench = Bench::sqlite(&backup, bucket, START + 120_000).await;
    let collector = bench.collector();
    let halt = collector.check().await.unwrap().unwrap();
    assert!(matches!(halt, Halt::Rewound { .. }), "{halt}");
    bench.trim(topic, 1).await;
    collector.round().await;
    bench.clock.pass(GRACE.max(COMMIT_WINDOW).max(ORPHAN_GRACE) + MS);
    let round = collector.round().await;
    assert!(!round.failed && round.due.is_some(), "it looks again: {round:?}");
    assert!(collector.sweep().await.unwrap().halted);
    assert_eq!(bench.keys().await.len(), 5, "nothing is deleted, not even what the ledger let go of");
    assert!(bench.known(S0, first).await.is_some(), "nor forgotten");
    for id in &lost {
        assert_eq!(bench.known(S0, *id).await, None, "nor refused");
    }

    let report = examine(&*bench.metadata, &bench.store, bench.ambient.now()).await.unwrap();
    assert!(matches!(&report.state, State::Halted { reason: "rewound", .. }), "{:?}", report.state);
    let unknown: BTreeSet<String> = report.unknown.iter().map(|object| object.key.clone()).collect();
    assert_eq!(unknown, lost.iter().map(|id| id.key()).collect());
    assert_eq!((report.objects, report.records_at_risk), (5, 3));
    let range = &report.unknown[0].ranges[0];
    assert_eq!((range.records, range.topic.as_deref().map(|name| name.ends_with("/t"))), (1, Some(true)));
    assert!(report.lines().iter().any(|line| line.contains("lakefall recover --accept")), "{:#?}", report.lines());

    let mark = accept(&*bench.metadata, &bench.store, &report, Decision::default()).await.unwrap();
    assert_eq!(mark.generation, 1);
    bench.clock.pass(MS);
    assert_eq!(collector.check().await.unwrap(), None, "the same collector goes on");
    assert_eq!(collector.round().await.due, None);
    let swept = collector.sweep().await.unwrap();
    assert_eq!((swept.spared, swept.deleted), (3, 0));
    let mut left: Vec<String> = lost.iter().chain([&second]).map(|id| id.key()).collect();
    left.sort();
    assert_eq!(bench.keys().await, left);
    // What is orphaned from here on goes as ever.
    bench.put(&[topic]).await;
    bench.clock.pass(ORPHAN_GRACE + MS);
    let swept = collector.sweep().await.unwrap();
    assert_eq!((swept.spared, swept.deleted), (3, 1));

    let report = examine(&*bench.metadata, &bench.store, bench.ambient.now()).await.unwrap();
    assert_eq!((report.state.clone(), report.unknown.len()), (State::Healthy, 3));
    accept(&*bench.metadata, &bench.store, &report, Decision { discard: true }).await.unwrap();
    assert_eq!(collector.sweep().await.unwrap().deleted, 3);
    assert_eq!(bench.keys().await, [second.key()]);
    bench.finish().await;
}

#[tokio::test]
async fn a_copy_that_came_to_the_same_entry_by_another_way_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let (live, backup) = (folder.path().join("live"), folder.path().join("backup"));
    std::fs::create_dir_all(&live).unwrap();
    let bucket = Bucket::new();
    let bench = Bench::sqlite(&live, bucket.clone(), START).await;
    let topic = bench.topic(S0).await;
    bench.marked().await;
    bench.finish().await;
    copy(&live, &backup).await;
    let bench = Bench::sqlite(&live, bucket.clone(), START + 60_000).await;
    assert_eq!(bench.collector().check().await.unwrap(), None);
    let lost = bench.put_and_commit(topic).await;
    bench.finish().await;
    // The first entry of the copy's reign has the number and the epoch of the one that was marked.
    let bench = Bench::sqlite(&backup, bucket, START + 120_000).await;
    assert_eq!(bench.collector().check().await.unwrap().map(|halt| halt.reason()), Some("rewound"));
    let report = examine(&*bench.metadata, &bench.store, bench.ambient.now()).await.unwrap();
    assert_eq!((report.unknown.len(), &report.unknown[0].key, report.records_at_risk), (1, &lost.key(), 1));
    bench.finish().await;
}

#[tokio::test]
async fn records_of_a_restored_shard_in_an_object_that_another_shard_let_go_of_are_kept_and_listed() {
    let bench = Bench::start(2).await;
    let topics = [bench.topic(S0).await, bench.topic(S1).await];
    bench.marked().await;
    // As after restoring to a moment between its two commits.
    let half = bench.put(&topics).await;
    assert!(was_stored(&bench.commit(&half, topics[0]).await));
    let lost = bench.put(&topics).await;
    let changing = Changing::over(&bench).await;
    changing.identity.lock().unwrap().incarnation = "restored".to_owned();
    let report = examine(&*changing, &bench.store, bench.ambient.now()).await.unwrap();
    let ranges = |at: usize| report.unknown[at].ranges.iter().map(|range| range.topic_id.clone()).collect::<Vec<_>>();
    assert_eq!([ranges(0), ranges(1)], [vec![topics[1].to_string()], topics.map(|topic| topic.to_string()).to_vec()]);
    assert!(report.unknown.iter().all(|object| object.in_flight));
    assert_eq!(report.records_at_risk, 3);
    accept(&*changing, &bench.store, &report, Decision::default()).await.unwrap();
    let collector = bench.collector_over(changing);
    assert_eq!(collector.check().await.unwrap(), None);
    bench.trim(topics[0], 1).await;
    for _ in 0..3 {
        assert!(!collector.round().await.failed);
        bench.clock.pass(ORPHAN_GRACE + GRACE + COMMIT_WINDOW);
    }
    assert_eq!(collector.sweep().await.unwrap().spared, 1);
    assert_eq!(bench.keys().await.len(), 2);
    assert_eq!(bench.known(S1, half.id).await.or(bench.known(S1, lost.id).await), None, "nor refused");
    bench.finish().await;
}

#[tokio::test]
async fn another_cluster_and_another_incarnation_halt() {
    let bench = Bench::start(1).await;
    bench.marked().await;
    let changing = Changing::over(&bench).await;
    let collector = bench.collector_over(changing.clone());
    assert_eq!(collector.check().await.unwrap(), None);
    changing.identity.lock().unwrap().incarnation = "failed over".to_owned();
    assert_eq!(collector.check().await.unwrap().map(|halt| halt.reason()), Some("other_incarnation"));
    changing.identity.lock().unwrap().cluster = "another".to_owned();
    assert_eq!(collector.check().await.unwrap().map(|halt| halt.reason()), Some("other_cluster"));
    // A second cluster that wrote its mark over the first one's.
    let before = stored_mark(&bench).await;
    let mut foreign = before.clone();
    foreign.cluster = "another".to_owned();
    bench.store.put_control(mark::KEY, foreign.encode().unwrap()).await.unwrap();
    assert_eq!(bench.collector().check().await.unwrap().map(|halt| halt.reason()), Some("other_cluster"));
    assert_eq!(stored_mark(&bench).await, foreign, "a halted collector writes nothing");
    bench.finish().await;
}

#[tokio::test]
async fn a_mark_that_cannot_be_read_halts_and_recover_writes_a_new_one() {
    let bench = Bench::start(1).await;
    let collector = bench.marked().await;
    bench.store.put_control(mark::KEY, Bytes::from_static(b"{\"version\":7}")).await.unwrap();
    assert_eq!(collector.check().await.unwrap().map(|halt| halt.reason()), Some("unreadable_mark"));
    let report = examine(&*bench.metadata, &bench.store, bench.ambient.now()).await.unwrap();
    assert!(report.is_halted());
    accept(&*bench.metadata, &bench.store, &report, Decision::default()).await.unwrap();
    assert_eq!(collector.check().await.unwrap(), None);
    bench.finish().await;
}

#[tokio::test]
async fn what_is_in_a_bucket_without_a_mark_is_kept_until_it_is_discarded() {
    let bench = Bench::start(1).await;
    let topic = bench.topic(S0).await;
    let before = bench.put(&[topic]).await;
    let collector = bench.marked().await;
    bench.put(&[topic]).await;
    bench.clock.pass(ORPHAN_GRACE + MS);
    let swept = collector.sweep().await.unwrap();
    assert_eq!((swept.spared, swept.deleted, swept.again()), (1, 1, false));
    assert_eq!(bench.keys().await, [before.id.key()]);
    // The mark is lost, and nobody remembers it.
    bench.put(&[topic]).await;
    object_store::ObjectStoreExt::delete(&*bench.bucket.honest(), &mark::KEY.into()).await.unwrap();
    let newcomer = bench.marked().await;
    bench.clock.pass(ORPHAN_GRACE + MS);
    assert_eq!(newcomer.sweep().await.unwrap().spared, 2);
    let report = examine(&*bench.metadata, &bench.store, bench.ambient.now()).await.unwrap();
    assert_eq!((report.state.clone(), report.unknown.len()), (State::Healthy, 2));
    accept(&*bench.metadata, &bench.store, &report, Decision { discard: true }).await.unwrap();
    assert_eq!(newcomer.sweep().await.unwrap().deleted, 2);
    bench.finish().await;
}

#[tokio::test]
async fn a_store_that_goes_back_in_the_middle_of_a_sweep_deletes_nothing() {
    let bench = Bench::start(1).await;
    let topic = bench.topic(S0).await;
    bench.marked().await;
    let orphan = bench.put(&[topic]).await;
    let changing = Changing::over(&bench).await;
    let collector = bench.collector_over(changing.clone());
    assert_eq!(collector.check().await.unwrap(), None);
    bench.clock.pass(ORPHAN_GRACE + 2 * MS);
    changing.loses_at_refusal.store(2, Ordering::SeqCst);
    let swept = collector.sweep().await.unwrap();
    assert!(swept.halted && swept.deleted == 0, "{swept:?}");
    assert_eq!(bench.keys().await, [orphan.id.key()]);
    bench.finish().await;
}

#[tokio::test]
async fn a_collector_remembers_how_far_the_ledgers_were_whatever_others_wrote_over_its_mark() {
    let bench = Bench::start(2).await;
    let topic = bench.topic(S0).await;
    bench.topic(S1).await;
    bench.marked().await;
    let older = bench.store.get_control(mark::KEY).await.unwrap().unwrap();
    bench.put_and_commit(topic).await;
    let changing = Changing::over(&bench).await;
    let collector = bench.collector_over(changing.clone());
    assert_eq!(collector.check().await.unwrap(), None);
    let newer = stored_mark(&bench).await;
    // One that stood still wrote what it knew then.
    bench.store.put_control(mark::KEY, older.clone()).await.unwrap();
    assert_eq!(collector.check().await.unwrap(), None);
    assert_eq!(stored_mark(&bench).await.shards, newer.shards, "repaired");
    bench.store.put_control(mark::KEY, older).await.unwrap();
    changing.lost.store(1, Ordering::SeqCst);
    assert_eq!(collector.check().await.unwrap().map(|halt| halt.reason()), Some("rewound"), "it knows better than the mark");
    bench.finish().await;
}

#[tokio::test]
async fn a_collector_that_stood_still_before_recover_takes_nothing_of_it_back() {
    let bench = Bench::start(1).await;
    let changing = Changing::over(&bench).await;
    let collector = bench.collector_over(changing.clone());
    assert_eq!(collector.check().await.unwrap(), None);
    let old = bench.store.get_control(mark::KEY).await.unwrap().unwrap();
    changing.identity.lock().unwrap().incarnation = "restored".to_owned();
    let report = examine(&*changing, &bench.store, bench.ambient.now()).await.unwrap();
    let accepted = accept(&*changing, &bench.store, &report, Decision::default()).await.unwrap();
    assert_eq!(collector.check().await.unwrap(), None);
    // Somebody's PUT of before arrives.
    bench.store.put_control(mark::KEY, old).await.unwrap();
    assert_eq!(collector.check().await.unwrap(), None);
    assert_eq!(stored_mark(&bench).await.generation, accepted.generation);
    bench.finish().await;
}

#[tokio::test]
async fn a_mark_that_was_long_in_writing_is_looked_at_again_before_anything_is_deleted() {
    let bench = Bench::start(1).await;
    let topic = bench.topic(S0).await;
    let collector = bench.marked().await;
    bench.put_and_commit(topic).await;
    bench.bucket.requests();
    bench.bucket.slow_puts(1, bench.clock.clone(), Duration::from_secs(60));
    assert_eq!(collector.check().await.unwrap(), None);
    assert_eq!(bench.bucket.requests().get("get"), Some(&2));
    // Always slow, and something is journaled all the time.
    bench.bucket.slow_puts(u32::MAX, bench.clock.clone(), Duration::from_secs(60));
    let changing = Changing::over(&bench).await;
    changing.grown.store(1, Ordering::SeqCst);
    changing.grows_by.store(1, Ordering::SeqCst);
    let checked = bench.collector_over(changing).check().await;
    assert!(matches!(checked, Err(CollectError::Defect(_))), "{checked:?}");
    bench.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_running_collector_marks_what_is_appended_and_ends_its_halt_by_itself_after_recover() {
    let bench = Bench::start(1).await;
    let topic = bench.topic(S0).await;
    let changing = Changing::over(&bench).await;
    let stop = tokio_util::sync::CancellationToken::new();
    let running = tokio::spawn(bench.collector_over(changing.clone()).run(stop.clone()));
    let seconds = |seconds| tokio::time::sleep(Duration::from_secs(seconds));
    seconds(61).await;
    let first = stored_mark(&bench).await;
    bench.put_and_commit(topic).await;
    seconds(61).await;
    let second = stored_mark(&bench).await;
    assert!(second.shards[0].seq > first.shards[0].seq, "{second:?}");
    changing.identity.lock().unwrap().incarnation = "restored".to_owned();
    bench.put_and_commit(topic).await;
    seconds(3_600).await;
    assert_eq!(stored_mark(&bench).await, second, "halted");
    let report = examine(&*changing, &bench.store, bench.ambient.now()).await.unwrap();
    accept(&*changing, &bench.store, &report, Decision::default()).await.unwrap();
    seconds(30).await;
    bench.put_and_commit(topic).await;
    seconds(61).await;
    let third = stored_mark(&bench).await;
    assert!(third.generation == 1 && third.shards[0].seq > second.shards[0].seq, "{third:?}");
    stop.cancel();
    running.await.unwrap().unwrap();
    bench.finish().await;
}
