//! The object store of a simulation: objects in memory, requests that take time and fail as those of S3 do.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures::stream::{BoxStream, StreamExt};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions,
    PutOptions, PutPayload, PutResult, Result,
};

use crate::fault::Fault;
use crate::lock;
use crate::time;
use crate::weather::{Gate, Weather};

/// What a request takes when nothing is wrong.
const LATENCY: (Duration, Duration) = (Duration::from_millis(2), Duration::from_millis(25));
/// When the store is slow.
const SLOW: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(8));
/// After this time a client gives up on a request.
const TIMEOUT: Duration = Duration::from_secs(15);
/// How long an object stays hidden.
const HIDDEN: (Duration, Duration) = (Duration::from_millis(300), Duration::from_secs(6));
/// Deleted objects that a stale listing may still show.
const REMEMBERED: usize = 64;

/// The store itself, which all hosts share.
pub struct Bucket {
    /// What is in it, without faults.
    pub objects: InMemory,
    weather: Arc<Weather>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Until when an object is not found, in nanoseconds.
    hidden: BTreeMap<Path, u64>,
    deleted: Vec<ObjectMeta>,
}

impl Bucket {
    /// An empty one.
    pub fn new(weather: Arc<Weather>) -> Arc<Self> {
        Arc::new(Self { objects: InMemory::new(), weather, state: Mutex::default() })
    }

    fn is_hidden(&self, path: &Path) -> bool {
        lock(&self.state).hidden.get(path).is_some_and(|until| *until > time::step_nanos())
    }
}

/// The store as one host reaches it.
pub struct Way {
    bucket: Arc<Bucket>,
    host: String,
    gate: Gate,
}

impl Way {
    /// Of this host, whose requests go through this gate.
    pub fn new(bucket: &Arc<Bucket>, host: &str, gate: Gate) -> Arc<Self> {
        Arc::new(Self { bucket: Arc::clone(bucket), host: host.to_owned(), gate })
    }

    fn weather(&self) -> &Weather {
        &self.bucket.weather
    }

    /// The way there, and the way back: through the gate, and it takes its time.
    async fn way(&self) -> Result<()> {
        tokio::time::sleep(self.weather().time(LATENCY.0, LATENCY.1)).await;
        if self.gate.passed(TIMEOUT).await { Ok(()) } else { Err(timed_out()) }
    }

    fn strike(&self, what: &str, location: &Path, of: &[Fault]) -> Option<Fault> {
        self.weather().strike(&self.host, &format!("{what} {location}"), of)
    }

    async fn slow(&self) {
        tokio::time::sleep(self.weather().time(SLOW.0, SLOW.1)).await;
    }
}

fn reset() -> Error {
    Error::Generic { store: "simulated", source: Box::new(io::Error::from(io::ErrorKind::ConnectionReset)) }
}

fn timed_out() -> Error {
    Error::Generic { store: "simulated", source: Box::new(io::Error::from(io::ErrorKind::TimedOut)) }
}

fn throttled() -> Error {
    Error::Generic { store: "simulated", source: "Server returned non-2xx status code: 503 Slow Down".into() }
}

fn denied(location: &Path) -> Error {
    Error::PermissionDenied { path: location.to_string(), source: "injected".into() }
}

fn missing(location: &Path) -> Error {
    Error::NotFound { path: location.to_string(), source: "injected".into() }
}

/// An answer with other bytes than it had.
async fn with_bytes(answer: GetResult, change: impl FnOnce(&mut Vec<u8>)) -> Result<GetResult> {
    let (meta, range) = (answer.meta.clone(), answer.range.clone());
    let (attributes, extensions) = (answer.attributes.clone(), answer.extensions.clone());
    let mut bytes = answer.bytes().await?.to_vec();
    change(&mut bytes);
    let payload = GetResultPayload::Stream(futures::stream::iter([Ok(Bytes::from(bytes))]).boxed());
    Ok(GetResult { payload, meta, range, attributes, extensions })
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the simulated store as {} reaches it", self.host)
    }
}

impl fmt::Debug for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

const PUT: &[Fault] = &[
    Fault::StoreBefore,
    Fault::StoreAfter,
    Fault::StoreThrottle,
    Fault::StoreDenied,
    Fault::StoreTimeout,
    Fault::StoreConflict,
    Fault::StoreSlow,
];
const GET: &[Fault] = &[
    Fault::StoreBefore,
    Fault::StoreThrottle,
    Fault::StoreDenied,
    Fault::StoreTimeout,
    Fault::StoreFlip,
    Fault::StoreCut,
    Fault::StoreHide,
    Fault::StoreSlow,
];
const HEAD: &[Fault] = &[Fault::StoreBefore, Fault::StoreThrottle, Fault::StoreDenied, Fault::StoreHide];
const LIST: &[Fault] = &[Fault::StoreBefore, Fault::StoreStaleList];
const DELETE: &[Fault] = &[Fault::StoreBefore, Fault::StoreAfter, Fault::StoreThrottle, Fault::StoreSlow];

#[async_trait::async_trait]
impl ObjectStore for Way {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        self.way().await?;
        let objects = &self.bucket.objects;
        match self.strike("put", location, PUT) {
            Some(Fault::StoreBefore) => Err(reset()),
            Some(Fault::StoreThrottle) => Err(throttled()),
            Some(Fault::StoreDenied) => Err(denied(location)),
            Some(Fault::StoreConflict) => Err(Error::AlreadyExists { path: location.to_string(), source: "injected".into() }),
            Some(Fault::StoreAfter) => {
                objects.put_opts(location, payload, options).await?;
                Err(reset())
            }
            Some(Fault::StoreTimeout) => {
                let after = self.weather().time(Duration::ZERO, TIMEOUT);
                let happens = self.weather().between(0, 1) == 1;
                tokio::time::sleep(after).await;
                if happens {
                    objects.put_opts(location, payload, options).await?;
                }
                tokio::time::sleep(TIMEOUT.saturating_sub(after)).await;
                Err(timed_out())
            }
            slow => {
                if slow.is_some() {
                    self.slow().await;
                }
                let done = objects.put_opts(location, payload, options).await;
                self.way().await?;
                done
            }
        }
    }

    async fn put_multipart_opts(&self, location: &Path, options: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.way().await?;
        self.bucket.objects.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.way().await?;
        let head = options.head;
        let struck = if head { self.strike("head", location, HEAD) } else { self.strike("get", location, GET) };
        if struck == Some(Fault::StoreHide) {
            let until = time::step_nanos() + self.weather().time(HIDDEN.0, HIDDEN.1).as_nanos() as u64;
            lock(&self.bucket.state).hidden.insert(location.clone(), until);
        }
        if self.bucket.is_hidden(location) {
            return Err(missing(location));
        }
        let found = match struck {
            Some(Fault::StoreBefore) => return Err(reset()),
            Some(Fault::StoreThrottle) => return Err(throttled()),
            Some(Fault::StoreDenied) => return Err(denied(location)),
            Some(Fault::StoreTimeout) => {
                tokio::time::sleep(TIMEOUT).await;
                return Err(timed_out());
            }
            Some(Fault::StoreFlip) => {
                let answer = self.bucket.objects.get_opts(location, options).await?;
                let chance = self.weather().between(0, u64::MAX - 1);
                with_bytes(answer, |bytes| {
                    if !bytes.is_empty() {
                        let bit = (chance % (bytes.len() as u64 * 8)) as usize;
                        bytes[bit / 8] ^= 1 << (bit % 8);
                    }
                })
                .await
            }
            Some(Fault::StoreCut) => {
                let answer = self.bucket.objects.get_opts(location, options).await?;
                let chance = self.weather().between(0, u64::MAX - 1);
                with_bytes(answer, |bytes| bytes.truncate((chance % (bytes.len() as u64).max(1)) as usize)).await
            }
            slow => {
                if slow.is_some() {
                    self.slow().await;
                }
                self.bucket.objects.get_opts(location, options).await
            }
        };
        self.way().await?;
        found
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let (bucket, host, gate) = (Arc::clone(&self.bucket), self.host.clone(), self.gate.clone());
        locations
            .then(move |location| {
                let way = Self { bucket: Arc::clone(&bucket), host: host.clone(), gate: gate.clone() };
                async move {
                    let location = location?;
                    way.delete_one(&location).await?;
                    Ok(location)
                }
            })
            .boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let way = Self { bucket: Arc::clone(&self.bucket), host: self.host.clone(), gate: self.gate.clone() };
        let prefix = prefix.cloned();
        futures::stream::once(async move {
            let found = way.list_all(prefix.as_ref()).await;
            futures::stream::iter(found.map_or_else(|error| vec![Err(error)], |found| found.into_iter().map(Ok).collect::<Vec<_>>()))
        })
        .flatten()
        .boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.way().await?;
        self.bucket.objects.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.way().await?;
        self.bucket.objects.copy_opts(from, to, options).await
    }
}

impl Way {
    async fn list_all(&self, prefix: Option<&Path>) -> Result<Vec<ObjectMeta>> {
        self.way().await?;
        let mut found: Vec<ObjectMeta> = self.bucket.objects.list(prefix).collect::<Vec<_>>().await.into_iter().collect::<Result<_>>()?;
        // A listing of nothing cannot be stale in a way that matters.
        let may_be_stale = !found.is_empty();
        let place = prefix.cloned().unwrap_or_default();
        match self.strike("list", &place, if may_be_stale { LIST } else { &LIST[..1] }) {
            Some(Fault::StoreBefore) => return Err(reset()),
            Some(Fault::StoreStaleList) => {
                found.retain(|_| self.weather().between(0, 3) > 0);
                let state = lock(&self.bucket.state);
                let shown = state.deleted.iter().filter(|meta| prefix.is_none_or(|prefix| meta.location.prefix_matches(prefix)));
                found.extend(shown.cloned());
            }
            _ => {}
        }
        self.way().await?;
        Ok(found)
    }

    async fn delete_one(&self, location: &Path) -> Result<()> {
        self.way().await?;
        let struck = self.strike("delete", location, DELETE);
        match struck {
            Some(Fault::StoreBefore) => return Err(reset()),
            Some(Fault::StoreThrottle) => return Err(throttled()),
            Some(Fault::StoreSlow) => self.slow().await,
            _ => {}
        }
        use object_store::ObjectStoreExt;
        let before = self.bucket.objects.head(location).await;
        let gone = self.bucket.objects.delete(location).await;
        if let Ok(meta) = before {
            let mut state = lock(&self.bucket.state);
            state.deleted.push(meta);
            let len = state.deleted.len();
            state.deleted.drain(..len.saturating_sub(REMEMBERED));
        }
        if struck == Some(Fault::StoreAfter) {
            return Err(reset());
        }
        self.way().await?;
        gone
    }
}
