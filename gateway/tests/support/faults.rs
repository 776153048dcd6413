//! An object store in memory that fails when told to, and counts what it was asked and what failed.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures::stream::{BoxStream, StreamExt};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use tokio::sync::Semaphore;

use super::Dice;

/// How a request fails.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// The connection broke before anything happened.
    Before,
    /// It happened, and the answer was lost.
    After,
    /// The store asks for fewer requests.
    Throttle,
    /// The disk is full.
    Full,
    /// The credentials are refused.
    Denied,
    /// It waits until the gate opens, then happens.
    Hang(Arc<Gate>),
    /// The object is gone (reads).
    Missing,
    /// One bit of the answer is wrong (reads).
    Flip,
}

/// Holds requests up until it is opened.
#[derive(Debug)]
pub(crate) struct Gate {
    arrived: Semaphore,
    open: Semaphore,
}

impl Gate {
    pub(crate) fn closed() -> Arc<Self> {
        Arc::new(Self { arrived: Semaphore::new(0), open: Semaphore::new(0) })
    }

    /// Returns when a request is held up.
    pub(crate) async fn arrived(&self) {
        self.arrived.acquire().await.unwrap().forget();
    }

    pub(crate) fn open(&self) {
        self.open.add_permits(1_000);
    }

    async fn pass(&self) {
        self.arrived.add_permits(1);
        self.open.acquire().await.unwrap().forget();
    }
}

#[derive(Debug, Default)]
struct Plan {
    puts: VecDeque<Option<Fault>>,
    gets: VecDeque<Option<Fault>>,
    always_get: Option<Fault>,
    always_put: Option<Fault>,
    fired: BTreeMap<String, usize>,
    put_latency: Duration,
}

#[derive(Debug)]
pub(crate) struct FaultStore {
    inner: InMemory,
    plan: Mutex<Plan>,
    puts: AtomicUsize,
    gets: AtomicUsize,
    putting: AtomicUsize,
    most_putting: AtomicUsize,
    flips: Mutex<Dice>,
}

impl fmt::Debug for Dice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Dice")
    }
}

impl FaultStore {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            inner: InMemory::new(),
            plan: Mutex::default(),
            puts: AtomicUsize::new(0),
            gets: AtomicUsize::new(0),
            putting: AtomicUsize::new(0),
            most_putting: AtomicUsize::new(0),
            flips: Mutex::new(Dice::new(7)),
        })
    }

    /// The coming PUTs fail in this order; `None` lets one pass.
    pub(crate) fn order_puts(&self, faults: impl IntoIterator<Item = Option<Fault>>) {
        self.plan.lock().unwrap().puts.extend(faults);
    }

    /// The coming GETs fail in this order.
    pub(crate) fn order_gets(&self, faults: impl IntoIterator<Item = Option<Fault>>) {
        self.plan.lock().unwrap().gets.extend(faults);
    }

    /// All GETs fail so, or none.
    pub(crate) fn every_get(&self, fault: Option<Fault>) {
        self.plan.lock().unwrap().always_get = fault;
    }

    /// All PUTs fail so, or none.
    pub(crate) fn every_put(&self, fault: Option<Fault>) {
        self.plan.lock().unwrap().always_put = fault;
    }

    /// Puts an object's content under another key.
    pub(crate) async fn move_object(&self, from: &str, to: &str) {
        let content = self.inner.get(&Path::from(from)).await.unwrap().bytes().await.unwrap();
        self.inner.put(&Path::from(to), content.into()).await.unwrap();
        self.inner.delete(&Path::from(from)).await.unwrap();
    }

    pub(crate) fn put_latency(&self, latency: Duration) {
        self.plan.lock().unwrap().put_latency = latency;
    }

    /// PUTs asked for, also those that failed.
    pub(crate) fn puts(&self) -> usize {
        self.puts.load(Ordering::SeqCst)
    }

    pub(crate) fn gets(&self) -> usize {
        self.gets.load(Ordering::SeqCst)
    }

    /// How many faults happened.
    pub(crate) fn fired(&self) -> usize {
        self.plan.lock().unwrap().fired.values().sum()
    }

    /// Most PUTs at once since the last call.
    pub(crate) fn most_putting(&self) -> usize {
        self.most_putting.swap(0, Ordering::SeqCst)
    }

    pub(crate) async fn objects(&self) -> Vec<Path> {
        self.inner.list(None).map(|meta| meta.unwrap().location).collect().await
    }

    pub(crate) async fn remove_all(&self) {
        for path in self.objects().await {
            self.inner.delete(&path).await.unwrap();
        }
    }

    fn take(&self, from: impl FnOnce(&mut Plan) -> Option<Fault>) -> Option<Fault> {
        let mut plan = self.plan.lock().unwrap();
        let fault = from(&mut plan);
        if let Some(fault) = &fault {
            let name = format!("{fault:?}").chars().take_while(char::is_ascii_alphabetic).collect();
            *plan.fired.entry(name).or_default() += 1;
        }
        fault
    }

    async fn put_with(&self, fault: Option<Fault>, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        let latency = self.plan.lock().unwrap().put_latency;
        if !latency.is_zero() {
            tokio::time::sleep(latency).await;
        }
        match fault {
            None | Some(Fault::Missing | Fault::Flip) => {}
            Some(Fault::Hang(gate)) => gate.pass().await,
            Some(Fault::After) => {
                self.inner.put_opts(location, payload, options).await?;
                return Err(broken());
            }
            Some(fault) => return Err(error(&fault, location)),
        }
        self.inner.put_opts(location, payload, options).await
    }

    async fn flipped(&self, answer: GetResult) -> Result<GetResult> {
        let (meta, range, attributes, extensions) =
            (answer.meta.clone(), answer.range.clone(), answer.attributes.clone(), answer.extensions.clone());
        let mut bytes = answer.bytes().await?.to_vec();
        let bit = self.flips.lock().unwrap().below(bytes.len() as u64 * 8) as usize;
        bytes[bit / 8] ^= 1 << (bit % 8);
        let payload = GetResultPayload::Stream(futures::stream::iter([Ok(Bytes::from(bytes))]).boxed());
        Ok(GetResult { payload, meta, range, attributes, extensions })
    }
}

fn error(fault: &Fault, location: &Path) -> Error {
    match fault {
        Fault::Throttle => Error::Generic { store: "fault", source: "Server returned non-2xx status code: 503 Slow Down".into() },
        Fault::Full => Error::Generic { store: "fault", source: Box::new(io::Error::from(io::ErrorKind::StorageFull)) },
        Fault::Denied => Error::PermissionDenied { path: location.to_string(), source: "injected".into() },
        Fault::Missing => Error::NotFound { path: location.to_string(), source: "injected".into() },
        _ => broken(),
    }
}

fn broken() -> Error {
    Error::Generic { store: "fault", source: Box::new(io::Error::from(io::ErrorKind::ConnectionReset)) }
}

impl fmt::Display for FaultStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FaultStore")
    }
}

#[async_trait::async_trait]
impl ObjectStore for FaultStore {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        self.puts.fetch_add(1, Ordering::SeqCst);
        let putting = self.putting.fetch_add(1, Ordering::SeqCst) + 1;
        self.most_putting.fetch_max(putting, Ordering::SeqCst);
        let fault = self.take(|plan| plan.puts.pop_front().flatten().or_else(|| plan.always_put.clone()));
        let answer = self.put_with(fault, location, payload, options).await;
        self.putting.fetch_sub(1, Ordering::SeqCst);
        answer
    }

    async fn put_multipart_opts(&self, location: &Path, options: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        if options.head {
            return self.inner.get_opts(location, options).await;
        }
        self.gets.fetch_add(1, Ordering::SeqCst);
        match self.take(|plan| plan.gets.pop_front().flatten().or_else(|| plan.always_get.clone())) {
            None => self.inner.get_opts(location, options).await,
            Some(Fault::Hang(gate)) => {
                gate.pass().await;
                self.inner.get_opts(location, options).await
            }
            Some(Fault::Flip) => self.flipped(self.inner.get_opts(location, options).await?).await,
            Some(fault) => Err(error(&fault, location)),
        }
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
