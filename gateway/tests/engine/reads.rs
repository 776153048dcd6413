//! Where a read begins, how much it answers, and where it says to go on.

use lakefall_metadata::NodeConfig;
use lakefall_queue::error::Error;
use lakefall_queue::verbs::{Fetched, Position, Read, Start, Verbs};
use lakefall_queue::{Offset, PartitionIndex, Record, Timestamp};

use crate::support::{START, Setup, World, append, caller, placed, read, record, start_at, topic, values};

fn at(seconds: i64, value: &str) -> Record {
    Record { timestamp: Some(stamp(seconds)), ..record(value) }
}

fn stamp(seconds: i64) -> Timestamp {
    Timestamp::from_millis(START.as_millis() + seconds * 1_000)
}

async fn get(world: &World, start: Start) -> Vec<String> {
    values(&world.read(read("t", &[(0, start)])).await.unwrap().records)
}

/// Ten records in five requests.
async fn ten(setup: Setup) -> World {
    let world = World::with(setup).await;
    world.topic("t", 1).await;
    for i in 0..5 {
        world.send("t", &[&(2 * i).to_string(), &(2 * i + 1).to_string()]).await.unwrap();
    }
    world
}

#[tokio::test(start_paused = true)]
async fn every_kind_of_start_begins_where_it_says() {
    let world = ten(Setup::default()).await;
    assert_eq!(get(&world, Start::Earliest).await.len(), 10);
    assert_eq!(get(&world, Start::Latest).await.len(), 0);
    assert_eq!(get(&world, start_at(7)).await, ["7", "8", "9"]);
    assert_eq!(get(&world, start_at(10)).await.len(), 0);
    assert_eq!(get(&world, start_at(1_000)).await.len(), 0, "beyond the end is empty");
    assert_eq!(get(&world, Start::Last(3)).await, ["7", "8", "9"]);
    assert_eq!(get(&world, Start::Last(1_000)).await.len(), 10);
    assert_eq!(get(&world, Start::Timestamp(stamp(-5))).await.len(), 10);
    assert_eq!(get(&world, Start::Timestamp(stamp(3_600))).await.len(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_time_finds_the_first_record_at_or_after_it_though_times_are_out_of_order() {
    let world = World::new().await;
    world.topic("t", 1).await;
    for batch in [vec![at(10, "a"), at(50, "b"), at(20, "c")], vec![at(5, "d"), at(40, "e")], vec![at(60, "f"), at(55, "g")]] {
        world.append(append("t", batch)).await.unwrap();
    }
    for (seconds, first) in [(0, "a"), (10, "a"), (11, "b"), (50, "b"), (51, "f"), (60, "f")] {
        assert_eq!(get(&world, Start::Timestamp(stamp(seconds))).await[0], first, "{seconds}");
    }
    assert!(get(&world, Start::Timestamp(stamp(61))).await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_time_passes_over_trimmed_and_younger_records() {
    let world = World::new().await;
    world.topic("t", 1).await;
    for batch in [vec![at(100, "trimmed"), at(10, "a")], vec![at(50, "b")], vec![at(150, "c")]] {
        world.append(append("t", batch)).await.unwrap();
    }
    world.engine.trim(&caller(), &topic("t"), None, Offset(1)).await.unwrap();
    assert_eq!(get(&world, Start::Timestamp(stamp(90))).await, ["c"]);
    assert_eq!(get(&world, Start::Timestamp(stamp(40))).await, ["b", "c"]);
}

#[tokio::test(start_paused = true)]
async fn answers_are_bounded_by_records_and_bytes_but_hold_one_record() {
    let world = World::new().await;
    world.topic("t", 1).await;
    let hundred = "x".repeat(100);
    world.append(append("t", (0..10).map(|_| record(&hundred)).collect())).await.unwrap();
    let ask = |max_records, max_bytes| Read { max_records, max_bytes, ..read("t", &[(0, Start::Earliest)]) };
    for (records, bytes, expected) in [(3, 1 << 20, 3), (1_000, 1 << 20, 10), (1_000, 250, 2), (1_000, 300, 3), (1_000, 1, 1), (1, 1, 1)] {
        let found = world.read(ask(records, bytes)).await.unwrap();
        assert_eq!(found.records.len(), expected, "{records} records, {bytes} bytes");
        assert_eq!(found.next[0].next.0, expected as u64);
        assert_eq!((found.next[0].log_start.0, found.next[0].end.0), (0, 10));
    }
}

#[tokio::test(start_paused = true)]
async fn a_read_stops_before_its_bound_and_says_that_it_is_finished() {
    let world = World::new().await;
    world.topic("t", 1).await;
    for i in 0..6 {
        world.append(append("t", vec![at(i, &i.to_string())])).await.unwrap();
    }
    let until = |offset| Read { until_offset: Some(Offset(offset)), ..read("t", &[(0, Start::Earliest)]) };
    let found = world.read(until(3)).await.unwrap();
    assert_eq!((values(&found.records), found.next[0].finished), (vec!["0".into(), "1".into(), "2".into()], true));
    assert!(!world.read(until(100)).await.unwrap().next[0].finished);
    let bounded = Read { until_timestamp: Some(stamp(2)), ..read("t", &[(0, Start::Earliest)]) };
    let found = world.read(bounded).await.unwrap();
    assert_eq!((values(&found.records), found.next[0].finished), (vec!["0".into(), "1".into()], true));
    let waiting = Read { wait: std::time::Duration::from_secs(60), ..read("t", &[(0, start_at(3))]) };
    let found = world.read(Read { until_offset: Some(Offset(3)), ..waiting }).await.unwrap();
    assert!(found.records.is_empty() && found.next[0].finished, "nobody waits for what is beyond the bound");
}

#[tokio::test(start_paused = true)]
async fn below_the_log_start_is_an_error_that_tells_it() {
    let world = ten(Setup::default()).await;
    world.engine.trim(&caller(), &topic("t"), None, Offset(3)).await.unwrap();
    let gone = world.read(read("t", &[(0, start_at(2))])).await;
    let expected = Error::BelowLogStart { partition: PartitionIndex(0), offset: Offset(2), log_start: Offset(3) };
    assert_eq!(gone.map(|f| f.records.len()), Err(expected));
    assert_eq!(get(&world, Start::Earliest).await[0], "3", "also within an extent");
    assert_eq!(get(&world, Start::Last(100)).await[0], "3");
    assert_eq!(get(&world, start_at(3)).await.len(), 7);
}

#[tokio::test(start_paused = true)]
async fn a_read_that_goes_on_serves_all_partitions_in_turn() {
    let world = World::new().await;
    world.topic("t", 3).await;
    for partition in 0..3 {
        world.append(append("t", (0..30).map(|i| placed(partition, &i.to_string())).collect())).await.unwrap();
    }
    let mut from: Vec<(u32, Start)> = (0..3).map(|p| (p, Start::Earliest)).collect();
    let mut served = Vec::new();
    let mut seen = 0;
    for _ in 0..9 {
        let Fetched { records, next, .. } = world.read(Read { max_records: 10, ..read("t", &from) }).await.unwrap();
        served.push(records[0].partition.0);
        seen += records.len();
        from = next.iter().map(|p: &Position| (p.partition.0, Start::Offset(p.next))).collect();
    }
    assert_eq!(seen, 90);
    assert_eq!(served, [0, 1, 2, 0, 1, 2, 0, 1, 2]);
}

#[tokio::test(start_paused = true)]
async fn positions_are_true_also_of_partitions_that_the_budget_did_not_reach() {
    let world = World::new().await;
    world.topic("t", 3).await;
    for partition in 0..3 {
        world.append(append("t", (0..30).map(|i| placed(partition, &i.to_string())).collect())).await.unwrap();
    }
    world.engine.trim(&caller(), &topic("t"), None, Offset(2)).await.unwrap();
    let from: Vec<(u32, Start)> = (0..3).map(|p| (p, start_at(5))).collect();
    let found = world.read(Read { max_records: 10, ..read("t", &from) }).await.unwrap();
    for position in found.next {
        assert_eq!((position.log_start.0, position.end.0), (2, 30), "{position:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn offsets_are_told_for_every_kind_of_start() {
    let world = ten(Setup::default()).await;
    for (start, next) in
        [(Start::Earliest, 0), (Start::Latest, 10), (Start::Last(4), 6), (start_at(3), 3), (Start::Timestamp(stamp(9_999)), 10)]
    {
        let told = world.engine.offsets(&caller(), &topic("t"), None, start).await.unwrap();
        assert_eq!((told[0].next.0, told[0].log_start.0, told[0].end.0), (next, 0, 10), "{start:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn extents_older_than_the_owners_memory_are_found_and_read() {
    let node = NodeConfig { recent_extents: 1, checkpoint_entries: 1, ..NodeConfig::default() };
    let world = World::with(Setup { node, ..Setup::default() }).await;
    world.topic("t", 1).await;
    for i in 0..40 {
        world.append(append("t", vec![at(2 * i, &i.to_string())])).await.unwrap();
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    assert_eq!(get(&world, Start::Earliest).await, (0..40).map(|i| i.to_string()).collect::<Vec<_>>());
    for i in 0..40_u64 {
        assert_eq!(get(&world, start_at(i)).await.len() as u64, 40 - i);
        assert_eq!(get(&world, Start::Timestamp(stamp(2 * i as i64))).await[0], i.to_string());
        assert_eq!(get(&world, Start::Timestamp(stamp(2 * i as i64 - 1))).await[0], i.to_string());
    }
    let objects = world.engine.objects(&caller(), &topic("t"), PartitionIndex(0), Offset(0), 1_000).await.unwrap();
    assert_eq!(objects.iter().map(|o| o.records).sum::<u64>(), 40);
    assert!(objects.windows(2).all(|pair| pair[0].first_offset.0 + pair[0].records == pair[1].first_offset.0));
}
