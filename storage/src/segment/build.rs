//! Puts batches together to a segment without copying them.

use bytes::Bytes;
use lakefall_queue::{PartitionIndex, TopicId};

use super::{ENTRY_LEN, Extent, MARK, SegmentError, SegmentIndex};
use crate::batch::EncodedBatch;

/// A finished segment, ready to be put.
#[derive(Clone, Debug)]
pub struct Segment {
    /// The object's bytes, in order.
    pub chunks: Vec<Bytes>,
    /// Their sum.
    pub len: u64,
    /// What is where.
    pub index: SegmentIndex,
}

/// Gathers batches, in the order of (topic, partition).
#[derive(Debug)]
pub struct SegmentBuilder {
    chunks: Vec<Bytes>,
    position: u64,
    extents: Vec<Extent>,
}

impl Default for SegmentBuilder {
    fn default() -> Self {
        Self::new()
    }
}

impl SegmentBuilder {
    /// An empty segment.
    pub fn new() -> Self {
        Self { chunks: vec![Bytes::from_static(&MARK)], position: MARK.len() as u64, extents: Vec::new() }
    }

    /// Adds a batch. Batches of one partition form one extent, in the order in which they are added.
    pub fn add(&mut self, topic: TopicId, partition: PartitionIndex, batch: EncodedBatch) -> Result<(), SegmentError> {
        let length = batch.bytes.len() as u64;
        let last = self.extents.last_mut();
        match last.as_ref().map(|extent| (extent.topic, extent.partition).cmp(&(topic, partition))) {
            Some(std::cmp::Ordering::Greater) => return Err(SegmentError::OutOfOrder),
            Some(std::cmp::Ordering::Equal) => {
                if let Some(extent) = last {
                    extent.length += length;
                    extent.records += u64::from(batch.records);
                    extent.max_timestamp = extent.max_timestamp.max(batch.max_timestamp);
                    extent.crc32c = crc32c::crc32c_append(extent.crc32c, &batch.bytes);
                }
            }
            None | Some(std::cmp::Ordering::Less) => {
                // The index's length is a 32-bit number of bytes.
                if self.extents.len() >= u32::MAX as usize / ENTRY_LEN {
                    return Err(SegmentError::TooManyExtents);
                }
                self.extents.push(Extent {
                    topic,
                    partition,
                    position: self.position,
                    length,
                    records: u64::from(batch.records),
                    first_timestamp: batch.first_timestamp,
                    max_timestamp: batch.max_timestamp,
                    crc32c: crc32c::crc32c(&batch.bytes),
                });
            }
        }
        self.position += length;
        self.chunks.push(batch.bytes);
        Ok(())
    }

    /// Bytes so far, without index and footer.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Whether nothing was added.
    pub fn is_empty(&self) -> bool {
        self.extents.is_empty()
    }

    /// Closes the segment with its index.
    pub fn finish(mut self) -> Segment {
        let index = SegmentIndex { extents: self.extents };
        let tail = index.encode();
        let len = self.position + tail.len() as u64;
        self.chunks.push(tail);
        Segment { chunks: self.chunks, len, index }
    }
}
