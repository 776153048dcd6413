//! Queues: leases over the log. A queue keeps how far it is in each partition and what it must know of single messages; it
//! never sees a record. See `partition.rs` for what is kept, `lease.rs` and `settle.rs` for what is done with it.

mod block;
mod bounds;
#[cfg(test)]
mod cost_tests;
mod depth;
mod entry;
mod firsts;
mod groups;
mod index;
mod lease;
mod partition;
mod peek;
mod resource;
mod returned;
mod rows;
mod settle;
mod sources;
mod state;
mod stats;
mod steps;
mod tally;
mod types;
mod wake;

use std::collections::{BTreeMap, BTreeSet};

use bounds::Bounds;
pub(super) use rows::QueueRows;
use state::QueueState;
pub use types::*;

use crate::id::{NamespaceName, QueueId, QueueName, TopicId};
use crate::time::Timestamp;

/// The queues of a shard.
#[derive(Clone, Debug, Default)]
pub(super) struct Queues {
    by_id: BTreeMap<QueueId, QueueState>,
    names: BTreeMap<(NamespaceName, QueueName), QueueId>,
    /// Which queues read a topic.
    readers: BTreeMap<TopicId, BTreeSet<QueueId>>,
    /// Those of them that may be full.
    bounds: Bounds,
    /// When which queue has something due.
    wakes: BTreeSet<(i64, QueueId)>,
    /// The latest time that was seen, also while nothing is journaled.
    pub(super) clock: Timestamp,
}

impl Queues {
    pub(super) fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// Whether a namespace has queues.
    pub(super) fn has_some(&self, namespace: &NamespaceName) -> bool {
        self.names.keys().any(|(of, _)| of == namespace)
    }

    /// How many queues a namespace has.
    pub(super) fn count_of(&self, namespace: &NamespaceName) -> u64 {
        let from = (namespace.clone(), QueueName::first());
        self.names.range(from..).take_while(|((of, _), _)| of == namespace).count() as u64
    }

    /// How many queues read a topic.
    pub(super) fn reader_count(&self, topic: TopicId) -> u64 {
        self.readers.get(&topic).map_or(0, BTreeSet::len) as u64
    }

    fn readers_of(&self, topic: TopicId) -> Vec<QueueId> {
        self.readers.get(&topic).into_iter().flatten().copied().collect()
    }

    /// Takes a queue into the indexes.
    fn index(&mut self, id: QueueId) {
        let Some(queue) = self.by_id.get(&id) else { return };
        self.names.insert((queue.about.namespace.clone(), queue.about.name.clone()), id);
        for topic in &queue.sources {
            self.readers.entry(*topic).or_default().insert(id);
        }
        if queue.about.config.max_depth.is_some() {
            self.bounds.watch(id, queue.sources.iter().copied());
        }
        self.rearm(id);
    }

    /// Takes a queue out of the indexes, before it changes or goes.
    fn unindex(&mut self, id: QueueId) {
        let Some(queue) = self.by_id.get_mut(&id) else { return };
        self.bounds.forget(id);
        for topic in &queue.sources {
            if let Some(of) = self.readers.get_mut(topic) {
                of.remove(&id);
                if of.is_empty() {
                    self.readers.remove(topic);
                }
            }
        }
        if let Some(at_ms) = queue.wake_ms.take() {
            self.wakes.remove(&(at_ms, id));
        }
        self.names.remove(&(queue.about.namespace.clone(), queue.about.name.clone()));
    }
}
