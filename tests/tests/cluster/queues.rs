//! Queues of a cluster: owners and gateways that are killed, replies that are lost, and receivers at one gateway who wait for
//! what is sent to another.

use std::time::Duration;

use lakefall_servers::proxy::Loss;
use lakefall_tests::Cluster;
use lakefall_tests::cluster::{LEASE, Options, eventually};
use lakefall_tests::dice::{Dice, rounds, seed};
use lakefall_tests::queues::checker::{Check, Demands};
use lakefall_tests::queues::effects::Effects;
use lakefall_tests::queues::history::Verb;
use lakefall_tests::queues::load::{Load, Run};
use lakefall_tests::queues::producer::Style;
use lakefall_tests::queues::verdict::judge;
use lakefall_tests::queues::waiting::Waiting;
use lakefall_tests::queues::{Message, Queue};
use serde_json::json;
use tokio::time::Instant;

/// Leases of messages.
const MESSAGE_LEASE: Duration = Duration::from_millis(800);
const ATTEMPTS: u32 = 4;
const PROMPT: Duration = Duration::from_secs(30);
/// Two replicas' and two gateways' ideas of the database's clock.
const CLOCK: Duration = Duration::from_millis(100);
/// Within which the median of a waking must lie: nobody polls, so what comes sooner than the end of a wait was a waking. How
/// soon is for benches to tell, as other tests may have the machine.
const BOUND: Duration = Duration::from_secs(5);
const TIMES: usize = 5;

/// Injects the next of the faults, waits until work goes on, and makes everything whole again. Returns its name.
async fn harm(cluster: &mut Cluster, nth: usize, dice: &mut Dice) -> &'static str {
    let owner = cluster.wait_for_owner(0).await;
    match nth % 4 {
        0 => {
            cluster.replicas[owner].kill_nine();
            eventually("the other replica owns the shard", LEASE + PROMPT, async || cluster.owner(0).await == Some(1 - owner)).await;
            cluster.replicas[owner].start().await;
            "the owner is killed"
        }
        1 => {
            let victim = dice.between(0, 1) as usize;
            cluster.gateways[victim].kill_nine();
            tokio::time::sleep(Duration::from_millis(dice.between(50, 400))).await;
            cluster.gateways[victim].start().await;
            "a gateway is killed"
        }
        2 => {
            let proxy = &cluster.postgres_proxies[owner];
            let before = proxy.counts().replies_lost;
            proxy.lose_reply("SELECT 1", dice.between(1, 5), Loss::Reset);
            eventually("a reply is lost", PROMPT, async || proxy.counts().replies_lost > before).await;
            proxy.heal().await;
            "a journal entry is committed, its reply lost"
        }
        _ => {
            cluster.rpc_proxies[owner].reset_all();
            "the connections of the gateways to the owner are reset"
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_message_is_lost_and_no_lease_is_broken_when_owners_and_gateways_are_killed_and_replies_are_lost() {
    let seed = seed("cluster_queues");
    let mut dice = Dice::new(seed);
    let mut cluster = Options::default().postgres_proxies().rpc_proxies().start().await;
    let (client, lease) = (cluster.client(), format!("{}ms", MESSAGE_LEASE.as_millis()));
    let work = json!({"lease": lease, "max_attempts": ATTEMPTS, "dead_letter": {"topic": "work.dead"}});
    Queue::of(&client, "work").create(work).await;
    Queue::of(&client, "lanes").create(json!({"lease": lease, "ordering": "key"})).await;
    let (plain, ordered) = (Run::new("work", MESSAGE_LEASE, true), Run::new("lanes", MESSAGE_LEASE, false));
    let ways = cluster.ways();
    let mut effects = Effects::start(&client, &ways, seed, "inputs", "outputs").await;
    let mut of_plain = Load::new(&plain, seed);
    for style in [Style::Plain, Style::Delayed, Style::Dedup, Style::Keyed] {
        of_plain.producer(&ways, style);
    }
    of_plain.consumer(&ways).consumer(&ways).consumer(&ways);
    let mut of_ordered = Load::new(&ordered, seed + 100);
    of_ordered.producer(&ways, Style::Ordered).producer(&ways, Style::Ordered).consumer(&ways).consumer(&ways);
    effects.worker(&ways, seed).worker(&ways, seed + 1);
    let harms = 4 * rounds(1);
    for nth in 0..harms {
        plain.acked_more(50, LEASE + PROMPT).await;
        let what = harm(&mut cluster, nth, &mut dice).await;
        println!("cluster_queues: {what}");
        plain.recorder.fault(what);
        ordered.recorder.fault(what);
    }
    plain.acked_more(50, LEASE + PROMPT).await;
    of_plain.finish().await;
    of_ordered.finish().await;
    // What is left is taken through either gateway: by a client that took part in nothing.
    let all = &[Check::Q1, Check::Q2, Check::Q3, Check::Q6, Check::Q7, Check::Q8, Check::Q10];
    let demands = Demands { faults: harms, acked: 300, examined: all, max_attempts: Some(ATTEMPTS), clock: CLOCK, ..Demands::default() };
    judge("cluster_queues", plain, &cluster.client_of(0), demands).await;
    let all = &[Check::Q1, Check::Q2, Check::Q3, Check::Q5, Check::Q7, Check::Q10];
    let demands = Demands { faults: harms, acked: 100, examined: all, ordered: true, clock: CLOCK, ..Demands::default() };
    judge("cluster_queues_ordered", ordered, &cluster.client_of(1), demands).await;
    effects.judge("cluster_queue_effects", &cluster.client_of(1), PROMPT).await;
    assert!(cluster.ended().is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receiver_at_one_gateway_is_woken_by_what_happens_at_the_other() {
    let cluster = Cluster::start_default().await;
    let (here, there) = (Queue::of(&cluster.client_of(0), "work"), Queue::of(&cluster.client_of(1), "work"));
    here.create(json!({})).await;
    let (waiting, delay) = (Waiting::default(), Duration::from_millis(200));
    // Receipts that one gateway gave out are good at the other.
    let ack = async |message: Message| here.settled(Verb::Ack, &message).await;
    for n in 0..TIMES {
        let receiver = waiting.receiver(&there).await;
        here.put(&json!({ "value": n })).await;
        let message = receiver.woken("a send", Instant::now()).await;

        let receiver = waiting.receiver(&there).await;
        here.settled(Verb::Nack(Duration::ZERO), &message).await;
        let message = receiver.woken("a nack", Instant::now()).await;

        let (receiver, due) = (waiting.receiver(&there).await, Instant::now() + delay);
        here.settled(Verb::Extend(delay), &message).await;
        ack(receiver.woken("the end of a lease", due).await).await;

        let (receiver, due) = (waiting.receiver(&there).await, Instant::now() + delay);
        here.put(&json!({"value": n, "delay": "200ms"})).await;
        ack(receiver.woken("a due delay", due).await).await;
    }
    waiting.judge("cluster_queue_wake", BOUND);
    assert_eq!(there.left().await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn credit_of_a_stream_comes_back_when_leases_end_that_were_settled_at_another_gateway() {
    let cluster = Cluster::start_default().await;
    let (here, there) = (Queue::of(&cluster.client_of(0), "work"), Queue::of(&cluster.client_of(1), "work"));
    here.create(json!({"lease": "3s"})).await;
    let mut stream = there.stream(2).await;
    let records: Vec<_> = (0..6).map(|n| json!({ "value": n })).collect();
    here.send(&json!({ "records": records }), None).await.unwrap().ok();
    let mut seen = Vec::new();
    eventually("all messages came and were acknowledged", PROMPT, async || {
        if let Some(message) = stream.next(PROMPT).await {
            here.settled(Verb::Ack, &message).await;
            seen.push(message.value().as_u64().unwrap());
        }
        seen.len() == 6
    })
    .await;
    seen.sort_unstable();
    assert_eq!(seen, (0..6).collect::<Vec<_>>());
    assert_eq!(here.left().await, 0);
}
