//! How much memory the answers to readers may take, all together. Readers wait for their turn, first come first served; a
//! large answer takes more only while there is plenty, and is cut short otherwise.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lakefall_queue::StoredRecord;
use lakefall_queue::error::{Error, Result};
use tokio::sync::oneshot;

/// What an answer takes at first, in bytes: from the least, which covers a batch of small records, to the most. What a batch
/// holds is known only when it was decoded.
const FIRST: (usize, usize) = (256 << 10, 1 << 20);
/// What an answer takes when it grows, so that it does not ask for each record.
const STEP: usize = 256 << 10;
/// Text and JSON take this much more room than their compressed bytes.
const RATIO: usize = 8;
/// How long a reader waits for its turn. A client that takes nothing is cut off in this time, and gives its room back.
const TURN: Duration = Duration::from_secs(30);
/// What a record takes besides its bytes: itself, and names and punctuation around it in the answer.
const RECORD: usize = size_of::<StoredRecord>() + 128;

/// The room.
pub(crate) struct Room {
    total: usize,
    state: Mutex<State>,
}

struct State {
    /// Below zero where batches turned out larger than what was taken for them: then others wait.
    free: i64,
    waiting: VecDeque<(usize, oneshot::Sender<Held>)>,
}

/// A reader's part of the room, given back when dropped.
pub(crate) struct Held {
    room: Arc<Room>,
    bytes: usize,
}

/// What a record takes: as read, and once more as written.
pub(crate) fn weight(record: &StoredRecord) -> usize {
    2 * record.payload_bytes() + RECORD
}

impl Room {
    pub(crate) fn new(total: usize) -> Arc<Self> {
        let total = total.max(FIRST.1);
        Arc::new(Self { total, state: Mutex::new(State { free: total as i64, waiting: VecDeque::new() }) })
    }

    /// Room for an answer of at most `max_bytes` from `compressed` bytes, as far as can be told before they are read.
    pub(crate) async fn enter(self: &Arc<Self>, max_bytes: usize, compressed: u64) -> Result<Held> {
        let guess = usize::try_from(compressed).unwrap_or(usize::MAX).saturating_mul(RATIO);
        let bytes = guess.min(max_bytes.saturating_mul(2)).clamp(FIRST.0, FIRST.1);
        let turn = {
            let mut state = self.lock();
            if state.waiting.is_empty() && state.free >= bytes as i64 {
                return Ok(self.held(&mut state, bytes));
            }
            let (sender, turn) = oneshot::channel();
            state.waiting.push_back((bytes, sender));
            turn
        };
        metrics::counter!(crate::metrics::READS_WAITED).increment(1);
        match tokio::time::timeout(TURN, turn).await {
            Ok(Ok(held)) => Ok(held),
            _ => Err(Error::unavailable("too many readers hold large answers right now")),
        }
    }

    fn held(self: &Arc<Self>, state: &mut State, bytes: usize) -> Held {
        state.free -= bytes as i64;
        metrics::gauge!(crate::metrics::READ_ROOM_BYTES).increment(bytes as f64);
        Held { room: Arc::clone(self), bytes }
    }

    fn give_back(self: &Arc<Self>, bytes: usize) {
        metrics::gauge!(crate::metrics::READ_ROOM_BYTES).decrement(bytes as f64);
        let mut turns = Vec::new();
        let mut state = self.lock();
        state.free += bytes as i64;
        while let Some((wanted, turn)) = state.waiting.pop_front() {
            if turn.is_closed() {
                continue;
            }
            if state.free < wanted as i64 {
                state.waiting.push_front((wanted, turn));
                break;
            }
            turns.push((self.held(&mut state, wanted), turn));
        }
        drop(state);
        for (held, turn) in turns {
            // Whoever went away just now drops it, which gives it to the next.
            let _ = turn.send(held);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    /// Whether an answer that weighs `bytes` may become larger. What it weighs is taken in any case.
    pub(crate) fn covers(&mut self, bytes: usize) -> bool {
        if bytes <= self.bytes {
            return true;
        }
        let mut state = self.room.lock();
        let more = bytes - self.bytes;
        // The other half is for those who come: each gets at least a first piece.
        let plenty = state.waiting.is_empty() && state.free - (more + STEP) as i64 >= (self.room.total / 2) as i64;
        let taken = if plenty { more + STEP } else { more };
        state.free -= taken as i64;
        drop(state);
        metrics::gauge!(crate::metrics::READ_ROOM_BYTES).increment(taken as f64);
        self.bytes += taken;
        plenty
    }

    /// Gives back what the answer does not need.
    pub(crate) fn shrink_to(&mut self, bytes: usize) {
        let spare = self.bytes.saturating_sub(bytes);
        if spare > 0 {
            self.bytes -= spare;
            self.room.give_back(spare);
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.room.give_back(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn readers_get_their_turn_in_the_order_in_which_they_came() {
        let room = Room::new(2 << 20);
        let mut held = vec![room.enter(1 << 30, 1 << 30).await.unwrap(), room.enter(1 << 30, 1 << 30).await.unwrap()];
        let order = Arc::new(Mutex::new(Vec::new()));
        let mut waiting = Vec::new();
        // The last one asks for little and would fit first.
        for (number, compressed) in [(0, 1 << 30), (1, 1 << 30), (2, 1)] {
            let (room, order) = (Arc::clone(&room), Arc::clone(&order));
            waiting.push(tokio::spawn(async move {
                let held = room.enter(1 << 30, compressed).await.unwrap();
                order.lock().unwrap().push(number);
                tokio::time::sleep(Duration::from_secs(1)).await;
                drop(held);
            }));
            tokio::task::yield_now().await;
        }
        held[0].shrink_to(256 << 10);
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert!(order.lock().unwrap().is_empty(), "what is free is kept for the first");
        held.clear();
        for one in waiting {
            one.await.unwrap();
        }
        assert_eq!(*order.lock().unwrap(), [0, 1, 2]);
        assert_eq!(room.lock().free, 2 << 20);
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_goes_away_or_waits_too_long_holds_nobody_up() {
        let room = Room::new(1 << 20);
        let held = room.enter(1 << 30, 1 << 30).await.unwrap();
        let gone = tokio::time::timeout(Duration::from_secs(1), room.enter(1 << 30, 1 << 30)).await;
        assert!(gone.is_err());
        let started = tokio::time::Instant::now();
        assert!(matches!(room.enter(1, 1).await, Err(Error::Unavailable { .. })));
        assert_eq!(started.elapsed(), TURN);
        drop(held);
        drop(room.enter(1 << 30, 1 << 30).await.unwrap());
        assert_eq!(room.lock().free, 1 << 20);
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_grows_while_half_is_free_and_pays_for_what_it_is_in_any_case() {
        let room = Room::new(8 << 20);
        let mut first = room.enter(1 << 30, 1 << 30).await.unwrap();
        assert!(first.covers(1 << 20));
        assert!(first.covers(3 << 20));
        assert!(!first.covers(6 << 20), "more than half");
        assert_eq!(room.lock().free, 2 << 20);
        let mut second = room.enter(1 << 30, 1 << 30).await.unwrap();
        assert!(!second.covers(9 << 20));
        assert!(room.lock().free < 0);
        assert!(tokio::time::timeout(Duration::from_secs(1), room.enter(1, 1)).await.is_err(), "others wait");
        drop((first, second));
        assert_eq!(room.lock().free, 8 << 20);
    }
}
