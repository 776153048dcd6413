//! The owner of a shard: takes commands in groups, makes each group durable with one append, then answers. It is the only
//! one who touches the ledger.
//!
//! L1 is kept by order: while an append is in flight nothing else is applied and no query is answered, so whatever a
//! query sees is durable by the time it is answered.
//!
//! R13 is kept by asking: nothing is answered unless the lease is certain at that moment, after all that the answer rests on
//! was read. A process that was stopped and wakes may hold any state; it has no way to tell anybody.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use lakefall_queue::clock::Ambient;
use lakefall_queue::error::{Error, Result};
use lakefall_queue::ledger::journal::{self, Attempt, Next};
use lakefall_queue::ledger::{Answer, Command, JournalEntry, Ledger, Query, Reply};
use lakefall_queue::planted::{self, Bug};
use lakefall_service::failpoint;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::checkpoints::{Checkpoints, Event, Tried};
use crate::metrics as names;
use crate::news::NewsDesk;
use crate::node::{NodeConfig, NotDone};
use crate::slots::Farewell;
use crate::store::{Lease, MetadataStore, StoreError, WriterToken};
use crate::tenure::Tenure;

/// How long an ambiguous append is written again before the owner gives the shard up (L4).
const SETTLE_FOR: Duration = Duration::from_secs(10);
/// Pause between two attempts.
const SETTLE_PAUSE: Duration = Duration::from_millis(50);
/// Commands in one group at most: bounds the time between two answers.
const GROUP_COMMANDS: usize = 4_096;

/// Between two looks at what is due, at least.
const WAKE_PAUSE: Duration = Duration::from_millis(1);
/// And at most, while anything will be due: the wall clock may be set forward.
const WAKE_LOOK: Duration = Duration::from_secs(60);

/// Something asked of a shard.
pub(crate) enum Request {
    /// Change the state.
    Execute(Command, oneshot::Sender<Result<Reply, NotDone>>),
    /// Look at the state.
    Query(Query, oneshot::Sender<Result<Answer, NotDone>>),
}

impl Request {
    /// Hands it back: nothing happened, and another may do it.
    pub(crate) fn hand_back(self) {
        match self {
            Self::Execute(_, to) => drop(to.send(Err(NotDone::Elsewhere(None)))),
            Self::Query(_, to) => drop(to.send(Err(NotDone::Elsewhere(None)))),
        }
    }
}

/// An answer that waits for its group to be durable.
pub(crate) enum Pending {
    Reply(oneshot::Sender<Result<Reply, NotDone>>, Result<Reply>),
    Answer(oneshot::Sender<Result<Answer, NotDone>>, Result<Answer>),
}

impl Pending {
    pub(crate) fn release(self) {
        // A receiver that is gone has stopped waiting; what was done stays done.
        match self {
            Self::Reply(to, reply) => drop(to.send(reply.map_err(NotDone::Failed))),
            Self::Answer(to, answer) => drop(to.send(answer.map_err(NotDone::Failed))),
        }
    }

    fn fail(self, error: &Error) {
        match self {
            Self::Reply(to, _) => drop(to.send(Err(NotDone::Failed(error.clone())))),
            Self::Answer(to, _) => {
                drop(to.send(Err(NotDone::Failed(Error::unavailable("the shard is changing its owner")))));
            }
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

/// How far an owner is with the checkpoint before it goes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Preparing {
    /// Nobody asked.
    Not,
    /// One is under way that may lack the newest.
    Waits,
    /// The one that is under way is it.
    Writes,
    /// Said so.
    Done,
}

/// A shard under one reign.
pub(crate) struct Owner {
    pub(crate) store: Arc<dyn MetadataStore>,
    pub(crate) lease: Lease,
    pub(crate) tenure: Arc<Tenure>,
    pub(crate) token: WriterToken,
    pub(crate) ledger: Ledger,
    pub(crate) ambient: Ambient,
    pub(crate) config: NodeConfig,
    pub(crate) news: NewsDesk,
    pub(crate) checkpoints: Checkpoints,
}

impl Owner {
    /// Begins the reign: an empty entry marks it in the journal, and proves that this owner may write.
    pub(crate) async fn begin(&mut self) -> Result<(), StoreError> {
        let now = self.ledger.group_time(self.ambient.now());
        let first = self.ledger.seal(self.lease.epoch, now, Vec::new());
        self.append(&first).await?;
        self.news.begin(self.lease.shard, first.seq);
        Ok(())
    }

    /// Serves until asked to go or unsure. Asked to prepare, it writes a checkpoint while it serves and then says so.
    pub(crate) async fn serve(
        &mut self,
        requests: &mut mpsc::Receiver<Request>,
        farewell: &Farewell,
        prepared: impl Fn() + Send,
    ) -> Stopped {
        let mut preparing = Preparing::Not;
        loop {
            self.wake();
            let due = self.due();
            tokio::select! {
                biased;
                // No longer certain is over, also for those who wait in line.
                () = self.tenure.over(), if !planted::is(Bug::AnswerWithoutLease) => return Stopped::Unsure(lapsed()),
                event = self.checkpoints.next() => match event {
                    Event::Tried(tried) => {
                        self.tried(*tried);
                        preparing = match preparing {
                            Preparing::Waits => self.prepare(&prepared),
                            // One that failed is the next owner's to replay, and no reason to stay.
                            Preparing::Writes => {
                                prepared();
                                Preparing::Done
                            }
                            other => other,
                        };
                    }
                    Event::Retry => self.begin_checkpoint(),
                },
                () = farewell.go.cancelled() => return Stopped::Asked,
                () = farewell.prepare.cancelled(), if preparing == Preparing::Not => preparing = self.prepare(&prepared),
                () = reached(due) => {}
                request = requests.recv() => {
                    let Some(request) = request else { return Stopped::Asked };
                    if let Err(error) = self.group(request, requests).await {
                        return Stopped::Unsure(error);
                    }
                    if self.checkpoints.idle() && self.checkpoint_due() {
                        self.begin_checkpoint();
                    }
                }
            }
        }
    }

    /// Tells of what became due by itself since the last look: a lease that is over, a delay. Nothing is journaled, as nothing
    /// that is stored changes by it.
    fn wake(&mut self) {
        let now = self.ledger.group_time(self.ambient.now());
        if self.ledger.wake_at().is_some_and(|at| at <= now) {
            let notices = self.ledger.wake(now);
            self.news.remind(self.lease.shard, notices);
        }
    }

    /// When to look again, if anything will be due. Not at once, whatever the ledger says: it was just asked.
    fn due(&self) -> Option<Instant> {
        let at = self.ledger.wake_at()?;
        let left = at.as_millis().saturating_sub(self.ledger.group_time(self.ambient.now()).as_millis());
        let left = Duration::from_millis(u64::try_from(left).unwrap_or_default());
        Some(Instant::now() + left.clamp(WAKE_PAUSE, WAKE_LOOK))
    }

    /// Writes the checkpoint before the end, once.
    fn prepare(&mut self, prepared: &impl Fn()) -> Preparing {
        if !self.checkpoints.idle() {
            return Preparing::Waits;
        }
        if self.unwritten() {
            self.begin_checkpoint();
            return Preparing::Writes;
        }
        prepared();
        Preparing::Done
    }

    /// Answers what waits in a queue that takes no more; hands back what is left after `within`.
    pub(crate) async fn drain(&mut self, requests: &mut mpsc::Receiver<Request>, within: Option<Duration>) -> Result<(), StoreError> {
        let until = within.map(|within| Instant::now() + within);
        while let Some(request) = requests.recv().await {
            if until.is_some_and(|until| Instant::now() >= until) {
                request.hand_back();
            } else {
                self.group(request, requests).await?;
            }
        }
        Ok(())
    }

    /// A last checkpoint, so that the next start has nothing to replay.
    pub(crate) async fn finish(&mut self) {
        if !self.checkpoints.idle()
            && let Event::Tried(tried) = self.checkpoints.next().await
        {
            self.tried(*tried);
        }
        if self.unwritten() {
            let checkpoint = self.ledger.checkpoint();
            if let Err(error) = self.store.checkpoint(&self.lease, &checkpoint).await {
                tracing::warn!(%error, "the last checkpoint failed; the next start replays the journal");
            }
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
            if planted::is(Bug::AnswerBeforeAppend) {
                pending.drain(..).for_each(Pending::release);
            }
            if let Err(error) = self.append(&entry).await {
                if matches!(error, StoreError::Unknown(_)) && planted::is(Bug::LookInsteadOfWrite) {
                    return self.look(&entry, pending).await;
                }
                if !self.tenure.certain() && planted::is(Bug::FormerOwnerAppends) {
                    self.insist(&entry, pending);
                    return Err(error);
                }
                let error = give_up(pending, error);
                return if planted::is(Bug::OwnerGoesOn) { Ok(()) } else { Err(error) };
            }
            self.news.publish(self.lease.shard, entry.seq, self.ledger.take_notices());
            failpoint::hit("k7");
        }
        if !self.tenure.certain() && !planted::is(Bug::AnswerWithoutLease) {
            return Err(give_up(pending, lapsed()));
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
        failpoint::hit("k5");
        loop {
            let attempt = tokio::select! {
                biased;
                done = self.store.append(&self.lease, entry.seq, self.token, payload.clone()) => done,
                // Whatever becomes of it, it is no longer this owner's to tell; the store's epoch keeps it in its reign.
                () = self.tenure.over() => return Err(lapsed()),
            };
            if attempt.is_ok() {
                failpoint::hit("k6");
            }
            let next = journal::after(outcome(&attempt), doubtful);
            let Err(error) = attempt else { break };
            match next {
                Next::Answer | Next::Again => {}
                Next::NotApplied => return Err(error),
                Next::Unknown => return Err(ambiguous(error)),
            }
            doubtful = true;
            if planted::is(Bug::LookInsteadOfWrite) {
                return Err(error);
            }
            if self.ambient.clock.elapsed().saturating_sub(started) > SETTLE_FOR {
                return Err(ambiguous(error));
            }
            ::metrics::counter!(names::APPENDS_REPEATED).increment(1);
            tracing::warn!(shard = self.lease.shard.0, seq = entry.seq.0, %error, "a journal append is ambiguous: writing it again");
            tokio::time::sleep(SETTLE_PAUSE).await;
        }
        self.checkpoints.appended(bytes);
        ::metrics::counter!(names::GROUPS).increment(1);
        ::metrics::counter!(names::JOURNAL_BYTES).increment(bytes);
        ::metrics::histogram!(names::APPEND_SECONDS).record(self.ambient.clock.elapsed().saturating_sub(started).as_secs_f64());
        Ok(())
    }

    fn checkpoint_due(&self) -> bool {
        let behind = self.checkpoints.behind;
        behind.entries >= self.config.checkpoint_entries || behind.bytes >= self.config.checkpoint_bytes
    }

    /// Whether the next start would have something to replay. Rows are left over without an entry since when the last
    /// checkpoint failed.
    fn unwritten(&self) -> bool {
        self.checkpoints.behind.entries > 0 || self.ledger.dirty_rows() > 0
    }

    fn begin_checkpoint(&mut self) {
        let checkpoint = self.ledger.checkpoint();
        self.checkpoints.begin(checkpoint, Arc::clone(&self.store), self.lease, Arc::clone(&self.ambient.clock));
    }

    fn tried(&mut self, (checkpoint, done): Tried) {
        match done {
            Ok(()) => self.ledger.checkpointed(&checkpoint, self.config.recent_extents),
            Err(_) => self.ledger.checkpoint_failed(checkpoint),
        }
    }
}

/// Returns at this time; never, if there is none.
async fn reached(due: Option<Instant>) {
    match due {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// The end of a lease, as the end of a reign.
fn lapsed() -> StoreError {
    StoreError::Unknown("the lease is no longer certain".to_owned())
}

/// Tells the callers of a group that it is not known, or known not to be.
pub(crate) fn give_up(pending: Vec<Pending>, error: StoreError) -> StoreError {
    let told = told_callers(&error);
    pending.into_iter().for_each(|p| p.fail(&told));
    error
}

/// How an attempt to append ended.
fn outcome(attempt: &Result<(), StoreError>) -> Attempt {
    match attempt {
        Ok(()) => Attempt::Done,
        Err(StoreError::NotApplied(_)) => Attempt::NotApplied,
        Err(StoreError::Unknown(_)) => Attempt::Unknown,
        // What makes no sense to the store, it did not take either.
        Err(StoreError::Fenced | StoreError::Held | StoreError::Corrupt(_) | StoreError::Misconfigured(_)) => Attempt::Fenced,
    }
}

/// What an error means after an attempt whose end is not known.
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
        StoreError::Fenced | StoreError::Held => Error::unavailable("the shard was taken over by another owner; nothing was applied"),
        StoreError::NotApplied(reason) | StoreError::Corrupt(reason) | StoreError::Misconfigured(reason) => {
            Error::unavailable(format!("the metadata store refused the write: {reason}"))
        }
    }
}
