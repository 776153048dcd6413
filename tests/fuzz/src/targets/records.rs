//! Records and queues that several targets look at.

use bytes::Bytes;
use lakefall_queue::queue::{Binding, Match, Queue, QueueConfig, Source};
use lakefall_queue::{
    BindingName, Header, NamespaceName, Offset, PartitionIndex, QueueId, QueueName, ShardId, StoredRecord, Timestamp, TopicId, TopicName,
    ValueKind,
};

/// The topic of all records.
pub(super) const TOPIC: TopicId = TopicId(7);

pub(super) fn topic() -> TopicName {
    TopicName::new("orders").unwrap()
}

/// A record of a JSON value; its second header has bytes that are no text.
pub(super) fn record(key: Option<&[u8]>, value: &[u8]) -> StoredRecord {
    StoredRecord {
        partition: PartitionIndex(3),
        offset: Offset(42),
        timestamp: Timestamp::from_millis(1_000),
        appended_at: Timestamp::from_millis(2_000),
        key: key.map(Bytes::copy_from_slice),
        value: Some(Bytes::copy_from_slice(value)),
        kind: ValueKind::Json,
        headers: vec![
            Header { name: "region".into(), value: Some(Bytes::from_static(b"eu")) },
            Header { name: "raw".into(), value: Some(Bytes::from_static(b"\xff")) },
            Header { name: "none".into(), value: None },
        ],
        properties: None,
    }
}

/// A queue on that topic, with a filter or a binding.
pub(super) fn queue(filter: Option<&str>, matches: Option<Match>) -> Queue {
    let binding = |matches| (BindingName::new("b").unwrap(), Binding { topic: topic(), matches });
    Queue {
        namespace: NamespaceName::default_name(),
        name: QueueName::new("q").unwrap(),
        id: QueueId::new(ShardId(0), 9),
        version: 1,
        generation: 1,
        created_at: Timestamp::from_millis(0),
        config: QueueConfig { filter: filter.map(str::to_owned), ..QueueConfig::default() },
        bindings: matches.map(binding).into_iter().collect(),
        sources: vec![Source { topic: TOPIC, name: topic(), partitions: 4 }],
    }
}
