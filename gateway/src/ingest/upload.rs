//! One segment's way out: build, upload, wait for its turn, commit, answer. Runs in a task of its own: a client that goes
//! away changes nothing. Never answers before the object is stored and its commit durable.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use lakefall_queue::SegmentId;
use lakefall_queue::error::{Error, Result};
use lakefall_queue::planted::{self, Bug};
use lakefall_service::trace::{FutureExt, context_of};
use lakefall_service::{blocking, failpoint};
use lakefall_storage::meter::within;
use lakefall_storage::store::StoreError;

use super::bill::Bill;
use super::build::{Built, build};
use super::commit::{COMMIT_FOR, commit, commit_later, withhold};
use super::order::Turns;
use super::settle::{Pending, refuse, settle};
use super::{PAUSE, Shared, Submission};
use crate::trace;

/// How long an upload is repeated, the last attempt included, before its requests are refused.
const UPLOAD_FOR: Duration = Duration::from_secs(60);
/// Segments below this many bytes are built on the spot, in a fraction of a millisecond; compressing larger ones takes
/// milliseconds and goes to a blocking thread, away from those that serve sockets.
const BUILD_HERE: usize = 64 << 10;
/// Between two reports of the same trouble that only an operator can end.
const ALARM_EVERY: Duration = Duration::from_secs(60);

pub(super) async fn run(shared: Arc<Shared>, submissions: Vec<Submission>, turns: Turns) {
    let id = SegmentId::mint(shared.ambient.now(), shared.ambient.entropy.draw());
    let span = trace::segment(id, &submissions);
    carry(shared, id, submissions, turns).with_context(context_of(span.as_ref())).await;
}

async fn carry(shared: Arc<Shared>, id: SegmentId, submissions: Vec<Submission>, mut turns: Turns) {
    let mut slot = Slot { shared: Arc::clone(&shared), uploading: true };
    let started = shared.ambient.clock.elapsed();
    let mut bill = Bill::of(&submissions);
    let (pending, stored) = within(bill.tally(), store(&shared, id, submissions)).await;
    if let Ok(built) = &stored {
        bill.built(built);
    }
    bill.uploaded();
    slot.uploaded(stored.is_ok());
    let left = (UPLOAD_FOR + COMMIT_FOR).saturating_sub(shared.ambient.clock.elapsed().saturating_sub(started));
    let stored = match (tokio::time::timeout(left, turns.mine()).await, stored) {
        (Ok(()), stored) => stored,
        // Those before it take so long that it would come too late itself.
        (Err(_), _) => Err(Error::unavailable("what was to be stored before these records was not stored in time")),
    };
    match stored {
        Ok(mut built) => {
            let poisoned = withhold(&shared, &pending, &mut built);
            let commits = std::mem::take(&mut built.commits);
            let replies =
                if planted::is(Bug::AckBeforeCommit) { commit_later(&shared, commits).await } else { commit(&shared, commits).await };
            bill.committed(&replies);
            settle(&shared, pending, &built, &replies, &poisoned);
        }
        Err(error) => refuse(&shared, pending, &error),
    }
    drop(slot);
    shared.orders.leave(turns);
}

/// A segment's place among the uploads; given back also when its task panics, so that others go on.
struct Slot {
    shared: Arc<Shared>,
    uploading: bool,
}

impl Slot {
    fn uploaded(&mut self, succeeded: bool) {
        self.uploading = false;
        let mut uploads = self.shared.uploads.lock().unwrap_or_else(PoisonError::into_inner);
        uploads.uploaded(succeeded);
        metrics::gauge!(crate::metrics::UPLOADS_IN_FLIGHT).set(uploads.uploading() as f64);
        metrics::gauge!(crate::metrics::UPLOADS_ALLOWED).set(uploads.allowed() as f64);
        drop(uploads);
        self.shared.wake.notify_one();
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if self.uploading {
            self.uploaded(false);
        }
        let mut uploads = self.shared.uploads.lock().unwrap_or_else(PoisonError::into_inner);
        uploads.settled();
        metrics::gauge!(crate::metrics::SEGMENTS_UNSETTLED).set(uploads.unsettled() as f64);
        drop(uploads);
        self.shared.wake.notify_one();
        // A drain must not wait for a task that panicked.
        self.shared.orders.idle.notify_waiters();
    }
}

/// Builds and uploads. What comes back committed nothing yet, and holds no records any more.
async fn store(shared: &Arc<Shared>, id: SegmentId, submissions: Vec<Submission>) -> (Vec<Pending>, Result<Built>) {
    let (batch_bytes, now) = (shared.config.batch_bytes, shared.ambient.now());
    let small = submissions.iter().map(|s| s.bytes).sum::<usize>() < BUILD_HERE;
    let work = move || {
        let built = build(id, &submissions, batch_bytes, now);
        (submissions.into_iter().map(Pending::from).collect(), built)
    };
    let (pending, built) = if small {
        work()
    } else {
        match blocking::run(work).await {
            Ok(done) => done,
            // Only a panic ends here, and the submissions went with it: their callers see a dropped channel.
            Err(panic) => panic.resume(),
        }
    };
    let stored = match built {
        Ok(built) if planted::is(Bug::CommitBeforePut) => {
            let (shared, chunks) = (Arc::clone(shared), built.segment.chunks.clone());
            tokio::spawn(async move { upload(&shared, id, &chunks).await });
            Ok(built)
        }
        Ok(mut built) => upload(shared, id, &built.segment.chunks).await.map(|()| {
            let chunks = std::mem::take(&mut built.segment.chunks);
            shared.cache.fill(id, &chunks, built.segment.len);
            built
        }),
        Err(error) => Err(Error::Internal(format!("segment could not be built: {error}"))),
    };
    (pending, stored)
}

async fn upload(shared: &Shared, id: SegmentId, chunks: &[Bytes]) -> Result<()> {
    let span = trace::upload(id, chunks);
    let stored = put(shared, id, chunks).await;
    trace::ended(span, stored.as_ref().err());
    stored
}

/// PUTs under a fresh key until it is certain. A repeated PUT of the same bytes under the same key is harmless.
async fn put(shared: &Shared, id: SegmentId, chunks: &[Bytes]) -> Result<()> {
    let started = shared.ambient.clock.elapsed();
    let left = || UPLOAD_FOR.saturating_sub(shared.ambient.clock.elapsed().saturating_sub(started));
    let mut pause = PAUSE.0;
    let key = id.key();
    loop {
        let attempt = shared.uploads.lock().unwrap_or_else(PoisonError::into_inner).attempt();
        failpoint::hit("k2");
        let put = tokio::time::timeout(left(), shared.store.put_new(&key, chunks.to_vec())).await;
        failpoint::hit("k3");
        let error = match put {
            Ok(Ok(())) => break,
            Ok(Err(error)) => error,
            Err(_) => StoreError::Unavailable { reason: "it did not answer in time".to_owned() },
        };
        if !may_pass(shared, &error, attempt) || left().is_zero() {
            return Err(given_up(shared, id, &error));
        }
        metrics::counter!(crate::metrics::UPLOADS_REPEATED).increment(1);
        tokio::time::sleep(shared.jittered(pause).min(left())).await;
        pause = (pause * 2).min(PAUSE.1);
    }
    let bytes: usize = chunks.iter().map(Bytes::len).sum();
    metrics::histogram!(crate::metrics::SEGMENT_BYTES).record(bytes as f64);
    metrics::histogram!(crate::metrics::UPLOAD_SECONDS).record(shared.ambient.clock.elapsed().saturating_sub(started).as_secs_f64());
    Ok(())
}

/// Whether a repeated PUT may succeed.
fn may_pass(shared: &Shared, error: &StoreError, attempt: u64) -> bool {
    match error {
        StoreError::Throttled { .. } => {
            let mut uploads = shared.uploads.lock().unwrap_or_else(PoisonError::into_inner);
            uploads.throttled(attempt);
            metrics::gauge!(crate::metrics::UPLOADS_ALLOWED).set(uploads.allowed() as f64);
            true
        }
        StoreError::Unavailable { .. } => true,
        StoreError::Denied { .. } => {
            metrics::counter!(crate::metrics::UPLOADS_DENIED).increment(1);
            if shared.denied.due(shared.ambient.clock.elapsed(), ALARM_EVERY) {
                tracing::error!(%error, "the object store denies uploads: are its credentials valid? Records are refused until they are");
            }
            // The store has tried other credentials, if there are any: only an operator ends it, and clients must not wait.
            false
        }
        StoreError::NotFound { .. } | StoreError::Collision { .. } | StoreError::Full { .. } | StoreError::Other { .. } => false,
    }
}

/// Nothing was committed, so certainly nothing was applied; an object left behind is an orphan.
fn given_up(shared: &Shared, id: SegmentId, error: &StoreError) -> Error {
    if let StoreError::Denied { place, .. } = error {
        // Reported as often as an operator wants to read it; what the store says of access is not for callers.
        return Error::unavailable(format!("the records could not be stored: {place} denies access"));
    }
    if shared.refused.due(shared.ambient.clock.elapsed(), Duration::from_secs(1)) {
        tracing::error!(segment = %id, %error, "a segment could not be stored; its requests are refused");
    }
    Error::unavailable(format!("the records could not be stored: {error}"))
}
