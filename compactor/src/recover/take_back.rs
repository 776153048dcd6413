//! Takes topics of a ledger that was lost back over the Parquet files that are left of them. Nothing is taken back unasked: what is in
//! the bucket may be of a topic that was deleted. Each file is read as a whole first; deletes nothing, and writes no object.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use bytes::Bytes;
use lakefall_metadata::Metadata;
use lakefall_queue::error::Error;
use lakefall_queue::ledger::{Command, Reply, TakeBack, TakenFile, TakenPartition, object_key};
use lakefall_queue::limits::Limits;
use lakefall_queue::topic::{Cleanup, TopicConfig};
use lakefall_queue::verbs::Precondition;
use lakefall_queue::{NamespaceName, Offset, PartitionIndex, Timestamp, TopicName};
use lakefall_storage::parquet::{ChainHash, ParquetError, ParquetFile, Verification, Want};
use lakefall_storage::store::{Store, StoreError};
use serde::Serialize;

use super::chain::{Link, chain};
use super::tables::{FoundFile, Incarnation, Look, PassedOver, Survey, footer};
use crate::CollectError;

/// Bytes of a file that are read at once.
const PIECE: u64 = 8 << 20;

/// What an operator wants back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// Every topic of which there are files.
    All,
    /// These.
    Topics(BTreeSet<(NamespaceName, TopicName)>),
}

impl Wanted {
    fn has(&self, name: &(NamespaceName, TopicName)) -> bool {
        match self {
            Self::All => true,
            Self::Topics(topics) => topics.contains(name),
        }
    }
}

/// What was taken back, and what was not.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct TakenBack {
    /// In the order of their numbers.
    pub topics: Vec<TakenTopic>,
    /// Files of them.
    pub files: u64,
    /// Records in those.
    pub records: u64,
    /// Files that stay what they were: nobody's. Of wanted topics, and those that tell nothing of themselves.
    pub passed_over: Vec<PassedOver>,
    /// Topics that were named, and of which nothing was taken back.
    pub missing: Vec<String>,
}

/// A topic that is there again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TakenTopic {
    /// `namespace/topic`.
    pub topic: String,
    /// The topic's id.
    pub topic_id: String,
    /// Those with files.
    pub partitions: Vec<TakenRange>,
}

/// A partition that is there again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TakenRange {
    /// Which one.
    pub partition: PartitionIndex,
    /// How many files.
    pub files: u64,
    /// Records in them.
    pub records: u64,
    /// The first offset.
    pub log_start: Offset,
    /// The offset of the next record.
    pub end: Offset,
}

/// A topic whose files are chosen and read.
struct Chosen {
    command: TakeBack,
    told: TakenTopic,
}

/// Takes back what is wanted, topic by topic in the order of their numbers: cut off, it may be asked for again.
///
/// Errors: those of the store, and of the metadata service if it does not answer; what it refuses is passed over.
pub async fn take_back(metadata: &dyn Metadata, store: &Store, wanted: &Wanted) -> Result<TakenBack, CollectError> {
    let survey = Survey::make(metadata, store).await?;
    let mut taken = TakenBack { passed_over: survey.unreadable.into_iter().map(|(_, file)| file).collect(), ..TakenBack::default() };
    let mut newest = BTreeMap::new();
    for (name, files) in survey.topics.into_iter().filter(|(name, _)| wanted.has(name)) {
        if let Some((of, files)) = latest(files, &mut taken.passed_over) {
            // A ledger numbers topics upwards, and takes none back below.
            newest.insert((of.topic, of.created_at, name), files);
        }
    }
    for ((topic, created_at, name), files) in newest {
        let of = Incarnation { created_at, topic };
        let keys: Vec<String> = files.iter().map(|file| file.key.clone()).collect();
        let shards = metadata.shards();
        let refused = if name.0.shard(shards) == topic.shard() {
            match choose(store, of, &name, files, &mut taken.passed_over).await? {
                Ok(chosen) => create(metadata, chosen, &mut taken).await?,
                Err(reason) => Some(reason),
            }
        } else {
            Some(format!("its namespace is not in the shard that its topic was in: the cluster had another number of shards than {shards}"))
        };
        if let Some(reason) = refused {
            let told: BTreeSet<String> = taken.passed_over.iter().map(|file| file.key.clone()).collect();
            let keys = keys.iter().filter(|key| !told.contains(*key));
            taken.passed_over.extend(keys.map(|key| PassedOver::new(key, &reason)));
        }
    }
    if let Wanted::Topics(topics) = wanted {
        let names = topics.iter().map(|(namespace, topic)| format!("{namespace}/{topic}"));
        taken.missing = names.filter(|name| taken.topics.iter().all(|topic| topic.topic != *name)).collect();
    }
    Ok(taken)
}

/// The files of the last topic of a name. Those of an earlier one are what was not collected yet when it was deleted.
fn latest(files: Vec<FoundFile>, passed_over: &mut Vec<PassedOver>) -> Option<(Incarnation, Vec<FoundFile>)> {
    let newest = files.iter().filter_map(|file| file.of).max();
    let (of_it, others): (Vec<_>, Vec<_>) = files.into_iter().partition(|file| file.of.is_some() && file.of == newest);
    passed_over.extend(others.iter().map(|file| {
        let reason = match file.of {
            None => "it does not say when its topic was created, as files of older programs do not: it may be another topic's",
            Some(_) => "it is of an earlier topic of this name",
        };
        PassedOver::new(&file.key, reason)
    }));
    newest.map(|of| (of, of_it))
}

/// Finds the files that are the log, and reads them. Answers why the topic cannot be taken back, if it cannot.
async fn choose(
    store: &Store,
    of: Incarnation,
    name: &(NamespaceName, TopicName),
    files: Vec<FoundFile>,
    passed_over: &mut Vec<PassedOver>,
) -> Result<Result<Chosen, String>, CollectError> {
    let mut config = TopicConfig { partitions: 0, ..TopicConfig::default() };
    let mut by_partition: BTreeMap<PartitionIndex, Vec<FoundFile>> = BTreeMap::new();
    for file in files {
        config.partitions = config.partitions.max(file.partition.0.saturating_add(1));
        by_partition.entry(file.partition).or_default().push(file);
    }
    if let Err(error) = config.check(&Limits::default()) {
        return Ok(Err(error.to_string()));
    }
    let mut told = TakenTopic { topic: format!("{}/{}", name.0, name.1), topic_id: of.topic.to_string(), partitions: Vec::new() };
    let mut partitions = Vec::new();
    for (partition, files) in by_partition {
        let (log, taken, others) = read_chain(store, name, files, passed_over).await?;
        for other in &others {
            if !agrees(store, other, &log).await? {
                return Ok(Err(format!("{} holds other records than files of the same offsets: they are not of one log", other.key)));
            }
        }
        let reason = "its records are in other files, or there are none between its offsets and the newest";
        passed_over.extend(others.iter().map(|file| PassedOver::new(&file.key, reason)));
        if log.iter().any(FoundFile::has_gaps) {
            config.cleanup = Cleanup::Compact;
        }
        config.parquet.infer_json |= log.iter().any(|file| file.typed);
        let (Some(first), Some(last)) = (log.first(), log.last()) else { continue };
        told.partitions.push(TakenRange {
            partition,
            files: log.len() as u64,
            records: log.iter().map(|file| file.records).sum(),
            log_start: first.base,
            end: last.end,
        });
        partitions.push(TakenPartition { partition, files: taken });
    }
    if partitions.is_empty() {
        return Ok(Err("no file of the topic is sound".to_owned()));
    }
    let (namespace, topic) = name.clone();
    let command = TakeBack { namespace, name: topic, topic: of.topic, created_at: of.created_at, config, partitions };
    Ok(Ok(Chosen { command, told }))
}

/// The files that are the log, each with what a ledger holds of it, and those that are not.
async fn read_chain(
    store: &Store,
    name: &(NamespaceName, TopicName),
    mut files: Vec<FoundFile>,
    passed_over: &mut Vec<PassedOver>,
) -> Result<(Vec<FoundFile>, Vec<TakenFile>, Vec<FoundFile>), CollectError> {
    let mut sound: BTreeMap<String, TakenFile> = BTreeMap::new();
    'again: loop {
        let links: Vec<Link> = files.iter().map(|file| Link { base: file.base, end: file.end, object: file.object }).collect();
        let chain = chain(&links);
        for index in &chain {
            let file = &files[*index];
            if sound.contains_key(&file.key) {
                continue;
            }
            match read(store, name, file).await? {
                Ok(taken) => {
                    sound.insert(file.key.clone(), taken);
                }
                Err(reason) => {
                    passed_over.push(PassedOver::new(&file.key, reason));
                    // Without it, others may be the log.
                    files.remove(*index);
                    continue 'again;
                }
            }
        }
        let log: Vec<FoundFile> = chain.iter().map(|index| files[*index].clone()).collect();
        let taken = log.iter().filter_map(|file| sound.get(&file.key).copied()).collect();
        let chosen: BTreeSet<&String> = log.iter().map(|file| &file.key).collect();
        let others = files.iter().filter(|file| !chosen.contains(&file.key)).cloned().collect();
        return Ok((log, taken, others));
    }
}

/// Reads a file as a whole, as before a swap. Answers why it is not what it should be, if it is not.
async fn read(store: &Store, name: &(NamespaceName, TopicName), found: &FoundFile) -> Result<Result<TakenFile, String>, CollectError> {
    let file = match footer(store, &found.key, found.size).await? {
        Look::File(file) => *file,
        Look::Unreadable(reason) => return Ok(Err(reason)),
        Look::Gone => return Ok(Err("it was deleted meanwhile".to_owned())),
    };
    let groups = file.row_groups();
    let first_timestamp = groups.iter().map(|group| group.min_timestamp).min().unwrap_or_default();
    let max_timestamp = groups.iter().map(|group| group.max_timestamp).max().unwrap_or_default();
    let mut appended_at = None;
    let mut reading = Verification::new(file.clone());
    while let Some((range, count)) = reading.piece(0, PIECE) {
        let Some(piece) = fetch(store, &found.key, range.clone()).await? else { return Ok(Err("it was deleted meanwhile".to_owned())) };
        if let Err(error) = reading.take(&piece, count) {
            return Ok(Err(error.to_string()));
        }
        if appended_at.is_none() {
            match first_appended(&file, &piece, range.start) {
                Ok(at) => appended_at = at,
                Err(error) => return Ok(Err(error.to_string())),
            }
        }
    }
    let Some(index) = fetch(store, &found.key, reading.index()).await? else { return Ok(Err("it was deleted meanwhile".to_owned())) };
    if let Err(error) = reading.finish(&index, None) {
        return Ok(Err(error.to_string()));
    }
    let (records, length) = (u32::try_from(found.end.0 - found.base.0), u32::try_from(found.size));
    let (Some(appended_at), Ok(records), Ok(length)) = (appended_at, records, length) else {
        return Ok(Err("it is larger than a file becomes".to_owned()));
    };
    let (object, base_offset) = (found.object, found.base);
    let taken = TakenFile { object, base_offset, records, length, first_timestamp, max_timestamp, appended_at };
    // Readers find it by what the ledger holds of it.
    let key = object_key(&name.0, &name.1, &taken.extent());
    Ok(if key == found.key { Ok(taken) } else { Err(format!("its records are those of {key}")) })
}

/// When the first record of a file was appended, whose first piece this is.
fn first_appended(file: &ParquetFile, piece: &Bytes, start: u64) -> Result<Option<Timestamp>, ParquetError> {
    let Some(group) = file.row_groups().first() else { return Ok(None) };
    // In bounds: the piece holds the group as a whole.
    let bytes = piece.slice((group.bytes.start - start) as usize..(group.bytes.end - start) as usize);
    let mut records = Vec::new();
    file.decode(0, &bytes, Want { records: 1, ..Want::from(group.first) }, &mut records)?;
    Ok(records.first().map(|record| record.appended_at))
}

/// Bytes of a file; `None` if it was deleted.
async fn fetch(store: &Store, key: &str, range: Range<u64>) -> Result<Option<Bytes>, CollectError> {
    match store.get_range(key, range).await {
        Ok(bytes) => Ok(Some(bytes)),
        Err(StoreError::NotFound { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Whether a file that is not taken has the same records as those that are, as far as they have the same offsets. Where only the last
/// record of each key is kept, nothing can be said; nor of a file that is damaged.
async fn agrees(store: &Store, other: &FoundFile, log: &[FoundFile]) -> Result<bool, CollectError> {
    let beside = log.iter().filter(|file| file.base < other.end && other.base < file.end);
    let beside: Vec<&FoundFile> = beside.collect();
    let (Some(first), Some(last)) = (beside.first(), beside.last()) else { return Ok(true) };
    if other.has_gaps() || beside.iter().any(|file| file.has_gaps()) {
        return Ok(true);
    }
    let both = first.base.max(other.base)..last.end.min(other.end);
    let (mut of_other, mut of_log) = (ChainHash::new(), ChainHash::new());
    if !feed(store, other, &both, &mut of_other).await? {
        return Ok(true);
    }
    for file in beside {
        if !feed(store, file, &both, &mut of_log).await? {
            return Ok(false);
        }
    }
    Ok(of_other.digest() == of_log.digest())
}

/// Hashes the records of a file within a range of offsets; whether they could be read.
async fn feed(store: &Store, found: &FoundFile, range: &Range<Offset>, hash: &mut ChainHash) -> Result<bool, CollectError> {
    let Look::File(file) = footer(store, &found.key, found.size).await? else { return Ok(false) };
    for (index, group) in file.row_groups().iter().enumerate() {
        if group.last < range.start || group.first >= range.end {
            continue;
        }
        let Some(bytes) = fetch(store, &found.key, group.bytes.clone()).await? else { return Ok(false) };
        let mut records = Vec::new();
        if file.decode(index, &bytes, Want::from(range.start), &mut records).is_err() {
            return Ok(false);
        }
        records.iter().filter(|record| record.offset < range.end).for_each(|record| hash.update(record));
    }
    Ok(true)
}

/// Has the ledger create a topic. Answers why it did not, if it refused.
async fn create(metadata: &dyn Metadata, chosen: Chosen, taken: &mut TakenBack) -> Result<Option<String>, CollectError> {
    let Chosen { command, told } = chosen;
    let shard = command.topic.shard();
    let put = Command::PutNamespace { name: command.namespace.clone(), description: String::new(), condition: Precondition::Absent };
    match metadata.execute(shard, put).await {
        Ok(_) | Err(Error::AlreadyExists { .. }) => {}
        Err(error) => return Err(error.into()),
    }
    match metadata.execute(shard, Command::TakeBack(Box::new(command))).await {
        Ok(Reply::Topic(..)) => {
            taken.files += told.partitions.iter().map(|part| part.files).sum::<u64>();
            taken.records += told.partitions.iter().map(|part| part.records).sum::<u64>();
            taken.topics.push(told);
            Ok(None)
        }
        Ok(other) => Err(CollectError::Defect(format!("the metadata service answered a topic taken back with {other:?}"))),
        Err(error @ (Error::AlreadyExists { .. } | Error::Invalid { .. })) => Ok(Some(error.to_string())),
        Err(error) => Err(error.into()),
    }
}

impl TakenBack {
    /// For people.
    pub fn lines(&self) -> Vec<String> {
        let (topics, files, records, others) = (self.topics.len(), self.files, self.records, self.passed_over.len());
        let mut lines = vec![format!("taken back  {topics} topics: {records} records in {files} files; {others} files were passed over")];
        for TakenTopic { topic, topic_id, partitions } in &self.topics {
            lines.extend(partitions.iter().map(|part| {
                let TakenRange { partition, files, records, log_start, end } = part;
                format!(
                    "  {topic} ({topic_id}) partition {partition}: {records} records in {files} files, offsets {log_start} to before {end}"
                )
            }));
        }
        lines.extend(self.passed_over.iter().map(|PassedOver { key, reason }| format!("  passed over: {key}: {reason}")));
        lines.extend(self.missing.iter().map(|topic| format!("  NOT taken back: {topic}")));
        lines.push(String::new());
        lines
    }
}
