//! A topic's settings and what is told of it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::id::{NamespaceName, Offset, PartitionIndex, SubjectName, TopicId, TopicName};
use crate::limits::Limits;
use crate::time::Timestamp;

/// How a topic's batches are compressed in segments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Compression {
    /// Stored as it is: for values that are compressed already.
    None,
    /// Faster than zstd, larger.
    Lz4,
    /// Level 1.
    #[default]
    Zstd,
}

/// What happens to old records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cleanup {
    /// Whole objects go when retention says so.
    #[default]
    Delete,
    /// The last value of each key stays.
    Compact,
}

/// How eagerly a topic's records are uploaded: what latency costs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Urgency {
    /// A segment leaves as soon as one of its records is this urgent, whatever the PUT rate says.
    Express,
    /// As soon as a PUT token is free.
    #[default]
    Standard,
    /// Rides along with others, or leaves when the segment is full or a second old.
    Economy,
}

/// How long records are kept; absent means for ever.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Retention {
    /// Records whose extent is older may go.
    #[serde(with = "crate::time::optional_duration", skip_serializing_if = "Option::is_none")]
    pub age: Option<Duration>,
    /// The oldest extents of a partition that holds more may go.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
}

/// Whether and how a topic's records become Parquet files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ParquetConfig {
    /// Compactors turn old segments into Parquet files, which hold the same records at the same offsets.
    pub enabled: bool,
    /// When, at the latest, after a record was appended. 1 s to 7 days.
    #[serde(with = "crate::time::duration")]
    pub max_age: Duration,
    /// The fields of values that are JSON objects become columns too.
    pub infer_json: bool,
}

impl ParquetConfig {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl Default for ParquetConfig {
    fn default() -> Self {
        Self { enabled: true, max_age: Duration::from_secs(300), infer_json: false }
    }
}

/// What happens to a record that does not match its topic's schema.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InvalidRecords {
    /// It is refused, and its request with it.
    #[default]
    Reject,
    /// It is stored and marked.
    Mark,
}

/// The schema that a topic's records are held against.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TopicSchema {
    /// Its latest version counts.
    pub subject: SubjectName,
    /// What happens to records that do not match.
    #[serde(default)]
    pub invalid: InvalidRecords,
}

/// What a topic's creator chooses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TopicConfig {
    /// Parallel total orders; may grow, never shrink.
    pub partitions: u32,
    /// When records may go.
    pub retention: Retention,
    /// What goes.
    pub cleanup: Cleanup,
    /// How batches are stored.
    pub compression: Compression,
    /// How eagerly they are uploaded.
    pub urgency: Urgency,
    /// How long a `dedup_id` is remembered. At most 7 days.
    #[serde(with = "crate::time::duration")]
    pub dedup_window: Duration,
    /// Largest record (key, value and headers); the service's limit when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_record_bytes: Option<u64>,
    /// How it becomes a table; left out where it is the default.
    #[serde(skip_serializing_if = "ParquetConfig::is_default")]
    pub parquet: ParquetConfig,
    /// What its records must look like; anything when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schema: Option<TopicSchema>,
}

impl Default for TopicConfig {
    fn default() -> Self {
        Self {
            partitions: 1,
            retention: Retention::default(),
            cleanup: Cleanup::default(),
            compression: Compression::default(),
            urgency: Urgency::default(),
            dedup_window: Duration::from_secs(300),
            max_record_bytes: None,
            parquet: ParquetConfig::default(),
            schema: None,
        }
    }
}

impl TopicConfig {
    /// Refuses what is out of bounds.
    pub fn check(&self, limits: &Limits) -> Result<()> {
        let record_limit = (limits.value_bytes + limits.key_bytes + limits.header_bytes) as u64;
        if self.partitions == 0 || self.partitions > limits.partitions {
            return Err(Error::invalid("partitions", format!("partitions is {}: allowed is 1 to {}", self.partitions, limits.partitions)));
        }
        if self.dedup_window > Duration::from_secs(7 * 86_400) {
            return Err(Error::invalid("dedup_window", "dedup_window is longer than 7d"));
        }
        if self.max_record_bytes.is_some_and(|bytes| bytes == 0 || bytes > record_limit) {
            return Err(Error::invalid("max_record_bytes", format!("max_record_bytes must be 1 to {record_limit}")));
        }
        if !(Duration::from_secs(1)..=Duration::from_secs(7 * 86_400)).contains(&self.parquet.max_age) {
            return Err(Error::invalid("parquet", "parquet.max_age must be 1s to 7d"));
        }
        if self.retention.bytes == Some(0) || self.retention.age == Some(Duration::ZERO) {
            return Err(Error::invalid("retention", "retention of 0 would keep nothing: leave it out to keep everything"));
        }
        Ok(())
    }
}

/// A topic as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Topic {
    /// Its namespace.
    pub namespace: NamespaceName,
    /// Its name.
    pub name: TopicName,
    /// Its number.
    pub id: TopicId,
    /// Raised by each change: the ETag.
    pub version: u64,
    /// When it was created.
    pub created_at: Timestamp,
    /// Its settings.
    #[serde(flatten)]
    pub config: TopicConfig,
}

/// What one partition holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PartitionStatus {
    /// Which one.
    pub partition: PartitionIndex,
    /// The oldest offset there is.
    pub log_start: Offset,
    /// The offset of the next record.
    pub end: Offset,
    /// Stored bytes (compressed).
    pub bytes: u64,
    /// Extents, each a range of one object.
    pub extents: u64,
}

/// A topic and its partitions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TopicDescription {
    /// The topic.
    #[serde(flatten)]
    pub topic: Topic,
    /// Each partition, in order.
    #[serde(rename = "partition_status")]
    pub status: Vec<PartitionStatus>,
}
