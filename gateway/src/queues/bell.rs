//! Who is woken by what the ledger tells of queues and of the topics that they read. Must never do more per notice than look
//! up who waits.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lakefall_metadata::Metadata;
use lakefall_queue::queue::Queue;
use lakefall_queue::{NamespaceName, Offset, PartitionIndex, QueueId, QueueName, TopicId};

use tokio::sync::Notify;

use super::desk::Desk;
use super::known::KnownQueues;

/// The desks of queues, by their ids and by the topics that they read.
pub(crate) struct Bell {
    pub(crate) known: KnownQueues,
    desks: Mutex<Desks>,
    /// Queues with too many messages, and who is to look after them.
    over: Mutex<HashSet<(NamespaceName, QueueName)>>,
    pub(super) overflowing: Notify,
}

#[derive(Default)]
struct Desks {
    of: HashMap<QueueId, Arc<Desk>>,
    readers: HashMap<TopicId, HashSet<QueueId>>,
}

impl Bell {
    pub(crate) fn new(metadata: Arc<dyn Metadata>) -> Self {
        Self { known: KnownQueues::new(metadata), desks: Mutex::default(), over: Mutex::default(), overflowing: Notify::new() }
    }

    /// The desk of a queue.
    pub(super) fn desk(&self, queue: &Queue) -> Arc<Desk> {
        let mut desks = self.lock();
        let Desks { of, readers } = &mut *desks;
        let desk = Arc::clone(of.entry(queue.id).or_insert_with(|| Desk::new(queue)));
        // Also of an older desk: the queue may have been bound to more topics since.
        for source in &queue.sources {
            readers.entry(source.topic).or_default().insert(queue.id);
        }
        desk
    }

    /// The desk of a queue, if somebody waits there or did lately.
    pub(super) fn find(&self, queue: QueueId) -> Option<Arc<Desk>> {
        self.lock().of.get(&queue).cloned()
    }

    /// Nobody works at the desk any more: it goes unless somebody else holds it.
    pub(super) fn close(&self, desk: &Arc<Desk>) -> bool {
        let mut desks = self.lock();
        // The map's and the caller's.
        if Arc::strong_count(desk) > 2 || !desk.is_empty() {
            return false;
        }
        desks.of.remove(&desk.queue);
        desks.readers.retain(|_, queues| {
            queues.remove(&desk.queue);
            !queues.is_empty()
        });
        true
    }

    /// Records were appended.
    pub(crate) fn appended(&self, topic: TopicId, partition: PartitionIndex, end: Offset) {
        let desks = self.lock();
        let Some(readers) = desks.readers.get(&topic) else { return };
        for desk in readers.iter().filter_map(|queue| desks.of.get(queue)) {
            desk.appended(topic, partition, end);
        }
    }

    /// A message became ready otherwise.
    pub(crate) fn ready(&self, queue: QueueId) {
        if let Some(desk) = self.lock().of.get(&queue) {
            desk.poke();
        }
    }

    /// The queue was created, changed, moved or deleted.
    pub(crate) fn changed(&self, namespace: &NamespaceName, name: &QueueName, queue: QueueId) {
        self.known.forget(namespace, name);
        if let Some(desk) = self.lock().of.get(&queue) {
            desk.doubt();
        }
    }

    /// The queue has too many messages.
    pub(crate) fn over(&self, namespace: &NamespaceName, name: &QueueName) {
        self.over.lock().unwrap_or_else(PoisonError::into_inner).insert((namespace.clone(), name.clone()));
        self.overflowing.notify_one();
    }

    /// The queues that were told of by [`Bell::over`] since.
    pub(super) fn take_over(&self) -> HashSet<(NamespaceName, QueueName)> {
        std::mem::take(&mut self.over.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Anything may have happened.
    pub(crate) fn missed(&self) {
        self.known.forget_all();
        for desk in self.lock().of.values() {
            desk.doubt();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Desks> {
        self.desks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
