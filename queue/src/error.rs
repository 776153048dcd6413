//! What a verb can answer instead of its result. One variant where the caller would act differently; each tells
//! whether the request certainly did not happen or may have happened.

use std::time::Duration;

use thiserror::Error as ThisError;

use crate::id::{BindingName, CursorName, NamespaceName, Offset, PartitionIndex, QueueName, ReplayName, SegmentId, SubjectName, TopicName};
use crate::sql::SqlRefusal;

/// The result of a verb.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Whether a refused request may have taken effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing changed; sending it again is safe.
    NotApplied,
    /// It may have been applied; repeat it with the same idempotency key, or read to find out.
    Unknown,
}

/// Why a verb was refused.
#[derive(Clone, Debug, PartialEq, Eq, ThisError)]
#[non_exhaustive]
pub enum Error {
    /// An argument is malformed or out of range. Mend the request.
    #[error("{reason}")]
    Invalid {
        /// The argument: a field or parameter name, or a JSON pointer.
        field: String,
        /// What is wrong and what is allowed.
        reason: String,
    },
    /// Something is larger than allowed. Send less.
    #[error("{what} is {actual} bytes: at most {limit} are allowed")]
    TooLarge {
        /// What was measured.
        what: &'static str,
        /// The bound, in bytes.
        limit: u64,
        /// What was sent, in bytes (so far, where it was not read to its end).
        actual: u64,
    },
    /// No such namespace. Create it, or name another.
    #[error("there is no namespace {0}")]
    NamespaceNotFound(NamespaceName),
    /// No such topic. Create it, or name another.
    #[error("there is no topic {0} in this namespace")]
    TopicNotFound(TopicName),
    /// The topic has fewer partitions.
    #[error("topic {topic} has {partitions} partition(s), numbered from 0: there is no partition {partition}")]
    PartitionNotFound {
        /// The topic.
        topic: TopicName,
        /// What was asked for.
        partition: PartitionIndex,
        /// How many there are.
        partitions: u32,
    },
    /// No such cursor.
    #[error("there is no cursor {0} in this namespace")]
    CursorNotFound(CursorName),
    /// The name is taken. Use the one that is there, or another name.
    #[error("{what} {name} exists already")]
    AlreadyExists {
        /// The kind of resource.
        what: &'static str,
        /// Its name.
        name: String,
    },
    /// The namespace still has topics or cursors. Delete them first.
    #[error("namespace {0} is not empty: delete its topics first")]
    NamespaceNotEmpty(NamespaceName),
    /// The resource changed since the version named. Read it again.
    #[error("the resource is at version {actual}, not {expected}")]
    VersionMismatch {
        /// What the caller named.
        expected: u64,
        /// What is there.
        actual: u64,
    },
    /// A conditional append found another end. Read up to it, then decide.
    #[error("partition {partition} ends at {end}, not at {expected}: nothing was appended")]
    OffsetMismatch {
        /// The partition.
        partition: PartitionIndex,
        /// What the caller expected.
        expected: Offset,
        /// The offset of the next append.
        end: Offset,
    },
    /// A newer fencing token was seen. Stop writing: another writer took over.
    #[error("fencing token {token} is older than {current}: another writer took over")]
    Fenced {
        /// What the caller sent.
        token: u64,
        /// The newest one seen.
        current: u64,
    },
    /// A newer epoch of this producer was seen. Stop writing.
    #[error("producer epoch {epoch} is older than {current}: a newer instance of this producer took over")]
    ProducerFenced {
        /// What the caller sent.
        epoch: u32,
        /// The newest one seen.
        current: u32,
    },
    /// A producer's batch came out of turn. Send the missing one first.
    #[error("producer sequence {sequence} came where {expected} was expected")]
    SequenceGap {
        /// What the caller sent.
        sequence: u64,
        /// What the partition waits for.
        expected: u64,
    },
    /// The idempotency key was used for another request. Use a fresh key.
    #[error("this Idempotency-Key was used for a different request in the last 24 hours")]
    IdempotencyConflict,
    /// An earlier request of the same ordered stream was refused, so this one was too.
    #[error("an earlier batch of this stream was refused, so nothing after it is stored: open a new stream")]
    StreamPoisoned,
    /// The offset was trimmed or expired. Go on at the log start.
    #[error("offset {offset} of partition {partition} is below the log start {log_start}: these records are gone")]
    BelowLogStart {
        /// The partition.
        partition: PartitionIndex,
        /// What was asked for.
        offset: Offset,
        /// The oldest offset there is.
        log_start: Offset,
    },
    /// No such queue. Create it, or name another.
    #[error("there is no queue {0} in this namespace")]
    QueueNotFound(QueueName),
    /// No such binding.
    #[error("queue {queue} has no binding {binding}")]
    BindingNotFound {
        /// The queue.
        queue: QueueName,
        /// What was asked for.
        binding: BindingName,
    },
    /// The queue holds as many messages as it may. Send again when some were finished.
    #[error("queue {queue} is full: it holds {max_depth} messages that are not finished")]
    QueueFull {
        /// The queue.
        queue: QueueName,
        /// Its bound.
        max_depth: u64,
    },
    /// All topics that the queue read were deleted. Bind it to another one, or delete it.
    #[error("queue {0} has no topic any more: bind it to one")]
    QueueWithoutTopic(QueueName),
    /// The queue was moved, purged or changed since the caller looked. Look again.
    #[error("queue {0} was changed while the request was under way")]
    QueueChanged(String),
    /// A lease that was to be settled in an atomic commit is over. Nothing was applied: the message goes to another receiver.
    #[error("the lease of offset {offset} of partition {partition} is over: nothing was applied")]
    LeaseOver {
        /// The partition.
        partition: PartitionIndex,
        /// The message.
        offset: Offset,
    },
    /// Not a receipt that this service gave out.
    #[error("this is not a receipt of this service, or it was damaged: pass receipts back as they were received")]
    ReceiptForged,
    /// A receipt of another queue.
    #[error("there is no such receipt in queue {0}")]
    ReceiptNotFound(QueueName),
    /// No such message in the queue, or it is finished.
    #[error("there is no message {0} in this queue that could be cancelled")]
    MessageNotFound(String),
    /// A chain of dead-letter topics would lead back to where it began.
    #[error("the dead letters of queue {queue} would come back to it through {topic}")]
    DeadLetterCycle {
        /// The queue.
        queue: QueueName,
        /// Its dead-letter topic.
        topic: TopicName,
    },
    /// A queue of the name of a dead-letter topic reads other topics. Bind it to that topic, or name another one.
    #[error("queue {queue} does not read topic {topic}: dead letters there would lie where no queue of that name receives them")]
    DeadLetterQueueTaken {
        /// The queue of that name.
        queue: QueueName,
        /// The dead-letter topic.
        topic: TopicName,
    },
    /// The request was sent, and nobody answered in time.
    #[error("no reply came within {waited:?}; the request is at offset {offset} of partition {partition} of topic {topic}")]
    NoReply {
        /// The topic.
        topic: TopicName,
        /// The partition.
        partition: PartitionIndex,
        /// Where the request is.
        offset: Offset,
        /// How long was waited.
        waited: Duration,
    },
    /// No such operation, or it ended long ago.
    #[error("there is no operation {0}")]
    OperationNotFound(String),
    /// No such subject, or no such version of it. Register it, or name another.
    #[error("{}", no_schema(subject, *version))]
    SchemaNotFound {
        /// The subject.
        subject: SubjectName,
        /// The version, where one was asked for.
        version: Option<u32>,
    },
    /// A topic's records are held against it. Change the topic first.
    #[error("the records of topic {topic} are held against subject {subject}: take it from the topic first")]
    SchemaInUse {
        /// The subject.
        subject: SubjectName,
        /// One of the topics.
        topic: TopicName,
    },
    /// The text is no schema of its language, or says what is not taken. Mend it.
    #[error("this schema cannot be used: {0}")]
    SchemaInvalid(Wrong),
    /// The schema may not follow the latest one. Change it, or what the subject asks for.
    #[error("this schema is not compatible with version {version} of subject {subject}")]
    SchemaIncompatible {
        /// The subject.
        subject: SubjectName,
        /// The version that it was compared with.
        version: u32,
        /// Where, in the schema, and why.
        reasons: Vec<Wrong>,
    },
    /// Records do not match their topic's schema; nothing of the request was stored. Mend or leave out those that are named.
    #[error("{}", invalid_records(.0))]
    RecordsInvalid(Vec<InvalidRecord>),
    /// The replay runs, or its cursors are another's. Wait for it, take another name, or delete the cursor named to begin anew.
    #[error("replay {replay}: {reason}")]
    ReplayConflict {
        /// The replay.
        replay: ReplayName,
        /// What is in its way.
        reason: String,
    },
    /// A statement of SQL was refused; why is what tells what to do.
    #[error("{0}")]
    Sql(SqlRefusal),
    /// The server has no room or no way right now; nothing was applied. Repeat after `retry_after`.
    #[error("{reason}")]
    Unavailable {
        /// What is missing.
        reason: String,
        /// When to try again.
        retry_after: Duration,
    },
    /// The request may have been applied. Repeat it with the same idempotency key.
    #[error("{reason}: the request may or may not have been applied")]
    Unknown {
        /// What broke.
        reason: String,
    },
    /// A stored object cannot be read or is damaged. An operator must act; the reader must not skip.
    #[error("stored data cannot be read (object {object}): {reason}")]
    DataUnavailable {
        /// The object.
        object: SegmentId,
        /// What was found.
        reason: String,
    },
    /// A defect in Lakefall. Nothing about it is the caller's doing.
    #[error("internal error: {0}")]
    Internal(String),
}

/// What is wrong with a schema or a value, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrong {
    /// The place, as a JSON pointer; empty for the whole.
    pub pointer: String,
    /// What is wrong.
    pub reason: String,
}

impl std::fmt::Display for Wrong {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.pointer.is_empty() { f.write_str(&self.reason) } else { write!(f, "{}: {}", self.pointer, self.reason) }
    }
}

/// A record that does not match its topic's schema.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidRecord {
    /// Which append of a commit, from 0.
    pub append: Option<usize>,
    /// Which record of the append, from 0.
    pub record: usize,
    /// What is wrong with its value.
    pub wrong: Wrong,
}

fn no_schema(subject: &SubjectName, version: Option<u32>) -> String {
    match version {
        Some(version) => format!("subject {subject} has no version {version}"),
        None => format!("there is no schema under the subject {subject} in this namespace"),
    }
}

fn invalid_records(records: &[InvalidRecord]) -> String {
    match records.first() {
        Some(first) => format!("record {} does not match the topic's schema: {}", first.record + 1, first.wrong),
        None => "a record does not match the topic's schema".to_owned(),
    }
}

impl From<SqlRefusal> for Error {
    fn from(refusal: SqlRefusal) -> Self {
        Self::Sql(refusal)
    }
}

impl Error {
    /// An [`Error::Invalid`].
    pub fn invalid(field: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Invalid { field: field.into(), reason: reason.into() }
    }

    /// An [`Error::Unavailable`] to be tried again after a second.
    pub fn unavailable(reason: impl Into<String>) -> Self {
        Self::Unavailable { reason: reason.into(), retry_after: Duration::from_secs(1) }
    }

    /// An [`Error::Unknown`].
    pub fn unknown(reason: impl Into<String>) -> Self {
        Self::Unknown { reason: reason.into() }
    }

    /// Whether the request may have taken effect.
    pub fn outcome(&self) -> Outcome {
        match self {
            Self::Unknown { .. } | Self::Internal(_) => Outcome::Unknown,
            // The request itself was stored; only the reply is missing.
            Self::NoReply { .. } => Outcome::Unknown,
            Self::Invalid { .. }
            | Self::TooLarge { .. }
            | Self::NamespaceNotFound(_)
            | Self::TopicNotFound(_)
            | Self::PartitionNotFound { .. }
            | Self::CursorNotFound(_)
            | Self::AlreadyExists { .. }
            | Self::NamespaceNotEmpty(_)
            | Self::VersionMismatch { .. }
            | Self::OffsetMismatch { .. }
            | Self::Fenced { .. }
            | Self::ProducerFenced { .. }
            | Self::SequenceGap { .. }
            | Self::IdempotencyConflict
            | Self::StreamPoisoned
            | Self::QueueNotFound(_)
            | Self::BindingNotFound { .. }
            | Self::QueueFull { .. }
            | Self::QueueWithoutTopic(_)
            | Self::QueueChanged(_)
            | Self::LeaseOver { .. }
            | Self::ReceiptForged
            | Self::ReceiptNotFound(_)
            | Self::MessageNotFound(_)
            | Self::DeadLetterCycle { .. }
            | Self::DeadLetterQueueTaken { .. }
            | Self::OperationNotFound(_)
            | Self::ReplayConflict { .. }
            | Self::SchemaNotFound { .. }
            | Self::SchemaInUse { .. }
            | Self::SchemaInvalid(_)
            | Self::SchemaIncompatible { .. }
            | Self::RecordsInvalid(_)
            | Self::Sql(_)
            | Self::BelowLogStart { .. }
            | Self::Unavailable { .. }
            | Self::DataUnavailable { .. } => Outcome::NotApplied,
        }
    }
}
