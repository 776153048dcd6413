//! Rounds: over all shards, what is due is done; then it is waited for what comes next.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use lakefall_queue::ledger::{Claim, Compactable, CompactablePartition, SMALL_FILES, Work};
use lakefall_queue::{PartitionIndex, ShardId, Timestamp, TopicId};
use lakefall_storage::meter::within;

use super::plan::{self, Due, Period};
use super::progress::Backlog;
use super::wake::Waker;
use super::{CompactError, Compactor};
use crate::metrics as names;

/// From a job that was in vain to the next try.
const AGAIN: Duration = Duration::from_secs(1);

/// What a round found out about the next one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Round {
    /// When something is due by itself; `None`: only an append brings work.
    pub due: Option<Timestamp>,
    /// Something was done, and there may be more.
    pub did: bool,
    /// A store or the metadata service failed.
    pub failed: bool,
}

/// Partitions whose files were looked at in vain, so that it is not done again before something changes.
#[derive(Default)]
pub(super) struct Looked(Mutex<BTreeMap<(TopicId, PartitionIndex), (u64, i64)>>);

impl Looked {
    /// Partitions remembered, at some 60 bytes each.
    const MOST: usize = 100_000;

    fn may_find(&self, partition: &CompactablePartition, period: i64) -> bool {
        let looked = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        looked.get(&(partition.topic, partition.partition)) != Some(&(partition.generation, period))
    }

    fn found_nothing(&self, partition: &CompactablePartition, period: i64) {
        let mut looked = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if looked.len() >= Self::MOST {
            looked.clear();
        }
        looked.insert((partition.topic, partition.partition), (partition.generation, period));
    }
}

/// Partitions whose rolling failed the last time, and was not put aside: a store may refuse Parquet files and take segments.
#[derive(Default)]
pub(super) struct Failing(Mutex<BTreeSet<(TopicId, PartitionIndex)>>);

impl Failing {
    pub(super) fn has(&self, partition: &CompactablePartition) -> bool {
        self.known().contains(&(partition.topic, partition.partition))
    }

    fn set(&self, partition: &CompactablePartition, failed: bool) {
        let place = (partition.topic, partition.partition);
        if failed {
            self.known().insert(place);
        } else {
            self.known().remove(&place);
        }
    }

    fn known(&self) -> MutexGuard<'_, BTreeSet<(TopicId, PartitionIndex)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Compactor {
    /// Merges segments, round by round.
    pub(super) async fn keep_merging(&self) {
        let mut waker = Waker::new(self.metadata.subscribe(), self.ambient.clone(), self.config.merge_interval, self.config.merge_bytes);
        loop {
            let round = self.merge_round().await;
            waker.wait(&round).await;
        }
    }

    /// Rolls and tidies partitions, round by round.
    pub(super) async fn keep_rolling(&self) {
        let mut waker = Waker::new(self.metadata.subscribe(), self.ambient.clone(), Duration::from_secs(1), self.config.roll_bytes);
        loop {
            let round = self.roll_round().await;
            waker.wait(&round).await;
        }
    }

    /// Merges what is due in all shards.
    pub async fn merge_round(&self) -> Round {
        let mut round = Round::default();
        for shard in self.shards() {
            let merged = async {
                let found = self.compactable(shard).await?;
                Box::pin(self.merge_shard(shard, &found)).await
            };
            match merged.await {
                Ok((due, did)) => {
                    self.ended("merge", did.then_some("ok"));
                    round.due = earliest(round.due, due);
                    round.did |= did;
                }
                Err(error) => {
                    round.failed |= self.failed("merge", shard, &error);
                    round.due = earliest(round.due, self.again(&error));
                }
            }
        }
        round
    }

    /// Works on the partitions of all shards where something is due, on some at once.
    pub async fn roll_round(&self) -> Round {
        let mut round = Round::default();
        let mut backlog = Backlog::default();
        let mut latest = None;
        for shard in self.shards() {
            match self.compactable(shard).await {
                Ok(found) => {
                    found.partitions.iter().for_each(|partition| backlog.add(partition));
                    latest = latest.max(Some(found.now));
                    Box::pin(self.roll_shard(shard, &found, &mut round)).await;
                }
                Err(error) => round.failed |= self.failed("partition", shard, &error),
            }
        }
        self.progress.waits(&backlog, latest.unwrap_or_default());
        round
    }

    async fn roll_shard(&self, shard: ShardId, found: &Compactable, round: &mut Round) {
        let mut jobs = futures::stream::iter(found.partitions.clone())
            .map(|partition| async move { (partition, self.roll_partition(shard, &partition, found).await) })
            .buffer_unordered(self.config.threads.max(1));
        while let Some((partition, done)) = jobs.next().await {
            self.failing.set(&partition, matches!(done, Err(CompactError::Store(_))));
            match done {
                Ok((due, did)) => {
                    self.ended("partition", did.then_some("ok"));
                    round.due = earliest(round.due, due);
                    round.did |= did;
                    if did {
                        self.aside.well((partition.topic, partition.partition));
                    }
                }
                Err(error @ (CompactError::Damaged { .. } | CompactError::Defect(_))) => {
                    self.failed("partition", shard, &error);
                    self.put_aside(partition.topic, partition.partition, &error).await;
                    // For as long as that is at first; it is looked again then.
                    round.due = earliest(round.due, Some(found.now.plus(Duration::from_secs(60))));
                }
                Err(error) => {
                    round.failed |= self.failed("partition", shard, &error);
                    round.due = earliest(round.due, self.again(&error));
                }
            }
        }
    }

    /// When to look again after a job that was in vain: what another job changed meanwhile still waits, and no append may come to
    /// tell of it.
    fn again(&self, error: &CompactError) -> Option<Timestamp> {
        matches!(error, CompactError::Changed).then(|| self.ambient.now().plus(AGAIN))
    }

    /// Answers when the partition is due by itself, and whether something was done.
    async fn roll_partition(
        &self,
        shard: ShardId,
        partition: &CompactablePartition,
        found: &Compactable,
    ) -> Result<(Option<Timestamp>, bool), CompactError> {
        let work = Work::Partition(partition.topic, partition.partition);
        if let Some(Claim { until, .. }) = found.claims.iter().find(|claim| claim.work == work && claim.worker != self.worker) {
            return Ok((Some(*until), false));
        }
        let topic = self.topic(partition).await?;
        let due = plan::due(partition, &topic.config.parquet, found.now, self.config.roll_bytes);
        let small = topic.config.parquet.enabled && partition.small >= SMALL_FILES;
        // When a period is over its files are looked at once more.
        let period = Period::of(&topic.config.retention);
        let over = small.then(|| period.after(found.now));
        if due != Due::Now && !(small && self.looked.may_find(partition, period.at(found.now))) {
            return Ok((earliest(if let Due::At(at) = due { Some(at) } else { None }, over), false));
        }
        let account = self.usage.of(&topic);
        let did = self.claimed(shard, work, within(account.tally(), self.work_on(partition, &topic, found.now))).await?;
        if did {
            within(account.tally(), self.publish_table(&topic)).await;
        } else {
            self.looked.found_nothing(partition, period.at(found.now));
        }
        Ok((over, did))
    }

    fn ended(&self, kind: &'static str, outcome: Option<&'static str>) {
        if let Some(outcome) = outcome {
            ::metrics::counter!(names::JOBS, "kind" => kind, "outcome" => outcome).increment(1);
        }
    }

    /// Says once what failed. Of what others did meanwhile nothing is to be said. Whether it is to be tried again later.
    fn failed(&self, kind: &'static str, shard: ShardId, error: &CompactError) -> bool {
        self.ended(kind, Some(error.outcome()));
        match error {
            CompactError::Changed | CompactError::Gone => {
                tracing::debug!(kind, shard = shard.0, %error, "a compaction was in vain");
                false
            }
            // Told where the partition is put aside.
            CompactError::Damaged { .. } => false,
            CompactError::Metadata(_) | CompactError::Store(_) | CompactError::Defect(_) => {
                tracing::warn!(kind, shard = shard.0, %error, "a compaction could not be finished: it is tried again later");
                true
            }
        }
    }
}

fn earliest(one: Option<Timestamp>, other: Option<Timestamp>) -> Option<Timestamp> {
    one.into_iter().chain(other).min()
}
