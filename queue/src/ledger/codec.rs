//! Commands to protobuf and back. Nothing but mapping; names and ids are checked on the way in.

use std::sync::Arc;

use bytes::Bytes;
use thiserror::Error as ThisError;
use uuid::Uuid;

use super::compaction::codec as compaction;
use super::rows::proto;
use super::{Atom, Command, DedupClaim, LayoutRun, ProposedExtent, RetiredExtent, SegmentCommit, Slice, SliceCondition};
use super::{lenient, queue_codec, schema_codec, take_back, usage_codec};
use crate::error::Error;
use crate::id::{CursorName, NamespaceName, Offset, PartitionIndex, QueueName, SegmentId, TopicId, TopicName};
use crate::time::Timestamp;
use crate::topic::TopicConfig;
use crate::verbs::{CursorMove, Idempotency, Precondition, ProducerStamp};

/// What is wrong with stored or sent bytes.
#[derive(Clone, Debug, PartialEq, Eq, ThisError)]
#[error("{0}")]
pub struct Malformed(pub(super) String);

impl From<Error> for Malformed {
    fn from(error: Error) -> Self {
        Self(error.to_string())
    }
}

pub(super) type Decoded<T> = Result<T, Malformed>;

pub(super) fn required<T>(value: Option<T>, what: &str) -> Decoded<T> {
    value.ok_or_else(|| Malformed(format!("{what} is missing")))
}

pub(super) fn uuid_bytes(id: SegmentId) -> Bytes {
    Bytes::copy_from_slice(id.0.as_bytes())
}

pub(super) fn segment_id(bytes: &[u8]) -> Decoded<SegmentId> {
    Uuid::from_slice(bytes).map(SegmentId).map_err(|_| Malformed("an id is not 16 bytes".to_owned()))
}

pub(super) fn hash_bytes(hash: u128) -> Bytes {
    Bytes::copy_from_slice(&hash.to_be_bytes())
}

pub(super) fn hash(bytes: &[u8]) -> Decoded<u128> {
    bytes.try_into().map(u128::from_be_bytes).map_err(|_| Malformed("a hash is not 16 bytes".to_owned()))
}

pub(super) fn config_json(config: &TopicConfig) -> String {
    // A struct of plain fields with string keys: there is nothing that JSON could not hold.
    serde_json::to_string(config).unwrap_or_default()
}

pub(super) fn config_from_json(text: &str) -> Decoded<TopicConfig> {
    lenient::from_json(text).map_err(|e| Malformed(format!("a topic's settings cannot be read: {e}")))
}

pub(super) fn condition_to_proto(condition: Precondition) -> Option<proto::Condition> {
    use proto::condition::Kind;
    let (kind, version) = match condition {
        Precondition::Always => return None,
        Precondition::Absent => (Kind::Absent, 0),
        Precondition::Present => (Kind::Present, 0),
        Precondition::Version(version) => (Kind::Version, version),
    };
    Some(proto::Condition { kind: kind.into(), version })
}

pub(super) fn condition_from_proto(condition: Option<proto::Condition>) -> Decoded<Precondition> {
    use proto::condition::Kind;
    let Some(wire) = condition else { return Ok(Precondition::Always) };
    // Not the generated getter: it takes what it does not know for the first kind.
    Ok(match Kind::try_from(wire.kind).map_err(|e| Malformed(format!("a condition's kind: {e}")))? {
        Kind::Always => Precondition::Always,
        Kind::Absent => Precondition::Absent,
        Kind::Present => Precondition::Present,
        Kind::Version => Precondition::Version(wire.version),
    })
}

pub(super) fn idempotency_to_proto(request: &Idempotency) -> proto::Idempotency {
    proto::Idempotency { key: request.key.to_string(), fingerprint: hash_bytes(request.fingerprint) }
}

pub(super) fn idempotency_from_proto(wire: proto::Idempotency) -> Decoded<Idempotency> {
    Ok(Idempotency { key: wire.key.into(), fingerprint: hash(&wire.fingerprint)? })
}

pub(super) fn offsets_to_proto<'a>(offsets: impl IntoIterator<Item = (&'a PartitionIndex, &'a Offset)>) -> Vec<proto::PartitionOffset> {
    offsets.into_iter().map(|(partition, offset)| proto::PartitionOffset { partition: partition.0, offset: offset.0 }).collect()
}

fn move_to_proto(change: &CursorMove) -> proto::CursorMove {
    proto::CursorMove {
        cursor: change.cursor.to_string(),
        topic: change.topic.to_string(),
        offsets: offsets_to_proto(change.offsets.iter().map(|(p, o)| (p, o))),
        if_version: change.if_version,
    }
}

fn move_from_proto(wire: proto::CursorMove) -> Decoded<CursorMove> {
    Ok(CursorMove {
        cursor: CursorName::new(&wire.cursor)?,
        topic: TopicName::new(&wire.topic)?,
        offsets: wire.offsets.into_iter().map(|o| (PartitionIndex(o.partition), Offset(o.offset))).collect(),
        if_version: wire.if_version,
    })
}

pub(super) fn command_to_proto(command: &Command) -> proto::Command {
    use proto::command::Kind;
    let kind = match command {
        Command::PutNamespace { name, description, condition } => Kind::PutNamespace(proto::PutNamespace {
            name: name.to_string(),
            description: description.clone(),
            condition: condition_to_proto(*condition),
        }),
        Command::DeleteNamespace { name, condition } => {
            Kind::DeleteNamespace(proto::DeleteNamespace { name: name.to_string(), condition: condition_to_proto(*condition) })
        }
        Command::PutTopic { namespace, name, config, condition, idempotency } => Kind::PutTopic(proto::PutTopic {
            namespace: namespace.to_string(),
            name: name.to_string(),
            config_json: config_json(config),
            condition: condition_to_proto(*condition),
            idempotency: idempotency.as_ref().map(idempotency_to_proto),
        }),
        Command::DeleteTopic { namespace, name, condition } => Kind::DeleteTopic(proto::DeleteTopic {
            namespace: namespace.to_string(),
            name: name.to_string(),
            condition: condition_to_proto(*condition),
        }),
        Command::Trim { topic, partition, before } => {
            Kind::Trim(proto::Trim { topic: topic.0, partition: partition.map(|p| p.0), before: before.0 })
        }
        Command::PutCursor { namespace, change } => {
            Kind::PutCursor(proto::PutCursor { namespace: namespace.to_string(), r#move: Some(move_to_proto(change)) })
        }
        Command::DeleteCursor { namespace, cursor, topic } => Kind::DeleteCursor(proto::DeleteCursor {
            namespace: namespace.to_string(),
            cursor: cursor.to_string(),
            topic: topic.as_ref().map(ToString::to_string),
        }),
        Command::Commit(commit) => Kind::Commit(commit_to_proto(commit)),
        Command::PutQueue(put) => Kind::PutQueue(queue_codec::put_to_proto(put)),
        Command::DeleteQueue { namespace, name, condition } => Kind::DeleteQueue(proto::DeleteQueue {
            namespace: namespace.to_string(),
            name: name.to_string(),
            condition: condition_to_proto(*condition),
        }),
        Command::SeekQueue(seek) => Kind::SeekQueue(queue_codec::seek_to_proto(seek)),
        Command::Receive(receive) => Kind::Receive(queue_codec::receive_to_proto(receive)),
        Command::Settle(settle) => Kind::Settle(queue_codec::settle_to_proto(settle)),
        Command::Swap(swap) => Kind::Swap(compaction::swap_to_proto(swap)),
        Command::Claim(claim) => Kind::Claim(compaction::claim_to_proto(claim)),
        Command::Unclaim { worker, works } => {
            Kind::Unclaim(proto::Unclaim { worker: hash_bytes(*worker), works: works.iter().map(compaction::work_to_proto).collect() })
        }
        Command::Schema(command) => Kind::Schema(schema_codec::command_to_proto(command)),
        Command::ReportUsage(report) => Kind::ReportUsage(usage_codec::report_to_proto(report)),
        Command::TakeBack(taken) => Kind::TakeBack(take_back::to_proto(taken)),
        Command::RefuseSegments { segments } => {
            Kind::RefuseSegments(proto::RefuseSegments { segments: segments.iter().copied().map(uuid_bytes).collect() })
        }
        Command::Retire { topic, partition, extents, generation } => Kind::Retire(proto::Retire {
            topic: topic.0,
            partition: partition.0,
            extents: extents.iter().map(retired_to_proto).collect(),
            generation: *generation,
        }),
        Command::ForgetObjects { objects } => {
            Kind::ForgetObjects(proto::ForgetObjects { objects: objects.iter().copied().map(uuid_bytes).collect() })
        }
    };
    proto::Command { kind: Some(kind) }
}

pub(super) fn command_from_proto(wire: proto::Command) -> Decoded<Command> {
    use proto::command::Kind;
    Ok(match required(wire.kind, "a command's kind")? {
        Kind::PutNamespace(w) => Command::PutNamespace {
            name: NamespaceName::new(&w.name)?,
            description: w.description,
            condition: condition_from_proto(w.condition)?,
        },
        Kind::DeleteNamespace(w) => {
            Command::DeleteNamespace { name: NamespaceName::new(&w.name)?, condition: condition_from_proto(w.condition)? }
        }
        Kind::PutTopic(w) => Command::PutTopic {
            namespace: NamespaceName::new(&w.namespace)?,
            name: TopicName::new(&w.name)?,
            config: config_from_json(&w.config_json)?,
            condition: condition_from_proto(w.condition)?,
            idempotency: w.idempotency.map(idempotency_from_proto).transpose()?,
        },
        Kind::DeleteTopic(w) => Command::DeleteTopic {
            namespace: NamespaceName::new(&w.namespace)?,
            name: TopicName::new(&w.name)?,
            condition: condition_from_proto(w.condition)?,
        },
        Kind::Trim(w) => Command::Trim { topic: TopicId(w.topic), partition: w.partition.map(PartitionIndex), before: Offset(w.before) },
        Kind::PutCursor(w) => Command::PutCursor {
            namespace: NamespaceName::new(&w.namespace)?,
            change: move_from_proto(required(w.r#move, "a cursor's move")?)?,
        },
        Kind::DeleteCursor(w) => Command::DeleteCursor {
            namespace: NamespaceName::new(&w.namespace)?,
            cursor: CursorName::new(&w.cursor)?,
            topic: w.topic.as_deref().map(TopicName::new).transpose()?,
        },
        Kind::Commit(w) => Command::Commit(commit_from_proto(w)?),
        Kind::RefuseSegments(w) => Command::RefuseSegments { segments: segment_ids(&w.segments)? },
        Kind::Retire(w) => Command::Retire {
            topic: TopicId(w.topic),
            partition: PartitionIndex(w.partition),
            extents: w.extents.iter().map(retired_from_proto).collect::<Decoded<_>>()?,
            generation: w.generation,
        },
        Kind::ForgetObjects(w) => Command::ForgetObjects { objects: segment_ids(&w.objects)? },
        Kind::PutQueue(w) => Command::PutQueue(Box::new(queue_codec::put_from_proto(w)?)),
        Kind::DeleteQueue(w) => Command::DeleteQueue {
            namespace: NamespaceName::new(&w.namespace)?,
            name: QueueName::new(&w.name)?,
            condition: condition_from_proto(w.condition)?,
        },
        Kind::SeekQueue(w) => Command::SeekQueue(queue_codec::seek_from_proto(w)?),
        Kind::Receive(w) => Command::Receive(queue_codec::receive_from_proto(w)?),
        Kind::Settle(w) => Command::Settle(queue_codec::settle_from_proto(w)?),
        Kind::Swap(w) => Command::Swap(Box::new(compaction::swap_from_proto(w)?)),
        Kind::Claim(w) => Command::Claim(compaction::claim_from_proto(&w)?),
        Kind::Unclaim(w) => Command::Unclaim { worker: hash(&w.worker)?, works: w.works.iter().map(compaction::work_from_proto).collect() },
        Kind::Schema(w) => Command::Schema(Box::new(schema_codec::command_from_proto(w)?)),
        Kind::ReportUsage(w) => Command::ReportUsage(Box::new(usage_codec::report_from_proto(w)?)),
        Kind::TakeBack(w) => Command::TakeBack(Box::new(take_back::from_proto(w)?)),
    })
}

pub(super) fn segment_ids(ids: &[Bytes]) -> Decoded<Vec<SegmentId>> {
    ids.iter().map(|id| segment_id(id)).collect()
}

pub(super) fn retired_to_proto(extent: &RetiredExtent) -> proto::RetiredExtent {
    proto::RetiredExtent {
        base_offset: extent.base_offset.0,
        records: extent.records,
        length: extent.length,
        object: uuid_bytes(extent.object),
    }
}

pub(super) fn retired_from_proto(wire: &proto::RetiredExtent) -> Decoded<RetiredExtent> {
    Ok(RetiredExtent {
        base_offset: Offset(wire.base_offset),
        records: wire.records,
        length: wire.length,
        object: segment_id(&wire.object)?,
    })
}

fn commit_to_proto(commit: &SegmentCommit) -> proto::SegmentCommit {
    let extent = |extent: &ProposedExtent| proto::ProposedExtent {
        topic: extent.topic.0,
        partition: extent.partition.0,
        position: extent.position,
        slices: extent.slices.iter().map(slice_to_proto).collect(),
    };
    let atom = |atom: &Atom| proto::Atom {
        namespace: atom.namespace.to_string(),
        idempotency: atom.idempotency.as_ref().map(idempotency_to_proto),
        layout: atom
            .layout
            .iter()
            .map(|r| proto::LayoutRun { append: r.append, topic: r.topic.0, partition: r.partition.0, count: r.count })
            .collect(),
        cursors: atom.cursors.iter().map(move_to_proto).collect(),
        settles: atom.settles.iter().map(queue_codec::settle_to_proto).collect(),
    };
    proto::SegmentCommit {
        segment: uuid_bytes(commit.segment),
        size: commit.size,
        extents: commit.extents.iter().map(extent).collect(),
        atoms: commit.atoms.iter().map(atom).collect(),
    }
}

fn commit_from_proto(wire: proto::SegmentCommit) -> Decoded<SegmentCommit> {
    let extent = |w: proto::ProposedExtent| {
        let slices = w.slices.into_iter().map(slice_from_proto).collect::<Decoded<_>>()?;
        Ok(ProposedExtent { topic: TopicId(w.topic), partition: PartitionIndex(w.partition), position: w.position, slices })
    };
    let run = |r: proto::LayoutRun| LayoutRun {
        append: r.append,
        topic: TopicId(r.topic),
        partition: PartitionIndex(r.partition),
        count: r.count,
    };
    let atom = |w: proto::Atom| {
        Ok(Atom {
            namespace: NamespaceName::new(&w.namespace)?,
            idempotency: w.idempotency.map(idempotency_from_proto).transpose()?,
            layout: w.layout.into_iter().map(run).collect(),
            cursors: w.cursors.into_iter().map(move_from_proto).collect::<Decoded<_>>()?,
            settles: w.settles.into_iter().map(queue_codec::settle_from_proto).collect::<Decoded<_>>()?,
        })
    };
    Ok(SegmentCommit {
        segment: segment_id(&wire.segment)?,
        size: wire.size,
        extents: wire.extents.into_iter().map(extent).collect::<Decoded<_>>()?,
        atoms: wire.atoms.into_iter().map(atom).collect::<Decoded<_>>()?,
    })
}

fn slice_to_proto(slice: &Slice) -> proto::Slice {
    proto::Slice {
        length: slice.length,
        records: slice.records,
        first_timestamp_ms: slice.first_timestamp.as_millis(),
        max_timestamp_ms: slice.max_timestamp.as_millis(),
        atom: slice.atom,
        condition: slice.condition.as_deref().map(slice_condition_to_proto),
    }
}

fn slice_from_proto(wire: proto::Slice) -> Decoded<Slice> {
    Ok(Slice {
        length: wire.length,
        records: wire.records,
        first_timestamp: Timestamp::from_millis(wire.first_timestamp_ms),
        max_timestamp: Timestamp::from_millis(wire.max_timestamp_ms),
        atom: wire.atom,
        condition: wire.condition.map(|c| slice_condition_from_proto(c).map(Box::new)).transpose()?,
    })
}

fn slice_condition_to_proto(condition: &SliceCondition) -> proto::SliceCondition {
    let stamp = |p: &ProducerStamp| proto::ProducerStamp { id: p.id.to_string(), epoch: p.epoch, sequence: p.sequence };
    proto::SliceCondition {
        expect_offset: condition.expect_offset.map(|o| o.0),
        fencing_token: condition.fencing_token,
        producer: condition.producer.as_ref().map(stamp),
        dedup: condition.dedup.iter().map(|c| proto::DedupClaim { index: c.index, hash: hash_bytes(c.hash) }).collect(),
    }
}

fn slice_condition_from_proto(wire: proto::SliceCondition) -> Decoded<SliceCondition> {
    let claim = |c: proto::DedupClaim| Ok(DedupClaim { index: c.index, hash: hash(&c.hash)? });
    Ok(SliceCondition {
        expect_offset: wire.expect_offset.map(Offset),
        fencing_token: wire.fencing_token,
        producer: wire.producer.map(|p| ProducerStamp { id: Arc::from(p.id), epoch: p.epoch, sequence: p.sequence }),
        dedup: wire.dedup.into_iter().map(claim).collect::<Decoded<_>>()?,
    })
}
