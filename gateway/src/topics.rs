//! What a gateway remembers of topics: looked up once, dropped when the ledger tells of a change or refuses a commit.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lakefall_metadata::Metadata;
use lakefall_queue::error::{Error, Result};
use lakefall_queue::ledger::{Answer, Query};
use lakefall_queue::topic::Topic;
use lakefall_queue::{NamespaceName, TopicName};

use crate::read::ASK_FOR;

/// Topics remembered; beyond it all are forgotten and looked up again.
const CAPACITY: usize = 100_000;

type Key = (NamespaceName, TopicName);

/// The topics that this gateway knows.
pub(crate) struct Topics {
    metadata: Arc<dyn Metadata>,
    known: Mutex<HashMap<Key, Arc<Topic>>>,
    /// Raised with each change that was told: an answer from before it is not remembered.
    changes: AtomicU64,
}

impl Topics {
    pub(crate) fn new(metadata: Arc<dyn Metadata>) -> Self {
        Self { metadata, known: Mutex::default(), changes: AtomicU64::new(0) }
    }

    /// A topic, from memory or from its ledger.
    pub(crate) async fn get(&self, namespace: &NamespaceName, name: &TopicName) -> Result<Arc<Topic>> {
        let key = (namespace.clone(), name.clone());
        if let Some(topic) = self.lock().get(&key) {
            return Ok(Arc::clone(topic));
        }
        let shard = namespace.shard(self.metadata.shards());
        let changes = self.changes.load(Ordering::SeqCst);
        let asked = self.metadata.query(shard, Query::Topic(namespace.clone(), name.clone()));
        let away = || Error::unavailable(format!("topic {name} cannot be looked up right now: the metadata service does not answer"));
        match tokio::time::timeout(ASK_FOR, asked).await.map_err(|_| away())?? {
            Answer::Topic(topic) => Ok(self.remember(topic, changes)),
            other => Err(Error::Internal(format!("asked for a topic, got {other:?}"))),
        }
    }

    fn remember(&self, topic: Topic, changes: u64) -> Arc<Topic> {
        let topic = Arc::new(topic);
        let mut known = self.lock();
        if self.changes.load(Ordering::SeqCst) != changes {
            return topic;
        }
        if known.len() >= CAPACITY {
            known.clear();
        }
        known.insert((topic.namespace.clone(), topic.name.clone()), Arc::clone(&topic));
        topic
    }

    pub(crate) fn forget(&self, namespace: &NamespaceName, name: &TopicName) {
        let mut known = self.lock();
        self.changes.fetch_add(1, Ordering::SeqCst);
        known.remove(&(namespace.clone(), name.clone()));
    }

    pub(crate) fn forget_all(&self) {
        let mut known = self.lock();
        self.changes.fetch_add(1, Ordering::SeqCst);
        known.clear();
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Arc<Topic>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
