//! Moves messages: appends copies of them and settles the originals' leases in one atom, so that none is lost and none is
//! there twice. Must never settle what was not appended in the same journal entry.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use lakefall_metadata::{Metadata, Meter};
use lakefall_queue::clock::Ambient;
use lakefall_queue::error::{Error, Result};
use lakefall_queue::ledger::{
    Answer, AtomOutcome, Command, FreeMessages, Query, Refusal, Reply, SettleAction, SettleItem, SettleMessages, SettleOutcome, SettledRun,
};
use lakefall_queue::queue::Queue;
use lakefall_queue::topic::Topic;
use lakefall_queue::verbs::{Admission, Idempotency, Read, Start};
use lakefall_queue::{NamespaceName, Offset, PartitionIndex, Record, StoredRecord, TopicId, TopicName};
use tokio::sync::oneshot;

use super::settle::joined;
use crate::ingest::{Binding, Gate, Ingest, Part, PartOutcome, Routed, Router, Settled, Submission};
use crate::read::{Failure, Reader};
use crate::topics::Topics;

/// Records between the first and the last of one read.
const WINDOW: u64 = 1_000;
/// Bytes of one read.
const PAGE_BYTES: usize = 4 << 20;

/// What moving messages needs of the engine. Clones share everything.
#[derive(Clone)]
pub(crate) struct Mover {
    pub(crate) metadata: Arc<dyn Metadata>,
    pub(crate) topics: Arc<Topics>,
    pub(crate) ingest: Ingest,
    pub(crate) gate: Gate,
    pub(crate) router: Arc<Router>,
    pub(crate) reader: Arc<Reader>,
    pub(crate) usage: Arc<Meter>,
    pub(crate) ambient: Ambient,
}

/// Why nothing was moved, or perhaps something.
pub(crate) enum Refused {
    /// Certainly nothing: the ledger says why.
    Refusal(Refusal),
    /// See the error's outcome.
    Failed(Error),
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

/// What became of some of the records that were looked for.
pub(crate) struct Page {
    /// In offset order.
    pub(crate) records: Vec<(Offset, Found)>,
    /// The room that the records occupy.
    pub(crate) admission: Admission,
}

/// What a look for a record found.
pub(crate) enum Found {
    Record(Box<StoredRecord>),
    /// Trimmed, expired or compacted away, or its topic was deleted.
    Gone,
    /// It is there, but cannot be read now.
    Failed(Error),
}

impl Mover {
    /// A topic, from memory or from its ledger.
    pub(crate) async fn topic(&self, namespace: &NamespaceName, name: &TopicName) -> Result<Arc<Topic>> {
        self.topics.get(namespace, name).await
    }

    /// The topic of this number, if the queue still reads it and its name still means it.
    pub(crate) async fn source(&self, queue: &Queue, id: TopicId) -> Result<Option<Arc<Topic>>> {
        let Some(source) = queue.sources.iter().find(|source| source.topic == id) else { return Ok(None) };
        match self.topic(&queue.namespace, &source.name).await {
            Ok(topic) => Ok(Some(topic).filter(|topic| topic.id == id)),
            Err(Error::TopicNotFound(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Appends records to one topic and settles leases, all or nothing.
    pub(crate) async fn append_and_settle(&self, topic: &Topic, records: Vec<Record>, settles: SettleMessages) -> Result<(), Refused> {
        self.append_once(topic, records, settles, None).await
    }

    /// The same under a key: repeated, it is done once, and answered as if it were done now.
    pub(crate) async fn append_once(
        &self,
        topic: &Topic,
        records: Vec<Record>,
        settles: SettleMessages,
        idempotency: Option<Idempotency>,
    ) -> Result<(), Refused> {
        let bytes = records.iter().map(Record::payload_bytes).sum();
        let admission = self.gate.admit(bytes).await?;
        let Routed { parts, layout } = self.router.route(topic, None, records, idempotency.as_ref(), 0)?;
        let (account, compression) = (self.usage.of(topic), topic.config.compression);
        let part = |(partition, records)| Part {
            topic: topic.id,
            account: Arc::clone(&account),
            partition,
            compression,
            records,
            condition: None,
        };
        let parts = parts.into_iter().map(part).collect();
        let binding = Binding { namespace: topic.namespace.clone(), idempotency, layout, cursors: Vec::new(), settles: vec![settles] };
        let (reply, settled) = oneshot::channel();
        let (urgency, submitted) = (topic.config.urgency, self.ingest.now());
        let submission =
            Submission { parts, binding: Some(binding), order: None, urgency, bytes, submitted, reply, admission, trace: None };
        self.ingest.submit(submission)?;
        let settled = settled.await.unwrap_or_else(|_| Err(Error::unknown("the gateway failed while it stored the records")))?;
        if matches!(settled.binding, Some(AtomOutcome::Replayed(_))) {
            return Ok(());
        }
        refusal(&settled).map_or(Ok(()), |refusal| Err(Refused::Refusal(refusal.clone())))
    }

    /// Settles leases, each by itself. Answers for each message, in the order of the items.
    pub(crate) async fn settle(&self, settle: SettleMessages) -> Result<Vec<SettleOutcome>> {
        let shard = settle.queue.shard();
        match self.metadata.execute(shard, Command::Settle(settle)).await? {
            Reply::Settled(runs) => {
                Ok(runs.iter().flat_map(|SettledRun { count, outcome }| std::iter::repeat_n(*outcome, *count as usize)).collect())
            }
            other => Err(Error::Internal(format!("the ledger answered another question: {other:?}"))),
        }
    }

    /// Messages of a partition of a queue that nobody has, from an offset on.
    pub(crate) async fn free(
        &self,
        queue: &Queue,
        topic: TopicId,
        partition: PartitionIndex,
        from: Offset,
        most: u32,
    ) -> Result<FreeMessages> {
        match self.metadata.query(queue.id.shard(), Query::QueueFree { queue: queue.id, topic, partition, from, most }).await? {
            Answer::QueueFree(free) => Ok(free),
            other => Err(Error::Internal(format!("asked for messages of a queue, got {other:?}"))),
        }
    }

    /// Reads the first of the `wanted` records of a partition, those that lie near each other: at least one, unless none is wanted.
    pub(crate) async fn page(&self, topic: &Topic, partition: PartitionIndex, wanted: &BTreeSet<Offset>) -> Page {
        let mut page = Page { records: Vec::new(), admission: Admission::default() };
        let Some(first) = wanted.first().copied() else { return page };
        let near: Vec<Offset> = wanted.range(..Offset(first.0.saturating_add(WINDOW))).copied().collect();
        let last = near.last().copied().unwrap_or(first);
        let read = match self.read(topic, partition, first, last).await {
            // Which one is damaged is told only by reading each by itself.
            Err(Failure::Refused(Error::DataUnavailable { .. })) if last > first => self.read(topic, partition, first, first).await,
            read => read,
        };
        match read {
            Ok(fetched) => {
                let next = fetched.next.first().map_or(first, |position| position.next);
                page.admission = fetched.admission;
                let mut found = fetched.records.into_iter().peekable();
                for offset in near.into_iter().filter(|offset| *offset < next) {
                    while found.next_if(|record| record.offset < offset).is_some() {}
                    let record = found.next_if(|record| record.offset == offset);
                    page.records.push((offset, record.map_or(Found::Gone, |record| Found::Record(Box::new(record)))));
                }
                if page.records.is_empty() {
                    let ended = Error::unavailable(format!("the record at offset {first} of partition {partition} cannot be read yet"));
                    page.records.push((first, Found::Failed(ended)));
                }
            }
            Err(Failure::Refused(Error::BelowLogStart { log_start, .. })) => {
                let gone = near.into_iter().filter(|offset| *offset < log_start.max(first.plus(1)));
                page.records.extend(gone.map(|offset| (offset, Found::Gone)));
            }
            Err(Failure::TopicGone) => {
                self.topics.forget(&topic.namespace, &topic.name);
                page.records.extend(near.into_iter().map(|offset| (offset, Found::Gone)));
            }
            Err(failure) => page.records.push((first, Found::Failed(failure.into_error()))),
        }
        page
    }

    async fn read(
        &self,
        topic: &Topic,
        partition: PartitionIndex,
        first: Offset,
        last: Offset,
    ) -> Result<lakefall_queue::verbs::Fetched, Failure> {
        let read = Read {
            topic: topic.name.clone(),
            from: vec![(partition, Start::Offset(first))],
            max_records: WINDOW as usize,
            max_bytes: PAGE_BYTES,
            until_offset: Some(last.plus(1)),
            until_timestamp: None,
            wait: Duration::ZERO,
        };
        self.reader.read(topic, &read, tokio::time::Instant::now()).await
    }
}

/// What takes messages out of a queue that nobody has.
pub(crate) fn taking(queue: &Queue, topic: TopicId, partition: PartitionIndex, offsets: impl Iterator<Item = Offset>) -> SettleMessages {
    let item = |first| SettleItem { topic, partition, first, count: 1, attempt: 0, action: SettleAction::Cancel };
    SettleMessages { queue: queue.id, generation: queue.generation, version: None, items: joined(offsets.map(item)) }
}

/// Why an atom was refused. A part's own refusal says more than that of the atom it took down.
pub(crate) fn refusal(settled: &Settled) -> Option<&Refusal> {
    let parts = settled.parts.iter().filter_map(|part| match part {
        PartOutcome::Refused(refusal) => Some(refusal),
        PartOutcome::Stored(_) | PartOutcome::Duplicate(_) => None,
    });
    let own = parts.clone().find(|refusal| **refusal != Refusal::Atom);
    let whole = match &settled.binding {
        Some(AtomOutcome::Refused(refusal)) => Some(refusal),
        _ => None,
    };
    own.or(whole).or_else(|| parts.clone().next())
}
