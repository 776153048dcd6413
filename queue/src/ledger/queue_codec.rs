//! What is told of queues to protobuf and back: commands, and a queue as it is. Receives and settlements are hot, so what most
//! messages have in common is written once. Must never read lists that do not fit each other.

use std::collections::BTreeMap;
use std::time::Duration;

use super::codec::{
    Decoded, Malformed, condition_from_proto, condition_to_proto, hash, hash_bytes, idempotency_from_proto, idempotency_to_proto, required,
};
use super::lenient;
use super::rows::proto;
use super::{Classified, Grant, Mark, Positions, PutQueue, ReceiveMessages, SeekQueue, SettleAction, SettleItem, SettleMessages, Want};
use crate::id::{BindingName, NamespaceName, Offset, PartitionIndex, QueueId, QueueName, TopicId, TopicName};
use crate::queue::{Binding, Queue, QueueConfig, QueueStart, Source};
use crate::time::Timestamp;

type Bindings = BTreeMap<BindingName, Binding>;

/// Bit of a mark's flags: it has a time.
const TIMED: u8 = 1;
/// Bit of a mark's flags: it has a group.
const GROUPED: u8 = 2;

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

pub(super) fn queue_config_json(config: &QueueConfig) -> String {
    // Plain fields with string keys, and numbers that were checked: there is nothing that JSON could not hold.
    serde_json::to_string(config).unwrap_or_default()
}

pub(super) fn queue_config_from_json(text: &str) -> Decoded<QueueConfig> {
    lenient::from_json(text).map_err(|e| Malformed(format!("a queue's settings cannot be read: {e}")))
}

pub(super) fn bindings_json(bindings: &Bindings) -> String {
    serde_json::to_string(bindings).unwrap_or_default()
}

/// Nothing at all is no bindings.
pub(super) fn bindings_from_json(text: &str) -> Decoded<Bindings> {
    if text.is_empty() {
        return Ok(Bindings::new());
    }
    lenient::bindings_from_json(text).map_err(|e| Malformed(format!("a queue's bindings cannot be read: {e}")))
}

/// A queue as it is told of.
pub(super) fn queue_to_proto(queue: &Queue) -> proto::Queue {
    let row = proto::QueueRow {
        id: queue.id.0,
        namespace: queue.namespace.to_string(),
        name: queue.name.to_string(),
        version: queue.version,
        generation: queue.generation,
        created_ms: queue.created_at.as_millis(),
        config_json: queue_config_json(&queue.config),
        bindings_json: if queue.bindings.is_empty() { String::new() } else { bindings_json(&queue.bindings) },
        ..Default::default()
    };
    let source = |s: &Source| proto::QueueSource { topic: s.topic.0, name: s.name.to_string(), partitions: s.partitions };
    proto::Queue { row: Some(row), sources: queue.sources.iter().map(source).collect() }
}

pub(super) fn queue_from_proto(wire: proto::Queue) -> Decoded<Queue> {
    let row = required(wire.row, "a queue")?;
    let source = |s: proto::QueueSource| Ok(Source { topic: TopicId(s.topic), name: TopicName::new(&s.name)?, partitions: s.partitions });
    Ok(Queue {
        namespace: NamespaceName::new(&row.namespace)?,
        name: QueueName::new(&row.name)?,
        id: QueueId(row.id),
        version: row.version,
        generation: row.generation,
        created_at: Timestamp::from_millis(row.created_ms),
        config: queue_config_from_json(&row.config_json)?,
        bindings: bindings_from_json(&row.bindings_json)?,
        sources: wire.sources.into_iter().map(source).collect::<Decoded<_>>()?,
    })
}

pub(super) fn grant_to_proto(grant: &Grant) -> proto::Grant {
    proto::Grant {
        topic: grant.topic.0,
        partition: grant.partition.0,
        first: grant.first.0,
        count: grant.count,
        attempt: grant.attempt,
        undelivered: grant.undelivered,
        until_ms: grant.lease_until.as_millis(),
        first_leased_ms: grant.first_leased.map_or(0, |at| at.as_millis()),
    }
}

pub(super) fn grant_from_proto(wire: &proto::Grant) -> Grant {
    Grant {
        topic: TopicId(wire.topic),
        partition: PartitionIndex(wire.partition),
        first: Offset(wire.first),
        count: wire.count,
        attempt: wire.attempt,
        undelivered: wire.undelivered,
        lease_until: Timestamp::from_millis(wire.until_ms),
        first_leased: Some(wire.first_leased_ms).filter(|at_ms| *at_ms != 0).map(Timestamp::from_millis),
    }
}

pub(super) fn positions_to_proto(positions: &Positions) -> Vec<proto::TopicOffset> {
    let position = |(topic, partition, offset): &(TopicId, PartitionIndex, Offset)| proto::TopicOffset {
        topic: topic.0,
        partition: partition.0,
        offset: offset.0,
    };
    positions.iter().map(position).collect()
}

pub(super) fn positions_from_proto(wire: Vec<proto::TopicOffset>) -> Positions {
    wire.into_iter().map(|p| (TopicId(p.topic), PartitionIndex(p.partition), Offset(p.offset))).collect()
}

pub(super) fn put_to_proto(put: &PutQueue) -> proto::PutQueue {
    proto::PutQueue {
        namespace: put.namespace.to_string(),
        name: put.name.to_string(),
        config_json: queue_config_json(&put.config),
        bindings_json: put.bindings.as_ref().map(bindings_json),
        positions: positions_to_proto(&put.positions),
        condition: condition_to_proto(put.condition),
        idempotency: put.idempotency.as_ref().map(idempotency_to_proto),
    }
}

pub(super) fn put_from_proto(wire: proto::PutQueue) -> Decoded<PutQueue> {
    Ok(PutQueue {
        namespace: NamespaceName::new(&wire.namespace)?,
        name: QueueName::new(&wire.name)?,
        config: queue_config_from_json(&wire.config_json)?,
        bindings: wire.bindings_json.as_deref().map(bindings_from_json).transpose()?,
        positions: positions_from_proto(wire.positions),
        condition: condition_from_proto(wire.condition)?,
        idempotency: wire.idempotency.map(idempotency_from_proto).transpose()?,
    })
}

pub(super) fn seek_to_proto(seek: &SeekQueue) -> proto::SeekQueue {
    use proto::queue_start::Kind;
    let kind = |start: QueueStart| match start {
        QueueStart::Earliest => Kind::Earliest(true),
        QueueStart::Latest => Kind::Latest(true),
        QueueStart::Offset(offset) => Kind::Offset(offset.0),
        QueueStart::Time(at) => Kind::TimeMs(at.as_millis()),
    };
    proto::SeekQueue {
        namespace: seek.namespace.to_string(),
        name: seek.name.to_string(),
        start: seek.start.map(|start| proto::QueueStart { kind: Some(kind(start)) }),
        positions: positions_to_proto(&seek.positions),
    }
}

pub(super) fn seek_from_proto(wire: proto::SeekQueue) -> Decoded<SeekQueue> {
    use proto::queue_start::Kind;
    let start = |start: proto::QueueStart| -> Decoded<QueueStart> {
        Ok(match required(start.kind, "where a queue is to start")? {
            Kind::Earliest(_) => QueueStart::Earliest,
            Kind::Latest(_) => QueueStart::Latest,
            Kind::Offset(offset) => QueueStart::Offset(Offset(offset)),
            Kind::TimeMs(at) => QueueStart::Time(Timestamp::from_millis(at)),
        })
    };
    Ok(SeekQueue {
        namespace: NamespaceName::new(&wire.namespace)?,
        name: QueueName::new(&wire.name)?,
        start: wire.start.map(start).transpose()?,
        positions: positions_from_proto(wire.positions),
    })
}

pub(super) fn receive_to_proto(receive: &ReceiveMessages) -> proto::ReceiveMessages {
    let want = |want: &Want| proto::Want {
        max: want.max,
        lease_ms: millis(want.lease),
        request: want.request.map(hash_bytes).unwrap_or_default(),
    };
    proto::ReceiveMessages {
        queue: receive.queue.0,
        generation: receive.generation,
        classified: receive.classified.iter().map(classified_to_proto).collect(),
        wants: receive.wants.iter().map(want).collect(),
    }
}

pub(super) fn receive_from_proto(wire: proto::ReceiveMessages) -> Decoded<ReceiveMessages> {
    let want = |w: proto::Want| -> Decoded<Want> {
        let request = if w.request.is_empty() { None } else { Some(hash(&w.request)?) };
        Ok(Want { max: w.max, lease: Duration::from_millis(w.lease_ms), request })
    };
    Ok(ReceiveMessages {
        queue: QueueId(wire.queue),
        generation: wire.generation,
        classified: wire.classified.into_iter().map(classified_from_proto).collect::<Decoded<_>>()?,
        wants: wire.wants.into_iter().map(want).collect::<Decoded<_>>()?,
    })
}

fn classified_to_proto(found: &Classified) -> proto::Classified {
    let mut wire = proto::Classified {
        topic: found.topic.0,
        partition: found.partition.0,
        from: found.from.0,
        to: found.to.0,
        skipped: Vec::with_capacity(found.skipped.len() * 2),
        ..Default::default()
    };
    let mut end = 0_u32;
    for (index, count) in &found.skipped {
        wire.skipped.extend([index.wrapping_sub(end), *count]);
        end = index.wrapping_add(*count);
    }
    let (mut index, mut at) = (0_u32, 0_i64);
    let (mut flags, mut priorities) = (Vec::with_capacity(found.marks.len()), Vec::with_capacity(found.marks.len()));
    for mark in &found.marks {
        wire.mark_gaps.push(mark.index.wrapping_sub(index));
        index = mark.index;
        priorities.push(mark.priority);
        flags.push(if mark.not_before.is_some() { TIMED } else { 0 } | if mark.group.is_some() { GROUPED } else { 0 });
        if let Some(time) = mark.not_before {
            wire.mark_times_ms.push(time.as_millis().wrapping_sub(at));
            at = time.as_millis();
        }
        wire.mark_groups.extend(mark.group);
    }
    let unless_zero = |bytes: Vec<u8>| if bytes.iter().all(|byte| *byte == 0) { Vec::new() } else { bytes };
    wire.mark_flags = unless_zero(flags).into();
    wire.mark_priorities = unless_zero(priorities).into();
    wire
}

fn classified_from_proto(wire: proto::Classified) -> Decoded<Classified> {
    let misfit = || Malformed("the lists of what was found in records do not fit each other".to_owned());
    let marks = wire.mark_gaps.len();
    let as_long = |bytes: &[u8]| bytes.is_empty() || bytes.len() == marks;
    if !wire.skipped.len().is_multiple_of(2) || !as_long(&wire.mark_flags) || !as_long(&wire.mark_priorities) {
        return Err(misfit());
    }
    let mut end = 0_u32;
    let run = |pair: &[u32]| {
        let index = end.wrapping_add(pair[0]);
        end = index.wrapping_add(pair[1]);
        (index, pair[1])
    };
    let skipped = wire.skipped.chunks_exact(2).map(run).collect();
    let (mut times, mut groups) = (wire.mark_times_ms.into_iter(), wire.mark_groups.into_iter());
    let (mut index, mut at) = (0_u32, 0_i64);
    let mut found = Vec::with_capacity(marks);
    for (place, gap) in wire.mark_gaps.iter().enumerate() {
        index = index.wrapping_add(*gap);
        let flags = wire.mark_flags.get(place).copied().unwrap_or_default();
        let mut not_before = None;
        if flags & TIMED != 0 {
            at = at.wrapping_add(times.next().ok_or_else(misfit)?);
            not_before = Some(Timestamp::from_millis(at));
        }
        let group = if flags & GROUPED == 0 { None } else { Some(groups.next().ok_or_else(misfit)?) };
        found.push(Mark { index, not_before, priority: wire.mark_priorities.get(place).copied().unwrap_or_default(), group });
    }
    if times.next().is_some() || groups.next().is_some() {
        return Err(misfit());
    }
    Ok(Classified {
        topic: TopicId(wire.topic),
        partition: PartitionIndex(wire.partition),
        from: Offset(wire.from),
        to: Offset(wire.to),
        skipped,
        marks: found,
    })
}

fn action_to_proto(action: SettleAction) -> (proto::settle_group::Action, u64) {
    use proto::settle_group::Action;
    match action {
        SettleAction::Ack => (Action::Ack, 0),
        SettleAction::Release { delay } => (Action::Release, millis(delay)),
        SettleAction::Extend { lease } => (Action::Extend, millis(lease)),
        SettleAction::Undelivered { delay } => (Action::Undelivered, millis(delay)),
        SettleAction::Bury => (Action::Bury, 0),
        SettleAction::Cancel => (Action::Cancel, 0),
    }
}

fn action_from_proto(action: i32, duration_ms: u64) -> Decoded<SettleAction> {
    use proto::settle_group::Action;
    let duration = Duration::from_millis(duration_ms);
    // Not the generated getter: it takes what it does not know for an ack.
    Ok(match Action::try_from(action).map_err(|e| Malformed(format!("what is to happen to a message: {e}")))? {
        Action::Ack => SettleAction::Ack,
        Action::Release => SettleAction::Release { delay: duration },
        Action::Extend => SettleAction::Extend { lease: duration },
        Action::Undelivered => SettleAction::Undelivered { delay: duration },
        Action::Bury => SettleAction::Bury,
        Action::Cancel => SettleAction::Cancel,
    })
}

pub(super) fn settle_to_proto(settle: &SettleMessages) -> proto::SettleMessages {
    let same = |a: &SettleItem, b: &SettleItem| (a.topic, a.partition, a.attempt, a.action) == (b.topic, b.partition, b.attempt, b.action);
    let group = |items: &[SettleItem]| {
        let head = &items[0];
        let (action, duration_ms) = action_to_proto(head.action);
        let mut runs = Vec::with_capacity(items.len() * 2);
        let mut end = 0_u64;
        for item in items {
            runs.extend([item.first.0.wrapping_sub(end) as i64, i64::from(item.count)]);
            end = item.first.0.wrapping_add(u64::from(item.count));
        }
        proto::SettleGroup {
            topic: head.topic.0,
            partition: head.partition.0,
            attempt: head.attempt,
            action: action.into(),
            duration_ms,
            runs,
        }
    };
    let groups = settle.items.chunk_by(same).map(group).collect();
    proto::SettleMessages { queue: settle.queue.0, generation: settle.generation, groups, version: settle.version }
}

pub(super) fn settle_from_proto(wire: proto::SettleMessages) -> Decoded<SettleMessages> {
    let mut items = Vec::with_capacity(wire.groups.iter().map(|group| group.runs.len() / 2).sum());
    for group in wire.groups {
        let action = action_from_proto(group.action, group.duration_ms)?;
        let pairs = group.runs.chunks_exact(2);
        if !pairs.remainder().is_empty() {
            return Err(Malformed("a run of messages without its length".to_owned()));
        }
        let mut end = 0_u64;
        for pair in pairs {
            let first = end.wrapping_add(pair[0] as u64);
            let count = u32::try_from(pair[1]).map_err(|e| Malformed(format!("the length of a run of messages: {e}")))?;
            end = first.wrapping_add(u64::from(count));
            items.push(SettleItem {
                topic: TopicId(group.topic),
                partition: PartitionIndex(group.partition),
                first: Offset(first),
                count,
                attempt: group.attempt,
                action,
            });
        }
    }
    Ok(SettleMessages { queue: QueueId(wire.queue), generation: wire.generation, version: wire.version, items })
}
