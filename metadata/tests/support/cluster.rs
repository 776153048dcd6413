//! Several replicas of the metadata service in one process, over one store, in the test's own time.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use lakefall_metadata::memory::MemoryStore;
use lakefall_metadata::{Membership, MetadataStore, Node, NodeConfig, NotDone, Peers, Replica, ReplicaId};
use lakefall_queue::clock::{Ambient, Clock};
use lakefall_queue::ledger::{Answer, Command, JournalPosition, Query, Reply};
use lakefall_queue::{NamespaceName, ShardId, Timestamp, TopicId};
use lakefall_service::Tasks;
use tokio::time::Instant;

use super::fixtures::{START, put_topic_in};
use super::link::{Link, Weather};
use super::{Counter, TokioClock, quiet};

/// The leases of these clusters.
pub(crate) const LEASE: Duration = Duration::from_secs(10);

/// A replica's own clock: it may differ from the others', and jump as a process does that was stopped.
pub(crate) struct OwnClock {
    real: Arc<TokioClock>,
    ahead_ms: AtomicU64,
    slept_ms: AtomicU64,
}

impl OwnClock {
    /// So much time passed that nobody in this process noticed.
    pub(crate) fn jump(&self, by: Duration) {
        self.slept_ms.fetch_add(by.as_millis() as u64, Ordering::SeqCst);
    }

    pub(crate) fn wrong_by(&self, by: Duration) {
        self.ahead_ms.store(by.as_millis() as u64, Ordering::SeqCst);
    }
}

impl Clock for OwnClock {
    fn now(&self) -> Timestamp {
        START.plus(self.elapsed() + Duration::from_millis(self.ahead_ms.load(Ordering::SeqCst)))
    }

    fn elapsed(&self) -> Duration {
        self.real.elapsed() + Duration::from_millis(self.slept_ms.load(Ordering::SeqCst))
    }
}

/// Who answers at which address.
#[derive(Default)]
pub(crate) struct Exchange {
    nodes: Mutex<BTreeMap<String, Arc<Node>>>,
    pub(crate) nudges: AtomicU64,
}

#[async_trait]
impl Peers for Exchange {
    async fn nudge(&self, replica: &Replica) {
        self.nudges.fetch_add(1, Ordering::SeqCst);
        let node = self.nodes.lock().unwrap().get(&replica.address).cloned();
        if let Some(node) = node {
            node.nudge();
        }
    }
}

pub(crate) struct Member {
    pub(crate) node: Arc<Node>,
    pub(crate) tasks: Tasks,
    pub(crate) link: Arc<Link>,
    pub(crate) clock: Arc<OwnClock>,
}

pub(crate) struct Cluster {
    pub(crate) store: MemoryStore,
    pub(crate) exchange: Arc<Exchange>,
    pub(crate) config: NodeConfig,
    pub(crate) lease: Duration,
    clock: Arc<TokioClock>,
    next: u128,
}

impl Cluster {
    pub(crate) fn new(shards: u32) -> Self {
        Self {
            store: MemoryStore::new(),
            exchange: Arc::default(),
            config: NodeConfig { shards, ..quiet() },
            lease: LEASE,
            clock: Arc::new(TokioClock::start()),
            next: 1,
        }
    }

    /// A replica joins.
    pub(crate) async fn join(&mut self) -> Member {
        self.join_with(Weather::Fair, self.next as u64).await
    }

    pub(crate) async fn join_with(&mut self, weather: Weather, seed: u64) -> Member {
        let me = Replica { id: ReplicaId(self.next), address: format!("replica-{}", self.next) };
        self.next += 1;
        let handle = self.store.replica(me.clone(), self.lease, Arc::clone(&self.clock) as _);
        let link = Link::new(Arc::new(handle), seed);
        link.set(weather);
        let clock = Arc::new(OwnClock { real: Arc::clone(&self.clock), ahead_ms: AtomicU64::default(), slept_ms: AtomicU64::default() });
        let ambient = Ambient { clock: Arc::clone(&clock) as _, entropy: Arc::new(Counter) };
        let tasks = Tasks::new();
        let membership = Membership { me: me.clone(), peers: Arc::clone(&self.exchange) as _ };
        let store = Arc::clone(&link) as Arc<dyn MetadataStore>;
        let node = Node::join(store, self.config.clone(), ambient, &tasks, tasks.token(), membership).await.unwrap();
        self.exchange.nodes.lock().unwrap().insert(me.address, Arc::clone(&node));
        Member { node, tasks, link, clock }
    }

    /// So many replicas, among whom the shards are spread.
    pub(crate) async fn of(shards: u32, replicas: usize) -> (Self, Vec<Member>) {
        let mut cluster = Self::new(shards);
        let mut members = Vec::new();
        for _ in 0..replicas {
            members.push(cluster.join().await);
        }
        cluster.settled(&members).await;
        (cluster, members)
    }

    pub(crate) fn shards(&self) -> impl Iterator<Item = ShardId> {
        (0..self.config.shards).map(ShardId)
    }

    /// Returns when every shard is served by one of `members` and their counts differ by at most one.
    pub(crate) async fn settled(&self, members: &[Member]) {
        within(Duration::from_secs(60), || async {
            let mut counts = Vec::new();
            for member in members {
                counts.push(self.serves(member).await.len() as u32);
            }
            let spread = counts.iter().max().unwrap() - counts.iter().min().unwrap();
            counts.iter().sum::<u32>() == self.config.shards && spread <= 1
        })
        .await;
    }

    /// Which shards a member answers for.
    pub(crate) async fn serves(&self, member: &Member) -> Vec<ShardId> {
        let mut served = Vec::new();
        for shard in self.shards() {
            if member.position(shard).await.is_ok() {
                served.push(shard);
            }
        }
        served
    }

    /// The replica that answers for a shard, as soon as there is one.
    pub(crate) async fn owner<'a>(&self, members: &'a [Member], shard: ShardId) -> &'a Member {
        let until = Instant::now() + Duration::from_secs(60);
        loop {
            for member in members {
                if member.position(shard).await.is_ok() {
                    return member;
                }
            }
            assert!(Instant::now() < until, "nobody serves shard {shard}");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// A namespace that lives in the shard.
    pub(crate) fn namespace(&self, shard: ShardId) -> NamespaceName {
        (0..).map(|n| NamespaceName::new(&format!("ns-{n}")).unwrap()).find(|name| name.shard(self.config.shards) == shard).unwrap()
    }
}

impl Member {
    pub(crate) async fn position(&self, shard: ShardId) -> Result<JournalPosition, NotDone> {
        match self.node.query_here(shard, Query::Position).await? {
            Answer::Position(position) => Ok(position),
            other => panic!("another answer: {other:?}"),
        }
    }

    /// A topic of one partition, in a namespace of its own.
    pub(crate) async fn topic(&self, shard: ShardId, namespace: NamespaceName) -> TopicId {
        let put = Command::PutNamespace {
            name: namespace.clone(),
            description: String::new(),
            condition: lakefall_queue::verbs::Precondition::Always,
        };
        self.node.execute_here(shard, put).await.unwrap();
        match self.node.execute_here(shard, put_topic_in(namespace, "orders", 1)).await.unwrap() {
            Reply::Topic(topic, _) => topic.id,
            other => panic!("another reply: {other:?}"),
        }
    }

    /// From here on nobody hears of it, and it hears of nobody.
    pub(crate) fn die(&self) {
        self.link.set(Weather::Cut);
    }

    pub(crate) async fn leave(&self) {
        self.tasks.shutdown(Duration::from_secs(60)).await.unwrap();
    }
}

/// Waits until it is so.
pub(crate) async fn within<F: Future<Output = bool>>(limit: Duration, mut so: impl FnMut() -> F) {
    let until = Instant::now() + limit;
    while !so().await {
        assert!(Instant::now() < until, "it did not come to be within {limit:?}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}
