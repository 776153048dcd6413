//! Queues with a bound on their messages: what finds one full is refused, or drops its oldest messages. Topics that no such
//! queue reads pay nothing for this, and those of others only for queues that may be full by now (`bounds.rs`).

use std::collections::{BTreeMap, BTreeSet};

use super::super::{Ledger, Notice, PartitionKey, Refusal};
use super::block::BLOCK;
use super::partition::{QueuePartition, State};
use super::state::QueueState;
use super::steps::step;
use super::{SettleAction, SettleMessages};
use crate::id::{QueueId, TopicId};
use crate::queue::Overflow;
use crate::time::Timestamp;

impl Ledger {
    /// Whether the queues have room for so many more records of these topics, once these leases, which go on, are settled.
    pub(in super::super) fn check_room(
        &mut self,
        records: impl IntoIterator<Item = (TopicId, u64)>,
        settles: &[SettleMessages],
    ) -> Result<(), Refusal> {
        if self.queues.bounds.is_empty() {
            return Ok(());
        }
        let mut more: BTreeMap<TopicId, u64> = BTreeMap::new();
        for (topic, records) in records {
            *more.entry(topic).or_default() += records;
        }
        // In the order of their ids, so that a replay names the same one.
        let near: BTreeSet<QueueId> = more.iter().flat_map(|(topic, records)| self.queues.bounds.near(*topic, *records)).collect();
        for id in near {
            step();
            let Some(queue) = self.queues.by_id.get(&id) else { continue };
            let config = &queue.about.config;
            let Some(max_depth) = config.refused_above() else { continue };
            let records: u64 = queue.sources.iter().filter_map(|topic| more.get(topic)).sum();
            let depth = self.depth(queue).saturating_sub(finished(settles, id));
            if depth.saturating_add(records) > max_depth {
                return Err(Refusal::QueueFull { queue: queue.about.name.clone(), max_depth });
            }
            // Of the others it is told after the append.
            if config.overflow == Overflow::Reject {
                self.queues.bounds.has_room(id, max_depth - depth);
            }
        }
        Ok(())
    }

    /// So many records were appended: queues that drop their oldest messages do so. Of those whose oldest become dead letters it
    /// is told: whoever sees records makes letters of them.
    pub(in super::super) fn drop_oldest(&mut self, appended: PartitionKey, records: u64, now: Timestamp) {
        self.queues.bounds.appended(appended.0, records);
        let near: Vec<QueueId> = self.queues.bounds.near(appended.0, 0).collect();
        for id in near {
            step();
            let Some(queue) = self.queues.by_id.get(&id) else { continue };
            let (depth, max_depth) = (self.depth(queue), queue.about.config.max_depth.unwrap_or(u64::MAX));
            // Also where it refuses: what went beyond this topic's share of the room is not there for its other topics.
            self.queues.bounds.has_room(id, max_depth.saturating_sub(depth));
            let mut over = depth.saturating_sub(max_depth);
            if over == 0 || queue.about.config.overflow == Overflow::Reject {
                continue;
            }
            if queue.about.config.overflow == Overflow::DeadLetter {
                let (namespace, name) = (queue.about.namespace.clone(), queue.about.name.clone());
                self.notices.push(Notice::QueueOver { namespace, name, queue: id });
                continue;
            }
            let mut ends: Vec<(PartitionKey, u64)> = queue.partitions.keys().map(|key| (*key, self.end_of(*key))).collect();
            // Where the new ones came from first: of one partition, it is known which are the oldest.
            ends.sort_by_key(|(key, _)| *key != appended);
            let Some(queue) = self.queues.by_id.get_mut(&id) else { continue };
            for (key, end) in ends {
                over -= queue.drop_from(key, over, end, now);
            }
            queue.flush(&mut self.dirty);
            self.queues.rearm(id);
        }
    }

    /// The log start was raised: bounded queues have room by that. The others find it when they are received from.
    pub(in super::super) fn raise_bounded(&mut self, topic: TopicId) {
        for id in self.queues.bounds.of(topic).collect::<Vec<_>>() {
            let Some(queue) = self.queues.by_id.get_mut(&id) else { continue };
            for (key, partition) in queue.partitions.iter_mut().filter(|(key, _)| key.0 == topic) {
                let log_start = self.partitions.get(key).map_or(0, |p| p.log_start.0);
                partition.raise(log_start, &mut queue.tally);
            }
            queue.flush(&mut self.dirty);
            self.queues.rearm(id);
        }
    }

    /// Messages of a queue that are not finished.
    pub(super) fn depth(&self, queue: &QueueState) -> u64 {
        queue.partitions.iter().map(|(key, partition)| partition.depth(self.end_of(*key))).sum()
    }

    pub(super) fn end_of(&self, key: PartitionKey) -> u64 {
        self.partitions.get(&key).map_or(0, |partition| partition.next.0)
    }
}

impl QueueState {
    /// Finishes up to `most` of a partition's oldest messages that nobody leases. Returns how many.
    fn drop_from(&mut self, key: PartitionKey, most: u64, end: u64, now: Timestamp) -> u64 {
        let Some(partition) = self.partitions.get_mut(&key) else { return 0 };
        let mut dropped = 0;
        let mut at = partition.floor;
        while dropped < most && at < end {
            step();
            if (at == partition.floor || at.is_multiple_of(BLOCK))
                && let Some(next) = partition.held_until(at, end, now.as_millis(), &mut self.tally)
            {
                at = next;
                continue;
            }
            let to = partition.untouched_until(at, end.min(at.saturating_add(most - dropped)));
            if to > at {
                if at == partition.floor {
                    // All below is finished: no bits are needed to say so.
                    partition.raise(to, &mut self.tally);
                } else {
                    partition.finish(at, to, &mut self.tally);
                }
                dropped += to - at;
                at = to.max(partition.floor);
                continue;
            }
            if !is_leased(partition, at, now) {
                dropped += partition.finish(at, at + 1, &mut self.tally);
            }
            at += 1;
        }
        partition.advance();
        self.outflow.add(now, dropped);
        dropped
    }
}

/// Messages of a queue that are finished by settling these leases.
fn finished(settles: &[SettleMessages], queue: QueueId) -> u64 {
    let items = settles.iter().filter(|settle| settle.queue == queue).flat_map(|settle| &settle.items);
    items.filter(|item| matches!(item.action, SettleAction::Ack | SettleAction::Bury)).map(|item| u64::from(item.count)).sum()
}

fn is_leased(partition: &QueuePartition, offset: u64, now: Timestamp) -> bool {
    matches!(partition.state(offset), State::Entry(entry) if entry.is_leased() && entry.at_ms() > now.as_millis())
}
