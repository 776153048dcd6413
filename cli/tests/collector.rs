//! The collector over a real ledger and a real engine, with time in the test's hands. Here, as only the executable sees
//! both the collector and the engine.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail where it stands")]

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::TryStreamExt;
use lakefall_compactor::{Collector, CollectorConfig};
use lakefall_gateway::engine::{Engine, EngineConfig, EngineParts, IngestConfig, ReceiptKeys, SqlConfig};
use lakefall_metadata::memory::{Fault, MemoryStore};
use lakefall_metadata::{Identity, Metadata, MetadataStore, News, Node, NodeConfig};
use lakefall_queue::clock::{Ambient, Clock, Entropy};
use lakefall_queue::error::Error;
use lakefall_queue::ledger::{Answer, COMMIT_WINDOW, Command, ObjectStatus, ProposedExtent, Query, Reply, SegmentCommit, Slice};
use lakefall_queue::limits::Limits;
use lakefall_queue::topic::{Compression, Retention, TopicConfig};
use lakefall_queue::verbs::{Admission, Append, Caller, Precondition, Read, Start, TopicAppend, Verbs};
use lakefall_queue::{NamespaceName, Offset, PartitionIndex, Record, SegmentId, ShardId, Timestamp, TopicId, TopicName};
use lakefall_service::Tasks;
use lakefall_storage::batch::BatchEncoder;
use lakefall_storage::cache::{Cache, CacheConfig};
use lakefall_storage::segment::SegmentBuilder;
use lakefall_storage::store::{Store, StoreOptions};
use tokio::sync::{Semaphore, broadcast};
use tokio_util::sync::CancellationToken;

const P0: PartitionIndex = PartitionIndex(0);
const S0: ShardId = ShardId(0);
const GRACE: Duration = Duration::from_secs(600);
const ORPHAN_GRACE: Duration = Duration::from_secs(3_600);
/// In 2096: whatever a store in memory says about when an object was written, it was long ago.
const START: i64 = 4_000_000_000_000;

/// Wall time stands until the test moves it.
struct TestClock(AtomicI64);

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.0.load(Ordering::SeqCst))
    }

    fn elapsed(&self) -> Duration {
        Duration::from_millis((self.0.load(Ordering::SeqCst) - START) as u64)
    }
}

/// Counts instead of drawing: ids differ and runs do not.
struct Counter(AtomicU64);

impl Entropy for Counter {
    fn draw(&self) -> u128 {
        u128::from(self.0.fetch_add(1, Ordering::SeqCst)) << 64
    }
}

/// A metadata service before which a commit can be held up.
struct Commits {
    metadata: Arc<dyn Metadata>,
    stop: std::sync::Mutex<Option<Arc<Stop>>>,
}

struct Stop {
    arrived: Semaphore,
    go_on: Semaphore,
}

impl Stop {
    async fn arrived(&self) {
        self.arrived.acquire().await.unwrap().forget();
    }

    fn go_on(&self) {
        self.go_on.add_permits(1);
    }
}

#[async_trait::async_trait]
impl Metadata for Commits {
    fn shards(&self) -> u32 {
        self.metadata.shards()
    }

    async fn execute(&self, shard: ShardId, command: Command) -> Result<Reply, Error> {
        let stop = if matches!(command, Command::Commit(_)) { self.stop.lock().unwrap().take() } else { None };
        if let Some(stop) = stop {
            stop.arrived.add_permits(1);
            stop.go_on.acquire().await.unwrap().forget();
        }
        self.metadata.execute(shard, command).await
    }

    async fn query(&self, shard: ShardId, query: Query) -> Result<Answer, Error> {
        self.metadata.query(shard, query).await
    }

    fn subscribe(&self) -> broadcast::Receiver<Arc<News>> {
        self.metadata.subscribe()
    }

    async fn identity(&self) -> Result<Identity, Error> {
        self.metadata.identity().await
    }
}

struct Bench {
    clock: Arc<TestClock>,
    ambient: Ambient,
    metadata_store: Arc<MemoryStore>,
    commits: Arc<Commits>,
    metadata: Arc<dyn Metadata>,
    store: Store,
    engine: Arc<Engine>,
    tasks: Tasks,
    stop: CancellationToken,
}

impl Bench {
    async fn start(shards: u32) -> Self {
        let clock = Arc::new(TestClock(AtomicI64::new(START)));
        let ambient = Ambient { clock: clock.clone(), entropy: Arc::new(Counter(AtomicU64::new(1))) };
        let (tasks, stop) = (Tasks::new(), CancellationToken::new());
        let metadata_store = Arc::new(MemoryStore::new());
        // Checkpoints all the time and next to nothing in memory: older extents come from the store.
        let config = NodeConfig { shards, checkpoint_entries: 1, recent_extents: 1, ..NodeConfig::default() };
        let opened = Arc::clone(&metadata_store) as Arc<dyn MetadataStore>;
        let node = Node::start(opened, config, ambient.clone(), &tasks, stop.clone()).await.unwrap();
        node.ready().await;
        let commits = Arc::new(Commits { metadata: node, stop: std::sync::Mutex::default() });
        let metadata = Arc::clone(&commits) as Arc<dyn Metadata>;
        let store = Store::open(&url::Url::parse("memory:///").unwrap(), &StoreOptions::default()).unwrap();
        let cache = Arc::new(Cache::new(store.clone(), CacheConfig::default()).await);
        let ingest = IngestConfig {
            target_bytes: 8 << 20,
            batch_bytes: 1 << 20,
            puts_per_second: None,
            put_burst: 2,
            uploads_max: 4,
            uploads_eager: 2,
            buffer_bytes: 64 << 20,
            admission_wait: Duration::from_secs(1),
        };
        let parts = EngineParts { store: store.clone(), cache, metadata: Arc::clone(&metadata), ambient: ambient.clone() };
        let config = EngineConfig {
            ingest,
            limits: Limits::default(),
            read_buffer_bytes: EngineConfig::READ_BUFFER_BYTES,
            receipt_keys: ReceiptKeys::default(),
            sql: SqlConfig::default(),
            usage_interval: EngineConfig::USAGE_INTERVAL,
        };
        let engine = Engine::start(config, parts, &tasks, stop.clone());
        Self { clock, ambient, metadata_store, commits, metadata, store, engine, tasks, stop }
    }

    /// The next commit waits.
    fn stop_before_commit(&self) -> Arc<Stop> {
        let stop = Arc::new(Stop { arrived: Semaphore::new(0), go_on: Semaphore::new(0) });
        *self.commits.stop.lock().unwrap() = Some(Arc::clone(&stop));
        stop
    }

    /// A collector that has just been started: it knows nothing of what others did.
    fn collector(&self) -> Collector {
        let config = CollectorConfig {
            grace: GRACE,
            interval: Duration::from_millis(1),
            orphan_grace: ORPHAN_GRACE,
            list_pause: Duration::ZERO,
            ..CollectorConfig::default()
        };
        Collector::new(config, Arc::clone(&self.metadata), self.store.clone(), self.ambient.clone())
    }

    /// A collector whose mark is in the bucket: what comes later is not kept for an operator.
    async fn mark(&self) -> Collector {
        let collector = self.collector();
        assert_eq!(collector.check().await.unwrap(), None);
        self.pass(Duration::from_millis(1));
        collector
    }

    fn pass(&self, time: Duration) {
        self.clock.0.fetch_add(time.as_millis() as i64, Ordering::SeqCst);
    }

    fn pass_grace(&self) {
        self.pass(GRACE.max(COMMIT_WINDOW) + Duration::from_millis(1));
    }

    async fn topic(&self, topic: &str, retention: Retention) -> TopicId {
        let config = TopicConfig { retention, ..TopicConfig::default() };
        self.engine.put_topic(&caller(), &name(topic), config, Precondition::Absent, None).await.unwrap().0.id
    }

    /// Two records in an object of their own.
    async fn append(&self, topic: &str) {
        self.engine.append(&caller(), two_records(topic)).await.unwrap();
    }

    async fn trim(&self, topic: &str, before: u64) {
        self.engine.trim(&caller(), &name(topic), None, Offset(before)).await.unwrap();
    }

    async fn read(&self, topic: &str, from: u64) -> Result<Vec<u64>, Error> {
        let read = Read {
            topic: name(topic),
            from: vec![(P0, Start::Offset(Offset(from)))],
            max_records: 1_000,
            max_bytes: 1 << 20,
            until_offset: None,
            until_timestamp: None,
            wait: Duration::ZERO,
        };
        let fetched = self.engine.read(&caller(), read).await?;
        Ok(fetched.records.iter().map(|record| record.offset.0).collect())
    }

    async fn objects(&self) -> usize {
        self.store.list("seg").try_collect::<Vec<_>>().await.unwrap().len()
    }

    async fn known(&self, shard: ShardId, id: SegmentId) -> Option<ObjectStatus> {
        let Answer::Objects(known) = self.metadata.query(shard, Query::Objects(vec![id])).await.unwrap() else { panic!("another answer") };
        known[0].clone()
    }

    async fn finish(self) {
        self.stop.cancel();
        self.tasks.shutdown(Duration::from_secs(10)).await.unwrap();
    }
}

fn caller() -> Caller {
    Caller { namespace: NamespaceName::default_name(), request_id: "test".into(), trace: None }
}

fn two_records(topic: &str) -> Append {
    let record = |n: u8| Record { value: Some(Bytes::from(vec![n; 10])), ..Record::default() };
    let batch = TopicAppend::new(name(topic), vec![record(1), record(2)]);
    Append { batch, atomic: false, idempotency: None, order: None, admission: Admission::default() }
}

fn name(topic: &str) -> TopicName {
    TopicName::new(topic).unwrap()
}

#[tokio::test]
async fn after_a_trim_and_the_grace_its_objects_are_gone_and_the_rest_is_read_as_before() {
    let bench = Bench::start(1).await;
    bench.topic("t", Retention::default()).await;
    for _ in 0..5 {
        bench.append("t").await;
    }
    // Cuts through the third object, which stays.
    bench.trim("t", 5).await;
    let round = bench.collector().round().await;
    assert_eq!(bench.objects().await, 5, "readers may still be at them");
    assert_eq!(round.due, Some(bench.ambient.now().plus(GRACE)));
    bench.pass(GRACE);
    bench.collector().round().await;
    assert_eq!(bench.objects().await, 5, "not before the grace has passed");
    bench.pass(Duration::from_millis(1));
    let round = bench.collector().round().await;
    assert_eq!((bench.objects().await, round.due, round.failed), (3, None, false));
    for gone in 0..5 {
        let refused = bench.read("t", gone).await.unwrap_err();
        assert!(matches!(refused, Error::BelowLogStart { log_start: Offset(5), .. }), "{gone}: {refused:?}");
    }
    assert_eq!(bench.read("t", 5).await.unwrap(), [5, 6, 7, 8, 9]);
    bench.finish().await;
}

#[tokio::test]
async fn a_deleted_topic_gives_everything_back_although_nothing_else_happens() {
    let bench = Bench::start(1).await;
    bench.topic("t", Retention::default()).await;
    bench.topic("kept", Retention::default()).await;
    for _ in 0..3 {
        bench.append("t").await;
    }
    bench.append("kept").await;
    bench.engine.delete_topic(&caller(), &name("t"), Precondition::Always).await.unwrap();
    bench.collector().round().await;
    bench.pass_grace();
    assert_eq!(bench.collector().round().await, Default::default(), "nothing is left to wait for");
    assert_eq!(bench.objects().await, 1);
    assert_eq!(bench.read("kept", 0).await.unwrap(), [0, 1]);
    bench.finish().await;
}

#[tokio::test]
async fn records_go_when_they_are_older_than_their_topic_keeps_them() {
    let bench = Bench::start(1).await;
    let id = bench.topic("t", Retention { age: Some(Duration::from_secs(3_600)), bytes: None }).await;
    let collector = bench.collector();
    assert!(collector.round().await.watch.contains(&id), "nothing is due: an append has to tell");
    bench.append("t").await;
    bench.pass(Duration::from_secs(1_800));
    bench.append("t").await;
    let round = collector.round().await;
    assert_eq!(round.due, Some(Timestamp::from_millis(START + 3_600_000)));
    assert!(round.watch.is_empty(), "appends bring no work until then");
    bench.pass(Duration::from_secs(1_800));
    collector.round().await;
    assert_eq!(bench.read("t", 2).await.unwrap(), [2, 3]);
    assert!(matches!(bench.read("t", 0).await, Err(Error::BelowLogStart { log_start: Offset(2), .. })));
    bench.pass_grace();
    collector.round().await;
    assert_eq!(bench.objects().await, 1);
    bench.finish().await;
}

#[tokio::test]
async fn a_partition_keeps_no_more_than_its_topic_allows_however_far_it_is_behind() {
    let bench = Bench::start(1).await;
    let id = bench.topic("t", Retention { age: None, bytes: Some(1) }).await;
    // More than one page of extents.
    for _ in 0..300 {
        bench.append("t").await;
    }
    let round = bench.collector().round().await;
    assert!(round.watch.contains(&id));
    assert_eq!(bench.read("t", 598).await.unwrap(), [598, 599], "the newest object is never trimmed for its size");
    assert!(matches!(bench.read("t", 597).await, Err(Error::BelowLogStart { log_start: Offset(598), .. })));
    bench.pass_grace();
    bench.collector().round().await;
    assert_eq!(bench.objects().await, 1);
    bench.finish().await;
}

#[tokio::test]
async fn killed_between_any_two_steps_the_next_collector_takes_it_up() {
    let bench = Bench::start(1).await;
    bench.topic("t", Retention { age: Some(Duration::from_secs(60)), bytes: None }).await;
    bench.append("t").await;
    bench.append("t").await;
    bench.pass(Duration::from_secs(60));
    assert_eq!(bench.collector().expire(S0).await.unwrap().trims, 1);
    assert_eq!(bench.collector().expire(S0).await.unwrap().trims, 0, "once");
    assert_eq!(bench.collector().retire(S0).await.unwrap(), 2);
    assert_eq!(bench.collector().retire(S0).await.unwrap(), 0, "once");
    assert_eq!(bench.collector().released(S0, None).await.unwrap().objects, []);
    bench.pass_grace();
    let released = bench.collector().released(S0, None).await.unwrap().objects;
    assert_eq!(released.len(), 2);
    // One is deleted, and not even that is noted.
    assert_eq!(bench.collector().delete(S0, &released[..1]).await.objects, released[..1]);
    assert_eq!(bench.collector().released(S0, None).await.unwrap().objects, released);
    assert_eq!(bench.collector().delete(S0, &released).await.objects.len(), 2);
    assert_eq!(bench.objects().await, 0);
    bench.collector().forget(S0, released.clone()).await.unwrap();
    bench.collector().forget(S0, released.clone()).await.unwrap();
    assert_eq!(bench.known(S0, released[0]).await, None);
    assert_eq!(bench.collector().round().await.due, None);
    bench.finish().await;
}

#[tokio::test]
async fn a_step_that_failed_is_told_and_done_by_the_next_round() {
    let bench = Bench::start(1).await;
    bench.topic("t", Retention::default()).await;
    bench.append("t").await;
    bench.trim("t", 2).await;
    bench.metadata_store.faults().order([Some(Fault::Refuse)]);
    assert!(bench.collector().round().await.failed);
    while bench.collector().round().await.failed {
        // The owner takes the shard anew after a refused append.
        tokio::task::yield_now().await;
    }
    bench.pass_grace();
    bench.collector().round().await;
    assert_eq!(bench.objects().await, 0);
    bench.finish().await;
}

#[tokio::test]
async fn an_object_of_two_shards_stays_until_both_let_go_of_it() {
    let bench = Bench::start(2).await;
    let (one, other) = two_namespaces();
    let topics = [put_topic(&bench, &one).await, put_topic(&bench, &other).await];
    let id = put_segment(&bench, &topics, &topics).await;
    for topic in topics {
        assert_eq!(bench.objects().await, 1);
        trim(&bench, topic).await;
        bench.collector().round().await;
        bench.pass_grace();
        bench.collector().round().await;
    }
    bench.collector().round().await;
    assert_eq!(bench.objects().await, 0);
    assert_eq!((bench.known(S0, id).await, bench.known(ShardId(1), id).await), (None, None));
    bench.finish().await;
}

#[tokio::test]
async fn a_shard_that_never_heard_of_an_object_refuses_it_before_it_is_deleted() {
    let bench = Bench::start(2).await;
    let (one, other) = two_namespaces();
    let topics = [put_topic(&bench, &one).await, put_topic(&bench, &other).await];
    bench.mark().await;
    // The gateway died between its two commits.
    let id = put_segment(&bench, &topics, &topics[..1]).await;
    trim(&bench, topics[0]).await;
    bench.collector().round().await;
    bench.pass_grace();
    bench.collector().round().await;
    let refused = bench.known(topics[1].shard(), id).await.unwrap();
    assert_eq!((refused.live_extents, bench.objects().await), (0, 1), "first refused, then deleted");
    bench.pass_grace();
    bench.collector().round().await;
    bench.collector().round().await;
    assert_eq!(bench.objects().await, 0);
    assert_eq!((bench.known(S0, id).await, bench.known(ShardId(1), id).await), (None, None));
    bench.finish().await;
}

#[tokio::test]
async fn what_no_ledger_knows_is_none_of_a_rounds_business() {
    let bench = Bench::start(1).await;
    bench.store.put_new(&SegmentId::mint(bench.ambient.now(), 7).key(), vec![Bytes::from_static(b"?")]).await.unwrap();
    bench.pass_grace();
    bench.collector().round().await;
    assert_eq!(bench.objects().await, 1);
    bench.finish().await;
}

#[tokio::test]
async fn a_gateway_that_was_stopped_before_its_commit_and_goes_on_after_the_sweep_acknowledges_nothing() {
    let bench = Bench::start(1).await;
    bench.topic("t", Retention::default()).await;
    let collector = bench.mark().await;
    bench.append("t").await;
    let stopped = bench.stop_before_commit();
    let engine = Arc::clone(&bench.engine);
    let appending = tokio::spawn(async move { engine.append(&caller(), two_records("t")).await });
    stopped.arrived().await;
    assert_eq!(bench.objects().await, 2, "stored, and not committed");
    bench.pass(ORPHAN_GRACE + Duration::from_millis(1));
    let swept = collector.sweep().await.unwrap();
    assert_eq!((swept.orphans, swept.deleted, bench.objects().await), (1, 1, 1));
    stopped.go_on();
    let refused = appending.await.unwrap().unwrap_err();
    assert!(matches!(refused, Error::Unavailable { .. }), "it certainly did not happen: {refused:?}");
    // The client sends again.
    bench.append("t").await;
    assert_eq!(bench.read("t", 0).await.unwrap(), [0, 1, 2, 3]);
    bench.finish().await;
}

#[tokio::test]
async fn a_running_collector_is_woken_by_a_trim_and_stops_at_once() {
    let bench = Bench::start(1).await;
    bench.topic("t", Retention::default()).await;
    bench.append("t").await;
    let stop = CancellationToken::new();
    let running = tokio::spawn(bench.collector().run(stop.clone()));
    bench.trim("t", 2).await;
    let extents = async || bench.engine.describe_topic(&caller(), &name("t")).await.unwrap().status[0].extents;
    while extents().await > 0 {
        tokio::task::yield_now().await;
    }
    stop.cancel();
    running.await.unwrap().unwrap();
    bench.finish().await;
}

/// Two namespaces in different shards of two.
fn two_namespaces() -> (NamespaceName, NamespaceName) {
    let of = |shard: u32| {
        let mut names = (0..100).map(|n| NamespaceName::new(&format!("n{n}")).unwrap());
        names.find(|name| name.shard(2) == ShardId(shard)).unwrap()
    };
    (of(0), of(1))
}

async fn put_topic(bench: &Bench, namespace: &NamespaceName) -> TopicId {
    let caller = Caller { namespace: namespace.clone(), request_id: "test".into(), trace: None };
    bench.engine.put_namespace(&caller, namespace, String::new(), Precondition::Absent).await.unwrap();
    bench.engine.put_topic(&caller, &name("t"), TopicConfig::default(), Precondition::Absent, None).await.unwrap().0.id
}

/// Stores a segment with a record for each topic, and commits it for some of them.
async fn put_segment(bench: &Bench, topics: &[TopicId], committed: &[TopicId]) -> SegmentId {
    let mut builder = SegmentBuilder::new();
    for topic in topics {
        let mut batch = BatchEncoder::new(Compression::None);
        batch.push(&Record { value: Some(Bytes::from_static(b"x")), ..Record::default() }, bench.ambient.now());
        builder.add(*topic, P0, batch.finish().unwrap()).unwrap();
    }
    let segment = builder.finish();
    let id = SegmentId::mint(bench.ambient.now(), bench.ambient.entropy.draw());
    bench.store.put_new(&id.key(), segment.chunks).await.unwrap();
    for extent in segment.index.extents.iter().filter(|extent| committed.contains(&extent.topic)) {
        let slice = Slice {
            length: extent.length as u32,
            records: extent.records as u32,
            first_timestamp: extent.first_timestamp,
            max_timestamp: extent.max_timestamp,
            ..Slice::default()
        };
        let proposed = ProposedExtent { topic: extent.topic, partition: P0, position: extent.position, slices: vec![slice] };
        let commit = SegmentCommit { segment: id, size: segment.len, extents: vec![proposed], atoms: Vec::new() };
        bench.metadata.execute(extent.topic.shard(), Command::Commit(commit)).await.unwrap();
    }
    id
}

async fn trim(bench: &Bench, topic: TopicId) {
    bench.metadata.execute(topic.shard(), Command::Trim { topic, partition: None, before: Offset(u64::MAX) }).await.unwrap();
}
