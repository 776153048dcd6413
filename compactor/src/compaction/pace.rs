//! Bounds the bytes that are moved from and to the store in a second.

use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;

/// Turns for bytes, first come first served.
pub(super) struct Pace {
    bytes_per_second: Option<u64>,
    /// When what was let through so far is through.
    next: Mutex<Option<Instant>>,
}

impl Pace {
    pub(super) fn new(bytes_per_second: Option<u64>) -> Self {
        Self { bytes_per_second, next: Mutex::new(None) }
    }

    /// Returns when `bytes` may be moved.
    pub(super) async fn take(&self, bytes: u64) {
        let Some(rate) = self.bytes_per_second.filter(|rate| *rate > 0) else { return };
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
}
