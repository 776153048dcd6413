//! A namespace in memory.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use lakefall_queue::ledger::{Extent, ObjectLevel};
use lakefall_queue::queue::Queue;
use lakefall_queue::sql::{Parameters, Rows, RowsForm, Statement, Statistics};
use lakefall_queue::topic::{PartitionStatus, Topic, TopicConfig, TopicDescription};
use lakefall_queue::verbs::{Cursor, ObjectRange};
use lakefall_queue::{
    Error, Header, NamespaceName, Offset, PartitionIndex, Result, SegmentId, StoredRecord, Timestamp, TopicId, TopicName, ValueKind,
};
use lakefall_sql::{PartitionSnapshot, RecordPortions, Source, Sql, SqlConfig, Stored, TopicSnapshot};
use lakefall_storage::parquet::{Options, ParquetWriter, TypedColumns, infer_json};
use serde_json::Value;

pub(crate) const BASE: i64 = 1_700_000_000_000;

/// Everything that a test needs.
pub(crate) struct Heap {
    topics: Mutex<Vec<TopicSnapshot>>,
    files: Mutex<HashMap<SegmentId, Bytes>>,
    records: Mutex<HashMap<SegmentId, Vec<StoredRecord>>>,
    objects: AtomicUsize,
    /// Bytes are damaged on their way, unless they are asked for anew.
    pub(crate) damages: AtomicBool,
    /// Records never come.
    pub(crate) hangs: AtomicBool,
    /// Reads of records that are under way.
    pub(crate) reading: Arc<AtomicUsize>,
}

pub(crate) fn name(name: &str) -> TopicName {
    TopicName::new(name).unwrap()
}

/// A record of a JSON value, each a second after the one before.
pub(crate) fn json(partition: u32, offset: u64, value: &Value) -> StoredRecord {
    StoredRecord {
        partition: PartitionIndex(partition),
        offset: Offset(offset),
        timestamp: Timestamp::from_millis(BASE + offset as i64 * 1_000),
        appended_at: Timestamp::from_millis(BASE + offset as i64 * 1_000 + 5),
        key: Some(Bytes::from(format!("key {}", offset % 3))),
        value: Some(value.to_string().into()),
        kind: ValueKind::Json,
        headers: vec![Header { name: "kind".into(), value: Some(format!("h{offset}").into()) }],
        properties: None,
    }
}

impl Heap {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            topics: Mutex::default(),
            files: Mutex::default(),
            records: Mutex::default(),
            objects: AtomicUsize::new(1),
            damages: AtomicBool::new(false),
            hangs: AtomicBool::new(false),
            reading: Arc::default(),
        })
    }

    /// A topic of so many partitions.
    pub(crate) fn create(&self, topic: &str, partitions: u32) {
        let mut topics = self.topics.lock().unwrap();
        let config = TopicConfig { partitions, ..TopicConfig::default() };
        let topic = Topic {
            namespace: NamespaceName::new("default").unwrap(),
            name: name(topic),
            id: TopicId(topics.len() as u64 + 1),
            version: 1,
            created_at: Timestamp::from_millis(BASE),
            config,
        };
        let partition =
            |index| PartitionSnapshot { partition: PartitionIndex(index), log_start: Offset(0), end: Offset(0), extents: Vec::new() };
        topics.push(TopicSnapshot { topic: Arc::new(topic), partitions: (0..partitions).map(partition).collect(), infer_json: true });
    }

    fn change<T>(&self, topic: &str, change: impl FnOnce(&mut TopicSnapshot) -> T) -> T {
        change(self.topics.lock().unwrap().iter_mut().find(|found| found.topic.name.as_str() == topic).unwrap())
    }

    fn push(&self, topic: &str, records: &[StoredRecord], object: SegmentId, size: u64, parquet: bool) {
        let extent = Extent {
            base_offset: records[0].offset,
            records: records.len() as u32,
            length: size as u32,
            object,
            object_size: size,
            position: 0,
            first_timestamp: records.iter().map(|record| record.timestamp).min().unwrap(),
            max_timestamp: records.iter().map(|record| record.timestamp).max().unwrap(),
            appended_at: records[0].appended_at,
            level: if parquet { ObjectLevel::Parquet } else { ObjectLevel::Segment },
        };
        self.change(topic, |snapshot| {
            let partition = &mut snapshot.partitions[records[0].partition.0 as usize];
            partition.end = extent.end();
            partition.extents.push(Stored { extent, parquet });
        });
    }

    fn object(&self) -> SegmentId {
        SegmentId(uuid::Uuid::from_u128(self.objects.fetch_add(1, Ordering::SeqCst) as u128))
    }

    /// Adds records as an extent of their own.
    pub(crate) fn append(&self, topic: &str, records: Vec<StoredRecord>) {
        let object = self.object();
        self.push(topic, &records, object, 1_000, false);
        self.records.lock().unwrap().insert(object, records);
    }

    /// Adds records as a Parquet file, with typed columns of its own or without.
    pub(crate) fn append_file(&self, topic: &str, records: &[StoredRecord], is_typed: bool) {
        let typed = infer_json(None, records, 500).filter(|_| is_typed);
        let options = Options { typed: typed.map(|schema| TypedColumns::new(&schema).unwrap()), ..Options::default() };
        let id = self.change(topic, |snapshot| snapshot.topic.id);
        let mut writer = ParquetWriter::new(id, records[0].partition, options).unwrap();
        records.chunks(5_000).for_each(|portion| writer.push(portion).unwrap());
        let bytes = writer.finish().unwrap().bytes;
        let object = self.object();
        self.push(topic, records, object, bytes.len() as u64, true);
        self.files.lock().unwrap().insert(object, bytes);
    }

    /// Forgets what is below an offset.
    pub(crate) fn trim(&self, topic: &str, before: u64) {
        self.change(topic, |snapshot| {
            for partition in &mut snapshot.partitions {
                partition.log_start = Offset(before).min(partition.end);
                partition.extents.retain(|stored| stored.extent.end().0 > before);
            }
        });
    }

    /// Replaces the bytes of every file.
    pub(crate) fn damage(&self, damage: impl Fn(&mut Vec<u8>)) {
        for bytes in self.files.lock().unwrap().values_mut() {
            let mut damaged = bytes.to_vec();
            damage(&mut damaged);
            *bytes = damaged.into();
        }
    }

    /// The JSON rows of a statement.
    pub(crate) async fn rows(self: &Arc<Self>, text: &str) -> Value {
        self.answer(text).await.unwrap().0
    }

    /// The JSON rows of a statement, and what it cost.
    pub(crate) async fn answer(self: &Arc<Self>, text: &str) -> Result<(Value, Statistics)> {
        let sql = Sql::new(SqlConfig::default());
        answer(&sql, self, statement(text)).await
    }

    /// Why a statement is refused.
    pub(crate) async fn refusal(self: &Arc<Self>, text: &str) -> Error {
        match self.answer(text).await {
            Err(error) => error,
            Ok((rows, _)) => panic!("{text} was answered: {rows}"),
        }
    }
}

pub(crate) fn statement(text: &str) -> Statement {
    Statement { text: text.into(), parameters: Parameters::None, form: RowsForm::JsonRows, max_rows: None, timeout: None }
}

pub(crate) async fn collect(rows: &mut dyn Rows) -> Result<Vec<u8>> {
    let mut all = Vec::new();
    while let Some(portion) = rows.next().await? {
        all.extend_from_slice(&portion);
    }
    Ok(all)
}

pub(crate) async fn answer(sql: &Sql, heap: &Arc<Heap>, statement: Statement) -> Result<(Value, Statistics)> {
    let mut rows = sql.run(Arc::clone(heap) as Arc<dyn Source>, statement).await?;
    let text = collect(&mut *rows).await?;
    let text = format!("[{}]", String::from_utf8(text).unwrap());
    Ok((serde_json::from_str(&text).unwrap(), rows.statistics()))
}

#[async_trait]
impl Source for Heap {
    async fn snapshot(&self, topic: &TopicName) -> Result<TopicSnapshot> {
        let topics = self.topics.lock().unwrap();
        topics.iter().find(|found| found.topic.name == *topic).cloned().ok_or_else(|| Error::TopicNotFound(topic.clone()))
    }

    async fn read(&self, _: &Topic, stored: &Stored, ranges: Vec<Range<u64>>, anew: bool) -> Result<Vec<Bytes>> {
        let file = self.files.lock().unwrap()[&stored.extent.object].clone();
        let read = ranges.into_iter().map(|range| {
            let mut bytes = file[range.start as usize..range.end as usize].to_vec();
            if self.damages.load(Ordering::SeqCst) && !anew {
                let middle = bytes.len() / 2;
                bytes[middle] ^= 0x20;
            }
            Bytes::from(bytes)
        });
        Ok(read.collect())
    }

    fn records(&self, _: Arc<Topic>, _: PartitionIndex, extent: Extent, from: Offset) -> RecordPortions {
        let records = self.records.lock().unwrap()[&extent.object].clone();
        let portions: Vec<Vec<StoredRecord>> = records.chunks(700).map(<[_]>::to_vec).collect();
        let inside = portions.into_iter().filter(move |portion| portion.last().unwrap().offset >= from);
        let reading = Reading::new(&self.reading);
        let rest = if self.hangs.load(Ordering::SeqCst) { futures::stream::pending().boxed() } else { futures::stream::empty().boxed() };
        let portions = futures::stream::iter(inside).chain(rest).map(move |portion| {
            let _reading = &reading;
            Ok(portion)
        });
        portions.boxed()
    }

    async fn topics(&self, _: usize) -> Result<Vec<TopicDescription>> {
        let status = |partition: &PartitionSnapshot| PartitionStatus {
            partition: partition.partition,
            log_start: partition.log_start,
            end: partition.end,
            bytes: 0,
            extents: partition.extents.len() as u64,
        };
        let described = |snapshot: &TopicSnapshot| TopicDescription {
            topic: snapshot.topic.as_ref().clone(),
            status: snapshot.partitions.iter().map(status).collect(),
        };
        Ok(self.topics.lock().unwrap().iter().map(described).collect())
    }

    async fn queues(&self, _: usize) -> Result<Vec<Queue>> {
        Ok(Vec::new())
    }

    async fn cursors(&self, _: usize) -> Result<Vec<Cursor>> {
        Ok(Vec::new())
    }

    async fn objects(&self, _: Option<TopicName>, _: usize) -> Result<Vec<(TopicName, ObjectRange)>> {
        Ok(Vec::new())
    }
}

/// Counts what is under way.
struct Reading(Arc<AtomicUsize>);

impl Reading {
    fn new(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(count))
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}
