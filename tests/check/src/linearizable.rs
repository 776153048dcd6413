//! Whether one order explains all answers: the search of Wing and Gong with Lowe's memory of where it has been (as Porcupine does
//! it), for histories of a few hundred operations.
//!
//! Must never call a history wrong that some order explains, nor right when it gave up: that is an answer of its own.

pub mod queue;
pub mod stream;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use crate::history::OpId;

/// States that a search visits at most. With a few hundred operations of five clients it visits some thousands.
pub const LIMIT: usize = 1_000_000;

/// What the object does when one operation comes after the other.
pub trait Model {
    /// What it remembers.
    type State: Clone + Ord;
    /// What is asked of it, with what was answered.
    type Op;

    /// Before the first operation.
    fn initial(&self) -> Self::State;

    /// The state after an operation, if its answer is right in this state. Of an operation with an unknown outcome: the state
    /// after it happened; that it did not is found by leaving it out.
    fn step(&self, state: &Self::State, op: &Self::Op) -> Option<Self::State>;
}

/// An operation in time. Times are only compared.
#[derive(Clone, Debug)]
pub struct Operation<Op> {
    /// Names it, for people.
    pub name: OpId,
    /// When it was invoked.
    pub invoked: u64,
    /// When it was answered; one with an unknown outcome never is, and may have happened at any time since, or not.
    pub returned: Option<u64>,
    /// What it was.
    pub op: Op,
}

/// What a search found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// This order explains all answers.
    Linearizable(Vec<OpId>),
    /// None does.
    Not {
        /// The longest order that explains the answers in it.
        longest: Vec<OpId>,
        /// The operation that should have come next at the latest, and fits nowhere.
        stuck: OpId,
    },
    /// Too many orders to try.
    TooLarge,
}

/// Which operations an order holds, one bit for each.
type Taken = Vec<u64>;

fn has(taken: &Taken, at: usize) -> bool {
    taken[at / 64] & (1 << (at % 64)) != 0
}

/// A place in the search: an order so far, and what to try next.
struct Step<State> {
    taken: Taken,
    state: State,
    tries: std::vec::IntoIter<usize>,
    /// The operation that led here.
    by: Option<usize>,
}

/// Searches an order of the operations in which each answer is right, and none comes before one that was answered before it
/// was invoked.
pub fn search<M: Model>(model: &M, operations: &[Operation<M::Op>], limit: usize) -> Verdict {
    let names = |path: &[Step<M::State>]| path.iter().filter_map(|step| step.by).map(|at| operations[at].name).collect::<Vec<_>>();
    let taken = vec![0; operations.len().div_ceil(64)];
    let mut seen: BTreeSet<(Taken, M::State)> = BTreeSet::new();
    let (mut longest, mut stuck) = (Vec::new(), None);
    let first = Step { tries: candidates(operations, &taken).into_iter(), state: model.initial(), taken, by: None };
    let mut path = vec![first];
    while let Some(step) = path.last_mut() {
        let bound = next_answered(operations, &step.taken);
        let Some(bound) = bound else { return Verdict::Linearizable(names(&path)) };
        let Some(at) = step.tries.next() else {
            if path.len() > longest.len() || stuck.is_none() {
                (longest, stuck) = (names(&path), Some(operations[bound].name));
            }
            path.pop();
            continue;
        };
        let Some(state) = model.step(&step.state, &operations[at].op) else { continue };
        let mut taken = step.taken.clone();
        taken[at / 64] |= 1 << (at % 64);
        if !seen.insert((taken.clone(), state.clone())) {
            continue;
        }
        if seen.len() > limit {
            return Verdict::TooLarge;
        }
        path.push(Step { tries: candidates(operations, &taken).into_iter(), state, taken, by: Some(at) });
    }
    // Without operations the first step has nothing to wait for, and is an answer.
    Verdict::Not { longest, stuck: stuck.unwrap_or_default() }
}

/// Of the answered operations that are not taken, the one that was answered first.
fn next_answered<Op>(operations: &[Operation<Op>], taken: &Taken) -> Option<usize> {
    let open = operations.iter().enumerate().filter(|(at, _)| !has(taken, *at));
    open.filter_map(|(at, operation)| Some((operation.returned?, at))).min().map(|(_, at)| at)
}

/// What may come next: all that were invoked before the first answer that is still to be explained. Answered ones first, as
/// they have to come soon.
fn candidates<Op>(operations: &[Operation<Op>], taken: &Taken) -> Vec<usize> {
    let first = next_answered(operations, taken).and_then(|at| operations[at].returned).unwrap_or(u64::MAX);
    let open = operations.iter().enumerate().filter(|(at, operation)| !has(taken, *at) && operation.invoked < first);
    let mut found: Vec<(u64, usize)> = open.map(|(at, operation)| (operation.returned.unwrap_or(u64::MAX), at)).collect();
    found.sort_unstable();
    found.into_iter().map(|(_, at)| at).collect()
}
