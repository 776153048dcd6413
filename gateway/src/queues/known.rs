//! What a gateway remembers of queues: looked up once and their filters made ready, dropped when the ledger tells of a change.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lakefall_metadata::Metadata;
use lakefall_queue::error::{Error, Result};
use lakefall_queue::ledger::{Answer, Query};
use lakefall_queue::queue::{Queue, Source};
use lakefall_queue::{NamespaceName, QueueName, TopicId};

use super::filter::Filters;
use crate::read::ASK_FOR;

/// Queues remembered; beyond it all are forgotten and looked up again.
const CAPACITY: usize = 100_000;

type Key = (NamespaceName, QueueName);

/// A queue, and what it takes.
#[derive(Debug)]
pub(crate) struct Known {
    pub(crate) queue: Queue,
    pub(crate) filters: Filters,
}

impl Known {
    /// A topic that it reads.
    pub(crate) fn source(&self, topic: TopicId) -> Option<&Source> {
        self.queue.sources.iter().find(|source| source.topic == topic)
    }
}

/// The queues that this gateway knows.
pub(crate) struct KnownQueues {
    metadata: Arc<dyn Metadata>,
    known: Mutex<HashMap<Key, Arc<Known>>>,
    /// Raised with each change that was told: an answer from before it is not remembered.
    changes: AtomicU64,
}

impl KnownQueues {
    pub(crate) fn new(metadata: Arc<dyn Metadata>) -> Self {
        Self { metadata, known: Mutex::default(), changes: AtomicU64::new(0) }
    }

    /// A queue, from memory or from its ledger.
    pub(crate) async fn get(&self, namespace: &NamespaceName, name: &QueueName) -> Result<Arc<Known>> {
        let key = (namespace.clone(), name.clone());
        if let Some(known) = self.lock().get(&key) {
            return Ok(Arc::clone(known));
        }
        let changes = self.changes.load(Ordering::SeqCst);
        let queue = self.ask(namespace, name).await?;
        let filters = Filters::new(&queue)?;
        let known = Arc::new(Known { queue, filters });
        let mut all = self.lock();
        if self.changes.load(Ordering::SeqCst) == changes {
            if all.len() >= CAPACITY {
                all.clear();
            }
            all.insert(key, Arc::clone(&known));
        }
        Ok(known)
    }

    /// A queue as it is now.
    pub(crate) async fn ask(&self, namespace: &NamespaceName, name: &QueueName) -> Result<Queue> {
        let shard = namespace.shard(self.metadata.shards());
        let asked = self.metadata.query(shard, Query::Queue(namespace.clone(), name.clone()));
        let away = || Error::unavailable(format!("queue {name} cannot be looked up right now: the metadata service does not answer"));
        match tokio::time::timeout(ASK_FOR, asked).await.map_err(|_| away())?? {
            Answer::Queue(queue) => Ok(*queue),
            other => Err(Error::Internal(format!("asked for a queue, got {other:?}"))),
        }
    }

    pub(crate) fn forget(&self, namespace: &NamespaceName, name: &QueueName) {
        let mut known = self.lock();
        self.changes.fetch_add(1, Ordering::SeqCst);
        known.remove(&(namespace.clone(), name.clone()));
    }

    pub(crate) fn forget_all(&self) {
        let mut known = self.lock();
        self.changes.fetch_add(1, Ordering::SeqCst);
        known.clear();
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Arc<Known>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
