//! Segments become Parquet: a partition's records that are old enough, or enough.

use lakefall_queue::Timestamp;
use lakefall_queue::ledger::{CompactablePartition, Extent};
use lakefall_queue::topic::ParquetConfig;

use super::day;

/// Extents that one file takes the place of, at most: bounds the journal entry.
const MOST_EXTENTS: usize = 1_000;

/// Whether a partition's records are to be rolled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// Now.
    Now,
    /// Then, unless more is appended.
    At(Timestamp),
    /// Nothing waits, or is to.
    Never,
}

/// When to roll: at `roll_bytes`, or when the oldest record has waited for the topic's `max_age`.
pub fn due(partition: &CompactablePartition, config: &ParquetConfig, now: Timestamp, roll_bytes: u64) -> Due {
    if !config.enabled || partition.rolled >= partition.end {
        return Due::Never;
    }
    match partition.unrolled_since.map(|since| since.plus(config.max_age)) {
        Some(at) if at > now && partition.unrolled_bytes < roll_bytes => Due::At(at),
        _ => Due::Now,
    }
}

/// Cuts extents that follow each other into the inputs of files: each of one UTC day, and of `file_bytes` at most unless
/// one extent alone has more.
pub fn rolls(extents: &[Extent], file_bytes: u64) -> Vec<Vec<Extent>> {
    let mut files: Vec<Vec<Extent>> = Vec::new();
    let mut sum = 0;
    for extent in extents {
        let length = u64::from(extent.length);
        match files.last_mut() {
            Some(file)
                if file.len() < MOST_EXTENTS
                    && sum + length <= file_bytes
                    && file.first().is_some_and(|first| day(first.appended_at) == day(extent.appended_at)) =>
            {
                file.push(*extent);
                sum += length;
            }
            _ => {
                files.push(vec![*extent]);
                sum = length;
            }
        }
    }
    files
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use lakefall_queue::ledger::ObjectLevel;
    use lakefall_queue::{Offset, PartitionIndex, TopicId};

    use super::super::DAY_MS;
    use super::super::tests::chain;
    use super::*;

    fn partition(bytes: u64, since: i64) -> CompactablePartition {
        CompactablePartition {
            topic: TopicId(1),
            partition: PartitionIndex(0),
            generation: 1,
            retired: Offset(0),
            log_start: Offset(0),
            settled: Offset(0),
            rolled: Offset(10),
            merged: Offset(20),
            end: Offset(30),
            unmerged_bytes: bytes,
            unmerged_extents: 1,
            unrolled_bytes: bytes,
            unrolled_since: Some(Timestamp::from_millis(since)),
            small: 0,
        }
    }

    #[test]
    fn a_partition_is_rolled_when_its_oldest_record_waited_long_enough_or_much_waits() {
        let config = ParquetConfig { max_age: Duration::from_secs(300), ..ParquetConfig::default() };
        let when = |partition: &CompactablePartition, now| due(partition, &config, Timestamp::from_millis(now), 1_000);
        assert_eq!(when(&partition(10, 0), 299_999), Due::At(Timestamp::from_millis(300_000)));
        assert_eq!(when(&partition(10, 0), 300_000), Due::Now);
        assert_eq!(when(&partition(1_000, 0), 0), Due::Now);
        assert_eq!(when(&CompactablePartition { unrolled_since: None, ..partition(10, 0) }, 0), Due::Now);
        assert_eq!(when(&CompactablePartition { rolled: Offset(30), ..partition(10, 0) }, 300_000), Due::Never);
        let off = ParquetConfig { enabled: false, ..config.clone() };
        assert_eq!(due(&partition(1_000, 0), &off, Timestamp::from_millis(300_000), 1_000), Due::Never);
    }

    #[test]
    fn a_file_is_of_one_day_and_no_larger_than_told() {
        let each = [(40, 0), (40, 1), (40, 2), (40, DAY_MS), (500, DAY_MS), (40, DAY_MS)];
        let files = rolls(&chain(ObjectLevel::Merged, each), 100);
        let lengths: Vec<Vec<u32>> = files.iter().map(|file| file.iter().map(|extent| extent.length).collect()).collect();
        assert_eq!(lengths, [vec![40, 40], vec![40], vec![40], vec![500], vec![40]]);
    }
}
