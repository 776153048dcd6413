//! Segments as a listing of the store shows them, and what is in them by their own index. Reads only.

use lakefall_queue::SegmentId;
use lakefall_storage::segment::{SegmentError, SegmentIndex};
use lakefall_storage::store::{Store, StoreError};

use crate::CollectError;

/// The folders over which segments are spread, in order.
pub(crate) fn spread() -> impl Iterator<Item = u8> {
    0..=u8::MAX
}

/// The prefix of one of them.
pub(crate) fn prefix(spread: u8) -> String {
    format!("seg/{spread:02x}")
}

/// The segment that a key is of; `None` for what is not where a segment would be.
pub(crate) fn segment_id(key: &str) -> Option<SegmentId> {
    let (_, name) = key.rsplit_once('/')?;
    let id: SegmentId = serde_json::from_value(name.strip_suffix(".seg")?.into()).ok()?;
    (id.key() == key).then_some(id)
}

/// An object's index; `None` when there is no such object.
///
/// Errors: [`CollectError::Defect`] if it is no segment or damaged.
pub(crate) async fn index_of(store: &Store, id: SegmentId) -> Result<Option<SegmentIndex>, CollectError> {
    let key = id.key();
    let size = match store.head(&key).await {
        Ok(info) => info.size,
        Err(StoreError::NotFound { .. }) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let mut wanted = SegmentIndex::TAIL_BYTES;
    loop {
        let tail = store.get_range(&key, size.saturating_sub(wanted)..size).await?;
        match SegmentIndex::decode(&tail, size) {
            Ok(index) => return Ok(Some(index)),
            Err(SegmentError::NeedMore { needed }) if needed > wanted => wanted = needed,
            Err(error) => return Err(CollectError::Defect(format!("object {key} is kept, its index cannot be read: {error}"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_a_segments_only_where_that_segment_would_be_stored() {
        let id = SegmentId::mint(lakefall_queue::Timestamp::from_millis(1), 7);
        assert_eq!(segment_id(&id.key()), Some(id));
        assert_eq!(segment_id(&id.key().replace("seg/", "seg/x")), None);
        assert_eq!(segment_id("seg/00/readme.txt"), None);
        assert!(spread().any(|at| id.key().starts_with(&format!("{}/", prefix(at)))));
    }
}
