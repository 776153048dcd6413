//! Real replicas over a store in memory, each behind a proxy, and clients of them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use lakefall_metadata::memory::MemoryStore;
use lakefall_metadata::rpc::{Client, ClientConfig, ClientSecurity, Host, RpcPeers, ServerSecurity, Serving, serve};
use lakefall_metadata::{
    Followed, Identity, Membership, Metadata, MetadataStore, NoPeers, Node, NodeConfig, NotDone, Peers, Replica, ReplicaId, Roster,
};
use lakefall_queue::clock::{Ambient, Clock};
use lakefall_queue::error::Result;
use lakefall_queue::id::JournalSeq;
use lakefall_queue::ledger::{Answer, Command, ProposedExtent, Query, Reply, SegmentCommit, Slice, SliceOutcome};
use lakefall_queue::topic::{Topic, TopicConfig};
use lakefall_queue::verbs::Precondition;
use lakefall_queue::{NamespaceName, Offset, PartitionIndex, SegmentId, ShardId, Timestamp, TopicId, TopicName};
use lakefall_service::net::Dialing;
use lakefall_service::{Tasks, system_ambient};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::proxy::Proxy;

pub(crate) const P0: PartitionIndex = PartitionIndex(0);
/// The leases of replicas that share shards.
pub(crate) const LEASE: Duration = Duration::from_secs(2);

/// A real node whose answers a test may hold back.
pub(crate) struct Held {
    node: Arc<Node>,
    /// Answers to commands wait for it, after they were applied.
    pub(crate) open: watch::Sender<bool>,
    pub(crate) commands: AtomicU64,
    pub(crate) queries: AtomicU64,
}

impl Held {
    pub(crate) fn hold(&self) {
        self.open.send_replace(false);
    }

    pub(crate) fn release(&self) {
        self.open.send_replace(true);
    }

    pub(crate) fn commands(&self) -> u64 {
        self.commands.load(Ordering::SeqCst)
    }

    pub(crate) fn queries(&self) -> u64 {
        self.queries.load(Ordering::SeqCst)
    }
}

#[async_trait]
impl Host for Held {
    fn me(&self) -> Replica {
        self.node.me().clone()
    }

    fn now(&self) -> Timestamp {
        self.node.now()
    }

    fn shards(&self) -> u32 {
        Metadata::shards(&*self.node)
    }

    fn roster(&self) -> Roster {
        self.node.roster()
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.node.changes()
    }

    async fn identity(&self) -> Result<Identity> {
        Metadata::identity(&*self.node).await
    }

    async fn execute_here(&self, shard: ShardId, command: Command) -> Result<Reply, NotDone> {
        let done = self.node.execute_here(shard, command).await;
        self.commands.fetch_add(1, Ordering::SeqCst);
        self.open.subscribe().wait_for(|open| *open).await.unwrap();
        done
    }

    async fn query_here(&self, shard: ShardId, query: Query) -> Result<Answer, NotDone> {
        self.queries.fetch_add(1, Ordering::SeqCst);
        self.node.query_here(shard, query).await
    }

    fn follow(&self, seen: &BTreeMap<ShardId, JournalSeq>) -> Followed {
        self.node.follow(seen)
    }

    fn nudge(&self) {
        self.node.nudge();
    }
}

/// A metadata replica that listens.
pub(crate) struct Running {
    pub(crate) node: Arc<Node>,
    pub(crate) held: Arc<Held>,
    pub(crate) serving: Serving,
    pub(crate) proxy: Proxy,
    pub(crate) tasks: Tasks,
    /// Of the node.
    pub(crate) leave: CancellationToken,
    /// Of the RPC.
    pub(crate) stop: CancellationToken,
    /// Its own address.
    pub(crate) listens: std::net::SocketAddr,
    /// Its address, through the proxy.
    pub(crate) url: String,
}

impl Running {
    /// Ends it as a killed process ends: nothing is given back, and its connections break.
    pub(crate) fn die(&self) {
        self.proxy.set(super::proxy::Ways { refuse: true, ..Default::default() });
        self.proxy.cut();
    }

    /// Hands its shards over, then stops.
    pub(crate) async fn stop(self) {
        // As a signal does: from here on, tasks may end.
        self.tasks.token().cancel();
        self.leave.cancel();
        until(Duration::from_secs(10), || async { self.node.roster().holdings.iter().all(|h| h.owner.as_ref() != Some(self.node.me())) })
            .await;
        self.stop.cancel();
        self.tasks.shutdown(Duration::from_secs(20)).await.unwrap();
    }
}

/// A store, and how its replicas are made.
pub(crate) struct World {
    pub(crate) store: Arc<MemoryStore>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) config: NodeConfig,
    pub(crate) leased: bool,
    pub(crate) server: ServerSecurity,
    pub(crate) client: ClientSecurity,
    pub(crate) scheme: &'static str,
    pub(crate) tasks: Tasks,
    next: AtomicU64,
}

impl World {
    /// For one replica that owns every shard.
    pub(crate) fn alone() -> Self {
        let config = NodeConfig { checkpoint_entries: u64::MAX, checkpoint_bytes: u64::MAX, ..NodeConfig::default() };
        Self {
            store: Arc::new(MemoryStore::new()),
            clock: system_ambient().clock,
            config,
            leased: false,
            server: ServerSecurity::default(),
            client: ClientSecurity::default(),
            scheme: "http",
            tasks: Tasks::new(),
            next: AtomicU64::new(1),
        }
    }

    /// For several replicas.
    pub(crate) fn shared(shards: u32) -> Self {
        let alone = Self::alone();
        Self { config: NodeConfig { shards, ..alone.config }, leased: true, ..alone }
    }

    pub(crate) async fn replica(&self) -> Running {
        let number = self.next.fetch_add(1, Ordering::SeqCst);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let listens = listener.local_addr().unwrap();
        let proxy = Proxy::start(listens).await;
        let url = format!("{}://127.0.0.1:{}", self.scheme, proxy.address.port());
        let me = Replica { id: ReplicaId(u128::from(number)), address: url.clone() };
        let handle: Arc<dyn MetadataStore> = if self.leased {
            Arc::new(self.store.replica(me.clone(), LEASE, Arc::clone(&self.clock)))
        } else {
            Arc::clone(&self.store) as _
        };
        let (tasks, leave, stop) = (Tasks::new(), CancellationToken::new(), CancellationToken::new());
        let ambient = Ambient { clock: Arc::clone(&self.clock), ..system_ambient() };
        let peers: Arc<dyn Peers> =
            if self.leased { Arc::new(RpcPeers::new(&self.client, Dialing::Tcp).unwrap()) } else { Arc::new(NoPeers) };
        let node = Node::join(handle, self.config.clone(), ambient, &tasks, leave.clone(), Membership { me, peers }).await.unwrap();
        node.ready().await;
        let held = Arc::new(Held {
            node: Arc::clone(&node),
            open: watch::channel(true).0,
            commands: AtomicU64::new(0),
            queries: AtomicU64::new(0),
        });
        let serving = serve(listener, Arc::clone(&held) as Arc<dyn Host>, &self.server, &tasks, stop.clone()).unwrap();
        Running { node, held, serving, proxy, tasks, leave, stop, listens, url }
    }

    pub(crate) fn config_of(&self, endpoints: &[&Running]) -> ClientConfig {
        ClientConfig {
            endpoints: endpoints.iter().map(|replica| replica.url.clone()).collect(),
            security: self.client.clone(),
            ..ClientConfig::default()
        }
    }

    pub(crate) fn connect(&self, config: ClientConfig) -> Arc<Client> {
        Client::connect(config, system_ambient(), &self.tasks, self.tasks.token()).unwrap()
    }

    /// A client that knows who owns what.
    pub(crate) async fn client(&self, endpoints: &[&Running]) -> Arc<Client> {
        let client = self.connect(self.config_of(endpoints));
        tokio::time::timeout(Duration::from_secs(10), client.ready()).await.expect("no replica answered").unwrap();
        client
    }
}

/// A connection that is not a client's.
pub(crate) async fn channel(url: &str) -> tonic::transport::Channel {
    tonic::transport::Endpoint::from_shared(url.to_owned()).unwrap().connect().await.unwrap()
}

/// Returns when the condition holds.
pub(crate) async fn until<F: Future<Output = bool>>(within: Duration, condition: impl Fn() -> F) {
    let end = Instant::now() + within;
    while !condition().await {
        assert!(Instant::now() < end, "it did not come to be within {within:?}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

pub(crate) fn namespace(name: &str) -> NamespaceName {
    NamespaceName::new(name).unwrap()
}

/// Names of namespaces, one in each shard.
pub(crate) fn namespaces(shards: u32) -> Vec<NamespaceName> {
    let mut found = BTreeMap::new();
    for number in 0.. {
        let name = namespace(&format!("n{number}"));
        found.entry(name.shard(shards)).or_insert(name);
        if found.len() == shards as usize {
            return found.into_values().collect();
        }
    }
    unreachable!()
}

pub(crate) fn put_topic(namespace: &NamespaceName, name: &str) -> Command {
    Command::PutTopic {
        namespace: namespace.clone(),
        name: TopicName::new(name).unwrap(),
        config: TopicConfig::default(),
        condition: Precondition::Always,
        idempotency: None,
    }
}

pub(crate) fn put_namespace(name: &NamespaceName) -> Command {
    Command::PutNamespace { name: name.clone(), description: String::new(), condition: Precondition::Always }
}

/// A topic in this namespace, which is made if need be.
pub(crate) async fn topic(metadata: &dyn Metadata, namespace: &NamespaceName, name: &str) -> Topic {
    let shard = namespace.shard(metadata.shards());
    metadata.execute(shard, put_namespace(namespace)).await.unwrap();
    match metadata.execute(shard, put_topic(namespace, name)).await {
        Ok(Reply::Topic(topic, _)) => topic,
        other => panic!("no topic: {other:?}"),
    }
}

/// A segment of one record in each extent, minted now.
pub(crate) fn commit(topic: TopicId, partitions: u32) -> Command {
    let ambient = system_ambient();
    let segment = SegmentId::mint(ambient.now(), ambient.entropy.draw());
    let slice = Slice { length: 100, records: 1, ..Slice::default() };
    let extents = (0..partitions)
        .map(|partition| ProposedExtent { topic, partition: PartitionIndex(partition), position: 16, slices: vec![slice.clone()] })
        .collect();
    Command::Commit(SegmentCommit { segment, size: 1_000_000, extents, atoms: Vec::new() })
}

/// The first offset of the one slice that was committed.
pub(crate) fn stored_at(reply: Result<Reply>) -> u64 {
    match reply {
        Ok(Reply::Committed(reply)) => match reply.slices[..] {
            [SliceOutcome::Stored(base)] => base.0,
            ref other => panic!("not stored: {other:?}"),
        },
        other => panic!("not committed: {other:?}"),
    }
}

pub(crate) fn locate(topic: TopicId, from: u64) -> Query {
    Query::Locate { topic, partition: P0, from: Offset(from), max_bytes: u64::MAX, max_extents: usize::MAX }
}

/// The end of the topic's first partition.
pub(crate) async fn end(metadata: &dyn Metadata, topic: TopicId) -> u64 {
    match metadata.query(topic.shard(), locate(topic, 0)).await.unwrap() {
        Answer::Located(located) => located.end.0,
        other => panic!("another answer: {other:?}"),
    }
}
