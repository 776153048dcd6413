//! Topics of a ledger that was lost, taken back over the Parquet files that are left of them: under their old number, at their old
//! offsets. Never over anything that this ledger has given out itself: neither a name, nor a number, nor an offset.

use std::collections::BTreeSet;

use super::codec::{Decoded, config_from_json, config_json, segment_id, uuid_bytes};
use super::objects::Object;
use super::rows::proto;
use super::{Extent, Ledger, ObjectLevel, Partition, Reply, RowKey, object_key};
use crate::error::{Error, Result};
use crate::id::{NamespaceName, Offset, PartitionIndex, SegmentId, TopicId, TopicName};
use crate::time::Timestamp;
use crate::topic::{Topic, TopicConfig};

/// Creates a topic as it was. A second one is refused, as the name is taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TakeBack {
    /// Where it was; this is there again.
    pub namespace: NamespaceName,
    /// Its name.
    pub name: TopicName,
    /// Its number, which its files tell: higher than any that this ledger has given out.
    pub topic: TopicId,
    /// When it was created; its files tell that too.
    pub created_at: Timestamp,
    /// Its settings. No file tells them.
    pub config: TopicConfig,
    /// At most one for each partition; the others begin at 0.
    pub partitions: Vec<TakenPartition>,
}

/// What is left of a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TakenPartition {
    /// Which one.
    pub partition: PartitionIndex,
    /// From the oldest on; each begins where the one before it ends.
    pub files: Vec<TakenFile>,
}

/// A Parquet file that was read as a whole and found sound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TakenFile {
    /// The object.
    pub object: SegmentId,
    /// The first offset of its extent.
    pub base_offset: Offset,
    /// How many offsets it covers.
    pub records: u32,
    /// Its bytes.
    pub length: u32,
    /// Smallest timestamp of a record.
    pub first_timestamp: Timestamp,
    /// Largest timestamp of a record.
    pub max_timestamp: Timestamp,
    /// When the first of its records was appended.
    pub appended_at: Timestamp,
}

impl TakenFile {
    /// As a ledger holds it.
    pub fn extent(&self) -> Extent {
        Extent {
            base_offset: self.base_offset,
            records: self.records,
            length: self.length,
            object: self.object,
            level: ObjectLevel::Parquet,
            object_size: self.length.into(),
            position: 0,
            first_timestamp: self.first_timestamp,
            max_timestamp: self.max_timestamp,
            appended_at: self.appended_at,
        }
    }
}

impl Ledger {
    pub(super) fn take_back(&mut self, taken: &TakeBack, now: Timestamp) -> Result<Reply> {
        self.require_namespace(&taken.namespace)?;
        let name = (taken.namespace.clone(), taken.name.clone());
        if self.names.contains_key(&name) {
            return Err(Error::AlreadyExists { what: "topic", name: taken.name.to_string() });
        }
        let counter = taken.topic.counter();
        // What this ledger numbered so may be gone, but not yet from everybody's memory.
        if taken.topic.shard() != self.shard || counter < self.next_topic || TopicId::new(self.shard, counter + 1).shard() != self.shard {
            return Err(Error::invalid("topic", format!("the number {} of topic {} is another topic's here", taken.topic, taken.name)));
        }
        check(taken)?;
        let files = || taken.partitions.iter().flat_map(|partition| &partition.files);
        if let Some(known) = files().find(|file| self.objects.by_id.contains_key(&file.object)) {
            return Err(Error::invalid("files", format!("object {} is known already, or was refused", known.object)));
        }
        let topic = Topic {
            namespace: taken.namespace.clone(),
            name: taken.name.clone(),
            id: taken.topic,
            version: 1,
            created_at: taken.created_at,
            config: taken.config.clone(),
        };
        for file in files() {
            let key = object_key(&topic.namespace, &topic.name, &file.extent());
            let object = Object {
                size: file.length.into(),
                live_extents: 1,
                committed_at: now,
                released_at: None,
                refused: false,
                answer: None,
                key: Some(key.into()),
            };
            self.objects.insert(file.object, object, &mut self.dirty);
        }
        self.next_topic = counter + 1;
        self.names.insert(name, topic.id);
        self.topics.insert(topic.id, topic.clone());
        self.dirty.insert(RowKey::Topic(topic.id));
        for index in (0..topic.config.partitions).map(PartitionIndex) {
            let of_it = taken.partitions.iter().find(|partition| partition.partition == index);
            let extents: Vec<Extent> = of_it.iter().flat_map(|partition| &partition.files).map(TakenFile::extent).collect();
            let key = (topic.id, index);
            self.recents.count += extents.len();
            self.partitions.insert(key, Partition::taken_back(&extents));
            self.dirty.insert(RowKey::Partition(key.0, key.1));
            self.note_compactable(key);
        }
        self.has_later_rows = true;
        self.notify_topic(&topic);
        Ok(Reply::Topic(topic, true))
    }
}

/// What nobody sends who read the files.
fn check(taken: &TakeBack) -> Result<()> {
    let malformed = |what: &str| Err(Error::Internal(format!("what is to be taken back of topic {} is malformed: {what}", taken.name)));
    let (mut partitions, mut objects) = (BTreeSet::new(), BTreeSet::new());
    for TakenPartition { partition, files } in &taken.partitions {
        if partition.0 >= taken.config.partitions || !partitions.insert(partition) {
            return malformed("it does not have such a partition, or has it twice");
        }
        let mut next = files.first().map(|file| file.base_offset);
        for file in files {
            if next != Some(file.base_offset) || file.records == 0 || file.length == 0 || !objects.insert(file.object) {
                return malformed("a file is empty, comes twice, or does not follow the one before it");
            }
            next = file.base_offset.0.checked_add(file.records.into()).map(Offset);
        }
        if next.is_none() && !files.is_empty() {
            return malformed("offsets come to an end");
        }
    }
    Ok(())
}

pub(super) fn to_proto(taken: &TakeBack) -> proto::TakeBack {
    let file = |file: &TakenFile| proto::TakenFile {
        object: uuid_bytes(file.object),
        base_offset: file.base_offset.0,
        records: file.records,
        length: file.length,
        first_timestamp_ms: file.first_timestamp.as_millis(),
        max_timestamp_ms: file.max_timestamp.as_millis(),
        appended_ms: file.appended_at.as_millis(),
    };
    let partition = |partition: &TakenPartition| proto::TakenPartition {
        partition: partition.partition.0,
        files: partition.files.iter().map(file).collect(),
    };
    proto::TakeBack {
        namespace: taken.namespace.to_string(),
        name: taken.name.to_string(),
        topic: taken.topic.0,
        created_ms: taken.created_at.as_millis(),
        config_json: config_json(&taken.config),
        partitions: taken.partitions.iter().map(partition).collect(),
    }
}

pub(super) fn from_proto(wire: proto::TakeBack) -> Decoded<TakeBack> {
    let file = |file: proto::TakenFile| {
        Ok(TakenFile {
            object: segment_id(&file.object)?,
            base_offset: Offset(file.base_offset),
            records: file.records,
            length: file.length,
            first_timestamp: Timestamp::from_millis(file.first_timestamp_ms),
            max_timestamp: Timestamp::from_millis(file.max_timestamp_ms),
            appended_at: Timestamp::from_millis(file.appended_ms),
        })
    };
    let partition = |partition: proto::TakenPartition| {
        let files = partition.files.into_iter().map(file).collect::<Decoded<_>>()?;
        Ok(TakenPartition { partition: PartitionIndex(partition.partition), files })
    };
    Ok(TakeBack {
        namespace: NamespaceName::new(&wire.namespace)?,
        name: TopicName::new(&wire.name)?,
        topic: TopicId(wire.topic),
        created_at: Timestamp::from_millis(wire.created_ms),
        config: config_from_json(&wire.config_json)?,
        partitions: wire.partitions.into_iter().map(partition).collect::<Decoded<_>>()?,
    })
}
