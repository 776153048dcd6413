//! What runs on hosts: the roles, put together of the same parts as in the executable, on simulated network, stores and time. A
//! host's software starts, serves until it is told to stop, and stops in the order in which the executable does.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use lakefall_compactor::compaction::SchemaColumns;
use lakefall_compactor::{Collector, CollectorConfig, Compactor, CompactorConfig};
use lakefall_gateway::engine::{Engine, EngineConfig, EngineParts, IngestConfig, ReceiptKeys, SqlConfig};
use lakefall_gateway::listen::{self, ListenConfig};
use lakefall_http::HttpSettings;
use lakefall_metadata::rpc::{self, Client, ClientConfig, ClientSecurity, RpcPeers, ServerSecurity};
use lakefall_metadata::{Membership, Metadata, Node, NodeConfig, Replica, ReplicaId};
use lakefall_queue::clock::Ambient;
use lakefall_queue::limits::Limits;
use lakefall_queue::verbs::Verbs;
use lakefall_service::Tasks;
use lakefall_service::net::Dialing;
use lakefall_storage::cache::{Cache, CacheConfig};
use lakefall_storage::store::{Store, StoreOptions};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::dice::Dice;
use crate::http::PORT;
use crate::metadata::Database;
use crate::net::{Dialer, Port};
use crate::objects::Way;
use crate::plan::{Host, Role};
use crate::time::{self, HostClock};
use crate::weather::Gate;
use crate::world::World;

/// Where metadata replicas listen.
pub const RPC_PORT: u16 = 8082;
/// How long a process may take to stop before it is killed.
const STOP: Duration = Duration::from_secs(35);
/// How long requests under way may take at a stop.
const DRAIN: Duration = Duration::from_secs(30);

/// What is said to a host's processes.
#[derive(Clone, Debug, Default)]
pub struct Control(Arc<ControlState>);

#[derive(Debug, Default)]
struct ControlState {
    gate: Gate,
    /// Until when what it sends the database is held up, in nanoseconds.
    held: AtomicU64,
    clock: Arc<HostClock>,
    /// Raised to stop the process that runs.
    stops: watch::Sender<u64>,
    /// How far the process's time is to jump, all together.
    jumps: watch::Sender<Duration>,
    /// Processes started.
    started: AtomicU64,
    /// The process has stopped, and its host may be cleared.
    ended: AtomicBool,
}

impl Control {
    /// What the host's requests to stores go through.
    pub fn gate(&self) -> &Gate {
        &self.0.gate
    }

    /// What the host sends the database from now on arrives then.
    pub fn hold_until(&self, until: Duration) {
        self.0.held.fetch_max(until.as_nanos() as u64, Ordering::Relaxed);
    }

    /// When what the host sends the database arrives, if it is held up.
    pub fn held_until(&self) -> Option<Duration> {
        Some(Duration::from_nanos(self.0.held.load(Ordering::Relaxed))).filter(|until| *until > time::elapsed())
    }

    /// The host's clocks.
    pub fn clock(&self) -> &HostClock {
        &self.0.clock
    }

    /// Tells the process to stop.
    pub fn stop(&self) {
        self.0.stops.send_modify(|stops| *stops += 1);
    }

    /// Whether the process has stopped by itself since this was last asked.
    pub fn has_ended(&self) -> bool {
        self.0.ended.swap(false, Ordering::Relaxed)
    }

    /// The process is stopped from now on for so long. It goes on at once, in the time when it wakes; what keeps others from seeing
    /// that is not done here.
    pub fn pause(&self, now: Duration, by: Duration) {
        self.0.clock.stop_until(now + by);
        self.0.jumps.send_modify(|jumps| *jumps += by);
    }
}

/// What a process of a host begins with.
struct Process {
    host: String,
    control: Control,
    tasks: Tasks,
    ambient: Ambient,
}

/// The software of a server: runs it until it is told to stop.
pub async fn software(world: Arc<World>, host: Host) -> turmoil::Result {
    let control = world.control(host).clone();
    let number = control.0.started.fetch_add(1, Ordering::Relaxed);
    let seed = Dice::new(world.plan.seed, &format!("{} {number}", host.name())).any();
    let ambient = time::ambient(Arc::clone(&control.0.clock), seed);
    let process = Process { host: host.name(), control: control.clone(), tasks: Tasks::new(), ambient };
    let tasks = process.tasks.clone();
    world.trace.line(&process.host, format_args!("process {number} starts"));
    let mut stops = control.0.stops.subscribe();
    let started = async {
        match host.role {
            Role::Metadata => metadata(&world, &process).await,
            Role::Gateway => gateway(&world, &process).await,
            Role::Compactor => compactor(&world, &process).await,
            Role::Clients => Ok(()),
        }
    };
    tokio::select! {
        biased;
        started = started => match started {
            Ok(()) => serving(&control, &tasks, &mut stops).await,
            Err(error) => world.violation(format!("{} did not start: {error}", process.host)),
        },
        _ = stops.changed() => {}
    }
    let ended = tasks.shutdown(STOP).await;
    world.trace.line(&process.host, format_args!("process {number} stopped: {ended:?}"));
    if let Some(failure) = tasks.failure() {
        world.violation(format!("{}: {failure}", process.host));
    }
    // Its sockets are closed by whoever clears the host, as a system does it for a process.
    control.0.ended.store(true, Ordering::Relaxed);
    std::future::pending().await
}

/// Until the process is told to stop, or has to. Meanwhile it may be made to wake at another time.
async fn serving(control: &Control, tasks: &Tasks, stops: &mut watch::Receiver<u64>) {
    let mut jumps = control.0.jumps.subscribe();
    let mut jumped = *jumps.borrow_and_update();
    loop {
        tokio::select! {
            biased;
            _ = stops.changed() => return,
            () = tasks.stopping() => return,
            _ = jumps.changed() => {
                let to = *jumps.borrow_and_update();
                tokio::time::advance(to - jumped).await;
                jumped = to;
            }
        }
    }
}

fn store(world: &World, process: &Process) -> Store {
    let way = Way::new(&world.bucket, &process.host, process.control.gate().clone());
    Store::remote(way, &StoreOptions::default(), process.ambient.clone())
}

fn endpoint(host: Host) -> String {
    format!("http://{}:{RPC_PORT}", host.name())
}

async fn connect(world: &World, process: &Process, stop: CancellationToken) -> Result<(Arc<Client>, Ambient), String> {
    let endpoints = (0..world.plan.replicas).map(|index| endpoint(Host { role: Role::Metadata, index })).collect();
    let config = ClientConfig { endpoints, dialing: Dialing::Through(Arc::new(Dialer)), ..ClientConfig::default() };
    let client = Client::connect(config, process.ambient.clone(), &process.tasks, stop).map_err(|error| error.to_string())?;
    client.ready().await.map_err(|error| error.to_string())?;
    let ambient = Ambient { clock: client.clock(), ..process.ambient.clone() };
    Ok((client, ambient))
}

async fn metadata(world: &Arc<World>, process: &Process) -> turmoil::Result {
    let plan = &world.plan;
    let Process { host, control, tasks, ambient } = process;
    let me = Replica { id: ReplicaId(ambient.entropy.draw()), address: format!("http://{host}:{RPC_PORT}") };
    let port = Port::open(RPC_PORT).await?;
    let database = Database::new(world, me.clone(), host, control);
    let (node_stop, server_stop) = (CancellationToken::new(), CancellationToken::new());
    let peers = RpcPeers::new(&ClientSecurity::default(), Dialing::Through(Arc::new(Dialer)))?;
    let config = NodeConfig {
        shards: plan.shards,
        checkpoint_entries: plan.checkpoint_entries,
        recent_extents: plan.recent_extents,
        ..NodeConfig::default()
    };
    let membership = Membership { me, peers: Arc::new(peers) };
    let node = Node::join(Arc::new(database), config, ambient.clone(), tasks, node_stop.clone(), membership).await?;
    rpc::serve(port, Arc::clone(&node) as Arc<dyn rpc::Host>, &ServerSecurity::default(), tasks, server_stop.clone())?;
    let stopping = tasks.token();
    tasks.spawn("hand over", async move {
        stopping.cancelled().await;
        node_stop.cancel();
        node.handed_over().await;
        server_stop.cancel();
    });
    Ok(())
}

async fn gateway(world: &Arc<World>, process: &Process) -> turmoil::Result {
    let plan = &world.plan;
    let Process { tasks, .. } = process;
    let store = store(world, process);
    let metadata_stop = CancellationToken::new();
    let (metadata, ambient) = connect(world, process, metadata_stop.clone()).await?;
    let cache = CacheConfig {
        memory_bytes: plan.cache_bytes,
        cold_bytes: plan.cache_bytes,
        block_bytes: (plan.cache_bytes / 8).clamp(4 << 10, 1 << 20),
        ..CacheConfig::default()
    };
    let cache = Arc::new(Cache::new(store.clone(), cache).await);
    let ingest = IngestConfig {
        target_bytes: plan.segment_bytes.0,
        batch_bytes: plan.segment_bytes.1,
        puts_per_second: plan.puts_per_second,
        put_burst: 2,
        uploads_max: plan.uploads,
        uploads_eager: plan.uploads.min(2),
        buffer_bytes: 64 << 20,
        admission_wait: Duration::from_secs(1),
    };
    let config = EngineConfig {
        ingest,
        limits: Limits::default(),
        read_buffer_bytes: EngineConfig::READ_BUFFER_BYTES,
        receipt_keys: ReceiptKeys::new(vec![7; 32], Vec::new()),
        sql: SqlConfig::default(),
        usage_interval: EngineConfig::USAGE_INTERVAL,
    };
    let engine_stop = CancellationToken::new();
    let metadata = metadata as Arc<dyn Metadata>;
    let parts = EngineParts { store, cache: Arc::clone(&cache), metadata, ambient: ambient.clone() };
    let engine = Engine::start(config, parts, tasks, engine_stop.clone());
    let settings = HttpSettings { shutdown: tasks.token(), ..HttpSettings::default() };
    let router = lakefall_http::router(Arc::clone(&engine) as Arc<dyn Verbs>, ambient, settings);
    let listen = ListenConfig {
        header_timeout: Duration::from_secs(10),
        body_timeout: Duration::from_secs(30),
        write_timeout: Duration::from_secs(30),
        idle_timeout: Duration::from_secs(60),
        max_connections: 1_000,
        idle_drain: Duration::from_secs(1),
        max_age: Duration::from_secs(30),
    };
    let port = Port::open(PORT).await?;
    let serving = listen::serve(port, router, listen, tasks.clone(), tasks.token());
    let token = tasks.token();
    tasks.spawn_critical::<_, std::convert::Infallible>("http", async move {
        let late = async {
            token.cancelled().await;
            tokio::time::sleep(DRAIN).await;
        };
        tokio::select! {
            _ = serving => {}
            () = late => {}
        }
        engine.drain().await;
        engine_stop.cancel();
        metadata_stop.cancel();
        cache.close().await;
        Ok(())
    });
    Ok(())
}

async fn compactor(world: &Arc<World>, process: &Process) -> turmoil::Result {
    let plan = &world.plan;
    let Process { tasks, .. } = process;
    let store = store(world, process);
    let metadata_stop = CancellationToken::new();
    let (metadata, ambient) = connect(world, process, metadata_stop.clone()).await?;
    let metadata = metadata as Arc<dyn Metadata>;
    let collecting = CollectorConfig {
        grace: plan.grace,
        interval: plan.collect_interval,
        orphan_grace: plan.orphan_grace,
        orphan_interval: plan.orphan_interval,
        list_pause: Duration::from_millis(1),
        mark_interval: Duration::from_secs(10),
    };
    let collector = Collector::new(collecting, Arc::clone(&metadata), store.clone(), ambient.clone());
    tasks.spawn_critical("collector", collector.run(tasks.token()));
    let compacting = CompactorConfig {
        merge_interval: plan.merge_interval,
        merge_bytes: 256 << 10,
        roll_bytes: 128 << 10,
        lease: plan.claim,
        ..CompactorConfig::default()
    };
    let columns = Arc::new(SchemaColumns::new(Arc::clone(&metadata)));
    let compactor = Compactor::new(compacting, metadata, store, ambient, columns);
    tasks.spawn_critical("compactor", compactor.run(tasks.token()));
    let stopping = tasks.token();
    tasks.spawn("metadata client", async move {
        stopping.cancelled().await;
        metadata_stop.cancel();
    });
    Ok(())
}
