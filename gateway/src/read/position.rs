//! From a start (an offset, a time, an end of the log) to an offset.

use lakefall_queue::error::Result;
use lakefall_queue::ledger::Query;
use lakefall_queue::topic::Topic;
use lakefall_queue::verbs::Start;
use lakefall_queue::{Offset, PartitionIndex, Timestamp};

use super::{At, Reader};

impl Reader {
    pub(super) async fn begin(&self, topic: &Topic, partition: PartitionIndex, start: Start) -> Result<At> {
        if let Start::Offset(next) = start {
            // Located when it is read; the bounds come with that.
            return Ok(At { partition, next, log_start: Offset(0), end: next, finished: false });
        }
        let bounds = Query::Locate { topic: topic.id, partition, from: Offset(u64::MAX), max_bytes: 0, max_extents: 0 };
        let located = self.located(topic, bounds).await?;
        let next = match start {
            Start::Offset(next) => next,
            Start::Earliest => located.log_start,
            Start::Latest => located.end,
            Start::Last(count) => Offset(located.end.0.saturating_sub(count)).max(located.log_start),
            Start::Timestamp(at) => self.first_at(topic, partition, at, located.end).await?,
        };
        Ok(At { partition, next, log_start: located.log_start, end: located.end, finished: false })
    }

    /// The first record at or after `at`, or `end`.
    async fn first_at(&self, topic: &Topic, partition: PartitionIndex, at: Timestamp, end: Offset) -> Result<Offset> {
        let located = self.located(topic, Query::LocateTime { topic: topic.id, partition, at }).await?;
        let Some(extent) = located.extents.first() else { return Ok(end) };
        let from = extent.base_offset.max(located.log_start);
        let mut batch = self.first_batch(topic, partition, extent, from).await?;
        while let Some((records, next)) = batch {
            if let Some(found) = records.iter().find(|record| record.timestamp >= at) {
                return Ok(found.offset);
            }
            batch = if next < extent.end() { self.first_batch(topic, partition, extent, next).await? } else { None };
        }
        // The extent's only records at or after the time were trimmed away: what follows it is younger.
        Ok(extent.end())
    }
}
