//! What may be asked of a ledger. Queries change nothing; the owner answers them between groups, so that they see only
//! what is durable (L1).

use super::{CursorKey, Extent, Ledger, RetiredExtent};
use crate::error::{Error, Result};
use crate::id::{CursorName, NamespaceName, Offset, PartitionIndex, SegmentId, TopicId, TopicName};
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
        /// Only objects let go of before.
        released_before: Timestamp,
    },
}

/// An answer, in the order of [`Query`].
#[derive(Clone, Debug)]
pub enum Answer {
    /// To `Namespace`.
    Namespace(Namespace),
    /// To `Namespaces`.
    Namespaces(Page<Namespace>),
    /// To `Topic`.
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
    /// Extents from here on are in memory; older ones are to be read from the store, and come before `extents`.
    pub first_recent: Offset,
    /// Extents below were let go of.
    pub retired: Offset,
}

/// What nobody needs any more.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reclaimable {
    /// Partitions with extents wholly or partly below the log start: the oldest extent's offset, the log start.
    pub partitions: Vec<(TopicId, PartitionIndex, Offset, Offset)>,
    /// Objects that nothing of this shard refers to.
    pub objects: Vec<SegmentId>,
    /// When the oldest remaining object was let go of, if any is to come.
    pub next_release: Option<Timestamp>,
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
            Query::Reclaimable { limit, released_before } => Ok(Answer::Reclaimable(self.reclaimable(*limit, *released_before))),
        }
    }

    /// A partition's state.
    pub fn partition(&self, topic: TopicId, partition: PartitionIndex) -> Option<&super::Partition> {
        self.partitions.get(&(topic, partition))
    }

    fn located(&self, topic: TopicId, partition: PartitionIndex) -> Result<(&super::Partition, Located)> {
        let gone = || Error::unavailable("the topic was deleted or changed while the request was under way");
        let state = self.partitions.get(&(topic, partition)).ok_or_else(gone)?;
        let located = Located {
            log_start: state.log_start,
            end: state.next,
            extents: Vec::new(),
            first_recent: state.first_recent(),
            retired: state.retired,
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
        Ok(Answer::Located(located))
    }

    fn locate_time(&self, topic: TopicId, partition: PartitionIndex, at: Timestamp) -> Result<Answer> {
        let (state, mut located) = self.located(topic, partition)?;
        located.extents.extend(state.recent.iter().find(|e| e.max_timestamp >= at && e.end() > state.log_start).copied());
        Ok(Answer::Located(located))
    }

    fn reclaimable(&self, limit: usize, released_before: Timestamp) -> Reclaimable {
        let partitions = self.partitions.iter().filter(|(_, p)| p.retired < p.log_start);
        let free = |o: &super::objects::Object| o.live_extents == 0 && o.answer.is_none();
        let released = self.objects.by_id.iter().filter_map(|(id, o)| o.released_at.map(|at| (*id, o, at)));
        let (due, waiting): (Vec<_>, Vec<_>) = released.partition(|(_, o, at)| free(o) && *at < released_before);
        Reclaimable {
            partitions: partitions.map(|((topic, index), p)| (*topic, *index, p.retired, p.log_start)).take(limit).collect(),
            objects: due.into_iter().map(|(id, ..)| id).take(limit).collect(),
            next_release: waiting.into_iter().map(|(.., at)| at).min(),
        }
    }
}

impl From<&Extent> for RetiredExtent {
    fn from(extent: &Extent) -> Self {
        Self { base_offset: extent.base_offset, records: extent.records, length: extent.length, object: extent.object }
    }
}

/// The smallest name that a page may begin with.
fn first_name(page: &PageRequest) -> TopicName {
    let first = || TopicName::new("0").unwrap_or_else(|_| unreachable!("0 is a name"));
    page.after.as_deref().and_then(|after| TopicName::new(after).ok()).unwrap_or_else(first)
}

fn paged<T>(page: &PageRequest, items: impl Iterator<Item = T>, name: impl Fn(&T) -> String) -> Page<T> {
    let mut rest = items.skip_while(|item| page.after.as_ref().is_some_and(|after| name(item) <= *after));
    let items: Vec<T> = rest.by_ref().take(page.limit).collect();
    let more = rest.next().is_some();
    let next = items.last().filter(|_| more).map(name);
    Page { items, next }
}
