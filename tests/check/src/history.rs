//! What happened, as clients saw it: sends, reads and faults on one monotonic clock. Must never judge: the checker does.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::{Value, json};
use xxhash_rust::xxh3::xxh3_64;

use crate::clock::{Clock, monotonic};

pub use crate::clock::Nanos;

/// Names a record: its producer and the producer's count. Every record is sent under an id of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordId {
    /// The producer.
    pub producer: u32,
    /// Its count.
    pub seq: u64,
}

/// How a producer sends, and so what it may expect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Promise {
    /// A repeated record is stored once: a producer with sequence numbers, or an `Idempotency-Key`.
    pub once: bool,
    /// Many in flight, stored in the order of their counts all the same.
    pub pipelined: bool,
}

/// Names a send.
pub type OpId = u64;

/// One event.
#[derive(Clone, Debug)]
pub enum Event {
    /// Records are about to be sent.
    Invoke {
        /// Names the send.
        op: OpId,
        /// When.
        at: Nanos,
        /// What the producer was promised.
        promise: Promise,
        /// The records, in order.
        ids: Vec<RecordId>,
    },
    /// They were acknowledged, at these places (partition, offset), in the order of the records.
    Ok {
        /// Names the send.
        op: OpId,
        /// When.
        at: Nanos,
        /// Where.
        places: Vec<(u32, u64)>,
    },
    /// They were certainly not stored.
    Fail {
        /// Names the send.
        op: OpId,
    },
    /// Nobody knows: the send stays open for ever.
    Info {
        /// Names the send.
        op: OpId,
    },
    /// A reader read one partition.
    Read {
        /// The reader.
        reader: u32,
        /// Whether this is part of the last, whole read of that reader.
        last: bool,
        /// When it was asked for.
        asked: Nanos,
        /// The partition.
        partition: u32,
        /// The offset asked for.
        from: u64,
        /// What came: offset, id where the value tells one, hash of the value's bytes.
        seen: Vec<(u64, Option<RecordId>, u64)>,
        /// The partition's end as told.
        end: u64,
    },
    /// A fault was injected.
    Fault {
        /// When.
        at: Nanos,
        /// Which.
        what: String,
    },
}

/// What a reader asked for.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    /// The reader.
    pub reader: u32,
    /// Whether this is part of the last, whole read of that reader.
    pub last: bool,
    /// When.
    pub at: Nanos,
    /// The partition.
    pub partition: u32,
    /// The first offset.
    pub from: u64,
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

    /// Records that these bodies are about to be sent.
    pub fn invoke(&self, promise: Promise, records: &[(RecordId, String)]) -> OpId {
        let op = self.ops.fetch_add(1, Ordering::Relaxed);
        lock(&self.bodies).extend(records.iter().map(|(id, body)| (*id, hash(body.as_bytes()))));
        self.push(Event::Invoke { op, at: self.now(), promise, ids: records.iter().map(|(id, _)| *id).collect() });
        op
    }

    /// Records an acknowledgement.
    pub fn ok(&self, op: OpId, places: Vec<(u32, u64)>) {
        self.push(Event::Ok { op, at: self.now(), places });
    }

    /// Records a refusal that changed nothing.
    pub fn fail(&self, op: OpId) {
        self.push(Event::Fail { op });
    }

    /// Records that the outcome is unknown.
    pub fn info(&self, op: OpId) {
        self.push(Event::Info { op });
    }

    /// Records a fault.
    pub fn fault(&self, what: &str) {
        self.push(Event::Fault { at: self.now(), what: what.to_owned() });
    }

    /// Records what a reader saw: offsets with the bytes of their values, and the partition's end as told.
    pub fn read<'v>(&self, asked: Asked, rows: impl IntoIterator<Item = (u64, &'v [u8])>, end: u64) {
        let Asked { reader, last, at, partition, from } = asked;
        let seen = rows.into_iter().map(|(offset, value)| (offset, parse_id(value), hash(value))).collect();
        self.push(Event::Read { reader, last, asked: at, partition, from, seen, end });
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
    /// The hash of each record's bytes as sent.
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
    let ids = |ids: &[RecordId]| ids.iter().map(|id| json!([id.producer, id.seq])).collect::<Value>();
    match event {
        Event::Invoke { op, at, promise, ids: sent } => {
            json!({"type": "invoke", "op_id": op, "t_ns": at, "once": promise.once, "pipelined": promise.pipelined, "ids": ids(sent)})
        }
        Event::Ok { op, at, places } => json!({"type": "ok", "op_id": op, "t_ns": at, "places": places}),
        Event::Fail { op } => json!({"type": "fail", "op_id": op}),
        Event::Info { op } => json!({"type": "info", "op_id": op}),
        Event::Read { reader, last, asked, partition, from, seen, end } => {
            let seen: Vec<Value> =
                seen.iter().map(|(offset, id, _)| json!([offset, id.map(|id| [u64::from(id.producer), id.seq])])).collect();
            json!({"type": "read", "proc": reader, "last": last, "t_ns": asked, "part": partition, "from": from, "end": end, "seen": seen})
        }
        Event::Fault { at, what } => json!({"type": "fault", "t_ns": at, "f": what}),
    }
}

/// A record's value: says who sent it, and is padded to `pad` more bytes that differ from record to record.
pub fn body(id: RecordId, pad: usize) -> String {
    let filler: String =
        (0..pad as u64).map(|at| char::from(b'a' + ((id.seq * 7 + at * at + u64::from(id.producer)) % 26) as u8)).collect();
    format!("{{\"producer\":{},\"seq\":{},\"pad\":\"{filler}\"}}", id.producer, id.seq)
}

fn parse_id(value: &[u8]) -> Option<RecordId> {
    let value: Value = serde_json::from_slice(value).ok()?;
    Some(RecordId { producer: value["producer"].as_u64()?.try_into().ok()?, seq: value["seq"].as_u64()? })
}

/// A fingerprint of a value's bytes.
pub fn hash(bytes: &[u8]) -> u64 {
    xxh3_64(bytes)
}

/// What a mutex holds. Whoever panicked while it held one had pushed or not: what is in it is whole.
pub(crate) fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The same, for good.
pub(crate) fn whole<T>(of: Mutex<T>) -> T {
    of.into_inner().unwrap_or_else(PoisonError::into_inner)
}
