//! The tables of schema `system`: what the namespace has, besides records. They are read when they are scanned, not in the
//! snapshots of topics.

use std::sync::Arc;

use arrow_array::{ArrayRef, BooleanArray, Int64Array, RecordBatch, StringArray, TimestampMillisecondArray, UInt32Array};
use arrow_schema::{DataType, Field, Schema, SchemaRef, TimeUnit};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{Result as DataFusionResult, ScalarValue};
use datafusion::datasource::MemTable;
use datafusion::error::DataFusionError;
use datafusion::logical_expr::{BinaryExpr, Expr, Operator, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;
use lakefall_queue::queue::Queue;
use lakefall_queue::topic::{Cleanup, TopicDescription};
use lakefall_queue::verbs::{Cursor, ObjectRange};
use lakefall_queue::{Result, Timestamp, TopicName};

use crate::shore::Shore;

/// The schema that the tables are in.
pub(crate) const SCHEMA: &str = "system";
/// Most rows of a table.
const MOST_ROWS: usize = 100_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Tables,
    Topics,
    Queues,
    Cursors,
    Objects,
}

const KINDS: [(&str, Kind); 5] =
    [("tables", Kind::Tables), ("topics", Kind::Topics), ("queues", Kind::Queues), ("cursors", Kind::Cursors), ("objects", Kind::Objects)];

/// What to name instead.
pub(crate) fn known() -> String {
    let names: Vec<String> = KINDS.iter().map(|(name, _)| format!("{SCHEMA}.{name}")).collect();
    format!("there are {}", names.join(", "))
}

/// One of them.
#[derive(Debug)]
pub(crate) struct SystemTable {
    kind: Kind,
    schema: SchemaRef,
    shore: Shore,
}

impl SystemTable {
    /// None if there is no table of this name.
    pub(crate) fn new(name: &str, shore: Shore) -> Option<Self> {
        let (_, kind) = KINDS.iter().find(|(known, _)| *known == name)?;
        Some(Self { kind: *kind, schema: schema(*kind), shore })
    }

    async fn rows(&self, topic: Option<TopicName>) -> Result<Vec<ArrayRef>> {
        Ok(match self.kind {
            Kind::Tables => tables(&self.topics().await?),
            Kind::Topics => topics(&self.topics().await?),
            Kind::Queues => queues(&self.shore.ask(|source| async move { source.queues(MOST_ROWS).await }).await?),
            Kind::Cursors => cursors(&self.shore.ask(|source| async move { source.cursors(MOST_ROWS).await }).await?),
            Kind::Objects => objects(&self.shore.ask(|source| async move { source.objects(topic, MOST_ROWS).await }).await?),
        })
    }

    async fn topics(&self) -> Result<Vec<TopicDescription>> {
        self.shore.ask(|source| async move { source.topics(MOST_ROWS).await }).await
    }
}

#[async_trait]
impl TableProvider for SystemTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::View
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> DataFusionResult<Vec<TableProviderFilterPushDown>> {
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        let topic = filters.iter().find_map(named_topic);
        let columns = self.rows(topic).await.map_err(|error| DataFusionError::External(Box::new(error)))?;
        let batch = RecordBatch::try_new(Arc::clone(&self.schema), columns)?;
        MemTable::try_new(Arc::clone(&self.schema), vec![vec![batch]])?.scan(state, projection, &[], limit).await
    }
}

/// The topic of a filter `topic = 'name'`.
fn named_topic(filter: &Expr) -> Option<TopicName> {
    let Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) = filter else { return None };
    let (Expr::Column(column), Expr::Literal(ScalarValue::Utf8(Some(name)), _)) = (&**left, &**right) else { return None };
    if column.name() == "topic" { TopicName::new(name).ok() } else { None }
}

fn schema(kind: Kind) -> SchemaRef {
    let text = |name: &str| Field::new(name, DataType::Utf8, false);
    let whole = |name: &str| Field::new(name, DataType::Int64, false);
    let maybe = |field: Field| field.with_nullable(true);
    let partition = || Field::new("partition", DataType::UInt32, false);
    let time = |name: &str| Field::new(name, DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into())), false);
    let fields = match kind {
        Kind::Tables => vec![text("table_schema"), text("table_name")],
        Kind::Topics => vec![
            text("name"),
            Field::new("partitions", DataType::UInt32, false),
            whole("records"),
            whole("bytes"),
            whole("extents"),
            text("cleanup"),
            maybe(whole("retention_seconds")),
            maybe(whole("retention_bytes")),
            time("created_at"),
        ],
        Kind::Queues => vec![
            text("name"),
            text("topics"),
            whole("lease_ms"),
            maybe(whole("max_attempts")),
            maybe(text("dead_letter")),
            maybe(whole("max_depth")),
            Field::new("fair", DataType::Boolean, false),
            time("created_at"),
        ],
        Kind::Cursors => vec![text("name"), text("topic"), partition(), whole("offset"), whole("lag"), time("updated_at")],
        Kind::Objects => vec![
            text("topic"),
            partition(),
            whole("first_offset"),
            whole("records"),
            text("level"),
            text("key"),
            whole("position"),
            whole("length"),
            time("appended_at"),
        ],
    };
    Arc::new(Schema::new(fields))
}

fn texts<T>(of: &[T], text: impl Fn(&T) -> String) -> ArrayRef {
    Arc::new(StringArray::from_iter_values(of.iter().map(text)))
}

fn wholes<T>(of: &[T], number: impl Fn(&T) -> u64) -> ArrayRef {
    maybe_wholes(of, |item| Some(number(item)))
}

fn maybe_wholes<T>(of: &[T], number: impl Fn(&T) -> Option<u64>) -> ArrayRef {
    Arc::new(of.iter().map(|item| number(item).map(|number| i64::try_from(number).unwrap_or(i64::MAX))).collect::<Int64Array>())
}

fn times<T>(of: &[T], time: impl Fn(&T) -> Timestamp) -> ArrayRef {
    Arc::new(TimestampMillisecondArray::from_iter_values(of.iter().map(|item| time(item).as_millis())).with_timezone("UTC"))
}

fn indexes<T>(of: &[T], index: impl Fn(&T) -> u32) -> ArrayRef {
    Arc::new(UInt32Array::from_iter_values(of.iter().map(index)))
}

fn tables(topics: &[TopicDescription]) -> Vec<ArrayRef> {
    let topics = topics.iter().map(|topic| ("topics", topic.topic.name.as_str()));
    let all: Vec<(&str, &str)> = topics.chain(KINDS.iter().map(|(name, _)| (SCHEMA, *name))).collect();
    vec![texts(&all, |(schema, _)| (*schema).to_owned()), texts(&all, |(_, name)| (*name).to_owned())]
}

fn topics(topics: &[TopicDescription]) -> Vec<ArrayRef> {
    let sum = |of: fn(&lakefall_queue::topic::PartitionStatus) -> u64| {
        wholes(topics, move |topic: &TopicDescription| topic.status.iter().map(of).sum())
    };
    vec![
        texts(topics, |topic| topic.topic.name.to_string()),
        indexes(topics, |topic| topic.topic.config.partitions),
        sum(|status| status.end.0.saturating_sub(status.log_start.0)),
        sum(|status| status.bytes),
        sum(|status| status.extents),
        texts(topics, |topic| if topic.topic.config.cleanup == Cleanup::Delete { "delete".to_owned() } else { "compact".to_owned() }),
        maybe_wholes(topics, |topic| topic.topic.config.retention.age.map(|age| age.as_secs())),
        maybe_wholes(topics, |topic| topic.topic.config.retention.bytes),
        times(topics, |topic| topic.topic.created_at),
    ]
}

fn queues(queues: &[Queue]) -> Vec<ArrayRef> {
    let read = |queue: &Queue| {
        let mut names: Vec<&str> = queue.sources.iter().map(|source| source.name.as_str()).collect();
        names.sort_unstable();
        names.join(" ")
    };
    let dead: StringArray = queues.iter().map(|queue| queue.config.dead_letter.as_ref().map(|dead| dead.topic.to_string())).collect();
    vec![
        texts(queues, |queue| queue.name.to_string()),
        texts(queues, read),
        wholes(queues, |queue| u64::try_from(queue.config.lease.as_millis()).unwrap_or(u64::MAX)),
        maybe_wholes(queues, |queue| queue.config.max_attempts.map(u64::from)),
        Arc::new(dead),
        maybe_wholes(queues, |queue| queue.config.max_depth),
        Arc::new(queues.iter().map(|queue| Some(queue.config.fair)).collect::<BooleanArray>()),
        times(queues, |queue| queue.created_at),
    ]
}

fn cursors(cursors: &[Cursor]) -> Vec<ArrayRef> {
    let all: Vec<_> = cursors.iter().flat_map(|cursor| cursor.positions.iter().map(move |position| (cursor, position))).collect();
    vec![
        texts(&all, |(cursor, _)| cursor.name.to_string()),
        texts(&all, |(cursor, _)| cursor.topic.to_string()),
        indexes(&all, |(_, position)| position.partition.0),
        wholes(&all, |(_, position)| position.offset.0),
        wholes(&all, |(_, position)| position.lag),
        times(&all, |(cursor, _)| cursor.updated_at),
    ]
}

fn objects(objects: &[(TopicName, ObjectRange)]) -> Vec<ArrayRef> {
    vec![
        texts(objects, |(topic, _)| topic.to_string()),
        indexes(objects, |(_, range)| range.partition.0),
        wholes(objects, |(_, range)| range.first_offset.0),
        wholes(objects, |(_, range)| range.records),
        texts(objects, |(_, range)| range.level.as_str().to_owned()),
        texts(objects, |(_, range)| range.key.clone()),
        wholes(objects, |(_, range)| range.position),
        wholes(objects, |(_, range)| range.length),
        times(objects, |(_, range)| range.appended_at),
    ]
}
