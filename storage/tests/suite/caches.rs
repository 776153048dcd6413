//! The cache in front of a store that counts.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use futures::future::{join_all, poll_immediate};
use futures::stream::BoxStream;
use lakefall_queue::{SegmentId, Timestamp};
use lakefall_storage::cache::{Cache, CacheConfig, Pool};
use lakefall_storage::store::{Store, StoreError};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions, PutOptions, PutPayload,
    PutResult, Result,
};
use tokio::sync::Semaphore;

/// Counts reads, and lets one through for each permit.
#[derive(Debug)]
struct Counting {
    inner: InMemory,
    gets: AtomicUsize,
    gate: Semaphore,
}

impl fmt::Display for Counting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Counting")
    }
}

#[async_trait::async_trait]
impl ObjectStore for Counting {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        self.inner.put_opts(location, payload, options).await
    }
    async fn put_multipart_opts(&self, location: &Path, options: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(location, options).await
    }
    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.gets.fetch_add(1, Ordering::SeqCst);
        self.gate.acquire().await.unwrap().forget();
        self.inner.get_opts(location, options).await
    }
    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations)
    }
    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }
    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }
    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

pub(crate) const BLOCK: usize = 64 << 10;
pub(crate) const OPEN: usize = Semaphore::MAX_PERMITS / 2;

pub(crate) struct Bench {
    counting: Arc<Counting>,
    pub(crate) store: Store,
    object: SegmentId,
    pub(crate) content: Bytes,
}

impl Bench {
    /// One object of ten and a half blocks; `permits` reads get through.
    pub(crate) async fn new(permits: usize) -> Self {
        let counting = Arc::new(Counting { inner: InMemory::new(), gets: AtomicUsize::new(0), gate: Semaphore::new(permits) });
        let store = Store::over(counting.clone());
        let bench = Self { counting, store, object: id(1), content: content(1) };
        bench.store.put_new(&bench.object.key(), vec![bench.content.clone()]).await.unwrap();
        bench
    }

    pub(crate) fn gets(&self) -> usize {
        self.counting.gets.load(Ordering::SeqCst)
    }

    pub(crate) async fn cache(&self, config: CacheConfig) -> Cache {
        Cache::new(self.store.clone(), config).await
    }

    pub(crate) async fn read(&self, cache: &Cache, range: Range<u64>, pool: Pool) -> Result<Bytes, StoreError> {
        cache.get(self.object, self.content.len() as u64, range, pool).await
    }
}

pub(crate) fn id(number: u128) -> SegmentId {
    SegmentId::mint(Timestamp::from_millis(1_700_000_000_000), number << 64)
}

pub(crate) fn content(seed: u32) -> Bytes {
    (0..(10 * BLOCK + BLOCK / 2) as u32).map(|n| (n.wrapping_mul(2_654_435_761).wrapping_add(seed) >> 13) as u8).collect()
}

pub(crate) fn config() -> CacheConfig {
    CacheConfig { memory_bytes: 4 << 20, block_bytes: BLOCK, cold_bytes: 4 * BLOCK, ..CacheConfig::default() }
}

#[tokio::test]
async fn a_hundred_readers_of_one_block_cost_one_get() {
    let bench = Bench::new(0).await;
    let cache = bench.cache(config()).await;
    let readers = join_all((0..100).map(|n| bench.read(&cache, n..n + 50, Pool::Hot)));
    tokio::pin!(readers);
    assert!(poll_immediate(&mut readers).await.is_none());
    bench.counting.gate.add_permits(OPEN);
    for (n, bytes) in readers.await.into_iter().enumerate() {
        assert_eq!(bytes.unwrap(), bench.content[n..n + 50]);
    }
    assert_eq!(bench.gets(), 1);
}

#[tokio::test]
async fn a_reader_that_goes_away_takes_nobody_with_it() {
    let bench = Bench::new(0).await;
    let cache = bench.cache(config()).await;
    let mut leader = Box::pin(bench.read(&cache, 0..10, Pool::Hot));
    let mut follower = Box::pin(bench.read(&cache, 0..10, Pool::Hot));
    assert!(poll_immediate(&mut leader).await.is_none() && poll_immediate(&mut follower).await.is_none());
    drop(leader);
    bench.counting.gate.add_permits(OPEN);
    assert_eq!(follower.await.unwrap(), bench.content[..10]);
    assert_eq!(bench.gets(), 1);
}

#[tokio::test]
async fn a_failed_fetch_is_tried_anew_by_the_next_reader() {
    let bench = Bench::new(OPEN).await;
    let cache = bench.cache(config()).await;
    let missing = id(9);
    assert!(matches!(cache.get(missing, 10, 0..10, Pool::Hot).await, Err(StoreError::NotFound { .. })));
    bench.store.put_new(&missing.key(), vec![Bytes::from_static(b"now there!")]).await.unwrap();
    assert_eq!(cache.get(missing, 10, 0..10, Pool::Hot).await.unwrap(), "now there!");
}

#[tokio::test]
async fn ranges_over_several_blocks_are_joined_and_those_within_one_are_shared() {
    let bench = Bench::new(OPEN).await;
    let cache = bench.cache(config()).await;
    let size = bench.content.len() as u64;
    for range in [0..size, 1..size - 1, 65_535..65_537, size - 1..size, 131_072..196_608] {
        let found = bench.read(&cache, range.clone(), Pool::Hot).await.unwrap();
        assert!(found == bench.content[range.start as usize..range.end as usize], "{range:?}");
    }
    assert_eq!(bench.gets(), 11);
    let one = bench.read(&cache, 5..10, Pool::Hot).await.unwrap();
    let same = bench.read(&cache, 5..10, Pool::Hot).await.unwrap();
    assert_eq!(one.as_ptr(), same.as_ptr());
    assert!(bench.read(&cache, 0..size + 1, Pool::Hot).await.is_err());
}

#[tokio::test]
async fn what_a_gateway_wrote_is_read_without_a_get() {
    let bench = Bench::new(OPEN).await;
    let cache = bench.cache(config()).await;
    let mut rest = bench.content.clone();
    let chunks: Vec<Bytes> = [8, 100_000, 3, 70_000].iter().map(|size| rest.split_to(*size)).collect();
    let chunks: Vec<Bytes> = chunks.into_iter().chain([rest]).collect();
    cache.fill(bench.object, &chunks, bench.content.len() as u64);
    let found = bench.read(&cache, 0..bench.content.len() as u64, Pool::Hot).await.unwrap();
    assert!(found == bench.content);
    assert_eq!(bench.gets(), 0);
}

#[tokio::test]
async fn a_replay_larger_than_the_cache_does_not_push_out_the_tail() {
    let bench = Bench::new(OPEN).await;
    let cache = bench.cache(config()).await;
    bench.read(&cache, 0..10, Pool::Hot).await.unwrap();
    for number in 2..20 {
        let old = id(number);
        bench.store.put_new(&old.key(), vec![bench.content.clone()]).await.unwrap();
        cache.get(old, bench.content.len() as u64, 0..bench.content.len() as u64, Pool::Cold).await.unwrap();
    }
    let before = bench.gets();
    bench.read(&cache, 0..10, Pool::Hot).await.unwrap();
    // A replay that meets the tail uses it, too.
    bench.read(&cache, 0..10, Pool::Cold).await.unwrap();
    assert_eq!(bench.gets(), before);
}

#[tokio::test]
async fn a_block_kept_when_the_object_seemed_shorter_does_not_answer_for_more() {
    let bench = Bench::new(OPEN).await;
    let cache = bench.cache(config()).await;
    cache.get(bench.object, 100, 0..100, Pool::Hot).await.unwrap();
    assert_eq!(bench.read(&cache, 90..200, Pool::Hot).await.unwrap(), bench.content[90..200]);
    assert_eq!(bench.gets(), 2);
}
