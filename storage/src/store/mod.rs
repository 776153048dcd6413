//! Objects by URL: a local directory, memory or S3, with one set of rules. An object is written once under a fresh
//! key and never changed; an answer that leaves open whether it was written is settled by looking, never guessed.
//! This module never retries a PUT under another key and never deletes on its own.

mod error;
mod local;
mod open;

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures::TryStreamExt;
use futures::stream::{BoxStream, StreamExt};
use lakefall_queue::Timestamp;
use object_store::path::Path;
use object_store::{GetOptions, GetRange, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload};

pub use error::StoreError;
pub use open::{AccessKey, S3Options, StoreOptions};

use crate::metrics::{STORE_BYTES, STORE_REQUESTS};
use local::LocalDirectories;

/// An opened store. Cloning shares it.
#[derive(Clone, Debug)]
pub struct Store {
    inner: Arc<dyn ObjectStore>,
    /// Present for a local directory, whose new subdirectories must be made durable before they are used.
    local: Option<Arc<LocalDirectories>>,
}

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
    /// that implementation makes it.
    pub fn over(inner: Arc<dyn ObjectStore>) -> Self {
        Self { inner, local: None }
    }

    /// Writes a new object, durably. Keys are never reused: where the key is taken, the object there is compared, and
    /// the same content means that an earlier attempt (of this call or a call before) got through.
    ///
    /// Errors: [`StoreError::Collision`] if other content is there; [`StoreError::Unavailable`] leaves open whether the
    /// object exists, and the same call may be repeated.
    pub async fn put_new(&self, key: &str, chunks: Vec<Bytes>) -> Result<(), StoreError> {
        let path = parse(key)?;
        if let Some(local) = &self.local {
            local.prepare(key).await?;
        }
        let size: u64 = chunks.iter().map(|chunk| chunk.len() as u64).sum();
        let payload: PutPayload = chunks.iter().cloned().collect();
        let options = PutOptions::from(PutMode::Create);
        let answer = self.inner.put_opts(&path, payload, options).await;
        match counted("put", answer.map_err(StoreError::from)) {
            Ok(_) => {
                metrics::counter!(STORE_BYTES, "direction" => "put").increment(size);
                Ok(())
            }
            // A raw 409 or 412 of S3 arrives as this, also when our own retried request met its first attempt.
            Err(StoreError::Collision { .. }) => self.settle(key, &path, size, &chunks).await,
            Err(error) => {
                if self.local.is_some() {
                    self.discard_unsynced(&path).await;
                }
                Err(error)
            }
        }
    }

    /// Reads `range` of an object. Beyond the object's end the answer is shorter; wholly beyond it is an error.
    pub async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes, StoreError> {
        if range.is_empty() {
            return Ok(Bytes::new());
        }
        let options = GetOptions { range: Some(GetRange::Bounded(range)), ..GetOptions::default() };
        let path = parse(key)?;
        let answer = async { self.inner.get_opts(&path, options).await?.bytes().await };
        let bytes = counted("get", answer.await.map_err(StoreError::from))?;
        metrics::counter!(STORE_BYTES, "direction" => "get").increment(bytes.len() as u64);
        Ok(bytes)
    }

    /// An object's size and age.
    pub async fn head(&self, key: &str) -> Result<ObjectInfo, StoreError> {
        let answer = self.inner.head(&parse(key)?).await;
        counted("head", answer.map_err(StoreError::from)).map(ObjectInfo::from)
    }

    /// All objects whose key begins with the path segments of `prefix`, in no order that all stores share.
    pub fn list(&self, prefix: &str) -> BoxStream<'static, Result<ObjectInfo, StoreError>> {
        metrics::counter!(STORE_REQUESTS, "operation" => "list", "outcome" => "ok").increment(1);
        let prefix = (!prefix.is_empty()).then(|| Path::from(prefix));
        self.inner.list(prefix.as_ref()).map_ok(ObjectInfo::from).map_err(StoreError::from).boxed()
    }

    /// Deletes an object. One that is not there counts as deleted.
    pub async fn delete(&self, key: &str) -> Result<(), StoreError> {
        let answer = self.inner.delete(&parse(key)?).await;
        match counted("delete", answer.map_err(StoreError::from)) {
            Err(StoreError::NotFound { .. }) => Ok(()),
            other => other,
        }
    }

    /// Decides whether the object at a taken key is the one we meant to write.
    async fn settle(&self, key: &str, path: &Path, size: u64, chunks: &[Bytes]) -> Result<(), StoreError> {
        let there = self.inner.head(path).await;
        let there = counted("head", there.map_err(StoreError::from)).map_err(StoreError::into_unknown)?;
        let collision = || StoreError::Collision { key: key.to_owned() };
        if there.size != size {
            return Err(collision());
        }
        let found = async { self.inner.get(path).await?.bytes().await }.await;
        let found = counted("get", found.map_err(StoreError::from)).map_err(StoreError::into_unknown)?;
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

fn counted<T>(operation: &'static str, answer: Result<T, StoreError>) -> Result<T, StoreError> {
    let outcome = answer.as_ref().err().map_or("ok", StoreError::kind);
    metrics::counter!(STORE_REQUESTS, "operation" => operation, "outcome" => outcome).increment(1);
    answer
}
