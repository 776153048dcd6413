//! Copies of a range of a topic into another one, as they are asked for. Pure data: how far a replay came, two cursors tell.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::id::{Offset, PartitionIndex, QueueName, ReplayName, TopicName};
use crate::time::Timestamp;

/// Longest name of a replay, in bytes: the names of its cursors are longer.
pub const REPLAY_NAME_MAX_BYTES: usize = 200;

/// What to copy, and where to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replay {
    /// Tells it from others: the same request under the same name goes on where it was left.
    pub name: ReplayName,
    /// What to copy.
    pub from: ReplaySource,
    /// Where to.
    pub to: ReplayTarget,
    /// At most this many records per second.
    pub max_per_second: Option<u32>,
    /// Only count.
    pub dry_run: bool,
}

/// Which records of a topic are copied: those that all of this holds for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplaySource {
    /// The topic.
    pub topic: TopicName,
    /// From here on.
    pub start: ReplayStart,
    /// Up to here.
    pub end: ReplayEnd,
    /// Only of this partition.
    pub partition: Option<PartitionIndex>,
    /// Only those with this key.
    pub key: Option<Arc<str>>,
    /// Only those for which this CEL expression is true.
    pub filter: Option<Arc<str>>,
    /// Only those for which this SQL predicate over the topic's table is true.
    pub predicate: Option<Arc<str>>,
}

/// Where a replay begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReplayStart {
    /// At the log start.
    #[default]
    Earliest,
    /// At this offset, of one partition.
    Offset(Offset),
    /// At the first record with this timestamp or a later one.
    Timestamp(Timestamp),
}

/// Where a replay ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReplayEnd {
    /// At the end, as it is when the replay begins.
    #[default]
    Latest,
    /// Before this offset, of one partition.
    Offset(Offset),
    /// Before the first record with this timestamp or a later one.
    Timestamp(Timestamp),
}

/// Where copies go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReplayTarget {
    /// A topic.
    Topic(TopicName),
    /// The topic that messages sent to this queue go to.
    Queue(QueueName),
}
