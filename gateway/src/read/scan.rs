//! What queries read: where all records of a topic are, in one look, and whole extents batch by batch. Nothing here takes room
//! of the readers' buffer: a query's memory is bounded by its own limits.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use lakefall_queue::error::{Error, Result};
use lakefall_queue::ledger::Extent;
use lakefall_queue::topic::Topic;
use lakefall_queue::{Offset, PartitionIndex, StoredRecord};
use lakefall_storage::cache::Pool;
use lakefall_storage::meter::within;

use super::asks::Question;
use super::columns::place;
use super::fetch::{BatchCursor, unreadable};
use super::{Failure, Reader};

/// Extents asked for at once: a kilobyte for each eight.
const EXTENTS_PER_QUESTION: usize = 1_000;
/// Partitions that are asked about at once.
const PARTITIONS_AT_ONCE: usize = 8;
/// Ranges of a file that are fetched at once.
const RANGES_AT_ONCE: usize = 4;

/// A partition, and where its records are.
pub(crate) struct Laid {
    pub(crate) partition: PartitionIndex,
    pub(crate) log_start: Offset,
    pub(crate) end: Offset,
    pub(crate) extents: Vec<Extent>,
}

impl Reader {
    /// Where all records are. The ends are told by one answer of the ledger, after the call.
    pub(crate) async fn laid(&self, topic: &Topic) -> Result<Vec<Laid>, Failure> {
        let bounds = self.all_bounds(topic).await?;
        let all = bounds.into_iter().zip(0..).map(|(bounds, index)| {
            let laid = Laid { partition: PartitionIndex(index), log_start: bounds.log_start, end: bounds.end, extents: Vec::new() };
            self.lay(topic, laid)
        });
        let all: Vec<_> = all.collect();
        futures::stream::iter(all).buffered(PARTITIONS_AT_ONCE).try_collect().await
    }

    async fn lay(&self, topic: &Topic, mut laid: Laid) -> Result<Laid, Failure> {
        let mut next = laid.log_start;
        while next < laid.end {
            let question = Question::Locate {
                topic: topic.id,
                partition: laid.partition,
                from: next,
                max_bytes: u64::MAX,
                max_extents: EXTENTS_PER_QUESTION,
            };
            let located = self.asks.located(question).await?;
            if located.log_start > next {
                // Trimmed meanwhile.
                (laid.log_start, next) = (laid.log_start.max(located.log_start), located.log_start);
                laid.end = laid.end.max(laid.log_start);
                laid.extents.retain(|extent| extent.end() > located.log_start);
                continue;
            }
            match (located.extents.first(), located.extents.last()) {
                (Some(first), Some(last)) if first.base_offset <= next && next < last.end() => next = last.end(),
                _ => return Err(Failure::Moved),
            }
            laid.extents.extend(located.extents);
        }
        Ok(laid)
    }

    /// The records of an extent from `from` on, a batch at a time.
    pub(crate) fn batches(
        self: Arc<Self>,
        topic: Arc<Topic>,
        partition: PartitionIndex,
        extent: Extent,
        from: Offset,
    ) -> BoxStream<'static, Result<Vec<StoredRecord>>> {
        let state = (self, topic, BatchCursor::new(&extent), from.max(extent.base_offset));
        let batches = futures::stream::try_unfold(state, move |(reader, topic, mut cursor, from)| async move {
            if from >= extent.end() {
                return Ok(None);
            }
            let tally = reader.usage.of(&topic).tally();
            let (records, next) = within(tally, reader.batch_or_again(&topic, partition, &extent, &mut cursor, from)).await?;
            Ok(Some((records, (reader, topic, cursor, next))))
        });
        batches.boxed()
    }

    /// A batch; where the cache has it damaged, anew.
    async fn batch_or_again(
        &self,
        topic: &Topic,
        partition: PartitionIndex,
        extent: &Extent,
        cursor: &mut BatchCursor,
        from: Offset,
    ) -> Result<(Vec<StoredRecord>, Offset)> {
        let before = cursor.clone();
        match self.batch(topic, partition, extent, cursor, from).await {
            Err(Failure::Refused(error @ Error::DataUnavailable { .. })) => {
                self.renew(extent, error).await?;
                *cursor = before;
                self.batch(topic, partition, extent, cursor, from).await.map_err(Failure::into_error)
            }
            read => read.map_err(Failure::into_error),
        }
    }

    async fn batch(
        &self,
        topic: &Topic,
        partition: PartitionIndex,
        extent: &Extent,
        cursor: &mut BatchCursor,
        from: Offset,
    ) -> Result<(Vec<StoredRecord>, Offset), Failure> {
        let batch = self.next_batch(topic, partition, extent, cursor, from).await?;
        let end = batch.end();
        Ok((self.decode_batch(batch, partition, extent, from).await?, end))
    }

    /// Ranges of a Parquet file, from the pool for replays; or past the cache, where that had damaged bytes.
    pub(crate) async fn file_ranges(&self, topic: &Topic, extent: &Extent, ranges: Vec<Range<u64>>, anew: bool) -> Result<Vec<Bytes>> {
        let file = &place(topic, extent);
        let read = ranges.into_iter().map(|range| async move {
            let read = match anew {
                true => self.cache.renew_piece(file, range).await,
                false => self.cache.get_piece(file, range, Pool::Cold).await,
            };
            read.map_err(|error| unreadable(extent, &error))
        });
        let read: Vec<_> = read.collect();
        within(self.usage.of(topic).tally(), futures::stream::iter(read).buffered(RANGES_AT_ONCE).try_collect()).await
    }
}
