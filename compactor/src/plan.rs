//! What retention lets go of in one partition. Pure: no clock, no I/O.

use std::time::Duration;

use lakefall_queue::ledger::{Extent, ObjectLevel};
use lakefall_queue::topic::{Cleanup, PartitionStatus, Retention, TopicConfig};
use lakefall_queue::{Offset, Timestamp};

use crate::compaction::plan::{begin, day};

/// How far a compactor's clock, by which objects are minted, may be behind the ledger's.
const SKEW: Duration = Duration::from_secs(300);

/// What is to be done about a partition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Raise the log start to here.
    pub trim: Option<Offset>,
    /// All extents that were shown go; those after them may have to go too.
    pub more: bool,
    /// When the oldest extent that stays becomes too old; `None` without an age, or when nothing stays.
    pub due: Option<Timestamp>,
}

/// Whether a topic's records ever go because of its settings. A topic that keeps the last value of each key keeps them
/// however old they are.
pub fn expires(config: &TopicConfig) -> bool {
    config.cleanup == Cleanup::Delete && (config.retention.age.is_some() || config.retention.bytes.is_some())
}

/// Decides about a partition by its oldest `extents`, from the first on that was not let go of. `status` must not be older
/// than `extents`: bytes that came since only make the partition larger.
///
/// An extent goes as a whole, when the last of its records is older than the age, or when those after it hold `bytes` without it: a
/// partition keeps at least that much, and exceeds it by less than one extent.
pub fn plan(retention: &Retention, status: &PartitionStatus, extents: &[Extent], now: Timestamp) -> Plan {
    let mut bytes = status.bytes;
    let mut keep_from = status.log_start;
    for (index, extent) in extents.iter().enumerate() {
        let after = bytes.saturating_sub(u64::from(extent.length));
        let old_at = retention.age.map(|age| last_append(extent, extents.get(index + 1)).plus(age));
        let too_old = old_at.is_some_and(|at| at <= now);
        let too_much = retention.bytes.is_some_and(|enough| after >= enough);
        if extent.end() > status.log_start && !too_old && !too_much {
            // Of the last one shown more is known when those before it are gone.
            let more = keep_from > status.log_start && index + 1 == extents.len() && extent.end() < status.end;
            return Plan { trim: raised(status, keep_from), more, due: old_at };
        }
        bytes = after;
        keep_from = keep_from.max(extent.end());
    }
    let more = !extents.is_empty() && keep_from < status.end;
    Plan { trim: raised(status, keep_from), more, due: None }
}

/// When the last record of an extent was appended, or somewhat later. A gateway's segment has one time for all of an extent; where
/// compaction put several together, `appended_at` is the first one's. But the extent after it came no earlier than its last record,
/// no extent has records of two days, and all of them were there when the object was made.
fn last_append(extent: &Extent, next: Option<&Extent>) -> Timestamp {
    if extent.level == ObjectLevel::Segment {
        return extent.appended_at;
    }
    let over = begin(day(extent.appended_at) + 1).min(extent.object.minted_at().plus(SKEW));
    next.map_or(over, |next| next.appended_at.min(over)).max(extent.appended_at)
}

fn raised(status: &PartitionStatus, keep_from: Offset) -> Option<Offset> {
    (keep_from > status.log_start).then_some(keep_from)
}

#[cfg(test)]
mod tests {
    use lakefall_queue::{PartitionIndex, SegmentId};

    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(100_000);

    /// Extents of 10 records and 100 bytes, appended at these seconds.
    fn extents(seconds: &[i64]) -> Vec<Extent> {
        let extent = |(place, second): (usize, &i64)| Extent {
            level: Default::default(),
            base_offset: Offset(place as u64 * 10),
            records: 10,
            length: 100,
            object: SegmentId::mint(Timestamp::from_millis(*second * 1_000), place as u128),
            object_size: 1_000,
            position: 8,
            first_timestamp: Timestamp::default(),
            max_timestamp: Timestamp::default(),
            appended_at: Timestamp::from_millis(*second * 1_000),
        };
        seconds.iter().enumerate().map(extent).collect()
    }

    fn status(log_start: u64, extents: u64) -> PartitionStatus {
        PartitionStatus {
            partition: PartitionIndex(0),
            log_start: Offset(log_start),
            end: Offset(extents * 10),
            bytes: extents * 100,
            extents,
        }
    }

    fn age(seconds: u64) -> Retention {
        Retention { age: Some(Duration::from_secs(seconds)), bytes: None }
    }

    fn bytes(bytes: u64) -> Retention {
        Retention { age: None, bytes: Some(bytes) }
    }

    #[test]
    fn extents_older_than_the_age_go_and_the_next_one_tells_when_to_look_again() {
        let found = plan(&age(50), &status(0, 3), &extents(&[10, 50, 80]), NOW);
        assert_eq!(found, Plan { trim: Some(Offset(20)), more: false, due: Some(Timestamp::from_millis(130_000)) });
    }

    #[test]
    fn the_oldest_extents_go_while_the_rest_holds_enough() {
        let all = extents(&[10, 20, 30, 40]);
        assert_eq!(plan(&bytes(250), &status(0, 4), &all, NOW).trim, Some(Offset(10)));
        assert_eq!(plan(&bytes(200), &status(0, 4), &all, NOW).trim, Some(Offset(20)));
        assert_eq!(plan(&bytes(400), &status(0, 4), &all, NOW).trim, None);
        assert_eq!(plan(&bytes(1), &status(0, 4), &all, NOW).trim, Some(Offset(30)), "the newest stays, however large");
    }

    #[test]
    fn whichever_of_age_and_bytes_asks_for_more_holds() {
        let both = Retention { bytes: Some(300), ..age(75) };
        assert_eq!(plan(&both, &status(0, 4), &extents(&[10, 20, 30, 40]), NOW).trim, Some(Offset(20)));
    }

    #[test]
    fn what_is_below_the_log_start_is_neither_trimmed_again_nor_counted() {
        // The first extent was trimmed, and half of the second.
        let found = plan(&bytes(200), &status(15, 4), &extents(&[10, 20, 30, 40]), NOW);
        assert_eq!(found.trim, Some(Offset(20)));
        let found = plan(&bytes(300), &status(15, 4), &extents(&[10, 20, 30, 40]), NOW);
        assert_eq!(found, Plan::default());
    }

    #[test]
    fn extents_beyond_those_shown_may_have_to_go_too() {
        let all = extents(&[10, 20, 30, 40]);
        let found = plan(&age(50), &status(0, 4), &all[..2], NOW);
        assert_eq!(found, Plan { trim: Some(Offset(20)), more: true, due: None });
        let found = plan(&age(50), &status(0, 4), &all, NOW);
        assert_eq!(found, Plan { trim: Some(Offset(40)), more: false, due: None });
    }

    #[test]
    fn what_compaction_put_together_goes_when_its_last_record_is_old_enough() {
        let mut all = extents(&[10, 40, 90]);
        all.iter_mut().for_each(|extent| extent.level = ObjectLevel::Parquet);
        // The second file began before the horizon; its last record may be as young as the third's first.
        let found = plan(&age(50), &status(0, 3), &all, NOW);
        assert_eq!(found, Plan { trim: Some(Offset(10)), more: false, due: Some(Timestamp::from_millis(140_000)) });
        // Of the last one nothing is known but when its object was made, and its day.
        let trimmed = |extent: Extent, second: i64| plan(&age(50), &status(20, 3), &[extent], Timestamp::from_millis(second * 1_000)).trim;
        assert_eq!((trimmed(all[2], 439), trimmed(all[2], 440)), (None, Some(Offset(30))));
        let made_later = Extent { object: SegmentId::mint(Timestamp::from_millis(90_000_000), 7), ..all[2] };
        assert_eq!((trimmed(made_later, 86_449), trimmed(made_later, 86_450)), (None, Some(Offset(30))));
        // What is shown ends in the middle: look again when the first is gone.
        assert!(plan(&age(50), &status(0, 3), &all[..2], NOW).more);
    }

    #[test]
    fn nothing_is_planned_for_an_empty_partition() {
        assert_eq!(plan(&age(1), &status(0, 0), &[], NOW), Plan::default());
    }

    #[test]
    fn a_topic_that_keeps_last_values_never_expires() {
        let config = TopicConfig { retention: age(1), cleanup: Cleanup::Compact, ..TopicConfig::default() };
        assert!(!expires(&config));
        assert!(expires(&TopicConfig { retention: age(1), ..TopicConfig::default() }));
        assert!(!expires(&TopicConfig::default()));
    }
}
