//! Receive: takes what gateways found in the records, then leases messages. Everything it decides follows from what is
//! stored, the command and the group's time, so that a replay decides the same.

use std::time::Duration;

use super::super::{Applied, Ledger, PartitionKey, Reply};
use super::partition::State;
use super::state::{QueueState, RememberedReceive, TRACKED_MAX};
use super::{Classified, Grant, ReceiveMessages, Received, ScanState, Want};
use crate::error::Error;
use crate::id::Offset;
use crate::queue::PRIORITIES;
use crate::time::Timestamp;

/// Receives of a queue that are remembered; beyond it the one whose leases end first is forgotten early.
const RECEIVES_MAX: usize = 1_024;
/// A lease of 0 ends with the millisecond: the message is available to the next receive, not twice to the same one.
const LEASE_MIN: Duration = Duration::from_millis(1);

impl Ledger {
    pub(in super::super) fn receive(&mut self, command: &ReceiveMessages, now: Timestamp) -> Applied {
        let Some(queue) = self.queues.by_id.get_mut(&command.queue) else {
            return Applied::unchanged(Err(Error::QueueChanged(command.queue.to_string())));
        };
        if queue.about.generation != command.generation {
            return Applied::unchanged(Err(Error::QueueChanged(queue.about.name.to_string())));
        }
        if queue.partitions.is_empty() {
            return Applied::unchanged(Err(Error::QueueWithoutTopic(queue.about.name.clone())));
        }
        let mut changed = false;
        for (key, partition) in &mut queue.partitions {
            let log_start = self.partitions.get(key).map_or(0, |p| p.log_start.0);
            changed |= partition.raise(log_start, &mut queue.tally);
        }
        for classified in &command.classified {
            let end = self.partitions.get(&(classified.topic, classified.partition)).map_or(0, |p| p.next.0);
            changed |= queue.classify(classified, end, now);
        }
        queue.flush(&mut self.dirty);
        queue.promote(now);
        let mut grants = Vec::with_capacity(command.wants.len());
        for want in &command.wants {
            let (granted, fresh) = queue.grant(want, now, self.seq.0);
            changed |= fresh;
            // What is remembered of receives and of what was given back is in the queue's own row.
            if fresh && (want.request.is_some() || granted.iter().any(|grant| grant.attempt > 1)) {
                queue.mark(&mut self.dirty);
            }
            grants.push(granted);
        }
        queue.flush(&mut self.dirty);
        let scan = |(key, partition): (&PartitionKey, &super::partition::QueuePartition)| ScanState {
            topic: key.0,
            partition: key.1,
            scanned: Offset(partition.scanned),
            end: self.partitions.get(key).map_or(Offset(partition.scanned), |p| p.next),
            log_start: self.partitions.get(key).map_or(Offset(0), |p| p.log_start),
        };
        let received = Received {
            now,
            grants,
            partitions: queue.partitions.iter().map(scan).collect(),
            ready: queue.ready(),
            held_back: queue.is_held_back(),
        };
        self.queues.rearm(command.queue);
        Applied { reply: Ok(Reply::Received(Box::new(received))), changed }
    }
}

impl QueueState {
    /// Messages that could be leased as of the tally's time.
    pub(super) fn ready(&self) -> u64 {
        self.tally.ready + self.partitions.values().map(|partition| partition.plain).sum::<u64>()
    }

    /// Takes what a gateway found, up to `end`. Tells whether that changed anything.
    fn classify(&mut self, found: &Classified, end: u64, now: Timestamp) -> bool {
        let Some(partition) = self.partitions.get_mut(&(found.topic, found.partition)) else { return false };
        let (from, before) = (found.from.0, partition.scanned);
        let mut to = found.to.0.min(end);
        if from > before || to <= before {
            return false;
        }
        let top = self.about.config.priorities.clamp(1, PRIORITIES) - 1;
        let mut skipped = 0;
        for (index, count) in &found.skipped {
            let start = from.saturating_add(u64::from(*index)).max(before);
            let stop = from.saturating_add(u64::from(*index) + u64::from(*count)).min(to);
            if start < stop {
                skipped += partition.finish(start, stop, &mut self.tally);
            }
        }
        let mut next = before;
        for mark in &found.marks {
            let offset = from.saturating_add(u64::from(mark.index));
            if offset < next || offset >= to || partition.state(offset) == State::Finished {
                continue;
            }
            let (at_ms, priority) = (mark.not_before.map_or(0, |at| at.as_millis()), mark.priority.min(top));
            if at_ms <= now.as_millis() && priority == 0 && mark.group.is_none() {
                continue;
            }
            if self.tally.live >= TRACKED_MAX {
                to = offset;
                break;
            }
            partition.set_apart(offset, at_ms, priority, mark.group, &mut self.tally);
            next = offset + 1;
        }
        self.outflow.add(now, skipped);
        let changed = to > before || skipped > 0;
        partition.scan_to(to);
        partition.advance();
        changed
    }

    /// Leases messages to one receiver. Tells whether any are leased anew.
    fn grant(&mut self, want: &Want, now: Timestamp, turn: u64) -> (Vec<Grant>, bool) {
        if let Some(known) = want.request.and_then(|request| self.receives.get(&request)) {
            let still = self.still_leased(&known.grants, now);
            if !still.is_empty() {
                return (still, false);
            }
        }
        let until = now.plus(want.lease.max(LEASE_MIN));
        let grants = self.lease(u64::from(want.max), until, now, turn);
        let fresh = !grants.is_empty();
        if let Some(request) = want.request.filter(|_| fresh) {
            self.forget_receives(now);
            while self.receives.len() >= RECEIVES_MAX
                && let Some(first) =
                    self.receives.iter().min_by_key(|(request, known)| (known.until, **request)).map(|(request, _)| *request)
            {
                self.receives.remove(&first);
            }
            self.receives.insert(request, RememberedReceive { until, grants: grants.clone() });
        }
        (grants, fresh)
    }

    /// Forgets receives whose leases are over; some may have been extended.
    fn forget_receives(&mut self, now: Timestamp) {
        let over: Vec<u128> = self.receives.iter().filter(|(_, known)| known.until <= now).map(|(request, _)| *request).collect();
        for request in over {
            let still = self.receives.get(&request).map(|known| self.still_leased(&known.grants, now)).unwrap_or_default();
            match (still.iter().map(|grant| grant.lease_until).max(), self.receives.get_mut(&request)) {
                (Some(until), Some(known)) => known.until = until,
                _ => drop(self.receives.remove(&request)),
            }
        }
    }

    /// What of these grants is leased as it was then.
    fn still_leased(&self, grants: &[Grant], now: Timestamp) -> Vec<Grant> {
        let mut still = Vec::new();
        for grant in grants {
            let Some(partition) = self.partitions.get(&(grant.topic, grant.partition)) else { continue };
            // Nothing is leased that was not looked at, whatever a stored grant counts.
            let end = grant.first.0.saturating_add(u64::from(grant.count)).min(partition.scanned);
            for offset in grant.first.0..end {
                if let State::Entry(entry) = partition.state(offset)
                    && entry.is_leased()
                    && entry.attempt() == grant.attempt
                    && entry.at_ms() > now.as_millis()
                {
                    let until = Timestamp::from_millis(entry.at_ms());
                    let attempts = (entry.attempt(), entry.undelivered());
                    push(&mut still, (grant.topic, grant.partition), offset, attempts, until, grant.first_leased);
                }
            }
        }
        still
    }

    /// Leases up to `most` messages: the highest priority first, shared among the partitions, `turn` tells which of them begins.
    fn lease(&mut self, most: u64, until: Timestamp, now: Timestamp, turn: u64) -> Vec<Grant> {
        let mut left = most.min(self.in_flight_left());
        let mut keys: Vec<PartitionKey> = self.partitions.keys().copied().collect();
        let begin = (turn % keys.len().max(1) as u64) as usize;
        keys.rotate_left(begin);
        let mut grants = Vec::new();
        for priority in (0..PRIORITIES).rev() {
            // Plain messages have the lowest.
            if priority > 0 && !self.tally.has_ready(priority) {
                continue;
            }
            let mut open = keys.clone();
            while left > 0 && !open.is_empty() {
                let share = (left / open.len() as u64).max(1);
                open.retain(|key| {
                    let taken = self.take(*key, priority, share.min(left), (until, now), &mut grants);
                    left -= taken;
                    taken == share
                });
            }
        }
        grants
    }

    /// Leases messages of one priority and partition: those that were leased or set apart before first. Returns how many.
    fn take(&mut self, key: PartitionKey, priority: u8, limit: u64, (until, now): (Timestamp, Timestamp), grants: &mut Vec<Grant>) -> u64 {
        let Some(partition) = self.partitions.get_mut(&key).filter(|_| limit > 0) else { return 0 };
        let again = partition.ready(priority, partition.floor, limit as usize, &self.tally);
        let mut taken = 0;
        for offset in again {
            if let State::Entry(entry) = partition.state(offset)
                && entry.attempt() > 0
                && !entry.is_leased()
            {
                self.returned.add(key, offset, entry.attempt(), now.as_millis());
            }
            if let Some(entry) = partition.lease_again(offset, until.as_millis(), now.as_millis(), &mut self.tally) {
                push(grants, key, offset, (entry.attempt(), entry.undelivered()), until, partition.first_leased(offset));
                taken += 1;
            }
        }
        if priority == 0 {
            let room = TRACKED_MAX.saturating_sub(self.tally.live);
            let fresh = partition.lease_plain((limit - taken).min(room), until.as_millis(), now.as_millis(), &mut self.tally);
            taken += fresh.len() as u64;
            fresh.into_iter().for_each(|offset| push(grants, key, offset, (1, 0), until, partition.first_leased(offset)));
        }
        taken
    }
}

/// Adds a message to the last grant if it follows it.
fn push(
    grants: &mut Vec<Grant>,
    (topic, partition): PartitionKey,
    offset: u64,
    (attempt, undelivered): (u32, u32),
    lease_until: Timestamp,
    first_leased: Option<Timestamp>,
) {
    match grants.last_mut() {
        Some(last)
            if (last.topic, last.partition, last.attempt, last.undelivered, last.lease_until)
                == (topic, partition, attempt, undelivered, lease_until)
                && last.first_leased == first_leased
                && last.first.0 + u64::from(last.count) == offset =>
        {
            last.count += 1;
        }
        _ => grants.push(Grant { topic, partition, first: Offset(offset), count: 1, attempt, undelivered, lease_until, first_leased }),
    }
}
