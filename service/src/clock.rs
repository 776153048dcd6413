//! The real clock and the real entropy. The only place in the workspace that reads either from the system.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use lakefall_queue::Timestamp;
use lakefall_queue::clock::{Ambient, Clock, Entropy};
use rand::Rng;

/// The system's clock and entropy, as every role is given them.
pub fn system_ambient() -> Ambient {
    Ambient { clock: Arc::new(SystemClock::start()), entropy: Arc::new(SystemEntropy) }
}

/// Wall time from the system, elapsed time from its monotonic clock.
#[derive(Debug)]
pub struct SystemClock {
    started: Instant,
}

impl SystemClock {
    /// A clock whose elapsed time starts now.
    #[allow(clippy::disallowed_methods, reason = "this is the clock that everyone else is given")]
    pub fn start() -> Self {
        Self { started: Instant::now() }
    }
}

impl Clock for SystemClock {
    #[allow(clippy::disallowed_methods, reason = "this is the clock that everyone else is given")]
    fn now(&self) -> Timestamp {
        let millis = match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(since) => i64::try_from(since.as_millis()).unwrap_or(i64::MAX),
            // A clock set before 1970: time stands still at the epoch rather than going wild.
            Err(_) => 0,
        };
        Timestamp::from_millis(millis)
    }

    fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }
}

/// A cryptographic generator per thread, seeded and reseeded by the operating system: no lock, no system call per draw.
#[derive(Debug)]
pub struct SystemEntropy;

impl Entropy for SystemEntropy {
    #[allow(clippy::disallowed_methods, reason = "this is the entropy that everyone else is given")]
    fn draw(&self) -> u128 {
        let mut bytes = [0; 16];
        rand::rng().fill_bytes(&mut bytes);
        u128::from_le_bytes(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elapsed_time_never_goes_back_and_the_date_is_of_this_century() {
        let clock = SystemClock::start();
        let readings: Vec<_> = (0..100).map(|_| clock.elapsed()).collect();
        assert!(readings.is_sorted());
        assert!(clock.now().as_millis() > 1_700_000_000_000);
    }

    #[test]
    fn two_draws_differ() {
        assert_ne!(SystemEntropy.draw(), SystemEntropy.draw());
    }
}
