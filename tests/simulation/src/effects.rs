//! Consume, transform, produce: a sender of inputs, and workers that acknowledge inputs and store their outputs in one call, some
//! of them with a lease that is over. Each input must have its effect once, whatever happens.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use hyper::Method;
use serde_json::{Value, json};

use crate::dice::Dice;
use crate::http::{Answer, Ask, Http, Outcome, class};
use crate::log::until_done;
use crate::time;
use crate::world::World;

/// The queue of inputs, and the topic of outputs.
const INPUT: &str = "inputs";
const OUTPUT: &str = "outputs";
/// Between two tries while nobody serves.
const PAUSE: Duration = Duration::from_millis(500);
/// How long an input is leased: a worker that was cut off with it holds the others up for so long.
const LEASE: Duration = Duration::from_secs(4);
/// Most inputs of a commit, and of a send.
const MOST: u64 = 5;
/// Between two sends, at most: workers have to keep up.
const PACE: Duration = Duration::from_secs(6);
/// What is told of a commit whose leases are over: nothing happened.
const OVER: [&str; 3] = ["lease_over", "lease_expired", "receipt_not_found"];

/// What the sender and the workers share.
pub struct Run {
    world: Arc<World>,
    stopped: AtomicBool,
    sent: AtomicU64,
}

impl Run {
    /// Nothing was sent yet.
    pub fn new(world: &Arc<World>) -> Arc<Self> {
        Arc::new(Self { world: Arc::clone(world), stopped: AtomicBool::new(false), sent: AtomicU64::new(0) })
    }

    /// The sender ends; workers go on until nothing is left.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }
}

/// Creates the queue and the topic.
pub async fn create(http: &mut Http) {
    let lease = format!("{}ms", LEASE.as_millis());
    until_done(http, &Ask::json(Method::PUT, format!("/v1/queues/{INPUT}"), &json!({ "lease": lease }))).await;
    until_done(http, &Ask::json(Method::POST, "/v1/topics", &json!({ "name": OUTPUT }))).await;
}

/// Sends inputs until it is to stop, each batch again until it is acknowledged.
pub async fn send(run: Arc<Run>, mut http: Http, mut dice: Dice) {
    let mut sent = 0;
    while !run.is_stopped() {
        let end = sent + dice.between(1, MOST);
        let records: Vec<Value> = (sent..end).map(|n| json!({"value": {"input": n}})).collect();
        let ask = Ask::json(Method::POST, format!("/v1/queues/{INPUT}/messages"), &json!({ "records": records }));
        let ask = ask.key(Some(&format!("inputs-{end}")));
        while !matches!(class(http.send(ask.clone()).await, &[]), Outcome::Ok(_)) {
            http.turn();
            tokio::time::sleep(PAUSE).await;
        }
        sent = end;
        run.sent.store(sent, Ordering::Relaxed);
        tokio::time::sleep(dice.time(Duration::ZERO, PACE)).await;
    }
}

/// A message: its receipt and its input.
type Input = (String, u64);

fn inputs(answer: &Answer) -> Vec<Input> {
    let input = |message: &Value| Some((message["receipt"].as_str()?.to_owned(), message["value"]["input"].as_u64()?));
    answer.json()["messages"].as_array().into_iter().flatten().filter_map(input).collect()
}

/// Works until it is dropped.
pub async fn work(run: Arc<Run>, mut http: Http, worker: u32, mut dice: Dice) {
    let (mut commits, mut kept): (u64, Option<(Duration, Input)>) = (0, None);
    loop {
        let body = json!({"max": dice.between(1, MOST), "wait": "4s"});
        let received = class(http.send(Ask::json(Method::POST, format!("/v1/queues/{INPUT}/receive"), &body)).await, &[]);
        let Outcome::Ok(answer) = received else {
            http.turn();
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        let mut got = inputs(&answer);
        // One that is late spoils the others of its commit: nothing of it may happen.
        if let Some((due, late)) = kept.take() {
            if due <= time::elapsed() && !got.is_empty() && !run.is_stopped() {
                got.push(late);
            } else {
                kept = Some((due, late));
            }
        } else if got.len() > 1 && dice.one_in(4) {
            kept = got.pop().map(|input| (time::elapsed() + LEASE * 2, input));
        }
        if got.is_empty() {
            continue;
        }
        commits += 1;
        commit(&run, &mut http, &format!("worker-{worker}"), commits, &got, &mut dice).await;
    }
}

async fn commit(run: &Run, http: &mut Http, worker: &str, number: u64, got: &[Input], dice: &mut Dice) {
    let receipts: Vec<&str> = got.iter().map(|(receipt, _)| receipt.as_str()).collect();
    let records: Vec<Value> = got.iter().map(|(_, input)| json!({"value": {"of": input}})).collect();
    let body = json!({"acks": [{"queue": INPUT, "receipts": receipts}], "appends": [{"topic": OUTPUT, "records": records}]});
    // With a key a commit is repeated until it is known; without one it is left alone, and its inputs come back or do not.
    let key = dice.one_in(2).then(|| format!("{worker}-{number}"));
    let until = time::elapsed() + LEASE * 4;
    loop {
        let sent = http.send(Ask::json(Method::POST, "/v1/commit", &body).key(key.as_deref())).await;
        let over = sent.as_ref().is_ok_and(|answer| OVER.contains(&answer.code().as_str()));
        match class(sent, &OVER) {
            Outcome::Ok(_) => return,
            Outcome::Wrong(answer) => return run.world.violation(format!("a commit in order was refused: {}", answer.text())),
            Outcome::Fail | Outcome::Info if over || key.is_none() || time::elapsed() > until => return,
            Outcome::Fail | Outcome::Info => {
                http.turn();
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// Waits until no input is left, and looks at the outputs. Nothing is broken any more.
pub async fn judge(run: &Run, http: &mut Http) {
    loop {
        let stats = http.send(Ask::get(format!("/v1/queues/{INPUT}/stats"))).await;
        let empty = |stats: &Value| ["ready", "leased", "delayed"].iter().all(|name| stats[name] == 0);
        if stats.is_ok_and(|answer| answer.status == 200 && empty(&answer.json())) {
            break;
        }
        http.turn();
        tokio::time::sleep(PAUSE * 2).await;
    }
    let (mut effects, mut next): (BTreeMap<u64, Vec<u64>>, u64) = (BTreeMap::new(), 0);
    loop {
        let ask = Ask::get(format!("/v1/topics/{OUTPUT}/partitions/0/records?offset={next}&limit=1000"));
        let Outcome::Ok(answer) = class(http.send(ask).await, &[]) else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        let page = answer.json();
        for record in page["records"].as_array().into_iter().flatten() {
            if let (Some(of), Some(offset)) = (record["value"]["of"].as_u64(), record["offset"].as_u64()) {
                effects.entry(of).or_default().push(offset);
            }
        }
        next = page["next_offset"].as_u64().unwrap_or(next);
        if page["end"].as_u64().is_none_or(|end| next >= end) {
            break;
        }
    }
    let sent = run.sent.load(Ordering::Relaxed);
    for input in 0..sent {
        let at = effects.remove(&input).unwrap_or_default();
        if at.len() != 1 {
            run.world.violation(format!("H9: input {input} of {sent} had its effect at {at:?}"));
        }
    }
    // What was on its way when the sender was told to stop may have been stored.
    if let Some((input, at)) = effects.into_iter().find(|(input, at)| at.len() != 1 || *input >= sent + MOST) {
        run.world.violation(format!("H9: an effect of input {input}, which was not sent or had it twice, at {at:?}"));
    }
}
