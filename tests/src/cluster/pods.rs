//! A cluster as Deployments of the chart run one: pods that come and go, gateways behind a Service, and replaced as Kubernetes does
//! it: the new one first, then the old one with its preStop hook. Must never stop a pod in another way.

use std::time::Duration;

use futures::future::join_all;
use tokio::time::Instant;

use super::{Cluster, Options, PATIENCE, Role, Service};
use crate::chart::Chart;
use crate::client::{Client, Endpoint};
use crate::process::Process;

/// From a pod's deletion until the nodes know that it gets no connections any more: generous, and well within the preStop hook.
const PROPAGATION: Duration = Duration::from_secs(1);

/// A process of a role.
pub struct Pod {
    name: String,
    /// Its process.
    pub process: Process,
}

impl Pod {
    /// What people call it.
    pub fn name(&self) -> &str {
        &self.name
    }
}

/// All pods, and what they stand on.
pub struct Pods {
    /// The servers and files; it has no processes of its own.
    pub cluster: Cluster,
    /// Where clients go.
    pub service: Service,
    /// The chart that says how pods go.
    pub chart: Chart,
    /// The gateways.
    pub gateways: Vec<Pod>,
    /// The metadata replicas.
    pub replicas: Vec<Pod>,
    /// The compactors.
    pub compactors: Vec<Pod>,
    made: usize,
    /// Settings in a file that all pods of a role share, as in a ConfigMap.
    settings: Vec<(Role, String)>,
}

impl Pods {
    /// Starts so many replicas, gateways and compactors, and waits until all are ready.
    pub async fn start(options: Options, replicas: usize, gateways: usize, compactors: usize) -> Self {
        let cluster = options.gateways(0).replicas(0).prepare().await;
        let mut pods = Self {
            cluster,
            service: Service::start().await,
            chart: Chart::read(),
            gateways: Vec::new(),
            replicas: Vec::new(),
            compactors: Vec::new(),
            made: 0,
            settings: Vec::new(),
        };
        for (role, count) in [(Role::Metadata, replicas), (Role::Gateway, gateways), (Role::Compactor, compactors)] {
            pods.scale(role, count).await;
        }
        pods
    }

    /// Gives pods of a role that start from now on a file of settings.
    pub fn set_file(&mut self, role: Role, path: &str) {
        self.settings.push((role, path.to_owned()));
    }

    /// A client of the Service.
    pub fn client(&self) -> Client {
        Client::new(Endpoint::at(&self.service.url())).patience(PATIENCE)
    }

    /// The pods of a role.
    pub fn of(&mut self, role: Role) -> &mut Vec<Pod> {
        match role {
            Role::Gateway => &mut self.gateways,
            Role::Metadata => &mut self.replicas,
            Role::Compactor => &mut self.compactors,
        }
    }

    /// Starts or ends pods until there are so many; those that go do so at once, each with its hook.
    pub async fn scale(&mut self, role: Role, count: usize) {
        while self.of(role).len() < count {
            self.launch(role).await;
        }
        let going = self.of(role).split_off(count);
        join_all(going.into_iter().map(|pod| self.terminate(role, pod))).await;
    }

    /// Replaces all pods of a role, one after the other: a new one first, and an old one when that is ready.
    pub async fn roll(&mut self, role: Role) {
        for _ in 0..self.of(role).len() {
            self.launch(role).await;
            let old = self.of(role).remove(0);
            self.terminate(role, old).await;
        }
    }

    /// Adds a pod, and waits until it is ready.
    pub async fn launch(&mut self, role: Role) {
        self.made += 1;
        let listen = || ["--listen".to_owned(), "127.0.0.1:0".to_owned()];
        let (what, mut arguments, wanted): (&str, Vec<String>, &'static [&'static str]) = match role {
            Role::Metadata => {
                let (shards, database) = (self.cluster.options.shards, self.cluster.postgres.url_for(&self.cluster.database));
                let more = ["--shards".to_owned(), shards.to_string(), "--database".to_owned(), database];
                ("metadata", listen().into_iter().chain(more).collect(), &["RPC", "Admin"])
            }
            Role::Gateway => ("gateway", listen().into(), &["HTTP API", "Admin"]),
            Role::Compactor => ("compactor", Vec::new(), &["Admin"]),
        };
        if role != Role::Metadata {
            // What the name of a Service stands for: whoever is there now.
            let replicas: Vec<&str> = self.replicas.iter().map(|pod| pod.process.address("RPC")).collect();
            arguments.extend(["--metadata".to_owned(), replicas.join(",")]);
        }
        for (_, path) in self.settings.iter().filter(|(of, _)| *of == role) {
            arguments.extend(["--config".to_owned(), path.clone()]);
        }
        let name = format!("{what}-{}", self.made);
        let mut process = self.cluster.process(role, &name, arguments, wanted);
        process.start().await;
        if role == Role::Gateway {
            let address = process.address("HTTP API").trim_start_matches("http://").parse().unwrap();
            self.service.add(&name, address, process.admin());
        }
        self.of(role).push(Pod { name, process });
    }

    /// Ends a pod as Kubernetes does: it leaves its Service, while the preStop hook sleeps; then comes SIGTERM.
    pub async fn terminate(&self, role: Role, mut pod: Pod) {
        let began = Instant::now();
        let hook = Duration::from_secs_f64(self.chart.number(&format!("{}.preStopSeconds", self.values(role))));
        tokio::join!(tokio::time::sleep(hook), async {
            tokio::time::sleep(PROPAGATION).await;
            self.service.remove(&pod.name);
        });
        let told = Instant::now();
        pod.process.stop().await;
        println!("pods: {} ended {:?} after SIGTERM, {:?} after its deletion", pod.name, told.elapsed(), began.elapsed());
    }

    fn values(&self, role: Role) -> &'static str {
        match role {
            Role::Gateway => "gateway",
            Role::Metadata => "metadata",
            Role::Compactor => "compactor",
        }
    }

    /// Fails if a pod ended by itself.
    pub fn assert_all_run(&mut self) {
        for pod in self.gateways.iter_mut().chain(&mut self.replicas).chain(&mut self.compactors) {
            assert!(pod.process.ended().is_none(), "{} ended by itself:\n{}", pod.name, pod.process.log());
        }
    }
}
