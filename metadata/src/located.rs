//! Where records are, as one answer: the newest extents are in the owner's memory, the older ones in the store.

use lakefall_queue::error::{Error, Result};
use lakefall_queue::ledger::{Extent, Located};
use lakefall_queue::{Offset, PartitionIndex, ShardId, Timestamp, TopicId};

use crate::store::{ExtentScan, MetadataStore, StoreError};

/// Puts the extents that left the owner's memory before those that are in it, and those that took the place of stored ones
/// where they belong. `None`: since the owner was asked, the first ones were retired, or others took their place.
pub(crate) async fn with_stored(store: &dyn MetadataStore, shard: ShardId, scan: ExtentScan, located: Located) -> Result<Option<Located>> {
    let overlay = located.overlay;
    let located = Located { overlay: Vec::new(), ..located };
    let from = scan.from.max(located.retired);
    if from >= located.first_recent || from >= located.end {
        return Ok(Some(located));
    }
    let stored = if overlaid_wholly(&overlay, from, &located) {
        Vec::new()
    } else {
        store.scan_extents(shard, ExtentScan { from, below: located.first_recent, ..scan }).await.map_err(read_error)?
    };
    let (mut overlay, mut stored) = (overlay.into_iter().peekable(), stored.into_iter().peekable());
    let mut extents: Vec<Extent> = Vec::new();
    let (mut at, mut bytes) = (from, 0);
    let room = |extents: &[Extent], bytes| extents.len() < scan.max_extents && (bytes < scan.max_bytes || extents.is_empty());
    while at < located.first_recent && room(&extents, bytes) {
        while stored.next_if(|extent| extent.end() <= at).is_some() {}
        let next = match overlay.next_if(|extent| extent.base_offset <= at) {
            Some(extent) => extent,
            None => match stored.next() {
                Some(extent) => extent,
                // The scan ended at its budget, or has nothing at all.
                None => break,
            },
        };
        // Only the first may begin before what is wanted.
        if next.base_offset > at || (next.base_offset < at && !extents.is_empty()) {
            return Ok(None);
        }
        at = next.end();
        bytes += u64::from(next.length);
        extents.push(next);
    }
    if extents.is_empty() {
        return Ok(None);
    }
    for extent in &located.extents {
        if extent.base_offset != at || !room(&extents, bytes) {
            break;
        }
        at = extent.end();
        bytes += u64::from(extent.length);
        extents.push(*extent);
    }
    // What is known of the partition itself, also that its topic is gone, is the owner's to say.
    Ok(Some(Located { extents, ..located }))
}

/// Whether nothing from `from` to what is in memory needs the store.
fn overlaid_wholly(overlay: &[Extent], from: Offset, located: &Located) -> bool {
    let reached = overlay.iter().fold(from, |at, extent| if extent.base_offset <= at { at.max(extent.end()) } else { at });
    reached >= located.first_recent
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
    let overlaid = located.overlay.first().copied();
    let located = Located { overlay: Vec::new(), ..located };
    if located.log_start >= located.first_recent {
        return Ok(located);
    }
    let found = store.find_extent(shard, topic, partition, located.log_start, at).await.map_err(read_error)?;
    let found = found.filter(|extent| extent.base_offset < located.first_recent);
    // If the stored one was replaced, the one in its place begins no later and has such a record, too.
    let first = match (overlaid, found) {
        (Some(over), Some(stored)) if stored.base_offset < over.base_offset => Some(stored),
        (Some(over), _) => Some(over),
        (None, stored) => stored,
    };
    Ok(match first {
        Some(extent) => Located { extents: vec![extent], ..located },
        None => located,
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
