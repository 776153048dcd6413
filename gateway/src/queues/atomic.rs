//! Leases that an atomic commit settles: receipts become what the ledger judges with the rest of the atom, and messages that
//! die by it become dead letters of the same atom. Must never let one of them pass unjudged: all hold, or nothing is applied.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use lakefall_queue::error::{Error, Result};
use lakefall_queue::ledger::{SettleAction, SettleItem, SettleMessages};
use lakefall_queue::queue::{Queue, QueueSettlements, SETTLE_MAX, Settlement, Verdict};
use lakefall_queue::verbs::{Admission, Caller};
use lakefall_queue::{Offset, PartitionIndex, Record, TopicId, TopicName};

use super::Queues;
use super::dead::{Cause, Dying, letter};
use super::mover::Found;
use super::receipts::Receipt;
use super::settle::{check_verdict, joined};

/// What an atom settles, and the dead letters that go with it.
#[derive(Default)]
pub(crate) struct Settles {
    /// One for each queue.
    pub(crate) settles: Vec<SettleMessages>,
    /// By dead-letter topic.
    pub(crate) letters: BTreeMap<TopicName, Vec<Record>>,
    /// The room that the letters occupy.
    pub(crate) admission: Admission,
}

/// Refuses what no atomic commit can settle.
pub(crate) fn check(settlements: &[QueueSettlements]) -> Result<()> {
    let count: usize = settlements.iter().map(|of| of.settlements.len()).sum();
    if count > SETTLE_MAX {
        return Err(Error::invalid("settlements", format!("a commit settles {count} messages: at most {SETTLE_MAX} are allowed")));
    }
    let (mut queues, mut receipts) = (HashSet::new(), HashSet::new());
    for (index, of) in settlements.iter().enumerate() {
        if !queues.insert(&of.queue) {
            let reason = format!("queue {} occurs twice: put its receipts together", of.queue);
            return Err(Error::invalid(format!("/settlements/{index}/queue"), reason));
        }
        for (at, Settlement { receipt, verdict }) in of.settlements.iter().enumerate() {
            check_verdict(verdict, at).map_err(|error| match error {
                Error::Invalid { field, reason } => Error::Invalid { field: format!("/settlements/{index}{field}"), reason },
                other => other,
            })?;
            if !receipts.insert(receipt) {
                return Err(Error::invalid(format!("/settlements/{index}/items/{at}/receipt"), "this receipt occurs twice in the commit"));
            }
        }
    }
    Ok(())
}

impl Queues {
    /// Opens the receipts of an atomic commit, and reads the messages that die by it.
    pub(crate) async fn settles(&self, caller: &Caller, settlements: Vec<QueueSettlements>) -> Result<Settles> {
        let mut all = Settles::default();
        for QueueSettlements { queue: name, settlements } in settlements.into_iter().filter(|of| !of.settlements.is_empty()) {
            let open = |one: &Settlement| self.receipts.open(&one.receipt).map_err(|_| Error::ReceiptForged);
            let receipts = settlements.iter().map(open).collect::<Result<Vec<_>>>()?;
            let known = self.known_to(caller, &name, &receipts).await?;
            let queue = &known.queue;
            let (mut items, mut dying, mut generation) = (Vec::with_capacity(settlements.len()), Vec::new(), None);
            for (Settlement { verdict, .. }, receipt) in settlements.into_iter().zip(receipts) {
                if receipt.queue != queue.id {
                    return Err(Error::ReceiptNotFound(name));
                }
                // Of two generations, one is over: which one is the ledger's to say, and it is told of one.
                if *generation.get_or_insert(receipt.generation) != receipt.generation {
                    return Err(Error::LeaseOver { partition: receipt.partition, offset: receipt.offset });
                }
                items.push(item(&receipt, self.action(queue, &receipt, verdict, &mut dying)));
            }
            items.sort_unstable_by_key(|item| (item.topic, item.partition, item.first));
            self.letters(queue, dying, &mut all).await?;
            // Whether there is a letter, and what is the last attempt, the settings say.
            let version = items.iter().any(|item| item.action == SettleAction::Bury).then_some(queue.version);
            let (generation, items) = (generation.unwrap_or_default(), joined(items.into_iter()));
            let settle = SettleMessages { queue: queue.id, generation, version, items };
            all.settles.push(settle);
        }
        Ok(all)
    }

    /// Leases were settled by a commit: whoever leases on credit may lease others.
    pub(crate) fn committed(&self, settles: &[SettleMessages]) {
        let now = self.mover.ambient.now();
        for SettleMessages { queue, items, .. } in settles {
            let Some(desk) = self.bell.find(*queue) else { continue };
            for SettleItem { topic, partition, first, count, attempt, action } in items {
                let until = match action {
                    SettleAction::Extend { lease } if !lease.is_zero() => Some(now.plus(*lease)),
                    _ => None,
                };
                (0..u64::from(*count)).for_each(|i| desk.credits.settled((*topic, *partition, first.plus(i)), *attempt, until));
            }
            desk.settled();
        }
    }

    /// What happens to a message. One that dies is noted where there is a topic for it.
    fn action(&self, queue: &Queue, receipt: &Receipt, verdict: Verdict, dying: &mut Vec<Dying>) -> SettleAction {
        let is_last = queue.config.attempts().is_some_and(|attempts| receipt.deliveries() >= attempts);
        let (cause, error) = match verdict {
            Verdict::Ack => return SettleAction::Ack,
            Verdict::Extend { lease } => return SettleAction::Extend { lease },
            Verdict::Nack { delay, .. } if !is_last => {
                let delay = delay.unwrap_or_else(|| self.backoff(queue, receipt.deliveries()));
                return SettleAction::Release { delay };
            }
            Verdict::Nack { reason, .. } => (Cause::Nacked, reason),
            Verdict::Reject { reason } => (Cause::Rejected, reason),
        };
        if queue.config.dead_letter.is_some() {
            let Receipt { topic, partition, offset, attempt, undelivered, .. } = *receipt;
            dying.push(Dying { topic, partition, offset, attempt, undelivered, cause, error, record: None });
        }
        SettleAction::Bury
    }

    /// Reads messages and makes dead letters of them. One that is gone from the log leaves none, as everywhere.
    async fn letters(&self, queue: &Queue, dying: Vec<Dying>, all: &mut Settles) -> Result<()> {
        let Some(dead_letter) = &queue.config.dead_letter else { return Ok(()) };
        let mut by_partition: BTreeMap<(TopicId, PartitionIndex), BTreeMap<Offset, Dying>> = BTreeMap::new();
        for dying in dying {
            by_partition.entry((dying.topic, dying.partition)).or_default().insert(dying.offset, dying);
        }
        for ((id, partition), mut left) in by_partition {
            let Some(source) = self.mover.source(queue, id).await? else { continue };
            while !left.is_empty() {
                let wanted: BTreeSet<Offset> = left.keys().copied().collect();
                let page = self.mover.page(&source, partition, &wanted).await;
                all.admission.join(page.admission);
                for (offset, found) in page.records {
                    let Some(dying) = left.remove(&offset) else { continue };
                    match found {
                        Found::Record(record) => {
                            let letter = letter(queue, &dying, *record, self.mover.ambient.now());
                            all.letters.entry(dead_letter.topic.clone()).or_default().push(letter);
                        }
                        Found::Gone => super::dead::gone(queue, id, partition, offset),
                        Found::Failed(error) => return Err(error),
                    }
                }
            }
        }
        Ok(())
    }
}

fn item(receipt: &Receipt, action: SettleAction) -> SettleItem {
    let Receipt { topic, partition, offset, attempt, .. } = *receipt;
    SettleItem { topic, partition, first: offset, count: 1, attempt, action }
}
