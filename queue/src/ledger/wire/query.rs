//! Questions to protobuf and back.

use std::time::Duration;

use bytes::Bytes;

use super::super::codec::{Decoded, required, segment_id, segment_ids, uuid_bytes};
use super::super::queue_codec::{settle_from_proto, settle_to_proto};
use super::super::rows::proto;
use super::super::{schema_codec, usage_codec};
use super::Query;
use crate::id::{CursorName, NamespaceName, Offset, PartitionIndex, QueueId, QueueName, TopicId, TopicName};
use crate::time::Timestamp;
use crate::verbs::PageRequest;

/// What does not fit is as good as no bound.
pub(super) fn count(n: usize) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
}

pub(super) fn size(n: u64) -> usize {
    usize::try_from(n).unwrap_or(usize::MAX)
}

fn page_to_proto(namespace: Option<&NamespaceName>, page: &PageRequest) -> proto::PageRequest {
    proto::PageRequest {
        namespace: namespace.map(ToString::to_string).unwrap_or_default(),
        after: page.after.clone(),
        limit: count(page.limit),
    }
}

fn page_from_proto(wire: proto::PageRequest) -> (String, PageRequest) {
    (wire.namespace, PageRequest { after: wire.after, limit: size(wire.limit) })
}

pub(super) fn to_proto(query: &Query) -> proto::Query {
    use proto::query::Kind;
    let kind = match query {
        Query::Namespace(name) => Kind::Namespace(name.to_string()),
        Query::Namespaces(page) => Kind::Namespaces(page_to_proto(None, page)),
        Query::Topic(namespace, name) => Kind::Topic(proto::TopicName { namespace: namespace.to_string(), name: name.to_string() }),
        Query::Topics(namespace, page) => Kind::Topics(page_to_proto(Some(namespace), page)),
        Query::Partitions(topic) => Kind::Partitions(topic.0),
        Query::Locate { topic, partition, from, max_bytes, max_extents } => Kind::Locate(proto::Locate {
            topic: topic.0,
            partition: partition.0,
            from: from.0,
            max_bytes: *max_bytes,
            max_extents: count(*max_extents),
        }),
        Query::LocateTime { topic, partition, at } => {
            Kind::LocateTime(proto::LocateTime { topic: topic.0, partition: partition.0, at_ms: at.as_millis() })
        }
        Query::Cursor(namespace, name) => Kind::Cursor(proto::CursorName { namespace: namespace.to_string(), name: name.to_string() }),
        Query::Cursors(namespace, page) => Kind::Cursors(page_to_proto(Some(namespace), page)),
        Query::Reclaimable { limit, after, after_object, now, grace } => Kind::Reclaimable(proto::ReclaimableQuery {
            limit: count(*limit),
            after: after.map(|(topic, partition)| proto::PartitionKey { topic: topic.0, partition: partition.0 }),
            after_object: after_object.map(uuid_bytes),
            now_ms: now.as_millis(),
            grace_ms: u64::try_from(grace.as_millis()).unwrap_or(u64::MAX),
        }),
        Query::Compactable { limit, after } => Kind::Compactable(proto::CompactableQuery {
            limit: count(*limit),
            after: after.map(|(topic, partition)| proto::PartitionKey { topic: topic.0, partition: partition.0 }),
        }),
        Query::TopicById(topic) => Kind::TopicById(topic.0),
        Query::Objects(ids) => Kind::Objects(proto::ObjectIds { ids: ids.iter().copied().map(uuid_bytes).collect() }),
        Query::Position => Kind::Position(true),
        Query::Queue(namespace, name) => Kind::Queue(proto::QueueName { namespace: namespace.to_string(), name: name.to_string() }),
        Query::Queues(namespace, page) => Kind::Queues(page_to_proto(Some(namespace), page)),
        Query::QueueNumbers(queue) => Kind::QueueNumbers(queue.0),
        Query::Schema(query) => Kind::Schema(schema_codec::query_to_proto(query)),
        Query::Usage(query) => Kind::Usage(usage_codec::query_to_proto(query)),
        Query::QueuePeek(queue, max) => Kind::QueuePeek(proto::QueuePeek { queue: queue.0, max: *max }),
        Query::QueueLeases(leases) => Kind::QueueLeases(settle_to_proto(leases)),
        Query::QueueFree { queue, topic, partition, from, most } => {
            Kind::QueueFree(proto::QueueFree { queue: queue.0, topic: topic.0, partition: partition.0, from: from.0, most: *most })
        }
    };
    proto::Query { kind: Some(kind) }
}

pub(super) fn from_proto(wire: proto::Query) -> Decoded<Query> {
    use proto::query::Kind;
    Ok(match required(wire.kind, "a question's kind")? {
        Kind::Namespace(name) => Query::Namespace(NamespaceName::new(&name)?),
        Kind::Namespaces(page) => Query::Namespaces(page_from_proto(page).1),
        Kind::Topic(w) => Query::Topic(NamespaceName::new(&w.namespace)?, TopicName::new(&w.name)?),
        Kind::Topics(page) => {
            let (namespace, page) = page_from_proto(page);
            Query::Topics(NamespaceName::new(&namespace)?, page)
        }
        Kind::Partitions(topic) => Query::Partitions(TopicId(topic)),
        Kind::Locate(w) => Query::Locate {
            topic: TopicId(w.topic),
            partition: PartitionIndex(w.partition),
            from: Offset(w.from),
            max_bytes: w.max_bytes,
            max_extents: size(w.max_extents),
        },
        Kind::LocateTime(w) => {
            Query::LocateTime { topic: TopicId(w.topic), partition: PartitionIndex(w.partition), at: Timestamp::from_millis(w.at_ms) }
        }
        Kind::Cursor(w) => Query::Cursor(NamespaceName::new(&w.namespace)?, CursorName::new(&w.name)?),
        Kind::Cursors(page) => {
            let (namespace, page) = page_from_proto(page);
            Query::Cursors(NamespaceName::new(&namespace)?, page)
        }
        Kind::Reclaimable(w) => Query::Reclaimable {
            limit: size(w.limit),
            after: w.after.map(|key| (TopicId(key.topic), PartitionIndex(key.partition))),
            after_object: w.after_object.as_ref().map(|id: &Bytes| segment_id(id)).transpose()?,
            now: Timestamp::from_millis(w.now_ms),
            grace: Duration::from_millis(w.grace_ms),
        },
        Kind::Compactable(w) => {
            Query::Compactable { limit: size(w.limit), after: w.after.map(|key| (TopicId(key.topic), PartitionIndex(key.partition))) }
        }
        Kind::TopicById(topic) => Query::TopicById(TopicId(topic)),
        Kind::Objects(w) => Query::Objects(segment_ids(&w.ids)?),
        Kind::Position(_) => Query::Position,
        Kind::Queue(w) => Query::Queue(NamespaceName::new(&w.namespace)?, QueueName::new(&w.name)?),
        Kind::Queues(page) => {
            let (namespace, page) = page_from_proto(page);
            Query::Queues(NamespaceName::new(&namespace)?, page)
        }
        Kind::QueueNumbers(queue) => Query::QueueNumbers(QueueId(queue)),
        Kind::Schema(w) => Query::Schema(Box::new(schema_codec::query_from_proto(w)?)),
        Kind::Usage(w) => Query::Usage(Box::new(usage_codec::query_from_proto(w)?)),
        Kind::QueuePeek(w) => Query::QueuePeek(QueueId(w.queue), w.max),
        Kind::QueueLeases(w) => Query::QueueLeases(settle_from_proto(w)?),
        Kind::QueueFree(w) => Query::QueueFree {
            queue: QueueId(w.queue),
            topic: TopicId(w.topic),
            partition: PartitionIndex(w.partition),
            from: Offset(w.from),
            most: w.most,
        },
    })
}
