//! The cluster's time, as replicas tell it with their answers. What took long to come is not believed: a frame may have lain
//! in a buffer while this process was stopped.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use lakefall_queue::Timestamp;
use lakefall_service::FollowingClock;
use tokio::time::Instant;

/// Not set more often than this.
const EVERY: Duration = Duration::from_secs(1);

/// Sets a clock by what replicas tell.
pub(super) struct Told {
    clock: Arc<FollowingClock>,
    last: Mutex<Option<Instant>>,
}

impl Told {
    pub(super) fn new(clock: Arc<FollowingClock>) -> Self {
        Self { clock, last: Mutex::new(None) }
    }

    pub(super) fn clock(&self) -> &Arc<FollowingClock> {
        &self.clock
    }

    /// It was `now` there between the moment that lies `took` back and this one.
    pub(super) fn told(&self, now: Timestamp, took: Duration) {
        if took > FollowingClock::BELIEVED || now == Timestamp::default() {
            return;
        }
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let instant = Instant::now();
        if last.is_none_or(|last| instant.saturating_duration_since(last) >= EVERY) {
            *last = Some(instant);
            self.clock.told(now.plus(took / 2));
        }
    }
}

#[cfg(test)]
mod tests {
    use lakefall_service::system_ambient;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_took_long_to_come_does_not_set_the_clock() {
        let told = Told::new(Arc::new(FollowingClock::new(system_ambient().clock)));
        told.told(Timestamp::from_millis(1_000), Duration::from_secs(30));
        assert_eq!(told.clock().skew_ms(), None);
        told.told(Timestamp::from_millis(1_000), Duration::from_millis(10));
        assert!(told.clock().skew_ms().is_some());
    }
}
