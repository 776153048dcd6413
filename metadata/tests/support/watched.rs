//! A store that a test looks over: it counts what is asked, remembers what was journaled, and holds back appends,
//! checkpoints and reads of extents until told to let them go.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use lakefall_metadata::store::ExtentScan;
use lakefall_metadata::{Identity, Lease, Loaded, MetadataStore, Roll, StoreError, WriterToken};
use lakefall_queue::id::JournalSeq;
use lakefall_queue::ledger::{Checkpoint, Extent};
use lakefall_queue::{Offset, PartitionIndex, ShardId, Timestamp, TopicId};
use tokio::sync::watch;

/// A door that is open unless a test closes it, and that counts who came to it.
pub(crate) struct Door {
    open: watch::Sender<bool>,
    arrived: watch::Sender<u64>,
}

impl Door {
    fn new() -> Self {
        Self { open: watch::channel(true).0, arrived: watch::channel(0).0 }
    }

    pub(crate) fn close(&self) {
        self.open.send_replace(false);
    }

    pub(crate) fn open(&self) {
        self.open.send_replace(true);
    }

    /// How many came.
    pub(crate) fn count(&self) -> u64 {
        *self.arrived.borrow()
    }

    /// Returns when so many came.
    pub(crate) async fn reached(&self, count: u64) {
        self.arrived.subscribe().wait_for(|arrived| *arrived >= count).await.unwrap();
    }

    async fn pass(&self) {
        self.arrived.send_modify(|arrived| *arrived += 1);
        self.open.subscribe().wait_for(|open| *open).await.unwrap();
    }
}

pub(crate) struct Watched {
    inner: Arc<dyn MetadataStore>,
    pub(crate) appends: Door,
    pub(crate) checkpoints: Door,
    /// Reads of stored extents.
    pub(crate) scans: Door,
    /// Entries by sequence, whether a checkpoint dropped them or not.
    journal: Mutex<std::collections::BTreeMap<u64, Bytes>>,
    calls: AtomicU64,
}

impl Watched {
    pub(crate) fn new(inner: Arc<dyn MetadataStore>) -> Arc<Self> {
        Arc::new(Self {
            inner,
            appends: Door::new(),
            checkpoints: Door::new(),
            scans: Door::new(),
            journal: Mutex::default(),
            calls: AtomicU64::new(0),
        })
    }

    /// Everything that was ever journaled.
    pub(crate) fn history(&self) -> Vec<Bytes> {
        self.journal.lock().unwrap().values().cloned().collect()
    }

    /// All calls so far.
    pub(crate) fn calls(&self) -> u64 {
        self.calls.load(Ordering::SeqCst)
    }

    fn called(&self) {
        self.calls.fetch_add(1, Ordering::SeqCst);
    }
}

#[async_trait]
impl MetadataStore for Watched {
    async fn initialize(&self, shards: u32) -> Result<(), StoreError> {
        self.called();
        self.inner.initialize(shards).await
    }

    async fn take(&self, shard: ShardId) -> Result<Lease, StoreError> {
        self.called();
        self.inner.take(shard).await
    }

    fn lease_time(&self) -> Option<Duration> {
        self.inner.lease_time()
    }

    async fn renew(&self, leases: &[Lease]) -> Result<Roll, StoreError> {
        self.called();
        self.inner.renew(leases).await
    }

    async fn leave(&self) -> Result<(), StoreError> {
        self.called();
        self.inner.leave().await
    }

    async fn identity(&self) -> Result<Identity, StoreError> {
        self.inner.identity().await
    }

    async fn release(&self, lease: &Lease) -> Result<(), StoreError> {
        self.called();
        self.inner.release(lease).await
    }

    async fn load(&self, lease: &Lease) -> Result<Loaded, StoreError> {
        self.called();
        self.inner.load(lease).await
    }

    async fn append(&self, lease: &Lease, seq: JournalSeq, token: WriterToken, payload: Bytes) -> Result<(), StoreError> {
        self.called();
        self.appends.pass().await;
        self.inner.append(lease, seq, token, payload.clone()).await?;
        self.journal.lock().unwrap().insert(seq.0, payload);
        Ok(())
    }

    async fn checkpoint(&self, lease: &Lease, checkpoint: &Checkpoint) -> Result<(), StoreError> {
        self.called();
        self.checkpoints.pass().await;
        self.inner.checkpoint(lease, checkpoint).await
    }

    async fn scan_extents(&self, shard: ShardId, scan: ExtentScan) -> Result<Vec<Extent>, StoreError> {
        self.called();
        self.scans.pass().await;
        self.inner.scan_extents(shard, scan).await
    }

    async fn find_extent(
        &self,
        shard: ShardId,
        topic: TopicId,
        partition: PartitionIndex,
        from: Offset,
        at: Timestamp,
    ) -> Result<Option<Extent>, StoreError> {
        self.called();
        self.scans.pass().await;
        self.inner.find_extent(shard, topic, partition, from, at).await
    }
}
