//! Equal questions at the same time are asked once. Nobody gets an answer that is older than their question: who comes
//! while one is on the way shares the next, which begins when that one is back. So a herd costs two asks.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use futures::FutureExt;
use futures::future::{BoxFuture, Shared};

/// Questions by what makes them equal, and the answers on their way.
pub(super) struct Flights<K, T> {
    last: Mutex<HashMap<K, Arc<Flight<T>>>>,
}

struct Flight<T> {
    /// Past this, nobody may join.
    started: Arc<AtomicBool>,
    landing: Shared<BoxFuture<'static, T>>,
}

impl<K: Hash + Eq + Clone + Send + 'static, T: Clone + Send + Sync + 'static> Flights<K, T> {
    pub(super) fn new() -> Self {
        Self { last: Mutex::new(HashMap::new()) }
    }

    /// The answer to a question equal to `key`, by `ask` or by another's. The flag tells whether it was another's.
    pub(super) async fn share(self: &Arc<Self>, key: K, ask: impl FnOnce() -> BoxFuture<'static, T>) -> (T, bool) {
        let (flight, joined) = self.join_or_start(&key, ask);
        let landing = Landing { flights: self, key, flight };
        (landing.flight.landing.clone().await, joined)
    }

    fn join_or_start(&self, key: &K, ask: impl FnOnce() -> BoxFuture<'static, T>) -> (Arc<Flight<T>>, bool) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let before = last.get(key).filter(|flight| flight.landing.peek().is_none());
        if let Some(waiting) = before.filter(|flight| !flight.started.load(Ordering::SeqCst)) {
            return (Arc::clone(waiting), true);
        }
        let before = before.map(|flight| flight.landing.clone());
        let started = Arc::new(AtomicBool::new(false));
        let starts = Arc::clone(&started);
        let asked = ask();
        let landing = async move {
            if let Some(before) = before {
                before.await;
            }
            // Whoever joined before this, asked before this.
            starts.store(true, Ordering::SeqCst);
            asked.await
        };
        let flight = Arc::new(Flight { started, landing: landing.boxed().shared() });
        last.insert(key.clone(), Arc::clone(&flight));
        (flight, false)
    }
}

/// Forgets a flight when the last passenger leaves it, landed or not.
struct Landing<'a, K: Hash + Eq, T> {
    flights: &'a Flights<K, T>,
    key: K,
    flight: Arc<Flight<T>>,
}

impl<K: Hash + Eq, T> Drop for Landing<'_, K, T> {
    fn drop(&mut self) {
        let mut last = self.flights.last.lock().unwrap_or_else(PoisonError::into_inner);
        // The map's and this one.
        if last.get(&self.key).is_some_and(|known| Arc::ptr_eq(known, &self.flight) && Arc::strong_count(known) == 2) {
            last.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use tokio::sync::Notify;

    use super::*;

    /// Answers with how many asked before it, when it is let go.
    fn asker(asked: &Arc<AtomicUsize>, go: &Arc<Notify>) -> impl FnOnce() -> BoxFuture<'static, usize> + use<> {
        let (asked, go) = (Arc::clone(asked), Arc::clone(go));
        move || {
            Box::pin(async move {
                let number = asked.fetch_add(1, Ordering::SeqCst);
                go.notified().await;
                number
            })
        }
    }

    #[tokio::test]
    async fn who_comes_while_one_is_on_the_way_shares_the_next_and_never_gets_an_older_answer() {
        let flights = Arc::new(Flights::new());
        let (asked, go) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
        let mut first = Box::pin(flights.share("k", asker(&asked, &go)));
        assert!(futures::poll!(&mut first).is_pending());
        let mut herd: Vec<_> = (0..100).map(|_| Box::pin(flights.share("k", asker(&asked, &go)))).collect();
        for one in &mut herd {
            assert!(futures::poll!(one).is_pending());
        }
        let mut other = Box::pin(flights.share("other", asker(&asked, &go)));
        assert!(futures::poll!(&mut other).is_pending());
        assert_eq!(asked.load(Ordering::SeqCst), 2, "another question is not held up");
        go.notify_waiters();
        assert_eq!((first.await, other.await), ((0, false), (1, false)));
        for one in &mut herd {
            assert!(futures::poll!(one).is_pending());
        }
        go.notify_waiters();
        for (index, one) in herd.into_iter().enumerate() {
            assert_eq!(one.await, (2, index > 0));
        }
        assert!(flights.last.lock().unwrap().is_empty(), "nothing is left behind");
    }

    #[tokio::test]
    async fn a_passenger_that_leaves_does_not_end_the_flight() {
        let flights = Arc::new(Flights::new());
        let (asked, go) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
        let mut first = Box::pin(flights.share("k", asker(&asked, &go)));
        assert!(futures::poll!(&mut first).is_pending());
        let mut second = Box::pin(flights.share("k", asker(&asked, &go)));
        assert!(futures::poll!(&mut second).is_pending());
        drop(first);
        go.notify_waiters();
        assert!(futures::poll!(&mut second).is_pending(), "the first is flown to its end by the second, which then begins");
        go.notify_waiters();
        assert_eq!(second.await, (1, false));
        let dropped = flights.share("k", asker(&asked, &go));
        drop(dropped);
        assert!(flights.last.lock().unwrap().is_empty());
    }
}
