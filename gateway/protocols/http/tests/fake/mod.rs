//! A log in memory, just true enough to test codecs: one namespace, no durability, no idempotency.

mod queues;
mod schemas;
mod sql;
mod usage;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use lakefall_queue::limits::Limits;
use lakefall_queue::queue::*;
use lakefall_queue::replay::{Replay, ReplayTarget};
use lakefall_queue::sql::{Rows, Statement};
use lakefall_queue::topic::*;
use lakefall_queue::verbs::*;
use lakefall_queue::*;

use self::queues::Queues;

/// One topic's records, per partition.
type Log = Vec<Vec<StoredRecord>>;

pub(crate) struct Fake {
    pub(crate) limits: Limits,
    topics: Mutex<Vec<(Topic, Log)>>,
    cursors: Mutex<Vec<Cursor>>,
    queues: Mutex<Queues>,
    subjects: Mutex<Vec<schemas::Registered>>,
    /// Every append's number of records, in order.
    pub(crate) appends: Mutex<Vec<usize>>,
    /// The last idempotency seen.
    pub(crate) idempotency: Mutex<Option<Idempotency>>,
    /// Records are told to be old.
    pub(crate) old: AtomicBool,
    /// How often work was done aside.
    pub(crate) asides: AtomicUsize,
}

impl Fake {
    pub(crate) fn new() -> Self {
        Self {
            limits: Limits::default(),
            topics: Mutex::default(),
            cursors: Mutex::default(),
            queues: Mutex::default(),
            subjects: Mutex::default(),
            appends: Mutex::default(),
            idempotency: Mutex::default(),
            old: AtomicBool::default(),
            asides: AtomicUsize::default(),
        }
    }

    fn with<T>(&self, name: &TopicName, f: impl FnOnce(&mut Topic, &mut Log) -> Result<T>) -> Result<T> {
        let mut topics = self.topics.lock().unwrap();
        let found = topics.iter_mut().find(|(t, _)| t.name == *name).ok_or_else(|| Error::TopicNotFound(name.clone()))?;
        f(&mut found.0, &mut found.1)
    }

    fn store(&self, batch: TopicAppend) -> Result<Appended> {
        self.appends.lock().unwrap().push(batch.records.len());
        if batch.records.iter().any(|r| r.value.as_deref() == Some(b"panic")) {
            panic!("asked to");
        }
        if batch.records.iter().any(|r| r.value.as_deref() == Some(b"busy")) {
            return Err(Error::unavailable("busy"));
        }
        if batch.records.iter().any(|r| r.value.as_deref() == Some(b"full")) {
            return Err(Error::QueueFull { queue: (&batch.topic).into(), max_depth: 10 });
        }
        self.with(&batch.topic, |_, log| {
            let partitions = log.len() as u32;
            let mut ranges: Vec<AckRange> = Vec::new();
            for record in batch.records {
                let partition = record.partition.or(batch.partition).unwrap_or_default();
                let Some(part) = log.get_mut(partition.0 as usize) else {
                    return Err(Error::PartitionNotFound { topic: batch.topic.clone(), partition, partitions });
                };
                let offset = Offset(part.len() as u64);
                if let Some(expected) = batch.expect_offset.filter(|e| ranges.is_empty() && *e != offset) {
                    return Err(Error::OffsetMismatch { partition, expected, end: offset });
                }
                let now = Timestamp::from_millis(1_700_000_000_000);
                part.push(StoredRecord {
                    partition,
                    offset,
                    timestamp: record.timestamp.unwrap_or(now),
                    appended_at: now,
                    key: record.key,
                    value: record.value,
                    kind: record.kind,
                    headers: record.headers,
                    properties: record.properties,
                });
                match ranges.last_mut() {
                    Some(last) if last.partition == partition => last.count += 1,
                    _ => ranges.push(AckRange { partition, first_offset: offset, count: 1, duplicate: false }),
                }
            }
            let end = (ranges.len() == 1).then(|| ranges[0].first_offset.plus(u64::from(ranges[0].count)));
            Ok(Appended { ranges, end })
        })
    }
}

fn begin(part: &[StoredRecord], start: Start) -> u64 {
    let end = part.len() as u64;
    match start {
        Start::Offset(offset) => offset.0,
        Start::Timestamp(at) => part.iter().position(|r| r.timestamp >= at).map_or(end, |p| p as u64),
        Start::Earliest => 0,
        Start::Latest => end,
        Start::Last(n) => end.saturating_sub(n),
    }
}

#[async_trait]
impl Verbs for Fake {
    fn limits(&self) -> Arc<Limits> {
        Arc::new(self.limits.clone())
    }

    async fn admit(&self, _: &Caller, _: usize) -> Result<Admission> {
        Ok(Admission::default())
    }

    fn open_stream(&self) -> OrderToken {
        OrderToken(1)
    }

    async fn append(&self, _: &Caller, append: Append) -> Result<Appended> {
        *self.idempotency.lock().unwrap() = append.idempotency;
        self.store(append.batch)
    }

    async fn commit(&self, _: &Caller, commit: Commit) -> Result<Vec<Appended>> {
        let mut queues = self.queues.lock().unwrap();
        for of in &commit.settlements {
            queues.check_all(&of.queue, &of.settlements)?;
        }
        let appended = commit.appends.into_iter().map(|a| self.store(a)).collect::<Result<_>>()?;
        for of in commit.settlements {
            queues.settle(&of.queue, of.settlements)?;
        }
        Ok(appended)
    }

    async fn read(&self, _: &Caller, read: Read) -> Result<Fetched> {
        let found = self.with(&read.topic, |_, log| {
            let (mut records, mut next) = (Vec::new(), Vec::new());
            for (partition, start) in &read.from {
                let Some(part) = log.get(partition.0 as usize) else {
                    return Err(Error::PartitionNotFound {
                        topic: read.topic.clone(),
                        partition: *partition,
                        partitions: log.len() as u32,
                    });
                };
                let end = part.len() as u64;
                let from = begin(part, *start);
                if *start == Start::Offset(Offset(13)) {
                    return Err(Error::BelowLogStart { partition: *partition, offset: Offset(13), log_start: Offset(14) });
                }
                let stop = read.until_offset.map_or(end, |until| until.0.min(end));
                let mut at = from;
                while at < stop && records.len() < read.max_records {
                    records.push(part[at as usize].clone());
                    at += 1;
                }
                let finished = read.until_offset.is_some_and(|until| at >= until.0);
                let (log_start, end) = (Offset(0), Offset(end));
                // What lies in this topic is read while nobody can be asked for its end.
                let current = read.topic.as_str() != "away";
                next.push(Position { partition: *partition, next: Offset(at), log_start, end, current, finished });
            }
            Ok(Fetched { records, next, old: self.old.load(Ordering::SeqCst), admission: Admission::default() })
        })?;
        if found.records.is_empty() && read.wait > Duration::ZERO {
            tokio::time::sleep(read.wait).await;
        }
        Ok(found)
    }

    async fn aside(&self, work: Work) -> Result<()> {
        self.asides.fetch_add(1, Ordering::SeqCst);
        work();
        Ok(())
    }

    async fn offsets(&self, _: &Caller, topic: &TopicName, partition: Option<PartitionIndex>, at: Start) -> Result<Vec<Position>> {
        self.with(topic, |_, log| {
            let all = log.iter().enumerate().map(|(p, part)| (PartitionIndex(p as u32), part));
            let wanted: Vec<_> = all
                .filter(|(p, _)| partition.is_none_or(|w| w == *p))
                .map(|(partition, part)| Position {
                    partition,
                    next: Offset(begin(part, at)),
                    log_start: Offset(0),
                    end: Offset(part.len() as u64),
                    current: true,
                    finished: false,
                })
                .collect();
            match (wanted.is_empty(), partition) {
                (true, Some(partition)) => Err(Error::PartitionNotFound { topic: topic.clone(), partition, partitions: log.len() as u32 }),
                _ => Ok(wanted),
            }
        })
    }

    async fn trim(&self, c: &Caller, topic: &TopicName, partition: Option<PartitionIndex>, _: Offset) -> Result<Vec<Position>> {
        self.offsets(c, topic, partition, Start::Earliest).await
    }

    async fn put_topic(
        &self,
        c: &Caller,
        name: &TopicName,
        config: TopicConfig,
        condition: Precondition,
        _: Option<Idempotency>,
    ) -> Result<(Topic, bool)> {
        let mut topics = self.topics.lock().unwrap();
        if let Some((topic, log)) = topics.iter_mut().find(|(t, _)| t.name == *name) {
            match condition {
                Precondition::Absent => return Err(Error::AlreadyExists { what: "topic", name: name.to_string() }),
                Precondition::Version(v) if v != topic.version => {
                    return Err(Error::VersionMismatch { expected: v, actual: topic.version });
                }
                _ => {}
            }
            topic.version += 1;
            log.resize(config.partitions as usize, Vec::new());
            topic.config = config;
            return Ok((topic.clone(), false));
        }
        let log = vec![Vec::new(); config.partitions as usize];
        let topic = Topic {
            namespace: c.namespace.clone(),
            name: name.clone(),
            id: TopicId(1),
            version: 1,
            created_at: Timestamp::default(),
            config,
        };
        topics.push((topic.clone(), log));
        Ok((topic, true))
    }

    async fn describe_topic(&self, _: &Caller, name: &TopicName) -> Result<TopicDescription> {
        self.with(name, |topic, _| Ok(TopicDescription { topic: topic.clone(), status: Vec::new() }))
    }

    async fn list_topics(&self, _: &Caller, page: PageRequest) -> Result<Page<Topic>> {
        let mut all: Vec<Topic> = self.topics.lock().unwrap().iter().map(|(t, _)| t.clone()).collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all.retain(|t| page.after.as_deref().is_none_or(|after| t.name.as_str() > after));
        let more = all.len() > page.limit;
        all.truncate(page.limit);
        let next = more.then(|| all.last().unwrap().name.to_string());
        Ok(Page { items: all, next })
    }

    async fn delete_topic(&self, _: &Caller, name: &TopicName, _: Precondition) -> Result<()> {
        self.with(name, |_, _| Ok(()))?;
        self.topics.lock().unwrap().retain(|(t, _)| t.name != *name);
        Ok(())
    }

    async fn objects(&self, _: &Caller, _: &TopicName, _: PartitionIndex, _: Offset, _: usize) -> Result<Vec<ObjectRange>> {
        Ok(Vec::new())
    }

    async fn put_cursor(&self, _: &Caller, change: CursorMove) -> Result<Cursor> {
        let positions = change.offsets.iter().map(|(partition, offset)| CursorPosition { partition: *partition, offset: *offset, lag: 0 });
        let cursor = Cursor {
            name: change.cursor,
            topic: change.topic,
            version: 1,
            updated_at: Timestamp::default(),
            positions: positions.collect(),
        };
        self.cursors.lock().unwrap().push(cursor.clone());
        Ok(cursor)
    }

    async fn get_cursor(&self, _: &Caller, cursor: &CursorName) -> Result<Vec<Cursor>> {
        Ok(self.cursors.lock().unwrap().iter().filter(|c| c.name == *cursor).cloned().collect())
    }

    async fn list_cursors(&self, _: &Caller, _: PageRequest) -> Result<Page<Cursor>> {
        Ok(Page { items: self.cursors.lock().unwrap().clone(), next: None })
    }

    async fn delete_cursor(&self, _: &Caller, cursor: &CursorName, _: Option<&TopicName>) -> Result<()> {
        self.cursors.lock().unwrap().retain(|c| c.name != *cursor);
        Ok(())
    }

    async fn put_namespace(&self, _: &Caller, name: &NamespaceName, description: String, _: Precondition) -> Result<(Namespace, bool)> {
        Ok((Namespace { name: name.clone(), version: 1, created_at: Timestamp::default(), description }, true))
    }

    async fn get_namespace(&self, _: &Caller, name: &NamespaceName) -> Result<Namespace> {
        Err(Error::NamespaceNotFound(name.clone()))
    }

    async fn list_namespaces(&self, _: &Caller, _: PageRequest) -> Result<Page<Namespace>> {
        Ok(Page { items: Vec::new(), next: None })
    }

    async fn delete_namespace(&self, _: &Caller, name: &NamespaceName, _: Precondition) -> Result<()> {
        Err(Error::NamespaceNotEmpty(name.clone()))
    }

    async fn put_queue(
        &self,
        c: &Caller,
        name: &QueueName,
        config: QueueConfig,
        condition: Precondition,
        idempotency: Option<Idempotency>,
    ) -> Result<(Queue, bool)> {
        *self.idempotency.lock().unwrap() = idempotency;
        queues::check(name, &config)?;
        let own = (&*name).into();
        for topic in config.topics.iter().filter(|topic| **topic != own) {
            self.with(topic, |_, _| Ok(()))?;
        }
        let made = config.dead_letter.iter().map(|d| d.topic.clone()).chain(config.topics.is_empty().then_some(own));
        for topic in made {
            let put = self.put_topic(c, &topic, TopicConfig::default(), Precondition::Absent, None).await;
            if !matches!(put, Ok(_) | Err(Error::AlreadyExists { .. })) {
                put?;
            }
        }
        self.queues.lock().unwrap().put(c, name, config, condition)
    }

    async fn describe_queue(&self, _: &Caller, name: &QueueName) -> Result<Queue> {
        Ok(self.queues.lock().unwrap().find(name)?.queue.clone())
    }

    async fn list_queues(&self, _: &Caller, page: PageRequest) -> Result<Page<Queue>> {
        Ok(self.queues.lock().unwrap().page(&page))
    }

    async fn delete_queue(&self, _: &Caller, name: &QueueName, condition: Precondition) -> Result<()> {
        self.queues.lock().unwrap().delete(name, condition)
    }

    async fn put_binding(&self, _: &Caller, queue: &QueueName, id: &BindingName, binding: Binding) -> Result<(Queue, bool)> {
        self.with(&binding.topic, |_, _| Ok(()))?;
        let mut queues = self.queues.lock().unwrap();
        let queue = &mut queues.find(queue)?.queue;
        queue.version += 1;
        let new = queue.bindings.insert(id.clone(), binding).is_none();
        Ok((queue.clone(), new))
    }

    async fn delete_binding(&self, _: &Caller, queue: &QueueName, id: &BindingName) -> Result<Queue> {
        let mut queues = self.queues.lock().unwrap();
        let queue = &mut queues.find(queue)?.queue;
        let gone = || Error::BindingNotFound { queue: queue.name.clone(), binding: id.clone() };
        queue.bindings.remove(id).ok_or_else(gone)?;
        Ok(queue.clone())
    }

    async fn seek_queue(&self, _: &Caller, queue: &QueueName, to: SeekTo) -> Result<Queue> {
        let mut topics = self.topics.lock().unwrap();
        self.queues.lock().unwrap().seek(queue, to, &mut topics)
    }

    async fn queue_stats(&self, _: &Caller, queue: &QueueName) -> Result<QueueStats> {
        let topics = self.topics.lock().unwrap();
        self.queues.lock().unwrap().stats(queue, &topics)
    }

    async fn queue_topic(&self, _: &Caller, queue: &QueueName) -> Result<TopicName> {
        let mut queues = self.queues.lock().unwrap();
        let found = queues.find(queue)?;
        match &found.queue.sources[..] {
            [] => Err(Error::QueueWithoutTopic(queue.clone())),
            [one] => Ok(one.name.clone()),
            _ => Err(Error::invalid("queue", "the queue has no topic of its own")),
        }
    }

    async fn receive(&self, _: &Caller, queue: &QueueName, receive: Receive) -> Result<Delivery> {
        let wait = receive.wait;
        let found = {
            let topics = self.topics.lock().unwrap();
            self.queues.lock().unwrap().receive(queue, receive, &topics)?
        };
        if found.messages.is_empty() && wait > Duration::ZERO {
            tokio::time::sleep(wait).await;
        }
        Ok(found)
    }

    async fn consume(&self, _: &Caller, queue: &QueueName, credit: u32, lease: Option<Duration>) -> Result<Box<dyn Consumer>> {
        let receive = Receive { max: credit, max_bytes: usize::MAX, lease, wait: Duration::ZERO, request_id: None };
        let topics = self.topics.lock().unwrap();
        let first = self.queues.lock().unwrap().receive(queue, receive, &topics)?;
        Ok(Box::new(queues::Once { first: Some(first), queue: queue.clone() }))
    }

    async fn settle(&self, _: &Caller, queue: &QueueName, settlements: Vec<Settlement>) -> Result<Vec<Settled>> {
        self.queues.lock().unwrap().settle(queue, settlements)
    }

    async fn peek(&self, _: &Caller, queue: &QueueName, max: u32) -> Result<Delivery> {
        let topics = self.topics.lock().unwrap();
        self.queues.lock().unwrap().peek(queue, max, &topics)
    }

    async fn cancel_message(
        &self,
        _: &Caller,
        queue: &QueueName,
        topic: &TopicName,
        partition: PartitionIndex,
        offset: Offset,
    ) -> Result<()> {
        let topics = self.topics.lock().unwrap();
        self.queues.lock().unwrap().cancel(queue, topic, partition, offset, &topics)
    }

    async fn redrive(&self, _: &Caller, queue: &QueueName, redrive: Redrive) -> Result<Operation> {
        self.queues.lock().unwrap().redrive(queue, redrive)
    }

    async fn replay(&self, _: &Caller, replay: Replay) -> Result<Operation> {
        self.with(&replay.from.topic, |_, _| Ok(()))?;
        let mut queues = self.queues.lock().unwrap();
        match &replay.to {
            ReplayTarget::Topic(topic) if *topic == replay.from.topic => return Err(Error::invalid("/to", "it is the same topic")),
            ReplayTarget::Topic(topic) => self.with(topic, |_, _| Ok(()))?,
            ReplayTarget::Queue(queue) => queues.find(queue).map(drop)?,
        }
        queues.replay(replay)
    }

    async fn operation(&self, _: &Caller, id: &str) -> Result<Operation> {
        let queues = self.queues.lock().unwrap();
        queues.operations.iter().find(|o| *o.id == *id).cloned().ok_or_else(|| Error::OperationNotFound(id.to_owned()))
    }

    async fn cancel_operation(&self, c: &Caller, id: &str) -> Result<Operation> {
        self.operation(c, id).await?;
        let mut queues = self.queues.lock().unwrap();
        let operation = queues.operations.iter_mut().find(|o| *o.id == *id).unwrap();
        operation.status = OperationStatus::Cancelled;
        Ok(operation.clone())
    }

    /// Whoever asks `ping` is answered `pong`; nobody else is answered.
    async fn request(&self, _: &Caller, mut request: Request) -> Result<(TopicName, StoredRecord)> {
        let asked = request.record.value.clone();
        let properties = request.record.properties.get_or_insert_default();
        let correlation_id = properties.correlation_id.get_or_insert_with(|| Arc::from("made")).clone();
        let appended = self.store(TopicAppend::new(request.topic.clone(), vec![request.record]))?;
        let at = appended.ranges[0];
        if asked.as_deref() != Some(b"ping") {
            tokio::time::sleep(request.wait).await;
            return Err(Error::NoReply { topic: request.topic, partition: at.partition, offset: at.first_offset, waited: request.wait });
        }
        let now = Timestamp::from_millis(1_700_000_000_000);
        let properties = Properties { correlation_id: Some(correlation_id), ..Properties::default() };
        let reply = StoredRecord {
            partition: PartitionIndex(0),
            offset: Offset(0),
            timestamp: now,
            appended_at: now,
            key: None,
            value: Some("pong".into()),
            kind: ValueKind::Opaque,
            headers: Vec::new(),
            properties: Some(Box::new(properties)),
        };
        Ok((request.reply_to.unwrap_or_else(|| TopicName::new("replies").unwrap()), reply))
    }

    /// Knows a few statements by heart.
    async fn sql(&self, _: &Caller, statement: Statement) -> Result<Box<dyn Rows>> {
        sql::answer(statement)
    }
}
