//! Commands to give a shard, short to write. Knows no store.

use std::time::Duration;

use lakefall_queue::ledger::{Command, ProposedExtent, SegmentCommit, Slice};
use lakefall_queue::topic::TopicConfig;
use lakefall_queue::verbs::Precondition;
use lakefall_queue::{NamespaceName, PartitionIndex, SegmentId, ShardId, Timestamp, TopicId, TopicName};

pub(crate) const SHARD: ShardId = ShardId(0);
pub(crate) const P0: PartitionIndex = PartitionIndex(0);
pub(crate) const START: Timestamp = Timestamp::from_millis(1_700_000_000_000);

pub(crate) fn ns() -> NamespaceName {
    NamespaceName::default_name()
}

pub(crate) fn topic_name(name: &str) -> TopicName {
    TopicName::new(name).unwrap()
}

pub(crate) fn put_topic(name: &str, partitions: u32) -> Command {
    put_topic_in(ns(), name, partitions)
}

pub(crate) fn put_topic_in(namespace: NamespaceName, name: &str, partitions: u32) -> Command {
    let config = TopicConfig { partitions, dedup_window: Duration::from_secs(60), ..TopicConfig::default() };
    Command::PutTopic { namespace, name: topic_name(name), config, condition: Precondition::Always, idempotency: None }
}

/// The `number`th segment, minted at [`START`].
pub(crate) fn segment(number: u64) -> SegmentId {
    SegmentId::mint(START, u128::from(number) << 64)
}

/// Commits one slice in a segment of its own.
pub(crate) fn commit_slice(number: u64, topic: TopicId, partition: PartitionIndex, slice: Slice) -> Command {
    let extents = vec![ProposedExtent { topic, partition, position: 16, slices: vec![slice] }];
    Command::Commit(SegmentCommit { segment: segment(number), size: 1_000_000, extents, atoms: Vec::new() })
}

/// Commits so many records of 100 bytes each, whose timestamps are the segment's number.
pub(crate) fn commit(number: u64, topic: TopicId, records: u32) -> Command {
    let at = Timestamp::from_millis(number as i64);
    commit_slice(number, topic, P0, Slice { length: records * 100, records, first_timestamp: at, max_timestamp: at, ..Slice::default() })
}
