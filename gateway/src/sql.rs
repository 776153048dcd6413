//! What a statement of SQL sees of this gateway: the topics of its caller's namespace, each as it stands when it is asked for,
//! and what else the namespace has.

use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use lakefall_queue::error::Result;
use lakefall_queue::ledger::{Answer, Extent, ObjectLevel, Query};
use lakefall_queue::queue::Queue;
use lakefall_queue::sql::SqlRefusal;
use lakefall_queue::topic::{Topic, TopicDescription};
use lakefall_queue::verbs::{Caller, Cursor, ObjectRange, Page, PageRequest, Verbs};
use lakefall_queue::{Offset, PartitionIndex, TopicName};
use lakefall_sql::{PartitionSnapshot, RecordPortions, Source, Stored, TopicSnapshot};

use crate::engine::{Engine, object_range, unexpected};
use crate::read::Failure;

/// Items of a list that are asked for at once.
const PAGE: usize = 1_000;
/// Topics that are asked about at once.
const TOPICS_AT_ONCE: usize = 16;
/// How often a topic's records may turn out to lie elsewhere while they are located.
const MOVES: usize = 3;

/// A namespace as tables.
pub(crate) struct Tables {
    engine: Arc<Engine>,
    caller: Caller,
}

impl Tables {
    pub(crate) fn new(engine: Arc<Engine>, caller: Caller) -> Self {
        Self { engine, caller }
    }

    async fn snapshot_once(&self, topic: Arc<Topic>) -> Result<TopicSnapshot, Failure> {
        let mut moves = 0;
        let laid = loop {
            match self.engine.reader.laid(&topic).await {
                Err(Failure::Moved) if moves < MOVES => moves += 1,
                laid => break laid?,
            }
        };
        let partitions = laid.into_iter().map(|laid| PartitionSnapshot {
            partition: laid.partition,
            log_start: laid.log_start,
            end: laid.end,
            extents: laid.extents.into_iter().map(|extent| Stored { extent, parquet: extent.level == ObjectLevel::Parquet }).collect(),
        });
        Ok(TopicSnapshot { partitions: partitions.collect(), infer_json: infers_json(&topic), topic })
    }

    async fn described(&self, topic: Topic) -> Result<TopicDescription> {
        match self.engine.ask(&self.caller.namespace, Query::Partitions(topic.id)).await? {
            Answer::Partitions(status) => Ok(TopicDescription { topic, status }),
            other => Err(unexpected(&other)),
        }
    }

    async fn all_topics(&self, limit: usize) -> Result<Vec<Topic>> {
        listed(limit, |page| self.engine.list_topics(&self.caller, page)).await
    }
}

/// Whether a topic's JSON values get columns in its Parquet files, found by looking at them. Those of a schema stay as they are.
fn infers_json(topic: &Topic) -> bool {
    topic.config.parquet.infer_json && topic.config.schema.is_none()
}

#[async_trait]
impl Source for Tables {
    async fn snapshot(&self, topic: &TopicName) -> Result<TopicSnapshot> {
        self.engine.on_topic(&self.caller, topic, |topic| self.snapshot_once(topic)).await
    }

    async fn read(&self, topic: &Topic, stored: &Stored, ranges: Vec<Range<u64>>, anew: bool) -> Result<Vec<Bytes>> {
        self.engine.reader.file_ranges(topic, &stored.extent, ranges, anew).await
    }

    fn records(&self, topic: Arc<Topic>, partition: PartitionIndex, extent: Extent, from: Offset) -> RecordPortions {
        Arc::clone(&self.engine.reader).batches(topic, partition, extent, from)
    }

    async fn topics(&self, limit: usize) -> Result<Vec<TopicDescription>> {
        let topics = self.all_topics(limit).await?.into_iter().map(|topic| self.described(topic));
        let topics: Vec<_> = topics.collect();
        futures::stream::iter(topics).buffered(TOPICS_AT_ONCE).try_collect().await
    }

    async fn queues(&self, limit: usize) -> Result<Vec<Queue>> {
        listed(limit, |page| self.engine.list_queues(&self.caller, page)).await
    }

    async fn cursors(&self, limit: usize) -> Result<Vec<Cursor>> {
        listed(limit, |page| self.engine.list_cursors(&self.caller, page)).await
    }

    async fn objects(&self, topic: Option<TopicName>, limit: usize) -> Result<Vec<(TopicName, ObjectRange)>> {
        let topics = match topic {
            Some(topic) => match self.engine.topic(&self.caller, &topic).await {
                Ok(topic) => vec![topic.as_ref().clone()],
                // A filter for a topic that is not there passes nothing.
                Err(lakefall_queue::Error::TopicNotFound(_)) => Vec::new(),
                Err(error) => return Err(error),
            },
            None => self.all_topics(limit).await?,
        };
        let mut found = Vec::new();
        for topic in topics {
            for partition in (0..topic.config.partitions).map(PartitionIndex) {
                let left = limit - found.len();
                let extents = self.engine.reader.extents(&topic, partition, Offset(0), left + 1).await;
                let extents = match extents {
                    // Deleted since it was listed.
                    Err(Failure::TopicGone) => break,
                    extents => extents.map_err(Failure::into_error)?,
                };
                if extents.len() > left {
                    return Err(too_many(limit));
                }
                found.extend(extents.iter().map(|extent| (topic.name.clone(), object_range(&topic, partition, extent))));
            }
        }
        Ok(found)
    }
}

/// All items of a list, page by page.
async fn listed<T, F>(limit: usize, list: impl Fn(PageRequest) -> F) -> Result<Vec<T>>
where
    F: Future<Output = Result<Page<T>>>,
{
    let mut items = Vec::new();
    let mut after = None;
    loop {
        let page = list(PageRequest { after, limit: PAGE }).await?;
        items.extend(page.items);
        if items.len() > limit {
            return Err(too_many(limit));
        }
        match page.next {
            Some(next) => after = Some(next),
            None => return Ok(items),
        }
    }
}

fn too_many(limit: usize) -> lakefall_queue::Error {
    SqlRefusal::LimitExceeded { reason: format!("there are more than {limit} of them: use the API's own list, which comes in pages") }
        .into()
}
