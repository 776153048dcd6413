//! A gateway in the test's own process: its clock goes with tokio's, its stores fail on demand.

pub(crate) mod faults;
pub(crate) mod messages;
pub(crate) mod metadata;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use lakefall_gateway::Engine;
use lakefall_gateway::engine::{EngineConfig, EngineParts, IngestConfig, ReceiptKeys, SqlConfig};
use lakefall_metadata::memory::MemoryStore;
use lakefall_metadata::{Node, NodeConfig};
use lakefall_queue::clock::{Ambient, Clock, Entropy};
use lakefall_queue::error::Result;
use lakefall_queue::limits::Limits;
use lakefall_queue::topic::{TopicConfig, Urgency};
use lakefall_queue::verbs::{AckRange, Admission, Append, Appended, Caller, Fetched, Precondition, Read, Start, TopicAppend, Verbs};
use lakefall_queue::{NamespaceName, Offset, PartitionIndex, Record, StoredRecord, Timestamp, TopicName};
use lakefall_service::Tasks;
use lakefall_storage::cache::{Cache, CacheConfig};
use lakefall_storage::store::Store;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use faults::FaultStore;
use metadata::Watched;

pub(crate) const START: Timestamp = Timestamp::from_millis(1_700_000_000_000);

/// Wall time that goes with tokio's, so that a paused test owns it.
struct TokioClock(Instant);

impl Clock for TokioClock {
    fn now(&self) -> Timestamp {
        START.plus(self.0.elapsed())
    }

    fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
}

/// A clock that is ahead by so many seconds.
struct Skewed(Arc<dyn Clock>, i64);

impl Clock for Skewed {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.0.now().as_millis() + self.1 * 1_000)
    }

    fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
}

/// Numbers that no two draws share, spread over all bits (splitmix64's constant is odd).
struct Counter;

static DRAWN: AtomicU64 = AtomicU64::new(1);

impl Entropy for Counter {
    fn draw(&self) -> u128 {
        let number = DRAWN.fetch_add(1, Ordering::SeqCst).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        u128::from(number) << 64 | u128::from(number)
    }
}

/// Usage is reported when a test asks for it: at a drain.
const NEVER: Duration = Duration::from_secs(1 << 25);

/// How a world is made.
pub(crate) struct Setup {
    pub(crate) ingest: IngestConfig,
    pub(crate) node: NodeConfig,
    pub(crate) deaf: bool,
    pub(crate) read_buffer_bytes: usize,
}

impl Default for Setup {
    fn default() -> Self {
        let ingest = IngestConfig {
            target_bytes: 4 << 20,
            batch_bytes: 64 << 10,
            puts_per_second: None,
            put_burst: 10,
            uploads_max: 16,
            uploads_eager: 4,
            buffer_bytes: 64 << 20,
            admission_wait: Duration::from_millis(100),
        };
        Self { ingest, node: NodeConfig::default(), deaf: false, read_buffer_bytes: EngineConfig::READ_BUFFER_BYTES }
    }
}

pub(crate) struct World {
    pub(crate) engine: Arc<Engine>,
    pub(crate) metadata: Arc<Watched>,
    pub(crate) journal: Arc<MemoryStore>,
    pub(crate) objects: Arc<FaultStore>,
    tasks: Tasks,
    pub(crate) ambient: Ambient,
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with(Setup::default()).await
    }

    pub(crate) async fn with(setup: Setup) -> Self {
        let tasks = Tasks::new();
        let ambient = Ambient { clock: Arc::new(TokioClock(Instant::now())), entropy: Arc::new(Counter) };
        let journal = Arc::new(MemoryStore::new());
        let node = Node::start(Arc::clone(&journal) as _, setup.node, ambient.clone(), &tasks, tasks.token()).await.unwrap();
        node.ready().await;
        let metadata = Watched::new(node, setup.deaf);
        let objects = FaultStore::new();
        let config = EngineConfig {
            ingest: setup.ingest,
            limits: Limits::default(),
            read_buffer_bytes: setup.read_buffer_bytes,
            receipt_keys: keys(),
            sql: SqlConfig::default(),
            usage_interval: NEVER,
        };
        let engine = engine(&objects, &metadata, &ambient, &tasks, config).await;
        Self { engine, metadata, journal, objects, tasks, ambient }
    }

    /// Another gateway over the same stores, with an empty cache.
    pub(crate) async fn other_engine(&self) -> Arc<Engine> {
        self.engine_over(&self.metadata, self.ambient.clone()).await
    }

    /// Another gateway with its own way to the metadata service.
    pub(crate) async fn gateway(&self, deaf: bool) -> (Arc<Engine>, Arc<Watched>) {
        let metadata = Watched::new(Arc::clone(&self.metadata.node), deaf);
        (self.engine_over(&metadata, self.ambient.clone()).await, metadata)
    }

    /// Another gateway whose clock is wrong by so many seconds.
    pub(crate) async fn engine_with_clock(&self, seconds: i64) -> Arc<Engine> {
        let clock = Arc::new(Skewed(Arc::clone(&self.ambient.clock), seconds));
        self.engine_over(&self.metadata, Ambient { clock, entropy: Arc::clone(&self.ambient.entropy) }).await
    }

    async fn engine_over(&self, metadata: &Arc<Watched>, ambient: Ambient) -> Arc<Engine> {
        let Setup { ingest, read_buffer_bytes, .. } = Setup::default();
        engine(
            &self.objects,
            metadata,
            &ambient,
            &self.tasks,
            EngineConfig {
                ingest,
                limits: Limits::default(),
                read_buffer_bytes,
                receipt_keys: keys(),
                sql: SqlConfig::default(),
                usage_interval: NEVER,
            },
        )
        .await
    }

    /// How many tasks of this name run.
    pub(crate) fn running(&self, name: &str) -> u64 {
        self.tasks.list().iter().filter(|task| task.name == name).map(|task| task.running).sum()
    }

    pub(crate) async fn topic(&self, name: &str, partitions: u32) {
        self.topic_like(name, TopicConfig { partitions, ..TopicConfig::default() }).await;
    }

    pub(crate) async fn topic_of(&self, name: &str, urgency: Urgency) {
        self.topic_like(name, TopicConfig { urgency, ..TopicConfig::default() }).await;
    }

    pub(crate) async fn topic_like(&self, name: &str, config: TopicConfig) {
        self.engine.put_topic(&caller(), &topic(name), config, Precondition::Always, None).await.unwrap();
    }

    pub(crate) async fn send(&self, name: &str, values: &[&str]) -> Result<Appended> {
        self.append(append(name, values.iter().map(|v| record(v)).collect())).await
    }

    pub(crate) async fn append(&self, append: Append) -> Result<Appended> {
        self.engine.append(&caller(), append).await
    }

    /// Hands a request over in a task of its own; its place in the order is taken when this returns.
    pub(crate) async fn begin(&self, append: Append) -> JoinHandle<Result<Appended>> {
        let engine = Arc::clone(&self.engine);
        let begun = tokio::spawn(async move { engine.append(&caller(), append).await });
        settle().await;
        begun
    }

    pub(crate) async fn read(&self, read: Read) -> Result<Fetched> {
        self.engine.read(&caller(), read).await
    }

    /// All values of a topic in the order of partition and offset.
    pub(crate) async fn values(&self, name: &str) -> Vec<String> {
        values(&all(&self.engine, name).await)
    }
}

pub(crate) async fn engine(
    objects: &Arc<FaultStore>,
    metadata: &Arc<Watched>,
    ambient: &Ambient,
    tasks: &Tasks,
    config: EngineConfig,
) -> Arc<Engine> {
    let store = Store::over(Arc::clone(objects) as _);
    let cache = Arc::new(Cache::new(store.clone(), CacheConfig { memory_bytes: 16 << 20, ..CacheConfig::default() }).await);
    let parts = EngineParts { store, cache, metadata: Arc::clone(metadata) as _, ambient: ambient.clone() };
    Engine::start(config, parts, tasks, tasks.token())
}

/// Lets every task that can run do so.
pub(crate) async fn settle() {
    for _ in 0..64 {
        tokio::task::yield_now().await;
    }
}

pub(crate) fn caller() -> Caller {
    Caller { namespace: NamespaceName::default_name(), request_id: "test".into(), trace: None }
}

pub(crate) fn topic(name: &str) -> TopicName {
    TopicName::new(name).unwrap()
}

pub(crate) fn record(value: &str) -> Record {
    Record { value: Some(Bytes::copy_from_slice(value.as_bytes())), ..Record::default() }
}

pub(crate) fn keyed(key: &str, value: &str) -> Record {
    Record { key: Some(Bytes::copy_from_slice(key.as_bytes())), ..record(value) }
}

pub(crate) fn placed(partition: u32, value: &str) -> Record {
    Record { partition: Some(PartitionIndex(partition)), ..record(value) }
}

pub(crate) fn append(name: &str, records: Vec<Record>) -> Append {
    append_of(TopicAppend::new(topic(name), records))
}

pub(crate) fn append_of(batch: TopicAppend) -> Append {
    Append { batch, atomic: false, idempotency: None, order: None, admission: Admission::default() }
}

pub(crate) fn read(name: &str, from: &[(u32, Start)]) -> Read {
    Read {
        topic: topic(name),
        from: from.iter().map(|(p, s)| (PartitionIndex(*p), *s)).collect(),
        max_records: 1_000,
        max_bytes: 1 << 20,
        until_offset: None,
        until_timestamp: None,
        wait: Duration::ZERO,
    }
}

/// Every record of a topic, read in small pieces.
pub(crate) async fn all(engine: &Engine, name: &str) -> Vec<StoredRecord> {
    let partitions = engine.describe_topic(&caller(), &topic(name)).await.unwrap().topic.config.partitions;
    let mut found = Vec::new();
    for partition in 0..partitions {
        let mut at = Start::Earliest;
        loop {
            let fetched = engine.read(&caller(), Read { max_records: 100, ..read(name, &[(partition, at)]) }).await.unwrap();
            let Some(last) = fetched.records.last() else { break };
            at = Start::Offset(last.offset.plus(1));
            found.extend(fetched.records);
        }
    }
    found
}

pub(crate) fn values(records: &[StoredRecord]) -> Vec<String> {
    records.iter().map(|r| String::from_utf8(r.value.clone().unwrap().to_vec()).unwrap()).collect()
}

/// Partition and offset of each record of the request, in its order.
pub(crate) fn places(appended: &Appended) -> Vec<(u32, u64)> {
    let place = |range: &AckRange| {
        let (partition, first) = (range.partition.0, range.first_offset.0);
        (0..u64::from(range.count)).map(move |i| (partition, first + i))
    };
    appended.ranges.iter().flat_map(place).collect()
}

pub(crate) fn start_at(offset: u64) -> Start {
    Start::Offset(Offset(offset))
}

/// A sequence of numbers that its seed tells: xorshift64*.
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        println!("seed {seed}");
        Self(seed.max(1))
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % bound
    }
}

/// What all gateways of a world seal receipts with.
pub(crate) fn keys() -> ReceiptKeys {
    ReceiptKeys::new(b"a key of a test, thirty-two bytes".to_vec(), Vec::new())
}
