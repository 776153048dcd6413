//! Partitions that are put aside as their objects are damaged: they are tried again later and later, and keep nobody from the
//! others. All compactors are told by a claim that nobody works on.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use lakefall_queue::ledger::{ClaimWork, Command, Work};
use lakefall_queue::{PartitionIndex, TopicId};

use super::Compactor;
use crate::metrics as names;

/// The worker in whose name a partition is put aside.
pub const ASIDE: u128 = u128::from_be_bytes(*b"lakefall: aside!");

/// For how long: at first and at most, doubling in between.
const TIMES: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(3_600));

/// How often each was put aside, by this compactor.
#[derive(Default)]
pub(super) struct Aside(Mutex<BTreeMap<(TopicId, PartitionIndex), u32>>);

impl Aside {
    /// Counts once more; answers for how long.
    fn again(&self, of: (TopicId, PartitionIndex)) -> Duration {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(of).or_default();
        let time = TIMES.0.saturating_mul(1 << (*count).min(20)).min(TIMES.1);
        *count += 1;
        metrics::gauge!(names::ASIDE).set(counts.len() as f64);
        time
    }

    /// All is well with it.
    pub(super) fn well(&self, of: (TopicId, PartitionIndex)) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if counts.remove(&of).is_some() {
            metrics::gauge!(names::ASIDE).set(counts.len() as f64);
        }
    }
}

impl Compactor {
    /// Leaves a partition alone for a while.
    pub(super) async fn put_aside(&self, topic: TopicId, partition: PartitionIndex, reason: &super::CompactError) {
        let lease = self.aside.again((topic, partition));
        tracing::error!(%topic, partition = partition.0, error = %reason, seconds = lease.as_secs(), "a partition cannot be compacted and is put aside: its records stay as they are");
        let works = vec![Work::Partition(topic, partition)];
        // Should it fail, the next try comes earlier, that is all.
        let _ = self.metadata.execute(topic.shard(), Command::Unclaim { worker: self.worker, works: works.clone() }).await;
        let _ = self.metadata.execute(topic.shard(), Command::Claim(ClaimWork { worker: ASIDE, lease, works })).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_is_put_aside_for_longer_each_time_until_it_is_well() {
        let (aside, of) = (Aside::default(), (TopicId(1), PartitionIndex(0)));
        let times: Vec<u64> = (0..8).map(|_| aside.again(of).as_secs()).collect();
        assert_eq!(times, [60, 120, 240, 480, 960, 1_920, 3_600, 3_600]);
        aside.well(of);
        assert_eq!(aside.again(of).as_secs(), 60);
    }
}
