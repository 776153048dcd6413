//! The commit of a stored segment: repeated until it is certain, for a bounded time. Must never answer that nothing was applied
//! once an attempt is in doubt.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use lakefall_queue::error::{Error, Result};
use lakefall_queue::ledger::{Answer, AtomOutcome, Command, CommitReply, Query, Refusal, Reply, SegmentCommit, SliceOutcome};
use lakefall_queue::{Offset, ShardId};
use lakefall_service::failpoint;
use lakefall_service::trace::{FutureExt, context_of};

use super::build::Built;
use super::settle::Pending;
use super::{OrderKey, PAUSE, Shared};
use crate::trace;

/// How long a commit is repeated, the last attempt included, before its requests are told that its outcome is unknown. Below
/// the ledger's [`lakefall_queue::ledger::COMMIT_WINDOW`] by far.
pub(super) const COMMIT_FOR: Duration = Duration::from_secs(60);

/// What each shard says.
pub(super) type Replies = BTreeMap<ShardId, Result<Arc<CommitReply>>>;

/// Withholds the parts of poisoned streams from the commit. Answers which requests they were.
pub(super) fn withhold(shared: &Shared, pending: &[Pending], built: &mut Built) -> HashSet<usize> {
    let is_poisoned = |order: &Option<OrderKey>| matches!(order, Some(OrderKey::Stream(token)) if shared.orders.is_poisoned(*token));
    let poisoned: HashSet<usize> = (0..pending.len()).filter(|i| is_poisoned(&pending[*i].order)).collect();
    for index in &poisoned {
        for place in built.placements[*index].clone() {
            built.withhold(place);
        }
    }
    poisoned
}

/// Commits a segment in all shards that it holds data of.
pub(super) async fn commit(shared: &Shared, commits: BTreeMap<ShardId, SegmentCommit>) -> Replies {
    failpoint::hit("k4");
    let started = shared.ambient.clock.elapsed();
    let each = commits.into_iter().map(|(shard, commit)| async move {
        let span = trace::commit(shard, &commit);
        let reply = commit_one(shared, shard, commit).with_context(context_of(span.as_ref())).await;
        trace::ended(span, reply.as_ref().err());
        (shard, reply)
    });
    let replies = futures::future::join_all(each).await.into_iter().collect();
    metrics::histogram!(crate::metrics::COMMIT_SECONDS).record(shared.ambient.clock.elapsed().saturating_sub(started).as_secs_f64());
    replies
}

/// Answers what the commits will say if nothing comes between, and commits then: see [`Bug::AckBeforeCommit`].
///
/// [`Bug::AckBeforeCommit`]: lakefall_queue::planted::Bug::AckBeforeCommit
pub(super) async fn commit_later(shared: &Arc<Shared>, commits: BTreeMap<ShardId, SegmentCommit>) -> Replies {
    let mut replies = Replies::new();
    for (shard, commit) in &commits {
        replies.insert(*shard, foresee(shared, *shard, commit).await.map(Arc::new));
    }
    let shared = Arc::clone(shared);
    tokio::spawn(async move { commit(&shared, commits).await });
    replies
}

async fn foresee(shared: &Shared, shard: ShardId, commit: &SegmentCommit) -> Result<CommitReply> {
    let mut slices = Vec::new();
    for extent in &commit.extents {
        let (topic, partition) = (extent.topic, extent.partition);
        let query = Query::Locate { topic, partition, from: Offset(u64::MAX), max_bytes: 0, max_extents: 0 };
        let mut next = match shared.metadata.query(shard, query).await? {
            Answer::Located(located) => located.end,
            other => return Err(Error::Internal(format!("a question was answered with {other:?}"))),
        };
        for slice in &extent.slices {
            slices.push(SliceOutcome::Stored(next));
            next = next.plus(u64::from(slice.records));
        }
    }
    let atoms = commit.atoms.iter().map(|_| AtomOutcome::Applied).collect();
    Ok(CommitReply { appended_at: shared.ambient.now(), slices, atoms })
}

/// Commits until it is certain: a repeated commit of the same segment gets the first answer (L3).
async fn commit_one(shared: &Shared, shard: ShardId, commit: SegmentCommit) -> Result<Arc<CommitReply>> {
    let started = shared.ambient.clock.elapsed();
    let left = || COMMIT_FOR.saturating_sub(shared.ambient.clock.elapsed().saturating_sub(started));
    let (mut pause, mut doubtful) = (PAUSE.0, false);
    loop {
        let attempt = shared.metadata.execute(shard, Command::Commit(commit.clone()));
        let error = match tokio::time::timeout(left(), attempt).await {
            Ok(Ok(Reply::Committed(reply))) => {
                told(&commit, &reply);
                return Ok(reply);
            }
            Ok(Ok(other)) => return Err(Error::Internal(format!("a commit was answered with {other:?}"))),
            Ok(Err(error)) => error,
            Err(_) => Error::unknown("the metadata service did not answer in time"),
        };
        doubtful |= matches!(error, Error::Unknown { .. });
        let may_pass = matches!(error, Error::Unknown { .. } | Error::Unavailable { .. });
        if !may_pass || left().is_zero() {
            tracing::error!(segment = %commit.segment, %error, "a segment could not be committed");
            return Err(if doubtful { Error::unknown(error.to_string()) } else { error });
        }
        metrics::counter!(crate::metrics::COMMITS_REPEATED).increment(1);
        tokio::time::sleep(shared.jittered(pause).min(left())).await;
        pause = (pause * 2).min(PAUSE.1);
    }
}

/// A segment is refused as a whole when it was swept before, or this gateway's clock says that it is older than it is.
fn told(commit: &SegmentCommit, reply: &CommitReply) {
    if reply.slices.first() == Some(&SliceOutcome::Refused(Refusal::SegmentRefused)) {
        metrics::counter!(crate::metrics::SEGMENTS_REFUSED).increment(1);
        tracing::warn!(segment = %commit.segment, "a segment came too late to be committed; its requests are refused");
    }
}
