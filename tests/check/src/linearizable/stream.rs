//! One partition as a stream: append, conditional append, fence, read. Its state is the end, a chain of hashes over all appends,
//! and the highest fencing token. Must share what states have in common: a search holds many.

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
        sums: Arc<[u64]>,
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
    end: u64,
    /// Over all appends so far: stands for their records.
    chain: u64,
    fence: Option<u64>,
    last: Option<Arc<Stored>>,
}

/// An append that was stored, and those before it. There are as many as operations at most, so that dropping them needs no deep stack.
#[derive(Debug)]
struct Stored {
    first: u64,
    sums: Arc<[u64]>,
    before: Option<Arc<Stored>>,
}

impl State {
    fn key(&self) -> (u64, u64, Option<u64>) {
        (self.end, self.chain, self.fence)
    }

    fn append(&self, sums: &Arc<[u64]>, fence: Option<u64>) -> Self {
        let sum = sums.iter().fold(self.chain, |chain, sum| chained(chain, *sum));
        let stored = Stored { first: self.end, sums: Arc::clone(sums), before: self.last.clone() };
        Self { end: self.end + sums.len() as u64, chain: sum, fence: self.fence.max(fence), last: Some(Arc::new(stored)) }
    }

    /// Whether these rows stand from an offset on.
    fn has(&self, from: u64, rows: &[Seen]) -> bool {
        let in_order = rows.iter().zip(0..).all(|(row, nth)| from.checked_add(nth) == Some(row.offset));
        let mut stored = self.last.as_deref();
        in_order
            && rows.iter().rev().all(|row| {
                while let Some(of) = stored.filter(|of| of.first > row.offset) {
                    stored = of.before.as_deref();
                }
                stored.and_then(|of| of.sums.get(usize::try_from(row.offset - of.first).ok()?)) == Some(&row.sum)
            })
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
        State { end: 0, chain: 0, fence: None, last: None }
    }

    fn step(&self, state: &State, op: &Op) -> Option<State> {
        match op {
            Op::Append { sums, expect, fence, outcome } => {
                let fenced = fence.zip(state.fence).filter(|(token, current)| token < current).map(|(_, current)| current);
                let mismatch = expect.filter(|expect| *expect != state.end);
                let same = |is: bool| is.then(|| state.clone());
                match outcome {
                    Outcome::Refused => Some(state.clone()),
                    Outcome::Fenced(current) => same(fenced == Some(*current)),
                    // The token is looked at first.
                    Outcome::Mismatch(end) => same(fenced.is_none() && mismatch.is_some() && *end == state.end),
                    // It did not happen is told by leaving it out.
                    Outcome::Stored(_) | Outcome::Unknown if fenced.is_some() || mismatch.is_some() => None,
                    Outcome::Stored(first) if *first != state.end => None,
                    Outcome::Stored(_) | Outcome::Unknown => Some(state.append(sums, *fence)),
                }
            }
            Op::Read { from, rows, end } => (*end == state.end && state.has(*from, rows)).then(|| state.clone()),
            Op::Tail { end } => (*end == state.end).then(|| state.clone()),
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
