//! Reading stored extents.

use lakefall_metadata::store::ExtentScan;
use lakefall_queue::ledger::{Command, Extent, RetiredExtent};
use lakefall_queue::verbs::Precondition;
use lakefall_queue::{Offset, PartitionIndex, Timestamp, TopicId};

use crate::bench::Bench;
use crate::fixtures::{P0, SHARD, commit, commit_slice, ns, segment, topic_name};
use crate::suite::Kind;

/// Ten extents of ten records and 1,000 bytes each; the n-th is in segment n and at time n.
async fn stored<K: Kind>() -> (Bench, TopicId) {
    let mut bench = Bench::of::<K>().await;
    let topic = bench.topic("orders", 2).await;
    bench.group((0..10).map(|n| commit(n, topic, 10)).collect()).await;
    bench.checkpoint().await;
    (bench, topic)
}

fn from(topic: TopicId, from: u64) -> ExtentScan {
    let (from, below) = (Offset(from), Offset(u64::MAX));
    ExtentScan { topic, partition: P0, from, below, max_bytes: u64::MAX, max_extents: usize::MAX }
}

/// The first offsets of what a scan finds.
async fn scan(bench: &Bench, scan: ExtentScan) -> Vec<u64> {
    bench.store.scan_extents(SHARD, scan).await.unwrap().iter().map(|e| e.base_offset.0).collect()
}

async fn find(bench: &Bench, topic: TopicId, from: u64, at: i64) -> Option<u64> {
    let found = bench.store.find_extent(SHARD, topic, P0, Offset(from), Timestamp::from_millis(at)).await.unwrap();
    found.map(|e| e.base_offset.0)
}

fn retired(count: u64) -> Vec<RetiredExtent> {
    let extent = |n| RetiredExtent { base_offset: Offset(n * 10), records: 10, length: 1_000, object: segment(n) };
    (0..count).map(extent).collect()
}

pub(crate) async fn a_scan_begins_with_the_extent_that_holds_the_offset<K: Kind>() {
    let (bench, topic) = stored::<K>().await;
    for (offset, first) in [(0, 0), (9, 0), (10, 10), (11, 10), (55, 50), (90, 90), (99, 90)] {
        let expected: Vec<u64> = (first..100).step_by(10).collect();
        assert_eq!(scan(&bench, from(topic, offset)).await, expected, "from {offset}");
    }
    for offset in [100, 101, u64::MAX] {
        for max_extents in [0, 1, usize::MAX] {
            let beyond = ExtentScan { max_extents, ..from(topic, offset) };
            assert!(scan(&bench, beyond).await.is_empty(), "from {offset}");
        }
    }
    let found = bench.store.scan_extents(SHARD, ExtentScan { max_extents: 1, ..from(topic, 35) }).await.unwrap();
    let at = Timestamp::from_millis(3);
    let expected = Extent {
        level: Default::default(),
        base_offset: Offset(30),
        records: 10,
        length: 1_000,
        object: segment(3),
        object_size: 1_000_000,
        position: 16,
        first_timestamp: at,
        max_timestamp: at,
        appended_at: bench.now,
    };
    assert_eq!(found, [expected]);
}

pub(crate) async fn a_scan_ends_below_its_bound<K: Kind>() {
    let (bench, topic) = stored::<K>().await;
    for (below, expected) in [(0, vec![]), (20, vec![]), (21, vec![20]), (30, vec![20]), (31, vec![20, 30]), (41, vec![20, 30, 40])] {
        let bounded = ExtentScan { below: Offset(below), ..from(topic, 25) };
        assert_eq!(scan(&bench, bounded).await, expected, "below {below}");
    }
}

pub(crate) async fn a_scan_stops_at_its_byte_budget_after_at_least_one_extent<K: Kind>() {
    let (bench, topic) = stored::<K>().await;
    for (max_bytes, count) in [(0, 1), (1, 1), (1_000, 1), (1_001, 2), (3_000, 3), (3_001, 4), (1_000_000, 8)] {
        let found = scan(&bench, ExtentScan { max_bytes, ..from(topic, 20) }).await;
        assert_eq!(found.len(), count, "{max_bytes} bytes: {found:?}");
    }
}

pub(crate) async fn a_scan_stops_at_its_number_of_extents<K: Kind>() {
    let (bench, topic) = stored::<K>().await;
    for (max_extents, count) in [(0, 1), (1, 1), (2, 2), (9, 8), (usize::MAX, 8)] {
        let found = scan(&bench, ExtentScan { max_extents, ..from(topic, 20) }).await;
        assert_eq!(found.len(), count, "{max_extents} extents: {found:?}");
    }
}

pub(crate) async fn a_scan_finds_one_partition_only<K: Kind>() {
    let (mut bench, topic) = stored::<K>().await;
    let other = bench.topic("other", 1).await;
    let slice = lakefall_queue::ledger::Slice { length: 7, records: 1, ..Default::default() };
    bench.group(vec![commit_slice(100, topic, PartitionIndex(1), slice), commit(101, other, 3)]).await;
    bench.checkpoint().await;
    let count = |topic, partition| {
        let wanted = ExtentScan { partition: PartitionIndex(partition), ..from(topic, 0) };
        scan(&bench, wanted)
    };
    assert_eq!(count(topic, 0).await.len(), 10);
    assert_eq!(count(topic, 1).await, [0]);
    assert_eq!(count(other, 0).await, [0]);
    assert!(count(other, 1).await.is_empty());
    assert!(bench.store.scan_extents(lakefall_queue::ShardId(7), from(topic, 0)).await.unwrap().is_empty());
}

pub(crate) async fn the_first_extent_at_or_after_a_time_is_found<K: Kind>() {
    let (bench, topic) = stored::<K>().await;
    for (offset, at, expected) in [
        (0, i64::MIN, Some(0)),
        (0, 0, Some(0)),
        (0, 4, Some(40)),
        (0, 9, Some(90)),
        (0, 10, None),
        (60, 4, Some(60)),
        (69, 4, Some(60)),
        (70, 4, Some(70)),
        (100, 0, None),
        (u64::MAX, 0, None),
    ] {
        assert_eq!(find(&bench, topic, offset, at).await, expected, "from {offset} at {at}");
    }
    assert_eq!(find(&bench, TopicId(99), 0, 0).await, None);
}

pub(crate) async fn retired_extents_are_gone<K: Kind>() {
    let (mut bench, topic) = stored::<K>().await;
    bench.group(vec![Command::Trim { topic, partition: Some(P0), before: Offset(35) }]).await;
    bench.group(vec![Command::Retire { topic, partition: P0, extents: retired(3), generation: None }]).await;
    assert_eq!(scan(&bench, from(topic, 0)).await.len(), 10, "until a checkpoint says so");
    bench.checkpoint().await;
    assert_eq!(scan(&bench, from(topic, 0)).await, [30, 40, 50, 60, 70, 80, 90]);
    assert_eq!(scan(&bench, from(topic, 35)).await[0], 30);
    assert_eq!(find(&bench, topic, 0, 0).await, Some(30));
    bench.check_rebuilt().await;
}

pub(crate) async fn a_deleted_partitions_extents_are_gone<K: Kind>() {
    let (mut bench, topic) = stored::<K>().await;
    bench.group(vec![Command::DeleteTopic { namespace: ns(), name: topic_name("orders"), condition: Precondition::Always }]).await;
    bench.checkpoint().await;
    assert_eq!(scan(&bench, from(topic, 0)).await.len(), 10, "until they are retired");
    bench.group(vec![Command::Retire { topic, partition: P0, extents: retired(10), generation: None }]).await;
    bench.checkpoint().await;
    assert!(scan(&bench, from(topic, 0)).await.is_empty());
    bench.check_rebuilt().await;
}

/// More than any store reads at once.
pub(crate) async fn a_long_scan_finds_every_extent_once<K: Kind>() {
    let mut bench = Bench::of::<K>().await;
    let topic = bench.topic("orders", 1).await;
    bench.group((0..3_000).map(|n| commit(n, topic, 1)).collect()).await;
    bench.checkpoint().await;
    assert_eq!(scan(&bench, from(topic, 0)).await, (0..3_000).collect::<Vec<_>>());
    assert_eq!(scan(&bench, ExtentScan { max_bytes: 100_000, ..from(topic, 7) }).await, (7..1_007).collect::<Vec<_>>());
    assert_eq!(scan(&bench, ExtentScan { max_extents: 32, ..from(topic, 9) }).await, (9..41).collect::<Vec<_>>());
    assert_eq!(scan(&bench, ExtentScan { below: Offset(1_000), ..from(topic, 500) }).await, (500..1_000).collect::<Vec<_>>());
}

pub(crate) async fn an_extent_is_found_by_time_whatever_the_order_of_the_times<K: Kind>() {
    let mut bench = Bench::of::<K>().await;
    let topic = bench.topic("orders", 1).await;
    // One that is far ahead, others that go back and forth; written by several checkpoints.
    let times: Vec<i64> = vec![5, 3, 90, 4, 6, 6, 2, 7, 50, 8, 9, 10, 1, 11, 95, 12];
    for (number, portion) in (0_u64..).step_by(4).zip(times.chunks(4)) {
        let commits = (number..).zip(portion).map(|(number, time)| {
            let at = Timestamp::from_millis(*time);
            let slice =
                lakefall_queue::ledger::Slice { length: 7, records: 3, first_timestamp: at, max_timestamp: at, ..Default::default() };
            commit_slice(number, topic, P0, slice)
        });
        bench.group(commits.collect()).await;
        bench.checkpoint().await;
    }
    for offset in 0..50_u64 {
        for at in 0..100 {
            let expected = times.iter().zip((0_u64..).step_by(3)).find(|(time, base)| base + 3 > offset && **time >= at);
            let found = find(&bench, topic, offset, at).await;
            assert_eq!(found, expected.map(|(_, base)| base), "from {offset} at {at}");
        }
    }
}
