//! What a commit costs by the number of partitions in its segment: through an owner, group commit and SQLite with fsync.
#![expect(clippy::unwrap_used, reason = "a bench stops where it fails")]

use std::sync::Arc;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use lakefall_metadata::sqlite::SqliteStore;
use lakefall_metadata::{Metadata, Node, NodeConfig};
use lakefall_queue::ledger::{Command, ProposedExtent, Reply, SegmentCommit, Slice};
use lakefall_queue::topic::TopicConfig;
use lakefall_queue::verbs::Precondition;
use lakefall_queue::{NamespaceName, PartitionIndex, SegmentId, ShardId, TopicId, TopicName};
use lakefall_service::{Tasks, system_ambient};
use tokio_util::sync::CancellationToken;

const SHARD: ShardId = ShardId(0);

async fn node(folder: &std::path::Path, partitions: u32) -> (Arc<Node>, TopicId) {
    let store = Arc::new(SqliteStore::open(&folder.join("metadata.sqlite")).await.unwrap());
    // The write path alone: a checkpoint of a thousand partitions' extents would take the second core.
    let config = NodeConfig { checkpoint_entries: u64::MAX, checkpoint_bytes: u64::MAX, ..NodeConfig::default() };
    let node = Node::start(store, config, system_ambient(), &Tasks::new(), CancellationToken::new()).await.unwrap();
    node.ready().await;
    let config = TopicConfig { partitions, ..TopicConfig::default() };
    let command = Command::PutTopic {
        namespace: NamespaceName::default_name(),
        name: TopicName::new("bench").unwrap(),
        config,
        condition: Precondition::Absent,
        idempotency: None,
    };
    match node.execute(SHARD, command).await.unwrap() {
        Reply::Topic(topic, _) => (node, topic.id),
        other => unreachable!("{other:?}"),
    }
}

fn commit(topic: TopicId, partitions: u32) -> Command {
    let ambient = system_ambient();
    let extent = |index: u32| ProposedExtent {
        topic,
        partition: PartitionIndex(index),
        position: u64::from(index) * 100,
        slices: vec![Slice { length: 100, records: 1, ..Slice::default() }],
    };
    Command::Commit(SegmentCommit {
        segment: SegmentId::mint(ambient.now(), ambient.entropy.draw()),
        size: u64::from(partitions) * 100,
        extents: (0..partitions).map(extent).collect(),
        atoms: Vec::new(),
    })
}

fn commits(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut group = criterion.benchmark_group("commit");
    group.measurement_time(Duration::from_secs(3)).sample_size(20);
    for partitions in [1, 10, 100, 1_000] {
        let folder = tempfile::tempdir().unwrap();
        let (node, topic) = runtime.block_on(node(folder.path(), partitions));
        group.throughput(Throughput::Elements(u64::from(partitions)));
        group.bench_function(BenchmarkId::new("partitions", partitions), |bencher| {
            bencher.iter(|| runtime.block_on(node.execute(SHARD, commit(topic, partitions))).unwrap());
        });
    }
    group.finish();
}

criterion_group!(benches, commits);
criterion_main!(benches);
