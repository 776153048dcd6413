//! From an extent that is a Parquet file to records: the footer, then the row group that is wanted, each one request and
//! then in the cache; decoded is as much as a few pages need. Where offsets are missing, the next record that is there is read.

use std::sync::Arc;

use bytes::Bytes;
use lakefall_queue::error::Error;
use lakefall_queue::ledger::{Extent, object_key};
use lakefall_queue::topic::Topic;
use lakefall_queue::{Offset, PartitionIndex, Timestamp};
use lakefall_storage::cache::Place;
use lakefall_storage::parquet::{ParquetError, ParquetFile, Want};
use lakefall_storage::store::StoreError;

use super::fetch::{damaged, take, unreadable};
use super::kept::Stretch;
use super::pass::Pass;
use super::{At, Failure, Reader};

/// Decoded at least: who wants one record often wants the ones behind.
const LEAST: Want = Want { from: Offset(0), records: 256, bytes: 256 << 10 };
/// Decoded at least for who reads on: some milliseconds of work, after which many pages are ready.
const ONWARD: Want = Want { from: Offset(0), records: 8_192, bytes: 4 << 20 };
/// Row groups of more bytes than this, which the cache for replays hardly holds, are decoded to their end.
const LARGE: u64 = 4 << 20;

impl Reader {
    /// Reads a Parquet extent from where the partition stands.
    pub(super) async fn read_file(&self, pass: &mut Pass<'_>, at: &mut At, extent: &Extent) -> Result<(), Failure> {
        match self.read_file_once(pass, at, extent).await {
            Err(Failure::Refused(error @ Error::DataUnavailable { .. })) => {
                self.renew_file(pass.topic, extent, at.next, error).await?;
                self.read_file_once(pass, at, extent).await
            }
            read => read,
        }
    }

    async fn read_file_once(&self, pass: &mut Pass<'_>, at: &mut At, extent: &Extent) -> Result<(), Failure> {
        while at.next < extent.end() && !pass.budget.spent() && !at.finished {
            let want = Want { from: at.next, records: pass.budget.records, bytes: pass.budget.bytes };
            let Some(stretch) = self.stretch(pass.topic, at.partition, extent, want).await? else {
                at.next = extent.end();
                return Ok(());
            };
            take(pass, at, stretch.after(at.next).iter().cloned(), stretch.next);
            pass.weigh();
        }
        Ok(())
    }

    /// The first record of a Parquet extent at or after `time`, from `from` on: only row groups that may hold one are read.
    pub(super) async fn first_in_file(
        &self,
        topic: &Topic,
        partition: PartitionIndex,
        extent: &Extent,
        from: Offset,
        time: Timestamp,
    ) -> Result<Option<Offset>, Failure> {
        match self.first_in_file_once(topic, partition, extent, from, time).await {
            Err(Failure::Refused(error @ Error::DataUnavailable { .. })) => {
                self.renew_file(topic, extent, from, error).await?;
                self.first_in_file_once(topic, partition, extent, from, time).await
            }
            found => found,
        }
    }

    async fn first_in_file_once(
        &self,
        topic: &Topic,
        partition: PartitionIndex,
        extent: &Extent,
        from: Offset,
        time: Timestamp,
    ) -> Result<Option<Offset>, Failure> {
        let file = self.footer(topic, partition, extent, from).await?;
        let groups = file.row_groups().iter().filter(|group| group.last >= from && group.max_timestamp >= time);
        for (first, last) in groups.map(|group| (group.first, group.last)) {
            let mut next = first.max(from);
            while next <= last {
                let want = Want { from: next, ..ONWARD };
                let Some(stretch) = self.stretch(topic, partition, extent, want).await? else { break };
                if let Some(found) = stretch.after(next).iter().find(|record| record.timestamp >= time) {
                    return Ok(Some(found.offset));
                }
                next = stretch.next;
            }
        }
        Ok(None)
    }

    /// The records from `want.from` on, as many as are wanted or more; `None` if there is none up to the extent's end.
    async fn stretch(
        &self,
        topic: &Topic,
        partition: PartitionIndex,
        extent: &Extent,
        want: Want,
    ) -> Result<Option<Arc<Stretch>>, Failure> {
        let goes_on = match self.kept.stretch(extent.object, want.from) {
            Ok(stretch) => return Ok(Some(stretch)),
            Err(goes_on) => goes_on,
        };
        let file = self.footer(topic, partition, extent, want.from).await?;
        let Some(index) = file.row_group_from(want.from) else { return Ok(None) };
        let group = file.row_groups()[index].clone();
        let is_last = index + 1 == file.row_groups().len();
        let bytes = self.piece(topic, partition, extent, group.bytes.clone(), want.from).await?;
        let least = if goes_on { ONWARD } else { LEAST };
        let large = group.bytes.end - group.bytes.start > LARGE;
        let wanted = Want {
            from: want.from,
            records: if large { usize::MAX } else { want.records.max(least.records) },
            bytes: if large { usize::MAX } else { want.bytes.min(ONWARD.bytes).max(least.bytes) },
        };
        let work = move || {
            let mut records = Vec::new();
            file.decode(index, &bytes, wanted, &mut records).map(|()| records)
        };
        let records = self.decoding(extent, work).await?.map_err(|error| damaged(extent, &error))?;
        let next = match records.last() {
            Some(last) if last.offset < group.last => last.offset.plus(1),
            _ if is_last => extent.end(),
            _ => group.last.plus(1),
        };
        if records.is_empty() {
            return Err(damaged(extent, &ParquetError::Corrupt("a row group lacks the records that it counts".to_owned())).into());
        }
        let stretch = Arc::new(Stretch { from: want.from, next, records });
        self.kept.keep_stretch(extent.object, Arc::clone(&stretch));
        Ok(Some(stretch))
    }

    /// What an extent's file says of itself, held against what the ledger says of the extent.
    async fn footer(&self, topic: &Topic, partition: PartitionIndex, extent: &Extent, from: Offset) -> Result<Arc<ParquetFile>, Failure> {
        if let Some(file) = self.kept.footer(extent.object) {
            return Ok(file);
        }
        let size = extent.object_size;
        let mut wanted = ParquetFile::TAIL_BYTES.min(size);
        let file = loop {
            let tail = self.piece(topic, partition, extent, size - wanted..size, from).await?;
            match ParquetFile::open(&tail, size) {
                Err(ParquetError::NeedMore { needed }) if needed > wanted && needed <= size => wanted = needed,
                opened => break opened.map_err(|error| damaged(extent, &error))?,
            }
        };
        let within = file.first() >= extent.base_offset && file.last() < extent.end();
        if file.topic() != topic.id || file.partition() != partition || !within {
            return Err(damaged(extent, &ParquetError::Corrupt("it holds other records than the ledger says".to_owned())).into());
        }
        let file = Arc::new(file);
        self.kept.keep_footer(extent.object, Arc::clone(&file));
        Ok(file)
    }

    /// A range of the extent's object with one request, wanted for the record at `from`.
    async fn piece(
        &self,
        topic: &Topic,
        partition: PartitionIndex,
        extent: &Extent,
        range: std::ops::Range<u64>,
        from: Offset,
    ) -> Result<Bytes, Failure> {
        match self.cache.get_piece(&place(topic, extent), range, self.pool(extent)).await {
            Ok(bytes) => Ok(bytes),
            Err(StoreError::NotFound { .. }) => Err(self.missing(topic, partition, extent, from).await),
            Err(error) => Err(unreadable(extent, &error).into()),
        }
    }

    /// The damage may be the cache's, or done on the way from the store: fetches what is needed for `from` past the cache.
    /// Answers `error` if the store does not have it.
    async fn renew_file(&self, topic: &Topic, extent: &Extent, from: Offset, error: Error) -> Result<(), Error> {
        self.kept.forget(extent.object);
        let (place, size) = (place(topic, extent), extent.object_size);
        let renewed = async {
            let mut wanted = ParquetFile::TAIL_BYTES.min(size);
            loop {
                let tail = self.cache.renew_piece(&place, size - wanted..size).await?;
                match ParquetFile::open(&tail, size) {
                    Err(ParquetError::NeedMore { needed }) if needed > wanted && needed <= size => wanted = needed,
                    Ok(file) => {
                        if let Some(group) = file.row_group_from(from).and_then(|index| file.row_groups().get(index)) {
                            self.cache.renew_piece(&place, group.bytes.clone()).await?;
                        }
                        return Ok(());
                    }
                    // It is damaged in the store: reading it again says so.
                    Err(_) => return Ok::<(), StoreError>(()),
                }
            }
        };
        renewed.await.map_err(|_| error)
    }
}

/// Where an extent's object is.
pub(super) fn place(topic: &Topic, extent: &Extent) -> Place {
    Place { id: extent.object, key: object_key(&topic.namespace, &topic.name, extent).into(), size: extent.object_size }
}
