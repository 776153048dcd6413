//! What the PostgreSQL store takes: journal appends one after the other, checkpoints, scans, a load of many partitions, and
//! the bytes of log that an extent costs. `cargo bench -p lakefall-metadata --bench postgres -- [groups] [partitions] [in-memory]`.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a bench stops where it fails, and prints what it measured")]

use std::time::Duration;

use bytes::Bytes;
use lakefall_metadata::postgres::{PostgresConfig, PostgresStore};
use lakefall_metadata::store::ExtentScan;
use lakefall_metadata::{MetadataStore, Replica, ReplicaId, WriterToken, rebuild};
use lakefall_queue::id::{Epoch, JournalSeq};
use lakefall_queue::ledger::{Command, Ledger, ProposedExtent, Reply, SegmentCommit, Slice};
use lakefall_queue::topic::TopicConfig;
use lakefall_queue::verbs::Precondition;
use lakefall_queue::{NamespaceName, Offset, PartitionIndex, SegmentId, ShardId, Timestamp, TopicId, TopicName};
use lakefall_servers::Postgres;
use tokio::time::Instant;

const SHARD: ShardId = ShardId(0);
const EXTENTS: u32 = 67;
const PARTITIONS: u32 = 10_000;

fn put_topic(name: &str, partitions: u32) -> Command {
    let config = TopicConfig { partitions, ..TopicConfig::default() };
    let (namespace, name) = (NamespaceName::default_name(), TopicName::new(name).unwrap());
    Command::PutTopic { namespace, name, config, condition: Precondition::Absent, idempotency: None }
}

fn commit(number: u32, topic: TopicId) -> Command {
    let extent = |index: u32| ProposedExtent {
        topic,
        partition: PartitionIndex((number * EXTENTS + index) % PARTITIONS),
        position: u64::from(index) * 120_000,
        slices: vec![Slice {
            length: 120_000,
            records: 100,
            first_timestamp: Timestamp::from_millis(1_700_000_000_000),
            max_timestamp: Timestamp::from_millis(1_700_000_000_000 + i64::from(number)),
            ..Slice::default()
        }],
    };
    let segment = SegmentId::mint(Timestamp::from_millis(1_700_000_000_000), u128::from(number) << 64);
    Command::Commit(SegmentCommit { segment, size: 8 << 20, extents: (0..EXTENTS).map(extent).collect(), atoms: Vec::new() })
}

fn percentile(sorted: &[Duration], of_thousand: usize) -> Duration {
    sorted[(sorted.len() - 1) * of_thousand / 1_000]
}

async fn log_bytes(server: &Postgres) -> u64 {
    server.sql("lakefall", "SELECT (pg_current_wal_insert_lsn() - '0/0')::bigint").await.parse().unwrap()
}

async fn appends(server: &Postgres, store: &PostgresStore, groups: u32) {
    let lease = store.take(SHARD).await.unwrap();
    let now = Timestamp::from_millis(1_700_000_000_000);
    let mut ledger = Ledger::new(SHARD, 1);
    let Reply::Topic(topic, _) = ledger.apply(&put_topic("bench", PARTITIONS), now).reply.unwrap() else { unreachable!() };
    let mut entries = vec![ledger.seal(lease.epoch, now, vec![put_topic("bench", PARTITIONS)])];
    for number in 0..groups {
        let command = commit(number, topic.id);
        ledger.apply(&command, now);
        entries.push(ledger.seal(lease.epoch, now, vec![command]));
    }
    let entries: Vec<Bytes> = entries.into_iter().map(|entry| Bytes::from(entry.encode())).collect();
    let before = log_bytes(server).await;
    let started = Instant::now();
    let mut times = Vec::new();
    for (seq, entry) in (1..).zip(&entries) {
        let began = Instant::now();
        store.append(&lease, JournalSeq(seq), WriterToken(1), entry.clone()).await.unwrap();
        times.push(began.elapsed());
    }
    let took = started.elapsed();
    let journal = log_bytes(server).await - before;
    times.sort();
    let (p50, p99, most) = (percentile(&times, 500), percentile(&times, 990), percentile(&times, 1_000));
    println!(
        "append: {:.0} groups/s of {EXTENTS} extents ({} bytes); p50 {p50:?} p99 {p99:?} max {most:?}",
        f64::from(groups) / took.as_secs_f64(),
        entries[1].len()
    );
    let checkpoint = ledger.checkpoint();
    let (rows, extents) = (checkpoint.puts.len(), checkpoint.extents.len() as u64);
    let before = log_bytes(server).await;
    let started = Instant::now();
    store.checkpoint(&lease, &checkpoint).await.unwrap();
    let took = started.elapsed();
    let tables = log_bytes(server).await - before;
    println!("checkpoint: {rows} rows and {extents} extents in {took:?}");
    println!("log written per extent: {} bytes by appends, {} by the checkpoint", journal / extents, tables / extents);
    let scan = ExtentScan {
        topic: topic.id,
        partition: PartitionIndex(7),
        from: Offset(0),
        below: Offset(u64::MAX),
        max_bytes: 1 << 20,
        max_extents: 100,
    };
    let started = Instant::now();
    for _ in 0..1_000 {
        store.scan_extents(SHARD, scan).await.unwrap();
    }
    println!("scan of 1 MiB of extents: {:?}", started.elapsed() / 1_000);
    let started = Instant::now();
    for _ in 0..1_000 {
        store.find_extent(SHARD, topic.id, PartitionIndex(7), Offset(0), Timestamp::from_millis(1_700_000_000_100)).await.unwrap();
    }
    println!("an extent by time: {:?}", started.elapsed() / 1_000);
    store.release(&lease).await.unwrap();
}

async fn idle_partitions(server: &Postgres, store: &PostgresStore, partitions: u32) {
    let lease = store.take(SHARD).await.unwrap();
    let now = Timestamp::from_millis(1_700_000_000_000);
    let mut ledger = Ledger::new(SHARD, 1);
    for topic in 0..partitions.div_ceil(PARTITIONS) {
        ledger.apply(&put_topic(&format!("idle-{topic}"), PARTITIONS), now).reply.unwrap();
    }
    ledger.seal(Epoch(lease.epoch.0), now, Vec::new());
    let checkpoint = ledger.checkpoint();
    let started = Instant::now();
    store.checkpoint(&lease, &checkpoint).await.unwrap();
    println!("first checkpoint of {} rows: {:?}", checkpoint.puts.len(), started.elapsed());
    let size = server.sql("idle", "SELECT pg_size_pretty(pg_total_relation_size('partitions'))").await;
    let started = Instant::now();
    let loaded = store.load(&lease).await.unwrap();
    let read = started.elapsed();
    let rows = loaded.rows.len();
    let ledger = rebuild(SHARD, 1, loaded).unwrap();
    println!("load of {rows} rows ({size}): {read:?}, with the ledger made of them {:?}; at seq {}", started.elapsed(), ledger.seq());
}

async fn store(url: String) -> PostgresStore {
    let replica = Replica { id: ReplicaId(1), address: String::new() };
    let store = PostgresStore::connect(&PostgresConfig::new(url), replica, Duration::from_secs(600)).await.unwrap();
    store.initialize(1).await.unwrap();
    store
}

fn main() {
    let numbers: Vec<u32> = std::env::args().filter_map(|argument| argument.parse().ok()).collect();
    let groups = numbers.first().copied().unwrap_or(10_000);
    let partitions = numbers.get(1).copied().unwrap_or(1_000_000);
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let options = lakefall_servers::postgres::Options::default();
        let on_disk = std::env::args().all(|argument| argument != "in-memory");
        let server = Postgres::start(if on_disk { options.on_disk() } else { options }).await;
        appends(&server, &store(server.url()).await, groups).await;
        server.create_database("idle").await;
        idle_partitions(&server, &store(server.url_for("idle")).await, partitions).await;
    });
}
