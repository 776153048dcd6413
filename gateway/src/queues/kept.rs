//! Records that were read to classify them, kept for those who will lease them. Bounded in bytes: what does not fit is read
//! again. What is kept occupies room of the readers' buffer.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use lakefall_queue::verbs::Admission;
use lakefall_queue::{Offset, PartitionIndex, StoredRecord, TopicId};

/// Bytes that one queue keeps, and that all queues of the gateway keep together.
const BYTES: (usize, usize) = (16 << 20, 32 << 20);
/// Pieces that one queue keeps.
const CHUNKS: usize = 32;
/// What a record takes besides its payload.
const RECORD: usize = size_of::<StoredRecord>() + 64;

/// Bytes kept in the whole process.
static KEPT: AtomicUsize = AtomicUsize::new(0);

/// What one queue keeps.
#[derive(Default)]
pub(super) struct Kept {
    chunks: VecDeque<Chunk>,
    bytes: usize,
}

/// Records that were read together.
struct Chunk {
    topic: TopicId,
    partition: PartitionIndex,
    offsets: Vec<Offset>,
    records: Vec<Option<StoredRecord>>,
    left: usize,
    bytes: usize,
    room: Arc<Admission>,
}

impl Drop for Chunk {
    fn drop(&mut self) {
        KEPT.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl Kept {
    /// Keeps records of one partition, in offset order, with the room that they occupy.
    pub(super) fn keep(&mut self, topic: TopicId, partition: PartitionIndex, records: Vec<StoredRecord>, room: Admission) {
        let bytes = records.iter().map(|record| record.payload_bytes() + RECORD).sum::<usize>();
        if records.is_empty() || bytes > BYTES.0 || KEPT.load(Ordering::Relaxed) + bytes > BYTES.1 {
            return;
        }
        KEPT.fetch_add(bytes, Ordering::Relaxed);
        let (offsets, left) = (records.iter().map(|record| record.offset).collect(), records.len());
        let records = records.into_iter().map(Some).collect();
        self.chunks.push_back(Chunk { topic, partition, offsets, records, left, bytes, room: Arc::new(room) });
        self.bytes += bytes;
        while self.bytes > BYTES.0 || self.chunks.len() > CHUNKS {
            let Some(oldest) = self.chunks.pop_front() else { break };
            self.bytes -= oldest.bytes;
        }
    }

    /// Takes what is kept of consecutive records, each with the room it came in.
    pub(super) fn take(&mut self, topic: TopicId, partition: PartitionIndex, first: Offset, count: u32, into: &mut Taken) {
        let end = first.plus(u64::from(count));
        for chunk in self.chunks.iter_mut().filter(|chunk| chunk.topic == topic && chunk.partition == partition) {
            let from = chunk.offsets.partition_point(|offset| *offset < first);
            let to = chunk.offsets.partition_point(|offset| *offset < end);
            let before = into.records.len();
            into.records.extend(chunk.records[from..to].iter_mut().filter_map(Option::take).map(|record| (topic, record)));
            let taken = into.records.len() - before;
            if taken > 0 {
                chunk.left -= taken;
                into.rooms.push(Arc::clone(&chunk.room));
            }
        }
        while self.chunks.front().is_some_and(|chunk| chunk.left == 0) {
            if let Some(empty) = self.chunks.pop_front() {
                self.bytes -= empty.bytes;
            }
        }
    }

    /// Keeps nothing any more.
    pub(super) fn clear(&mut self) {
        self.chunks.clear();
        self.bytes = 0;
    }
}

/// Records taken out, and their rooms.
#[derive(Default)]
pub(super) struct Taken {
    pub(super) records: Vec<(TopicId, StoredRecord)>,
    pub(super) rooms: Vec<Arc<Admission>>,
}
