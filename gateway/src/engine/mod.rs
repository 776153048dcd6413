//! The engine: all verbs of the core over the ingest, the read path and the metadata service. Rooms see it only as
//! [`Verbs`].

mod append;
mod commit;
mod dedup;
mod live;
mod queues;
mod resolve;
mod resources;
mod schemas;
mod streams;
mod traced;
mod usage;
mod work;

use std::convert::Infallible;
use std::sync::{Arc, Weak};
use std::time::Duration;

use async_trait::async_trait;
use lakefall_metadata::{Metadata, Meter};
use lakefall_queue::clock::Ambient;
use lakefall_queue::error::Result;
use lakefall_queue::ledger::{Command, Reply};
use lakefall_queue::limits::Limits;
use lakefall_queue::queue::{
    Binding, Consumer, Delivery, Operation, Queue, QueueConfig, QueueStats, Receive, Redrive, SeekTo, Settled, Settlement,
};
use lakefall_queue::replay::Replay;
use lakefall_queue::sql::{Rows, Statement};
use lakefall_queue::topic::{Topic, TopicConfig, TopicDescription};
use lakefall_queue::verbs::{
    Admission, Append, Appended, Caller, Commit, Cursor, CursorMove, Fetched, Idempotency, Namespace, ObjectRange, OrderToken, Page,
    PageRequest, Position, Precondition, Read, Request, Start, Verbs, Work,
};
use lakefall_queue::{BindingName, CursorName, NamespaceName, Offset, PartitionIndex, QueueName, StoredRecord, TopicName};
use lakefall_service::Tasks;
use lakefall_sql::Sql;
use lakefall_storage::cache::Cache;
use lakefall_storage::store::Store;
use tokio_util::sync::CancellationToken;

pub use lakefall_sql::SqlConfig;

pub use crate::ingest::IngestConfig;
use crate::ingest::{Gate, Ingest, Router};
pub use crate::queues::ReceiptKeys;
use crate::queues::{Bell, Mover, Operations, Queues, Requests};
use crate::read::{Listeners, Reader, follow};
use crate::replays::Replays;
use crate::schemas::Schemas;
use crate::sql::Tables;
use crate::topics::Topics;
pub(crate) use resources::{object_range, unexpected};

/// How the engine works.
#[derive(Clone, Debug)]
pub struct EngineConfig {
    /// How records become objects.
    pub ingest: IngestConfig,
    /// What callers may send and ask for.
    pub limits: Limits,
    /// Bytes that answers to readers may occupy, all together, from when they are read until they were sent. Records count
    /// twice, as read and as written. Default [`EngineConfig::READ_BUFFER_BYTES`].
    pub read_buffer_bytes: usize,
    /// What receipts are sealed with. The same on all gateways of a cluster, so that one settles what another leased. Default:
    /// drawn at the start, so that receipts are of no use after a restart.
    pub receipt_keys: ReceiptKeys,
    /// What statements of SQL may use.
    pub sql: SqlConfig,
    /// How long what topics use is gathered before it is reported.
    pub usage_interval: Duration,
}

impl EngineConfig {
    /// 128 MiB: a few of the largest answers at once, or a thousand small ones.
    pub const READ_BUFFER_BYTES: usize = 128 << 20;
    /// A minute.
    pub const USAGE_INTERVAL: Duration = Duration::from_secs(60);
}

/// What the engine works with.
pub struct EngineParts {
    /// Where segments go.
    pub store: Store,
    /// What was written and read lately.
    pub cache: Arc<Cache>,
    /// Where order comes from.
    pub metadata: Arc<dyn Metadata>,
    /// Time and randomness.
    pub ambient: Ambient,
}

/// All verbs.
pub struct Engine {
    limits: live::LiveLimits,
    pub(crate) metadata: Arc<dyn Metadata>,
    pub(crate) topics: Arc<Topics>,
    schemas: Schemas,
    pub(crate) ingest: Ingest,
    pub(crate) gate: Gate,
    pub(crate) router: Arc<Router>,
    pub(crate) reader: Arc<Reader>,
    streams: streams::Streams,
    pub(crate) queues: Arc<Queues>,
    work: work::Work,
    sql: Sql,
    usage: Arc<Meter>,
    pub(crate) ambient: Ambient,
}

impl Engine {
    /// Starts the engine's tasks. They end when `stop` is cancelled: after [`Engine::drain`].
    pub fn start(config: EngineConfig, parts: EngineParts, tasks: &Tasks, stop: CancellationToken) -> Arc<Self> {
        let EngineParts { store, cache, metadata, ambient } = parts;
        let topics = Arc::new(Topics::new(Arc::clone(&metadata)));
        let usage = Meter::new(Arc::clone(&metadata), &ambient, config.usage_interval);
        tasks.spawn_critical::<_, Infallible>("usage", Arc::clone(&usage).run(stop.clone()));
        let stored = (Arc::clone(&cache), store.clone());
        let reader = Arc::new(Reader::new(Arc::clone(&metadata), stored, Arc::clone(&usage), ambient.clone(), config.read_buffer_bytes));
        let bell = Arc::new(Bell::new(Arc::clone(&metadata)));
        let listeners = Listeners { topics: Arc::clone(&topics), queues: Arc::clone(&bell) };
        tasks.spawn_critical::<_, Infallible>("notices", follow(Arc::clone(&reader.tails), listeners, Arc::clone(&metadata), stop.clone()));
        let gate = Gate::new(config.ingest.buffer_bytes, config.ingest.admission_wait);
        let ingest = Ingest::start(config.ingest, store, cache, Arc::clone(&metadata), ambient.clone(), tasks, stop.clone());
        let router = Arc::new(Router::default());
        let mover = Mover {
            metadata: Arc::clone(&metadata),
            topics: Arc::clone(&topics),
            ingest: ingest.clone(),
            gate: gate.clone(),
            router: Arc::clone(&router),
            reader: Arc::clone(&reader),
            usage: Arc::clone(&usage),
            ambient: ambient.clone(),
        };
        let operations = Operations::new(ambient.clone(), tasks.clone(), stop.clone());
        let requests = Requests::new(Arc::clone(&topics), ambient.clone(), tasks.clone(), stop.clone());
        let queues = Queues::new(mover, bell, &config.receipt_keys, tasks.clone(), stop);
        Arc::new_cyclic(|engine| Self {
            work: work::Work { engine: Weak::clone(engine), operations, replays: Replays::default(), requests },
            limits: live::LiveLimits::new(config.limits),
            schemas: Schemas::new(Arc::clone(&metadata)),
            metadata,
            topics,
            ingest,
            gate,
            router,
            reader,
            streams: streams::Streams::default(),
            queues,
            sql: Sql::new(config.sql),
            usage,
            ambient,
        })
    }

    /// Takes no more records and returns when all that were taken are answered.
    pub async fn drain(&self) {
        self.ingest.drain().await;
        self.usage.close().await;
    }

    pub(crate) async fn topic(&self, caller: &Caller, name: &TopicName) -> Result<Arc<Topic>> {
        self.topics.get(&caller.namespace, name).await
    }

    pub(crate) async fn execute(&self, namespace: &NamespaceName, command: Command) -> Result<Reply> {
        self.metadata.execute(namespace.shard(self.metadata.shards()), command).await
    }
}

#[async_trait]
impl Verbs for Engine {
    fn limits(&self) -> Arc<Limits> {
        self.limits_now()
    }

    async fn admit(&self, _caller: &Caller, bytes: usize) -> Result<Admission> {
        self.gate.admit(bytes).await
    }

    fn open_stream(&self) -> OrderToken {
        self.ingest.open_stream()
    }

    async fn append(&self, caller: &Caller, append: Append) -> Result<Appended> {
        self.append_traced(caller, append).await
    }

    async fn commit(&self, caller: &Caller, commit: Commit) -> Result<Vec<Appended>> {
        self.commit_traced(caller, commit).await
    }

    async fn read(&self, caller: &Caller, read: Read) -> Result<Fetched> {
        self.read_traced(caller, read).await
    }

    async fn aside(&self, work: Work) -> Result<()> {
        self.reader.aside(work).await
    }

    async fn offsets(&self, caller: &Caller, topic: &TopicName, partition: Option<PartitionIndex>, at: Start) -> Result<Vec<Position>> {
        let positions = |topic: Arc<Topic>| async move { self.reader.positions(&topic, &indexes(&topic, partition), at).await };
        self.on_topic(caller, topic, positions).await
    }

    async fn trim(&self, caller: &Caller, topic: &TopicName, partition: Option<PartitionIndex>, before: Offset) -> Result<Vec<Position>> {
        // Asked first, so that a topic or a partition that is not there is told as such.
        self.offsets(caller, topic, partition, Start::Earliest).await?;
        let described = self.topic(caller, topic).await?;
        self.execute(&caller.namespace, Command::Trim { topic: described.id, partition, before }).await?;
        // Its notice may come later than a reader who knows of the trim.
        self.reader.forget(described.id);
        self.offsets(caller, topic, partition, Start::Earliest).await
    }

    async fn put_topic(
        &self,
        caller: &Caller,
        name: &TopicName,
        config: TopicConfig,
        condition: Precondition,
        idempotency: Option<Idempotency>,
    ) -> Result<(Topic, bool)> {
        self.put_topic_checked(caller, name, config, condition, idempotency).await
    }

    async fn describe_topic(&self, caller: &Caller, name: &TopicName) -> Result<TopicDescription> {
        self.describe(caller, name).await
    }

    async fn list_topics(&self, caller: &Caller, page: PageRequest) -> Result<Page<Topic>> {
        self.topics_page(caller, page).await
    }

    async fn delete_topic(&self, caller: &Caller, name: &TopicName, condition: Precondition) -> Result<()> {
        let command = Command::DeleteTopic { namespace: caller.namespace.clone(), name: name.clone(), condition };
        self.execute(&caller.namespace, command).await?;
        self.topics.forget(&caller.namespace, name);
        Ok(())
    }

    async fn objects(
        &self,
        caller: &Caller,
        topic: &TopicName,
        partition: PartitionIndex,
        from: Offset,
        limit: usize,
    ) -> Result<Vec<ObjectRange>> {
        let ranges = |topic: Arc<Topic>| async move {
            let extents = self.reader.extents(&topic, partition, from, limit).await?;
            Ok(extents.iter().map(|extent| resources::object_range(&topic, partition, extent)).collect())
        };
        self.on_topic(caller, topic, ranges).await
    }

    async fn put_cursor(&self, caller: &Caller, change: CursorMove) -> Result<Cursor> {
        self.cursor_moved(caller, change).await
    }

    async fn get_cursor(&self, caller: &Caller, cursor: &CursorName) -> Result<Vec<Cursor>> {
        self.cursor(caller, cursor).await
    }

    async fn list_cursors(&self, caller: &Caller, page: PageRequest) -> Result<Page<Cursor>> {
        self.cursors_page(caller, page).await
    }

    async fn delete_cursor(&self, caller: &Caller, cursor: &CursorName, topic: Option<&TopicName>) -> Result<()> {
        let command = Command::DeleteCursor { namespace: caller.namespace.clone(), cursor: cursor.clone(), topic: topic.cloned() };
        self.execute(&caller.namespace, command).await.map(|_| ())
    }

    async fn put_namespace(
        &self,
        _caller: &Caller,
        name: &NamespaceName,
        description: String,
        condition: Precondition,
    ) -> Result<(Namespace, bool)> {
        self.namespace_put(name, description, condition).await
    }

    async fn get_namespace(&self, _caller: &Caller, name: &NamespaceName) -> Result<Namespace> {
        self.namespace(name).await
    }

    async fn list_namespaces(&self, _caller: &Caller, page: PageRequest) -> Result<Page<Namespace>> {
        self.namespaces_page(page).await
    }

    async fn delete_namespace(&self, _caller: &Caller, name: &NamespaceName, condition: Precondition) -> Result<()> {
        self.execute(name, Command::DeleteNamespace { name: name.clone(), condition }).await.map(|_| ())
    }

    async fn put_queue(
        &self,
        caller: &Caller,
        name: &QueueName,
        config: QueueConfig,
        condition: Precondition,
        idempotency: Option<Idempotency>,
    ) -> Result<(Queue, bool)> {
        self.queue_put(caller, name, config, condition, idempotency).await
    }

    async fn describe_queue(&self, caller: &Caller, name: &QueueName) -> Result<Queue> {
        self.queue_described(caller, name).await
    }

    async fn list_queues(&self, caller: &Caller, page: PageRequest) -> Result<Page<Queue>> {
        self.queues_page(caller, page).await
    }

    async fn delete_queue(&self, caller: &Caller, name: &QueueName, condition: Precondition) -> Result<()> {
        self.queue_deleted(caller, name, condition).await
    }

    async fn put_binding(&self, caller: &Caller, queue: &QueueName, id: &BindingName, binding: Binding) -> Result<(Queue, bool)> {
        self.binding_put(caller, queue, id, binding).await
    }

    async fn delete_binding(&self, caller: &Caller, queue: &QueueName, id: &BindingName) -> Result<Queue> {
        self.binding_deleted(caller, queue, id).await
    }

    async fn seek_queue(&self, caller: &Caller, queue: &QueueName, to: SeekTo) -> Result<Queue> {
        self.queue_sought(caller, queue, to).await
    }

    async fn queue_stats(&self, caller: &Caller, queue: &QueueName) -> Result<QueueStats> {
        self.queue_figures(caller, queue).await
    }

    async fn queue_topic(&self, caller: &Caller, queue: &QueueName) -> Result<TopicName> {
        self.topic_of_queue(caller, queue).await
    }

    async fn receive(&self, caller: &Caller, queue: &QueueName, receive: Receive) -> Result<Delivery> {
        self.receive_traced(caller, queue, receive).await
    }

    async fn consume(&self, caller: &Caller, queue: &QueueName, credit: u32, lease: Option<Duration>) -> Result<Box<dyn Consumer>> {
        self.consume_traced(caller, queue, credit, lease).await
    }

    async fn settle(&self, caller: &Caller, queue: &QueueName, settlements: Vec<Settlement>) -> Result<Vec<Settled>> {
        self.settle_traced(caller, queue, settlements).await
    }

    async fn peek(&self, caller: &Caller, queue: &QueueName, max: u32) -> Result<Delivery> {
        self.queues.peek(caller, queue, max).await
    }

    async fn cancel_message(
        &self,
        caller: &Caller,
        queue: &QueueName,
        topic: &TopicName,
        partition: PartitionIndex,
        offset: Offset,
    ) -> Result<()> {
        self.message_cancelled(caller, queue, topic, partition, offset).await
    }

    async fn redrive(&self, caller: &Caller, queue: &QueueName, redrive: Redrive) -> Result<Operation> {
        self.redrive_started(caller, queue, redrive).await
    }

    async fn replay(&self, caller: &Caller, replay: Replay) -> Result<Operation> {
        self.replay_started(caller, replay).await
    }

    async fn operation(&self, caller: &Caller, id: &str) -> Result<Operation> {
        self.operation_now(caller, id)
    }

    async fn cancel_operation(&self, caller: &Caller, id: &str) -> Result<Operation> {
        self.operation_cancelled(caller, id).await
    }

    async fn request(&self, caller: &Caller, request: Request) -> Result<(TopicName, StoredRecord)> {
        self.replied(caller, request).await
    }

    async fn sql(&self, caller: &Caller, statement: Statement) -> Result<Box<dyn Rows>> {
        self.sql.run(Arc::new(Tables::new(self.work.engine()?, caller.clone())), statement).await
    }
}

/// The partition named, or all.
fn indexes(topic: &Topic, partition: Option<PartitionIndex>) -> Vec<PartitionIndex> {
    match partition {
        Some(partition) => vec![partition],
        None => (0..topic.config.partitions).map(PartitionIndex).collect(),
    }
}
