//! What to compact, decided from what the ledger says and nothing else: pure functions, the same answer for the same input.

mod files;
mod keys;
mod merge;
mod roll;

pub use files::{Files, LARGEST as LARGEST_FILE, files};
pub use keys::{Cleaning, cleaning};
pub use merge::{MergePart, Merges, Unmerged, merges};
pub use roll::{Due, due, rolls};

use lakefall_queue::Timestamp;
use lakefall_queue::ledger::Extent;

const DAY_MS: i64 = 86_400_000;

/// The UTC day of a time, counted from 1970.
pub fn day(at: Timestamp) -> i64 {
    at.as_millis().div_euclid(DAY_MS)
}

/// When a day begins.
pub fn begin(day: i64) -> Timestamp {
    Timestamp::from_millis(day.saturating_mul(DAY_MS))
}

/// Bytes of extents.
pub fn bytes(extents: &[Extent]) -> u64 {
    extents.iter().map(|extent| u64::from(extent.length)).sum()
}

#[cfg(test)]
pub(super) use tests::chain as tests_chain;

#[cfg(test)]
pub(super) mod tests {
    use lakefall_queue::ledger::ObjectLevel;
    use lakefall_queue::{Offset, SegmentId};

    use super::*;

    /// Extents of ten records each, one after the other.
    pub(in crate::compaction) fn chain(level: ObjectLevel, each: impl IntoIterator<Item = (u32, i64)>) -> Vec<Extent> {
        let extent = |(n, (length, at)): (usize, (u32, i64))| Extent {
            base_offset: Offset(10 * n as u64),
            records: 10,
            length,
            object: SegmentId::mint(Timestamp::from_millis(at), (n as u128) << 64),
            level,
            object_size: u64::from(length) + 100,
            position: 8,
            first_timestamp: Timestamp::from_millis(at),
            max_timestamp: Timestamp::from_millis(at),
            appended_at: Timestamp::from_millis(at),
        };
        each.into_iter().enumerate().map(extent).collect()
    }

    #[test]
    fn days_begin_at_midnight_utc_and_go_on_before_1970() {
        let days: Vec<i64> = [-1, 0, DAY_MS - 1, DAY_MS].into_iter().map(|at| day(Timestamp::from_millis(at))).collect();
        assert_eq!(days, [-1, 0, 0, 1]);
    }
}
