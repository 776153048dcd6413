//! The answers: what a segment's commit says is taken apart into what each of its requests is told.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use lakefall_metadata::Account;
use lakefall_queue::error::{Error, Result};
use lakefall_queue::ledger::{AtomOutcome, Refusal, SliceOutcome};
use lakefall_queue::usage::Figure;
use lakefall_queue::verbs::Admission;
use lakefall_queue::{Record, ShardId};
use lakefall_service::failpoint;
use tokio::sync::oneshot;

use super::build::{Built, Placement};
use super::commit::Replies;
use super::{OrderKey, Part, PartOutcome, Settled, Shared, Submission};

/// A request whose records are in a segment: what is needed to answer it. The records are let go of, so that what waits for
/// its commit takes little memory; its room in the buffer is kept all the same.
pub(super) struct Pending {
    pub(super) order: Option<OrderKey>,
    submitted: Duration,
    reply: oneshot::Sender<Result<Settled>>,
    admission: Admission,
    parts: Vec<Sent>,
}

/// What a part of a request sent.
struct Sent {
    account: Arc<Account>,
    records: u64,
    bytes: u64,
}

impl From<Submission> for Pending {
    fn from(submission: Submission) -> Self {
        let Submission { parts, order, submitted, reply, admission, .. } = submission;
        let sent = |part: Part| Sent {
            records: part.records.len() as u64,
            bytes: part.records.iter().map(Record::payload_bytes).sum::<usize>() as u64,
            account: part.account,
        };
        Self { order, submitted, reply, admission, parts: parts.into_iter().map(sent).collect() }
    }
}

impl Pending {
    /// Counts what was stored for its topics.
    fn count(&self, settled: &Result<Settled>) {
        let outcomes = settled.iter().flat_map(|settled| &settled.parts);
        for (sent, _) in self.parts.iter().zip(outcomes).filter(|(_, outcome)| matches!(outcome, PartOutcome::Stored(_))) {
            sent.account.add(Figure::ProducedRecords, sent.records);
            sent.account.add(Figure::ProducedBytes, sent.bytes);
        }
    }

    fn answer(self, settled: Result<Settled>) {
        drop(self.admission);
        // The client may have gone; what was committed stays.
        let _ = self.reply.send(settled);
    }
}

/// Answers the requests of a segment that was committed, or may have been.
pub(super) fn settle(shared: &Shared, pending: Vec<Pending>, built: &Built, replies: &Replies, poisoned: &HashSet<usize>) {
    failpoint::hit("k8");
    let now = shared.ambient.clock.elapsed();
    let (mut records, mut bytes) = (0, 0);
    let latency = metrics::histogram!(crate::metrics::PRODUCE_SECONDS);
    for (index, one) in pending.into_iter().enumerate() {
        let settled = if poisoned.contains(&index) {
            Err(Error::StreamPoisoned)
        } else {
            outcome(&built.placements[index], built.atoms[index], replies)
        };
        one.count(&settled);
        if is_refusal(&settled) {
            // What was stored before is answered as such, and the rest of its request is submitted again.
            if let Some(OrderKey::Stream(token)) = one.order
                && !is_duplicate(&settled)
            {
                shared.orders.poison(token);
            }
        } else {
            records += one.parts.iter().map(|sent| sent.records).sum::<u64>();
            bytes += one.parts.iter().map(|sent| sent.bytes).sum::<u64>();
            latency.record(now.saturating_sub(one.submitted).as_secs_f64());
        }
        one.answer(settled);
    }
    metrics::counter!(crate::metrics::PRODUCED_RECORDS).increment(records);
    metrics::counter!(crate::metrics::PRODUCED_BYTES).increment(bytes);
}

/// Answers the requests of a segment that was never committed.
pub(super) fn refuse(shared: &Shared, pending: Vec<Pending>, error: &Error) {
    for one in pending {
        if let Some(OrderKey::Stream(token)) = one.order {
            shared.orders.poison(token);
        }
        one.answer(Err(error.clone()));
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
