//! Consume, transform, produce: a sender of inputs, and workers that acknowledge an input and store its output in one call.
//! They go on until they are judged, so that whatever is done to the service meanwhile falls into work; then each input must
//! have had its effect once.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Instant;

use super::calls::{Outcome, Queue, class, messages, text};
use crate::Client;
use crate::cluster::eventually;
use crate::dice::Dice;
use crate::load::Ways;

/// Between two tries while nobody serves.
const PAUSE: Duration = Duration::from_millis(50);
/// How long an input is leased: a worker that was cut off with it holds the others up for so long.
const LEASE: Duration = Duration::from_millis(800);
/// Most inputs of a commit.
const MOST: u64 = 5;
/// Most inputs that are sent together.
const BATCH: u64 = 10;
/// Between two sends, at most: workers have to keep up.
const PACE_MS: u64 = 30;
/// What is told of a commit whose leases are over: nothing happened.
const OVER: [&str; 3] = ["lease_over", "lease_expired", "receipt_not_found"];

/// A sender to a queue, and workers between it and a topic.
pub struct Effects {
    input: &'static str,
    output: &'static str,
    /// Ends with the number of inputs that were sent, each of them acknowledged.
    sender: JoinHandle<u64>,
    workers: JoinSet<()>,
    counts: Arc<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    stop: AtomicBool,
    done: AtomicU64,
    over: AtomicU64,
    unknown: AtomicU64,
}

impl Effects {
    /// Creates the queue and the topic, and begins to send.
    pub async fn start(client: &Client, ways: &Ways, seed: u64, input: &'static str, output: &'static str) -> Self {
        Self::paced(client, ways, seed, (input, output), PACE_MS).await
    }

    /// The same with another longest time between two sends, in milliseconds.
    pub async fn paced(client: &Client, ways: &Ways, seed: u64, (input, output): (&'static str, &'static str), pace_ms: u64) -> Self {
        Queue::of(client, input).create(json!({"lease": text(LEASE)})).await;
        client.create_topic(output, 1).await;
        let counts = Arc::<Counts>::default();
        let sender = tokio::spawn(send(Arc::clone(&counts), ways.clone(), input, pace_ms, Dice::new(seed)));
        Self { input, output, sender, workers: JoinSet::new(), counts }
    }

    /// Adds a worker.
    pub fn worker(&mut self, ways: &Ways, seed: u64) -> &mut Self {
        let number = self.workers.len();
        let (counts, dice) = (Arc::clone(&self.counts), Dice::new(seed + number as u64));
        self.workers.spawn(work(counts, ways.beginning_at(number), self.input, self.output, number, dice));
        self
    }

    /// Waits until so many more inputs are done, as far as workers know.
    pub async fn done_more(&self, count: u64, within: Duration) {
        let wanted = self.counts.done.load(Ordering::Relaxed) + count;
        let done = async || self.counts.done.load(Ordering::Relaxed) >= wanted;
        eventually("more inputs are done", within, done).await;
    }

    /// Ends the sending, waits until nothing is left, with nothing broken any more, and looks at the output.
    pub async fn judge(mut self, test: &str, client: &Client, within: Duration) {
        self.counts.stop.store(true, Ordering::Relaxed);
        let inputs = tokio::time::timeout(within, self.sender).await.expect("the last inputs are stored").unwrap();
        let queue = Queue::of(client, self.input);
        queue.until_empty(within).await;
        self.workers.shutdown().await;
        let mut effects: HashMap<u64, Vec<u64>> = HashMap::new();
        for row in client.read_pages(self.output, 0, 0).await {
            let value: Value = serde_json::from_slice(&row.value).unwrap();
            effects.entry(value["of"].as_u64().unwrap()).or_default().push(row.offset);
        }
        println!("{test}: {inputs} inputs; {:?}", self.counts);
        for input in 0..inputs {
            let at = effects.remove(&input).unwrap_or_default();
            assert_eq!(at.len(), 1, "input {input} had its effect at {at:?}");
        }
        assert!(effects.is_empty(), "effects of nothing: {effects:?}");
        let acked = queue.stats().await["acked_total"].as_u64();
        assert_eq!(acked, Some(inputs), "acknowledged messages");
    }
}

/// Sends inputs until it is to stop, each batch again until it is acknowledged. Returns how many.
async fn send(counts: Arc<Counts>, mut ways: Ways, input: &'static str, pace_ms: u64, mut dice: Dice) -> u64 {
    let mut sent = 0;
    while !counts.stop.load(Ordering::Relaxed) {
        let end = sent + dice.between(1, BATCH);
        let records: Vec<Value> = (sent..end).map(|n| json!({"value": {"input": n}})).collect();
        let (body, key) = (json!({ "records": records }), format!("inputs-{end}"));
        while !matches!(class(Queue::of(ways.now(), input).send(&body, Some(&key)).await, &[]), Outcome::Ok(_)) {
            ways.turn();
            tokio::time::sleep(PAUSE).await;
        }
        sent = end;
        tokio::time::sleep(Duration::from_millis(dice.between(1, pace_ms))).await;
    }
    sent
}

async fn work(counts: Arc<Counts>, mut ways: Ways, input: &'static str, output: &'static str, worker: usize, mut dice: Dice) {
    let mut commits = 0;
    loop {
        let queue = Queue::of(ways.now(), input);
        let body = json!({"max": dice.between(1, MOST), "wait": "200ms"});
        let got = match class(queue.try_receive(&body).await, &[]) {
            Outcome::Ok(answer) => messages(&answer),
            Outcome::Fail | Outcome::Info => {
                ways.turn();
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        if got.is_empty() {
            continue;
        }
        let receipts: Vec<&str> = got.iter().map(|message| message.receipt.as_str()).collect();
        let records: Vec<Value> = got.iter().map(|message| json!({"value": {"of": message.value()["input"]}})).collect();
        let body = json!({"acks": [{"queue": input, "receipts": receipts}], "appends": [{"topic": output, "records": records}]});
        commits += 1;
        // With a key a commit is repeated until it is known; without one it is left alone, and its inputs come back or do not.
        let key = dice.one_in(2).then(|| format!("worker-{worker}-{commits}"));
        let until = Instant::now() + LEASE * 4;
        loop {
            let mut request = ways.now().request(Method::POST, "/v1/commit").header("content-type", "application/json");
            if let Some(key) = &key {
                request = request.header("idempotency-key", key);
            }
            let sent = ways.now().send(request.body(body.to_string())).await;
            let over = sent.as_ref().is_ok_and(|answer| OVER.contains(&answer.code().as_str()));
            let outcome = class(sent, &OVER);
            let count = match outcome {
                Outcome::Ok(_) => {
                    counts.done.fetch_add(got.len() as u64, Ordering::Relaxed);
                    break;
                }
                Outcome::Fail if over => &counts.over,
                Outcome::Fail | Outcome::Info => &counts.unknown,
            };
            count.fetch_add(1, Ordering::Relaxed);
            if over || key.is_none() || Instant::now() > until {
                break;
            }
            ways.turn();
            tokio::time::sleep(PAUSE).await;
        }
    }
}
