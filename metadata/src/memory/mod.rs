//! A store in memory, for simulation and tests. With the feature `testing` it can fail on demand, also after it did what
//! it was asked ([`Faults`]).

mod faults;
mod tables;

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use lakefall_queue::id::{Epoch, JournalSeq};
use lakefall_queue::ledger::{Checkpoint, Extent};
use lakefall_queue::{Offset, PartitionIndex, ShardId, Timestamp, TopicId};

pub use faults::{Fault, Faults};
use tables::Tables;

use crate::store::{ExtentScan, Lease, Loaded, MetadataStore, StoreError, WriterToken};

/// A metadata store that is gone with the process.
#[derive(Default)]
pub struct MemoryStore {
    state: Mutex<State>,
    faults: Faults,
}

#[derive(Default)]
struct State {
    shards: Option<u32>,
    by_shard: BTreeMap<ShardId, Shard>,
}

#[derive(Default)]
struct Shard {
    epoch: u64,
    journal: BTreeMap<u64, (WriterToken, Bytes)>,
    tables: Tables,
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    /// The faults to come.
    pub fn faults(&self) -> &Faults {
        &self.faults
    }

    /// Entries in a shard's journal.
    pub fn journal_len(&self, shard: ShardId) -> usize {
        self.lock().by_shard.get(&shard).map_or(0, |s| s.journal.len())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn owned(&mut self, lease: &Lease) -> Result<&mut Shard, StoreError> {
        let shard = self.by_shard.entry(lease.shard).or_default();
        if shard.epoch == lease.epoch.0 { Ok(shard) } else { Err(StoreError::Fenced) }
    }
}

#[async_trait]
impl MetadataStore for MemoryStore {
    async fn initialize(&self, shards: u32) -> Result<(), StoreError> {
        let known = *self.lock().shards.get_or_insert(shards);
        if known == shards {
            return Ok(());
        }
        Err(StoreError::Misconfigured(format!("metadata.shards is {shards}, but this store was created with {known}: set it to {known}")))
    }

    async fn take(&self, shard: ShardId) -> Result<Lease, StoreError> {
        let mut state = self.lock();
        let entry = state.by_shard.entry(shard).or_default();
        entry.epoch += 1;
        Ok(Lease { shard, epoch: Epoch(entry.epoch), renew_within: None })
    }

    async fn renew(&self, lease: &Lease) -> Result<(), StoreError> {
        self.lock().owned(lease).map(|_| ())
    }

    async fn release(&self, lease: &Lease) -> Result<(), StoreError> {
        self.lock().owned(lease).map(|_| ())
    }

    async fn load(&self, lease: &Lease) -> Result<Loaded, StoreError> {
        let mut state = self.lock();
        let shard = state.owned(lease)?;
        let row = shard.tables.shard;
        let after = row.as_ref().map_or(0, |row| row.seq);
        let entries = shard.journal.range(after + 1..).map(|(_, (_, payload))| payload.clone()).collect();
        Ok(Loaded { shard: row, rows: shard.tables.rows(), entries })
    }

    async fn append(&self, lease: &Lease, seq: JournalSeq, token: WriterToken, payload: Bytes) -> Result<(), StoreError> {
        let fault = self.faults.next_append();
        if let Some(Fault::Refuse) = fault {
            return Err(StoreError::NotApplied("injected: refused before it was applied".to_owned()));
        }
        let mut state = self.lock();
        if let Some(Fault::LoseRequest) = fault {
            return Err(StoreError::Unknown("injected: lost before it was applied".to_owned()));
        }
        // What stands is told even after the reign: that is how an ambiguous append is settled.
        let standing = state.by_shard.get(&lease.shard).and_then(|shard| shard.journal.get(&seq.0)).map(|(writer, _)| *writer);
        let written = match standing {
            Some(writer) => writer,
            None => state.owned(lease)?.journal.entry(seq.0).or_insert((token, payload)).0,
        };
        if let Some(Fault::LoseReply) = fault {
            return Err(StoreError::Unknown("injected: applied, and the reply lost".to_owned()));
        }
        if written == token { Ok(()) } else { Err(StoreError::Fenced) }
    }

    async fn checkpoint(&self, lease: &Lease, checkpoint: &Checkpoint) -> Result<(), StoreError> {
        if self.faults.next_checkpoint() {
            return Err(StoreError::Unknown("injected: checkpoint failed".to_owned()));
        }
        let mut state = self.lock();
        let shard = state.owned(lease)?;
        shard.tables.apply(checkpoint);
        shard.journal = shard.journal.split_off(&(checkpoint.shard.seq + 1));
        Ok(())
    }

    async fn scan_extents(&self, shard: ShardId, scan: ExtentScan) -> Result<Vec<Extent>, StoreError> {
        let state = self.lock();
        Ok(state.by_shard.get(&shard).map_or_else(Vec::new, |s| s.tables.scan(&scan)))
    }

    async fn find_extent(
        &self,
        shard: ShardId,
        topic: TopicId,
        partition: PartitionIndex,
        from: Offset,
        at: Timestamp,
    ) -> Result<Option<Extent>, StoreError> {
        let state = self.lock();
        Ok(state.by_shard.get(&shard).and_then(|s| s.tables.find(topic, partition, from, at)))
    }
}
