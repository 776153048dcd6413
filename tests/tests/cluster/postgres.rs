//! Postgres that loses replies, restarts, slows down, is cut off or answers in one direction only: no acknowledged record is
//! lost, none is stored twice against a promise, and work goes on as soon as Postgres does.

use std::time::Duration;

use lakefall_servers::proxy::{Direction, Loss};
use lakefall_tests::checker::Demands;
use lakefall_tests::cluster::{LEASE, Options, eventually};
use lakefall_tests::dice::{Dice, rounds, seed};
use lakefall_tests::load::{Load, Run, Style};
use lakefall_tests::{Client, verdict};
use serde_json::json;
use tokio::time::Instant;

const PROMPT: Duration = Duration::from_secs(30);
/// What may pass between Postgres's first connection and the first acknowledgement.
const AFTER_POSTGRES: Duration = Duration::from_secs(2);
/// How soon what one gateway acknowledged is read through another.
const VISIBLE: Duration = Duration::from_secs(2);
/// What a takeover may take beyond the lease.
const TAKEOVER: Duration = Duration::from_secs(2);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_reply_to_a_committed_append_loses_nothing_and_repeats_nothing() {
    let seed = seed("lost_replies");
    let mut cluster = Options::default().postgres_proxies().start().await;
    cluster.client().create_topic("load", 2).await;
    let (run, ways) = (Run::new("load", 2), cluster.ways());
    let mut load = Load::new(&run, seed);
    load.everyone(&ways);
    let mut dice = Dice::new(seed);
    let losses = 10 * rounds(1);
    for loss in 0..losses {
        run.acked_more(50, PROMPT).await;
        let owner = cluster.wait_for_owner(0).await;
        let proxy = &cluster.postgres_proxies[owner];
        let before = proxy.counts().replies_lost;
        // An append answers one row; hardly anything else of a busy owner does.
        proxy.lose_reply("SELECT 1", dice.between(1, 10), if loss % 5 == 4 { Loss::Silence } else { Loss::Reset });
        eventually("a reply is lost", PROMPT, async || proxy.counts().replies_lost > before).await;
        run.recorder.fault("an append is committed, its reply lost");
        run.acked_more(50, PROMPT).await;
        proxy.heal().await;
    }
    let repeated: f64 = {
        let mut sum = 0.0;
        for replica in &cluster.replicas {
            sum += replica.metric("lakefall_metadata_appends_repeated_total").await;
        }
        sum
    };
    load.finish().await;
    let report = verdict::judge("lost_replies", run, ways, Demands { faults: losses, acked: 1_000 }).await;
    assert!(repeated > 0.0, "no lost reply was that of an append");
    println!("lost_replies: {losses} replies lost, {repeated} appends written again, {} records acknowledged", report.acked);
    assert!(cluster.ended().is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_crash_of_postgres_work_goes_on_within_two_seconds_and_nothing_is_lost() {
    let seed = seed("postgres_restarts");
    let mut cluster = Options::default().own_postgres().alone().start().await;
    let client = cluster.client();
    client.create_topic("load", 2).await;
    client.create_topic("probe", 1).await;
    let (run, ways) = (Run::new("load", 2), cluster.ways());
    let mut load = Load::new(&run, seed);
    load.everyone(&ways);
    let restarts = 4 * rounds(1);
    let (mut slowest, mut sum) = (Duration::ZERO, Duration::ZERO);
    let mut dice = Dice::new(seed);
    for restart in 0..restarts {
        run.acked_more(dice.between(20, 200), PROMPT).await;
        if restart % 4 == 3 {
            cluster.postgres.restart_fast().await;
        } else {
            cluster.postgres.restart_immediate().await;
        }
        run.recorder.fault("pg_ctl restart");
        let took = run.acked_more(1, PROMPT).await;
        println!("postgres_restarts: acknowledged again {took:?} after Postgres took connections");
        (slowest, sum) = (slowest.max(took), sum + took);
    }
    load.finish().await;
    verdict::judge("postgres_restarts", run, ways, Demands { faults: restarts, acked: 500 }).await;
    println!("postgres_restarts: of {restarts}, the slowest took {slowest:?}, {:?} on average", sum / restarts as u32);
    assert!(slowest <= AFTER_POSTGRES, "the first acknowledgement came {slowest:?} after Postgres");
    assert!(cluster.ended().is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_owner_cut_off_from_postgres_in_either_direction_is_replaced_and_nothing_is_lost() {
    let seed = seed("postgres_partitions");
    let mut cluster = Options::default().postgres_proxies().start().await;
    cluster.client().create_topic("load", 2).await;
    let (run, ways) = (Run::new("load", 2), cluster.ways());
    let mut load = Load::new(&run, seed);
    load.everyone(&ways);
    let directions = [Direction::ToServer, Direction::ToClient];
    let partitions = 2 * rounds(1);
    for partition in 0..partitions {
        run.acked_more(50, PROMPT).await;
        let owner = cluster.wait_for_owner(0).await;
        let direction = directions[partition % 2];
        cluster.postgres_proxies[owner].blackhole(direction, true);
        run.recorder.fault(&format!("nothing goes {direction:?}"));
        let began = Instant::now();
        eventually("the other replica owns the shard", PROMPT, async || cluster.owner(0).await == Some(1 - owner)).await;
        run.acked_more(50, PROMPT).await;
        let took = began.elapsed();
        println!("postgres_partitions: {direction:?}: served by the other after {took:?}; the lease is {LEASE:?}");
        assert!(took <= LEASE + TAKEOVER, "the other served after {took:?} only");
        // What was held up arrives now, late: the old owner's appends among it.
        cluster.postgres_proxies[owner].heal().await;
        run.acked_more(100, PROMPT).await;
    }
    load.finish().await;
    verdict::judge("postgres_partitions", run, ways, Demands { faults: partitions, acked: 300 }).await;
    assert!(cluster.ended().is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_of_located_records_go_on_while_the_metadata_service_is_away() {
    let cluster = Options::default().rpc_proxies().own_postgres().start().await;
    let clients = [cluster.client_of(0), cluster.client_of(1)];
    clients[0].create_topic("t", 1).await;
    for n in 0..200 {
        clients[0].put("t", 0, &json!(n)).await;
    }
    // A gateway that comes to follow a replica only later forgets then what it remembers.
    let replicas = cluster.rpc_proxies.len() as f64;
    for gateway in &cluster.gateways {
        eventually("news of all replicas are followed", PROMPT, async || gateway.metric("lakefall_metadata_rpc_watches").await == replicas)
            .await;
    }
    // Each gateway has located them once.
    let mut before = Vec::new();
    for client in &clients {
        before.push(client.read_pages("t", 0, 0).await);
    }
    cluster.postgres.stop_immediate().await;
    for proxy in &cluster.rpc_proxies {
        proxy.refuse(true).await;
        proxy.reset_all();
    }
    for (client, before) in clients.iter().zip(&before) {
        let page = client.page("t", 0, 0, "").await.expect("what was located is read without the metadata service");
        assert_eq!(page.rows[..], before[..page.rows.len()]);
        assert_eq!(page.rows.len(), before.len());
    }
    // A write waits: whether it comes through, and what it is told, is known when it is over.
    let patient = clients[0].clone().patience(PROMPT * 4);
    let write = tokio::spawn(async move { patient.send(patient.values("t", "partition=0", "\"meanwhile\"")).await.unwrap() });
    cluster.postgres.start_again().await;
    for proxy in &cluster.rpc_proxies {
        proxy.heal().await;
    }
    eventually("writes go on", PROMPT, async || {
        clients[1].send(clients[1].values("t", "partition=0", "2")).await.is_ok_and(|answer| answer.status == 200)
    })
    .await;
    let answer = write.await.unwrap();
    println!("metadata_away: the write meanwhile is answered with {}", answer.status);
    // What was acknowledged by one gateway is soon seen by all.
    // Who was in doubt a moment ago may say so for a moment more.
    let is_there = async |client: &Client| {
        let rows = client.clone().persistent(PROMPT).read_pages("t", 0, 0).await;
        rows.iter().any(|row| row.value == b"\"meanwhile\""[..])
    };
    if answer.status == 200 {
        for client in &clients {
            let took = eventually("it is read", Duration::from_secs(20), async || is_there(client).await).await;
            println!("metadata_away: it is read after {took:?}");
            assert!(took <= VISIBLE, "the acknowledged record was read {took:?} later only");
        }
    }
    let stored = usize::from(is_there(&clients[1]).await);
    match (answer.status, answer.json()["outcome"].as_str()) {
        (200, _) => assert_eq!(stored, 1),
        (503, Some("not_applied")) => assert_eq!(stored, 0),
        (504, Some("unknown")) => assert!(stored <= 1),
        _ => panic!("{}: {}", answer.status, answer.text()),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_postgres_slows_down_and_nothing_else() {
    let seed = seed("slow_postgres");
    let mut cluster = Options::default()
        .postgres_proxies()
        .env(lakefall_tests::cluster::Role::Gateway, "LAKEFALL_INGEST__BUFFER_BYTES", 16 << 20)
        .start()
        .await;
    cluster.client().create_topic("load", 2).await;
    let (run, ways) = (Run::new("load", 2), cluster.ways());
    let mut load = Load::new(&run, seed);
    load.producer(&ways, Style::Keyed).producer(&ways, Style::Sequenced).producer(&ways, Style::Plain).tail(&ways, 0);
    run.acked_more(100, PROMPT).await;
    for proxy in &cluster.postgres_proxies {
        proxy.latency(Direction::ToClient, Duration::from_millis(300), Duration::from_millis(300));
    }
    run.recorder.fault("Postgres answers after 300 to 600 ms");
    run.acked_more(100, PROMPT * 2).await;
    for proxy in &cluster.postgres_proxies {
        proxy.heal().await;
    }
    let took = run.acked_more(100, PROMPT).await;
    println!("slow_postgres: 100 records in {took:?} once it is quick again");
    load.finish().await;
    verdict::judge("slow_postgres", run, ways, Demands { faults: 1, acked: 300 }).await;
    assert!(cluster.ended().is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn locks_and_deadlocks_of_others_in_the_database_cost_time_only() {
    let seed = seed("lockers");
    let mut cluster = Options::default().start().await;
    cluster.client().create_topic("load", 2).await;
    let (run, ways) = (Run::new("load", 2), cluster.ways());
    let mut load = Load::new(&run, seed);
    load.producer(&ways, Style::Keyed).producer(&ways, Style::Sequenced).producer(&ways, Style::Plain).tail(&ways, 0);
    for _ in 0..3 * rounds(1) {
        run.acked_more(50, PROMPT).await;
        // Longer than the lock timeout of an append.
        let hold = "begin; select * from shards for update; select * from leases for update; select pg_sleep(2.5); commit;";
        run.recorder.fault("someone holds the rows of all shards");
        cluster.sql(hold).await;
        let took = run.acked_more(50, PROMPT).await;
        println!("lockers: 50 records in {took:?} after the lock went");
    }
    load.finish().await;
    verdict::judge("lockers", run, ways, Demands { faults: 3, acked: 200 }).await;
    assert!(cluster.ended().is_none());
}
