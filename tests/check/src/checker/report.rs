//! What the checker says: violations, and figures that go with them. Must never judge.

use std::fmt;

use crate::history::RecordId;

/// What a history breaks. Named as in the literature: lost and phantom writes, disagreement, duplicates, gaps, order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Violation {
    /// H1: an acknowledged record is in no last read.
    Lost(RecordId),
    /// H2: a value that nobody sent, that was refused, or whose bytes are others.
    Phantom(u32, u64, &'static str),
    /// H3: readers, or a reader and an acknowledgement, disagree about a place.
    Disagreement(u32, u64),
    /// H4: a record that must be stored once is stored at both offsets.
    Duplicate(RecordId, u64, u64),
    /// H5: a partition's offsets are not dense: one is missing before its end.
    Gap(u32, u64),
    /// H6: a later record of a producer stands before an earlier one, or a batch is not in one piece.
    Order(RecordId, RecordId),
    /// H7: a reader skipped or stepped back: the offset that should have come.
    Skipped(u32, u32, u64),
    /// H7: a read that was asked for after an acknowledgement does not reach to it.
    Invisible(u32, u64),
    /// The history proves nothing.
    Vacuous(&'static str),
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

/// What a run must have had for its result to mean something.
#[derive(Clone, Copy, Debug, Default)]
pub struct Demands {
    /// Faults injected.
    pub faults: usize,
    /// Acknowledged records.
    pub acked: usize,
}

/// What was found besides violations.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Records acknowledged.
    pub acked: usize,
    /// Records in the last read.
    pub stored: usize,
    /// Faults injected.
    pub faults: usize,
    /// Records stored twice by producers who were promised no better.
    pub honest_duplicates: usize,
    /// Sends whose outcome was unknown to the client, and that were found stored.
    pub unknown_stored: usize,
    /// The same, found not stored.
    pub unknown_absent: usize,
    /// The first violations, at most a hundred.
    pub violations: Vec<Violation>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lost = self.violations.iter().filter(|v| matches!(v, Violation::Lost(_))).count();
        write!(f, "{} faults; {} records acknowledged, {lost} lost", self.faults, self.acked)?;
        if lost == 0 && self.acked > 0 {
            // The rule of three: with none seen in M, the true rate is below 3/M with 95 % confidence.
            write!(f, " (95 %: fewer than {:.1e})", 3.0 / self.acked as f64)?;
        }
        write!(f, "; {} stored, {} honest duplicates", self.stored, self.honest_duplicates)?;
        write!(f, "; unknown sends: {} stored, {} not; violations: {}", self.unknown_stored, self.unknown_absent, self.violations.len())
    }
}
