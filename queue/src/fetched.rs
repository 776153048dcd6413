//! What a read's answer says of the end of a partition. Must never let one say that nothing follows where that is not known.

use crate::error::{Error, Result};
use crate::id::{Offset, PartitionIndex};
use crate::record::StoredRecord;
use crate::verbs::Admission;

/// Where a partition stands after a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// The partition.
    pub partition: PartitionIndex,
    /// Where to go on.
    pub next: Offset,
    /// The oldest offset there is.
    pub log_start: Offset,
    /// The offset of the next append.
    pub end: Offset,
    /// `end` was told since the read began, so whatever was acknowledged before is below it. Else it is what was told some time ago:
    /// there may be more.
    pub current: bool,
    /// Nothing more will be answered below the bound (`until_offset`, `until_timestamp`) asked for.
    pub finished: bool,
}

/// What a read found.
#[derive(Debug)]
pub struct Fetched {
    /// In offset order within each partition.
    pub records: Vec<StoredRecord>,
    /// Each partition asked for. A reader that goes on passes them back in this order: the partition served last comes last.
    pub next: Vec<Position>,
    /// Some of it was stored long ago: whoever asks is far behind the tail, and what is made of this can wait (see [`Verbs::aside`](crate::verbs::Verbs::aside)).
    pub old: bool,
    /// The room that the answer occupies; to be held until it was sent (see [`Admission::hold`]).
    pub admission: Admission,
}

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
