//! Redrive: puts dead letters back to where they came from, or elsewhere. Each batch is appended and taken out of the
//! dead-letter queue in one atom, so nothing is there twice or lost, and a redrive that was cut short is simply started again.
//! It leases nothing: letters that stay are left as they are, and those that somebody else has are passed over. Must never
//! touch dead letters that came after it began.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use lakefall_queue::error::{Error, Result};
use lakefall_queue::ledger::{FreeMessages, Refusal};
use lakefall_queue::queue::{Operation, Queue, Redrive};
use lakefall_queue::topic::Topic;
use lakefall_queue::verbs::{Caller, Idempotency, Start, Verbs};
use lakefall_queue::{Offset, PartitionIndex, QueueName, Record, StoredRecord, Timestamp, TopicId, TopicName};

use super::classify::is_over;
use super::dead::{origin, revived};
use super::expression::{Expression, Spoken};
use super::filter::Filters;
use super::mover::{Found, Mover, Refused, taking};
use super::operations::{Operations, Progress};

/// Messages of one batch, at most.
const BATCH: usize = 500;
/// Messages that the ledger tells of at once.
const PAGE: u32 = 1_000;
/// Between two attempts while the stores are away, and how many.
const PAUSE: (Duration, usize) = (Duration::from_secs(1), 30);
/// How often a batch is tried, as others take messages of it.
const TRIES: usize = 8;

/// A letter on its way: its place, what it becomes, and where to.
struct Going {
    offset: Offset,
    record: Record,
    to: TopicName,
}

/// What a redrive works with.
struct Run {
    verbs: Arc<dyn Verbs>,
    mover: Mover,
    caller: Caller,
    /// The queue of dead letters, and what it takes.
    from: Queue,
    takes: Filters,
    /// Only letters of this queue.
    only: Option<QueueName>,
    filter: Option<Expression>,
    to: Option<TopicName>,
    max_per_second: Option<u32>,
    /// Only counts.
    dry_run: bool,
    /// What came later is left alone.
    ends: BTreeMap<(TopicName, PartitionIndex), Offset>,
    /// Whether a queue is there and reads a topic, as it was found.
    readers: HashMap<(String, TopicName), bool>,
    /// Batches so far.
    batches: u64,
    progress: Progress,
}

/// What a dead letter becomes.
enum Fate {
    /// Passed over.
    Stays,
    /// Appended to this topic, for this queue only if there is one.
    Goes(TopicName, Option<String>),
}

/// Starts a redrive of the dead letters of `queue`: those that its dead-letter topic holds of it, or, where it has no such topic
/// and is a queue of dead letters itself, all that it holds.
///
/// A letter goes to the topic that it came from, for the queue that gave it up and no other; or to `redrive.to`, for all that
/// read it. One whose queue is gone, or reads that topic no more, stays, and so does what is no dead letter without `to`.
pub(crate) async fn start(
    verbs: Arc<dyn Verbs>,
    mover: &Mover,
    operations: &Operations,
    caller: &Caller,
    queue: &QueueName,
    redrive: Redrive,
) -> Result<Operation> {
    let Redrive { filter, to, max_per_second, dry_run } = redrive;
    let filter = filter.map(|text| Expression::compile("filter", &text)).transpose()?;
    if max_per_second == Some(0) {
        return Err(Error::invalid("max_per_second", "max_per_second must be 1 or more"));
    }
    let asked = verbs.describe_queue(caller, queue).await?;
    let (from, only) = match &asked.config.dead_letter {
        Some(dead) => (verbs.describe_queue(caller, &QueueName::from(&dead.topic)).await?, Some(asked.name)),
        None => (asked, None),
    };
    if let Some(to) = &to {
        if from.sources.iter().any(|source| source.name == *to) {
            return Err(Error::invalid("to", format!("the dead letters lie in topic {to} already: name another one")));
        }
        mover.topic(&caller.namespace, to).await?;
    }
    let mut ends = BTreeMap::new();
    for source in &from.sources {
        let positions = verbs.offsets(caller, &source.name, None, Start::Latest).await?;
        ends.extend(positions.into_iter().map(|position| ((source.name.clone(), position.partition), position.end)));
    }
    let (namespace, mover) = (caller.namespace.clone(), mover.clone());
    let caller = Caller { trace: None, ..caller.clone() };
    operations.start(&namespace, "redrive", |progress| async move {
        let takes = Filters::new(&from)?;
        let readers = HashMap::new();
        let mut run =
            Run { verbs, mover, caller, from, takes, only, filter, to, max_per_second, dry_run, ends, readers, batches: 0, progress };
        run.go().await
    })
}

impl Run {
    /// Goes through the dead letters, partition by partition, until all that were there at the start are done, or the operation
    /// is to stop.
    async fn go(&mut self) -> Result<()> {
        for ((name, partition), end) in std::mem::take(&mut self.ends) {
            let topic = self.mover.topic(&self.caller.namespace, &name).await?;
            let mut from = Offset(0);
            while from < end && !self.progress.is_cancelled() {
                let free = self.free(topic.id, partition, from).await?;
                from = free.next;
                self.letters(&topic, partition, free.offsets.into_iter().filter(|offset| *offset < end).collect()).await?;
            }
        }
        Ok(())
    }

    /// Letters of a partition that nobody has, from an offset on.
    async fn free(&self, topic: TopicId, partition: PartitionIndex, from: Offset) -> Result<FreeMessages> {
        let mut tries = 0;
        loop {
            match self.mover.free(&self.from, topic, partition, from, PAGE).await {
                Ok(free) => return Ok(free),
                Err(error) => self.pause(error, &mut tries).await?,
            }
        }
    }

    /// Waits a little while the stores are away, for so long.
    async fn pause(&self, error: Error, tries: &mut usize) -> Result<()> {
        if !matches!(error, Error::Unavailable { .. } | Error::Unknown { .. }) || *tries >= PAUSE.1 || self.progress.is_cancelled() {
            return Err(error);
        }
        *tries += 1;
        self.progress.sleep(PAUSE.0).await;
        Ok(())
    }

    /// Reads letters of one partition and moves, or counts, those that go.
    async fn letters(&mut self, topic: &Topic, partition: PartitionIndex, mut left: BTreeSet<Offset>) -> Result<()> {
        let mut tries = 0;
        while !left.is_empty() && !self.progress.is_cancelled() {
            // No more than are moved at once: what is read occupies room until then.
            let some = left.iter().take(self.at_once()).copied().collect();
            let page = self.mover.page(topic, partition, &some).await;
            let now = self.mover.ambient.now();
            let mut going = Vec::new();
            for (offset, found) in page.records {
                match found {
                    Found::Record(record) if self.is_none(topic, &record, now) => {}
                    Found::Record(record) => match self.fate(&topic.name, &record).await? {
                        Fate::Goes(to, for_queue) => going.push(Going { offset, record: revived(*record, for_queue.as_deref()), to }),
                        Fate::Stays => self.progress.skipped(1),
                    },
                    Found::Gone => {}
                    Found::Failed(error) => {
                        self.pause(error, &mut tries).await?;
                        continue;
                    }
                }
                left.remove(&offset);
            }
            if self.dry_run {
                self.progress.done(going.len());
            } else {
                self.move_all((topic.id, partition), going).await?;
            }
        }
        Ok(())
    }

    /// Whether the queue would not deliver a message: it does not match, or is too old.
    fn is_none(&self, topic: &Topic, record: &StoredRecord, now: Timestamp) -> bool {
        is_over(&self.from, record, now) || !self.takes.take(topic.id, &topic.name, record)
    }

    /// Letters of a batch. At a rate, each second has its batch.
    fn at_once(&self) -> usize {
        self.max_per_second.map_or(BATCH, |rate| (rate as usize).min(BATCH))
    }

    /// Moves letters, each second as many as it may.
    async fn move_all(&mut self, at: (TopicId, PartitionIndex), mut going: Vec<Going>) -> Result<()> {
        let most = self.at_once();
        while !going.is_empty() && !self.progress.is_cancelled() {
            let rest = going.split_off(going.len().min(most));
            let count = going.len();
            let mut by_topic: BTreeMap<TopicName, Vec<(Offset, Record)>> = BTreeMap::new();
            for Going { offset, record, to } in std::mem::replace(&mut going, rest) {
                by_topic.entry(to).or_default().push((offset, record));
            }
            for (to, letters) in by_topic {
                self.batches += 1;
                self.move_batch(at, &to, letters).await?;
            }
            if let Some(rate) = self.max_per_second {
                self.progress.sleep(Duration::from_secs_f64(count as f64 / f64::from(rate))).await;
            }
        }
        Ok(())
    }

    /// Appends a batch to one topic and takes it out of the dead-letter queue, in one atom. Letters that somebody else took
    /// meanwhile leave the batch.
    async fn move_batch(&mut self, at: (TopicId, PartitionIndex), to: &TopicName, mut letters: Vec<(Offset, Record)>) -> Result<()> {
        let (mut tries, mut refused) = (0, 0);
        while !letters.is_empty() {
            let topic = self.mover.topic(&self.caller.namespace, to).await?;
            let records = letters.iter().map(|(_, record)| record.clone()).collect();
            // Repeated under its own key, so that an answer that was lost is no second batch.
            let key = format!("{}-{}-{refused}", self.progress.id(), self.batches);
            let idempotency = Idempotency { key: key.as_str().into(), fingerprint: u128::from(self.batches) };
            match self
                .mover
                .append_once(&topic, records, taking(&self.from, at.0, at.1, letters.iter().map(|(offset, _)| *offset)), Some(idempotency))
                .await
            {
                Ok(()) => {
                    self.progress.done(letters.len());
                    return Ok(());
                }
                Err(Refused::Refusal(Refusal::Lease { .. })) if refused < TRIES => {
                    refused += 1;
                    self.keep_free(at, &mut letters).await?;
                }
                // Whatever keeps taking them has them now.
                Err(Refused::Refusal(Refusal::Lease { .. })) => return Ok(()),
                Err(Refused::Refusal(Refusal::TopicGone)) => {
                    self.mover.topics.forget(&self.caller.namespace, to);
                    self.pause(Error::unavailable(format!("topic {to} was changed")), &mut tries).await?;
                }
                Err(Refused::Refusal(refusal)) => return Err(refusal.into_error()),
                Err(Refused::Failed(error)) => self.pause(error, &mut tries).await?,
            }
        }
        Ok(())
    }

    /// Keeps those letters that nobody has. The queue may have been moved, too.
    async fn keep_free(&mut self, (topic, partition): (TopicId, PartitionIndex), letters: &mut Vec<(Offset, Record)>) -> Result<()> {
        let queue = self.verbs.describe_queue(&self.caller, &self.from.name).await?;
        if queue.id != self.from.id {
            return Err(Error::QueueChanged(self.from.name.to_string()));
        }
        self.from.generation = queue.generation;
        let Some(mut from) = letters.first().map(|(offset, _)| *offset) else { return Ok(()) };
        let mut free = BTreeSet::new();
        let last = letters.last().map_or(from, |(offset, _)| *offset);
        while from <= last {
            let told = self.free(topic, partition, from).await?;
            free.extend(told.offsets);
            from = told.next.max(from.plus(1));
        }
        letters.retain(|(offset, _)| free.contains(offset));
        Ok(())
    }

    async fn fate(&mut self, topic: &TopicName, record: &StoredRecord) -> Result<Fate> {
        let from = origin(&record.headers);
        let of_another = self.only.as_ref().is_some_and(|only| from.as_ref().is_none_or(|from| from.queue != only.as_str()));
        if of_another || self.filter.as_ref().is_some_and(|filter| !filter.matches(&Spoken::new(topic, record))) {
            return Ok(Fate::Stays);
        }
        if let Some(to) = &self.to {
            return Ok(Fate::Goes(to.clone(), None));
        }
        match from {
            Some(from) if self.is_read(&from.queue, &from.topic).await? => Ok(Fate::Goes(from.topic, Some(from.queue))),
            _ => Ok(Fate::Stays),
        }
    }

    /// Whether a queue is there and reads a topic.
    async fn is_read(&mut self, queue: &str, topic: &TopicName) -> Result<bool> {
        let key = (queue.to_owned(), topic.clone());
        if let Some(known) = self.readers.get(&key) {
            return Ok(*known);
        }
        let Ok(name) = QueueName::new(queue) else { return Ok(false) };
        let is_read = match self.verbs.describe_queue(&self.caller, &name).await {
            Ok(queue) => queue.sources.iter().any(|source| source.name == *topic),
            Err(Error::QueueNotFound(_)) => false,
            Err(error) => return Err(error),
        };
        self.readers.insert(key, is_read);
        Ok(is_read)
    }
}
