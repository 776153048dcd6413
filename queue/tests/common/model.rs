//! What a ledger must do, told as simply as possible: each partition is a list of record ids, each window a map that
//! nobody ever cleans up but by looking at the time. Shares the ledger's vocabulary and none of its code.

use std::collections::BTreeMap;

use lakefall_queue::ledger::{AtomOutcome, COMMIT_WINDOW, CommitReply, DedupHit, Refusal, SegmentCommit, Slice, SliceOutcome};
use lakefall_queue::verbs::{AckRange, CursorMove, Precondition};
use lakefall_queue::{NamespaceName, Offset, PartitionIndex, SegmentId, TopicId, TopicName};

const DAY_MS: i64 = 24 * 3_600_000;

#[derive(Clone, Debug, Default)]
pub(crate) struct ModelPartition {
    /// A fresh number for each record stored: its index is its offset.
    pub(crate) records: Vec<u64>,
    pub(crate) log_start: u64,
    fence: Option<u64>,
}

#[derive(Clone, Debug)]
pub(crate) struct ModelTopic {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) version: u64,
    pub(crate) partitions: Vec<ModelPartition>,
    window_ms: i64,
    pub(crate) deleted: bool,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct ModelProducer {
    pub(crate) epoch: u32,
    pub(crate) next: u64,
    /// Sequence, records, first offset; all there ever were in this epoch.
    pub(crate) batches: Vec<(u64, u32, u64)>,
    seen: i64,
}

#[derive(Clone, Debug)]
enum Answer {
    Acks(Vec<(u32, AckRange)>),
    Topic,
}

/// What became of a segment.
#[derive(Clone, Debug)]
pub(crate) enum Fate {
    Committed { at: i64, reply: CommitReply },
    Refused { at: i64 },
}

type CursorKey = (String, String, String);

#[derive(Clone, Debug, Default)]
pub(crate) struct Model {
    pub(crate) namespaces: BTreeMap<String, u64>,
    /// All there ever were, by number from 1 on.
    pub(crate) topics: Vec<ModelTopic>,
    pub(crate) producers: BTreeMap<(u64, u32, String), ModelProducer>,
    dedup: BTreeMap<(u64, u128), (u32, u64, i64)>,
    requests: BTreeMap<(String, String), (u128, i64, Answer)>,
    pub(crate) cursors: BTreeMap<CursorKey, (u64, BTreeMap<u32, u64>)>,
    pub(crate) fates: BTreeMap<SegmentId, Fate>,
    /// The last sealed group's time.
    pub(crate) time: i64,
    next_record: u64,
}

/// What the model says of a commit.
#[derive(Debug, PartialEq)]
pub(crate) enum Told {
    Reply(CommitReply),
    /// Committed, but the answer is no longer kept.
    Forgotten,
}

impl Model {
    pub(crate) fn new() -> Self {
        Self { namespaces: BTreeMap::from([("default".to_owned(), 1)]), ..Self::default() }
    }

    pub(crate) fn topic_named(&self, namespace: &str, name: &str) -> Option<usize> {
        self.topics.iter().position(|t| !t.deleted && t.namespace == namespace && t.name == name)
    }

    fn partition(&self, topic: TopicId, partition: PartitionIndex) -> Option<&ModelPartition> {
        let topic = self.topics.get(topic.0 as usize - 1).filter(|t| !t.deleted)?;
        topic.partitions.get(partition.0 as usize)
    }

    pub(crate) fn end(&self, topic: TopicId, partition: PartitionIndex) -> u64 {
        self.partition(topic, partition).map_or(0, |p| p.records.len() as u64)
    }

    pub(crate) fn put_namespace(&mut self, name: &str, condition: Precondition) -> bool {
        let allowed = holds(condition, self.namespaces.get(name).copied());
        if allowed {
            *self.namespaces.entry(name.to_owned()).or_default() += 1;
        }
        allowed
    }

    pub(crate) fn delete_namespace(&mut self, name: &str) -> bool {
        let used = self.topics.iter().any(|t| !t.deleted && t.namespace == name) || self.cursors.keys().any(|k| k.0 == name);
        let done = name != "default" && !used && self.namespaces.remove(name).is_some();
        if done {
            self.requests.retain(|(namespace, _), _| namespace != name);
        }
        done
    }

    /// Whether it is answered, and whether anything changed.
    pub(crate) fn put_topic(
        &mut self,
        (namespace, name): (&str, &str),
        (partitions, window_ms): (u32, i64),
        condition: Precondition,
        request: Option<(&str, u128)>,
        now: i64,
    ) -> (bool, bool) {
        match request.and_then(|(key, print)| self.requests.get(&(namespace.to_owned(), key.to_owned())).map(|r| (r, print))) {
            Some(((known, until, answer), print)) if *until > now => return (*known == print && matches!(answer, Answer::Topic), false),
            _ => {}
        }
        let current = self.topic_named(namespace, name);
        let fits = current.is_none_or(|i| partitions as usize >= self.topics[i].partitions.len());
        if !self.namespaces.contains_key(namespace) || !holds(condition, current.map(|i| self.topics[i].version)) || !fits {
            return (false, false);
        }
        let index = current.unwrap_or_else(|| {
            let (namespace, name) = (namespace.to_owned(), name.to_owned());
            self.topics.push(ModelTopic { namespace, name, version: 0, partitions: Vec::new(), window_ms, deleted: false });
            self.topics.len() - 1
        });
        let topic = &mut self.topics[index];
        topic.version += 1;
        topic.window_ms = window_ms;
        topic.partitions.resize_with(partitions as usize, ModelPartition::default);
        if let Some((key, print)) = request {
            self.requests.insert((namespace.to_owned(), key.to_owned()), (print, now + DAY_MS, Answer::Topic));
        }
        (true, true)
    }

    pub(crate) fn delete_topic(&mut self, namespace: &str, name: &str, condition: Precondition) -> bool {
        let Some(index) = self.topic_named(namespace, name) else { return false };
        if !holds(condition, Some(self.topics[index].version)) {
            return false;
        }
        self.topics[index].deleted = true;
        let id = index as u64 + 1;
        self.producers.retain(|key, _| key.0 != id);
        self.dedup.retain(|key, _| key.0 != id);
        self.cursors.retain(|key, _| key.0 != namespace || key.2 != name);
        true
    }

    pub(crate) fn trim(&mut self, topic: TopicId, partition: Option<PartitionIndex>, before: u64) -> bool {
        let Some(topic) = self.topics.get_mut(topic.0 as usize - 1).filter(|t| !t.deleted) else { return false };
        let mut changed = false;
        for (index, state) in topic.partitions.iter_mut().enumerate() {
            let start = before.min(state.records.len() as u64);
            if partition.is_none_or(|p| p.0 as usize == index) && start > state.log_start {
                state.log_start = start;
                changed = true;
            }
        }
        changed
    }

    fn cursor_refusal(&self, namespace: &NamespaceName, change: &CursorMove) -> Option<Refusal> {
        let astray = Some(Refusal::CursorOffset { cursor: change.cursor.clone() });
        let Some(index) = self.topic_named(namespace.as_str(), change.topic.as_str()) else { return astray };
        let reaches = |(p, o): &(PartitionIndex, Offset)| {
            self.topics[index].partitions.get(p.0 as usize).is_some_and(|p| o.0 <= p.records.len() as u64)
        };
        if !change.offsets.iter().all(reaches) {
            return astray;
        }
        let actual = self.cursors.get(&cursor_key(namespace, change)).map_or(0, |c| c.0);
        change.if_version.filter(|expected| *expected != actual).map(|expected| Refusal::CursorVersion { expected, actual })
    }

    fn move_cursor(&mut self, namespace: &NamespaceName, change: &CursorMove) {
        let cursor = self.cursors.entry(cursor_key(namespace, change)).or_default();
        cursor.0 += 1;
        cursor.1.extend(change.offsets.iter().map(|(p, o)| (p.0, o.0)));
    }

    /// The cursor's new version.
    pub(crate) fn put_cursor(&mut self, namespace: &NamespaceName, change: &CursorMove) -> Option<u64> {
        if self.cursor_refusal(namespace, change).is_some() {
            return None;
        }
        self.move_cursor(namespace, change);
        self.cursors.get(&cursor_key(namespace, change)).map(|c| c.0)
    }

    pub(crate) fn delete_cursor(&mut self, namespace: &str, cursor: &str, topic: Option<&TopicName>) -> bool {
        let before = self.cursors.len();
        self.cursors.retain(|key, _| key.0 != namespace || key.1 != cursor || topic.is_some_and(|t| t.as_str() != key.2));
        self.cursors.len() < before
    }

    pub(crate) fn refuse(&mut self, segments: &[SegmentId], now: i64) {
        for segment in segments {
            self.fates.entry(*segment).or_insert(Fate::Refused { at: now });
        }
    }

    /// What a segment's commit answers, and whether anything changed.
    pub(crate) fn commit(&mut self, commit: &SegmentCommit, now: i64) -> (Told, bool) {
        match self.fates.get(&commit.segment) {
            Some(Fate::Refused { .. }) => return (Told::Reply(all_refused(commit, now)), false),
            Some(Fate::Committed { at, reply }) => {
                let window = COMMIT_WINDOW.as_millis() as i64;
                let kept = *at >= self.time - window;
                return (if kept { Told::Reply(reply.clone()) } else { Told::Forgotten }, false);
            }
            None => {}
        }
        if commit.segment.minted_at().plus(COMMIT_WINDOW).as_millis() < now {
            self.fates.insert(commit.segment, Fate::Refused { at: now });
            return (Told::Reply(all_refused(commit, now)), true);
        }
        let reply = self.decide(commit, now);
        self.fates.insert(commit.segment, Fate::Committed { at: now, reply: reply.clone() });
        (Told::Reply(reply), true)
    }

    /// Requests in order: each atom after the plain slices that lie before its own ones, then what is left.
    fn decide(&mut self, commit: &SegmentCommit, now: i64) -> CommitReply {
        let mut slices: Vec<Vec<Option<SliceOutcome>>> = commit.extents.iter().map(|e| vec![None; e.slices.len()]).collect();
        let mut atoms = Vec::new();
        for atom in 0..commit.atoms.len() {
            for (e, extent) in commit.extents.iter().enumerate() {
                let last = extent.slices.iter().rposition(|s| s.atom == Some(atom as u32)).unwrap_or(0);
                for (s, slice) in extent.slices.iter().enumerate().take(last) {
                    if slice.atom.is_none() && slices[e][s].is_none() {
                        slices[e][s] = Some(self.plain(extent.topic, extent.partition, slice, now));
                    }
                }
            }
            let (outcome, members) = self.atom(commit, atom, now);
            for (e, s, member) in members {
                slices[e][s] = Some(member);
            }
            atoms.push(outcome);
        }
        for (e, extent) in commit.extents.iter().enumerate() {
            for (s, slice) in extent.slices.iter().enumerate() {
                if slices[e][s].is_none() {
                    slices[e][s] = Some(self.plain(extent.topic, extent.partition, slice, now));
                }
            }
        }
        let appended_at = lakefall_queue::Timestamp::from_millis(now);
        CommitReply { appended_at, slices: slices.into_iter().flatten().flatten().collect(), atoms }
    }

    fn plain(&mut self, topic: TopicId, partition: PartitionIndex, slice: &Slice, now: i64) -> SliceOutcome {
        match self.judge(topic, partition, slice, now) {
            Ok(None) => SliceOutcome::Stored(Offset(self.store(topic, partition, slice, now))),
            Ok(Some(base)) => SliceOutcome::Duplicate(Offset(base)),
            Err(refusal) => SliceOutcome::Refused(refusal),
        }
    }

    fn atom(&mut self, commit: &SegmentCommit, index: usize, now: i64) -> (AtomOutcome, Vec<(usize, usize, SliceOutcome)>) {
        let atom = &commit.atoms[index];
        let members: Vec<(usize, usize)> = (0..commit.extents.len())
            .flat_map(|e| (0..commit.extents[e].slices.len()).map(move |s| (e, s)))
            .filter(|(e, s)| commit.extents[*e].slices[*s].atom == Some(index as u32))
            .collect();
        let refused = |outcome| (outcome, members.iter().map(|(e, s)| (*e, *s, SliceOutcome::Refused(Refusal::Atom))).collect());
        let key = atom.idempotency.as_ref().map(|r| (atom.namespace.to_string(), r.key.to_string()));
        if let (Some(key), Some(request)) = (&key, &atom.idempotency)
            && let Some((print, until, answer)) = self.requests.get(key)
            && *until > now
        {
            return match answer {
                Answer::Acks(acks) if *print == request.fingerprint => refused(AtomOutcome::Replayed(acks.clone())),
                _ => refused(AtomOutcome::Refused(Refusal::IdempotencyConflict)),
            };
        }
        if let Some(refusal) = atom.cursors.iter().find_map(|change| self.cursor_refusal(&atom.namespace, change)) {
            return refused(AtomOutcome::Refused(refusal));
        }
        let mut known = Vec::new();
        for (at, (e, s)) in members.iter().enumerate() {
            let extent = &commit.extents[*e];
            match self.judge(extent.topic, extent.partition, &extent.slices[*s], now) {
                Ok(base) => known.push(base),
                Err(refusal) => {
                    // A repetition that was recognised before the refusal stays told.
                    let told = |i: usize| known.get(i).copied().flatten().filter(|_| i < at);
                    let outcome = |i| told(i).map_or(SliceOutcome::Refused(Refusal::Atom), |base| SliceOutcome::Duplicate(Offset(base)));
                    let slices = members.iter().enumerate().map(|(i, (e, s))| (*e, *s, outcome(i))).collect();
                    return (AtomOutcome::Refused(refusal), slices);
                }
            }
        }
        let mut outcomes = Vec::new();
        let mut bases = BTreeMap::new();
        for ((e, s), known) in members.iter().zip(known) {
            let extent = &commit.extents[*e];
            let base = known.unwrap_or_else(|| self.store(extent.topic, extent.partition, &extent.slices[*s], now));
            let told = if known.is_some() { SliceOutcome::Duplicate(Offset(base)) } else { SliceOutcome::Stored(Offset(base)) };
            outcomes.push((*e, *s, told));
            bases.insert((extent.topic, extent.partition), base);
        }
        for change in &atom.cursors {
            self.move_cursor(&atom.namespace, change);
        }
        if let (Some(key), Some(request)) = (key, &atom.idempotency) {
            let mut acks = Vec::new();
            for run in &atom.layout {
                let next = bases.get_mut(&(run.topic, run.partition)).expect("the lab lays out what it stores");
                let range = AckRange { partition: run.partition, first_offset: Offset(*next), count: run.count, duplicate: true };
                acks.push((run.append, range));
                *next += u64::from(run.count);
            }
            self.requests.insert(key, (request.fingerprint, now + DAY_MS, Answer::Acks(acks)));
        }
        (AtomOutcome::Applied, outcomes)
    }

    fn judge(&self, topic: TopicId, partition: PartitionIndex, slice: &Slice, now: i64) -> Result<Option<u64>, Refusal> {
        let state = self.partition(topic, partition).ok_or(Refusal::TopicGone)?;
        let Some(condition) = &slice.condition else { return Ok(None) };
        if let Some(stamp) = &condition.producer {
            let unknown = ModelProducer::default();
            let known = self.producers.get(&(topic.0, partition.0, stamp.id.to_string()));
            if let Some(p) = known.filter(|p| stamp.epoch < p.epoch) {
                return Err(Refusal::ProducerFenced { epoch: stamp.epoch, current: p.epoch });
            }
            let producer = known.filter(|p| p.epoch == stamp.epoch).unwrap_or(&unknown);
            let again = producer.batches.iter().rev().take(5).find(|b| (b.0, b.1) == (stamp.sequence, slice.records));
            match again {
                Some((.., base)) => return Ok(Some(*base)),
                None if stamp.sequence != producer.next => {
                    return Err(Refusal::SequenceGap { sequence: stamp.sequence, expected: producer.next });
                }
                None => {}
            }
        }
        if let (Some(token), Some(current)) = (condition.fencing_token, state.fence)
            && token < current
        {
            return Err(Refusal::Fenced { token, current });
        }
        let end = Offset(state.records.len() as u64);
        if let Some(expected) = condition.expect_offset.filter(|e| *e != end) {
            return Err(Refusal::OffsetMismatch { partition, expected, end });
        }
        let mut hits = Vec::new();
        for claim in &condition.dedup {
            if let Some((at, offset, _)) = self.dedup.get(&(topic.0, claim.hash)).filter(|d| d.2 > now) {
                hits.push(DedupHit { index: claim.index, partition: PartitionIndex(*at), offset: Offset(*offset) });
            }
        }
        if hits.is_empty() { Ok(None) } else { Err(Refusal::Deduplicated(hits)) }
    }

    fn store(&mut self, topic: TopicId, partition: PartitionIndex, slice: &Slice, now: i64) -> u64 {
        let described = &mut self.topics[topic.0 as usize - 1];
        let window_ms = described.window_ms;
        let state = &mut described.partitions[partition.0 as usize];
        let base = state.records.len() as u64;
        state.records.extend((0..u64::from(slice.records)).map(|i| self.next_record + i));
        self.next_record += u64::from(slice.records);
        let Some(condition) = &slice.condition else { return base };
        state.fence = state.fence.max(condition.fencing_token);
        if let Some(stamp) = &condition.producer {
            let producer = self.producers.entry((topic.0, partition.0, stamp.id.to_string())).or_default();
            if producer.epoch != stamp.epoch {
                *producer = ModelProducer { epoch: stamp.epoch, ..ModelProducer::default() };
            }
            producer.seen = now;
            producer.next = stamp.sequence + u64::from(slice.records);
            producer.batches.push((stamp.sequence, slice.records, base));
        }
        for claim in &condition.dedup {
            self.dedup.insert((topic.0, claim.hash), (partition.0, base + u64::from(claim.index), now + window_ms));
        }
        base
    }

    /// A group ends.
    pub(crate) fn seal(&mut self, now: i64) {
        self.time = now;
        self.producers.retain(|_, p| p.seen >= now - 7 * DAY_MS);
    }
}

fn cursor_key(namespace: &NamespaceName, change: &CursorMove) -> CursorKey {
    (namespace.to_string(), change.cursor.to_string(), change.topic.to_string())
}

fn holds(condition: Precondition, current: Option<u64>) -> bool {
    match condition {
        Precondition::Always => true,
        Precondition::Absent => current.is_none(),
        Precondition::Present => current.is_some(),
        Precondition::Version(version) => current == Some(version),
    }
}

fn all_refused(commit: &SegmentCommit, now: i64) -> CommitReply {
    let count = commit.extents.iter().map(|e| e.slices.len()).sum();
    CommitReply {
        appended_at: lakefall_queue::Timestamp::from_millis(now),
        slices: vec![SliceOutcome::Refused(Refusal::SegmentRefused); count],
        atoms: vec![AtomOutcome::Refused(Refusal::SegmentRefused); commit.atoms.len()],
    }
}
