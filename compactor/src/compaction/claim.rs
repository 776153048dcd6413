//! Claims: says to the other compactors what this one works on, for as long as it does.

use lakefall_queue::ShardId;
use lakefall_queue::ledger::{ClaimWork, Command, Reply, Work};

use super::{CompactError, Compactor, unexpected};

impl Compactor {
    /// Does `job` while it has `work` to itself; [`CompactError::Changed`] if another compactor has it, or takes it.
    pub(super) async fn claimed<T>(
        &self,
        shard: ShardId,
        work: Work,
        job: impl Future<Output = Result<T, CompactError>>,
    ) -> Result<T, CompactError> {
        if !self.claim(shard, work).await? {
            return Err(CompactError::Changed);
        }
        let done = tokio::select! {
            done = job => done,
            lost = self.keep(shard, work) => Err(lost),
        };
        // Should it fail, it ends by itself.
        let _ = self.metadata.execute(shard, Command::Unclaim { worker: self.worker, works: vec![work] }).await;
        done
    }

    async fn claim(&self, shard: ShardId, work: Work) -> Result<bool, CompactError> {
        let claim = ClaimWork { worker: self.worker, lease: self.config.lease, works: vec![work] };
        match self.metadata.execute(shard, Command::Claim(claim)).await? {
            Reply::Claimed(had) => Ok(had.first().copied().unwrap_or(false)),
            other => Err(unexpected(&other)),
        }
    }

    /// Renews a claim; returns when it is lost. One that could not be renewed may be lost or not: the swap tells.
    async fn keep(&self, shard: ShardId, work: Work) -> CompactError {
        loop {
            tokio::time::sleep(self.config.lease / 3).await;
            match self.claim(shard, work).await {
                Ok(true) => {}
                Ok(false) => return CompactError::Changed,
                Err(error) => tracing::debug!(%error, "a claim could not be renewed"),
            }
        }
    }
}
