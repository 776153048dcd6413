//! Which queues with a bound an append may fill: an index over how much may be appended to a topic before a queue of it has
//! to be looked at. It must never be later than the truth; it may be earlier. Nothing here is stored: whatever is not known is
//! looked at with the next append.

use std::collections::{BTreeMap, BTreeSet};

use crate::id::{QueueId, TopicId};

/// The queues of a shard that have a bound.
#[derive(Clone, Debug, Default)]
pub(super) struct Bounds {
    topics: BTreeMap<TopicId, Alarms>,
    /// Where each queue's alarms are.
    set: BTreeMap<QueueId, Vec<(TopicId, u64)>>,
}

/// The alarms of a topic.
#[derive(Clone, Debug, Default)]
struct Alarms {
    /// Records appended since somebody began to count.
    appended: u64,
    /// Once more than that are appended, the queue may be full. What is finished meanwhile only makes it later.
    by_count: BTreeSet<(u64, QueueId)>,
}

impl Bounds {
    pub(super) fn is_empty(&self) -> bool {
        self.set.is_empty()
    }

    /// A queue with a bound reads these topics. It is looked at with the next append.
    pub(super) fn watch(&mut self, id: QueueId, topics: impl Iterator<Item = TopicId>) {
        self.forget(id);
        let set: Vec<(TopicId, u64)> = topics.map(|topic| (topic, 0)).collect();
        for (topic, at) in &set {
            self.topics.entry(*topic).or_default().by_count.insert((*at, id));
        }
        if !set.is_empty() {
            self.set.insert(id, set);
        }
    }

    /// A queue has no bound any more, or is gone.
    pub(super) fn forget(&mut self, id: QueueId) {
        for (topic, at) in self.set.remove(&id).unwrap_or_default() {
            let Some(alarms) = self.topics.get_mut(&topic) else { continue };
            alarms.by_count.remove(&(at, id));
            if alarms.by_count.is_empty() {
                self.topics.remove(&topic);
            }
        }
    }

    /// A queue has room for so many messages: each of its topics gets a share of it.
    pub(super) fn has_room(&mut self, id: QueueId, room: u64) {
        let Some(set) = self.set.get_mut(&id) else { return };
        let share = room / set.len().max(1) as u64;
        for (topic, at) in set {
            let Some(alarms) = self.topics.get_mut(topic) else { continue };
            alarms.by_count.remove(&(*at, id));
            *at = alarms.appended.saturating_add(share);
            alarms.by_count.insert((*at, id));
        }
    }

    /// A queue has more messages than was known: it is looked at with the next append.
    pub(super) fn grew(&mut self, id: QueueId) {
        self.has_room(id, 0);
    }

    pub(super) fn appended(&mut self, topic: TopicId, records: u64) {
        if let Some(alarms) = self.topics.get_mut(&topic) {
            alarms.appended = alarms.appended.saturating_add(records);
        }
    }

    /// Queues that may have no room for so many more records of the topic.
    pub(super) fn near(&self, topic: TopicId, records: u64) -> impl Iterator<Item = QueueId> {
        let alarms = self.topics.get(&topic).into_iter();
        alarms.flat_map(move |alarms| {
            let end = alarms.appended.saturating_add(records);
            alarms.by_count.range(..(end, QueueId(0))).map(|(_, id)| *id)
        })
    }

    /// All that read the topic.
    pub(super) fn of(&self, topic: TopicId) -> impl Iterator<Item = QueueId> {
        self.topics.get(&topic).into_iter().flat_map(|alarms| &alarms.by_count).map(|(_, id)| *id)
    }
}
