//! Queues as resources: create, change, move, delete. What a queue reads is bound in `sources.rs`.

use std::collections::{BTreeMap, BTreeSet};

use super::super::windows::RememberedReply;
use super::super::{Applied, Ledger, Notice, Reply, RowKey, check_condition};
use super::returned::Returned;
use super::state::QueueState;
use super::{PutQueue, SeekQueue};
use crate::error::{Error, Result};
use crate::id::{BindingName, NamespaceName, QueueId, QueueName, TopicId, TopicName};
use crate::queue::{BINDINGS_MAX, Binding, Queue, QueueConfig, QueueStart, Source};
use crate::time::Timestamp;
use crate::topic::TopicConfig;
use crate::verbs::Precondition;

impl Ledger {
    pub(in super::super) fn put_queue(&mut self, put: &PutQueue, now: Timestamp) -> Applied {
        if let Some(key) = &put.idempotency {
            match self.idempotency.find(&put.namespace, key, now) {
                Ok(None) => {}
                Ok(Some(RememberedReply::Queue(queue))) => return Applied::unchanged(Ok(Reply::Queue(queue.clone(), true))),
                Ok(Some(RememberedReply::Acks(_) | RememberedReply::Topic(_))) | Err(()) => {
                    return Applied::unchanged(Err(Error::IdempotencyConflict));
                }
            }
        }
        let plan = match self.plan_queue(put) {
            Ok(plan) => plan,
            Err(error) => return Applied::unchanged(Err(error)),
        };
        let (id, created) = self.carry_out(put, plan, now);
        let Some(queue) = self.described(id).map(Box::new) else {
            return Applied::unchanged(Err(Error::Internal(format!("queue {id} is not there after it was put"))));
        };
        if let Some(key) = &put.idempotency {
            self.idempotency.remember(&put.namespace, key, RememberedReply::Queue(queue.clone()), now, &mut self.dirty);
        }
        Applied::changed(Reply::Queue(queue, created))
    }

    /// Checks everything, so that nothing can go wrong any more when it is carried out.
    fn plan_queue(&self, put: &PutQueue) -> Result<Plan> {
        let PutQueue { namespace, name, config, bindings, condition, .. } = put;
        self.require_namespace(namespace)?;
        let current = self.queue_named(namespace, name);
        check_condition(
            *condition,
            current.map(|queue| queue.about.version),
            || Error::AlreadyExists { what: "queue", name: name.to_string() },
            || Error::QueueNotFound(name.clone()),
        )?;
        config.check()?;
        let mut config = config.clone();
        let bindings: BTreeMap<BindingName, Binding> =
            bindings.clone().or_else(|| Some(current?.about.bindings.clone())).unwrap_or_default();
        if bindings.len() > BINDINGS_MAX {
            return Err(Error::invalid("bindings", format!("a queue has at most {BINDINGS_MAX} bindings, not {}", bindings.len())));
        }
        if let Some(queue) = current
            && queue.about.config.ordering != config.ordering
        {
            return Err(Error::invalid("ordering", "the ordering of a queue cannot be changed: create another queue"));
        }
        let own = TopicName::from(name);
        let is_there = |topic: &TopicName| self.topic_id(namespace, topic).is_ok();
        if config.topics.is_empty() && bindings.is_empty() && (current.is_none() || is_there(&own)) {
            config.topics.push(own.clone());
        }
        let named = config.topics.iter().chain(bindings.values().map(|binding| &binding.topic));
        if let Some(missing) = named.clone().find(|topic| !(is_there(topic) || current.is_none() && **topic == own)) {
            return Err(Error::TopicNotFound(missing.clone()));
        }
        let sources: BTreeSet<TopicName> = named.cloned().collect();
        if let Some(dead_letter) = &config.dead_letter {
            if current.is_some() && !is_there(&dead_letter.topic) {
                return Err(Error::TopicNotFound(dead_letter.topic.clone()));
            }
            self.check_cycle(namespace, name, &dead_letter.topic, &sources)?;
        }
        self.check_dead_letters(put, current, &sources)?;
        Ok(Plan { config, bindings, sources })
    }

    /// No chain of dead-letter topics may lead back to what the queue reads.
    fn check_cycle(&self, namespace: &NamespaceName, name: &QueueName, dead: &TopicName, sources: &BTreeSet<TopicName>) -> Result<()> {
        let (mut seen, mut open) = (BTreeSet::new(), vec![dead.clone()]);
        while let Some(topic) = open.pop() {
            if sources.contains(&topic) {
                return Err(Error::DeadLetterCycle { queue: name.clone(), topic: dead.clone() });
            }
            if !seen.insert(topic.clone()) {
                continue;
            }
            let Ok(id) = self.topic_id(namespace, &topic) else { continue };
            let readers = self.queues.readers.get(&id).into_iter().flatten().filter_map(|queue| self.queues.by_id.get(queue));
            open.extend(
                readers
                    .filter(|queue| queue.about.name != *name)
                    .filter_map(|queue| Some(queue.about.config.dead_letter.as_ref()?.topic.clone())),
            );
        }
        Ok(())
    }

    /// The queue that is named like a dead-letter topic must read it. What was so before is let be.
    fn check_dead_letters(&self, put: &PutQueue, current: Option<&QueueState>, sources: &BTreeSet<TopicName>) -> Result<()> {
        let PutQueue { namespace, name, config, .. } = put;
        let reads = |queue: &QueueState, topic: &TopicName| self.topic_id(namespace, topic).is_ok_and(|id| queue.sources.contains(&id));
        let before = current.and_then(|queue| queue.about.config.dead_letter.as_ref());
        if let Some(dead) = config.dead_letter.as_ref().filter(|dead| before != Some(dead))
            && let Some(taken) = self.queue_named(namespace, &QueueName::from(&dead.topic)).filter(|queue| !reads(queue, &dead.topic))
        {
            return Err(Error::DeadLetterQueueTaken { queue: taken.about.name.clone(), topic: dead.topic.clone() });
        }
        let own = TopicName::from(name);
        let leaves = !sources.contains(&own) && current.is_none_or(|queue| reads(queue, &own));
        let gives = |queue: &QueueState| queue.about.config.dead_letter.as_ref().is_some_and(|dead| dead.topic == own);
        if leaves && self.topic_id(namespace, &own).is_ok() {
            let mut others = self.queues.by_id.values().filter(|queue| queue.about.namespace == *namespace && queue.about.name != *name);
            if others.any(gives) {
                return Err(Error::DeadLetterQueueTaken { queue: name.clone(), topic: own });
            }
        }
        Ok(())
    }

    fn carry_out(&mut self, put: &PutQueue, plan: Plan, now: Timestamp) -> (QueueId, bool) {
        let Plan { config, bindings, sources } = plan;
        let dead = config.dead_letter.as_ref().map(|dead_letter| dead_letter.topic.clone());
        for topic in sources.iter().chain(&dead) {
            self.create_topic(&put.namespace, topic, now);
        }
        if let Some(topic) = dead
            && self.queue_named(&put.namespace, &QueueName::from(&topic)).is_none()
        {
            let config = QueueConfig { topics: vec![topic.clone()], start: QueueStart::Earliest, ..QueueConfig::default() };
            let id = self.create_queue(&put.namespace, &QueueName::from(&topic), config, now);
            self.bind(id, &BTreeSet::from([topic]), &Vec::new());
            self.notify_queue(id);
        }
        let current = self.queues.names.get(&(put.namespace.clone(), put.name.clone())).copied();
        let id = match current {
            Some(id) => id,
            None => self.create_queue(&put.namespace, &put.name, config.clone(), now),
        };
        self.queues.unindex(id);
        if let Some(queue) = self.queues.by_id.get_mut(&id) {
            queue.about.version += u64::from(current.is_some());
            queue.about.config = config;
            queue.about.bindings = bindings;
            queue.mark(&mut self.dirty);
        }
        self.queues.index(id);
        self.bind(id, &sources, &put.positions);
        self.notify_queue(id);
        (id, current.is_none())
    }

    fn create_topic(&mut self, namespace: &NamespaceName, name: &TopicName, now: Timestamp) {
        if self.topic_id(namespace, name).is_err() {
            // The namespace is there, and a topic with default settings cannot be refused.
            let _ = self.put_topic_once(namespace, name, &TopicConfig::default(), Precondition::Absent, now);
        }
    }

    /// A queue that reads nothing yet.
    fn create_queue(&mut self, namespace: &NamespaceName, name: &QueueName, config: QueueConfig, now: Timestamp) -> QueueId {
        let id = QueueId::new(self.shard, self.next_topic);
        self.next_topic += 1;
        let about = Queue {
            namespace: namespace.clone(),
            name: name.clone(),
            id,
            version: 1,
            generation: 1,
            created_at: now,
            config,
            bindings: BTreeMap::new(),
            sources: Vec::new(),
        };
        self.queues.by_id.insert(id, QueueState::new(about));
        self.queues.index(id);
        self.dirty.insert(RowKey::Queue(id));
        id
    }

    pub(in super::super) fn delete_queue(&mut self, namespace: &NamespaceName, name: &QueueName, condition: Precondition) -> Result<Reply> {
        self.require_namespace(namespace)?;
        let queue = self.queue_named(namespace, name).ok_or_else(|| Error::QueueNotFound(name.clone()))?;
        check_condition(
            condition,
            Some(queue.about.version),
            || Error::AlreadyExists { what: "queue", name: name.to_string() },
            || Error::QueueNotFound(name.clone()),
        )?;
        let id = queue.about.id;
        self.notify_queue(id);
        self.queues.unindex(id);
        if let Some(queue) = self.queues.by_id.remove(&id) {
            queue.mark_all(&mut self.dirty);
        }
        Ok(Reply::Done)
    }

    pub(in super::super) fn seek_queue(&mut self, seek: &SeekQueue) -> Result<Reply> {
        self.require_namespace(&seek.namespace)?;
        let queue = self.queue_named(&seek.namespace, &seek.name).ok_or_else(|| Error::QueueNotFound(seek.name.clone()))?;
        let (id, mut starts) = (queue.about.id, BTreeMap::new());
        for key in queue.partitions.keys() {
            let start = seek.start.and_then(|start| self.start_of(*key, start));
            starts.extend(start.map(|start| (*key, start)));
        }
        for (topic, index, offset) in &seek.positions {
            let partition = self.partitions.get(&(*topic, *index)).filter(|_| queue.partitions.contains_key(&(*topic, *index)));
            let Some(partition) = partition else {
                return Err(Error::invalid("offsets", format!("queue {} does not read partition {index} of topic {topic}", seek.name)));
            };
            if *offset > partition.next {
                let reason = format!("offset {offset} is beyond the end of partition {index}, which is {}", partition.next);
                return Err(Error::invalid("offsets", reason));
            }
            starts.insert((*topic, *index), offset.0.max(partition.log_start.0));
        }
        if let Some(queue) = self.queues.by_id.get_mut(&id) {
            queue.about.generation += 1;
            queue.receives.clear();
            queue.returned = Returned::default();
            for (key, start) in starts {
                queue.restart(key, start, &mut self.dirty);
            }
            queue.count();
            queue.flush(&mut self.dirty);
            queue.mark(&mut self.dirty);
        }
        self.queues.bounds.grew(id);
        self.queues.rearm(id);
        self.notify_queue(id);
        self.described(id).map(|queue| Reply::Queue(Box::new(queue), false)).ok_or_else(|| Error::QueueNotFound(seek.name.clone()))
    }

    pub(super) fn notify_queue(&mut self, id: QueueId) {
        if let Some(queue) = self.queues.by_id.get(&id) {
            let (namespace, name) = (queue.about.namespace.clone(), queue.about.name.clone());
            self.notices.push(Notice::QueueChanged { namespace, name, queue: id });
        }
    }

    /// The queue of that name.
    pub(super) fn queue_named(&self, namespace: &NamespaceName, name: &QueueName) -> Option<&QueueState> {
        self.queues.by_id.get(self.queues.names.get(&(namespace.clone(), name.clone()))?)
    }

    /// A queue as it is told of.
    pub(super) fn described(&self, id: QueueId) -> Option<Queue> {
        let queue = self.queues.by_id.get(&id)?;
        let source = |topic: &TopicId| {
            let topic = self.topics.get(topic)?;
            Some(Source { topic: topic.id, name: topic.name.clone(), partitions: topic.config.partitions })
        };
        Some(Queue { sources: queue.sources.iter().filter_map(source).collect(), ..queue.about.clone() })
    }
}

/// What a queue is to be.
struct Plan {
    config: QueueConfig,
    bindings: BTreeMap<BindingName, Binding>,
    sources: BTreeSet<TopicName>,
}
