//! From leases to messages: the records are read, what is over or dead is set apart, and each message gets its receipt. Must
//! never keep a lease that it does not hand on: what is dropped on the way is given back.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::stream::{self, StreamExt};
use lakefall_queue::error::{Error, Result};
use lakefall_queue::ledger::{Grant, SettleAction, SettleItem, SettleMessages};
use lakefall_queue::queue::{Delivery, Message, Settled};
use lakefall_queue::verbs::Admission;
use lakefall_queue::{Offset, PartitionIndex, StoredRecord, Timestamp, TopicId, TopicName};
use lakefall_service::failpoint;

use super::Queues;
use super::classify::is_over;
use super::dead::{Cause, Dying, bury};
use super::kept::Taken;
use super::known::Known;
use super::mover::Found;
use super::receipts::Receipt;
use crate::trace;

/// Partitions whose records are read at once.
const AT_ONCE: usize = 4;
/// How long a message whose record cannot be read waits before it is tried again: at first, and in the end.
const UNREADABLE: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(60));

/// A message's place.
pub(super) type Place = (TopicId, PartitionIndex, Offset);

/// Leases given to one receiver. Dropped before they are delivered, they are given back.
pub(super) struct Handout {
    queues: Arc<Queues>,
    known: Arc<Known>,
    grants: Vec<Grant>,
    taken: Taken,
    now: Timestamp,
}

impl Handout {
    pub(super) fn new(queues: Arc<Queues>, known: Arc<Known>, grants: Vec<Grant>, taken: Taken, now: Timestamp) -> Self {
        Self { queues, known, grants, taken, now }
    }
}

impl Drop for Handout {
    fn drop(&mut self) {
        let item = |grant: &Grant| SettleItem {
            topic: grant.topic,
            partition: grant.partition,
            first: grant.first,
            count: grant.count,
            attempt: grant.attempt,
            action: SettleAction::Undelivered { delay: Duration::ZERO },
        };
        let items = self.grants.iter().map(item).collect();
        give_back(&self.queues, &self.known, items);
    }
}

/// Settles what is not delivered, in a task of its own: nobody waits for it, and if it fails the leases end by themselves.
fn give_back(queues: &Arc<Queues>, known: &Known, items: Vec<SettleItem>) {
    // What is over is finished, by what the settings say.
    let (over, back): (Vec<_>, Vec<_>) = items.into_iter().partition(|item| item.action == SettleAction::Ack);
    settle(queues, known, Some(known.queue.version), over);
    settle(queues, known, None, back);
}

fn settle(queues: &Arc<Queues>, known: &Known, version: Option<u64>, items: Vec<SettleItem>) {
    if items.is_empty() {
        return;
    }
    let mover = queues.mover.clone();
    let settle = SettleMessages { queue: known.queue.id, generation: known.queue.generation, version, items };
    queues.tasks.spawn("leases given back", async move {
        if let Err(error) = mover.settle(settle).await {
            tracing::debug!(%error, "leases that were not delivered could not be given back: they end by themselves");
        }
    });
}

/// What becomes of leased messages.
#[derive(Default)]
struct Sorted {
    messages: Vec<Message>,
    bytes: usize,
    settle: Vec<SettleItem>,
    dying: Vec<Dying>,
    unreadable: Option<Error>,
}

/// Makes messages of leases: none where all of them were over, dead or gone.
pub(super) async fn deliver(mut handout: Handout, max_bytes: usize) -> Result<Delivery> {
    let (queues, known) = (Arc::clone(&handout.queues), Arc::clone(&handout.known));
    let mut admission = Admission::default();
    std::mem::take(&mut handout.taken.rooms).into_iter().for_each(|room| admission.join(Admission::new(Box::new(room))));
    let mut records: BTreeMap<Place, Found> = BTreeMap::new();
    for (topic, record) in std::mem::take(&mut handout.taken.records) {
        records.insert((topic, record.partition, record.offset), Found::Record(Box::new(record)));
    }
    fetch(&handout, &mut records, &mut admission).await;
    let mut sorted = Sorted::default();
    for grant in &handout.grants {
        sort(&handout, grant, &mut records, max_bytes, &mut sorted);
    }
    // From here on every lease is either delivered or settled.
    handout.grants.clear();
    let Sorted { messages, settle, dying, unreadable, .. } = sorted;
    give_back(&queues, &known, settle);
    if !dying.is_empty() {
        let (burying, queue) = (Arc::clone(&queues), known.queue.clone());
        queues.tasks.spawn("dead letters", async move {
            let buried = bury(&burying.mover, &queue, dying).await;
            if buried.iter().any(|one| matches!(one, Settled::Failed(Error::QueueChanged(_)))) {
                burying.bell.changed(&queue.namespace, &queue.name, queue.id);
            }
        });
    }
    match unreadable {
        Some(error) if messages.is_empty() => Err(error),
        _ => {
            count(&messages, handout.now);
            queues.count_messages(&known, &messages);
            if !messages.is_empty() {
                failpoint::hit("l2");
            }
            Ok(Delivery { messages, admission })
        }
    }
}

/// Reads those records that are not at hand, as far as there is room: partitions side by side.
async fn fetch(handout: &Handout, records: &mut BTreeMap<Place, Found>, admission: &mut Admission) {
    let mut missing: BTreeMap<(TopicId, PartitionIndex), BTreeSet<Offset>> = BTreeMap::new();
    for grant in &handout.grants {
        for offset in offsets(grant).filter(|offset| !records.contains_key(&(grant.topic, grant.partition, *offset))) {
            missing.entry((grant.topic, grant.partition)).or_default().insert(offset);
        }
    }
    let mut reads = stream::iter(missing.into_iter().map(|(at, wanted)| fetch_partition(handout, at, wanted))).buffer_unordered(AT_ONCE);
    while let Some((found, room)) = reads.next().await {
        records.extend(found);
        admission.join(room);
    }
}

async fn fetch_partition(
    handout: &Handout,
    (id, partition): (TopicId, PartitionIndex),
    mut wanted: BTreeSet<Offset>,
) -> (Vec<(Place, Found)>, Admission) {
    let (mover, queue) = (&handout.queues.mover, &handout.known.queue);
    let (mut all, mut room) = (Vec::with_capacity(wanted.len()), Admission::default());
    let all_of = |wanted: BTreeSet<Offset>, error: Option<&Error>| {
        let found = || error.map_or(Found::Gone, |error| Found::Failed(error.clone()));
        wanted.into_iter().map(|offset| ((id, partition, offset), found())).collect::<Vec<_>>()
    };
    let Some(source) = handout.known.source(id) else { return (all_of(wanted, None), room) };
    let topic = match mover.topic(&queue.namespace, &source.name).await {
        Ok(topic) if topic.id == id => topic,
        Ok(_) | Err(Error::TopicNotFound(_)) => return (all_of(wanted, None), room),
        Err(error) => return (all_of(wanted, Some(&error)), room),
    };
    while !wanted.is_empty() {
        let page = mover.page(&topic, partition, &wanted).await;
        if page.records.is_empty() {
            break;
        }
        room.join(page.admission);
        for (offset, found) in page.records {
            wanted.remove(&offset);
            all.push(((id, partition, offset), found));
        }
    }
    (all, room)
}

fn offsets(grant: &Grant) -> impl Iterator<Item = Offset> + use<> {
    (grant.first.0..grant.first.0 + u64::from(grant.count)).map(Offset)
}

/// Sorts the messages of one grant.
fn sort(handout: &Handout, grant: &Grant, records: &mut BTreeMap<Place, Found>, max_bytes: usize, into: &mut Sorted) {
    let known = &handout.known;
    let dead = known.queue.config.attempts().is_some_and(|most| grant.deliveries() > most);
    let name = known.source(grant.topic).map(|source| &source.name);
    for offset in offsets(grant) {
        let place = (grant.topic, grant.partition, offset);
        let found = records.remove(&place).unwrap_or_else(|| Found::Failed(Error::unavailable("the record was not reached")));
        match (found, name) {
            (Found::Record(record), Some(_)) if is_over(&known.queue, &record, handout.now) => {
                into.settle(grant, offset, SettleAction::Ack);
            }
            (Found::Record(record), Some(_)) if dead => into.dying.push(dying(grant, offset, Some(record))),
            (Found::Record(record), Some(name)) => {
                let bytes = record.payload_bytes();
                if !into.messages.is_empty() && into.bytes + bytes > max_bytes {
                    into.settle(grant, offset, SettleAction::Undelivered { delay: Duration::ZERO });
                    continue;
                }
                into.bytes += bytes;
                into.messages.push(message(handout, grant, name, *record));
            }
            // What is not in the log any more is finished.
            (Found::Gone, _) | (Found::Record(_), None) => into.settle(grant, offset, SettleAction::Ack),
            (Found::Failed(error), _) => {
                into.settle(grant, offset, SettleAction::Undelivered { delay: unreadable(grant.undelivered) });
                into.unreadable = Some(error);
            }
        }
    }
}

fn dying(grant: &Grant, offset: Offset, record: Option<Box<StoredRecord>>) -> Dying {
    let Grant { topic, partition, attempt, undelivered, .. } = *grant;
    Dying { topic, partition, offset, attempt, undelivered, cause: Cause::Granted, error: None, record }
}

/// How long a message waits that was not read, after so many leases that delivered nothing: the longer, the longer it lasts.
fn unreadable(undelivered: u32) -> Duration {
    UNREADABLE.0.saturating_mul(1 << undelivered.min(8)).min(UNREADABLE.1)
}

fn message(handout: &Handout, grant: &Grant, topic: &TopicName, record: StoredRecord) -> Message {
    let receipt = Receipt {
        queue: handout.known.queue.id,
        generation: handout.known.queue.generation,
        topic: grant.topic,
        partition: grant.partition,
        offset: record.offset,
        attempt: grant.attempt,
        undelivered: grant.undelivered,
        trace: if trace::is_enabled() { trace::sent_in(&record).filter(|context| context.sampled) } else { None },
    };
    let receipt = Some(handout.queues.receipts.seal(&receipt));
    Message {
        topic: topic.clone(),
        record,
        receipt,
        attempt: grant.attempt,
        lease_until: Some(grant.lease_until),
        first_leased_at: grant.first_leased,
    }
}

impl Sorted {
    /// Settles one message, together with its neighbour where that goes the same way.
    fn settle(&mut self, grant: &Grant, offset: Offset, action: SettleAction) {
        let Grant { topic, partition, attempt, .. } = *grant;
        match self.settle.last_mut() {
            Some(last)
                if (last.topic, last.partition, last.attempt, last.action) == (topic, partition, attempt, action)
                    && last.first.plus(u64::from(last.count)) == offset =>
            {
                last.count += 1;
            }
            _ => self.settle.push(SettleItem { topic, partition, first: offset, count: 1, attempt, action }),
        }
    }
}

fn count(messages: &[Message], now: Timestamp) {
    metrics::counter!(crate::metrics::RECEIVED_MESSAGES).increment(messages.len() as u64);
    let waited = metrics::histogram!(crate::metrics::RECEIVE_SECONDS);
    for message in messages.iter().filter(|message| message.attempt == 1) {
        waited.record((now.as_millis() - message.record.appended_at.as_millis()).max(0) as f64 / 1_000.0);
    }
}
