//! What can happen in a history. Must hold only what clients and the harness saw, never what somebody concludes from it.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::Nanos;

/// Names an operation. Ids rise in the order of the invocations.
pub type OpId = u64;

/// A client that does one thing after the other. After an unknown outcome it goes on under another number.
pub type Process = u32;

/// The name of a topic, a queue or a cursor.
pub type Name = Arc<str>;

/// Names a record: its producer and the producer's count. Every record is sent under an id of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordId {
    /// The producer.
    pub producer: u32,
    /// Its count.
    pub seq: u64,
}

/// How a producer sends, and so what it may expect.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Promise {
    /// A repeated record is stored once: a producer with sequence numbers, or an `Idempotency-Key`.
    pub once: bool,
    /// Many in flight, stored in the order of their counts all the same.
    pub pipelined: bool,
}

/// One event. Its place among the others is the order in which it was written down: what is written before another was
/// invoked happened before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// When. Never earlier than the event before it.
    pub at: Nanos,
    /// What.
    pub what: What,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// Something is about to be asked for.
    Invoke {
        /// Names the operation.
        op: OpId,
        /// Who, where the recorder was told.
        process: Option<Process>,
        /// What.
        call: Call,
    },
    /// It was done.
    Ok {
        /// Names the operation.
        op: OpId,
        /// What came of it.
        answer: Answer,
    },
    /// It was certainly not done.
    Fail {
        /// Names the operation.
        op: OpId,
        /// Why.
        refusal: Refusal,
    },
    /// Nobody knows, and nobody will: the operation stays open to the end of time.
    Info {
        /// Names the operation.
        op: OpId,
    },
    /// A fault was injected.
    Fault {
        /// Its kind.
        name: Name,
        /// Whom it struck.
        target: Option<Name>,
    },
    /// From here on no fault is at work, or may be again.
    Calm(bool),
    /// A dead letter was found at the end.
    Dead {
        /// The queue in which it died.
        queue: Name,
        /// The letter.
        dead: Dead,
    },
    /// The harness looked at the metadata or the bucket.
    Dump(Dump),
}

/// Records for one topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Append {
    /// Where to.
    pub topic: Name,
    /// The partition, where all go to one that the sender chose.
    pub partition: Option<u32>,
    /// What was promised.
    pub promise: Promise,
    /// Only if the partition ends here.
    pub expect: Option<u64>,
    /// Only if no higher token was seen in the partition.
    pub fence: Option<u64>,
    /// The records in order, with the sums of their values.
    pub records: Vec<(RecordId, u64)>,
    /// Their keys: none, or as many as records.
    pub keys: Vec<u64>,
}

impl Append {
    /// Unconditional records without keys.
    pub fn new(topic: Name, promise: Promise, records: Vec<(RecordId, u64)>) -> Self {
        Self { topic, partition: None, promise, expect: None, fence: None, records, keys: Vec::new() }
    }
}

/// A cursor's new positions in one topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CursorMove {
    /// The cursor.
    pub cursor: Name,
    /// The topic.
    pub topic: Name,
    /// Next offset to read, per partition.
    pub offsets: Vec<(u32, u64)>,
}

/// A request to read one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Read {
    /// The topic.
    pub topic: Name,
    /// The reader: continues where it was, unless it seeks.
    pub reader: Process,
    /// Whether this is part of the last, whole read of that reader, after everything else has ended.
    pub last: bool,
    /// Whether the reader goes elsewhere by its own will.
    pub seek: bool,
    /// The partition.
    pub partition: u32,
    /// The first offset.
    pub from: u64,
}

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    /// Store records.
    Send(Append),
    /// All of it or nothing.
    Commit {
        /// Records.
        appends: Vec<Append>,
        /// Cursors.
        moves: Vec<CursorMove>,
        /// Leases that are acknowledged, by queue.
        acks: Vec<(Name, Vec<LeaseId>)>,
    },
    /// Read a partition.
    Read(Read),
    /// Where does a partition end?
    Tail {
        /// The topic.
        topic: Name,
        /// The partition.
        partition: u32,
    },
    /// Where does a cursor stand?
    Cursor {
        /// The cursor.
        cursor: Name,
        /// The topic.
        topic: Name,
        /// Whether everything else has ended.
        last: bool,
    },
    /// Store messages.
    Enqueue {
        /// The queue.
        queue: Name,
        /// The messages, with the sums of their values.
        messages: Vec<(Sent, u64)>,
    },
    /// Lease messages. A request repeated under its `request_id` is the same operation.
    Receive {
        /// The queue.
        queue: Name,
        /// For how long.
        lease: Duration,
        /// Whether this is the last receiver, who takes what is left.
        drain: bool,
    },
    /// Settle leases.
    Settle {
        /// The queue.
        queue: Name,
        /// How.
        verb: Verb,
        /// Which.
        leases: Vec<LeaseId>,
    },
}

/// Consecutive records that lie at consecutive offsets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// The partition.
    pub partition: u32,
    /// The offset of the first.
    pub first: u64,
    /// How many.
    pub count: u32,
}

/// A record as a reader saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Where.
    pub offset: u64,
    /// Which, where the value tells.
    pub id: Option<RecordId>,
    /// The sum of its value.
    pub sum: u64,
}

/// What came of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Stored at these places, in the order of the records.
    Stored(Vec<Run>),
    /// The same for each append of a commit.
    Committed(Vec<Vec<Run>>),
    /// What a reader saw.
    Rows {
        /// In order.
        rows: Vec<Seen>,
        /// The partition's end as told.
        end: u64,
    },
    /// What a reader saw of a partition whose end it was not told.
    Part(Vec<Seen>),
    /// The partition's end.
    End(u64),
    /// A cursor's positions: partition, next offset.
    Positions(Vec<(u32, u64)>),
    /// Messages came.
    Delivered(Vec<Delivered>),
    /// Settled so, in the order of the leases.
    Settled(Vec<Status>),
}

/// Why something was certainly not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// For a reason that says nothing of the state.
    Refused,
    /// The partition ends elsewhere.
    Mismatch {
        /// Here.
        end: u64,
    },
    /// A higher token was seen.
    Fenced {
        /// This.
        current: u64,
    },
    /// The log starts later than was asked for.
    Trimmed {
        /// Here.
        start: u64,
    },
}

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
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
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
    /// The sum of its value.
    pub hash: u64,
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

/// What the harness saw behind the API.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(tag = "of", rename_all = "snake_case", deny_unknown_fields)]
pub enum Dump {
    /// A partition in the ledger.
    Partition {
        /// The topic.
        topic: Name,
        /// The partition.
        partition: u32,
        /// The oldest offset.
        log_start: u64,
        /// The next offset.
        end: u64,
        /// Records that the ledger has committed to it, where it counts them elsewhere than in `end`.
        committed: Option<u64>,
    },
    /// An extent that the ledger refers to.
    Extent {
        /// The topic.
        topic: Name,
        /// The partition.
        partition: u32,
        /// The first offset.
        first: u64,
        /// How many offsets.
        count: u64,
        /// The object that holds it.
        object: Name,
        /// Whether its bytes are there, as long as they should be, and with the right checksum.
        intact: bool,
    },
    /// An object in the bucket that no extent may refer to any more.
    Tombstone {
        /// The object.
        object: Name,
    },
    /// An object that no ledger knows.
    Orphan {
        /// The object.
        object: Name,
        /// How old it is.
        age_ms: u64,
        /// How old it may become: the grace, and how long a sweep may take.
        allowed_ms: u64,
    },
    /// The hash over the records of a range, before something rewrote them and after it.
    Chain {
        /// The topic.
        topic: Name,
        /// The partition.
        partition: u32,
        /// The first offset.
        first: u64,
        /// How many offsets.
        count: u64,
        /// Over what went in.
        before: Name,
        /// Over what came out, read back.
        after: Name,
    },
    /// A session of the database that is idle in a transaction.
    IdleSession {
        /// For so long.
        idle_ms: u64,
    },
}
