//! Checkpoints while the service works, when they fail, and at the end.

use std::sync::Arc;
use std::time::Duration;

use lakefall_metadata::sqlite::SqliteStore;
use lakefall_metadata::{Metadata, MetadataStore, NodeConfig};

use crate::support::fixtures::{SHARD, commit};
use crate::support::watched::Watched;
use crate::support::{Service, memory, quiet, replayed, state, stored_at};

const EAGER: NodeConfig = NodeConfig { shards: 1, checkpoint_entries: 5, checkpoint_bytes: u64::MAX, recent_extents: 2 };

/// Writers at work at once; each sees its own commits in order.
const WRITERS: u64 = 8;
const COMMITS: u64 = 40;

async fn load_it(service: &Service, topic: lakefall_queue::TopicId, round: u64) {
    let mut writers = Vec::new();
    for writer in 0..WRITERS {
        let node = Arc::clone(&service.node);
        writers.push(tokio::spawn(async move {
            let mut last = None;
            for number in 0..COMMITS {
                let id = (round * WRITERS + writer) * COMMITS + number;
                let at = stored_at(node.execute(SHARD, commit(id, topic, 3)).await);
                assert!(last < Some(at), "{at} after {last:?}");
                last = Some(at);
            }
        }));
    }
    for writer in writers {
        writer.await.unwrap();
    }
}

/// What is stored, as the next owner loads it, is what the whole history makes.
async fn check(store: &Watched) -> usize {
    let lease = store.take(SHARD).await.unwrap();
    let loaded = store.load(&lease).await.unwrap();
    let entries = loaded.entries.len();
    assert!(state(loaded) == replayed(store), "L6: checkpoint and tail differ from the full replay");
    entries
}

async fn checkpoints_under_load_lose_nothing(store: Arc<Watched>) {
    let (first, topic) = Service::with_topic(&store, EAGER).await;
    // Appends go on while a checkpoint hangs.
    store.checkpoints.close();
    load_it(&first, topic, 0).await;
    assert_eq!(store.checkpoints.count(), 1, "one at a time");
    store.checkpoints.open();
    // How many come in a round depends on the disk; that more come does not.
    let mut rounds = 1;
    while store.checkpoints.count() < 3 {
        load_it(&first, topic, rounds).await;
        rounds += 1;
    }
    // Without a word to the first one: as after a crash.
    check(&store).await;
    let second = Service::start(&store, EAGER).await;
    second.node.ready().await;
    assert_eq!(second.end(topic).await, rounds * WRITERS * COMMITS * 3);
    load_it(&second, topic, rounds).await;
    assert_eq!(second.end(topic).await, (rounds + 1) * WRITERS * COMMITS * 3);
    second.stop().await;
    assert_eq!(check(&store).await, 0, "nothing to replay after a graceful stop");
}

#[tokio::test(start_paused = true)]
async fn checkpoints_under_load_then_a_restart_equal_the_full_replay_in_memory() {
    checkpoints_under_load_lose_nothing(memory().1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn checkpoints_under_load_then_a_restart_equal_the_full_replay_in_sqlite() {
    let dir = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(&dir.path().join("metadata.sqlite")).await.unwrap();
    checkpoints_under_load_lose_nothing(Watched::new(Arc::new(store))).await;
}

#[tokio::test(start_paused = true)]
async fn the_rows_of_a_failed_checkpoint_are_in_the_next_one() {
    let (memory, store) = memory();
    memory.faults().fail_checkpoints(3);
    let (service, topic) = Service::with_topic(&store, EAGER).await;
    let mut entries = Vec::new();
    for number in 0..40 {
        service.execute(commit(number, topic, 1)).await.unwrap();
        entries.push(memory.journal_len(SHARD));
    }
    assert_eq!(service.end(topic).await, 40);
    assert!(store.checkpoints.count() > 4);
    assert!(entries.iter().any(|left| *left > 15), "nothing was dropped while they failed: {entries:?}");
    assert!(entries.last().unwrap() < &15, "and all of it when one succeeded: {entries:?}");
    check(&store).await;
}

#[tokio::test(start_paused = true)]
async fn a_checkpoint_that_failed_is_written_again_by_itself_less_and_less_often() {
    let (memory, store) = memory();
    memory.faults().fail_checkpoints(5);
    // Due after the reign's entry and the topic's; nothing is written after that.
    let (_service, _) = Service::with_topic(&store, NodeConfig { checkpoint_entries: 2, ..quiet() }).await;
    let began = tokio::time::Instant::now();
    store.checkpoints.reached(3).await;
    assert!((3_000..3_100).contains(&began.elapsed().as_millis()), "after 1 s, and 2 s more: {:?}", began.elapsed());
    store.checkpoints.reached(6).await;
    assert!((31_000..31_100).contains(&began.elapsed().as_millis()), "then 4, 8 and 16: {:?}", began.elapsed());
    tokio::time::sleep(Duration::from_secs(3_600)).await;
    assert_eq!((store.checkpoints.count(), memory.journal_len(SHARD)), (6, 0), "and no more once it succeeded");
}

#[tokio::test(start_paused = true)]
async fn a_stop_right_after_a_failed_checkpoint_writes_it_once_more() {
    let (memory, store) = memory();
    memory.faults().fail_checkpoints(1);
    // Due after the reign's entry and the topic's.
    let (service, _) = Service::with_topic(&store, NodeConfig { checkpoint_entries: 2, ..quiet() }).await;
    store.checkpoints.reached(1).await;
    service.stop().await;
    assert_eq!(check(&store).await, 0);
}

#[tokio::test(start_paused = true)]
async fn a_graceful_stop_writes_a_last_checkpoint_so_that_the_next_start_replays_nothing() {
    let (memory, store) = memory();
    let (service, topic) = Service::with_topic(&store, quiet()).await;
    for number in 0..10 {
        service.execute(commit(number, topic, 1)).await.unwrap();
    }
    assert_eq!((store.checkpoints.count(), memory.journal_len(SHARD)), (0, 12));
    service.stop().await;
    assert_eq!((store.checkpoints.count(), memory.journal_len(SHARD)), (1, 0));
    assert_eq!(check(&store).await, 0);
    let next = Service::start(&store, quiet()).await;
    assert_eq!(next.end(topic).await, 10);
}

#[tokio::test(start_paused = true)]
async fn a_checkpoint_is_due_after_so_many_bytes_too() {
    let (_, store) = memory();
    let (service, topic) = Service::with_topic(&store, NodeConfig { checkpoint_bytes: 1_000, ..quiet() }).await;
    let mut number = 0;
    while store.checkpoints.count() == 0 {
        service.execute(commit(number, topic, 1)).await.unwrap();
        number += 1;
        assert!(number < 100, "no checkpoint came");
    }
    assert!(number > 5, "an entry of one commit has about 50 bytes, and it came after {number}");
}

#[tokio::test(start_paused = true)]
async fn an_idle_service_asks_its_store_for_nothing() {
    let (_, store) = memory();
    let (service, topic) = Service::with_topic(&store, EAGER).await;
    for number in 0..10 {
        service.execute(commit(number, topic, 1)).await.unwrap();
    }
    // The last checkpoint ends.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let calls = store.calls();
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(store.calls(), calls);
    service.execute(commit(10, topic, 1)).await.unwrap();
    assert_eq!(store.calls(), calls + 1, "one command, one append");
}
