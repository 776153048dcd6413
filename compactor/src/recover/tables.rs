//! Parquet files that no ledger knows, by the topic that they say they are of. Reads only, and of each file no more than its footer.

use std::collections::BTreeMap;

use futures::TryStreamExt;
use lakefall_metadata::Metadata;
use lakefall_queue::ledger::key::{ParquetKey, TABLES};
use lakefall_queue::ledger::{Answer, Query};
use lakefall_queue::{NamespaceName, Offset, PartitionIndex, SegmentId, ShardId, Timestamp, TopicId, TopicName};
use lakefall_storage::parquet::{ParquetError, ParquetFile};
use lakefall_storage::store::{Store, StoreError};
use serde::Serialize;

use crate::CollectError;
use crate::collector::unexpected;

/// Files asked for at once.
const PAGE: usize = 1_000;

/// One topic among all that ever were: numbers are given out again by a ledger that was made anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Incarnation {
    pub(super) created_at: Timestamp,
    pub(super) topic: TopicId,
}

/// A file that no ledger knows, by its key and its footer.
#[derive(Clone, Debug)]
pub(super) struct FoundFile {
    pub(super) key: String,
    pub(super) object: SegmentId,
    pub(super) size: u64,
    /// `None` where it does not say when its topic was created.
    pub(super) of: Option<Incarnation>,
    pub(super) topic: TopicId,
    pub(super) partition: PartitionIndex,
    /// Of its extent.
    pub(super) base: Offset,
    /// Of its extent.
    pub(super) end: Offset,
    pub(super) records: u64,
    /// It has typed columns.
    pub(super) typed: bool,
}

impl FoundFile {
    /// Whether offsets of its extent have no record: only the last one of each key was kept.
    pub(super) fn has_gaps(&self) -> bool {
        self.records < self.end.0 - self.base.0
    }
}

/// A file that is left where it is, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PassedOver {
    /// Its key.
    pub key: String,
    /// Why.
    pub reason: String,
}

impl PassedOver {
    pub(super) fn new(key: &str, reason: impl Into<String>) -> Self {
        Self { key: key.to_owned(), reason: reason.into() }
    }
}

/// Everything below `tables/` that no ledger knows.
#[derive(Debug, Default)]
pub(super) struct Survey {
    /// Parquet files that were listed, known or not.
    pub(super) listed: u64,
    pub(super) topics: BTreeMap<(NamespaceName, TopicName), Vec<FoundFile>>,
    /// Of which not even the footer can be read, or which are not where it says.
    pub(super) unreadable: Vec<(SegmentId, PassedOver)>,
}

/// What a look at one file tells.
pub(super) enum Look {
    /// Its footer.
    File(Box<ParquetFile>),
    /// Why that cannot be read.
    Unreadable(String),
    /// Deleted since it was listed.
    Gone,
}

impl Survey {
    /// Lists all files and reads the footers of those that no ledger knows; holds a short description of each of those.
    pub(super) async fn make(metadata: &dyn Metadata, store: &Store) -> Result<Self, CollectError> {
        let mut survey = Self::default();
        let mut listed = store.list(TABLES.trim_end_matches('/'));
        let mut page = Vec::new();
        loop {
            let next = listed.try_next().await?;
            let ended = next.is_none();
            // Beside the files are those of whoever manages them as tables.
            page.extend(next.and_then(|info| ParquetKey::read(&info.key).map(|key| (key, info))));
            if page.len() < PAGE && !ended {
                continue;
            }
            survey.listed += page.len() as u64;
            let ids: Vec<SegmentId> = page.iter().map(|(key, _)| key.object).collect();
            let known = known(metadata, &ids).await?;
            for ((key, info), known) in page.drain(..).zip(known) {
                if !known {
                    survey.look(store, key, info.key, info.size).await?;
                }
            }
            if ended {
                return Ok(survey);
            }
        }
    }

    async fn look(&mut self, store: &Store, parts: ParquetKey, key: String, size: u64) -> Result<(), CollectError> {
        let file = match footer(store, &key, size).await? {
            Look::File(file) => file,
            Look::Gone => return Ok(()),
            Look::Unreadable(reason) => {
                self.unreadable.push((parts.object, PassedOver::new(&key, reason)));
                return Ok(());
            }
        };
        if file.first() < parts.first || file.last() > parts.last || parts.last.0 == u64::MAX {
            let reason = "its name and its footer differ in its offsets";
            self.unreadable.push((parts.object, PassedOver::new(&key, reason)));
            return Ok(());
        }
        let found = FoundFile {
            key,
            object: parts.object,
            size,
            of: file.topic_created().map(|created_at| Incarnation { created_at, topic: file.topic() }),
            topic: file.topic(),
            partition: file.partition(),
            base: parts.first,
            end: parts.last.plus(1),
            records: file.records(),
            typed: file.data_schema().is_some(),
        };
        self.topics.entry((parts.namespace, parts.topic)).or_default().push(found);
        Ok(())
    }
}

/// For each object, whether some shard knows it.
async fn known(metadata: &dyn Metadata, ids: &[SegmentId]) -> Result<Vec<bool>, CollectError> {
    let mut known = vec![false; ids.len()];
    for shard in (0..metadata.shards()).map(ShardId) {
        match metadata.query(shard, Query::Objects(ids.to_vec())).await? {
            Answer::Objects(found) if found.len() == ids.len() => {
                known.iter_mut().zip(found).for_each(|(known, found)| *known |= found.is_some());
            }
            other => return Err(unexpected(&other)),
        }
    }
    Ok(known)
}

/// Reads a file's footer.
pub(super) async fn footer(store: &Store, key: &str, size: u64) -> Result<Look, CollectError> {
    // No store answers a range of nothing.
    if size == 0 {
        return Ok(Look::Unreadable("it is empty".to_owned()));
    }
    let mut wanted = ParquetFile::TAIL_BYTES;
    loop {
        let tail = match store.get_range(key, size.saturating_sub(wanted)..size).await {
            Ok(tail) => tail,
            Err(StoreError::NotFound { .. }) => return Ok(Look::Gone),
            Err(error) => return Err(error.into()),
        };
        match ParquetFile::open(&tail, size) {
            Ok(file) => return Ok(Look::File(Box::new(file))),
            Err(ParquetError::NeedMore { needed }) if needed > wanted => wanted = needed,
            Err(error) => return Ok(Look::Unreadable(error.to_string())),
        }
    }
}

/// What is left of a topic that a ledger does not know, or of which it does not know these files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TableReport {
    /// `namespace/topic`.
    pub topic: String,
    /// By partition, each once for each topic of that name that there was.
    pub partitions: Vec<TablePartition>,
    /// When the oldest file was made.
    pub made_from: Timestamp,
    /// When the newest was.
    pub made_until: Timestamp,
}

/// What is left of a partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TablePartition {
    /// The topic's id.
    pub topic_id: String,
    /// When the topic was created; `None` where files do not say so: these are not taken back.
    pub created_at: Option<Timestamp>,
    /// Which partition.
    pub partition: PartitionIndex,
    /// How many files.
    pub files: u64,
    /// Records in them: those that lie in several files count in each.
    pub records: u64,
    /// Their bytes.
    pub bytes: u64,
    /// The first offset.
    pub first: Offset,
    /// The offset after the last.
    pub end: Offset,
}

impl TableReport {
    pub(super) fn of((namespace, topic): &(NamespaceName, TopicName), files: &[FoundFile]) -> Self {
        let mut partitions: BTreeMap<(TopicId, Option<Timestamp>, PartitionIndex), TablePartition> = BTreeMap::new();
        for file in files {
            let created_at = file.of.map(|of| of.created_at);
            let sum = partitions.entry((file.topic, created_at, file.partition)).or_insert_with(|| TablePartition {
                topic_id: file.topic.to_string(),
                created_at,
                partition: file.partition,
                files: 0,
                records: 0,
                bytes: 0,
                first: file.base,
                end: file.end,
            });
            sum.files += 1;
            sum.records += file.records;
            sum.bytes += file.size;
            sum.first = sum.first.min(file.base);
            sum.end = sum.end.max(file.end);
        }
        let minted = || files.iter().map(|file| file.object.minted_at());
        Self {
            topic: format!("{namespace}/{topic}"),
            partitions: partitions.into_values().collect(),
            made_from: minted().min().unwrap_or_default(),
            made_until: minted().max().unwrap_or_default(),
        }
    }

    pub(super) fn lines(&self) -> Vec<String> {
        let line = |part: &TablePartition| {
            let note = if part.created_at.is_none() { " (of an older program: cannot be taken back)" } else { "" };
            let (topic, id, partition) = (&self.topic, &part.topic_id, part.partition);
            let (files, records, first, end) = (part.files, part.records, part.first, part.end);
            format!("  {topic} ({id}) partition {partition}: {records} records in {files} files, offsets {first} to before {end}{note}")
        };
        self.partitions.iter().map(line).collect()
    }
}
