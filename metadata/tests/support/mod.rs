//! A metadata service in the test's own process, its clock and its store.

pub(crate) mod cluster;
pub(crate) mod fixtures;
pub(crate) mod link;
pub(crate) mod watched;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use lakefall_metadata::memory::MemoryStore;
use lakefall_metadata::{Loaded, Metadata, MetadataStore, Node, NodeConfig, rebuild};
use lakefall_queue::clock::{Ambient, Clock, Entropy};
use lakefall_queue::error::{Error, Outcome, Result};
use lakefall_queue::ledger::{Answer, Command, CommitReply, Ledger, Located, Query, Reply, SliceOutcome};
use lakefall_queue::{Offset, Timestamp, TopicId};
use lakefall_service::Tasks;
use tokio::time::Instant;

use fixtures::{P0, SHARD, START, put_topic};
use watched::Watched;

/// Wall time that goes with tokio's, so that a paused test owns it.
pub(crate) struct TokioClock(Instant);

impl TokioClock {
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }
}

impl Clock for TokioClock {
    fn now(&self) -> Timestamp {
        START.plus(self.0.elapsed())
    }

    fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
}

/// Numbers that no two draws share, also not those of two services.
pub(crate) struct Counter;

static DRAWN: AtomicU64 = AtomicU64::new(1);

impl Entropy for Counter {
    fn draw(&self) -> u128 {
        u128::from(DRAWN.fetch_add(1, Ordering::SeqCst))
    }
}

pub(crate) struct Service {
    pub(crate) node: Arc<Node>,
    pub(crate) tasks: Tasks,
}

/// Writes no checkpoint before it stops.
pub(crate) fn quiet() -> NodeConfig {
    NodeConfig { checkpoint_entries: u64::MAX, checkpoint_bytes: u64::MAX, ..NodeConfig::default() }
}

/// A store in memory whose faults a test orders, and the one around it that it looks over.
pub(crate) fn memory() -> (Arc<MemoryStore>, Arc<Watched>) {
    let memory = Arc::new(MemoryStore::new());
    let watched = Watched::new(Arc::clone(&memory) as Arc<dyn MetadataStore>);
    (memory, watched)
}

impl Service {
    pub(crate) async fn start(store: &Arc<Watched>, config: NodeConfig) -> Self {
        let tasks = Tasks::new();
        let ambient = Ambient { clock: Arc::new(TokioClock(Instant::now())), entropy: Arc::new(Counter) };
        let store = Arc::clone(store) as Arc<dyn MetadataStore>;
        let node = Node::start(store, config, ambient, &tasks, tasks.token()).await.unwrap();
        Self { node, tasks }
    }

    /// Started, serving, and with a topic.
    pub(crate) async fn with_topic(store: &Arc<Watched>, config: NodeConfig) -> (Self, TopicId) {
        let service = Self::start(store, config).await;
        service.node.ready().await;
        let topic = service.topic("orders").await;
        (service, topic)
    }

    pub(crate) async fn topic(&self, name: &str) -> TopicId {
        let Ok(Reply::Topic(topic, _)) = self.execute(put_topic(name, 1)).await else { panic!("no topic") };
        topic.id
    }

    pub(crate) async fn execute(&self, command: Command) -> Result<Reply> {
        self.node.execute(SHARD, command).await
    }

    /// Asks without waiting; the request is in the queue when this returns.
    pub(crate) async fn send(&self, command: Command) -> tokio::task::JoinHandle<Result<Reply>> {
        let node = Arc::clone(&self.node);
        let asked = tokio::spawn(async move { node.execute(SHARD, command).await });
        tokio::task::yield_now().await;
        asked
    }

    pub(crate) async fn send_query(&self, query: Query) -> tokio::task::JoinHandle<Result<Answer>> {
        let node = Arc::clone(&self.node);
        let asked = tokio::spawn(async move { node.query(SHARD, query).await });
        tokio::task::yield_now().await;
        asked
    }

    pub(crate) async fn locate(&self, topic: TopicId, from: u64) -> Result<Located> {
        located(self.node.query(SHARD, locate(topic, from)).await)
    }

    /// The end of the topic's only partition.
    pub(crate) async fn end(&self, topic: TopicId) -> u64 {
        self.locate(topic, 0).await.unwrap().end.0
    }

    /// Stops after the requests under way were answered.
    pub(crate) async fn stop(self) {
        self.tasks.shutdown(Duration::from_secs(60)).await.unwrap();
    }
}

pub(crate) fn locate(topic: TopicId, from: u64) -> Query {
    Query::Locate { topic, partition: P0, from: Offset(from), max_bytes: u64::MAX, max_extents: 1_000_000 }
}

pub(crate) fn located(answer: Result<Answer>) -> Result<Located> {
    match answer? {
        Answer::Located(located) => Ok(located),
        other => panic!("another answer: {other:?}"),
    }
}

pub(crate) fn committed(reply: Result<Reply>) -> Arc<CommitReply> {
    match reply {
        Ok(Reply::Committed(reply)) => reply,
        other => panic!("not committed: {other:?}"),
    }
}

/// The first offset of the one slice that was committed.
pub(crate) fn stored_at(reply: Result<Reply>) -> u64 {
    match committed(reply).slices[..] {
        [SliceOutcome::Stored(base)] => base.0,
        ref other => panic!("not stored: {other:?}"),
    }
}

/// The caller is told that nothing happened, and that it may try again.
pub(crate) fn assert_not_applied(error: &Error) {
    assert!(matches!(error, Error::Unavailable { .. }) && error.outcome() == Outcome::NotApplied, "{error:?}");
}

/// What is stored, without disturbing who owns it.
pub(crate) fn state(loaded: Loaded) -> Vec<u8> {
    settled(rebuild(SHARD, 1, loaded).unwrap())
}

/// The state that the whole history makes.
pub(crate) fn replayed(store: &Watched) -> Vec<u8> {
    state(Loaded { entries: store.history(), ..Loaded::default() })
}

/// Without the extents that happen to be in memory.
fn settled(mut ledger: Ledger) -> Vec<u8> {
    let checkpoint = ledger.checkpoint();
    ledger.checkpointed(&checkpoint, 0);
    ledger.snapshot()
}
