//! The work on one partition: what waits is rolled into Parquet files, small files are merged, and where only the last record
//! of each key is kept, the others are taken out.

use std::sync::Arc;

use lakefall_queue::ledger::{Answer, CompactablePartition, Extent, ObjectLevel, Query, Refusal, SMALL_FILES};
use lakefall_queue::topic::{Cleanup, Topic};
use lakefall_queue::{Offset, Timestamp};
use tokio::time::Instant;

use super::convert::{Conversion, Recipe};
use super::plan::{self, Due, Period};
use super::publish::Candidate;
use super::{CompactError, Compactor, unexpected};

/// Extents located at once; those behind wait for the next round.
const EXTENTS: usize = 4_000;

impl Compactor {
    /// A topic by its number.
    pub(super) async fn topic(&self, partition: &CompactablePartition) -> Result<Arc<Topic>, CompactError> {
        match self.metadata.query(partition.topic.shard(), Query::TopicById(partition.topic)).await {
            Ok(Answer::Topic(topic)) => Ok(Arc::new(topic)),
            Ok(other) => Err(unexpected(&other)),
            Err(error) if error == Refusal::TopicGone.into_error() => Err(CompactError::Gone),
            Err(error) => Err(error.into()),
        }
    }

    /// All that is due in a partition which this compactor has claimed. Answers whether something was done.
    pub(super) async fn work_on(&self, listed: &CompactablePartition, topic: &Arc<Topic>, now: Timestamp) -> Result<bool, CompactError> {
        // What was listed may be of before the claim.
        let Some(mut partition) = self.standing(listed).await? else { return Ok(false) };
        let mut did = false;
        if plan::due(&partition, &topic.config.parquet, now, self.config.roll_bytes) == Due::Now {
            did |= Box::pin(self.roll(&mut partition, topic, now)).await?;
        }
        if partition.small >= SMALL_FILES {
            did |= Box::pin(self.tidy(&mut partition, topic, now)).await?;
        }
        Ok(did)
    }

    async fn roll(&self, partition: &mut CompactablePartition, topic: &Arc<Topic>, now: Timestamp) -> Result<bool, CompactError> {
        let extents = self.extents(partition, partition.rolled, EXTENTS).await?;
        let mut files = match partition.settled < partition.rolled {
            true => self.files(partition, partition.settled).await?,
            false => Vec::new(),
        };
        let mut did = false;
        for inputs in plan::rolls(&extents, self.config.roll_bytes) {
            let before = match files.last() {
                Some(last) => Some(*last),
                None => self.file_before(partition, inputs[0].base_offset).await?,
            };
            let typed = self.typed(topic, partition, &inputs, before).await?;
            let recipe = Recipe { topic: Arc::clone(topic), typed, latest: None, large: false, gaps: false };
            let mut rest = inputs.as_slice();
            let standing = *partition;
            let mut conversion = Conversion::begin(self, &recipe, &standing, rest).await?;
            while !conversion.is_done() {
                let begun = Instant::now();
                let Ok(made) = Box::pin(conversion.file()).await? else {
                    return Err(CompactError::Defect("inputs that hold records became none".to_owned()));
                };
                let (old, left) = rest.split_at(made.inputs);
                // Where keys are compacted, this says what was cleaned.
                let settled = if topic.config.cleanup == Cleanup::Compact {
                    None
                } else {
                    plan::files(&files, Period::of(&topic.config.retention), now).settled
                };
                let end = old.last().map(Extent::end);
                let rest_since = extents.iter().find(|extent| Some(extent.base_offset) == end).map(|extent| extent.appended_at);
                files.push(self.publish(partition, Candidate { topic, old, written: made.written, settled, rest_since }, begun).await?);
                (rest, did) = (left, true);
                partition.small += 1;
            }
        }
        Ok(did)
    }

    /// Merges small files, and takes out what is superseded.
    async fn tidy(&self, partition: &mut CompactablePartition, topic: &Arc<Topic>, now: Timestamp) -> Result<bool, CompactError> {
        let compact = topic.config.cleanup == Cleanup::Compact;
        if compact {
            let files = self.files(partition, partition.retired).await?;
            if let Some(cleaning) = plan::cleaning(&files, partition.settled) {
                return Box::pin(self.clean(partition, topic, &files, cleaning.dirty.start, now)).await;
            }
        }
        let mut did = false;
        let mut files = self.files(partition, partition.settled).await?;
        loop {
            let planned = plan::files(&files, Period::of(&topic.config.retention), now);
            let Some(range) = planned.merge else { return Ok(did) };
            let old = files[range.clone()].to_vec();
            let begun = Instant::now();
            let typed = self.typed(topic, partition, &old, old.last().copied()).await?;
            let recipe = Recipe { topic: Arc::clone(topic), typed, latest: None, large: true, gaps: compact };
            let standing = *partition;
            let mut conversion = Conversion::begin(self, &recipe, &standing, &old).await?;
            let Ok(made) = Box::pin(conversion.file()).await? else {
                return Err(CompactError::Defect("files that hold records became none".to_owned()));
            };
            // All of them, or the file grew too large: the rest stays as it is.
            let old = &old[..made.inputs];
            if old.len() < 2 {
                return Ok(did);
            }
            let settled = if compact || old.len() < range.len() { None } else { planned.settled };
            let merged = self.publish(partition, Candidate { topic, old, written: made.written, settled, rest_since: None }, begun).await?;
            files.splice(range.start..range.start + old.len(), [merged]);
            did = true;
        }
    }

    /// Keeps the last record of each key of `files`, of which those before `dirty` were cleaned before.
    async fn clean(
        &self,
        partition: &mut CompactablePartition,
        topic: &Arc<Topic>,
        files: &[Extent],
        dirty: usize,
        now: Timestamp,
    ) -> Result<bool, CompactError> {
        let (latest, count) = self.latest(topic, partition, files, dirty, now).await?;
        let files = &files[..count];
        let end = files.last().map(Extent::end);
        // Inputs of which no record stayed go along with the next file.
        let mut carried: Vec<Extent> = Vec::new();
        for inputs in plan::rolls(files, plan::LARGEST_FILE) {
            let typed = self.typed(topic, partition, &inputs, inputs.last().copied()).await?;
            let recipe = Recipe { topic: Arc::clone(topic), typed, latest: Some(Arc::clone(&latest)), large: true, gaps: true };
            let standing = *partition;
            let mut conversion = Conversion::begin(self, &recipe, &standing, &inputs).await?;
            let mut rest = inputs.as_slice();
            while !conversion.is_done() {
                let begun = Instant::now();
                let made = Box::pin(conversion.file()).await?;
                let (taken, left) = rest.split_at(made.as_ref().map_or_else(|inputs| *inputs, |made| made.inputs));
                rest = left;
                carried.extend(taken);
                if let Ok(made) = made {
                    // Clean only when all is.
                    let settled = carried.last().map(Extent::end).filter(|reached| Some(*reached) == end);
                    let file = Candidate { topic, old: &carried, written: made.written, settled, rest_since: None };
                    self.publish(partition, file, begun).await?;
                    carried.clear();
                }
            }
        }
        Ok(true)
    }

    /// A partition's Parquet files from an offset on.
    async fn files(&self, partition: &CompactablePartition, from: Offset) -> Result<Vec<Extent>, CompactError> {
        let mut found = self.extents(partition, from.max(partition.retired), EXTENTS).await?;
        let count = found.iter().take_while(|extent| extent.level == ObjectLevel::Parquet && extent.end() <= partition.rolled).count();
        found.truncate(count);
        Ok(found)
    }

    /// The Parquet file that ends where `offset` is, if there is one.
    async fn file_before(&self, partition: &CompactablePartition, offset: Offset) -> Result<Option<Extent>, CompactError> {
        if offset <= partition.retired {
            return Ok(None);
        }
        let found = self.extents(partition, Offset(offset.0 - 1), 1).await?;
        Ok(found.first().copied().filter(|extent| extent.level == ObjectLevel::Parquet))
    }

    /// A partition's extents from an offset on.
    pub(super) async fn extents(&self, partition: &CompactablePartition, from: Offset, most: usize) -> Result<Vec<Extent>, CompactError> {
        let mut found: Vec<Extent> = Vec::new();
        let mut next = from;
        while found.len() < most && next < partition.end {
            let query = Query::Locate {
                topic: partition.topic,
                partition: partition.partition,
                from: next,
                max_bytes: u64::MAX,
                max_extents: most - found.len(),
            };
            match self.metadata.query(partition.topic.shard(), query).await {
                Ok(Answer::Located(located)) if located.deleted => return Err(CompactError::Gone),
                Ok(Answer::Located(located)) => {
                    let Some(last) = located.extents.last() else { break };
                    next = last.end();
                    found.extend(located.extents);
                }
                Ok(other) => return Err(unexpected(&other)),
                Err(error) if error == Refusal::TopicGone.into_error() => return Err(CompactError::Gone),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(found)
    }
}
