//! Takes batches over from one segment into another as they are. Nothing is decompressed; what is damaged is not taken.

use bytes::{Bytes, BytesMut};

use crate::batch::{BatchError, EncodedBatch, patch_appended_delta, patch_base_offset, walk};

/// The batches of an extent's `bytes`, each checked, as they stand in an extent of a merged segment whose first batch was
/// appended `later_ms` before this extent's. `merged`: they come from a merged segment themselves and keep their own times.
///
/// Small batches stay small: records of different commits cannot share a batch, as each batch says when it was appended.
pub fn take_over(bytes: &[u8], later_ms: u32, merged: bool) -> Result<Vec<EncodedBatch>, BatchError> {
    let mut copied = BytesMut::from(bytes);
    let mut found = Vec::new();
    for step in walk(bytes) {
        let (header, range) = step?;
        header.verify(&bytes[range.clone()])?;
        let own = if merged { header.appended_delta_ms()? } else { 0 };
        patch_base_offset(&mut copied[range.clone()], lakefall_queue::Offset(0))?;
        patch_appended_delta(&mut copied[range.clone()], later_ms.saturating_add(own))?;
        found.push((header, range));
    }
    let copied: Bytes = copied.freeze();
    let taken = found.into_iter().map(|(header, range)| EncodedBatch {
        bytes: copied.slice(range),
        records: header.records,
        first_timestamp: header.base_timestamp,
        max_timestamp: header.max_timestamp,
    });
    Ok(taken.collect())
}
