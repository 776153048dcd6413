//! The cache disk: opening it, asking it within the deadline, and finding out that it fails. foyer keeps failed writes to
//! itself, so while blocks are written a small file is written beside them now and then: where that fails, so do they.

use std::fs::File;
use std::io::Write;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use foyer::{BlockEngineConfig, DeviceBuilder, FsDeviceBuilder, HybridCache, HybridCacheBuilder, Load, LruConfig, PsyncIoEngineConfig};
use futures::FutureExt;
use metrics::counter;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::block::{Block, BlockKey};
use super::breaker::Breaker;
use super::tier::shards;
use super::{CacheConfig, DiskConfig, Pool};
use crate::metrics::{CACHE_CORRUPT, CACHE_TIMEOUTS};

/// The disk tier's unit of eviction; an entry must fit into it.
const REGION_BYTES: usize = 16 << 20;
const MIN_BYTES: usize = 64 << 20;
/// The file that tells whether the disk still takes what is written, and its size.
const PROBE: &str = "lakefall-probe";
const PROBE_BYTES: usize = 64 << 10;
/// How often it is written while blocks are.
const PROBE_EVERY: Duration = Duration::from_secs(5);
/// A disk that is passed by says so in the log once in this time.
const LOG_EVERY: Duration = Duration::from_secs(60);
/// How long a stop waits for what is in memory to be written.
const CLOSE_WITHIN: Duration = Duration::from_secs(5);

/// An open cache disk and the memory above it.
#[derive(Debug)]
pub(super) struct Disk {
    cache: HybridCache<BlockKey, Block>,
    path: PathBuf,
    deadline: Duration,
    breaker: Mutex<Breaker>,
    probe: Mutex<Probe>,
    logged: Mutex<Option<Instant>>,
}

#[derive(Debug, Default)]
struct Probe {
    last: Option<Instant>,
    under_way: Option<JoinHandle<std::io::Result<()>>>,
}

/// Why the disk cannot be used any more.
pub(super) type Failed = String;

impl Disk {
    pub(super) async fn open(config: &CacheConfig, block_bytes: usize, disk: &DiskConfig) -> Result<Self, Failed> {
        let cache = open(config.memory_bytes, block_bytes, disk).await.map_err(|error| error.to_string())?;
        Ok(Self {
            cache,
            path: disk.path.clone(),
            deadline: config.lookup_deadline,
            breaker: Mutex::default(),
            probe: Mutex::default(),
            logged: Mutex::default(),
        })
    }

    pub(super) fn in_memory(&self, key: &BlockKey) -> Option<Block> {
        self.cache.memory().get(key).map(|entry| entry.value().clone())
    }

    /// An intact block; one that a tail reader asked for moves up into memory. Takes no longer than the deadline.
    pub(super) async fn get(&self, key: &BlockKey, pool: Pool) -> Result<Option<Block>, Failed> {
        if !lock(&self.breaker).allows(Instant::now()) {
            return Ok(None);
        }
        let lookup = AssertUnwindSafe(self.lookup(key, pool)).catch_unwind();
        let Ok(found) = tokio::time::timeout(self.deadline, lookup).await else {
            counter!(CACHE_TIMEOUTS).increment(1);
            if lock(&self.breaker).late(Instant::now()) {
                self.log_passed_by();
            }
            return Ok(None);
        };
        let found = match found {
            Ok(found) => found.map_err(|error| error.to_string())?,
            Err(_) => return Err("the disk cache panicked".to_owned()),
        };
        lock(&self.breaker).answered();
        match found {
            Some(block) if block.is_intact(key) => Ok(Some(block)),
            Some(_) => {
                counter!(CACHE_CORRUPT).increment(1);
                self.cache.remove(key);
                Ok(None)
            }
            None => Ok(None),
        }
    }

    async fn lookup(&self, key: &BlockKey, pool: Pool) -> foyer::Result<Option<Block>> {
        match pool {
            Pool::Hot => Ok(self.cache.get(key).await?.map(|entry| entry.value().clone())),
            Pool::Cold => match self.cache.storage().load(key).await? {
                Load::Entry { key: found, value, .. } if found == *key => Ok(Some(value)),
                Load::Piece { piece, .. } if piece.key() == key => Ok(Some(piece.value().clone())),
                Load::Entry { .. } | Load::Piece { .. } | Load::Throttled | Load::Miss => Ok(None),
            },
        }
    }

    /// Takes a block, unless the disk was found to take no more.
    pub(super) fn insert(&self, key: BlockKey, block: Block) -> Result<(), Failed> {
        self.probe()?;
        drop(self.cache.insert(key, block));
        Ok(())
    }

    /// Tells how the last probe ended, and begins another when it is time.
    fn probe(&self) -> Result<(), Failed> {
        let mut probe = lock(&self.probe);
        if let Some(ended) = probe.under_way.take_if(|handle| handle.is_finished())
            && let Some(Ok(Err(error))) = ended.now_or_never()
        {
            return Err(error.to_string());
        }
        let due = probe.last.is_none_or(|last| last.elapsed() >= PROBE_EVERY);
        if due && probe.under_way.is_none() {
            let path = self.path.join(PROBE);
            probe.last = Some(Instant::now());
            probe.under_way = Some(tokio::task::spawn_blocking(move || write_probe(&path)));
        }
        Ok(())
    }

    pub(super) fn passed_by(&self) -> bool {
        lock(&self.breaker).passes_by()
    }

    pub(super) async fn close(&self) {
        match tokio::time::timeout(CLOSE_WITHIN, self.cache.close()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "the cache disk was not closed cleanly: some of it will be fetched again"),
            Err(_) => tracing::warn!("the cache disk hangs and is left as it is: some of it will be fetched again"),
        }
    }

    fn log_passed_by(&self) {
        let mut logged = lock(&self.logged);
        if logged.is_none_or(|at| at.elapsed() >= LOG_EVERY) {
            *logged = Some(Instant::now());
            tracing::warn!(path = %self.path.display(), "the cache disk answers too late and is passed by for some seconds at a time");
        }
    }
}

/// A new file each time: on a full disk one that is there can still be written over.
fn write_probe(path: &Path) -> std::io::Result<()> {
    let written = File::create(path).and_then(|mut file| file.write_all(&[0x5a; PROBE_BYTES]).and_then(|()| file.sync_data()));
    let removed = std::fs::remove_file(path);
    written.and(removed)
}

async fn open(memory_bytes: usize, block_bytes: usize, disk: &DiskConfig) -> foyer::Result<HybridCache<BlockKey, Block>> {
    // foyer panics where it cannot create its directory itself.
    std::fs::create_dir_all(&disk.path).map_err(foyer::Error::io_error)?;
    let device = FsDeviceBuilder::new(&disk.path).with_capacity(disk.bytes.max(MIN_BYTES)).build()?;
    HybridCacheBuilder::new()
        .with_name("lakefall")
        .with_flush_on_close(true)
        .memory(memory_bytes)
        .with_shards(shards(memory_bytes, block_bytes))
        .with_eviction_config(LruConfig::default())
        .with_weighter(|_: &BlockKey, block: &Block| block.weight())
        .storage()
        .with_io_engine_config(PsyncIoEngineConfig::new())
        .with_engine_config(BlockEngineConfig::new(device).with_block_size(REGION_BYTES))
        .build()
        .await
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_probe_finds_a_disk_that_takes_no_more_and_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        write_probe(&folder.path().join(PROBE)).unwrap();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        assert!(write_probe(&folder.path().join("not/there")).is_err());
    }
}
