//! Settle: what becomes of leased messages. A lease that is over settles nothing, whoever asks.

use super::super::{Answer, Applied, Ledger, Notice, PartitionKey, Refusal, Reply};
use super::entry::Entry;
use super::partition::State;
use super::state::QueueState;
use super::steps::step;
use super::{SettleAction, SettleItem, SettleMessages, SettleOutcome, SettledRun};
use crate::error::Error;
use crate::id::{NamespaceName, Offset, PartitionIndex, QueueName, TopicId};
use crate::planted::{self, Bug};
use crate::time::Timestamp;

/// Leases that are told of at once, at most.
const ASKED_MAX: usize = 10_000;

/// How a message stands to who holds a receipt of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// It is leased to them until then.
    Held(Timestamp),
    /// They gave it back, and nobody leased it since.
    GivenBack,
    /// It is finished.
    Finished,
    /// Their lease is over.
    Over,
    /// It was never leased.
    Never,
}

/// The bounds of a partition's log.
#[derive(Clone, Copy)]
struct Bounds {
    log_start: u64,
    end: u64,
}

impl Ledger {
    pub(in super::super) fn settle(&mut self, command: &SettleMessages, now: Timestamp) -> Applied {
        let mut runs = Vec::new();
        let known = self.queues.by_id.get(&command.queue).map(|queue| queue.about.generation == command.generation);
        if known != Some(true) {
            let outcome = if known.is_none() { SettleOutcome::Unknown } else { SettleOutcome::Expired };
            command.items.iter().for_each(|item| push(&mut runs, item.count, outcome));
            return Applied::unchanged(Ok(Reply::Settled(runs)));
        }
        if let Some(name) = self.stale(command) {
            return Applied::unchanged(Err(Error::QueueChanged(name.to_string())));
        }
        let changed = self.settle_items(command, now, &mut runs);
        Applied { reply: Ok(Reply::Settled(runs)), changed }
    }

    /// The queue whose settings are newer than those on which a settlement hangs.
    fn stale(&self, command: &SettleMessages) -> Option<&QueueName> {
        let about = &self.queues.by_id.get(&command.queue)?.about;
        command.version.filter(|version| *version < about.version).map(|_| &about.name)
    }

    /// Whether all of these leases of an atom go on.
    pub(in super::super) fn check_settles(
        &self,
        namespace: &NamespaceName,
        settles: &[SettleMessages],
        now: Timestamp,
    ) -> Result<(), Refusal> {
        for command in settles {
            let over = |item: &SettleItem, offset: u64| Refusal::Lease {
                queue: command.queue,
                topic: item.topic,
                partition: item.partition,
                offset: Offset(offset),
            };
            if let Some(name) = self.stale(command) {
                return Err(Refusal::QueueChanged { queue: name.clone() });
            }
            let queue = self.queues.by_id.get(&command.queue);
            let queue = queue.filter(|queue| queue.about.generation == command.generation && queue.about.namespace == *namespace);
            let mut ranges = Vec::with_capacity(command.items.len());
            for item in &command.items {
                let bounds = self.bounds((item.topic, item.partition));
                // What is finished is not held any more: an effect must not come twice because its answer was lost.
                let held = |offset: &u64| queue.is_some_and(|queue| queue.may_settle(item, *offset, bounds, now));
                if let Some(offset) = offsets(item, bounds.end).find(|offset| !held(offset)) {
                    return Err(over(item, offset));
                }
                if u64::from(item.count) > bounds.end.saturating_sub(item.first.0) {
                    return Err(over(item, item.first.0));
                }
                ranges.push((item.topic, item.partition, item.first.0, item));
            }
            ranges.sort_by_key(|(topic, partition, first, _)| (*topic, *partition, *first));
            let crosses = |pair: &&[(TopicId, PartitionIndex, u64, &SettleItem)]| {
                let (one, next) = (&pair[0], &pair[1]);
                (one.0, one.1) == (next.0, next.1) && next.2 < one.2 + u64::from(one.3.count)
            };
            if let Some(pair) = ranges.windows(2).find(crosses) {
                return Err(over(pair[1].3, pair[1].2));
            }
        }
        Ok(())
    }

    /// Settles what [`Ledger::check_settles`] allowed.
    pub(in super::super) fn apply_settles(&mut self, settles: &[SettleMessages], now: Timestamp) {
        for command in settles {
            self.settle_items(command, now, &mut Vec::new());
        }
    }

    /// How leases stand, without settling them.
    pub(in super::super) fn queue_leases(&self, leases: &SettleMessages) -> Answer {
        let (now, mut runs, mut left) = (self.asked_at(), Vec::new(), ASKED_MAX);
        let queue = self.queues.by_id.get(&leases.queue);
        for item in &leases.items {
            let bounds = self.bounds((item.topic, item.partition));
            let mut rest = item.count;
            for offset in offsets(item, bounds.end).take(left) {
                (rest, left) = (rest - 1, left - 1);
                let standing = queue.map(|queue| match queue.about.generation == leases.generation {
                    true => queue.standing(item, offset, bounds, now),
                    false => Standing::Over,
                });
                let outcome = match standing {
                    Some(Standing::Held(until)) => SettleOutcome::Until(until),
                    Some(Standing::Finished) => SettleOutcome::Done,
                    Some(Standing::GivenBack | Standing::Over) => SettleOutcome::Expired,
                    Some(Standing::Never) | None => SettleOutcome::Unknown,
                };
                push(&mut runs, 1, outcome);
            }
            push(&mut runs, rest, SettleOutcome::Unknown);
        }
        Answer::QueueLeases(runs)
    }

    fn bounds(&self, key: PartitionKey) -> Bounds {
        self.partitions.get(&key).map_or(Bounds { log_start: 0, end: 0 }, |p| Bounds { log_start: p.log_start.0, end: p.next.0 })
    }

    /// Tells whether anything changed.
    fn settle_items(&mut self, command: &SettleMessages, now: Timestamp, runs: &mut Vec<SettledRun>) -> bool {
        let bounds: Vec<Bounds> = command.items.iter().map(|item| self.bounds((item.topic, item.partition))).collect();
        let Some(queue) = self.queues.by_id.get_mut(&command.queue) else { return false };
        let was_held_back = queue.is_held_back();
        let mut effects = Effects::default();
        for (item, bounds) in command.items.iter().zip(bounds) {
            let mut rest = item.count;
            for offset in offsets(item, bounds.end) {
                push(runs, 1, queue.settle_one(item, offset, bounds, now, &mut effects));
                rest -= 1;
            }
            push(runs, rest, SettleOutcome::Unknown);
            if let Some(partition) = queue.partitions.get_mut(&(item.topic, item.partition)).filter(|_| effects.changed) {
                partition.advance();
            }
        }
        if !effects.changed {
            return false;
        }
        queue.acked_total += effects.acked;
        queue.dead_total += effects.dead;
        if effects.acked + effects.dead > 0 {
            queue.mark(&mut self.dirty);
        }
        queue.outflow.add(now, effects.finished);
        queue.flush(&mut self.dirty);
        if effects.ready || (was_held_back && !queue.is_held_back()) {
            // Whoever is told looks for all that is due by now.
            queue.told_ms = queue.told_ms.max(now.as_millis());
            self.notices.push(Notice::QueueReady { queue: command.queue });
        }
        self.queues.rearm(command.queue);
        true
    }
}

/// What a command did.
#[derive(Default)]
struct Effects {
    changed: bool,
    acked: u64,
    dead: u64,
    finished: u64,
    /// A message became ready.
    ready: bool,
}

impl QueueState {
    fn standing(&self, item: &SettleItem, offset: u64, bounds: Bounds, now: Timestamp) -> Standing {
        let Some(partition) = self.partitions.get(&(item.topic, item.partition)) else { return Standing::Never };
        if offset < bounds.log_start {
            return Standing::Finished;
        }
        match partition.state(offset) {
            State::Finished => Standing::Finished,
            State::Plain => Standing::Never,
            State::Entry(entry) if entry.attempt() == 0 => Standing::Never,
            State::Entry(entry) if is_current(entry, item) && entry.is_leased() && entry.at_ms() > now.as_millis() => {
                Standing::Held(Timestamp::from_millis(entry.at_ms()))
            }
            State::Entry(entry) if entry.attempt() == item.attempt && !entry.is_leased() => Standing::GivenBack,
            State::Entry(_) => Standing::Over,
        }
    }

    /// Whether an atom may settle a message: it is leased to them, or is to be taken from the queue while nobody has it.
    fn may_settle(&self, item: &SettleItem, offset: u64, bounds: Bounds, now: Timestamp) -> bool {
        if item.action != SettleAction::Cancel {
            return matches!(self.standing(item, offset, bounds, now), Standing::Held(_));
        }
        let Some(partition) = self.partitions.get(&(item.topic, item.partition)).filter(|_| offset >= bounds.log_start) else {
            return false;
        };
        match partition.state(offset) {
            State::Finished => false,
            State::Plain => true,
            State::Entry(entry) => !entry.is_leased() || entry.at_ms() <= now.as_millis(),
        }
    }

    fn settle_one(&mut self, item: &SettleItem, offset: u64, bounds: Bounds, now: Timestamp, effects: &mut Effects) -> SettleOutcome {
        let standing = self.standing(item, offset, bounds, now);
        let key = (item.topic, item.partition);
        match (item.action, standing) {
            (SettleAction::Cancel, Standing::Finished) => SettleOutcome::Expired,
            (SettleAction::Cancel, _) if self.is_leased(key, offset, now) => SettleOutcome::Expired,
            (SettleAction::Cancel, _) => self.finish_one(key, offset, now, effects),
            (_, Standing::Never) => SettleOutcome::Unknown,
            (SettleAction::Ack | SettleAction::Bury, Standing::Finished) => SettleOutcome::Done,
            // A repetition is answered as the first one was, also when somebody else has the message by now.
            (action, Standing::GivenBack) if action.gives_back() => SettleOutcome::Done,
            (action, Standing::Over | Standing::Finished)
                if action.gives_back() && self.returned.knows(key, offset, item.attempt, now.as_millis()) =>
            {
                SettleOutcome::Done
            }
            (_, Standing::Over | Standing::Finished | Standing::GivenBack) => SettleOutcome::Expired,
            (SettleAction::Ack, Standing::Held(_)) => {
                effects.acked += 1;
                self.finish_one(key, offset, now, effects)
            }
            (SettleAction::Bury, Standing::Held(_)) => {
                effects.dead += 1;
                self.finish_one(key, offset, now, effects)
            }
            (SettleAction::Release { delay }, Standing::Held(_)) => self.give_back(key, offset, now.plus(delay), now, effects),
            (SettleAction::Undelivered { delay }, Standing::Held(_)) => {
                self.change(key, offset, Entry::with_undelivered, effects);
                self.give_back(key, offset, now.plus(delay), now, effects)
            }
            (SettleAction::Extend { lease }, Standing::Held(_)) if lease.as_millis() == 0 => self.give_back(key, offset, now, now, effects),
            (SettleAction::Extend { lease }, Standing::Held(_)) => {
                let until = now.plus(lease);
                self.replace(key, offset, until, true, effects);
                SettleOutcome::Until(until)
            }
        }
    }

    /// Whether somebody has the message.
    fn is_leased(&self, key: PartitionKey, offset: u64, now: Timestamp) -> bool {
        let state = self.partitions.get(&key).map(|partition| partition.state(offset));
        matches!(state, Some(State::Entry(entry)) if entry.is_leased() && entry.at_ms() > now.as_millis())
    }

    /// Finishes a message; the next one of its group may have its turn by that.
    fn finish_one(&mut self, key: PartitionKey, offset: u64, now: Timestamp, effects: &mut Effects) -> SettleOutcome {
        let Some(partition) = self.partitions.get_mut(&key) else { return SettleOutcome::Unknown };
        let group = partition.group_of(offset);
        if partition.finish(offset, offset + 1, &mut self.tally) == 0 {
            return SettleOutcome::Done;
        }
        effects.changed = true;
        effects.finished += 1;
        effects.ready |= group.is_some_and(|group| self.is_group_ready(group, now));
        SettleOutcome::Done
    }

    /// Whether a message of the group could be leased now.
    fn is_group_ready(&self, group: u64, now: Timestamp) -> bool {
        self.tally.homes(group).filter_map(|key| self.partitions.get(&key)).any(|partition| {
            step();
            let first = partition.groups.first(group).map(|offset| partition.state(offset));
            matches!(first, Some(State::Entry(entry)) if entry.at_ms() <= now.as_millis())
        })
    }

    fn give_back(&mut self, key: PartitionKey, offset: u64, at: Timestamp, now: Timestamp, effects: &mut Effects) -> SettleOutcome {
        self.replace(key, offset, at, false, effects);
        effects.ready |= at <= now;
        SettleOutcome::Done
    }

    fn replace(&mut self, key: PartitionKey, offset: u64, at: Timestamp, leased: bool, effects: &mut Effects) {
        self.change(key, offset, |entry| entry.with(entry.attempt(), at.as_millis(), leased), effects);
    }

    fn change(&mut self, key: PartitionKey, offset: u64, change: impl FnOnce(Entry) -> Entry, effects: &mut Effects) {
        if let Some(partition) = self.partitions.get_mut(&key) {
            partition.replace(offset, change, &mut self.tally);
            effects.changed = true;
        }
    }
}

/// Whether a receipt is of the message's last lease. Who holds an earlier one lost it to another.
fn is_current(entry: Entry, item: &SettleItem) -> bool {
    entry.attempt() == item.attempt || planted::is(Bug::ReceiptWithoutAttempt)
}

/// The item's offsets, as far as the partition goes.
fn offsets(item: &SettleItem, end: u64) -> std::ops::Range<u64> {
    let first = item.first.0;
    first..first.saturating_add(u64::from(item.count)).min(end.max(first))
}

fn push(runs: &mut Vec<SettledRun>, count: u32, outcome: SettleOutcome) {
    match runs.last_mut() {
        _ if count == 0 => {}
        Some(last) if last.outcome == outcome => last.count += count,
        _ => runs.push(SettledRun { count, outcome }),
    }
}
