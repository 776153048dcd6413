//! When requests are sent: as fast as answers come (closed loop), or by a schedule that does not care (open loop), where a
//! late request counts from the moment it was due, so that a stall is not hidden by the requests it held back.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use lakefall_queue::clock::Clock;
use lakefall_service::clock::SystemClock;
use tokio::sync::Semaphore;

/// Shortest sleep of the schedule's thread: below it several requests leave together.
const SHORTEST_SLEEP: Duration = Duration::from_micros(100);

/// How much is sent, and when. Shared by all workers.
pub(super) struct Pace {
    clock: SystemClock,
    began: OnceLock<Duration>,
    issued: AtomicU64,
    requests: Option<u64>,
    duration: Option<Duration>,
    schedule: Option<Schedule>,
}

struct Schedule {
    interval: Duration,
    total: u64,
    workers: usize,
    due: Semaphore,
}

impl Pace {
    /// At most `requests`, for at most `duration`; one of them must be given when there is a `rate` (requests per second).
    pub(super) fn new(requests: Option<u64>, duration: Option<Duration>, rate: Option<f64>, workers: usize) -> Self {
        let schedule = rate.map(|rate| {
            let in_time = duration.map_or(u64::MAX, |duration| (duration.as_secs_f64() * rate) as u64);
            let total = requests.unwrap_or(u64::MAX).min(in_time);
            Schedule { interval: Duration::from_secs_f64(1.0 / rate), total, workers, due: Semaphore::new(0) }
        });
        Self { clock: SystemClock::start(), began: OnceLock::new(), issued: AtomicU64::new(0), requests, duration, schedule }
    }

    /// Time on the bench's own clock.
    pub(super) fn now(&self) -> Duration {
        self.clock.elapsed()
    }

    /// The moment from which everything is counted.
    pub(super) fn began(&self) -> Duration {
        *self.began.get_or_init(|| self.now())
    }

    /// Waits for the next request's turn and returns when it was due; `None` when all have been sent.
    pub(super) async fn next(&self) -> Option<Duration> {
        let Some(schedule) = &self.schedule else { return self.next_at_once() };
        schedule.due.acquire().await.ok()?.forget();
        let number = self.issued.fetch_add(1, Ordering::Relaxed);
        (number < schedule.total).then(|| self.began() + due(schedule.interval, number))
    }

    fn next_at_once(&self) -> Option<Duration> {
        let number = self.issued.fetch_add(1, Ordering::Relaxed);
        let now = self.now();
        let in_time = self.duration.is_none_or(|duration| now - self.began().min(now) < duration);
        (in_time && self.requests.is_none_or(|requests| number < requests)).then_some(now)
    }

    /// Releases requests by the schedule until it ends; returns at once when there is none. Blocks its thread: tokio's
    /// timer knows only whole milliseconds, which would be the larger part of what is measured.
    pub(super) fn drive(&self) {
        let Some(schedule) = &self.schedule else { return };
        let began = self.began();
        let mut released = 0;
        while released < schedule.total {
            let elapsed = self.now() - began;
            let ready = (elapsed.as_nanos() / schedule.interval.as_nanos().max(1)) as u64 + 1;
            let ready = ready.min(schedule.total);
            if ready > released {
                schedule.due.add_permits((ready - released) as usize);
                released = ready;
            }
            let wait = due(schedule.interval, released).saturating_sub(self.now() - began);
            std::thread::sleep(wait.max(SHORTEST_SLEEP));
        }
        // One more for each worker, which finds nothing left and ends.
        schedule.due.add_permits(schedule.workers);
    }
}

/// When request `number` is due, from the beginning. Not a product of Durations: those stop at 32 bits.
fn due(interval: Duration, number: u64) -> Duration {
    Duration::from_nanos((interval.as_nanos() as u64).saturating_mul(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_closed_loop_sends_exactly_what_was_asked_for() {
        let pace = Pace::new(Some(3), None, None, 1);
        let mut sent = 0;
        while pace.next().await.is_some() {
            sent += 1;
        }
        assert_eq!(sent, 3);
    }

    #[tokio::test]
    async fn an_open_loop_counts_from_the_moment_a_request_was_due() {
        let pace = Pace::new(Some(4), None, Some(1000.0), 1);
        std::thread::scope(|scope| {
            scope.spawn(|| pace.drive());
        });
        let mut due = Vec::new();
        while let Some(at) = pace.next().await {
            due.push(at - pace.began());
        }
        assert_eq!(due, [0, 1, 2, 3].map(Duration::from_millis));
        assert!(pace.now() - pace.began() >= Duration::from_millis(3));
    }
}
