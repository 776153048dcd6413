//! From a topic's name to the topic, and again where what was remembered turns out to be stale: it was deleted, created again,
//! or given more partitions, and this gateway missed the notice.

use std::future::Future;
use std::sync::Arc;

use lakefall_queue::error::{Error, Result};
use lakefall_queue::topic::Topic;
use lakefall_queue::verbs::Caller;
use lakefall_queue::{NamespaceName, TopicName};

use super::Engine;
use crate::read::Failure;

/// How often a name is resolved for one request.
const ATTEMPTS: usize = 3;

impl Engine {
    /// Asks something of the topic of this name.
    pub(crate) async fn on_topic<T, F>(&self, caller: &Caller, name: &TopicName, ask: impl Fn(Arc<Topic>) -> F + Send) -> Result<T>
    where
        F: Future<Output = Result<T, Failure>> + Send,
    {
        for attempt in 1.. {
            let topic = self.topics.get(&caller.namespace, name).await?;
            match ask(Arc::clone(&topic)).await {
                Ok(answer) => return Ok(answer),
                Err(Failure::TopicGone) if attempt < ATTEMPTS => self.forget(&caller.namespace, &topic),
                // It may have been added since.
                Err(Failure::Refused(Error::PartitionNotFound { .. })) if attempt == 1 => self.forget(&caller.namespace, &topic),
                Err(failure) => return Err(failure.into_error()),
            }
        }
        Err(Error::unavailable("the topic keeps changing"))
    }

    fn forget(&self, namespace: &NamespaceName, topic: &Topic) {
        self.topics.forget(namespace, &topic.name);
        self.reader.forget(topic.id);
    }
}
