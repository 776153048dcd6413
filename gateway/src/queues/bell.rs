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

    /// Somebody leaves a desk: who is the last, while nobody works or waits there, takes it away.
    pub(super) fn close(&self, desk: Arc<Desk>) {
        let mut desks = self.lock();
        let (queue, empty) = (desk.queue, desk.is_empty());
        // Within the lock: of two who leave at once, one must see itself as the last.
        drop(desk);
        if !empty || desks.of.get(&queue).is_none_or(|desk| Arc::strong_count(desk) > 1) {
            return;
        }
        desks.of.remove(&queue);
        desks.readers.retain(|_, queues| {
            queues.remove(&queue);
            !queues.is_empty()
        });
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

#[cfg(test)]
mod tests {
    use async_trait::async_trait;
    use lakefall_metadata::{Identity, News};
    use lakefall_queue::error::{Error, Result};
    use lakefall_queue::ledger::{Answer, Command, Query, Reply};
    use lakefall_queue::queue::{QueueConfig, Source};
    use lakefall_queue::{ShardId, Timestamp, TopicName};
    use tokio::sync::broadcast;

    use super::*;

    /// A metadata service that nobody asks.
    struct Nobody;

    #[async_trait]
    impl Metadata for Nobody {
        fn shards(&self) -> u32 {
            1
        }

        async fn execute(&self, _: ShardId, _: Command) -> Result<Reply> {
            Err(Error::unavailable("nobody is there"))
        }

        async fn query(&self, _: ShardId, _: Query) -> Result<Answer> {
            Err(Error::unavailable("nobody is there"))
        }

        fn subscribe(&self) -> broadcast::Receiver<Arc<News>> {
            broadcast::channel(1).1
        }

        async fn identity(&self) -> Result<Identity> {
            Err(Error::unavailable("nobody is there"))
        }
    }

    #[test]
    fn a_desk_stays_until_the_last_one_leaves_it_whoever_that_is() {
        let bell = Bell::new(Arc::new(Nobody));
        let topic = TopicId::new(ShardId(0), 1);
        let queue = Queue {
            namespace: NamespaceName::default_name(),
            name: QueueName::new("q").unwrap(),
            id: QueueId::new(ShardId(0), 2),
            version: 1,
            generation: 1,
            created_at: Timestamp::default(),
            config: QueueConfig::default(),
            bindings: Default::default(),
            sources: vec![Source { topic, name: TopicName::new("q").unwrap(), partitions: 1 }],
        };
        let (dispatcher, consumer) = (bell.desk(&queue), bell.desk(&queue));
        bell.close(dispatcher);
        assert!(bell.find(queue.id).is_some(), "a consumer holds it");
        bell.close(consumer);
        assert!(bell.find(queue.id).is_none());
        assert!(bell.lock().readers.is_empty());
    }
}
