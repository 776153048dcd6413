//! What retention lets go of in one partition. Pure: no clock, no I/O.

use lakefall_queue::ledger::Extent;
use lakefall_queue::topic::{Cleanup, PartitionStatus, Retention, TopicConfig};
use lakefall_queue::{Offset, Timestamp};

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
/// An extent goes as a whole, when it is older than the age, or when those after it hold `bytes` without it: a
/// partition keeps at least that much, and exceeds it by less than one extent.
pub fn plan(retention: &Retention, status: &PartitionStatus, extents: &[Extent], now: Timestamp) -> Plan {
    let mut bytes = status.bytes;
    let mut keep_from = status.log_start;
    for extent in extents {
        let after = bytes.saturating_sub(u64::from(extent.length));
        let old_at = retention.age.map(|age| extent.appended_at.plus(age));
        let too_old = old_at.is_some_and(|at| at <= now);
        let too_much = retention.bytes.is_some_and(|enough| after >= enough);
        if extent.end() > status.log_start && !too_old && !too_much {
            return Plan { trim: raised(status, keep_from), more: false, due: old_at };
        }
        bytes = after;
        keep_from = keep_from.max(extent.end());
    }
    let more = !extents.is_empty() && keep_from < status.end;
    Plan { trim: raised(status, keep_from), more, due: None }
}

fn raised(status: &PartitionStatus, keep_from: Offset) -> Option<Offset> {
    (keep_from > status.log_start).then_some(keep_from)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

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
