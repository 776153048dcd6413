//! Replies to commands to protobuf and back.

use std::sync::Arc;

use super::super::codec::{Decoded, required, segment_ids, uuid_bytes};
use super::super::queue_codec::{queue_from_proto, queue_to_proto};
use super::super::reply_codec::{reply_from_proto, reply_to_proto};
use super::super::rows::{namespace_from_row, namespace_row, proto, topic_from_row, topic_row};
use super::Reply;
use super::answer::{cursor_from_proto, cursor_to_proto};
use super::queues;

pub(super) fn to_proto(reply: &Reply) -> proto::Reply {
    use proto::reply::Kind;
    let kind = match reply {
        Reply::Namespace(namespace, created) => {
            Kind::Namespace(proto::NamespaceReply { namespace: Some(namespace_row(namespace)), created: *created })
        }
        Reply::Topic(topic, created) => Kind::Topic(proto::TopicReply { topic: Some(topic_row(topic)), created: *created }),
        Reply::Cursor(cursor) => Kind::Cursor(cursor_to_proto(cursor)),
        Reply::Committed(reply) => Kind::Committed(reply_to_proto(reply)),
        Reply::Refused(segments) => Kind::Refused(proto::ObjectIds { ids: segments.iter().copied().map(uuid_bytes).collect() }),
        Reply::Done => Kind::Done(true),
        Reply::Queue(queue, created) => Kind::Queue(proto::QueueReply { queue: Some(queue_to_proto(queue)), created: *created }),
        Reply::Received(received) => Kind::Received(queues::received_to_proto(received)),
        Reply::Settled(runs) => Kind::Settled(queues::settled_to_proto(runs)),
        Reply::Claimed(taken) => Kind::Claimed(proto::Claimed { taken: taken.clone() }),
    };
    proto::Reply { kind: Some(kind) }
}

pub(super) fn from_proto(wire: proto::Reply) -> Decoded<Reply> {
    use proto::reply::Kind;
    Ok(match required(wire.kind, "a reply's kind")? {
        Kind::Namespace(w) => Reply::Namespace(namespace_from_row(required(w.namespace, "a namespace")?)?, w.created),
        Kind::Topic(w) => Reply::Topic(topic_from_row(&required(w.topic, "a topic")?)?, w.created),
        Kind::Cursor(w) => Reply::Cursor(cursor_from_proto(w)?),
        Kind::Committed(w) => Reply::Committed(Arc::new(reply_from_proto(w)?)),
        Kind::Refused(w) => Reply::Refused(segment_ids(&w.ids)?),
        Kind::Done(_) => Reply::Done,
        Kind::Queue(w) => Reply::Queue(Box::new(queue_from_proto(required(w.queue, "a queue")?)?), w.created),
        Kind::Received(w) => Reply::Received(Box::new(queues::received_from_proto(w))),
        Kind::Settled(w) => Reply::Settled(queues::settled_from_proto(w)?),
        Kind::Claimed(w) => Reply::Claimed(w.taken),
    })
}
