//! Order between segments: two that hold batches of the same pipelined stream or idempotent producer commit one after the
//! other. All other segments commit as soon as their own upload is done.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lakefall_queue::verbs::OrderToken;
use lakefall_queue::{PartitionIndex, TopicId};
use tokio::sync::{Notify, watch};

use super::Submission;

/// Streams remembered as poisoned; the oldest is forgotten beyond it. A room closes a refused stream by itself: this only
/// covers what it sent before it knew.
const POISONED_CAPACITY: usize = 100_000;

/// Whose batches must keep their order.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum OrderKey {
    /// A pipelined stream: after a refusal nothing more of it is stored.
    Stream(OrderToken),
    /// An idempotent producer: the ledger sees a gap by itself.
    Producer(TopicId, PartitionIndex, Arc<str>),
}

/// The segments under way, as far as they must wait for each other.
#[derive(Default)]
pub(crate) struct Orders {
    state: Mutex<State>,
    /// Told when a segment was settled.
    pub(crate) idle: Notify,
}

#[derive(Default)]
struct State {
    last: HashMap<OrderKey, watch::Receiver<bool>>,
    poisoned: HashSet<OrderToken>,
    poisoned_order: VecDeque<OrderToken>,
}

/// A segment's place in the order.
pub(crate) struct Turns {
    waits: Vec<watch::Receiver<bool>>,
    keys: Vec<OrderKey>,
    done: watch::Sender<bool>,
}

impl Orders {
    /// Takes a segment's place. Called in the order in which segments are closed.
    pub(crate) fn enter(&self, submissions: &[Submission]) -> Turns {
        let (done, seen) = watch::channel(false);
        let mut turns = Turns { waits: Vec::new(), keys: Vec::new(), done };
        let keys: HashSet<&OrderKey> = submissions.iter().filter_map(|s| s.order.as_ref()).collect();
        if keys.is_empty() {
            return turns;
        }
        let mut state = self.lock();
        for key in keys {
            turns.waits.extend(state.last.insert(key.clone(), seen.clone()));
            turns.keys.push(key.clone());
        }
        turns
    }

    /// Lets the segments after this one go on.
    pub(crate) fn leave(&self, turns: Turns) {
        let mine = turns.done.subscribe();
        // Nobody may be waiting.
        let _ = turns.done.send(true);
        let mut state = self.lock();
        for key in &turns.keys {
            if state.last.get(key).is_some_and(|last| last.same_channel(&mine)) {
                state.last.remove(key);
            }
        }
        drop(state);
        self.idle.notify_waiters();
    }

    /// Nothing more of this stream may be stored.
    pub(crate) fn poison(&self, token: OrderToken) {
        let mut state = self.lock();
        if state.poisoned.insert(token) {
            state.poisoned_order.push_back(token);
        }
        if state.poisoned_order.len() > POISONED_CAPACITY
            && let Some(oldest) = state.poisoned_order.pop_front()
        {
            state.poisoned.remove(&oldest);
        }
    }

    pub(crate) fn is_poisoned(&self, token: OrderToken) -> bool {
        self.lock().poisoned.contains(&token)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Turns {
    /// Returns when all segments before this one that it must follow are settled.
    pub(crate) async fn mine(&mut self) {
        for wait in &mut self.waits {
            // An error means that the other segment's task is gone, so it holds nobody up.
            let _ = wait.wait_for(|done| *done).await;
        }
    }
}
