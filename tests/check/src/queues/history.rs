//! What happened to a queue, as its clients saw it, on one monotonic clock. Must never judge: the checker does.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use crate::clock::{Clock, monotonic};
use crate::history::{lock, whole};

pub use crate::history::{Nanos, OpId, RecordId};

/// Where a message lies: partition and offset of the queue's one topic.
pub type MessageAt = (u32, u64);

/// Names a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeaseId {
    /// The message.
    pub at: MessageAt,
    /// How often it was leased, this time included.
    pub attempt: u32,
}

/// A message that is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sent {
    /// Names it.
    pub id: RecordId,
    /// Its ordering key.
    pub key: Option<u64>,
    /// How long it is to wait.
    pub delay: Duration,
    /// A repeated send is stored once: it has a dedup id or an `Idempotency-Key`.
    pub once: bool,
}

/// What is asked of leases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// Done with them.
    Ack,
    /// Again, after this time.
    Nack(Duration),
    /// For so much longer.
    Extend(Duration),
    /// Never again.
    Reject,
}

/// What became of one lease of a settlement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Done.
    Done,
    /// The lease was over: nothing changed.
    Expired,
    /// Nobody knows the lease: nothing changed.
    Unknown,
    /// Perhaps done.
    Info,
}

/// A message as it was delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delivered {
    /// Its lease.
    pub lease: LeaseId,
    /// Who sent it, where the value tells.
    pub id: Option<RecordId>,
    /// The hash of its value.
    pub hash: u64,
}

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

/// A message in the dead-letter topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dead {
    /// Where it came from.
    pub at: MessageAt,
    /// Who sent it.
    pub id: Option<RecordId>,
    /// How often it was leased.
    pub attempts: u32,
    /// Why it is dead.
    pub reason: String,
}

/// One event.
#[derive(Clone, Debug)]
pub enum Event {
    /// Messages are about to be sent.
    Send {
        /// Names the operation.
        op: OpId,
        /// When.
        at: Nanos,
        /// The messages.
        messages: Vec<Sent>,
    },
    /// Somebody is about to ask for messages.
    Receive {
        /// Names the operation. A request repeated under its `request_id` is the same operation.
        op: OpId,
        /// When.
        at: Nanos,
        /// How long they are leased.
        lease: Duration,
        /// Whether this is the last receiver, who takes what is left.
        drain: bool,
    },
    /// Leases are about to be settled.
    Settle {
        /// Names the operation.
        op: OpId,
        /// When.
        at: Nanos,
        /// What is asked.
        verb: Verb,
        /// Of which leases.
        leases: Vec<LeaseId>,
    },
    /// An operation ended.
    End {
        /// Which.
        op: OpId,
        /// When.
        at: Nanos,
        /// How.
        end: End,
    },
    /// A dead letter was found at the end.
    Dead(Dead),
    /// A fault was injected.
    Fault {
        /// When.
        at: Nanos,
        /// Which.
        what: String,
    },
}

/// Collects events from all clients.
pub struct Recorder {
    clock: Clock,
    ops: AtomicU64,
    events: Mutex<Vec<Event>>,
    bodies: Mutex<BTreeMap<RecordId, u64>>,
}

impl Default for Recorder {
    fn default() -> Self {
        Self::with_clock(monotonic())
    }
}

impl Recorder {
    /// One that takes its times from a clock.
    pub fn with_clock(clock: Clock) -> Self {
        Self { clock, ops: AtomicU64::new(0), events: Mutex::default(), bodies: Mutex::default() }
    }

    /// The time.
    pub fn now(&self) -> Nanos {
        (self.clock)()
    }

    fn push(&self, event: Event) {
        lock(&self.events).push(event);
    }

    fn op(&self) -> OpId {
        self.ops.fetch_add(1, Ordering::Relaxed)
    }

    /// Messages are about to be sent, each with the hash of its value.
    pub fn send(&self, messages: &[(Sent, u64)]) -> OpId {
        let op = self.op();
        lock(&self.bodies).extend(messages.iter().map(|(sent, hash)| (sent.id, *hash)));
        self.push(Event::Send { op, at: self.now(), messages: messages.iter().map(|(sent, _)| *sent).collect() });
        op
    }

    /// Messages are about to be asked for.
    pub fn receive(&self, lease: Duration, drain: bool) -> OpId {
        let op = self.op();
        self.push(Event::Receive { op, at: self.now(), lease, drain });
        op
    }

    /// Leases are about to be settled.
    pub fn settle(&self, verb: Verb, leases: Vec<LeaseId>) -> OpId {
        let op = self.op();
        self.push(Event::Settle { op, at: self.now(), verb, leases });
        op
    }

    /// An operation ended.
    pub fn end(&self, op: OpId, end: End) {
        self.push(Event::End { op, at: self.now(), end });
    }

    /// A dead letter was found.
    pub fn dead(&self, dead: Dead) {
        self.push(Event::Dead(dead));
    }

    /// A fault was injected.
    pub fn fault(&self, what: &str) {
        self.push(Event::Fault { at: self.now(), what: what.to_owned() });
    }

    /// Everything recorded.
    pub fn finish(self) -> History {
        History { events: whole(self.events), bodies: whole(self.bodies) }
    }
}

/// A whole history.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// The events, in the order in which they were recorded.
    pub events: Vec<Event>,
    /// The hash of each message's value as sent.
    pub bodies: BTreeMap<RecordId, u64>,
}

impl History {
    /// Writes one JSON object per line, for a person who looks for the cause of a violation.
    pub fn write(&self, path: &Path) -> std::io::Result<()> {
        let mut file = std::io::BufWriter::new(std::fs::File::create(path)?);
        for event in &self.events {
            writeln!(file, "{}", to_json(event))?;
        }
        file.flush()
    }
}

fn to_json(event: &Event) -> Value {
    let name = |id: &RecordId| json!([id.producer, id.seq]);
    let lease = |lease: &LeaseId| json!([lease.at.0, lease.at.1, lease.attempt]);
    match event {
        Event::Send { op, at, messages } => {
            let sent = |m: &Sent| json!({"id": name(&m.id), "key": m.key, "delay_ms": m.delay.as_millis() as u64, "once": m.once});
            json!({"type": "invoke", "f": "q_send", "op_id": op, "t_ns": at, "messages": messages.iter().map(sent).collect::<Value>()})
        }
        Event::Receive { op, at, lease, drain } => {
            json!({"type": "invoke", "f": if *drain { "final_drain" } else { "receive" }, "op_id": op, "t_ns": at, "lease_ms": lease.as_millis() as u64})
        }
        Event::Settle { op, at, verb, leases } => {
            json!({"type": "invoke", "f": format!("{verb:?}"), "op_id": op, "t_ns": at, "leases": leases.iter().map(lease).collect::<Value>()})
        }
        Event::End { op, at, end } => {
            let (class, told) = match end {
                End::Stored(places) => ("ok", json!(places)),
                End::Delivered(got) => {
                    ("ok", got.iter().map(|d| json!({"lease": lease(&d.lease), "id": d.id.as_ref().map(name)})).collect())
                }
                End::Settled(statuses) => ("ok", statuses.iter().map(|status| format!("{status:?}")).collect()),
                End::Fail => ("fail", Value::Null),
                End::Info => ("info", Value::Null),
            };
            json!({"type": class, "op_id": op, "t_ns": at, "told": told})
        }
        Event::Dead(dead) => {
            json!({"type": "dead", "at": dead.at, "id": dead.id.as_ref().map(name), "attempts": dead.attempts, "reason": dead.reason})
        }
        Event::Fault { at, what } => json!({"type": "fault", "t_ns": at, "f": what}),
    }
}
