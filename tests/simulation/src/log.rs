//! The load of the log: producers that send in different ways, readers that follow, and readers that begin somewhere in the middle.
//! They go on through faults until they are told to stop. Must never judge: what they sent and saw is recorded.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use lakefall_check::history::{Append, OpId, Promise, RecordId, Recorder, Tape, body, hash};
use serde_json::value::RawValue;

use crate::dice::Dice;
use crate::http::{Answer, Ask, Http, Outcome, class};
use crate::tally::Tally;
use crate::world::World;
use crate::{lock, time};

/// The topic.
pub const TOPIC: &str = "log";
/// Between two tries while nobody serves: the first, then twice as long each time up to the last.
const PAUSE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));
/// How long a reader may sleep before records that are there, when all is well.
pub(crate) const WAKING: Duration = Duration::from_secs(4);
/// How long it waits for records.
const POLL: Duration = Duration::from_secs(10);
/// Readers are numbered from here on, apart from producers.
const READERS: u32 = 10_000;
/// Most records of a batch.
const BATCH: u64 = 10;
/// Largest padding of a record.
const PAD: u64 = 120;

/// What all clients of the log share.
pub struct Run {
    /// Where they write down what happens.
    pub recorder: Recorder,
    /// The simulation.
    pub world: Arc<World>,
    /// How calls went.
    pub tally: Tally,
    stopped: AtomicBool,
    acked: AtomicU64,
    readers: AtomicU64,
    /// When records of a partition were acknowledged: the time up to each offset.
    when: Mutex<BTreeMap<(u32, u64), Duration>>,
}

impl Run {
    /// Nothing was sent yet.
    pub fn new(world: &Arc<World>, tape: &Tape) -> Arc<Self> {
        let (tally, zero, recorder) = (Tally::default(), AtomicU64::default, Recorder::on(tape, TOPIC));
        Arc::new(Self {
            recorder,
            world: Arc::clone(world),
            tally,
            stopped: AtomicBool::new(false),
            acked: zero(),
            readers: zero(),
            when: Mutex::default(),
        })
    }

    /// Clients finish what they have begun and end.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    /// Whether clients are to end.
    pub(crate) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }

    /// Records acknowledged so far.
    pub fn acked(&self) -> u64 {
        self.acked.load(Ordering::Relaxed)
    }

    /// Records are about to be sent, to a partition where the sender chose one.
    pub(crate) fn invoke(&self, promise: Promise, partition: Option<u32>, records: &[(RecordId, String)]) -> OpId {
        let records = records.iter().map(|(id, body)| (*id, hash(body.as_bytes()))).collect();
        self.recorder.append(Append { partition, ..Append::new(self.recorder.topic().clone(), promise, records) })
    }

    /// Records were acknowledged, at these places.
    pub(crate) fn stored(&self, op: OpId, places: Vec<(u32, u64)>) {
        self.acked.fetch_add(places.len() as u64, Ordering::Relaxed);
        lock(&self.when).extend(places.iter().map(|place| (*place, time::elapsed())));
        self.recorder.ok(op, places);
    }

    /// A poll that began at a time was answered now, with records from an offset on: it must not have slept before them.
    fn woken(&self, partition: u32, from: u64, began: Duration) {
        let known = lock(&self.when).get(&(partition, from)).copied();
        let is_calm = |at| self.world.plan.length.is_calm(at);
        let Some(acked) = known.filter(|acked| is_calm(began) && is_calm(*acked)) else { return };
        let late = time::elapsed().saturating_sub(acked.max(began));
        if late > WAKING {
            self.world.violation(format!("H7: a reader slept for {late:?} before record {from} of partition {partition}, which was there"));
        }
    }

    /// The class of what a call came to. What clients never do wrong is a violation if it is refused.
    fn class(&self, sent: Result<Answer, crate::http::NoAnswer>) -> Outcome<Answer> {
        let outcome = class(sent, &[]);
        self.tally.count();
        if let Outcome::Wrong(answer) = &outcome {
            self.world.violation(format!("a request in order was refused with {}: {}", answer.status, answer.text()));
        }
        outcome
    }
}

/// How a producer sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// Batches to one partition; one whose outcome is unknown is sometimes sent again.
    Plain,
    /// Sequence numbers: sent again until it is acknowledged.
    Sequenced,
    /// An `Idempotency-Key`, over all partitions: sent again until it is acknowledged.
    Keyed,
}

/// Sends batch after batch.
pub async fn produce(run: Arc<Run>, mut http: Http, producer: u32, style: Style, mut dice: Dice) {
    let partition = producer % run.world.plan.partitions;
    let (mut seq, mut pause, once) = (0, PAUSE.0, style != Style::Plain);
    while !run.is_stopped() {
        let count = dice.between(1, BATCH);
        let record = |seq, dice: &mut Dice| {
            let id = RecordId { producer, seq };
            (id, body(id, dice.between(0, PAD) as usize))
        };
        let records: Vec<(RecordId, String)> = (seq..seq + count).map(|seq| record(seq, &mut dice)).collect();
        let query = match style {
            Style::Plain => format!("partition={partition}"),
            Style::Sequenced => format!("partition={partition}&producer_id=p{producer}&producer_epoch=0&producer_sequence={seq}"),
            Style::Keyed => "key=/seq".to_owned(),
        };
        let lines: String = records.iter().flat_map(|(_, body)| [body.as_str(), "\n"]).collect();
        let path = format!("/v1/topics/{TOPIC}/records?format=values&{query}");
        let key = (style == Style::Keyed).then(|| format!("{producer}-{seq}"));
        let promise = Promise { once, pipelined: false };
        let chosen = (style != Style::Keyed).then_some(partition);
        let mut op = run.invoke(promise, chosen, &records);
        loop {
            let ask = Ask::lines(path.as_str(), lines.clone()).key(key.as_deref());
            let again = match run.class(http.send(ask).await) {
                Outcome::Ok(answer) => {
                    run.stored(op, answer.places());
                    pause = PAUSE.0;
                    break;
                }
                Outcome::Wrong(_) => return,
                // What is sent again with a promise is the same send: it stays open until it is acknowledged.
                Outcome::Fail | Outcome::Info if once => true,
                Outcome::Fail => {
                    run.recorder.fail(op);
                    false
                }
                Outcome::Info => {
                    run.recorder.info(op);
                    dice.one_in(2)
                }
            };
            http.turn();
            tokio::time::sleep(dice.time(pause / 2, pause)).await;
            pause = (pause * 2).min(PAUSE.1);
            if !again {
                break;
            }
            if !once {
                op = run.invoke(promise, chosen, &records);
            }
        }
        seq += count;
        tokio::time::sleep(dice.time(Duration::ZERO, run.world.plan.pace)).await;
        if dice.one_in(10) {
            http.turn();
        }
    }
}

/// A page of one partition.
pub struct Page {
    /// Offsets and values: JSON as it stands.
    pub rows: Vec<(u64, Bytes)>,
    /// Where to go on.
    pub next: u64,
    /// The end as told.
    pub end: u64,
    /// That is how it was told some time ago: there may be more.
    pub stale: bool,
}

impl Page {
    /// As it stands in an answer.
    pub fn from_answer(answer: &Answer) -> Option<Self> {
        let page: HashMap<&str, &RawValue> = serde_json::from_slice(&answer.body).ok()?;
        let number = |of: &HashMap<&str, &RawValue>, name: &str| of.get(name)?.get().parse::<u64>().ok();
        let records: Vec<HashMap<&str, &RawValue>> = serde_json::from_str(page.get("records")?.get()).ok()?;
        let row =
            |row: &HashMap<&str, &RawValue>| Some((number(row, "offset")?, Bytes::copy_from_slice(row.get("value")?.get().as_bytes())));
        Some(Self {
            rows: records.iter().map(row).collect::<Option<_>>()?,
            next: number(&page, "next_offset")?,
            end: number(&page, "end")?,
            stale: page.get("stale").is_some_and(|stale| stale.get() == "true"),
        })
    }

    /// The end, where it is told as such.
    pub fn told(&self) -> Option<u64> {
        (!self.stale).then_some(self.end)
    }
}

/// Who reads a partition.
pub struct Reader {
    run: Arc<Run>,
    http: Http,
    reader: u32,
    partition: u32,
    last: bool,
    /// It has not read yet.
    fresh: bool,
}

impl Reader {
    /// A reader of a number of its own; `last`: it reads the whole partition when all is done.
    pub fn new(run: &Arc<Run>, http: Http, partition: u32, last: bool) -> Self {
        let reader = run.readers.fetch_add(1, Ordering::Relaxed) as u32;
        Self { run: Arc::clone(run), http, reader: READERS + reader, partition, last, fresh: true }
    }

    /// Reads one page, if somebody serves it.
    pub async fn page(&mut self, from: u64, limit: u64, wait: Duration) -> Option<Page> {
        let (partition, recorder) = (self.partition, &self.run.recorder);
        let seek = std::mem::take(&mut self.fresh) && from > 0;
        let op = if seek {
            recorder.seek(self.reader, self.last, partition, from)
        } else {
            recorder.ask(self.reader, self.last, partition, from)
        };
        let wait_ms = wait.as_millis();
        let path = format!("/v1/topics/{TOPIC}/partitions/{partition}/records?offset={from}&limit={limit}&wait={wait_ms}ms");
        let Outcome::Ok(answer) = self.run.class(self.http.send(Ask::get(path)).await) else {
            recorder.fail(op);
            self.http.turn();
            return None;
        };
        let Some(page) = Page::from_answer(&answer) else {
            self.run.world.violation(format!("not a page: {}", answer.text()));
            return None;
        };
        recorder.saw(op, page.rows.iter().map(|(offset, value)| (*offset, &value[..])), page.told());
        if page.next != from + page.rows.len() as u64 {
            self.run.world.violation(format!("a page from {from} on has {} records and goes on at {}", page.rows.len(), page.next));
        }
        Some(page)
    }
}

/// Follows one partition by long polls.
pub async fn tail(run: Arc<Run>, http: Http, partition: u32, mut dice: Dice) {
    let (mut reader, mut at, mut pause) = (Reader::new(&run, http, partition, false), 0, PAUSE.0);
    while !run.is_stopped() {
        let began = time::elapsed();
        match reader.page(at, dice.between(1, 500), POLL).await {
            Some(page) => {
                if !page.rows.is_empty() {
                    run.woken(partition, at, began);
                }
                at = page.next;
                pause = PAUSE.0;
            }
            // Nobody may serve at the moment: then ask again.
            None => {
                tokio::time::sleep(dice.time(pause / 2, pause)).await;
                pause = (pause * 2).min(PAUSE.1);
            }
        }
    }
}

/// Reads old records now and then, from anywhere on.
pub async fn replay(run: Arc<Run>, gateways: Vec<String>, name: String, mut dice: Dice) {
    let mut known = vec![0_u64; run.world.plan.partitions as usize];
    while !run.is_stopped() {
        tokio::time::sleep(dice.time(Duration::from_secs(2), Duration::from_secs(8))).await;
        let partition = dice.between(0, known.len() as u64 - 1) as usize;
        let http = Http::new(&name, &gateways, dice.any() as usize % gateways.len(), &run.world.trace);
        let mut reader = Reader::new(&run, http, partition as u32, false);
        let mut at = dice.between(0, known[partition]);
        for _ in 0..dice.between(1, 4) {
            let Some(page) = reader.page(at, dice.between(1, 300), Duration::ZERO).await else { break };
            at = page.next;
            known[partition] = page.end;
        }
    }
}

/// Creates the topic.
pub async fn create(run: &Run, http: &mut Http) {
    let settings = serde_json::json!({
        "name": TOPIC,
        "partitions": run.world.plan.partitions,
        "parquet": {"max_age": format!("{}ms", run.world.plan.parquet_age.as_millis())},
    });
    until_done(http, &Ask::json(hyper::Method::POST, "/v1/topics", &settings)).await;
}

/// Repeats a request until it is answered with 2xx, or 409: it was there already.
pub async fn until_done(http: &mut Http, ask: &Ask) {
    loop {
        if let Ok(answer) = http.send(ask.clone()).await
            && (answer.status < 300 || answer.status == 409)
        {
            return;
        }
        http.turn();
        tokio::time::sleep(PAUSE.1 / 4).await;
    }
}

/// Reads all partitions from their beginning to their end, for the judge.
pub async fn read_all(run: &Arc<Run>, gateways: &[String], name: &str) {
    for partition in 0..run.world.plan.partitions {
        let http = Http::new(name, gateways, 0, &run.world.trace);
        let (mut reader, mut at) = (Reader::new(run, http, partition, true), 0);
        loop {
            match reader.page(at, 2_000, Duration::ZERO).await {
                Some(page) => {
                    at = page.next;
                    if page.told().is_some_and(|end| at >= end) {
                        break;
                    }
                }
                None => tokio::time::sleep(PAUSE.1).await,
            }
        }
    }
}
