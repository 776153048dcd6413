//! The tables over time: the journal's slots are emptied, checkpoints are read while they are written, and a long history
//! leaves nothing behind.

use std::sync::Arc;

use bytes::Bytes;
use lakefall_metadata::{MetadataStore, WriterToken, rebuild};
use lakefall_queue::id::JournalSeq;
use tokio::sync::watch;

use super::run;
use crate::bench::Bench;
use crate::fixtures::{SHARD, commit};
use crate::suite::{Kind, LONG, PostgresPlace};

/// Entries of a slot (`SPAN` in the store), and so of three.
const SPAN: u64 = 2_048;

async fn bench() -> (PostgresPlace, Bench) {
    let place = PostgresPlace::place().await;
    let store = place.open().await;
    store.initialize(1).await.unwrap();
    (place, Bench::on(store, ()).await)
}

/// Rows in each slot's table, whatever is visible to whom.
async fn rows(place: &PostgresPlace) -> String {
    place.sql("SELECT (SELECT count(*) FROM journal_0_0), (SELECT count(*) FROM journal_0_1), (SELECT count(*) FROM journal_0_2)").await
}

/// Journals groups up to a sequence, fast: as an owner would, but for their number.
async fn journal_up_to(bench: &mut Bench, seq: u64) {
    while bench.ledger.seq().0 < seq {
        bench.group(Vec::new()).await;
    }
}

#[tokio::test]
async fn a_slot_is_emptied_when_a_checkpoint_holds_all_of_it_and_not_before() {
    let (place, mut bench) = bench().await;
    journal_up_to(&mut bench, SPAN + 10).await;
    assert_eq!(rows(&place).await, format!("{}|11|0", SPAN - 1));
    let middle = bench.ledger.checkpoint();
    journal_up_to(&mut bench, SPAN + 20).await;
    bench.store.checkpoint(&bench.lease, &middle).await.unwrap();
    assert_eq!(rows(&place).await, "0|21|0", "one is done with, the other is written to");
    assert_eq!(bench.load().await.entries.len(), 10);
    // All around, so that every slot is used again.
    journal_up_to(&mut bench, SPAN * 3 + 5).await;
    assert_eq!(rows(&place).await, format!("6|{SPAN}|{SPAN}"));
    bench.check_rebuilt().await;
    bench.checkpoint().await;
    assert_eq!(rows(&place).await, "0|0|0", "nothing is being written");
    journal_up_to(&mut bench, SPAN * 3 + 8).await;
    bench.check_rebuilt().await;
    assert_eq!(bench.load().await.entries.len(), 3);
}

#[tokio::test]
async fn a_slot_that_somebody_reads_is_emptied_by_the_next_checkpoint() {
    let (place, mut bench) = bench().await;
    journal_up_to(&mut bench, 5).await;
    let mut reader = place.session().await;
    run(&mut reader, "BEGIN; SELECT count(*) FROM journal").await;
    // It does not fail, and does not wait long.
    bench.checkpoint().await;
    assert_eq!(rows(&place).await, "5|0|0");
    run(&mut reader, "COMMIT").await;
    journal_up_to(&mut bench, 6).await;
    bench.checkpoint().await;
    assert_eq!(rows(&place).await, "0|0|0");
}

/// TRUNCATE does not heed snapshots: a reader must never find rows of before a checkpoint and a journal of after it.
#[tokio::test]
async fn whoever_reads_a_shard_during_checkpoints_finds_it_whole() {
    let (place, mut bench) = bench().await;
    let topic = bench.topic("orders", 3).await;
    let reader = place.store(2, LONG).await;
    let (done, mut going_on) = watch::channel(true);
    let reading = tokio::spawn(async move {
        let mut last = 0;
        let mut times = 0;
        while *going_on.borrow_and_update() {
            let ledger = rebuild(SHARD, 1, reader.inspect(SHARD).await.unwrap()).unwrap();
            assert!(ledger.seq().0 >= last, "it went back from {last} to {}", ledger.seq().0);
            last = ledger.seq().0;
            times += 1;
        }
        times
    });
    for round in 0..150 {
        bench.group(vec![commit(round * 2, topic, 2), commit(round * 2 + 1, topic, 1)]).await;
        bench.group(Vec::new()).await;
        if round % 2 == 0 {
            bench.checkpoint().await;
        }
    }
    done.send_replace(false);
    let times = reading.await.unwrap();
    assert!(times >= 10, "{times} reads are no test");
    bench.check_rebuilt().await;
}

#[tokio::test]
async fn nothing_is_ever_deleted_from_the_journal() {
    let (place, mut bench) = bench().await;
    let topic = bench.topic("orders", 1).await;
    for round in 0..30 {
        bench.group(vec![commit(round, topic, 1)]).await;
        bench.checkpoint().await;
    }
    // The counters are written a while after.
    place.until("SELECT sum(n_tup_ins) >= 31 FROM pg_stat_user_tables WHERE relname ~ '^journal_0_'").await;
    let dead = "SELECT sum(n_tup_del), sum(n_tup_upd) FROM pg_stat_user_tables WHERE relname ~ '^journal_0_'";
    assert_eq!(place.sql(dead).await, "0|0");
}

#[tokio::test]
async fn large_and_many_entries_are_kept_as_they_were() {
    let (place, bench) = bench().await;
    let entry = |seq: u64| Bytes::from(vec![seq as u8; 1 << (seq % 22)]);
    for seq in 1..=44 {
        bench.store.append(&bench.lease, JournalSeq(seq), WriterToken(u128::MAX), entry(seq)).await.unwrap();
    }
    let entries = bench.load().await.entries;
    assert_eq!(entries.len(), 44);
    assert!((1..).zip(&entries).all(|(seq, found)| *found == entry(seq)));
    let store: Arc<dyn MetadataStore> = place.open().await;
    store.release(&bench.lease).await.unwrap();
}
