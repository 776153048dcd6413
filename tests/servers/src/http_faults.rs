//! An HTTP/1.1 proxy before an S3 server that answers badly, late, twice or not at all, by seeded rules; and a record of
//! all requests, so that tests can count them. Must never change a request's line or headers: its signature would break.

mod body;
mod rules;
mod serve;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::Method;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::dice::Dice;
use crate::port::Port;
pub use rules::{Fault, Rule};

/// What became of a request, as the client was told.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// The server's answer, with this status, was given, changed or not.
    Answered(u16),
    /// This status was given by the proxy.
    Invented(u16),
    /// The connection was broken instead of an answer.
    Broken,
    /// It is still under way, or the client went away before its answer.
    Open,
}

/// A request that came.
#[derive(Clone, Debug)]
pub struct Request {
    /// Its number, from 0.
    pub sequence: u64,
    /// When it came.
    pub at: Instant,
    /// Its method.
    pub method: Method,
    /// The bucket, the first part of the path.
    pub bucket: String,
    /// The key, the rest of the path, as it stood there; empty for requests to the bucket.
    pub key: String,
    /// What follows the `?`, as it stood there.
    pub query: String,
    /// The `Range` header.
    pub range: Option<String>,
    /// What became of it.
    pub outcome: Outcome,
    /// The server's status; nothing if it was not asked, or did not answer.
    pub server: Option<u16>,
    /// What was done to it, in order.
    pub faults: Vec<Fault>,
}

/// A rule that was given, to take it back.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct RuleId(u64);

#[derive(Debug)]
struct State {
    target: Mutex<SocketAddr>,
    rules: Mutex<Vec<rules::Active>>,
    given: Mutex<u64>,
    requests: Mutex<Vec<Request>>,
    /// How many requests were forgotten.
    forgotten: Mutex<u64>,
    /// What each listing was answered with last.
    listings: Mutex<HashMap<String, Bytes>>,
    dice: Dice,
}

/// A running proxy; its connections end with it.
#[derive(Debug)]
pub struct HttpFaults {
    state: Arc<State>,
    port: Port,
    accepting: JoinHandle<()>,
}

impl HttpFaults {
    /// A proxy before a server. It does no harm until it gets rules, whose lots are drawn from `seed`.
    pub async fn start(target: SocketAddr, seed: u64) -> Self {
        let port = Port::reserve();
        let listener = tokio::net::TcpListener::bind(port.address()).await.unwrap();
        let state = Arc::new(State {
            target: Mutex::new(target),
            rules: Mutex::default(),
            given: Mutex::default(),
            requests: Mutex::default(),
            forgotten: Mutex::default(),
            listings: Mutex::default(),
            dice: Dice::new(seed),
        });
        let accepting = tokio::spawn(serve::accept(state.clone(), listener));
        Self { state, port, accepting }
    }

    /// `http://127.0.0.1:port`, to be used instead of the server's.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address())
    }

    /// `127.0.0.1:port`.
    pub fn address(&self) -> SocketAddr {
        self.port.address()
    }

    /// Sends requests to another server from now on.
    pub fn retarget(&self, target: SocketAddr) {
        *self.state.target.lock().unwrap() = target;
    }

    /// Adds a rule, which holds from now on. Of the rules that meet a request, all delays happen, and the first of the others.
    pub fn add(&self, rule: Rule) -> RuleId {
        let mut given = self.state.given.lock().unwrap();
        *given += 1;
        self.state.rules.lock().unwrap().push(rules::Active::new(*given, rule));
        RuleId(*given)
    }

    /// Takes a rule back.
    pub fn remove(&self, id: RuleId) {
        self.state.rules.lock().unwrap().retain(|rule| rule.id() != id.0);
    }

    /// Takes all rules back.
    pub fn heal(&self) {
        self.state.rules.lock().unwrap().clear();
    }

    /// All requests so far.
    pub fn requests(&self) -> Vec<Request> {
        self.state.requests.lock().unwrap().clone()
    }

    /// Those to which something was done.
    pub fn injections(&self) -> Vec<Request> {
        self.requests().into_iter().filter(|request| !request.faults.is_empty()).collect()
    }

    /// How many requests came with a method for keys that begin with `prefix`; listings and other requests to a bucket
    /// have an empty key.
    pub fn count(&self, method: &Method, prefix: &str) -> usize {
        let requests = self.state.requests.lock().unwrap();
        requests.iter().filter(|request| request.method == *method && request.key.starts_with(prefix)).count()
    }

    /// How many requests came that are so.
    pub fn count_where(&self, so: impl Fn(&Request) -> bool) -> usize {
        self.state.requests.lock().unwrap().iter().filter(|request| so(request)).count()
    }

    /// Forgets the requests so far; their numbers are not used again.
    pub fn forget(&self) {
        self.state.forget();
    }
}

impl Drop for HttpFaults {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}
