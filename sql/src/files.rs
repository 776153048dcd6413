//! The footers of Parquet files, and what JSON values look like: found out once, and kept for the statements after. Objects
//! never change, so nothing is ever forgotten for being old.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

use arrow_schema::Fields;
use bytes::Bytes;
use lakefall_queue::topic::Topic;
use lakefall_queue::{Error, PartitionIndex, Result, SegmentId};
use lakefall_storage::parquet::{ParquetError, ParquetFile};

use crate::shore::{Shore, joined};
use crate::source::Stored;

/// Footers kept: some kilobytes for each row group of a file.
const FILES: usize = 512;
/// Extents whose values' fields are kept.
const SHAPES: usize = 16_384;

/// What is kept between statements.
pub(crate) struct Known {
    files: Kept<SegmentId, Arc<ParquetFile>>,
    shapes: Kept<(SegmentId, u64), Fields>,
}

/// The latest of something.
struct Kept<K, V> {
    most: usize,
    inner: Mutex<(HashMap<K, V>, VecDeque<K>)>,
}

impl<K: Clone + Eq + Hash, V: Clone> Kept<K, V> {
    fn new(most: usize) -> Self {
        Self { most, inner: Mutex::default() }
    }

    fn get(&self, key: &K) -> Option<V> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).0.get(key).cloned()
    }

    fn keep(&self, key: K, value: V) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if inner.0.insert(key.clone(), value).is_none() {
            inner.1.push_back(key);
        }
        if inner.1.len() > self.most
            && let Some(oldest) = inner.1.pop_front()
        {
            inner.0.remove(&oldest);
        }
    }
}

impl Known {
    pub(crate) fn new() -> Self {
        Self { files: Kept::new(FILES), shapes: Kept::new(SHAPES) }
    }

    /// The fields of an extent's values, if they are known.
    pub(crate) fn shape(&self, stored: &Stored) -> Option<Fields> {
        self.shapes.get(&(stored.extent.object, stored.extent.position))
    }

    pub(crate) fn keep_shape(&self, stored: &Stored, fields: Fields) {
        self.shapes.keep((stored.extent.object, stored.extent.position), fields);
    }

    /// A file's footer. Damaged bytes are fetched once more.
    pub(crate) async fn open(
        &self,
        shore: &Shore,
        topic: &Arc<Topic>,
        partition: PartitionIndex,
        stored: &Stored,
    ) -> Result<Arc<ParquetFile>> {
        let object = stored.extent.object;
        if let Some(file) = self.files.get(&object) {
            return Ok(file);
        }
        let file = match open(shore, topic, stored, false).await? {
            Ok(file) => file,
            Err(_) => open(shore, topic, stored, true).await?.map_err(|error| damaged(object, &error))?,
        };
        let extent = &stored.extent;
        if file.topic() != topic.id || file.partition() != partition || file.first() < extent.base_offset || file.last() >= extent.end() {
            return Err(Error::DataUnavailable { object, reason: "the Parquet file holds other records than the ledger says".to_owned() });
        }
        let file = Arc::new(file);
        self.files.keep(object, Arc::clone(&file));
        Ok(file)
    }
}

async fn open(shore: &Shore, topic: &Arc<Topic>, stored: &Stored, anew: bool) -> Result<Result<ParquetFile, ParquetError>> {
    let size = stored.extent.object_size;
    let opened = |tail: &Bytes| ParquetFile::open(tail, size);
    match opened(&tail(shore, topic, stored, ParquetFile::TAIL_BYTES, anew).await?) {
        Err(ParquetError::NeedMore { needed }) => Ok(opened(&tail(shore, topic, stored, needed, anew).await?)),
        opened => Ok(opened),
    }
}

async fn tail(shore: &Shore, topic: &Arc<Topic>, stored: &Stored, bytes: u64, anew: bool) -> Result<Bytes> {
    let size = stored.extent.object_size;
    let range = size.saturating_sub(bytes)..size;
    let read = joined(shore.read(topic, stored, vec![range], anew)).await?;
    read.into_iter().next().ok_or_else(|| Error::Internal("no bytes were read".to_owned()))
}

/// Damage that fetching again did not mend.
pub(crate) fn damaged(object: SegmentId, error: &ParquetError) -> Error {
    tracing::error!(%object, %error, "a Parquet file is damaged");
    Error::DataUnavailable { object, reason: error.to_string() }
}
