//! The one clock of a history. Must never go back.

use std::sync::Arc;
use std::time::Instant;

/// Nanoseconds since the recorder was made, or since a simulation began.
pub type Nanos = u64;

/// Tells the time. A simulation gives its own, and so records the same history for the same seed.
pub type Clock = Arc<dyn Fn() -> Nanos + Send + Sync>;

/// The machine's monotonic clock, from now on.
#[expect(clippy::disallowed_methods, reason = "the one place that reads a clock: who has another one gives it to the recorder")]
pub fn monotonic() -> Clock {
    let began = Instant::now();
    Arc::new(move || began.elapsed().as_nanos() as Nanos)
}
