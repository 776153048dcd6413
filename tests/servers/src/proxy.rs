//! A TCP proxy of ours: latency, jitter, bandwidth, silence in one direction, cuts, resets, another target; and the loss of
//! a certain reply of PostgreSQL. Must never change, add or reorder a byte: it delays and it ends, like a network.

mod pump;
mod replies;

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use crate::dice::Dice;
use crate::port::Port;
pub use replies::Loss;
use replies::Losses;

/// How long it may take to open or close a port.
const SWITCH: Duration = Duration::from_secs(30);

/// Which way bytes go.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Direction {
    /// Requests.
    ToServer,
    /// Answers.
    ToClient,
}

/// How one direction is at the moment.
#[derive(Clone, Copy, Debug, Default)]
struct Way {
    latency: Duration,
    jitter: Duration,
    bytes_per_second: Option<u64>,
    silent: bool,
}

/// What holds now; connections under way follow every change.
#[derive(Clone, Debug)]
struct Rules {
    target: SocketAddr,
    refuses: bool,
    ways: [Way; 2],
    /// Raised by a reset of everything.
    resets: u64,
}

/// What the proxy did so far.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Counts {
    /// Connections taken.
    pub connections: u64,
    /// Of them, those that are there now.
    pub open: u64,
    /// Bytes that were passed on to the server.
    pub bytes_to_server: u64,
    /// Bytes that were passed on to the client.
    pub bytes_to_client: u64,
    /// Connections that were cut after their bytes.
    pub cuts: u64,
    /// Replies of PostgreSQL whose tag was looked for.
    pub replies_seen: u64,
    /// Of them, those that were withheld.
    pub replies_lost: u64,
    /// Connections that ended because the server or this proxy reset them, or because the server was not there.
    pub broken: u64,
}

#[derive(Debug)]
struct State {
    rules: watch::Sender<Rules>,
    /// After how many more bytes of a direction the connection that carries them is cut; nothing if never.
    cuts: [Mutex<Option<u64>>; 2],
    losses: Mutex<Losses>,
    is_postgres: bool,
    dice: Dice,
    connections: AtomicU64,
    open: AtomicU64,
    bytes: [AtomicU64; 2],
    cut: AtomicU64,
    broken: AtomicU64,
}

/// A running proxy; its connections end with it.
#[derive(Debug)]
pub struct Proxy {
    state: Arc<State>,
    port: Port,
    accepting: JoinHandle<()>,
    listens: watch::Receiver<bool>,
}

impl Proxy {
    /// A proxy before any server. It does no harm until it is told.
    pub async fn start(target: SocketAddr) -> Self {
        Self::new(target, false).await
    }

    /// A proxy before PostgreSQL, which understands its answers, for [`Proxy::lose_reply`]. Clients must not use TLS.
    pub async fn before_postgres(target: SocketAddr) -> Self {
        Self::new(target, true).await
    }

    async fn new(target: SocketAddr, is_postgres: bool) -> Self {
        let port = Port::reserve();
        let rules = Rules { target, refuses: false, ways: Default::default(), resets: 0 };
        let state = Arc::new(State {
            rules: watch::Sender::new(rules),
            cuts: Default::default(),
            losses: Mutex::default(),
            is_postgres,
            dice: Dice::new(u64::from(port.number())),
            connections: AtomicU64::default(),
            open: AtomicU64::default(),
            bytes: Default::default(),
            cut: AtomicU64::default(),
            broken: AtomicU64::default(),
        });
        let (told, mut listens) = watch::channel(false);
        let accepting = tokio::spawn(accept(state.clone(), port.address(), told));
        in_time("the proxy listens", listens.wait_for(|listens| *listens)).await.unwrap();
        Self { state, port, accepting, listens }
    }

    /// Where clients connect, the same for the proxy's life.
    pub fn address(&self) -> SocketAddr {
        self.port.address()
    }

    /// Delays what goes this way by `latency` and up to `jitter` more. Bytes stay in order; throughput is not affected.
    pub fn latency(&self, direction: Direction, latency: Duration, jitter: Duration) {
        self.change(direction, |way| (way.latency, way.jitter) = (latency, jitter));
    }

    /// Passes on so many bytes per second and connection; nothing means no limit.
    pub fn bandwidth(&self, direction: Direction, bytes_per_second: Option<u64>) {
        self.change(direction, |way| way.bytes_per_second = bytes_per_second);
    }

    /// Passes on nothing this way, not even the end of a connection, until it is told otherwise; then what came meanwhile
    /// follows, as after a partition that heals before TCP gives up. New connections are taken.
    pub fn blackhole(&self, direction: Direction, silent: bool) {
        self.change(direction, |way| way.silent = silent);
    }

    /// Passes on `bytes` more this way, over all connections, and then resets the connection whose next byte it is. Once.
    pub fn cut_after(&self, direction: Direction, bytes: u64) {
        *self.state.cuts[direction as usize].lock().unwrap() = Some(bytes);
    }

    /// Resets all connections (RST to both sides); new ones are taken.
    pub fn reset_all(&self) {
        self.state.rules.send_modify(|rules| rules.resets += 1);
    }

    /// Refuses new connections, as a host without a listener does, or takes them again; those that are there stay.
    /// Returns when it is so.
    pub async fn refuse(&self, refuses: bool) {
        self.state.rules.send_modify(|rules| rules.refuses = refuses);
        in_time("the proxy opens or closes its port", self.listens.clone().wait_for(|listens| *listens != refuses)).await.unwrap();
    }

    /// Sends new connections to another server; those that are there stay.
    pub fn retarget(&self, target: SocketAddr) {
        self.state.rules.send_modify(|rules| rules.target = target);
    }

    /// Withholds a reply of PostgreSQL to a statement that was done: the `nth` (from 1, counted from now, over all
    /// connections) whose tag begins with `tag`, such as `INSERT` or `COMMIT`. What came before it is passed on; then the
    /// proxy waits until the server says that it is ready for the next query, so that a statement that is its own
    /// transaction is committed; then `loss` happens.
    pub fn lose_reply(&self, tag: &str, nth: u64, loss: Loss) {
        assert!(self.state.is_postgres, "this proxy was not started with before_postgres");
        self.state.losses.lock().unwrap().arm(tag, nth, false, loss);
    }

    /// The same for every `nth` one.
    pub fn lose_every_reply(&self, tag: &str, nth: u64, loss: Loss) {
        assert!(self.state.is_postgres, "this proxy was not started with before_postgres");
        self.state.losses.lock().unwrap().arm(tag, nth, true, loss);
    }

    /// Ends all harm but what has happened: no delay, no limit, no silence, connections taken, nothing lost or cut.
    pub async fn heal(&self) {
        self.state.losses.lock().unwrap().disarm();
        for cut in &self.state.cuts {
            *cut.lock().unwrap() = None;
        }
        self.state.rules.send_modify(|rules| rules.ways = Default::default());
        self.refuse(false).await;
    }

    /// What happened so far.
    pub fn counts(&self) -> Counts {
        let state = &self.state;
        let (replies_seen, replies_lost) = state.losses.lock().unwrap().counts();
        let count = |number: &AtomicU64| number.load(Ordering::Relaxed);
        Counts {
            connections: count(&state.connections),
            open: count(&state.open),
            bytes_to_server: count(&state.bytes[Direction::ToServer as usize]),
            bytes_to_client: count(&state.bytes[Direction::ToClient as usize]),
            cuts: count(&state.cut),
            replies_seen,
            replies_lost,
            broken: count(&state.broken),
        }
    }

    fn change(&self, direction: Direction, change: impl FnOnce(&mut Way)) {
        self.state.rules.send_modify(|rules| change(&mut rules.ways[direction as usize]));
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn in_time<T>(what: &str, done: impl Future<Output = T>) -> T {
    tokio::time::timeout(SWITCH, done).await.unwrap_or_else(|_| panic!("not within {SWITCH:?}: {what}"))
}

/// Takes connections while it may. Ends with its task, and its connections with it.
async fn accept(state: Arc<State>, address: SocketAddr, listens: watch::Sender<bool>) {
    let mut rules = state.rules.subscribe();
    let mut connections = JoinSet::new();
    loop {
        until(&mut rules, |rules| !rules.refuses).await;
        let listener = TcpListener::bind(address).await.unwrap();
        listens.send_replace(true);
        loop {
            tokio::select! {
                accepted = listener.accept() => {
                    // A client that went away at once is nobody's loss.
                    let Ok((client, _)) = accepted else { continue };
                    state.connections.fetch_add(1, Ordering::Relaxed);
                    connections.spawn(connect(state.clone(), client));
                }
                () = until(&mut rules, |rules| rules.refuses) => break,
                Some(_) = connections.join_next() => {}
            }
        }
        drop(listener);
        listens.send_replace(false);
    }
}

/// Waits for a change that makes it so.
async fn until(rules: &mut watch::Receiver<Rules>, so: impl FnMut(&Rules) -> bool) {
    // The sender is in the state, which whoever waits here holds.
    rules.wait_for(so).await.map(|_| ()).unwrap();
}

/// Counts a connection while it is there, however it ends.
struct Open(Arc<State>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// One connection, from its beginning to its end.
async fn connect(state: Arc<State>, mut client: TcpStream) {
    state.open.fetch_add(1, Ordering::Relaxed);
    let _open = Open(state.clone());
    if serve(&state, &mut client).await.is_err() {
        state.broken.fetch_add(1, Ordering::Relaxed);
        // A failure is what closing in order would be, too.
        let _ = client.set_zero_linger();
    }
}

async fn serve(state: &State, client: &mut TcpStream) -> io::Result<()> {
    let mut rules = state.rules.subscribe();
    let (target, resets) = (rules.borrow().target, rules.borrow().resets);
    let mut server = TcpStream::connect(target).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let ended = tokio::select! {
        ended = pump::both(state, client, &mut server) => ended,
        () = until(&mut rules, |rules| rules.resets > resets) => Err(io::ErrorKind::ConnectionReset.into()),
    };
    if ended.is_err() {
        server.set_zero_linger()?;
    }
    ended
}
