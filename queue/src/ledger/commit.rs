//! The commit of a segment: each slice is taken or refused against the state as the slices before it left it.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::objects::{COMMIT_WINDOW, Object};
use super::windows::{DedupEntry, RememberedReply, kept_for};
use super::{
    Applied, Atom, AtomOutcome, CommitReply, DedupHit, Extent, Ledger, Notice, ObjectLevel, PartitionKey, ProposedExtent, Refusal, Reply,
    RowKey, SegmentCommit, Slice, SliceOutcome,
};
use crate::error::{Error, Result};
use crate::id::Offset;
use crate::planted::{self, Bug};
use crate::time::Timestamp;
use crate::verbs::AckRange;

/// A commit under way.
struct Run<'a> {
    commit: &'a SegmentCommit,
    now: Timestamp,
    places: Vec<Place<'a>>,
    /// The places of each atom's slices.
    members: Vec<Vec<usize>>,
    /// Of each extent: all plain slices at places before this one are decided.
    decided: Vec<usize>,
    slices: Vec<Option<SliceOutcome>>,
    atoms: Vec<Option<AtomOutcome>>,
    /// Extents added, those of one partition in order.
    fresh: Vec<(PartitionKey, Extent)>,
}

/// A slice and where it lies.
#[derive(Clone, Copy)]
struct Place<'a> {
    /// Index of the extent in the commit.
    number: usize,
    extent: &'a ProposedExtent,
    slice: &'a Slice,
    position: u64,
}

/// What a slice would get now.
enum Verdict {
    Store,
    Duplicate(Offset),
}

impl Ledger {
    pub(super) fn commit(&mut self, commit: &SegmentCommit, now: Timestamp) -> Applied {
        if let Some(object) = self.objects.by_id.get(&commit.segment)
            && !planted::is(Bug::RepeatedCommitApplied)
        {
            return Applied::unchanged(Self::repeated(object, commit, now));
        }
        if commit.segment.minted_at().plus(COMMIT_WINDOW) < now {
            self.refuse(commit.segment, commit.size, now);
            return Applied::changed(Reply::Committed(Arc::new(refused_whole(commit, now))));
        }
        let places = match places(commit) {
            Ok(places) => places,
            Err(error) => return Applied::unchanged(Err(error)),
        };
        let mut run = Run::new(commit, places, now);
        for atom in 0..run.atoms.len() {
            let members = std::mem::take(&mut run.members[atom]);
            for member in &members {
                self.decide_plain_before(&mut run, *member);
            }
            self.decide_atom(&mut run, atom, &members);
        }
        for index in 0..run.places.len() {
            if run.slices[index].is_none() {
                self.decide_slice(&mut run, index);
            }
        }
        Applied::changed(Reply::Committed(self.conclude(run)))
    }

    /// L3: a repeated commit gets the first answer.
    fn repeated(object: &Object, commit: &SegmentCommit, now: Timestamp) -> Result<Reply> {
        match &object.answer {
            Some(answer) => Ok(Reply::Committed(answer.clone())),
            None if object.refused => Ok(Reply::Committed(Arc::new(refused_whole(commit, now)))),
            None => Err(Error::unknown("the answer to this commit is no longer kept")),
        }
    }

    /// A partition keeps the order of the segment: what lies before an atom's slice is decided before the atom.
    fn decide_plain_before(&mut self, run: &mut Run<'_>, member: usize) {
        let number = run.places[member].number;
        for index in run.decided[number]..member {
            if run.places[index].slice.atom.is_none() {
                self.decide_slice(run, index);
            }
        }
        run.decided[number] = run.decided[number].max(member);
    }

    fn decide_slice(&mut self, run: &mut Run<'_>, index: usize) {
        let place = run.places[index];
        let verdict = self.judge(place, run.now).and_then(|verdict| match verdict {
            Verdict::Store => self.check_room([(place.extent.topic, u64::from(place.slice.records))], &[]).map(|()| verdict),
            Verdict::Duplicate(_) => Ok(verdict),
        });
        if verdict.is_err() && planted::is(Bug::OffsetsFromCounter) {
            self.waste_offsets(place);
        }
        run.slices[index] = Some(match verdict {
            Ok(Verdict::Store) => SliceOutcome::Stored(self.store(run, place)),
            Ok(Verdict::Duplicate(base)) => SliceOutcome::Duplicate(base),
            Err(refusal) => SliceOutcome::Refused(refusal),
        });
    }

    /// Takes or refuses an atom with all its slices and cursors.
    fn decide_atom(&mut self, run: &mut Run<'_>, atom: usize, members: &[usize]) {
        let outcome = match self.judge_atom(run, atom, members) {
            Ok(None) => {
                self.apply_atom(run, atom, members);
                AtomOutcome::Applied
            }
            Ok(Some(acks)) => AtomOutcome::Replayed(acks),
            Err(refusal) => {
                if planted::is(Bug::AtomInPart) {
                    self.apply_rest(&run.commit.atoms[atom], run.now);
                }
                AtomOutcome::Refused(refusal)
            }
        };
        for index in members {
            run.slices[*index].get_or_insert(SliceOutcome::Refused(Refusal::Atom));
        }
        run.atoms[atom] = Some(outcome);
    }

    /// All of an atom but its appends: see [`Bug::AtomInPart`].
    fn apply_rest(&mut self, Atom { namespace, cursors, settles, .. }: &Atom, now: Timestamp) {
        self.apply_settles(settles, now);
        for change in cursors {
            if self.check_cursor(namespace, change).is_ok() {
                self.move_cursor(namespace, change, now);
            }
        }
    }

    fn judge_atom(&mut self, run: &mut Run<'_>, atom: usize, members: &[usize]) -> Result<Option<Vec<(u32, AckRange)>>, Refusal> {
        let Atom { namespace, idempotency, cursors, settles, .. } = &run.commit.atoms[atom];
        if let Some(request) = idempotency {
            match self.idempotency.find(namespace, request, run.now) {
                Ok(None) => {}
                Ok(Some(RememberedReply::Acks(acks))) => return Ok(Some(acks.clone())),
                Ok(Some(RememberedReply::Topic(_) | RememberedReply::Queue(_))) | Err(()) => return Err(Refusal::IdempotencyConflict),
            }
        }
        for change in cursors {
            self.check_cursor(namespace, change)?;
        }
        self.check_settles(namespace, settles, run.now)?;
        let mut stored = Vec::with_capacity(members.len());
        for index in members {
            let place = run.places[*index];
            match self.judge(place, run.now)? {
                Verdict::Duplicate(base) => run.slices[*index] = Some(SliceOutcome::Duplicate(base)),
                Verdict::Store => stored.push((place.extent.topic, u64::from(place.slice.records))),
            }
        }
        self.check_room(stored, settles)?;
        Ok(None)
    }

    fn apply_atom(&mut self, run: &mut Run<'_>, atom: usize, members: &[usize]) {
        let Atom { namespace, idempotency, layout, cursors, settles } = &run.commit.atoms[atom];
        // Before anything is stored: what is acknowledged makes room for it.
        self.apply_settles(settles, run.now);
        let mut bases: BTreeMap<PartitionKey, Offset> = BTreeMap::new();
        for index in members {
            let place = run.places[*index];
            let key = (place.extent.topic, place.extent.partition);
            let outcome = match run.slices[*index].take() {
                Some(duplicate @ SliceOutcome::Duplicate(base)) => {
                    bases.insert(key, base);
                    duplicate
                }
                _ => {
                    let base = self.store(run, place);
                    bases.entry(key).or_insert(base);
                    SliceOutcome::Stored(base)
                }
            };
            run.slices[*index] = Some(outcome);
        }
        for change in cursors {
            self.move_cursor(namespace, change, run.now);
        }
        if let Some(request) = idempotency {
            let mut acks = Vec::with_capacity(layout.len());
            for piece in layout {
                if let Some(next) = bases.get_mut(&(piece.topic, piece.partition)) {
                    // Told only to repetitions of the request: to them, it is a duplicate.
                    let range = AckRange { partition: piece.partition, first_offset: *next, count: piece.count, duplicate: true };
                    acks.push((piece.append, range));
                    *next = next.plus(u64::from(piece.count));
                }
            }
            self.idempotency.remember(namespace, request, RememberedReply::Acks(acks), run.now, &mut self.dirty);
        }
    }

    /// What a slice would get as things stand.
    fn judge(&self, place: Place<'_>, now: Timestamp) -> Result<Verdict, Refusal> {
        let (topic, index) = (place.extent.topic, place.extent.partition);
        let partition = self.partitions.get(&(topic, index)).filter(|p| !p.deleted).ok_or(Refusal::TopicGone)?;
        let Some(condition) = &place.slice.condition else { return Ok(Verdict::Store) };
        if let Some(stamp) = &condition.producer
            && let Some(base) = self.producers.check(topic, index, stamp, place.slice.records)?
        {
            return Ok(Verdict::Duplicate(base));
        }
        if let (Some(token), Some(current)) = (condition.fencing_token, partition.fencing_token())
            && token < current
            && !planted::is(Bug::FencingTokenIgnored)
        {
            return Err(Refusal::Fenced { token, current });
        }
        if let Some(expected) = condition.expect_offset
            && expected != partition.next
        {
            return Err(Refusal::OffsetMismatch { partition: index, expected, end: partition.next });
        }
        let hit = |claim: &super::DedupClaim| {
            let entry = self.dedup.find(topic, claim.hash, now)?;
            Some(DedupHit { index: claim.index, partition: entry.partition, offset: entry.offset })
        };
        let hits: Vec<DedupHit> = condition.dedup.iter().filter_map(hit).collect();
        if hits.is_empty() { Ok(Verdict::Store) } else { Err(Refusal::Deduplicated(hits)) }
    }

    /// Moves a partition's end past records that are not there: see [`Bug::OffsetsFromCounter`].
    fn waste_offsets(&mut self, place: Place<'_>) {
        let key = (place.extent.topic, place.extent.partition);
        if let Some(partition) = self.partitions.get_mut(&key) {
            partition.next = partition.next.plus(u64::from(place.slice.records));
            self.dirty.insert(RowKey::Partition(key.0, key.1));
        }
    }

    /// L2: gives a slice the next offsets of its partition.
    fn store(&mut self, run: &mut Run<'_>, place: Place<'_>) -> Offset {
        let key = (place.extent.topic, place.extent.partition);
        // Judged just before: the partition is there. Were it not, an offset would be told that nobody can read.
        let Some(partition) = self.partitions.get_mut(&key) else { return Offset::default() };
        let (base, slice) = (partition.next, place.slice);
        let follows = partition.newest().is_some_and(|last| last.object == run.commit.segment && continues(last, place));
        // Almost always the last one: only atoms jump between partitions.
        let before = if follows { run.fresh.iter_mut().rfind(|(of, _)| *of == key) } else { None };
        match before {
            Some((_, last)) => {
                partition.grow_last(slice);
                if let Some(grown) = partition.newest() {
                    *last = *grown;
                }
            }
            None => {
                let extent = Extent {
                    base_offset: base,
                    records: slice.records,
                    length: slice.length,
                    object: run.commit.segment,
                    level: ObjectLevel::Segment,
                    object_size: run.commit.size,
                    position: place.position,
                    first_timestamp: slice.first_timestamp,
                    max_timestamp: slice.max_timestamp,
                    appended_at: run.now,
                };
                partition.push(extent);
                self.recents.count += 1;
                run.fresh.push((key, extent));
            }
        }
        self.dirty.insert(RowKey::Partition(key.0, key.1));
        self.compactable.insert(key);
        if let Some(condition) = &slice.condition {
            if let Some(token) = condition.fencing_token {
                partition.fence(token);
            }
            if let Some(stamp) = &condition.producer {
                let producer = (key.0, key.1, stamp.id.clone());
                self.producers.record(producer, stamp, slice.records, base, run.now, &mut self.dirty);
            }
            let window = self.topics.get(&key.0).map_or_else(Default::default, |topic| topic.config.dedup_window);
            for claim in &condition.dedup {
                let entry =
                    DedupEntry { partition: key.1, offset: base.plus(u64::from(claim.index)), expires_at: run.now.plus(kept_for(window)) };
                self.dedup.remember(key.0, claim.hash, entry, &mut self.dirty);
            }
        }
        self.drop_oldest(key, u64::from(slice.records), run.now);
        base
    }

    fn conclude(&mut self, run: Run<'_>) -> Arc<CommitReply> {
        let Run { commit, now, slices, atoms, fresh, .. } = run;
        let decided = |outcome: Option<SliceOutcome>| outcome.unwrap_or(SliceOutcome::Refused(Refusal::Atom));
        let reply = Arc::new(CommitReply {
            appended_at: now,
            slices: slices.into_iter().map(decided).collect(),
            atoms: atoms.into_iter().map(|outcome| outcome.unwrap_or(AtomOutcome::Refused(Refusal::Atom))).collect(),
        });
        let live_extents = fresh.len() as u32;
        self.notices.extend(fresh.into_iter().map(|((topic, partition), extent)| Notice::Appended { topic, partition, extent }));
        let object = Object {
            size: commit.size,
            live_extents,
            committed_at: now,
            released_at: (live_extents == 0).then_some(now),
            refused: false,
            answer: Some(reply.clone()),
            key: None,
        };
        self.objects.insert(commit.segment, object, &mut self.dirty);
        reply
    }
}

impl<'a> Run<'a> {
    fn new(commit: &'a SegmentCommit, places: Vec<Place<'a>>, now: Timestamp) -> Self {
        let mut members = vec![Vec::new(); commit.atoms.len()];
        let mut decided = vec![places.len(); commit.extents.len()];
        for (index, place) in places.iter().enumerate() {
            decided[place.number] = decided[place.number].min(index);
            if let Some(atom) = place.slice.atom {
                members[atom as usize].push(index);
            }
        }
        let (slices, atoms) = (vec![None; places.len()], vec![None; commit.atoms.len()]);
        Self { commit, now, places, members, decided, slices, atoms, fresh: Vec::with_capacity(commit.extents.len()) }
    }
}

/// Every slice with its position, or what is malformed about the commit.
fn places(commit: &SegmentCommit) -> Result<Vec<Place<'_>>> {
    let malformed = |what: &str| Err(Error::Internal(format!("commit of segment {} is malformed: {what}", commit.segment)));
    let mut places = Vec::with_capacity(commit.extents.len());
    for (number, extent) in commit.extents.iter().enumerate() {
        let mut position = extent.position;
        for slice in &extent.slices {
            if slice.records == 0 || slice.atom.is_some_and(|atom| atom as usize >= commit.atoms.len()) {
                return malformed("a slice without records, or of an atom that is not there");
            }
            places.push(Place { number, extent, slice, position });
            position = match position.checked_add(u64::from(slice.length)) {
                Some(end) if end <= commit.size => end,
                _ => return malformed("an extent reaches beyond the object"),
            };
        }
    }
    Ok(places)
}

/// Whether a slice follows an extent in the object, and both fit into one.
fn continues(extent: &Extent, place: Place<'_>) -> bool {
    extent.position + u64::from(extent.length) == place.position
        && extent.length.checked_add(place.slice.length).is_some()
        && extent.records.checked_add(place.slice.records).is_some()
}

fn refused_whole(commit: &SegmentCommit, now: Timestamp) -> CommitReply {
    let slices = commit.extents.iter().flat_map(|extent| &extent.slices);
    CommitReply {
        appended_at: now,
        slices: slices.map(|_| SliceOutcome::Refused(Refusal::SegmentRefused)).collect(),
        atoms: commit.atoms.iter().map(|_| AtomOutcome::Refused(Refusal::SegmentRefused)).collect(),
    }
}
