//! Random choices of a test, from a seed that is printed and can be given again.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// Random numbers from a seed.
#[derive(Clone, Debug)]
pub struct Dice(ChaCha8Rng);

impl Dice {
    /// The same choices for the same seed.
    pub fn new(seed: u64) -> Self {
        Self(ChaCha8Rng::seed_from_u64(seed))
    }

    /// A number from `low` to `high`, both included.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.0.next_u64() % (high - low + 1)
    }

    /// True once in `n` times.
    pub fn one_in(&mut self, n: u64) -> bool {
        self.between(1, n) == 1
    }
}

/// The seed in `LAKEFALL_TEST_SEED`, or a fresh one; printed, so that a failure can be repeated.
pub fn seed(test: &str) -> u64 {
    // The hasher's random keys are the standard library's only source of randomness.
    given_or(test, || RandomState::new().hash_one(test) % 1_000_000_000)
}

/// The seed in `LAKEFALL_TEST_SEED`, or always the same: for a long run that must tell of a change, not of a new seed.
pub fn seed_or(test: &str, usual: u64) -> u64 {
    given_or(test, || usual)
}

fn given_or(test: &str, otherwise: impl FnOnce() -> u64) -> u64 {
    let given = std::env::var("LAKEFALL_TEST_SEED").ok().map(|text| text.parse().expect("LAKEFALL_TEST_SEED is a number"));
    let seed = given.unwrap_or_else(otherwise);
    println!("{test}: LAKEFALL_TEST_SEED={seed}");
    seed
}

/// How often a test does what it does: `LAKEFALL_TEST_ROUNDS`, or what is enough for each run.
pub fn rounds(usual: usize) -> usize {
    std::env::var("LAKEFALL_TEST_ROUNDS").ok().map_or(usual, |text| text.parse().expect("LAKEFALL_TEST_ROUNDS is a number"))
}

/// How long an outage of a test lasts: `LAKEFALL_TEST_OUTAGE_SECONDS`, or what is enough for each run.
pub fn outage(usual: Duration) -> Duration {
    let given = std::env::var("LAKEFALL_TEST_OUTAGE_SECONDS").ok();
    given.map_or(usual, |text| Duration::from_secs(text.parse().expect("LAKEFALL_TEST_OUTAGE_SECONDS is a number")))
}
