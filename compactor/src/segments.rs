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
    fn every_segment_lies_in_one_of_the_folders() {
        let id = SegmentId::mint(lakefall_queue::Timestamp::from_millis(1), 7);
        assert!(spread().any(|at| id.key().starts_with(&format!("{}/", prefix(at)))));
    }
}
