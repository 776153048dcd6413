//! What a gateway remembers of topics: looked up once, dropped when the ledger tells of a change or refuses a commit.

use std::sync::Arc;

use lakefall_metadata::Metadata;
use lakefall_queue::error::{Error, Result};
use lakefall_queue::ledger::{Answer, Query};
use lakefall_queue::topic::Topic;
use lakefall_queue::{NamespaceName, TopicName};

use crate::read::ASK_FOR;
use crate::remembered::Remembered;

/// The topics that this gateway knows.
pub(crate) struct Topics {
    metadata: Arc<dyn Metadata>,
    known: Remembered<(NamespaceName, TopicName), Topic>,
}

impl Topics {
    pub(crate) fn new(metadata: Arc<dyn Metadata>) -> Self {
        Self { metadata, known: Remembered::default() }
    }

    /// A topic, from memory or from its ledger.
    pub(crate) async fn get(&self, namespace: &NamespaceName, name: &TopicName) -> Result<Arc<Topic>> {
        let key = (namespace.clone(), name.clone());
        let since = match self.known.get(&key) {
            Ok(topic) => return Ok(topic),
            Err(since) => since,
        };
        let shard = namespace.shard(self.metadata.shards());
        let asked = self.metadata.query(shard, Query::Topic(namespace.clone(), name.clone()));
        let away = || Error::unavailable(format!("topic {name} cannot be looked up right now: the metadata service does not answer"));
        match tokio::time::timeout(ASK_FOR, asked).await.map_err(|_| away())?? {
            Answer::Topic(topic) => Ok(self.known.remember(key, topic, since)),
            other => Err(Error::Internal(format!("asked for a topic, got {other:?}"))),
        }
    }

    pub(crate) fn forget(&self, namespace: &NamespaceName, name: &TopicName) {
        self.known.forget(&(namespace.clone(), name.clone()));
    }

    pub(crate) fn forget_all(&self) {
        self.known.forget_all();
    }
}
