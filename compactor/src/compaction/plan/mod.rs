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
use lakefall_queue::topic::Retention;

const DAY_MS: i64 = 86_400_000;
const MINUTE_MS: i64 = 60_000;

/// The UTC day of a time, counted from 1970.
pub fn day(at: Timestamp) -> i64 {
    at.as_millis().div_euclid(DAY_MS)
}

/// When a day begins.
pub fn begin(day: i64) -> Timestamp {
    Timestamp::from_millis(day.saturating_mul(DAY_MS))
}

/// The stretch of time of which the files of a partition become one in the end. Retention lets go of whole files, so records stay for
/// as long as it beyond their age.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Period(i64);

impl Period {
    /// A UTC day.
    pub const DAY: Self = Self(DAY_MS);
    /// All divide a day: no file spans two.
    const SHORTER: [i64; 8] = [720, 360, 120, 60, 30, 10, 5, 1];

    /// A quarter of the time for which records are kept, or somewhat less; a day at most, a minute at least.
    pub fn of(retention: &Retention) -> Self {
        let Some(age) = retention.age else { return Self::DAY };
        let quarter = i64::try_from(age.as_millis() / 4).unwrap_or(i64::MAX);
        let fits = |minutes: &i64| (minutes * MINUTE_MS <= quarter).then_some(Self(minutes * MINUTE_MS));
        if quarter >= DAY_MS { Self::DAY } else { Self::SHORTER.iter().find_map(fits).unwrap_or(Self(MINUTE_MS)) }
    }

    /// The one of a time, counted from 1970.
    pub fn at(self, at: Timestamp) -> i64 {
        at.as_millis().div_euclid(self.0)
    }

    /// When the one after a time's begins.
    pub fn after(self, at: Timestamp) -> Timestamp {
        Timestamp::from_millis((self.at(at) + 1).saturating_mul(self.0))
    }
}

/// Bytes of extents.
pub fn bytes(extents: &[Extent]) -> u64 {
    extents.iter().map(|extent| u64::from(extent.length)).sum()
}

#[cfg(test)]
pub(super) use tests::chain as tests_chain;

#[cfg(test)]
pub(super) mod tests {
    use std::time::Duration;

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

    #[test]
    fn a_period_is_a_quarter_of_what_is_kept_or_less_and_divides_a_day() {
        const HOUR: u64 = 3_600;
        let of = |age: Option<u64>| Period::of(&Retention { age: age.map(Duration::from_secs), ..Retention::default() });
        assert_eq!([of(None), of(Some(96 * HOUR)), of(Some(1_000_000 * HOUR))], [Period::DAY; 3]);
        let minutes = [95 * HOUR, 24 * HOUR, HOUR, 3_599, 240, 1].map(|age| of(Some(age)).0 / MINUTE_MS);
        assert_eq!(minutes, [720, 360, 10, 10, 1, 1]);
        assert!(Period::SHORTER.iter().all(|minutes| DAY_MS % (minutes * MINUTE_MS) == 0));
    }

    #[test]
    fn the_next_period_begins_where_this_one_ends() {
        let hour = Period(60 * MINUTE_MS);
        let after = |at: i64| hour.after(Timestamp::from_millis(at)).as_millis();
        assert_eq!([after(-1), after(0), after(3_599_999), after(3_600_000)], [0, 3_600_000, 3_600_000, 7_200_000]);
    }
}
