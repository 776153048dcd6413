//! Writes down what happens to a queue. Must never judge: the checker does.

use std::time::Duration;

use crate::clock::{Clock, monotonic};
use crate::history::{Answer, Call, Name, Refusal, Tape, What, runs};

pub use crate::history::{Dead, Delivered, History, LeaseId, MessageAt, Nanos, OpId, RecordId, Sent, Status, Verb};

/// How an operation ended. One without an end stays open for ever, like [`End::Info`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// Stored at these places.
    Stored(Vec<MessageAt>),
    /// These came.
    Delivered(Vec<Delivered>),
    /// Settled so, in the order of the leases.
    Settled(Vec<Status>),
    /// It certainly did not happen.
    Fail,
    /// Nobody knows.
    Info,
}

/// Writes down what happens to one queue. Clones write to the same tape.
#[derive(Clone)]
pub struct Recorder {
    tape: Tape,
    queue: Name,
}

impl Default for Recorder {
    fn default() -> Self {
        Self::with_clock(monotonic())
    }
}

impl Recorder {
    /// One with a tape of its own, that takes its times from a clock.
    pub fn with_clock(clock: Clock) -> Self {
        Self::on(&Tape::with_clock(clock), "queue")
    }

    /// One for a queue, on a tape that others write to as well.
    pub fn on(tape: &Tape, queue: &str) -> Self {
        Self { tape: tape.clone(), queue: queue.into() }
    }

    /// What it writes to.
    pub fn tape(&self) -> &Tape {
        &self.tape
    }

    /// The queue.
    pub fn queue(&self) -> &Name {
        &self.queue
    }

    /// The time.
    pub fn now(&self) -> Nanos {
        self.tape.now()
    }

    /// Messages are about to be sent, each with the sum of its value.
    pub fn send(&self, messages: &[(Sent, u64)]) -> OpId {
        let process = messages.first().map(|(sent, _)| sent.id.producer);
        self.tape.invoke(process, Call::Enqueue { queue: self.queue.clone(), messages: messages.to_vec() })
    }

    /// Messages are about to be asked for.
    pub fn receive(&self, lease: Duration, drain: bool) -> OpId {
        self.tape.invoke(None, Call::Receive { queue: self.queue.clone(), lease, drain })
    }

    /// Leases are about to be settled.
    pub fn settle(&self, verb: Verb, leases: Vec<LeaseId>) -> OpId {
        self.tape.invoke(None, Call::Settle { queue: self.queue.clone(), verb, leases })
    }

    /// An operation ended.
    pub fn end(&self, op: OpId, end: End) {
        match end {
            End::Stored(places) => self.tape.ok(op, Answer::Stored(runs(places))),
            End::Delivered(got) => self.tape.ok(op, Answer::Delivered(got)),
            End::Settled(statuses) => self.tape.ok(op, Answer::Settled(statuses)),
            End::Fail => self.tape.fail(op, Refusal::Refused),
            End::Info => self.tape.info(op),
        }
    }

    /// A dead letter was found.
    pub fn dead(&self, dead: Dead) {
        self.tape.push(What::Dead { queue: self.queue.clone(), dead });
    }

    /// A fault was injected.
    pub fn fault(&self, what: &str) {
        self.tape.fault(what, None);
    }

    /// Everything recorded on the tape.
    pub fn finish(self) -> History {
        self.tape.take()
    }
}
