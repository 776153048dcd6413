//! What compactors may work on.

use std::ops::Bound;

use super::{Compactable, CompactablePartition, SMALL_FILES};
use crate::ledger::{Ledger, PartitionKey};

impl Ledger {
    pub(crate) fn compactable_after(&self, limit: usize, after: Option<&PartitionKey>) -> Compactable {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let mut found = Compactable {
            claims: self.claims.lasting(self.queues.clock.max(self.time)).collect(),
            now: self.queues.clock.max(self.time),
            ..Compactable::default()
        };
        for key in self.compactable.range::<PartitionKey, _>((from, Bound::Unbounded)) {
            if found.partitions.len() == limit {
                found.more = true;
                break;
            }
            found.partitions.extend(self.compactable_partition(*key));
        }
        found
    }

    fn compactable_partition(&self, (topic, index): PartitionKey) -> Option<CompactablePartition> {
        let partition = self.partitions.get(&(topic, index))?;
        let state = partition.compaction.as_deref()?;
        let enabled = self.topics.get(&topic)?.config.parquet.enabled;
        let (rolled, merged) = (state.rolled.max(partition.retired), state.merged.max(partition.retired));
        let work = merged < partition.next || (enabled && (rolled < partition.next || state.small >= SMALL_FILES));
        work.then(|| CompactablePartition {
            topic,
            partition: index,
            generation: state.generation,
            retired: partition.retired,
            log_start: partition.log_start,
            settled: state.settled.max(partition.retired),
            rolled,
            merged,
            end: partition.next,
            unmerged_bytes: state.unmerged_bytes,
            unmerged_extents: state.unmerged_extents,
            unrolled_bytes: state.unrolled_bytes,
            unrolled_since: state.unrolled_since,
            small: state.small,
        })
    }

    /// Whether compactors may find something in the partition, as it is now.
    pub(crate) fn note_compactable(&mut self, key: PartitionKey) {
        let partition = self.partitions.get(&key).filter(|partition| !partition.deleted);
        let work = partition.is_some_and(|partition| {
            partition.compaction.as_deref().is_some_and(|state| state.rolled < partition.next || state.small >= SMALL_FILES)
        });
        if work {
            self.compactable.insert(key);
        } else {
            self.compactable.remove(&key);
        }
    }
}
