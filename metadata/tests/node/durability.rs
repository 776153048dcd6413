//! L1 and L4: what is visible, and how an append that failed is settled.

use std::time::Duration;

use bytes::Bytes;
use lakefall_metadata::memory::Fault;
use lakefall_metadata::{Metadata, MetadataStore, News, StoreError, WriterToken, rebuild};
use lakefall_queue::id::JournalSeq;
use lakefall_queue::ledger::Notice;
use lakefall_queue::{Offset, Outcome};
use tokio::sync::broadcast::error::TryRecvError;
use tokio::time::timeout;

use crate::support::fixtures::{SHARD, commit, put_topic};
use crate::support::{Service, assert_not_applied, committed, locate, located, memory, quiet, replayed, state, stored_at};

const LONG: Duration = Duration::from_secs(10);

#[tokio::test(start_paused = true)]
async fn l1_a_query_waits_until_what_it_would_see_is_durable() {
    let (_, store) = memory();
    let (service, topic) = Service::with_topic(&store, quiet()).await;
    store.appends.close();
    let append = service.send(commit(1, topic, 5)).await;
    // The first two entries: the reign's and the topic's.
    store.appends.reached(3).await;
    let mut query = service.send_query(locate(topic, 0)).await;
    assert!(timeout(LONG, &mut query).await.is_err(), "L1: answered before the append was");
    assert!(!append.is_finished(), "L1: acknowledged before the append was done");
    store.appends.open();
    assert_eq!(stored_at(append.await.unwrap()), 0);
    assert_eq!(located(query.await.unwrap()).unwrap().end, Offset(5));
}

#[tokio::test(start_paused = true)]
async fn l1_a_query_never_sees_what_its_group_could_not_make_durable() {
    let (memory, store) = memory();
    let (service, topic) = Service::with_topic(&store, quiet()).await;
    store.appends.close();
    let first = service.send(commit(1, topic, 5)).await;
    store.appends.reached(3).await;
    // One group: the query is answered from the state after the commit.
    let second = service.send(commit(2, topic, 7)).await;
    let query = service.send_query(locate(topic, 0)).await;
    memory.faults().order([None, Some(Fault::Refuse)]);
    store.appends.open();
    assert_eq!(stored_at(first.await.unwrap()), 0);
    assert_not_applied(&second.await.unwrap().unwrap_err());
    assert_not_applied(&located(query.await.unwrap()).unwrap_err());
    assert_eq!(service.end(topic).await, 5);
}

#[tokio::test(start_paused = true)]
async fn l4_a_commit_whose_reply_was_lost_is_answered_and_journaled_once() {
    let (memory, store) = memory();
    let (service, topic) = Service::with_topic(&store, quiet()).await;
    for faults in [vec![Fault::LoseReply], vec![Fault::LoseReply, Fault::LoseReply, Fault::Refuse]] {
        let (entries, end) = (memory.journal_len(SHARD), service.end(topic).await);
        memory.faults().order(faults.into_iter().map(Some));
        let first = committed(service.execute(commit(end + 1, topic, 5)).await);
        assert_eq!(memory.faults().pending(), 0);
        assert_eq!(memory.journal_len(SHARD), entries + 1, "L4: journaled once");
        assert_eq!(service.end(topic).await, end + 5);
        // L3: asked again, it is the same.
        assert_eq!(committed(service.execute(commit(end + 1, topic, 5)).await), first);
        assert_eq!(memory.journal_len(SHARD), entries + 1);
    }
    service.stop().await;
}

#[tokio::test(start_paused = true)]
async fn l4_an_append_that_was_lost_on_its_way_is_written_again() {
    let (memory, store) = memory();
    let (service, topic) = Service::with_topic(&store, quiet()).await;
    let entries = memory.journal_len(SHARD);
    memory.faults().order([Some(Fault::LoseRequest), Some(Fault::Refuse), Some(Fault::LoseRequest), Some(Fault::LoseReply)]);
    assert_eq!(stored_at(service.execute(commit(1, topic, 5)).await), 0);
    assert_eq!((memory.faults().pending(), memory.journal_len(SHARD)), (0, entries + 1));
    assert_eq!(stored_at(service.execute(commit(2, topic, 5)).await), 5);
}

#[tokio::test(start_paused = true)]
async fn l4_an_append_that_arrives_after_it_was_written_again_changes_nothing() {
    let (memory, store) = memory();
    let (service, topic) = Service::with_topic(&store, quiet()).await;
    for requests in 0..4 {
        let (entries, end) = (memory.journal_len(SHARD), service.end(topic).await);
        memory.faults().order([Some(Fault::Delay(requests))]);
        assert_eq!(stored_at(service.execute(commit(2 * end + 1, topic, 5)).await), end);
        assert_eq!(stored_at(service.execute(commit(2 * end + 2, topic, 1)).await), end + 5);
        assert_eq!((memory.faults().pending(), memory.journal_len(SHARD)), (0, entries + 2), "held up by {requests} requests");
    }
    let next = memory.take(SHARD).await.unwrap();
    assert!(state(memory.load(&next).await.unwrap()) == replayed(&store));
}

#[tokio::test(start_paused = true)]
async fn l4_an_append_that_arrives_after_its_reign_is_refused() {
    let (memory, _) = memory();
    let first = memory.take(SHARD).await.unwrap();
    memory.faults().order([Some(Fault::Delay(1))]);
    let append = memory.append(&first, JournalSeq(1), WriterToken(1), Bytes::from_static(b"late")).await;
    assert!(matches!(append, Err(StoreError::Unknown(_))), "{append:?}");
    let next = memory.take(SHARD).await.unwrap();
    assert!(memory.load(&next).await.unwrap().entries.is_empty());
    memory.append(&next, JournalSeq(1), WriterToken(2), Bytes::from_static(b"next")).await.unwrap();
    assert_eq!(memory.load(&next).await.unwrap().entries, [Bytes::from_static(b"next")]);
}

#[tokio::test(start_paused = true)]
async fn l4_a_refused_append_is_told_as_not_applied_and_leaves_nothing() {
    let (memory, store) = memory();
    let (service, topic) = Service::with_topic(&store, quiet()).await;
    let epoch = memory.take(SHARD).await.unwrap().epoch;
    // That fenced the service as well: it steps down once, for either reason.
    memory.faults().order([Some(Fault::Refuse)]);
    assert_not_applied(&service.execute(commit(1, topic, 5)).await.unwrap_err());
    let seen = service.locate(topic, 0).await.unwrap();
    assert!(seen.end == Offset(0) && seen.extents.is_empty(), "{seen:?}");
    assert_eq!(stored_at(service.execute(commit(1, topic, 5)).await), 0, "it works afterwards");
    let next = memory.take(SHARD).await.unwrap();
    assert_eq!(next.epoch.0, epoch.0 + 2, "the state was dropped and loaded anew, once");
    assert!(state(memory.load(&next).await.unwrap()) == replayed(&store));
}

#[tokio::test(start_paused = true)]
async fn l4_an_append_that_stays_in_doubt_is_told_as_unknown_and_settled_by_asking_again() {
    // Written by the first attempt, or by none.
    for first in [Fault::LoseReply, Fault::LoseRequest] {
        let (memory, store) = memory();
        let (service, topic) = Service::with_topic(&store, quiet()).await;
        memory.faults().order([Some(first)].into_iter().chain([Some(Fault::LoseRequest); 300]));
        let error = service.execute(commit(1, topic, 5)).await.unwrap_err();
        assert_eq!(error.outcome(), Outcome::Unknown, "{error:?}");
        assert_eq!(stored_at(service.execute(commit(1, topic, 5)).await), 0);
        assert_eq!(service.end(topic).await, 5, "once, after {first:?}");
        assert_eq!(stored_at(service.execute(commit(2, topic, 1)).await), 5);
    }
}

/// Fenced tells that the entry never will be; not that it never was.
#[tokio::test(start_paused = true)]
async fn l4_an_append_in_doubt_whose_entry_the_next_owner_checkpointed_is_not_told_as_not_applied() {
    let (memory, store) = memory();
    let (service, topic) = Service::with_topic(&store, quiet()).await;
    memory.faults().order([Some(Fault::LoseReply)]);
    let append = service.send(commit(1, topic, 5)).await;
    store.appends.reached(3).await;
    // Within the pause before it is written again, another owner takes the entry into its checkpoint.
    let lease = memory.take(SHARD).await.unwrap();
    let mut ledger = rebuild(SHARD, 1, memory.load(&lease).await.unwrap()).unwrap();
    assert_eq!(ledger.partition(topic, crate::support::fixtures::P0).unwrap().end(), Offset(5), "it was applied");
    memory.checkpoint(&lease, &ledger.checkpoint()).await.unwrap();
    assert_eq!(memory.journal_len(SHARD), 0);
    let error = append.await.unwrap().unwrap_err();
    assert_eq!(error.outcome(), Outcome::Unknown, "{error:?}");
    assert_eq!(stored_at(service.execute(commit(1, topic, 5)).await), 0);
    assert_eq!(service.end(topic).await, 5);
}

#[tokio::test(start_paused = true)]
async fn commands_that_come_while_an_append_is_under_way_share_the_next_one() {
    let (memory, store) = memory();
    let (service, topic) = Service::with_topic(&store, quiet()).await;
    store.appends.close();
    let mut asked = vec![service.send(commit(0, topic, 1)).await];
    store.appends.reached(3).await;
    for number in 1..=500 {
        asked.push(service.send(commit(number, topic, 1)).await);
    }
    store.appends.open();
    for (number, asked) in (0..).zip(asked) {
        assert_eq!(stored_at(asked.await.unwrap()), number, "in the order in which they were sent");
    }
    assert_eq!(memory.journal_len(SHARD), 4, "the reign's, the topic's, the first commit's, and one for 500");
}

#[tokio::test(start_paused = true)]
async fn a_command_that_changes_nothing_writes_nothing() {
    let (memory, store) = memory();
    let (service, topic) = Service::with_topic(&store, quiet()).await;
    service.execute(commit(1, topic, 1)).await.unwrap();
    let entries = memory.journal_len(SHARD);
    service.execute(commit(1, topic, 1)).await.unwrap();
    let shrunk = service.execute(put_topic("orders", 0)).await;
    assert!(shrunk.is_err());
    assert_eq!(memory.journal_len(SHARD), entries);
}

#[tokio::test(start_paused = true)]
async fn notices_come_after_durability_in_the_order_of_the_journal() {
    let (memory, store) = memory();
    let (service, topic) = Service::with_topic(&store, quiet()).await;
    let mut notices = service.node.subscribe();
    store.appends.close();
    let first = service.send(commit(0, topic, 5)).await;
    store.appends.reached(3).await;
    tokio::time::sleep(LONG).await;
    assert_eq!(notices.try_recv().unwrap_err(), TryRecvError::Empty, "L1: told before it was durable");
    memory.faults().order([None, Some(Fault::Refuse)]);
    let refused = service.send(commit(1, topic, 100)).await;
    store.appends.open();
    first.await.unwrap().unwrap();
    assert_not_applied(&refused.await.unwrap().unwrap_err());
    let mut asked = Vec::new();
    for number in 2..50 {
        asked.push(service.send(commit(number, topic, 5)).await);
    }
    for asked in asked {
        asked.await.unwrap().unwrap();
    }
    let (mut next, mut missed) = (0, 0);
    while let Ok(batch) = notices.try_recv() {
        let News::Durable { shard, notices, .. } = &*batch else {
            missed += 1;
            continue;
        };
        assert_eq!(*shard, SHARD);
        for notice in notices {
            let Notice::Appended { extent, .. } = notice else { panic!("{notice:?}") };
            assert_eq!((extent.base_offset, extent.records), (Offset(next), 5));
            next = extent.end().0;
        }
    }
    assert_eq!(next, 49 * 5, "each once, and nothing of the refused one");
    assert_eq!(missed, 1, "after the refused one the state was loaded anew: what it held may not have been told");
}

#[tokio::test(start_paused = true)]
async fn a_caller_whose_store_hangs_is_told_that_the_outcome_is_unknown() {
    let (_, store) = memory();
    let (service, topic) = Service::with_topic(&store, quiet()).await;
    store.appends.close();
    let error = service.execute(commit(1, topic, 5)).await.unwrap_err();
    assert_eq!(error.outcome(), Outcome::Unknown, "{error:?}");
    store.appends.open();
    assert_eq!(stored_at(service.execute(commit(1, topic, 5)).await), 0);
    assert_eq!(service.end(topic).await, 5);
}

#[tokio::test(start_paused = true)]
async fn a_journal_that_cannot_be_read_stops_the_process_with_the_reason() {
    for (payload, reason) in [
        (&b"\xff\xff"[..], "metadata store is damaged: journal entry cannot be read"),
        (&b"\x08\x63"[..], "journal entry has version 99: this program reads up to 1; upgrade it"),
    ] {
        let (memory, store) = memory();
        let lease = memory.take(SHARD).await.unwrap();
        let (seq, token) = (lakefall_queue::id::JournalSeq(1), lakefall_metadata::WriterToken(0));
        memory.append(&lease, seq, token, Bytes::from_static(payload)).await.unwrap();
        let service = Service::start(&store, quiet()).await;
        service.tasks.stopping().await;
        let failure = service.tasks.failure().unwrap().to_string();
        assert!(failure.contains(reason), "{failure}");
        assert_not_applied(&service.execute(put_topic("orders", 1)).await.unwrap_err());
    }
}
