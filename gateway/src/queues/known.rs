//! What a gateway remembers of queues: looked up once and their filters made ready, dropped when the ledger tells of a change.

use std::sync::Arc;

use lakefall_metadata::Metadata;
use lakefall_queue::error::{Error, Result};
use lakefall_queue::ledger::{Answer, Query};
use lakefall_queue::queue::{Queue, Source};
use lakefall_queue::{NamespaceName, QueueName, TopicId};

use super::filter::Filters;
use crate::read::ASK_FOR;
use crate::remembered::Remembered;

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
    known: Remembered<(NamespaceName, QueueName), Known>,
}

impl KnownQueues {
    pub(crate) fn new(metadata: Arc<dyn Metadata>) -> Self {
        Self { metadata, known: Remembered::default() }
    }

    /// A queue, from memory or from its ledger.
    pub(crate) async fn get(&self, namespace: &NamespaceName, name: &QueueName) -> Result<Arc<Known>> {
        let key = (namespace.clone(), name.clone());
        let since = match self.known.get(&key) {
            Ok(known) => return Ok(known),
            Err(since) => since,
        };
        let queue = self.ask(namespace, name).await?;
        let filters = Filters::new(&queue)?;
        Ok(self.known.remember(key, Known { queue, filters }, since))
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
        self.known.forget(&(namespace.clone(), name.clone()));
    }

    pub(crate) fn forget_all(&self) {
        self.known.forget_all();
    }
}
