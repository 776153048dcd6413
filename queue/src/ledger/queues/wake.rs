//! The timer of a ledger: when something in a queue becomes due by itself, those who wait are told. Changes nothing that
//! is stored, and is not journaled.

use super::super::{Ledger, Notice};
use super::Queues;
use super::state::QueueState;
use crate::id::{PartitionIndex, QueueId, TopicId};
use crate::time::Timestamp;

impl Ledger {
    /// When [`Ledger::wake`] is to be called next, by the owner's clock; `None` while there is nothing to wake for.
    pub fn wake_at(&self) -> Option<Timestamp> {
        self.queues.wakes.first().map(|(at_ms, _)| Timestamp::from_millis(*at_ms))
    }

    /// Tells of what is due at `now`: each queue once, until something in it becomes due later.
    pub fn wake(&mut self, now: Timestamp) -> Vec<Notice> {
        let mut notices = Vec::new();
        self.queues.clock = self.queues.clock.max(now);
        while let Some((at_ms, id)) = self.queues.wakes.first().copied()
            && at_ms <= now.as_millis()
        {
            if self.queues.by_id.get_mut(&id).is_some_and(|queue| queue.tell_due(now.as_millis())) {
                notices.push(Notice::QueueReady { queue: id });
            }
            self.queues.rearm(id);
        }
        notices
    }
}

impl Queues {
    /// Sets the timer of a queue anew, after it changed.
    pub(in super::super) fn rearm(&mut self, id: QueueId) {
        let Some(queue) = self.by_id.get_mut(&id) else { return };
        let next = queue.next_due();
        if queue.wake_ms != next {
            if let Some(before) = queue.wake_ms {
                self.wakes.remove(&(before, id));
            }
            self.wakes.extend(next.map(|at_ms| (at_ms, id)));
            queue.wake_ms = next;
        }
    }
}

impl QueueState {
    /// When something becomes due that nobody was told of. May be early: see [`QueueState::tell_due`].
    fn next_due(&self) -> Option<i64> {
        let from = (self.told_ms.saturating_add(1), (TopicId(0), PartitionIndex(0)), 0);
        self.due.range(from..).next().map(|(at_ms, ..)| *at_ms)
    }

    /// Whether something is due that nobody was told of. What is settled meanwhile is due no more, and not told.
    fn tell_due(&mut self, now_ms: i64) -> bool {
        while let Some(at_ms) = self.next_due().filter(|at_ms| *at_ms <= now_ms) {
            let from = (at_ms, (TopicId(0), PartitionIndex(0)), 0);
            let Some(first) = self.due.range(from..).next().copied() else { return false };
            self.due.remove(&first);
            let (_, key, number) = first;
            let Some(partition) = self.partitions.get_mut(&key) else { continue };
            if partition.is_due(number, now_ms, &mut self.due, &mut self.tally) {
                self.told_ms = now_ms;
                return true;
            }
        }
        false
    }
}
