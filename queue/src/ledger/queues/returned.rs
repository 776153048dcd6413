//! Leases that were given back and whose messages were leased again since: a settlement that is repeated because the answer of
//! the first one was lost is answered as that was. Must never settle anything, and keeps no more than a little for a while.

use std::collections::{BTreeMap, VecDeque};

use super::super::PartitionKey;
use super::super::rows::proto;
use crate::id::{PartitionIndex, TopicId};

/// How long one is remembered: gateways repeat for 10 s, clients a little longer.
const KEPT_MS: i64 = 60_000;
/// Leases of a queue that are remembered; beyond it the oldest go early. Some 100 KiB.
const KEPT: usize = 1_024;

/// A lease: its message and attempt.
type LeaseOf = (PartitionKey, u64, u32);

/// What a queue remembers.
#[derive(Clone, Debug, Default)]
pub(super) struct Returned {
    /// When each message was leased again.
    known: BTreeMap<LeaseOf, i64>,
    /// The oldest first.
    order: VecDeque<LeaseOf>,
}

impl Returned {
    /// A message that was given back is leased again.
    pub(super) fn add(&mut self, key: PartitionKey, offset: u64, attempt: u32, now_ms: i64) {
        while let Some(first) = self.order.front()
            && (self.order.len() >= KEPT || self.known.get(first).is_none_or(|at| at.saturating_add(KEPT_MS) <= now_ms))
        {
            self.known.remove(first);
            self.order.pop_front();
        }
        self.insert((key, offset, attempt), now_ms);
    }

    fn insert(&mut self, lease: LeaseOf, at_ms: i64) {
        // Attempts are counted up to a bound only: one beyond it may come twice.
        if self.known.insert(lease, at_ms).is_none() {
            self.order.push_back(lease);
        }
    }

    /// Whether this lease was given back, as far as that is remembered.
    pub(super) fn knows(&self, key: PartitionKey, offset: u64, attempt: u32, now_ms: i64) -> bool {
        self.known.get(&(key, offset, attempt)).is_some_and(|at| at.saturating_add(KEPT_MS) > now_ms)
    }

    /// The topic is not read any more: attempts begin anew if it ever is.
    pub(super) fn detach(&mut self, topic: TopicId) {
        self.known.retain(|((of, _), ..), _| *of != topic);
        self.order.retain(|((of, _), ..)| *of != topic);
    }

    pub(super) fn to_rows(&self) -> Vec<proto::ReturnedLease> {
        let row = |lease: &LeaseOf| {
            let (((topic, partition), offset, attempt), at_ms) = (*lease, self.known.get(lease).copied().unwrap_or_default());
            proto::ReturnedLease { topic: topic.0, partition: partition.0, offset, attempt, at_ms }
        };
        self.order.iter().map(row).collect()
    }

    pub(super) fn from_rows(rows: Vec<proto::ReturnedLease>) -> Self {
        let mut returned = Self::default();
        for row in rows {
            returned.insert(((TopicId(row.topic), PartitionIndex(row.partition)), row.offset, row.attempt), row.at_ms);
        }
        returned
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: PartitionKey = (TopicId(1), PartitionIndex(2));

    #[test]
    fn a_lease_that_was_given_back_is_remembered_for_a_minute_and_among_a_thousand_others() {
        let mut returned = Returned::default();
        returned.add(KEY, 7, 1, 1_000);
        assert!(returned.knows(KEY, 7, 1, 60_999) && !returned.knows(KEY, 7, 1, 61_000));
        assert!(!returned.knows(KEY, 7, 2, 1_000) && !returned.knows(KEY, 8, 1, 1_000));
        for offset in 0..2_000 {
            returned.add(KEY, offset, 3, 2_000);
        }
        assert_eq!((returned.order.len(), returned.known.len()), (KEPT, KEPT));
        assert!(returned.knows(KEY, 1_999, 3, 2_000) && !returned.knows(KEY, 0, 3, 2_000));
        returned.add(KEY, 7, 9, 62_000);
        assert_eq!(returned.to_rows().len(), 1, "what is over goes when others come");
    }

    #[test]
    fn what_is_stored_is_remembered_in_its_order() {
        let mut returned = Returned::default();
        for (offset, at_ms) in [(9, 5), (3, 6), (4, 6)] {
            returned.add(KEY, offset, 1, at_ms);
        }
        returned.add((TopicId(8), PartitionIndex(0)), 1, 1, 7);
        returned.detach(TopicId(8));
        let again = Returned::from_rows(returned.to_rows());
        assert_eq!(again.to_rows(), returned.to_rows());
        assert_eq!(again.to_rows().iter().map(|row| row.offset).collect::<Vec<_>>(), [9, 3, 4]);
    }
}
