//! Many segments of a gateway become few: what waits since some seconds goes into one object for all partitions of a shard, so
//! that whoever reads a partition's recent records asks for less, and the gateways' objects can go.

use std::collections::BTreeSet;
use std::time::Duration;

use lakefall_queue::ledger::Extent;
use lakefall_queue::{PartitionIndex, SegmentId, Timestamp, TopicId};

use super::{bytes, day};

/// Fewer objects than this are not worth another one.
const FEWEST: usize = 4;
/// Extents of one partition in one object; also bounds the journal entry.
const MOST_EXTENTS: usize = 1_000;
/// Bytes of one partition in one object: what is decoded from it later is in memory as a whole.
const MOST_BYTES: u64 = 32 << 20;

/// A partition's extents that are in gateways' segments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unmerged {
    /// The topic.
    pub topic: TopicId,
    /// The partition.
    pub partition: PartitionIndex,
    /// Its generation.
    pub generation: u64,
    /// From the oldest on, without gaps.
    pub extents: Vec<Extent>,
}

/// What one object is to hold of a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MergePart {
    /// The topic.
    pub topic: TopicId,
    /// The partition.
    pub partition: PartitionIndex,
    /// The generation that the partition has if everything planned before was taken.
    pub generation: u64,
    /// Of one UTC day.
    pub extents: Vec<Extent>,
}

/// What to merge.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Merges {
    /// One for each object; parts in the order of topic and partition.
    pub objects: Vec<Vec<MergePart>>,
    /// When to look again, if by itself.
    pub due: Option<Timestamp>,
}

/// Plans the merging of a shard: once the oldest extent is `interval` old, or `object_bytes` wait. An object has about
/// `object_bytes` at most, and of each partition one UTC day.
pub fn merges(partitions: &[Unmerged], now: Timestamp, interval: Duration, object_bytes: u64) -> Merges {
    let all = || partitions.iter().flat_map(|partition| &partition.extents);
    let objects: BTreeSet<SegmentId> = all().map(|extent| extent.object).collect();
    // Waiting alone does not change that: the next append does.
    if objects.len() < FEWEST {
        return Merges::default();
    }
    let waiting: u64 = all().map(|extent| u64::from(extent.length)).sum();
    let due = all().map(|extent| extent.appended_at).min().map(|oldest| oldest.plus(interval));
    if waiting < object_bytes && due.is_some_and(|due| due > now) {
        return Merges { objects: Vec::new(), due };
    }
    let mut rest: Vec<(MergePart, &[Extent])> =
        partitions.iter().map(|partition| (empty(partition), partition.extents.as_slice())).collect();
    rest.sort_by_key(|(part, _)| (part.topic, part.partition));
    let mut planned = Vec::new();
    loop {
        let mut room = object_bytes;
        let mut object = Vec::new();
        for (next, extents) in rest.iter_mut().filter(|(_, extents)| !extents.is_empty()) {
            let count = fitting(extents, room.min(MOST_BYTES), object.is_empty());
            let (taken, left) = extents.split_at(count);
            if taken.is_empty() {
                continue;
            }
            room = room.saturating_sub(bytes(taken));
            object.push(MergePart { extents: taken.to_vec(), ..next.clone() });
            next.generation += 1;
            *extents = left;
        }
        let sources: BTreeSet<SegmentId> = object.iter().flat_map(|part| &part.extents).map(|extent| extent.object).collect();
        if sources.len() < FEWEST {
            // Also what is behind it must wait: a partition is merged without holes.
            return Merges { objects: planned, due: None };
        }
        planned.push(object);
    }
}

fn empty(of: &Unmerged) -> MergePart {
    MergePart { topic: of.topic, partition: of.partition, generation: of.generation, extents: Vec::new() }
}

/// How many extents of the first one's day go into `room`; at least one if they `must`.
fn fitting(extents: &[Extent], room: u64, must: bool) -> usize {
    let first_day = extents.first().map(|extent| day(extent.appended_at));
    let mut sum = 0;
    let fits = |extent: &&Extent| {
        sum += u64::from(extent.length);
        sum <= room && Some(day(extent.appended_at)) == first_day
    };
    let count = extents.iter().take(MOST_EXTENTS).take_while(fits).count();
    if must { count.max(1) } else { count }
}

#[cfg(test)]
mod tests {
    use lakefall_queue::ledger::ObjectLevel;

    use super::super::DAY_MS;
    use super::super::tests::chain;
    use super::*;

    const S15: Duration = Duration::from_secs(15);
    const MIB: u32 = 1 << 20;

    fn partition(topic: u64, each: impl IntoIterator<Item = (u32, i64)>) -> Unmerged {
        let extents = chain(ObjectLevel::Segment, each);
        Unmerged { topic: TopicId(topic), partition: PartitionIndex(0), generation: 5, extents }
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_millis(seconds * 1_000)
    }

    #[test]
    fn what_waits_for_the_interval_goes_into_one_object_in_the_order_of_partitions() {
        let partitions = [partition(2, [(10, 0), (10, 1_000), (10, 2_000), (10, 3_000)]), partition(1, [(10, 500), (10, 600)])];
        let early = merges(&partitions, at(14), S15, 64 << 20);
        assert_eq!(early, Merges { objects: Vec::new(), due: Some(at(15)) });
        let found = merges(&partitions, at(15), S15, 64 << 20);
        let shape: Vec<Vec<(u64, usize, u64)>> =
            found.objects.iter().map(|parts| parts.iter().map(|p| (p.topic.0, p.extents.len(), p.generation)).collect()).collect();
        assert_eq!(shape, [[(1, 2, 5), (2, 4, 5)]]);
    }

    #[test]
    fn few_objects_are_left_as_they_are() {
        assert_eq!(merges(&[partition(1, [(10, 0), (10, 0), (10, 0)])], at(1_000), S15, 64 << 20), Merges::default());
        // One object with many partitions in it.
        let same: Vec<Unmerged> = (0..10).map(|topic| partition(topic, [(10, 0)])).collect();
        assert_eq!(merges(&same, at(1_000), S15, 64 << 20), Merges::default());
    }

    #[test]
    fn a_day_ends_a_part_and_the_next_object_expects_the_next_generation() {
        let days = (0..8).map(|n| (10, if n < 4 { DAY_MS - 1 } else { DAY_MS }));
        let found = merges(&[partition(1, days)], Timestamp::from_millis(2 * DAY_MS), S15, 64 << 20);
        let shape: Vec<(usize, u64)> = found.objects.iter().map(|parts| (parts[0].extents.len(), parts[0].generation)).collect();
        assert_eq!(shape, [(4, 5), (4, 6)]);
    }

    #[test]
    fn bytes_make_it_due_at_once_and_bound_objects_and_parts() {
        let found = merges(&[partition(1, (0..64).map(|_| (MIB, 0))), partition(2, (0..64).map(|_| (MIB, 0)))], at(0), S15, 64 << 20);
        assert_eq!(found.objects.len(), 2);
        for parts in &found.objects {
            assert!(parts.iter().all(|part| bytes(&part.extents) == 32 << 20), "{parts:?}");
        }
    }
}
