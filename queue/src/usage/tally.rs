//! Counts as they are made, by many at once.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{FIGURES, Figure, UsageCounts};

/// Is told whenever something is counted, from wherever that is: it must be quick, and never wait.
pub trait Listener: fmt::Debug + Send + Sync {
    /// Something was counted.
    fn counted(&self);
}

/// Counts that many may add to at once.
#[derive(Debug, Default)]
pub struct Tally {
    counts: [AtomicU64; FIGURES],
    listener: Option<Arc<dyn Listener>>,
}

impl Tally {
    /// One of which somebody is told when something is counted in it.
    pub fn heard_by(listener: Arc<dyn Listener>) -> Self {
        Self { listener: Some(listener), ..Self::default() }
    }

    /// Adds to a figure. Who is told of it sees what was done before this count was last [taken](Self::take).
    pub fn add(&self, figure: Figure, count: u64) {
        if count == 0 {
            return;
        }
        self.counts[figure as usize].fetch_add(count, Ordering::AcqRel);
        if let Some(listener) = &self.listener {
            listener.counted();
        }
    }

    /// Adds all of these.
    pub fn merge(&self, counts: &UsageCounts) {
        counts.counted().for_each(|(figure, count)| self.add(figure, count));
    }

    /// Takes what was counted: each count is taken by one who takes.
    pub fn take(&self) -> UsageCounts {
        let mut counts = UsageCounts::default();
        counts.0.iter_mut().zip(&self.counts).for_each(|(to, from)| *to = from.swap(0, Ordering::AcqRel));
        counts
    }
}
