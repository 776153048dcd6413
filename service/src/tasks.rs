//! Every task of the process: its name, whether it still runs, and what happens when it ends. Nothing is spawned and
//! forgotten: a task that panics is reported, and a critical one that ends takes the process down with a reason.

use std::any::Any;
use std::collections::BTreeMap;
use std::fmt::Display;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use serde::Serialize;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The tasks of one process. Clones share everything.
#[derive(Clone, Default)]
pub struct Tasks {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    tracker: TaskTracker,
    token: CancellationToken,
    groups: Mutex<BTreeMap<&'static str, Arc<Group>>>,
    failure: OnceLock<TaskFailure>,
}

/// Tasks of one name: a connection is one of thousands, a journal writer is alone.
#[derive(Default)]
struct Group {
    started: AtomicU64,
    ended: AtomicU64,
    failed: AtomicU64,
}

/// Why the process must stop.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TaskFailure {
    /// A critical task ended; the operator reads its reason and starts the process again.
    #[error("the task {task} ended: {reason}")]
    Ended {
        /// The task's name.
        task: &'static str,
        /// Its error, its panic, or that it returned too early.
        reason: String,
    },
    /// Shutdown took longer than the grace; what these tasks held may not have been answered.
    #[error("still running after {grace_ms} ms: {tasks}")]
    Late {
        /// Names and counts of the tasks that were left.
        tasks: String,
        /// How long shutdown waited.
        grace_ms: u64,
    },
}

/// What is known of the tasks of one name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TaskState {
    /// The name given at spawn.
    pub name: &'static str,
    /// How many run now.
    pub running: u64,
    /// How many ended in order.
    pub ended: u64,
    /// How many panicked or returned an error.
    pub failed: u64,
}

impl Tasks {
    /// No tasks yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Cancelled when the process must stop. A clone: cancelling it stops everything.
    pub fn token(&self) -> CancellationToken {
        self.shared.token.clone()
    }

    /// Runs a task whose end is nobody's misfortune. A panic is logged and counted.
    pub fn spawn<F>(&self, name: &'static str, work: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let group = self.shared.group(name);
        self.shared.tracker.spawn(async move {
            match AssertUnwindSafe(work).catch_unwind().await {
                Ok(()) => group.ended.fetch_add(1, Ordering::Relaxed),
                Err(panic) => {
                    tracing::error!(task = name, reason = panic_text(&*panic), "a task panicked");
                    group.failed.fetch_add(1, Ordering::Relaxed)
                }
            };
        });
    }

    /// Runs a task without which the process is of no use: when it fails, panics, or returns before shutdown began, the
    /// process stops and [`Tasks::failure`] names it.
    pub fn spawn_critical<F, E>(&self, name: &'static str, work: F)
    where
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: Display,
    {
        let group = self.shared.group(name);
        let shared = Arc::clone(&self.shared);
        self.shared.tracker.spawn(async move {
            let reason = match AssertUnwindSafe(work).catch_unwind().await {
                Ok(Ok(())) if shared.token.is_cancelled() => {
                    group.ended.fetch_add(1, Ordering::Relaxed);
                    return;
                }
                Ok(Ok(())) => "it returned before shutdown".to_owned(),
                Ok(Err(error)) => error.to_string(),
                Err(panic) => format!("it panicked: {}", panic_text(&*panic)),
            };
            group.failed.fetch_add(1, Ordering::Relaxed);
            tracing::error!(task = name, reason, "a critical task ended: the process stops");
            // Only the first failure is the cause; later ones follow from the stop.
            let _ = shared.failure.set(TaskFailure::Ended { task: name, reason });
            shared.token.cancel();
        });
    }

    /// The critical task that ended, if one did.
    pub fn failure(&self) -> Option<TaskFailure> {
        self.shared.failure.get().cloned()
    }

    /// Every name ever spawned, in alphabetical order.
    pub fn list(&self) -> Vec<TaskState> {
        let groups = self.shared.groups.lock().unwrap_or_else(PoisonError::into_inner);
        groups.iter().map(|(name, group)| group.state(name)).collect()
    }

    /// Returns when shutdown was asked for, by signal or by a failure.
    pub async fn stopping(&self) {
        self.shared.token.cancelled().await;
    }

    /// Asks all tasks to stop and waits for them, at most `grace`. The error says which critical task failed, or which
    /// tasks were left running.
    pub async fn shutdown(&self, grace: Duration) -> Result<(), TaskFailure> {
        self.shared.token.cancel();
        self.shared.tracker.close();
        let late = tokio::time::timeout(grace, self.shared.tracker.wait()).await.is_err();
        match self.failure() {
            Some(failure) => Err(failure),
            None if late => Err(TaskFailure::Late { tasks: self.running_names(), grace_ms: grace.as_millis() as u64 }),
            None => Ok(()),
        }
    }

    fn running_names(&self) -> String {
        let running = self.list().into_iter().filter(|task| task.running > 0);
        running.map(|task| format!("{} ({})", task.name, task.running)).collect::<Vec<_>>().join(", ")
    }
}

impl Shared {
    /// The counters of a name, counting one more start.
    fn group(&self, name: &'static str) -> Arc<Group> {
        let mut groups = self.groups.lock().unwrap_or_else(PoisonError::into_inner);
        let group = groups.entry(name).or_default();
        group.started.fetch_add(1, Ordering::Relaxed);
        Arc::clone(group)
    }
}

impl Group {
    fn state(&self, name: &'static str) -> TaskState {
        let ended = self.ended.load(Ordering::Relaxed);
        let failed = self.failed.load(Ordering::Relaxed);
        let running = self.started.load(Ordering::Relaxed).saturating_sub(ended + failed);
        TaskState { name, running, ended, failed }
    }
}

pub(crate) fn panic_text(panic: &(dyn Any + Send)) -> &str {
    match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
        (Some(text), _) => text,
        (_, Some(text)) => text,
        _ => "no message",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_critical_task_that_fails_stops_the_process_and_is_named() {
        let tasks = Tasks::new();
        tasks.spawn_critical("journal", async { Err("disk full") });
        tasks.stopping().await;
        let failure = tasks.shutdown(Duration::from_secs(5)).await.unwrap_err();
        assert_eq!(failure, TaskFailure::Ended { task: "journal", reason: "disk full".into() });
    }

    #[tokio::test]
    async fn a_critical_task_that_panics_stops_the_process() {
        let tasks = Tasks::new();
        tasks.spawn_critical("journal", async {
            if true {
                panic!("boom");
            }
            Ok::<_, String>(())
        });
        tasks.stopping().await;
        assert!(tasks.failure().unwrap().to_string().contains("boom"));
    }

    #[tokio::test]
    async fn a_critical_task_may_end_after_shutdown_began() {
        let tasks = Tasks::new();
        let token = tasks.token();
        tasks.spawn_critical("listener", async move {
            token.cancelled().await;
            Ok::<_, String>(())
        });
        assert_eq!(tasks.shutdown(Duration::from_secs(5)).await, Ok(()));
    }

    #[tokio::test]
    async fn a_task_that_panics_is_counted_and_harms_nobody() {
        let tasks = Tasks::new();
        tasks.spawn("connection", async { panic!("boom") });
        tasks.spawn("connection", async {});
        assert_eq!(tasks.shutdown(Duration::from_secs(5)).await, Ok(()));
        assert_eq!(tasks.list(), [TaskState { name: "connection", running: 0, ended: 1, failed: 1 }]);
    }

    #[tokio::test(start_paused = true)]
    async fn tasks_that_outlive_the_grace_are_named() {
        let tasks = Tasks::new();
        tasks.spawn("stubborn", std::future::pending());
        let failure = tasks.shutdown(Duration::from_millis(50)).await.unwrap_err();
        assert_eq!(failure, TaskFailure::Late { tasks: "stubborn (1)".into(), grace_ms: 50 });
    }
}
