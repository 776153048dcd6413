//! A client as the manual wants one: it comes again when a 503 says when, or when nobody took its connection, and forgives nothing
//! else. What it met beside is kept, for a test to fail on. Must never repeat what may have happened.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use reqwest::header::RETRY_AFTER;

use crate::Answer;

/// Who is sent away for so long altogether is not served.
const LONGEST: Duration = Duration::from_secs(60);
/// Before a client tries again to connect: a Service has other pods.
const RECONNECT: Duration = Duration::from_millis(50);

/// What well-behaved clients saw, all together.
#[derive(Debug, Default)]
pub struct Manners {
    /// Answers that were taken.
    pub answered: AtomicU64,
    /// 503 with `Retry-After`.
    pub told_to_wait: AtomicU64,
    /// Connections that nobody took.
    pub unreachable: AtomicU64,
    faults: Mutex<Vec<String>>,
}

impl Manners {
    /// How long to wait before the same request is sent again; `None` if it is not, be it answered or failed.
    pub(crate) fn pause(&self, sent: &Result<Answer, reqwest::Error>, since: Duration) -> Option<Duration> {
        let (pause, count) = match sent {
            Ok(answer) if answer.status == 503 => match retry_after(answer) {
                Some(pause) => (pause, &self.told_to_wait),
                None => return self.fault(format!("503 without Retry-After: {}", answer.text())),
            },
            Ok(answer) if answer.status >= 500 => return self.fault(format!("{}: {}", answer.status, answer.text())),
            Ok(_) => {
                self.answered.fetch_add(1, Ordering::Relaxed);
                return None;
            }
            Err(error) if error.is_connect() => (RECONNECT, &self.unreachable),
            Err(error) => return self.fault(format!("{error:?}")),
        };
        if since > LONGEST {
            return self.fault(format!("sent away for {since:?}: {sent:?}"));
        }
        count.fetch_add(1, Ordering::Relaxed);
        Some(pause)
    }

    fn fault(&self, what: String) -> Option<Duration> {
        self.faults.lock().unwrap().push(what);
        None
    }

    /// What it does not forgive.
    pub fn faults(&self) -> Vec<String> {
        self.faults.lock().unwrap().clone()
    }

    /// Fails if there was anything.
    pub fn assert_unharmed(&self, test: &str) {
        let count = |of: &AtomicU64| of.load(Ordering::Relaxed);
        let (answered, waited, unreachable) = (count(&self.answered), count(&self.told_to_wait), count(&self.unreachable));
        println!("{test}: {answered} requests answered, {waited} times told to wait, {unreachable} connections not taken");
        let faults = self.faults();
        assert!(
            faults.is_empty(),
            "{} requests failed, of {answered} and more:\n{}",
            faults.len(),
            faults[..faults.len().min(10)].join("\n")
        );
        assert!(answered > 100, "only {answered} requests were answered: that proves nothing");
    }
}

/// In whole seconds, as this server tells it (RFC 9110, section 10.2.3).
fn retry_after(answer: &Answer) -> Option<Duration> {
    answer.headers.get(RETRY_AFTER)?.to_str().ok()?.parse().ok().map(Duration::from_secs)
}
