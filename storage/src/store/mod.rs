//! Objects by URL: a local directory, memory, S3, GCS or Azure, with one set of rules. An object is written once under a
//! fresh key and never changed; an answer that leaves open whether it was written is settled by looking, never guessed.
//! This module never retries a PUT under another key and never deletes on its own.

mod ambient;
mod answer;
mod budget;
mod control;
mod credentials;
mod effort;
mod error;
mod hedge;
mod listing;
mod local;
mod open;
mod options;
mod s3;

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures::stream::BoxStream;
use lakefall_queue::Timestamp;
use lakefall_queue::clock::Ambient;
use lakefall_queue::usage::Figure;
use metrics::counter;
use object_store::path::Path;
use object_store::{GetOptions, GetRange, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload};

pub(crate) use ambient::system;
pub(crate) use answer::{Answer, listen};
pub(crate) use credentials::{Chain, Told};
pub use error::StoreError;
pub(crate) use open::{open_s3, own_chain};
pub use options::{AccessKey, Encryption, S3Options, StoreOptions};
pub(crate) use s3::{endpoint, path_style, region};

use crate::meter;
use crate::metrics::{STORE_BYTES, STORE_CUT_READS};
use effort::{Asked, Effort, Request, Sent};
use local::LocalDirectories;

/// How often an object that came back cut is read again.
const READ_AGAIN: usize = 2;

/// An opened store. Cloning shares it.
#[derive(Clone, Debug)]
pub struct Store {
    inner: Arc<dyn ObjectStore>,
    /// Present for a local directory, whose new subdirectories must be made durable before they are used.
    local: Option<Arc<LocalDirectories>>,
    /// Present for a remote store: what fails or is late there may be asked again.
    effort: Option<Arc<Effort>>,
    /// Who uses it, for the count of its requests.
    role: &'static str,
}

/// The role of a store that nobody named one for.
const NO_ROLE: &str = "other";

/// What a listing tells of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectInfo {
    /// Its key, below the store's prefix.
    pub key: String,
    /// Its bytes.
    pub size: u64,
    /// When it was written, by the store's clock.
    pub modified: Timestamp,
}

impl Store {
    /// A store over any implementation: how tests put faults and counters in between. What it writes is as durable as
    /// that implementation makes it, and failed requests are its own to repeat.
    pub fn over(inner: Arc<dyn ObjectStore>) -> Self {
        Self { inner, local: None, effort: None, role: NO_ROLE }
    }

    /// The same, treated like a remote store: what fails or is late there is asked again, as the options say.
    pub fn remote(inner: Arc<dyn ObjectStore>, options: &StoreOptions, ambient: Ambient) -> Self {
        let effort = Effort::new("the object store".to_owned(), options, ambient, None);
        Self { inner, local: None, effort: Some(Arc::new(effort)), role: NO_ROLE }
    }

    /// The same store, whose requests are counted as this role's.
    #[must_use]
    pub fn for_role(mut self, role: &'static str) -> Self {
        self.role = role;
        self
    }

    /// The same store with a layer between it and its service, above which repetitions and second reads still happen:
    /// how tests put faults into a real one.
    pub fn through(mut self, layer: impl FnOnce(Arc<dyn ObjectStore>) -> Arc<dyn ObjectStore>) -> Self {
        self.inner = layer(self.inner);
        self
    }

    /// Writes a new object, durably. Keys are never reused: where the key is taken, the object there is compared, and
    /// the same content means that an earlier attempt (of this call or a call before) got through.
    ///
    /// Errors: [`StoreError::Collision`] if other content is there; [`StoreError::Throttled`] at once, so that the caller
    /// sends less; [`StoreError::Unavailable`] leaves open whether the object exists, and the same call may be repeated.
    pub async fn put_new(&self, key: &str, chunks: Vec<Bytes>) -> Result<(), StoreError> {
        let path = parse(key)?;
        if let Some(local) = &self.local {
            local.prepare(key).await?;
        }
        let size: u64 = chunks.iter().map(|chunk| chunk.len() as u64).sum();
        let payload: PutPayload = chunks.iter().cloned().collect();
        let create = || self.inner.put_opts(&path, payload.clone(), PutOptions::from(PutMode::Create));
        match self.send(self.asked(Request::Create, key), create).await {
            Ok(_) => {
                self.count_bytes("put", Figure::StoreSentBytes, key, size);
                Ok(())
            }
            // A raw 409 or 412 of S3 arrives as this, also when our own repeated request met its first attempt.
            Err(StoreError::Collision { .. }) => self.settle(key, &path, size, &chunks).await,
            Err(error) => {
                if self.local.is_some() {
                    self.discard_unsynced(&path).await;
                }
                Err(error)
            }
        }
    }

    /// Reads `range` of an object. Beyond the object's end the answer is shorter; wholly beyond it is an error. What comes
    /// back cut, or from another place, is read again, then an error.
    pub async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes, StoreError> {
        if range.is_empty() {
            return Ok(Bytes::new());
        }
        self.read(&parse(key)?, Some(range)).await
    }

    /// An object's size and age.
    pub async fn head(&self, key: &str) -> Result<ObjectInfo, StoreError> {
        let path = parse(key)?;
        self.send(self.asked(Request::Head, key), || self.inner.head(&path)).await.map(ObjectInfo::from)
    }

    /// All objects whose key begins with the path segments of `prefix`, in no order that all stores share.
    pub fn list(&self, prefix: &str) -> BoxStream<'static, Result<ObjectInfo, StoreError>> {
        listing::list(self.clone(), (!prefix.is_empty()).then(|| Path::from(prefix)))
    }

    /// Deletes an object. One that is not there counts as deleted.
    pub async fn delete(&self, key: &str) -> Result<(), StoreError> {
        let path = parse(key)?;
        match self.send(self.asked(Request::Delete, key), || self.inner.delete(&path)).await {
            Err(StoreError::NotFound { .. }) => Ok(()),
            other => other,
        }
    }

    /// The service itself, without repetitions: to see what it answers.
    pub(crate) fn service(&self) -> &Arc<dyn ObjectStore> {
        &self.inner
    }

    /// The whole object, or a range of it, with the length that it must have.
    async fn read(&self, path: &Path, range: Option<Range<u64>>) -> Result<Bytes, StoreError> {
        let expected = range.as_ref().map_or(0, |range| range.end - range.start);
        let get = || async {
            let options = GetOptions { range: range.clone().map(GetRange::Bounded), ..GetOptions::default() };
            let found = self.inner.get_opts(path, options).await?;
            let (size, given) = (found.meta.size, found.range.clone());
            Ok((found.bytes().await?, size, given))
        };
        for _ in 0..=READ_AGAIN {
            let (bytes, size, given) = self.send(self.asked(Request::Get(expected), path.as_ref()), get).await?;
            self.count_bytes("get", Figure::StoreGotBytes, path.as_ref(), bytes.len() as u64);
            let due = range.as_ref().map_or(0..size, |range| range.start..range.end.min(size));
            if given == due && bytes.len() as u64 == due.end - due.start {
                return Ok(bytes);
            }
            counter!(STORE_CUT_READS).increment(1);
            tracing::warn!(%path, ?due, ?given, bytes = bytes.len(), "an object came back cut and is read again");
        }
        Err(StoreError::Unavailable { reason: format!("{path} keeps coming back cut") })
    }

    /// Sends a request: with all effort to a remote store, once to any other.
    async fn send<T, F>(&self, asked: Asked, send: impl Fn() -> F) -> Result<T, StoreError>
    where
        F: Future<Output = object_store::Result<T>>,
    {
        let Some(effort) = &self.effort else {
            let request = Sent::now(asked);
            let outcome = send().await.map_err(StoreError::from);
            request.answered(&outcome);
            return outcome;
        };
        effort.attempt(asked, send).await
    }

    /// A request for what is under this key, or begins with it.
    fn asked(&self, request: Request, key: &str) -> Asked {
        Asked { request, role: self.role, purpose: meter::purpose(key) }
    }

    fn count_bytes(&self, direction: &'static str, figure: Figure, key: &str, bytes: u64) {
        counter!(STORE_BYTES, "direction" => direction, "purpose" => meter::purpose(key), "sender" => self.role).increment(bytes);
        meter::note(figure, bytes);
    }

    /// Decides whether the object at a taken key is the one we meant to write. Whatever keeps us from looking leaves it
    /// open: a 404, as right after a 409; a 403, as S3 answers for a missing key to who may not list.
    async fn settle(&self, key: &str, path: &Path, size: u64, chunks: &[Bytes]) -> Result<(), StoreError> {
        let there = self.send(self.asked(Request::Head, key), || self.inner.head(path)).await.map_err(StoreError::into_unknown)?;
        let collision = || StoreError::Collision { key: key.to_owned() };
        if there.size != size {
            return Err(collision());
        }
        let found = self.read(path, None).await.map_err(StoreError::into_unknown)?;
        let meant = chunks.iter().fold(0, |crc, chunk| crc32c::crc32c_append(crc, chunk));
        if crc32c::crc32c(&found) == meant { Ok(()) } else { Err(collision()) }
    }

    /// After a failed write or fsync the kernel may hold pages that will never reach the disk, yet read back well: a
    /// repeated PUT must not find them and call itself done.
    async fn discard_unsynced(&self, path: &Path) {
        match self.inner.delete(path).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => {}
            Err(error) => tracing::warn!(%path, %error, "a half-written object could not be removed"),
        }
    }
}

impl From<object_store::ObjectMeta> for ObjectInfo {
    fn from(meta: object_store::ObjectMeta) -> Self {
        Self { key: meta.location.to_string(), size: meta.size, modified: Timestamp::from_millis(meta.last_modified.timestamp_millis()) }
    }
}

fn parse(key: &str) -> Result<Path, StoreError> {
    Path::parse(key).map_err(|error| StoreError::Other { reason: error.to_string() })
}
