//! How many calls clients made.

use std::sync::atomic::{AtomicU64, Ordering};

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
