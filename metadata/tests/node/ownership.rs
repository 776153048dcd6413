//! Who serves a shard: takeover, leases, start and stop.

use std::sync::Arc;
use std::time::Duration;

use lakefall_metadata::memory::Fault;
use lakefall_metadata::{Metadata, MetadataStore, rebuild};
use lakefall_queue::error::Error;
use lakefall_queue::{Offset, ShardId};
use tokio::time::timeout;

use crate::support::fixtures::{P0, SHARD, commit, put_topic};
use crate::support::{Service, assert_not_applied, memory, quiet, replayed, state, stored_at};

#[tokio::test(start_paused = true)]
async fn a_second_service_fences_the_first_whose_callers_may_try_again_and_nothing_is_lost() {
    let (memory, store) = memory();
    let (first, topic) = Service::with_topic(&store, quiet()).await;
    assert_eq!(stored_at(first.execute(commit(0, topic, 1)).await), 0);
    let second = Service::start(&store, quiet()).await;
    second.node.ready().await;
    assert_not_applied(&first.execute(commit(1, topic, 1)).await.unwrap_err());
    // Each takes the shard from the other as soon as it is asked for something.
    let mut refused = 0;
    for number in 1..40 {
        let service = if number % 3 == 0 { &second } else { &first };
        loop {
            match service.execute(commit(number, topic, 1)).await {
                Ok(reply) => break assert_eq!(stored_at(Ok(reply)), number, "dense, and in order"),
                Err(error) => assert_not_applied(&error),
            }
            refused += 1;
        }
    }
    assert!(refused > 10, "the shard changed hands {refused} times");
    let lease = memory.take(SHARD).await.unwrap();
    let ledger = rebuild(SHARD, 1, memory.load(&lease).await.unwrap()).unwrap();
    assert_eq!(ledger.partition(topic, P0).unwrap().end(), Offset(40));
    assert!(state(memory.load(&lease).await.unwrap()) == replayed(&store));
}

#[tokio::test(start_paused = true)]
async fn a_fenced_owner_leaves_its_last_checkpoint_to_the_next_one() {
    let (memory, store) = memory();
    let (first, topic) = Service::with_topic(&store, quiet()).await;
    first.execute(commit(0, topic, 1)).await.unwrap();
    let lease = memory.take(SHARD).await.unwrap();
    let entries = memory.journal_len(SHARD);
    first.stop().await;
    let loaded = memory.load(&lease).await.unwrap();
    assert!(loaded.shard.is_none() && loaded.entries.len() == entries, "{loaded:?}");
}

#[tokio::test(start_paused = true)]
async fn a_service_whose_first_append_fails_tries_again_until_it_serves() {
    let (memory, store) = memory();
    memory.faults().order([Some(Fault::Refuse), Some(Fault::Refuse), Some(Fault::LoseReply)]);
    let service = Service::start(&store, quiet()).await;
    let topic = service.topic("orders").await;
    assert_eq!(stored_at(service.execute(commit(1, topic, 1)).await), 0);
    assert_eq!(memory.faults().pending(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_stop_answers_what_was_asked_before_it_and_nothing_after() {
    let (_, store) = memory();
    let (service, topic) = Service::with_topic(&store, quiet()).await;
    store.appends.close();
    let mut asked = vec![service.send(commit(0, topic, 1)).await];
    store.appends.reached(3).await;
    for number in 1..100 {
        asked.push(service.send(commit(number, topic, 1)).await);
    }
    service.tasks.token().cancel();
    store.appends.open();
    for (number, asked) in (0..).zip(asked) {
        assert_eq!(stored_at(asked.await.unwrap()), number);
    }
    let node = Arc::clone(&service.node);
    service.stop().await;
    assert_not_applied(&node.execute(SHARD, commit(100, topic, 1)).await.unwrap_err());
}

#[tokio::test(start_paused = true)]
async fn a_shard_that_is_not_there_is_an_error_and_not_a_hang() {
    let (_, store) = memory();
    let service = Service::start(&store, quiet()).await;
    let asked = service.node.execute(ShardId(1), put_topic("orders", 1));
    assert!(matches!(timeout(Duration::from_secs(1), asked).await.unwrap(), Err(Error::Internal(_))));
    assert_eq!(service.node.shards(), 1);
}
