//! What a gateway remembers of topics: looked up once, dropped when the ledger tells of a change or refuses a commit.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lakefall_metadata::Metadata;
use lakefall_queue::error::{Error, Result};
use lakefall_queue::ledger::{Answer, Query};
use lakefall_queue::topic::Topic;
use lakefall_queue::{NamespaceName, TopicName};

/// Topics remembered; beyond it all are forgotten and looked up again.
const CAPACITY: usize = 100_000;

type Key = (NamespaceName, TopicName);

/// The topics that this gateway knows.
pub(crate) struct Topics {
    metadata: Arc<dyn Metadata>,
    known: Mutex<HashMap<Key, Arc<Topic>>>,
}

impl Topics {
    pub(crate) fn new(metadata: Arc<dyn Metadata>) -> Self {
        Self { metadata, known: Mutex::default() }
    }

    /// A topic, from memory or from its ledger.
    pub(crate) async fn get(&self, namespace: &NamespaceName, name: &TopicName) -> Result<Arc<Topic>> {
        let key = (namespace.clone(), name.clone());
        if let Some(topic) = self.lock().get(&key) {
            return Ok(Arc::clone(topic));
        }
        let shard = namespace.shard(self.metadata.shards());
        match self.metadata.query(shard, Query::Topic(namespace.clone(), name.clone())).await? {
            Answer::Topic(topic) => Ok(self.remember(topic)),
            other => Err(Error::Internal(format!("asked for a topic, got {other:?}"))),
        }
    }

    pub(crate) fn remember(&self, topic: Topic) -> Arc<Topic> {
        let topic = Arc::new(topic);
        let mut known = self.lock();
        if known.len() >= CAPACITY {
            known.clear();
        }
        known.insert((topic.namespace.clone(), topic.name.clone()), Arc::clone(&topic));
        topic
    }

    pub(crate) fn forget(&self, namespace: &NamespaceName, name: &TopicName) {
        self.lock().remove(&(namespace.clone(), name.clone()));
    }

    pub(crate) fn forget_all(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Arc<Topic>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
