//! Where blocks are kept: the hot tier (memory, and a disk below it while that works) and the cold tier.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use foyer::LruConfig;
use metrics::gauge;

use super::block::{Block, BlockKey};
use super::disk::{Disk, Failed};
use super::{CacheConfig, DiskState, Pool};
use crate::metrics::CACHE_DISK;

type Memory = foyer::Cache<BlockKey, Block>;

/// What tail readers use.
#[derive(Debug)]
pub(super) struct HotTier {
    tier: Mutex<Tier>,
    memory_bytes: usize,
    block_bytes: usize,
    has_disk: bool,
}

#[derive(Clone, Debug)]
enum Tier {
    Memory(Memory),
    Disk(Arc<Disk>),
}

impl HotTier {
    pub(super) async fn open(config: &CacheConfig, block_bytes: usize) -> Self {
        let only_memory = || Tier::Memory(memory(config.memory_bytes, block_bytes));
        let tier = match &config.disk {
            None => only_memory(),
            Some(disk) => match Disk::open(config, block_bytes, disk).await {
                Ok(opened) => Tier::Disk(Arc::new(opened)),
                Err(error) => {
                    tracing::warn!(path = %disk.path.display(), %error, "the cache disk cannot be used: caching in memory only");
                    only_memory()
                }
            },
        };
        let this = Self { tier: Mutex::new(tier), memory_bytes: config.memory_bytes, block_bytes, has_disk: config.disk.is_some() };
        this.disk();
        this
    }

    pub(super) fn in_memory(&self, key: &BlockKey) -> Option<Block> {
        match self.tier() {
            Tier::Memory(memory) => memory.get(key).map(|entry| entry.value().clone()),
            Tier::Disk(disk) => disk.in_memory(key),
        }
    }

    /// An intact block of the disk tier; one that a tail reader asked for moves up into memory.
    pub(super) async fn on_disk(&self, key: &BlockKey, pool: Pool) -> Option<Block> {
        let Tier::Disk(disk) = self.tier() else { return None };
        let passed_by = disk.passed_by();
        let found = disk.get(key, pool).await;
        if disk.passed_by() != passed_by {
            self.disk();
        }
        found.unwrap_or_else(|error| {
            self.give_up_disk(&error);
            None
        })
    }

    pub(super) fn insert(&self, key: BlockKey, bytes: Bytes) {
        let block = Block::new(&key, bytes);
        match self.tier() {
            Tier::Memory(memory) => drop(memory.insert(key, block)),
            Tier::Disk(disk) => {
                if let Err(error) = disk.insert(key, block.clone()) {
                    let memory = self.give_up_disk(&error);
                    drop(memory.insert(key, block));
                }
            }
        }
    }

    pub(super) async fn close(&self) {
        if let Tier::Disk(disk) = self.tier() {
            disk.close().await;
        }
    }

    /// What becomes of the disk; also set as a metric.
    pub(super) fn disk(&self) -> DiskState {
        let (state, level) = match self.tier() {
            Tier::Disk(disk) if disk.passed_by() => (DiskState::PassedBy, 0.5),
            Tier::Disk(_) => (DiskState::Used, 1.0),
            Tier::Memory(_) if self.has_disk => (DiskState::Off, 0.0),
            Tier::Memory(_) => return DiskState::None,
        };
        gauge!(CACHE_DISK).set(level);
        state
    }

    fn tier(&self) -> Tier {
        self.tier.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// From here on there is no disk: memory starts empty, which costs a few fetches once. Logged once, as nobody asks the
    /// disk any more.
    fn give_up_disk(&self, error: &Failed) -> Memory {
        let mut tier = self.tier.lock().unwrap_or_else(PoisonError::into_inner);
        let memory = match &*tier {
            Tier::Memory(memory) => return memory.clone(),
            Tier::Disk(_) => memory(self.memory_bytes, self.block_bytes),
        };
        tracing::error!(%error, "the cache disk failed and is turned off until the next start");
        *tier = Tier::Memory(memory.clone());
        drop(tier);
        self.disk();
        memory
    }
}

/// What replays use.
#[derive(Debug)]
pub(super) struct ColdTier(Memory);

impl ColdTier {
    pub(super) fn new(bytes: usize, block_bytes: usize) -> Self {
        Self(memory(bytes, block_bytes))
    }

    pub(super) fn get(&self, key: &BlockKey) -> Option<Block> {
        self.0.get(key).map(|entry| entry.value().clone())
    }

    pub(super) fn insert(&self, key: BlockKey, bytes: Bytes) {
        drop(self.0.insert(key, Block::new(&key, bytes)));
    }
}

fn memory(bytes: usize, block_bytes: usize) -> Memory {
    foyer::CacheBuilder::new(bytes)
        .with_shards(shards(bytes, block_bytes))
        .with_eviction_config(LruConfig::default())
        .with_weighter(|_: &BlockKey, block: &Block| block.weight())
        .build()
}

/// Each shard evicts on its own, so each must hold a good number of blocks.
pub(super) fn shards(bytes: usize, block_bytes: usize) -> usize {
    (bytes / (8 * block_bytes)).clamp(1, 8)
}
