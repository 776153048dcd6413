//! A way between a client and a replica that a test can cut, or stop in one direction.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// What passes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Ways {
    /// Bytes to the replica wait.
    pub(crate) hold_asks: bool,
    /// Bytes to the client wait.
    pub(crate) hold_answers: bool,
    /// New connections are closed at once.
    pub(crate) refuse: bool,
}

pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    state: Arc<State>,
    accepting: tokio::task::JoinHandle<()>,
}

struct State {
    ways: watch::Sender<Ways>,
    /// Connections of an older generation are cut.
    generation: watch::Sender<u64>,
    connections: AtomicU64,
    open: AtomicU64,
}

impl Proxy {
    pub(crate) async fn start(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State {
            ways: watch::channel(Ways::default()).0,
            generation: watch::channel(0).0,
            connections: AtomicU64::new(0),
            open: AtomicU64::new(0),
        });
        let accepting = tokio::spawn(accept(listener, target, Arc::clone(&state)));
        Self { address, state, accepting }
    }

    pub(crate) fn set(&self, ways: Ways) {
        self.state.ways.send_replace(ways);
    }

    /// Ends all connections; what was on the way is lost.
    pub(crate) fn cut(&self) {
        self.state.generation.send_modify(|generation| *generation += 1);
    }

    /// Connections at the moment.
    pub(crate) fn open(&self) -> u64 {
        self.state.open.load(Ordering::SeqCst)
    }

    /// Connections so far.
    pub(crate) fn connections(&self) -> u64 {
        self.state.connections.load(Ordering::SeqCst)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
        self.cut();
    }
}

async fn accept(listener: TcpListener, target: SocketAddr, state: Arc<State>) {
    loop {
        let (client, _) = listener.accept().await.unwrap();
        // First, so that a cut that follows a refusal leaves none behind.
        let mut generation = state.generation.subscribe();
        if state.ways.borrow().refuse {
            continue;
        }
        let state = Arc::clone(&state);
        tokio::spawn(async move {
            let Ok(replica) = TcpStream::connect(target).await else { return };
            state.connections.fetch_add(1, Ordering::SeqCst);
            state.open.fetch_add(1, Ordering::SeqCst);
            client.set_nodelay(true).unwrap();
            replica.set_nodelay(true).unwrap();
            let (from_client, to_client) = client.into_split();
            let (from_replica, to_replica) = replica.into_split();
            tokio::select! {
                () = carry(from_client, to_replica, state.ways.subscribe(), |ways| ways.hold_asks) => {}
                () = carry(from_replica, to_client, state.ways.subscribe(), |ways| ways.hold_answers) => {}
                _ = generation.changed() => {}
            }
            state.open.fetch_sub(1, Ordering::SeqCst);
        });
    }
}

async fn carry(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut ways: watch::Receiver<Ways>, held: impl Fn(&Ways) -> bool) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        if ways.wait_for(|ways| !held(ways)).await.is_err() || to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}
