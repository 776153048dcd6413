//! Which records a replay copies, and what a copy is.

use std::sync::Arc;

use bytes::Bytes;
use lakefall_queue::record::Header;
use lakefall_queue::{Offset, PartitionIndex, Record, StoredRecord, TopicName};

use crate::queues::{Expression, Spoken, without_delivery};

/// The topic that the record was copied from.
const TOPIC: &str = "replay-topic";
/// Its partition there.
const PARTITION: &str = "replay-partition";
/// Its offset there.
const OFFSET: &str = "replay-offset";
/// Records that are looked at before others get their turn: an expression may read a body for milliseconds.
const AT_ONCE: usize = 64;

/// What is copied of what is read.
pub(super) struct Selection {
    pub(super) source: TopicName,
    pub(super) key: Option<Arc<str>>,
    pub(super) filter: Option<Expression>,
}

impl Selection {
    /// The copies of those that match, by their offsets. Of `chosen`, where there is a choice: in offset order.
    pub(super) async fn copies(&self, records: Vec<StoredRecord>, chosen: Option<&[Offset]>, partitions: u32) -> Vec<(Offset, Record)> {
        let mut copies = Vec::new();
        for (at, record) in records.into_iter().enumerate() {
            if at % AT_ONCE == AT_ONCE - 1 {
                tokio::task::yield_now().await;
            }
            if chosen.is_none_or(|chosen| chosen.binary_search(&record.offset).is_ok()) && self.matches(&record) {
                copies.push((record.offset, copy(&self.source, record, partitions)));
            }
        }
        copies
    }

    fn matches(&self, record: &StoredRecord) -> bool {
        self.key.as_ref().is_none_or(|key| record.key.as_deref() == Some(key.as_bytes()))
            && self.filter.as_ref().is_none_or(|filter| filter.matches(&Spoken::new(&self.source, record)))
    }
}

/// A record as it is appended to a topic of so many partitions: what producers said of delivery and repetition no longer holds.
///
/// Its key chooses the partition; without a key it is its old one's number, so that records that had an order keep it.
fn copy(source: &TopicName, record: StoredRecord, partitions: u32) -> Record {
    let origin = [(TOPIC, source.to_string()), (PARTITION, record.partition.to_string()), (OFFSET, record.offset.to_string())];
    let mut headers = record.headers;
    // A copy of a copy tells where it was copied from last.
    headers.retain(|header| origin.iter().all(|(name, _)| *header.name != **name));
    headers.extend(origin.map(|(name, value)| Header { name: name.into(), value: Some(Bytes::from(value)) }));
    Record {
        partition: record.key.is_none().then_some(PartitionIndex(record.partition.0 % partitions.max(1))),
        key: record.key,
        value: record.value,
        kind: record.kind,
        headers,
        timestamp: Some(record.timestamp),
        properties: without_delivery(record.properties),
    }
}
