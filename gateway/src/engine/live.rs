//! What may be changed while the engine works: limits, and the rate of PUTs. Both hold for what comes afterwards.

use std::sync::{Arc, PoisonError, RwLock};

use lakefall_queue::limits::Limits;

use super::Engine;

/// Limits that may be exchanged. Whoever took them goes on with those.
pub(super) struct LiveLimits(RwLock<Arc<Limits>>);

impl LiveLimits {
    pub(super) fn new(limits: Limits) -> Self {
        Self(RwLock::new(Arc::new(limits)))
    }
}

impl Engine {
    /// Exchanges what callers may send and ask for.
    pub fn set_limits(&self, limits: Limits) {
        *self.limits.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(limits);
    }

    /// Exchanges how many PUT requests may be spent in a second, `None` for any number, and how many a quiet time saves up.
    pub fn set_puts(&self, per_second: Option<f64>, burst: u32) {
        self.ingest.set_puts(per_second, burst);
    }

    pub(crate) fn limits_now(&self) -> Arc<Limits> {
        Arc::clone(&self.limits.0.read().unwrap_or_else(PoisonError::into_inner))
    }
}
