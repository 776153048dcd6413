//! Runs a history on a ledger, the model and a store side by side, and compares after every command. What the property
//! tests look at afterwards is kept: the journal as bytes, and what each step answered.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use lakefall_queue::error::Error;
use lakefall_queue::id::Epoch;
use lakefall_queue::ledger::{
    Applied, COMMIT_WINDOW, Checkpoint, Command, CommitReply, Extent, JournalEntry, Ledger, Notice, Reply, RetiredExtent, SegmentCommit,
    SliceOutcome, Swap,
};
use lakefall_queue::{PartitionIndex, SegmentId, ShardId, Timestamp, TopicId};

use super::commands::{cursor_name, ns};
use super::model::{Fate, Model, Told};
use super::ops::{CheckpointOp, GroupOp};
use super::store::Store;
use super::swaps::Levels;

pub(crate) const SHARD: ShardId = ShardId(0);
const START_MS: i64 = 1_700_000_000_000;

pub(crate) type Place = (TopicId, PartitionIndex);

/// A ledger under observation.
pub(crate) struct Lab {
    pub(crate) ledger: Ledger,
    pub(crate) model: Model,
    pub(crate) store: Store,
    /// Every entry as it was journaled.
    pub(crate) journal: Vec<Vec<u8>>,
    /// Extents that were not retired, as the notices told of them.
    pub(crate) extents: BTreeMap<Place, VecDeque<Extent>>,
    /// Records stored per partition, as the answers told.
    pub(crate) stored: BTreeMap<Place, u64>,
    /// Every commit that was sent, and when it was sent first.
    pub(crate) commits: Vec<SegmentCommit>,
    pub(crate) refused: Vec<SegmentId>,
    /// How far compaction is in each partition.
    pub(super) levels: BTreeMap<Place, Levels>,
    pub(super) last_swap: Option<Swap>,
    /// What the last swapped partition held before it, at which generation.
    pub(super) before_swap: Option<(Place, u64, Vec<RetiredExtent>)>,
    /// The group's times.
    pub(crate) times: Vec<Timestamp>,
    /// Names of what happened, so that a test can tell that all of it does.
    pub(crate) reached: BTreeSet<String>,
    under_way: Option<Checkpoint>,
    pub(super) clock_ms: i64,
    pub(super) now: Timestamp,
    pub(super) next_id: u128,
}

impl Lab {
    pub(crate) fn run(history: &[GroupOp]) -> Self {
        let mut lab = Self::new();
        for group in history {
            lab.group(group);
        }
        lab
    }

    pub(crate) fn new() -> Self {
        Self {
            ledger: Ledger::new(SHARD, 1),
            model: Model::new(),
            store: Store::default(),
            journal: Vec::new(),
            extents: BTreeMap::new(),
            stored: BTreeMap::new(),
            commits: Vec::new(),
            refused: Vec::new(),
            levels: BTreeMap::new(),
            last_swap: None,
            before_swap: None,
            times: Vec::new(),
            reached: BTreeSet::new(),
            under_way: None,
            clock_ms: START_MS,
            now: Timestamp::default(),
            next_id: 1,
        }
    }

    pub(crate) fn group(&mut self, group: &GroupOp) {
        self.clock_ms += group.jump_ms;
        self.reach(group.jump_ms < 0, "clock went back");
        self.now = self.ledger.group_time(Timestamp::from_millis(self.clock_ms));
        let mut journaled = Vec::new();
        for op in &group.ops {
            let command = self.command(op);
            let before = self.ledger.snapshot();
            let applied = self.ledger.apply(&command, self.now);
            self.compare(&command, &applied);
            if applied.changed {
                journaled.push(command);
            } else {
                assert!(before == self.ledger.snapshot(), "what says that it changed nothing changed something: {command:?}");
            }
        }
        let epoch = Epoch(1 + self.journal.len() as u64 / 10);
        let entry = self.ledger.seal(epoch, self.now, journaled);
        self.journal.push(entry.encode());
        self.times.push(entry.time);
        self.model.seal(self.now.as_millis());
        self.checkpoint(group.checkpoint);
        self.check_state();
    }

    fn checkpoint(&mut self, op: CheckpointOp) {
        match op {
            CheckpointOp::Nothing => {}
            CheckpointOp::Take if self.under_way.is_some() => {}
            CheckpointOp::Take => self.under_way = Some(self.ledger.checkpoint()),
            CheckpointOp::Land(keep) => {
                if let Some(checkpoint) = self.under_way.take() {
                    self.store.write(&checkpoint);
                    self.ledger.checkpointed(&checkpoint, keep);
                    let in_memory = |place: &Place| self.ledger.partition(place.0, place.1).map_or(0, |p| p.recent().count());
                    let evicted = self.extents.iter().any(|(place, told)| in_memory(place) < told.len());
                    self.reach(evicted, "evicted");
                }
            }
            CheckpointOp::Fail => {
                if let Some(checkpoint) = self.under_way.take() {
                    self.ledger.checkpoint_failed(checkpoint);
                    self.reach(true, "checkpoint failed");
                }
            }
        }
    }

    /// The model agrees on every partition and cursor; L2 holds in memory.
    fn check_state(&mut self) {
        let mut places = Vec::new();
        for (index, topic) in self.model.topics.iter().enumerate() {
            let id = TopicId(index as u64 + 1);
            for (p, expected) in topic.partitions.iter().enumerate() {
                let place = (id, PartitionIndex(p as u32));
                let Some(partition) = self.ledger.partition(place.0, place.1) else {
                    assert!(topic.deleted, "partition {place:?} is gone");
                    assert!(!self.extents.contains_key(&place), "partition {place:?} went before its extents");
                    continue;
                };
                assert_eq!(partition.end().0, expected.records.len() as u64, "the end of {place:?}");
                let log_start = if topic.deleted { expected.records.len() as u64 } else { expected.log_start };
                assert_eq!(partition.log_start().0, log_start, "the log start of {place:?}");
                assert_eq!(partition.end().0, self.stored.get(&place).copied().unwrap_or(0), "L2: the records stored in {place:?}");
                self.check_extents(place, partition.recent().copied().collect());
                places.push(place);
            }
        }
        for place in places {
            self.check_located(place);
        }
        let cursors: BTreeMap<_, _> = self.model.cursors.iter().map(|(key, (version, _))| (key.clone(), *version)).collect();
        assert_eq!(self.cursor_versions(), cursors);
    }

    /// L2: what is in memory is the dense newest part of what the notices told.
    fn check_extents(&self, place: Place, recent: Vec<Extent>) {
        let told: Vec<Extent> = self.extents.get(&place).into_iter().flatten().copied().collect();
        assert!(told.ends_with(&recent), "L2: {place:?} holds {recent:?}, and was told of {told:?}");
        assert!(told.windows(2).all(|pair| pair[0].end() == pair[1].base_offset), "L2: a gap in {place:?}: {told:?}");
        assert!(told.last().is_none_or(|last| last.end().0 == self.stored[&place]), "L2: {place:?} ends elsewhere");
    }

    fn cursor_versions(&self) -> BTreeMap<(String, String, String), u64> {
        use lakefall_queue::ledger::{Answer, Query};
        let mut found = BTreeMap::new();
        for namespace in self.model.namespaces.keys() {
            for cursor in (0..3).map(cursor_name) {
                let Ok(Answer::Cursor(cursors)) = self.ledger.query(&Query::Cursor(ns(namespace), cursor)) else {
                    panic!("cursors of {namespace} cannot be asked for")
                };
                let of = cursors.into_iter().map(|c| ((namespace.clone(), c.name.to_string(), c.topic.to_string()), c.version));
                found.extend(of);
            }
        }
        found
    }

    fn compare(&mut self, command: &Command, applied: &Applied) {
        let now = self.now.as_millis();
        let told = (applied.reply.is_ok(), applied.changed);
        let both = |done: bool| (done, done);
        match command {
            Command::PutNamespace { name, condition, .. } => {
                assert_eq!(told, both(self.model.put_namespace(name.as_str(), *condition)), "{command:?}");
            }
            Command::DeleteNamespace { name, .. } => {
                assert_eq!(told, both(self.model.delete_namespace(name.as_str())), "{command:?}")
            }
            Command::PutTopic { namespace, name, config, condition, idempotency } => {
                let request = idempotency.as_ref().map(|r| (&*r.key, r.fingerprint));
                let config = (config.partitions, config.dedup_window.as_millis() as i64);
                let expected = self.model.put_topic((namespace.as_str(), name.as_str()), config, *condition, request, now);
                assert_eq!(told, expected, "{command:?}: {applied:?}");
            }
            Command::DeleteTopic { namespace, name, condition } => {
                let done = self.model.delete_topic(namespace.as_str(), name.as_str(), *condition);
                assert_eq!(told, both(done), "{command:?}");
            }
            Command::Trim { topic, partition, before } => {
                assert_eq!(applied.changed, self.model.trim(*topic, *partition, before.0), "{command:?}");
            }
            Command::PutCursor { namespace, change } => {
                let expected = self.model.put_cursor(namespace, change);
                let version = match &applied.reply {
                    Ok(Reply::Cursor(cursor)) => Some(cursor.version),
                    _ => None,
                };
                assert_eq!(version, expected, "{command:?}: {applied:?}");
            }
            Command::DeleteCursor { namespace, cursor, topic } => {
                let done = self.model.delete_cursor(namespace.as_str(), cursor.as_str(), topic.as_ref());
                assert_eq!(told, both(done), "{command:?}");
            }
            Command::Commit(commit) => self.compare_commit(commit, applied),
            Command::RefuseSegments { segments } => {
                self.model.refuse(segments, now);
                let refused = |id: &SegmentId| matches!(self.model.fates.get(id), Some(Fate::Refused { .. }));
                let expected: Vec<SegmentId> = segments.iter().copied().filter(refused).collect();
                assert_eq!(applied.reply, Ok(Reply::Refused(expected)));
            }
            Command::Retire { topic, partition, extents, generation } => {
                self.compare_retire((*topic, *partition), extents, *generation, applied);
            }
            Command::ForgetObjects { objects } => self.compare_forget(objects, applied.changed),
            Command::Swap(swap) => self.compare_swap(swap, applied),
            Command::Claim(_) | Command::Unclaim { .. } => panic!("claims have tests of their own"),
            Command::TakeBack(_) => panic!("what is taken back has tests of its own"),
            Command::PutQueue(_)
            | Command::DeleteQueue { .. }
            | Command::SeekQueue(_)
            | Command::Receive(_)
            | Command::Settle(_)
            | Command::Schema(_)
            | Command::ReportUsage(_) => {
                panic!("queues have a lab of their own")
            }
        }
    }

    fn compare_commit(&mut self, commit: &SegmentCommit, applied: &Applied) {
        let (expected, changed) = self.model.commit(commit, self.now.as_millis());
        let told = match &applied.reply {
            Ok(Reply::Committed(reply)) => Told::Reply(CommitReply::clone(reply)),
            Err(Error::Unknown { .. }) => Told::Forgotten,
            other => panic!("{commit:?} was answered {other:?}"),
        };
        assert_eq!((&told, applied.changed), (&expected, changed), "L3: {commit:?}");
        let notices = self.ledger.take_notices();
        let Told::Reply(reply) = told else { return self.reach(true, "Forgotten") };
        if !changed {
            return self.reach(true, "repeated");
        }
        self.reach_outcomes(&reply);
        let slices = commit.extents.iter().flat_map(|e| e.slices.iter().map(move |s| ((e.topic, e.partition), s)));
        for ((place, slice), outcome) in slices.zip(&reply.slices) {
            if matches!(outcome, SliceOutcome::Stored(_)) {
                *self.stored.entry(place).or_default() += u64::from(slice.records);
            }
        }
        for notice in notices {
            if let Notice::Appended { topic, partition, extent } = notice {
                self.extents.entry((topic, partition)).or_default().push_back(extent);
            }
        }
    }

    pub(super) fn reach(&mut self, happened: bool, name: &str) {
        if happened {
            self.reached.insert(name.to_owned());
        }
    }

    fn reach_outcomes(&mut self, reply: &CommitReply) {
        let slices = reply.slices.iter().map(|outcome| format!("{outcome:?}"));
        for told in slices.chain(reply.atoms.iter().map(|outcome| format!("{outcome:?}"))) {
            let inner = told.strip_prefix("Refused(").unwrap_or(&told);
            let name = inner.split(|c: char| !c.is_ascii_alphanumeric()).next();
            self.reached.extend(name.map(str::to_owned));
        }
    }

    fn compare_retire(&mut self, place: Place, extents: &[RetiredExtent], generation: Option<u64>, applied: &Applied) {
        let current = self.levels.get(&place).map_or(0, |levels| levels.generation);
        let changed = generation.is_some_and(|located| located != current);
        let topic = &self.model.topics[place.0.0 as usize - 1];
        let state = &topic.partitions[place.1.0 as usize];
        let log_start = if topic.deleted { state.records.len() as u64 } else { state.log_start };
        let held = self.extents.entry(place).or_default();
        let oldest: Vec<RetiredExtent> = held.iter().take(extents.len()).map(RetiredExtent::from).collect();
        let below = extents.last().is_some_and(|e| e.base_offset.0 + u64::from(e.records) <= log_start);
        let done = !changed && oldest == extents && below;
        assert_eq!((applied.reply.is_ok(), applied.changed), (done, done), "retire {extents:?} of {place:?}: {applied:?}");
        if done {
            held.drain(..extents.len());
        }
        if held.is_empty() {
            self.extents.remove(&place);
        }
        self.reach(done, "retired");
        self.reach(!done, "retire refused");
        self.reach(changed && below, "retire refused after a swap");
        self.reach(done && self.ledger.partition(place.0, place.1).is_none(), "partition finished");
    }

    fn compare_forget(&mut self, objects: &[SegmentId], changed: bool) {
        let horizon = self.now.as_millis() - COMMIT_WINDOW.as_millis() as i64;
        let before = self.model.fates.len();
        let held = |id: &SegmentId| self.extents.values().flatten().any(|e| e.object == *id);
        self.model.fates.retain(|id, fate| {
            let (Fate::Committed { at, .. } | Fate::Refused { at }) = fate;
            !objects.contains(id) || held(id) || *at >= horizon || id.minted_at().as_millis() >= horizon
        });
        assert_eq!(changed, self.model.fates.len() < before, "forget {objects:?}");
        self.reach(changed, "forgotten objects");
    }

    /// The ledger as it is when all its entries are replayed from nothing.
    pub(crate) fn replayed(&self) -> Ledger {
        let mut ledger = Ledger::new(SHARD, 1);
        self.replay_tail(&mut ledger);
        ledger
    }

    /// The ledger as a new owner builds it: from the store's rows and the journal's tail.
    pub(crate) fn recovered(&self) -> Ledger {
        let mut ledger = self.store.load(SHARD).unwrap_or_else(|| Ledger::new(SHARD, 1));
        self.replay_tail(&mut ledger);
        ledger
    }

    fn replay_tail(&self, ledger: &mut Ledger) {
        for bytes in &self.journal[ledger.seq().0 as usize..] {
            ledger.replay(&JournalEntry::decode(bytes).unwrap()).unwrap();
        }
    }
}
