//! Settling leases: receipts are opened, what is forged or of another queue is set apart, and the others are settled in one
//! command. Each item has its own answer; one that fails harms no other.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use lakefall_queue::QueueName;
use lakefall_queue::error::{Error, Result};
use lakefall_queue::ledger::{SettleAction, SettleItem, SettleMessages, SettleOutcome};
use lakefall_queue::queue::{DELAY_MAX, LEASE_MAX, Queue, SETTLE_MAX, Settled, Settlement, Verdict};
use lakefall_queue::verbs::Caller;
use lakefall_service::failpoint;

use super::Queues;
use super::dead::{Cause, Dying, bury};
use super::known::Known;
use super::receipts::Receipt;

/// How often messages are settled anew when the queue's settings changed meanwhile.
const TRIES: usize = 4;
/// Longest reason, in bytes.
const REASON_MAX: usize = 1_024;

/// What is to happen to a message whose receipt is good.
enum Wish {
    Settle(SettleAction),
    Bury(Cause, Option<String>),
}

impl Queues {
    /// Settles leases, each by itself. Answers in the order given.
    pub(crate) async fn settle(&self, caller: &Caller, name: &QueueName, settlements: Vec<Settlement>) -> Result<Vec<Settled>> {
        check(&settlements)?;
        let receipts: Vec<Option<Receipt>> = settlements.iter().map(|one| self.receipts.open(&one.receipt).ok()).collect();
        let good: Vec<Receipt> = receipts.iter().flatten().copied().collect();
        let mut known = self.known_to(caller, name, &good).await?;
        self.count_request(&known);
        let mut answers = self.settle_once(&known, &settlements, &receipts).await;
        for _ in 1..TRIES {
            let stale = |(_, answer): &(usize, &Settled)| matches!(answer, Settled::Failed(Error::QueueChanged(_)));
            let again: Vec<usize> = answers.iter().enumerate().filter(stale).map(|(index, _)| index).collect();
            if again.is_empty() {
                break;
            }
            self.forget(&known.queue);
            match self.known(caller, name).await {
                Ok(anew) => known = anew,
                // The others are settled, and are told so.
                Err(error) => {
                    again.iter().for_each(|index| answers[*index] = Settled::Failed(error.clone()));
                    break;
                }
            }
            let some: Vec<Settlement> = again.iter().map(|index| settlements[*index].clone()).collect();
            let receipts: Vec<Option<Receipt>> = again.iter().map(|index| receipts[*index]).collect();
            let told = self.settle_once(&known, &some, &receipts).await;
            again.into_iter().zip(told).for_each(|(index, told)| answers[index] = told);
        }
        count(&settlements, &answers);
        Ok(answers)
    }

    async fn settle_once(&self, known: &Arc<Known>, settlements: &[Settlement], receipts: &[Option<Receipt>]) -> Vec<Settled> {
        let mut answers: Vec<Settled> = Vec::with_capacity(settlements.len());
        let mut items: Vec<(usize, SettleItem)> = Vec::new();
        let mut dying: Vec<(usize, Dying)> = Vec::new();
        // A receipt that occurs twice is settled as it says first, and both are answered alike.
        let mut first: HashMap<Receipt, usize> = HashMap::with_capacity(settlements.len());
        let mut again: Vec<(usize, usize)> = Vec::new();
        for (index, (settlement, receipt)) in settlements.iter().zip(receipts).enumerate() {
            answers.push(Settled::Failed(Error::unknown("the settlement was not answered")));
            let receipt = match *receipt {
                Some(receipt) if receipt.queue == known.queue.id => receipt,
                Some(_) => {
                    answers[index] = Settled::Unknown;
                    continue;
                }
                None => {
                    answers[index] = Settled::Forged;
                    continue;
                }
            };
            if receipt.generation != known.queue.generation {
                answers[index] = Settled::Expired;
                continue;
            }
            if let Some(before) = first.get(&receipt) {
                again.push((index, *before));
                continue;
            }
            first.insert(receipt, index);
            let Receipt { topic, partition, offset, attempt, undelivered, .. } = receipt;
            match self.wish(&known.queue, &settlement.verdict, receipt.deliveries()) {
                Wish::Settle(action) => items.push((index, SettleItem { topic, partition, first: offset, count: 1, attempt, action })),
                Wish::Bury(cause, error) => {
                    dying.push((index, Dying { topic, partition, offset, attempt, undelivered, cause, error, record: None }));
                }
            }
        }
        let (indexes, dead): (Vec<usize>, Vec<Dying>) = dying.into_iter().unzip();
        let places: Vec<_> = dead.iter().map(|dying| ((dying.topic, dying.partition, dying.offset), dying.attempt)).collect();
        let ((), buried) = futures::join!(self.settle_items(known, items, &mut answers), self.bury(known, dead));
        for ((index, place), settled) in indexes.into_iter().zip(places).zip(buried) {
            if !matches!(settled, Settled::Failed(_)) {
                self.done(known, place, None);
            }
            answers[index] = settled;
        }
        for (index, before) in again {
            answers[index] = answers[before].clone();
        }
        if let Some(desk) = self.bell.find(known.queue.id) {
            desk.settled();
        }
        answers
    }

    async fn bury(&self, known: &Known, dead: Vec<Dying>) -> Vec<Settled> {
        if dead.is_empty() { Vec::new() } else { bury(&self.mover, &known.queue, dead).await }
    }

    /// What a verdict means for a message that was delivered so often.
    fn wish(&self, queue: &Queue, verdict: &Verdict, deliveries: u32) -> Wish {
        match verdict {
            Verdict::Ack => Wish::Settle(SettleAction::Ack),
            Verdict::Extend { lease } => Wish::Settle(SettleAction::Extend { lease: *lease }),
            Verdict::Reject { reason } => Wish::Bury(Cause::Rejected, reason.clone()),
            Verdict::Nack { reason, .. } if queue.config.attempts().is_some_and(|most| deliveries >= most) => {
                Wish::Bury(Cause::Nacked, reason.clone())
            }
            Verdict::Nack { delay, .. } => {
                Wish::Settle(SettleAction::Release { delay: delay.unwrap_or_else(|| self.backoff(queue, deliveries)) })
            }
        }
    }

    /// How long a message waits after a nack that says nothing of it.
    pub(crate) fn backoff(&self, queue: &Queue, deliveries: u32) -> Duration {
        if queue.config.retry.min.is_zero() {
            return Duration::ZERO;
        }
        let draw = (self.mover.ambient.entropy.draw() as u32) as f64 / f64::from(u32::MAX);
        queue.config.retry.delay(deliveries, draw)
    }

    async fn settle_items(&self, known: &Known, mut items: Vec<(usize, SettleItem)>, answers: &mut [Settled]) {
        if items.is_empty() {
            return;
        }
        items.sort_by_key(|(_, item)| (item.topic, item.partition, item.first));
        let places: Vec<(usize, SettleItem)> = items;
        let items = joined(places.iter().map(|(_, item)| *item));
        let settle = SettleMessages { queue: known.queue.id, generation: known.queue.generation, version: None, items };
        match self.mover.settle(settle).await {
            Ok(outcomes) => {
                failpoint::hit("l3");
                for ((index, item), outcome) in places.iter().zip(outcomes) {
                    let place = (item.topic, item.partition, item.first);
                    answers[*index] = settled(outcome);
                    let until = if let SettleOutcome::Until(until) = outcome { Some(until) } else { None };
                    self.done(known, (place, item.attempt), until);
                }
            }
            Err(error) => {
                for (index, _) in places {
                    answers[index] = Settled::Failed(error.clone());
                }
            }
        }
    }

    /// A lease is over, or goes on until then: whoever leases on credit may lease another.
    fn done(&self, known: &Known, (place, attempt): (super::deliver::Place, u32), until: Option<lakefall_queue::Timestamp>) {
        if let Some(desk) = self.bell.find(known.queue.id) {
            desk.credits.settled(place, attempt, until);
        }
    }
}

/// What a caller is told.
pub(super) fn settled(outcome: SettleOutcome) -> Settled {
    match outcome {
        SettleOutcome::Done => Settled::Ok(None),
        SettleOutcome::Until(until) => Settled::Ok(Some(until)),
        SettleOutcome::Expired => Settled::Expired,
        SettleOutcome::Unknown => Settled::Unknown,
        SettleOutcome::Doubtful => {
            Settled::Failed(Error::unknown("the lease is over, and may have been given back by an attempt that got no answer"))
        }
    }
}

/// Joins consecutive messages that go the same way.
pub(crate) fn joined(items: impl Iterator<Item = SettleItem>) -> Vec<SettleItem> {
    let mut runs: Vec<SettleItem> = Vec::new();
    for item in items {
        match runs.last_mut() {
            Some(last)
                if (last.topic, last.partition, last.attempt, last.action) == (item.topic, item.partition, item.attempt, item.action)
                    && last.first.plus(u64::from(last.count)) == item.first =>
            {
                last.count += item.count;
            }
            _ => runs.push(item),
        }
    }
    runs
}

/// Refuses what is out of bounds before anything is settled.
fn check(settlements: &[Settlement]) -> Result<()> {
    if settlements.is_empty() || settlements.len() > SETTLE_MAX {
        let reason = format!("{} receipts were given: allowed is 1 to {SETTLE_MAX}", settlements.len());
        return Err(Error::invalid("receipts", reason));
    }
    settlements.iter().enumerate().try_for_each(|(index, settlement)| check_verdict(&settlement.verdict, index))
}

/// Refuses a verdict that is out of bounds.
pub(crate) fn check_verdict(verdict: &Verdict, index: usize) -> Result<()> {
    let refused = |field: &str, reason: &str| Err(Error::invalid(format!("/items/{index}/{field}"), reason.to_owned()));
    match verdict {
        Verdict::Extend { lease } if *lease > LEASE_MAX => refused("lease", "lease is longer than 12h"),
        Verdict::Nack { delay: Some(delay), .. } if *delay > DELAY_MAX => refused("delay", "delay is longer than 365d"),
        Verdict::Nack { reason: Some(reason), .. } | Verdict::Reject { reason: Some(reason) } if reason.len() > REASON_MAX => {
            refused("reason", "reason is longer than 1024 bytes")
        }
        _ => Ok(()),
    }
}

fn count(settlements: &[Settlement], answers: &[Settled]) {
    let mut counts: HashMap<(&'static str, &'static str), u64> = HashMap::new();
    for (settlement, answer) in settlements.iter().zip(answers) {
        let verdict = match settlement.verdict {
            Verdict::Ack => "ack",
            Verdict::Nack { .. } => "nack",
            Verdict::Reject { .. } => "reject",
            Verdict::Extend { .. } => "extend",
        };
        let outcome = match answer {
            Settled::Ok(_) => "ok",
            Settled::Expired => "expired",
            Settled::Unknown => "unknown",
            Settled::Forged => "forged",
            Settled::Failed(_) => "failed",
        };
        *counts.entry((verdict, outcome)).or_default() += 1;
    }
    for ((verdict, outcome), count) in counts {
        metrics::counter!(crate::metrics::SETTLED_MESSAGES, "verdict" => verdict, "outcome" => outcome).increment(count);
    }
}
