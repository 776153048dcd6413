//! From a start (an offset, a time, an end of the log) to an offset.

use lakefall_queue::ledger::{Extent, ObjectLevel};
use lakefall_queue::topic::Topic;
use lakefall_queue::verbs::Start;
use lakefall_queue::{Offset, PartitionIndex, Timestamp};

use super::asks::Question;
use super::locations::Bounds;
use super::{At, Failure, Reader};

/// How often the search for a time begins anew because records were moved.
const SEARCHES: usize = 3;

impl Reader {
    /// Where the read of each partition begins. Of several, the bounds are asked for in one question.
    pub(super) async fn places(&self, topic: &Topic, from: &[(PartitionIndex, Start)]) -> Result<Vec<At>, Failure> {
        for (partition, _) in from {
            self.check_partition(topic, *partition)?;
        }
        let all = match from {
            [_, _, ..] if from.iter().any(|(_, start)| !matches!(start, Start::Offset(_))) => Some(self.all_bounds(topic).await),
            _ => None,
        };
        let mut places = Vec::with_capacity(from.len());
        for (partition, start) in from {
            let told = match &all {
                Some(Ok(all)) => Some(Ok(all[partition.0 as usize])),
                Some(Err(failure)) => Some(Err(failure.clone())),
                None => None,
            };
            places.push(self.begin(topic, *partition, *start, told).await?);
        }
        Ok(places)
    }

    /// Where one read begins; `told` are the bounds if they were asked for before.
    async fn begin(
        &self,
        topic: &Topic,
        partition: PartitionIndex,
        start: Start,
        told: Option<Result<Bounds, Failure>>,
    ) -> Result<At, Failure> {
        if let Start::Offset(next) = start {
            // Located when it is read; the bounds come with that.
            let bounds = Bounds { log_start: Offset(0), end: next };
            return Ok(At { partition, next, bounds, finished: false, located: false, current: false, told: false });
        }
        let asked = match told {
            Some(told) => told,
            None => self.bounds(topic, partition).await,
        };
        let (bounds, current) = match (asked, self.locations.recent_bounds(topic.id, partition)) {
            (Ok(bounds), _) => (bounds, true),
            // The oldest record is remembered for as long as where it lies.
            (Err(Failure::Away(_)), Some(bounds)) if start == Start::Earliest => (bounds, false),
            (Err(failure), _) => return Err(failure),
        };
        let Bounds { log_start, end } = bounds;
        let next = match start {
            Start::Offset(next) => next,
            Start::Earliest => log_start,
            Start::Latest => end,
            Start::Last(count) => Offset(end.0.saturating_sub(count)).max(log_start),
            Start::Timestamp(time) => self.first_at(topic, partition, time, end).await?,
        };
        Ok(At { partition, next, bounds, finished: false, located: true, current, told: current })
    }

    /// The first record at or after `time`, or `end`.
    async fn first_at(&self, topic: &Topic, partition: PartitionIndex, time: Timestamp, end: Offset) -> Result<Offset, Failure> {
        for _ in 0..SEARCHES {
            match self.search(topic, partition, time, end).await {
                Err(Failure::Moved) => {}
                found => return found,
            }
        }
        Err(Failure::Moved)
    }

    async fn search(&self, topic: &Topic, partition: PartitionIndex, time: Timestamp, end: Offset) -> Result<Offset, Failure> {
        let mut located = self.asks.located(Question::Time { topic: topic.id, partition, at: time }).await?;
        loop {
            let Some(last) = located.extents.last().copied() else { return Ok(end) };
            for extent in located.extents.iter().filter(|extent| extent.max_timestamp >= time) {
                let from = extent.base_offset.max(located.log_start);
                if let Some(found) = self.first_in(topic, partition, extent, from, time).await? {
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

    /// The first record of an extent at or after `time`, from `from` on.
    async fn first_in(
        &self,
        topic: &Topic,
        partition: PartitionIndex,
        extent: &Extent,
        from: Offset,
        time: Timestamp,
    ) -> Result<Option<Offset>, Failure> {
        if extent.level == ObjectLevel::Parquet {
            return self.first_in_file(topic, partition, extent, from, time).await;
        }
        let mut batch = self.first_batch(topic, partition, extent, from).await?;
        while let Some((records, next)) = batch {
            if let Some(found) = records.iter().find(|record| record.timestamp >= time) {
                return Ok(Some(found.offset));
            }
            batch = self.first_batch(topic, partition, extent, next).await?;
        }
        Ok(None)
    }
}
