//! Bounds the bytes that are moved from and to the store in a second.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;

/// Turns for bytes, first come first served.
pub(super) struct Pace {
    /// 0 is no bound.
    bytes_per_second: AtomicU64,
    /// When what was let through so far is through.
    next: Mutex<Option<Instant>>,
}

impl Pace {
    pub(super) fn new(bytes_per_second: Option<u64>) -> Self {
        Self { bytes_per_second: AtomicU64::new(bytes_per_second.unwrap_or(0)), next: Mutex::new(None) }
    }

    /// Holds for what asks from now on.
    fn set(&self, bytes_per_second: Option<u64>) {
        self.bytes_per_second.store(bytes_per_second.unwrap_or(0), Ordering::Relaxed);
    }

    /// Returns when `bytes` may be moved.
    pub(super) async fn take(&self, bytes: u64) {
        let rate = self.bytes_per_second.load(Ordering::Relaxed);
        if rate == 0 {
            return;
        }
        let turn = {
            let mut next = self.next.lock().await;
            let now = Instant::now();
            let turn = next.map_or(now, |next| next.max(now));
            *next = Some(turn + Duration::from_secs_f64(bytes as f64 / rate as f64));
            turn
        };
        tokio::time::sleep_until(turn).await;
    }
}

/// Exchanges the bound while the compactor works.
#[derive(Clone)]
pub struct Bound(pub(super) Arc<Pace>);

impl Bound {
    /// Bytes read from and written to the store in a second, at most; `None` is no bound.
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
    async fn another_rate_holds_for_what_asks_afterwards() {
        let bound = Bound(Arc::new(Pace::new(Some(1_000))));
        let (pace, begun) = (&bound.0, Instant::now());
        pace.take(1_000).await;
        bound.set(Some(10_000));
        pace.take(10_000).await;
        assert_eq!(begun.elapsed(), Duration::from_secs(1));
        bound.set(None);
        pace.take(u64::MAX).await;
        assert_eq!(begun.elapsed(), Duration::from_secs(1));
    }
}
