//! Short histories of one partition after the other: a few clients append, append on conditions, and read, while faults go on. Each is
//! small enough to be searched for an order that explains every answer (H8). Must ask for nothing whose answer depends on time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hyper::Method;
use lakefall_check::history::{Append, Promise, RecordId, Recorder, Refusal, Tape, body, hash};
use serde_json::json;

use crate::dice::Dice;
use crate::http::{Answer, Ask, Http, NoAnswer};
use crate::log::{Page, until_done};
use crate::time;
use crate::world::World;

/// The topic, of which each partition has its own time.
pub const TOPIC: &str = "small";
/// Partitions.
const PARTITIONS: u32 = 8;
/// When the first begins.
const BEGIN: Duration = Duration::from_secs(8);
/// What a client does in each.
const OPERATIONS: u64 = 8;
/// Between two operations, at most.
const PACE: Duration = Duration::from_secs(4);
/// Highest fencing token: few, so that some are too low.
const TOKENS: u64 = 3;
/// Records of a batch, at most.
const BATCH: u64 = 3;
/// Who reads at the end.
const LAST: u32 = 1_000;

/// What all clients share.
pub struct Run {
    recorder: Recorder,
    world: Arc<World>,
    /// What clients know of each partition's end: conditions on it should hold now and then.
    ends: Vec<AtomicU64>,
}

impl Run {
    /// Nothing was sent yet.
    pub fn new(world: &Arc<World>, tape: &Tape) -> Arc<Self> {
        let ends = (0..PARTITIONS).map(|_| AtomicU64::new(0)).collect();
        Arc::new(Self { recorder: Recorder::on(tape, TOPIC), world: Arc::clone(world), ends })
    }

    fn end(&self, partition: u32) -> &AtomicU64 {
        &self.ends[partition as usize]
    }
}

/// Creates the topic.
pub async fn create(http: &mut Http) {
    until_done(http, &Ask::json(Method::POST, "/v1/topics", &json!({"name": TOPIC, "partitions": PARTITIONS}))).await;
}

/// One client: does a little in each partition while it is that one's time.
pub async fn work(run: Arc<Run>, http: Http, number: u32, dice: Dice) {
    let each = (run.world.plan.length.stop - BEGIN) / PARTITIONS;
    let mut client = Client { run, http, number, seq: 0, dice };
    for partition in 0..PARTITIONS {
        let begins = BEGIN + each * partition;
        tokio::time::sleep(begins.saturating_sub(time::elapsed())).await;
        for _ in 0..OPERATIONS {
            if time::elapsed() >= begins + each {
                break;
            }
            client.operation(partition).await;
            tokio::time::sleep(client.dice.time(Duration::ZERO, PACE)).await;
        }
    }
}

struct Client {
    run: Arc<Run>,
    http: Http,
    number: u32,
    seq: u64,
    dice: Dice,
}

impl Client {
    async fn operation(&mut self, partition: u32) {
        let known = self.run.end(partition).load(Ordering::Relaxed);
        let (expect, fence) = match self.dice.between(1, 10) {
            1..=4 => (None, None),
            5..=6 => (Some(known), None),
            7 => (None, Some(self.dice.between(0, TOKENS))),
            _ => {
                let from = self.dice.between(0, known);
                return drop(read(&self.run, &mut self.http, partition, (self.number, false), from).await);
            }
        };
        self.append(partition, expect, fence).await;
    }

    async fn append(&mut self, partition: u32, expect: Option<u64>, fence: Option<u64>) {
        let count = self.dice.between(1, BATCH);
        let id = |seq| RecordId { producer: self.number, seq };
        let records: Vec<(RecordId, String)> = (self.seq..self.seq + count).map(id).map(|id| (id, body(id, 8))).collect();
        self.seq += count;
        let Run { recorder, world, .. } = &*self.run;
        let sums = records.iter().map(|(id, body)| (*id, hash(body.as_bytes()))).collect();
        let append = Append::new(recorder.topic().clone(), Promise::default(), sums);
        let op = recorder.append(Append { partition: Some(partition), expect, fence, ..append });
        let number = |name: &str, of: Option<u64>| of.map_or(String::new(), |of| format!("&{name}={of}"));
        let conditions = format!("{}{}", number("expect_offset", expect), number("fencing_token", fence));
        let path = format!("/v1/topics/{TOPIC}/records?format=values&partition={partition}{conditions}");
        let lines: String = records.iter().flat_map(|(_, body)| [body.as_str(), "\n"]).collect();
        match self.http.send(Ask::lines(path, lines)).await {
            Ok(answer) if answer.status < 300 => {
                let places = answer.places();
                self.run.end(partition).fetch_max(places.last().map_or(0, |(_, offset)| offset + 1), Ordering::Relaxed);
                recorder.ok(op, places);
            }
            Ok(answer) => match refusal(&answer) {
                Ok(Some(refusal)) => recorder.tape().fail(op, refusal),
                Ok(None) => recorder.info(op),
                Err(()) => {
                    world.violation(format!("a request in order was refused with {}: {}", answer.status, answer.text()));
                    recorder.info(op);
                }
            },
            Err(NoAnswer::Unreachable) => recorder.fail(op),
            Err(NoAnswer::Lost) => recorder.info(op),
        }
        if self.dice.one_in(4) {
            self.http.turn();
        }
    }
}

/// Why records were certainly not stored; nothing when they may have been. The error: clients never do what is refused so.
fn refusal(answer: &Answer) -> Result<Option<Refusal>, ()> {
    let problem = answer.json();
    match (answer.code().as_str(), problem["end"].as_u64(), problem["current"].as_u64()) {
        ("offset_mismatch", Some(end), _) => Ok(Some(Refusal::Mismatch { end })),
        ("fenced", _, Some(current)) => Ok(Some(Refusal::Fenced { current })),
        _ if matches!(answer.status, 500 | 502 | 503 | 504) => Ok((problem["outcome"] == "not_applied").then_some(Refusal::Refused)),
        _ => Err(()),
    }
}

/// Reads a page, if somebody serves it.
async fn read(run: &Run, http: &mut Http, partition: u32, (reader, last): (u32, bool), from: u64) -> Option<Page> {
    let op = run.recorder.seek(reader, last, partition, from);
    let path = format!("/v1/topics/{TOPIC}/partitions/{partition}/records?offset={from}&limit=1000");
    let answer = http.send(Ask::get(path)).await;
    let page = answer.ok().filter(|answer| answer.status == 200).and_then(|answer| Page::from_answer(&answer));
    let Some(page) = page else {
        run.recorder.fail(op);
        http.turn();
        return None;
    };
    run.recorder.saw(op, page.rows.iter().map(|(offset, value)| (*offset, &value[..])), page.told());
    run.end(partition).fetch_max(page.end, Ordering::Relaxed);
    Some(page)
}

/// Reads all partitions from their beginning to their end, for the judge.
pub async fn read_all(run: &Run, http: &mut Http) {
    for partition in 0..PARTITIONS {
        let mut at = 0;
        loop {
            match read(run, http, partition, (LAST, true), at).await {
                Some(page) => {
                    at = page.next;
                    if page.told().is_some_and(|end| at >= end) {
                        break;
                    }
                }
                None => tokio::time::sleep(Duration::from_secs(2)).await,
            }
        }
    }
}
