//! From an extent to records: batch by batch through the cache, decoded from the offset wanted. What is damaged is an
//! error, never skipped.

use std::fmt::Display;
use std::ops::Range;

use bytes::Bytes;
use lakefall_queue::error::Error;
use lakefall_queue::ledger::{Extent, ObjectLevel};
use lakefall_queue::planted::{self, Bug};
use lakefall_queue::topic::Topic;
use lakefall_queue::{Offset, PartitionIndex, StoredRecord};
use lakefall_service::blocking;
use lakefall_storage::batch::{BatchError, BatchHeader, DecodeContext, decode};
use lakefall_storage::cache::Pool;
use lakefall_storage::store::StoreError;

use super::pass::Pass;
use super::{At, Failure, Reader};

/// Batches up to this size are decoded on the spot; larger ones on a blocking thread.
const DECODE_HERE: usize = 16 << 10;
/// Extents older than this are read through the pool for replays.
const RECENT_MS: i64 = 60_000;

/// A batch of an extent.
pub(super) struct Found {
    bytes: Bytes,
    base: Offset,
    records: u32,
}

impl Found {
    /// The offset after its last record.
    pub(super) fn end(&self) -> Offset {
        self.base.plus(u64::from(self.records))
    }

    /// What it holds if its records are like the one before.
    fn expected_bytes(&self, before: &[StoredRecord]) -> usize {
        self.records as usize * before.last().map_or(0, StoredRecord::payload_bytes)
    }
}

impl Reader {
    /// Reads an extent from where the partition stands.
    pub(super) async fn read_extent(&self, pass: &mut Pass<'_>, at: &mut At, extent: &Extent) -> Result<(), Failure> {
        pass.old |= self.is_old(extent);
        if extent.level == ObjectLevel::Parquet {
            return self.read_file(pass, at, extent).await;
        }
        match self.read_extent_once(pass, at, extent).await {
            // What was read before the damage is taken; it goes on behind that.
            Err(Failure::Refused(error @ Error::DataUnavailable { .. })) => {
                self.renew(extent, error).await?;
                self.read_extent_once(pass, at, extent).await
            }
            read => read,
        }
    }

    async fn read_extent_once(&self, pass: &mut Pass<'_>, at: &mut At, extent: &Extent) -> Result<(), Failure> {
        let mut cursor = BatchCursor::new(extent);
        while at.next < extent.end() && !pass.budget.spent() && !at.finished {
            let batch = self.next_batch(pass.topic, at.partition, extent, &mut cursor, at.next).await?;
            if !pass.records.is_empty() && batch.expected_bytes(&pass.records) > pass.budget.bytes {
                // It would be decoded now for a few of its records, and once more for the others.
                pass.budget.bytes = 0;
                return Ok(());
            }
            let batch_end = batch.base.plus(u64::from(batch.records));
            let records = match self.decode_batch(batch, at.partition, extent, at.next).await {
                Err(Error::DataUnavailable { .. }) if planted::is(Bug::CorruptBatchSkipped) => Vec::new(),
                decoded => decoded?,
            };
            take(pass, at, records.into_iter(), batch_end);
            pass.weigh();
        }
        Ok(())
    }

    /// The records from `from` on of the batch that holds it, and the offset after that batch.
    pub(super) async fn first_batch(
        &self,
        topic: &Topic,
        partition: PartitionIndex,
        extent: &Extent,
        from: Offset,
    ) -> Result<Option<(Vec<StoredRecord>, Offset)>, Failure> {
        if from >= extent.end() {
            return Ok(None);
        }
        match self.first_batch_once(topic, partition, extent, from).await {
            Err(Failure::Refused(error @ Error::DataUnavailable { .. })) => {
                self.renew(extent, error).await?;
                self.first_batch_once(topic, partition, extent, from).await
            }
            read => read,
        }
    }

    /// The damage may be the cache's, or done on the way from the store: puts the object into the cache anew. Answers
    /// `error` if the store does not have it.
    pub(super) async fn renew(&self, extent: &Extent, error: Error) -> Result<(), Error> {
        let whole = self.store.get_range(&extent.object.key(), 0..extent.object_size).await.map_err(|_| error)?;
        let length = whole.len() as u64;
        self.cache.fill(extent.object, &[whole], length);
        Ok(())
    }

    async fn first_batch_once(
        &self,
        topic: &Topic,
        partition: PartitionIndex,
        extent: &Extent,
        from: Offset,
    ) -> Result<Option<(Vec<StoredRecord>, Offset)>, Failure> {
        let batch = self.next_batch(topic, partition, extent, &mut BatchCursor::new(extent), from).await?;
        let end = batch.base.plus(u64::from(batch.records));
        Ok(Some((self.decode_batch(batch, partition, extent, from).await?, end)))
    }

    /// Steps over batch headers until the one that holds `from`.
    pub(super) async fn next_batch(
        &self,
        topic: &Topic,
        partition: PartitionIndex,
        extent: &Extent,
        cursor: &mut BatchCursor,
        from: Offset,
    ) -> Result<Found, Failure> {
        loop {
            let head = cursor.position..cursor.position + BatchHeader::LEN as u64;
            let head = self.bytes(topic, partition, extent, head, from).await?;
            let header = BatchHeader::parse(&head).map_err(|e| damaged(extent, &e))?;
            let length = header.total_len as u64;
            let end = cursor.base.plus(u64::from(header.records));
            if header.records == 0 || cursor.position + length > cursor.stop || end > extent.end() {
                return Err(damaged(extent, &BatchError::Corrupt("its batches do not fit the extent")).into());
            }
            let (position, base) = (cursor.position, cursor.base);
            cursor.position += length;
            cursor.base = end;
            if from < end {
                let bytes = self.bytes(topic, partition, extent, position..position + length, from).await?;
                return Ok(Found { bytes, base, records: header.records });
            }
        }
    }

    /// A range of the extent's object, wanted for the record at `from`.
    async fn bytes(
        &self,
        topic: &Topic,
        partition: PartitionIndex,
        extent: &Extent,
        range: Range<u64>,
        from: Offset,
    ) -> Result<Bytes, Failure> {
        let stop = extent.position + u64::from(extent.length);
        let range = range.start..range.end.min(stop);
        match self.cache.get(extent.object, extent.object_size, range, self.pool(extent)).await {
            Ok(bytes) => Ok(bytes),
            Err(StoreError::NotFound { .. }) => Err(self.missing(topic, partition, extent, from).await),
            Err(error) => Err(unreadable(extent, &error).into()),
        }
    }

    /// Which share of the cache a reader of an extent uses.
    pub(super) fn pool(&self, extent: &Extent) -> Pool {
        if self.is_old(extent) { Pool::Cold } else { Pool::Hot }
    }

    fn is_old(&self, extent: &Extent) -> bool {
        self.ambient.now().as_millis() - extent.appended_at.as_millis() > RECENT_MS
    }

    pub(super) async fn decode_batch(
        &self,
        batch: Found,
        partition: PartitionIndex,
        extent: &Extent,
        from: Offset,
    ) -> Result<Vec<StoredRecord>, Error> {
        let small = u64::from(extent.length) <= DECODE_HERE as u64;
        let context =
            DecodeContext { merged: extent.level == ObjectLevel::Merged, ..DecodeContext::new(partition, batch.base, extent.appended_at) };
        let work = move || {
            let mut records = Vec::new();
            decode(&batch.bytes, context, from, &mut records).map(|()| records)
        };
        let decoded = if small { work() } else { self.decoding(extent, work).await? };
        decoded.map_err(|error| damaged(extent, &error))
    }

    /// Decodes away from the async threads; what is old, behind everything else.
    pub(super) async fn decoding<T: Send + 'static>(&self, extent: &Extent, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Error> {
        if self.is_old(extent) {
            return self.aside(work).await;
        }
        blocking::run(work).await.map_err(|error| Error::Internal(error.to_string()))
    }

    /// Works behind everything else.
    pub(crate) async fn aside<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Error> {
        self.replays.run(work).await.map_err(|error| Error::Internal(error.to_string()))
    }

    /// R8: an object that is missing though the ledger refers to it is looked up once more, and not from memory. Then it is
    /// an alarm, never an empty answer.
    pub(super) async fn missing(&self, topic: &Topic, partition: PartitionIndex, extent: &Extent, from: Offset) -> Failure {
        metrics::counter!(crate::metrics::LOCATIONS_STALE).increment(1);
        self.locations.doubt(topic.id, partition);
        let from = from.max(extent.base_offset);
        let located = match self.locate(topic, partition, from, 1).await {
            Ok(located) => located,
            Err(failure) => return failure,
        };
        if located.log_start > from {
            return Error::BelowLogStart { partition, offset: from, log_start: located.log_start }.into();
        }
        match located.extents.first() {
            Some(moved) if moved.object != extent.object => Failure::Moved,
            _ => {
                tracing::error!(object = %extent.object, topic = %topic.name, partition = partition.0, "an object that is still referred to is missing");
                Error::DataUnavailable { object: extent.object, reason: "the object is missing from the store".to_owned() }.into()
            }
        }
    }
}

/// Where the next batch of an extent begins.
#[derive(Clone)]
pub(super) struct BatchCursor {
    position: u64,
    base: Offset,
    stop: u64,
}

impl BatchCursor {
    pub(super) fn new(extent: &Extent) -> Self {
        Self { position: extent.position, base: extent.base_offset, stop: extent.position + u64::from(extent.length) }
    }
}

/// Takes what the budget and the bounds allow.
pub(super) fn take(pass: &mut Pass<'_>, at: &mut At, records: impl ExactSizeIterator<Item = StoredRecord>, batch_end: Offset) {
    pass.records.reserve(records.len().min(pass.budget.records));
    for record in records {
        let beyond = pass.read.until_offset.is_some_and(|until| record.offset >= until)
            || pass.read.until_timestamp.is_some_and(|until| record.timestamp >= until);
        if beyond {
            at.finished = true;
            return;
        }
        if pass.budget.records == 0 || (record.payload_bytes() > pass.budget.bytes && !pass.records.is_empty()) {
            pass.budget.bytes = 0;
            return;
        }
        at.next = record.offset.plus(1);
        pass.push(record);
        if pass.budget.spent() {
            return;
        }
    }
    at.next = at.next.max(batch_end);
}

pub(super) fn damaged(extent: &Extent, error: &impl Display) -> Error {
    tracing::error!(object = %extent.object, position = extent.position, %error, "stored records are damaged");
    Error::DataUnavailable { object: extent.object, reason: error.to_string() }
}

pub(super) fn unreadable(extent: &Extent, error: &StoreError) -> Error {
    match error {
        StoreError::Throttled { .. } | StoreError::Unavailable { .. } => {
            Error::unavailable(format!("the object store does not answer: {error}"))
        }
        StoreError::NotFound { .. }
        | StoreError::Collision { .. }
        | StoreError::Denied { .. }
        | StoreError::Full { .. }
        | StoreError::Other { .. } => {
            tracing::error!(object = %extent.object, %error, "stored records cannot be read");
            Error::DataUnavailable { object: extent.object, reason: error.to_string() }
        }
    }
}
