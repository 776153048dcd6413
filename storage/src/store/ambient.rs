//! The clock and the randomness of a store that was given none: a process that talks to a real service. Everything else
//! gets its own through [`super::Store::open_with`].

use std::hash::BuildHasher;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use lakefall_queue::Timestamp;
use lakefall_queue::clock::{Ambient, Clock, Entropy};

/// The machine's.
pub(crate) fn system() -> Ambient {
    Ambient { clock: Arc::new(Machine), entropy: Arc::new(Machine) }
}

struct Machine;

impl Clock for Machine {
    #[expect(clippy::disallowed_methods, reason = "only for stores over a real service, whose client signs by the same clock")]
    fn now(&self) -> Timestamp {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Timestamp::from_millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
    }

    fn elapsed(&self) -> Duration {
        // No one here asks: deadlines are tokio's.
        Duration::ZERO
    }
}

impl Entropy for Machine {
    /// The standard library seeds each hasher from the system's randomness: enough to spread pauses.
    fn draw(&self) -> u128 {
        let half = || u128::from(std::hash::RandomState::new().hash_one(0_u8));
        half() << 64 | half()
    }
}
