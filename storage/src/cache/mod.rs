//! The read cache in front of a store: whole blocks of objects, in memory and (if configured) on a disk. Objects never
//! change, so nothing is ever invalidated. It must never serve a byte that differs from the store's: what is damaged
//! is dropped and fetched again. It sends nothing while nobody reads, and a failing disk only makes it smaller.

mod block;
mod breaker;
mod disk;
mod flight;
mod tier;

use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::future::try_join_all;
use lakefall_queue::SegmentId;
use lakefall_queue::usage::Figure;
use metrics::counter;

use crate::meter;
use crate::metrics::{CACHE_HITS, CACHE_MISSES};
use crate::store::{Store, StoreError};
use block::{Block, BlockKey};
use flight::Flights;
use tier::{ColdTier, HotTier};

/// Which reader's share of the cache a read uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pool {
    /// Readers at the tail: what they read stays.
    Hot,
    /// Replays of old records: they use what is there but never push it out.
    Cold,
}

/// How large the cache is and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheConfig {
    /// Memory for tail readers, in bytes. Default 64 MiB: some seconds of a busy gateway's writes.
    pub memory_bytes: usize,
    /// A second tier on a local disk. Default none.
    pub disk: Option<DiskConfig>,
    /// What is fetched and kept at once, in bytes. Default 1 MiB. Larger costs fewer requests per replay, smaller
    /// wastes less on single records.
    pub block_bytes: usize,
    /// Longest wait for the disk tier before the store is asked instead. Default 50 ms: what a GET takes.
    pub lookup_deadline: Duration,
    /// Memory for replays, in bytes. Default 16 MiB.
    pub cold_bytes: usize,
}

/// The disk tier.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskConfig {
    /// A directory of its own; created if missing.
    pub path: PathBuf,
    /// How much of the disk to use, in bytes. At least 64 MiB.
    pub bytes: usize,
}

/// What becomes of the disk tier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskState {
    /// None is configured.
    None,
    /// In use.
    Used,
    /// Passed by for some seconds, as lookups took too long.
    PassedBy,
    /// It failed, and is off until the next start: an operator should look at it.
    Off,
}

impl Default for CacheConfig {
    fn default() -> Self {
        Self { memory_bytes: 64 << 20, disk: None, block_bytes: 1 << 20, lookup_deadline: Duration::from_millis(50), cold_bytes: 16 << 20 }
    }
}

/// An object: what names it in the cache, and where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Its id. Another object never has the same.
    pub id: SegmentId,
    /// Its key in the store.
    pub key: Arc<str>,
    /// Its bytes.
    pub size: u64,
}

impl Place {
    /// A segment, whose id says where it is.
    pub fn segment(id: SegmentId, size: u64) -> Self {
        Self { id, key: id.key().into(), size }
    }
}

/// An open cache. Cloning shares it.
#[derive(Clone, Debug)]
pub struct Cache(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    store: Store,
    block_bytes: u64,
    hot: HotTier,
    cold: ColdTier,
    flights: Flights,
}

impl Cache {
    /// Opens the cache; with a disk tier, finds what an earlier process left there. A disk that cannot be used is
    /// reported in the log and done without.
    pub async fn new(store: Store, config: CacheConfig) -> Self {
        let block_bytes = config.block_bytes.clamp(4 << 10, 8 << 20);
        Self(Arc::new(Inner {
            store,
            block_bytes: block_bytes as u64,
            hot: HotTier::open(&config, block_bytes).await,
            cold: ColdTier::new(config.cold_bytes, block_bytes),
            flights: Flights::default(),
        }))
    }

    /// Reads `range` of `object`, which is `size` bytes long (or at least long enough for all that the ledger refers
    /// to). Within one block nothing is copied. However many readers ask for a block at once, it is fetched once.
    ///
    /// Cancel-safe: a fetch that was begun goes on for the others and for the cache.
    pub async fn get(&self, object: SegmentId, size: u64, range: Range<u64>, pool: Pool) -> Result<Bytes, StoreError> {
        self.get_of(&Place::segment(object, size), range, pool).await
    }

    /// The same of any object.
    pub async fn get_of(&self, object: &Place, range: Range<u64>, pool: Pool) -> Result<Bytes, StoreError> {
        let size = object.size;
        if range.is_empty() {
            return Ok(Bytes::new());
        }
        if range.end > size {
            return Err(StoreError::Other { reason: format!("bytes {range:?} of {} are beyond its end at {size}", object.id) });
        }
        let step = self.0.block_bytes;
        let (first, last) = (range.start / step, (range.end - 1) / step);
        let within = |number: u64| {
            let base = number * step;
            range.start.saturating_sub(base)..(range.end - base).min(step)
        };
        if first == last {
            return self.part(object, first, within(first), pool).await;
        }
        let parts = try_join_all((first..=last).map(|number| self.part(object, number, within(number), pool))).await?;
        let mut joined = BytesMut::with_capacity((range.end - range.start) as usize);
        parts.iter().for_each(|part| joined.extend_from_slice(part));
        Ok(joined.freeze())
    }

    /// Reads `range` of an object with one request and keeps it as one piece, so that only the same range finds it again: for
    /// what is always read as a whole, like a Parquet file's row groups. Larger ones than a block can be are not kept.
    pub async fn get_piece(&self, object: &Place, range: Range<u64>, pool: Pool) -> Result<Bytes, StoreError> {
        let length = range.end.saturating_sub(range.start);
        if length == 0 {
            return Ok(Bytes::new());
        }
        let beyond = || StoreError::Other { reason: format!("bytes {range:?} of {} are beyond its end at {}", object.id, object.size) };
        let (Ok(start), Ok(end)) = (u32::try_from(range.start), u32::try_from(range.end)) else { return Err(beyond()) };
        if range.end > object.size {
            return Err(beyond());
        }
        let key = BlockKey::piece(object.id, start, end - start);
        let bytes = match self.0.in_memory(&key, length as usize) {
            Some(bytes) => bytes,
            None => self.0.clone().fly(object, key, range.clone(), length as usize, pool).await?,
        };
        if (bytes.len() as u64) < length {
            return Err(StoreError::Unavailable { reason: format!("object {} is shorter than the ledger says", object.id) });
        }
        Ok(bytes)
    }

    /// Reads a piece past the cache and puts it there anew: what was kept turned out to be damaged.
    pub async fn renew_piece(&self, object: &Place, range: Range<u64>) -> Result<Bytes, StoreError> {
        let bytes = self.0.store.get_range(&object.key, range.clone()).await?;
        if let (Ok(start), Ok(length)) = (u32::try_from(range.start), u32::try_from(bytes.len()))
            && bytes.len() <= block::MAX_BLOCK
        {
            // Where it is looked for first, whichever tier had the damaged one.
            self.0.keep(BlockKey::piece(object.id, start, length), &bytes, Pool::Hot, false);
        }
        Ok(bytes)
    }

    /// Keeps a segment that was just written, for the readers at the tail.
    pub fn fill(&self, object: SegmentId, chunks: &[Bytes], total_len: u64) {
        debug_assert_eq!(total_len, chunks.iter().map(|chunk| chunk.len() as u64).sum::<u64>());
        for (number, bytes) in block::cut(chunks, self.0.block_bytes as usize).enumerate() {
            let Ok(number) = u32::try_from(number) else { return };
            self.0.hot.insert(BlockKey::new(object, number, self.0.block_bytes as usize), bytes);
        }
    }

    /// What becomes of the disk tier.
    pub fn disk(&self) -> DiskState {
        self.0.hot.disk()
    }

    /// Writes to the disk tier what is only in memory, so that the next process finds it. Nothing to do without one. A disk
    /// that hangs is left after some seconds.
    pub async fn close(&self) {
        self.0.hot.close().await;
    }

    /// `range` of one block, counted from the block's start.
    async fn part(&self, object: &Place, number: u64, range: Range<u64>, pool: Pool) -> Result<Bytes, StoreError> {
        let number = u32::try_from(number).map_err(|_| StoreError::Other { reason: format!("object {} is too large", object.id) })?;
        let key = BlockKey::new(object.id, number, self.0.block_bytes as usize);
        let (start, end) = (range.start as usize, range.end as usize);
        let base = u64::from(number) * self.0.block_bytes;
        let whole = base..(base + self.0.block_bytes).min(object.size);
        let bytes = match self.0.in_memory(&key, end) {
            Some(bytes) => bytes,
            None => self.0.clone().fly(object, key, whole, end, pool).await?,
        };
        if bytes.len() < end {
            return Err(StoreError::Unavailable { reason: format!("object {} is shorter than the ledger says", object.id) });
        }
        Ok(bytes.slice(start..end))
    }
}

impl Inner {
    /// A block that is in memory and reaches to `end`.
    fn in_memory(&self, key: &BlockKey, end: usize) -> Option<Bytes> {
        // A block kept while its object was believed shorter does not answer for more.
        let reaches = |block: &Block| block.bytes.len() >= end;
        if let Some(block) = self.hot.in_memory(key).filter(reaches) {
            hit("memory");
            return Some(block.bytes);
        }
        let block = self.cold.get(key).filter(reaches)?;
        hit("cold");
        Some(block.bytes)
    }

    /// Joins the fetch of a block that is under way, or begins one.
    async fn fly(self: Arc<Self>, object: &Place, key: BlockKey, range: Range<u64>, end: usize, pool: Pool) -> Result<Bytes, StoreError> {
        let (this, place) = (self.clone(), Arc::clone(&object.key));
        let reach = range.end - range.start;
        // Whoever begins the fetch pays for it, also if it goes away.
        let start = move || meter::continued(meter::current(), this.load(place, key, range, pool));
        let flight = self.flights.join(key, reach, || self.in_memory(&key, end), start);
        flight.await
    }

    async fn load(self: Arc<Self>, place: Arc<str>, key: BlockKey, range: Range<u64>, pool: Pool) -> Result<Bytes, StoreError> {
        let whole = (range.end - range.start) as usize;
        if let Some(block) = self.hot.on_disk(&key, pool).await.filter(|block| block.bytes.len() >= whole) {
            hit("disk");
            self.keep(key, &block.bytes, pool, true);
            return Ok(block.bytes);
        }
        counter!(CACHE_MISSES).increment(1);
        meter::note(Figure::CacheMisses, 1);
        let bytes = self.store.get_range(&place, range).await?;
        if bytes.len() <= block::MAX_BLOCK {
            self.keep(key, &bytes, pool, false);
        }
        Ok(bytes)
    }

    fn keep(&self, key: BlockKey, bytes: &Bytes, pool: Pool, from_disk: bool) {
        match pool {
            // The disk tier puts what it finds into memory itself.
            Pool::Hot if from_disk => {}
            Pool::Hot => self.hot.insert(key, bytes.clone()),
            Pool::Cold => self.cold.insert(key, bytes.clone()),
        }
    }
}

fn hit(tier: &'static str) {
    counter!(CACHE_HITS, "tier" => tier).increment(1);
    meter::note(Figure::CacheHits, 1);
}
