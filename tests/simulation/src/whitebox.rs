//! What must hold inside, looked at when all is over: what the ledgers say is in the store, whole and once (W1, W2), nothing lies
//! there that nobody needs (W3), and all counts agree (W7).

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use futures::TryStreamExt;
use lakefall_compactor::mark::{self, Mark};
use lakefall_metadata::memory::MemoryStore;
use lakefall_metadata::{ExtentScan, MetadataStore, rebuild};
use lakefall_queue::ledger::key::parquet_id;
use lakefall_queue::ledger::{Extent, Ledger, ObjectLevel, ObjectStatus, Partition};
use lakefall_queue::{PartitionIndex, SegmentId, ShardId, Timestamp, TopicId};
use lakefall_storage::batch::walk;
use lakefall_storage::parquet::{self, ParquetFile};
use lakefall_storage::segment;
use object_store::{ObjectStore, ObjectStoreExt};

use crate::plan::Plan;
use crate::time;
use crate::world::World;

/// What was found.
#[derive(Debug, Default)]
pub struct Inside {
    /// Live extents that were checked.
    pub extents: usize,
    /// Of those, in Parquet files and merged segments.
    pub compacted: usize,
    /// Objects that were checked.
    pub objects: usize,
    /// Objects that were deleted or refused, as far as ledgers remember.
    pub let_go: usize,
    /// Records that the ledgers say are stored, by topic and partition.
    pub records: BTreeMap<(String, u32), (u64, u64)>,
    /// What is wrong.
    pub wrong: Vec<String>,
}

impl Inside {
    fn wrong(&mut self, what: String) {
        self.wrong.push(what);
    }
}

/// Looks at everything. Nothing runs any more.
pub async fn look(world: &World) -> Inside {
    let mut inside = Inside::default();
    let mut known: BTreeMap<SegmentId, ObjectStatus> = BTreeMap::new();
    let mut extents: Vec<(PartitionIndex, Extent)> = Vec::new();
    for shard in (0..world.plan.shards).map(ShardId) {
        match ledger(&world.database, shard, world.plan.shards).await {
            Ok(ledger) => {
                for object in ledger.objects() {
                    let live = object.live_extents;
                    let standing = known.entry(object.id).or_insert(object);
                    standing.live_extents = standing.live_extents.max(live);
                }
                partitions(world, &ledger, &mut extents, &mut inside).await;
            }
            Err(error) => inside.wrong(format!("W6: shard {shard} cannot be built from its journal: {error}")),
        }
    }
    inside.let_go = known.values().filter(|object| object.live_extents == 0).count();
    stored(world, &known, &extents, &mut inside).await;
    orphans(world, &known, &mut inside).await;
    inside
}

async fn ledger(database: &MemoryStore, shard: ShardId, shards: u32) -> Result<Ledger, lakefall_metadata::StoreError> {
    let lease = database.take(shard).await?;
    rebuild(shard, shards, database.load(&lease).await?)
}

/// W2 and W7: each offset from the first extent to the end lies in one extent, and the counts are those of the partition.
async fn partitions(world: &World, ledger: &Ledger, all: &mut Vec<(PartitionIndex, Extent)>, inside: &mut Inside) {
    let names: BTreeMap<TopicId, String> = ledger.topics().map(|topic| (topic.id, topic.name.to_string())).collect();
    for (topic, index, partition) in ledger.partitions() {
        let name = names.get(&topic).cloned().unwrap_or_else(|| format!("deleted topic {topic}"));
        let place = format!("{name} partition {index}");
        let extents = match extents_of(&world.database, ledger.shard(), (topic, index), partition).await {
            Ok(extents) => extents,
            Err(error) => return inside.wrong(format!("W2: {place}: {error}")),
        };
        let mut next = partition.retired();
        for extent in &extents {
            if extent.base_offset != next {
                inside.wrong(format!("W2: {place}: an extent begins at {}, where {next} was expected", extent.base_offset));
            }
            next = extent.end();
        }
        if next != partition.end() {
            inside.wrong(format!("W2: {place}: its extents end at {next}, and the partition at {}", partition.end()));
        }
        let status = partition.status(index);
        let bytes: u64 = extents.iter().map(|extent| u64::from(extent.length)).sum();
        if (status.extents, status.bytes) != (extents.len() as u64, bytes) {
            inside.wrong(format!(
                "W7: {place}: it counts {} extents with {} bytes, and has {} with {bytes}",
                status.extents,
                status.bytes,
                extents.len()
            ));
        }
        inside.records.insert((name, index.0), (partition.log_start().0, partition.end().0));
        all.extend(extents.into_iter().map(|extent| (index, extent)));
    }
}

async fn extents_of(
    database: &MemoryStore,
    shard: ShardId,
    (topic, index): (TopicId, PartitionIndex),
    partition: &Partition,
) -> Result<Vec<Extent>, lakefall_metadata::StoreError> {
    let (from, below) = (partition.retired(), partition.first_recent());
    let mut extents = Vec::new();
    if from < below {
        let scan = ExtentScan { topic, partition: index, from, below, max_bytes: u64::MAX, max_extents: usize::MAX };
        extents = database.scan_extents(shard, scan).await?;
    }
    Ok(partition.extents_with(extents))
}

/// W1: each extent's object is there, and its bytes are those that the ledger describes.
async fn stored(world: &World, known: &BTreeMap<SegmentId, ObjectStatus>, extents: &[(PartitionIndex, Extent)], inside: &mut Inside) {
    let mut by_object: BTreeMap<SegmentId, Vec<&(PartitionIndex, Extent)>> = BTreeMap::new();
    for extent in extents {
        by_object.entry(extent.1.object).or_default().push(extent);
    }
    for (id, of_object) in by_object {
        let key = known.get(&id).and_then(|object| object.key.as_deref().map(str::to_owned)).unwrap_or_else(|| id.key());
        let bytes = match world.bucket.objects.get(&key.as_str().into()).await {
            Ok(found) => found.bytes().await.unwrap_or_default(),
            Err(error) => {
                inside.wrong(format!("W1: {key}, which {} live extents need, is not in the store: {error}", of_object.len()));
                continue;
            }
        };
        inside.objects += 1;
        let is_parquet = of_object.iter().any(|(_, extent)| extent.level == ObjectLevel::Parquet);
        let verified = if is_parquet {
            parquet::verify(&bytes, None).map(|_| ()).map_err(|error| error.to_string())
        } else {
            segment::verify(&bytes).map(|_| ()).map_err(|error| error.to_string())
        };
        if let Err(reason) = verified {
            inside.wrong(format!("W1: {key}: {reason}"));
            continue;
        }
        for (index, extent) in of_object {
            inside.extents += 1;
            inside.compacted += usize::from(extent.level != ObjectLevel::Segment);
            let checked = if is_parquet { check_file(&bytes, *index, extent) } else { check_extent(&bytes, extent) };
            if let Err(reason) = checked {
                inside.wrong(format!("W1: {key}, the extent at {}: {reason}", extent.base_offset));
            }
        }
    }
}

fn check_file(object: &Bytes, partition: PartitionIndex, extent: &Extent) -> Result<(), String> {
    let file = ParquetFile::open(object, object.len() as u64).map_err(|error| error.to_string())?;
    if file.partition() != partition || file.first() < extent.base_offset || file.last() >= extent.end() {
        return Err(format!("it holds offsets {} to {} of partition {}", file.first(), file.last(), file.partition()));
    }
    Ok(())
}

fn check_extent(object: &Bytes, extent: &Extent) -> Result<(), String> {
    let end = extent.position.saturating_add(u64::from(extent.length));
    let within = (end <= object.len() as u64).then(|| object.slice(extent.position as usize..end as usize));
    let Some(bytes) = within else { return Err("it reaches beyond the end of the object".to_owned()) };
    let mut records = 0_u64;
    for step in walk(&bytes) {
        let (header, range) = step.map_err(|error| error.to_string())?;
        header.verify(&bytes[range]).map_err(|error| error.to_string())?;
        records += u64::from(header.records);
    }
    if records == u64::from(extent.records) {
        Ok(())
    } else {
        Err(format!("it holds {records} records, and should hold {}", extent.records))
    }
}

/// How old an object that nobody needs may become before the sweep has certainly taken it.
pub fn swept_after(plan: &Plan) -> Duration {
    plan.orphan_grace + plan.orphan_interval * 2 + Duration::from_secs(30)
}

/// W3: what no ledger knows is younger than a sweep would leave it. What the collector's mark says is to be kept for an operator is kept:
/// a store that hid the mark from a collector that started looks to it like one that was used before.
async fn orphans(world: &World, known: &BTreeMap<SegmentId, ObjectStatus>, inside: &mut Inside) {
    let horizon = Timestamp::from_millis(time::EPOCH_MS + time::elapsed().as_millis() as i64).minus(swept_after(&world.plan));
    let kept = mark(world).await;
    let listed: Vec<_> = world.bucket.objects.list(None).try_collect().await.unwrap_or_default();
    for meta in listed {
        let key = meta.location.to_string();
        let Some(id) = SegmentId::from_key(&key).or_else(|| parquet_id(&key)) else { continue };
        if kept.as_ref().is_some_and(|mark| mark.spares(id)) {
            continue;
        }
        if !known.contains_key(&id) && id.minted_at() < horizon {
            inside.wrong(format!("W3: {key} is needed by nobody since {:?}", id.minted_at()));
        }
    }
}

async fn mark(world: &World) -> Option<Mark> {
    let found = world.bucket.objects.get(&mark::KEY.into()).await.ok()?;
    Mark::decode(&found.bytes().await.ok()?).ok()
}
