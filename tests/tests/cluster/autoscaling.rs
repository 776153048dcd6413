//! The signals that the chart scales by, read from real processes under real load, and decided on as Kubernetes and KEDA do. Time is
//! told to the autoscalers faster than it goes: their windows are minutes.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use lakefall_tests::Client;
use lakefall_tests::cluster::{Options, Pods, Role, eventually};
use lakefall_tests::hpa::{Hpa, Keda, Reading, SYNC_SECONDS};
use reqwest::Method;
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::Instant;

const MIB: usize = 1 << 20;
/// Of a gateway of this test, in which some requests fit.
const BUFFER: usize = 4 * MIB;
/// A request: large, so that few clients fill buffers.
const BODY: usize = 200 << 10;
/// Those that load and those that hardly do.
const MANY: usize = 30;
const FEW: usize = 1;
/// More would not fit on this machine.
const MOST: u32 = 4;
/// The real time of a look of the autoscaler.
const TICK: Duration = Duration::from_millis(600);
/// Looks at the metrics for one of the autoscaler: buffers are empty for a moment whenever a segment has left.
const SAMPLES: u32 = 3;
/// Longest time for anything.
const PROMPT: Duration = Duration::from_secs(60);

/// Clients that each send a request, wait until it is durable, and send the next; so many of them as is wanted at the moment.
struct Senders {
    wanted: Arc<AtomicUsize>,
    tasks: JoinSet<()>,
}

impl Senders {
    fn start(pods: &Pods) -> Self {
        let wanted = Arc::new(AtomicUsize::new(0));
        let mut tasks = JoinSet::new();
        for number in 0..MANY {
            let (wanted, client) = (Arc::clone(&wanted), pods.client());
            tasks.spawn(async move {
                let body = format!("\"{}\"", "x".repeat(BODY));
                loop {
                    if number >= wanted.load(Ordering::Relaxed) {
                        tokio::time::sleep(TICK / 10).await;
                        continue;
                    }
                    // Gateways come and go, and buffers may be full: how that looks to clients is another test's matter.
                    let _ = client.send(client.values("load", "partition=0", body.clone())).await;
                }
            });
        }
        Self { wanted, tasks }
    }

    fn want(&self, count: usize) {
        self.wanted.store(count, Ordering::Relaxed);
    }
}

/// An autoscaler, and what it looks at.
struct Watched {
    hpa: Hpa,
    now: f64,
    cpu: Vec<(String, f64, Instant)>,
    counts: Vec<u32>,
}

impl Watched {
    /// One look of the autoscaler; gateways are started or ended as it says.
    async fn tick(&mut self, pods: &mut Pods) -> u32 {
        let mut buffered = 0.0;
        for _ in 0..SAMPLES {
            tokio::time::sleep(TICK / SAMPLES).await;
            for pod in &pods.gateways {
                buffered += pod.process.metric("lakefall_buffer_bytes").await / f64::from(SAMPLES);
            }
        }
        let current = pods.gateways.len() as u32;
        let target = pods.chart.number("gateway.keda.bufferPercent") / 100.0 * BUFFER as f64;
        let buffer = Reading { average: buffered / f64::from(current), target };
        let cpu = Reading { average: self.cpu_percent(pods).await, target: pods.chart.number("gateway.autoscaling.cpuPercent") };
        self.now += SYNC_SECONDS;
        let next = self.hpa.decide(self.now, current, &[buffer, cpu]);
        println!(
            "autoscaling: at {:>5} s {current} gateways: buffers {:.2} of {:.2} MiB, CPU {:.0} of {} % -> {next}",
            self.now,
            buffer.average / MIB as f64,
            buffer.target / MIB as f64,
            cpu.average,
            cpu.target
        );
        pods.scale(Role::Gateway, next as usize).await;
        self.counts.push(next);
        next
    }

    /// CPU time since the last look, in percent of what the chart requests for a pod, on average of those that were there.
    async fn cpu_percent(&mut self, pods: &Pods) -> f64 {
        let request = pods.chart.text("gateway.resources.requests.cpu").strip_suffix('m').unwrap().parse::<f64>().unwrap() / 1_000.0;
        let mut now = Vec::new();
        for pod in &pods.gateways {
            now.push((pod.name().to_owned(), pod.process.metric("process_cpu_seconds_total").await, Instant::now()));
        }
        let used: Vec<f64> = now
            .iter()
            .filter_map(|(name, cpu, at)| {
                let (_, before, since) = self.cpu.iter().find(|(known, ..)| known == name)?;
                Some((cpu - before) / (*at - *since).as_secs_f64() / request * 100.0)
            })
            .collect();
        self.cpu = now;
        used.iter().sum::<f64>() / used.len().max(1) as f64
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gateways_are_scaled_up_under_load_and_back_when_it_is_over_without_flapping() {
    let options = Options::default()
        .env(Role::Gateway, "LAKEFALL_INGEST__BUFFER_BYTES", BUFFER)
        .env(Role::Gateway, "LAKEFALL_LIMITS__BATCH_BYTES", MIB)
        .env(Role::Gateway, "LAKEFALL_LIMITS__VALUE_BYTES", MIB)
        // What is sent waits for the next PUT, in the buffer.
        .env(Role::Gateway, "LAKEFALL_SEGMENT__PUTS_PER_SECOND", 1)
        .env(Role::Gateway, "LAKEFALL_SEGMENT__PUT_BURST", 1)
        .env(Role::Gateway, "LAKEFALL_HTTP__CONNECTION_AGE_MS", 2_000)
        .alone();
    let mut pods = Pods::start(options, 1, 0, 0).await;
    let hpa = Hpa::of_gateways(&pods.chart, "keda").at_most(MOST);
    let least = hpa.min();
    pods.scale(Role::Gateway, least as usize).await;
    pods.client().create_topic("load", 1).await;
    let senders = Senders::start(&pods);
    let mut watched = Watched { hpa, now: 0.0, cpu: Vec::new(), counts: Vec::new() };

    senders.want(FEW);
    for _ in 0..5 {
        assert_eq!(watched.tick(&mut pods).await, least, "hardly any load, and more gateways are wanted");
    }
    senders.want(MANY);
    for _ in 0..25 {
        watched.tick(&mut pods).await;
        if watched.counts.iter().rev().take(8).all(|count| *count > least && Some(count) == watched.counts.last()) {
            break;
        }
    }
    let most = *watched.counts.last().unwrap();
    assert!(most > least, "the load is there, and no more gateways are");
    senders.want(FEW);
    for _ in 0..60 {
        if watched.tick(&mut pods).await == least {
            break;
        }
    }
    println!("autoscaling: {least} gateways became {most} and {} again: {:?}", watched.counts.last().unwrap(), watched.counts);
    assert_eq!(watched.counts.last(), Some(&least), "the load is over, and the gateways are still there");
    assert_eq!(watched.hpa.turns(), 1, "it flaps: {:?}", watched.counts);
    pods.assert_all_run();
    drop(senders.tasks);
}

/// How much faster time goes for KEDA: half an hour in 12 s.
const FASTER: f64 = 150.0;

/// KEDA over the compactors of a cluster, with Prometheus's `increase` of what gateways produced.
struct Scaler {
    keda: Keda,
    began: Instant,
    produced: Vec<(f64, f64)>,
}

impl Scaler {
    async fn tick(&mut self, pods: &mut Pods) -> usize {
        let now = self.began.elapsed().as_secs_f64() * FASTER;
        let mut sum = 0.0;
        for pod in &pods.gateways {
            sum += pod.process.metric("lakefall_produced_bytes_total").await;
        }
        self.produced.push((now, sum));
        let from = self.produced.iter().find(|(at, _)| *at >= now - self.keda.window_seconds).map_or(sum, |(_, sum)| *sum);
        let mut backlog: f64 = 0.0;
        for pod in &pods.compactors {
            backlog = backlog.max(pod.process.metric("lakefall_compactor_backlog_bytes").await);
        }
        let current = pods.compactors.len();
        let next = self.keda.decide(now, current as u32, backlog, sum - from) as usize;
        if next != current {
            println!("keda: at {now:.0} s: backlog {backlog} bytes, {} produced in the window: {current} -> {next} compactors", sum - from);
            pods.scale(Role::Compactor, next).await;
        }
        next
    }
}

/// Whether all of a topic is in Parquet files.
async fn is_rolled(client: &Client, topic: &str) -> bool {
    let listed = client.get(&format!("/v1/topics/{topic}/objects?limit=1000")).await.unwrap().ok().json();
    let objects = listed["items"].as_array().unwrap();
    !objects.is_empty() && objects.iter().all(|object| object["level"] == "parquet")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn compactors_go_to_none_when_nothing_waits_and_come_back_when_something_is_produced() {
    let options = Options::default().env(Role::Compactor, "LAKEFALL_COMPACTOR__MERGE_INTERVAL_SECONDS", 1);
    let mut pods = Pods::start(options, 1, 1, 0).await;
    let client = pods.client();
    client.call(Method::PUT, "/v1/topics/t", &json!({"parquet": {"max_age": "3s"}})).await;
    let mut scaler = Scaler { keda: Keda::of_compactors(&pods.chart), began: Instant::now(), produced: Vec::new() };
    assert_eq!(scaler.tick(&mut pods).await, 0, "nothing was ever produced");
    for round in 0..2 {
        let none = Instant::now();
        for n in 0..20 {
            client.put("t", 0, &json!(format!("round {round}, {n}"))).await;
        }
        let (mut woken, mut backlog) = (None, 0.0);
        loop {
            assert!(none.elapsed() < PROMPT, "no round of compactors came and went: woken after {woken:?}");
            tokio::time::sleep(TICK / 4).await;
            let count = scaler.tick(&mut pods).await;
            if let Some(pod) = pods.compactors.first() {
                backlog = f64::max(backlog, pod.process.metric("lakefall_compactor_backlog_bytes").await);
            }
            match woken {
                None if count > 0 => woken = Some(none.elapsed()),
                Some(woken) if count == 0 => {
                    println!("keda: round {round}: woken after {woken:?}, gone after {:?}, backlog up to {backlog} bytes", none.elapsed());
                    break;
                }
                _ => {}
            }
        }
        assert!(backlog > 0.0, "the compactor never told of a backlog");
        assert!(is_rolled(&client, "t").await, "the last compactor went before everything was in Parquet files");
    }
    eventually("none is there", PROMPT, async || pods.compactors.is_empty()).await;
}
