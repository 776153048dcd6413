//! The read path: where to begin, which extents, which batches, and waiting for more without polling.

mod fetch;
mod position;
mod tails;

use std::sync::Arc;

use lakefall_metadata::Metadata;
use lakefall_queue::clock::Ambient;
use lakefall_queue::error::{Error, Result};
use lakefall_queue::ledger::{Answer, Extent, Located, Query};
use lakefall_queue::topic::Topic;
use lakefall_queue::verbs::{Fetched, Position, Read, Start};
use lakefall_queue::{Offset, PartitionIndex, StoredRecord};
use lakefall_storage::cache::Cache;
use lakefall_storage::store::Store;
use tokio::time::Instant;

pub(crate) use tails::{Tails, run as follow};

/// Extents asked for at once.
const EXTENTS_AT_ONCE: usize = 64;

/// Reads for everyone.
pub(crate) struct Reader {
    pub(crate) metadata: Arc<dyn Metadata>,
    pub(crate) cache: Arc<Cache>,
    /// Read without the cache only where that answered damaged bytes.
    pub(crate) store: Store,
    pub(crate) tails: Arc<Tails>,
    pub(crate) ambient: Ambient,
}

/// One partition of a read under way.
#[derive(Clone, Copy, Debug)]
struct At {
    partition: PartitionIndex,
    next: Offset,
    log_start: Offset,
    end: Offset,
    finished: bool,
    /// `log_start` and `end` are known.
    located: bool,
}

/// How much more a read may answer.
struct Budget {
    records: usize,
    bytes: usize,
}

impl Budget {
    fn spent(&self) -> bool {
        self.records == 0 || self.bytes == 0
    }
}

impl Reader {
    pub(crate) async fn read(&self, topic: &Topic, read: &Read) -> Result<Fetched> {
        let deadline = Instant::now() + read.wait;
        // Subscribed before anything is located: what is appended in between is not missed.
        let mut tail = (!read.wait.is_zero()).then(|| self.tails.watch(topic.id));
        let mut at = Vec::with_capacity(read.from.len());
        for (partition, start) in &read.from {
            self.check_partition(topic, *partition)?;
            at.push(self.begin(topic, *partition, *start).await?);
        }
        let mut woken = false;
        loop {
            let mut records = Vec::new();
            let mut budget = Budget { records: read.max_records, bytes: read.max_bytes };
            let mut served = Vec::new();
            for (index, place) in at.iter_mut().enumerate() {
                if budget.spent() {
                    self.look_at(topic, place).await?;
                    continue;
                }
                let before = records.len();
                let ring = tail.as_ref().filter(|_| woken).map(|tail| &tail.topic);
                self.read_partition(topic, read, place, ring.map(|r| &**r), &mut budget, &mut records).await?;
                if records.len() > before {
                    served.push(index);
                }
            }
            let all_finished = at.iter().all(|a| a.finished);
            let Some(tail) = tail.as_mut().filter(|_| records.is_empty() && !all_finished) else {
                return Ok(fetched(records, at, &served));
            };
            if tokio::time::timeout_at(deadline, tail.changed()).await.is_err() {
                return Ok(fetched(records, at, &served));
            }
            woken = true;
        }
    }

    /// Reads one partition from where it stands, until the budget is spent or its end or bound is reached.
    async fn read_partition(
        &self,
        topic: &Topic,
        read: &Read,
        at: &mut At,
        ring: Option<&tails::TopicTail>,
        budget: &mut Budget,
        records: &mut Vec<StoredRecord>,
    ) -> Result<()> {
        while !at.finished && !budget.spent() {
            let known = ring.and_then(|ring| ring.extents(at.partition, at.next));
            let located = match known {
                Some((extents, end)) => Located { extents, end, log_start: at.log_start, first_recent: at.next, retired: at.log_start },
                None => self.locate(topic, at.partition, at.next, budget.bytes as u64).await?,
            };
            (at.log_start, at.end, at.located) = (located.log_start, located.end, true);
            if at.next < located.log_start {
                return Err(Error::BelowLogStart { partition: at.partition, offset: at.next, log_start: located.log_start });
            }
            if read.until_offset.is_some_and(|until| at.next >= until) {
                at.finished = true;
                return Ok(());
            }
            if located.extents.is_empty() || at.next >= located.end {
                return Ok(());
            }
            for extent in &located.extents {
                if budget.spent() || at.finished {
                    break;
                }
                self.read_extent(topic, read, at, extent, budget, records).await?;
            }
            if at.next >= located.end {
                // Looking again would only find what was appended since; waiting readers would all ask at once.
                return Ok(());
            }
        }
        Ok(())
    }

    /// Finds out where a partition begins and ends that the budget did not reach.
    async fn look_at(&self, topic: &Topic, at: &mut At) -> Result<()> {
        if !at.located {
            let located = self.bounds(topic, at.partition).await?;
            (at.log_start, at.end, at.located) = (located.log_start, located.end, true);
        }
        Ok(())
    }

    async fn bounds(&self, topic: &Topic, partition: PartitionIndex) -> Result<Located> {
        self.located(topic, Query::Locate { topic: topic.id, partition, from: Offset(u64::MAX), max_bytes: 0, max_extents: 0 }).await
    }

    async fn locate(&self, topic: &Topic, partition: PartitionIndex, from: Offset, max_bytes: u64) -> Result<Located> {
        let query = Query::Locate { topic: topic.id, partition, from, max_bytes, max_extents: EXTENTS_AT_ONCE };
        let located = self.located(topic, query).await?;
        // Extents can be let go of between the look into memory and the one into the store: then look again.
        if let Some(first) = located.extents.first()
            && first.base_offset > from
            && from >= located.log_start
        {
            return self.located(topic, Query::Locate { topic: topic.id, partition, from, max_bytes, max_extents: EXTENTS_AT_ONCE }).await;
        }
        Ok(located)
    }

    async fn located(&self, topic: &Topic, query: Query) -> Result<Located> {
        match self.metadata.query(topic.id.shard(), query).await? {
            Answer::Located(located) => Ok(located),
            other => Err(Error::Internal(format!("asked where records are, got {other:?}"))),
        }
    }

    fn check_partition(&self, topic: &Topic, partition: PartitionIndex) -> Result<()> {
        if partition.0 < topic.config.partitions {
            return Ok(());
        }
        Err(Error::PartitionNotFound { topic: topic.name.clone(), partition, partitions: topic.config.partitions })
    }

    /// Which objects hold a partition's records.
    pub(crate) async fn extents(&self, topic: &Topic, partition: PartitionIndex, from: Offset, limit: usize) -> Result<Vec<Extent>> {
        self.check_partition(topic, partition)?;
        let mut found: Vec<Extent> = Vec::new();
        let mut next = from;
        while found.len() < limit {
            let query = Query::Locate { topic: topic.id, partition, from: next, max_bytes: u64::MAX, max_extents: limit - found.len() };
            let located = self.located(topic, query).await?;
            let Some(last) = located.extents.last() else { break };
            next = last.end();
            found.extend(located.extents);
        }
        Ok(found)
    }

    /// Resolves a start to an offset.
    pub(crate) async fn position(&self, topic: &Topic, partition: PartitionIndex, start: Start) -> Result<Position> {
        self.check_partition(topic, partition)?;
        let at = match start {
            Start::Offset(next) => At { next, ..self.begin(topic, partition, Start::Latest).await? },
            _ => self.begin(topic, partition, start).await?,
        };
        Ok(at.into())
    }
}

impl From<At> for Position {
    fn from(at: At) -> Self {
        Self { partition: at.partition, next: at.next, log_start: at.log_start, end: at.end, finished: at.finished }
    }
}

/// Partitions that were served go last, so that the next read begins with the others.
fn fetched(records: Vec<StoredRecord>, at: Vec<At>, served: &[usize]) -> Fetched {
    let bytes: usize = records.iter().map(StoredRecord::payload_bytes).sum();
    metrics::counter!(crate::metrics::READ_RECORDS).increment(records.len() as u64);
    metrics::counter!(crate::metrics::READ_BYTES).increment(bytes as u64);
    let waiting = (0..at.len()).filter(|i| !served.contains(i));
    let order: Vec<usize> = waiting.chain(served.iter().copied()).collect();
    Fetched { records, next: order.into_iter().map(|i| Position::from(at[i])).collect() }
}
