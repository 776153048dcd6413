//! What the metadata says is stored: every live extent by object, and whether the metadata agrees with itself.

use std::collections::BTreeMap;

use lakefall_metadata::{ExtentScan, StoreError, rebuild};
use lakefall_queue::ledger::{Extent, Ledger, Partition};
use lakefall_queue::{PartitionIndex, SegmentId, ShardId, TopicId};

use super::report::{Report, TopicReport};
use crate::commands::stored::Stored;

/// Extents read at once.
const PAGE: usize = 10_000;

/// All objects that some shard knows.
#[derive(Default)]
pub(super) struct Known {
    pub(super) objects: BTreeMap<SegmentId, KnownObject>,
}

/// An object as the metadata sees it.
#[derive(Default)]
pub(super) struct KnownObject {
    /// Bytes, unless it was refused unseen.
    pub(super) size: Option<u64>,
    /// Of a Parquet file.
    pub(super) key: Option<String>,
    /// Live extents that the shards count in it.
    counted: u64,
    /// Live extents that lie in it.
    pub(super) extents: Vec<Place>,
}

/// A live extent and whose it is.
pub(super) struct Place {
    /// Index into [`Report::topics`].
    pub(super) topic: usize,
    pub(super) partition: PartitionIndex,
    pub(super) extent: Extent,
}

impl Known {
    /// Reads all shards.
    pub(super) async fn load(store: &Stored, report: &mut Report) -> Result<Self, StoreError> {
        let mut known = Self::default();
        let shards = store.shards().await?;
        for shard in (0..shards).map(ShardId) {
            let ledger = rebuild(shard, shards, store.inspect(shard).await?)?;
            known.load_shard(store, &ledger, report).await?;
        }
        known.check_counts(report);
        Ok(known)
    }

    async fn load_shard(&mut self, store: &Stored, ledger: &Ledger, report: &mut Report) -> Result<(), StoreError> {
        for object in ledger.objects() {
            let known = self.objects.entry(object.id).or_default();
            known.size = known.size.or((object.size > 0).then_some(object.size));
            known.key = known.key.take().or_else(|| object.key.as_deref().map(ToOwned::to_owned));
            known.counted += u64::from(object.live_extents);
        }
        let mut places: BTreeMap<TopicId, usize> = BTreeMap::new();
        for topic in ledger.topics() {
            places.insert(topic.id, new_topic(format!("{}/{}", topic.namespace, topic.name), report));
        }
        for (topic, index, partition) in ledger.partitions() {
            let place = *places.entry(topic).or_insert_with(|| new_topic(format!("(deleted topic {topic})"), report));
            report.topics[place].partitions += 1;
            let extents = load_partition(store, ledger.shard(), (topic, index), partition).await?;
            check_partition(&format!("{} partition {index}", report.topics[place].topic), index, partition, &extents, report);
            for extent in extents {
                let row = &mut report.topics[place];
                row.extents += 1;
                row.records += u64::from(extent.records);
                row.bytes += u64::from(extent.length);
                self.objects.entry(extent.object).or_default().extents.push(Place { topic: place, partition: index, extent });
            }
        }
        Ok(())
    }

    fn check_counts(&self, report: &mut Report) {
        for (id, object) in &self.objects {
            let found = object.extents.len() as u64;
            if object.counted != found {
                report.metadata(
                    object.key.clone().unwrap_or_else(|| id.key()),
                    format!("the metadata counts {} live extents in it and names {found}", object.counted),
                );
            }
        }
    }
}

fn new_topic(topic: String, report: &mut Report) -> usize {
    report.topics.push(TopicReport { topic, partitions: 0, extents: 0, records: 0, bytes: 0, damaged: 0 });
    report.topics.len() - 1
}

/// All extents that were not let go of: the stored ones, those that were swapped since the last checkpoint, and those that only the
/// journal holds.
async fn load_partition(
    store: &Stored,
    shard: ShardId,
    (topic, index): (TopicId, PartitionIndex),
    partition: &Partition,
) -> Result<Vec<Extent>, StoreError> {
    let mut extents: Vec<Extent> = Vec::new();
    let (mut from, below) = (partition.retired(), partition.first_recent());
    while from < below {
        let scan = ExtentScan { topic, partition: index, from, below, max_bytes: u64::MAX, max_extents: PAGE };
        let page = store.store().scan_extents(shard, scan).await?;
        // Each page goes on where the one before ended: the scan answers only extents that end after `from`.
        let Some(last) = page.last() else { break };
        from = last.end();
        extents.extend(page);
    }
    Ok(partition.extents_with(extents))
}

/// The extents follow each other from the oldest to the end, and sum up to what is told of the partition.
fn check_partition(place: &str, index: PartitionIndex, partition: &Partition, extents: &[Extent], report: &mut Report) {
    let mut next = partition.retired();
    for extent in extents {
        if extent.base_offset != next {
            report.metadata(place.to_owned(), format!("an extent begins at {}, where {next} was expected", extent.base_offset));
        }
        next = extent.end();
    }
    if next != partition.end() {
        report.metadata(place.to_owned(), format!("its extents end at {next}, and the partition at {}", partition.end()));
    }
    let status = partition.status(index);
    let bytes: u64 = extents.iter().map(|extent| u64::from(extent.length)).sum();
    if (status.extents, status.bytes) != (extents.len() as u64, bytes) {
        let told = format!("{} extents with {} bytes", status.extents, status.bytes);
        report.metadata(place.to_owned(), format!("it counts {told}, and names {} with {bytes}", extents.len()));
    }
}
