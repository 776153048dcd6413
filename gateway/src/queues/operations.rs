//! Long work that goes on by itself, as far as this gateway runs it: what it is, how it stands, and how it is stopped. Nothing
//! here survives the process, and other gateways do not know of it: an operation must be such that starting it again goes
//! on where it was left.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lakefall_queue::clock::Ambient;
use lakefall_queue::error::{Error, Result};
use lakefall_queue::queue::{Operation, OperationStatus};
use lakefall_queue::{NamespaceName, Timestamp};
use lakefall_service::Tasks;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// How long an operation is told of after its end.
const KEPT: Duration = Duration::from_secs(24 * 3_600);
/// Operations remembered; beyond it, those that ended first are forgotten.
const CAPACITY: usize = 1_000;
/// Operations that run at a time.
const RUNNING_MAX: usize = 32;
/// How long a caller who stops an operation waits for its end.
const END_WAIT: Duration = Duration::from_secs(5);

/// The operations of one gateway. Clones share everything.
#[derive(Clone)]
pub(crate) struct Operations {
    known: Arc<Mutex<BTreeMap<Arc<str>, Entry>>>,
    /// Tells this gateway's operations from those of others.
    gateway: u32,
    ambient: Ambient,
    tasks: Tasks,
    stop: CancellationToken,
}

struct Entry {
    namespace: NamespaceName,
    state: watch::Receiver<Operation>,
    cancel: CancellationToken,
}

/// What an operation tells of itself while it runs.
#[derive(Clone)]
pub(crate) struct Progress {
    state: Arc<watch::Sender<Operation>>,
    cancel: CancellationToken,
}

impl Progress {
    /// Names the operation.
    pub(crate) fn id(&self) -> Arc<str> {
        Arc::clone(&self.state.borrow().id)
    }

    /// So many more were done.
    pub(crate) fn done(&self, count: usize) {
        self.state.send_modify(|operation| operation.done += count as u64);
    }

    /// So many more were passed over.
    pub(crate) fn skipped(&self, count: usize) {
        self.state.send_modify(|operation| operation.skipped += count as u64);
    }

    /// Whether it is to stop.
    pub(crate) fn is_cancelled(&self) -> bool {
        self.cancel.is_cancelled()
    }

    /// Waits, unless it is to stop.
    pub(crate) async fn sleep(&self, wait: Duration) {
        tokio::select! {
            () = self.cancel.cancelled() => {}
            () = tokio::time::sleep(wait) => {}
        }
    }

    fn end(&self, ended_at: Timestamp, ended: Result<()>) {
        self.state.send_modify(|operation| {
            operation.ended_at = Some(ended_at);
            operation.status = match &ended {
                Err(_) => OperationStatus::Failed,
                Ok(()) if self.cancel.is_cancelled() => OperationStatus::Cancelled,
                Ok(()) => OperationStatus::Succeeded,
            };
            operation.error = ended.err().map(|error| error.to_string());
        });
    }
}

impl Operations {
    /// None yet. Those that run are stopped with `stop`.
    pub(crate) fn new(ambient: Ambient, tasks: Tasks, stop: CancellationToken) -> Self {
        Self { known: Arc::default(), gateway: ambient.entropy.draw() as u32, ambient, tasks, stop }
    }

    /// Starts an operation of the namespace. The work looks at its progress now and then, and returns when it is to stop.
    pub(crate) fn start<F>(&self, namespace: &NamespaceName, kind: &'static str, work: impl FnOnce(Progress) -> F) -> Result<Operation>
    where
        F: Future<Output = Result<()>> + Send + 'static,
    {
        let now = self.ambient.now();
        let id: Arc<str> = format!("{kind}-{:08x}-{:016x}", self.gateway, self.ambient.entropy.draw() as u64).into();
        let operation = Operation {
            id: Arc::clone(&id),
            kind,
            status: OperationStatus::Running,
            started_at: now,
            ended_at: None,
            done: 0,
            skipped: 0,
            error: None,
        };
        let (sender, state) = watch::channel(operation.clone());
        let progress = Progress { state: Arc::new(sender), cancel: self.stop.child_token() };
        let mut known = self.lock();
        make_room(&mut known, now)?;
        known.insert(id, Entry { namespace: namespace.clone(), state, cancel: progress.cancel.clone() });
        drop(known);
        let (ambient, running) = (self.ambient.clone(), work(progress.clone()));
        self.tasks.spawn("operation", async move {
            // Ends as failed also when it panics.
            let guard = Guard { progress, ambient, ended: Some(Err(Error::Internal("the operation broke off".to_owned()))) };
            guard.end(running.await);
        });
        Ok(operation)
    }

    /// How an operation of the namespace stands.
    pub(crate) fn get(&self, namespace: &NamespaceName, id: &str) -> Result<Operation> {
        self.find(namespace, id).map(|(state, _)| state.borrow().clone())
    }

    /// Stops an operation of the namespace. What it is at in this moment is finished first: if that takes long, the answer is
    /// that it still runs. One that has ended stays as it is.
    pub(crate) async fn cancel(&self, namespace: &NamespaceName, id: &str) -> Result<Operation> {
        let (mut state, cancel) = self.find(namespace, id)?;
        cancel.cancel();
        // Without an end in time, or with the sender gone, what was told last holds.
        let _ = tokio::time::timeout(END_WAIT, state.wait_for(|operation| operation.status != OperationStatus::Running)).await;
        let operation = state.borrow().clone();
        Ok(operation)
    }

    fn find(&self, namespace: &NamespaceName, id: &str) -> Result<(watch::Receiver<Operation>, CancellationToken)> {
        let known = self.lock();
        let entry = known.get(id).filter(|entry| entry.namespace == *namespace);
        entry
            .map(|entry| (entry.state.clone(), entry.cancel.clone()))
            .ok_or_else(|| Error::OperationNotFound(id.chars().take(64).collect()))
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Arc<str>, Entry>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Forgets what ended long ago, and what ended first where there are too many.
fn make_room(known: &mut BTreeMap<Arc<str>, Entry>, now: Timestamp) -> Result<()> {
    known.retain(|_, entry| entry.state.borrow().ended_at.is_none_or(|ended| ended.plus(KEPT) > now));
    let running = known.values().filter(|entry| entry.state.borrow().ended_at.is_none()).count();
    if running >= RUNNING_MAX {
        return Err(Error::unavailable(format!("{running} operations run on this gateway: wait for one to end, or cancel one")));
    }
    while known.len() >= CAPACITY {
        let first = known.iter().filter_map(|(id, entry)| Some((entry.state.borrow().ended_at?, Arc::clone(id)))).min();
        let Some((_, id)) = first else { break };
        known.remove(&id);
    }
    Ok(())
}

/// Tells the end of an operation, whatever it is.
struct Guard {
    progress: Progress,
    ambient: Ambient,
    ended: Option<Result<()>>,
}

impl Guard {
    fn end(mut self, ended: Result<()>) {
        self.ended = Some(ended);
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(ended) = self.ended.take() {
            self.progress.end(self.ambient.now(), ended);
        }
    }
}
