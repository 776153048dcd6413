//! Commands, questions, answers and refusals as bytes, for roles that ask a ledger over the network. Format:
//! `proto/asked.proto`, and `proto/ledger.proto` for commands. Pure mapping: it never touches a socket, and hostile bytes
//! are an error, never a panic.

mod answer;
mod failure;
mod query;
mod queues;
mod reply;

use bytes::Bytes;
use prost::Message;

pub use super::codec::Malformed;
use super::codec::{Decoded, command_from_proto, command_to_proto, required, segment_id};
use super::rows::{extent_row, proto};
use super::{Answer, Command, Notice, Query, Reply};
use crate::error::Result as Outcome;
use crate::id::{NamespaceName, PartitionIndex, QueueId, QueueName, TopicId, TopicName};

fn message<M: Message + Default>(bytes: Bytes) -> Decoded<M> {
    M::decode(bytes).map_err(|error| Malformed(error.to_string()))
}

fn bytes_of(message: &impl Message) -> Bytes {
    message.encode_to_vec().into()
}

/// A command as bytes.
pub fn encode_command(command: &Command) -> Bytes {
    bytes_of(&command_to_proto(command))
}

/// The command that [`encode_command`] was given.
pub fn decode_command(bytes: Bytes) -> Result<Command, Malformed> {
    command_from_proto(message(bytes)?)
}

/// A question as bytes. Equal questions are equal bytes.
pub fn encode_query(query: &Query) -> Bytes {
    bytes_of(&query::to_proto(query))
}

/// The question that [`encode_query`] was given.
pub fn decode_query(bytes: Bytes) -> Result<Query, Malformed> {
    query::from_proto(message(bytes)?)
}

/// What became of a command, as bytes.
pub fn encode_reply(outcome: &Outcome<Reply>) -> Bytes {
    use proto::outcome::Kind;
    let kind = match outcome {
        Ok(reply) => Kind::Reply(reply::to_proto(reply)),
        Err(error) => Kind::Failure(failure::to_proto(error)),
    };
    bytes_of(&proto::Outcome { kind: Some(kind) })
}

/// What [`encode_reply`] was given. An error that only a newer program knows is told as [`crate::Error::Unavailable`] or
/// [`crate::Error::Unknown`], whichever is true.
pub fn decode_reply(bytes: Bytes) -> Result<Outcome<Reply>, Malformed> {
    use proto::outcome::Kind;
    match required(message::<proto::Outcome>(bytes)?.kind, "an outcome")? {
        Kind::Reply(reply) => reply::from_proto(reply).map(Ok),
        Kind::Failure(failure) => failure::from_proto(failure).map(Err),
        Kind::Answer(_) => Err(Malformed("an answer to a question instead of a command's reply".to_owned())),
    }
}

/// What became of a question, as bytes.
pub fn encode_answer(outcome: &Outcome<Answer>) -> Bytes {
    use proto::outcome::Kind;
    let kind = match outcome {
        Ok(answer) => Kind::Answer(answer::to_proto(answer)),
        Err(error) => Kind::Failure(failure::to_proto(error)),
    };
    bytes_of(&proto::Outcome { kind: Some(kind) })
}

/// What [`encode_answer`] was given; for unknown errors see [`decode_reply`].
pub fn decode_answer(bytes: Bytes) -> Result<Outcome<Answer>, Malformed> {
    use proto::outcome::Kind;
    match required(message::<proto::Outcome>(bytes)?.kind, "an outcome")? {
        Kind::Answer(answer) => answer::from_proto(answer).map(Ok),
        Kind::Failure(failure) => failure::from_proto(failure).map(Err),
        Kind::Reply(_) => Err(Malformed("a command's reply instead of an answer to a question".to_owned())),
    }
}

/// A notice as a message.
pub fn notice_to_proto(notice: &Notice) -> proto::Notice {
    use proto::notice::Kind;
    let kind = match notice {
        Notice::Appended { topic, partition, extent } => {
            Kind::Appended(proto::Appended { extent: Some(extent_row(*topic, *partition, extent)) })
        }
        Notice::TopicChanged { namespace, name, topic } => {
            Kind::TopicChanged(proto::TopicChanged { namespace: namespace.to_string(), name: name.to_string(), topic: topic.0 })
        }
        Notice::QueueChanged { namespace, name, queue } => {
            Kind::QueueChanged(proto::QueueChanged { namespace: namespace.to_string(), name: name.to_string(), queue: queue.0 })
        }
        Notice::QueueReady { queue } => Kind::QueueReady(queue.0),
        Notice::QueueOver { namespace, name, queue } => {
            Kind::QueueOver(proto::QueueChanged { namespace: namespace.to_string(), name: name.to_string(), queue: queue.0 })
        }
    };
    proto::Notice { kind: Some(kind) }
}

/// The notice that [`notice_to_proto`] was given. `None`: one that only a newer program knows, and who does not know it
/// cannot need it.
pub fn notice_from_proto(wire: proto::Notice) -> Result<Option<Notice>, Malformed> {
    use proto::notice::Kind;
    let Some(kind) = wire.kind else { return Ok(None) };
    Ok(Some(match kind {
        Kind::Appended(appended) => {
            let row = required(appended.extent, "an appended extent")?;
            segment_id(&row.object)?;
            let extent = required(row.to_extent(), "an appended extent")?;
            Notice::Appended { topic: TopicId(row.topic), partition: PartitionIndex(row.partition), extent }
        }
        Kind::TopicChanged(changed) => Notice::TopicChanged {
            namespace: NamespaceName::new(&changed.namespace)?,
            name: TopicName::new(&changed.name)?,
            topic: TopicId(changed.topic),
        },
        Kind::QueueChanged(changed) => Notice::QueueChanged {
            namespace: NamespaceName::new(&changed.namespace)?,
            name: QueueName::new(&changed.name)?,
            queue: QueueId(changed.queue),
        },
        Kind::QueueReady(queue) => Notice::QueueReady { queue: QueueId(queue) },
        Kind::QueueOver(over) => Notice::QueueOver {
            namespace: NamespaceName::new(&over.namespace)?,
            name: QueueName::new(&over.name)?,
            queue: QueueId(over.queue),
        },
    }))
}
