//! Deletes objects that nothing refers to any more, and then has the ledger forget them.
//!
//! A Parquet file is of one shard and has a key of its own. A segment may hold data of several shards. Each shard's ledger knows only of its own part, so the segment's index names
//! the shards to be asked: every one must have let go of the object, or refused it, a grace ago. A shard that never heard
//! of it is told to refuse it, so that no late commit can make it refer to what is deleted.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use futures::StreamExt;
use lakefall_queue::ledger::{Answer, Command, Query};
use lakefall_queue::{SegmentId, ShardId, Timestamp};
use lakefall_service::failpoint;

use super::{CollectError, Collector, unexpected};
use crate::metrics as names;
use crate::segments::index_of;

/// Objects handled at once; also the largest journaled command that forgets.
const PAGE: usize = 1_000;
/// Deletions on their way at the same time.
const PARALLEL: usize = 8;
/// Objects of which something is remembered. Beyond it requests are made again.
const REMEMBERED: usize = 100_000;

/// What a shard let go of.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Released {
    /// Objects that nothing of the shard refers to, a grace ago.
    pub objects: Vec<SegmentId>,
    /// How many others still wait for their grace.
    pub waiting: usize,
    /// When the next of those is due.
    pub due: Option<Timestamp>,
}

/// What became of deletions.
#[derive(Debug, Default)]
pub struct Gone {
    /// Deleted, or found to be deleted before.
    pub objects: Vec<SegmentId>,
    /// Why some others are still there.
    pub failure: Option<CollectError>,
}

/// What spares requests in later rounds.
#[derive(Default)]
pub(super) struct SharedObjects(Mutex<Remembered>);

#[derive(Default)]
struct Remembered {
    /// The shards of objects that others still keep.
    kept: HashMap<SegmentId, BTreeSet<ShardId>>,
    /// Orphans that were deleted, until every shard forgot them.
    swept: HashSet<SegmentId>,
}

/// Whether an object may go.
enum Fate {
    Delete,
    /// It is not there any more.
    Gone,
    /// Another shard needs it, or not for long enough no more.
    Keep,
}

impl Collector {
    /// Objects of a shard that may be deleted as far as this shard is concerned, after `after` in the order of their ids.
    pub async fn released(&self, shard: ShardId, after: Option<SegmentId>) -> Result<Released, CollectError> {
        let (now, grace) = (self.ambient.now(), self.config.grace);
        let query = Query::Reclaimable { limit: PAGE, after: None, after_object: after, now, grace };
        match self.ask(shard, query).await? {
            Answer::Reclaimable(found) => Ok(Released { objects: found.objects, waiting: found.waiting, due: found.next_release }),
            other => Err(unexpected(&other)),
        }
    }

    /// Deletes those of `objects` that no other shard needs either. Each must have been named by [`Self::released`], and
    /// [`Self::check`] must have found since that nothing speaks against it.
    pub async fn delete(&self, shard: ShardId, objects: &[SegmentId]) -> Gone {
        let mut gone = Gone::default();
        let known = match self.ask(shard, Query::Objects(objects.to_vec())).await {
            Ok(Answer::Objects(known)) if known.len() == objects.len() => known,
            Ok(other) => return Gone { failure: Some(unexpected(&other)), ..gone },
            Err(error) => return Gone { failure: Some(error), ..gone },
        };
        let keyed = objects.iter().copied().zip(known.into_iter().map(|status| status.and_then(|status| status.key)));
        let mut deletions =
            futures::stream::iter(keyed).map(|(id, key)| async move { (id, self.delete_one(shard, id, key.as_deref()).await) });
        let mut deletions = deletions.by_ref().buffer_unordered(PARALLEL);
        while let Some((id, deleted)) = deletions.next().await {
            match deleted {
                Ok(true) => gone.objects.push(id),
                Ok(false) => {}
                Err(error) => {
                    tracing::warn!(object = %id, %error, "an object that nothing refers to could not be deleted");
                    gone.failure = Some(error);
                }
            }
        }
        gone
    }

    /// Has the shard forget objects that are deleted.
    pub async fn forget(&self, shard: ShardId, objects: Vec<SegmentId>) -> Result<(), CollectError> {
        if !objects.is_empty() {
            self.metadata.execute(shard, Command::ForgetObjects { objects }).await?;
        }
        Ok(())
    }

    async fn delete_one(&self, shard: ShardId, id: SegmentId, key: Option<&str>) -> Result<bool, CollectError> {
        let fate = match key {
            // A Parquet file holds one partition: no other shard can need it.
            Some(_) if self.shared.was_swept(id) => Fate::Gone,
            Some(_) => Fate::Delete,
            None => self.fate(shard, id).await?,
        };
        match fate {
            Fate::Keep => return Ok(false),
            Fate::Gone => {}
            Fate::Delete => {
                failpoint::hit("c6");
                self.store.delete(&key.map_or_else(|| id.key(), ToOwned::to_owned)).await?;
                failpoint::hit("c7");
                ::metrics::counter!(names::DELETED_OBJECTS).increment(1);
            }
        }
        self.shared.forget(id);
        Ok(true)
    }

    async fn fate(&self, shard: ShardId, id: SegmentId) -> Result<Fate, CollectError> {
        if self.shared.was_swept(id) {
            return Ok(Fate::Gone);
        }
        if self.metadata.shards() == 1 {
            return Ok(Fate::Delete);
        }
        let shards = match self.shared.get(id) {
            Some(shards) => shards,
            None => match self.shards_in(id).await? {
                Some(shards) => shards,
                // Only a collector deletes, and only after all shards let go: what is left to do is to forget.
                None => return Ok(Fate::Gone),
            },
        };
        for other in shards.iter().copied().filter(|other| *other != shard) {
            if !self.let_go(other, id).await? {
                self.shared.remember(id, shards);
                return Ok(Fate::Keep);
            }
        }
        Ok(Fate::Delete)
    }

    /// The shards with data in an object, by its own index; `None` when there is no such object.
    async fn shards_in(&self, id: SegmentId) -> Result<Option<BTreeSet<ShardId>>, CollectError> {
        let index = index_of(&self.store, id).await?;
        Ok(index.map(|index| index.extents.iter().map(|extent| extent.topic.shard()).collect()))
    }

    async fn let_go(&self, shard: ShardId, id: SegmentId) -> Result<bool, CollectError> {
        let known = match self.ask(shard, Query::Objects(vec![id])).await? {
            Answer::Objects(known) => known.into_iter().next().flatten(),
            other => return Err(unexpected(&other)),
        };
        match known {
            Some(status) => Ok(status.let_go(self.config.grace, self.ambient.now())),
            // What this shard may have known before its metadata was restored.
            None if self.is_spared(id) => Ok(false),
            // L5: from here on it never will. Its grace begins now.
            None => {
                self.metadata.execute(shard, Command::RefuseSegments { segments: vec![id] }).await?;
                Ok(false)
            }
        }
    }
}

impl SharedObjects {
    fn lock(&self) -> MutexGuard<'_, Remembered> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn get(&self, id: SegmentId) -> Option<BTreeSet<ShardId>> {
        self.lock().kept.get(&id).cloned()
    }

    fn remember(&self, id: SegmentId, shards: BTreeSet<ShardId>) {
        let mut known = self.lock();
        if known.kept.len() < REMEMBERED {
            known.kept.insert(id, shards);
        }
    }

    fn forget(&self, id: SegmentId) {
        self.lock().kept.remove(&id);
    }

    fn was_swept(&self, id: SegmentId) -> bool {
        self.lock().swept.contains(&id)
    }

    /// Notes that an object was deleted which no shard can refer to.
    pub(super) fn swept(&self, id: SegmentId) {
        let mut known = self.lock();
        if known.swept.len() >= REMEMBERED {
            known.swept.clear();
        }
        known.swept.insert(id);
    }
}
