//! When an owner writes checkpoints, and what becomes of one that fails. It never touches the ledger: the owner gives it
//! what to write and takes back what came of it.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::poll;
use lakefall_queue::clock::Clock;
use lakefall_queue::ledger::Checkpoint;
use lakefall_service::failpoint;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use crate::metrics as names;
use crate::store::{Lease, MetadataStore, StoreError};

/// Pause before a checkpoint that failed is written again, doubled with each failure.
const RETRY_FIRST: Duration = Duration::from_secs(1);
/// And at most so long.
const RETRY_MOST: Duration = Duration::from_secs(60);

/// What the journal holds beyond the last checkpoint.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Uncheckpointed {
    pub(crate) entries: u64,
    pub(crate) bytes: u64,
}

/// A checkpoint that was tried.
pub(crate) type Tried = (Checkpoint, Result<(), StoreError>);

/// What the owner is to do.
pub(crate) enum Event {
    /// Take a checkpoint back that was tried.
    Tried(Box<Tried>),
    /// Begin one: the last failed a while ago.
    Retry,
}

/// The checkpoints of one reign.
pub(crate) struct Checkpoints {
    pub(crate) behind: Uncheckpointed,
    /// Aborted with the reign: its epoch is over anyway.
    running: Option<AbortOnDropHandle<Tried>>,
    retry: Option<Instant>,
    failures: u32,
}

impl Checkpoints {
    /// Of a reign that found so much in the journal.
    pub(crate) fn new(behind: Uncheckpointed) -> Self {
        Self { behind, running: None, retry: None, failures: 0 }
    }

    pub(crate) fn appended(&mut self, bytes: u64) {
        self.behind.entries += 1;
        self.behind.bytes += bytes;
    }

    /// Whether one may begin.
    pub(crate) fn idle(&self) -> bool {
        self.running.is_none()
    }

    /// Writes a checkpoint beside the owner, who goes on.
    pub(crate) fn begin(&mut self, checkpoint: Checkpoint, store: Arc<dyn MetadataStore>, lease: Lease, clock: Arc<dyn Clock>) {
        self.behind = Uncheckpointed::default();
        self.retry = None;
        self.running = Some(AbortOnDropHandle::new(tokio::spawn(async move {
            let started = clock.elapsed();
            failpoint::hit("p1");
            let done = {
                let mut writing = pin!(store.checkpoint(&lease, &checkpoint));
                match poll!(&mut writing) {
                    std::task::Poll::Ready(done) => done,
                    std::task::Poll::Pending => {
                        failpoint::hit("p2");
                        writing.await
                    }
                }
            };
            failpoint::hit("p3");
            ::metrics::histogram!(names::CHECKPOINT_SECONDS).record(clock.elapsed().saturating_sub(started).as_secs_f64());
            (checkpoint, done)
        })));
    }

    /// The next thing to do. Dropped before it returns, nothing is lost.
    pub(crate) async fn next(&mut self) -> Event {
        match (&mut self.running, self.retry) {
            (Some(task), _) => match task.await {
                Ok(tried) => {
                    self.running = None;
                    self.settle(&tried);
                    Event::Tried(Box::new(tried))
                }
                // It is aborted only with the reign: nothing but a panic ends here.
                Err(panic) => std::panic::resume_unwind(panic.into_panic()),
            },
            (None, Some(at)) => {
                tokio::time::sleep_until(at).await;
                self.retry = None;
                Event::Retry
            }
            (None, None) => std::future::pending().await,
        }
    }

    fn settle(&mut self, (_, done): &Tried) {
        match done {
            Ok(()) => {
                self.failures = 0;
                ::metrics::counter!(names::CHECKPOINTS).increment(1);
            }
            Err(error) => {
                let pause = (RETRY_FIRST * 2_u32.saturating_pow(self.failures)).min(RETRY_MOST);
                self.failures = (self.failures + 1).min(16);
                self.retry = Some(Instant::now() + pause);
                ::metrics::counter!(names::CHECKPOINTS_FAILED).increment(1);
                tracing::warn!(%error, retry_in_ms = pause.as_millis() as u64, "a checkpoint failed: the next one takes its rows");
            }
        }
    }
}
