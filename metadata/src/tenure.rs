//! How long an owner may be sure of its lease. It never trusts a clock that another machine can read: the time runs on this
//! machine's monotonic clock, from before the lease was asked for, and ends a tenth early.

use std::sync::Arc;
use std::time::Duration;

use lakefall_queue::clock::Clock;
use tokio::sync::watch;

/// Taken off a lease, against clocks that do not run at the same speed: one part in so many.
const MARGIN: u32 = 10;

/// The time until which a lease certainly lasts. Prolonged by whoever renews it, looked at by whoever answers.
pub(crate) struct Tenure {
    clock: Arc<dyn Clock>,
    /// By the monotonic clock; `None`: it does not end.
    until: watch::Sender<Option<Duration>>,
}

impl Tenure {
    /// Of a lease that lasts so long from `asked` on; `None`: as long as the store is open.
    pub(crate) fn new(clock: Arc<dyn Clock>, asked: Duration, lease: Option<Duration>) -> Self {
        Self { clock, until: watch::channel(lease.map(|lease| end(asked, lease))).0 }
    }

    /// The lease was renewed by a request sent at `asked`. A renewal never shortens it, and does not bring back what is lost.
    pub(crate) fn renewed(&self, asked: Duration, lease: Duration) {
        self.until.send_if_modified(|until| match until {
            Some(known) if *known != Duration::ZERO && end(asked, lease) > *known => {
                *known = end(asked, lease);
                true
            }
            _ => false,
        });
    }

    /// The store said that the lease is another's, or nobody's.
    pub(crate) fn lost(&self) {
        self.until.send_replace(Some(Duration::ZERO));
    }

    /// Whether the lease lasts at this moment. What was read before a `true` was read under the lease.
    pub(crate) fn certain(&self) -> bool {
        self.until.borrow().is_none_or(|until| self.clock.elapsed() < until)
    }

    /// How long it is certain from now on, if it ends.
    pub(crate) fn left(&self) -> Option<Duration> {
        self.until.borrow().map(|until| until.saturating_sub(self.clock.elapsed()))
    }

    /// Returns when the lease is no longer certain.
    pub(crate) async fn over(&self) {
        let mut changes = self.until.subscribe();
        loop {
            let until = *changes.borrow_and_update();
            let left = until.map(|until| until.saturating_sub(self.clock.elapsed()));
            if left.is_some_and(|left| left.is_zero()) {
                return;
            }
            let ends = async {
                match left {
                    Some(left) => tokio::time::sleep(left).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = ends => {}
                // The sender is a part of this.
                _ = changes.changed() => {}
            }
        }
    }
}

fn end(asked: Duration, lease: Duration) -> Duration {
    asked + lease - lease / MARGIN
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use lakefall_queue::Timestamp;

    use super::*;

    #[derive(Default)]
    struct Seconds(AtomicU64);

    impl Clock for Seconds {
        fn now(&self) -> Timestamp {
            Timestamp::default()
        }

        fn elapsed(&self) -> Duration {
            Duration::from_secs(self.0.load(Ordering::SeqCst))
        }
    }

    #[test]
    fn a_lease_is_certain_until_a_tenth_before_its_end_and_as_long_as_it_is_renewed() {
        let clock = Arc::new(Seconds::default());
        let tenure = Tenure::new(Arc::clone(&clock) as _, Duration::from_secs(5), Some(Duration::from_secs(10)));
        clock.0.store(13, Ordering::SeqCst);
        assert!(tenure.certain());
        clock.0.store(14, Ordering::SeqCst);
        assert!(!tenure.certain());
        tenure.renewed(Duration::from_secs(12), Duration::from_secs(10));
        assert_eq!(tenure.left(), Some(Duration::from_secs(7)));
        tenure.renewed(Duration::from_secs(11), Duration::from_secs(10));
        assert_eq!(tenure.left(), Some(Duration::from_secs(7)), "an older answer does not shorten it");
    }

    #[test]
    fn a_lost_lease_does_not_come_back() {
        let tenure = Tenure::new(Arc::new(Seconds::default()), Duration::ZERO, Some(Duration::from_secs(10)));
        tenure.lost();
        tenure.renewed(Duration::ZERO, Duration::from_secs(10));
        assert!(!tenure.certain());
    }

    #[tokio::test(start_paused = true)]
    async fn a_lease_without_an_end_is_never_over() {
        let tenure = Tenure::new(Arc::new(Seconds::default()), Duration::ZERO, None);
        assert!(tokio::time::timeout(Duration::from_secs(1_000_000), tenure.over()).await.is_err());
        assert!(tenure.certain());
    }
}
