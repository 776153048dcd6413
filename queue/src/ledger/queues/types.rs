//! What a ledger is told of queues, and what it answers. Pure data.

#![expect(missing_docs, reason = "every type and variant is documented; fields are named after what they hold")]

use std::collections::BTreeMap;
use std::time::Duration;

use crate::id::{BindingName, NamespaceName, Offset, PartitionIndex, QueueId, QueueName, TopicId};
use crate::queue::{Binding, QueueConfig, QueueStart};
use crate::time::Timestamp;
use crate::verbs::{Idempotency, Precondition};

/// Offsets in partitions.
pub type Positions = Vec<(TopicId, PartitionIndex, Offset)>;

/// Creates a queue, or replaces its settings. Its own topic, the dead-letter topic and the queue on that are created with
/// default settings where they are not there; topics that are named must be there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PutQueue {
    pub namespace: NamespaceName,
    pub name: QueueName,
    pub config: QueueConfig,
    /// All bindings besides `config.topics`; `None` leaves them as they are.
    pub bindings: Option<BTreeMap<BindingName, Binding>>,
    /// Where newly bound partitions begin that `config.start` alone does not tell: the gateway looked up its time.
    pub positions: Positions,
    pub condition: Precondition,
    pub idempotency: Option<Idempotency>,
}

/// Moves a queue: whatever is leased, waiting or finished is forgotten, and receipts given out are stale.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeekQueue {
    pub namespace: NamespaceName,
    pub name: QueueName,
    /// For partitions that `positions` does not name; `None` leaves them as they are.
    pub start: Option<QueueStart>,
    pub positions: Positions,
}

/// Says what gateways found in the records, then leases messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReceiveMessages {
    pub queue: QueueId,
    /// The queue's; another one is refused with [`crate::Error::QueueChanged`].
    pub generation: u32,
    /// Of each partition one at most.
    pub classified: Vec<Classified>,
    pub wants: Vec<Want>,
}

/// What one receiver wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Want {
    pub max: u32,
    pub lease: Duration,
    /// Of a receive that names itself: repeated, it gets the same leases.
    pub request: Option<u128>,
}

/// What a gateway found in the records of a partition from `from` to before `to`: those not named are plain messages, ready
/// at once. What was classified before is passed over; where `from` is beyond that, all of it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Classified {
    pub topic: TopicId,
    pub partition: PartitionIndex,
    pub from: Offset,
    pub to: Offset,
    /// Finished for this queue, as they do not match or are expired: (records after `from`, how many), in order.
    pub skipped: Vec<(u32, u32)>,
    /// In order.
    pub marks: Vec<Mark>,
}

/// What a queue must know of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// Records after `from`.
    pub index: u32,
    pub not_before: Option<Timestamp>,
    pub priority: u8,
    /// A hash of its ordering key, in a queue ordered by key.
    pub group: Option<u64>,
}

/// To [`ReceiveMessages`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    pub now: Timestamp,
    /// For each want, in order; oldest first.
    pub grants: Vec<Vec<Grant>>,
    /// Every partition that the queue reads, in order.
    pub partitions: Vec<ScanState>,
    /// Messages that could be leased now, classified ones only.
    pub ready: u64,
    /// No more are leased until some are settled, as `max_in_flight` or the bound on what is kept track of is reached.
    pub held_back: bool,
}

/// Consecutive messages that were leased together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant {
    pub topic: TopicId,
    pub partition: PartitionIndex,
    pub first: Offset,
    pub count: u32,
    /// From 1.
    pub attempt: u32,
    /// Leases before this one that were delivered to nobody.
    pub undelivered: u32,
    pub lease_until: Timestamp,
    /// When they were leased for the first time, to the second; nothing if that was before it was kept.
    pub first_leased: Option<Timestamp>,
}

impl Grant {
    /// How often the messages are delivered with this lease. Beyond the queue's bound on attempts: not to be delivered, but to be
    /// moved to the dead letters by whoever got it.
    pub fn deliveries(&self) -> u32 {
        self.attempt.saturating_sub(self.undelivered)
    }
}

/// How far a queue looked into a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScanState {
    pub topic: TopicId,
    pub partition: PartitionIndex,
    /// Records from here on are to be classified.
    pub scanned: Offset,
    pub end: Offset,
    pub log_start: Offset,
}

/// Settles leases of one queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettleMessages {
    pub queue: QueueId,
    pub generation: u32,
    /// Of the settings that say what is finished for good: while the queue's are newer, nothing is settled
    /// ([`crate::Error::QueueChanged`]). `None` where nothing hangs on them.
    pub version: Option<u64>,
    pub items: Vec<SettleItem>,
}

/// Consecutive messages of one attempt, and what happens to them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SettleItem {
    pub topic: TopicId,
    pub partition: PartitionIndex,
    pub first: Offset,
    pub count: u32,
    pub attempt: u32,
    pub action: SettleAction,
}

/// What happens to a leased message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SettleAction {
    /// Finished.
    Ack,
    /// Given back, to be leased again after the delay.
    Release { delay: Duration },
    /// Given back by who leased it and delivered it to nobody: the lease does not count as a delivery.
    Undelivered { delay: Duration },
    /// Leased for so long from now on; 0 gives it back at once.
    Extend { lease: Duration },
    /// Finished as dead; the dead letter is appended in the same atom, where there is a topic for it.
    Bury,
    /// Finished unless it is leased, whatever the attempt: a delayed message is cancelled.
    Cancel,
}

impl SettleAction {
    /// Whether the lease ends by it and the message stays, to be leased again.
    pub fn gives_back(self) -> bool {
        match self {
            Self::Release { .. } | Self::Undelivered { .. } => true,
            Self::Extend { lease } => lease.as_millis() == 0,
            Self::Ack | Self::Bury | Self::Cancel => false,
        }
    }
}

/// What became of consecutive messages, in the order of the items.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SettledRun {
    pub count: u32,
    pub outcome: SettleOutcome,
}

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SettleOutcome {
    /// Done; also what was acknowledged before, or given back within the last minute.
    Done,
    /// Leased until then.
    Until(Timestamp),
    /// The lease is over, or the message was leased again since.
    Expired,
    /// No such message was ever leased: the queue, the topic or the partition is gone, or not there yet.
    Unknown,
    /// The lease is over, and whether an attempt that got no answer gave it back is not known. No ledger says so: only who asked it twice.
    Doubtful,
}

/// A message that could be received, or will be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peeked {
    pub topic: TopicId,
    pub partition: PartitionIndex,
    pub offset: Offset,
    /// Leases so far.
    pub attempt: u32,
}

/// Messages of a partition that are not finished and that nobody has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FreeMessages {
    pub offsets: Vec<Offset>,
    /// Deliveries so far, of each.
    pub attempts: Vec<u32>,
    /// From here on nothing was looked at; the partition's end when all was, and beyond any where the queue does not read it.
    pub next: Offset,
}

/// How a queue stands, without what only its gateway can tell.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QueueNumbers {
    pub now: Timestamp,
    pub ready: u64,
    pub leased: u64,
    pub delayed: u64,
    pub blocked: u64,
    /// Messages not finished in the queue of dead letters, if there is one.
    pub dead: u64,
    /// Records that came in the last minute.
    pub came: u64,
    /// Messages finished in the last minute, as far as this owner saw it.
    pub finished: u64,
    pub acked_total: u64,
    pub dead_total: u64,
    /// The oldest message of each partition that is not finished.
    pub oldest: Positions,
    /// Bytes that the ledger holds for the queue's messages, about.
    pub state_bytes: u64,
}
