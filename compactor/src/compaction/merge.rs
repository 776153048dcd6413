//! Merges the segments of gateways: batches are taken over as they are, so that nothing is compressed anew.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use lakefall_metadata::Meter;
use lakefall_queue::ledger::{Compactable, CompactablePartition, Extent, NewExtent, ObjectLevel, RetiredExtent, Swap, SwapPart, Work};
use lakefall_queue::usage::Tally;
use lakefall_queue::{Offset, SegmentId, ShardId, Timestamp};
use lakefall_service::failpoint;
use lakefall_storage::batch::{DecodeContext, decode, walk};
use lakefall_storage::meter::within;
use lakefall_storage::parquet::{ChainDigest, ChainHash};
use lakefall_storage::segment::{Segment, SegmentBuilder, SegmentIndex, take_over};
use tokio::time::Instant;

use super::plan::{self, Due, MergePart, Merges, Unmerged};
use super::publish::taken;
use super::{CompactError, Compactor, Unreadable};

/// Extents of a partition looked at.
const EXTENTS: usize = 4_000;
/// Objects fetched at once.
const AT_ONCE: usize = 16;
/// Extents of so many bytes on average are rolled as they are. Smaller ones are many more requests for the same records.
const LARGE_EXTENT: u64 = 128 << 10;

/// Bytes of objects, each from a position on.
type Fetched = Arc<BTreeMap<SegmentId, (u64, Bytes)>>;

/// A merged segment and the records in it, by part.
struct Built {
    segment: Segment,
    hashes: Vec<ChainDigest>,
}

/// Why a segment could not be built, and whose extent it was.
struct Unfit {
    part: usize,
    key: String,
    reason: String,
}

/// What a merge takes, to be shared among the topics in it by their bytes. Done when it is dropped: whatever becomes of the merge, also
/// if it is cut off with its claim or by a stop, its requests were sent.
struct Charge<'a> {
    usage: &'a Meter,
    parts: &'a [MergePart],
    tally: Arc<Tally>,
}

impl Drop for Charge<'_> {
    fn drop(&mut self) {
        let weights: Vec<u64> = self.parts.iter().map(|part| plan::bytes(&part.extents)).collect();
        for (part, counts) in self.parts.iter().zip(self.tally.take().shared(&weights)) {
            self.usage.add(part.topic, &counts);
        }
    }
}

impl Compactor {
    /// Merges what is due in a shard. Answers when to look again by itself, and whether something was done.
    pub(super) async fn merge_shard(&self, shard: ShardId, found: &Compactable) -> Result<(Option<Timestamp>, bool), CompactError> {
        let merges = self.plan_merges(found).await?;
        if merges.objects.is_empty() {
            return Ok((merges.due, false));
        }
        let planned = merges.objects;
        let work = async {
            for parts in &planned {
                let charge = Charge { usage: &self.usage, parts, tally: Arc::default() };
                within(Arc::clone(&charge.tally), self.merge(shard, parts)).await?;
            }
            Ok(())
        };
        Box::pin(self.claimed(shard, Work::Merge, work)).await?;
        Ok((merges.due, true))
    }

    async fn plan_merges(&self, found: &Compactable) -> Result<Merges, CompactError> {
        let mut unmerged = Vec::new();
        for partition in found.partitions.iter().filter(|partition| partition.merged < partition.end) {
            let work = Work::Partition(partition.topic, partition.partition);
            // Being rolled, or put aside.
            if found.claims.iter().any(|claim| claim.work == work) {
                continue;
            }
            match self.is_rolled_next(partition, found.now).await {
                Ok(false) => {}
                Ok(true) | Err(CompactError::Gone) => continue,
                Err(error) => return Err(error),
            }
            match self.extents(partition, partition.merged, EXTENTS).await {
                Ok(mut extents) => {
                    let gateways = extents.iter().take_while(|extent| extent.level == ObjectLevel::Segment).count();
                    extents.truncate(gateways);
                    let (topic, index, generation) = (partition.topic, partition.partition, partition.generation);
                    // Appended since the partition was listed: next time.
                    extents.retain(|extent| extent.end() <= partition.end);
                    unmerged.push(Unmerged { topic, partition: index, generation, extents });
                }
                Err(CompactError::Gone) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(plan::merges(&unmerged, found.now, self.config.merge_interval, self.config.merge_bytes))
    }

    /// Whether a partition becomes Parquet at once, from extents that are worth a request each: merging them first would only read and
    /// write them once more.
    async fn is_rolled_next(&self, partition: &CompactablePartition, now: Timestamp) -> Result<bool, CompactError> {
        if partition.unmerged_bytes < partition.unmerged_extents.saturating_mul(LARGE_EXTENT) || self.failing.has(partition) {
            return Ok(false);
        }
        let topic = self.topic(partition).await?;
        Ok(plan::due(partition, &topic.config.parquet, now, self.config.roll_bytes) == Due::Now)
    }

    async fn merge(&self, shard: ShardId, parts: &[MergePart]) -> Result<(), CompactError> {
        let begun = Instant::now();
        let fetched = self.fetch_objects(parts).await?;
        let owned: Arc<[MergePart]> = parts.into();
        let build = {
            let owned = Arc::clone(&owned);
            move || build(&owned, &fetched)
        };
        let built = self.threads.run(build).await.map_err(|error| CompactError::Defect(error.to_string()))?;
        let built = match built {
            Ok(built) => built,
            Err(Unfit { part, key, reason }) => {
                let error = CompactError::damaged(&key, &reason);
                self.put_aside(parts[part].topic, parts[part].partition, &error).await;
                return Err(error);
            }
        };
        let (size, index, hashes) = (built.segment.len, built.segment.index.clone(), built.hashes);
        let object = SegmentId::mint(self.ambient.now(), self.ambient.entropy.draw());
        self.put(&object.key(), built.segment.chunks).await?;
        failpoint::hit("c3");
        let stored = self.fetch(&object.key(), 0..size).await?;
        let checked =
            self.threads.run(move || check(&stored, &owned, &hashes)).await.map_err(|error| CompactError::Defect(error.to_string()))?;
        checked.map_err(|error| CompactError::damaged(&object.key(), &error))?;
        let swapped = parts.iter().zip(&index.extents).map(|(part, entry)| SwapPart {
            topic: part.topic,
            partition: part.partition,
            generation: part.generation,
            old: part.extents.iter().map(RetiredExtent::from).collect(),
            new: NewExtent {
                position: entry.position,
                // No object is that large.
                length: u32::try_from(entry.length).unwrap_or(u32::MAX),
                first_timestamp: part.extents.iter().map(|extent| extent.first_timestamp).min().unwrap_or_default(),
                max_timestamp: part.extents.iter().map(|extent| extent.max_timestamp).max().unwrap_or_default(),
                appended_at: part.extents.first().map(|extent| extent.appended_at).unwrap_or_default(),
            },
            settled: None,
            rest_since: None,
        });
        let swap = Swap { object, size, level: ObjectLevel::Merged, key: None, parts: swapped.collect() };
        let reply = self.swap(shard, swap).await?;
        let refused = reply.slices.iter().filter(|outcome| taken(Some(outcome)).is_err()).count();
        let bytes = parts.iter().map(|part| plan::bytes(&part.extents)).sum();
        self.progress.did(ObjectLevel::Merged, bytes, size, begun);
        tracing::debug!(object = %object, parts = parts.len(), refused, bytes, "segments were merged");
        if refused == parts.len() { Err(CompactError::Changed) } else { Ok(()) }
    }

    /// The wanted bytes of all objects: of each with one request. What is between them is others' of the same age.
    async fn fetch_objects(&self, parts: &[MergePart]) -> Result<Fetched, CompactError> {
        let mut wanted: BTreeMap<SegmentId, (u64, u64)> = BTreeMap::new();
        for extent in parts.iter().flat_map(|part| &part.extents) {
            let end = extent.position + u64::from(extent.length);
            let range = wanted.entry(extent.object).or_insert((extent.position, end));
            *range = (range.0.min(extent.position), range.1.max(end));
        }
        let fetches = futures::stream::iter(wanted).map(|(object, (start, end))| async move {
            let bytes = self.fetch(&object.key(), start..end).await?;
            Ok::<_, CompactError>((object, (start, bytes)))
        });
        Ok(Arc::new(fetches.buffer_unordered(AT_ONCE).try_collect().await?))
    }
}

fn build(parts: &[MergePart], fetched: &BTreeMap<SegmentId, (u64, Bytes)>) -> Result<Built, Unfit> {
    let mut builder = SegmentBuilder::new();
    let mut hashes = Vec::with_capacity(parts.len());
    for (index, part) in parts.iter().enumerate() {
        let first = part.extents.first().map(|extent| extent.appended_at).unwrap_or_default();
        let mut hash = ChainHash::new();
        for extent in &part.extents {
            let unfit = |reason: String| Unfit { part: index, key: extent.object.key(), reason };
            let bytes = slice(extent, fetched).ok_or_else(|| unfit("it is shorter than the ledger says".to_owned()))?;
            hash_extent(&bytes, part, extent.base_offset, extent.end(), extent.appended_at, false, &mut hash)
                .map_err(|error| unfit(error.to_string()))?;
            let later = u32::try_from(extent.appended_at.as_millis() - first.as_millis());
            let later = later.map_err(|_| unfit("it was appended before the extent in front of it".to_owned()))?;
            for batch in take_over(&bytes, later, false).map_err(|error| unfit(error.to_string()))? {
                builder.add(part.topic, part.partition, batch).map_err(|error| unfit(error.to_string()))?;
            }
        }
        hashes.push(hash.digest());
    }
    Ok(Built { segment: builder.finish(), hashes })
}

fn slice(extent: &Extent, fetched: &BTreeMap<SegmentId, (u64, Bytes)>) -> Option<Bytes> {
    let (start, bytes) = fetched.get(&extent.object)?;
    let from = usize::try_from(extent.position.checked_sub(*start)?).ok()?;
    let to = from.checked_add(extent.length as usize)?;
    (to <= bytes.len()).then(|| bytes.slice(from..to))
}

/// Adds the records of consecutive batches to a hash; they must be those from `base` to `end`.
fn hash_extent(
    bytes: &Bytes,
    part: &MergePart,
    base: Offset,
    end: Offset,
    appended_at: Timestamp,
    merged: bool,
    hash: &mut ChainHash,
) -> Result<(), Unreadable> {
    let mut next = base;
    let mut records = Vec::new();
    for step in walk(bytes) {
        let (header, range) = step?;
        let context = DecodeContext { merged, ..DecodeContext::new(part.partition, next, appended_at) };
        decode(&bytes.slice(range), context, Offset(0), &mut records)?;
        records.drain(..).for_each(|record| hash.update(&record));
        next = next.plus(u64::from(header.records));
    }
    if next == end { Ok(()) } else { Err(Unreadable::Other("an extent holds other records than the ledger says".to_owned())) }
}

/// What is stored holds the records of the parts.
fn check(stored: &Bytes, parts: &[MergePart], hashes: &[ChainDigest]) -> Result<(), Unreadable> {
    let other = |reason: &str| Unreadable::Other(reason.to_owned());
    let index = SegmentIndex::decode(stored, stored.len() as u64).map_err(|error| Unreadable::Other(error.to_string()))?;
    if index.extents.len() != parts.len() {
        return Err(other("it does not have the extents that were written"));
    }
    for ((part, entry), expected) in parts.iter().zip(&index.extents).zip(hashes) {
        let (Some(first), Some(last)) = (part.extents.first(), part.extents.last()) else { continue };
        // In bounds: the index was found to fit the object.
        let bytes = stored.slice(entry.position as usize..(entry.position + entry.length) as usize);
        let mut hash = ChainHash::new();
        hash_extent(&bytes, part, first.base_offset, last.end(), first.appended_at, true, &mut hash)?;
        if hash.digest() != *expected || (entry.topic, entry.partition) != (part.topic, part.partition) {
            return Err(other("what was stored is not what was written"));
        }
    }
    Ok(())
}
