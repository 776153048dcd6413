//! Dead letters: messages that were attempted too often or rejected go to the queue's dead-letter topic, each with the
//! headers that tell where it came from and why. Must never finish a message whose dead letter is not stored, except where
//! there is no topic for it or its record is gone from the log.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use lakefall_queue::error::Error;
use lakefall_queue::ledger::{Refusal, SettleAction, SettleItem, SettleMessages, SettleOutcome};
use lakefall_queue::queue::{Queue, Settled};
use lakefall_queue::record::{Header, Properties};
use lakefall_queue::topic::Topic;
use lakefall_queue::{Offset, PartitionIndex, Record, StoredRecord, Timestamp, TopicId, TopicName};

use super::mover::{Found, Mover, Refused};
use super::settle::settled;

/// The queue whose message it was. The first of the headers: they are a set, and the last set tells of the last death.
pub(crate) const QUEUE: &str = "dead-letter-queue";
/// The topic that the message lies in.
pub(crate) const TOPIC: &str = "dead-letter-topic";
/// Its partition.
pub(crate) const PARTITION: &str = "dead-letter-partition";
/// Its offset.
pub(crate) const OFFSET: &str = "dead-letter-offset";
/// How often it was delivered.
pub(crate) const ATTEMPTS: &str = "dead-letter-attempts";
/// `max_attempts`, `rejected` or `max_depth`.
pub(crate) const REASON: &str = "dead-letter-reason";
/// What the consumer said when it gave it back last; absent when it said nothing.
pub(crate) const ERROR: &str = "dead-letter-error";
/// When it became dead.
pub(crate) const AT: &str = "dead-letter-at";
const ALL: [&str; 8] = [QUEUE, TOPIC, PARTITION, OFFSET, ATTEMPTS, REASON, ERROR, AT];

/// How often a batch is tried, as leases in it turn out to be over or the topic to have changed.
const TRIES: usize = 4;
/// How long the messages of a batch are kept while it is tried again.
const HOLD: Duration = Duration::from_secs(60);

/// Why a message is dead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// It was leased once more than is allowed, and not delivered.
    Granted,
    /// It was given back after the last attempt.
    Nacked,
    /// A consumer wants it never again.
    Rejected,
    /// Its queue had too many messages.
    Overflow,
}

/// A leased message that is to become a dead letter.
#[derive(Clone, Debug)]
pub(crate) struct Dying {
    pub(crate) topic: TopicId,
    pub(crate) partition: PartitionIndex,
    pub(crate) offset: Offset,
    /// The attempt under which it is leased, as its grant or receipt says.
    pub(crate) attempt: u32,
    /// Leases before this one that were delivered to nobody.
    pub(crate) undelivered: u32,
    pub(crate) cause: Cause,
    /// The consumer's words.
    pub(crate) error: Option<String>,
    /// The record, where it is at hand: it is not read again.
    pub(crate) record: Option<Box<StoredRecord>>,
}

/// A batch on its way: where each message stands in the answer, the message, and its dead letter if there is to be one.
type Batch = Vec<(usize, Dying, Option<Record>)>;

/// Moves messages of `queue` to its dead-letter topic; without one they are only finished. Answers in the order given:
/// [`Settled::Ok`] is finished, and stored as a dead letter; after [`Settled::Failed`] the message is still there, and comes
/// again when its lease is over. [`Error::QueueChanged`] says that `queue` is not as it is told here any more.
///
/// A record that is below the log start by now, or whose topic was deleted, has nothing left to be stored: the message is
/// finished, which is logged and counted. One that cannot be read right now stays a message.
pub(crate) async fn bury(mover: &Mover, queue: &Queue, dying: Vec<Dying>) -> Vec<Settled> {
    let mut answers = vec![Settled::Failed(Error::unavailable("the message was not reached")); dying.len()];
    let Some(dead_letter) = queue.config.dead_letter.clone() else {
        let batch = dying.into_iter().enumerate().map(|(at, dying)| (at, dying, None)).collect();
        finish(mover, queue, batch, &mut answers).await;
        return answers;
    };
    let target = match mover.topic(&queue.namespace, &dead_letter.topic).await {
        Ok(topic) => topic,
        Err(error) => {
            tracing::warn!(queue = %queue.name, topic = %dead_letter.topic, %error, "dead letters cannot be stored: the messages are kept");
            answers.fill(Settled::Failed(error));
            return answers;
        }
    };
    let (at_hand, to_read): (Vec<_>, Vec<_>) = dying.into_iter().enumerate().partition(|(_, dying)| dying.record.is_some());
    let mut batch = Batch::new();
    for (at, mut dying) in at_hand {
        let record = dying.record.take().map(|record| letter(queue, &dying, *record, mover.ambient.now()));
        batch.push((at, dying, record));
    }
    if !batch.is_empty() {
        store(mover, queue, &target, batch, &mut answers).await;
    }
    let mut by_partition: BTreeMap<(TopicId, PartitionIndex), BTreeMap<Offset, (usize, Dying)>> = BTreeMap::new();
    for (at, dying) in to_read {
        let same = by_partition.entry((dying.topic, dying.partition)).or_default();
        // Named twice: a lease is over when there is a newer one.
        match same.get(&dying.offset) {
            Some((_, known)) if known.attempt > dying.attempt => {
                answers[at] = Settled::Expired;
                continue;
            }
            Some((first, known)) if known.attempt == dying.attempt => {
                let reason = format!("the message stands in this request twice: see item {first}");
                answers[at] = Settled::Failed(Error::invalid("receipts", reason));
                continue;
            }
            Some((first, _)) => answers[*first] = Settled::Expired,
            None => {}
        }
        same.insert(dying.offset, (at, dying));
    }
    for ((topic, partition), mut left) in by_partition {
        read_and_store(mover, queue, &target, (topic, partition), &mut left, &mut answers).await;
    }
    answers
}

/// Reads the records of one partition, some at a time, and stores each part before the next is read.
async fn read_and_store(
    mover: &Mover,
    queue: &Queue,
    target: &Arc<Topic>,
    (id, partition): (TopicId, PartitionIndex),
    left: &mut BTreeMap<Offset, (usize, Dying)>,
    answers: &mut [Settled],
) {
    let source = match mover.source(queue, id).await {
        Ok(source) => source,
        Err(error) => {
            left.values().for_each(|(at, _)| answers[*at] = Settled::Failed(error.clone()));
            return;
        }
    };
    while !left.is_empty() {
        let wanted: BTreeSet<Offset> = left.keys().copied().collect();
        let found: Vec<(Offset, Found)>;
        let mut held = lakefall_queue::verbs::Admission::default();
        match &source {
            Some(topic) => {
                let page = mover.page(topic, partition, &wanted).await;
                (found, held) = (page.records, page.admission);
            }
            None => found = wanted.into_iter().map(|offset| (offset, Found::Gone)).collect(),
        }
        let mut batch = Batch::new();
        for (offset, found) in found {
            let Some((at, dying)) = left.remove(&offset) else { continue };
            match found {
                Found::Record(record) => {
                    let letter = letter(queue, &dying, *record, mover.ambient.now());
                    batch.push((at, dying, Some(letter)));
                }
                Found::Gone => {
                    gone(queue, id, partition, offset);
                    batch.push((at, dying, None));
                }
                Found::Failed(error) => {
                    tracing::warn!(queue = %queue.name, topic = %id, %partition, %offset, %error, "a dead message cannot be read: it is kept");
                    answers[at] = Settled::Failed(error);
                }
            }
        }
        store(mover, queue, target, batch, answers).await;
        drop(held);
    }
}

/// Tells that there is no dead letter of a message.
pub(crate) fn gone(queue: &Queue, topic: TopicId, partition: PartitionIndex, offset: Offset) {
    metrics::counter!(crate::metrics::DEAD_LETTERS_GONE).increment(1);
    tracing::warn!(queue = %queue.name, %topic, %partition, %offset, "a dead message is gone from its log: there is no dead letter of it");
}

/// Stores the dead letters of a batch and finishes its messages, all or nothing. Messages whose lease is over leave the batch.
async fn store(mover: &Mover, queue: &Queue, target: &Arc<Topic>, batch: Batch, answers: &mut [Settled]) {
    let (mut batch, bare): (Batch, Batch) = batch.into_iter().partition(|(_, _, letter)| letter.is_some());
    if !bare.is_empty() {
        finish(mover, queue, bare, answers).await;
    }
    let mut target = Arc::clone(target);
    for _ in 0..TRIES {
        if batch.is_empty() {
            return;
        }
        let letters = batch.iter().filter_map(|(_, _, letter)| letter.clone()).collect();
        let error = match mover.append_and_settle(&target, letters, settles(queue, &batch, SettleAction::Bury)).await {
            Ok(()) => {
                batch.iter().for_each(|(at, _, _)| answers[*at] = Settled::Ok(None));
                return;
            }
            Err(Refused::Refusal(Refusal::Lease { .. })) => {
                batch = alive(mover, queue, batch, answers).await;
                continue;
            }
            Err(Refused::Refusal(Refusal::TopicGone)) => {
                mover.topics.forget(&queue.namespace, &target.name);
                match mover.topic(&queue.namespace, &target.name).await {
                    Ok(again) => {
                        target = again;
                        continue;
                    }
                    Err(error) => error,
                }
            }
            Err(Refused::Refusal(refusal @ Refusal::QueueChanged { .. })) => {
                let error = refusal.into_error();
                batch.iter().for_each(|(at, _, _)| answers[*at] = Settled::Failed(error.clone()));
                return;
            }
            Err(Refused::Refusal(refusal)) => refusal.into_error(),
            Err(Refused::Failed(error)) => error,
        };
        tracing::warn!(queue = %queue.name, topic = %target.name, %error, "dead letters could not be stored: the messages are kept");
        batch.iter().for_each(|(at, _, _)| answers[*at] = Settled::Failed(error.clone()));
        return;
    }
    let error = Error::unavailable("the leases of these messages keep changing");
    batch.iter().for_each(|(at, _, _)| answers[*at] = Settled::Failed(error.clone()));
}

/// Those of a batch whose lease still holds; the others are answered. The leases are kept for the next try.
async fn alive(mover: &Mover, queue: &Queue, batch: Batch, answers: &mut [Settled]) -> Batch {
    let outcomes = match mover.settle(settles(queue, &batch, SettleAction::Extend { lease: HOLD })).await {
        Ok(outcomes) => outcomes,
        Err(error) => {
            batch.iter().for_each(|(at, _, _)| answers[*at] = Settled::Failed(error.clone()));
            return Batch::new();
        }
    };
    let (mut alive, mut over) = (Batch::new(), Batch::new());
    for (message, outcome) in batch.into_iter().zip(outcomes) {
        match outcome {
            SettleOutcome::Until(_) => alive.push(message),
            SettleOutcome::Expired => over.push(message),
            other => answers[message.0] = settled(other),
        }
    }
    if !over.is_empty() {
        // Those that are finished are told apart: a settlement that is repeated is answered as the first one was. No lease that
        // is over comes back, so nothing is finished by this.
        finish(mover, queue, over, answers).await;
    }
    alive
}

/// Finishes messages of which nothing is stored.
async fn finish(mover: &Mover, queue: &Queue, batch: Batch, answers: &mut [Settled]) {
    match mover.settle(settles(queue, &batch, SettleAction::Bury)).await {
        Ok(outcomes) => batch.iter().zip(outcomes).for_each(|((at, _, _), outcome)| answers[*at] = settled(outcome)),
        Err(error) => batch.iter().for_each(|(at, _, _)| answers[*at] = Settled::Failed(error.clone())),
    }
}

fn settles(queue: &Queue, batch: &Batch, action: SettleAction) -> SettleMessages {
    let item = |(_, dying, _): &(usize, Dying, Option<Record>)| SettleItem {
        topic: dying.topic,
        partition: dying.partition,
        first: dying.offset,
        count: 1,
        attempt: dying.attempt,
        action,
    };
    // Whether there is a letter, and what is the last attempt, the settings say.
    let version = (action == SettleAction::Bury).then_some(queue.version);
    SettleMessages { queue: queue.id, generation: queue.generation, version, items: batch.iter().map(item).collect() }
}

/// A message as it goes to the dead letters: what producers said of delivery and repetition no longer holds.
pub(crate) fn letter(queue: &Queue, dying: &Dying, record: StoredRecord, now: Timestamp) -> Record {
    let from = queue.sources.iter().find(|source| source.topic == dying.topic);
    let deliveries = dying.attempt.saturating_sub(dying.undelivered);
    let delivered = match dying.cause {
        // Whoever is granted it only to move it may fail and leave it to the next: those leases delivered nothing.
        Cause::Granted => deliveries.saturating_sub(1).min(queue.config.attempts().unwrap_or(u32::MAX)),
        Cause::Nacked | Cause::Rejected | Cause::Overflow => deliveries,
    };
    let reason = match dying.cause {
        Cause::Granted | Cause::Nacked => "max_attempts",
        Cause::Rejected => "rejected",
        Cause::Overflow => "max_depth",
    };
    let header = |name: &str, value: String| Header { name: name.into(), value: Some(Bytes::from(value)) };
    let mut headers = record.headers;
    headers.extend([
        header(QUEUE, queue.name.to_string()),
        header(TOPIC, from.map(|source| source.name.to_string()).unwrap_or_default()),
        header(PARTITION, dying.partition.to_string()),
        header(OFFSET, dying.offset.to_string()),
        header(ATTEMPTS, delivered.to_string()),
        header(REASON, reason.to_owned()),
    ]);
    headers.extend(dying.error.as_ref().map(|error| header(ERROR, error.clone())));
    headers.push(header(AT, now.to_string()));
    Record {
        key: record.key,
        value: record.value,
        kind: record.kind,
        headers,
        timestamp: Some(record.timestamp),
        partition: None,
        properties: without_delivery(record.properties),
    }
}

/// Where a dead letter came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Origin {
    /// The queue whose message it was.
    pub(crate) queue: String,
    /// The topic that the message lies in.
    pub(crate) topic: TopicName,
}

/// What the last set of dead-letter headers says; nothing where there is none, or it names no topic.
pub(crate) fn origin(headers: &[Header]) -> Option<Origin> {
    let set = headers.iter().rposition(|header| &*header.name == QUEUE)?;
    let text = |name: &str| {
        let found = headers[set..].iter().find(|header| &*header.name == name)?;
        found.value.as_ref().and_then(|value| std::str::from_utf8(value).ok())
    };
    Some(Origin { queue: text(QUEUE)?.to_owned(), topic: TopicName::new(text(TOPIC)?).ok()? })
}

/// A dead letter as a message again: without the last set of dead-letter headers. `for_queue` is the only queue that takes it.
pub(crate) fn revived(record: StoredRecord, for_queue: Option<&str>) -> Record {
    let mut headers = record.headers;
    if let Some(set) = headers.iter().rposition(|header| &*header.name == QUEUE) {
        let rest = headers.split_off(set);
        headers.extend(rest.into_iter().filter(|header| !ALL.contains(&&*header.name)));
    }
    let mut properties = without_delivery(record.properties);
    if let Some(queue) = for_queue {
        properties.get_or_insert_default().for_queue = Some(queue.into());
    }
    Record {
        key: record.key,
        value: record.value,
        kind: record.kind,
        headers,
        timestamp: Some(record.timestamp),
        partition: None,
        properties,
    }
}

/// What stays of a record's properties when it is appended anew.
pub(crate) fn without_delivery(properties: Option<Box<Properties>>) -> Option<Box<Properties>> {
    let mut properties = properties?;
    properties.dedup_id = None;
    properties.deliver_at = None;
    properties.expires_at = None;
    properties.for_queue = None;
    properties.schema_error = None;
    Some(properties).filter(|properties| !properties.is_empty())
}
