//! What may be asked of queues: how they stand. Answers change nothing.

use std::time::Duration;

use super::super::{Answer, Ledger};
use super::QueueNumbers;
use super::block::BLOCK;
use super::partition::{QueuePartition, split};
use super::state::QueueState;
use crate::error::{Error, Result};
use crate::id::{NamespaceName, Offset, QueueId, QueueName};
use crate::queue::Queue;
use crate::time::Timestamp;

/// What rates are taken over.
const WINDOW: Duration = Duration::from_secs(60);
const BUCKETS: usize = 12;
const BUCKET_MS: i64 = WINDOW.as_millis() as i64 / BUCKETS as i64;

/// Messages finished in the last minute, as far as this owner saw it.
#[derive(Clone, Debug, Default)]
pub(super) struct Outflow {
    counts: [u64; BUCKETS],
    /// The number of the newest bucket.
    newest: i64,
}

impl Outflow {
    pub(super) fn add(&mut self, now: Timestamp, finished: u64) {
        self.turn(now);
        self.counts[self.newest.rem_euclid(BUCKETS as i64) as usize] += finished;
    }

    fn turn(&mut self, now: Timestamp) {
        let bucket = now.as_millis().div_euclid(BUCKET_MS);
        if bucket - self.newest >= BUCKETS as i64 {
            (self.counts, self.newest) = ([0; BUCKETS], bucket);
        }
        while self.newest < bucket {
            self.newest += 1;
            self.counts[self.newest.rem_euclid(BUCKETS as i64) as usize] = 0;
        }
    }

    fn sum(&self, now: Timestamp) -> u64 {
        let horizon = now.as_millis().div_euclid(BUCKET_MS) - BUCKETS as i64;
        let oldest = self.newest - BUCKETS as i64 + 1;
        let buckets = (oldest..=self.newest).filter(|bucket| *bucket > horizon);
        buckets.map(|bucket| self.counts[bucket.rem_euclid(BUCKETS as i64) as usize]).sum()
    }
}

/// How the entries of a queue stand at a time.
#[derive(Default)]
struct Counted {
    ready: u64,
    leased: u64,
    delayed: u64,
    blocked: u64,
}

impl Ledger {
    /// The time that answers go by: later than the journal's while that rests.
    pub(super) fn asked_at(&self) -> Timestamp {
        self.time.max(self.queues.clock)
    }

    pub(in super::super) fn queue(&self, namespace: &NamespaceName, name: &QueueName) -> Option<Queue> {
        self.described(*self.queues.names.get(&(namespace.clone(), name.clone()))?)
    }

    /// A namespace's queues by name, from the one named on.
    pub(in super::super) fn queues_from(&self, namespace: &NamespaceName, name: QueueName) -> impl Iterator<Item = Queue> {
        let of = self.queues.names.range((namespace.clone(), name)..).take_while(move |((of, _), _)| of == namespace);
        of.filter_map(|(_, id)| self.described(*id))
    }

    pub(in super::super) fn queue_numbers(&self, id: QueueId) -> Result<Answer> {
        let queue = self.queues.by_id.get(&id).ok_or_else(|| Error::QueueChanged(id.to_string()))?;
        let now = self.asked_at();
        let counted = queue.counted(now);
        let mut numbers = QueueNumbers {
            now,
            ready: counted.ready,
            leased: counted.leased,
            delayed: counted.delayed,
            blocked: counted.blocked,
            finished: queue.outflow.sum(now),
            acked_total: queue.acked_total,
            dead_total: queue.dead_total,
            ..QueueNumbers::default()
        };
        let since = now.minus(WINDOW);
        for (key, state) in &queue.partitions {
            let Some(partition) = self.partitions.get(key) else { continue };
            let (log_start, end) = (partition.log_start.0, partition.next.0);
            let recent = partition.recent().filter(|extent| extent.appended_at > since);
            numbers.came += recent.map(|extent| u64::from(extent.records)).sum::<u64>();
            numbers.ready += state.plain_from(log_start) + state.unscanned(log_start, end);
            let oldest = state.first_unfinished(log_start);
            numbers.oldest.extend((oldest < end).then_some((key.0, key.1, Offset(oldest))));
            numbers.state_bytes += state.bytes();
        }
        let dead = queue.about.config.dead_letter.as_ref().map(|dead_letter| QueueName::from(&dead_letter.topic));
        numbers.dead = dead.and_then(|name| self.queue_named(&queue.about.namespace, &name)).map_or(0, |queue| self.depth(queue));
        Ok(Answer::QueueNumbers(Box::new(numbers)))
    }
}

impl QueueState {
    /// Counts entries at a time that no receive promoted to: those due since are looked for.
    fn counted(&self, now: Timestamp) -> Counted {
        let blocked: u64 = self.partitions.values().map(|partition| partition.groups.blocked()).sum();
        let (mut ready, mut leased) = (self.tally.ready, self.tally.leased);
        for (_, key, number) in self.due.iter().take_while(|(at_ms, ..)| *at_ms <= now.as_millis()) {
            let Some(partition) = self.partitions.get(key) else { continue };
            let (due, were_leased) = partition.due_by(*number, self.tally.as_of_ms, now.as_millis());
            ready += due;
            leased -= were_leased;
        }
        Counted { ready, leased, delayed: self.tally.live.saturating_sub(ready + leased + blocked), blocked }
    }
}

impl QueuePartition {
    /// Messages that are neither finished nor looked at.
    fn unscanned(&self, log_start: u64, end: u64) -> u64 {
        let from = self.scanned.max(log_start);
        if from < end { self.untouched_between(from, end) } else { 0 }
    }

    /// Plain messages that the log still has.
    fn plain_from(&self, log_start: u64) -> u64 {
        if log_start <= self.head {
            return self.plain;
        }
        if log_start < self.scanned { self.untouched_between(log_start, self.scanned) } else { 0 }
    }

    fn first_unfinished(&self, log_start: u64) -> u64 {
        let mut at = self.floor.max(log_start);
        while let Some(block) = self.blocks.get(&split(at).0) {
            let (number, place) = split(at);
            let next = block.first_unfinished(place);
            at = number * BLOCK + u64::from(next);
            if u64::from(next) < BLOCK {
                break;
            }
        }
        at
    }
}
