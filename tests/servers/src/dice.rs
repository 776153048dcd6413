//! Random choices of the proxies, the same for the same seed. Must never be drawn from for anything but harm.

use std::sync::Mutex;
use std::time::Duration;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// Random numbers from a seed.
#[derive(Debug)]
pub(crate) struct Dice(Mutex<ChaCha8Rng>);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(Mutex::new(ChaCha8Rng::seed_from_u64(seed)))
    }

    /// A number below `end`; 0 if that is 0.
    pub(crate) fn below(&self, end: u64) -> u64 {
        self.0.lock().unwrap().next_u64().checked_rem(end).unwrap_or_default()
    }

    /// True with a probability.
    pub(crate) fn chance(&self, probability: f64) -> bool {
        (self.below(1 << 53) as f64) < probability * (1_u64 << 53) as f64
    }

    /// From nothing to `longest`.
    pub(crate) fn pause(&self, longest: Duration) -> Duration {
        Duration::from_nanos(self.below(u64::try_from(longest.as_nanos()).unwrap() + 1))
    }
}
