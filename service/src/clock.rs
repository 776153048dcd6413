//! The real clock and the real entropy, the only place in the workspace that reads either from the system; and a clock that
//! follows another machine's.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
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

/// Another's time: the wall clock of whom everybody goes by (the metadata store's, the ledger's owner's), told now and then
/// and carried on by this machine's monotonic clock. Until it is first told, the machine's own time. Leases, ids and
/// timestamps made by it are right on a machine whose clock is not.
pub struct FollowingClock {
    own: Arc<dyn Clock>,
    /// Milliseconds to add to the monotonic clock's; `i64::MIN` until told.
    base_ms: AtomicI64,
}

impl FollowingClock {
    /// What took longer to come tells the time too badly: the clock may be half of it off.
    pub const BELIEVED: Duration = Duration::from_millis(500);

    /// A clock that goes by `own` until it is told better.
    pub fn new(own: Arc<dyn Clock>) -> Self {
        Self { own, base_ms: AtomicI64::new(i64::MIN) }
    }

    /// It is `now` there. Called with what was said as late as possible: the way here makes it a little old.
    pub fn told(&self, now: Timestamp) {
        self.base_ms.store(now.as_millis().saturating_sub(self.elapsed_ms()), Ordering::Relaxed);
    }

    /// It was `now` there at a moment of the last `took`, which the question and its answer took together: half of that is added. What
    /// took longer than [`Self::BELIEVED`] says little, and is taken only where nothing was told before.
    pub fn told_within(&self, now: Timestamp, took: Duration) {
        if took <= Self::BELIEVED || self.skew_ms().is_none() {
            self.told(now.plus(took / 2));
        }
    }

    /// How far this machine's own clock is ahead of what was told; `None` until told.
    pub fn skew_ms(&self) -> Option<i64> {
        let base = self.base_ms.load(Ordering::Relaxed);
        (base != i64::MIN).then(|| self.own.now().as_millis() - (base + self.elapsed_ms()))
    }

    fn elapsed_ms(&self) -> i64 {
        i64::try_from(self.own.elapsed().as_millis()).unwrap_or(i64::MAX)
    }
}

impl Clock for FollowingClock {
    fn now(&self) -> Timestamp {
        match self.base_ms.load(Ordering::Relaxed) {
            i64::MIN => self.own.now(),
            base => Timestamp::from_millis(base.saturating_add(self.elapsed_ms())),
        }
    }

    fn elapsed(&self) -> Duration {
        self.own.elapsed()
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

    struct Stopped;

    impl Clock for Stopped {
        fn now(&self) -> Timestamp {
            Timestamp::from_millis(7_200_000)
        }

        fn elapsed(&self) -> Duration {
            Duration::from_millis(40)
        }
    }

    #[test]
    fn a_following_clock_goes_by_its_own_time_until_it_is_told_anothers() {
        let clock = FollowingClock::new(Arc::new(Stopped));
        assert_eq!((clock.now().as_millis(), clock.skew_ms()), (7_200_000, None));
        clock.told(Timestamp::from_millis(3_600_000));
        assert_eq!((clock.now().as_millis(), clock.skew_ms()), (3_600_000, Some(3_600_000)));
    }

    #[test]
    fn a_following_clock_adds_half_of_what_the_answer_took_and_believes_a_late_one_only_at_first() {
        let clock = FollowingClock::new(Arc::new(Stopped));
        let told = |at_ms, took_ms| clock.told_within(Timestamp::from_millis(at_ms), Duration::from_millis(took_ms));
        told(1_000_000, 4_000);
        assert_eq!(clock.now().as_millis(), 1_002_000, "better than its own");
        told(2_000_000, 500);
        assert_eq!(clock.now().as_millis(), 2_000_250);
        told(3_000_000, 501);
        assert_eq!(clock.now().as_millis(), 2_000_250);
    }

    #[test]
    fn two_draws_differ() {
        assert_ne!(SystemEntropy.draw(), SystemEntropy.draw());
    }
}
