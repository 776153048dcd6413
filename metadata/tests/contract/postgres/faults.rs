//! Faults: stalls, kills, restarts, and callers that go away.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use lakefall_metadata::postgres::{PostgresConfig, PostgresStore};
use lakefall_metadata::{Lease, MetadataStore, StoreError, WriterToken};
use lakefall_queue::ShardId;
use lakefall_queue::id::JournalSeq;
use lakefall_servers::proxy::Loss;
use lakefall_servers::{Postgres, Proxy};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use super::{PATIENCE, run};
use crate::bench::Bench;
use crate::fixtures::{SHARD, commit};
use crate::suite::{Kind, LONG, PostgresPlace, replica};

const TOKEN: WriterToken = WriterToken(7);

async fn append(store: &impl MetadataStore, lease: &Lease, seq: u64) -> Result<(), StoreError> {
    store.append(lease, JournalSeq(seq), TOKEN, Bytes::from(seq.to_string())).await
}

fn start_append(store: &Arc<PostgresStore>, lease: Lease, seq: u64) -> JoinHandle<Result<(), StoreError>> {
    let store = Arc::clone(store);
    tokio::spawn(async move { append(&*store, &lease, seq).await })
}

/// Waits until an append that was started waits for a lock.
async fn until_stalled(place: &PostgresPlace, append: &mut JoinHandle<Result<(), StoreError>>) {
    tokio::select! {
        () = place.until_waiting(1, "WITH reign") => {}
        told = append => panic!("it did not wait: {told:?}"),
    }
}

async fn owner() -> (PostgresPlace, Arc<PostgresStore>, Lease) {
    let place = PostgresPlace::place().await;
    // Nothing here ends because it waited too long, unless it is asked to.
    let patient = PostgresConfig { lock_timeout: PATIENCE, statement_timeout: PATIENCE, second_append_after: PATIENCE, ..place.config() };
    let store = Arc::new(PostgresStore::connect(&patient, replica(1), LONG).await.unwrap());
    store.initialize(1).await.unwrap();
    let lease = store.take(SHARD).await.unwrap();
    (place, store, lease)
}

/// L4 as an owner does it: repeated until it is certain.
async fn settle(store: &PostgresStore, lease: &Lease, seq: u64) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match append(store, lease, seq).await {
            Ok(()) => return,
            Err(StoreError::Unknown(_) | StoreError::NotApplied(_)) => {}
            Err(other) => panic!("append {seq}: {other}"),
        }
        assert!(Instant::now() < deadline, "append {seq} is never settled");
        sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn an_append_that_waits_for_a_lock_across_a_take_is_refused_when_it_goes_on() {
    // Where the append waits: for the row of its shard, and for its journal's table.
    for stall in ["SELECT 1 FROM shards WHERE id = 0 FOR UPDATE", "LOCK TABLE journal_0_0 IN ACCESS EXCLUSIVE MODE"] {
        let (place, store, old) = owner().await;
        append(&*store, &old, 1).await.unwrap();
        let mut blocker = place.session().await;
        run(&mut blocker, "BEGIN").await;
        run(&mut blocker, stall).await;
        let mut late = start_append(&store, old, 2);
        until_stalled(&place, &mut late).await;
        // Another replica takes the shard meanwhile: its transaction is the blocker's, so that it comes first.
        run(&mut blocker, "UPDATE shards SET epoch = epoch + 1; UPDATE leases SET epoch = epoch + 1, replica = gen_random_uuid()").await;
        run(&mut blocker, "COMMIT").await;
        assert_eq!(late.await.unwrap(), Err(StoreError::Fenced), "{stall}");
        assert_eq!(append(&*store, &old, 2).await, Err(StoreError::Fenced));
        assert_eq!(place.sql("SELECT string_agg(seq::text, ' ') FROM journal").await, "1", "{stall}");
    }
}

#[tokio::test]
async fn an_owner_that_lives_on_while_its_database_falls_back_is_fenced_and_leaves_no_gap() {
    let (place, store, lease) = owner().await;
    for seq in 1..=5 {
        append(&*store, &lease, seq).await.unwrap();
    }
    // As after a failover to a standby that lagged.
    place.sql("DELETE FROM journal WHERE seq > 3").await;
    assert_eq!(append(&*store, &lease, 6).await, Err(StoreError::Fenced));
    assert_eq!(store.load(&lease).await.unwrap().entries, ["1", "2", "3"]);
    append(&*store, &lease, 4).await.unwrap();
    assert_eq!(store.load(&lease).await.unwrap().entries, ["1", "2", "3", "4"]);
}

#[tokio::test]
async fn a_take_waits_for_the_append_under_way_and_sees_it() {
    let (place, store, old) = owner().await;
    let mut blocker = place.session().await;
    // Another transaction is about to write the same place, so that the append waits with its shard's row locked.
    run(&mut blocker, "BEGIN; INSERT INTO journal (shard, slot, seq, epoch, writer, payload) VALUES (0, 0, 1, 9, gen_random_uuid(), '')")
        .await;
    let mut append = start_append(&store, old, 1);
    until_stalled(&place, &mut append).await;
    store.release(&old).await.unwrap();
    let patient = PostgresConfig { lock_timeout: PATIENCE, statement_timeout: PATIENCE, ..place.config() };
    let other = Arc::new(PostgresStore::connect(&patient, replica(2), LONG).await.unwrap());
    let taker = Arc::clone(&other);
    let take = tokio::spawn(async move { taker.take(SHARD).await });
    place.until_waiting(1, "WITH free").await;
    assert!(!take.is_finished());
    run(&mut blocker, "ROLLBACK").await;
    append.await.unwrap().unwrap();
    let new = take.await.unwrap().unwrap();
    assert_eq!(other.load(&new).await.unwrap().entries, ["1"]);
}

#[tokio::test]
async fn a_take_that_meets_a_hanging_append_gives_up_after_the_lock_timeout_and_changes_nothing() {
    let (place, store, old) = owner().await;
    let mut blocker = place.session().await;
    run(&mut blocker, "BEGIN; INSERT INTO journal (shard, slot, seq, epoch, writer, payload) VALUES (0, 0, 1, 9, gen_random_uuid(), '')")
        .await;
    // This one waits longer than the other is ready to.
    let patient = PostgresConfig { lock_timeout: Duration::from_secs(60), statement_timeout: Duration::from_secs(60), ..place.config() };
    let patient = Arc::new(PostgresStore::connect(&patient, replica(1), LONG).await.unwrap());
    let mut append = start_append(&patient, old, 1);
    until_stalled(&place, &mut append).await;
    store.release(&old).await.unwrap();
    let hasty = PostgresConfig { lock_timeout: Duration::from_millis(20), statement_timeout: Duration::from_millis(500), ..place.config() };
    let hasty = PostgresStore::connect(&hasty, replica(2), LONG).await.unwrap();
    assert!(matches!(hasty.take(SHARD).await, Err(StoreError::NotApplied(_))));
    assert_eq!(place.sql("SELECT epoch, replica IS NULL FROM leases").await, format!("{}|t", old.epoch));
    // The others go on: heartbeats do not wait for it.
    hasty.renew(&[]).await.unwrap();
    run(&mut blocker, "ROLLBACK").await;
    append.await.unwrap().unwrap();
    hasty.take(SHARD).await.unwrap();
}

#[tokio::test]
async fn an_append_whose_backend_is_killed_is_unknown_and_settled_by_writing_it_again() {
    let (place, store, lease) = owner().await;
    let mut blocker = place.session().await;
    run(&mut blocker, "BEGIN; INSERT INTO journal (shard, slot, seq, epoch, writer, payload) VALUES (0, 0, 1, 9, gen_random_uuid(), '')")
        .await;
    let mut killed = start_append(&store, lease, 1);
    until_stalled(&place, &mut killed).await;
    let kill = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
        WHERE datname = current_database() AND usename = 'lakefall' AND query ~ 'WITH reign'";
    place.sql(kill).await;
    assert!(matches!(killed.await.unwrap(), Err(StoreError::Unknown(_))));
    run(&mut blocker, "ROLLBACK").await;
    append(&*store, &lease, 1).await.unwrap();
    append(&*store, &lease, 1).await.unwrap();
    assert_eq!(store.load(&lease).await.unwrap().entries, ["1"]);
}

#[tokio::test]
async fn an_append_written_again_waits_for_the_first_one_whose_answer_was_lost() {
    let (place, store, lease) = owner().await;
    // The first attempt's backend: it has inserted, and does not commit yet.
    let mut first = place.session().await;
    run(&mut first, "BEGIN; SELECT epoch FROM shards WHERE id = 0 FOR SHARE").await;
    run(
        &mut first,
        "INSERT INTO journal (shard, slot, seq, epoch, writer, payload) VALUES (0, 0, 1, 1, '00000000-0000-0000-0000-000000000007', 'one')",
    )
    .await;
    let mut again = start_append(&store, lease, 1);
    until_stalled(&place, &mut again).await;
    run(&mut first, "COMMIT").await;
    again.await.unwrap().unwrap();
    assert_eq!(store.load(&lease).await.unwrap().entries, ["one"]);
}

#[tokio::test]
async fn an_append_whose_answer_never_comes_is_written_again_beside_it_and_told_within_five_seconds() {
    let (place, _, _) = owner().await;
    let proxy = Proxy::before_postgres(place.server.address()).await;
    let url = place.server.url_at(proxy.address(), &place.database);
    let store = PostgresStore::connect(&PostgresConfig::new(url), replica(1), LONG).await.unwrap();
    let lease = store.take(SHARD).await.unwrap();
    append(&store, &lease, 1).await.unwrap();
    // It is committed; its connection stays open, and says nothing any more.
    let before = proxy.counts().replies_lost;
    proxy.lose_reply("SELECT 1", 1, Loss::Silence);
    let started = Instant::now();
    append(&store, &lease, 2).await.unwrap();
    assert_eq!(proxy.counts().replies_lost, before + 1);
    assert!(started.elapsed() < Duration::from_secs(5), "it took {:?}", started.elapsed());
    append(&store, &lease, 3).await.unwrap();
    assert_eq!(store.load(&lease).await.unwrap().entries, ["1", "2", "3"], "each stands once");
}

#[tokio::test]
async fn once_an_append_is_written_twice_nobody_is_told_that_it_certainly_was_not() {
    let (place, other, lease) = owner().await;
    let mut blocker = place.session().await;
    run(&mut blocker, "BEGIN; SELECT 1 FROM shards WHERE id = 0 FOR UPDATE").await;
    let patient = PostgresConfig {
        lock_timeout: PATIENCE,
        statement_timeout: PATIENCE,
        second_append_after: Duration::from_millis(50),
        ..place.config()
    };
    let store = Arc::new(PostgresStore::connect(&patient, replica(1), LONG).await.unwrap());
    let twice = start_append(&store, lease, 1);
    place.until_waiting(2, "WITH reign").await;
    // Both wait while another takes the shard: either of them could have come first.
    run(&mut blocker, "UPDATE shards SET epoch = epoch + 1; COMMIT").await;
    let told = twice.await.unwrap();
    assert!(matches!(told, Err(StoreError::Unknown(_))), "{told:?}");
    assert_eq!(append(&*other, &lease, 1).await, Err(StoreError::Fenced));
}

#[tokio::test]
async fn appends_whose_backends_are_killed_at_any_moment_all_stand_once() {
    let (place, store, lease) = owner().await;
    let database = place.database.clone();
    let server = Arc::clone(&place.server);
    let killer = tokio::spawn(async move {
        let mut killed = 0;
        loop {
            // Appends alone: their connections are the ones that ran one last.
            let kill = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
                WHERE datname = current_database() AND usename = 'lakefall' AND query ~ 'WITH reign'";
            killed += server.sql(&database, kill).await.parse::<u32>().unwrap();
            sleep(Duration::from_millis(3)).await;
            if killed >= 40 {
                return killed;
            }
        }
    });
    let mut last = 0;
    while !killer.is_finished() {
        last += 1;
        settle(&store, &lease, last).await;
    }
    assert!(killer.await.unwrap() >= 40);
    let entries = store.load(&lease).await.unwrap().entries;
    let expected: Vec<String> = (1..=last).map(|seq| seq.to_string()).collect();
    assert_eq!(entries, expected);
}

#[tokio::test]
async fn an_append_that_meets_another_transaction_is_run_again() {
    let (place, store, lease) = owner().await;
    let mut blocker = place.session().await;
    run(&mut blocker, "BEGIN; SELECT 1 FROM shards WHERE id = 0 FOR UPDATE").await;
    let hasty = PostgresConfig { lock_timeout: Duration::from_millis(500), second_append_after: PATIENCE, ..place.config() };
    let hasty = Arc::new(PostgresStore::connect(&hasty, replica(1), LONG).await.unwrap());
    let mut waiting = start_append(&hasty, lease, 1);
    until_stalled(&place, &mut waiting).await;
    let first = place.sql("SELECT min(pid) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query ~ 'WITH reign'").await;
    // Its lock_timeout has passed when another session waits in its place.
    let second = format!("wait_event_type = 'Lock' AND query ~ 'WITH reign' AND pid <> {first}");
    place.until(&format!("SELECT count(*) > 0 FROM pg_stat_activity WHERE datname = current_database() AND {second}")).await;
    run(&mut blocker, "COMMIT").await;
    waiting.await.unwrap().unwrap();
    // And not for ever.
    run(&mut blocker, "BEGIN; SELECT 1 FROM shards WHERE id = 0 FOR UPDATE").await;
    assert!(matches!(append(&*hasty, &lease, 2).await, Err(StoreError::NotApplied(_))));
    run(&mut blocker, "COMMIT").await;
    assert_eq!(store.load(&lease).await.unwrap().entries, ["1"]);
}

#[tokio::test]
async fn a_checkpoint_that_hangs_keeps_nobody_from_taking_the_shard_and_is_then_fenced() {
    let place = PostgresPlace::place().await;
    let store = place.open().await;
    store.initialize(1).await.unwrap();
    let mut bench = Bench::on(store, ()).await;
    let topic = bench.topic("orders", 1).await;
    bench.checkpoint().await;
    bench.group(vec![commit(1, topic, 5)]).await;
    let before = bench.load().await;
    let mut blocker = place.session().await;
    run(&mut blocker, "BEGIN; SELECT 1 FROM partitions FOR UPDATE").await;
    let (owner, old, checkpoint) = (Arc::clone(&bench.store), bench.lease, bench.ledger.checkpoint());
    let hanging = tokio::spawn(async move { owner.checkpoint(&old, &checkpoint).await });
    place.until_waiting(1, "INSERT INTO partitions").await;
    bench.store.release(&bench.lease).await.unwrap();
    let other = place.store(2, LONG).await;
    let new = other.take(SHARD).await.unwrap();
    assert_eq!(other.load(&new).await.unwrap().entries, before.entries);
    run(&mut blocker, "COMMIT").await;
    assert_eq!(hanging.await.unwrap(), Err(StoreError::Fenced));
    let after = other.load(&new).await.unwrap();
    assert_eq!((after.shard, after.rows, after.entries), (before.shard, before.rows, before.entries));
}

#[tokio::test]
async fn callers_that_go_away_leave_no_transaction_open_and_nothing_half_done() {
    let place = PostgresPlace::place().await;
    let store = place.open().await;
    store.initialize(1).await.unwrap();
    let mut bench = Bench::on(store, ()).await;
    let topic = bench.topic("orders", 1).await;
    for round in 0..60 {
        bench.group((0..20).map(|n| commit(round * 20 + n, topic, 1)).collect()).await;
        let checkpoint = bench.ledger.checkpoint();
        let (store, lease, given) = (Arc::clone(&bench.store), bench.lease, checkpoint.clone());
        let written = tokio::spawn(async move { store.checkpoint(&lease, &given).await });
        sleep(Duration::from_micros(round * 150)).await;
        written.abort();
        match written.await {
            Ok(done) => {
                done.unwrap();
                bench.ledger.checkpointed(&checkpoint, 0);
            }
            Err(_) => bench.ledger.checkpoint_failed(checkpoint),
        }
    }
    let open = "datname = current_database() AND state ~ 'in transaction'";
    place.until(&format!("SELECT count(*) = 0 FROM pg_stat_activity WHERE {open}")).await;
    bench.checkpoint().await;
    bench.check_rebuilt().await;
}

#[tokio::test]
async fn after_a_restart_of_the_server_the_first_call_succeeds() {
    let server = Postgres::start(Default::default()).await;
    let config = PostgresConfig::new(server.url());
    let store = PostgresStore::connect(&config, replica(1), LONG).await.unwrap();
    store.initialize(1).await.unwrap();
    let lease = store.take(SHARD).await.unwrap();
    for round in 1..=3 {
        // Several connections that will all be dead.
        let held = [lease];
        let (one, two, three) = tokio::join!(store.renew(&held), store.shards(), store.identity());
        assert!(one.is_ok() && two.is_ok() && three.is_ok());
        settle(&store, &lease, round).await;
        server.restart_immediate().await;
        assert_eq!(store.renew(&[lease]).await.unwrap().renewed, [SHARD], "the lease outlives the server");
        assert_eq!(store.shards().await.unwrap(), Some(1));
        assert_eq!(store.load(&lease).await.unwrap().entries.len() as u64, round);
    }
    server.stop_fast().await;
    let told = store.renew(&[lease]).await;
    assert!(matches!(&told, Err(StoreError::NotApplied(text)) if text.contains("cannot be reached")), "{told:?}");
    assert!(matches!(append(&store, &lease, 4).await, Err(StoreError::Unknown(_) | StoreError::NotApplied(_))));
    server.start_again().await;
    settle(&store, &lease, 4).await;
    assert_eq!(store.load(&lease).await.unwrap().entries.len(), 4);
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_given_up_in_time_and_the_append_settled_later() {
    let server = Postgres::start(Default::default()).await;
    let config = PostgresConfig {
        statement_timeout: Duration::from_secs(2),
        connect_timeout: Duration::from_secs(2),
        acquire_timeout: Duration::from_secs(2),
        second_append_after: PATIENCE,
        ..PostgresConfig::new(server.url())
    };
    // It is started with what a start needs.
    PostgresStore::migrate(&PostgresConfig::new(server.url())).await.unwrap();
    let store = PostgresStore::connect(&config, replica(1), LONG).await.unwrap();
    store.initialize(1).await.unwrap();
    let lease = store.take(SHARD).await.unwrap();
    append(&store, &lease, 1).await.unwrap();
    server.pause().await;
    let started = Instant::now();
    assert!(matches!(append(&store, &lease, 2).await, Err(StoreError::Unknown(_))));
    // On a fresh connection, which cannot be had: nothing was asked.
    assert!(matches!(append(&store, &lease, 2).await, Err(StoreError::NotApplied(_))));
    assert!(started.elapsed() < PATIENCE);
    server.resume().await;
    settle(&store, &lease, 2).await;
    assert_eq!(store.load(&lease).await.unwrap().entries, ["1", "2"]);
}

#[tokio::test]
async fn a_server_without_a_connection_left_refuses_and_nothing_happened() {
    let server = Postgres::start(lakefall_servers::postgres::Options::default().max_connections(4)).await;
    let config = PostgresConfig { acquire_timeout: Duration::from_millis(200), max_connections: 1, ..PostgresConfig::new(server.url()) };
    let store = PostgresStore::connect(&config, replica(1), LONG).await.unwrap();
    store.initialize(2).await.unwrap();
    let lease = store.take(SHARD).await.unwrap();
    let mut others = Vec::new();
    // The one that is kept, and these, are all.
    while let Ok(other) = <sqlx::PgConnection as sqlx::Connection>::connect(&server.url()).await {
        others.push(other);
    }
    let refused = append(&store, &lease, 1).await;
    assert!(matches!(&refused, Err(StoreError::NotApplied(text)) if text.contains("max_connections")), "{refused:?}");
    drop(others);
    settle(&store, &lease, 1).await;
    // One that is in use is waited for, and not for ever.
    let mut blocker = <sqlx::PgConnection as sqlx::Connection>::connect(&server.superuser_url("lakefall")).await.unwrap();
    run(&mut blocker, "BEGIN; SELECT 1 FROM leases WHERE shard = 1 FOR UPDATE").await;
    let store = Arc::new(store);
    let taker = Arc::clone(&store);
    let busy = tokio::spawn(async move { taker.take(ShardId(1)).await });
    let deadline = Instant::now() + PATIENCE;
    while server.sql("lakefall", "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'").await == "0" {
        assert!(Instant::now() < deadline);
    }
    let refused = store.shards().await;
    assert!(matches!(&refused, Err(StoreError::NotApplied(text)) if text.contains("in use")), "{refused:?}");
    run(&mut blocker, "COMMIT").await;
    busy.await.unwrap().unwrap();
}
