//! The verbs on queues as resources: settings, bindings, places and figures. Filters are checked here, before the ledger sees
//! them; what a lease is, is elsewhere.

use std::collections::BTreeMap;

use futures::FutureExt;
use futures::stream::{FuturesUnordered, StreamExt};
use lakefall_queue::error::{Error, Result};
use lakefall_queue::ledger::{
    Answer, Command, Positions, PutQueue, Query, QueueNumbers, Reply, SeekQueue, SettleAction, SettleItem, SettleMessages, SettleOutcome,
};
use lakefall_queue::queue::{BINDINGS_MAX, Binding, Queue, QueueConfig, QueueStart, QueueStats, SeekTo};
use lakefall_queue::topic::Topic;
use lakefall_queue::verbs::{Caller, Idempotency, Page, PageRequest, Precondition, Start};
use lakefall_queue::{BindingName, Offset, PartitionIndex, QueueName, Timestamp, TopicName};

use super::Engine;
use super::resources::unexpected;
use crate::queues::{check_binding, check_filter};

/// How often a change of bindings is tried while others change the queue.
const TRIES: usize = 8;
/// Partitions whose oldest message is looked up for the figures, and how many at once.
const OLDEST: (usize, usize) = (256, 16);

impl Engine {
    pub(super) async fn queue_put(
        &self,
        caller: &Caller,
        name: &QueueName,
        config: QueueConfig,
        condition: Precondition,
        idempotency: Option<Idempotency>,
    ) -> Result<(Queue, bool)> {
        config.check()?;
        check_filter(&config)?;
        let own = [TopicName::from(name)];
        let topics = if config.topics.is_empty() { &own[..] } else { &config.topics };
        let positions = self.begin_at(caller, &config, topics).await?;
        let namespace = caller.namespace.clone();
        self.put(PutQueue { namespace, name: name.clone(), config, bindings: None, positions, condition, idempotency }).await
    }

    async fn put(&self, put: PutQueue) -> Result<(Queue, bool)> {
        let namespace = put.namespace.clone();
        match self.execute(&namespace, Command::PutQueue(Box::new(put))).await? {
            Reply::Queue(queue, created) => {
                self.queues.forget(&queue);
                Ok((*queue, created))
            }
            other => Err(unexpected(&other)),
        }
    }

    /// Where a queue begins in topics, if its start is a time. Topics that are not there yet are empty when it is created.
    async fn begin_at(&self, caller: &Caller, config: &QueueConfig, topics: &[TopicName]) -> Result<Positions> {
        let QueueStart::Time(time) = config.start else { return Ok(Positions::new()) };
        let mut positions = Positions::new();
        for topic in topics {
            match self.at_time(caller, topic, time).await {
                Err(Error::TopicNotFound(_)) => {}
                found => positions.extend(found?),
            }
        }
        Ok(positions)
    }

    async fn at_time(&self, caller: &Caller, topic: &TopicName, time: Timestamp) -> Result<Positions> {
        let positions = |topic: std::sync::Arc<Topic>| async move {
            let all: Vec<PartitionIndex> = (0..topic.config.partitions).map(PartitionIndex).collect();
            let positions = self.reader.positions(&topic, &all, Start::Timestamp(time)).await?;
            Ok(positions.into_iter().map(|at| (topic.id, at.partition, at.next)).collect())
        };
        self.on_topic(caller, topic, positions).await
    }

    pub(super) async fn queue_described(&self, caller: &Caller, name: &QueueName) -> Result<Queue> {
        self.queues.bell.known.ask(&caller.namespace, name).await
    }

    pub(super) async fn queues_page(&self, caller: &Caller, page: PageRequest) -> Result<Page<Queue>> {
        match self.ask(&caller.namespace, Query::Queues(caller.namespace.clone(), page)).await? {
            Answer::Queues(page) => Ok(page),
            other => Err(unexpected(&other)),
        }
    }

    pub(super) async fn queue_deleted(&self, caller: &Caller, name: &QueueName, condition: Precondition) -> Result<()> {
        let command = Command::DeleteQueue { namespace: caller.namespace.clone(), name: name.clone(), condition };
        self.execute(&caller.namespace, command).await?;
        self.queues.bell.known.forget(&caller.namespace, name);
        Ok(())
    }

    pub(super) async fn binding_put(
        &self,
        caller: &Caller,
        queue: &QueueName,
        id: &BindingName,
        binding: Binding,
    ) -> Result<(Queue, bool)> {
        check_binding(&binding)?;
        // Asked first, so that a topic that is not there is told as such.
        self.topic(caller, &binding.topic).await?;
        self.rebound(caller, queue, |bindings| {
            let added = !bindings.contains_key(id);
            if added && bindings.len() >= BINDINGS_MAX {
                return Err(Error::invalid("binding", format!("the queue has {BINDINGS_MAX} bindings: no more are allowed")));
            }
            bindings.insert(id.clone(), binding.clone());
            Ok(added)
        })
        .await
    }

    pub(super) async fn binding_deleted(&self, caller: &Caller, queue: &QueueName, id: &BindingName) -> Result<Queue> {
        let gone = || Error::BindingNotFound { queue: queue.clone(), binding: id.clone() };
        let (queue, _) = self.rebound(caller, queue, |bindings| bindings.remove(id).map(drop).ok_or_else(gone)).await?;
        Ok(queue)
    }

    /// Changes a queue's bindings as they are, whoever else changes it meanwhile.
    async fn rebound<T: Send>(
        &self,
        caller: &Caller,
        name: &QueueName,
        change: impl Fn(&mut BTreeMap<BindingName, Binding>) -> Result<T> + Send + Sync,
    ) -> Result<(Queue, T)> {
        for _ in 0..TRIES {
            let queue = self.queue_described(caller, name).await?;
            let mut bindings = queue.bindings.clone();
            let told = change(&mut bindings)?;
            let added: Vec<TopicName> = bindings.values().map(|binding| binding.topic.clone()).collect();
            let mut fresh: Vec<TopicName> = added.into_iter().filter(|topic| queue.sources.iter().all(|s| s.name != *topic)).collect();
            fresh.dedup();
            let positions = self.begin_at(caller, &queue.config, &fresh).await?;
            let put = PutQueue {
                namespace: caller.namespace.clone(),
                name: name.clone(),
                config: queue.config,
                bindings: Some(bindings),
                positions,
                condition: Precondition::Version(queue.version),
                idempotency: None,
            };
            match self.put(put).await {
                Err(Error::VersionMismatch { .. }) => {}
                put => return put.map(|(queue, _)| (queue, told)),
            }
        }
        Err(Error::unavailable("the queue keeps changing"))
    }

    pub(super) async fn queue_sought(&self, caller: &Caller, name: &QueueName, to: SeekTo) -> Result<Queue> {
        let queue = self.queue_described(caller, name).await?;
        let (start, positions) = match to {
            SeekTo::Start(QueueStart::Time(time)) => {
                let mut positions = Positions::new();
                for source in &queue.sources {
                    positions.extend(self.at_time(caller, &source.name, time).await?);
                }
                (None, positions)
            }
            SeekTo::Start(start) => (Some(start), Positions::new()),
            SeekTo::Offsets(offsets) => {
                let place = |(topic, partition, offset)| place(&queue, topic, partition).map(|topic| (topic, partition, offset));
                (None, offsets.into_iter().map(place).collect::<Result<Positions>>()?)
            }
        };
        let command = Command::SeekQueue(SeekQueue { namespace: caller.namespace.clone(), name: name.clone(), start, positions });
        match self.execute(&caller.namespace, command).await? {
            Reply::Queue(queue, _) => {
                self.queues.forget(&queue);
                Ok(*queue)
            }
            other => Err(unexpected(&other)),
        }
    }

    pub(super) async fn queue_figures(&self, caller: &Caller, name: &QueueName) -> Result<QueueStats> {
        let queue = self.queue_described(caller, name).await?;
        let numbers = match self.ask(&caller.namespace, Query::QueueNumbers(queue.id)).await? {
            Answer::QueueNumbers(numbers) => *numbers,
            other => return Err(unexpected(&other)),
        };
        let oldest = self.oldest(caller, &queue, &numbers).await;
        // The ledger's time stands still while nothing is journaled.
        let now = numbers.now.max(self.ambient.now());
        let age = oldest.map(|at| (now.as_millis() - at.as_millis()).max(0) as f64 / 1_000.0);
        let (in_rate, out_rate) = (numbers.came as f64 / 60.0, numbers.finished as f64 / 60.0);
        let room = queue.config.max_depth.map(|max| max.saturating_sub(numbers.ready + numbers.leased + numbers.delayed));
        Ok(QueueStats {
            ready: numbers.ready,
            leased: numbers.leased,
            delayed: numbers.delayed,
            blocked: numbers.blocked,
            dead: numbers.dead,
            oldest_age_seconds: age,
            in_rate,
            out_rate,
            time_to_full_seconds: room.filter(|_| in_rate > out_rate).map(|room| room as f64 / (in_rate - out_rate)),
            acked_total: numbers.acked_total,
            dead_total: numbers.dead_total,
        })
    }

    /// When the oldest message was sent: as extents tell, no record is read.
    async fn oldest(&self, caller: &Caller, queue: &Queue, numbers: &QueueNumbers) -> Option<Timestamp> {
        let mut found = FuturesUnordered::new();
        let mut oldest = None;
        for (topic, partition, offset) in numbers.oldest.iter().take(OLDEST.0) {
            let Some(source) = queue.sources.iter().find(|source| source.topic == *topic) else { continue };
            found.push(self.appended_at(caller, &source.name, *partition, *offset).boxed());
            if found.len() >= OLDEST.1 {
                oldest = earlier(oldest, found.next().await.flatten());
            }
        }
        while let Some(one) = found.next().await {
            oldest = earlier(oldest, one);
        }
        oldest
    }

    async fn appended_at(&self, caller: &Caller, topic: &TopicName, partition: PartitionIndex, offset: Offset) -> Option<Timestamp> {
        let topic = self.topic(caller, topic).await.ok()?;
        let extents = self.reader.extents(&topic, partition, offset, 1).await.ok()?;
        extents.first().map(|extent| extent.appended_at)
    }

    pub(super) async fn topic_of_queue(&self, caller: &Caller, name: &QueueName) -> Result<TopicName> {
        let known = self.queues.known(caller, name).await?;
        let sources = &known.queue.sources;
        let own = sources.iter().find(|source| source.name.as_str() == name.as_str());
        match (own, &sources[..]) {
            (Some(own), _) => Ok(own.name.clone()),
            (None, [only]) => Ok(only.name.clone()),
            (None, []) => Err(Error::QueueWithoutTopic(name.clone())),
            (None, _) => Err(Error::invalid("queue", format!("queue {name} reads several topics: send to one of them"))),
        }
    }

    pub(super) async fn message_cancelled(
        &self,
        caller: &Caller,
        name: &QueueName,
        topic: &TopicName,
        partition: PartitionIndex,
        offset: Offset,
    ) -> Result<()> {
        let none = || Error::MessageNotFound(format!("{topic}:{partition}-{offset}"));
        let known = self.queues.known(caller, name).await?;
        let source = known.queue.sources.iter().find(|source| source.name == *topic).ok_or_else(none)?;
        let item = SettleItem { topic: source.topic, partition, first: offset, count: 1, attempt: 0, action: SettleAction::Cancel };
        let settle = SettleMessages { queue: known.queue.id, generation: known.queue.generation, version: None, items: vec![item] };
        match self.execute(&caller.namespace, Command::Settle(settle)).await? {
            Reply::Settled(runs) => match runs.first().map(|run| run.outcome) {
                Some(SettleOutcome::Done | SettleOutcome::Until(_)) => Ok(()),
                Some(SettleOutcome::Expired | SettleOutcome::Unknown | SettleOutcome::Doubtful) | None => Err(none()),
            },
            other => Err(unexpected(&other)),
        }
    }
}

fn earlier(one: Option<Timestamp>, other: Option<Timestamp>) -> Option<Timestamp> {
    [one, other].into_iter().flatten().min()
}

/// A partition that a queue reads.
fn place(queue: &Queue, topic: TopicName, partition: PartitionIndex) -> Result<lakefall_queue::TopicId> {
    let source = queue.sources.iter().find(|source| source.name == topic);
    let source = source.ok_or_else(|| Error::invalid("to.offsets", format!("queue {} does not read topic {topic}", queue.name)))?;
    if partition.0 >= source.partitions {
        return Err(Error::PartitionNotFound { topic, partition, partitions: source.partitions });
    }
    Ok(source.topic)
}
