//! Where records are, as one answer: the newest extents are in the owner's memory, the older ones in the store.

use lakefall_queue::error::{Error, Result};
use lakefall_queue::ledger::{Extent, Located};
use lakefall_queue::{PartitionIndex, ShardId, Timestamp, TopicId};

use crate::store::{ExtentScan, MetadataStore, StoreError};

/// Puts the extents that left the owner's memory before those that are in it. `None`: since the owner was asked, the
/// first ones were retired and are gone from the store.
pub(crate) async fn with_stored(store: &dyn MetadataStore, shard: ShardId, scan: ExtentScan, located: Located) -> Result<Option<Located>> {
    let from = scan.from.max(located.retired);
    if from >= located.first_recent || from >= located.end {
        return Ok(Some(located));
    }
    let scan = ExtentScan { from, below: located.first_recent, ..scan };
    let mut extents = store.scan_extents(shard, scan).await.map_err(read_error)?;
    if extents.first().is_none_or(|extent| extent.base_offset > from) {
        return Ok(None);
    }
    let mut next = extents.last().map_or(from, Extent::end);
    let mut bytes: u64 = extents.iter().map(|e| u64::from(e.length)).sum();
    for extent in &located.extents {
        if extent.base_offset != next || extents.len() >= scan.max_extents || bytes >= scan.max_bytes {
            break;
        }
        next = extent.end();
        bytes += u64::from(extent.length);
        extents.push(*extent);
    }
    // What is known of the partition itself, also that its topic is gone, is the owner's to say.
    Ok(Some(Located { extents, ..located }))
}

/// The first extent with a record at or after a time, wherever it is.
pub(crate) async fn stored_time(
    store: &dyn MetadataStore,
    shard: ShardId,
    topic: TopicId,
    partition: PartitionIndex,
    at: Timestamp,
    located: Located,
) -> Result<Located> {
    if located.log_start >= located.first_recent {
        return Ok(located);
    }
    let found = store.find_extent(shard, topic, partition, located.log_start, at).await.map_err(read_error)?;
    Ok(match found {
        Some(extent) if extent.base_offset < located.first_recent => Located { extents: vec![extent], ..located },
        _ => located,
    })
}

pub(crate) fn read_error(error: StoreError) -> Error {
    match error {
        StoreError::Corrupt(reason) => Error::Internal(reason),
        StoreError::Fenced | StoreError::Held | StoreError::NotApplied(_) | StoreError::Unknown(_) | StoreError::Misconfigured(_) => {
            Error::unavailable(error.to_string())
        }
    }
}
