//! The whole system in one process: gateways, metadata replicas, compactors and clients on a simulated network, over simulated
//! stores, in simulated time. One seed decides everything, faults included, and the same seed runs the same way twice.
//!
//! Hosts run the code of production: HTTP, RPC, engine, ledger, compaction. What is simulated is what lies outside of it: time
//! and randomness ([`time`]), the network ([`net`]), the object store ([`objects`]) and the database ([`metadata`]).
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::large_futures,
    reason = "only tests use it: a run fails where it stands, and tells what it saw"
)]

pub mod conductor;
pub mod dice;
pub mod effects;
pub mod fault;
pub mod guards;
pub mod hosts;
pub mod http;
pub mod late;
pub mod length;
pub mod log;
pub mod metadata;
pub mod net;
pub mod objects;
pub mod plan;
pub mod queue;
pub mod report;
pub mod run;
pub mod seeds;
pub mod small;
pub mod stream;
pub mod tally;
pub mod time;
pub mod trace;
pub mod waking;
pub mod weather;
pub mod whitebox;
pub mod world;

use std::sync::{Mutex, MutexGuard, PoisonError};

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}
