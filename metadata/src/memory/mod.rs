//! A store in memory, for simulation and tests. With the feature `testing` it can fail on demand, also after it did what
//! it was asked ([`Faults`]). Handles to it act for replicas ([`MemoryStore::replica`]) or for one process that owns all.

mod faults;
mod state;
mod tables;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use lakefall_queue::clock::Clock;
use lakefall_queue::id::JournalSeq;
use lakefall_queue::ledger::journal::Placed;
use lakefall_queue::ledger::{Checkpoint, Extent};
use lakefall_queue::{Offset, PartitionIndex, ShardId, Timestamp, TopicId};

pub use faults::{Fault, Faults};
use state::State;

use crate::store::{ExtentScan, Identity, Lease, Loaded, MetadataStore, Replica, Roll, StoreError, WriterToken};

/// A metadata store that is gone with the process.
#[derive(Default)]
pub struct MemoryStore {
    shared: Arc<Shared>,
    /// For whom this handle acts; `None`: for a process that owns every shard without a lease, and takes it from anybody.
    acting: Option<Acting>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    faults: Faults,
}

/// A replica, as its handle knows it.
struct Acting {
    replica: Replica,
    lease: Duration,
    /// The store's clock: every replica is given the same.
    clock: Arc<dyn Clock>,
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    /// A handle to the same store that acts for a replica whose leases last `lease` by the store's `clock`, which is to be
    /// the same for all replicas.
    pub fn replica(&self, replica: Replica, lease: Duration, clock: Arc<dyn Clock>) -> Self {
        Self { shared: Arc::clone(&self.shared), acting: Some(Acting { replica, lease, clock }) }
    }

    /// The faults to come, whichever handle is used.
    pub fn faults(&self) -> &Faults {
        &self.shared.faults
    }

    /// Entries in a shard's journal.
    pub fn journal_len(&self, shard: ShardId) -> usize {
        self.lock().journal_len(shard)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        let mut state = self.shared.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.come_due();
        state
    }
}

#[async_trait]
impl MetadataStore for MemoryStore {
    async fn initialize(&self, shards: u32) -> Result<(), StoreError> {
        let known = self.lock().created_with(shards);
        if known == shards {
            return Ok(());
        }
        Err(StoreError::Misconfigured(format!("metadata.shards is {shards}, but this store was created with {known}: set it to {known}")))
    }

    fn lease_time(&self) -> Option<Duration> {
        self.acting.as_ref().map(|acting| acting.lease)
    }

    async fn take(&self, shard: ShardId) -> Result<Lease, StoreError> {
        let mut state = self.lock();
        match &self.acting {
            None => Ok(Lease { shard, epoch: state.seize(shard), renew_within: None }),
            Some(acting) => {
                let now = acting.clock.now();
                let epoch = state.take(shard, &acting.replica, now, now.plus(acting.lease)).ok_or(StoreError::Held)?;
                Ok(Lease { shard, epoch, renew_within: Some(acting.lease) })
            }
        }
    }

    async fn renew(&self, leases: &[Lease]) -> Result<Roll, StoreError> {
        let Some(acting) = &self.acting else {
            return Err(StoreError::NotApplied("this handle acts for no replica".to_owned()));
        };
        let now = acting.clock.now();
        Ok(self.lock().renew(&acting.replica, leases, now, now.plus(acting.lease)))
    }

    async fn release(&self, lease: &Lease) -> Result<(), StoreError> {
        self.lock().release(lease)
    }

    async fn leave(&self) -> Result<(), StoreError> {
        if let Some(acting) = &self.acting {
            self.lock().leave(acting.replica.id);
        }
        Ok(())
    }

    async fn identity(&self) -> Result<Identity, StoreError> {
        Ok(Identity { cluster: "memory".to_owned(), incarnation: String::new() })
    }

    async fn load(&self, lease: &Lease) -> Result<Loaded, StoreError> {
        self.lock().load(lease)
    }

    async fn append(&self, lease: &Lease, seq: JournalSeq, token: WriterToken, payload: Bytes) -> Result<(), StoreError> {
        let fault = self.shared.faults.next_append();
        if let Some(Fault::Refuse) = fault {
            return Err(StoreError::NotApplied("injected: refused before it was applied".to_owned()));
        }
        if let Some(Fault::LoseRequest) = fault {
            return Err(StoreError::Unknown("injected: lost before it was applied".to_owned()));
        }
        if let Some(Fault::Delay(requests)) = fault {
            self.lock().append_after(requests, *lease, seq, token, payload);
            return Err(StoreError::Unknown("injected: not applied yet".to_owned()));
        }
        let placed = self.lock().append(lease, seq, token, payload)?;
        if let Some(Fault::LoseReply) = fault {
            return Err(StoreError::Unknown("injected: applied, and the reply lost".to_owned()));
        }
        if placed == Placed::Taken { Err(StoreError::Fenced) } else { Ok(()) }
    }

    async fn checkpoint(&self, lease: &Lease, checkpoint: &Checkpoint) -> Result<(), StoreError> {
        if self.shared.faults.next_checkpoint() {
            return Err(StoreError::Unknown("injected: checkpoint failed".to_owned()));
        }
        self.lock().checkpoint(lease, checkpoint)
    }

    async fn scan_extents(&self, shard: ShardId, scan: ExtentScan) -> Result<Vec<Extent>, StoreError> {
        Ok(self.lock().tables(shard).map_or_else(Vec::new, |tables| tables.scan(&scan)))
    }

    async fn find_extent(
        &self,
        shard: ShardId,
        topic: TopicId,
        partition: PartitionIndex,
        from: Offset,
        at: Timestamp,
    ) -> Result<Option<Extent>, StoreError> {
        Ok(self.lock().tables(shard).and_then(|tables| tables.find(topic, partition, from, at)))
    }
}
