//! A real ledger over a metadata store, an object store that misbehaves when told to, and time in the test's hands.
#![allow(dead_code, clippy::unwrap_used, clippy::panic, reason = "helpers of tests may fail a test, and not each needs all")]

mod bucket;
pub(crate) mod rolling;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures::TryStreamExt;
use lakefall_compactor::{Collector, CollectorConfig};
use lakefall_metadata::memory::MemoryStore;
use lakefall_metadata::sqlite::SqliteStore;
use lakefall_metadata::{Metadata, MetadataStore, Node, NodeConfig};
use lakefall_queue::clock::{Ambient, Clock, Entropy};
use lakefall_queue::ledger::{
    Answer, Command, CommitReply, ObjectStatus, ProposedExtent, Query, Reply, SegmentCommit, Slice, SliceOutcome,
};
use lakefall_queue::topic::{Compression, TopicConfig};
use lakefall_queue::verbs::Precondition;
use lakefall_queue::{NamespaceName, Offset, PartitionIndex, Record, SegmentId, ShardId, Timestamp, TopicId, TopicName};
use lakefall_service::Tasks;
use lakefall_storage::batch::BatchEncoder;
use lakefall_storage::segment::{Segment, SegmentBuilder};
use lakefall_storage::store::Store;
use tokio_util::sync::CancellationToken;

pub(crate) use bucket::Bucket;

pub(crate) const P0: PartitionIndex = PartitionIndex(0);
pub(crate) const S0: ShardId = ShardId(0);
pub(crate) const S1: ShardId = ShardId(1);
/// In 2096: whatever a store in memory says about when an object was written, it was long ago.
pub(crate) const START: i64 = 4_000_000_000_000;
pub(crate) const GRACE: Duration = Duration::from_secs(600);
pub(crate) const ORPHAN_GRACE: Duration = Duration::from_secs(3_600);
pub(crate) const MS: Duration = Duration::from_millis(1);

/// Wall time stands until the test moves it.
pub(crate) struct TestClock(AtomicI64);

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.0.load(Ordering::SeqCst))
    }

    fn elapsed(&self) -> Duration {
        Duration::from_millis((self.0.load(Ordering::SeqCst) - START) as u64)
    }
}

impl TestClock {
    pub(crate) fn pass(&self, time: Duration) {
        self.0.fetch_add(time.as_millis() as i64, Ordering::SeqCst);
    }
}

/// Counts instead of drawing: ids differ and runs do not.
struct Counter(AtomicU64);

impl Entropy for Counter {
    fn draw(&self) -> u128 {
        u128::from(self.0.fetch_add(1, Ordering::SeqCst)) << 64
    }
}

/// What a test draws, the same for the same seed.
pub(crate) struct Dice(Mutex<u64>);

impl Dice {
    pub(crate) fn new(seed: u64) -> Arc<Self> {
        Arc::new(Self(Mutex::new(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)))
    }

    pub(crate) fn below(&self, bound: u64) -> u64 {
        let mut state = self.0.lock().unwrap();
        *state ^= *state >> 12;
        *state ^= *state << 25;
        *state ^= *state >> 27;
        (state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % bound
    }

    /// Lets others go first, or not.
    pub(crate) async fn dawdle(&self) {
        for _ in 0..self.below(4) {
            tokio::task::yield_now().await;
        }
    }
}

/// One metadata service over a store of its own, and a bucket.
pub(crate) struct Bench {
    pub(crate) clock: Arc<TestClock>,
    pub(crate) ambient: Ambient,
    pub(crate) metadata: Arc<dyn Metadata>,
    pub(crate) bucket: Arc<Bucket>,
    pub(crate) store: Store,
    pub(crate) tasks: Tasks,
    stop: CancellationToken,
}

impl Bench {
    pub(crate) async fn start(shards: u32) -> Self {
        Self::over(Arc::new(MemoryStore::new()), shards, Bucket::new(), START).await
    }

    /// A service over a metadata store in a folder, at a time.
    pub(crate) async fn sqlite(folder: &Path, bucket: Arc<Bucket>, now: i64) -> Self {
        let store = SqliteStore::open(&folder.join("metadata.sqlite")).await.unwrap();
        Self::over(Arc::new(store), 1, bucket, now).await
    }

    async fn over(metadata: Arc<dyn MetadataStore>, shards: u32, bucket: Arc<Bucket>, now: i64) -> Self {
        let clock = Arc::new(TestClock(AtomicI64::new(now)));
        // Ids of two services over one bucket must differ.
        let ambient = Ambient { clock: clock.clone(), entropy: Arc::new(Counter(AtomicU64::new(now as u64))) };
        let (tasks, stop) = (Tasks::new(), CancellationToken::new());
        let config = NodeConfig { shards, ..NodeConfig::default() };
        let node = Node::start(metadata, config, ambient.clone(), &tasks, stop.clone()).await.unwrap();
        node.ready().await;
        let store = Store::over(bucket.clone());
        Self { clock, ambient, metadata: node, bucket, store, tasks, stop }
    }

    pub(crate) fn config() -> CollectorConfig {
        CollectorConfig {
            grace: GRACE,
            interval: MS,
            orphan_grace: ORPHAN_GRACE,
            orphan_interval: Duration::from_secs(6 * 3_600),
            list_pause: Duration::ZERO,
            mark_interval: Duration::from_secs(60),
        }
    }

    /// A collector that has just been started.
    pub(crate) fn collector(&self) -> Collector {
        self.collector_over(Arc::clone(&self.metadata))
    }

    pub(crate) fn collector_over(&self, metadata: Arc<dyn Metadata>) -> Collector {
        Collector::new(Self::config(), metadata, self.store.clone(), self.ambient.clone())
    }

    /// A collector whose mark is in the bucket, so that what comes later is not kept for an operator.
    pub(crate) async fn marked(&self) -> Collector {
        let collector = self.collector();
        assert_eq!(collector.check().await.unwrap(), None);
        self.clock.pass(MS);
        collector
    }

    pub(crate) async fn topic(&self, shard: ShardId) -> TopicId {
        let shards = self.metadata.shards();
        let mut names = (0..1_000).map(|n| NamespaceName::new(&format!("n{n}")).unwrap());
        let namespace = names.find(|name| name.shard(shards) == shard).unwrap();
        let put = Command::PutNamespace { name: namespace.clone(), description: String::new(), condition: Precondition::Always };
        self.metadata.execute(shard, put).await.unwrap();
        let (name, config) = (TopicName::new("t").unwrap(), TopicConfig::default());
        let put = Command::PutTopic { namespace, name, config, condition: Precondition::Always, idempotency: None };
        match self.metadata.execute(shard, put).await.unwrap() {
            Reply::Topic(topic, _) => topic.id,
            other => panic!("{other:?}"),
        }
    }

    /// Stores a segment with a record for each topic, and commits it nowhere.
    pub(crate) async fn put(&self, topics: &[TopicId]) -> Stored {
        let stored = Stored::mint(&self.ambient, topics);
        self.store.put_new(&stored.id.key(), stored.segment.chunks.clone()).await.unwrap();
        stored
    }

    /// Commits what a segment holds for one topic's shard.
    pub(crate) async fn commit(&self, stored: &Stored, topic: TopicId) -> Arc<CommitReply> {
        commit(&*self.metadata, stored, topic).await
    }

    pub(crate) async fn put_and_commit(&self, topic: TopicId) -> SegmentId {
        let stored = self.put(&[topic]).await;
        assert!(was_stored(&self.commit(&stored, topic).await));
        stored.id
    }

    pub(crate) async fn trim(&self, topic: TopicId, before: u64) {
        let trim = Command::Trim { topic, partition: None, before: Offset(before) };
        self.metadata.execute(topic.shard(), trim).await.unwrap();
    }

    pub(crate) async fn known(&self, shard: ShardId, id: SegmentId) -> Option<ObjectStatus> {
        let Answer::Objects(known) = self.metadata.query(shard, Query::Objects(vec![id])).await.unwrap() else { panic!("another answer") };
        known[0].clone()
    }

    /// Keys below `seg/`, in order.
    pub(crate) async fn keys(&self) -> Vec<String> {
        let mut keys: Vec<String> = Store::over(self.bucket.honest()).list("seg").map_ok(|info| info.key).try_collect().await.unwrap();
        keys.sort();
        keys
    }

    pub(crate) async fn finish(self) {
        self.stop.cancel();
        self.tasks.shutdown(Duration::from_secs(10)).await.unwrap();
    }
}

/// A segment that lies in the bucket.
pub(crate) struct Stored {
    pub(crate) id: SegmentId,
    pub(crate) segment: Segment,
}

impl Stored {
    pub(crate) fn mint(ambient: &Ambient, topics: &[TopicId]) -> Self {
        let mut builder = SegmentBuilder::new();
        let mut topics = topics.to_vec();
        topics.sort();
        for topic in topics {
            let mut batch = BatchEncoder::new(Compression::None);
            batch.push(&Record { value: Some(Bytes::from_static(b"x")), ..Record::default() }, ambient.now());
            builder.add(topic, P0, batch.finish().unwrap()).unwrap();
        }
        Self { id: SegmentId::mint(ambient.now(), ambient.entropy.draw()), segment: builder.finish() }
    }
}

pub(crate) async fn commit(metadata: &dyn Metadata, stored: &Stored, topic: TopicId) -> Arc<CommitReply> {
    let extent = stored.segment.index.extents.iter().find(|extent| extent.topic == topic).unwrap();
    let slice = Slice {
        length: extent.length as u32,
        records: extent.records as u32,
        first_timestamp: extent.first_timestamp,
        max_timestamp: extent.max_timestamp,
        ..Slice::default()
    };
    let proposed = ProposedExtent { topic, partition: P0, position: extent.position, slices: vec![slice] };
    let commit = SegmentCommit { segment: stored.id, size: stored.segment.len, extents: vec![proposed], atoms: Vec::new() };
    match metadata.execute(topic.shard(), Command::Commit(commit)).await.unwrap() {
        Reply::Committed(reply) => reply,
        other => panic!("{other:?}"),
    }
}

/// Whether a gateway may acknowledge the records of a commit.
pub(crate) fn was_stored(reply: &Arc<CommitReply>) -> bool {
    reply.slices.iter().all(|slice| matches!(slice, SliceOutcome::Stored(_)))
}

/// How often something happened, so that a test of chance cannot pass by doing nothing.
#[derive(Default)]
pub(crate) struct Tally(Mutex<BTreeMap<&'static str, u64>>);

impl Tally {
    pub(crate) fn add(&self, what: &'static str, count: u64) {
        *self.0.lock().unwrap().entry(what).or_default() += count;
    }

    pub(crate) fn all(&self) -> BTreeMap<&'static str, u64> {
        self.0.lock().unwrap().clone()
    }
}
