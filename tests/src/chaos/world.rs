//! The cluster that a chaos run is about: every process behind a lock of its own, so that faults take hold of some while others go
//! on. Must never judge: what it finds, it notes.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex as Plain, RwLock};
use std::time::Duration;

use lakefall_servers::{HttpFaults, Postgres};
use serde_json::Value;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};

use super::deck::{Harm, KINDS, Kind};
use crate::cluster::{Cluster, Options, Role};
use crate::disk::SmallDisk;
use crate::load::{self, Ways};
use crate::process::Process;
use crate::{Client, queues};

/// Where a process looks for its kill points.
const FAILPOINTS: &str = "LAKEFALL_FAILPOINTS";
/// How long clients wait for an answer: longer than the gateways' own deadline.
const PATIENCE: Duration = Duration::from_secs(8);
/// How long a process may take to come back, whatever else is broken meanwhile.
const REVIVED: Duration = Duration::from_secs(90);
/// How long a look at the database may take.
const LOOK: Duration = Duration::from_secs(3);
/// Gateways of the cluster.
pub(super) const GATEWAYS: usize = 3;
/// How old what no ledger knows becomes before it is swept, and how often it is looked for.
pub(super) const SWEEP: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(10));

/// A fault that happened.
#[derive(Clone, Debug)]
pub(super) struct Strike {
    /// Which.
    pub(super) kind: Kind,
    /// When, in milliseconds of the run's pulse.
    pub(super) at: u32,
    /// When its harm was mended.
    pub(super) mended: Option<u32>,
    /// What there is to say of it.
    pub(super) note: String,
}

/// See the module.
pub(super) struct World {
    /// Its proxies, its S3 server and what is known of it. Its lists of processes are empty.
    pub(super) cluster: Cluster,
    /// The gateways.
    pub(super) gateways: Vec<Mutex<Process>>,
    /// The replicas.
    pub(super) replicas: Vec<Mutex<Process>>,
    /// The compactor.
    pub(super) compactor: Mutex<Process>,
    /// Another one, that runs at times.
    pub(super) rival: Mutex<Process>,
    /// What stands between compactors and the S3 server.
    pub(super) back: HttpFaults,
    /// A standby that has all that was committed, while there is one.
    pub(super) standby: Mutex<Option<Postgres>>,
    /// A disk that is full at once, where one can be mounted.
    pub(super) full_disk: Option<SmallDisk>,
    /// The log and its clients.
    pub(super) run: Arc<load::Run>,
    /// The queues and theirs.
    pub(super) queues: Vec<Arc<queues::load::Run>>,
    postgres: RwLock<Arc<Postgres>>,
    strikes: Plain<Vec<Strike>>,
    findings: Plain<Vec<String>>,
}

/// A process's file of kill points.
pub(super) fn failpoints(cluster: &Cluster, process: &Process) -> PathBuf {
    cluster.file(&format!("{}.failpoints", process.name().replace(' ', "-")))
}

impl World {
    /// Starts everything, and nobody who uses it.
    pub(super) async fn start(seed: u64, run: Arc<load::Run>, queues: Vec<Arc<queues::load::Run>>) -> Self {
        let (grace, interval) = (SWEEP.0.as_secs(), SWEEP.1.as_secs());
        let options = Options::default()
            .gateways(GATEWAYS)
            .compactor()
            .own_postgres()
            .own_s3()
            .postgres_proxies()
            .rpc_proxies()
            .store_proxy()
            .alone()
            .env(Role::Metadata, "LAKEFALL_METADATA__CHECKPOINT_ENTRIES", 50)
            .env(Role::Gateway, "LAKEFALL_METADATA__DEADLINE_MS", 5_000)
            .env(Role::Gateway, "LAKEFALL_CACHE__MEMORY_BYTES", 4 << 20)
            .env(Role::Gateway, "LAKEFALL_CACHE__COLD_BYTES", 1 << 20)
            .env(Role::Gateway, "LAKEFALL_CACHE__BLOCK_BYTES", 256 << 10)
            .env(Role::Gateway, "LAKEFALL_CACHE__DISK_BYTES", 64 << 20)
            .env(Role::Compactor, "LAKEFALL_COMPACTOR__MERGE_INTERVAL_SECONDS", 2)
            .env(Role::Compactor, "LAKEFALL_COLLECTOR__GRACE_SECONDS", 2)
            .env(Role::Compactor, "LAKEFALL_COLLECTOR__INTERVAL_SECONDS", 1)
            .env(Role::Compactor, "LAKEFALL_COLLECTOR__ORPHAN_GRACE_SECONDS", grace)
            .env(Role::Compactor, "LAKEFALL_COLLECTOR__ORPHAN_INTERVAL_SECONDS", interval);
        let mut cluster = options.prepare().await;
        // The log of a long run must not fill the machine's memory.
        cluster.postgres.set("max_wal_size", "128MB").await;
        let back = HttpFaults::start(cluster.s3.address(), seed).await;
        let mut rival = cluster.process(Role::Compactor, "the rival compactor", Vec::new(), &["Admin"]);
        for compactor in cluster.compactor.iter_mut().chain([&mut rival]) {
            compactor.set_env("LAKEFALL_STORE__ENDPOINT", back.endpoint());
        }
        let named: Vec<PathBuf> =
            cluster.gateways.iter().chain(&cluster.replicas).chain(&cluster.compactor).map(|p| failpoints(&cluster, p)).collect();
        let processes = cluster.gateways.iter_mut().chain(&mut cluster.replicas).chain(&mut cluster.compactor);
        for (process, file) in processes.zip(named) {
            process.set_env(FAILPOINTS, format!("@{}", file.display()));
        }
        for gateway in 0..GATEWAYS {
            let folder = cluster.file(&cache_of(gateway));
            cluster.gateways[gateway].set_env("LAKEFALL_CACHE__DISK_PATH", folder.display());
        }
        cluster.start().await;
        let standby = cluster.postgres.standby().await;
        cluster.postgres.set("synchronous_standby_names", "*").await;
        cluster.wait_for_mark().await;
        Self {
            gateways: cluster.gateways.drain(..).map(Mutex::new).collect(),
            replicas: cluster.replicas.drain(..).map(Mutex::new).collect(),
            compactor: Mutex::new(cluster.compactor.take().expect("the cluster has a compactor")),
            rival: Mutex::new(rival),
            back,
            standby: Mutex::new(Some(standby)),
            full_disk: SmallDisk::mount(8),
            run,
            queues,
            postgres: RwLock::new(Arc::clone(&cluster.postgres)),
            strikes: Plain::default(),
            findings: Plain::default(),
            cluster,
        }
    }

    /// Which faults can be injected on this machine.
    pub(super) fn kinds(&self, late: bool) -> Vec<Kind> {
        let can = |kind: &&Kind| (late || !kind.late) && (kind.harm != Harm::CacheFull || self.full_disk.is_some());
        KINDS.iter().filter(can).copied().collect()
    }

    /// Clients of all gateways.
    pub(super) fn ways(&self) -> Ways {
        (0..GATEWAYS).map(|gateway| self.client_of(gateway)).collect::<Vec<_>>().into()
    }

    /// A client of a gateway.
    pub(super) fn client_of(&self, gateway: usize) -> Client {
        self.cluster.client_of(gateway).patience(PATIENCE)
    }

    /// The primary.
    pub(super) fn postgres(&self) -> Arc<Postgres> {
        Arc::clone(&self.postgres.read().unwrap())
    }

    /// Puts another primary in its place, and returns the one before.
    pub(super) fn replace_postgres(&self, by: Postgres) -> Arc<Postgres> {
        std::mem::replace(&mut *self.postgres.write().unwrap(), Arc::new(by))
    }

    /// A statement on the cluster's database; nothing if the database does not answer now.
    pub(super) async fn try_sql(&self, statement: &str) -> Option<String> {
        timeout(LOOK, self.postgres().try_sql(&self.cluster.database, statement)).await.ok()?
    }

    /// Which replica owns the shard, if that can be found out soon.
    pub(super) async fn owner(&self) -> Option<usize> {
        let owner = "select address from leases where shard = 0 and replica is not null and until > clock_timestamp()";
        let began = Instant::now();
        while began.elapsed() < LOOK {
            if let Some(address) = self.try_sql(owner).await
                && let Some(found) = (0..self.replicas.len()).find(|replica| self.cluster.advertised(*replica) == address)
            {
                return Some(found);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        None
    }

    /// Sessions that sit in an open transaction for more than a second (W8).
    pub(super) async fn idle_transactions(&self) -> Option<u64> {
        let idle = "select count(*) from pg_stat_activity where state like 'idle in transaction%' \
            and usename = 'lakefall' and clock_timestamp() - state_change > interval '1 s'";
        self.try_sql(idle).await?.parse().ok()
    }

    /// A fault happens now. Everybody writes it down.
    pub(super) fn strike(&self, kind: &Kind) {
        let at = self.run.pulse.now();
        self.run.recorder.fault(kind.name);
        self.queues.iter().for_each(|queue| queue.recorder.fault(kind.name));
        println!("chaos: {:>7.1} s  {}", f64::from(at) / 1e3, kind.name);
        self.strikes.lock().unwrap().push(Strike { kind: *kind, at, mended: None, note: String::new() });
    }

    /// The harm of the latest fault of a kind is mended.
    pub(super) fn mended(&self, kind: &Kind, note: &str) {
        let now = self.run.pulse.now();
        if let Some(strike) = self.strikes.lock().unwrap().iter_mut().rev().find(|strike| strike.kind.name == kind.name) {
            (strike.mended, strike.note) = (Some(now), note.to_owned());
        }
    }

    /// All that happened so far.
    pub(super) fn strikes(&self) -> Vec<Strike> {
        self.strikes.lock().unwrap().clone()
    }

    /// Something is not as it should be.
    pub(super) fn found(&self, what: impl Into<String>) {
        let what = what.into();
        eprintln!("chaos: FOUND: {what}");
        self.findings.lock().unwrap().push(what);
    }

    /// All of it.
    pub(super) fn findings(&self) -> Vec<String> {
        self.findings.lock().unwrap().clone()
    }

    /// Starts a process, again and again if something that it needs is broken at the moment.
    pub(super) async fn revive(&self, process: &mut Process) {
        let began = Instant::now();
        while let Err(told) = process.try_start().await {
            if began.elapsed() > REVIVED {
                self.found(format!("{} does not come back: {told}", process.name()));
                return;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// Processes that ended although nobody did anything to them: noted, and started again.
    pub(super) async fn look_after(&self) {
        for process in self.gateways.iter().chain(&self.replicas).chain([&self.compactor]) {
            // Who holds it has done something to it.
            let Ok(mut process) = process.try_lock() else { continue };
            if let Some(status) = process.ended() {
                self.found(format!("{} ended by itself with {status}:\n{}", process.name(), process.log()));
                self.revive(&mut process).await;
            }
        }
    }

    /// Everything is whole again: all proxies, all processes.
    pub(super) async fn heal(&self) {
        self.cluster.store_proxy().heal();
        self.back.heal();
        for proxy in self.cluster.postgres_proxies.iter().chain(&self.cluster.rpc_proxies) {
            proxy.heal().await;
        }
        self.look_after().await;
        for process in self.gateways.iter().chain(&self.replicas).chain([&self.compactor]) {
            let mut process = process.lock().await;
            if !process.is_running() {
                self.found(format!("{} does not run when all faults are over", process.name()));
                self.revive(&mut process).await;
            }
        }
    }

    /// The time up to which the collector spares what no ledger knows, by an operator's word: none, once it is discarded.
    pub(super) fn spared(&self) -> Vec<String> {
        let path = self.cluster.s3.object_path(&self.cluster.bucket, "lake/meta/mark.json");
        let mark = std::fs::read(path).ok().and_then(|bytes| serde_json::from_slice::<Value>(&bytes).ok()).unwrap_or_default();
        let until = mark["spared"].as_array().into_iter().flatten().filter_map(|spared| spared["until"].as_str());
        until.map(str::to_owned).collect::<BTreeSet<_>>().into_iter().collect()
    }
}

/// A gateway's cache folder, in the cluster's own.
pub(super) fn cache_of(gateway: usize) -> String {
    format!("cache-{gateway}")
}
