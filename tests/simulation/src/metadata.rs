//! The database of a simulation: transactions in memory, which take time, are aborted, and are committed without their sender
//! knowing. What it does to a replica is what Postgres and a network do.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use lakefall_metadata::memory::MemoryStore;
use lakefall_metadata::{ExtentScan, Identity, Lease, Loaded, MetadataStore, Replica, Roll, StoreError, WriterToken};
use lakefall_queue::id::JournalSeq;
use lakefall_queue::ledger::{Checkpoint, Extent};
use lakefall_queue::{Offset, PartitionIndex, ShardId, Timestamp, TopicId};

use crate::fault::Fault;
use crate::time::StoreClock;
use crate::weather::{Gate, Weather};

/// What a statement takes when nothing is wrong, each way.
const LATENCY: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(6));
/// What a transaction takes when the database is slow.
const SLOW: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(4));
/// After this time a replica gives up on a statement.
const TIMEOUT: Duration = Duration::from_secs(5);
/// How long after that it may still be committed.
const LATE: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(10));

const WRITE: &[Fault] = &[Fault::MetaAbort, Fault::MetaLostRequest, Fault::MetaLostReply, Fault::MetaLate, Fault::MetaSlow];
/// A transaction of many statements holds its locks until it ends: nothing of the same shard overtakes it.
const WRITE_LOCKED: &[Fault] = &[Fault::MetaAbort, Fault::MetaLostRequest, Fault::MetaLostReply, Fault::MetaSlow];
const READ: &[Fault] = &[Fault::MetaAbort, Fault::MetaSlow];

/// The database as one replica's process reaches it.
#[derive(Clone)]
pub struct Database {
    store: Arc<MemoryStore>,
    weather: Arc<Weather>,
    host: String,
    gate: Gate,
}

impl Database {
    /// For a replica on `host`, whose requests go through a gate.
    pub fn new(shared: &MemoryStore, replica: Replica, lease: Duration, weather: &Arc<Weather>, host: &str, gate: Gate) -> Self {
        let store = Arc::new(shared.replica(replica, lease, Arc::new(StoreClock)));
        Self { store, weather: Arc::clone(weather), host: host.to_owned(), gate }
    }

    async fn pause(&self) {
        tokio::time::sleep(self.weather.time(LATENCY.0, LATENCY.1)).await;
    }

    /// The way there. The error: it could not even be sent.
    async fn there(&self) -> Result<(), StoreError> {
        if !self.gate.passed(TIMEOUT).await {
            return Err(StoreError::NotApplied("injected: the database cannot be reached".to_owned()));
        }
        self.pause().await;
        Ok(())
    }

    /// The way back. The error: whether it happened is not known.
    async fn back(&self) -> Result<(), StoreError> {
        self.pause().await;
        if self.gate.passed(TIMEOUT).await {
            return Ok(());
        }
        Err(StoreError::Unknown("injected: the database cannot be reached any more".to_owned()))
    }

    /// Runs a transaction; `commit` does it in one step, and can be done later by somebody else.
    async fn write<T, F>(&self, what: &str, faults: &[Fault], commit: impl FnOnce(Arc<MemoryStore>) -> F + Send) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, StoreError>> + Send + 'static,
        T: Send + 'static,
    {
        self.there().await?;
        let transaction = commit(Arc::clone(&self.store));
        match self.weather.strike(&self.host, what, faults) {
            Some(Fault::MetaAbort) => Err(StoreError::NotApplied("injected: the transaction was aborted".to_owned())),
            Some(Fault::MetaLostRequest) => Err(StoreError::Unknown("injected: the connection broke".to_owned())),
            Some(Fault::MetaLostReply) => {
                // Even a refusal is not heard of.
                let _ = transaction.await;
                Err(StoreError::Unknown("injected: the connection broke".to_owned()))
            }
            Some(Fault::MetaLate) => {
                let after = TIMEOUT + self.weather.time(LATE.0, LATE.1);
                tokio::spawn(async move {
                    tokio::time::sleep(after).await;
                    let _ = transaction.await;
                });
                tokio::time::sleep(TIMEOUT).await;
                Err(StoreError::Unknown("injected: the database did not answer in time".to_owned()))
            }
            slow => {
                if slow.is_some() {
                    tokio::time::sleep(self.weather.time(SLOW.0, SLOW.1)).await;
                }
                let done = transaction.await;
                self.back().await?;
                done
            }
        }
    }

    /// Before something is read.
    async fn before_read(&self, what: &str) -> Result<(), StoreError> {
        self.there().await?;
        match self.weather.strike(&self.host, what, READ) {
            Some(Fault::MetaSlow) => {
                tokio::time::sleep(self.weather.time(SLOW.0, SLOW.1)).await;
                Ok(())
            }
            Some(_) => Err(StoreError::NotApplied("injected: the transaction was aborted".to_owned())),
            None => Ok(()),
        }
    }
}

#[async_trait]
impl MetadataStore for Database {
    async fn initialize(&self, shards: u32) -> Result<(), StoreError> {
        self.pause().await;
        self.store.initialize(shards).await
    }

    fn lease_time(&self) -> Option<Duration> {
        self.store.lease_time()
    }

    async fn take(&self, shard: ShardId) -> Result<Lease, StoreError> {
        self.write("take", WRITE, |store| async move { store.take(shard).await }).await
    }

    async fn renew(&self, leases: &[Lease]) -> Result<Roll, StoreError> {
        let leases = leases.to_vec();
        self.write("renew", WRITE, |store| async move { store.renew(&leases).await }).await
    }

    async fn release(&self, lease: &Lease) -> Result<(), StoreError> {
        let lease = *lease;
        self.write("release", WRITE, |store| async move { store.release(&lease).await }).await
    }

    async fn leave(&self) -> Result<(), StoreError> {
        self.write("leave", WRITE, |store| async move { store.leave().await }).await
    }

    async fn identity(&self) -> Result<Identity, StoreError> {
        self.before_read("identity").await?;
        self.store.identity().await
    }

    async fn load(&self, lease: &Lease) -> Result<Loaded, StoreError> {
        self.before_read("load").await?;
        let loaded = self.store.load(lease).await;
        self.back().await?;
        loaded
    }

    async fn append(&self, lease: &Lease, seq: JournalSeq, token: WriterToken, payload: Bytes) -> Result<(), StoreError> {
        let lease = *lease;
        self.weather.appends(&self.host);
        self.write("append", WRITE, |store| async move { store.append(&lease, seq, token, payload).await }).await
    }

    async fn checkpoint(&self, lease: &Lease, checkpoint: &Checkpoint) -> Result<(), StoreError> {
        let (lease, checkpoint) = (*lease, checkpoint.clone());
        self.write("checkpoint", WRITE_LOCKED, |store| async move { store.checkpoint(&lease, &checkpoint).await }).await
    }

    async fn scan_extents(&self, shard: ShardId, scan: ExtentScan) -> Result<Vec<Extent>, StoreError> {
        self.before_read("scan").await?;
        let found = self.store.scan_extents(shard, scan).await;
        self.back().await?;
        found
    }

    async fn find_extent(
        &self,
        shard: ShardId,
        topic: TopicId,
        partition: PartitionIndex,
        from: Offset,
        at: Timestamp,
    ) -> Result<Option<Extent>, StoreError> {
        self.before_read("find").await?;
        let found = self.store.find_extent(shard, topic, partition, from, at).await;
        self.back().await?;
        found
    }
}
