//! What partitions cost that nobody uses. Slow, and of this machine: run by hand,
//! `cargo test -p lakefall-queue --release --test idle_partitions -- --ignored --nocapture`.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "it measures, and may fail")]

use std::time::Instant;

use lakefall_queue::ledger::{Ledger, Row, ShardRow, proto};
use lakefall_queue::{ShardId, TopicId};

const TOPICS: u64 = 1_000;
const PARTITIONS: u32 = 1_000;

fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1_024
}

fn rows() -> impl Iterator<Item = Row> {
    let ids = (1..=TOPICS).map(|number| TopicId::new(ShardId(0), number));
    ids.flat_map(|topic| {
        (0..PARTITIONS).map(move |partition| {
            Row::Partition(proto::PartitionRow {
                topic: topic.0,
                partition,
                log_start: 10,
                next: 1_000,
                bytes: 1 << 20,
                extents: 7,
                ..proto::PartitionRow::default()
            })
        })
    })
}

#[test]
#[ignore = "measures"]
fn a_million_idle_partitions_are_loaded_in_seconds_and_take_less_than_200_bytes_each() {
    let shard = ShardRow { version: 1, seq: 1, epoch: 1, time_ms: 1, next_topic: TOPICS + 1 };
    let before = resident_bytes();
    // As stores give them: all rows at once.
    let (started, rows) = (Instant::now(), rows().collect::<Vec<_>>());
    let given = resident_bytes() - before;
    let ledger = Ledger::restore(ShardId(0), &shard, rows).unwrap();
    let took = started.elapsed();
    let count = TOPICS * u64::from(PARTITIONS);
    let each = (resident_bytes() - before) / count;
    println!("{count} partitions: {took:?}, {each} bytes each; the rows were {} bytes each", given / count);
    assert_eq!(ledger.partitions().count() as u64, count);
    assert!(took.as_secs() < 20 && each < 200, "{took:?}, {each} bytes each");
}
