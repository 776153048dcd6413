//! What operators do all day: every role is replaced by new pods, and gateways are scaled, under load. Clients that come again when a
//! 503 says when see nothing else: no error, no lost record, no message twice.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use lakefall_tests::checker::Demands;
use lakefall_tests::cluster::{Options, Pods, Role, eventually};
use lakefall_tests::dice::seed;
use lakefall_tests::load::{Load, Run, Style};
use lakefall_tests::manners::Manners;
use lakefall_tests::queues::checker::{Check, Demands as QueueDemands};
use lakefall_tests::queues::load::{Load as QueueLoad, Run as QueueRun};
use lakefall_tests::queues::producer::Style as Sending;
use lakefall_tests::queues::{Queue, verdict as queue_verdict};
use lakefall_tests::verdict;
use serde_json::json;
use tokio::time::Instant;

/// How long anything may take that goes on as usual.
const PROMPT: Duration = Duration::from_secs(60);
/// A send that took longer, with all its repetitions, was a stall. The target is two seconds on a machine of its own; this one also
/// runs the servers, the clients and perhaps a build, so the test only tells hanging from waiting, and prints what it measured.
const STALL: Duration = Duration::from_secs(10);
/// Two replicas' and several gateways' ideas of the database's clock.
const CLOCK: Duration = Duration::from_millis(100);

/// Clients of every kind, each with connections of its own.
struct Clients {
    manners: Arc<Manners>,
    run: Arc<Run>,
    load: Load,
    queue: Arc<QueueRun>,
    queue_load: QueueLoad,
}

impl Clients {
    async fn start(pods: &Pods, seed: u64) -> Self {
        let manners = Arc::<Manners>::default();
        let client = || pods.client().with_manners(&manners);
        client().create_topic("load", 4).await;
        // Longer than what a client is told to wait, so that only those are late who want to be.
        let lease = Duration::from_secs(4);
        Queue::of(&client(), "work").create(json!({"lease": "4s"})).await;
        let (run, queue) = (Run::new("load", 4), QueueRun::new("work", lease, false));
        let (mut load, mut queue_load) = (Load::new(&run, seed), QueueLoad::new(&queue, seed + 100));
        for style in [Style::Plain, Style::Sequenced, Style::Keyed] {
            load.producer(&client().into(), style);
        }
        load.producer(&client().over_http2().into(), Style::Sequenced);
        for partition in 0..2 {
            load.tail(&client().into(), partition);
        }
        load.tail(&client().over_http2().into(), 2);
        queue_load.producer(&client().into(), Sending::Plain).producer(&client().into(), Sending::Keyed);
        for _ in 0..3 {
            queue_load.consumer(&client().into());
        }
        Self { manners, run, load, queue, queue_load }
    }

    /// Waits until all go on.
    async fn go_on(&self) {
        self.run.acked_more(300, PROMPT).await;
        self.queue.acked_more(30, PROMPT).await;
    }

    /// Something is about to be done.
    fn fault(&self, what: &'static str) {
        self.run.recorder.fault(what);
        self.queue.recorder.fault(what);
    }

    /// Ends the load and judges. Returns the longest time from a send to its acknowledgement.
    async fn judge(self, test: &str, pods: &Pods, faults: usize) -> Duration {
        let Self { manners, run, load, queue, queue_load } = self;
        load.finish().await;
        queue_load.finish().await;
        let stall = Duration::from_millis(run.tally.slowest_ms.load(Ordering::Relaxed));
        manners.assert_unharmed(test);
        verdict::judge(test, run, pods.client(), Demands { faults, acked: 600 }).await;
        let demands = QueueDemands { faults, acked: 60, examined: &[Check::Q2, Check::Q3], clock: CLOCK, ..QueueDemands::default() };
        queue_verdict::judge(test, queue, &pods.client(), demands).await;
        stall
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_role_is_replaced_under_load_and_clients_that_honour_retry_after_see_no_error() {
    let seed = seed("rolling_pods");
    let mut pods = Pods::start(Options::default().shards(4).alone(), 2, 3, 1).await;
    let clients = Clients::start(&pods, seed).await;
    clients.go_on().await;
    for (role, what) in [(Role::Metadata, "metadata replicas"), (Role::Gateway, "gateways"), (Role::Compactor, "compactors")] {
        clients.fault(what);
        let (began, slowest) = (Instant::now(), &clients.run.tally.slowest_ms);
        let before = slowest.swap(0, Ordering::Relaxed);
        pods.roll(role).await;
        clients.go_on().await;
        println!(
            "rolling_pods: all {what} replaced in {:?}; the slowest send took {} ms",
            began.elapsed(),
            slowest.load(Ordering::Relaxed)
        );
        slowest.fetch_max(before, Ordering::Relaxed);
    }
    pods.assert_all_run();
    let stall = clients.judge("rolling_pods", &pods, 3).await;
    println!("rolling_pods: longest produce stall {stall:?} (target: 2 s)");
    assert!(stall < STALL, "a send took {stall:?}");
}

/// Records that each gateway stored so far.
async fn produced(pods: &Pods) -> Vec<f64> {
    let mut counts = Vec::new();
    for pod in &pods.gateways {
        counts.push(pod.process.metric("lakefall_produced_records_total").await);
    }
    counts
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gateways_are_scaled_from_one_to_four_and_back_under_load_and_no_client_sees_an_error() {
    let seed = seed("scaled_pods");
    // Connections that are kept would stay where they are for minutes.
    let options = Options::default().env(Role::Gateway, "LAKEFALL_HTTP__CONNECTION_AGE_MS", 2_000).alone();
    let mut pods = Pods::start(options, 2, 1, 0).await;
    let clients = Clients::start(&pods, seed).await;
    clients.go_on().await;
    clients.fault("one gateway becomes four");
    pods.scale(Role::Gateway, 4).await;
    let mut before = produced(&pods).await;
    let spread = async || {
        clients.run.acked_more(400, PROMPT).await;
        let now = produced(&pods).await;
        let gained: Vec<f64> = now.iter().zip(&before).map(|(now, before)| now - before).collect();
        before = now;
        let all: f64 = gained.iter().sum();
        let least = gained.iter().copied().fold(f64::INFINITY, f64::min);
        println!("scaled_pods: of {all} records the gateways took {gained:?}");
        least > 0.0
    };
    let took = eventually("every gateway has its share of the load", PROMPT, spread).await;
    println!("scaled_pods: four gateways share the load after {took:?}");
    clients.fault("four gateways become one");
    pods.scale(Role::Gateway, 1).await;
    clients.go_on().await;
    pods.assert_all_run();
    println!("scaled_pods: connections of what is left: {:?}", pods.service.connections());
    let stall = clients.judge("scaled_pods", &pods, 2).await;
    println!("scaled_pods: longest produce stall {stall:?} (target: 2 s)");
    assert!(stall < STALL, "a send took {stall:?}");
}
