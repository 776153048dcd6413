//! Topics: create, change, trim, delete.

use super::windows::RememberedReply;
use super::{Applied, Ledger, Notice, Partition, PartitionKey, Reply, RowKey, check_condition};
use crate::error::{Error, Result};
use crate::id::{NamespaceName, Offset, PartitionIndex, TopicId, TopicName};
use crate::time::Timestamp;
use crate::topic::{Topic, TopicConfig};
use crate::verbs::{Idempotency, Precondition};

impl Ledger {
    pub(super) fn put_topic(
        &mut self,
        namespace: &NamespaceName,
        name: &TopicName,
        config: &TopicConfig,
        condition: Precondition,
        idempotency: Option<&Idempotency>,
        now: Timestamp,
    ) -> Applied {
        if let Some(key) = idempotency {
            match self.idempotency.find(namespace, key, now) {
                Ok(None) => {}
                Ok(Some(RememberedReply::Topic(topic))) => return Applied::unchanged(Ok(Reply::Topic((**topic).clone(), true))),
                Ok(Some(RememberedReply::Acks(_) | RememberedReply::Queue(_))) | Err(()) => {
                    return Applied::unchanged(Err(Error::IdempotencyConflict));
                }
            }
        }
        let put = self.put_topic_once(namespace, name, config, condition, now);
        if let (Ok(Reply::Topic(topic, _)), Some(key)) = (&put, idempotency) {
            let reply = RememberedReply::Topic(Box::new(topic.clone()));
            self.idempotency.remember(namespace, key, reply, now, &mut self.dirty);
        }
        put.into()
    }

    pub(super) fn put_topic_once(
        &mut self,
        namespace: &NamespaceName,
        name: &TopicName,
        config: &TopicConfig,
        condition: Precondition,
        now: Timestamp,
    ) -> Result<Reply> {
        self.require_namespace(namespace)?;
        let key = (namespace.clone(), name.clone());
        let current = self.names.get(&key).and_then(|id| self.topics.get(id));
        check_condition(
            condition,
            current.map(|topic| topic.version),
            || Error::AlreadyExists { what: "topic", name: name.to_string() },
            || Error::TopicNotFound(name.clone()),
        )?;
        if let Some(topic) = current
            && config.partitions < topic.config.partitions
        {
            return Err(Error::invalid(
                "partitions",
                format!("a topic's partitions cannot be taken away: it has {}", topic.config.partitions),
            ));
        }
        self.check_topic_schema(namespace, config)?;
        let topic = Topic {
            namespace: namespace.clone(),
            name: name.clone(),
            id: current.map_or_else(|| TopicId::new(self.shard, self.next_topic), |topic| topic.id),
            version: current.map_or(1, |topic| topic.version + 1),
            created_at: current.map_or(now, |topic| topic.created_at),
            config: config.clone(),
        };
        let created = current.is_none();
        self.next_topic += u64::from(created);
        for index in (0..config.partitions).map(PartitionIndex) {
            self.partitions.entry((topic.id, index)).or_insert_with(|| {
                self.dirty.insert(RowKey::Partition(topic.id, index));
                Partition::default()
            });
        }
        self.names.insert(key, topic.id);
        self.dirty.insert(RowKey::Topic(topic.id));
        self.topics.insert(topic.id, topic.clone());
        if !created {
            self.join_queues(&topic);
        }
        self.notify_topic(&topic);
        Ok(Reply::Topic(topic, created))
    }

    pub(super) fn delete_topic(&mut self, namespace: &NamespaceName, name: &TopicName, condition: Precondition) -> Result<Reply> {
        self.require_namespace(namespace)?;
        let key = (namespace.clone(), name.clone());
        let topic = self.names.get(&key).and_then(|id| self.topics.get(id)).ok_or_else(|| Error::TopicNotFound(name.clone()))?.clone();
        check_condition(
            condition,
            Some(topic.version),
            || Error::AlreadyExists { what: "topic", name: name.to_string() },
            || Error::TopicNotFound(name.clone()),
        )?;
        self.names.remove(&key);
        self.topics.remove(&topic.id);
        self.dirty.insert(RowKey::Topic(topic.id));
        for index in (0..topic.config.partitions).map(PartitionIndex) {
            self.mark_deleted(topic.id, index);
        }
        self.producers.forget_topic(topic.id, &mut self.dirty);
        self.dedup.forget_topic(topic.id, &mut self.dirty);
        self.usage.forget_topic(namespace, topic.id, &mut self.dirty);
        self.forget_cursors_of(namespace, name);
        self.leave_queues(&topic);
        self.notify_topic(&topic);
        Ok(Reply::Done)
    }

    fn mark_deleted(&mut self, topic: TopicId, index: PartitionIndex) {
        let key = (topic, index);
        if let Some(partition) = self.partitions.get_mut(&key) {
            partition.deleted = true;
            partition.log_start = partition.next;
            if partition.retired == partition.next {
                self.remove_partition(key);
            }
            self.dirty.insert(RowKey::Partition(topic, index));
        }
        self.compactable.remove(&key);
    }

    /// The last extent of a deleted topic's partition was retired.
    pub(super) fn remove_partition(&mut self, key: PartitionKey) {
        if let Some(partition) = self.partitions.remove(&key) {
            self.recents.evictable.remove(&(partition.stored_by(), key));
        }
    }

    pub(super) fn trim(&mut self, topic: TopicId, partition: Option<PartitionIndex>, before: Offset) -> Applied {
        let Some(described) = self.topics.get(&topic).cloned() else {
            return Applied::unchanged(Err(Error::unavailable("the topic was deleted while the request was under way")));
        };
        let indexes = match partition {
            Some(index) => index.0..index.0.saturating_add(1),
            None => 0..described.config.partitions,
        };
        let mut changed = false;
        for index in indexes.map(PartitionIndex) {
            if let Some(partition) = self.partitions.get_mut(&(topic, index)) {
                let log_start = before.min(partition.next);
                if log_start > partition.log_start {
                    partition.log_start = log_start;
                    self.dirty.insert(RowKey::Partition(topic, index));
                    changed = true;
                }
            }
        }
        if changed {
            self.raise_bounded(topic);
            self.notify_topic(&described);
        }
        Applied { reply: Ok(Reply::Done), changed }
    }

    pub(super) fn notify_topic(&mut self, topic: &Topic) {
        self.notices.push(Notice::TopicChanged { namespace: topic.namespace.clone(), name: topic.name.clone(), topic: topic.id });
    }
}
