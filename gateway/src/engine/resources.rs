//! Topics, cursors and namespaces: one question to the ledger each, and its answer unpacked.

use lakefall_queue::error::{Error, Result};
use lakefall_queue::ledger::{Answer, Command, Extent, Query, Reply, object_key};
use lakefall_queue::topic::{Topic, TopicConfig, TopicDescription};
use lakefall_queue::verbs::{Caller, Cursor, CursorMove, Idempotency, Namespace, ObjectRange, Page, PageRequest, Precondition};
use lakefall_queue::{CursorName, NamespaceName, PartitionIndex, ShardId, TopicName};

use super::Engine;

impl Engine {
    pub(super) async fn put_topic_checked(
        &self,
        caller: &Caller,
        name: &TopicName,
        config: TopicConfig,
        condition: Precondition,
        idempotency: Option<Idempotency>,
    ) -> Result<(Topic, bool)> {
        config.check(&self.limits_now())?;
        let command = Command::PutTopic { namespace: caller.namespace.clone(), name: name.clone(), config, condition, idempotency };
        match self.execute(&caller.namespace, command).await? {
            Reply::Topic(topic, created) => {
                // Not remembered: a repeated request's answer is the topic as it was then.
                self.topics.forget(&caller.namespace, name);
                self.reader.forget(topic.id);
                Ok((topic, created))
            }
            other => Err(unexpected(&other)),
        }
    }

    pub(super) async fn describe(&self, caller: &Caller, name: &TopicName) -> Result<TopicDescription> {
        let topic = match self.ask(&caller.namespace, Query::Topic(caller.namespace.clone(), name.clone())).await? {
            Answer::Topic(topic) => topic,
            other => return Err(unexpected(&other)),
        };
        match self.ask(&caller.namespace, Query::Partitions(topic.id)).await? {
            Answer::Partitions(status) => Ok(TopicDescription { topic, status }),
            other => Err(unexpected(&other)),
        }
    }

    pub(super) async fn topics_page(&self, caller: &Caller, page: PageRequest) -> Result<Page<Topic>> {
        match self.ask(&caller.namespace, Query::Topics(caller.namespace.clone(), page)).await? {
            Answer::Topics(page) => Ok(page),
            other => Err(unexpected(&other)),
        }
    }

    pub(super) async fn cursor_moved(&self, caller: &Caller, change: CursorMove) -> Result<Cursor> {
        match self.execute(&caller.namespace, Command::PutCursor { namespace: caller.namespace.clone(), change }).await? {
            Reply::Cursor(cursor) => Ok(cursor),
            other => Err(unexpected(&other)),
        }
    }

    pub(super) async fn cursor(&self, caller: &Caller, cursor: &CursorName) -> Result<Vec<Cursor>> {
        match self.ask(&caller.namespace, Query::Cursor(caller.namespace.clone(), cursor.clone())).await? {
            Answer::Cursor(found) if found.is_empty() => Err(Error::CursorNotFound(cursor.clone())),
            Answer::Cursor(found) => Ok(found),
            other => Err(unexpected(&other)),
        }
    }

    pub(super) async fn cursors_page(&self, caller: &Caller, page: PageRequest) -> Result<Page<Cursor>> {
        match self.ask(&caller.namespace, Query::Cursors(caller.namespace.clone(), page)).await? {
            Answer::Cursors(page) => Ok(page),
            other => Err(unexpected(&other)),
        }
    }

    pub(super) async fn namespace_put(
        &self,
        name: &NamespaceName,
        description: String,
        condition: Precondition,
    ) -> Result<(Namespace, bool)> {
        match self.execute(name, Command::PutNamespace { name: name.clone(), description, condition }).await? {
            Reply::Namespace(namespace, created) => Ok((namespace, created)),
            other => Err(unexpected(&other)),
        }
    }

    pub(super) async fn namespace(&self, name: &NamespaceName) -> Result<Namespace> {
        match self.ask(name, Query::Namespace(name.clone())).await? {
            Answer::Namespace(namespace) => Ok(namespace),
            other => Err(unexpected(&other)),
        }
    }

    /// Namespaces are spread over all shards: each gives its first, the smallest of all make the page.
    pub(super) async fn namespaces_page(&self, page: PageRequest) -> Result<Page<Namespace>> {
        let mut items = Vec::new();
        let mut more = false;
        for shard in (0..self.metadata.shards()).map(ShardId) {
            match self.metadata.query(shard, Query::Namespaces(page.clone())).await? {
                Answer::Namespaces(part) => {
                    more |= part.next.is_some();
                    items.extend(part.items);
                }
                other => return Err(unexpected(&other)),
            }
        }
        items.sort_by(|a: &Namespace, b| a.name.cmp(&b.name));
        more |= items.len() > page.limit;
        items.truncate(page.limit);
        let next = items.last().filter(|_| more).map(|last| last.name.to_string());
        Ok(Page { items, next })
    }

    pub(crate) async fn ask(&self, namespace: &NamespaceName, query: Query) -> Result<Answer> {
        self.metadata.query(namespace.shard(self.metadata.shards()), query).await
    }
}

pub(crate) fn unexpected(answer: &dyn std::fmt::Debug) -> Error {
    Error::Internal(format!("the ledger answered another question: {answer:?}"))
}

pub(crate) fn object_range(topic: &Topic, partition: PartitionIndex, extent: &Extent) -> ObjectRange {
    ObjectRange {
        object: extent.object,
        level: extent.level,
        key: object_key(&topic.namespace, &topic.name, extent),
        partition,
        first_offset: extent.base_offset,
        records: u64::from(extent.records),
        position: extent.position,
        length: u64::from(extent.length),
        appended_at: extent.appended_at,
    }
}
