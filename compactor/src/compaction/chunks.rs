//! The inputs of a job, read piece by piece in the order of offsets and checked before they count. At most two pieces are in
//! memory: one that is decoded, and one that is on its way.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use futures::future::try_join_all;
use lakefall_queue::ledger::{Extent, ObjectLevel, object_key};
use lakefall_queue::topic::Topic;
use lakefall_queue::{Offset, PartitionIndex, StoredRecord};
use lakefall_storage::batch::{DecodeContext, decode, walk};
use lakefall_storage::parquet::{ChainHash, ParquetError, ParquetFile, Want};
use lakefall_storage::segment::{SegmentError, SegmentIndex};
use lakefall_storage::store::StoreError;

use super::{CompactError, Compactor, Unreadable};

/// Small extents are fetched together, up to so many bytes.
const TOGETHER: u64 = 8 << 20;
/// And so many at once.
const AT_ONCE: usize = 16;
/// Row groups that follow each other are fetched with one request up to so many bytes.
const GROUPS: u64 = 8 << 20;

/// Some records of an input.
pub(super) struct Chunk {
    pub(super) partition: PartitionIndex,
    pub(super) key: String,
    content: Content,
}

enum Content {
    /// A whole extent of a segment.
    Batches { extent: Extent, bytes: Bytes },
    /// Row groups of a Parquet file.
    Groups { file: Arc<ParquetFile>, groups: std::ops::Range<usize>, bytes: Bytes },
}

impl Chunk {
    /// Whether the extent ends with it.
    pub(super) fn ends(&self) -> bool {
        match &self.content {
            Content::Batches { .. } => true,
            Content::Groups { file, groups, .. } => groups.end == file.row_groups().len(),
        }
    }

    /// Hands over its records in portions. `hash` is the input's so far; a Parquet file must come to its own.
    pub(super) fn feed<E: From<Unreadable>>(
        &self,
        hash: &mut ChainHash,
        mut sink: impl FnMut(Vec<StoredRecord>) -> Result<(), E>,
    ) -> Result<(), E> {
        match &self.content {
            Content::Batches { extent, bytes } => self.feed_batches(extent, bytes, &mut sink),
            Content::Groups { file, groups, bytes, .. } => {
                let start = file.row_groups()[groups.start].bytes.start;
                for (index, group) in file.row_groups().iter().enumerate().take(groups.end).skip(groups.start) {
                    let within = |at: u64| (at - start) as usize;
                    let own = bytes.slice(within(group.bytes.start)..within(group.bytes.end));
                    let mut records = Vec::new();
                    file.decode(index, &own, Want::from(Offset(0)), &mut records).map_err(Unreadable::from)?;
                    records.iter().for_each(|record| hash.update(record));
                    sink(records)?;
                }
                if self.ends() {
                    let found = std::mem::take(hash).digest();
                    if found != file.hash() {
                        return Err(Unreadable::from(ParquetError::OtherRecords { found, expected: file.hash() }).into());
                    }
                }
                Ok(())
            }
        }
    }

    fn feed_batches<E: From<Unreadable>>(
        &self,
        extent: &Extent,
        bytes: &Bytes,
        sink: &mut impl FnMut(Vec<StoredRecord>) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut base = extent.base_offset;
        for step in walk(bytes) {
            let (header, range) = step.map_err(Unreadable::from)?;
            let merged = extent.level == ObjectLevel::Merged;
            let context = DecodeContext { merged, ..DecodeContext::new(self.partition, base, extent.appended_at) };
            let mut records = Vec::new();
            decode(&bytes.slice(range), context, Offset(0), &mut records).map_err(Unreadable::from)?;
            base = base.plus(u64::from(header.records));
            if base > extent.end() {
                break;
            }
            sink(records)?;
        }
        if base == extent.end() {
            Ok(())
        } else {
            Err(Unreadable::Other("an extent holds other records than the ledger says".to_owned()).into())
        }
    }
}

/// What is still to be read.
pub(super) struct Chunks<'a> {
    compactor: &'a Compactor,
    topic: &'a Topic,
    partition: PartitionIndex,
    rest: VecDeque<Extent>,
    ready: VecDeque<Chunk>,
    /// A Parquet file of which some row groups were read.
    open: Option<(Extent, Arc<ParquetFile>, usize)>,
}

impl<'a> Chunks<'a> {
    pub(super) fn new(compactor: &'a Compactor, topic: &'a Topic, partition: PartitionIndex, inputs: &[Extent]) -> Self {
        Self { compactor, topic, partition, rest: inputs.iter().copied().collect(), ready: VecDeque::new(), open: None }
    }

    /// The next chunk; `None` at the end.
    pub(super) async fn next(&mut self) -> Result<Option<Chunk>, CompactError> {
        if let Some(chunk) = self.ready.pop_front() {
            return Ok(Some(chunk));
        }
        if let Some((extent, file, group)) = self.open.take() {
            return self.groups(extent, file, group).await.map(Some);
        }
        match self.rest.front().copied() {
            None => Ok(None),
            Some(extent) if extent.level == ObjectLevel::Parquet => {
                self.rest.pop_front();
                let file = Arc::new(self.compactor.footer(self.topic, self.partition, &extent).await?);
                self.groups(extent, file, 0).await.map(Some)
            }
            Some(_) => {
                self.fetch_segments().await?;
                Ok(self.ready.pop_front())
            }
        }
    }

    async fn groups(&mut self, extent: Extent, file: Arc<ParquetFile>, first: usize) -> Result<Chunk, CompactError> {
        let all = file.row_groups();
        let start = all[first].bytes.start;
        let more = all[first..].iter().skip(1).take_while(|group| group.bytes.end - start <= GROUPS).count();
        let end = first + 1 + more;
        let key = object_key(&self.topic.namespace, &self.topic.name, &extent);
        let bytes = self.compactor.fetch(&key, start..all[end - 1].bytes.end).await?;
        if end < all.len() {
            self.open = Some((extent, Arc::clone(&file), end));
        }
        Ok(Chunk { partition: self.partition, key, content: Content::Groups { file, groups: first..end, bytes } })
    }

    async fn fetch_segments(&mut self) -> Result<(), CompactError> {
        let mut together = Vec::new();
        let mut sum = 0;
        while let Some(extent) = self.rest.front().copied().filter(|extent| extent.level != ObjectLevel::Parquet) {
            sum += u64::from(extent.length);
            if !together.is_empty() && (sum > TOGETHER || together.len() == AT_ONCE) {
                break;
            }
            together.push(extent);
            self.rest.pop_front();
        }
        let fetched = try_join_all(together.iter().map(|extent| async {
            let key = extent.object.key();
            let range = extent.position..extent.position + u64::from(extent.length);
            let bytes = self.compactor.fetch(&key, range).await?;
            if extent.level == ObjectLevel::Merged {
                self.compactor.check_merged(self.topic, self.partition, extent, &bytes).await?;
            }
            Ok::<Chunk, CompactError>(Chunk { partition: self.partition, key, content: Content::Batches { extent: *extent, bytes } })
        }));
        self.ready.extend(fetched.await?);
        Ok(())
    }
}

impl Compactor {
    /// A range of an object, as fast as the pace allows.
    pub(super) async fn fetch(&self, key: &str, range: std::ops::Range<u64>) -> Result<Bytes, CompactError> {
        lakefall_service::failpoint::hit("c1");
        let wanted = range.end - range.start;
        self.pace.take(wanted).await;
        match self.store.get_range(key, range).await {
            Ok(bytes) if bytes.len() as u64 == wanted => Ok(bytes),
            Ok(_) => Err(CompactError::damaged(key, &"it is shorter than the ledger says")),
            Err(StoreError::NotFound { .. }) => Err(CompactError::damaged(key, &"it is missing from the store")),
            Err(error) => Err(error.into()),
        }
    }

    /// What a Parquet file says of itself, held against the ledger.
    pub(super) async fn footer(&self, topic: &Topic, partition: PartitionIndex, extent: &Extent) -> Result<ParquetFile, CompactError> {
        let (key, size) = (object_key(&topic.namespace, &topic.name, extent), extent.object_size);
        let mut wanted = ParquetFile::TAIL_BYTES.min(size);
        let file = loop {
            let tail = self.fetch(&key, size - wanted..size).await?;
            match ParquetFile::open(&tail, size) {
                Err(ParquetError::NeedMore { needed }) if needed > wanted && needed <= size => wanted = needed,
                opened => break opened.map_err(|error| CompactError::damaged(&key, &error))?,
            }
        };
        let within = file.first() >= extent.base_offset && file.last() < extent.end();
        if file.topic() != topic.id || file.partition() != partition || !within {
            return Err(CompactError::damaged(&key, &"it holds other records than the ledger says"));
        }
        Ok(file)
    }

    /// When a batch of a merged segment was appended stands outside of its own checksum: that in the index covers it.
    async fn check_merged(&self, topic: &Topic, partition: PartitionIndex, extent: &Extent, bytes: &Bytes) -> Result<(), CompactError> {
        let (key, size) = (extent.object.key(), extent.object_size);
        let mut wanted = SegmentIndex::TAIL_BYTES.min(size);
        let index = loop {
            let tail = self.fetch(&key, size - wanted..size).await?;
            match SegmentIndex::decode(&tail, size) {
                Err(SegmentError::NeedMore { needed }) if needed > wanted && needed <= size => wanted = needed,
                decoded => break decoded.map_err(|error| CompactError::damaged(&key, &error))?,
            }
        };
        let entry = index.extents.iter().find(|entry| (entry.topic, entry.partition) == (topic.id, partition));
        let same = entry.is_some_and(|entry| {
            (entry.position, entry.length) == (extent.position, u64::from(extent.length)) && entry.crc32c == crc32c(bytes)
        });
        if same { Ok(()) } else { Err(CompactError::damaged(&key, &"an extent is damaged, or not the one that the ledger says")) }
    }
}

fn crc32c(bytes: &[u8]) -> u32 {
    lakefall_storage::segment::checksum(bytes)
}
