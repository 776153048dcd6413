//! Redrive: puts dead letters back to where they came from, or elsewhere. Each batch is appended and taken out of the
//! dead-letter queue in one atom, so nothing is there twice or lost, and a redrive that was cut short is simply started again.
//! Must never touch dead letters that came after it began.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use lakefall_queue::error::{Error, Result};
use lakefall_queue::ledger::{Answer, Query};
use lakefall_queue::queue::{Delivery, Message, Operation, Queue, QueueSettlements, Receive, Redrive, Settlement, Verdict};
use lakefall_queue::verbs::{Caller, Commit, Idempotency, Start, TopicAppend, Verbs};
use lakefall_queue::{Offset, PartitionIndex, QueueName, Record, StoredRecord, TopicId, TopicName};

use super::dead::{origin, revived};
use super::expression::Expression;
use super::mover::{Found, Mover};
use super::operations::{Operations, Progress};

/// Messages of one batch, at most.
const BATCH: u32 = 500;
/// Bytes of one batch.
const BATCH_BYTES: usize = 4 << 20;
/// How long a batch is kept from others. So long, too, are dead letters that a filter passed over when the gateway dies.
const LEASE: Duration = Duration::from_secs(300);
/// Between two attempts while the stores are away, and how many.
const PAUSE: (Duration, usize) = (Duration::from_secs(1), 30);
/// Receipts given back at once.
const GIVE_BACK: usize = 1_000;
/// Dead letters that a dry run looks at, at most.
const PEEK_MAX: u32 = 100_000;

/// A message's place.
type Place = (TopicName, PartitionIndex, Offset);

/// What a redrive works with.
struct Run {
    verbs: Arc<dyn Verbs>,
    mover: Mover,
    caller: Caller,
    /// The queue of dead letters.
    from: Queue,
    /// Only letters of this queue.
    only: Option<QueueName>,
    filter: Option<Expression>,
    to: Option<TopicName>,
    max_per_second: Option<u32>,
    /// What came later is left alone.
    ends: BTreeMap<(TopicName, PartitionIndex), Offset>,
    /// Whether a queue is there and reads a topic, as it was found.
    readers: HashMap<(String, TopicName), bool>,
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
    let caller = Caller { namespace: caller.namespace.clone(), request_id: Arc::clone(&caller.request_id) };
    operations.start(&namespace, "redrive", |progress| async move {
        let mut run = Run { verbs, mover, caller, from, only, filter, to, max_per_second, ends, readers: HashMap::new(), progress };
        if dry_run { run.count().await } else { run.go().await }
    })
}

impl Run {
    /// Moves batch after batch until all that was there at the start is done, or the operation is to stop.
    async fn go(&mut self) -> Result<()> {
        let mut passed: BTreeMap<Place, Arc<str>> = BTreeMap::new();
        let ended = self.batches(&mut passed).await;
        self.give_back(passed.into_values().collect()).await;
        ended
    }

    async fn give_back(&self, receipts: Vec<Arc<str>>) {
        for some in receipts.chunks(GIVE_BACK) {
            let back = |receipt: &Arc<str>| Settlement { receipt: Arc::clone(receipt), verdict: Verdict::Extend { lease: Duration::ZERO } };
            // If it fails, they come back when their lease is over.
            let _ = self.verbs.settle(&self.caller, &self.from.name, some.iter().map(back).collect()).await;
        }
    }

    /// `passed` gets what is kept until the end, so that it is not received again and again.
    async fn batches(&mut self, passed: &mut BTreeMap<Place, Arc<str>>) -> Result<()> {
        let mut batch = 0;
        // Messages received in vain since one was new: more than are kept means that there is nothing new.
        let mut in_vain = 0;
        while !self.progress.is_cancelled() {
            let delivery = self.receive().await?;
            if delivery.messages.is_empty() || in_vain > passed.len() {
                passed.extend(delivery.messages.into_iter().filter_map(kept));
                return Ok(());
            }
            let mut going = Vec::new();
            for message in delivery.messages {
                let place = place(&message);
                let (known, later) = (passed.contains_key(&place), self.is_later(&place));
                if known || later {
                    in_vain += 1;
                    passed.extend(kept(message));
                    continue;
                }
                in_vain = 0;
                match self.fate(&message.topic, &message.record).await? {
                    Fate::Goes(to, for_queue) => going.push((message, to, for_queue)),
                    Fate::Stays => {
                        self.progress.skipped(1);
                        passed.extend(kept(message));
                    }
                }
            }
            let count = going.len();
            if count > 0 {
                batch += 1;
                self.move_batch(batch, going).await?;
                if let Some(rate) = self.max_per_second {
                    self.progress.sleep(Duration::from_secs_f64(count as f64 / f64::from(rate))).await;
                }
            }
        }
        Ok(())
    }

    async fn receive(&self) -> Result<Delivery> {
        // At a rate, each second has its batch.
        let max = self.max_per_second.map_or(BATCH, |rate| rate.min(BATCH));
        let mut tries = 0;
        loop {
            let receive = Receive { max, max_bytes: BATCH_BYTES, lease: Some(LEASE), wait: Duration::ZERO, request_id: None };
            match self.verbs.receive(&self.caller, &self.from.name, receive).await {
                Err(Error::Unavailable { .. } | Error::Unknown { .. }) if tries < PAUSE.1 && !self.progress.is_cancelled() => {
                    tries += 1;
                    self.progress.sleep(PAUSE.0).await;
                }
                received => return received,
            }
        }
    }

    /// Appends a batch and takes it out of the dead-letter queue, in one atom.
    async fn move_batch(&self, number: u64, batch: Vec<(Message, TopicName, Option<String>)>) -> Result<()> {
        let mut appends: BTreeMap<TopicName, Vec<Record>> = BTreeMap::new();
        let (mut settlements, count) = (Vec::with_capacity(batch.len()), batch.len());
        for (message, to, for_queue) in batch {
            settlements.extend(message.receipt.map(|receipt| Settlement { receipt, verdict: Verdict::Ack }));
            appends.entry(to).or_default().push(revived(message.record, for_queue.as_deref()));
        }
        let bytes = appends.values().flatten().map(Record::payload_bytes).sum();
        let key = format!("{}-{number}", self.progress.id());
        let mut tries = 0;
        loop {
            let appends = appends.iter().map(|(to, records)| TopicAppend::new(to.clone(), records.clone())).collect();
            let acks = vec![QueueSettlements { queue: self.from.name.clone(), settlements: settlements.clone() }];
            // Repeated under its own key, so that an answer that was lost is no second batch.
            let idempotency = Some(Idempotency { key: key.as_str().into(), fingerprint: u128::from(number) });
            let committed = match self.verbs.admit(&self.caller, bytes).await {
                Ok(admission) => {
                    let commit = Commit { appends, cursors: Vec::new(), settlements: acks, idempotency, admission };
                    self.verbs.commit(&self.caller, commit).await.map(|_| ())
                }
                Err(error) => Err(error),
            };
            match committed {
                Ok(()) => {
                    self.progress.done(count);
                    return Ok(());
                }
                // Somebody else settled one of them, or the lease was over before its turn: the others come again, at once.
                Err(Error::LeaseOver { .. }) => {
                    self.give_back(settlements.iter().map(|settlement| Arc::clone(&settlement.receipt)).collect()).await;
                    return Ok(());
                }
                Err(Error::Unavailable { .. } | Error::Unknown { .. }) if tries < PAUSE.1 && !self.progress.is_cancelled() => {
                    tries += 1;
                    self.progress.sleep(PAUSE.0).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Counts what would be done, without leasing anything.
    async fn count(&mut self) -> Result<()> {
        let asked = self.mover.metadata.query(self.from.id.shard(), Query::QueuePeek(self.from.id, PEEK_MAX)).await?;
        let Answer::QueuePeek(peeked) = asked else { return Err(Error::Internal("asked for messages, got another answer".to_owned())) };
        let mut wanted: BTreeMap<(TopicId, PartitionIndex), BTreeSet<Offset>> = BTreeMap::new();
        for message in peeked {
            wanted.entry((message.topic, message.partition)).or_default().insert(message.offset);
        }
        for ((id, partition), mut left) in wanted {
            let Some(source) = self.from.sources.iter().find(|source| source.topic == id) else { continue };
            let topic = self.mover.topic(&self.caller.namespace, &source.name).await?;
            while !left.is_empty() && !self.progress.is_cancelled() {
                let page = self.mover.page(&topic, partition, &left).await;
                for (offset, found) in page.records {
                    left.remove(&offset);
                    match found {
                        Found::Record(_) if self.is_later(&(topic.name.clone(), partition, offset)) => {}
                        Found::Record(record) => match self.fate(&topic.name, &record).await? {
                            Fate::Goes(..) => self.progress.done(1),
                            Fate::Stays => self.progress.skipped(1),
                        },
                        Found::Gone => {}
                        Found::Failed(error) => return Err(error),
                    }
                }
            }
        }
        Ok(())
    }

    fn is_later(&self, (topic, partition, offset): &Place) -> bool {
        self.ends.get(&(topic.clone(), *partition)).is_none_or(|end| offset >= end)
    }

    async fn fate(&mut self, topic: &TopicName, record: &StoredRecord) -> Result<Fate> {
        let from = origin(&record.headers);
        let of_another = self.only.as_ref().is_some_and(|only| from.as_ref().is_none_or(|from| from.queue != only.as_str()));
        if of_another || self.filter.as_ref().is_some_and(|filter| !filter.matches(topic, record)) {
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

fn place(message: &Message) -> Place {
    (message.topic.clone(), message.record.partition, message.record.offset)
}

fn kept(message: Message) -> Option<(Place, Arc<str>)> {
    Some((place(&message), message.receipt?))
}
