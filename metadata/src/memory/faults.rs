//! Faults that a test orders from a [`super::MemoryStore`]. Nothing fails unless told to.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

/// How the next append fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Refused: it did not happen, and the caller is told so.
    Refuse,
    /// It did not happen, and the caller cannot tell.
    LoseRequest,
    /// It happened, and the caller cannot tell.
    LoseReply,
    /// It happens only when so many further requests came to the store, unless something stands in its way by then; the caller
    /// cannot tell.
    Delay(u32),
}

/// What fails next.
#[derive(Default)]
pub struct Faults {
    appends: Mutex<VecDeque<Option<Fault>>>,
    checkpoints: Mutex<u32>,
}

impl Faults {
    /// The coming appends fail in this order; `None` lets one pass.
    pub fn order(&self, faults: impl IntoIterator<Item = Option<Fault>>) {
        self.appends.lock().unwrap_or_else(PoisonError::into_inner).extend(faults);
    }

    /// The next `count` checkpoints fail.
    pub fn fail_checkpoints(&self, count: u32) {
        *self.checkpoints.lock().unwrap_or_else(PoisonError::into_inner) = count;
    }

    /// Faults ordered that did not happen yet.
    pub fn pending(&self) -> usize {
        self.appends.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    pub(super) fn next_append(&self) -> Option<Fault> {
        self.appends.lock().unwrap_or_else(PoisonError::into_inner).pop_front().flatten()
    }

    pub(super) fn next_checkpoint(&self) -> bool {
        let mut left = self.checkpoints.lock().unwrap_or_else(PoisonError::into_inner);
        let fails = *left > 0;
        *left = left.saturating_sub(1);
        fails
    }
}
