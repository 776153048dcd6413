//! How calls went while all was well: a run in which little succeeds then proves little.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::http::Outcome;
use crate::plan::{HEAL, STORM};
use crate::time;

/// How long after the last fault things may still go wrong.
const SETTLED: Duration = Duration::from_secs(12);
/// Calls that begin before are made while the cluster starts.
const STARTED: Duration = Duration::from_secs(5);

/// Whether all is well at this time.
pub fn is_calm(at: Duration) -> bool {
    (STARTED..STORM).contains(&at) || at > HEAL + SETTLED
}

/// Counts calls.
#[derive(Debug, Default)]
pub struct Tally {
    calls: AtomicU64,
    calm: AtomicU64,
    calm_ok: AtomicU64,
}

impl Tally {
    /// One more call has ended.
    pub fn count<T>(&self, outcome: &Outcome<T>) {
        self.calls.fetch_add(1, Ordering::Relaxed);
        if is_calm(time::elapsed()) {
            self.calm.fetch_add(1, Ordering::Relaxed);
            self.calm_ok.fetch_add(u64::from(matches!(outcome, Outcome::Ok(_))), Ordering::Relaxed);
        }
    }

    /// All calls.
    pub fn calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }

    /// Calls while all was well, and how many of them succeeded.
    pub fn calm(&self) -> (u64, u64) {
        (self.calm.load(Ordering::Relaxed), self.calm_ok.load(Ordering::Relaxed))
    }
}
