//! The protocol as models that a checker explores exhaustively within bounds: every order of events, every fault at every place.
//! The state machine in them is the real ledger, and the decisions around it are the functions that production calls; what is
//! modelled is only what lies between: the store, the network, time, and processes that stop anywhere.
//!
//! Three models, as the product of all is too large:
//! - [`commit`]: two gateways, two owners, a sweeper, the journal with lost and late replies; R1 to R4, R13, L1 to L7.
//! - [`swap`]: two compactors, a collector, a sweeper, retention and a reader over one set of objects; W1, W2, W6.
//! - [`lease`]: two receivers of one queue, two owners that take over from each other, time; Q2 to Q4.
//!
//! Each has rules that are wrong on purpose, which the checker must refute: a model that cannot fail proves nothing.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "only tests use it: a test fails where it stands, and tells what it saw"
)]

pub mod commit;
pub mod kept;
pub mod lease;
pub mod swap;

use std::fmt::Debug;
use std::hash::Hash;

use stateright::{Checker, HasDiscoveries, Model};

/// Explores all of a model, and fails with a path to what should not be, or the name of what should be and is not.
/// Answers how many different states there are.
pub fn check<M>(name: &str, model: M) -> usize
where
    M: Model + Send + Sync + 'static,
    M::State: Clone + Debug + Hash + PartialEq + Send + Sync + 'static,
    M::Action: Clone + Debug + PartialEq,
{
    // Failures are the only reason to stop early.
    let checker = model.checker().finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
    let (states, steps, depth) = (checker.unique_state_count(), checker.state_count(), checker.max_depth());
    println!("{name}: {states} states, {steps} steps, paths of up to {depth} steps");
    checker.assert_properties();
    assert!(checker.is_done(), "not all was explored");
    states
}

/// Fails unless a model with a wrong rule violates `property`.
pub fn refute<M>(name: &str, model: M, property: &'static str)
where
    M: Model + Send + Sync + 'static,
    M::State: Clone + Debug + Hash + PartialEq + Send + Sync + 'static,
    M::Action: Clone + Debug + PartialEq,
{
    let checker = model.checker().finish_when(HasDiscoveries::AllOf([property].into())).spawn_bfs().join();
    let found = checker.discoveries();
    let told: Vec<&str> = found.keys().copied().collect();
    let Some(path) = found.get(property) else { panic!("{name}: nothing refutes \"{property}\"; found {told:?}") };
    println!("{name}: \"{property}\" is violated by {:?}", path.clone().into_actions());
}
