//! A queue's settings, what is told of it, and what is asked of its messages. Pure data: what a filter means is the
//! gateway's, what a lease means is the ledger's.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::admission::Admission;
use crate::error::{Error, Result};
use crate::id::{BindingName, NamespaceName, Offset, PartitionIndex, QueueId, QueueName, TopicId, TopicName};
use crate::record::StoredRecord;
use crate::time::Timestamp;

mod operation;

pub use operation::{Operation, OperationStatus, Redrive};

/// Longest lease, and longest retry backoff.
pub const LEASE_MAX: Duration = Duration::from_secs(12 * 3_600);
/// Longest delay of a message.
pub const DELAY_MAX: Duration = Duration::from_secs(365 * 86_400);
/// Most messages of one receive.
pub const RECEIVE_MAX: u32 = 1_000;
/// Most receipts of one ack, nack, extend or reject, and of one commit.
pub const SETTLE_MAX: usize = 10_000;
/// Priorities: 0 (last, and the default) to 9 (first).
pub const PRIORITIES: u8 = 10;
/// Most bindings of a queue.
pub const BINDINGS_MAX: usize = 1_000;
/// Longest filter expression or pattern, in bytes.
pub const FILTER_MAX_BYTES: usize = 4_096;

/// Where a queue begins in a topic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum QueueStart {
    /// At the log start.
    Earliest,
    /// At the end: only what is sent from now on.
    #[default]
    Latest,
    /// At this offset of every partition.
    Offset(Offset),
    /// At the first record with this timestamp or a later one.
    Time(Timestamp),
}

/// In which order messages are leased.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ordering {
    /// As receivers come: oldest first, but any number of messages at once.
    #[default]
    None,
    /// Messages of one ordering key (else of one key) are leased one at a time, in the order in which they were sent.
    Key,
}

/// What happens to a message that finds its queue full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Overflow {
    /// The send is refused ([`Error::QueueFull`]).
    #[default]
    Reject,
    /// The oldest messages that nobody leases are finished for this queue.
    DropOldest,
    /// The oldest messages that nobody leases become dead letters, soon afterwards. While that does not keep up, sends are refused
    /// from twice the bound on.
    DeadLetter,
}

/// How long a message waits after a nack that names no delay: `min × multiplier^(attempt − 1)`, at most `max`, each time
/// drawn from the range `1 − jitter` to `1` of that.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Retry {
    /// After the first attempt. Default 0: at once.
    #[serde(with = "crate::time::duration")]
    pub min: Duration,
    /// At most. Default 15 min.
    #[serde(with = "crate::time::duration")]
    pub max: Duration,
    /// Growth per attempt, 1 (fixed) to 10. Default 2.
    pub multiplier: f64,
    /// 0 (none) to 1 (anything down to 0). Default 0.2.
    pub jitter: f64,
}

impl Eq for Retry {}

impl Default for Retry {
    fn default() -> Self {
        Self { min: Duration::ZERO, max: Duration::from_secs(900), multiplier: 2.0, jitter: 0.2 }
    }
}

impl Retry {
    /// The wait after attempt number `attempt` (from 1); `draw` is uniform in 0 to 1.
    pub fn delay(&self, attempt: u32, draw: f64) -> Duration {
        let grown = self.min.as_secs_f64() * self.multiplier.powi(attempt.saturating_sub(1).min(1_000) as i32);
        let capped = grown.min(self.max.as_secs_f64());
        Duration::from_secs_f64(capped * (1.0 - self.jitter * draw.clamp(0.0, 1.0)))
    }
}

/// Where messages go that were attempted too often or rejected.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeadLetter {
    /// A topic of the namespace. It is created with the queue if it is not there, and so is a queue of the same name on it,
    /// from which dead letters can be received, redriven and purged.
    pub topic: TopicName,
}

/// What a queue's creator chooses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct QueueConfig {
    /// Topics whose messages all come to this queue. Empty without bindings: an own topic named like the queue, created with
    /// it if it is not there.
    pub topics: Vec<TopicName>,
    /// Where a newly bound topic begins. Default: the end.
    pub start: QueueStart,
    /// How long a receiver has a message to itself. 0 to 12 h, default 30 s.
    #[serde(with = "crate::time::duration")]
    pub lease: Duration,
    /// Leases of a message before it is dead, 1 to 1,000,000. Default: 5 with a dead-letter topic, no bound without.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_attempts: Option<u32>,
    /// The wait after a nack.
    pub retry: Retry,
    /// In which order messages are leased.
    pub ordering: Ordering,
    /// Where dead messages go. Without one they are finished; they stay in their topic's log.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dead_letter: Option<DeadLetter>,
    /// For messages without a delay of their own: not delivered earlier than this after they were sent. 0 to 365 d, default 0.
    #[serde(with = "crate::time::duration")]
    pub delay: Duration,
    /// Messages older than this are finished instead of delivered. Default: never.
    #[serde(with = "crate::time::optional_duration", skip_serializing_if = "Option::is_none")]
    pub ttl: Option<Duration>,
    /// Priorities told apart, 1 (none) to 10: a message's priority counts as at most this less one. Default 10.
    pub priorities: u8,
    /// Messages not finished, at most. Default: no bound.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_depth: Option<u64>,
    /// What happens beyond `max_depth`.
    pub overflow: Overflow,
    /// Messages leased at a time, at most: then receivers wait. Default: no bound.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_in_flight: Option<u64>,
    /// Whether receivers that wait share what there is, instead of first come first served. Default true.
    pub fair: bool,
    /// A CEL expression over `key`, `headers`, `value` and more; messages for which it is not true are finished for this
    /// queue. Checked by the gateway.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub filter: Option<String>,
}

impl Default for QueueConfig {
    fn default() -> Self {
        Self {
            topics: Vec::new(),
            start: QueueStart::default(),
            lease: Duration::from_secs(30),
            max_attempts: None,
            retry: Retry::default(),
            ordering: Ordering::default(),
            dead_letter: None,
            delay: Duration::ZERO,
            ttl: None,
            priorities: PRIORITIES,
            max_depth: None,
            overflow: Overflow::default(),
            max_in_flight: None,
            fair: true,
            filter: None,
        }
    }
}

/// Attempts before a message is dead, where a dead-letter topic is named and no number.
const ATTEMPTS: u32 = 5;

impl QueueConfig {
    /// How often a message may be leased before it is dead.
    pub fn attempts(&self) -> Option<u32> {
        self.max_attempts.or_else(|| self.dead_letter.as_ref().map(|_| ATTEMPTS))
    }

    /// How many messages that are not finished there may be before sends are refused.
    pub fn refused_above(&self) -> Option<u64> {
        match self.overflow {
            Overflow::Reject => self.max_depth,
            Overflow::DeadLetter => self.max_depth.map(|max| max.saturating_mul(2)),
            Overflow::DropOldest => None,
        }
    }

    /// Refuses what is out of bounds. Whether topics exist and filters parse is checked elsewhere.
    pub fn check(&self) -> Result<()> {
        let within = |field: &str, value: Duration, max: Duration, shown: &str| {
            if value <= max { Ok(()) } else { Err(Error::invalid(field, format!("{field} is longer than {shown}"))) }
        };
        within("lease", self.lease, LEASE_MAX, "12h")?;
        within("delay", self.delay, DELAY_MAX, "365d")?;
        within("retry.max", self.retry.max, LEASE_MAX, "12h")?;
        within("retry.min", self.retry.min, self.retry.max, "retry.max")?;
        let checks = [
            ("retry.multiplier", (1.0..=10.0).contains(&self.retry.multiplier), "1 to 10"),
            ("retry.jitter", (0.0..=1.0).contains(&self.retry.jitter), "0 to 1"),
            ("max_attempts", self.max_attempts.is_none_or(|n| (1..=1_000_000).contains(&n)), "1 to 1000000"),
            ("priorities", (1..=PRIORITIES).contains(&self.priorities), "1 to 10"),
            ("max_depth", self.max_depth != Some(0), "1 or more"),
            ("max_in_flight", self.max_in_flight != Some(0), "1 or more"),
            ("ttl", self.ttl != Some(Duration::ZERO), "more than 0"),
            ("filter", self.filter.as_ref().is_none_or(|f| f.len() <= FILTER_MAX_BYTES), "at most 4096 bytes"),
        ];
        if let Some((field, _, allowed)) = checks.into_iter().find(|(_, ok, _)| !ok) {
            return Err(Error::invalid(field, format!("{field} is out of bounds: allowed is {allowed}")));
        }
        if self.overflow == Overflow::DeadLetter && self.dead_letter.is_none() {
            return Err(Error::invalid("overflow", "overflow is dead_letter, but there is no dead-letter topic: name one in dead_letter"));
        }
        if let Some(twice) = self.topics.iter().enumerate().find(|(i, topic)| self.topics[..*i].contains(topic)) {
            return Err(Error::invalid("topics", format!("topic {} occurs twice", twice.1)));
        }
        Ok(())
    }
}

/// Which messages of a topic come to a queue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum Match {
    /// Every message.
    All {},
    /// Those whose routing key is this one. A message's routing key is its header `routing-key`, else its key.
    Exact {
        /// The routing key.
        key: String,
    },
    /// Those whose routing key has this form: words with dots between them, `*` for one word, `#` for any number of words
    /// (AMQP 0-9-1, topic exchange).
    Wildcard {
        /// The form.
        pattern: String,
    },
    /// Those whose headers have these values (AMQP 0-9-1, headers exchange).
    Headers {
        /// Names and values.
        headers: BTreeMap<String, String>,
        /// Whether one of them is enough. Default: all must be there.
        #[serde(default)]
        any: bool,
    },
    /// Those for which this CEL expression is true.
    Expression {
        /// The expression.
        expression: String,
    },
}

/// A topic that sends messages to a queue, and which of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Binding {
    /// The topic.
    pub topic: TopicName,
    /// Which of its messages.
    #[serde(rename = "match")]
    pub matches: Match,
}

/// A queue as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Queue {
    /// Its namespace.
    pub namespace: NamespaceName,
    /// Its name.
    pub name: QueueName,
    /// Its number.
    pub id: QueueId,
    /// Raised by each change of its settings: the ETag.
    pub version: u64,
    /// Raised by each seek and purge: receipts from before are of no use.
    pub generation: u32,
    /// When it was created.
    pub created_at: Timestamp,
    /// Its settings; `topics` names those that are bound whole.
    #[serde(flatten)]
    pub config: QueueConfig,
    /// Its other bindings.
    pub bindings: BTreeMap<BindingName, Binding>,
    /// The topics that it reads, in the order of their ids, each with its name and number of partitions.
    #[serde(skip)]
    pub sources: Vec<Source>,
}

/// A topic that a queue reads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Source {
    /// Its number.
    pub topic: TopicId,
    /// Its name.
    pub name: TopicName,
    /// How many partitions.
    pub partitions: u32,
}

/// Where a queue is to go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SeekTo {
    /// To a place in every topic it reads.
    Start(QueueStart),
    /// To an offset in each of these partitions.
    Offsets(Vec<(TopicName, PartitionIndex, Offset)>),
}

/// What there is in a queue.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct QueueStats {
    /// Messages that could be received now. Those that no gateway has looked at yet count here, also when a filter will not
    /// let them pass or they are delayed.
    pub ready: u64,
    /// Messages that receivers have to themselves.
    pub leased: u64,
    /// Messages that wait for their time: delayed ones, and those after a nack.
    pub delayed: u64,
    /// Of all these, those that wait behind another one of their key.
    pub blocked: u64,
    /// Messages in the dead-letter queue, where there is one.
    pub dead: u64,
    /// How long ago the oldest message that is not finished was sent, in seconds; absent when there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oldest_age_seconds: Option<f64>,
    /// Messages that came per second, over the last minute.
    pub in_rate: f64,
    /// Messages finished per second, over the last minute.
    pub out_rate: f64,
    /// When the queue will be full at these rates, in seconds; absent without `max_depth`, or when it does not grow.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time_to_full_seconds: Option<f64>,
    /// Messages acknowledged since the queue was created.
    pub acked_total: u64,
    /// Messages that became dead since the queue was created.
    pub dead_total: u64,
}

/// What a receiver asks for.
#[derive(Clone, Debug)]
pub struct Receive {
    /// At most this many messages, 1 to [`RECEIVE_MAX`].
    pub max: u32,
    /// At most this many bytes of keys, values and headers, but at least one message.
    pub max_bytes: usize,
    /// How long it has them to itself; the queue's when absent.
    pub lease: Option<Duration>,
    /// How long to wait for a first message.
    pub wait: Duration,
    /// Repeated, it gets the same leases again, as long as they last.
    pub request_id: Option<Arc<str>>,
}

/// A message as a receiver gets it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The topic it lies in.
    pub topic: TopicName,
    /// The record.
    pub record: StoredRecord,
    /// Names this lease; absent when peeked at.
    pub receipt: Option<Arc<str>>,
    /// How often it was leased, this time included; when peeked at, so far.
    pub attempt: u32,
    /// Until when it is leased; absent when peeked at.
    pub lease_until: Option<Timestamp>,
    /// When it was leased for the first time, to the second; absent when peeked at, and where it is not known.
    pub first_leased_at: Option<Timestamp>,
}

/// What a receiver gets.
#[derive(Debug, Default)]
pub struct Delivery {
    /// In the order in which they were leased.
    pub messages: Vec<Message>,
    /// The room that the answer occupies; to be held until it was sent.
    pub admission: Admission,
}

/// What a receiver says of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Done with it.
    Ack,
    /// Not done: to be delivered again, after `delay` or as the queue's `retry` says.
    Nack {
        /// 0 to 365 d.
        delay: Option<Duration>,
        /// Goes with it when it becomes a dead letter. At most 1,024 bytes.
        reason: Option<String>,
    },
    /// Never to be delivered again: to the dead letters at once.
    Reject {
        /// Goes with it. At most 1,024 bytes.
        reason: Option<String>,
    },
    /// Keep it for so long from now on; 0 gives it back.
    Extend {
        /// 0 to 12 h.
        lease: Duration,
    },
}

/// A receipt and what is to happen to its message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settlement {
    /// As it was received.
    pub receipt: Arc<str>,
    /// What is to happen.
    pub verdict: Verdict,
}

/// Receipts of one queue in an atomic commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueSettlements {
    /// The queue.
    pub queue: QueueName,
    /// What is to happen.
    pub settlements: Vec<Settlement>,
}

/// What became of a settlement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Settled {
    /// Done; after an extension, until when it is leased.
    Ok(Option<Timestamp>),
    /// The lease is over, or the message was leased again since: nothing changed.
    Expired,
    /// The receipt is of another queue of this namespace, or of none: nothing changed.
    Unknown,
    /// Not a receipt that this service gave out: nothing changed.
    Forged,
    /// The message may or may not have been settled, or was not for another reason: settle it again.
    Failed(Error),
}

/// Streams leases to one receiver.
#[async_trait::async_trait]
pub trait Consumer: Send {
    /// The next messages: at least one, unless `wait` passes first. Never leaves more than the credit unsettled.
    async fn next(&mut self, wait: Duration) -> Result<Delivery>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_retry_grows_by_its_multiplier_up_to_its_cap_and_jitter_only_shortens_it() {
        let retry = Retry { min: Duration::from_secs(1), max: Duration::from_secs(10), multiplier: 2.0, jitter: 0.5 };
        let waits: Vec<u64> = (1..=6).map(|attempt| retry.delay(attempt, 0.0).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 10, 10]);
        assert_eq!(retry.delay(6, 1.0), Duration::from_secs(5));
        assert_eq!(retry.delay(u32::MAX, 0.0), Duration::from_secs(10));
    }

    #[test]
    fn settings_out_of_bounds_are_refused_by_name() {
        let mut config = QueueConfig { lease: Duration::from_secs(43_201), ..QueueConfig::default() };
        assert!(matches!(config.check(), Err(Error::Invalid { field, .. }) if field == "lease"));
        config = QueueConfig { priorities: 11, ..QueueConfig::default() };
        assert!(matches!(config.check(), Err(Error::Invalid { field, .. }) if field == "priorities"));
        assert_eq!(QueueConfig::default().check(), Ok(()));
    }
}
