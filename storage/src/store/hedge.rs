//! Reads asked twice when the first answer is late. The delay follows what reads took lately, so that few are asked
//! twice; a budget sees to it that they stay few when everything is slow. It must never hedge a write.

use std::pin::pin;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures::future::{Either, select};
use metrics::counter;
use tokio::time::Instant;

use super::StoreError;
use super::budget::Budget;
use super::error::Ended;
use crate::metrics::STORE_HEDGES;

/// Not before this: below it a second request costs more than it could win.
const SOONEST: Duration = Duration::from_millis(20);
/// Not after this, however slow reads were; also the delay until some reads were measured.
const LATEST: Duration = Duration::from_secs(1);
/// So many measurements tell what is usual.
const ENOUGH: usize = 16;
const KEPT: usize = 128;
/// Reads up to this many bytes are compared among themselves, larger ones among themselves.
const SMALL: u64 = 2 << 20;
/// Second requests that a quiet time saves up.
const BURST: u32 = 4;

/// Decides when a read is late.
#[derive(Debug)]
pub(super) struct Hedge {
    budget: Option<Mutex<Budget>>,
    small: Mutex<Latencies>,
    large: Mutex<Latencies>,
}

impl Hedge {
    pub(super) fn new(percent: u8) -> Self {
        let percent = percent.min(50);
        let budget = (percent > 0).then(|| Mutex::new(Budget::new(BURST, u64::from(percent) * 10)));
        Self { budget, small: Mutex::default(), large: Mutex::default() }
    }

    /// Reads some `bytes`, twice if the first answer is late. What loses is dropped, which closes its connection.
    pub(super) async fn read<T, F>(&self, bytes: u64, send: impl Fn() -> F) -> Result<T, Ended>
    where
        F: Future<Output = Result<T, Ended>>,
    {
        let Some(budget) = &self.budget else { return send().await };
        let usual = if bytes <= SMALL { &self.small } else { &self.large };
        lock(budget).deposit();
        let started = Instant::now();
        let delay = lock(usual).late_after();
        let answer = race(delay, || lock(budget).withdraw(), send).await;
        if answer.is_ok() {
            lock(usual).took(started.elapsed());
        }
        answer
    }
}

async fn race<T, F>(delay: Duration, may: impl FnOnce() -> bool, send: impl Fn() -> F) -> Result<T, Ended>
where
    F: Future<Output = Result<T, Ended>>,
{
    let first = pin!(send());
    let late = pin!(tokio::time::sleep(delay));
    let first = match select(first, late).await {
        Either::Left((answer, _)) => return answer,
        Either::Right(((), first)) => first,
    };
    if !may() {
        counter!(STORE_HEDGES, "outcome" => "refused").increment(1);
        return first.await;
    }
    counter!(STORE_HEDGES, "outcome" => "sent").increment(1);
    let second = pin!(send());
    match select(first, second).await {
        Either::Left((answer, second)) => {
            if settles(&answer) {
                answer
            } else {
                second.await.or(answer)
            }
        }
        Either::Right((answer, first)) => {
            if settles(&answer) {
                counter!(STORE_HEDGES, "outcome" => "won").increment(1);
                answer
            } else {
                first.await
            }
        }
    }
}

/// Whether the service has answered: only a broken request leaves something to wait for.
fn settles<T>(answer: &Result<T, Ended>) -> bool {
    !matches!(answer, Err(Ended { error: StoreError::Unavailable { .. }, .. }))
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What the last reads took.
#[derive(Debug, Default)]
struct Latencies {
    kept: Vec<Duration>,
    next: usize,
}

impl Latencies {
    fn took(&mut self, latency: Duration) {
        if self.kept.len() < KEPT {
            self.kept.push(latency);
        } else {
            self.kept[self.next] = latency;
            self.next = (self.next + 1) % KEPT;
        }
    }

    /// The 95th percentile, within bounds.
    fn late_after(&self) -> Duration {
        if self.kept.len() < ENOUGH {
            return LATEST;
        }
        let mut sorted = self.kept.clone();
        let rank = sorted.len() * 95 / 100;
        let (_, usual, _) = sorted.select_nth_unstable(rank);
        (*usual).clamp(SOONEST, LATEST)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    fn broken() -> Ended {
        StoreError::Unavailable { reason: "cut".to_owned() }.into()
    }

    #[test]
    fn late_is_what_one_in_twenty_is_within_bounds() {
        let mut latencies = Latencies::default();
        assert_eq!(latencies.late_after(), LATEST);
        (1..=100).for_each(|n| latencies.took(Duration::from_millis(n)));
        assert_eq!(latencies.late_after(), Duration::from_millis(96));
        (0..KEPT).for_each(|_| latencies.took(Duration::from_millis(1)));
        assert_eq!(latencies.late_after(), SOONEST, "what is old is forgotten");
        (0..KEPT).for_each(|_| latencies.took(Duration::from_secs(9)));
        assert_eq!(latencies.late_after(), LATEST);
    }

    /// Reads whose first request hangs, and whether the others do.
    async fn stalls(hedge: &Hedge, all: bool) -> (Result<usize, StoreError>, usize) {
        let sent = AtomicUsize::new(0);
        let answer = hedge
            .read(1, || async {
                let number = sent.fetch_add(1, Ordering::SeqCst);
                let takes = if number == 0 || all { Duration::from_secs(30) } else { Duration::from_millis(5) };
                tokio::time::sleep(takes).await;
                Ok(number)
            })
            .await;
        (answer.map_err(|ended| ended.error), sent.into_inner())
    }

    #[tokio::test(start_paused = true)]
    async fn a_late_read_is_asked_twice_and_the_first_answer_wins() {
        let started = Instant::now();
        assert_eq!(stalls(&Hedge::new(5), false).await, (Ok(1), 2));
        assert!(started.elapsed() < LATEST * 2);
        assert_eq!(stalls(&Hedge::new(0), false).await, (Ok(0), 1), "turned off");
    }

    #[tokio::test(start_paused = true)]
    async fn when_everything_is_slow_only_the_budget_is_asked_twice() {
        let hedge = Hedge::new(5);
        let mut sent = 0;
        for _ in 0..200 {
            sent += stalls(&hedge, true).await.1;
        }
        let most = 200 + BURST as usize + 200 * 5 / 100;
        assert!((205..=most).contains(&sent), "{sent} requests for 200 reads, at most {most}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_broken_request_leaves_the_other_one_to_win() {
        for first_breaks in [true, false] {
            let sent = AtomicUsize::new(0);
            let hedge = Hedge::new(5);
            let answer = hedge.read(1, || async {
                let first = sent.fetch_add(1, Ordering::SeqCst) == 0;
                let takes = Duration::from_millis(if first == first_breaks { 1_100 } else { 2_500 });
                tokio::time::sleep(takes).await;
                if first == first_breaks { Err(broken()) } else { Ok(()) }
            });
            assert!(answer.await.is_ok(), "first breaks: {first_breaks}");
        }
    }
}
