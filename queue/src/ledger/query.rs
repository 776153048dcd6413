//! What may be asked of a ledger. Queries change nothing; the owner answers them between groups, so that they see only
//! what is durable (L1).

use std::ops::Bound;
use std::time::Duration;

use super::{
    Compactable, CursorKey, Extent, FreeMessages, Ledger, ObjectStatus, Partition, PartitionKey, Peeked, QueueNumbers, Refusal,
    RetiredExtent, SchemaAnswer, SchemaQuery, SettleMessages, SettledRun, UsageAnswer, UsageQuery,
};
use crate::error::{Error, Result};
use crate::id::{CursorName, Epoch, JournalSeq, NamespaceName, Offset, PartitionIndex, QueueId, QueueName, SegmentId, TopicId, TopicName};
use crate::queue::Queue;
use crate::time::Timestamp;
use crate::topic::{PartitionStatus, Topic};
use crate::verbs::{Cursor, Namespace, Page, PageRequest};

/// A question.
#[derive(Clone, Debug)]
pub enum Query {
    /// One namespace.
    Namespace(NamespaceName),
    /// Namespaces by name.
    Namespaces(PageRequest),
    /// One topic.
    Topic(NamespaceName, TopicName),
    /// A namespace's topics by name.
    Topics(NamespaceName, PageRequest),
    /// A topic's partitions.
    Partitions(TopicId),
    /// Extents from the one that holds `from` on, up to about `max_bytes` (at least one), at most `max_extents`.
    Locate {
        /// The topic.
        topic: TopicId,
        /// The partition.
        partition: PartitionIndex,
        /// The first offset wanted.
        from: Offset,
        /// Stop after this many bytes.
        max_bytes: u64,
        /// Stop after this many extents.
        max_extents: usize,
    },
    /// The first extent with a record at or after a time.
    LocateTime {
        /// The topic.
        topic: TopicId,
        /// The partition.
        partition: PartitionIndex,
        /// The time.
        at: Timestamp,
    },
    /// A cursor in every topic.
    Cursor(NamespaceName, CursorName),
    /// A namespace's cursors by name and topic. `after` is `cursor/topic`.
    Cursors(NamespaceName, PageRequest),
    /// What the collector may work on, see [`Reclaimable`].
    Reclaimable {
        /// At most this many partitions and objects.
        limit: usize,
        /// Only partitions after this one, in the order of their ids.
        after: Option<(TopicId, PartitionIndex)>,
        /// Only objects after this one, in the order of their ids.
        after_object: Option<SegmentId>,
        /// The asker's time.
        now: Timestamp,
        /// Only objects let go of longer ago.
        grace: Duration,
    },
    /// What compactors may work on.
    Compactable {
        /// At most this many partitions.
        limit: usize,
        /// Only partitions after this one, in the order of their ids.
        after: Option<(TopicId, PartitionIndex)>,
    },
    /// A topic by its number.
    TopicById(TopicId),
    /// What is known of objects.
    Objects(Vec<SegmentId>),
    /// How far the journal is.
    Position,
    /// Schemas.
    Schema(Box<SchemaQuery>),
    /// What a namespace or topic uses.
    Usage(Box<UsageQuery>),
    /// One queue.
    Queue(NamespaceName, QueueName),
    /// A namespace's queues by name.
    Queues(NamespaceName, PageRequest),
    /// How a queue stands.
    QueueNumbers(QueueId),
    /// The next messages of a queue that could be received, at most so many.
    QueuePeek(QueueId, u32),
    /// How leases of a queue stand; what is to happen to them is not looked at.
    QueueLeases(SettleMessages),
    /// Messages of one partition of a queue that are not finished and that nobody has, from an offset on.
    QueueFree {
        /// The queue.
        queue: QueueId,
        /// The partition's topic.
        topic: TopicId,
        /// The partition.
        partition: PartitionIndex,
        /// Where to begin.
        from: Offset,
        /// How many are told, at most. There may be more behind where the answer ends, also if it has fewer.
        most: u32,
    },
}

/// An answer, in the order of [`Query`].
#[derive(Clone, Debug)]
pub enum Answer {
    /// To `Namespace`.
    Namespace(Namespace),
    /// To `Namespaces`.
    Namespaces(Page<Namespace>),
    /// To `Topic` and `TopicById`.
    Topic(Topic),
    /// To `Topics`.
    Topics(Page<Topic>),
    /// To `Partitions`.
    Partitions(Vec<PartitionStatus>),
    /// To `Locate` and `LocateTime`.
    Located(Located),
    /// To `Cursor`.
    Cursor(Vec<Cursor>),
    /// To `Cursors`.
    Cursors(Page<Cursor>),
    /// To `Reclaimable`.
    Reclaimable(Reclaimable),
    /// To `Compactable`.
    Compactable(Compactable),
    /// To `Objects`, in its order; `None` for those that this shard never heard of, or forgot.
    Objects(Vec<Option<ObjectStatus>>),
    /// To `Position`.
    Position(JournalPosition),
    /// To `Schema`.
    Schema(Box<SchemaAnswer>),
    /// To `Usage`.
    Usage(Box<UsageAnswer>),
    /// To `Queue`.
    Queue(Box<Queue>),
    /// To `Queues`.
    Queues(Page<Queue>),
    /// To `QueueNumbers`.
    QueueNumbers(Box<QueueNumbers>),
    /// To `QueuePeek`.
    QueuePeek(Vec<Peeked>),
    /// To `QueueLeases`, in the order of its items: [`super::SettleOutcome::Until`] says that a lease goes on, and until when.
    QueueLeases(Vec<SettledRun>),
    /// To `QueueFree`.
    QueueFree(FreeMessages),
}

/// How far a shard's journal is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JournalPosition {
    /// The last entry.
    pub seq: JournalSeq,
    /// The reign that wrote it.
    pub epoch: Epoch,
    /// The ledger's time.
    pub time: Timestamp,
}

/// Where records are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Located {
    /// The oldest offset there is.
    pub log_start: Offset,
    /// The offset of the next append.
    pub end: Offset,
    /// In offset order, without gaps; empty at the end.
    pub extents: Vec<Extent>,
    /// Extents that take the place of those that the store has for their offsets. For the owner, who puts them in.
    pub overlay: Vec<Extent>,
    /// Extents from here on are in memory; older ones are to be read from the store, and come before `extents`.
    pub first_recent: Offset,
    /// Extents below were let go of.
    pub retired: Offset,
    /// The topic was deleted: to readers nothing is here, only the collector goes on.
    pub deleted: bool,
}

/// What nobody needs any more.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reclaimable {
    /// Partitions with extents wholly or partly below the log start.
    pub partitions: Vec<ReclaimablePartition>,
    /// Objects that nothing of this shard refers to.
    pub objects: Vec<SegmentId>,
    /// How many other objects nothing refers to, but not for long enough.
    pub waiting: usize,
    /// When the next of those is due, if any is to come.
    pub next_release: Option<Timestamp>,
}

/// A partition that begins before its log start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReclaimablePartition {
    /// The topic.
    pub topic: TopicId,
    /// The partition.
    pub partition: PartitionIndex,
    /// The first offset of the oldest extent.
    pub oldest: Offset,
    /// The oldest offset that readers see.
    pub log_start: Offset,
    /// Raised by each swap. For the command that lets go of what is located after this; absent from replicas that do not tell it yet.
    pub generation: Option<u64>,
}

impl Ledger {
    /// Answers a question from the state in memory.
    pub fn query(&self, query: &Query) -> Result<Answer> {
        match query {
            Query::Namespace(name) => {
                self.namespaces.get(name).cloned().map(Answer::Namespace).ok_or_else(|| Error::NamespaceNotFound(name.clone()))
            }
            Query::Namespaces(page) => Ok(Answer::Namespaces(paged(page, self.namespaces.values().cloned(), |n| n.name.to_string()))),
            Query::Topic(namespace, name) => {
                self.require_namespace(namespace)?;
                let id = self.topic_id(namespace, name)?;
                self.topics.get(&id).cloned().map(Answer::Topic).ok_or_else(|| Error::TopicNotFound(name.clone()))
            }
            Query::Topics(namespace, page) => {
                self.require_namespace(namespace)?;
                let of = self.names.range((namespace.clone(), first_name(page))..).take_while(|((ns, _), _)| ns == namespace);
                Ok(Answer::Topics(paged(page, of.filter_map(|(_, id)| self.topics.get(id).cloned()), |t| t.name.to_string())))
            }
            Query::Partitions(topic) => {
                let of = self.partitions.range((*topic, PartitionIndex(0))..=(*topic, PartitionIndex(u32::MAX)));
                Ok(Answer::Partitions(of.map(|((_, index), partition)| partition.status(*index)).collect()))
            }
            Query::Locate { topic, partition, from, max_bytes, max_extents } => {
                self.locate(*topic, *partition, *from, *max_bytes, *max_extents)
            }
            Query::LocateTime { topic, partition, at } => self.locate_time(*topic, *partition, *at),
            Query::Cursor(namespace, cursor) => {
                self.require_namespace(namespace)?;
                Ok(Answer::Cursor(self.cursor_keys(namespace, cursor).filter_map(|key| self.describe_cursor(key)).collect()))
            }
            Query::Cursors(namespace, page) => {
                self.require_namespace(namespace)?;
                // As a pair: in bytes, some characters of names come before the slash.
                let after = page.after.as_deref().map(|after| after.split_once('/').unwrap_or((after, "")));
                let is_after = |(ns, c, t): &&CursorKey| ns == namespace && after.is_none_or(|after| (c.as_str(), t.as_str()) > after);
                let of = self.cursors.keys().filter(is_after).filter_map(|key| self.describe_cursor(key));
                let rest = PageRequest { after: None, limit: page.limit };
                Ok(Answer::Cursors(paged(&rest, of, |c| format!("{}/{}", c.name, c.topic))))
            }
            Query::Reclaimable { limit, after, after_object, now, grace } => {
                Ok(Answer::Reclaimable(self.reclaimable(*limit, after.as_ref(), after_object.as_ref(), *now, *grace)))
            }
            Query::Compactable { limit, after } => Ok(Answer::Compactable(self.compactable_after(*limit, after.as_ref()))),
            Query::TopicById(id) => self.topics.get(id).cloned().map(Answer::Topic).ok_or_else(|| Refusal::TopicGone.into_error()),
            Query::Objects(ids) => {
                let status = |id: &SegmentId| self.objects.by_id.get(id).map(|object| object.status(*id));
                Ok(Answer::Objects(ids.iter().map(status).collect()))
            }
            Query::Queue(namespace, name) => {
                self.require_namespace(namespace)?;
                let queue = self.queue(namespace, name).ok_or_else(|| Error::QueueNotFound(name.clone()))?;
                Ok(Answer::Queue(Box::new(queue)))
            }
            Query::Queues(namespace, page) => {
                self.require_namespace(namespace)?;
                let of = self.queues_from(namespace, QueueName::from(&first_name(page)));
                Ok(Answer::Queues(paged(page, of, |queue| queue.name.to_string())))
            }
            Query::Schema(query) => self.query_schemas(query).map(|answer| Answer::Schema(Box::new(answer))),
            Query::Usage(query) => self.query_usage(query).map(|answer| Answer::Usage(Box::new(answer))),
            Query::QueueNumbers(queue) => self.queue_numbers(*queue),
            Query::QueuePeek(queue, most) => self.queue_peek(*queue, *most),
            Query::QueueLeases(leases) => Ok(self.queue_leases(leases)),
            Query::QueueFree { queue, topic, partition, from, most } => self.queue_free(*queue, (*topic, *partition), *from, *most),
            Query::Position => Ok(Answer::Position(JournalPosition { seq: self.seq, epoch: self.epoch, time: self.time })),
        }
    }

    /// A partition's state.
    pub fn partition(&self, topic: TopicId, partition: PartitionIndex) -> Option<&super::Partition> {
        self.partitions.get(&(topic, partition))
    }

    fn located(&self, topic: TopicId, partition: PartitionIndex) -> Result<(&super::Partition, Located)> {
        let gone = || Refusal::TopicGone.into_error();
        let state = self.partitions.get(&(topic, partition)).ok_or_else(gone)?;
        let located = Located {
            log_start: state.log_start,
            end: state.next,
            extents: Vec::new(),
            overlay: Vec::new(),
            first_recent: state.first_recent(),
            retired: state.retired,
            deleted: state.deleted,
        };
        Ok((state, located))
    }

    fn locate(&self, topic: TopicId, partition: PartitionIndex, from: Offset, max_bytes: u64, max_extents: usize) -> Result<Answer> {
        let (state, mut located) = self.located(topic, partition)?;
        let mut bytes = 0;
        for extent in state.recent_from(from) {
            if located.extents.len() >= max_extents || (bytes >= max_bytes && !located.extents.is_empty()) {
                break;
            }
            bytes += u64::from(extent.length);
            located.extents.push(*extent);
        }
        located.overlay = state.overlay_from(from).take(max_extents.max(1)).copied().collect();
        Ok(Answer::Located(located))
    }

    fn locate_time(&self, topic: TopicId, partition: PartitionIndex, at: Timestamp) -> Result<Answer> {
        let (state, mut located) = self.located(topic, partition)?;
        let found = |e: &&Extent| e.max_timestamp >= at && e.end() > state.log_start;
        located.extents.extend(state.recent().find(found).copied());
        located.overlay.extend(state.overlay_from(state.log_start).find(found).copied());
        Ok(Answer::Located(located))
    }

    /// Every topic, in the order of their ids.
    pub fn topics(&self) -> impl Iterator<Item = &Topic> {
        self.topics.values()
    }

    /// Every partition, also those of deleted topics that still hold extents.
    pub fn partitions(&self) -> impl Iterator<Item = (TopicId, PartitionIndex, &super::Partition)> {
        self.partitions.iter().map(|((topic, index), partition)| (*topic, *index, partition))
    }

    /// Every object, in the order of their ids.
    pub fn objects(&self) -> impl Iterator<Item = ObjectStatus> {
        self.objects.by_id.iter().map(|(id, object)| object.status(*id))
    }

    fn reclaimable(
        &self,
        limit: usize,
        after: Option<&PartitionKey>,
        after_object: Option<&SegmentId>,
        now: Timestamp,
        grace: Duration,
    ) -> Reclaimable {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let partitions = self.partitions.range::<PartitionKey, _>((from, Bound::Unbounded)).filter(|(_, p)| p.retired < p.log_start);
        let mut found = Reclaimable {
            partitions: partitions.map(|(key, partition)| reclaimable_partition(*key, partition)).take(limit).collect(),
            ..Reclaimable::default()
        };
        let from = after_object.map_or(Bound::Unbounded, Bound::Excluded);
        for id in self.objects.released.range::<SegmentId, _>((from, Bound::Unbounded)) {
            let Some(due) = self.objects.by_id.get(id).and_then(|object| object.due(*id, grace)) else { continue };
            if due >= now {
                found.waiting += 1;
                found.next_release = Some(found.next_release.map_or(due, |earliest| earliest.min(due)));
            } else if found.objects.len() < limit {
                found.objects.push(*id);
            }
        }
        found
    }
}

fn reclaimable_partition((topic, index): PartitionKey, partition: &Partition) -> ReclaimablePartition {
    let (oldest, log_start) = (partition.retired, partition.log_start);
    ReclaimablePartition { topic, partition: index, oldest, log_start, generation: Some(partition.generation()) }
}

impl From<&Extent> for RetiredExtent {
    fn from(extent: &Extent) -> Self {
        Self { base_offset: extent.base_offset, records: extent.records, length: extent.length, object: extent.object }
    }
}

/// The smallest name that a page may begin with.
pub(super) fn first_name(page: &PageRequest) -> TopicName {
    page.after.as_deref().and_then(|after| TopicName::new(after).ok()).unwrap_or_else(TopicName::first)
}

pub(super) fn paged<T>(page: &PageRequest, items: impl Iterator<Item = T>, name: impl Fn(&T) -> String) -> Page<T> {
    let mut rest = items.skip_while(|item| page.after.as_ref().is_some_and(|after| name(item) <= *after));
    let items: Vec<T> = rest.by_ref().take(page.limit).collect();
    let more = rest.next().is_some();
    let next = items.last().filter(|_| more).map(name);
    Page { items, next }
}
