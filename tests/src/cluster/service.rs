//! A Service of Kubernetes: one address before several pods. A connection goes to one of those that are ready, in turn, and stays
//! there until either side closes it; a pod that is taken out keeps the connections that it has. Must never look at a request.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

/// The chart's readiness probe: how often, and after how many failures a pod is taken out.
const PROBE: (Duration, u32) = (Duration::from_secs(2), 2);
/// How long a connection looks for a pod that takes it.
const LOOK: (Duration, u32) = (Duration::from_millis(50), 100);

/// A pod behind the Service.
#[derive(Debug)]
struct Endpoint {
    pod: String,
    address: SocketAddr,
    /// Where it is asked whether it is ready.
    admin: String,
    failures: u32,
    connections: Arc<AtomicU64>,
}

#[derive(Debug, Default)]
struct Endpoints {
    all: Vec<Endpoint>,
    next: usize,
}

impl Endpoints {
    /// The next that is ready.
    fn pick(&mut self) -> Option<(SocketAddr, Arc<AtomicU64>)> {
        let ready: Vec<&Endpoint> = self.all.iter().filter(|endpoint| endpoint.failures < PROBE.1).collect();
        self.next = self.next.wrapping_add(1);
        let picked = ready.get(self.next % ready.len().max(1))?;
        Some((picked.address, Arc::clone(&picked.connections)))
    }
}

/// The Service; its connections end with it.
#[derive(Debug)]
pub struct Service {
    address: SocketAddr,
    endpoints: Arc<Mutex<Endpoints>>,
    tasks: [JoinHandle<()>; 2],
}

impl Service {
    /// One without pods.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, endpoints) = (listener.local_addr().unwrap(), Arc::<Mutex<Endpoints>>::default());
        let tasks = [tokio::spawn(accept(listener, Arc::clone(&endpoints))), tokio::spawn(probe(Arc::clone(&endpoints)))];
        Self { address, endpoints, tasks }
    }

    /// `http://127.0.0.1:port`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Connections go to a pod, too, which is ready.
    pub fn add(&self, pod: &str, address: SocketAddr, admin: &str) {
        let endpoint = Endpoint { pod: pod.to_owned(), address, admin: admin.to_owned(), failures: 0, connections: Arc::default() };
        self.endpoints.lock().unwrap().all.push(endpoint);
    }

    /// No connection goes to a pod any more.
    pub fn remove(&self, pod: &str) {
        self.endpoints.lock().unwrap().all.retain(|endpoint| endpoint.pod != pod);
    }

    /// How many connections each pod was given.
    pub fn connections(&self) -> Vec<(String, u64)> {
        let endpoints = self.endpoints.lock().unwrap();
        endpoints.all.iter().map(|of| (of.pod.clone(), of.connections.load(Ordering::Relaxed))).collect()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

async fn accept(listener: TcpListener, endpoints: Arc<Mutex<Endpoints>>) {
    let mut connections = JoinSet::new();
    loop {
        let Ok((client, _)) = listener.accept().await else { continue };
        while connections.try_join_next().is_some() {}
        connections.spawn(pass(client, Arc::clone(&endpoints)));
    }
}

/// Finds a pod that takes the connection, and carries it. A client whose connection nobody takes sees it closed before it was
/// answered: that is an error of its own, and as bad as any.
async fn pass(mut client: TcpStream, endpoints: Arc<Mutex<Endpoints>>) -> io::Result<()> {
    client.set_nodelay(true)?;
    let mut pod = None;
    for _ in 0..LOOK.1 {
        let picked = endpoints.lock().unwrap().pick();
        if let Some((address, connections)) = picked
            && let Ok(taken) = TcpStream::connect(address).await
        {
            connections.fetch_add(1, Ordering::Relaxed);
            pod = Some(taken);
            break;
        }
        tokio::time::sleep(LOOK.0).await;
    }
    let Some(mut pod) = pod else { return Ok(()) };
    pod.set_nodelay(true)?;
    tokio::io::copy_bidirectional(&mut client, &mut pod).await.map(|_| ())
}

/// Takes pods out that are not ready, and puts those back that are.
async fn probe(endpoints: Arc<Mutex<Endpoints>>) {
    let http = reqwest::Client::builder().no_proxy().timeout(PROBE.0).build().unwrap();
    loop {
        tokio::time::sleep(PROBE.0).await;
        let asked: Vec<(String, String)> =
            endpoints.lock().unwrap().all.iter().map(|endpoint| (endpoint.pod.clone(), endpoint.admin.clone())).collect();
        for (pod, admin) in asked {
            let ready = http.get(format!("{admin}/readyz")).send().await.is_ok_and(|answer| answer.status() == 200);
            if let Some(endpoint) = endpoints.lock().unwrap().all.iter_mut().find(|endpoint| endpoint.pod == pod) {
                endpoint.failures = if ready { 0 } else { endpoint.failures.saturating_add(1) };
            }
        }
    }
}
