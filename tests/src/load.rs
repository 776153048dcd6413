//! Producers of every kind and tailing readers, which go on through faults until they are told to stop. Must never judge: it
//! records what it sent and what it saw.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use reqwest::Method;
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;

use crate::dice::Dice;
use crate::history::{Append, OpId, Promise, RecordId, Recorder, Tape, body, hash};
use crate::{Answer, Client, Row};

/// Between two tries while nobody serves: the first, then twice as long each time up to the last.
const PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_millis(320);
/// Lines of a stream that wait for their acknowledgement at most.
const STREAM_WINDOW: usize = 200;
/// How long clients may take to finish what they have begun, once everything is whole again.
const FINISH: Duration = Duration::from_secs(90);

/// The gateways that a client may go to; it uses one until that one fails it.
#[derive(Clone, Debug)]
pub struct Ways {
    clients: Vec<Client>,
    at: usize,
}

impl Ways {
    /// The one in use.
    pub fn now(&self) -> &Client {
        &self.clients[self.at]
    }

    /// Goes to the next.
    pub fn turn(&mut self) {
        self.at = (self.at + 1) % self.clients.len();
    }

    /// The same ways, with clients that come again for this long when they are told so.
    pub fn persistent(&self, persistence: Duration) -> Self {
        let clients = self.clients.iter().map(|client| client.clone().persistent(persistence)).collect();
        Self { clients, at: self.at }
    }

    /// The same ways, beginning at another.
    pub fn beginning_at(&self, at: usize) -> Self {
        Self { clients: self.clients.clone(), at: at % self.clients.len() }
    }
}

impl From<Client> for Ways {
    fn from(client: Client) -> Self {
        vec![client].into()
    }
}

impl From<&Client> for Ways {
    fn from(client: &Client) -> Self {
        client.clone().into()
    }
}

impl From<Vec<Client>> for Ways {
    fn from(clients: Vec<Client>) -> Self {
        assert!(!clients.is_empty());
        Self { clients, at: 0 }
    }
}

/// How tries went that were no success.
#[derive(Debug, Default)]
pub struct Tally {
    /// Nobody took the connection.
    pub unreachable: AtomicU64,
    /// Answered that nothing was stored.
    pub refused: AtomicU64,
    /// Answered that nobody knows.
    pub unknown: AtomicU64,
    /// Not answered: the connection ended first, or the client's patience.
    pub cut: AtomicU64,
    /// The longest time from a send's first try to its acknowledgement, in milliseconds.
    pub slowest_ms: AtomicU64,
}

/// How much producers send.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Records of a batch: fewest and most.
    pub batch: (u64, u64),
    /// Bytes that a record is padded with: fewest and most.
    pub pad: (u64, u64),
    /// Records that each producer sends in a second, if there is a bound. Who is behind sends full batches until it is not.
    pub per_second: Option<f64>,
}

impl Default for Shape {
    fn default() -> Self {
        Self { batch: (1, 60), pad: (0, 200), per_second: None }
    }
}

/// Keeps a producer at its rate, over outages too.
struct Pace {
    shape: Shape,
    began: Instant,
    sent: u64,
}

impl Pace {
    fn new(shape: Shape) -> Self {
        Self { shape, began: Instant::now(), sent: 0 }
    }

    /// How many records are due now, if a rate says that; waits until there are enough for the smallest batch, unless the run is
    /// stopped first.
    async fn due(&mut self, run: &Run, fewest: u64, most: u64) -> u64 {
        let Some(rate) = self.shape.per_second else { return most };
        loop {
            let owed = ((self.began.elapsed().as_secs_f64() * rate) as u64).saturating_sub(self.sent);
            if owed >= fewest || run.is_stopped() {
                return owed.clamp(1, most);
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// When sends were acknowledged, for figures of recovery.
#[derive(Debug)]
pub struct Pulse {
    began: Instant,
    /// First try and acknowledgement of each, in milliseconds since the beginning.
    beats: Mutex<Vec<(u32, u32)>>,
}

impl Default for Pulse {
    fn default() -> Self {
        Self { began: Instant::now(), beats: Mutex::default() }
    }
}

impl Pulse {
    /// The time.
    pub fn now(&self) -> u32 {
        self.began.elapsed().as_millis() as u32
    }

    /// Sends acknowledged so far.
    pub fn count(&self) -> u64 {
        self.beats.lock().unwrap().len() as u64
    }

    /// All of them.
    pub fn beats(&self) -> Vec<(u32, u32)> {
        self.beats.lock().unwrap().clone()
    }

    fn beat(&self, began: Instant) {
        let invoked = began.saturating_duration_since(self.began).as_millis() as u32;
        self.beats.lock().unwrap().push((invoked, self.now()));
    }
}

/// What all clients of a run share.
pub struct Run {
    /// Where they write down what happens.
    pub recorder: Recorder,
    /// The topic.
    pub topic: &'static str,
    /// Its partitions.
    pub partitions: u32,
    /// How much they send.
    pub shape: Shape,
    /// What went wrong for clients.
    pub tally: Tally,
    /// When they were served.
    pub pulse: Pulse,
    stopped: AtomicBool,
    acked: AtomicU64,
}

impl Run {
    /// A run on a topic that is there.
    pub fn new(topic: &'static str, partitions: u32) -> Arc<Self> {
        Self::shaped(topic, partitions, Shape::default())
    }

    /// The same with producers that send so much.
    pub fn shaped(topic: &'static str, partitions: u32, shape: Shape) -> Arc<Self> {
        let (recorder, tally, pulse) = (Recorder::on(&Tape::default(), topic), Tally::default(), Pulse::default());
        Arc::new(Self { recorder, topic, partitions, shape, tally, pulse, stopped: AtomicBool::new(false), acked: AtomicU64::new(0) })
    }

    /// Producers finish what they have begun and end; readers end.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    /// Whether it was stopped.
    pub fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }

    /// Records acknowledged so far.
    pub fn acked(&self) -> u64 {
        self.acked.load(Ordering::Relaxed)
    }

    /// Waits until so many more records are acknowledged, and tells how long that took.
    pub async fn acked_more(&self, records: u64, within: Duration) -> Duration {
        let (began, goal) = (Instant::now(), self.acked() + records);
        while self.acked() < goal {
            let left = goal - self.acked();
            assert!(began.elapsed() < within, "{left} of {records} records are not acknowledged within {within:?}: {:?}", self.tally);
            tokio::time::sleep(PAUSE).await;
        }
        began.elapsed()
    }

    /// Records are about to be sent, to a partition where the sender chose one.
    fn invoke(&self, promise: Promise, partition: Option<u32>, records: &[(RecordId, String)]) -> OpId {
        let records = records.iter().map(|(id, body)| (*id, hash(body.as_bytes()))).collect();
        self.recorder.append(Append { partition, ..Append::new(self.recorder.topic().clone(), promise, records) })
    }

    /// A send that began at a moment is acknowledged.
    pub fn ok(&self, op: OpId, places: Vec<(u32, u64)>, began: Instant) {
        self.acked.fetch_add(places.len() as u64, Ordering::Relaxed);
        self.pulse.beat(began);
        self.tally.slowest_ms.fetch_max(began.elapsed().as_millis() as u64, Ordering::Relaxed);
        self.recorder.ok(op, places);
    }
}

/// The clients of a run.
pub struct Load {
    run: Arc<Run>,
    clients: JoinSet<()>,
    producers: u32,
    seed: u64,
}

impl Load {
    /// Nobody yet.
    pub fn new(run: &Arc<Run>, seed: u64) -> Self {
        Self { run: Arc::clone(run), clients: JoinSet::new(), producers: 0, seed }
    }

    /// Adds a producer that begins at each of the ways in turn.
    pub fn producer(&mut self, ways: &Ways, style: Style) -> &mut Self {
        let (producer, dice) = self.next();
        self.clients.spawn(produce(Arc::clone(&self.run), ways.beginning_at(producer as usize), producer, style, dice));
        self
    }

    /// Adds one that sends line after line on long requests.
    pub fn stream(&mut self, ways: &Ways) -> &mut Self {
        let (producer, dice) = self.next();
        self.clients.spawn(stream(Arc::clone(&self.run), ways.beginning_at(producer as usize), producer, dice));
        self
    }

    /// Adds a reader that follows a partition.
    pub fn tail(&mut self, ways: &Ways, partition: u32) -> &mut Self {
        self.clients.spawn(tail(Arc::clone(&self.run), ways.beginning_at(partition as usize), partition, partition));
        self
    }

    /// Adds a reader that goes back to somewhere in the past again and again.
    pub fn replay(&mut self, ways: &Ways) -> &mut Self {
        let dice = Dice::new(self.seed ^ u64::from(u32::MAX));
        self.clients.spawn(replay(Arc::clone(&self.run), ways.clone(), dice));
        self
    }

    /// Two of each kind of producer, a stream, and a reader of each partition.
    pub fn everyone(&mut self, ways: &Ways) -> &mut Self {
        for style in [Style::Plain, Style::Plain, Style::Sequenced, Style::Sequenced, Style::Keyed, Style::Keyed] {
            self.producer(ways, style);
        }
        self.stream(ways);
        for partition in 0..self.run.partitions {
            self.tail(ways, partition);
        }
        self
    }

    fn next(&mut self) -> (u32, Dice) {
        let producer = self.producers;
        self.producers += 1;
        (producer, Dice::new(self.seed + 1 + u64::from(producer)))
    }

    /// Tells all clients to stop and waits until they have finished what they began. Nothing may be broken any more.
    pub async fn finish(mut self) {
        self.run.stop();
        let ended = async {
            while let Some(ended) = self.clients.join_next().await {
                ended.unwrap();
            }
        };
        let tally = &self.run.tally;
        assert!(tokio::time::timeout(FINISH, ended).await.is_ok(), "clients cannot finish within {FINISH:?}: {tally:?}");
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

/// What became of a try.
enum Try {
    Stored(Vec<(u32, u64)>),
    Refused,
    Unknown,
}

/// The three classes of answers: applied; certainly not applied; unknown.
fn class(tally: &Tally, sent: Result<Answer, reqwest::Error>) -> Try {
    let (count, outcome) = match sent {
        Ok(answer) if answer.status == 200 => return Try::Stored(answer.offsets()),
        Ok(answer) => {
            let problem = answer.json();
            assert!(matches!(answer.status, 500 | 503 | 504), "the load is in order, but was refused: {problem}");
            if problem["outcome"] == "not_applied" { (&tally.refused, Try::Refused) } else { (&tally.unknown, Try::Unknown) }
        }
        Err(error) if error.is_connect() => (&tally.unreachable, Try::Refused),
        Err(_) => (&tally.cut, Try::Unknown),
    };
    count.fetch_add(1, Ordering::Relaxed);
    outcome
}

/// Sends batch after batch.
pub async fn produce(run: Arc<Run>, ways: impl Into<Ways>, producer: u32, style: Style, mut dice: Dice) {
    let (mut ways, mut seq, mut pause) = (ways.into(), 0, PAUSE);
    let mut pace = Pace::new(run.shape);
    while !run.is_stopped() {
        let (fewest, most) = run.shape.batch;
        let count = match run.shape.per_second {
            None => dice.between(fewest, most),
            Some(_) => pace.due(&run, fewest, most).await,
        };
        pace.sent += count;
        let records: Vec<(RecordId, String)> = (seq..seq + count).map(|seq| record(run.shape, producer, seq, &mut dice)).collect();
        let query = match style {
            Style::Plain => format!("partition={}", producer % run.partitions),
            Style::Sequenced => {
                format!("partition={}&producer_id=p{producer}&producer_epoch=0&producer_sequence={seq}", producer % run.partitions)
            }
            Style::Keyed => "key=/seq".to_owned(),
        };
        let lines: String = records.iter().flat_map(|(_, body)| [body.as_str(), "\n"]).collect();
        let key = (style == Style::Keyed).then(|| format!("{producer}-{seq}"));
        let once = style != Style::Plain;
        let chosen = (style != Style::Keyed).then_some(producer % run.partitions);
        let began = Instant::now();
        let mut op = run.invoke(Promise { once, pipelined: false }, chosen, &records);
        loop {
            let mut request = ways.now().values(run.topic, &query, lines.clone());
            if let Some(key) = &key {
                request = request.header("idempotency-key", key);
            }
            let again = match class(&run.tally, ways.now().send(request).await) {
                Try::Stored(places) => {
                    run.ok(op, places, began);
                    pause = PAUSE;
                    break;
                }
                // What is sent again with a promise is the same send: it stays open until it is acknowledged.
                Try::Refused | Try::Unknown if once => true,
                Try::Refused => {
                    run.recorder.fail(op);
                    false
                }
                Try::Unknown => {
                    run.recorder.info(op);
                    dice.one_in(2)
                }
            };
            ways.turn();
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
            if !again {
                break;
            }
            if !once {
                op = run.invoke(Promise { once, pipelined: false }, chosen, &records);
            }
        }
        seq += count;
        if matches!(style, Style::Plain) && dice.one_in(20) {
            // A pause lets segments leave that hold little.
            tokio::time::sleep(PAUSE).await;
        }
        if dice.one_in(10) {
            ways.turn();
        }
    }
}

fn record(shape: Shape, producer: u32, seq: u64, dice: &mut Dice) -> (RecordId, String) {
    let id = RecordId { producer, seq };
    (id, body(id, dice.between(shape.pad.0, shape.pad.1) as usize))
}

/// Sends line after line on one long request, and takes acknowledgements as they come; opens another after a fault.
pub async fn stream(run: Arc<Run>, ways: impl Into<Ways>, producer: u32, mut dice: Dice) {
    let (mut ways, mut seq, mut pause) = (ways.into(), 0, PAUSE);
    let mut pace = Pace::new(run.shape);
    while !run.is_stopped() {
        let acked = run.acked();
        let (lines, sent) = mpsc::channel::<Result<String, std::io::Error>>(8);
        let (invoked, open) = mpsc::channel::<(OpId, Instant)>(STREAM_WINDOW);
        let path = format!("/v1/topics/{}/records/stream?format=values&partition={}", run.topic, producer % run.partitions);
        let request = ways.now().request(Method::POST, &path).header("content-type", "application/x-ndjson");
        let request = request.body(reqwest::Body::wrap_stream(ReceiverStream::new(sent)));
        let acks = tokio::spawn(take_acks(Arc::clone(&run), request, open));
        while !run.is_stopped() {
            pace.due(&run, 1, 1).await;
            pace.sent += 1;
            let record = record(run.shape, producer, seq, &mut dice);
            let op = run.recorder.invoke(Promise { once: false, pipelined: true }, std::slice::from_ref(&record));
            seq += 1;
            // Either end is gone when the connection broke: the record was perhaps sent, or never was.
            if invoked.send((op, Instant::now())).await.is_err() {
                run.recorder.info(op);
                break;
            }
            // From here on it is told of by who takes acknowledgements.
            if lines.send(Ok(format!("{}\n", record.1))).await.is_err() {
                break;
            }
        }
        drop((lines, invoked));
        acks.await.unwrap();
        ways.turn();
        // While nobody is served, each try costs a window of lines that nobody knows about: a run of little else proves little.
        pause = if run.acked() > acked { PAUSE } else { (pause * 2).min(LONGEST_PAUSE) };
        tokio::time::sleep(pause).await;
    }
}

/// Pairs acknowledgements with what was sent, in order; what is left when the connection breaks is unknown.
async fn take_acks(run: Arc<Run>, request: reqwest::RequestBuilder, mut open: mpsc::Receiver<(OpId, Instant)>) {
    if let Ok(response) = request.send().await
        && response.status() == 200
    {
        let mut bytes = Vec::new();
        let mut pieces = response.bytes_stream();
        'answer: while let Some(Ok(piece)) = pieces.next().await {
            bytes.extend_from_slice(&piece);
            while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = bytes.drain(..=end).collect();
                let ack: Value = serde_json::from_slice(&line).unwrap();
                let Some(offset) = ack["offset"].as_u64() else {
                    // Also where an earlier line was stored at last: what was behind it when it failed at first is not.
                    let told = ack["status"].as_u64().is_some_and(|status| status >= 500) || ack["code"] == "stream_poisoned";
                    assert!(told, "the stream is in order, but was refused: {ack}");
                    break 'answer;
                };
                let (op, began) = open.recv().await.expect("an acknowledgement of nothing that was sent");
                run.ok(op, vec![(ack["partition"].as_u64().unwrap() as u32, offset)], began);
            }
        }
    }
    open.close();
    while let Some((op, _)) = open.recv().await {
        run.recorder.info(op);
    }
}

/// Follows one partition by long polls.
pub async fn tail(run: Arc<Run>, ways: impl Into<Ways>, reader: u32, partition: u32) {
    let (mut ways, mut at) = (ways.into(), 0);
    while !run.is_stopped() {
        let op = run.recorder.ask(reader, false, partition, at);
        // Nobody may serve at the moment: then ask again.
        let Ok(page) = ways.now().page(run.topic, partition, at, "&wait=200ms").await else {
            run.recorder.fail(op);
            ways.turn();
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        run.recorder.saw(op, page.rows.iter().map(Row::seen), page.told());
        assert_eq!(page.next, at + page.rows.len() as u64, "the page goes on elsewhere than it ends");
        at = page.next;
    }
}

/// The number of the reader that goes back.
const REPLAY: u32 = 900;
/// Records of a page of its, pages in a row, and the pause before the next time.
const REPLAYED: (u64, u64, Duration) = (500, 4, Duration::from_millis(150));

/// Reads a few pages from somewhere, through one gateway after the other.
pub async fn replay(run: Arc<Run>, mut ways: Ways, mut dice: Dice) {
    let (limit, pages, pause) = REPLAYED;
    let mut ends = vec![0; run.partitions as usize];
    while !run.is_stopped() {
        let partition = dice.between(0, u64::from(run.partitions) - 1) as u32;
        let mut at = dice.between(0, ends[partition as usize]);
        for _ in 0..dice.between(1, pages) {
            let op = run.recorder.seek(REPLAY, false, partition, at);
            let Ok(page) = ways.now().page_of(run.topic, partition, at, limit, "").await else {
                run.recorder.fail(op);
                break;
            };
            run.recorder.saw(op, page.rows.iter().map(Row::seen), page.told());
            ends[partition as usize] = page.end;
            at = page.next;
        }
        ways.turn();
        tokio::time::sleep(pause).await;
    }
}
