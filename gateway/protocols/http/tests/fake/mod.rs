//! A log in memory, just true enough to test codecs: one namespace, no durability, no idempotency.

use std::sync::Mutex;
use std::time::Duration;

use async_trait::async_trait;
use lakefall_queue::limits::Limits;
use lakefall_queue::topic::*;
use lakefall_queue::verbs::*;
use lakefall_queue::*;

/// One topic's records, per partition.
type Log = Vec<Vec<StoredRecord>>;

pub(crate) struct Fake {
    pub(crate) limits: Limits,
    topics: Mutex<Vec<(Topic, Log)>>,
    cursors: Mutex<Vec<Cursor>>,
    /// Every append's number of records, in order.
    pub(crate) appends: Mutex<Vec<usize>>,
    /// The last idempotency seen.
    pub(crate) idempotency: Mutex<Option<Idempotency>>,
}

impl Fake {
    pub(crate) fn new() -> Self {
        Self {
            limits: Limits::default(),
            topics: Mutex::default(),
            cursors: Mutex::default(),
            appends: Mutex::default(),
            idempotency: Mutex::default(),
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
    fn limits(&self) -> &Limits {
        &self.limits
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
        commit.appends.into_iter().map(|a| self.store(a)).collect()
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
                next.push(Position { partition: *partition, next: Offset(at), log_start: Offset(0), end: Offset(end), finished });
            }
            Ok(Fetched { records, next, admission: Admission::default() })
        })?;
        if found.records.is_empty() && read.wait > Duration::ZERO {
            tokio::time::sleep(read.wait).await;
        }
        Ok(found)
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
}
