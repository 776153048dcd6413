//! One partition as a stream: append, conditional append, fence, read. Its state is the end, a chain of sums over all records,
//! and the highest fencing token.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_64;

use super::{Model, Operation};
use crate::history::{Answer, Append, Call, Event, OpId, Refusal, Seen, What};

/// What was asked of a partition, and answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Records, by their sums.
    Append {
        /// In order.
        sums: Vec<u64>,
        /// Only if the end is here.
        expect: Option<u64>,
        /// Only if no higher token was seen; noted when the records are stored.
        fence: Option<u64>,
        /// What became of it.
        outcome: Outcome,
    },
    /// Records from an offset on.
    Read {
        /// The first offset.
        from: u64,
        /// What came.
        rows: Vec<Seen>,
        /// The end as told.
        end: u64,
    },
    /// The end.
    Tail {
        /// As told.
        end: u64,
    },
}

/// What became of an append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Stored from this offset on.
    Stored(u64),
    /// Not stored, for a reason that says nothing of the state.
    Refused,
    /// Not stored, as the end was here.
    Mismatch(u64),
    /// Not stored, as this token was seen.
    Fenced(u64),
    /// Nobody knows.
    Unknown,
}

/// A partition's state.
#[derive(Clone, Debug)]
pub struct State {
    /// At each offset up to the end: a sum over all sums before it.
    chain: Arc<Vec<u64>>,
    fence: Option<u64>,
}

impl State {
    fn end(&self) -> u64 {
        self.chain.len() as u64 - 1
    }

    fn key(&self) -> (usize, Option<u64>, Option<u64>) {
        // The last sum stands for all.
        (self.chain.len(), self.chain.last().copied(), self.fence)
    }
}

impl PartialEq for State {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for State {}

impl PartialOrd for State {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for State {
    fn cmp(&self, other: &Self) -> Ordering {
        self.key().cmp(&other.key())
    }
}

fn chained(before: u64, sum: u64) -> u64 {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&before.to_le_bytes());
    bytes[8..].copy_from_slice(&sum.to_le_bytes());
    xxh3_64(&bytes)
}

/// The model.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stream;

impl Model for Stream {
    type State = State;
    type Op = Op;

    fn initial(&self) -> State {
        State { chain: Arc::new(vec![0]), fence: None }
    }

    fn step(&self, state: &State, op: &Op) -> Option<State> {
        match op {
            Op::Append { sums, expect, fence, outcome } => {
                let fenced = fence.zip(state.fence).filter(|(token, current)| token < current).map(|(_, current)| current);
                let mismatch = expect.filter(|expect| *expect != state.end());
                let same = |is: bool| is.then(|| state.clone());
                match outcome {
                    Outcome::Refused => Some(state.clone()),
                    Outcome::Fenced(current) => same(fenced == Some(*current)),
                    // The token is looked at first.
                    Outcome::Mismatch(end) => same(fenced.is_none() && mismatch.is_some() && *end == state.end()),
                    // It did not happen is told by leaving it out.
                    Outcome::Stored(_) | Outcome::Unknown if fenced.is_some() || mismatch.is_some() => None,
                    Outcome::Stored(first) if *first != state.end() => None,
                    Outcome::Stored(_) | Outcome::Unknown => {
                        let mut chain = Vec::with_capacity(state.chain.len() + sums.len());
                        chain.extend_from_slice(&state.chain);
                        for sum in sums {
                            chain.push(chained(chain[chain.len() - 1], *sum));
                        }
                        Some(State { chain: Arc::new(chain), fence: state.fence.max(*fence) })
                    }
                }
            }
            Op::Read { from, rows, end } => {
                let mut at = usize::try_from(*from).ok();
                for row in rows {
                    let offset = at.filter(|at| *at as u64 == row.offset)?;
                    let (before, after) = (state.chain.get(offset)?, state.chain.get(offset.checked_add(1)?)?);
                    if chained(*before, row.sum) != *after {
                        return None;
                    }
                    at = Some(offset + 1);
                }
                (*end == state.end()).then(|| state.clone())
            }
            Op::Tail { end } => (*end == state.end()).then(|| state.clone()),
        }
    }
}

/// The operations on each partition of a topic, from its events with their places in the history. An error says what no model
/// can be asked about.
pub fn operations<'e>(events: impl IntoIterator<Item = (u64, &'e Event)>) -> Result<BTreeMap<u32, Vec<Operation<Op>>>, String> {
    let mut open: BTreeMap<OpId, (u64, &Call)> = BTreeMap::new();
    let mut found: BTreeMap<u32, Vec<Operation<Op>>> = BTreeMap::new();
    let mut add = |partition: u32, operation: Operation<Op>| found.entry(partition).or_default().push(operation);
    for (order, event) in events {
        match &event.what {
            What::Invoke { op, call, .. } => drop(open.insert(*op, (order, call))),
            What::Ok { op, answer } => {
                let Some((invoked, call)) = open.remove(op) else { continue };
                let (partition, done) = match (call, answer) {
                    (Call::Send(append), Answer::Stored(runs)) => match runs[..] {
                        [run] => (run.partition, appended(append, Outcome::Stored(run.first))),
                        _ => return Err(format!("operation {op} is stored in more than one piece")),
                    },
                    (Call::Read(read), Answer::Rows { rows, end }) => {
                        (read.partition, Op::Read { from: read.from, rows: rows.clone(), end: *end })
                    }
                    (Call::Tail { partition, .. }, Answer::End(end)) => (*partition, Op::Tail { end: *end }),
                    _ => continue,
                };
                add(partition, Operation { name: *op, invoked, returned: Some(order), op: done });
            }
            What::Fail { op, refusal } => {
                let Some((invoked, Call::Send(append))) = open.remove(op) else { continue };
                let outcome = match refusal {
                    Refusal::Refused | Refusal::Trimmed { .. } => Outcome::Refused,
                    Refusal::Mismatch { end } => Outcome::Mismatch(*end),
                    Refusal::Fenced { current } => Outcome::Fenced(*current),
                };
                let partition = partition_of(append)?;
                add(partition, Operation { name: *op, invoked, returned: Some(order), op: appended(append, outcome) });
            }
            _ => {}
        }
    }
    // What ended with an unknown outcome is like what never ended.
    for (op, (invoked, call)) in open {
        if let Call::Send(append) = call {
            let partition = partition_of(append)?;
            add(partition, Operation { name: op, invoked, returned: None, op: appended(append, Outcome::Unknown) });
        }
    }
    Ok(found)
}

fn appended(append: &Append, outcome: Outcome) -> Op {
    let sums = append.records.iter().map(|(_, sum)| *sum).collect();
    Op::Append { sums, expect: append.expect, fence: append.fence, outcome }
}

fn partition_of(append: &Append) -> Result<u32, String> {
    append.partition.ok_or_else(|| format!("a send to {} that was not acknowledged names no partition", append.topic))
}
