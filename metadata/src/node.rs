//! The metadata service of one process: an owner for each shard that it holds, and the handle through which everyone asks
//! them. Without leases it holds every shard for as long as it lives; with them it is one replica among others.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use lakefall_queue::clock::{Ambient, Clock};
use lakefall_queue::error::{Error, Result};
use lakefall_queue::id::JournalSeq;
use lakefall_queue::ledger::{Answer, Command, Query, Reply};
use lakefall_queue::planted::{self, Bug};
use lakefall_queue::{Offset, ShardId, Timestamp};
use lakefall_service::{FollowingClock, Tasks};
use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use crate::attend::{Attendance, LastRoll};
use crate::located::{read_error, stored_time, with_stored};
use crate::news::NewsDesk;
pub use crate::news::{Followed, News};
use crate::owner::Request;
use crate::peers::{Membership, NoPeers};
use crate::slots::{Farewell, Slots};
use crate::store::{ExtentScan, Holding, Identity, MetadataStore, Replica, ReplicaId, StoreError};
use crate::supervisor::Supervisor;

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

/// Why a replica did not do what it was asked.
#[derive(Clone, Debug)]
pub enum NotDone {
    /// It does not serve the shard; this one does, as far as it knows. Nothing happened.
    Elsewhere(Option<Replica>),
    /// It serves the shard, and refused.
    Failed(Error),
}

impl From<NotDone> for Error {
    fn from(not_done: NotDone) -> Self {
        match not_done {
            NotDone::Failed(error) => error,
            NotDone::Elsewhere(Some(owner)) => Self::unavailable(format!("the shard is served by the metadata replica {}", owner.address)),
            NotDone::Elsewhere(None) => Self::unavailable("the shard is changing its owner, or the metadata service is stopping"),
        }
    }
}

/// Who is there and who serves what, as far as a replica knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Roster {
    /// Shards of the cluster.
    pub shards: u32,
    /// Replicas that are alive, in the order of their ids.
    pub replicas: Vec<Replica>,
    /// Every shard, in order. Of its own this replica knows at once, of those of others what the store said last.
    pub holdings: Vec<Holding>,
    /// The time by which the cluster goes.
    pub now: Timestamp,
    /// Since when the store said nothing new. `None`: it was never heard, or there are no leases.
    pub age: Option<Duration>,
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

    /// What becomes durable from here on. One that lags too far behind is told so by the channel: the same as
    /// [`News::Missed`].
    fn subscribe(&self) -> broadcast::Receiver<Arc<News>>;

    /// What tells the metadata store from its own past.
    async fn identity(&self) -> Result<Identity>;
}

/// The shards as this process serves or knows them.
pub struct Node {
    me: Replica,
    store: Arc<dyn MetadataStore>,
    clock: Arc<dyn Clock>,
    slots: Slots,
    news: NewsDesk,
    last: Arc<LastRoll>,
}

impl Node {
    /// Starts a node that is alone: see [`Node::join`]. A store with leases needs to know for whom it acts, and is refused.
    pub async fn start(
        store: Arc<dyn MetadataStore>,
        config: NodeConfig,
        ambient: Ambient,
        tasks: &Tasks,
        stop: CancellationToken,
    ) -> Result<Arc<Self>, StoreError> {
        if store.lease_time().is_some() {
            return Err(StoreError::Misconfigured("this metadata store has leases: its replica must be named".to_owned()));
        }
        let me = Replica { id: ReplicaId(0), address: String::new() };
        Self::join(store, config, ambient, tasks, stop, Membership { me, peers: Arc::new(NoPeers) }).await
    }

    /// Starts a replica. Without leases it takes every shard; with them, its share of the shards, as it is or becomes free.
    ///
    /// When `stop` is cancelled, every shard is handed over: requests that wait are answered, and later ones are told
    /// [`NotDone::Elsewhere`]. Without leases nobody takes over: cancel it only when nobody asks any more.
    pub async fn join(
        store: Arc<dyn MetadataStore>,
        config: NodeConfig,
        ambient: Ambient,
        tasks: &Tasks,
        stop: CancellationToken,
        membership: Membership,
    ) -> Result<Arc<Self>, StoreError> {
        store.initialize(config.shards).await?;
        let slots = Slots::new(config.shards);
        let news = NewsDesk::new();
        let last = Arc::new(LastRoll::default());
        // Groups go by the store's clock where there is one for all. L7 keeps them from going back when it steps.
        let following = Arc::new(FollowingClock::new(Arc::clone(&ambient.clock)));
        let leased = store.lease_time();
        let follows = leased.is_some() && !planted::is(Bug::LeaseByOwnClock);
        let ambient = if follows { Ambient { clock: Arc::clone(&following) as _, ..ambient } } else { ambient };
        let clock = Arc::clone(&ambient.clock);
        let me = membership.me.clone();
        let mut orders = Vec::new();
        for shard in (0..config.shards).map(ShardId) {
            let (order, ordered) = mpsc::channel(1);
            let supervisor = Supervisor {
                shard,
                store: Arc::clone(&store),
                ambient: ambient.clone(),
                config: config.clone(),
                news: news.clone(),
                slots: slots.clone(),
            };
            tasks.spawn_critical("shard-owner", supervisor.run(ordered));
            orders.push(order);
        }
        let node = Arc::new(Self { me, store: Arc::clone(&store), clock, slots: slots.clone(), news, last: Arc::clone(&last) });
        match leased {
            Some(lease) => {
                let tasks_of = tasks.clone();
                let attendance = Attendance { membership, store, lease, slots, clock: following, last, orders, tasks: tasks_of };
                tasks.spawn_critical("attendance", attendance.run(stop));
            }
            None => {
                for (shard, order) in (0..).map(ShardId).zip(orders) {
                    let farewell = Farewell { prepare: CancellationToken::new(), go: stop.clone() };
                    if let Some(tenancy) = slots.order(shard, farewell) {
                        // There is a place, and the supervisor waits for it; else the process is about to end.
                        let _ = order.try_send(tenancy);
                    }
                }
                slots.settled();
            }
        }
        Ok(node)
    }

    /// Returns when it is known who holds what, and all that this replica holds is served.
    pub async fn ready(&self) {
        self.slots.ready().await;
    }

    /// Returns when this replica holds no shard: after it was told to stop, when every shard is handed over.
    pub async fn handed_over(&self) {
        self.slots.empty().await;
    }

    /// This replica.
    pub fn me(&self) -> &Replica {
        &self.me
    }

    /// The time by which the cluster goes: the store's where it has leases, else this machine's.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Looks at once who is there and which shards are free, rather than at the next occasion: a peer gave some back.
    /// However often it is called, the store is asked at most every few milliseconds.
    pub fn nudge(&self) {
        self.slots.wake();
    }

    /// Who is there and who serves what.
    pub fn roster(&self) -> Roster {
        let (roll, age) = match self.last.get() {
            Some((roll, asked)) => (Some(roll), Some(self.clock.elapsed().saturating_sub(asked))),
            None => (None, None),
        };
        let holding = |shard: ShardId| {
            let (owner, left) = self.slots.owner(shard, &self.me);
            let rolled = roll.as_ref().and_then(|roll| roll.holdings.get(shard.0 as usize)).map(|holding| holding.remaining);
            let remaining = left.or(rolled.map(|rolled| rolled.saturating_sub(age.unwrap_or_default()))).unwrap_or_default();
            Holding { shard, remaining: if owner.is_some() { remaining } else { Duration::ZERO }, owner }
        };
        Roster {
            shards: self.slots.count(),
            holdings: (0..self.slots.count()).map(ShardId).map(holding).collect(),
            replicas: roll.as_ref().map_or_else(|| vec![self.me.clone()], |roll| roll.replicas.clone()),
            now: self.now(),
            age,
        }
    }

    /// Changes when which shards are served here may have.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.slots.changes()
    }

    /// What became durable on this replica since `seen`, the last entry of each shard that the follower was told of, and what
    /// does from here on.
    pub fn follow(&self, seen: &BTreeMap<ShardId, JournalSeq>) -> Followed {
        self.news.follow(seen)
    }

    /// [`Metadata::execute`], if this replica serves the shard.
    pub async fn execute_here(&self, shard: ShardId, command: Command) -> Result<Reply, NotDone> {
        self.ask(shard, |to| Request::Execute(command, to)).await
    }

    /// [`Metadata::query`], if this replica serves the shard.
    pub async fn query_here(&self, shard: ShardId, query: Query) -> Result<Answer, NotDone> {
        for _ in 0..LOOKS {
            let answer = self.ask(shard, |to| Request::Query(query.clone(), to)).await?;
            match (&query, answer) {
                (&Query::Locate { topic, partition, from, max_bytes, max_extents }, Answer::Located(located)) => {
                    let scan = ExtentScan { topic, partition, from, below: Offset(0), max_bytes, max_extents };
                    let found = with_stored(&*self.store, shard, scan, located).await;
                    if let Some(located) = found.map_err(NotDone::Failed)? {
                        return Ok(Answer::Located(located));
                    }
                }
                (&Query::LocateTime { topic, partition, at }, Answer::Located(located)) => {
                    let found = stored_time(&*self.store, shard, topic, partition, at, located).await;
                    return found.map(Answer::Located).map_err(NotDone::Failed);
                }
                (_, answer) => return Ok(answer),
            }
        }
        Err(NotDone::Failed(Error::Internal("extents that the owner counts on are missing in the metadata store".to_owned())))
    }

    async fn ask<T>(&self, shard: ShardId, request: impl FnOnce(oneshot::Sender<Result<T, NotDone>>) -> Request) -> Result<T, NotDone> {
        let unknown = |reason| Err(NotDone::Failed(Error::unknown(reason)));
        let queue = match self.slots.queue(shard) {
            None => return Err(NotDone::Failed(Error::Internal(format!("there is no shard {shard}")))),
            Some(Err(owner)) => return Err(NotDone::Elsewhere(owner)),
            Some(Ok(queue)) => queue,
        };
        let (to, answer) = oneshot::channel();
        let asked = async {
            // The queue closed since: the request did not get in.
            queue.send(request(to)).await.map_err(|_| NotDone::Elsewhere(None))?;
            // Dropped without an answer: the owner died with the request in hand.
            answer.await.unwrap_or_else(|_| unknown("the metadata service stopped before it answered"))
        };
        tokio::time::timeout(DEADLINE, asked).await.unwrap_or_else(|_| unknown("the metadata service did not answer in time"))
    }
}

#[async_trait]
impl Metadata for Node {
    fn shards(&self) -> u32 {
        self.slots.count()
    }

    async fn execute(&self, shard: ShardId, command: Command) -> Result<Reply> {
        Ok(self.execute_here(shard, command).await?)
    }

    async fn query(&self, shard: ShardId, query: Query) -> Result<Answer> {
        Ok(self.query_here(shard, query).await?)
    }

    fn subscribe(&self) -> broadcast::Receiver<Arc<News>> {
        self.news.subscribe()
    }

    async fn identity(&self) -> Result<Identity> {
        self.store.identity().await.map_err(read_error)
    }
}
