//! Threads for heavy work that can wait: old records that are decoded, objects that are rewritten. The system gives them time
//! only after everybody else, so that they take what is left of the cores and nothing from those who serve the tail.

use std::panic::AssertUnwindSafe;
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::sync::{Arc, Mutex, PoisonError};

use lakefall_queue::turn;
use tokio::sync::{Semaphore, oneshot};

use crate::blocking;

/// Added to the niceness of the threads (`nice(7)`): under load each gets about a seventieth of a normal one's time.
const NICE: i32 = 19;

type Job = Box<dyn FnOnce() + Send>;

/// Some threads of low priority. Clones share them; they end with the last clone.
#[derive(Clone)]
pub struct Background(Arc<Shared>);

struct Shared {
    /// One for each thread: who gets one has a thread at once.
    turns: Semaphore,
    jobs: SyncSender<Job>,
    threads: usize,
}

/// The work came to nothing: it panicked, or no thread could be started. A defect, or a machine without memory.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("work in the background came to no end: {0}")]
pub struct Abandoned(String);

impl Background {
    /// `threads` (at least one) named `name`.
    pub fn start(name: &str, threads: usize) -> Self {
        let threads = threads.max(1);
        if blocking::on_the_spot() {
            return Self(Arc::new(Shared { turns: Semaphore::new(threads), jobs: mpsc::sync_channel(threads).0, threads }));
        }
        let (jobs, receiver) = mpsc::sync_channel(threads);
        let receiver = Arc::new(Mutex::new(receiver));
        let mut started = 0;
        for _ in 0..threads {
            let receiver = Arc::clone(&receiver);
            match std::thread::Builder::new().name(name.to_owned()).spawn(move || work(&receiver)) {
                Ok(_) => started += 1,
                Err(error) => tracing::error!(%error, name, "a thread for background work could not be started"),
            }
        }
        Self(Arc::new(Shared { turns: Semaphore::new(started), jobs, threads: started }))
    }

    /// How many threads there are.
    pub fn threads(&self) -> usize {
        self.0.threads
    }

    /// Does `work` when a thread is free; who waits longest comes first. Dropped before it began, it is not done; after that it
    /// is done for nobody.
    pub async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Abandoned> {
        if blocking::on_the_spot() {
            return blocking::here(work).map_err(|_| Abandoned("it panicked".to_owned()));
        }
        if self.0.threads == 0 {
            return Err(Abandoned("there is no thread".to_owned()));
        }
        // Never closed.
        let turn = self.0.turns.acquire().await.map_err(|error| Abandoned(error.to_string()))?;
        let (answer, answered) = oneshot::channel();
        // The turn is given back by the thread: whoever asked may be gone by then.
        turn.forget();
        let shared = Arc::downgrade(&self.0);
        let job: Job = Box::new(move || {
            let done = std::panic::catch_unwind(AssertUnwindSafe(work));
            if let Some(shared) = shared.upgrade() {
                shared.turns.add_permits(1);
            }
            // Nobody may wait any more.
            let _ = answer.send(done.map_err(|_| Abandoned("it panicked".to_owned())));
        });
        // As many places as turns: there is room.
        self.0.jobs.try_send(job).map_err(|error| Abandoned(error.to_string()))?;
        answered.await.unwrap_or_else(|_| Err(Abandoned("its thread ended".to_owned())))
    }
}

fn work(jobs: &Mutex<Receiver<Job>>) {
    stand_back();
    turn::giving_way(|| {
        loop {
            let next = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
            match next {
                Ok(job) => job(),
                Err(_) => return,
            }
        }
    });
}

/// Makes this thread one that runs when no other wants to (`SCHED_IDLE` of sched(7)): unlike one that is merely nice, it makes room
/// at once for any that wakes up.
#[cfg(target_os = "linux")]
fn stand_back() {
    use thread_priority::{NormalThreadSchedulePolicy, ThreadPriority, ThreadSchedulePolicy};
    const IDLE: ThreadSchedulePolicy = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Idle);

    if let Err(error) = lower_priority() {
        tracing::warn!(%error, "background work runs at normal priority");
    }
    // It puts the niceness back to 0 as well, which may be refused, and means nothing to this policy.
    let _ = thread_priority::set_thread_priority_and_policy(thread_priority::thread_native_id(), ThreadPriority::Min, IDLE);
    if thread_priority::thread_schedule_policy() != Ok(IDLE) {
        tracing::warn!("background work stands back by its niceness alone");
    }
}

/// Elsewhere a niceness is a whole process's.
#[cfg(not(target_os = "linux"))]
fn stand_back() {}

/// Lowers the priority of this thread alone, as Linux keeps a niceness for each, and of those that it starts from now on.
pub fn lower_priority() -> rustix::io::Result<()> {
    let now = rustix::process::getpriority_process(None)?;
    rustix::process::setpriority_process(None, (now + NICE).min(19))
}

#[cfg(test)]
mod tests {
    #[cfg(target_os = "linux")]
    use thread_priority::{NormalThreadSchedulePolicy, ThreadSchedulePolicy, thread_schedule_policy};

    use super::*;

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn work_is_done_at_the_lowest_priority_and_only_on_so_many_threads() {
        let pool = Background::start("test", 2);
        let own = rustix::process::getpriority_process(None).unwrap();
        let idle = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Idle);
        assert_eq!(pool.run(thread_schedule_policy).await.unwrap(), Ok(idle));
        assert_ne!(thread_schedule_policy(), Ok(idle));
        assert_eq!(rustix::process::getpriority_process(None).unwrap(), own);
        let names: Vec<_> = futures::future::join_all((0..16).map(|_| pool.run(|| std::thread::current().id()))).await;
        let mut ids: Vec<String> = names.into_iter().map(|id| format!("{:?}", id.unwrap())).collect();
        ids.sort();
        ids.dedup();
        assert!(ids.len() <= 2);
    }

    #[tokio::test]
    async fn work_that_panics_ends_itself_alone() {
        let pool = Background::start("test", 1);
        assert!(pool.run(|| assert_eq!(1, 2)).await.is_err());
        assert_eq!(pool.run(|| 7).await, Ok(7));
    }
}
