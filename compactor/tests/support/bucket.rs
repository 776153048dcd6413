//! An object store in memory that shows old or partial listings, refuses to delete and takes its time when told to, and
//! counts what it is asked.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::stream::{BoxStream, StreamExt};
use futures::{FutureExt, TryStreamExt};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions, PutOptions,
    PutPayload, PutResult, Result,
};

use super::{Dice, TestClock};

/// Requests by operation.
type Requests = BTreeMap<&'static str, u64>;

struct Slow {
    left: u32,
    clock: Arc<TestClock>,
    time: Duration,
}

#[derive(Default)]
pub(crate) struct Bucket {
    inner: Arc<InMemory>,
    requests: Mutex<Requests>,
    /// What listings show instead of what there is.
    listing: Mutex<Option<Vec<ObjectMeta>>>,
    refuse_deletes: AtomicBool,
    refuse_puts: AtomicBool,
    /// PUTs to come that take this long by this clock.
    slow: Mutex<Option<Slow>>,
    /// Everything is late, old, partial or refused by chance.
    chance: Option<Arc<Dice>>,
}

impl Bucket {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self::default())
    }

    pub(crate) fn by_chance(dice: Arc<Dice>) -> Arc<Self> {
        Arc::new(Self { chance: Some(dice), ..Self::default() })
    }

    /// The same objects without any tricks.
    pub(crate) fn honest(&self) -> Arc<InMemory> {
        Arc::clone(&self.inner)
    }

    /// Since the last call.
    pub(crate) fn requests(&self) -> Requests {
        std::mem::take(&mut *self.requests.lock().unwrap())
    }

    /// From here on listings show what there is now.
    pub(crate) async fn freeze_listing(&self) {
        let now = self.inner.list(None).try_collect().await.unwrap();
        *self.listing.lock().unwrap() = Some(now);
    }

    pub(crate) fn refuse_deletes(&self, refuse: bool) {
        self.refuse_deletes.store(refuse, Ordering::SeqCst);
    }

    pub(crate) fn refuse_puts(&self, refuse: bool) {
        self.refuse_puts.store(refuse, Ordering::SeqCst);
    }

    /// The next PUTs each take `time` by `clock`.
    pub(crate) fn slow_puts(&self, count: u32, clock: Arc<TestClock>, time: Duration) {
        *self.slow.lock().unwrap() = Some(Slow { left: count, clock, time });
    }

    fn count(&self, operation: &'static str) {
        *self.requests.lock().unwrap().entry(operation).or_default() += 1;
    }

    async fn dawdle(&self) {
        if let Some(dice) = &self.chance {
            dice.dawdle().await;
        }
    }

    fn take_time(&self) {
        if let Some(slow) = &mut *self.slow.lock().unwrap()
            && slow.left > 0
        {
            slow.left -= 1;
            slow.clock.pass(slow.time);
        }
    }
}

impl fmt::Debug for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Bucket")
    }
}

impl fmt::Display for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Bucket")
    }
}

fn denied(path: &Path) -> Error {
    Error::PermissionDenied { path: path.to_string(), source: "injected".into() }
}

#[async_trait::async_trait]
impl ObjectStore for Bucket {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        self.count("put");
        self.dawdle().await;
        self.take_time();
        if self.refuse_puts.load(Ordering::SeqCst) {
            return Err(denied(location));
        }
        self.inner.put_opts(location, payload, options).await
    }

    async fn put_multipart_opts(&self, location: &Path, options: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.count(if options.head { "head" } else { "get" });
        self.dawdle().await;
        self.inner.get_opts(location, options).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.count("delete");
        let refuse = self.refuse_deletes.load(Ordering::SeqCst);
        let (inner, chance) = (Arc::clone(&self.inner), self.chance.clone());
        let delete = move |path: Result<Path>| {
            let (inner, chance) = (Arc::clone(&inner), chance.clone());
            async move {
                let path = path?;
                if let Some(dice) = &chance {
                    dice.dawdle().await;
                }
                if refuse || chance.is_some_and(|dice| dice.below(5) == 0) {
                    return Err(denied(&path));
                }
                inner.delete_stream(futures::stream::iter([Ok(path.clone())]).boxed()).try_collect::<Vec<_>>().await?;
                Ok(path)
            }
        };
        locations.then(delete).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.count("list");
        let below = prefix.cloned();
        let is_below = move |meta: &ObjectMeta| below.as_ref().is_none_or(|prefix| meta.location.prefix_matches(prefix));
        if let Some(frozen) = &*self.listing.lock().unwrap() {
            let shown: Vec<Result<ObjectMeta>> = frozen.iter().filter(|meta| is_below(meta)).cloned().map(Ok).collect();
            return futures::stream::iter(shown).boxed();
        }
        let listed = self.inner.list(prefix);
        let Some(dice) = self.chance.clone() else { return listed };
        // Read now, shown later and in part.
        let now: Vec<Result<ObjectMeta>> = listed.collect().now_or_never().unwrap_or_default();
        futures::stream::iter(now)
            .filter_map(move |meta| {
                let dice = Arc::clone(&dice);
                async move {
                    dice.dawdle().await;
                    (dice.below(8) > 0).then_some(meta)
                }
            })
            .boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}
