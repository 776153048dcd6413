//! How many calls clients made, and when all is well: a run in which little succeeds then proves little.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::plan::{HEAL, STORM};

/// How long after the last fault things may still go wrong.
const SETTLED: Duration = Duration::from_secs(12);
/// Before, the cluster starts.
const STARTED: Duration = Duration::from_secs(5);

/// Whether all is well at this time.
pub fn is_calm(at: Duration) -> bool {
    (STARTED..STORM).contains(&at) || at > HEAL + SETTLED
}

/// Counts calls.
#[derive(Debug, Default)]
pub struct Tally(AtomicU64);

impl Tally {
    /// One more call has ended.
    pub fn count(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// All calls.
    pub fn calls(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
