//! The metadata service of one process: an owner for each shard, and the handle through which everyone asks them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use lakefall_queue::clock::Ambient;
use lakefall_queue::error::{Error, Result};
use lakefall_queue::ledger::{Answer, Command, Extent, Located, Notice, Query, Reply};
use lakefall_queue::{Offset, PartitionIndex, ShardId, Timestamp, TopicId};
use lakefall_service::Tasks;
use tokio::sync::{Notify, broadcast, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::owner::Request;
use crate::store::{ExtentScan, MetadataStore, StoreError};
use crate::supervisor::Supervisor;

/// Requests that wait for one shard; beyond it callers wait for a place.
const QUEUE: usize = 8_192;
/// Notices that a subscriber may lag behind; beyond it it is told so and has to look for itself.
const NOTICES: usize = 4_096;
/// How long a caller waits for an answer before it is told that it is unknown.
const DEADLINE: Duration = Duration::from_secs(30);

/// How often the owner and the store are looked at until they agree about where a partition begins. Two are enough unless
/// retention is faster than the looks; a store that lost extents never agrees.
const LOOKS: usize = 5;

/// How the metadata service works.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// Shards of the cluster, fixed at its creation.
    pub shards: u32,
    /// Write a checkpoint after this many journal entries.
    pub checkpoint_entries: u64,
    /// Or after this many bytes of them.
    pub checkpoint_bytes: u64,
    /// Extents of a partition that stay in memory although they are in the store: what tail readers ask for.
    pub recent_extents: usize,
}

impl Default for NodeConfig {
    fn default() -> Self {
        Self { shards: 1, checkpoint_entries: 2_000, checkpoint_bytes: 16 << 20, recent_extents: 256 }
    }
}

/// What became durable in one group.
#[derive(Debug)]
pub struct NoticeBatch {
    /// Where.
    pub shard: ShardId,
    /// In journal order.
    pub notices: Vec<Notice>,
}

/// What gateways and compactors ask of the metadata service, in this process or over the network.
#[async_trait]
pub trait Metadata: Send + Sync + 'static {
    /// Shards of the cluster.
    fn shards(&self) -> u32;

    /// Changes a shard's state. The answer is durable. [`Error::Unknown`] may be asked again: commits are idempotent by
    /// segment id (L3).
    async fn execute(&self, shard: ShardId, command: Command) -> Result<Reply>;

    /// Looks at a shard's state. Extents that are no longer in the owner's memory are read from the store.
    async fn query(&self, shard: ShardId, query: Query) -> Result<Answer>;

    /// What becomes durable from here on.
    fn subscribe(&self) -> broadcast::Receiver<Arc<NoticeBatch>>;
}

/// Tells subscribers what became durable.
#[derive(Clone)]
pub(crate) struct NoticeSender(broadcast::Sender<Arc<NoticeBatch>>);

impl NoticeSender {
    pub(crate) fn publish(&self, shard: ShardId, notices: Vec<Notice>) {
        if !notices.is_empty() {
            // An error means that nobody listens.
            let _ = self.0.send(Arc::new(NoticeBatch { shard, notices }));
        }
    }
}

/// How many shards are served.
#[derive(Clone, Default)]
pub(crate) struct Serving(Arc<(AtomicUsize, Notify)>);

impl Serving {
    pub(crate) fn set(&self, _shard: ShardId, serving: bool) {
        if serving {
            self.0.0.fetch_add(1, Ordering::SeqCst);
        } else {
            self.0.0.fetch_sub(1, Ordering::SeqCst);
        }
        self.0.1.notify_waiters();
    }

    async fn reached(&self, shards: usize) {
        loop {
            let changed = self.0.1.notified();
            if self.0.0.load(Ordering::SeqCst) >= shards {
                return;
            }
            changed.await;
        }
    }
}

/// All shards, served by this process.
pub struct Node {
    store: Arc<dyn MetadataStore>,
    shards: Vec<mpsc::Sender<Request>>,
    notices: NoticeSender,
    serving: Serving,
}

impl Node {
    /// Starts an owner for every shard. They stop when `stop` is cancelled, after the requests before it are answered:
    /// cancel it only when nobody asks any more.
    pub async fn start(
        store: Arc<dyn MetadataStore>,
        config: NodeConfig,
        ambient: Ambient,
        tasks: &Tasks,
        stop: CancellationToken,
    ) -> Result<Arc<Self>, StoreError> {
        store.initialize(config.shards).await?;
        let notices = NoticeSender(broadcast::channel(NOTICES).0);
        let serving = Serving::default();
        let mut shards = Vec::new();
        for shard in (0..config.shards).map(ShardId) {
            let (sender, requests) = mpsc::channel(QUEUE);
            shards.push(sender);
            let supervisor = Supervisor {
                shard,
                store: Arc::clone(&store),
                ambient: ambient.clone(),
                config: config.clone(),
                notices: notices.clone(),
                requests,
                serving: serving.clone(),
            };
            tasks.spawn_critical("shard-owner", supervisor.run(stop.clone()));
        }
        Ok(Arc::new(Self { store, shards, notices, serving }))
    }

    /// Returns when every shard is served.
    pub async fn ready(&self) {
        self.serving.reached(self.shards.len()).await;
    }

    async fn ask<T>(&self, shard: ShardId, request: impl FnOnce(oneshot::Sender<Result<T>>) -> Request) -> Result<T> {
        let sender = self.shards.get(shard.0 as usize).ok_or_else(|| Error::Internal(format!("there is no shard {shard}")))?;
        let (to, answer) = oneshot::channel();
        let stopped = || Error::unavailable("the metadata service is stopping");
        let asked = async {
            sender.send(request(to)).await.map_err(|_| stopped())?;
            // Dropped without an answer: the owner died with the request in hand.
            answer.await.unwrap_or_else(|_| Err(Error::unknown("the metadata service stopped before it answered")))
        };
        tokio::time::timeout(DEADLINE, asked).await.unwrap_or_else(|_| Err(Error::unknown("the metadata service did not answer in time")))
    }

    /// Puts the extents that left the owner's memory before those that are in it. `None`: since the owner was asked, the
    /// first ones were retired and are gone from the store.
    async fn with_stored(&self, shard: ShardId, scan: ExtentScan, located: Located) -> Result<Option<Located>> {
        let from = scan.from.max(located.retired);
        if from >= located.first_recent || from >= located.end {
            return Ok(Some(located));
        }
        let scan = ExtentScan { from, below: located.first_recent, ..scan };
        let mut extents = self.store.scan_extents(shard, scan).await.map_err(read_error)?;
        if extents.first().is_none_or(|extent| extent.base_offset > from) {
            return Ok(None);
        }
        let mut next = extents.last().map_or(from, Extent::end);
        let mut bytes: u64 = extents.iter().map(|e| u64::from(e.length)).sum();
        for extent in &located.extents {
            if extent.base_offset != next || extents.len() >= scan.max_extents || bytes >= scan.max_bytes {
                break;
            }
            next = extent.end();
            bytes += u64::from(extent.length);
            extents.push(*extent);
        }
        Ok(Some(Located { extents, ..located }))
    }

    async fn stored_time(
        &self,
        shard: ShardId,
        topic: TopicId,
        partition: PartitionIndex,
        at: Timestamp,
        located: Located,
    ) -> Result<Located> {
        if located.log_start >= located.first_recent {
            return Ok(located);
        }
        let found = self.store.find_extent(shard, topic, partition, located.log_start, at).await.map_err(read_error)?;
        Ok(match found {
            Some(extent) if extent.base_offset < located.first_recent => Located { extents: vec![extent], ..located },
            _ => located,
        })
    }
}

#[async_trait]
impl Metadata for Node {
    fn shards(&self) -> u32 {
        self.shards.len() as u32
    }

    async fn execute(&self, shard: ShardId, command: Command) -> Result<Reply> {
        self.ask(shard, |to| Request::Execute(command, to)).await
    }

    async fn query(&self, shard: ShardId, query: Query) -> Result<Answer> {
        for _ in 0..LOOKS {
            let answer = self.ask(shard, |to| Request::Query(query.clone(), to)).await?;
            match (&query, answer) {
                (&Query::Locate { topic, partition, from, max_bytes, max_extents }, Answer::Located(located)) => {
                    let scan = ExtentScan { topic, partition, from, below: Offset(0), max_bytes, max_extents };
                    if let Some(located) = self.with_stored(shard, scan, located).await? {
                        return Ok(Answer::Located(located));
                    }
                }
                (&Query::LocateTime { topic, partition, at }, Answer::Located(located)) => {
                    return self.stored_time(shard, topic, partition, at, located).await.map(Answer::Located);
                }
                (_, answer) => return Ok(answer),
            }
        }
        Err(Error::Internal("extents that the owner counts on are missing in the metadata store".to_owned()))
    }

    fn subscribe(&self) -> broadcast::Receiver<Arc<NoticeBatch>> {
        self.notices.0.subscribe()
    }
}

fn read_error(error: StoreError) -> Error {
    match error {
        StoreError::Corrupt(reason) => Error::Internal(reason),
        other => Error::unavailable(other.to_string()),
    }
}
