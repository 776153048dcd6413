//! How a cluster is started. Must never start a process: [`Cluster::start`] does.

use std::sync::Arc;

use lakefall_servers::{HttpFaults, Postgres, S3};
use tokio::time::Instant;

use super::{Cluster, LEASE, Role};
use crate::place::Place;

/// How a cluster is started: two gateways and two metadata replicas of one shard, unless told otherwise.
#[derive(Debug)]
pub struct Options {
    pub(super) gateways: usize,
    pub(super) replicas: usize,
    pub(super) compactor: bool,
    pub(super) shards: u32,
    pub(super) env: Vec<(Role, String, String)>,
    pub(super) own_postgres: bool,
    pub(super) own_s3: bool,
    pub(super) postgres_proxies: bool,
    pub(super) rpc_proxies: bool,
    pub(super) store_proxy: bool,
    pub(super) alone: bool,
}

impl Default for Options {
    fn default() -> Self {
        let options = Self {
            gateways: 2,
            replicas: 2,
            compactor: false,
            shards: 1,
            env: Vec::new(),
            own_postgres: false,
            own_s3: false,
            postgres_proxies: false,
            rpc_proxies: false,
            store_proxy: false,
            alone: false,
        };
        // Tests wait for whole leases, and not for the rate that a cloud's bill suggests.
        let options = options.env(Role::Metadata, "LAKEFALL_METADATA__LEASE_MS", LEASE.as_millis());
        options.env(Role::Gateway, "LAKEFALL_SEGMENT__PUTS_PER_SECOND", 100)
    }
}

impl Options {
    /// Sets a `LAKEFALL_*` variable of all processes of a role.
    pub fn env(mut self, role: Role, name: &str, value: impl ToString) -> Self {
        self.env.push((role, name.to_owned(), value.to_string()));
        self
    }

    /// How many gateways.
    pub fn gateways(mut self, gateways: usize) -> Self {
        self.gateways = gateways;
        self
    }

    /// How many metadata replicas are started; more may come.
    pub fn replicas(mut self, replicas: usize) -> Self {
        self.replicas = replicas;
        self
    }

    /// How many shards.
    pub fn shards(mut self, shards: u32) -> Self {
        self.shards = shards;
        self
    }

    /// With a compactor.
    pub fn compactor(mut self) -> Self {
        self.compactor = true;
        self
    }

    /// A Postgres of its own, which the test may stop.
    pub fn own_postgres(mut self) -> Self {
        self.own_postgres = true;
        self
    }

    /// An S3 server of its own, which the test may stop.
    pub fn own_s3(mut self) -> Self {
        self.own_s3 = true;
        self
    }

    /// With a proxy between each replica and Postgres.
    pub fn postgres_proxies(mut self) -> Self {
        self.postgres_proxies = true;
        self
    }

    /// With a proxy between each replica and everybody who asks it.
    pub fn rpc_proxies(mut self) -> Self {
        self.rpc_proxies = true;
        self
    }

    /// With a proxy between the gateways and the S3 server.
    pub fn store_proxy(mut self) -> Self {
        self.store_proxy = true;
        self
    }

    /// On a machine without other clusters, for tests that measure time.
    pub fn alone(mut self) -> Self {
        self.alone = true;
        self
    }

    /// Starts the servers it needs and all its processes, and waits until all are ready.
    pub async fn start(self) -> Cluster {
        let mut cluster = self.prepare().await;
        let began = Instant::now();
        cluster.start().await;
        println!("cluster: all are ready after {:?}", began.elapsed());
        cluster
    }

    /// Starts the servers, and none of its processes.
    pub async fn prepare(self) -> Cluster {
        let place = if self.alone { Place::alone().await } else { Place::shared().await };
        let postgres = if self.own_postgres { Arc::new(Postgres::start(Default::default()).await) } else { Postgres::shared().await };
        let s3 = if self.own_s3 { Arc::new(S3::start().await) } else { S3::shared().await };
        let (database, bucket) = (postgres.fresh_database().await, s3.fresh_bucket().await);
        let home = tempfile::Builder::new().prefix("lakefall-cluster-").tempdir().unwrap();
        let (replicas, gateways) = (self.replicas, self.gateways);
        let mut cluster = Cluster {
            gateways: Vec::new(),
            replicas: Vec::new(),
            compactor: None,
            postgres,
            s3,
            database,
            bucket,
            options: self,
            advertised: Vec::new(),
            listening: Vec::new(),
            postgres_proxies: Vec::new(),
            rpc_proxies: Vec::new(),
            store_proxy: None,
            ports: Vec::new(),
            home,
            _place: place,
        };
        if cluster.options.store_proxy {
            cluster.store_proxy = Some(HttpFaults::start(cluster.s3.address(), 1).await);
        }
        let compactor = cluster.options.compactor;
        cluster.populate(replicas, gateways, compactor).await;
        cluster
    }
}
