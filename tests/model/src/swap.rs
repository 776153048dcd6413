//! What becomes of objects once they are committed: two compactors that know nothing of each other, retention, a collector that
//! deletes what nothing refers to, a sweeper that deletes what no ledger knows, and a reader who goes on with what it located.
//!
//! Two segments hold records of two partitions each; with what the compactors write there are four objects. Each command is
//! durable at once: what may go wrong between a command and its entry is the other model's.

use std::sync::Arc;
use std::time::Duration;

use lakefall_queue::ledger::{
    Answer, COMMIT_WINDOW, Command, Extent, NewExtent, ObjectLevel, ProposedExtent, Query, Reply, RetiredExtent, SegmentCommit, Slice,
    SliceOutcome, Swap, SwapPart,
};
use lakefall_queue::topic::TopicConfig;
use lakefall_queue::verbs::Precondition;
use lakefall_queue::{NamespaceName, Offset, PartitionIndex, SegmentId, Timestamp, TopicId, TopicName};
use stateright::{Model, Property};

use crate::kept::{Holding, Kept, SHARD, START};

const SEGMENTS: u8 = 2;
const COMPACTORS: u8 = 2;
const OBJECTS: u8 = SEGMENTS + COMPACTORS;
const PARTITIONS: u32 = 2;
/// By what time passes: twice this is beyond a reader's lease.
pub const SHORT: Duration = Duration::from_secs(40);
/// Beyond the window for commits and swaps.
pub const LATE: Duration = COMMIT_WINDOW.saturating_add(Duration::from_secs(1));
/// Beyond the collector's grace.
pub const LONG: Duration = Duration::from_secs(601);

/// What is explored.
#[derive(Clone, Copy, Debug)]
pub struct Swaps {
    /// How long a reader believes what it was told. Of a gateway: 60 s.
    pub lease: Duration,
    /// How long an object outlives its last extent. Of the collector by default: 600 s.
    pub grace: Duration,
    /// How often time passes, at most, and by what.
    pub passes: u8,
    /// See there.
    pub steps: &'static [Duration],
    /// Compactors that work, at most two.
    pub compactors: u8,
    /// Whether there is a reader.
    pub reads: bool,
    /// Whether the sweeper has an object refused before it deletes it.
    pub refuses: bool,
    /// Whether the collector says at which generation it located what is to be let go of.
    pub dates: bool,
}

/// How much of what there is a compactor takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Taking {
    /// All segments, into a merged one, of both partitions.
    Merge,
    /// The first extent that is not in a file, of the first partition.
    RollFirst,
}

/// One partition's part of a job.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Part {
    partition: u32,
    generation: u64,
    old: Vec<(u64, u32, u8)>,
}

/// How far a compactor is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Job {
    Idle,
    Read(ObjectLevelOf, Vec<Part>),
    Stored(ObjectLevelOf, Vec<Part>, i64),
    /// The ledger's first answer, by part; `true`: it was repeated.
    Swapped(ObjectLevelOf, Vec<Part>, i64, Vec<bool>, bool),
}

/// [`ObjectLevel`], which has no hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum ObjectLevelOf {
    Merged,
    Parquet,
}

/// What an object holds: partition, first offset, end.
type Content = Vec<(u32, u64, u64)>;

/// An object in the store.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Object {
    there: bool,
    minted_ms: i64,
    content: Content,
}

/// A reader that located an extent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Located {
    object: u8,
    told_ms: i64,
}

/// All there is at one time.
#[derive(Clone, Debug, PartialEq, Hash)]
pub struct State {
    now_ms: i64,
    passes: u8,
    ledger: Holding,
    objects: Vec<Object>,
    jobs: Vec<Job>,
    /// An object that the sweeper found or may delete.
    swept: Option<(u8, bool)>,
    /// Extents that the collector located below the log start.
    leaving: Option<Part>,
    reader: Option<Located>,
    trimmed: bool,
    wrong: Option<&'static str>,
}

/// A step of somebody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// A compactor locates its inputs.
    Read(u8, Taking),
    /// It stores its object.
    Put(u8),
    /// It asks for the swap, or asks again.
    Swap(u8),
    /// Retention raises the log start past the first segment.
    Trim,
    /// The collector locates extents below the log start.
    Leave(u32),
    /// It has them let go of.
    Retire,
    /// The collector deletes an object that nothing needs, and has it forgotten.
    Reclaim(u8),
    /// The sweeper sees an object in a listing that the ledger does not know.
    Find(u8),
    /// It has it refused.
    Refuse,
    /// It deletes it.
    Delete,
    /// A reader locates an extent.
    Locate(u32, u8),
    /// Time passes.
    Pass(u8),
}

impl Swaps {
    fn topic() -> TopicId {
        TopicId::new(SHARD, 1)
    }

    fn id(state: &State, object: u8) -> SegmentId {
        id(object, state.objects[usize::from(object)].minted_ms)
    }

    fn number(state: &State, of: SegmentId) -> Option<u8> {
        (0..OBJECTS).find(|object| Self::id(state, *object) == of)
    }

    fn now(state: &State) -> Timestamp {
        Timestamp::from_millis(state.now_ms)
    }

    fn execute(state: &mut State, command: Command) -> Option<Reply> {
        let (reply, group) = state.ledger.0.execute(command, 1, Self::now(state));
        if let Some((ledger, _)) = group {
            state.ledger = Holding(ledger);
        }
        reply.ok()
    }

    fn extents(state: &State, partition: u32) -> Vec<Extent> {
        state.ledger.0.extents(Self::topic(), PartitionIndex(partition))
    }

    /// What a compactor takes, if there is anything.
    fn take(state: &State, taking: Taking) -> Option<(ObjectLevelOf, Vec<Part>)> {
        let Ok(Answer::Compactable(found)) = state.ledger.0.ledger().query(&Query::Compactable { limit: 10, after: None }) else {
            return None;
        };
        let mut parts = Vec::new();
        for about in &found.partitions {
            let partition = about.partition.0;
            let extents = Self::extents(state, partition);
            let from = if taking == Taking::Merge { about.merged } else { about.rolled };
            let most = if taking == Taking::RollFirst { 1 } else { usize::MAX };
            if taking != Taking::Merge && partition > 0 {
                continue;
            }
            let taken = extents.iter().filter(|extent| extent.base_offset >= from).take(most);
            let old: Vec<_> =
                taken.filter_map(|extent| Some((extent.base_offset.0, extent.records, Self::number(state, extent.object)?))).collect();
            if !old.is_empty() {
                parts.push(Part { partition, generation: about.generation, old });
            }
        }
        let level = if taking == Taking::Merge { ObjectLevelOf::Merged } else { ObjectLevelOf::Parquet };
        (!parts.is_empty()).then_some((level, parts))
    }

    fn swap(state: &State, object: u8, level: ObjectLevelOf, parts: &[Part]) -> Command {
        let at = START;
        let new = NewExtent { position: 0, length: 10, first_timestamp: at, max_timestamp: at, appended_at: at };
        let part = |part: &Part| SwapPart {
            topic: Self::topic(),
            partition: PartitionIndex(part.partition),
            generation: part.generation,
            old: part.old.iter().map(|(base, records, object)| retired(state, *base, *records, *object)).collect(),
            new,
            settled: None,
            rest_since: None,
        };
        let (level, key) = match level {
            ObjectLevelOf::Merged => (ObjectLevel::Merged, None),
            ObjectLevelOf::Parquet => (ObjectLevel::Parquet, Some(Arc::from(format!("file-{object}")))),
        };
        Command::Swap(Box::new(Swap { object: Self::id(state, object), size: 100, level, key, parts: parts.iter().map(part).collect() }))
    }

    /// Objects that the collector is told of.
    fn reclaimable(&self, state: &State) -> Vec<u8> {
        let query = Query::Reclaimable { limit: 100, after: None, after_object: None, now: Self::now(state), grace: self.grace };
        match state.ledger.0.ledger().query(&query) {
            Ok(Answer::Reclaimable(found)) => found.objects.iter().filter_map(|id| Self::number(state, *id)).collect(),
            _ => Vec::new(),
        }
    }

    /// Extents that lie wholly below the log start, if there are any.
    fn below(&self, state: &State, partition: u32) -> Option<Part> {
        let query = Query::Reclaimable { limit: 100, after: None, after_object: None, now: Self::now(state), grace: self.grace };
        let Ok(Answer::Reclaimable(found)) = state.ledger.0.ledger().query(&query) else { return None };
        let found = found.partitions.into_iter().find(|found| found.partition.0 == partition)?;
        let extents = Self::extents(state, partition);
        let below = extents.iter().filter(|extent| extent.end() <= found.log_start);
        let old: Vec<_> =
            below.filter_map(|extent| Some((extent.base_offset.0, extent.records, Self::number(state, extent.object)?))).collect();
        (!old.is_empty()).then_some(Part { partition, generation: found.generation?, old })
    }
}

fn id(object: u8, minted_ms: i64) -> SegmentId {
    SegmentId::mint(Timestamp::from_millis(minted_ms), (u128::from(object) + 1) << 64)
}

fn retired(state: &State, base: u64, records: u32, object: u8) -> RetiredExtent {
    // What an extent's bytes are is nothing that a swap is judged by.
    RetiredExtent { base_offset: Offset(base), records, length: 10, object: Swaps::id(state, object) }
}

impl Model for Swaps {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let topic = Command::PutTopic {
            namespace: NamespaceName::default_name(),
            name: TopicName::new("t").unwrap(),
            config: TopicConfig { partitions: PARTITIONS, ..TopicConfig::default() },
            condition: Precondition::Always,
            idempotency: None,
        };
        let start_ms = START.as_millis();
        let object = |there, content| Object { there, minted_ms: start_ms, content };
        let mut state = State {
            now_ms: start_ms,
            passes: self.passes,
            ledger: Holding(Kept::empty()),
            objects: Vec::new(),
            jobs: vec![Job::Idle; usize::from(self.compactors)],
            swept: None,
            leaving: None,
            reader: None,
            trimmed: false,
            wrong: None,
        };
        Self::execute(&mut state, topic).unwrap();
        let mut next = [0; PARTITIONS as usize];
        for segment in 0..SEGMENTS {
            let records = u32::from(segment) + 1;
            let slice = Slice { length: 10, records, ..Slice::default() };
            let extent = |partition| ProposedExtent {
                topic: Self::topic(),
                partition: PartitionIndex(partition),
                position: u64::from(partition) * 10,
                slices: vec![slice.clone()],
            };
            let extents = (0..PARTITIONS).map(extent).collect();
            let commit = SegmentCommit { segment: id(segment, start_ms), size: 100, extents, atoms: Vec::new() };
            Self::execute(&mut state, Command::Commit(commit)).unwrap();
            let mut content = Vec::new();
            for (partition, next) in (0..).zip(&mut next) {
                content.push((partition, *next, *next + u64::from(records)));
                *next += u64::from(records);
            }
            state.objects.push(object(true, content));
        }
        state.objects.extend((0..COMPACTORS).map(|_| object(false, Vec::new())));
        vec![state]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        if state.wrong.is_some() {
            return;
        }
        for (number, job) in (0..).zip(&state.jobs) {
            match job {
                Job::Idle => {
                    // Who reads first is called the first.
                    if state.jobs[..usize::from(number)].iter().all(|earlier| *earlier != Job::Idle) {
                        actions.extend([Taking::Merge, Taking::RollFirst].map(|taking| Action::Read(number, taking)));
                    }
                }
                Job::Read(..) => actions.push(Action::Put(number)),
                Job::Stored(..) | Job::Swapped(.., false) => actions.push(Action::Swap(number)),
                Job::Swapped(.., true) => {}
            }
        }
        if !state.trimmed {
            actions.push(Action::Trim);
        }
        if state.leaving.is_some() {
            actions.push(Action::Retire);
        }
        for partition in 0..PARTITIONS {
            if state.leaving.is_none() && self.below(state, partition).is_some() {
                actions.push(Action::Leave(partition));
            }
            if self.reads {
                actions.extend((0..Self::extents(state, partition).len() as u8).map(|nth| Action::Locate(partition, nth)));
            }
        }
        actions.extend(self.reclaimable(state).into_iter().map(Action::Reclaim));
        match state.swept {
            None => {
                let unknown = |object: &u8| {
                    let known = state.ledger.0.object(Self::id(state, *object));
                    state.objects[usize::from(*object)].there && known.is_none_or(|status| status.was_refused_unseen())
                };
                actions.extend((0..OBJECTS).filter(unknown).map(Action::Find));
            }
            Some((_, false)) => actions.push(Action::Refuse),
            Some((_, true)) => actions.push(Action::Delete),
        }
        if state.passes > 0 {
            actions.extend((0..self.steps.len() as u8).map(Action::Pass));
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        match action {
            Action::Read(job, taking) => {
                let (level, parts) = Self::take(&state, taking)?;
                state.jobs[usize::from(job)] = Job::Read(level, parts);
            }
            Action::Put(job) => {
                let Job::Read(level, parts) = state.jobs[usize::from(job)].clone() else { return None };
                // It copies what it located, offset by offset.
                let span = |part: &Part| {
                    let (first, last) = (part.old.first()?, part.old.last()?);
                    Some((part.partition, first.0, last.0 + u64::from(last.1)))
                };
                let content = parts.iter().filter_map(span).collect();
                state.objects[usize::from(SEGMENTS + job)] = Object { there: true, minted_ms: state.now_ms, content };
                state.jobs[usize::from(job)] = Job::Stored(level, parts, state.now_ms);
            }
            Action::Swap(job) => {
                let (level, parts, minted, first) = match state.jobs[usize::from(job)].clone() {
                    Job::Stored(level, parts, minted) => (level, parts, minted, None),
                    Job::Swapped(level, parts, minted, first, _) => (level, parts, minted, Some(first)),
                    Job::Idle | Job::Read(..) => return None,
                };
                let command = Self::swap(&state, SEGMENTS + job, level, &parts);
                let answer = match Self::execute(&mut state, command) {
                    Some(Reply::Committed(reply)) => {
                        Some(reply.slices.iter().map(|slice| matches!(slice, SliceOutcome::Stored(_))).collect::<Vec<bool>>())
                    }
                    _ => None,
                };
                // The first answer may not be kept any more; within the window another one must never come.
                let kept = minted + COMMIT_WINDOW.as_millis() as i64 >= state.now_ms;
                if first.is_some() && answer.is_some() && first != answer && kept {
                    state.wrong = Some("a repeated swap got another answer than the first");
                }
                let repeated = first.is_some();
                let told = first.or(answer).unwrap_or_default();
                state.jobs[usize::from(job)] = Job::Swapped(level, parts, minted, told, repeated);
            }
            Action::Trim => {
                state.trimmed = true;
                Self::execute(&mut state, Command::Trim { topic: Self::topic(), partition: None, before: Offset(1) });
            }
            Action::Leave(partition) => state.leaving = Some(self.below(&state, partition)?),
            Action::Retire => {
                let Part { partition, generation, old } = state.leaving.take()?;
                let extents = old.iter().map(|(base, records, object)| retired(&state, *base, *records, *object)).collect();
                let (partition, generation) = (PartitionIndex(partition), self.dates.then_some(generation));
                // Refused where others took their place meanwhile: then the collector looks again.
                Self::execute(&mut state, Command::Retire { topic: Self::topic(), partition, extents, generation });
            }
            Action::Reclaim(object) => {
                state.objects[usize::from(object)].there = false;
                let objects = vec![Self::id(&state, object)];
                Self::execute(&mut state, Command::ForgetObjects { objects });
            }
            Action::Find(object) => state.swept = Some((object, !self.refuses)),
            Action::Refuse => {
                let (object, _) = state.swept?;
                let segments = vec![Self::id(&state, object)];
                state.swept = match Self::execute(&mut state, Command::RefuseSegments { segments }) {
                    Some(Reply::Refused(refused)) if !refused.is_empty() => Some((object, true)),
                    _ => None,
                };
            }
            Action::Delete => {
                let (object, _) = state.swept.take()?;
                state.objects[usize::from(object)].there = false;
            }
            Action::Locate(partition, nth) => {
                let object = Self::number(&state, Self::extents(&state, partition).get(usize::from(nth))?.object)?;
                state.reader = Some(Located { object, told_ms: state.now_ms });
            }
            Action::Pass(step) => {
                state.passes -= 1;
                state.now_ms += self.steps[usize::from(step)].as_millis() as i64;
            }
        }
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut properties = vec![
            Property::always("each record that was not let go of is in one stored object, where the log says", |_, state: &State| {
                (0..PARTITIONS).all(|partition| {
                    let known = state.ledger.0.ledger().partition(Self::topic(), PartitionIndex(partition)).unwrap();
                    let (mut next, extents) = (known.retired(), Self::extents(state, partition));
                    extents.iter().all(|extent| {
                        let follows = std::mem::replace(&mut next, extent.end()) == extent.base_offset;
                        let holds = Self::number(state, extent.object).is_some_and(|object| {
                            let object = &state.objects[usize::from(object)];
                            let (from, to) = (extent.base_offset.0, extent.end().0);
                            object.there && object.content.iter().any(|(of, first, end)| (*of, *first, *end) == (partition, from, to))
                        });
                        follows && holds
                    }) && next == known.end()
                })
            }),
            Property::always("an object counts as many extents as lie in it", |_, state: &State| {
                let extents: Vec<Extent> = (0..PARTITIONS).flat_map(|partition| Self::extents(state, partition)).collect();
                (0..OBJECTS).all(|object| {
                    let id = Self::id(state, object);
                    let count = extents.iter().filter(|extent| extent.object == id).count() as u32;
                    state.ledger.0.object(id).map_or(0, |status| status.live_extents) == count
                })
            }),
            Property::always("what a reader was told within its lease is stored", |model: &Self, state: &State| {
                let believed = |at: &Located| at.told_ms + model.lease.as_millis() as i64 > state.now_ms;
                state.reader.is_none_or(|at| !believed(&at) || state.objects[usize::from(at.object)].there)
            }),
            Property::always("nothing happens that can never be right", |_, state: &State| state.wrong.is_none()),
            Property::sometimes("a segment that was replaced is deleted", |_, state: &State| !state.objects[0].there && !state.trimmed),
            Property::sometimes("a segment that was let go of is deleted", |_, state: &State| {
                !state.objects[0].there && state.jobs.iter().all(|job| *job == Job::Idle)
            }),
            Property::sometimes("a compactor's object is swept before its swap, and the swap is refused", |_, state: &State| {
                (SEGMENTS..).zip(&state.jobs).any(|(object, job)| {
                    let refused = matches!(job, Job::Swapped(.., told, _) if !told.contains(&true));
                    refused && !state.objects[usize::from(object)].there
                })
            }),
        ];
        if self.compactors > 1 {
            properties.extend([
                Property::sometimes("both compactors' swaps are taken", |_, state: &State| {
                    state.jobs.iter().all(|job| matches!(job, Job::Swapped(.., told, _) if told.contains(&true)))
                }),
                Property::sometimes("of two swaps of the same records the second is refused", |_, state: &State| {
                    let told = |of: bool| {
                        state.jobs.iter().any(|job| matches!(job, Job::Swapped(.., told, _) if told.iter().all(|one| *one == of)))
                    };
                    told(true) && told(false)
                }),
                Property::sometimes("a swap is taken in part", |_, state: &State| {
                    let part = |told: &[bool]| told.contains(&true) && told.contains(&false);
                    state.jobs.iter().any(|job| matches!(job, Job::Swapped(.., told, _) if part(told)))
                }),
            ]);
        }
        if self.reads {
            properties.extend([Property::sometimes("a reader holds an object that was replaced", |_, state: &State| {
                let gone = |object| state.ledger.0.object(Self::id(state, object)).is_some_and(|status| status.live_extents == 0);
                state.reader.is_some_and(|at| gone(at.object))
            })]);
        }
        properties
    }
}
