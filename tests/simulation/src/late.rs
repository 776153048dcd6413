//! What is on its way to the database. What was sent is the server's to do, whatever becomes of who sent it: it may have given up,
//! be stopped, or be gone. Must never do anything before its time, nor let anything overtake what has arrived.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;

use crate::lock;

/// Transactions on their way.
#[derive(Default)]
pub struct Late(Mutex<State>);

#[derive(Default)]
struct State {
    /// By when they arrive, and in the order in which they were sent.
    coming: BTreeMap<(Duration, u64), BoxFuture<'static, ()>>,
    sent: u64,
}

impl Late {
    /// A transaction that arrives at this time.
    pub fn send(&self, at: Duration, transaction: impl Future<Output = ()> + Send + 'static) {
        let mut state = lock(&self.0);
        state.sent += 1;
        let place = (at, state.sent);
        state.coming.insert(place, transaction.boxed());
    }

    /// Does what has arrived by now. Asked whenever somebody is about to look into the database or to change it: nobody can tell then
    /// that it was not done at its moment.
    pub fn arrive(&self, now: Duration) {
        while let Some(transaction) = self.next(now) {
            transaction.now_or_never().expect("a store in memory answers at once");
        }
    }

    fn next(&self, now: Duration) -> Option<BoxFuture<'static, ()>> {
        let mut state = lock(&self.0);
        let (at, number) = *state.coming.keys().next()?;
        if at <= now { state.coming.remove(&(at, number)) } else { None }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn what_was_sent_is_done_when_it_arrives_once_and_in_the_order_of_sending() {
        let (late, done) = (Late::default(), Arc::new(Mutex::new(Vec::new())));
        for (at_ms, what) in [(20, "third"), (10, "first"), (10, "second")] {
            let done = Arc::clone(&done);
            late.send(Duration::from_millis(at_ms), async move {
                lock(&done).push(what);
            });
        }
        late.arrive(Duration::from_millis(9));
        assert!(lock(&done).is_empty());
        late.arrive(Duration::from_millis(10));
        assert_eq!(*lock(&done), ["first", "second"]);
        for _ in 0..2 {
            late.arrive(Duration::from_secs(1));
            assert_eq!(*lock(&done), ["first", "second", "third"]);
        }
    }
}
