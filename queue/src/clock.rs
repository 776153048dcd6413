//! The only doors through which time and randomness come in, so that a test or a simulation can own both.

use std::sync::Arc;
use std::time::Duration;

use crate::Timestamp;

/// Tells the time.
pub trait Clock: Send + Sync + 'static {
    /// Wall-clock time; may jump.
    fn now(&self) -> Timestamp;
    /// Time since an arbitrary start; never goes back.
    fn elapsed(&self) -> Duration;
}

/// Draws random bits.
pub trait Entropy: Send + Sync + 'static {
    /// 128 random bits, unpredictable in production.
    fn draw(&self) -> u128;
}

/// The clock and the entropy that a component was given.
#[derive(Clone)]
pub struct Ambient {
    /// Where time comes from.
    pub clock: Arc<dyn Clock>,
    /// Where randomness comes from.
    pub entropy: Arc<dyn Entropy>,
}

impl Ambient {
    /// Wall-clock time.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }
}
