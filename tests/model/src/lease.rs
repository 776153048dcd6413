//! Leases of a queue: two receivers, two owners of which one serves at a time, answers that get lost, receipts that are used late,
//! and time. A takeover replays the journal.

use std::sync::Arc;
use std::time::Duration;

use lakefall_queue::ledger::{
    Answer, Classified, Command, ProposedExtent, PutQueue, Query, ReceiveMessages, Reply, SegmentCommit, SettleAction, SettleItem,
    SettleMessages, SettleOutcome, Slice, Want,
};
use lakefall_queue::queue::{Queue, QueueConfig, QueueStart};
use lakefall_queue::verbs::Precondition;
use lakefall_queue::{NamespaceName, Offset, PartitionIndex, QueueName, SegmentId, Timestamp, TopicId};
use stateright::{Model, Property};

use crate::kept::{Aside, Holding, Kept, START, Sealed};

const RECEIVERS: u8 = 2;
const OWNERS: u8 = 2;
const P0: PartitionIndex = PartitionIndex(0);
/// How long a receiver has a message to itself.
const LEASE: Duration = Duration::from_secs(30);
/// For how long the ledger remembers that a message was given back.
const REMEMBERED_MS: i64 = 60_000;
/// By how much time passes.
const STEP: Duration = Duration::from_secs(20);

/// The rules by which the parts go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rules {
    /// Production's.
    Right,
    /// Owners go by their own clocks, of which the second one's is ahead.
    OwnClock,
    /// Owners answer before the journal has it: the next owner lacks the last entry.
    AnswerEarly,
}

/// What is explored.
#[derive(Clone, Copy, Debug)]
pub struct Leases {
    /// The rules.
    pub rules: Rules,
    /// Messages, of which each receiver takes one at a time.
    pub messages: u8,
    /// How often time passes, at most.
    pub passes: u8,
    /// Takeovers, at most.
    pub takeovers: u8,
    /// Answers that get lost, at most.
    pub losses: u8,
    /// Leases of a message, at most.
    pub attempts: u32,
}

/// The last lease of a message, as an observer saw it who knows the time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Truth {
    attempt: u32,
    until_ms: i64,
}

/// A receipt that somebody has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Receipt {
    offset: u8,
    attempt: u32,
}

/// All there is at one time.
#[derive(Clone, Debug, PartialEq, Hash)]
pub struct State {
    now_ms: i64,
    ledger: Holding,
    journal: Aside<Arc<Vec<Sealed>>>,
    queue: Aside<Arc<Queue>>,
    owner: u8,
    epoch: u64,
    /// The request of a receive whose answer was lost, by receiver.
    lost: Vec<Option<u8>>,
    requests: u8,
    truth: Vec<Option<Truth>>,
    acked: Vec<bool>,
    /// All that were ever given out.
    receipts: Vec<Receipt>,
    /// Those whose messages were given back in time.
    returned: Vec<Receipt>,
    passes: u8,
    takeovers: u8,
    losses: u8,
    wrong: Option<&'static str>,
}

/// A step of somebody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// A receiver asks for a message; whether it hears the answer.
    Receive(u8, bool),
    /// A receiver asks again with the request whose answer was lost.
    Again(u8),
    /// Somebody acknowledges.
    Ack(Receipt),
    /// Somebody gives a message back.
    Release(Receipt),
    /// Somebody asks for a lease anew.
    Extend(Receipt),
    /// The other owner takes over.
    TakeOver,
    /// Time passes.
    Pass,
}

impl Leases {
    /// The time as the owner sees it.
    fn now(&self, state: &State) -> Timestamp {
        let ahead = if self.rules == Rules::OwnClock { 2 * STEP * u32::from(state.owner) } else { Duration::ZERO };
        Timestamp::from_millis(state.now_ms).plus(ahead)
    }

    fn execute(&self, state: &mut State, command: Command) -> Option<Reply> {
        let (reply, group) = state.ledger.0.execute(command, state.epoch, self.now(state));
        if let Some((ledger, entry)) = group {
            state.ledger = Holding(ledger);
            Arc::make_mut(&mut state.journal.0).push(entry);
        }
        reply.ok()
    }

    fn topic(state: &State) -> TopicId {
        state.queue.0.sources[0].topic
    }

    fn receive(&self, state: &mut State, request: u8) -> Vec<Receipt> {
        let (queue, topic) = (Arc::clone(&state.queue.0), Self::topic(state));
        let end = Offset(u64::from(self.messages));
        let classified = Classified { topic, partition: P0, from: Offset(0), to: end, skipped: Vec::new(), marks: Vec::new() };
        let want = Want { max: 1, lease: LEASE, request: Some(u128::from(request)) };
        let command = ReceiveMessages { queue: queue.id, generation: queue.generation, classified: vec![classified], wants: vec![want] };
        let Some(Reply::Received(received)) = self.execute(state, Command::Receive(command)) else { return Vec::new() };
        let grants = received.grants.into_iter().flatten();
        grants.map(|grant| Receipt { offset: grant.first.0 as u8, attempt: grant.attempt }).collect()
    }

    /// An observer sees a lease that is given now, or again.
    fn observe(state: &mut State, receipt: Receipt) {
        let of = usize::from(receipt.offset);
        let now = state.now_ms;
        match state.truth[of] {
            _ if state.acked[of] => state.wrong = Some("a message came after it was acknowledged"),
            Some(truth) if truth.attempt == receipt.attempt => {}
            Some(truth) if truth.until_ms > now => state.wrong = Some("a message was given to two receivers at a time"),
            _ => state.truth[of] = Some(Truth { attempt: receipt.attempt, until_ms: now + LEASE.as_millis() as i64 }),
        }
        if !state.receipts.contains(&receipt) {
            state.receipts.push(receipt);
            state.receipts.sort_by_key(|receipt| (receipt.offset, receipt.attempt));
        }
    }

    fn settle(&self, state: &mut State, receipt: Receipt, action: SettleAction) -> Option<SettleOutcome> {
        let queue = Arc::clone(&state.queue.0);
        let items = vec![Self::item(state, receipt, action)];
        let command = SettleMessages { queue: queue.id, generation: queue.generation, version: None, items };
        match self.execute(state, Command::Settle(command)) {
            Some(Reply::Settled(runs)) => runs.first().map(|run| run.outcome),
            _ => None,
        }
    }

    fn item(state: &State, Receipt { offset, attempt }: Receipt, action: SettleAction) -> SettleItem {
        SettleItem { topic: Self::topic(state), partition: P0, first: Offset(u64::from(offset)), count: 1, attempt, action }
    }

    /// Whether the ledger holds a message for finished.
    fn is_finished(state: &State, offset: u8) -> bool {
        let items = vec![Self::item(state, Receipt { offset, attempt: 1 }, SettleAction::Ack)];
        let leases = SettleMessages { queue: state.queue.0.id, generation: state.queue.0.generation, version: None, items };
        let answer = state.ledger.0.ledger().query(&Query::QueueLeases(leases));
        matches!(answer, Ok(Answer::QueueLeases(runs)) if runs.first().is_some_and(|run| run.outcome == SettleOutcome::Done))
    }

    /// Whether a receipt is of a lease that lasts.
    fn is_current(state: &State, receipt: Receipt) -> bool {
        let truth = state.truth[usize::from(receipt.offset)];
        truth.is_some_and(|truth| truth.attempt == receipt.attempt && truth.until_ms > state.now_ms)
    }
}

impl Model for Leases {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let put = PutQueue {
            namespace: NamespaceName::default_name(),
            name: QueueName::new("q").unwrap(),
            config: QueueConfig { start: QueueStart::Earliest, ..QueueConfig::default() },
            bindings: None,
            positions: Vec::new(),
            condition: Precondition::Always,
            idempotency: None,
        };
        let (reply, group) = Kept::empty().execute(Command::PutQueue(Box::new(put)), 1, START);
        let Ok(Reply::Queue(queue, _)) = reply else { panic!("no queue") };
        let (ledger, first) = group.unwrap();
        let slice = Slice { length: 10, records: u32::from(self.messages), ..Slice::default() };
        let extent = ProposedExtent { topic: queue.sources[0].topic, partition: P0, position: 0, slices: vec![slice] };
        let commit = SegmentCommit { segment: SegmentId::mint(START, 1 << 64), size: 100, extents: vec![extent], atoms: Vec::new() };
        let (_, group) = ledger.execute(Command::Commit(commit), 1, START);
        let (ledger, second) = group.unwrap();
        let messages = usize::from(self.messages);
        vec![State {
            now_ms: START.as_millis(),
            ledger: Holding(ledger),
            journal: Aside(Arc::new(vec![first, second])),
            queue: Aside(Arc::new(*queue)),
            owner: 0,
            epoch: 1,
            lost: vec![None; usize::from(RECEIVERS)],
            requests: 0,
            truth: vec![None; messages],
            acked: vec![false; messages],
            receipts: Vec::new(),
            returned: Vec::new(),
            passes: self.passes,
            takeovers: self.takeovers,
            losses: self.losses,
            wrong: None,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        if state.wrong.is_some() {
            return;
        }
        for receiver in 0..RECEIVERS {
            if state.lost[usize::from(receiver)].is_some() {
                actions.push(Action::Again(receiver));
            } else {
                actions.push(Action::Receive(receiver, true));
                if state.losses > 0 {
                    actions.push(Action::Receive(receiver, false));
                }
            }
        }
        for receipt in &state.receipts {
            actions.extend([Action::Ack(*receipt), Action::Release(*receipt), Action::Extend(*receipt)]);
        }
        if state.takeovers > 0 {
            actions.push(Action::TakeOver);
        }
        if state.passes > 0 {
            actions.push(Action::Pass);
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        match action {
            Action::Receive(receiver, heard) => {
                let request = state.requests;
                let receipts = self.receive(&mut state, request);
                // A receive that gets nothing changes nothing.
                let receipt = *receipts.first()?;
                if receipt.attempt > self.attempts {
                    return None;
                }
                state.requests += 1;
                Self::observe(&mut state, receipt);
                if !heard {
                    state.losses -= 1;
                    state.lost[usize::from(receiver)] = Some(request);
                    // The lease is given, but nobody has its receipt.
                    state.receipts.retain(|known| *known != receipt);
                }
            }
            Action::Again(receiver) => {
                let request = state.lost[usize::from(receiver)].take()?;
                for receipt in self.receive(&mut state, request) {
                    if receipt.attempt > self.attempts {
                        return None;
                    }
                    Self::observe(&mut state, receipt);
                }
            }
            Action::Ack(receipt) => {
                let (of, current) = (usize::from(receipt.offset), Self::is_current(&state, receipt));
                match self.settle(&mut state, receipt, SettleAction::Ack) {
                    Some(SettleOutcome::Done) if !current && !state.acked[of] => {
                        state.wrong = Some("a message was acknowledged by who had lost its lease");
                    }
                    Some(SettleOutcome::Done) => state.acked[of] = true,
                    _ if current && !state.acked[of] => state.wrong = Some("an acknowledgement within its lease was refused"),
                    _ => {}
                }
            }
            Action::Release(receipt) => {
                let current = Self::is_current(&state, receipt);
                let outcome = self.settle(&mut state, receipt, SettleAction::Release { delay: Duration::ZERO });
                let truth = &mut state.truth[usize::from(receipt.offset)];
                let returned = last.returned.contains(&receipt);
                match outcome {
                    Some(SettleOutcome::Done) if current => {
                        *truth = truth.map(|truth| Truth { until_ms: last.now_ms, ..truth });
                        state.returned.push(receipt);
                        state.returned.sort_by_key(|receipt| (receipt.offset, receipt.attempt));
                    }
                    Some(SettleOutcome::Done) if !returned => state.wrong = Some("a message was given back by who had lost its lease"),
                    Some(SettleOutcome::Done) => {}
                    // Whoever has the message since: what is said twice is answered alike, while it is remembered.
                    _ if returned && last.now_ms - START.as_millis() < REMEMBERED_MS => {
                        state.wrong = Some("who gave a message back was told the second time that nothing happened");
                    }
                    _ => {}
                }
            }
            Action::Extend(receipt) => {
                let current = Self::is_current(&state, receipt);
                match self.settle(&mut state, receipt, SettleAction::Extend { lease: LEASE }) {
                    Some(SettleOutcome::Until(_)) if !current => state.wrong = Some("a lease that was over was prolonged"),
                    Some(SettleOutcome::Until(_)) => {
                        let until_ms = state.now_ms + LEASE.as_millis() as i64;
                        let truth = &mut state.truth[usize::from(receipt.offset)];
                        *truth = truth.map(|truth| Truth { until_ms, ..truth });
                    }
                    _ => {}
                }
            }
            Action::TakeOver => {
                state.takeovers -= 1;
                state.epoch += 1;
                state.owner = (state.owner + 1) % OWNERS;
                if self.rules == Rules::AnswerEarly {
                    Arc::make_mut(&mut state.journal.0).pop();
                }
                let mut ledger = Kept::empty();
                for entry in state.journal.0.iter() {
                    ledger = ledger.replayed(entry)?;
                }
                if self.rules != Rules::AnswerEarly && Holding(ledger.clone()) != state.ledger {
                    state.wrong = Some("a state is not what its journal makes");
                }
                let (ledger, entry) = ledger.begin(state.epoch, self.now(&state));
                state.ledger = Holding(ledger);
                Arc::make_mut(&mut state.journal.0).push(entry);
            }
            Action::Pass => {
                state.passes -= 1;
                state.now_ms += STEP.as_millis() as i64;
            }
        }
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("nothing happens that can never be right", |_, state: &State| state.wrong.is_none()),
            Property::always("a message is finished if it was acknowledged, and only then", |model: &Self, state: &State| {
                (0..model.messages).all(|offset| Self::is_finished(state, offset) == state.acked[usize::from(offset)])
            }),
            Property::sometimes("all messages are acknowledged", |_, state: &State| state.acked.iter().all(|acked| *acked)),
            Property::sometimes("a message is leased again while an earlier receipt is about", |_, state: &State| {
                state.receipts.iter().any(|receipt| {
                    let truth = state.truth[usize::from(receipt.offset)];
                    truth.is_some_and(|truth| truth.attempt > receipt.attempt && truth.until_ms > state.now_ms)
                })
            }),
            Property::sometimes("a message is acknowledged through another owner than the one who leased it", |_, state: &State| {
                state.epoch > 1 && state.acked.contains(&true)
            }),
            Property::sometimes("a receipt is of a lease that is over, and nobody else has the message", |_, state: &State| {
                let over = |truth: &Truth| truth.until_ms <= state.now_ms;
                state.receipts.iter().any(|receipt| {
                    let truth = state.truth[usize::from(receipt.offset)];
                    truth.is_some_and(|truth| truth.attempt == receipt.attempt && over(&truth))
                })
            }),
            Property::sometimes("a lost answer may be asked for again by who lost it", |_, state: &State| {
                state.lost.iter().any(Option::is_some)
            }),
        ]
    }
}
