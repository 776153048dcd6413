//! How hard a remote store is tried: repetitions with jitter, out of one budget for all callers, after the pause that
//! the service asked for. It must never repeat what may have happened unless that is harmless, and never hide from the
//! uploads that the service throttles.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use lakefall_queue::clock::Ambient;
use lakefall_queue::usage::Figure;
use metrics::{counter, histogram};
use tokio::time::Instant;

use super::StoreError;
use super::answer::{Answer, listen};
use super::budget::Budget;
use super::credentials::Chain;
use super::error::{Ended, judge};
use super::hedge::Hedge;
use super::options::StoreOptions;
use crate::meter;
use crate::metrics::{STORE_REPEATS, STORE_REQUESTS, STORE_SECONDS};

/// Pauses between attempts grow from the first to the second.
const PAUSE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));
/// A service's wish to be left alone is followed up to here; then it is asked whether it still wants it.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// The outcome of a request that nobody waits for any more: the slower one of two, or one whose caller is gone.
const DROPPED: &str = "dropped";
/// What a success earns for repetitions, in thousandths of one.
const EARNED: u64 = 100;

/// What is asked of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Request {
    /// A create-only write; repeating it settles what an earlier attempt did.
    Create,
    /// A write over what is there: a late repetition could undo somebody else's.
    Overwrite,
    /// Of about so many bytes.
    Get(u64),
    Head,
    List,
    Delete,
}

impl Request {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Create | Self::Overwrite => "put",
            Self::Get(_) => "get",
            Self::Head => "head",
            Self::List => "list",
            Self::Delete => "delete",
        }
    }

    /// As what it is billed.
    fn figure(self) -> Figure {
        match self {
            Self::Create | Self::Overwrite | Self::List => Figure::StoreWrites,
            Self::Get(_) | Self::Head => Figure::StoreReads,
            Self::Delete => Figure::StoreDeletes,
        }
    }

    fn writes(self) -> bool {
        matches!(self, Self::Create | Self::Overwrite | Self::Delete)
    }

    /// Whether it may be sent again after `error`.
    fn repeats(self, error: &StoreError) -> bool {
        match error {
            // Whoever uploads must hear of it at once, to send less.
            StoreError::Throttled { .. } => !matches!(self, Self::Create | Self::Overwrite),
            StoreError::Unavailable { .. } => self != Self::Overwrite,
            StoreError::NotFound { .. }
            | StoreError::Collision { .. }
            | StoreError::Denied { .. }
            | StoreError::Full { .. }
            | StoreError::Other { .. } => false,
        }
    }
}

/// A request, and for the count of requests who sends it and what for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    pub(super) request: Request,
    pub(super) role: &'static str,
    pub(super) purpose: &'static str,
}

/// The effort for one store, shared by all its callers.
pub(super) struct Effort {
    /// The store in words, for errors.
    place: String,
    ambient: Ambient,
    retries: u32,
    retry_for: Duration,
    budget: Mutex<Budget>,
    /// When reads and writes may go on, after the service asked for a pause.
    not_before: [Mutex<Option<Instant>>; 2],
    chain: Option<Chain>,
    hedge: Hedge,
}

impl Effort {
    /// For the store that is called `place`, like `bucket lake`.
    pub(super) fn new(place: String, options: &StoreOptions, ambient: Ambient, chain: Option<Chain>) -> Self {
        Self {
            place,
            ambient,
            retries: options.retries,
            retry_for: options.retry_for,
            budget: Mutex::new(Budget::new(options.retry_budget, EARNED)),
            not_before: Default::default(),
            chain,
            hedge: Hedge::new(options.hedge_percent),
        }
    }

    /// Sends a request until it is answered, or the effort is at its end.
    pub(super) async fn attempt<T, F>(&self, asked: Asked, send: impl Fn() -> F) -> Result<T, StoreError>
    where
        F: Future<Output = object_store::Result<T>>,
    {
        let Asked { request, .. } = asked;
        let started = Instant::now();
        let (mut repeats, mut pause, mut renewed) = (0, PAUSE.0, false);
        loop {
            self.wait_until_welcome(request).await;
            let changes = self.chain.as_ref().map_or(0, Chain::changes);
            let Ended { error, answer } = match self.once(asked, &send).await {
                Ok(done) => {
                    self.locked_budget().deposit();
                    return Ok(done);
                }
                Err(ended) => ended,
            };
            self.heed(request, answer.as_ref());
            if !renewed && self.renewed(&error, answer.as_ref(), changes).await {
                // Nothing was applied: the service did not even know who asked.
                renewed = true;
                continue;
            }
            if !request.repeats(&error) || repeats >= self.retries || started.elapsed() > self.retry_for {
                return Err(error.at(&self.place, answer.as_ref()));
            }
            let granted = self.locked_budget().withdraw();
            counter!(STORE_REPEATS, "operation" => request.name(), "outcome" => if granted { "sent" } else { "refused" }).increment(1);
            if !granted {
                return Err(error);
            }
            tokio::time::sleep(self.jittered(pause)).await;
            pause = (pause * 2).min(PAUSE.1);
            repeats += 1;
        }
    }

    /// One attempt, which for a late read is two requests.
    async fn once<T, F>(&self, asked: Asked, send: impl Fn() -> F) -> Result<T, Ended>
    where
        F: Future<Output = object_store::Result<T>>,
    {
        match asked.request {
            Request::Get(bytes) => self.hedge.read(bytes, || measured(asked, send())).await,
            Request::Create | Request::Overwrite | Request::Head | Request::List | Request::Delete => measured(asked, send()).await,
        }
    }

    /// Whether credentials were refused and there are others now.
    async fn renewed(&self, error: &StoreError, answer: Option<&Answer>, changes: u64) -> bool {
        let Some(chain) = &self.chain else { return false };
        matches!(error, StoreError::Denied { .. }) && answer.is_some_and(Answer::refuses_credentials) && chain.refused(changes).await
    }

    fn heed(&self, request: Request, answer: Option<&Answer>) {
        if let Some(pause) = answer.and_then(|answer| answer.retry_after) {
            let until = Instant::now() + pause.min(LONGEST_PAUSE);
            let mut gate = self.gate(request).lock().unwrap_or_else(PoisonError::into_inner);
            *gate = gate.max(Some(until));
        }
    }

    async fn wait_until_welcome(&self, request: Request) {
        let until = *self.gate(request).lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(until) = until.filter(|until| *until > Instant::now()) {
            // Not all at once.
            tokio::time::sleep_until(until + self.jittered(PAUSE.0 * 4)).await;
        }
    }

    fn gate(&self, request: Request) -> &Mutex<Option<Instant>> {
        &self.not_before[usize::from(request.writes())]
    }

    /// Half of the pause, and up to the other half: processes that failed together do not come back together.
    fn jittered(&self, pause: Duration) -> Duration {
        let random = f64::from(self.ambient.entropy.draw() as u32) / f64::from(u32::MAX);
        pause.mul_f64(0.5 + random / 2.0)
    }

    fn locked_budget(&self) -> std::sync::MutexGuard<'_, Budget> {
        self.budget.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn measured<T>(asked: Asked, sent: impl Future<Output = object_store::Result<T>>) -> Result<T, Ended> {
    let (started, request) = (Instant::now(), Sent::now(asked));
    let (outcome, answer) = listen(sent).await;
    let outcome = outcome.map_err(|error| judge(error, answer.as_ref()));
    request.answered(&outcome);
    histogram!(STORE_SECONDS, "operation" => asked.request.name()).record(started.elapsed().as_secs_f64());
    outcome.map_err(|error| Ended { error, answer })
}

/// A request under way. Counted once: when it is answered, or when it is dropped, as the service bills it all the same.
pub(super) struct Sent(Option<Asked>);

impl Sent {
    /// To be made when the request is sent, within what is done for its tally.
    pub(super) fn now(asked: Asked) -> Self {
        Self(Some(asked))
    }

    pub(super) fn answered<T>(mut self, outcome: &Result<T, StoreError>) {
        if let Some(asked) = self.0.take() {
            count(asked, outcome.as_ref().err().map_or("ok", StoreError::kind));
        }
    }
}

impl Drop for Sent {
    fn drop(&mut self) {
        if let Some(asked) = self.0.take() {
            count(asked, DROPPED);
        }
    }
}

/// Counts a request as the service bills it.
fn count(Asked { request, role, purpose }: Asked, kind: &'static str) {
    let class = meter::class(request.figure());
    counter!(
        STORE_REQUESTS, "operation" => request.name(), "outcome" => kind, "class" => class, "purpose" => purpose, "sender" => role
    )
    .increment(1);
    meter::note_request(request.figure());
}

impl std::fmt::Debug for Effort {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Effort").field("retries", &self.retries).field("budget", &self.budget).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use lakefall_queue::usage::{ONE, Tally};

    use super::*;
    use crate::meter::within;
    use crate::store::system;

    const ASKED: Asked = Asked { request: Request::Get(1), role: "other", purpose: "other" };

    #[tokio::test(start_paused = true)]
    async fn a_request_whose_caller_is_gone_counts_as_sent_and_one_that_was_never_sent_does_not() {
        let tally = Arc::<Tally>::default();
        let waits = within(Arc::clone(&tally), measured(ASKED, pending::<object_store::Result<()>>()));
        assert!(tokio::time::timeout(Duration::from_secs(1), waits).await.is_err());
        drop(within(Arc::clone(&tally), measured(ASKED, pending::<object_store::Result<()>>())));
        assert_eq!(tally.take().get(Figure::StoreReads), ONE);
    }

    #[tokio::test(start_paused = true)]
    async fn both_requests_of_a_late_read_count() {
        let (tally, sent) = (Arc::<Tally>::default(), AtomicUsize::new(0));
        let effort = Effort::new("the object store".to_owned(), &StoreOptions::default(), system(), None);
        let send = || async {
            if sent.fetch_add(1, Ordering::SeqCst) == 0 {
                pending::<()>().await;
            }
            Ok(())
        };
        within(Arc::clone(&tally), effort.attempt(ASKED, send)).await.unwrap();
        assert_eq!((sent.into_inner(), tally.take().get(Figure::StoreReads)), (2, 2 * ONE));
    }
}
