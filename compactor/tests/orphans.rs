//! The orphan sweep over a real ledger: what no ledger knows goes, after all of them refused it; nothing else does.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail where it stands")]

mod support;

use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use lakefall_compactor::Collector;
use lakefall_queue::SegmentId;
use lakefall_queue::ledger::COMMIT_WINDOW;
use lakefall_storage::store::{Store, StoreOptions};
use support::{Bench, GRACE, MS, ORPHAN_GRACE, S0, S1, was_stored};
use tokio_util::sync::CancellationToken;

#[tokio::test]
async fn an_orphan_is_refused_by_every_shard_and_deleted_and_a_late_commit_is_told_so() {
    let bench = Bench::start(2).await;
    let topics = [bench.topic(S0).await, bench.topic(S1).await];
    let collector = bench.marked().await;
    let kept = bench.put_and_commit(topics[0]).await;
    // Its gateway is stopped before it commits.
    let orphan = bench.put(&topics).await;
    bench.clock.pass(ORPHAN_GRACE + MS);
    let swept = collector.sweep().await.unwrap();
    assert_eq!((swept.listed, swept.orphans, swept.deleted, swept.young), (2, 1, 1, 0));
    assert_eq!((swept.bytes_left, swept.oldest_left), (0, None));
    assert_eq!(bench.keys().await, [kept.key()]);
    // And goes on.
    for topic in topics {
        assert!(!was_stored(&bench.commit(&orphan, topic).await), "acknowledged, and its object is gone");
    }
    assert_eq!(collector.sweep().await.unwrap().orphans, 0);
    bench.finish().await;
}

#[tokio::test]
async fn a_refusal_is_forgotten_when_the_segment_is_too_old_to_be_committed_and_still_it_cannot_be() {
    let bench = Bench::start(2).await;
    let topics = [bench.topic(S0).await, bench.topic(S1).await];
    let collector = bench.marked().await;
    let orphan = bench.put(&topics).await;
    bench.clock.pass(ORPHAN_GRACE + MS);
    assert_eq!(collector.sweep().await.unwrap().deleted, 1);
    assert!(bench.known(S0, orphan.id).await.is_some() && bench.known(S1, orphan.id).await.is_some());
    bench.clock.pass(GRACE.max(COMMIT_WINDOW) + MS);
    bench.bucket.requests();
    assert!(!collector.round().await.failed);
    assert_eq!((bench.known(S0, orphan.id).await, bench.known(S1, orphan.id).await), (None, None));
    assert_eq!(bench.bucket.requests().get("head"), None, "the collector knows that it deleted it");
    assert!(!was_stored(&bench.commit(&orphan, topics[0]).await));
    // Another collector, which deleted nothing, has to look and comes to the same.
    let other = bench.put(&topics).await;
    bench.clock.pass(ORPHAN_GRACE + MS);
    assert_eq!(collector.sweep().await.unwrap().deleted, 1);
    bench.clock.pass(GRACE.max(COMMIT_WINDOW) + MS);
    assert!(!bench.collector().round().await.failed);
    assert_eq!((bench.known(S0, other.id).await, bench.known(S1, other.id).await), (None, None));
    bench.finish().await;
}

#[tokio::test]
async fn a_segment_that_may_be_on_its_way_is_spared_and_can_be_committed() {
    let bench = Bench::start(1).await;
    let topic = bench.topic(S0).await;
    let collector = bench.marked().await;
    let slow = bench.put(&[topic]).await;
    bench.clock.pass(COMMIT_WINDOW);
    let swept = collector.sweep().await.unwrap();
    assert_eq!((swept.young, swept.orphans, swept.again()), (1, 0, true), "it must be looked at again when it is older");
    assert!(was_stored(&bench.commit(&slow, topic).await));
    bench.clock.pass(ORPHAN_GRACE + MS);
    let swept = collector.sweep().await.unwrap();
    assert_eq!((swept.listed, swept.orphans, swept.again()), (1, 0, false));
    assert_eq!(bench.keys().await, [slow.id.key()]);
    bench.finish().await;
}

#[tokio::test]
async fn age_goes_by_the_ledgers_time_even_while_it_is_idle_and_whatever_the_machine_says() {
    let bench = Bench::start(1).await;
    let topic = bench.topic(S0).await;
    let collector = bench.marked().await;
    bench.put(&[topic]).await;
    // A collector on a machine whose clock is a day ahead has seen the ledger's time, and nothing has passed since.
    let other = Bench::start(1).await;
    other.clock.pass(Duration::from_secs(86_400));
    let config = Bench::config();
    let ahead = Collector::new(config, bench.metadata.clone(), bench.store.clone(), other.ambient.clone());
    assert_eq!(ahead.sweep().await.unwrap().young, 1);
    // Nothing is journaled: the ledger's last word is an hour old, and an hour has passed.
    bench.clock.pass(ORPHAN_GRACE + MS);
    assert_eq!(collector.sweep().await.unwrap().deleted, 1);
    bench.finish().await;
    other.finish().await;
}

#[tokio::test]
async fn a_listing_of_before_the_commit_harms_nothing() {
    let bench = Bench::start(1).await;
    let topic = bench.topic(S0).await;
    let collector = bench.marked().await;
    let (committed, orphan) = (bench.put(&[topic]).await, bench.put(&[topic]).await);
    bench.bucket.freeze_listing().await;
    assert!(was_stored(&bench.commit(&committed, topic).await));
    bench.clock.pass(ORPHAN_GRACE + MS);
    assert_eq!(collector.sweep().await.unwrap().deleted, 1);
    assert_eq!(bench.keys().await, [committed.id.key()]);
    // The listing still shows what is gone: it is refused already, and deleting it again is nothing.
    assert_eq!(collector.sweep().await.unwrap().deleted, 1);
    assert_eq!(bench.keys().await, [committed.id.key()]);
    assert!(!was_stored(&bench.commit(&orphan, topic).await));
    bench.finish().await;
}

#[tokio::test]
async fn an_orphan_that_withstands_deletion_is_told_and_taken_by_the_next_sweep() {
    let bench = Bench::start(2).await;
    let topics = [bench.topic(S0).await, bench.topic(S1).await];
    let collector = bench.marked().await;
    let orphan = bench.put(&topics).await;
    bench.clock.pass(ORPHAN_GRACE + MS);
    bench.bucket.refuse_deletes(true);
    let swept = collector.sweep().await.unwrap();
    assert_eq!((swept.orphans, swept.deleted, swept.again()), (1, 0, true));
    assert_eq!((swept.bytes_left, swept.oldest_left), (orphan.segment.len, Some(orphan.id.minted_at())));
    assert!(!was_stored(&bench.commit(&orphan, topics[0]).await), "refused is refused");
    bench.bucket.refuse_deletes(false);
    // By a collector that knows nothing of it.
    assert_eq!(bench.collector().sweep().await.unwrap().deleted, 1);
    assert_eq!(bench.keys().await, [] as [String; 0]);
    bench.finish().await;
}

#[tokio::test]
async fn what_one_shard_took_stays_although_another_never_heard_of_it() {
    let bench = Bench::start(2).await;
    let topics = [bench.topic(S0).await, bench.topic(S1).await];
    let collector = bench.marked().await;
    // Its gateway died between its two commits.
    let half = bench.put(&topics).await;
    assert!(was_stored(&bench.commit(&half, topics[0]).await));
    bench.clock.pass(ORPHAN_GRACE + MS);
    assert_eq!(collector.sweep().await.unwrap().orphans, 0);
    assert_eq!(bench.known(S1, half.id).await, None, "not even refused");
    assert_eq!(bench.keys().await, [half.id.key()]);
    bench.finish().await;
}

#[tokio::test]
async fn keys_that_are_no_segments_are_counted_and_left_alone() {
    let bench = Bench::start(1).await;
    let collector = bench.marked().await;
    for key in ["seg/00/notes.txt", "seg/00/0190.seg", "other/x"] {
        bench.store.put_new(key, vec![Bytes::from_static(b"?")]).await.unwrap();
    }
    bench.clock.pass(ORPHAN_GRACE + MS);
    let swept = collector.sweep().await.unwrap();
    assert_eq!((swept.foreign, swept.listed, swept.orphans), (2, 0, 0));
    assert_eq!(bench.keys().await.len(), 2);
    bench.finish().await;
}

#[tokio::test]
async fn damaged_orphans_go_like_whole_ones() {
    let bench = Bench::start(2).await;
    let collector = bench.marked().await;
    let id = SegmentId::mint(bench.ambient.now(), 7);
    bench.store.put_new(&id.key(), vec![Bytes::from_static(b"?")]).await.unwrap();
    bench.clock.pass(ORPHAN_GRACE + MS);
    assert_eq!(collector.sweep().await.unwrap().deleted, 1);
    bench.clock.pass(GRACE.max(COMMIT_WINDOW) + MS);
    assert!(!collector.round().await.failed);
    assert_eq!(bench.known(S0, id).await, None);
    bench.finish().await;
}

#[tokio::test]
async fn many_orphans_in_one_folder_are_taken_in_portions() {
    let bench = Bench::start(1).await;
    let collector = bench.marked().await;
    let now = bench.ambient.now();
    let ids = (0_u128..).map(|n| SegmentId::mint(now, n << 48)).filter(|id| id.key().starts_with("seg/80/")).take(2_500);
    for id in ids {
        bench.store.put_new(&id.key(), vec![Bytes::from_static(b"?")]).await.unwrap();
    }
    bench.clock.pass(ORPHAN_GRACE + MS);
    let swept = collector.sweep().await.unwrap();
    assert_eq!((swept.orphans, swept.deleted), (2_500, 2_500));
    assert_eq!(bench.keys().await.len(), 0);
    bench.finish().await;
}

#[tokio::test]
async fn files_that_a_killed_process_was_writing_are_removed_from_a_folder() {
    let bench = Bench::start(1).await;
    let folder = tempfile::tempdir().unwrap();
    let url = url::Url::from_directory_path(folder.path()).unwrap();
    let store = Store::open(&url, &StoreOptions::default()).unwrap();
    let collector = Collector::new(Bench::config(), bench.metadata.clone(), store.clone(), bench.ambient.clone())
        .with_local_folder(Some(folder.path().to_owned()));
    collector.check().await.unwrap();
    let id = SegmentId::mint(bench.ambient.now(), 7);
    let staging = folder.path().join(format!("{}#3", id.key()));
    std::fs::write(&staging, "half").unwrap();
    let written = UNIX_EPOCH + Duration::from_millis(bench.ambient.now().as_millis() as u64);
    std::fs::File::options().write(true).open(&staging).unwrap().set_modified(written).unwrap();
    assert_eq!(collector.sweep().await.unwrap().staging, 0, "it may be being written");
    bench.clock.pass(ORPHAN_GRACE + MS);
    assert_eq!(collector.sweep().await.unwrap().staging, 1);
    assert!(!staging.exists());
    bench.finish().await;
}

#[tokio::test(start_paused = true)]
async fn after_one_sweep_an_idle_collector_asks_the_store_nothing_until_something_is_appended() {
    let bench = Bench::start(1).await;
    let topic = bench.topic(S0).await;
    let stop = CancellationToken::new();
    let running = tokio::spawn(bench.collector().run(stop.clone()));
    let hours = |hours: u64| tokio::time::sleep(Duration::from_secs(hours * 3_600));
    hours(2).await;
    let requests = bench.bucket.requests();
    assert_eq!(requests.get("list"), Some(&257), "one sweep: {requests:?}");
    hours(24 * 30).await;
    assert_eq!(bench.bucket.requests(), Default::default(), "idle");
    bench.clock.pass(ORPHAN_GRACE + MS);
    bench.put_and_commit(topic).await;
    hours(24).await;
    let requests = bench.bucket.requests();
    assert!(requests["list"] >= 256 && requests["put"] >= 2, "an append brings a mark and a sweep: {requests:?}");
    // Its object is old enough now: once more, and then it is quiet again.
    bench.clock.pass(ORPHAN_GRACE + MS);
    hours(24).await;
    bench.bucket.requests();
    hours(24 * 30).await;
    assert_eq!(bench.bucket.requests(), Default::default(), "idle");
    stop.cancel();
    running.await.unwrap().unwrap();
    bench.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_running_collector_sweeps_what_was_orphaned_before_it_was_old_enough() {
    let bench = Bench::start(1).await;
    let topic = bench.topic(S0).await;
    let stop = CancellationToken::new();
    let running = tokio::spawn(bench.marked().await.run(stop.clone()));
    tokio::time::sleep(Duration::from_secs(3_000)).await;
    bench.clock.pass(Duration::from_secs(3_000));
    let orphan = bench.put(&[topic]).await;
    for _ in 0..48 {
        tokio::time::sleep(Duration::from_secs(1_800)).await;
        bench.clock.pass(Duration::from_secs(1_800));
    }
    assert_eq!(bench.keys().await, [] as [String; 0], "{} is still there", orphan.id);
    stop.cancel();
    running.await.unwrap().unwrap();
    bench.finish().await;
}
