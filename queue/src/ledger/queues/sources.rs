//! What a queue reads: topics are bound and unbound, get partitions, and are deleted under it.

use std::collections::{BTreeMap, BTreeSet};

use super::super::{Ledger, PartitionKey, RowKey};
use super::Positions;
use super::partition::QueuePartition;
use super::state::QueueState;
use crate::id::{PartitionIndex, QueueId, TopicId, TopicName};
use crate::queue::QueueStart;
use crate::topic::Topic;

impl Ledger {
    /// Where a queue that begins at `start` begins in a partition. A time that nobody looked up is the log start.
    pub(super) fn start_of(&self, key: PartitionKey, start: QueueStart) -> Option<u64> {
        let partition = self.partitions.get(&key)?;
        Some(match start {
            QueueStart::Earliest | QueueStart::Time(_) => partition.log_start.0,
            QueueStart::Latest => partition.next.0,
            QueueStart::Offset(offset) => offset.0.clamp(partition.log_start.0, partition.next.0),
        })
    }

    /// Makes a queue read these topics and no others. Those it read before stay where they are.
    pub(super) fn bind(&mut self, id: QueueId, names: &BTreeSet<TopicName>, positions: &Positions) {
        let Some(queue) = self.queues.by_id.get(&id) else { return };
        let named = names.iter().filter_map(|name| self.topic_id(&queue.about.namespace, name).ok());
        let wanted: BTreeSet<TopicId> = named.collect();
        let mut starts: BTreeMap<PartitionKey, u64> = BTreeMap::new();
        for topic in wanted.difference(&queue.sources) {
            for (key, partition) in self.partitions.range((*topic, PartitionIndex(0))..=(*topic, PartitionIndex(u32::MAX))) {
                let position = positions.iter().find(|(topic, index, _)| (*topic, *index) == *key).map(|(.., offset)| offset.0);
                let position = position.map(|offset| offset.clamp(partition.log_start.0, partition.next.0));
                starts.extend(position.or_else(|| self.start_of(*key, queue.about.config.start)).map(|start| (*key, start)));
            }
        }
        let gone: Vec<TopicId> = queue.sources.difference(&wanted).copied().collect();
        if queue.sources == wanted {
            return self.queues.index(id);
        }
        self.queues.unindex(id);
        if let Some(queue) = self.queues.by_id.get_mut(&id) {
            gone.into_iter().for_each(|topic| queue.detach(topic, &mut self.dirty));
            queue.sources = wanted;
            for (key, start) in starts {
                queue.restart(key, start, &mut self.dirty);
            }
            queue.count();
            queue.flush(&mut self.dirty);
            queue.mark(&mut self.dirty);
        }
        self.queues.index(id);
    }

    /// New partitions of a topic join the queues that read it, from their first record on.
    pub(in super::super) fn join_queues(&mut self, topic: &Topic) {
        for id in self.queues.readers_of(topic.id) {
            let Some(queue) = self.queues.by_id.get_mut(&id) else { continue };
            let before = queue.partitions.len();
            for key in (0..topic.config.partitions).map(|index| (topic.id, PartitionIndex(index))) {
                if !queue.partitions.contains_key(&key) {
                    queue.restart(key, 0, &mut self.dirty);
                }
            }
            if queue.partitions.len() > before {
                queue.flush(&mut self.dirty);
                self.notify_queue(id);
            }
        }
    }

    /// A topic is deleted: no queue reads it any more, and none names it among what it reads.
    pub(in super::super) fn leave_queues(&mut self, topic: &Topic) {
        for id in self.queues.readers_of(topic.id) {
            self.queues.unindex(id);
            if let Some(queue) = self.queues.by_id.get_mut(&id) {
                queue.detach(topic.id, &mut self.dirty);
                queue.about.config.topics.retain(|name| *name != topic.name);
                queue.about.bindings.retain(|_, binding| binding.topic != topic.name);
                queue.about.version += 1;
                queue.count();
                queue.flush(&mut self.dirty);
                queue.mark(&mut self.dirty);
            }
            self.queues.index(id);
            self.notify_queue(id);
        }
    }
}

impl QueueState {
    /// Begins a partition at `start`, whatever was known of it. The queue is to be counted and flushed afterwards.
    pub(super) fn restart(&mut self, key: PartitionKey, start: u64, dirty: &mut BTreeSet<RowKey>) {
        self.mark_partition(key, dirty);
        self.partitions.insert(key, QueuePartition::new(key, start));
    }
}
