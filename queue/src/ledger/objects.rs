//! The life of an object: committed, let go of, deleted; or refused for ever before it could be committed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::{Applied, CommitReply, Ledger, PartitionKey, Refusal, Reply, RetiredExtent, RowKey};
use crate::error::{Error, Result};
use crate::id::SegmentId;
use crate::time::Timestamp;

/// How long a commit's answer is kept for its repetition (L3), and how old a segment may be when it is committed: a
/// gateway gives up long before.
pub const COMMIT_WINDOW: Duration = Duration::from_secs(300);

/// An object as this shard sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectStatus {
    /// Which one.
    pub id: SegmentId,
    /// Its bytes; 0 when it was refused before it was seen.
    pub size: u64,
    /// Extents of this shard that lie in it.
    pub live_extents: u32,
    /// When the last of them went, or the object was refused.
    pub released_at: Option<Timestamp>,
    /// The key of a Parquet file; others have theirs by their id.
    pub key: Option<Arc<str>>,
}

impl ObjectStatus {
    /// Where it is kept.
    pub fn key(&self) -> String {
        self.key.as_deref().map_or_else(|| self.id.key(), ToOwned::to_owned)
    }

    /// Whether this shard let go of the object, or refused it, more than a grace ago: as far as it goes, the object may be deleted.
    pub fn let_go(&self, grace: Duration, now: Timestamp) -> bool {
        self.live_extents == 0 && self.released_at.is_some_and(|at| at.plus(grace) < now)
    }

    /// Whether this shard refused the object without ever having been asked to take it. Only such a refusal leaves an object of
    /// which no size is known.
    pub fn was_refused_unseen(&self) -> bool {
        self.live_extents == 0 && self.size == 0 && self.released_at.is_some()
    }
}

/// An object that this shard took part of, or refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Object {
    pub(crate) size: u64,
    /// Extents of this shard that lie in it.
    pub(crate) live_extents: u32,
    pub(crate) committed_at: Timestamp,
    /// When its last extent went; it may be deleted a grace later.
    pub(crate) released_at: Option<Timestamp>,
    /// Its commit was or will be refused.
    pub(crate) refused: bool,
    /// Kept for [`COMMIT_WINDOW`].
    pub(crate) answer: Option<Arc<CommitReply>>,
    /// Of a Parquet file; others have their key by their id.
    pub(crate) key: Option<Arc<str>>,
}

impl Object {
    pub(super) fn status(&self, id: SegmentId) -> ObjectStatus {
        ObjectStatus { id, size: self.size, live_extents: self.live_extents, released_at: self.released_at, key: self.key.clone() }
    }

    /// When it may be deleted and forgotten: a grace after nothing refers to it any more, and not before its answer is no
    /// longer owed and its id is too old to commit. Told by times alone: an idle ledger drops no answers.
    pub(super) fn due(&self, id: SegmentId, grace: Duration) -> Option<Timestamp> {
        let released_at = self.released_at.filter(|_| self.live_extents == 0)?;
        Some(released_at.plus(grace).max(self.committed_at.plus(COMMIT_WINDOW)).max(id.minted_at().plus(COMMIT_WINDOW)))
    }
}

/// All objects of a shard.
#[derive(Clone, Debug, Default)]
pub(crate) struct Objects {
    pub(crate) by_id: BTreeMap<SegmentId, Object>,
    /// Objects whose answer is kept, by the time of their commit.
    pub(crate) answered: BTreeSet<(Timestamp, SegmentId)>,
    /// Objects that nothing of this shard refers to: the collector's work, found without a walk over all.
    pub(crate) released: BTreeSet<SegmentId>,
}

impl Objects {
    pub(crate) fn insert(&mut self, id: SegmentId, object: Object, dirty: &mut BTreeSet<RowKey>) {
        if object.answer.is_some() {
            self.answered.insert((object.committed_at, id));
        }
        if object.released_at.is_some() {
            self.released.insert(id);
        }
        self.by_id.insert(id, object);
        dirty.insert(RowKey::Object(id));
    }

    pub(crate) fn expire_answers(&mut self, now: Timestamp, dirty: &mut BTreeSet<RowKey>) {
        let horizon = now.minus(COMMIT_WINDOW);
        while let Some((at, id)) = self.answered.first().copied()
            && at < horizon
        {
            self.answered.pop_first();
            if let Some(object) = self.by_id.get_mut(&id) {
                object.answer = None;
                dirty.insert(RowKey::Object(id));
            }
        }
    }
}

impl Ledger {
    /// L5: from here on a commit of these segments fails, whenever it comes.
    pub(super) fn refuse_segments(&mut self, segments: &[SegmentId], now: Timestamp) -> Applied {
        let fresh: Vec<SegmentId> = segments.iter().copied().filter(|id| !self.objects.by_id.contains_key(id)).collect();
        for id in &fresh {
            self.refuse(*id, 0, now);
        }
        let refused = segments.iter().copied().filter(|id| self.objects.by_id.get(id).is_some_and(|o| o.refused)).collect();
        Applied { reply: Ok(Reply::Refused(refused)), changed: !fresh.is_empty() }
    }

    pub(super) fn refuse(&mut self, id: SegmentId, size: u64, now: Timestamp) {
        let object = Object { size, live_extents: 0, committed_at: now, released_at: Some(now), refused: true, answer: None, key: None };
        self.objects.insert(id, object, &mut self.dirty);
    }

    pub(super) fn retire(
        &mut self,
        key: PartitionKey,
        extents: &[RetiredExtent],
        generation: Option<u64>,
        now: Timestamp,
    ) -> Result<Reply> {
        let (topic, index) = key;
        let gone = || Error::Internal(format!("there is no partition {topic}/{index} to retire extents of"));
        let partition = self.partitions.get_mut(&key).ok_or_else(gone)?;
        if generation.is_some_and(|located| located != partition.generation()) {
            return Err(Refusal::ExtentsChanged.into_error());
        }
        if extents.is_empty() || extents.iter().any(|e| self.objects.by_id.get(&e.object).is_none_or(|o| o.live_extents == 0)) {
            return Err(Error::Internal("an extent to retire lies in an object that holds none".to_owned()));
        }
        let (in_memory, stored_by) = (partition.recent_count(), partition.stored_by());
        partition.retire(extents)?;
        self.recents.count -= in_memory - partition.recent_count();
        if partition.recent_count() == 0 {
            self.recents.evictable.remove(&(stored_by, key));
        }
        let finished = partition.deleted && partition.retired == partition.next;
        self.release(extents, now);
        if finished {
            self.remove_partition(key);
        }
        self.note_compactable(key);
        self.dirty.insert(RowKey::Partition(topic, index));
        Ok(Reply::Done)
    }

    /// Objects that hold nothing any more may go.
    pub(super) fn release(&mut self, extents: &[RetiredExtent], now: Timestamp) {
        for extent in extents {
            if let Some(object) = self.objects.by_id.get_mut(&extent.object) {
                object.live_extents = object.live_extents.saturating_sub(1);
                if object.live_extents == 0 {
                    object.released_at = Some(now);
                    self.objects.released.insert(extent.object);
                }
                self.dirty.insert(RowKey::Object(extent.object));
            }
        }
    }

    /// An object may be forgotten when nothing refers to it and its answer is no longer owed. A refused one is
    /// forgotten only when its id has become too old to commit.
    pub(super) fn forget_objects(&mut self, ids: &[SegmentId], now: Timestamp) -> Applied {
        let horizon = now.minus(COMMIT_WINDOW);
        let free = |id: &SegmentId, o: &Object| o.live_extents == 0 && o.committed_at < horizon && id.minted_at() < horizon;
        let mut changed = false;
        for id in ids {
            if self.objects.by_id.get(id).is_some_and(|object| free(id, object)) {
                self.objects.by_id.remove(id);
                self.objects.released.remove(id);
                self.dirty.insert(RowKey::Object(*id));
                changed = true;
            }
        }
        Applied { reply: Ok(Reply::Done), changed }
    }
}
