//! The owner of a shard: takes commands in groups, makes each group durable with one append, then answers. It is the only
//! one who touches the ledger.
//!
//! L1 is kept by order: while an append is in flight nothing else is applied and no query is answered, so whatever a
//! query sees is durable by the time it is answered.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use lakefall_queue::clock::Ambient;
use lakefall_queue::error::{Error, Result};
use lakefall_queue::ledger::{Answer, Checkpoint, Command, JournalEntry, Ledger, Query, Reply};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};
use tokio_util::sync::CancellationToken;

use crate::metrics as names;
use crate::node::{NodeConfig, NoticeSender};
use crate::store::{Lease, MetadataStore, StoreError, WriterToken};

/// How long an ambiguous append is written again before the owner gives the shard up (L4).
const SETTLE_FOR: Duration = Duration::from_secs(10);
/// Pause between two attempts.
const SETTLE_PAUSE: Duration = Duration::from_millis(50);
/// Commands in one group at most: bounds the time between two answers.
const GROUP_COMMANDS: usize = 4_096;

/// Something asked of a shard.
pub(crate) enum Request {
    /// Change the state.
    Execute(Command, oneshot::Sender<Result<Reply>>),
    /// Look at the state.
    Query(Query, oneshot::Sender<Result<Answer>>),
}

/// An answer that waits for its group to be durable.
enum Pending {
    Reply(oneshot::Sender<Result<Reply>>, Result<Reply>),
    Answer(oneshot::Sender<Result<Answer>>, Result<Answer>),
}

impl Pending {
    fn release(self) {
        // A receiver that is gone has stopped waiting; what was done stays done.
        match self {
            Self::Reply(to, reply) => drop(to.send(reply)),
            Self::Answer(to, answer) => drop(to.send(answer)),
        }
    }

    fn fail(self, error: &Error) {
        match self {
            Self::Reply(to, _) => drop(to.send(Err(error.clone()))),
            Self::Answer(to, _) => drop(to.send(Err(Error::unavailable("the shard is changing its owner")))),
        }
    }
}

/// Why an owner stopped.
pub(crate) enum Stopped {
    /// It was asked to; the shard may be given back.
    Asked,
    /// It is no longer sure of the state, which is dropped: load it anew.
    Unsure(StoreError),
}

/// A shard under one reign.
pub(crate) struct Owner {
    pub(crate) store: Arc<dyn MetadataStore>,
    pub(crate) lease: Lease,
    pub(crate) token: WriterToken,
    pub(crate) ledger: Ledger,
    pub(crate) ambient: Ambient,
    pub(crate) config: NodeConfig,
    pub(crate) notices: NoticeSender,
    pub(crate) uncheckpointed: Uncheckpointed,
}

/// What the journal holds beyond the last checkpoint.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Uncheckpointed {
    pub(crate) entries: u64,
    pub(crate) bytes: u64,
}

type CheckpointTask = JoinHandle<(Checkpoint, Result<(), StoreError>)>;

impl Owner {
    /// Serves until asked to stop or unsure. The first entry, an empty one, marks the reign in the journal.
    pub(crate) async fn serve(&mut self, requests: &mut mpsc::Receiver<Request>, stop: &CancellationToken) -> Stopped {
        let now = self.ledger.group_time(self.ambient.now());
        let first = self.ledger.seal(self.lease.epoch, now, Vec::new());
        if let Err(error) = self.append(&first).await {
            return Stopped::Unsure(error);
        }
        let mut checkpointing: Option<CheckpointTask> = None;
        let mut renewal = self.lease.renew_within.map(renewal);
        let stopped = loop {
            tokio::select! {
                biased;
                done = finished(&mut checkpointing), if checkpointing.is_some() => self.checkpoint_done(done),
                // Before the requests: an owner that always has some must not lose its lease over them.
                () = due(&mut renewal), if renewal.is_some() => {
                    if let Err(error) = self.store.renew(&self.lease).await {
                        break Stopped::Unsure(error);
                    }
                }
                request = requests.recv() => {
                    let Some(request) = request else { break Stopped::Asked };
                    if let Err(error) = self.group(request, requests).await {
                        break Stopped::Unsure(error);
                    }
                    if checkpointing.is_none() && self.checkpoint_due() {
                        checkpointing = Some(self.start_checkpoint());
                    }
                }
                () = stop.cancelled() => break Stopped::Asked,
            }
        };
        if let Some(task) = checkpointing
            && let Ok(done) = task.await
        {
            self.checkpoint_done(done);
        }
        stopped
    }

    /// A last checkpoint, so that the next start has nothing to replay.
    pub(crate) async fn finish(&mut self) {
        // Rows are left over without an entry since when the last checkpoint failed.
        if self.uncheckpointed.entries > 0 || self.ledger.dirty_rows() > 0 {
            let checkpoint = self.ledger.checkpoint();
            if let Err(error) = self.store.checkpoint(&self.lease, &checkpoint).await {
                tracing::warn!(%error, "the last checkpoint failed; the next start replays the journal");
            }
        }
        if let Err(error) = self.store.release(&self.lease).await {
            tracing::warn!(%error, "the shard could not be given back; the next owner waits for its lease to end");
        }
    }

    /// One group: apply all that waits, append once, then answer.
    async fn group(&mut self, first: Request, requests: &mut mpsc::Receiver<Request>) -> Result<(), StoreError> {
        let now = self.ledger.group_time(self.ambient.now());
        let mut pending = Vec::new();
        let mut commands = Vec::new();
        let mut next = Some(first);
        while let Some(request) = next {
            match request {
                Request::Execute(command, to) => {
                    let applied = self.ledger.apply(&command, now);
                    pending.push(Pending::Reply(to, applied.reply));
                    if applied.changed {
                        commands.push(command);
                    }
                }
                Request::Query(query, to) => pending.push(Pending::Answer(to, self.ledger.query(&query))),
            }
            next = if pending.len() < GROUP_COMMANDS { requests.try_recv().ok() } else { None };
        }
        if !commands.is_empty() {
            ::metrics::histogram!(names::GROUP_COMMANDS).record(commands.len() as f64);
            let entry = self.ledger.seal(self.lease.epoch, now, commands);
            if let Err(error) = self.append(&entry).await {
                let told = told_callers(&error);
                pending.into_iter().for_each(|p| p.fail(&told));
                return Err(error);
            }
            self.notices.publish(self.lease.shard, self.ledger.take_notices());
        }
        pending.into_iter().for_each(Pending::release);
        Ok(())
    }

    /// L4: an ambiguous append is written again, with the same token, until it is certain.
    async fn append(&mut self, entry: &JournalEntry) -> Result<(), StoreError> {
        let payload = Bytes::from(entry.encode());
        let bytes = payload.len() as u64;
        let started = self.ambient.clock.elapsed();
        let mut doubtful = false;
        loop {
            let error = match self.store.append(&self.lease, entry.seq, self.token, payload.clone()).await {
                Ok(()) => break,
                Err(error @ (StoreError::Unknown(_) | StoreError::NotApplied(_))) => error,
                Err(error) => return Err(if doubtful { ambiguous(error) } else { error }),
            };
            doubtful |= matches!(error, StoreError::Unknown(_));
            if !doubtful {
                return Err(error);
            }
            if self.ambient.clock.elapsed().saturating_sub(started) > SETTLE_FOR {
                return Err(ambiguous(error));
            }
            ::metrics::counter!(names::APPENDS_REPEATED).increment(1);
            tracing::warn!(shard = self.lease.shard.0, seq = entry.seq.0, %error, "a journal append is ambiguous: writing it again");
            tokio::time::sleep(SETTLE_PAUSE).await;
        }
        self.uncheckpointed.entries += 1;
        self.uncheckpointed.bytes += bytes;
        ::metrics::counter!(names::GROUPS).increment(1);
        ::metrics::counter!(names::JOURNAL_BYTES).increment(bytes);
        ::metrics::histogram!(names::APPEND_SECONDS).record(self.ambient.clock.elapsed().saturating_sub(started).as_secs_f64());
        Ok(())
    }

    fn checkpoint_due(&self) -> bool {
        self.uncheckpointed.entries >= self.config.checkpoint_entries || self.uncheckpointed.bytes >= self.config.checkpoint_bytes
    }

    fn start_checkpoint(&mut self) -> CheckpointTask {
        self.uncheckpointed = Uncheckpointed::default();
        let checkpoint = self.ledger.checkpoint();
        let (store, lease, clock) = (Arc::clone(&self.store), self.lease, Arc::clone(&self.ambient.clock));
        tokio::spawn(async move {
            let started = clock.elapsed();
            let done = store.checkpoint(&lease, &checkpoint).await;
            ::metrics::histogram!(names::CHECKPOINT_SECONDS).record(clock.elapsed().saturating_sub(started).as_secs_f64());
            (checkpoint, done)
        })
    }

    fn checkpoint_done(&mut self, (checkpoint, done): (Checkpoint, Result<(), StoreError>)) {
        match done {
            Ok(()) => {
                ::metrics::counter!(names::CHECKPOINTS).increment(1);
                self.ledger.checkpointed(&checkpoint, self.config.recent_extents);
            }
            Err(error) => {
                tracing::warn!(shard = self.lease.shard.0, %error, "a checkpoint failed: the next one takes its rows");
                self.ledger.checkpoint_failed(checkpoint);
            }
        }
    }
}

async fn finished(task: &mut Option<CheckpointTask>) -> (Checkpoint, Result<(), StoreError>) {
    match task {
        Some(running) => match running.await {
            Ok(done) => {
                *task = None;
                done
            }
            // The task has no await that could be cancelled and is never aborted: only a panic ends here.
            Err(panic) => std::panic::resume_unwind(panic.into_panic()),
        },
        None => std::future::pending().await,
    }
}

/// Three chances to renew a lease before it ends.
fn renewal(within: Duration) -> Interval {
    let period = within / 3;
    let mut interval = interval_at(Instant::now() + period, period);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}

async fn due(renewal: &mut Option<Interval>) {
    match renewal {
        Some(interval) => drop(interval.tick().await),
        None => std::future::pending().await,
    }
}

/// What an error means after an attempt whose end is not known. Even `Fenced`: the next owner may have replayed that
/// attempt's entry and dropped it with a checkpoint, so that the store no longer knows of it.
fn ambiguous(error: StoreError) -> StoreError {
    match error {
        unknown @ StoreError::Unknown(_) => unknown,
        other => StoreError::Unknown(other.to_string()),
    }
}

/// What the callers of a group are told whose append failed.
fn told_callers(error: &StoreError) -> Error {
    match error {
        StoreError::Unknown(reason) => Error::unknown(reason.clone()),
        StoreError::Fenced => Error::unavailable("the shard was taken over by another owner; nothing was applied"),
        StoreError::NotApplied(reason) | StoreError::Corrupt(reason) | StoreError::Misconfigured(reason) => {
            Error::unavailable(format!("the metadata store refused the write: {reason}"))
        }
    }
}
