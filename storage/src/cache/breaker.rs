//! When the cache disk is passed by: lookups that take too long cost every reader the deadline, so after a few in a row
//! nobody asks for a while, then one reader tries. Pure.

use std::time::Duration;

use tokio::time::Instant;

/// So many lookups in a row at the deadline, and the disk is passed by.
const TOO_MANY: u32 = 3;
/// For so long.
const PASS_BY: Duration = Duration::from_secs(10);

/// Counts what came too late.
#[derive(Debug, Default)]
pub(super) struct Breaker {
    late: u32,
    until: Option<Instant>,
}

impl Breaker {
    /// Whether to ask the disk. After the pause, the first who asks is the one who tries.
    pub(super) fn allows(&mut self, now: Instant) -> bool {
        match self.until {
            Some(until) if now < until => false,
            Some(_) => {
                self.until = Some(now + PASS_BY);
                true
            }
            None => true,
        }
    }

    /// A lookup came to its deadline. Answers whether the disk is passed by because of it.
    pub(super) fn late(&mut self, now: Instant) -> bool {
        self.late = self.late.saturating_add(1);
        let opens = self.late >= TOO_MANY;
        if opens {
            self.until = Some(now + PASS_BY);
        }
        opens
    }

    /// A lookup was answered in time, with a block or without.
    pub(super) fn answered(&mut self) {
        *self = Self::default();
    }

    pub(super) fn passes_by(&self) -> bool {
        self.until.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn after_some_late_lookups_the_disk_is_passed_by_until_one_is_in_time() {
        let mut breaker = Breaker::default();
        let start = Instant::now();
        assert!(!breaker.late(start) && !breaker.late(start) && breaker.allows(start));
        breaker.answered();
        assert!(!breaker.late(start) && !breaker.late(start), "only those in a row count");
        assert!(breaker.late(start) && breaker.passes_by());
        assert!(!breaker.allows(start + PASS_BY / 2));
        let later = start + PASS_BY;
        assert!(breaker.allows(later) && !breaker.allows(later), "one tries");
        assert!(breaker.late(later) && !breaker.allows(later + PASS_BY / 2), "and it is still too slow");
        let later = later + PASS_BY;
        assert!(breaker.allows(later));
        breaker.answered();
        assert!(breaker.allows(later) && !breaker.passes_by());
    }
}
