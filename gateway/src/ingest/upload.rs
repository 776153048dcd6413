//! One segment's way out: build, upload, wait for its turn, commit, answer. Runs in a task of its own: a client that goes
//! away changes nothing. Never answers before the object is stored and its commit durable.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use lakefall_queue::error::{Error, Result};
use lakefall_queue::ledger::{AtomOutcome, Command, CommitReply, Refusal, Reply, SegmentCommit, SliceOutcome};
use lakefall_queue::{Record, SegmentId, ShardId};
use lakefall_storage::store::StoreError;

use super::build::{Built, Placement, build};
use super::order::Turns;
use super::{OrderKey, PartOutcome, Settled, Shared, Submission};

/// How long an upload is repeated before its requests are refused.
const UPLOAD_FOR: Duration = Duration::from_secs(60);
/// How long a commit is repeated before its requests are told that its outcome is unknown. Below the ledger's
/// [`lakefall_queue::ledger::COMMIT_WINDOW`] by far.
const COMMIT_FOR: Duration = Duration::from_secs(60);
/// Segments below this many bytes are built on the spot, in a fraction of a millisecond; compressing larger ones takes
/// milliseconds and goes to a blocking thread, away from those that serve sockets.
const BUILD_HERE: usize = 64 << 10;
/// Pauses between repetitions grow from the first to the second.
const PAUSE: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(2));

type Replies = BTreeMap<ShardId, Result<Arc<CommitReply>>>;

pub(super) async fn run(shared: Arc<Shared>, submissions: Vec<Submission>, mut turns: Turns) {
    let mut slot = Slot { shared: Arc::clone(&shared), uploading: true };
    let id = SegmentId::mint(shared.ambient.now(), shared.ambient.entropy.draw());
    let (submissions, stored) = store(&shared, id, submissions).await;
    slot.uploaded(stored.is_ok());
    turns.mine().await;
    match stored {
        Ok(mut built) => {
            let poisoned = withhold(&shared, &submissions, &mut built);
            let replies = commit(&shared, std::mem::take(&mut built.commits)).await;
            settle(&shared, submissions, &built, &replies, &poisoned);
        }
        Err(error) => refuse(&shared, submissions, &error),
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
        drop(uploads);
        self.shared.wake.notify_one();
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if self.uploading {
            self.uploaded(false);
        }
        self.shared.uploads.lock().unwrap_or_else(PoisonError::into_inner).settled();
        // A drain must not wait for a task that panicked.
        self.shared.orders.idle.notify_waiters();
    }
}

/// Builds and uploads. What comes back committed nothing yet.
async fn store(shared: &Arc<Shared>, id: SegmentId, submissions: Vec<Submission>) -> (Vec<Submission>, Result<Built>) {
    let (batch_bytes, now) = (shared.config.batch_bytes, shared.ambient.now());
    let small = submissions.iter().map(|s| s.bytes).sum::<usize>() < BUILD_HERE;
    let work = move || {
        let built = build(id, &submissions, batch_bytes, now);
        (submissions, built)
    };
    let (submissions, built) = if small {
        work()
    } else {
        match tokio::task::spawn_blocking(work).await {
            Ok(done) => done,
            // Only a panic ends here, and the submissions went with it: their callers see a dropped channel.
            Err(panic) => std::panic::resume_unwind(panic.into_panic()),
        }
    };
    let stored = match built {
        Ok(built) => upload(shared, id, &built.segment.chunks).await.map(|()| {
            shared.cache.fill(id, &built.segment.chunks, built.segment.len);
            built
        }),
        Err(error) => Err(Error::Internal(format!("segment could not be built: {error}"))),
    };
    (submissions, stored)
}

/// PUTs under a fresh key until it is certain. A repeated PUT of the same bytes under the same key is harmless.
async fn upload(shared: &Shared, id: SegmentId, chunks: &[Bytes]) -> Result<()> {
    let started = shared.ambient.clock.elapsed();
    let mut pause = PAUSE.0;
    let key = id.key();
    loop {
        let error = match shared.store.put_new(&key, chunks.to_vec()).await {
            Ok(()) => break,
            Err(error) => error,
        };
        if matches!(error, StoreError::Throttled { .. }) {
            shared.uploads.lock().unwrap_or_else(PoisonError::into_inner).throttled();
        }
        let may_pass = matches!(error, StoreError::Throttled { .. } | StoreError::Unavailable { .. });
        let elapsed = shared.ambient.clock.elapsed().saturating_sub(started);
        if !may_pass || elapsed > UPLOAD_FOR {
            tracing::error!(segment = %id, %error, "a segment could not be stored; its requests are refused");
            // Nothing was committed, so certainly nothing was applied; an object left behind is an orphan.
            return Err(Error::unavailable(format!("the records could not be stored: {error}")));
        }
        metrics::counter!(crate::metrics::UPLOADS_REPEATED).increment(1);
        tokio::time::sleep(jittered(shared, pause)).await;
        pause = (pause * 2).min(PAUSE.1);
    }
    let bytes: usize = chunks.iter().map(Bytes::len).sum();
    metrics::histogram!(crate::metrics::SEGMENT_BYTES).record(bytes as f64);
    metrics::histogram!(crate::metrics::UPLOAD_SECONDS).record(shared.ambient.clock.elapsed().saturating_sub(started).as_secs_f64());
    Ok(())
}

/// Half of the pause, and up to as much again: gateways that failed together do not come back together.
fn jittered(shared: &Shared, pause: Duration) -> Duration {
    let random = (shared.ambient.entropy.draw() as u32) as f64 / f64::from(u32::MAX);
    pause.mul_f64(0.5 + random / 2.0)
}

/// Withholds the parts of poisoned streams from the commit. Answers which submissions they were.
fn withhold(shared: &Shared, submissions: &[Submission], built: &mut Built) -> HashSet<usize> {
    let is_poisoned = |order: &Option<OrderKey>| matches!(order, Some(OrderKey::Stream(token)) if shared.orders.is_poisoned(*token));
    let poisoned: HashSet<usize> = (0..submissions.len()).filter(|i| is_poisoned(&submissions[*i].order)).collect();
    for index in &poisoned {
        for place in built.placements[*index].clone() {
            built.withhold(place);
        }
    }
    poisoned
}

async fn commit(shared: &Shared, commits: BTreeMap<ShardId, SegmentCommit>) -> Replies {
    let started = shared.ambient.clock.elapsed();
    let each = commits.into_iter().map(|(shard, commit)| async move { (shard, commit_one(shared, shard, commit).await) });
    let replies = futures::future::join_all(each).await.into_iter().collect();
    metrics::histogram!(crate::metrics::COMMIT_SECONDS).record(shared.ambient.clock.elapsed().saturating_sub(started).as_secs_f64());
    replies
}

/// Commits until it is certain: a repeated commit of the same segment gets the first answer (L3).
async fn commit_one(shared: &Shared, shard: ShardId, commit: SegmentCommit) -> Result<Arc<CommitReply>> {
    let started = shared.ambient.clock.elapsed();
    let (mut pause, mut doubtful) = (PAUSE.0, false);
    loop {
        let error = match shared.metadata.execute(shard, Command::Commit(commit.clone())).await {
            Ok(Reply::Committed(reply)) => return Ok(reply),
            Ok(other) => return Err(Error::Internal(format!("a commit was answered with {other:?}"))),
            Err(error) => error,
        };
        doubtful |= matches!(error, Error::Unknown { .. });
        let may_pass = matches!(error, Error::Unknown { .. } | Error::Unavailable { .. });
        if !may_pass || shared.ambient.clock.elapsed().saturating_sub(started) > COMMIT_FOR {
            tracing::error!(segment = %commit.segment, %error, "a segment could not be committed");
            return Err(if doubtful { Error::unknown(error.to_string()) } else { error });
        }
        tokio::time::sleep(jittered(shared, pause)).await;
        pause = (pause * 2).min(PAUSE.1);
    }
}

fn settle(shared: &Shared, submissions: Vec<Submission>, built: &Built, replies: &Replies, poisoned: &HashSet<usize>) {
    let now = shared.ambient.clock.elapsed();
    let (mut records, mut bytes) = (0_u64, 0_u64);
    let latency = metrics::histogram!(crate::metrics::PRODUCE_SECONDS);
    for (index, submission) in submissions.into_iter().enumerate() {
        let settled = if poisoned.contains(&index) {
            Err(Error::StreamPoisoned)
        } else {
            outcome(&built.placements[index], built.atoms[index], replies)
        };
        if is_refusal(&settled) {
            // What was stored before is answered as such, and the rest of its request is submitted again.
            if let Some(OrderKey::Stream(token)) = submission.order
                && !is_duplicate(&settled)
            {
                shared.orders.poison(token);
            }
        } else {
            records += submission.parts.iter().map(|p| p.records.len() as u64).sum::<u64>();
            bytes += submission.parts.iter().flat_map(|p| &p.records).map(Record::payload_bytes).sum::<usize>() as u64;
            latency.record(now.saturating_sub(submission.submitted).as_secs_f64());
        }
        drop(submission.admission);
        // The client may have gone; what was committed stays.
        let _ = submission.reply.send(settled);
    }
    metrics::counter!(crate::metrics::PRODUCED_RECORDS).increment(records);
    metrics::counter!(crate::metrics::PRODUCED_BYTES).increment(bytes);
}

fn refuse(shared: &Shared, submissions: Vec<Submission>, error: &Error) {
    for submission in submissions {
        if let Some(OrderKey::Stream(token)) = submission.order {
            shared.orders.poison(token);
        }
        drop(submission.admission);
        let _ = submission.reply.send(Err(error.clone()));
    }
}

fn is_refusal(settled: &Result<Settled>) -> bool {
    match settled {
        Ok(settled) => settled.parts.iter().any(|part| matches!(part, PartOutcome::Refused(_))),
        Err(_) => true,
    }
}

/// Refused for nothing else than records that are stored already.
fn is_duplicate(settled: &Result<Settled>) -> bool {
    let Ok(Settled { parts, binding }) = settled else { return false };
    let bound_to_duplicate = matches!(binding, Some(AtomOutcome::Refused(Refusal::Deduplicated(_))));
    parts.iter().all(|part| match part {
        PartOutcome::Refused(Refusal::Deduplicated(_)) => true,
        PartOutcome::Refused(Refusal::Atom) => bound_to_duplicate,
        PartOutcome::Refused(_) => false,
        PartOutcome::Stored(_) | PartOutcome::Duplicate(_) => true,
    })
}

fn outcome(placements: &[Placement], atom: Option<(ShardId, usize)>, replies: &Replies) -> Result<Settled> {
    let missing = || Error::Internal("a shard's answer is missing".to_owned());
    let reply_of = |shard: ShardId| match replies.get(&shard) {
        Some(Ok(reply)) => Ok(reply),
        Some(Err(error)) => Err(error.clone()),
        None => Err(missing()),
    };
    let part = |place: &Placement| {
        let reply = reply_of(place.shard)?;
        let slice = reply.slices.get(place.slice).ok_or_else(|| Error::Internal("a commit's answer is too short".to_owned()))?;
        Ok(match slice {
            SliceOutcome::Stored(base) => PartOutcome::Stored(base.plus(place.skip)),
            SliceOutcome::Duplicate(base) => PartOutcome::Duplicate(base.plus(place.skip)),
            SliceOutcome::Refused(refusal) => PartOutcome::Refused(refusal.clone()),
        })
    };
    let parts = placements.iter().map(part).collect::<Result<_>>()?;
    let binding = match atom {
        Some((shard, atom)) => reply_of(shard)?.atoms.get(atom).cloned(),
        None => None,
    };
    Ok(Settled { parts, binding })
}
