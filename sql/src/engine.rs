//! Answers statements: on threads of their own, so many at once, each within bounds of time, memory and rows. A statement ends
//! when its answer is dropped.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use lakefall_queue::sql::{Column, Rows, SqlRefusal, Statement, Statistics, Watermark};
use lakefall_queue::{Error, Result};
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use crate::encode::Encoder;
use crate::files::Known;
use crate::metrics;
use crate::query::{Plan, plan};
use crate::shore::Shore;
use crate::source::Source;

/// How long a statement waits for another to end before it is sent away.
const TURN: Duration = Duration::from_millis(500);
/// Encoded portions that wait to be taken.
const AHEAD: usize = 2;
/// Planning walks trees by recursion; a thread that nobody asks anything of uses none of it.
const STACK_BYTES: usize = 32 << 20;
/// Rows of a batch, as DataFusion has it.
pub(crate) const BATCH_ROWS: usize = 8_192;

/// What statements may use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SqlConfig {
    /// Statements that are answered at once; more wait for a moment and are sent away.
    pub max_concurrent: usize,
    /// Memory of one statement, in bytes.
    pub memory_bytes: usize,
    /// Longest time of a statement.
    pub timeout: Duration,
    /// Most rows of an answer.
    pub max_rows: u64,
    /// Threads that all statements share.
    pub threads: usize,
}

impl Default for SqlConfig {
    fn default() -> Self {
        Self { max_concurrent: 4, memory_bytes: 256 << 20, timeout: Duration::from_secs(60), max_rows: 10_000_000, threads: 2 }
    }
}

/// Answers statements.
pub struct Sql {
    config: SqlConfig,
    places: Arc<Semaphore>,
    known: Arc<Known>,
    /// Started by the first statement.
    runtime: Mutex<Option<Runtime>>,
}

/// What a statement has cost so far.
#[derive(Default)]
pub(crate) struct Counters {
    pub(crate) bytes_read: AtomicU64,
    pub(crate) row_groups_read: AtomicU64,
    pub(crate) row_groups_pruned: AtomicU64,
    pub(crate) extents_read: AtomicU64,
    pub(crate) extents_pruned: AtomicU64,
    pub(crate) untyped: AtomicU64,
    rows: AtomicU64,
    truncated: AtomicU64,
    elapsed_ms: AtomicU64,
}

impl Sql {
    /// Nothing is started before somebody asks.
    pub fn new(config: SqlConfig) -> Self {
        let places = Arc::new(Semaphore::new(config.max_concurrent));
        Self { config, places, known: Arc::new(Known::new()), runtime: Mutex::new(None) }
    }

    /// Begins to answer a statement. Returns when it is planned and its snapshots are taken.
    ///
    /// Errors: [`Error::Sql`], [`Error::Unavailable`] if as many as may are being answered, and those of the source.
    pub async fn run(&self, source: Arc<dyn Source>, statement: Statement) -> Result<Box<dyn Rows>> {
        let turn = tokio::time::timeout(TURN, Arc::clone(&self.places).acquire_owned()).await;
        let Ok(Ok(place)) = turn else {
            ::metrics::counter!(metrics::TURNED_AWAY).increment(1);
            return Err(Error::unavailable("as many SQL statements as may are being answered (sql.max_concurrent)"));
        };
        let counters = Arc::new(Counters::default());
        let shore = Shore::new(source, Handle::current(), Arc::clone(&counters));
        let (tell, told) = oneshot::channel();
        let (send, receive) = mpsc::channel(AHEAD);
        let task = Task {
            shore,
            known: Arc::clone(&self.known),
            timeout: statement.timeout.map_or(self.config.timeout, |timeout| timeout.min(self.config.timeout)),
            max_rows: statement.max_rows.map_or(self.config.max_rows, |rows| rows.min(self.config.max_rows)),
            config: self.config.clone(),
            statement,
            _running: Running::new(place),
        };
        let task = AbortOnDropHandle::new(self.handle()?.spawn(task.run(tell, send)));
        // Nobody tells anything if planning met a defect that ended the task.
        let head = told.await.map_err(|_| Error::Internal("a statement could not be planned".to_owned()))??;
        Ok(Box::new(Answer { head, receive, counters, task: Some(task) }))
    }

    fn handle(&self) -> Result<Handle> {
        let mut runtime = self.runtime.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(runtime) = &*runtime {
            return Ok(runtime.handle().clone());
        }
        let mut builder = Builder::new_multi_thread();
        builder.worker_threads(self.config.threads.max(1)).thread_name("sql").thread_stack_size(STACK_BYTES).enable_time();
        let started = builder.build().map_err(|error| Error::Internal(format!("the threads for SQL cannot be started: {error}")))?;
        let handle = started.handle().clone();
        *runtime = Some(started);
        Ok(handle)
    }
}

impl Drop for Sql {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.get_mut().unwrap_or_else(PoisonError::into_inner).take() {
            // Answers hold the tasks, and are gone. Waiting is not for whoever drops this.
            runtime.shutdown_background();
        }
    }
}

/// A statement that has its place.
struct Running {
    _place: OwnedSemaphorePermit,
    since: Instant,
    outcome: &'static str,
}

impl Running {
    fn new(place: OwnedSemaphorePermit) -> Self {
        ::metrics::gauge!(metrics::RUNNING).increment(1);
        Self { _place: place, since: Instant::now(), outcome: "dropped" }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        ::metrics::gauge!(metrics::RUNNING).decrement(1);
        ::metrics::counter!(metrics::STATEMENTS, "outcome" => self.outcome).increment(1);
        ::metrics::histogram!(metrics::SECONDS).record(self.since.elapsed().as_secs_f64());
    }
}

/// What is known before the first row.
#[derive(Debug)]
struct Head {
    columns: Vec<Column>,
    watermarks: Vec<Watermark>,
}

/// A statement on the threads for statements.
struct Task {
    shore: Shore,
    known: Arc<Known>,
    statement: Statement,
    timeout: Duration,
    max_rows: u64,
    config: SqlConfig,
    _running: Running,
}

impl Task {
    async fn run(mut self, tell: oneshot::Sender<Result<Head>>, send: mpsc::Sender<Result<Bytes>>) {
        let deadline = self._running.since + self.timeout;
        let late = || Error::from(SqlRefusal::TimedOut { after: self.timeout });
        let planned = tokio::time::timeout_at(deadline, self.plan()).await;
        let answered = match planned.unwrap_or_else(|_| Err(late())) {
            Err(error) => {
                let told = Err(error.clone());
                // Whoever asked may have gone away.
                let _ = tell.send(Err(error));
                told
            }
            Ok((plan, encoder)) => {
                let head = Head { columns: encoder.columns(), watermarks: plan.watermarks.clone() };
                let _ = tell.send(Ok(head));
                let answer = tokio::time::timeout_at(deadline, self.answer(plan, encoder, &send)).await;
                let answered = answer.unwrap_or_else(|_| Err(late()));
                self.count();
                if let Err(error) = &answered {
                    let _ = send.send(Err(error.clone())).await;
                }
                answered
            }
        };
        self._running.outcome = match answered {
            Ok(()) => "answered",
            Err(Error::Internal(_) | Error::DataUnavailable { .. }) => "failed",
            Err(_) => "refused",
        };
    }

    async fn plan(&self) -> Result<(Plan, Encoder)> {
        let plan = plan(&self.shore, &self.known, &self.config, &self.statement).await?;
        let encoder = Encoder::new(self.statement.form, &plan.schema())?;
        Ok((plan, encoder))
    }

    async fn answer(&self, plan: Plan, mut encoder: Encoder, send: &mpsc::Sender<Result<Bytes>>) -> Result<()> {
        let counters = self.shore.counters();
        let mut rows = plan.rows()?;
        let mut left = self.max_rows;
        while let Some(batch) = rows.next().await? {
            let take = usize::try_from(left).unwrap_or(usize::MAX).min(batch.num_rows());
            counters.rows.fetch_add(take as u64, Relaxed);
            left -= take as u64;
            let is_cut = take < batch.num_rows();
            for portion in encoder.portions(batch.slice(0, take)) {
                if send.send(Ok(portion?)).await.is_err() {
                    return Ok(());
                }
            }
            if is_cut {
                counters.truncated.store(1, Relaxed);
                break;
            }
        }
        if let Some(end) = encoder.finish()? {
            // Whoever asked may have gone away.
            let _ = send.send(Ok(end)).await;
        }
        Ok(())
    }

    /// Ends the statistics, before the caller is told that there is nothing more.
    fn count(&self) {
        let counters = self.shore.counters();
        let elapsed = u64::try_from(self._running.since.elapsed().as_millis()).unwrap_or(u64::MAX);
        counters.elapsed_ms.store(elapsed, Relaxed);
        ::metrics::counter!(metrics::BYTES_READ).increment(counters.bytes_read.load(Relaxed));
        ::metrics::counter!(metrics::ROW_GROUPS, "what" => "read").increment(counters.row_groups_read.load(Relaxed));
        ::metrics::counter!(metrics::ROW_GROUPS, "what" => "pruned").increment(counters.row_groups_pruned.load(Relaxed));
    }
}

/// The rows of a statement, as its task sends them.
struct Answer {
    head: Head,
    receive: mpsc::Receiver<Result<Bytes>>,
    counters: Arc<Counters>,
    /// None once its end was seen.
    task: Option<AbortOnDropHandle<()>>,
}

#[async_trait]
impl Rows for Answer {
    fn columns(&self) -> &[Column] {
        &self.head.columns
    }

    fn watermarks(&self) -> &[Watermark] {
        &self.head.watermarks
    }

    async fn next(&mut self) -> Result<Option<Bytes>> {
        if let Some(portion) = self.receive.recv().await {
            return portion.map(Some);
        }
        // The channel also closes when a defect ends the task: then these were not all rows.
        if let Some(task) = &mut self.task {
            let ended = task.await;
            self.task = None;
            ended.map_err(|error| Error::Internal(format!("a statement ended early: {error}")))?;
        }
        Ok(None)
    }

    fn statistics(&self) -> Statistics {
        let counters = &self.counters;
        Statistics {
            rows: counters.rows.load(Relaxed),
            truncated: counters.truncated.load(Relaxed) > 0,
            bytes_read: counters.bytes_read.load(Relaxed),
            row_groups_read: counters.row_groups_read.load(Relaxed),
            row_groups_pruned: counters.row_groups_pruned.load(Relaxed),
            extents_read: counters.extents_read.load(Relaxed),
            extents_pruned: counters.extents_pruned.load(Relaxed),
            untyped: counters.untyped.load(Relaxed),
            elapsed_ms: counters.elapsed_ms.load(Relaxed),
        }
    }
}
