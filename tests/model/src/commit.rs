//! From a gateway's segment to the journal: two gateways, two owners who take over from each other without the other knowing, a
//! journal whose appends get lost, come late or are answered by nobody, and a sweeper. One command is one group.
//!
//! Not modelled: more than one shard, and an owner's certainty of its lease, which only makes former owners more silent than they
//! are here. Of a checkpoint is modelled that it empties the journal; that its rows make the same state is proved elsewhere (L6).

use std::sync::Arc;
use std::time::Duration;

use lakefall_queue::id::Epoch;
use lakefall_queue::ledger::journal::{Attempt, Next, Placed, after, place};
use lakefall_queue::ledger::{Answer, COMMIT_WINDOW, Command, ProposedExtent, Query, Reply, SegmentCommit, Slice, SliceOutcome};
use lakefall_queue::topic::TopicConfig;
use lakefall_queue::verbs::Precondition;
use lakefall_queue::{NamespaceName, Offset, PartitionIndex, SegmentId, Timestamp, TopicId, TopicName};
use stateright::{Model, Property};

use crate::kept::{Kept, START, Sealed};

/// Owners.
const OWNERS: usize = 2;
const P0: PartitionIndex = PartitionIndex(0);

/// The rules by which the parts go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rules {
    /// Production's.
    Right,
    /// An append in doubt is settled by looking whether it is there.
    Look,
    /// The sweeper deletes what no ledger knows without having it refused.
    SweepUnrefused,
    /// An owner answers before its append is durable.
    AnswerEarly,
    /// The store takes entries of former reigns.
    AnyEpoch,
    /// An owner tells that nothing was applied when it is fenced, also after an attempt that was in doubt.
    FencedIsNever,
    /// An owner whose append was refused keeps its state.
    GoOn,
}

/// What is explored.
#[derive(Clone, Copy, Debug)]
pub struct Commits {
    /// The rules.
    pub rules: Rules,
    /// Which gateway each segment is of: two at most have one each under way.
    pub gateways: &'static [u8],
    /// Faults of the store and the network, at most.
    pub faults: u8,
    /// Takeovers, at most.
    pub takeovers: u8,
    /// Sweeps of one object each, at most.
    pub sweeps: u8,
    /// Checkpoints, at most.
    pub checkpoints: u8,
    /// Whether time may pass beyond the window within which a segment can be committed.
    pub time: bool,
}

/// A segment as its gateway sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Segment {
    /// Not uploaded.
    Open,
    /// Uploaded; its commit was not sent.
    Stored,
    /// An owner is asked.
    Asked,
    /// The last commit was answered: nothing was applied. Sent again with the same id, or given up.
    NotApplied,
    /// Nobody knows. Sent again with the same id, or given up.
    Unknown,
    /// The client was told this offset.
    Acked(u64),
    /// The client was told that it was refused.
    Refused,
}

/// Who waits for an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Caller {
    /// Nobody.
    Nobody,
    /// The gateway of this segment.
    Gateway(u8),
    /// The sweeper.
    Sweeper,
}

/// What a commit is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Told {
    /// The offset.
    Stored(u64),
    /// It can never be committed.
    Refused,
}

/// An append that an owner waits for.
#[derive(Clone, Debug, PartialEq, Hash)]
pub struct Flight {
    entry: Sealed,
    /// The state before it, for who forgets it.
    before: Kept,
    caller: Caller,
    told: Option<Told>,
    doubtful: bool,
}

/// An owner's reign.
#[derive(Clone, Debug, PartialEq, Hash)]
pub struct Owner {
    epoch: u64,
    ledger: Kept,
    flight: Option<Flight>,
}

/// How far the sweeper is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Sweeper {
    /// It has nothing in hand.
    Idle,
    /// A listing showed an object that the ledger did not know when it was asked.
    Found(u8),
    /// The ledger is asked to refuse it.
    Asked(u8),
    /// It may be deleted.
    May(u8),
}

/// An append that is still on its way.
#[derive(Clone, Debug, PartialEq, Hash)]
struct Late {
    entry: Sealed,
}

/// All there is at one time.
#[derive(Clone, Debug, PartialEq, Hash)]
pub struct State {
    late_time: bool,
    /// Which objects are in the store, as bits.
    objects: u8,
    /// The store's epoch of the shard.
    reign: u64,
    journal: Arc<Vec<Sealed>>,
    /// The ledger that the journal makes.
    durable: Kept,
    owners: [Option<Owner>; OWNERS],
    on_the_way: Vec<Late>,
    segments: Vec<Segment>,
    /// Segments that were in doubt once, as bits.
    doubted: u8,
    /// What owners answered, whether it was heard or not.
    answered: Vec<Option<Told>>,
    sweeper: Sweeper,
    faults: u8,
    takeovers: u8,
    sweeps: u8,
    checkpoints: u8,
    /// Something that can never be right happened.
    wrong: Option<&'static str>,
}

/// A step of somebody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// A gateway stores a segment.
    Put(u8),
    /// A gateway sends a segment's commit to an owner, who applies it.
    Commit(u8, u8),
    /// An owner's append reaches the store, and its answer the owner. The caller hears of it, or not.
    Append(u8, bool),
    /// An owner's append reaches the store, and its answer nobody.
    AppendUnheard(u8),
    /// An owner's append is held up on its way, and the owner given no answer.
    AppendLate(u8),
    /// The store refuses an attempt, and says so.
    AppendRefused(u8),
    /// An append that was held up arrives.
    Arrive(u8),
    /// An owner that does not get out of doubt gives up.
    GiveUp(u8),
    /// An owner takes the shard, knowing nothing of what it had before.
    TakeOver(u8),
    /// The sweeper sees an object in a listing and asks an owner for it.
    Find(u8, u8),
    /// The sweeper asks an owner to refuse what it found.
    Refuse(u8),
    /// The sweeper deletes.
    Delete,
    /// The collector deletes an object that nothing needs and has an owner forget it.
    Reclaim(u8, u8),
    /// An owner writes a checkpoint, and the store drops the entries that are in it.
    Checkpoint(u8),
    /// It becomes too late to commit any segment.
    Pass,
}

impl Commits {
    fn id(segment: u8) -> SegmentId {
        SegmentId::mint(START, (u128::from(segment) + 1) << 64)
    }

    fn topic() -> TopicId {
        TopicId::new(crate::kept::SHARD, 1)
    }

    fn now(state: &State) -> Timestamp {
        if state.late_time { START.plus(COMMIT_WINDOW + Duration::from_secs(1)) } else { START }
    }

    fn commit(segment: u8) -> Command {
        let slice = Slice { length: 10, records: u32::from(segment) + 1, ..Slice::default() };
        let extent = ProposedExtent { topic: Self::topic(), partition: P0, position: 0, slices: vec![slice] };
        Command::Commit(SegmentCommit { segment: Self::id(segment), size: 100, extents: vec![extent], atoms: Vec::new() })
    }

    /// The number of the segment that an id is of.
    fn number(&self, id: SegmentId) -> Option<u8> {
        (0..self.gateways.len() as u8).find(|segment| Self::id(*segment) == id)
    }

    /// An owner applies a command of somebody.
    fn execute(&self, state: &mut State, at: u8, command: Command, caller: Caller) {
        let now = Self::now(state);
        let Some(owner) = state.owners[usize::from(at)].as_mut() else { return };
        let before = owner.ledger.clone();
        let (reply, group) = before.execute(command, owner.epoch, now);
        let told = match (caller, &reply) {
            (Caller::Gateway(_), Ok(Reply::Committed(reply))) => Some(match &reply.slices[0] {
                SliceOutcome::Stored(base) => Told::Stored(base.0),
                _ => Told::Refused,
            }),
            (Caller::Sweeper, Ok(Reply::Refused(refused))) if !refused.is_empty() => Some(Told::Refused),
            _ => None,
        };
        match group {
            Some((ledger, entry)) => {
                owner.ledger = ledger;
                owner.flight = Some(Flight { entry, before, caller, told, doubtful: false });
                if self.rules == Rules::AnswerEarly {
                    Self::answer(state, caller, told, true);
                }
            }
            None if reply.is_err() => Self::fail(state, caller, Next::Unknown),
            None => Self::answer(state, caller, told, true),
        }
    }

    /// A caller is answered, whether it hears it or not.
    fn answer(state: &mut State, caller: Caller, told: Option<Told>, heard: bool) {
        match caller {
            Caller::Nobody => {}
            Caller::Gateway(segment) => {
                let known = &mut state.answered[usize::from(segment)];
                if known.is_some() && *known != told {
                    state.wrong = Some("a repeated commit got another answer than the first");
                }
                *known = told;
                state.doubted |= u8::from(!heard) << segment;
                state.segments[usize::from(segment)] = match told {
                    _ if !heard => Segment::Unknown,
                    Some(Told::Stored(base)) => Segment::Acked(base),
                    Some(Told::Refused) => Segment::Refused,
                    None => Segment::Unknown,
                };
            }
            Caller::Sweeper => {
                state.sweeper = match (state.sweeper, told) {
                    (Sweeper::Asked(segment), Some(Told::Refused)) if heard => Sweeper::May(segment),
                    _ => Sweeper::Idle,
                };
            }
        }
    }

    /// A caller is told that nothing was applied, or that nobody knows.
    fn fail(state: &mut State, caller: Caller, told: Next) {
        match caller {
            Caller::Nobody => {}
            // Once in doubt, a gateway never says that nothing was applied.
            Caller::Gateway(segment) => {
                state.doubted |= u8::from(told != Next::NotApplied) << segment;
                let doubted = state.doubted >> segment & 1 == 1;
                state.segments[usize::from(segment)] = if doubted { Segment::Unknown } else { Segment::NotApplied };
            }
            Caller::Sweeper => state.sweeper = Sweeper::Idle,
        }
    }

    /// The store decides about an append.
    fn append(&self, state: &mut State, entry: &Sealed) -> Placed {
        let seq = entry.seq();
        let standing = state.journal.iter().find(|standing| standing.seq() == seq).map(Sealed::epoch);
        // Each reign has a token of its own.
        let reign = if self.rules == Rules::AnyEpoch { Epoch(entry.epoch()) } else { Epoch(state.reign) };
        let placed = place(standing.as_ref(), &entry.epoch(), Epoch(entry.epoch()), reign);
        if placed == Placed::New {
            Arc::make_mut(&mut state.journal).push(entry.clone());
        }
        // What a checkpoint holds is never read again.
        if placed == Placed::New && seq > state.durable.ledger().seq().0 {
            match state.durable.replayed(entry) {
                Some(durable) => state.durable = durable,
                None => state.wrong = Some("the journal holds an entry that does not apply"),
            }
        }
        placed
    }

    /// An owner hears how an attempt ended, and goes by the rule.
    fn heard(&self, state: &mut State, at: u8, attempt: Attempt, caller_hears: bool) {
        let place = &mut state.owners[usize::from(at)];
        let Some(owner) = place.as_mut() else { return };
        let Some(flight) = owner.flight.as_mut() else { return };
        let next = match after(attempt, flight.doubtful) {
            Next::Unknown if self.rules == Rules::FencedIsNever => Next::NotApplied,
            next => next,
        };
        match next {
            Next::Again => flight.doubtful = true,
            Next::Answer => {
                let (caller, told) = (flight.caller, flight.told);
                if owner.flight.take().is_some_and(|flight| flight.entry.epoch() == state.reign) && owner.ledger != state.durable {
                    state.wrong = Some("an owner's state is not what its journal makes");
                }
                if self.rules != Rules::AnswerEarly {
                    Self::answer(state, caller, told, caller_hears);
                }
            }
            Next::NotApplied | Next::Unknown => {
                let caller = flight.caller;
                owner.flight = None;
                if self.rules != Rules::GoOn {
                    *place = None;
                }
                if self.rules != Rules::AnswerEarly {
                    Self::fail(state, caller, next);
                }
            }
        }
    }

    /// What [`Rules::Look`] does with an append in doubt.
    fn look(state: &mut State, at: u8) {
        let Some(owner) = state.owners[usize::from(at)].as_mut() else { return };
        let Some(flight) = owner.flight.take() else { return };
        if state.journal.contains(&flight.entry) {
            Self::answer(state, flight.caller, flight.told, true);
        } else {
            owner.ledger = flight.before;
            Self::fail(state, flight.caller, Next::NotApplied);
        }
    }

    /// Whether the collector would be told that the object may go.
    fn reclaimable(&self, state: &State, at: u8, segment: u8) -> bool {
        let Some(owner) = &state.owners[usize::from(at)] else { return false };
        let query = Query::Reclaimable { limit: 100, after: None, after_object: None, now: Self::now(state), grace: Duration::ZERO };
        match owner.ledger.ledger().query(&query) {
            Ok(Answer::Reclaimable(found)) => found.objects.contains(&Self::id(segment)),
            _ => false,
        }
    }

    fn serves(state: &State, at: u8) -> bool {
        state.owners[usize::from(at)].as_ref().is_some_and(|owner| owner.flight.is_none())
    }

    /// The flights of all owners.
    fn flights(state: &State) -> impl Iterator<Item = (&Owner, &Flight)> {
        state.owners.iter().flatten().filter_map(|owner| Some((owner, owner.flight.as_ref()?)))
    }

    /// Whether an entry is in the journal.
    fn stands(state: &State, entry: &Sealed) -> bool {
        state.journal.iter().any(|standing| standing == entry)
    }

    fn is_there(state: &State, segment: u8) -> bool {
        state.objects >> segment & 1 == 1
    }
}

impl Model for Commits {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let topic = Command::PutTopic {
            namespace: NamespaceName::default_name(),
            name: TopicName::new("t").unwrap(),
            config: TopicConfig { partitions: 1, ..TopicConfig::default() },
            condition: Precondition::Always,
            idempotency: None,
        };
        let (_, group) = Kept::empty().execute(topic, 1, START);
        let (durable, entry) = group.unwrap();
        let owner = Owner { epoch: 1, ledger: durable.clone(), flight: None };
        vec![State {
            late_time: false,
            objects: 0,
            reign: 1,
            journal: Arc::new(vec![entry]),
            durable,
            owners: [Some(owner), None],
            on_the_way: Vec::new(),
            segments: vec![Segment::Open; self.gateways.len()],
            doubted: 0,
            answered: vec![None; self.gateways.len()],
            sweeper: Sweeper::Idle,
            faults: self.faults,
            takeovers: self.takeovers,
            sweeps: self.sweeps,
            checkpoints: self.checkpoints,
            wrong: None,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        if state.wrong.is_some() {
            return;
        }
        let segments = 0..self.gateways.len() as u8;
        for segment in segments.clone() {
            let of = usize::from(segment);
            match state.segments[of] {
                Segment::Open => {
                    // A gateway closes its segments one after the other.
                    let earlier = (0..of).filter(|other| self.gateways[*other] == self.gateways[of]);
                    if earlier.into_iter().all(|other| state.segments[other] != Segment::Open) {
                        actions.push(Action::Put(segment));
                    }
                }
                Segment::Stored | Segment::NotApplied | Segment::Unknown => {
                    let owners = (0..OWNERS as u8).filter(|at| Self::serves(state, *at));
                    actions.extend(owners.map(|at| Action::Commit(segment, at)));
                }
                Segment::Asked | Segment::Acked(_) | Segment::Refused => {}
            }
        }
        for at in 0..OWNERS as u8 {
            if let Some(flight) = state.owners[usize::from(at)].as_ref().and_then(|owner| owner.flight.as_ref()) {
                actions.push(Action::Append(at, true));
                if flight.doubtful {
                    actions.push(Action::GiveUp(at));
                }
                if state.faults > 0 {
                    actions.extend([Action::AppendUnheard(at), Action::AppendLate(at), Action::AppendRefused(at)]);
                    if flight.caller != Caller::Nobody {
                        actions.push(Action::Append(at, false));
                    }
                }
            }
            if state.takeovers > 0 {
                actions.push(Action::TakeOver(at));
            }
        }
        actions.extend((0..state.on_the_way.len() as u8).map(Action::Arrive));
        for at in (0..OWNERS as u8).filter(|at| Self::serves(state, *at)) {
            for segment in segments.clone() {
                if state.sweeper == Sweeper::Idle && state.sweeps > 0 && Self::is_there(state, segment) {
                    actions.push(Action::Find(segment, at));
                }
                if state.late_time && self.reclaimable(state, at, segment) {
                    actions.push(Action::Reclaim(segment, at));
                }
            }
            if matches!(state.sweeper, Sweeper::Found(_)) {
                actions.push(Action::Refuse(at));
            }
            let reigns = state.owners[usize::from(at)].as_ref().is_some_and(|owner| owner.epoch == state.reign);
            if state.checkpoints > 0 && reigns && !state.journal.is_empty() {
                actions.push(Action::Checkpoint(at));
            }
        }
        if matches!(state.sweeper, Sweeper::May(_)) {
            actions.push(Action::Delete);
        }
        if self.time && !state.late_time {
            actions.push(Action::Pass);
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        match action {
            Action::Put(segment) => {
                state.objects |= 1 << segment;
                state.segments[usize::from(segment)] = Segment::Stored;
            }
            Action::Commit(segment, at) => {
                state.segments[usize::from(segment)] = Segment::Asked;
                self.execute(&mut state, at, Self::commit(segment), Caller::Gateway(segment));
            }
            Action::Append(at, heard) => {
                state.faults -= u8::from(!heard);
                let flight = state.owners[usize::from(at)].as_ref()?.flight.clone()?;
                if self.rules == Rules::Look && flight.doubtful {
                    Self::look(&mut state, at);
                    return Some(state);
                }
                let attempt = match self.append(&mut state, &flight.entry) {
                    Placed::New | Placed::Before => Attempt::Done,
                    Placed::Taken | Placed::Over => Attempt::Fenced,
                };
                self.heard(&mut state, at, attempt, heard);
            }
            Action::AppendUnheard(at) => {
                state.faults -= 1;
                let entry = state.owners[usize::from(at)].as_ref()?.flight.as_ref()?.entry.clone();
                self.append(&mut state, &entry);
                self.heard(&mut state, at, Attempt::Unknown, true);
            }
            Action::AppendLate(at) => {
                state.faults -= 1;
                let entry = state.owners[usize::from(at)].as_ref()?.flight.as_ref()?.entry.clone();
                state.on_the_way.push(Late { entry });
                self.heard(&mut state, at, Attempt::Unknown, true);
            }
            Action::AppendRefused(at) => {
                state.faults -= 1;
                self.heard(&mut state, at, Attempt::NotApplied, true);
            }
            Action::Arrive(index) => {
                let late = state.on_the_way.remove(usize::from(index));
                self.append(&mut state, &late.entry);
            }
            Action::GiveUp(at) => {
                let flight = state.owners[usize::from(at)].take()?.flight?;
                Self::fail(&mut state, flight.caller, Next::Unknown);
            }
            Action::TakeOver(at) => {
                state.takeovers -= 1;
                state.reign += 1;
                // What it had in hand is dropped unanswered.
                if let Some(flight) = state.owners[usize::from(at)].take().and_then(|owner| owner.flight) {
                    Self::fail(&mut state, flight.caller, Next::Unknown);
                }
                let before = state.durable.clone();
                let (ledger, entry) = before.begin(state.reign, Self::now(&state));
                let flight = Flight { entry, before, caller: Caller::Nobody, told: None, doubtful: false };
                state.owners[usize::from(at)] = Some(Owner { epoch: state.reign, ledger, flight: Some(flight) });
            }
            Action::Find(segment, at) => {
                state.sweeps -= 1;
                let known = state.owners[usize::from(at)].as_ref()?.ledger.object(Self::id(segment));
                if known.is_some_and(|status| !status.was_refused_unseen()) {
                    return None;
                }
                state.sweeper = if self.rules == Rules::SweepUnrefused { Sweeper::May(segment) } else { Sweeper::Found(segment) };
            }
            Action::Refuse(at) => {
                let Sweeper::Found(segment) = state.sweeper else { return None };
                state.sweeper = Sweeper::Asked(segment);
                self.execute(&mut state, at, Command::RefuseSegments { segments: vec![Self::id(segment)] }, Caller::Sweeper);
            }
            Action::Delete => {
                let Sweeper::May(segment) = state.sweeper else { return None };
                state.objects &= !(1 << segment);
                state.sweeper = Sweeper::Idle;
            }
            Action::Reclaim(segment, at) => {
                state.objects &= !(1 << segment);
                self.execute(&mut state, at, Command::ForgetObjects { objects: vec![Self::id(segment)] }, Caller::Nobody);
            }
            Action::Checkpoint(_) => {
                state.checkpoints -= 1;
                state.journal = Arc::default();
            }
            Action::Pass => state.late_time = true,
        }
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut properties = vec![
            Property::always(
                "what was acknowledged is in the log, where it was said to be, and its object is stored",
                |model: &Self, state: &State| {
                    let extents = state.durable.extents(Self::topic(), P0);
                    (0..).zip(&state.segments).all(|(segment, seen)| match seen {
                        Segment::Acked(base) => {
                            let found = extents.iter().find(|extent| model.number(extent.object) == Some(segment));
                            found.is_some_and(|extent| extent.base_offset == Offset(*base)) && Self::is_there(state, segment)
                        }
                        _ => true,
                    })
                },
            ),
            Property::always("an object that the log refers to is stored", |model: &Self, state: &State| {
                let extents = state.durable.extents(Self::topic(), P0);
                extents.iter().all(|extent| model.number(extent.object).is_some_and(|segment| Self::is_there(state, segment)))
            }),
            Property::always("what is told not to be applied is not in the log", |model: &Self, state: &State| {
                let extents = state.durable.extents(Self::topic(), P0);
                extents.iter().all(|extent| {
                    let seen = model.number(extent.object).map(|segment| state.segments[usize::from(segment)]);
                    !matches!(seen, Some(Segment::NotApplied | Segment::Refused))
                })
            }),
            Property::always("each offset is taken once, and none is left out", |_, state: &State| {
                let (mut next, extents) = (Offset(0), state.durable.extents(Self::topic(), P0));
                let dense = extents.iter().all(|extent| std::mem::replace(&mut next, extent.end()) == extent.base_offset);
                dense && state.durable.ledger().partition(Self::topic(), P0).is_some_and(|partition| partition.end() == next)
            }),
            Property::always("nothing happens that can never be right", |_, state: &State| state.wrong.is_none()),
            Property::sometimes("both gateways are acknowledged", |model: &Self, state: &State| {
                let acked = |gateway| {
                    (0..)
                        .zip(&state.segments)
                        .any(|(n, seen): (usize, _)| model.gateways[n] == gateway && matches!(seen, Segment::Acked(_)))
                };
                acked(0) && acked(1)
            }),
            Property::sometimes("an append in doubt was written", |_, state: &State| {
                Self::flights(state).any(|(_, flight)| flight.doubtful && Self::stands(state, &flight.entry))
            }),
            Property::sometimes("an append in doubt was not written, and is on its way no more", |_, state: &State| {
                let lost = |flight: &Flight| !Self::stands(state, &flight.entry) && state.on_the_way.is_empty();
                Self::flights(state).any(|(_, flight)| flight.doubtful && lost(flight))
            }),
            Property::sometimes("a former owner still waits for an append", |_, state: &State| {
                Self::flights(state).any(|(owner, _)| owner.epoch < state.reign)
            }),
            Property::sometimes("an append arrives that was written again", |_, state: &State| {
                state.on_the_way.iter().any(|late| Self::stands(state, &late.entry))
            }),
            Property::sometimes("an append arrives after its reign, and its place is free", |_, state: &State| {
                let free = |entry: &Sealed| state.journal.iter().all(|standing| standing.seq() != entry.seq());
                state.on_the_way.iter().any(|late| late.entry.epoch() < state.reign && free(&late.entry))
            }),
            Property::sometimes("the answer to a commit that was taken is lost", |_, state: &State| {
                let lost = |n: usize| matches!(state.segments[n], Segment::Unknown) && matches!(state.answered[n], Some(Told::Stored(_)));
                (0..state.segments.len()).any(lost)
            }),
        ];
        if self.sweeps > 0 {
            properties.push(Property::sometimes("an orphan is deleted and its commit refused", |_, state: &State| {
                (0..).zip(&state.segments).any(|(n, seen)| *seen == Segment::Refused && !Self::is_there(state, n))
            }));
        }
        if self.time {
            properties.push(Property::sometimes("a refusal is forgotten while its segment may still be sent", |_, state: &State| {
                let forgotten = |n: u8| state.durable.object(Self::id(n)).is_none() && !Self::is_there(state, n);
                (0..).zip(&state.segments).any(|(n, seen)| state.late_time && *seen == Segment::Stored && forgotten(n))
            }));
        }
        properties
    }
}
