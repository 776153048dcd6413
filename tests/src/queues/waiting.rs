//! Receivers that wait, and how soon they are woken after what wakes them. Must never
//! let a test pass because nobody waited.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::json;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::calls::{Message, Queue};

/// What a receiver is given before the test goes on, so that it waits at the server.
const SETTLED: Duration = Duration::from_millis(100);
/// The longest wait.
const WAIT: &str = "20s";

/// How long receivers took to wake, by what woke them.
#[derive(Clone, Debug, Default)]
pub struct Waiting(Arc<Mutex<BTreeMap<&'static str, Vec<Duration>>>>);

/// A receiver that waits.
pub struct Receiver {
    waiting: Waiting,
    got: JoinHandle<(Vec<Message>, Instant)>,
}

impl Waiting {
    /// Lets a receiver wait for one message, of which there must be none.
    pub async fn receiver(&self, queue: &Queue) -> Receiver {
        let queue = queue.clone();
        let got = tokio::spawn(async move {
            let got = queue.receive(json!({"max": 1, "wait": WAIT})).await;
            (got, Instant::now())
        });
        // Nothing tells that it waits: a receiver that is late finds the message at once, which proves less but nothing wrong.
        tokio::time::sleep(SETTLED).await;
        assert!(!got.is_finished(), "there was a message already, or nobody waits");
        Receiver { waiting: self.clone(), got }
    }

    /// Prints the medians; none may be longer than `bound`.
    pub fn judge(&self, test: &str, bound: Duration) {
        for (what, took) in self.0.lock().unwrap().iter_mut() {
            took.sort_unstable();
            let (median, slowest) = (took[took.len() / 2], took[took.len() - 1]);
            println!("{test}: woken by {what} after {median:?} (median of {}), {slowest:?} at most", took.len());
            assert!(median <= bound, "a receiver is woken by {what} after {median:?}");
        }
    }
}

impl Receiver {
    /// The message that wakes it, and how long after `since` it came: for what wakes at once that is when the call was answered,
    /// for what is due later the call's beginning and the delay, so that what is measured is rather too long.
    pub async fn woken(self, by: &'static str, since: Instant) -> Message {
        let (mut got, at) = self.got.await.unwrap();
        assert_eq!(got.len(), 1, "nothing came after {by}");
        let took = at.saturating_duration_since(since);
        self.waiting.0.lock().unwrap().entry(by).or_default().push(took);
        got.remove(0)
    }
}
