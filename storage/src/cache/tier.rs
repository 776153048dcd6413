//! Where blocks are kept: the hot tier (memory, and a disk below it while that works) and the cold tier.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use foyer::{BlockEngineConfig, DeviceBuilder, FsDeviceBuilder, HybridCache, HybridCacheBuilder, Load, LruConfig, PsyncIoEngineConfig};
use metrics::counter;

use super::block::{Block, BlockKey};
use super::{CacheConfig, DiskConfig, Pool};
use crate::metrics::{CACHE_CORRUPT, CACHE_TIMEOUTS};

type Memory = foyer::Cache<BlockKey, Block>;
type Disk = HybridCache<BlockKey, Block>;

/// The disk tier's unit of eviction; an entry must fit into it.
const DISK_REGION_BYTES: usize = 16 << 20;
const MIN_DISK_BYTES: usize = 64 << 20;

/// What tail readers use.
#[derive(Debug)]
pub(super) struct HotTier {
    tier: Mutex<Tier>,
    memory_bytes: usize,
    block_bytes: usize,
    lookup_deadline: Duration,
}

#[derive(Clone, Debug)]
enum Tier {
    Memory(Memory),
    Disk(Disk),
}

impl HotTier {
    pub(super) async fn open(config: &CacheConfig, block_bytes: usize) -> Self {
        let tier = match &config.disk {
            None => Tier::Memory(memory(config.memory_bytes, block_bytes)),
            Some(disk) => match open_disk(config.memory_bytes, block_bytes, disk).await {
                Ok(opened) => Tier::Disk(opened),
                Err(error) => {
                    tracing::warn!(path = %disk.path.display(), %error, "the cache disk cannot be used: caching in memory only");
                    Tier::Memory(memory(config.memory_bytes, block_bytes))
                }
            },
        };
        Self { tier: Mutex::new(tier), memory_bytes: config.memory_bytes, block_bytes, lookup_deadline: config.lookup_deadline }
    }

    pub(super) fn in_memory(&self, key: &BlockKey) -> Option<Block> {
        match self.tier() {
            Tier::Memory(memory) => memory.get(key).map(|entry| entry.value().clone()),
            Tier::Disk(disk) => disk.memory().get(key).map(|entry| entry.value().clone()),
        }
    }

    /// An intact block of the disk tier; one that a tail reader asked for moves up into memory.
    pub(super) async fn on_disk(&self, key: &BlockKey, pool: Pool) -> Option<Block> {
        let Tier::Disk(disk) = self.tier() else { return None };
        let lookup = async {
            match pool {
                Pool::Hot => Ok(disk.get(key).await?.map(|entry| entry.value().clone())),
                Pool::Cold => match disk.storage().load(key).await? {
                    Load::Entry { key: found, value, .. } if found == *key => Ok(Some(value)),
                    Load::Piece { piece, .. } if piece.key() == key => Ok(Some(piece.value().clone())),
                    Load::Entry { .. } | Load::Piece { .. } | Load::Throttled | Load::Miss => Ok(None),
                },
            }
        };
        match tokio::time::timeout(self.lookup_deadline, lookup).await {
            Ok(Ok(Some(block))) if block.is_intact(key) => Some(block),
            Ok(Ok(Some(_))) => {
                counter!(CACHE_CORRUPT).increment(1);
                disk.remove(key);
                None
            }
            Ok(Ok(None)) => None,
            Ok(Err(error)) => {
                self.give_up_disk(&error);
                None
            }
            Err(_) => {
                counter!(CACHE_TIMEOUTS).increment(1);
                None
            }
        }
    }

    pub(super) fn insert(&self, key: BlockKey, bytes: Bytes) {
        let block = Block::new(&key, bytes);
        match self.tier() {
            Tier::Memory(memory) => drop(memory.insert(key, block)),
            Tier::Disk(disk) => drop(disk.insert(key, block)),
        }
    }

    pub(super) async fn close(&self) {
        if let Tier::Disk(disk) = self.tier()
            && let Err(error) = disk.close().await
        {
            tracing::warn!(%error, "the cache disk was not closed cleanly: some of it will be fetched again");
        }
    }

    fn tier(&self) -> Tier {
        self.tier.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// From here on there is no disk: memory starts empty, which costs a few fetches once.
    fn give_up_disk(&self, error: &foyer::Error) {
        let mut tier = self.tier.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(*tier, Tier::Disk(_)) {
            tracing::error!(%error, "the cache disk failed and is turned off until the next start");
            *tier = Tier::Memory(memory(self.memory_bytes, self.block_bytes));
        }
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
fn shards(bytes: usize, block_bytes: usize) -> usize {
    (bytes / (8 * block_bytes)).clamp(1, 8)
}

async fn open_disk(memory_bytes: usize, block_bytes: usize, disk: &DiskConfig) -> foyer::Result<Disk> {
    // foyer panics where it cannot create its directory itself.
    std::fs::create_dir_all(&disk.path).map_err(foyer::Error::io_error)?;
    let device = FsDeviceBuilder::new(&disk.path).with_capacity(disk.bytes.max(MIN_DISK_BYTES)).build()?;
    HybridCacheBuilder::new()
        .with_name("lakefall")
        .with_flush_on_close(true)
        .memory(memory_bytes)
        .with_shards(shards(memory_bytes, block_bytes))
        .with_eviction_config(LruConfig::default())
        .with_weighter(|_: &BlockKey, block: &Block| block.weight())
        .storage()
        .with_io_engine_config(PsyncIoEngineConfig::new())
        .with_engine_config(BlockEngineConfig::new(device).with_block_size(DISK_REGION_BYTES))
        .build()
        .await
}
