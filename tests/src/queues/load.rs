//! The load of one queue: senders and receivers of every kind, which go on through faults until they are told to stop. Must
//! never judge: it records what it did and what it saw.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;

use super::calls::{Outcome, Queue};
use super::consumer::consume;
use super::history::Recorder;
use super::producer::{Style, produce};
use crate::dice::Dice;
use crate::history::Tape;
use crate::load::Ways;

/// Between two tries while nobody serves: the first, then twice as long each time up to the last.
pub(super) const PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_millis(320);
/// The pace of senders, unless told otherwise.
const PACE_MS: u64 = 30;
/// How long clients may take to finish what they have begun, once everything is whole again.
const FINISH: Duration = Duration::from_secs(90);

/// What all clients of a queue share.
pub struct Run {
    /// Where they write down what happens.
    pub recorder: Recorder,
    /// The queue.
    pub queue: &'static str,
    /// How long it leases.
    pub lease: Duration,
    /// Whether it has a dead-letter topic, which is called like the queue with `.dead` behind: then some messages are rejected.
    pub dead_letters: bool,
    /// The longest time between two sends of one sender, in milliseconds: receivers have to keep up.
    pub pace_ms: u64,
    stopped: AtomicBool,
    sent: AtomicU64,
    acked: AtomicU64,
    refused: AtomicU64,
    unknown: AtomicU64,
}

impl Run {
    /// A run on a queue that is there.
    pub fn new(queue: &'static str, lease: Duration, dead_letters: bool) -> Arc<Self> {
        Self::paced(queue, lease, dead_letters, PACE_MS)
    }

    /// The same with senders of another pace.
    pub fn paced(queue: &'static str, lease: Duration, dead_letters: bool, pace_ms: u64) -> Arc<Self> {
        Arc::new(Self {
            recorder: Recorder::on(&Tape::default(), queue),
            queue,
            lease,
            dead_letters,
            pace_ms,
            stopped: AtomicBool::new(false),
            sent: AtomicU64::default(),
            acked: AtomicU64::default(),
            refused: AtomicU64::default(),
            unknown: AtomicU64::default(),
        })
    }

    /// Messages that were sent and acknowledged by the queue so far.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Senders finish what they have begun and end; so do receivers.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    /// Whether it was stopped.
    pub fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }

    /// What went on so far, for people.
    pub fn told(&self) -> String {
        let count = |of: &AtomicU64| of.load(Ordering::Relaxed);
        let (sent, acked, refused, unknown) = (count(&self.sent), count(&self.acked), count(&self.refused), count(&self.unknown));
        format!("{}: {sent} messages sent, {acked} acknowledged by receivers; {refused} calls refused, {unknown} unknown", self.queue)
    }

    /// Waits until receivers have acknowledged so many more messages, and tells how long that took.
    pub async fn acked_more(&self, messages: u64, within: Duration) -> Duration {
        let (began, goal) = (Instant::now(), self.acked.load(Ordering::Relaxed) + messages);
        while self.acked.load(Ordering::Relaxed) < goal {
            assert!(began.elapsed() < within, "{messages} messages are not done within {within:?}: {}", self.told());
            tokio::time::sleep(PAUSE).await;
        }
        began.elapsed()
    }

    pub(super) fn count_sent(&self, messages: usize) {
        self.sent.fetch_add(messages as u64, Ordering::Relaxed);
    }

    pub(super) fn count_acked(&self, messages: usize) {
        self.acked.fetch_add(messages as u64, Ordering::Relaxed);
    }

    pub(super) fn count<T>(&self, outcome: &Outcome<T>) {
        match outcome {
            Outcome::Ok(_) => return,
            Outcome::Fail => &self.refused,
            Outcome::Info => &self.unknown,
        }
        .fetch_add(1, Ordering::Relaxed);
    }
}

/// One client's way to its queue, which changes when a gateway fails it.
pub(super) struct Way {
    ways: Ways,
    queue: &'static str,
    pause: Duration,
}

impl Way {
    pub(super) fn new(run: &Run, ways: Ways) -> Self {
        Self { ways, queue: run.queue, pause: PAUSE }
    }

    /// The queue through the gateway in use.
    pub(super) fn queue(&self) -> Queue {
        Queue::of(self.ways.now(), self.queue)
    }

    /// Goes to the next gateway, after a while that grows.
    pub(super) async fn turn(&mut self) {
        self.ways.turn();
        tokio::time::sleep(self.pause).await;
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
    }

    /// Somebody serves.
    pub(super) fn served(&mut self) {
        self.pause = PAUSE;
    }
}

/// The clients of a run.
pub struct Load {
    run: Arc<Run>,
    clients: JoinSet<()>,
    count: u32,
    seed: u64,
}

impl Load {
    /// Nobody yet.
    pub fn new(run: &Arc<Run>, seed: u64) -> Self {
        Self { run: Arc::clone(run), clients: JoinSet::new(), count: 0, seed }
    }

    /// Adds a sender.
    pub fn producer(&mut self, ways: &Ways, style: Style) -> &mut Self {
        let (number, dice) = self.next();
        self.clients.spawn(produce(Arc::clone(&self.run), ways.beginning_at(number as usize), number, style, dice));
        self
    }

    /// Adds a receiver.
    pub fn consumer(&mut self, ways: &Ways) -> &mut Self {
        let (number, dice) = self.next();
        self.clients.spawn(consume(Arc::clone(&self.run), ways.beginning_at(number as usize), number, dice));
        self
    }

    fn next(&mut self) -> (u32, Dice) {
        let number = self.count;
        self.count += 1;
        (number, Dice::new(self.seed + 1 + u64::from(number)))
    }

    /// Tells all clients to stop and waits until they have finished what they began. Nothing may be broken any more.
    pub async fn finish(mut self) {
        self.run.stop();
        let ended = async {
            while let Some(ended) = self.clients.join_next().await {
                ended.unwrap();
            }
        };
        assert!(tokio::time::timeout(FINISH, ended).await.is_ok(), "clients cannot finish within {FINISH:?}: {}", self.run.told());
    }
}
