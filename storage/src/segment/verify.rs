//! Checks a segment from end to end, offline: what `lakefall fsck` runs on an object.

use bytes::Bytes;
use lakefall_queue::{Offset, Timestamp};

use super::{Extent, SegmentError, SegmentIndex, check_mark};
use crate::batch::{BatchError, DecodeContext, decode, walk};

/// What a whole segment holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentReport {
    /// The index.
    pub index: SegmentIndex,
    /// Batches in all extents.
    pub batches: u64,
    /// Records in all batches.
    pub records: u64,
}

/// Verifies every checksum, decodes every batch, and compares counts and timestamps with the index.
pub fn verify(object: &Bytes) -> Result<SegmentReport, SegmentError> {
    let mark = object.first_chunk::<8>().ok_or(SegmentError::NotASegment)?;
    check_mark(*mark)?;
    let index = SegmentIndex::decode(object, object.len() as u64)?;
    let mut report = SegmentReport { index: SegmentIndex::default(), batches: 0, records: 0 };
    for extent in &index.extents {
        report.batches += verify_extent(object, extent)?;
        report.records += extent.records;
    }
    report.index = index;
    Ok(report)
}

/// Answers the number of batches.
fn verify_extent(object: &Bytes, extent: &Extent) -> Result<u64, SegmentError> {
    // The index's layout was checked to lie within the object.
    let bytes = object.slice(extent.position as usize..(extent.position + extent.length) as usize);
    if crc32c::crc32c(&bytes) != extent.crc32c {
        return Err(SegmentError::BadExtentCrc { topic: extent.topic, partition: extent.partition });
    }
    let mut batches = 0;
    let mut base = 0_u64;
    let mut first: Option<Timestamp> = None;
    let mut max: Option<Timestamp> = None;
    for step in walk(&bytes) {
        let at = |error| SegmentError::Batch { position: extent.position, error };
        let (header, range) = step.map_err(at)?;
        let position = extent.position + range.start as u64;
        let at = |error| SegmentError::Batch { position, error };
        let mut records = Vec::new();
        let context = DecodeContext::new(extent.partition, Offset(base), Timestamp::default());
        decode(&bytes.slice(range), context, Offset(0), &mut records).map_err(at)?;
        let largest = records.iter().map(|record| record.timestamp).max();
        if largest != Some(header.max_timestamp) {
            return Err(at(BatchError::Corrupt("its largest timestamp is not its records'")));
        }
        first = first.or_else(|| records.first().map(|record| record.timestamp));
        max = max.max(largest);
        base += records.len() as u64;
        batches += 1;
    }
    if base != extent.records {
        return Err(SegmentError::Corrupt("an extent holds another number of records than its index entry says"));
    }
    if (first, max) != (Some(extent.first_timestamp), Some(extent.max_timestamp)) {
        return Err(SegmentError::Corrupt("an extent's timestamps are not those of its index entry"));
    }
    Ok(batches)
}
