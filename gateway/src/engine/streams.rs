//! Whose turn it is within a pipelined stream: its batches are submitted in the order in which their futures were first
//! polled, whatever each has to look up before.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use lakefall_queue::verbs::OrderToken;
use tokio::sync::{Mutex as Turns, OwnedMutexGuard};

/// Streams remembered before those that ended are swept.
const SWEEP_AT: usize = 1_024;

/// The streams in which somebody has or awaits a turn.
#[derive(Default)]
pub(super) struct Streams {
    turns: Mutex<HashMap<OrderToken, Weak<Turns<()>>>>,
}

/// Held from before a batch's first look-up until it is submitted; with `dedup_id`s until it is answered, since the part
/// of it that is not a duplicate is submitted again and must still come before the next batch.
pub(super) type Turn = OwnedMutexGuard<()>;

impl Streams {
    /// Waits for a turn. The place in the queue, which is served first come first, is taken at the first poll.
    pub(super) async fn turn(&self, stream: OrderToken) -> Turn {
        self.of(stream).lock_owned().await
    }

    fn of(&self, stream: OrderToken) -> Arc<Turns<()>> {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = turns.get(&stream).and_then(Weak::upgrade) {
            return known;
        }
        if turns.len() >= SWEEP_AT {
            turns.retain(|_, turns| turns.strong_count() > 0);
        }
        let fresh = Arc::new(Turns::new(()));
        turns.insert(stream, Arc::downgrade(&fresh));
        fresh
    }
}
