//! The one trait that protocol rooms call. A room turns its wire into these verbs and these answers back into its
//! wire; storage, order, admission and policy are behind the trait.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

pub use crate::admission::Admission;
use crate::error::Result;
pub use crate::fetched::{Fetched, Position};
use crate::id::{BindingName, CursorName, NamespaceName, Offset, PartitionIndex, QueueName, SegmentId, TopicName};
use crate::ledger::ObjectLevel;
use crate::limits::Limits;
use crate::queue::{
    Binding, Consumer, Delivery, Operation, Queue, QueueConfig, QueueSettlements, QueueStats, Receive, Redrive, SeekTo, Settled, Settlement,
};
use crate::record::{Record, StoredRecord};
use crate::replay::Replay;
use crate::schema::SchemaVerbs;
use crate::sql::{Rows, Statement};
use crate::time::Timestamp;
use crate::topic::{Topic, TopicConfig, TopicDescription};
use crate::trace::TraceContext;
use crate::usage::UsageVerbs;

/// On whose behalf a verb is called.
#[derive(Clone, Debug)]
pub struct Caller {
    /// The tenant; from the credential, never from a body.
    pub namespace: NamespaceName,
    /// Joins the answer and the logs.
    pub request_id: Arc<str>,
    /// The span that the verb is called in; absent where the request is not traced.
    pub trace: Option<TraceContext>,
}

/// A client's key for a request, and what the request was: the same key with another fingerprint is a conflict.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Idempotency {
    /// 1 to 255 visible ASCII characters.
    pub key: Arc<str>,
    /// A hash of method, path, options and body.
    pub fingerprint: u128,
}

/// Where an idempotent producer's batch stands. Sequences count records, per producer and partition, from 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProducerStamp {
    /// The producer's own name, 1 to 255 bytes.
    pub id: Arc<str>,
    /// Raised by each new instance of the producer, whose sequence starts at 0 again.
    pub epoch: u32,
    /// The sequence of the batch's first record.
    pub sequence: u64,
}

/// Names a pipelined stream whose batches must commit in the order in which `append` was called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OrderToken(pub u64);

/// Records for one topic, and on what condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicAppend {
    /// Where to.
    pub topic: TopicName,
    /// At least one.
    pub records: Vec<Record>,
    /// For all records that name no partition themselves.
    pub partition: Option<PartitionIndex>,
    /// Append only if the partition's end is here. All records must go to one partition.
    pub expect_offset: Option<Offset>,
    /// Refused when a higher token was seen in the partition. All records must go to one partition.
    pub fencing_token: Option<u64>,
    /// All records must go to one partition.
    pub producer: Option<ProducerStamp>,
}

impl TopicAppend {
    /// Unconditional records, each going where its key or the gateway's choice leads.
    pub fn new(topic: TopicName, records: Vec<Record>) -> Self {
        Self { topic, records, partition: None, expect_offset: None, fencing_token: None, producer: None }
    }

    /// The same settings for other records.
    pub fn clone_settings(&self) -> Self {
        Self {
            topic: self.topic.clone(),
            records: Vec::new(),
            partition: self.partition,
            expect_offset: self.expect_offset,
            fencing_token: self.fencing_token,
            producer: self.producer.clone(),
        }
    }
}

/// One produce request.
#[derive(Debug)]
pub struct Append {
    /// What to append.
    pub batch: TopicAppend,
    /// All partitions or none.
    pub atomic: bool,
    /// Replays the first answer for 24 hours.
    pub idempotency: Option<Idempotency>,
    /// Orders the batches of a pipelined stream.
    pub order: Option<OrderToken>,
    /// The buffer room that the records occupy; held until they are stored.
    pub admission: Admission,
}

/// Consecutive records of a request that got consecutive offsets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AckRange {
    /// Where they are.
    pub partition: PartitionIndex,
    /// The offset of the first.
    pub first_offset: Offset,
    /// How many.
    pub count: u32,
    /// Stored by an earlier request; these are the earlier offsets.
    pub duplicate: bool,
}

/// The answer to one [`TopicAppend`]: durable and ordered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Appended {
    /// In the order of the records.
    pub ranges: Vec<AckRange>,
    /// The end after the append, where all records went to one partition.
    pub end: Option<Offset>,
}

/// A cursor's new positions in one topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CursorMove {
    /// The cursor.
    pub cursor: CursorName,
    /// The topic.
    pub topic: TopicName,
    /// Next offset to read, per partition. Partitions not named stay where they are.
    pub offsets: Vec<(PartitionIndex, Offset)>,
    /// Only if the cursor is at this version; 0 means that it must not exist.
    pub if_version: Option<u64>,
}

/// Many appends and cursor moves, all or nothing.
#[derive(Debug)]
pub struct Commit {
    /// Any topics of the namespace; a topic may occur once.
    pub appends: Vec<TopicAppend>,
    /// Any cursors of the namespace.
    pub cursors: Vec<CursorMove>,
    /// Leases of any queues of the namespace; a queue may occur once. One that is over refuses everything.
    pub settlements: Vec<QueueSettlements>,
    /// Replays the first answer for 24 hours.
    pub idempotency: Option<Idempotency>,
    /// The buffer room that the records occupy.
    pub admission: Admission,
}

/// Where to begin in one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// This offset. Below the log start is an error; beyond the end is an empty answer.
    Offset(Offset),
    /// The first record with this timestamp or a later one; the end if there is none.
    Timestamp(Timestamp),
    /// The log start.
    Earliest,
    /// The end.
    Latest,
    /// This many records before the end.
    Last(u64),
}

/// What to read, and how much of it.
#[derive(Clone, Debug)]
pub struct Read {
    /// The topic.
    pub topic: TopicName,
    /// Where to begin; partitions not named are not read. Served in this order, fairly: see [`Fetched::next`].
    pub from: Vec<(PartitionIndex, Start)>,
    /// At most this many records.
    pub max_records: usize,
    /// At most this many bytes of keys, values and headers, but at least one record.
    pub max_bytes: usize,
    /// Stop before this offset, in every partition.
    pub until_offset: Option<Offset>,
    /// Stop before the first record with this timestamp or a later one.
    pub until_timestamp: Option<Timestamp>,
    /// How long to wait for a first record.
    pub wait: Duration,
}

/// Work for [`Verbs::aside`].
pub type Work = Box<dyn FnOnce() + Send>;

/// A condition on a resource's version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precondition {
    /// None.
    Always,
    /// It must not exist (`If-None-Match: *`).
    Absent,
    /// It must exist (`If-Match: *`).
    Present,
    /// It must be at this version (`If-Match: "…"`).
    Version(u64),
}

/// A part of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<T> {
    /// In name order.
    pub items: Vec<T>,
    /// Pass it back as `after` to go on; absent at the end.
    pub next: Option<String>,
}

/// Which part of a list.
#[derive(Clone, Debug, Default)]
pub struct PageRequest {
    /// Only names after this one.
    pub after: Option<String>,
    /// At most this many.
    pub limit: usize,
}

/// A namespace.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Namespace {
    /// Its name.
    pub name: NamespaceName,
    /// Raised by each change: the ETag.
    pub version: u64,
    /// When it was created.
    pub created_at: Timestamp,
    /// Free text for people.
    pub description: String,
}

/// A named consumer position in one topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// Its name.
    pub name: CursorName,
    /// The topic.
    pub topic: TopicName,
    /// Raised by each move: the ETag.
    pub version: u64,
    /// When it moved last.
    pub updated_at: Timestamp,
    /// Each partition it has a position in, in order.
    pub positions: Vec<CursorPosition>,
}

/// A cursor's position in one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CursorPosition {
    /// The partition.
    pub partition: PartitionIndex,
    /// Next offset to read.
    pub offset: Offset,
    /// Records between it and the end.
    pub lag: u64,
}

/// An object that holds records of a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectRange {
    /// The object.
    pub object: SegmentId,
    /// Its kind.
    pub level: ObjectLevel,
    /// Its key in the bucket.
    pub key: String,
    /// The partition.
    pub partition: PartitionIndex,
    /// The first offset.
    pub first_offset: Offset,
    /// How many offsets it covers: as many records, but for what key compaction took out.
    pub records: u64,
    /// Where its bytes begin in the object.
    pub position: u64,
    /// How many bytes.
    pub length: u64,
    /// When the commit was journaled.
    pub appended_at: Timestamp,
}

/// A question that is sent to a topic and answered on another.
#[derive(Debug)]
pub struct Request {
    /// Where to.
    pub topic: TopicName,
    /// The record; it gets a correlation id if it has none, and `reply_to`.
    pub record: Record,
    /// Where the answer is awaited: the first record there with the same correlation id. The topic named by the record's
    /// `reply_to`, else `<topic>.replies`, which is created if it is not there.
    pub reply_to: Option<TopicName>,
    /// How long to wait for it.
    pub wait: Duration,
    /// The buffer room that the record occupies.
    pub admission: Admission,
}

/// Everything that a room may ask of Lakefall.
///
/// Every verb is cancel-safe for the caller: dropping the future never leaves a half-done change, but a change that
/// was handed over may still be applied.
#[async_trait]
pub trait Verbs: SchemaVerbs + UsageVerbs + Send + Sync + 'static {
    /// The limits that rooms enforce while parsing, as they are now.
    fn limits(&self) -> Arc<Limits>;

    /// Room for `bytes` in the ingest buffer, before they are read. Waits briefly, then [`crate::Error::Unavailable`].
    async fn admit(&self, caller: &Caller, bytes: usize) -> Result<Admission>;

    /// A token for a new pipelined stream.
    fn open_stream(&self) -> OrderToken;

    /// Appends records to one topic. The answer means: stored and ordered, durably.
    ///
    /// With an [`OrderToken`], calls take their place in the order in which their futures are first polled.
    async fn append(&self, caller: &Caller, append: Append) -> Result<Appended>;

    /// Appends and moves cursors, all or nothing. Answers in the order of `appends`.
    async fn commit(&self, caller: &Caller, commit: Commit) -> Result<Vec<Appended>>;

    /// Reads records.
    async fn read(&self, caller: &Caller, read: Read) -> Result<Fetched>;

    /// Does work that can wait and takes some milliseconds, so that it takes no time from those who serve the tail. Without a place for
    /// such work it is done on the spot.
    async fn aside(&self, work: Work) -> Result<()> {
        work();
        Ok(())
    }

    /// Resolves `at` to an offset in every partition (or the one named).
    async fn offsets(&self, caller: &Caller, topic: &TopicName, partition: Option<PartitionIndex>, at: Start) -> Result<Vec<Position>>;

    /// Forgets records below `before` (all partitions, or the one named). Answers the log starts.
    async fn trim(&self, caller: &Caller, topic: &TopicName, partition: Option<PartitionIndex>, before: Offset) -> Result<Vec<Position>>;

    /// Creates a topic, or replaces its settings. The flag tells whether it was created.
    async fn put_topic(
        &self,
        caller: &Caller,
        name: &TopicName,
        config: TopicConfig,
        condition: Precondition,
        idempotency: Option<Idempotency>,
    ) -> Result<(Topic, bool)>;

    /// A topic and its partitions.
    async fn describe_topic(&self, caller: &Caller, name: &TopicName) -> Result<TopicDescription>;

    /// The caller's topics by name.
    async fn list_topics(&self, caller: &Caller, page: PageRequest) -> Result<Page<Topic>>;

    /// Deletes a topic and, in time, its records.
    async fn delete_topic(&self, caller: &Caller, name: &TopicName, condition: Precondition) -> Result<()>;

    /// Which objects hold which offsets.
    async fn objects(
        &self,
        caller: &Caller,
        topic: &TopicName,
        partition: PartitionIndex,
        from: Offset,
        limit: usize,
    ) -> Result<Vec<ObjectRange>>;

    /// Moves a cursor.
    async fn put_cursor(&self, caller: &Caller, change: CursorMove) -> Result<Cursor>;

    /// A cursor in every topic where it has a position.
    async fn get_cursor(&self, caller: &Caller, cursor: &CursorName) -> Result<Vec<Cursor>>;

    /// The caller's cursors by name.
    async fn list_cursors(&self, caller: &Caller, page: PageRequest) -> Result<Page<Cursor>>;

    /// Forgets a cursor, in one topic or everywhere.
    async fn delete_cursor(&self, caller: &Caller, cursor: &CursorName, topic: Option<&TopicName>) -> Result<()>;

    /// Creates a namespace or replaces its description. The flag tells whether it was created. Not bound to the caller's own namespace.
    async fn put_namespace(
        &self,
        caller: &Caller,
        name: &NamespaceName,
        description: String,
        condition: Precondition,
    ) -> Result<(Namespace, bool)>;

    /// A namespace.
    async fn get_namespace(&self, caller: &Caller, name: &NamespaceName) -> Result<Namespace>;

    /// All namespaces by name.
    async fn list_namespaces(&self, caller: &Caller, page: PageRequest) -> Result<Page<Namespace>>;

    /// Deletes an empty namespace.
    async fn delete_namespace(&self, caller: &Caller, name: &NamespaceName, condition: Precondition) -> Result<()>;

    /// Creates a queue, with its own topic where none is named, or replaces its settings. The flag tells whether it was created.
    async fn put_queue(
        &self,
        caller: &Caller,
        name: &QueueName,
        config: QueueConfig,
        condition: Precondition,
        idempotency: Option<Idempotency>,
    ) -> Result<(Queue, bool)>;

    /// A queue.
    async fn describe_queue(&self, caller: &Caller, name: &QueueName) -> Result<Queue>;

    /// The caller's queues by name.
    async fn list_queues(&self, caller: &Caller, page: PageRequest) -> Result<Page<Queue>>;

    /// Deletes a queue. Its topics stay.
    async fn delete_queue(&self, caller: &Caller, name: &QueueName, condition: Precondition) -> Result<()>;

    /// Adds or replaces a binding. The flag tells whether it was added.
    async fn put_binding(&self, caller: &Caller, queue: &QueueName, id: &BindingName, binding: Binding) -> Result<(Queue, bool)>;

    /// Takes a binding away. A topic that nothing binds any more is no longer read.
    async fn delete_binding(&self, caller: &Caller, queue: &QueueName, id: &BindingName) -> Result<Queue>;

    /// Moves a queue: everything it knew of its messages is forgotten. To [`crate::queue::QueueStart::Latest`], that is purging it.
    async fn seek_queue(&self, caller: &Caller, queue: &QueueName, to: SeekTo) -> Result<Queue>;

    /// How a queue stands.
    async fn queue_stats(&self, caller: &Caller, queue: &QueueName) -> Result<QueueStats>;

    /// The topic that messages sent to the queue go to: its own, or the only one that it reads.
    async fn queue_topic(&self, caller: &Caller, queue: &QueueName) -> Result<TopicName>;

    /// Leases messages.
    async fn receive(&self, caller: &Caller, queue: &QueueName, receive: Receive) -> Result<Delivery>;

    /// Leases messages to one receiver as they come, at most `credit` (1 to [`crate::queue::RECEIVE_MAX`]) that are not settled.
    async fn consume(&self, caller: &Caller, queue: &QueueName, credit: u32, lease: Option<Duration>) -> Result<Box<dyn Consumer>>;

    /// Settles leases, each by itself. Answers in the order given.
    async fn settle(&self, caller: &Caller, queue: &QueueName, settlements: Vec<Settlement>) -> Result<Vec<Settled>>;

    /// The next messages, without leasing them.
    async fn peek(&self, caller: &Caller, queue: &QueueName, max: u32) -> Result<Delivery>;

    /// Finishes a message that nobody has leased: a delayed one is cancelled.
    async fn cancel_message(
        &self,
        caller: &Caller,
        queue: &QueueName,
        topic: &TopicName,
        partition: PartitionIndex,
        offset: Offset,
    ) -> Result<()>;

    /// Puts dead letters back. Goes on by itself.
    async fn redrive(&self, caller: &Caller, queue: &QueueName, redrive: Redrive) -> Result<Operation>;

    /// Copies a range of a topic into another one. Goes on by itself; the same replay started again goes on where it was left.
    async fn replay(&self, caller: &Caller, replay: Replay) -> Result<Operation>;

    /// How an operation stands.
    async fn operation(&self, caller: &Caller, id: &str) -> Result<Operation>;

    /// Stops an operation.
    async fn cancel_operation(&self, caller: &Caller, id: &str) -> Result<Operation>;

    /// Sends a request and waits for its reply.
    async fn request(&self, caller: &Caller, request: Request) -> Result<(TopicName, StoredRecord)>;

    /// Answers a statement of SQL from one snapshot of each topic that it names.
    async fn sql(&self, caller: &Caller, statement: Statement) -> Result<Box<dyn Rows>>;
}
