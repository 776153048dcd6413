//! The end of a run: a fresh client takes all that is left, the dead letters are read, and the history is judged.

use std::sync::Arc;
use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::calls::{Message, Queue, body_id, messages, text};
use super::checker::{Demands, Report, check};
use super::consumer::{delivered, settle_once};
use super::history::{Dead, History, Sent, Status, Verb};
use super::load::Run;
use super::producer::{Style, message};
use crate::Client;
use crate::dice::Dice;
use crate::history::RecordId;

/// Longest time for taking what is left.
const DRAIN: Duration = Duration::from_secs(60);
/// How long a receive of the drain waits: shorter than anything that may come late.
const WAIT: Duration = Duration::from_millis(500);
/// The sender of what the last receiver finds for certain.
const LAST: u32 = 1_000;
/// How many it finds.
const ABANDONED: u64 = 10;
/// How long a gateway may still send clients away.
const READABLE: Duration = Duration::from_secs(20);

/// Takes all that is left, and judges. Panics with the first violations, and leaves the history in a file.
pub async fn judge(test: &str, run: Arc<Run>, client: &Client, demands: Demands) -> Report {
    let (report, history) = examine(test, run, client, demands).await;
    if !report.violations.is_empty() {
        let path = std::env::temp_dir().join(format!("lakefall-{test}-history.jsonl"));
        let kept =
            history.write(&path).map_or_else(|error| format!("the history could not be written: {error}"), |()| path.display().to_string());
        panic!("{report}\n{:#?}\nhistory: {kept}", &report.violations[..report.violations.len().min(10)]);
    }
    report
}

/// Takes all that is left, and judges. Violations are in the report.
pub async fn examine(test: &str, run: Arc<Run>, client: &Client, demands: Demands) -> (Report, History) {
    let queue = Queue::of(&client.clone().persistent(READABLE), run.queue);
    abandon(&run, &queue).await;
    drain(&run, &queue).await;
    if run.dead_letters {
        dead_letters(&run, queue.client()).await;
    }
    println!("{test}: {}", run.told());
    let run = Arc::into_inner(run).expect("all clients have ended");
    let history = run.recorder.finish();
    let report = check(&history, demands);
    println!("{test}: {report}");
    (report, history)
}

/// Receives a few messages, of which some are there for certain, and forgets them: so something has to come back.
async fn abandon(run: &Run, queue: &Queue) {
    let mut dice = Dice::new(0);
    let batch: Vec<(Sent, u64, Value)> = (0..ABANDONED).map(|seq| message(LAST, seq, Style::Plain, &mut dice)).collect();
    let known: Vec<(Sent, u64)> = batch.iter().map(|(sent, hash, _)| (*sent, *hash)).collect();
    let op = run.recorder.send(&known);
    let body = json!({"records": batch.into_iter().map(|(.., message)| message).collect::<Vec<_>>()});
    let answer = queue.send(&body, None).await.unwrap().ok();
    run.recorder.end(op, super::history::End::Stored(answer.offsets()));
    let got = receive(run, queue, ABANDONED, false).await;
    assert!(!got.is_empty(), "nothing is there, though {ABANDONED} messages were just sent");
}

async fn receive(run: &Run, queue: &Queue, max: u64, drain: bool) -> Vec<Message> {
    let op = run.recorder.receive(run.lease, drain);
    let answer = queue.try_receive(&json!({"max": max, "wait": text(WAIT), "lease": text(run.lease)})).await.unwrap().ok();
    let got = messages(&answer);
    delivered(run, op, &got);
    got
}

/// Receives and acknowledges until nothing is left.
async fn drain(run: &Run, queue: &Queue) {
    let began = Instant::now();
    let mut taken = 0;
    loop {
        let got = receive(run, queue, 500, true).await;
        taken += got.len();
        let left: Vec<&Message> = got.iter().collect();
        if !left.is_empty() {
            let statuses = settle_once(run, queue, Verb::Ack, &left).await;
            // What was not acknowledged in time, or perhaps was, comes back or does not.
            assert!(statuses.is_none_or(|statuses| statuses.iter().all(|status| *status != Status::Unknown)), "a receipt nobody knows");
        } else if queue.left().await == 0 {
            println!("{}: the last receiver took {taken} messages in {:?}", run.queue, began.elapsed());
            return;
        }
        assert!(began.elapsed() < DRAIN, "the queue is not empty after {DRAIN:?}: {}", queue.stats().await);
    }
}

/// Reads the dead-letter topic as the log that it is.
async fn dead_letters(run: &Run, client: &Client) {
    let topic = format!("{}.dead", run.queue);
    let (_, end) = client.ends(&topic).await[0];
    let mut next = 0;
    while next < end {
        let path = format!("/v1/topics/{topic}/partitions/0/records?offset={next}&limit=1000");
        let page = client.send(client.request(Method::GET, &path)).await.unwrap().ok().json();
        for record in page["records"].as_array().unwrap() {
            run.recorder.dead(dead(record));
        }
        next = page["next_offset"].as_u64().unwrap();
    }
}

fn dead(record: &Value) -> Dead {
    let header = |name: &str| record["headers"][name].as_str().unwrap_or_else(|| panic!("a dead letter without {name}: {record}"));
    let number = |name: &str| header(name).parse::<u64>().unwrap_or_else(|error| panic!("{name} is no number ({error}): {record}"));
    let id: Option<RecordId> = body_id(&record["value"]).0;
    Dead {
        at: (number("dead-letter-partition") as u32, number("dead-letter-offset")),
        id,
        attempts: number("dead-letter-attempts") as u32,
        reason: header("dead-letter-reason").to_owned(),
    }
}
