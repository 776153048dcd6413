//! A cluster of the real executable: gateways, metadata replicas, perhaps a compactor, over a real Postgres and a real S3
//! server, with proxies between them that a test may use for harm. Must never share a database or a bucket with another test.

mod options;
mod pods;
mod service;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use lakefall_servers::port::Port;
use lakefall_servers::{HttpFaults, Postgres, Proxy, S3};
use tempfile::TempDir;
use tokio::time::Instant;

use crate::client::{Client, Endpoint};
use crate::load::Ways;
use crate::place::Place;
use crate::process::{Process, command};
pub use options::Options;
pub use pods::{Pod, Pods};
pub use service::Service;

/// The token that roles show each other.
pub const TOKEN: &str = "token-of-the-test-cluster";
/// How long clients of a cluster wait for an answer: longer than the gateways' own deadline.
pub const PATIENCE: Duration = Duration::from_secs(15);
/// Between two looks at something that should become true.
const LOOK: Duration = Duration::from_millis(20);
/// What one look may take, beyond the time for all of them: longer than clients wait for an answer.
const LONGEST_LOOK: Duration = Duration::from_secs(90);

/// The lease of test clusters.
pub const LEASE: Duration = Duration::from_millis(2_000);

/// What a process of a cluster does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A metadata replica.
    Metadata,
    /// A gateway.
    Gateway,
    /// A compactor.
    Compactor,
}

/// A cluster. Its processes are killed when it is dropped.
pub struct Cluster {
    /// The gateways.
    pub gateways: Vec<Process>,
    /// The metadata replicas.
    pub replicas: Vec<Process>,
    /// The compactor, if there is one.
    pub compactor: Option<Process>,
    /// Where order is kept.
    pub postgres: Arc<Postgres>,
    /// Where objects are kept.
    pub s3: Arc<S3>,
    /// What stands between each replica and Postgres, if asked for.
    pub postgres_proxies: Vec<Proxy>,
    /// What stands between each replica and everybody who asks it, if asked for.
    pub rpc_proxies: Vec<Proxy>,
    /// What stands between the gateways and the S3 server, if asked for.
    pub store_proxy: Option<HttpFaults>,
    /// The database.
    pub database: String,
    /// The bucket.
    pub bucket: String,
    options: Options,
    /// Where others reach each replica.
    advertised: Vec<String>,
    /// Where clients reach each gateway.
    listening: Vec<String>,
    /// Those of the replicas and gateways, which keep them over all their starts.
    ports: Vec<Port>,
    home: TempDir,
    _place: Place,
}

impl Cluster {
    /// Two gateways, two replicas.
    pub async fn start_default() -> Self {
        Options::default().start().await
    }

    /// Adds a metadata replica, which is not started yet.
    pub async fn add_replica(&mut self) -> &mut Process {
        let listen = self.reserve();
        let mut arguments = vec!["--listen".into(), listen.to_string(), "--shards".into(), self.options.shards.to_string()];
        let mut reached = listen;
        if self.options.rpc_proxies {
            let proxy = Proxy::start(listen).await;
            reached = proxy.address();
            arguments.extend(["--advertise".into(), format!("http://{reached}")]);
            self.rpc_proxies.push(proxy);
        }
        self.advertised.push(format!("http://{reached}"));
        let mut database = self.postgres.url_for(&self.database);
        if self.options.postgres_proxies {
            let proxy = Proxy::before_postgres(self.postgres.address()).await;
            database = self.postgres.url_at(proxy.address(), &self.database);
            self.postgres_proxies.push(proxy);
        }
        arguments.extend(["--database".into(), database]);
        let name = format!("metadata replica {}", self.replicas.len());
        let process = self.process(Role::Metadata, &name, arguments, &["RPC", "Admin"]);
        self.replicas.push(process);
        self.replicas.last_mut().unwrap()
    }

    /// Adds a gateway, which is not started yet.
    pub fn add_gateway(&mut self) -> &mut Process {
        let listen = self.reserve();
        self.listening.push(format!("http://{listen}"));
        let name = format!("gateway {}", self.gateways.len());
        let process = self.process(Role::Gateway, &name, vec!["--listen".into(), listen.to_string()], &["HTTP API", "Admin"]);
        self.gateways.push(process);
        self.gateways.last_mut().unwrap()
    }

    fn reserve(&mut self) -> SocketAddr {
        self.ports.push(Port::reserve());
        self.ports.last().unwrap().address()
    }

    /// Any process of the cluster, with the settings that its role needs; a replica also needs its database.
    pub fn process(&self, role: Role, name: &str, more: Vec<String>, wanted: &'static [&'static str]) -> Process {
        self.process_on(&self.bucket, role, name, more, wanted)
    }

    /// The same on another bucket.
    pub fn process_on(&self, bucket: &str, role: Role, name: &str, more: Vec<String>, wanted: &'static [&'static str]) -> Process {
        let mut env: Vec<(String, String)> = vec![("LAKEFALL_METADATA__TOKEN".into(), TOKEN.into())];
        let mut arguments: Vec<String> = match role {
            Role::Metadata => vec!["metadata".into()],
            Role::Gateway => vec!["gateway".into()],
            Role::Compactor => vec!["compactor".into()],
        };
        if role != Role::Metadata {
            if !more.iter().any(|argument| argument == "--metadata") {
                arguments.extend(["--metadata".into(), self.metadata_urls()]);
            }
            arguments.extend(["--store".into(), format!("s3://{bucket}/lake")]);
            let proxy = self.store_proxy.as_ref().filter(|_| role == Role::Gateway);
            env.extend(self.store_env(proxy.map_or_else(|| self.s3.endpoint(), HttpFaults::endpoint)));
        }
        arguments.extend(["--admin-listen".into(), "127.0.0.1:0".into()]);
        arguments.extend(more);
        env.extend(self.options.env.iter().filter(|(of, ..)| *of == role).map(|(_, name, value)| (name.clone(), value.clone())));
        let log = self.home.path().join(format!("{}.log", name.replace(' ', "-")));
        Process::new(name, arguments.into_iter().map(Into::into).collect(), env, log, wanted)
    }

    fn store_env(&self, endpoint: String) -> impl Iterator<Item = (String, String)> {
        let store = [
            ("ENDPOINT", endpoint),
            ("REGION", self.s3.region().to_owned()),
            ("ACCESS_KEY_ID", self.s3.access_key().to_owned()),
            ("SECRET_ACCESS_KEY", self.s3.secret().to_owned()),
            ("ALLOW_HTTP", "true".to_owned()),
            ("PATH_STYLE", "true".to_owned()),
        ];
        store.into_iter().map(|(name, value)| (format!("LAKEFALL_STORE__{name}"), value))
    }

    /// Runs a command of the executable on the cluster's database and bucket to its end: whether it succeeded, and what it
    /// printed.
    pub async fn run(&self, arguments: &[&str]) -> (bool, String) {
        self.run_over(&self.postgres, arguments).await
    }

    /// The same over another Postgres, which took the place of the cluster's.
    pub async fn run_over(&self, postgres: &Postgres, arguments: &[&str]) -> (bool, String) {
        let mut command = tokio::process::Command::from(command());
        let store = format!("s3://{}/lake", self.bucket);
        command.args(arguments).args(["--store", &store, "--database", &postgres.url_for(&self.database)]);
        command.envs(self.store_env(self.s3.endpoint())).env("LAKEFALL_METADATA__TOKEN", TOKEN);
        command.current_dir(self.home.path()).kill_on_drop(true);
        let ended = tokio::time::timeout(LONGEST_LOOK, command.output()).await;
        let output = ended.unwrap_or_else(|_| panic!("{arguments:?} has not ended after {LONGEST_LOOK:?}")).unwrap();
        let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
        (output.status.success(), text)
    }

    /// Where the first replicas listen, with commas between them.
    pub fn metadata_urls(&self) -> String {
        self.advertised[..self.options.replicas].join(",")
    }

    /// Gives gateways that are not started yet a bucket that belongs to an account.
    pub async fn take_bucket_of(&mut self, owner: &str) {
        let bucket = format!("{}-of-{}", self.bucket, owner.to_lowercase());
        self.s3.create_bucket_of(&bucket, owner).await;
        let before = std::mem::replace(&mut self.bucket, bucket);
        for process in self.gateways.iter_mut().chain(&mut self.compactor) {
            process.replace_argument(&format!("s3://{before}/lake"), &format!("s3://{}/lake", self.bucket));
        }
    }

    /// Starts all processes that do not run, and waits until all are ready.
    pub async fn start(&mut self) {
        // Gateways wait for the metadata service by themselves.
        let processes = self.replicas.iter_mut().chain(&mut self.gateways).chain(&mut self.compactor);
        let stopped: Vec<&mut Process> = processes.filter_map(|process| (!process.is_running()).then_some(process)).collect();
        join_all(stopped.into_iter().map(Process::start)).await;
    }

    /// SIGTERM to all: gateways and compactor first, then the replicas.
    pub async fn stop(&mut self) {
        join_all(self.gateways.iter_mut().chain(&mut self.compactor).filter(|p| p.has_started()).map(Process::stop)).await;
        join_all(self.replicas.iter_mut().filter(|p| p.has_started()).map(Process::stop)).await;
    }

    /// `kill -9` to all, and waits for their ends.
    pub fn kill_nine(&mut self) {
        self.gateways.iter_mut().chain(&mut self.compactor).chain(&mut self.replicas).for_each(Process::kill_nine);
    }

    /// Forgets all its processes, and makes others over servers that took the place of those before. None is started yet.
    pub async fn move_to(&mut self, postgres: Arc<Postgres>, s3: Arc<S3>) {
        let (replicas, gateways, compactor) = (self.replicas.len(), self.gateways.len(), self.compactor.is_some());
        self.gateways.clear();
        self.replicas.clear();
        self.compactor = None;
        self.advertised.clear();
        self.listening.clear();
        self.ports.clear();
        (self.postgres, self.s3) = (postgres, s3);
        self.populate(replicas, gateways, compactor).await;
    }

    /// Makes processes; a compactor if told to.
    async fn populate(&mut self, replicas: usize, gateways: usize, compactor: bool) {
        for _ in 0..replicas {
            self.add_replica().await;
        }
        for _ in 0..gateways {
            self.add_gateway();
        }
        if compactor {
            self.compactor = Some(self.process(Role::Compactor, "the compactor", Vec::new(), &["Admin"]));
        }
    }

    /// How one of them ended; `None` while all run.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.gateways.iter_mut().chain(&mut self.compactor).chain(&mut self.replicas).find_map(Process::ended)
    }

    /// A client of one gateway, wherever it is started again.
    pub fn client_of(&self, gateway: usize) -> Client {
        Client::new(Endpoint::at(&self.listening[gateway])).patience(PATIENCE)
    }

    /// A client of the first gateway.
    pub fn client(&self) -> Client {
        self.client_of(0)
    }

    /// Where others reach a replica.
    pub fn advertised(&self, replica: usize) -> &str {
        &self.advertised[replica]
    }

    /// `127.0.0.1:port` of a gateway's public API.
    pub fn listening(&self, gateway: usize) -> &str {
        self.listening[gateway].trim_start_matches("http://")
    }

    /// A file of the cluster's own, gone with it.
    pub fn file(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    /// Clients of all gateways.
    pub fn ways(&self) -> Ways {
        (0..self.gateways.len()).map(|gateway| self.client_of(gateway)).collect::<Vec<_>>().into()
    }

    /// Resident memory of all gateways in KiB.
    pub fn resident_kib(&self) -> u64 {
        self.gateways.iter().map(Process::resident_kib).sum()
    }

    /// All that its processes logged.
    pub fn whole_log(&self) -> String {
        self.gateways.iter().chain(&self.compactor).chain(&self.replicas).map(Process::whole_log).collect()
    }

    /// A statement on the cluster's database.
    pub async fn sql(&self, statement: &str) -> String {
        self.postgres.sql(&self.database, statement).await
    }

    /// Which replica owns a shard at this moment.
    pub async fn owner(&self, shard: u32) -> Option<usize> {
        let owner = format!("select address from leases where shard = {shard} and replica is not null and until > clock_timestamp()");
        let address = self.sql(&owner).await;
        self.advertised.iter().position(|known| *known == address)
    }

    /// Waits for a shard's owner.
    pub async fn wait_for_owner(&self, shard: u32) -> usize {
        let mut found = None;
        eventually("the shard has an owner", Duration::from_secs(30), async || {
            found = self.owner(shard).await;
            found.is_some()
        })
        .await;
        found.unwrap()
    }

    /// Waits until the collector has put its mark into the bucket, and the time is over from which it spares what no ledger
    /// knows: what is orphaned before is never swept.
    pub async fn wait_for_mark(&self) {
        let path = self.s3.object_path(&self.bucket, "lake/meta/mark.json");
        eventually("the collector has marked the bucket", Duration::from_secs(60), async || {
            let mark = std::fs::read(&path).ok().and_then(|bytes| serde_json::from_slice::<serde_json::Value>(&bytes).ok());
            let Some(mark) = mark else { return false };
            let Some(until) = mark["spared"][0]["until"].as_str() else { return true };
            self.sql(&format!("select clock_timestamp() > '{until}'::timestamptz")).await == "t"
        })
        .await;
    }

    /// What stands between the gateways and the S3 server.
    pub fn store_proxy(&self) -> &HttpFaults {
        self.store_proxy.as_ref().expect("the cluster was started with a store proxy")
    }

    /// The segments in the bucket, by key.
    pub fn segments(&self) -> Vec<String> {
        let root = self.s3.object_path(&self.bucket, "lake");
        let mut found = Vec::new();
        let mut folders = vec![root.join("seg")];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok) {
                let path = entry.path();
                if path.is_dir() {
                    folders.push(path);
                } else if path.extension().is_some_and(|extension| extension == "seg") {
                    found.push(path.strip_prefix(&root).unwrap().to_string_lossy().into_owned());
                }
            }
        }
        found
    }
}

/// Waits until something is true; fails the test with `what` if that takes longer than `within`, or if a look at it takes
/// longer than any answer may. Returns how long it took.
pub async fn eventually(what: &str, within: Duration, mut is: impl AsyncFnMut() -> bool) -> Duration {
    let began = Instant::now();
    loop {
        let left = within.saturating_sub(began.elapsed()) + LONGEST_LOOK;
        match tokio::time::timeout(left, is()).await {
            Ok(true) => return began.elapsed(),
            Ok(false) => assert!(began.elapsed() < within, "not within {within:?}: {what}"),
            Err(_) => panic!("not within {within:?}: {what}; the last look at it has no answer after {LONGEST_LOOK:?} more"),
        }
        tokio::time::sleep(LOOK).await;
    }
}
