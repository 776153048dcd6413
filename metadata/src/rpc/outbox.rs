//! What waits to be written to a stream. Whoever writes takes all that waits, up to a frame's size, whenever it is free:
//! frames grow by themselves under load, and nothing waits for a timer.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use super::{FRAME_BYTES, FRAME_ITEMS};

/// A queue with one taker. Not bounded itself: those who put in hold permits.
pub(super) struct Outbox<T> {
    state: Mutex<State<T>>,
}

struct State<T> {
    waiting: VecDeque<(usize, T)>,
    bytes: usize,
    closed: bool,
    taker: Option<Waker>,
}

impl<T> Outbox<T> {
    pub(super) fn new() -> Self {
        Self { state: Mutex::new(State { waiting: VecDeque::new(), bytes: 0, closed: false, taker: None }) }
    }

    /// Puts an item in that takes so many bytes; given back if nothing is taken any more.
    pub(super) fn put(&self, item: T, bytes: usize) -> Result<(), T> {
        let mut state = self.lock();
        if state.closed {
            return Err(item);
        }
        state.waiting.push_back((bytes, item));
        state.bytes += bytes;
        let taker = state.taker.take();
        drop(state);
        if let Some(taker) = taker {
            taker.wake();
        }
        Ok(())
    }

    /// Nothing more is put in; what waits is still taken.
    pub(super) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        if let Some(taker) = state.taker.take() {
            taker.wake();
        }
    }

    /// Items and bytes that wait.
    pub(super) fn waiting(&self) -> (usize, usize) {
        let state = self.lock();
        (state.waiting.len(), state.bytes)
    }

    /// Takes a frame's worth, those items that `wanted` keeps; `None` when it is closed and empty.
    pub(super) fn poll_frame<U>(&self, context: &mut Context<'_>, mut wanted: impl FnMut(T) -> Option<U>) -> Poll<Option<Vec<U>>> {
        let mut state = self.lock();
        let mut frame = Vec::with_capacity(state.waiting.len().min(FRAME_ITEMS));
        let mut size = 0;
        while frame.len() < FRAME_ITEMS
            && state.waiting.front().is_some_and(|(bytes, _)| frame.is_empty() || size + bytes <= FRAME_BYTES)
            && let Some((bytes, item)) = state.waiting.pop_front()
        {
            state.bytes -= bytes;
            if let Some(item) = wanted(item) {
                size += bytes;
                frame.push(item);
            }
        }
        if !frame.is_empty() {
            return Poll::Ready(Some(frame));
        }
        if state.closed {
            return Poll::Ready(None);
        }
        match &mut state.taker {
            Some(taker) => taker.clone_from(context.waker()),
            taker => *taker = Some(context.waker().clone()),
        }
        Poll::Pending
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(outbox: &Outbox<u32>) -> Poll<Option<Vec<u32>>> {
        outbox.poll_frame(&mut Context::from_waker(Waker::noop()), Some)
    }

    #[test]
    fn whoever_writes_gets_all_that_waits_up_to_a_frame() {
        let outbox = Outbox::new();
        assert_eq!(take(&outbox), Poll::Pending);
        for (item, bytes) in [(1, 10), (2, FRAME_BYTES - 10), (3, 1), (4, FRAME_BYTES + 1)] {
            outbox.put(item, bytes).unwrap();
        }
        assert_eq!(take(&outbox), Poll::Ready(Some(vec![1, 2])));
        assert_eq!(take(&outbox), Poll::Ready(Some(vec![3])));
        assert_eq!(take(&outbox), Poll::Ready(Some(vec![4])), "one that is too large goes alone");
        assert_eq!(outbox.waiting(), (0, 0));
    }

    #[test]
    fn what_waited_when_it_was_closed_is_still_taken() {
        let outbox = Outbox::new();
        outbox.put(1, 1).unwrap();
        outbox.close();
        assert_eq!(outbox.put(2, 1), Err(2));
        assert_eq!(take(&outbox), Poll::Ready(Some(vec![1])));
        assert_eq!(take(&outbox), Poll::Ready(None));
    }
}
