//! What queries need of a gateway: topics as they stand, and the bytes and records of what they are made of.

use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use lakefall_queue::ledger::Extent;
use lakefall_queue::queue::Queue;
use lakefall_queue::topic::{Topic, TopicDescription};
use lakefall_queue::verbs::{Cursor, ObjectRange};
use lakefall_queue::{Offset, PartitionIndex, Result, StoredRecord, TopicName};

/// Consecutive records, portion by portion.
pub type RecordPortions = BoxStream<'static, Result<Vec<StoredRecord>>>;

/// An extent of a snapshot.
#[derive(Clone, Debug)]
pub struct Stored {
    /// Where it is.
    pub extent: Extent,
    /// Its object is a Parquet file, and holds nothing else.
    pub parquet: bool,
}

/// A partition as it stood.
#[derive(Clone, Debug)]
pub struct PartitionSnapshot {
    /// Which one.
    pub partition: PartitionIndex,
    /// The oldest offset.
    pub log_start: Offset,
    /// The offset of the next record.
    pub end: Offset,
    /// All extents that hold offsets from `log_start` to `end`, in their order. The first and the last may reach beyond.
    pub extents: Vec<Stored>,
}

/// A topic as it stood.
#[derive(Clone, Debug)]
pub struct TopicSnapshot {
    /// The topic.
    pub topic: Arc<Topic>,
    /// In order.
    pub partitions: Vec<PartitionSnapshot>,
    /// Its JSON values get columns of their own, also beside those of its Parquet files. Without it they do only while no
    /// file has typed columns.
    pub infer_json: bool,
}

/// A namespace, for one statement.
#[async_trait]
pub trait Source: Send + Sync + 'static {
    /// A topic as it stands now: whatever was acknowledged before the call is in it. What it names stays readable for as long as
    /// statements may take.
    async fn snapshot(&self, topic: &TopicName) -> Result<TopicSnapshot>;

    /// Reads ranges of a Parquet file. `anew` passes by everything that was kept: what came before was damaged.
    async fn read(&self, topic: &Topic, stored: &Stored, ranges: Vec<Range<u64>>, anew: bool) -> Result<Vec<Bytes>>;

    /// Reads the records of an extent that is no Parquet file, from `from` on.
    fn records(&self, topic: Arc<Topic>, partition: PartitionIndex, extent: Extent, from: Offset) -> RecordPortions;

    /// All topics. At most `limit`, then [`lakefall_queue::sql::SqlRefusal::LimitExceeded`]; so are the others.
    async fn topics(&self, limit: usize) -> Result<Vec<TopicDescription>>;

    /// All queues.
    async fn queues(&self, limit: usize) -> Result<Vec<Queue>>;

    /// All cursors, in each topic where they have a position.
    async fn cursors(&self, limit: usize) -> Result<Vec<Cursor>>;

    /// What holds the records of one topic, or of all.
    async fn objects(&self, topic: Option<TopicName>, limit: usize) -> Result<Vec<(TopicName, ObjectRange)>>;
}
