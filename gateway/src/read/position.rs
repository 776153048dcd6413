//! From a start (an offset, a time, an end of the log) to an offset.

use lakefall_queue::error::Result;
use lakefall_queue::ledger::{Extent, Query};
use lakefall_queue::topic::Topic;
use lakefall_queue::verbs::Start;
use lakefall_queue::{Offset, PartitionIndex, Timestamp};

use super::{At, Reader};

impl Reader {
    pub(super) async fn begin(&self, topic: &Topic, partition: PartitionIndex, start: Start) -> Result<At> {
        if let Start::Offset(next) = start {
            // Located when it is read; the bounds come with that.
            return Ok(At { partition, next, log_start: Offset(0), end: next, finished: false, located: false });
        }
        let located = self.bounds(topic, partition).await?;
        let next = match start {
            Start::Offset(next) => next,
            Start::Earliest => located.log_start,
            Start::Latest => located.end,
            Start::Last(count) => Offset(located.end.0.saturating_sub(count)).max(located.log_start),
            Start::Timestamp(at) => self.first_at(topic, partition, at, located.end).await?,
        };
        Ok(At { partition, next, log_start: located.log_start, end: located.end, finished: false, located: true })
    }

    /// The first record at or after `at`, or `end`.
    async fn first_at(&self, topic: &Topic, partition: PartitionIndex, at: Timestamp, end: Offset) -> Result<Offset> {
        let mut located = self.located(topic, Query::LocateTime { topic: topic.id, partition, at }).await?;
        loop {
            let Some(last) = located.extents.last().copied() else { return Ok(end) };
            for extent in located.extents.iter().filter(|extent| extent.max_timestamp >= at) {
                let from = extent.base_offset.max(located.log_start);
                if let Some(found) = self.first_in(topic, partition, extent, from, at).await? {
                    return Ok(found);
                }
            }
            // The extent's only records at or after the time were trimmed away; what follows it may be older, too.
            if last.end() >= located.end {
                return Ok(end.max(last.end()));
            }
            located = self.locate(topic, partition, last.end(), u64::MAX).await?;
        }
    }

    /// The first record of an extent at or after `at`, from `from` on.
    async fn first_in(
        &self,
        topic: &Topic,
        partition: PartitionIndex,
        extent: &Extent,
        from: Offset,
        at: Timestamp,
    ) -> Result<Option<Offset>> {
        let mut batch = self.first_batch(topic, partition, extent, from).await?;
        while let Some((records, next)) = batch {
            if let Some(found) = records.iter().find(|record| record.timestamp >= at) {
                return Ok(Some(found.offset));
            }
            batch = self.first_batch(topic, partition, extent, next).await?;
        }
        Ok(None)
    }
}
