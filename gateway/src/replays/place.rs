//! Where a replay stands, kept in two cursors of its source topic: `replay.<name>` is its progress, and
//! `replay-end.<hash>.<name>` where it ends, with a hash of what was asked for. Both are only ever moved together, in one
//! atom: cursors that were not moved together are not of one replay. Must never move them without knowing their version.

use std::collections::BTreeMap;

use lakefall_queue::error::{Error, Result};
use lakefall_queue::replay::Replay;
use lakefall_queue::topic::Topic;
use lakefall_queue::verbs::{Admission, Caller, Commit, Cursor, CursorMove, Verbs};
use lakefall_queue::{CursorName, Offset, PartitionIndex, ReplayName, TopicName};
use xxhash_rust::xxh3::xxh3_64;

/// How often the cursors are looked at while they are being moved.
const LOOKS: usize = 3;

/// How far a replay is.
pub(super) struct Place {
    replay: ReplayName,
    topic: TopicName,
    progress: CursorName,
    bounds: CursorName,
    /// Of the progress; 0 before it is kept.
    version: u64,
    /// The next offset to look at, of each partition.
    pub(super) next: BTreeMap<PartitionIndex, Offset>,
    /// Where each partition ends.
    pub(super) ends: BTreeMap<PartitionIndex, Offset>,
}

impl Place {
    /// Nowhere yet. Another request under the same name has another place, and so has the same request to a topic that was
    /// deleted and created again: what was copied is gone with it.
    pub(super) fn new(replay: &Replay, target: &Topic) -> Result<Self> {
        let from = &replay.from;
        let asked = (&from.start, &from.end, &from.partition, &from.key, &from.filter, &from.predicate, target.id.0);
        let asked = serde_json::to_vec(&asked).map_err(|e| Error::Internal(format!("a replay cannot be told apart: {e}")))?;
        Ok(Self {
            replay: replay.name.clone(),
            topic: from.topic.clone(),
            progress: CursorName::new(&format!("replay.{}", replay.name))?,
            bounds: CursorName::new(&format!("replay-end.{:016x}.{}", xxh3_64(&asked), replay.name))?,
            version: 0,
            next: BTreeMap::new(),
            ends: BTreeMap::new(),
        })
    }

    /// Looks for where the replay was left. False: it never began.
    pub(super) async fn find(&mut self, verbs: &dyn Verbs, caller: &Caller) -> Result<bool> {
        for _ in 0..LOOKS {
            let Some(progress) = self.cursor(verbs, caller, &self.progress).await? else { return Ok(false) };
            match self.cursor(verbs, caller, &self.bounds).await? {
                Some(bounds) if bounds.updated_at == progress.updated_at => {
                    self.version = progress.version;
                    self.next = positions(&progress);
                    self.ends = positions(&bounds);
                    return Ok(true);
                }
                // Moved between the two looks, or not of one replay.
                _ => {}
            }
        }
        let reason = format!(
            "cursor {} in topic {} is of another request, or was moved by somebody: take another name, or delete the cursor to begin anew",
            self.progress, self.topic
        );
        Err(self.conflict(reason))
    }

    /// Keeps the place where the replay begins.
    pub(super) async fn keep(&mut self, verbs: &dyn Verbs, caller: &Caller) -> Result<()> {
        let mut moves = self.moves(self.next.iter().map(|(partition, offset)| (*partition, *offset)).collect());
        if let Some(bounds) = moves.last_mut() {
            bounds.offsets = self.ends.iter().map(|(partition, offset)| (*partition, *offset)).collect();
        }
        let admission = Admission::default();
        verbs.commit(caller, Commit { appends: Vec::new(), cursors: moves, settlements: Vec::new(), idempotency: None, admission }).await?;
        self.version += 1;
        Ok(())
    }

    /// What moves the replay to an offset of a partition, unless somebody else moved it.
    pub(super) fn moved_to(&self, partition: PartitionIndex, next: Offset) -> Vec<CursorMove> {
        self.moves(vec![(partition, next)])
    }

    /// The progress, and the bounds along with it.
    fn moves(&self, offsets: Vec<(PartitionIndex, Offset)>) -> Vec<CursorMove> {
        let bound = offsets.first().and_then(|(partition, _)| Some((*partition, *self.ends.get(partition)?)));
        let of = |cursor: &CursorName, offsets, if_version| CursorMove {
            cursor: cursor.clone(),
            topic: self.topic.clone(),
            offsets,
            if_version,
        };
        // Bounds that an earlier replay left are overwritten.
        vec![of(&self.progress, offsets, Some(self.version)), of(&self.bounds, bound.into_iter().collect(), None)]
    }

    /// The move to there was applied.
    pub(super) fn is_at(&mut self, partition: PartitionIndex, next: Offset) {
        self.version += 1;
        self.next.insert(partition, next);
    }

    /// Whether the move to there was applied after all. An error if somebody else moved the replay.
    pub(super) async fn settle(&mut self, verbs: &dyn Verbs, caller: &Caller, partition: PartitionIndex, next: Offset) -> Result<bool> {
        let found = self.cursor(verbs, caller, &self.progress).await?;
        let version = found.as_ref().map_or(0, |cursor| cursor.version);
        let is_there = found.is_some_and(|cursor| positions(&cursor).get(&partition) == Some(&next));
        if version == self.version {
            return Ok(false);
        }
        if version == self.version + 1 && is_there {
            self.is_at(partition, next);
            return Ok(true);
        }
        Err(self.conflict(format!("cursor {} was moved or deleted meanwhile: it runs elsewhere, too", self.progress)))
    }

    fn conflict(&self, reason: String) -> Error {
        Error::ReplayConflict { replay: self.replay.clone(), reason }
    }

    async fn cursor(&self, verbs: &dyn Verbs, caller: &Caller, name: &CursorName) -> Result<Option<Cursor>> {
        match verbs.get_cursor(caller, name).await {
            Ok(cursors) => Ok(cursors.into_iter().find(|cursor| cursor.topic == self.topic)),
            Err(Error::CursorNotFound(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

fn positions(cursor: &Cursor) -> BTreeMap<PartitionIndex, Offset> {
    cursor.positions.iter().map(|position| (position.partition, position.offset)).collect()
}
