//! A message of a queue: sent, leased, settled. Messages do not hinder each other, so each is an object of its own; leases last
//! longer than the history.

use std::collections::{BTreeMap, BTreeSet};

use super::{Model, Operation};
use crate::history::{Answer, Call, Event, MessageAt, OpId, RecordId, Status, Verb, What};

/// What was asked about a message, and answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// Store it.
    Send {
        /// Whether it is known that it was stored.
        certain: bool,
    },
    /// It was leased, for this time.
    Receive {
        /// Counted from 1.
        attempt: u32,
    },
    /// A lease of it was settled.
    Settle {
        /// Which.
        attempt: u32,
        /// How.
        verb: Verb,
        /// What became of it.
        status: Status,
    },
}

/// A message's state.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct State {
    standing: Standing,
    /// Leases that were given back: said again, that is answered as the first time, for as long as it is remembered.
    given_back: BTreeSet<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Standing {
    /// Not there yet.
    Absent,
    /// Waits, after so many leases.
    Ready(u32),
    /// Leased for this time.
    Leased(u32),
    /// Never comes again.
    Finished,
}

impl State {
    fn with(&self, standing: Standing) -> Self {
        Self { standing, given_back: self.given_back.clone() }
    }

    fn settled(&self, attempt: u32, verb: Verb, status: Status) -> Option<Self> {
        let gives_back = matches!(verb, Verb::Nack(_)) || matches!(verb, Verb::Extend(more) if more.is_zero());
        let finishes = matches!(verb, Verb::Ack | Verb::Reject);
        // What it is when the settlement is done: a repetition is answered as the first one was, and changes nothing.
        let after = match self.standing {
            Standing::Leased(held) if held == attempt && finishes => Some(self.with(Standing::Finished)),
            Standing::Leased(held) if held == attempt && gives_back => {
                let mut after = self.with(Standing::Ready(held));
                after.given_back.insert(held);
                Some(after)
            }
            Standing::Leased(held) if held == attempt => Some(self.clone()),
            Standing::Finished if finishes => Some(self.clone()),
            _ if gives_back && self.given_back.contains(&attempt) => Some(self.clone()),
            _ => None,
        };
        match status {
            Status::Done | Status::Info => after,
            // Given back, it may have been leased since to somebody who was never told, or be forgotten that it was.
            Status::Expired | Status::Unknown => {
                let may_be = after.is_none() || matches!(self.standing, Standing::Ready(_)) || self.given_back.contains(&attempt);
                may_be.then(|| self.clone())
            }
        }
    }
}

/// The model.
#[derive(Clone, Copy, Debug, Default)]
pub struct Message;

impl Model for Message {
    type State = State;
    type Op = Op;

    fn initial(&self) -> State {
        State { standing: Standing::Absent, given_back: BTreeSet::new() }
    }

    fn step(&self, state: &State, op: &Op) -> Option<State> {
        match (op, state.standing) {
            (Op::Send { .. }, Standing::Absent) => Some(state.with(Standing::Ready(0))),
            // Sent again under the same name: one message.
            (Op::Send { .. }, _) => Some(state.clone()),
            // Leases that reached nobody count as attempts.
            (Op::Receive { attempt }, Standing::Ready(before)) if *attempt > before => Some(state.with(Standing::Leased(*attempt))),
            (Op::Receive { .. }, _) => None,
            (Op::Settle { attempt, verb, status }, _) => state.settled(*attempt, *verb, *status),
        }
    }
}

/// The operations on each message of a queue, from its events with their places in the history. An error says what no model can
/// be asked about.
pub fn operations<'e>(events: impl IntoIterator<Item = (u64, &'e Event)>) -> Result<BTreeMap<RecordId, Vec<Operation<Op>>>, String> {
    let mut open: BTreeMap<OpId, (u64, &Call)> = BTreeMap::new();
    let mut names: BTreeMap<MessageAt, RecordId> = BTreeMap::new();
    let mut found: BTreeMap<RecordId, Vec<Operation<Op>>> = BTreeMap::new();
    let mut settled: Vec<(MessageAt, Operation<Op>)> = Vec::new();
    for (order, event) in events {
        let (name, answer) = match &event.what {
            What::Invoke { op, call, .. } => {
                open.insert(*op, (order, call));
                continue;
            }
            What::Fail { op, .. } => {
                open.remove(op);
                continue;
            }
            What::Ok { op, answer } => (*op, answer),
            _ => continue,
        };
        let Some((invoked, call)) = open.remove(&name) else { continue };
        let operation = |op: Op| Operation { name, invoked, returned: Some(order), op };
        match (call, answer) {
            (Call::Enqueue { messages, .. }, Answer::Stored(_)) => {
                for (sent, _) in messages {
                    found.entry(sent.id).or_default().push(operation(Op::Send { certain: true }));
                }
            }
            (Call::Receive { .. }, Answer::Delivered(got)) => {
                for delivered in got {
                    let at = delivered.lease.at;
                    let id = delivered.id.ok_or_else(|| format!("the message at {at:?} does not say who sent it"))?;
                    if names.insert(at, id).is_some_and(|before| before != id) {
                        return Err(format!("two messages at {at:?}"));
                    }
                    found.entry(id).or_default().push(operation(Op::Receive { attempt: delivered.lease.attempt }));
                }
            }
            (Call::Settle { verb, leases, .. }, Answer::Settled(statuses)) => {
                for (lease, status) in leases.iter().zip(statuses) {
                    let mut of = operation(Op::Settle { attempt: lease.attempt, verb: *verb, status: *status });
                    if *status == Status::Info {
                        of.returned = None;
                    }
                    settled.push((lease.at, of));
                }
            }
            _ => {}
        }
    }
    for (name, (invoked, call)) in open {
        let operation = |op: Op| Operation { name, invoked, returned: None, op };
        match call {
            Call::Enqueue { messages, .. } => {
                for (sent, _) in messages {
                    found.entry(sent.id).or_default().push(operation(Op::Send { certain: false }));
                }
            }
            Call::Settle { verb, leases, .. } => {
                let settle = |attempt| Op::Settle { attempt, verb: *verb, status: Status::Info };
                settled.extend(leases.iter().map(|lease| (lease.at, operation(settle(lease.attempt)))));
            }
            _ => {}
        }
    }
    for (at, operation) in settled {
        let id = names.get(&at).ok_or_else(|| format!("a lease of {at:?} is settled that nobody was given"))?;
        found.entry(*id).or_default().push(operation);
    }
    Ok(found)
}
