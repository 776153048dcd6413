//! Owners and gateways that die, leave, sleep or join: who serves next, how soon, and that nobody is told anything stale.

use std::time::Duration;

use lakefall_tests::Client;
use lakefall_tests::checker::Demands;
use lakefall_tests::cluster::{Cluster, LEASE, Options, eventually};
use lakefall_tests::dice::{rounds, seed};
use lakefall_tests::load::{Load, Run, Style};
use lakefall_tests::verdict;
use rustix::process::Signal;
use serde_json::json;
use tokio::time::Instant;

/// What a takeover may take beyond the lease.
const TAKEOVER: Duration = Duration::from_secs(2);
/// Within which shards lie where they are to stay.
const SETTLED: Duration = Duration::from_secs(60);
/// Between two tries while nobody serves.
const PAUSE: Duration = Duration::from_millis(10);

/// Stores one record, however often that must be tried. Returns how long it took.
async fn served(client: &Client, topic: &str, within: Duration) -> Duration {
    let began = Instant::now();
    loop {
        let tried = client.send(client.values(topic, "partition=0", "1")).await;
        match tried {
            Ok(answer) if answer.status == 200 => return began.elapsed(),
            told => assert!(began.elapsed() < within, "nobody serves after {within:?}: {told:?}"),
        }
        tokio::time::sleep(PAUSE).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_owner_is_replaced_within_its_lease_and_two_seconds() {
    let mut cluster = Options::default().alone().start().await;
    let client = cluster.client();
    client.create_topic("t", 1).await;
    let mut slowest = Duration::ZERO;
    for _ in 0..rounds(3) {
        let owner = cluster.wait_for_owner(0).await;
        served(&client, "t", TAKEOVER).await;
        cluster.replicas[owner].kill_nine();
        let took = served(&client, "t", LEASE + 4 * TAKEOVER).await;
        println!("takeover: served again after {took:?}; the lease is {LEASE:?}");
        slowest = slowest.max(took);
        cluster.replicas[owner].start().await;
    }
    assert!(slowest <= LEASE + TAKEOVER, "the slowest takeover took {slowest:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handover_makes_nobody_wait_for_the_end_of_a_lease() {
    let mut cluster = Options::default().alone().start().await;
    let client = cluster.client();
    client.create_topic("t", 1).await;
    let mut slowest = Duration::ZERO;
    for _ in 0..rounds(5) {
        let owner = cluster.wait_for_owner(0).await;
        served(&client, "t", TAKEOVER).await;
        cluster.replicas[owner].send(Signal::TERM);
        let mut longest = Duration::ZERO;
        // Until the shard is with the other, and one more request went there.
        while cluster.replicas[owner].ended().is_none() {
            longest = longest.max(served(&client, "t", LEASE + TAKEOVER).await);
        }
        longest = longest.max(served(&client, "t", LEASE + TAKEOVER).await);
        println!("handover: no request took longer than {longest:?}");
        slowest = slowest.max(longest);
        assert_eq!(cluster.replicas[owner].wait_for_end().await.code(), Some(0));
        cluster.replicas[owner].start().await;
    }
    // How long it does take is told; that it is next to nothing is proved in virtual time.
    assert!(slowest < LEASE, "a handover held a request up for {slowest:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_owner_that_wakes_after_a_takeover_answers_nothing_stale_and_loses_nothing() {
    let seed = seed("paused_owner");
    let mut cluster = Cluster::start_default().await;
    cluster.client().create_topic("load", 2).await;
    let (run, ways) = (Run::new("load", 2), cluster.ways());
    let mut load = Load::new(&run, seed);
    load.everyone(&ways);
    let (pauses, mut slowest) = (rounds(3), Duration::ZERO);
    for _ in 0..pauses {
        let owner = cluster.wait_for_owner(0).await;
        run.acked_more(100, TAKEOVER * 10).await;
        cluster.replicas[owner].pause();
        run.recorder.fault("the owner is paused");
        eventually("another owns the shard", LEASE + 4 * TAKEOVER, async || cluster.owner(0).await == Some(1 - owner)).await;
        let took = run.acked_more(1, TAKEOVER * 10).await;
        println!("paused_owner: acknowledged again {took:?} after another owned the shard");
        slowest = slowest.max(took);
        run.acked_more(200, TAKEOVER * 10).await;
        cluster.replicas[owner].resume();
        run.acked_more(200, TAKEOVER * 10).await;
        assert_eq!(cluster.owner(0).await, Some(1 - owner), "the one that woke took the shard back");
    }
    load.finish().await;
    verdict::judge("paused_owner", run, ways, Demands { faults: pauses, acked: 1_000 }).await;
    // A connection to one that sleeps looks like any other until its keepalive ends it, and so does the next that is tried.
    assert!(slowest <= TAKEOVER * 4, "gateways went on asking the one that sleeps for {slowest:?}");
    assert!(cluster.ended().is_none(), "a replica that slept must go on, not end");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_a_gateway_is_killed_the_other_serves_at_once() {
    let seed = seed("gateway_killed");
    let mut cluster = Options::default().alone().start().await;
    cluster.client().create_topic("load", 2).await;
    let (run, ways) = (Run::new("load", 2), cluster.ways());
    let mut load = Load::new(&run, seed);
    load.producer(&ways, Style::Keyed).producer(&ways, Style::Sequenced).tail(&ways, 0).tail(&ways, 1);
    let kills = rounds(4);
    for kill in 0..kills {
        run.acked_more(100, TAKEOVER * 10).await;
        let (victim, other) = (kill % 2, cluster.client_of(1 - kill % 2));
        cluster.gateways[victim].kill_nine();
        run.recorder.fault("kill -9");
        let promise = lakefall_tests::history::Promise { once: false, pipelined: false };
        let body = lakefall_tests::history::body(marker(kill), 0);
        let op = run.recorder.invoke(promise, &[(marker(kill), body.clone())]);
        let probe = Instant::now();
        let answer = other.send(other.values("load", "partition=0", body)).await.unwrap();
        let took = probe.elapsed();
        assert_eq!(answer.status, 200, "{}", answer.text());
        run.recorder.ok(op, answer.offsets());
        println!("gateway killed: the other answered after {took:?}");
        assert!(took < LEASE, "the other gateway took {took:?}");
        cluster.gateways[victim].start().await;
    }
    load.finish().await;
    verdict::judge("gateway_killed", run, ways, Demands { faults: kills, acked: 500 }).await;
}

/// A record beside the load's.
fn marker(n: usize) -> lakefall_tests::history::RecordId {
    lakefall_tests::history::RecordId { producer: 900, seq: n as u64 }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_joins_takes_its_share_and_one_that_leaves_gives_it_back() {
    const SHARDS: u32 = 8;
    let mut cluster = Options::default().shards(SHARDS).replicas(1).start().await;
    let client = cluster.client();
    let namespaces: Vec<String> = (0..6).map(|n| format!("team-{n}")).collect();
    let mut clients = vec![client.clone()];
    for name in &namespaces {
        client.call(reqwest::Method::PUT, &format!("/v1/namespaces/{name}"), &json!({})).await;
        clients.push(cluster.client_of(1).in_namespace(name));
    }
    for client in &clients {
        client.create_topic("t", 1).await;
    }
    let counts = async |cluster: &Cluster| {
        let mut counts = vec![0; cluster.replicas.len()];
        for shard in 0..SHARDS {
            if let Some(owner) = cluster.owner(shard).await {
                counts[owner] += 1;
            }
        }
        counts
    };
    eventually("one replica owns all", SETTLED, async || counts(&cluster).await == [8]).await;
    cluster.add_replica().await.start().await;
    let took = eventually("both own half", SETTLED, async || counts(&cluster).await == [4, 4]).await;
    println!("joining: an even share after {took:?}");
    // Nobody noticed but by a moment's wait.
    for client in &clients {
        served(client, "t", TAKEOVER).await;
    }
    cluster.add_replica().await.start().await;
    let even = |mut counts: Vec<i32>| {
        counts.sort_unstable();
        counts == [2, 3, 3]
    };
    eventually("three share", SETTLED, async || even(counts(&cluster).await)).await;
    cluster.replicas[0].stop().await;
    let took = eventually("the two others own all", SETTLED, async || counts(&cluster).await == [0, 4, 4]).await;
    println!("leaving: all shards are owned again after {took:?}");
    // The gateways knew only the first replica when they started.
    for client in &clients {
        served(client, "t", TAKEOVER).await;
    }
}
