//! Short histories of one partition or of one queue, made by a few clients at once: small enough to be searched for an order that
//! explains every answer. Must ask for nothing whose answer depends on time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::checker::{Check, Report, judge};
use crate::dice::Dice;
use crate::history::{Append, Expect, History, Promise, QueueFacts, RecordId, Recorder, Refusal, Tape, TopicFacts, body, hash};
use crate::load::Ways;
use crate::queues::Queue;
use crate::queues::calls::{Message, Outcome, class, messages, text};
use crate::queues::consumer::deliveries;
use crate::queues::history::{End, Recorder as QueueRecorder, Sent, Verb};
use crate::queues::producer::{Style, message};
use crate::{Answer, Row};

/// Clients of a history: from so many to so many.
const CLIENTS: (u64, u64) = (3, 5);
/// What each of them does.
const OPERATIONS: u64 = 12;
/// Highest fencing token: few, so that some are too low.
const TOKENS: u64 = 3;
/// Leases outlast a history, so that none ends by itself.
const LEASE: Duration = Duration::from_secs(120);
/// The reader of the end.
const LAST: u32 = 1_000;

/// Appends, conditional appends, appends with a fencing token and reads of one partition, which must be empty. Then the whole
/// is read.
pub async fn stream(ways: &Ways, topic: &'static str, partition: u32, seed: u64) -> History {
    let tape = Tape::default();
    let mut dice = Dice::new(seed);
    // What clients know of the end: conditions on it should hold now and then.
    let end = Arc::new(AtomicU64::new(0));
    let mut clients = JoinSet::new();
    for number in 0..dice.between(CLIENTS.0, CLIENTS.1) {
        let client = Writer {
            ways: ways.beginning_at(number as usize),
            recorder: Recorder::on(&tape, topic),
            topic,
            partition,
            number: number as u32,
            end: Arc::clone(&end),
            dice: Dice::new(seed.wrapping_mul(31) + number),
        };
        clients.spawn(client.run());
    }
    clients.join_all().await;
    let recorder = Recorder::on(&tape, topic);
    read(&recorder, ways, topic, partition, (LAST, true), 0).await;
    tape.describe(|header| {
        header.run = format!("{topic}/{partition}, seed {seed}");
        header.topics.insert(topic.into(), TopicFacts { linearizable: true, ..TopicFacts::default() });
        let checks = [Check::H1, Check::H2, Check::H3, Check::H5, Check::H7, Check::H8].into();
        header.expect = Expect { checks, acked: 1, ..Expect::default() };
    });
    tape.take()
}

/// Reads a page, and returns the end as told.
async fn read(recorder: &Recorder, ways: &Ways, topic: &str, partition: u32, (reader, last): (u32, bool), from: u64) -> Option<u64> {
    let op = recorder.seek(reader, last, partition, from);
    match ways.now().page(topic, partition, from, "").await {
        Ok(page) => {
            recorder.saw(op, page.rows.iter().map(Row::seen), page.told());
            Some(page.end)
        }
        Err(error) => {
            assert!(!last, "nothing is broken, but the partition cannot be read: {error}");
            recorder.fail(op);
            None
        }
    }
}

struct Writer {
    ways: Ways,
    recorder: Recorder,
    topic: &'static str,
    partition: u32,
    number: u32,
    end: Arc<AtomicU64>,
    dice: Dice,
}

impl Writer {
    async fn run(mut self) {
        let mut seq = 0;
        for _ in 0..OPERATIONS {
            match self.dice.between(1, 10) {
                1..=4 => self.append(&mut seq, None, None).await,
                5..=6 => {
                    let known = self.end.load(Ordering::Relaxed);
                    self.append(&mut seq, Some(known), None).await;
                }
                7 => {
                    let token = self.dice.between(0, TOKENS);
                    self.append(&mut seq, None, Some(token)).await;
                }
                _ => {
                    let from = self.dice.between(0, self.end.load(Ordering::Relaxed));
                    let reader = (self.number, false);
                    if let Some(end) = read(&self.recorder, &self.ways, self.topic, self.partition, reader, from).await {
                        self.end.fetch_max(end, Ordering::Relaxed);
                    }
                }
            }
        }
    }

    async fn append(&mut self, seq: &mut u64, expect: Option<u64>, fence: Option<u64>) {
        let count = self.dice.between(1, 3);
        let records: Vec<(RecordId, String)> =
            (*seq..*seq + count).map(|seq| RecordId { producer: self.number, seq }).map(|id| (id, body(id, 8))).collect();
        *seq += count;
        let sums = records.iter().map(|(id, body)| (*id, hash(body.as_bytes()))).collect();
        let append = Append::new(self.recorder.topic().clone(), Promise::default(), sums);
        let op = self.recorder.append(Append { partition: Some(self.partition), expect, fence, ..append });
        let number = |name: &str, of: Option<u64>| of.map_or(String::new(), |of| format!("&{name}={of}"));
        let query = format!("partition={}{}{}", self.partition, number("expect_offset", expect), number("fencing_token", fence));
        let lines: String = records.iter().flat_map(|(_, body)| [body.as_str(), "\n"]).collect();
        let client = self.ways.now();
        match client.send(client.values(self.topic, &query, lines)).await {
            Ok(answer) if answer.status == 200 => {
                let places = answer.offsets();
                self.end.fetch_max(places.last().map_or(0, |(_, offset)| offset + 1), Ordering::Relaxed);
                self.recorder.ok(op, places);
            }
            Ok(answer) => match refusal(&answer) {
                Some(refusal) => self.recorder.tape().fail(op, refusal),
                None => self.recorder.info(op),
            },
            Err(error) if error.is_connect() => self.recorder.fail(op),
            Err(_) => self.recorder.info(op),
        }
    }
}

/// Why records were certainly not stored; `None` when they may have been.
fn refusal(answer: &Answer) -> Option<Refusal> {
    let problem = answer.json();
    let number = |name: &str| problem[name].as_u64().unwrap_or_else(|| panic!("no {name}: {problem}"));
    match answer.code().as_str() {
        "offset_mismatch" => Some(Refusal::Mismatch { end: number("end") }),
        "fenced" => Some(Refusal::Fenced { current: number("current") }),
        _ => {
            assert!(matches!(answer.status, 500 | 503 | 504), "the request is in order, but was refused: {problem}");
            (problem["outcome"] == "not_applied").then_some(Refusal::Refused)
        }
    }
}

/// Sends, receives and settlements of a queue of its own.
pub async fn queue(ways: &Ways, name: &str, seed: u64) -> History {
    let (tape, began) = (Tape::default(), Instant::now());
    let mut dice = Dice::new(seed);
    Queue::of(ways.now(), name).create(json!({"lease": text(LEASE)})).await;
    let mut clients = JoinSet::new();
    for number in 0..dice.between(CLIENTS.0, CLIENTS.1) {
        let (ways, recorder) = (ways.beginning_at(number as usize), QueueRecorder::on(&tape, name));
        clients.spawn(work(Queue::of(ways.now(), name), recorder, number as u32, Dice::new(seed.wrapping_mul(31) + number)));
    }
    clients.join_all().await;
    assert!(began.elapsed() < LEASE / 2, "leases may have ended by themselves");
    tape.describe(|header| {
        header.run = format!("{name}, seed {seed}");
        header.queues.insert(name.into(), QueueFacts { linearizable: true, ..QueueFacts::default() });
        header.expect = Expect { checks: [Check::H2, Check::H8].into(), acked: 1, ..Expect::default() };
    });
    tape.take()
}

async fn work(queue: Queue, recorder: QueueRecorder, number: u32, mut dice: Dice) {
    let (mut seq, mut held): (u64, Vec<Message>) = (0, Vec::new());
    for _ in 0..OPERATIONS {
        match dice.between(1, 10) {
            1..=3 => {
                let count = dice.between(1, 3);
                let batch: Vec<(Sent, u64, Value)> = (seq..seq + count).map(|seq| message(number, seq, Style::Plain, &mut dice)).collect();
                seq += count;
                let known: Vec<(Sent, u64)> = batch.iter().map(|(sent, sum, _)| (*sent, *sum)).collect();
                let op = recorder.send(&known);
                let body = json!({"records": batch.into_iter().map(|(.., message)| message).collect::<Vec<_>>()});
                recorder.end(op, ended(class(queue.send(&body, None).await, &[]), |answer| End::Stored(answer.offsets())));
            }
            4..=7 => {
                let op = recorder.receive(LEASE, false);
                let asked = json!({"max": dice.between(1, 3), "wait": text(Duration::ZERO)});
                let got = class(queue.try_receive(&asked).await, &[]);
                let end = ended(got, |answer| {
                    let got = messages(&answer);
                    let delivered = deliveries(&got);
                    held.extend(got);
                    End::Delivered(delivered)
                });
                recorder.end(op, end);
            }
            _ if held.is_empty() => {}
            choice => {
                let at = dice.between(0, held.len() as u64 - 1) as usize;
                // Settled again by the same client now and then: a repetition, or too late.
                let message = if dice.one_in(4) { held[at].clone() } else { held.swap_remove(at) };
                let verb = match choice {
                    8 => Verb::Nack(Duration::ZERO),
                    9 => Verb::Extend(LEASE),
                    _ => Verb::Ack,
                };
                let op = recorder.settle(verb, vec![message.lease()]);
                recorder.end(op, ended(queue.settle(verb, std::slice::from_ref(&message.receipt)).await, End::Settled));
            }
        }
    }
}

fn ended<T>(outcome: Outcome<T>, ok: impl FnOnce(T) -> End) -> End {
    match outcome {
        Outcome::Ok(of) => ok(of),
        Outcome::Fail => End::Fail,
        Outcome::Info => End::Info,
    }
}

/// Judges a history that must be right; fails with its first violations, and leaves it in a file.
pub fn holds(test: &str, history: &History) -> Report {
    let report = judge(history);
    if let Some(first) = report.violations.first() {
        let path = std::env::temp_dir().join(format!("lakefall-{test}-history.jsonl"));
        let kept = history.write(&path).map_or_else(|error| format!("cannot be written: {error}"), |()| path.display().to_string());
        let around = crate::checker::context(&first.subject, &history.events);
        panic!("{report}\n{:#?}\n{around:#?}\nhistory: {kept}", report.violations);
    }
    report
}
