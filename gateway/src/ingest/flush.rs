//! The task that closes segments. It runs only while the open segment holds something: woken by a submission, by the end
//! of an upload, or by the timer of a missing PUT token.

use std::collections::HashSet;
use std::convert::Infallible;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use lakefall_queue::topic::Urgency;

use tokio_util::sync::CancellationToken;

use super::pace::Decision;
use super::{Open, OrderKey, Shared, Submission, upload};

/// Economy records wait this long for others to ride along with.
const PATIENCE: Duration = Duration::from_secs(1);

pub(super) async fn run(shared: Arc<Shared>, stop: CancellationToken) -> Result<(), Infallible> {
    let mut timer: Option<Duration> = None;
    loop {
        let woken = shared.wake.notified();
        tokio::select! {
            () = woken => {}
            () = sleep(timer) => {}
            // Drained before the token is cancelled: nothing is left to flush.
            () = stop.cancelled() => return Ok(()),
        }
        // Requests that are ready to run now join the segment before it is closed.
        tokio::task::yield_now().await;
        timer = flush(&shared);
    }
}

async fn sleep(timer: Option<Duration>) {
    match timer {
        Some(wait) => tokio::time::sleep(wait).await,
        None => std::future::pending().await,
    }
}

/// Closes what may leave. Answers when to look again, if nothing else wakes the task before.
fn flush(shared: &Arc<Shared>) -> Option<Duration> {
    loop {
        let mut open = shared.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.submissions.is_empty() {
            return None;
        }
        let now = shared.ambient.clock.elapsed();
        let express = open.submissions.iter().any(|s| s.urgency == Urgency::Express);
        let patient = if open.closed { None } else { patience(&open.submissions, now) };
        let mut uploads = shared.uploads.lock().unwrap_or_else(PoisonError::into_inner);
        match uploads.decide(open.bytes, express || open.closed, patient, now) {
            Decision::AwaitUpload => return None,
            Decision::AwaitToken(wait) => return Some(wait),
            Decision::Close => {}
        }
        uploads.started(now);
        metrics::gauge!(crate::metrics::UPLOADS_IN_FLIGHT).set(uploads.uploading() as f64);
        drop(uploads);
        let submissions = take_segment(&mut open, shared.config.target_bytes);
        drop(open);
        let turns = shared.orders.enter(&submissions);
        let work = upload::run(Arc::clone(shared), submissions, turns);
        shared.tasks.spawn("segment-upload", work);
    }
}

/// Takes the oldest submissions, up to about the target size. What follows a batch of the same stream that may be refused
/// on its own goes into a later segment: within one, nothing would stop it.
fn take_segment(open: &mut Open, target_bytes: usize) -> Vec<Submission> {
    let mut bytes = 0;
    let mut in_doubt = HashSet::new();
    let fits = open.submissions.iter().take_while(|s| {
        let mut fits = bytes < target_bytes;
        bytes += s.bytes;
        if let Some(OrderKey::Stream(token)) = s.order {
            fits &= !in_doubt.contains(&token);
            if s.binding.is_some() || s.parts.iter().any(|part| part.condition.is_some()) {
                in_doubt.insert(token);
            }
        }
        fits
    });
    let count = fits.count();
    let rest = open.submissions.split_off(count);
    let taken = std::mem::replace(&mut open.submissions, rest);
    open.bytes = open.submissions.iter().map(|s| s.bytes).sum();
    taken
}

/// How much longer a segment of economy records only may wait.
fn patience(submissions: &[Submission], now: Duration) -> Option<Duration> {
    if !submissions.iter().all(|s| s.urgency == Urgency::Economy) {
        return None;
    }
    let oldest = submissions.iter().map(|s| s.submitted).min()?;
    PATIENCE.checked_sub(now.saturating_sub(oldest)).filter(|left| !left.is_zero())
}
