//! One shard's life: when it is ordered to, takes the shard, loads it, lets an owner serve it, and starts over when the owner
//! became unsure. One path for the first start, for retry and for recovery.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use lakefall_queue::ShardId;
use lakefall_queue::clock::Ambient;
use lakefall_queue::ledger::{JournalEntry, Ledger};
use lakefall_service::blocking;
use tokio::sync::mpsc;

use crate::checkpoints::{Checkpoints, Uncheckpointed};
use crate::metrics as names;
use crate::news::NewsDesk;
use crate::node::NodeConfig;
use crate::owner::{Owner, Stopped};
use crate::slots::{Slots, Tenancy};
use crate::store::{Lease, Loaded, MetadataStore, StoreError, WriterToken};
use crate::tenure::Tenure;

const RETRY_PAUSE: Duration = Duration::from_millis(250);
/// What is quicker to replay than to hand to another thread.
const SMALL_LOAD: usize = 2_000;
/// Requests that wait when a shard is handed over are answered for so long, or a quarter of the lease; the rest is handed back.
const DRAIN: Duration = Duration::from_secs(1);
/// How long giving back may take; past it, the lease ends by itself.
const RELEASE: Duration = Duration::from_secs(5);

/// Serves one shard whenever it is ordered to.
pub(crate) struct Supervisor {
    pub(crate) shard: ShardId,
    pub(crate) store: Arc<dyn MetadataStore>,
    pub(crate) ambient: Ambient,
    pub(crate) config: NodeConfig,
    pub(crate) news: NewsDesk,
    pub(crate) slots: Slots,
}

impl Supervisor {
    /// Runs until nobody can order any more. An error means that a person must act.
    pub(crate) async fn run(self, mut orders: mpsc::Receiver<Tenancy>) -> Result<(), StoreError> {
        while let Some(mut tenancy) = orders.recv().await {
            let ended = self.reside(&mut tenancy).await;
            // After this nobody can put a request into the queue, and none is left in it.
            self.slots.leaving(self.shard);
            tenancy.requests.close();
            while let Some(request) = tenancy.requests.recv().await {
                request.hand_back();
            }
            self.slots.away(self.shard);
            self.slots.wake();
            ended?;
        }
        Ok(())
    }

    /// One tenancy: reigns, until one ends in order, or the shard is another's.
    async fn reside(&self, tenancy: &mut Tenancy) -> Result<(), StoreError> {
        let leased = self.store.lease_time().is_some();
        let mut wished = self.ambient.clock.elapsed();
        while !tenancy.farewell.go.is_cancelled() {
            let error = match self.reign(tenancy, wished).await {
                Ok(Stopped::Asked) => return Ok(()),
                Ok(Stopped::Unsure(error)) => {
                    // R13: an owner that is unsure is dead; its state is dropped here and loaded anew.
                    ::metrics::counter!(names::STEP_DOWNS).increment(1);
                    tracing::error!(shard = self.shard.0, %error, "the owner is unsure of the shard: it steps down");
                    error
                }
                Err(error @ (StoreError::Corrupt(_) | StoreError::Misconfigured(_))) => return Err(error),
                Err(error) => {
                    tracing::warn!(shard = self.shard.0, %error, "the shard cannot be taken yet");
                    error
                }
            };
            wished = self.ambient.clock.elapsed();
            // Whose it is now is for the next roll to say.
            if leased && matches!(error, StoreError::Fenced | StoreError::Held) {
                return Ok(());
            }
            tokio::select! {
                () = tokio::time::sleep(RETRY_PAUSE) => {}
                () = tenancy.farewell.go.cancelled() => {}
            }
            // Where the store only refused something, the shard is still this replica's, and nobody else would do better.
            if leased && !matches!(error, StoreError::NotApplied(_)) {
                return Ok(());
            }
        }
        Ok(())
    }

    /// One reign, to its end. An error: it did not come to serve.
    async fn reign(&self, tenancy: &mut Tenancy, wished: Duration) -> Result<Stopped, StoreError> {
        let (lease, tenure) = self.take().await?;
        self.slots.taken(self.shard, lease, Arc::clone(&tenure));
        let go = tenancy.farewell.go.clone();
        let mut owner = tokio::select! {
            biased;
            owner = self.load(lease, Arc::clone(&tenure)) => owner?,
            () = tenure.over() => return Err(StoreError::Held),
            () = go.cancelled() => {
                self.release(&lease).await;
                return Ok(Stopped::Asked);
            }
        };
        if let Err(error) = owner.begin().await {
            return Ok(Stopped::Unsure(error));
        }
        self.serving(true);
        self.metered(wished, names::TAKEOVER_SECONDS);
        let stopped = owner.serve(&mut tenancy.requests, &tenancy.farewell, || self.slots.prepared(self.shard)).await;
        let stopped = match stopped {
            Stopped::Asked => self.hand_over(&mut owner, tenancy).await,
            unsure @ Stopped::Unsure(_) => unsure,
        };
        self.serving(false);
        self.news.end(self.shard);
        Ok(stopped)
    }

    async fn take(&self) -> Result<(Lease, Arc<Tenure>), StoreError> {
        let asked = self.ambient.clock.elapsed();
        let took = self.store.take(self.shard);
        let lease = match self.store.lease_time() {
            None => took.await?,
            Some(lease) => tokio::time::timeout(lease, took)
                .await
                .map_err(|_| StoreError::Unknown("the metadata store did not answer in time".to_owned()))??,
        };
        Ok((lease, Arc::new(Tenure::new(Arc::clone(&self.ambient.clock), asked, lease.renew_within))))
    }

    async fn load(&self, lease: Lease, tenure: Arc<Tenure>) -> Result<Owner, StoreError> {
        let loaded = self.store.load(&lease).await?;
        let behind = Uncheckpointed { entries: loaded.entries.len() as u64, bytes: loaded.entries.iter().map(|e| e.len() as u64).sum() };
        let (shard, shards) = (self.shard, self.config.shards);
        let ledger = if loaded.rows.len() + loaded.entries.len() <= SMALL_LOAD {
            recover(shard, shards, &lease, loaded)?
        } else {
            // Seconds of work must not stand in the way of renewals.
            blocking::run(move || recover(shard, shards, &lease, loaded))
                .await
                .unwrap_or_else(|panic| Err(StoreError::Corrupt(format!("the shard's state cannot be built: {panic}"))))?
        };
        Ok(Owner {
            store: Arc::clone(&self.store),
            lease,
            tenure,
            token: WriterToken(self.ambient.entropy.draw()),
            ledger,
            ambient: self.ambient.clone(),
            config: self.config.clone(),
            news: self.news.clone(),
            checkpoints: Checkpoints::new(behind),
        })
    }

    /// Stops taking requests, answers those that wait, gives the shard back.
    async fn hand_over(&self, owner: &mut Owner, tenancy: &mut Tenancy) -> Stopped {
        let began = self.ambient.clock.elapsed();
        self.slots.leaving(self.shard);
        tenancy.requests.close();
        let lease = self.store.lease_time();
        let drained = owner.drain(&mut tenancy.requests, lease.map(|lease| DRAIN.min(lease / 4))).await;
        // With leases another waits for the shard, and the checkpoint was written before; a short journal is soon replayed.
        if lease.is_none() && drained.is_ok() {
            owner.finish().await;
        }
        if !matches!(drained, Err(StoreError::Fenced)) {
            self.release(&owner.lease).await;
        }
        self.metered(began, names::HANDOVER_SECONDS);
        drained.map_or_else(Stopped::Unsure, |()| Stopped::Asked)
    }

    fn serving(&self, serving: bool) {
        self.slots.serving(self.shard, serving);
        ::metrics::gauge!(names::SHARDS_HELD).set(self.slots.served() as f64);
    }

    async fn release(&self, lease: &Lease) {
        let late = |_| StoreError::Unknown("the metadata store did not answer in time".to_owned());
        if let Err(error) = tokio::time::timeout(RELEASE, self.store.release(lease)).await.map_err(late).flatten() {
            tracing::warn!(shard = self.shard.0, %error, "the shard could not be given back; the next owner waits for its lease to end");
        }
    }

    fn metered(&self, since: Duration, name: &'static str) {
        ::metrics::histogram!(name).record(self.ambient.clock.elapsed().saturating_sub(since).as_secs_f64());
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
