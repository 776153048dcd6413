//! Bounds the bytes that are moved from and to the store in a second.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

/// Turns for bytes, first come first served.
pub(super) struct Pace {
    line: Mutex<Line>,
    /// Told when the bound is another: who waits has another turn then.
    changed: Notify,
}

/// All bytes that were asked for while there was a bound, one behind the other, and how far they have got.
struct Line {
    /// `None` is no bound.
    bytes_per_second: Option<f64>,
    asked: f64,
    /// Of those, what was through at `since`; the rest follows at the bound.
    through: f64,
    since: Instant,
}

impl Pace {
    pub(super) fn new(bytes_per_second: Option<u64>) -> Self {
        let line = Line { bytes_per_second: bound(bytes_per_second), asked: 0.0, through: 0.0, since: Instant::now() };
        Self { line: Mutex::new(line), changed: Notify::new() }
    }

    /// Holds for what asks from now on and for what waits: what is left of its wait grows or shrinks with the bound.
    fn set(&self, bytes_per_second: Option<u64>) {
        self.line().set(bound(bytes_per_second), Instant::now());
        self.changed.notify_waiters();
    }

    /// Returns when `bytes` may be moved. Dropped before that, they count as if they had been.
    pub(super) async fn take(&self, bytes: u64) {
        let Some(place) = self.line().join(bytes, Instant::now()) else { return };
        loop {
            // Before the look at the turn: told of a change from here on.
            let changed = self.changed.notified();
            let Some(turn) = self.line().turn(place) else { return };
            tokio::select! {
                () = tokio::time::sleep_until(turn) => return,
                () = changed => {}
            }
        }
    }

    fn line(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Line {
    /// The place of `bytes` behind all that asked before; `None` if nobody has to wait.
    fn join(&mut self, bytes: u64, now: Instant) -> Option<f64> {
        self.bytes_per_second?;
        if self.turn(self.asked).is_none_or(|free| free <= now) {
            // Nobody waits, and a quiet time saves nothing up.
            (self.through, self.since) = (self.asked, now);
        }
        let place = self.asked;
        self.asked += bytes as f64;
        Some(place)
    }

    /// When all before `place` is through; `None` if there is no bound.
    fn turn(&self, place: f64) -> Option<Instant> {
        let before = (place - self.through).max(0.0);
        self.bytes_per_second.map(|bound| self.since + Duration::from_secs_f64(before / bound))
    }

    fn set(&mut self, bytes_per_second: Option<f64>, now: Instant) {
        self.through = match self.bytes_per_second {
            Some(bound) => (self.through + (now - self.since).as_secs_f64() * bound).min(self.asked),
            None => self.asked,
        };
        (self.bytes_per_second, self.since) = (bytes_per_second, now);
    }
}

/// 0 is no bound either.
fn bound(bytes_per_second: Option<u64>) -> Option<f64> {
    bytes_per_second.filter(|bound| *bound > 0).map(|bound| bound as f64)
}

/// Exchanges the bound while the compactor works.
#[derive(Clone)]
pub struct Bound(pub(super) Arc<Pace>);

impl Bound {
    /// Bytes read from and written to the store in a second, at most; `None` is no bound. Who waits for a turn is let through
    /// sooner or later than it was to be, as if the bound had always been this one for what is not through.
    pub fn set(&self, bytes_per_second: Option<u64>) {
        self.0.set(bytes_per_second);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn no_more_bytes_go_through_than_the_rate_allows() {
        let (pace, begun) = (Pace::new(Some(1_000)), Instant::now());
        for _ in 0..5 {
            pace.take(500).await;
        }
        // The first one at once, each other behind those before.
        assert_eq!(begun.elapsed(), Duration::from_secs(2));
        Pace::new(None).take(u64::MAX).await;
        assert_eq!(begun.elapsed(), Duration::from_secs(2));
    }

    #[tokio::test(start_paused = true)]
    async fn a_higher_bound_shortens_what_is_left_of_a_wait_and_a_lower_one_lengthens_it() {
        let bound = Bound(Arc::new(Pace::new(Some(1_000))));
        let (pace, begun) = (Arc::clone(&bound.0), Instant::now());
        pace.take(11_000).await;
        let waits = tokio::spawn(async move {
            pace.take(1_000).await;
            begun.elapsed()
        });
        tokio::time::sleep(Duration::from_secs(1)).await;
        // 10,000 bytes are left: one second more at this bound; then 5,000 of them, at a tenth of it.
        bound.set(Some(10_000));
        tokio::time::sleep(Duration::from_millis(500)).await;
        bound.set(Some(1_000));
        assert_eq!(waits.await.unwrap(), Duration::from_millis(6_500));
    }

    #[tokio::test(start_paused = true)]
    async fn another_bound_forgives_no_debt() {
        let bound = Bound(Arc::new(Pace::new(Some(1_000))));
        let (pace, begun) = (&bound.0, Instant::now());
        pace.take(1_000).await;
        for _ in 0..10 {
            bound.set(Some(1_000));
        }
        bound.set(Some(10_000));
        pace.take(10_000).await;
        assert_eq!(begun.elapsed(), Duration::from_millis(100));
        pace.take(1).await;
        assert_eq!(begun.elapsed(), Duration::from_millis(1_100));
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_bound_who_waits_goes_at_once_and_owes_nothing_afterwards() {
        let bound = Bound(Arc::new(Pace::new(Some(1_000))));
        let (pace, begun) = (Arc::clone(&bound.0), Instant::now());
        pace.take(1_000_000).await;
        let waits = tokio::spawn({
            let pace = Arc::clone(&pace);
            async move { pace.take(1_000).await }
        });
        tokio::time::sleep(Duration::from_secs(1)).await;
        bound.set(None);
        waits.await.unwrap();
        pace.take(u64::MAX).await;
        bound.set(Some(1_000));
        pace.take(1_000).await;
        assert_eq!(begun.elapsed(), Duration::from_secs(1));
        pace.take(1_000).await;
        assert_eq!(begun.elapsed(), Duration::from_secs(2));
    }
}
