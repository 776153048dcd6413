//! Takes a shard, loads it, lets an owner serve it, and starts over when the owner became unsure. One path for the first
//! start, for retry and for recovery.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use lakefall_queue::ShardId;
use lakefall_queue::clock::Ambient;
use lakefall_queue::ledger::{JournalEntry, Ledger};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::metrics as names;
use crate::node::{NodeConfig, NoticeSender, Serving};
use crate::owner::{Owner, Request, Stopped, Uncheckpointed};
use crate::store::{Lease, Loaded, MetadataStore, StoreError, WriterToken};

const RETRY_PAUSE: Duration = Duration::from_millis(250);

/// One shard's life.
pub(crate) struct Supervisor {
    pub(crate) shard: ShardId,
    pub(crate) store: Arc<dyn MetadataStore>,
    pub(crate) ambient: Ambient,
    pub(crate) config: NodeConfig,
    pub(crate) notices: NoticeSender,
    pub(crate) requests: mpsc::Receiver<Request>,
    pub(crate) serving: Serving,
}

impl Supervisor {
    /// Runs until stopped. An error means that a person must act.
    pub(crate) async fn run(mut self, stop: CancellationToken) -> Result<(), StoreError> {
        while !stop.is_cancelled() {
            let mut owner = match self.take().await {
                Ok(owner) => owner,
                Err(error @ (StoreError::Corrupt(_) | StoreError::Misconfigured(_))) => return Err(error),
                Err(error) => {
                    tracing::warn!(shard = self.shard.0, %error, "the shard cannot be taken yet");
                    tokio::time::sleep(RETRY_PAUSE).await;
                    continue;
                }
            };
            self.serving.set(self.shard, true);
            let stopped = owner.serve(&mut self.requests, &stop).await;
            match stopped {
                Stopped::Asked => {
                    owner.finish().await;
                    self.serving.set(self.shard, false);
                    return Ok(());
                }
                // R13: an owner that is unsure is dead; its state is dropped here and loaded anew.
                Stopped::Unsure(error) => {
                    self.serving.set(self.shard, false);
                    ::metrics::counter!(names::STEP_DOWNS).increment(1);
                    tracing::error!(shard = self.shard.0, %error, "the owner is unsure of the shard: loading it again");
                    tokio::time::sleep(RETRY_PAUSE).await;
                }
            }
        }
        Ok(())
    }

    async fn take(&self) -> Result<Owner, StoreError> {
        let lease = self.store.take(self.shard).await?;
        let loaded = self.store.load(&lease).await?;
        let uncheckpointed =
            Uncheckpointed { entries: loaded.entries.len() as u64, bytes: loaded.entries.iter().map(|e| e.len() as u64).sum() };
        let ledger = recover(self.shard, self.config.shards, &lease, loaded)?;
        Ok(Owner {
            store: Arc::clone(&self.store),
            lease,
            token: WriterToken(self.ambient.entropy.draw()),
            ledger,
            ambient: self.ambient.clone(),
            config: self.config.clone(),
            notices: self.notices.clone(),
            uncheckpointed,
        })
    }
}

/// Builds the ledger from what is stored.
fn recover(shard: ShardId, shards: u32, lease: &Lease, loaded: Loaded) -> Result<Ledger, StoreError> {
    let ledger = rebuild(shard, shards, loaded)?;
    if ledger.epoch() > lease.epoch {
        return Err(StoreError::Corrupt(format!(
            "the journal of shard {shard} is at epoch {}, ahead of the store's {}",
            ledger.epoch(),
            lease.epoch
        )));
    }
    Ok(ledger)
}

/// The ledger that a checkpoint and the journal after it make.
pub fn rebuild(shard: ShardId, shards: u32, loaded: Loaded) -> Result<Ledger, StoreError> {
    let corrupt = |e: lakefall_queue::ledger::EntryError| StoreError::Corrupt(e.to_string());
    let mut ledger = match &loaded.shard {
        Some(row) => Ledger::restore(shard, row, loaded.rows).map_err(corrupt)?,
        None => Ledger::new(shard, shards),
    };
    for payload in &loaded.entries {
        replay(&mut ledger, payload).map_err(corrupt)?;
    }
    Ok(ledger)
}

fn replay(ledger: &mut Ledger, payload: &Bytes) -> Result<(), lakefall_queue::ledger::EntryError> {
    ledger.replay(&JournalEntry::decode(payload)?)
}
