//! The load of a queue: senders and receivers of several kinds, which go on through faults until they are told to stop, and the
//! last receiver, who takes what is left. Must never judge: what they did and saw is recorded.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use hyper::Method;
use lakefall_check::history::{RecordId, Tape, body, hash};
use lakefall_check::queues::history::{Dead, Delivered, End, LeaseId, MessageAt, OpId, Recorder, Sent, Status, Verb};
use serde_json::{Value, json};

use crate::dice::Dice;
use crate::http::{Answer, Ask, Http, NoAnswer, Outcome, class};
use crate::log::until_done;
use crate::tally::Tally;
use crate::time;
use crate::world::World;

/// The queue that is drained at the end.
pub const QUEUE: &str = "work";
/// Where its dead messages go.
const DEAD: &str = "work.dead";
/// Another one, whose leases outlast the run: what is said of each of its messages is searched for an order that explains it (H8).
pub const LONG: &str = "long";
/// Of that one.
const LONG_LEASE: Duration = Duration::from_secs(3_600);
/// Its clients do so much less.
const LONG_PACE: u32 = 3;
/// Between two tries while nobody serves: the first, then twice as long each time up to the last.
const PAUSE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));
/// How long a receiver waits for a message.
const WAIT: Duration = Duration::from_secs(2);
/// Most messages of a send and of a receive.
const SENT: u64 = 8;
const RECEIVED: u64 = 20;
/// Largest padding of a message.
const PAD: u64 = 60;
/// Longest delay of a message.
const DELAY_MS: u64 = 8_000;
/// Pause of a sender between two batches, at most.
const PACE: Duration = Duration::from_millis(5_000);

/// What all clients of the queue share.
pub struct Run {
    /// Where they write down what happens.
    pub recorder: Recorder,
    /// The simulation.
    pub world: Arc<World>,
    /// How calls went.
    pub tally: Tally,
    /// Of messages.
    lease: Duration,
    /// After which a message is dead, if ever.
    max_attempts: Option<u32>,
    /// Times as slow as others.
    slow: u32,
    stopped: AtomicBool,
    sent: AtomicU64,
}

impl Run {
    /// Of [`QUEUE`]; nothing was sent yet.
    pub fn new(world: &Arc<World>, tape: &Tape) -> Arc<Self> {
        Self::of(world, tape, QUEUE, (world.plan.message_lease, world.plan.max_attempts), 1)
    }

    /// Of [`LONG`].
    pub fn long(world: &Arc<World>, tape: &Tape) -> Arc<Self> {
        Self::of(world, tape, LONG, (LONG_LEASE, None), LONG_PACE)
    }

    fn of(world: &Arc<World>, tape: &Tape, name: &str, (lease, max_attempts): (Duration, Option<u32>), slow: u32) -> Arc<Self> {
        let (recorder, stopped, sent) = (Recorder::on(tape, name), AtomicBool::new(false), AtomicU64::new(0));
        let (world, tally) = (Arc::clone(world), Tally::default());
        Arc::new(Self { recorder, world, tally, lease, max_attempts, slow, stopped, sent })
    }

    /// Clients finish what they have begun and end.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }

    /// Messages whose send was acknowledged.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    fn class(&self, sent: Result<Answer, NoAnswer>) -> Outcome<Answer> {
        let outcome = class(sent, &[]);
        self.tally.count();
        if let Outcome::Wrong(answer) = &outcome {
            self.world.violation(format!("a request in order was refused with {}: {}", answer.status, answer.text()));
        }
        outcome
    }

    fn path(&self, rest: &str) -> String {
        format!("/v1/queues/{}{rest}", self.recorder.queue())
    }
}

fn text(time: Duration) -> String {
    format!("{}ms", time.as_millis())
}

/// Creates the queue.
pub async fn create(run: &Run, http: &mut Http) {
    let mut settings = json!({"lease": text(run.lease)});
    if let Some(attempts) = run.max_attempts {
        settings["max_attempts"] = json!(attempts);
        settings["dead_letter"] = json!({"topic": DEAD});
    }
    until_done(http, &Ask::json(Method::PUT, run.path(""), &settings)).await;
}

/// How a sender sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// Batches; one whose outcome is unknown is sometimes sent again.
    Plain,
    /// The same, each message with a delay of its own.
    Delayed,
    /// Each message with a dedup id: sent again until it is acknowledged, and sometimes after it.
    Dedup,
    /// An `Idempotency-Key` for each batch: likewise.
    Keyed,
}

impl Style {
    fn once(self) -> bool {
        matches!(self, Self::Dedup | Self::Keyed)
    }
}

/// A message, the hash of its value, and its JSON.
fn message(producer: u32, seq: u64, style: Style, dice: &mut Dice) -> (Sent, u64, Value) {
    let id = RecordId { producer, seq };
    let mut sent = Sent { id, key: None, delay: Duration::ZERO, once: style.once() };
    let value: Value = serde_json::from_str(&body(id, dice.between(0, PAD) as usize)).unwrap_or_default();
    let hash = body_id(&value).1;
    let mut message = json!({ "value": value });
    match style {
        Style::Plain | Style::Keyed => message["priority"] = json!(dice.between(0, 9)),
        Style::Delayed => {
            sent.delay = Duration::from_millis(dice.between(1, DELAY_MS));
            message["delay"] = json!(text(sent.delay));
        }
        Style::Dedup => message["dedup_id"] = json!(format!("{producer}-{seq}")),
    }
    (sent, hash, message)
}

/// Who sent a value that is made by [`body`], and the hash of its text.
fn body_id(value: &Value) -> (Option<RecordId>, u64) {
    let id = || Some(RecordId { producer: value["producer"].as_u64()?.try_into().ok()?, seq: value["seq"].as_u64()? });
    let canonical = id().map(|id| json!({"producer": id.producer, "seq": id.seq, "pad": value["pad"]}).to_string());
    (id(), hash(canonical.unwrap_or_default().as_bytes()))
}

/// Sends batch after batch.
pub async fn produce(run: Arc<Run>, mut http: Http, producer: u32, style: Style, mut dice: Dice) {
    let (mut seq, mut pause) = (0, PAUSE.0);
    while !run.is_stopped() {
        let count = dice.between(1, SENT);
        let batch: Vec<(Sent, u64, Value)> = (seq..seq + count).map(|seq| message(producer, seq, style, &mut dice)).collect();
        seq += count;
        let known: Vec<(Sent, u64)> = batch.iter().map(|(sent, hash, _)| (*sent, *hash)).collect();
        let body = json!({"records": batch.into_iter().map(|(.., message)| message).collect::<Vec<_>>()});
        let key = (style == Style::Keyed).then(|| format!("{}-{producer}-{seq}", run.recorder.queue()));
        let mut op = run.recorder.send(&known);
        loop {
            let ask = Ask::json(Method::POST, run.path("/messages"), &body).key(key.as_deref());
            let again = match run.class(http.send(ask).await) {
                Outcome::Ok(answer) => {
                    run.recorder.end(op, End::Stored(answer.places()));
                    run.sent.fetch_add(known.len() as u64, Ordering::Relaxed);
                    pause = PAUSE.0;
                    // A client that is not sure, although it could be.
                    if !style.once() || !dice.one_in(4) {
                        break;
                    }
                    op = run.recorder.send(&known);
                    continue;
                }
                Outcome::Wrong(_) => return,
                Outcome::Fail | Outcome::Info if style.once() => true,
                Outcome::Fail => {
                    run.recorder.end(op, End::Fail);
                    false
                }
                Outcome::Info => {
                    run.recorder.end(op, End::Info);
                    dice.one_in(2)
                }
            };
            http.turn();
            tokio::time::sleep(dice.time(pause / 2, pause)).await;
            pause = (pause * 2).min(PAUSE.1);
            if !again {
                break;
            }
            if !style.once() {
                op = run.recorder.send(&known);
            }
        }
        tokio::time::sleep(dice.time(Duration::ZERO, PACE * run.slow)).await;
    }
}

/// A message as a receiver got it.
#[derive(Clone, Debug)]
struct Message {
    lease: LeaseId,
    receipt: String,
    value: Value,
}

fn messages(answer: &Answer) -> Vec<Message> {
    let message = |fields: &Value| {
        let at: MessageAt = (fields["partition"].as_u64()? as u32, fields["offset"].as_u64()?);
        let lease = LeaseId { at, attempt: fields["attempt"].as_u64()? as u32 };
        Some(Message { lease, receipt: fields["receipt"].as_str()?.to_owned(), value: fields["value"].clone() })
    };
    answer.json()["messages"].as_array().into_iter().flatten().filter_map(message).collect()
}

/// Records what came.
fn delivered(run: &Run, op: OpId, got: &[Message]) {
    let delivered = |message: &Message| {
        let (id, hash) = body_id(&message.value);
        Delivered { lease: message.lease, id, hash }
    };
    run.recorder.end(op, End::Delivered(got.iter().map(delivered).collect()));
}

/// Receives and settles: most is acknowledged, some given back, forgotten, acknowledged too late, kept for longer, or rejected.
pub async fn consume(run: Arc<Run>, mut http: Http, consumer: u32, mut dice: Dice) {
    let mut late: Vec<(Duration, Message)> = Vec::new();
    let mut asked = 0;
    while !run.is_stopped() {
        asked += 1;
        // Named, a receive whose answer was lost is asked again; else its leases run out.
        let request = dice.one_in(2).then(|| format!("{consumer}-{asked}"));
        let got = receive(&run, &mut http, dice.between(1, RECEIVED), request.as_deref()).await;
        let (mut ack, mut extend) = (Vec::new(), Vec::new());
        for message in got {
            match dice.between(1, 100) {
                1..=72 => ack.push(message),
                73..=80 => {
                    let delay = Duration::from_millis(dice.between(0, DELAY_MS / 4));
                    settle(&run, &mut http, Verb::Nack(delay), &[message], 1).await;
                }
                // It comes back when its lease is over.
                81..=86 => {}
                87..=92 => {
                    late.push((time::elapsed() + run.lease + dice.time(Duration::ZERO, Duration::from_millis(400)), message));
                }
                93..=97 => extend.push(message),
                _ if run.max_attempts.is_some() => settle(&run, &mut http, Verb::Reject, &[message], 1).await,
                _ => settle(&run, &mut http, Verb::Extend(Duration::ZERO), &[message], 1).await,
            }
        }
        settle(&run, &mut http, Verb::Extend(run.lease * 2), &extend, 1).await;
        ack.extend(extend);
        settle(&run, &mut http, Verb::Ack, &ack, 3).await;
        let (due, rest) = late.into_iter().partition(|(due, _)| *due <= time::elapsed());
        late = rest;
        let due: Vec<Message> = due.into_iter().map(|(_, message): (Duration, Message)| message).collect();
        settle(&run, &mut http, Verb::Ack, &due, 1).await;
        // Others get a share, and the machine some rest.
        tokio::time::sleep(dice.time(Duration::from_millis(500), Duration::from_secs(3)) * run.slow).await;
    }
}

async fn receive(run: &Run, http: &mut Http, max: u64, request: Option<&str>) -> Vec<Message> {
    let op = run.recorder.receive(run.lease, false);
    let mut body = json!({"max": max, "wait": text(WAIT), "lease": text(run.lease)});
    if let Some(request) = request {
        body["request_id"] = json!(request);
    }
    loop {
        let ask = Ask::json(Method::POST, run.path("/receive"), &body);
        match run.class(http.send(ask).await) {
            Outcome::Ok(answer) => {
                let got = messages(&answer);
                delivered(run, op, &got);
                return got;
            }
            // One try may have been answered to nobody, when another says that nothing happened.
            Outcome::Fail if request.is_none() => {
                run.recorder.end(op, End::Fail);
                turn(http).await;
                return Vec::new();
            }
            Outcome::Fail | Outcome::Info if request.is_some() && !run.is_stopped() => turn(http).await,
            Outcome::Fail | Outcome::Info | Outcome::Wrong(_) => {
                run.recorder.end(op, End::Info);
                turn(http).await;
                return Vec::new();
            }
        }
    }
}

async fn turn(http: &mut Http) {
    http.turn();
    tokio::time::sleep(PAUSE.0 * 5).await;
}

/// Settles, and tries again what had no certain outcome.
async fn settle(run: &Run, http: &mut Http, verb: Verb, messages: &[Message], tries: usize) {
    let mut left: Vec<&Message> = messages.iter().collect();
    for _ in 0..tries {
        if left.is_empty() {
            return;
        }
        match settle_once(run, http, verb, &left).await {
            Some(statuses) => {
                left = left.into_iter().zip(statuses).filter(|(_, status)| *status == Status::Info).map(|(message, _)| message).collect();
            }
            None => turn(http).await,
        }
    }
}

/// Settles leases once, and records how that went. `None` when the call as a whole did not happen or nobody knows.
async fn settle_once(run: &Run, http: &mut Http, verb: Verb, messages: &[&Message]) -> Option<Vec<Status>> {
    let op = run.recorder.settle(verb, messages.iter().map(|message| message.lease).collect());
    let item = |message: &&Message| match verb {
        Verb::Nack(delay) => json!({"receipt": message.receipt, "delay": text(delay)}),
        Verb::Extend(lease) => json!({"receipt": message.receipt, "lease": text(lease)}),
        Verb::Ack | Verb::Reject => json!({"receipt": message.receipt}),
    };
    let items = || json!({"items": messages.iter().map(item).collect::<Vec<_>>()});
    let (rest, body) = match verb {
        Verb::Ack => ("/ack", json!({"receipts": messages.iter().map(|message| &message.receipt).collect::<Vec<_>>()})),
        Verb::Nack(_) => ("/nack", items()),
        Verb::Extend(_) => ("/extend", items()),
        Verb::Reject => ("/reject", items()),
    };
    let sent = http.send(Ask::json(Method::POST, run.path(rest), &body)).await;
    // A call of which nothing succeeded is a problem, which tells of each item all the same.
    let refused = sent.as_ref().ok().filter(|answer| matches!(answer.code().as_str(), "lease_expired" | "receipt_not_found"));
    if let Some(answer) = refused {
        let statuses: Vec<Status> = answer.json()["errors"].as_array().into_iter().flatten().map(of_problem).collect();
        return told(run, op, messages, statuses, answer);
    }
    match run.class(sent) {
        Outcome::Ok(answer) => {
            let statuses: Vec<Status> = answer.json()["results"].as_array().into_iter().flatten().map(status).collect();
            told(run, op, messages, statuses, &answer)
        }
        Outcome::Fail => {
            run.recorder.end(op, End::Fail);
            None
        }
        Outcome::Info | Outcome::Wrong(_) => {
            run.recorder.end(op, End::Info);
            None
        }
    }
}

fn told(run: &Run, op: OpId, messages: &[&Message], statuses: Vec<Status>, answer: &Answer) -> Option<Vec<Status>> {
    if statuses.len() != messages.len() {
        run.world.violation(format!("of {} items {} are answered: {}", messages.len(), statuses.len(), answer.text()));
        run.recorder.end(op, End::Info);
        return None;
    }
    run.recorder.end(op, End::Settled(statuses.clone()));
    Some(statuses)
}

fn status(item: &Value) -> Status {
    match item["status"].as_str() {
        Some("ok") => Status::Done,
        Some("expired") => Status::Expired,
        Some("unknown") => Status::Unknown,
        _ => Status::Info,
    }
}

/// An item among a problem's `errors`, which say in words what a result says in `status`.
fn of_problem(item: &Value) -> Status {
    match item["reason"].as_str() {
        Some(reason) if reason.starts_with("the lease is over") => Status::Expired,
        Some(reason) if reason.contains("receipt") => Status::Unknown,
        _ => Status::Info,
    }
}

/// Receives and acknowledges until nothing is left, then reads the dead letters.
pub async fn drain(run: &Run, http: &mut Http) {
    loop {
        let op = run.recorder.receive(run.lease, true);
        let body = json!({"max": 500, "wait": "500ms", "lease": text(run.lease)});
        match run.class(http.send(Ask::json(Method::POST, run.path("/receive"), &body)).await) {
            Outcome::Ok(answer) => {
                let got = messages(&answer);
                delivered(run, op, &got);
                let left: Vec<&Message> = got.iter().collect();
                if !left.is_empty() {
                    settle_once(run, http, Verb::Ack, &left).await;
                } else if is_empty(run, http).await {
                    break;
                }
            }
            Outcome::Fail => run.recorder.end(op, End::Fail),
            Outcome::Info | Outcome::Wrong(_) => {
                run.recorder.end(op, End::Info);
                turn(http).await;
            }
        }
    }
    if run.max_attempts.is_some() {
        dead_letters(run, http).await;
    }
}

async fn is_empty(run: &Run, http: &mut Http) -> bool {
    let Ok(answer) = http.send(Ask::get(run.path("/stats"))).await else { return false };
    let stats = answer.json();
    answer.status == 200 && ["ready", "leased", "delayed"].iter().all(|name| stats[name] == 0)
}

/// Reads the dead-letter topic as the log that it is.
async fn dead_letters(run: &Run, http: &mut Http) {
    let (mut next, mut tries) = (0, 0);
    loop {
        let ask = Ask::get(format!("/v1/topics/{DEAD}/partitions/0/records?offset={next}&limit=1000"));
        let answer = match http.send(ask).await {
            Ok(answer) if answer.status == 200 => answer,
            // The topic is made with the first dead letter.
            Ok(answer) if answer.status == 404 => return,
            _ if tries > 50 => return run.world.violation("the dead letters cannot be read".to_owned()),
            _ => {
                tries += 1;
                turn(http).await;
                continue;
            }
        };
        let page = answer.json();
        for record in page["records"].as_array().into_iter().flatten() {
            match dead(record) {
                Some(dead) => run.recorder.dead(dead),
                None => run.world.violation(format!("not a dead letter: {record}")),
            }
        }
        next = page["next_offset"].as_u64().unwrap_or(next);
        if page["end"].as_u64().is_none_or(|end| next >= end) {
            return;
        }
    }
}

fn dead(record: &Value) -> Option<Dead> {
    let header = |name: &str| record["headers"][name].as_str();
    let number = |name: &str| header(name)?.parse::<u64>().ok();
    Some(Dead {
        at: (number("dead-letter-partition")? as u32, number("dead-letter-offset")?),
        id: body_id(&record["value"]).0,
        attempts: number("dead-letter-attempts")? as u32,
        reason: header("dead-letter-reason")?.to_owned(),
    })
}
