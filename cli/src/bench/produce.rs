//! Producing: every worker sends prebuilt bodies over its connection and counts what was acknowledged.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::Method;
use tokio::task::JoinSet;

use super::pace::Pace;
use super::payload::Body;
use super::stats::Stats;
use super::target::{Connection, Fault, Prepared, Target};
use crate::failure::Failure;

/// Pause after a refusal, so that a server without room is not asked a million times.
const REFUSED_PAUSE: Duration = Duration::from_millis(10);
/// Pause before connecting again.
const BROKEN_PAUSE: Duration = Duration::from_millis(100);

/// What all workers send.
pub(super) struct Load {
    pub(super) prepared: Prepared,
    pub(super) bodies: Vec<Body>,
    /// Records in each body.
    pub(super) batch: u64,
    pub(super) pace: Arc<Pace>,
    /// Bodies carry the moment they were due, for a reader that measures the whole way.
    pub(super) stamp: Option<super::tail::Stamp>,
}

impl Load {
    /// A load to a topic.
    pub(super) fn prepare(target: &Target, topic: &str, format: super::payload::Format, acks: super::Acks) -> Result<Prepared, Failure> {
        let path = format!("/v1/topics/{}/records?{}acks={}", crate::commands::segment(topic), format.query(), acks.word());
        target.prepare(Method::POST, &path, &format.headers())
    }
}

/// Opens a thread's share of the connections: `connections` of them, each with `streams` users on HTTP/2.
pub(super) async fn open(target: &Arc<Target>, connections: usize, streams: usize) -> Result<Vec<Connection>, Failure> {
    let mut opened = Vec::with_capacity(connections * streams);
    for _ in 0..connections {
        let connection = Connection::open_light(Arc::clone(target)).await?;
        let shared: Vec<_> = (1..streams).map_while(|_| connection.share()).collect();
        opened.push(connection);
        opened.extend(shared);
    }
    Ok(opened)
}

/// Sends over these connections until the pace ends.
pub(super) async fn work(load: &Arc<Load>, connections: Vec<Connection>) -> Result<Stats, Failure> {
    // One thread, one runtime: the lock is never waited for.
    let stats = Arc::new(Mutex::new(Stats::new()?));
    let mut workers = JoinSet::new();
    for (number, connection) in connections.into_iter().enumerate() {
        workers.spawn(worker(Arc::clone(load), connection, number, Arc::clone(&stats)));
    }
    while let Some(ended) = workers.join_next().await {
        ended.map_err(|error| Failure::Defect(error.to_string()))?;
    }
    let stats = Arc::into_inner(stats).ok_or_else(|| Failure::Defect("a worker outlived its thread".into()))?;
    Ok(stats.into_inner().unwrap_or_else(PoisonError::into_inner))
}

async fn worker(load: Arc<Load>, mut connection: Connection, number: usize, stats: Arc<Mutex<Stats>>) {
    // Workers start at different bodies, so that equal ones do not arrive together.
    let mut turn = number;
    while let Some(due) = load.pace.next().await {
        let body = &load.bodies[turn % load.bodies.len()];
        turn += 1;
        let bytes = match &load.stamp {
            Some(stamp) => stamp.write(due),
            None => body.bytes.clone(),
        };
        let outcome = connection.exchange(&load.prepared, bytes).await;
        let took = load.pace.now().saturating_sub(due);
        match outcome {
            Ok(_) => stats.lock().unwrap_or_else(PoisonError::into_inner).answered(load.batch, body.value_bytes, took),
            Err(fault) => {
                stats.lock().unwrap_or_else(PoisonError::into_inner).failed(&fault);
                recover(&mut connection, &fault).await;
            }
        }
    }
}

/// Waits a little after a fault, and connects again if the connection broke. A connection that cannot be made is found
/// broken, and counted, by the next request.
pub(super) async fn recover(connection: &mut Connection, fault: &Fault) {
    match fault {
        Fault::Refused(_) => tokio::time::sleep(REFUSED_PAUSE).await,
        Fault::Connection(_) => {
            tokio::time::sleep(BROKEN_PAUSE).await;
            let _ = connection.reopen().await;
        }
    }
}
