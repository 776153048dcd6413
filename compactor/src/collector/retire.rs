//! Lets go of extents wholly below their partition's log start, and so of the objects that only they kept.

use lakefall_queue::ShardId;
use lakefall_queue::ledger::{Answer, Command, Query, ReclaimablePartition, Refusal, RetiredExtent};

use super::{CollectError, Collector, unexpected};
use crate::metrics as names;

/// Partitions asked for at once.
const PARTITIONS: usize = 1_000;
/// Extents in one command: bounds the journal entry.
const EXTENTS: usize = 1_000;

impl Collector {
    /// Retires what is below the log starts of a shard. Answers how many extents.
    pub async fn retire(&self, shard: ShardId) -> Result<u64, CollectError> {
        let mut retired = 0;
        let mut after = None;
        loop {
            let (now, grace) = (self.ambient.now(), self.config.grace);
            let query = Query::Reclaimable { limit: PARTITIONS, after, after_object: None, now, grace };
            let found = match self.ask(shard, query).await? {
                Answer::Reclaimable(found) => found.partitions,
                other => return Err(unexpected(&other)),
            };
            for partition in &found {
                retired += self.retire_partition(shard, partition).await?;
            }
            let Some(last) = found.last() else { return Ok(retired) };
            after = Some((last.topic, last.partition));
        }
    }

    async fn retire_partition(&self, shard: ShardId, found: &ReclaimablePartition) -> Result<u64, CollectError> {
        let ReclaimablePartition { topic, partition, log_start, generation, .. } = *found;
        let mut retired = 0;
        loop {
            // The log start may cut through the last one of them, which stays.
            let Some(oldest) = self.oldest(shard, topic, partition, EXTENTS).await? else { return Ok(retired) };
            let extents: Vec<RetiredExtent> = oldest.iter().take_while(|e| e.end() <= log_start).map(RetiredExtent::from).collect();
            if extents.is_empty() {
                return Ok(retired);
            }
            let (count, all) = (extents.len() as u64, extents.len() == oldest.len());
            let retire = Command::Retire { topic, partition, extents, generation };
            match self.metadata.execute(shard, retire).await {
                // A compactor put others in their place since: they go with the next round.
                Err(error) if error == Refusal::ExtentsChanged.into_error() => return Ok(retired),
                answered => answered?,
            };
            ::metrics::counter!(names::RETIRED_EXTENTS).increment(count);
            retired += count;
            if !all {
                return Ok(retired);
            }
        }
    }
}
