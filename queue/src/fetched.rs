//! What a read's answer says of the end of a partition. Must never let one say that nothing follows where that is not known.

use crate::error::{Error, Result};
use crate::verbs::{Fetched, Position};

impl Position {
    /// Whether the read came to an end that may not be the end any more. Whoever takes it for one misses records.
    pub fn is_stale(&self) -> bool {
        self.next >= self.end && !self.current
    }
}

impl Fetched {
    /// An answer without records says that there are none. Refused where that is not known: what was acknowledged is seen by every
    /// read that begins afterwards.
    pub fn certain(self) -> Result<Self> {
        if self.records.is_empty() && self.next.iter().any(|at| at.is_stale() && !at.finished) {
            return Err(Error::unavailable(
                "whether there are more records cannot be told right now: the metadata service does not answer",
            ));
        }
        Ok(self)
    }
}
