//! Queues over the log in memory: leases without time, receipts that anybody could make, no filters.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use lakefall_queue::queue::*;
use lakefall_queue::replay::Replay;
use lakefall_queue::topic::Topic;
use lakefall_queue::verbs::*;
use lakefall_queue::*;

use super::Log;

const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);

type Topics = [(Topic, Log)];
type Place = (TopicName, u32, u64);

/// What is known of a message.
#[derive(Clone, Debug, Default)]
struct Entry {
    attempt: u32,
    leased: bool,
    done: bool,
}

pub(super) struct FakeQueue {
    pub(super) queue: Queue,
    entries: BTreeMap<Place, Entry>,
    /// Below these all is finished.
    floors: BTreeMap<(TopicName, u32), u64>,
    asked: BTreeMap<Arc<str>, Vec<Message>>,
}

#[derive(Default)]
pub(super) struct Queues {
    all: Vec<FakeQueue>,
    pub(super) operations: Vec<Operation>,
}

/// A stream of what could be leased at once, then silence; of the queue `failing`, an error.
pub(super) struct Once {
    pub(super) first: Option<Delivery>,
    pub(super) queue: QueueName,
}

#[async_trait]
impl Consumer for Once {
    async fn next(&mut self, wait: Duration) -> Result<Delivery> {
        match self.first.take() {
            Some(first) if !first.messages.is_empty() => Ok(first),
            _ if self.queue.as_str() == "failing" => Err(Error::QueueNotFound(self.queue.clone())),
            _ => {
                tokio::time::sleep(wait).await;
                Ok(Delivery::default())
            }
        }
    }
}

/// What a gateway looks at before it creates anything.
pub(super) fn check(name: &QueueName, config: &QueueConfig) -> Result<()> {
    if config.filter.as_deref() == Some("broken(") {
        return Err(Error::invalid("filter", "the filter ends early at character 7"));
    }
    match &config.dead_letter {
        Some(dead) if config.topics.contains(&dead.topic) => Err(Error::DeadLetterCycle { queue: name.clone(), topic: dead.topic.clone() }),
        _ => Ok(()),
    }
}

impl Queues {
    pub(super) fn find(&mut self, name: &QueueName) -> Result<&mut FakeQueue> {
        self.all.iter_mut().find(|q| q.queue.name == *name).ok_or_else(|| Error::QueueNotFound(name.clone()))
    }

    pub(super) fn put(&mut self, caller: &Caller, name: &QueueName, config: QueueConfig, condition: Precondition) -> Result<(Queue, bool)> {
        let own = vec![TopicName::from(name)];
        let topics = if config.topics.is_empty() { &own } else { &config.topics };
        if let Some(dead) = &config.dead_letter {
            let dead = (&dead.topic).into();
            if self.find(&dead).is_err() {
                let earliest = QueueConfig { start: QueueStart::Earliest, ..QueueConfig::default() };
                self.put(caller, &dead, earliest, Precondition::Always)?;
            }
        }
        let source = |name: &TopicName| Source { topic: TopicId(1), name: name.clone(), partitions: 2 };
        let sources = topics.iter().map(source).collect();
        if let Ok(found) = self.find(name) {
            match condition {
                Precondition::Absent => return Err(Error::AlreadyExists { what: "queue", name: name.to_string() }),
                Precondition::Version(v) if v != found.queue.version => {
                    return Err(Error::VersionMismatch { expected: v, actual: found.queue.version });
                }
                _ => {}
            }
            found.queue.version += 1;
            (found.queue.config, found.queue.sources) = (config, sources);
            return Ok((found.queue.clone(), false));
        }
        let queue = Queue {
            namespace: caller.namespace.clone(),
            name: name.clone(),
            id: QueueId(1),
            version: 1,
            generation: 1,
            created_at: NOW,
            config,
            bindings: BTreeMap::new(),
            sources,
        };
        let made = FakeQueue { queue: queue.clone(), entries: BTreeMap::new(), floors: BTreeMap::new(), asked: BTreeMap::new() };
        self.all.push(made);
        Ok((queue, true))
    }

    pub(super) fn page(&self, page: &PageRequest) -> Page<Queue> {
        let mut all: Vec<Queue> = self.all.iter().map(|q| q.queue.clone()).collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all.retain(|q| page.after.as_deref().is_none_or(|after| q.name.as_str() > after));
        let more = all.len() > page.limit;
        all.truncate(page.limit);
        let next = more.then(|| all.last().unwrap().name.to_string());
        Page { items: all, next }
    }

    pub(super) fn delete(&mut self, name: &QueueName, condition: Precondition) -> Result<()> {
        let version = self.find(name)?.queue.version;
        if let Precondition::Version(expected) = condition
            && expected != version
        {
            return Err(Error::VersionMismatch { expected, actual: version });
        }
        self.all.retain(|q| q.queue.name != *name);
        Ok(())
    }

    pub(super) fn seek(&mut self, name: &QueueName, to: SeekTo, topics: &mut Topics) -> Result<Queue> {
        let found = self.find(name)?;
        match to {
            SeekTo::Start(start) => {
                for ((topic, partition), end) in ends(&found.queue, topics) {
                    let floor = match start {
                        QueueStart::Earliest | QueueStart::Time(_) => 0,
                        QueueStart::Latest => end,
                        QueueStart::Offset(offset) => offset.0,
                    };
                    found.floors.insert((topic, partition), floor);
                }
            }
            SeekTo::Offsets(places) => {
                for (topic, partition, offset) in places {
                    if !found.queue.sources.iter().any(|source| source.name == topic) {
                        return Err(Error::TopicNotFound(topic));
                    }
                    found.floors.insert((topic, partition.0), offset.0);
                }
            }
        }
        found.entries.clear();
        found.queue.generation += 1;
        found.queue.version += 1;
        Ok(found.queue.clone())
    }

    pub(super) fn stats(&mut self, name: &QueueName, topics: &Topics) -> Result<QueueStats> {
        let found = self.find(name)?;
        let ready = found.open(topics).count() as u64;
        let leased = found.entries.values().filter(|e| e.leased).count() as u64;
        Ok(QueueStats { ready, leased, in_rate: 0.5, ..QueueStats::default() })
    }

    pub(super) fn receive(&mut self, name: &QueueName, receive: Receive, topics: &Topics) -> Result<Delivery> {
        let found = self.find(name)?;
        if let Some(id) = &receive.request_id
            && let Some(again) = found.asked.get(id)
        {
            return Ok(Delivery { messages: again.clone(), admission: Admission::default() });
        }
        let until = NOW.plus(receive.lease.unwrap_or(found.queue.config.lease));
        let open: Vec<(Place, StoredRecord)> = found.open(topics).take(receive.max as usize).collect();
        let mut messages = Vec::new();
        for (place, record) in open {
            let entry = found.entries.entry(place.clone()).or_default();
            (entry.leased, entry.attempt) = (true, entry.attempt + 1);
            let receipt = format!("lf|{name}|{}|{}|{}|{}", place.0, place.1, place.2, entry.attempt);
            messages.push(Message {
                topic: place.0,
                record,
                receipt: Some(receipt.into()),
                attempt: entry.attempt,
                lease_until: Some(until),
                first_leased_at: Some(NOW),
            });
        }
        if let Some(id) = receive.request_id {
            found.asked.insert(id, messages.clone());
        }
        Ok(Delivery { messages, admission: Admission::default() })
    }

    pub(super) fn peek(&mut self, name: &QueueName, max: u32, topics: &Topics) -> Result<Delivery> {
        let found = self.find(name)?;
        let shown = found.open(topics).take(max as usize).map(|(place, record)| {
            let attempt = found.entries.get(&place).map_or(0, |e| e.attempt);
            Message { topic: place.0, record, receipt: None, attempt, lease_until: None, first_leased_at: None }
        });
        Ok(Delivery { messages: shown.collect(), admission: Admission::default() })
    }

    pub(super) fn settle(&mut self, name: &QueueName, settlements: Vec<Settlement>) -> Result<Vec<Settled>> {
        let found = self.find(name)?;
        Ok(settlements.into_iter().map(|s| found.settle(&s.receipt, Some(&s.verdict))).collect())
    }

    /// As an atomic commit looks at them: one that cannot be settled refuses all.
    pub(super) fn check_all(&mut self, name: &QueueName, settlements: &[Settlement]) -> Result<()> {
        let found = self.find(name)?;
        for settlement in settlements {
            match found.settle(&settlement.receipt, None) {
                Settled::Ok(_) => {}
                Settled::Expired => return Err(Error::LeaseOver { partition: PartitionIndex(0), offset: Offset(0) }),
                Settled::Unknown => return Err(Error::ReceiptNotFound(name.clone())),
                Settled::Forged => return Err(Error::ReceiptForged),
                Settled::Failed(error) => return Err(error),
            }
        }
        Ok(())
    }

    pub(super) fn cancel(
        &mut self,
        name: &QueueName,
        topic: &TopicName,
        partition: PartitionIndex,
        offset: Offset,
        topics: &Topics,
    ) -> Result<()> {
        let found = self.find(name)?;
        let place = (topic.clone(), partition.0, offset.0);
        if !found.open(topics).any(|(open, _)| open == place) {
            return Err(Error::MessageNotFound(format!("{topic}:{partition}-{offset}")));
        }
        found.entries.entry(place).or_default().done = true;
        Ok(())
    }

    /// Its error tells what was asked for.
    pub(super) fn replay(&mut self, replay: Replay) -> Result<Operation> {
        if replay.name.as_str() == "taken" {
            return Err(Error::ReplayConflict { replay: replay.name, reason: "it is running".to_owned() });
        }
        let operation = Operation {
            id: format!("op-{}", self.operations.len()).into(),
            kind: "replay",
            status: OperationStatus::Running,
            started_at: NOW,
            ended_at: None,
            done: replay.max_per_second.unwrap_or_default().into(),
            skipped: u64::from(replay.dry_run),
            error: Some(format!("{:?} {:?}", replay.from, replay.to)),
        };
        self.operations.push(operation.clone());
        Ok(operation)
    }

    pub(super) fn redrive(&mut self, name: &QueueName, redrive: Redrive) -> Result<Operation> {
        if self.find(name)?.queue.config.dead_letter.is_none() {
            return Err(Error::invalid("queue", "the queue keeps no dead letters"));
        }
        let operation = Operation {
            id: format!("op-{}", self.operations.len()).into(),
            kind: "redrive",
            status: OperationStatus::Running,
            started_at: NOW,
            ended_at: None,
            done: redrive.max_per_second.unwrap_or_default().into(),
            skipped: u64::from(redrive.dry_run),
            error: redrive.filter,
        };
        self.operations.push(operation.clone());
        Ok(operation)
    }
}

impl FakeQueue {
    /// What nobody leases and nobody finished.
    fn open<'a>(&'a self, topics: &'a Topics) -> impl Iterator<Item = (Place, StoredRecord)> + 'a {
        let sources = topics.iter().filter(|(topic, _)| self.queue.sources.iter().any(|source| source.name == topic.name));
        let records = sources.flat_map(|(topic, log)| {
            log.iter().flatten().map(|record| ((topic.name.clone(), record.partition.0, record.offset.0), record.clone()))
        });
        records.filter(|((topic, partition, offset), _)| {
            let floor = self.floors.get(&(topic.clone(), *partition)).copied().unwrap_or_default();
            let entry = self.entries.get(&(topic.clone(), *partition, *offset));
            *offset >= floor && entry.is_none_or(|e| !e.leased && !e.done)
        })
    }

    fn settle(&mut self, receipt: &str, verdict: Option<&Verdict>) -> Settled {
        if receipt == "broken" {
            return Settled::Failed(Error::unknown("the connection broke"));
        }
        let parts: Vec<&str> = receipt.split('|').collect();
        let &["lf", queue, topic, partition, offset, attempt] = &parts[..] else { return Settled::Forged };
        if queue != self.queue.name.as_str() {
            return Settled::Unknown;
        }
        let place = (TopicName::new(topic).unwrap(), partition.parse().unwrap(), offset.parse().unwrap());
        let Some(entry) = self.entries.get_mut(&place) else { return Settled::Expired };
        if entry.done {
            return Settled::Ok(None);
        }
        if !entry.leased || entry.attempt.to_string() != attempt {
            return Settled::Expired;
        }
        match verdict {
            None => Settled::Ok(None),
            Some(Verdict::Extend { lease }) => Settled::Ok(Some(NOW.plus(*lease))),
            Some(Verdict::Nack { .. }) => {
                entry.leased = false;
                Settled::Ok(None)
            }
            Some(Verdict::Ack | Verdict::Reject { .. }) => {
                (entry.leased, entry.done) = (false, true);
                Settled::Ok(None)
            }
        }
    }
}

fn ends(queue: &Queue, topics: &Topics) -> Vec<((TopicName, u32), u64)> {
    let sources = topics.iter().filter(|(topic, _)| queue.sources.iter().any(|source| source.name == topic.name));
    sources.flat_map(|(topic, log)| (0..).zip(log).map(|(p, part)| ((topic.name.clone(), p), part.len() as u64))).collect()
}
