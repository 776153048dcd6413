//! Random choices, all from one seed. Who chooses gets dice of its own, so that one who throws more often changes nothing for
//! the others.

use std::time::Duration;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Random numbers from a seed.
#[derive(Clone, Debug)]
pub struct Dice(ChaCha8Rng);

impl Dice {
    /// The same choices for the same seed and name.
    pub fn new(seed: u64, name: &str) -> Self {
        Self(ChaCha8Rng::seed_from_u64(xxh3_64_with_seed(name.as_bytes(), seed)))
    }

    /// Any number.
    pub fn any(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// A number from `low` to `high`, both included.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.0.next_u64() % (high - low + 1)
    }

    /// True once in `n` times.
    pub fn one_in(&mut self, n: u64) -> bool {
        self.between(1, n) == 1
    }

    /// True in so many of 10,000 cases.
    pub fn in_ten_thousand(&mut self, cases: u32) -> bool {
        self.between(0, 9_999) < u64::from(cases)
    }

    /// A time from `low` to `high`, in whole milliseconds.
    pub fn time(&mut self, low: Duration, high: Duration) -> Duration {
        Duration::from_millis(self.between(low.as_millis() as u64, high.as_millis() as u64))
    }

    /// A time up to `high`, in whole milliseconds, whose order of magnitude is drawn first: a few milliseconds are as likely as a few
    /// seconds.
    pub fn time_of_any_size(&mut self, high: Duration) -> Duration {
        let high = (high.as_millis() as u64).max(1);
        let halvings = self.between(0, u64::from(high.ilog2()));
        Duration::from_millis(self.between(1, high >> halvings))
    }

    /// One of several.
    pub fn pick<'t, T>(&mut self, of: &'t [T]) -> &'t T {
        &of[self.between(0, of.len() as u64 - 1) as usize]
    }
}
