//! Where records are: the newest extents from memory, the older ones from the store, as one answer.

use std::sync::Arc;
use std::time::Duration;

use lakefall_metadata::sqlite::SqliteStore;
use lakefall_metadata::{Metadata, NodeConfig};
use lakefall_queue::ledger::{Command, Query, RetiredExtent};
use lakefall_queue::{Offset, Timestamp, TopicId};

use crate::support::fixtures::{P0, SHARD, commit, segment};
use crate::support::watched::Watched;
use crate::support::{Service, locate, located, memory, quiet};

/// Extents, of ten records and 1,000 bytes each.
const EXTENTS: u64 = 20;

/// A service that holds the last two extents in memory and the others only in the store.
async fn forgetful(store: &Arc<Watched>) -> (Service, TopicId) {
    let config = NodeConfig { checkpoint_entries: EXTENTS + 2, recent_extents: 2, ..quiet() };
    let (service, topic) = Service::with_topic(store, config).await;
    for number in 0..EXTENTS {
        service.execute(commit(number, topic, 10)).await.unwrap();
    }
    store.checkpoints.reached(1).await;
    // The checkpoint's end is the owner's next step: what it keeps in memory tells that it came.
    while service.locate(topic, EXTENTS * 10).await.unwrap().first_recent < Offset((EXTENTS - 2) * 10) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    (service, topic)
}

async fn check_every_place(service: &Service, topic: TopicId) {
    for from in 0..=EXTENTS * 10 {
        for (max_bytes, max_extents) in [(u64::MAX, 100), (0, 100), (1, 100), (3_000, 100), (3_001, 100), (u64::MAX, 1), (u64::MAX, 4)] {
            let query = Query::Locate { topic, partition: P0, from: Offset(from), max_bytes, max_extents };
            let found = located(service.node.query(SHARD, query).await).unwrap();
            let budget = max_bytes.div_ceil(1_000).clamp(1, max_extents as u64) as usize;
            let expected: Vec<u64> = (from / 10..EXTENTS).take(budget).map(|n| n * 10).collect();
            let bases: Vec<u64> = found.extents.iter().map(|e| e.base_offset.0).collect();
            assert_eq!(bases, expected, "from {from}, {max_bytes} bytes, {max_extents} extents");
            assert_eq!((found.log_start, found.end), (Offset(0), Offset(EXTENTS * 10)));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn extents_older_than_memory_are_located_in_the_store() {
    let (_, store) = memory();
    let (service, topic) = forgetful(&store).await;
    assert_eq!(store.scans.count(), 0);
    check_every_place(&service, topic).await;
    assert!(store.scans.count() > 100);
}

#[tokio::test]
async fn extents_older_than_memory_are_located_in_sqlite() {
    let dir = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(&dir.path().join("metadata.sqlite")).await.unwrap();
    let (service, topic) = forgetful(&Watched::new(Arc::new(store))).await;
    check_every_place(&service, topic).await;
}

#[tokio::test(start_paused = true)]
async fn tail_readers_are_answered_from_memory() {
    let (_, store) = memory();
    let (service, topic) = forgetful(&store).await;
    let before = store.calls();
    for from in (EXTENTS - 2) * 10..=EXTENTS * 10 {
        service.locate(topic, from).await.unwrap();
    }
    assert_eq!(store.calls(), before);
}

async fn at_time(service: &Service, topic: TopicId, at: i64) -> Option<u64> {
    let query = Query::LocateTime { topic, partition: P0, at: Timestamp::from_millis(at) };
    located(service.node.query(SHARD, query).await).unwrap().extents.first().map(|e| e.base_offset.0)
}

#[tokio::test(start_paused = true)]
async fn a_time_is_located_in_the_store_or_in_memory_wherever_it_is() {
    let (_, store) = memory();
    let (service, topic) = forgetful(&store).await;
    // The n-th extent is of time n.
    for at in 0..EXTENTS {
        assert_eq!(at_time(&service, topic, at as i64).await, Some(at * 10));
    }
    assert_eq!(at_time(&service, topic, -1).await, Some(0));
    assert_eq!(at_time(&service, topic, EXTENTS as i64).await, None);
    service.execute(Command::Trim { topic, partition: Some(P0), before: Offset(35) }).await.unwrap();
    assert_eq!(at_time(&service, topic, 0).await, Some(30), "nothing below the log start");
}

#[tokio::test(start_paused = true)]
async fn extents_that_were_retired_since_the_checkpoint_are_not_located() {
    let (_, store) = memory();
    let (service, topic) = forgetful(&store).await;
    retire_three(&service, topic).await;
    let found = service.locate(topic, 0).await.unwrap();
    assert_eq!(found.extents.first().map(|e| e.base_offset), Some(Offset(30)));
    assert_eq!(found.extents.len() as u64, EXTENTS - 3);
}

async fn retire_three(service: &Service, topic: TopicId) {
    service.execute(Command::Trim { topic, partition: Some(P0), before: Offset(35) }).await.unwrap();
    let retired = |n| RetiredExtent { base_offset: Offset(n * 10), records: 10, length: 1_000, object: segment(n) };
    service.execute(Command::Retire { topic, partition: P0, extents: (0..3).map(retired).collect(), generation: None }).await.unwrap();
}

/// Else a reader that asked for offset 0 would go on at 30 and never know.
#[tokio::test(start_paused = true)]
async fn extents_that_go_between_the_look_at_the_owner_and_the_look_at_the_store_are_noticed() {
    let (_, store) = memory();
    let (service, topic) = forgetful(&store).await;
    store.scans.close();
    let asked = service.send_query(locate(topic, 0)).await;
    store.scans.reached(1).await;
    retire_three(&service, topic).await;
    for number in EXTENTS..3 * EXTENTS {
        service.execute(commit(number, topic, 10)).await.unwrap();
    }
    store.checkpoints.reached(2).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    store.scans.open();
    let found = located(asked.await.unwrap()).unwrap();
    assert_eq!(found.log_start, Offset(35), "the answer is of after the trim");
    assert_eq!(found.extents.first().map(|e| e.base_offset), Some(Offset(30)));
    assert_eq!(store.scans.count(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_partition_whose_extents_are_all_in_the_store_is_located_after_a_restart() {
    let (_, store) = memory();
    let (service, topic) = forgetful(&store).await;
    service.stop().await;
    let next = Service::start(&store, quiet()).await;
    check_every_place(&next, topic).await;
    assert_eq!(at_time(&next, topic, 19).await, Some(190));
}
