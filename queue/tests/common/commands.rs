//! Turns what was drawn into commands, with the state of the model at hand: ends, versions and sequences that fit, or just
//! do not.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use lakefall_queue::ledger::{Atom, Command, DedupClaim, LayoutRun, ProposedExtent, RetiredExtent, SegmentCommit, Slice, SliceCondition};
use lakefall_queue::topic::TopicConfig;
use lakefall_queue::verbs::{CursorMove, Idempotency, Precondition, ProducerStamp};
use lakefall_queue::{CursorName, NamespaceName, Offset, PartitionIndex, SegmentId, Timestamp, TopicId, TopicName};

use super::lab::{Lab, Place};
use super::ops::{AskOp, ConditionOp, CursorOp, Op, RequestOp, RetireFlaw, SegmentOp, SequenceOp, SliceOp};

impl Lab {
    pub(crate) fn command(&mut self, op: &Op) -> Command {
        match op {
            Op::PutNamespace { namespace, condition } => {
                let description = format!("the {}th", self.next_id);
                Command::PutNamespace { name: namespace_name(*namespace), description, condition: precondition(*condition) }
            }
            Op::DeleteNamespace { namespace } => {
                Command::DeleteNamespace { name: namespace_name(*namespace), condition: Precondition::Always }
            }
            Op::PutTopic { namespace, topic, partitions, window_ms, condition, request } => Command::PutTopic {
                namespace: namespace_name(*namespace),
                name: topic_name(*topic),
                config: TopicConfig { partitions: *partitions, dedup_window: Duration::from_millis(*window_ms), ..TopicConfig::default() },
                condition: precondition(*condition),
                idempotency: request.map(idempotency),
            },
            Op::DeleteTopic { namespace, topic, condition } => Command::DeleteTopic {
                namespace: namespace_name(*namespace),
                name: topic_name(*topic),
                condition: precondition(*condition),
            },
            Op::Trim { pick, partition, share } => {
                let topic = self.topic(*pick);
                let end = self.model.end(topic, PartitionIndex(partition.unwrap_or(0)));
                Command::Trim { topic, partition: partition.map(PartitionIndex), before: Offset(end * u64::from(*share) / 8) }
            }
            Op::PutCursor(cursor) => Command::PutCursor { namespace: namespace_name(cursor.namespace), change: self.cursor_move(cursor) },
            Op::DeleteCursor { namespace, cursor, topic } => {
                Command::DeleteCursor { namespace: namespace_name(*namespace), cursor: cursor_name(*cursor), topic: topic.map(topic_name) }
            }
            Op::Commit { segment, requests } => Command::Commit(self.segment(*segment, requests)),
            Op::Refuse { fresh, known } => {
                let mut segments: Vec<SegmentId> = (0..*fresh).map(|_| self.mint(0)).collect();
                self.refused.extend(&segments);
                segments.extend(known.and_then(|pick| picked(&self.commits, pick)).map(|commit| commit.segment));
                Command::RefuseSegments { segments }
            }
            Op::Retire { pick, count, flaw } => self.retire(*pick, *count as usize, *flaw),
            Op::Swap(op) => self.swap(*op),
            Op::Forget => Command::ForgetObjects { objects: self.model.fates.keys().copied().collect() },
        }
    }

    fn retire(&self, pick: u8, count: usize, flaw: RetireFlaw) -> Command {
        if let (RetireFlaw::BeforeSwap, Some((place, generation, extents))) = (flaw, &self.before_swap) {
            let extents = extents.iter().take(count).copied().collect();
            return Command::Retire { topic: place.0, partition: place.1, extents, generation: Some(*generation) };
        }
        let held: Vec<_> = self.extents.iter().filter(|(_, held)| !held.is_empty()).collect();
        let Some((place, held)) = picked(&held, pick) else { return Command::ForgetObjects { objects: Vec::new() } };
        let skipped = usize::from(flaw == RetireFlaw::OutOfTurn);
        let extents = held.iter().skip(skipped).take(count).map(RetiredExtent::from).collect();
        let generation = self.levels.get(*place).map_or(0, |levels| levels.generation);
        Command::Retire { topic: place.0, partition: place.1, extents, generation: Some(generation) }
    }

    fn segment(&mut self, segment: SegmentOp, requests: &[RequestOp]) -> SegmentCommit {
        let earlier = |commits: &[SegmentCommit], pick| picked(commits, pick).cloned();
        let id = match segment {
            SegmentOp::Repeat(pick) => match earlier(&self.commits, pick) {
                Some(commit) => return commit,
                None => self.mint(0),
            },
            SegmentOp::Impostor(pick) => earlier(&self.commits, pick).map_or_else(|| self.mint(0), |commit| commit.segment),
            SegmentOp::Refused(pick) => picked(&self.refused, pick).copied().unwrap_or_else(|| self.mint(0)),
            SegmentOp::Fresh { age_ms } => self.mint(age_ms),
        };
        let commit = self.build(id, requests);
        self.commits.push(commit.clone());
        commit
    }

    fn build(&self, segment: SegmentId, requests: &[RequestOp]) -> SegmentCommit {
        let mut slices: BTreeMap<Place, Vec<Slice>> = BTreeMap::new();
        let mut atoms = Vec::new();
        for request in requests {
            match request {
                RequestOp::Plain(op) => {
                    let place = (self.topic(op.pick), PartitionIndex(op.partition));
                    slices.entry(place).or_default().push(self.slice(op, place, None));
                }
                RequestOp::Atom { slices: members, request, cursor } => {
                    let places: BTreeMap<Place, &SliceOp> =
                        members.iter().map(|op| ((self.topic(op.pick), PartitionIndex(op.partition)), op)).collect();
                    let mut layout = Vec::new();
                    let mut claimed = Vec::new();
                    for (append, (place, op)) in places.into_iter().enumerate() {
                        let mut slice = self.slice(op, place, Some(atoms.len() as u32));
                        // An id that a request names twice is the gateway's to find.
                        if let Some(condition) = &mut slice.condition {
                            condition.dedup.retain(|claim| !claimed.contains(&(place.0, claim.hash)));
                            claimed.extend(condition.dedup.iter().map(|claim| (place.0, claim.hash)));
                        }
                        let run = |count| LayoutRun { append: append as u32, topic: place.0, partition: place.1, count };
                        layout.push(run(1));
                        layout.extend((slice.records > 1).then(|| run(slice.records - 1)));
                        slices.entry(place).or_default().push(slice);
                    }
                    let cursors: Vec<CursorMove> = cursor.iter().map(|c| self.cursor_move(c)).collect();
                    let namespace = namespace_name(cursor.as_ref().map_or(0, |c| c.namespace));
                    atoms.push(Atom { namespace, idempotency: request.map(idempotency), layout, cursors, settles: Vec::new() });
                }
            }
        }
        let mut position = 16;
        let mut extents = Vec::new();
        for ((topic, partition), slices) in slices {
            let length: u64 = slices.iter().map(|s| u64::from(s.length)).sum();
            extents.push(ProposedExtent { topic, partition, position, slices });
            position += length;
        }
        SegmentCommit { segment, size: position + 64, extents, atoms }
    }

    fn slice(&self, op: &SliceOp, (topic, partition): Place, atom: Option<u32>) -> Slice {
        let mut condition = SliceCondition::default();
        let mut records = op.records;
        match &op.ask {
            AskOp::Nothing => {}
            AskOp::Expect(off) => condition.expect_offset = Some(Offset(self.model.end(topic, partition) + off)),
            AskOp::Fence(token) => condition.fencing_token = Some(*token),
            AskOp::Producer { id, epoch, sequence } => {
                let id: Arc<str> = format!("producer-{id}").into();
                let known = self.model.producers.get(&(topic.0, partition.0, id.to_string()));
                let next = known.filter(|p| p.epoch == *epoch).map_or(0, |p| p.next);
                let sequence = match sequence {
                    SequenceOp::Next => next,
                    SequenceOp::Gap => next + 7,
                    SequenceOp::Again(back) => known.and_then(|p| p.batches.iter().rev().nth(*back)).map_or(0, |batch| {
                        records = batch.1;
                        batch.0
                    }),
                };
                condition.producer = Some(ProducerStamp { id, epoch: *epoch, sequence });
            }
            AskOp::Dedup(ids) => {
                let mut hashes: Vec<u8> = ids.clone();
                hashes.sort_unstable();
                hashes.dedup();
                records = records.max(hashes.len() as u32);
                condition.dedup = (0..).zip(hashes).map(|(index, id)| DedupClaim { index, hash: u128::from(id) << 96 | 7 }).collect();
            }
        }
        let at = |ms: i64| Timestamp::from_millis(self.clock_ms - ms);
        Slice {
            length: records * 11 + 61,
            records,
            first_timestamp: at(i64::from(op.pick)),
            max_timestamp: at(i64::from(op.pick) / 2),
            atom,
            condition: (condition != SliceCondition::default()).then(|| Box::new(condition)),
        }
    }

    fn cursor_move(&self, op: &CursorOp) -> CursorMove {
        let (namespace, topic) = (namespace_name(op.namespace), topic_name(op.topic));
        let end = self
            .model
            .topic_named(namespace.as_str(), topic.as_str())
            .map_or(0, |index| self.model.end(TopicId(index as u64 + 1), PartitionIndex(op.partition)));
        let cursor = cursor_name(op.cursor);
        let key = (namespace.to_string(), cursor.to_string(), topic.to_string());
        let version = self.model.cursors.get(&key).map_or(0, |c| c.0);
        let offset = if op.share > 8 { end + 1 } else { end * u64::from(op.share) / 8 };
        CursorMove {
            cursor,
            topic,
            offsets: vec![(PartitionIndex(op.partition), Offset(offset))],
            if_version: op.version.map(|off| version + off),
        }
    }

    /// A topic that is there, or in some cases one that was or never will be.
    fn topic(&self, pick: u8) -> TopicId {
        let live: Vec<u64> = (1..).zip(&self.model.topics).filter(|(_, t)| !t.deleted).map(|(id, _)| id).collect();
        let all = self.model.topics.len() as u64;
        match picked(&live, pick) {
            Some(id) if pick < 240 => TopicId(*id),
            _ => TopicId(1 + u64::from(pick) % (all + 1)),
        }
    }

    pub(super) fn mint(&mut self, age_ms: i64) -> SegmentId {
        self.next_id += 1;
        SegmentId::mint(Timestamp::from_millis(self.now.as_millis() - age_ms), self.next_id << 64)
    }
}

fn picked<T>(from: &[T], pick: u8) -> Option<&T> {
    from.get(pick as usize % from.len().max(1))
}

fn precondition(op: ConditionOp) -> Precondition {
    match op {
        ConditionOp::Always => Precondition::Always,
        ConditionOp::Absent => Precondition::Absent,
        ConditionOp::Present => Precondition::Present,
        ConditionOp::Version(version) => Precondition::Version(version),
    }
}

fn idempotency((key, fingerprint): (u8, u8)) -> Idempotency {
    Idempotency { key: format!("request-{key}").into(), fingerprint: u128::from(fingerprint) }
}

pub(crate) fn ns(name: &str) -> NamespaceName {
    NamespaceName::new(name).unwrap()
}

/// The default one half of the time, so that histories get somewhere.
fn namespace_name(index: u8) -> NamespaceName {
    ns(["default", "default", "acme"][index as usize])
}

fn topic_name(index: u8) -> TopicName {
    TopicName::new(["orders", "orders-eu", "audit"][index as usize]).unwrap()
}

pub(crate) fn cursor_name(index: u8) -> CursorName {
    CursorName::new(["billing", "search", "search.2"][index as usize]).unwrap()
}
