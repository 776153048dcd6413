//! One produce request: routed, submitted, and answered in the order of its records.

use std::collections::BTreeMap;
use std::sync::Arc;

use lakefall_queue::error::{Error, Result};
use lakefall_queue::ledger::{AtomOutcome, DedupHit, LayoutRun, Refusal, SliceCondition};
use lakefall_queue::topic::Topic;
use lakefall_queue::verbs::{AckRange, Admission, Append, Appended, Caller, Idempotency, TopicAppend};
use lakefall_queue::{Offset, PartitionIndex, Record};
use lakefall_service::failpoint;
use tokio::sync::oneshot;

use super::Engine;
use super::dedup::{claims, has_dedup_id};
use super::streams::Turn;
use crate::ingest::{Binding, OrderKey, Part, PartOutcome, Routed, Settled, Submission};

/// Times a request is submitted anew when its topic changed under it, or records of it turned out to be stored already.
pub(super) const ATTEMPTS: usize = 8;

/// How much is judged together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Judged {
    /// Each partition's records by themselves, or together with what others sent at the same moment.
    Apart,
    /// All records of the request, if they lie in several partitions.
    Whole,
    /// As [`Judged::Whole`], and never together with what others sent.
    Alone,
}

/// A request as it waits for its answer.
pub(super) struct Waiting {
    /// Others' records may be judged together with its own.
    shares: bool,
    layout: Vec<LayoutRun>,
    parts: Vec<(PartitionIndex, u64)>,
    settled: oneshot::Receiver<Result<Settled>>,
}

impl Engine {
    pub(super) async fn append_once_or_again(&self, caller: &Caller, append: Append) -> Result<Appended> {
        failpoint::hit("k0");
        let stream = append.order;
        let mut turn = match stream {
            Some(stream) => Some(self.streams.turn(stream).await),
            None => None,
        };
        let answer = self.append_in_turn(caller, append, &mut turn).await;
        if let (Err(_), Some(stream)) = (&answer, stream) {
            // Before the turn is given on: what was refused on the way in must stop the next batch like any refusal.
            self.ingest.poison(stream);
        }
        answer
    }

    /// Gives the turn on as soon as the batch has its place in the open segment.
    async fn append_in_turn(&self, caller: &Caller, append: Append, turn: &mut Option<Turn>) -> Result<Appended> {
        let Append { mut batch, atomic, idempotency, order, mut admission } = append;
        check_records(&batch.records)?;
        self.hold_against_schema(caller, &mut batch, None).await?;
        let order = order.map(OrderKey::Stream);
        if batch.records.iter().any(has_dedup_id) {
            return self.append_deduplicated(caller, batch, atomic, idempotency, order, admission).await;
        }
        let retry = TopicAppend { records: Vec::new(), ..batch.clone_settings() };
        let mut records = batch.records;
        let mut judged = if idempotency.is_some() || atomic { Judged::Whole } else { Judged::Apart };
        for attempt in 1.. {
            let topic = self.topic(caller, &retry.topic).await?;
            // Kept for another attempt; the clones share their bytes.
            let spare = records.clone();
            let one = TopicAppend { records, ..retry.clone_settings() };
            let waiting =
                self.submit_one(caller, &topic, one, idempotency.as_ref(), judged, order.clone(), std::mem::take(&mut admission))?;
            drop(turn.take());
            match waiting.answer(0).await {
                Err(Answered::TopicGone) if attempt < ATTEMPTS => {
                    self.topics.forget(&caller.namespace, &retry.topic);
                    records = spare;
                }
                // What came at the same moment has no room together; of its own, it may have.
                Err(Answered::Crowded(_)) if attempt < ATTEMPTS => {
                    judged = Judged::Alone;
                    records = spare;
                }
                Err(answered) => return Err(answered.into_error()),
                Ok(appended) => return Ok(appended),
            }
        }
        Err(Error::unavailable("the topic keeps changing"))
    }

    /// Splits a request over its topic's partitions and puts it into the open segment.
    #[expect(clippy::too_many_arguments, reason = "each is a part of the request; a struct would only rename them")]
    pub(super) fn submit_one(
        &self,
        caller: &Caller,
        topic: &Arc<Topic>,
        batch: TopicAppend,
        idempotency: Option<&Idempotency>,
        judged: Judged,
        order: Option<OrderKey>,
        admission: Admission,
    ) -> Result<Waiting> {
        check_sizes(topic, &batch.records, &self.limits_now())?;
        let bytes = batch.records.iter().map(Record::payload_bytes).sum();
        let (mut parts, layout, order) = self.parts(topic, batch, idempotency, order, 0)?;
        if judged == Judged::Alone {
            // What asks for something shares its slice with nobody, even if it asks for nothing in particular.
            for part in &mut parts {
                part.condition.get_or_insert_default();
            }
        }
        let sizes = parts.iter().map(|p| (p.partition, p.records.len() as u64)).collect();
        let binds = idempotency.is_some() || (judged != Judged::Apart && parts.len() > 1);
        let shares = !binds && order.is_none() && parts.iter().all(|part| part.condition.is_none());
        let binding = binds.then(|| Binding {
            namespace: caller.namespace.clone(),
            idempotency: idempotency.cloned(),
            layout: layout.clone(),
            cursors: Vec::new(),
            settles: Vec::new(),
        });
        let (reply, settled) = oneshot::channel();
        let urgency = topic.config.urgency;
        let (submitted, trace) = (self.ingest.now(), caller.trace);
        self.ingest.submit(Submission { parts, binding, order, urgency, bytes, submitted, reply, admission, trace })?;
        Ok(Waiting { shares, layout, parts: sizes, settled })
    }

    /// A request's parts for one topic, their layout, and whose order they keep.
    pub(super) fn parts(
        &self,
        topic: &Topic,
        batch: TopicAppend,
        idempotency: Option<&Idempotency>,
        order: Option<OrderKey>,
        append: u32,
    ) -> Result<(Vec<Part>, Vec<LayoutRun>, Option<OrderKey>)> {
        let TopicAppend { records, partition, expect_offset, fencing_token, producer, .. } = batch;
        let Routed { parts, layout } = self.router.route(topic, partition, records, idempotency, append)?;
        let conditional = expect_offset.is_some() || fencing_token.is_some() || producer.is_some();
        if conditional && parts.len() > 1 {
            return Err(Error::invalid(
                "partition",
                "expect_offset, fencing_token and producer hold for one partition: name it, and let no record name another",
            ));
        }
        let order = match (&producer, parts.first()) {
            (Some(stamp), Some((partition, _))) if order.is_none() => Some(OrderKey::Producer(topic.id, *partition, stamp.id.clone())),
            _ => order,
        };
        let account = self.usage.of(topic);
        let part = |(partition, records): (PartitionIndex, Vec<Record>)| {
            let dedup = claims(&records);
            let asks = conditional || !dedup.is_empty();
            let condition = asks.then(|| Box::new(SliceCondition { expect_offset, fencing_token, producer: producer.clone(), dedup }));
            let (topic, account, compression) = (topic.id, Arc::clone(&account), topic.config.compression);
            Part { topic, account, partition, compression, records, condition }
        };
        Ok((parts.into_iter().map(part).collect(), layout, order))
    }
}

/// Why a request has no offsets yet.
pub(super) enum Answered {
    TopicGone,
    /// An atomic request over several partitions: one of them, which is not told, has these records already.
    Bound(Vec<DedupHit>),
    /// A queue had no room for all that came at the same moment; nothing of the request was stored.
    Crowded(Error),
    Refused(Error),
}

impl Answered {
    pub(super) fn into_error(self) -> Error {
        match self {
            Self::TopicGone => Refusal::TopicGone.into_error(),
            Self::Bound(hits) => Refusal::Deduplicated(hits).into_error(),
            Self::Crowded(error) | Self::Refused(error) => error,
        }
    }
}

impl From<Refusal> for Answered {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::TopicGone => Self::TopicGone,
            other => Self::Refused(other.into_error()),
        }
    }
}

impl Waiting {
    async fn settled(self) -> Result<(Settled, Vec<LayoutRun>, Vec<(PartitionIndex, u64)>), Answered> {
        let settled = self.settled.await.unwrap_or_else(|_| Err(Error::unknown("the gateway failed while it stored the records")));
        settled.map(|settled| (settled, self.layout, self.parts)).map_err(Answered::Refused)
    }

    /// The answer to the request's `append`th append.
    async fn answer(self, append: u32) -> Result<Appended, Answered> {
        let shares = self.shares;
        let (settled, layout, parts) = self.settled().await?;
        if let Some(refusal) = full(&settled).filter(|_| shares) {
            return Err(Answered::Crowded(refusal.clone().into_error()));
        }
        if let Some(replayed) = replayed(&settled, append)? {
            return Ok(replayed);
        }
        appended(&settled.parts, &parts, &layout)
    }

    /// For each record its place, or nothing where it must be submitted again without those that are stored.
    pub(super) async fn per_record(self) -> Result<Vec<Option<AckRange>>, Answered> {
        let (settled, layout, parts) = self.settled().await?;
        if let Some(replayed) = replayed(&settled, 0)? {
            return Ok(replayed.ranges.into_iter().flat_map(split).map(Some).collect());
        }
        if let Some(AtomOutcome::Refused(Refusal::Deduplicated(hits))) = settled.binding {
            return Err(Answered::Bound(hits));
        }
        let mut of: BTreeMap<PartitionIndex, Vec<Option<AckRange>>> = BTreeMap::new();
        for (outcome, (partition, count)) in settled.parts.iter().zip(parts) {
            of.insert(partition, answers(outcome, partition, count as u32)?);
        }
        let mut next: BTreeMap<PartitionIndex, std::vec::IntoIter<Option<AckRange>>> =
            of.into_iter().map(|(p, a)| (p, a.into_iter())).collect();
        let one = |run: &LayoutRun| {
            let of = next.get_mut(&run.partition);
            of.into_iter().flatten().take(run.count as usize).collect::<Vec<_>>()
        };
        Ok(layout.iter().flat_map(one).collect())
    }
}

/// The refusal of a full queue, if it was told of all parts.
fn full(settled: &Settled) -> Option<&Refusal> {
    let mut full = None;
    for part in &settled.parts {
        match part {
            PartOutcome::Refused(refusal @ Refusal::QueueFull { .. }) => full = Some(refusal),
            _ => return None,
        }
    }
    full
}

/// One partition's records, each with its place.
fn answers(outcome: &PartOutcome, partition: PartitionIndex, count: u32) -> Result<Vec<Option<AckRange>>, Answered> {
    let from = |base: Offset, duplicate| split(AckRange { partition, first_offset: base, count, duplicate }).map(Some).collect();
    match outcome {
        PartOutcome::Stored(base) => Ok(from(*base, false)),
        PartOutcome::Duplicate(base) => Ok(from(*base, true)),
        PartOutcome::Refused(Refusal::Deduplicated(hits)) => {
            let mut answers = vec![None; count as usize];
            for DedupHit { index, partition, offset } in hits {
                if let Some(answer) = answers.get_mut(*index as usize) {
                    *answer = Some(AckRange { partition: *partition, first_offset: *offset, count: 1, duplicate: true });
                }
            }
            Ok(answers)
        }
        PartOutcome::Refused(refusal) => Err(refusal.clone().into()),
    }
}

/// The answer of an earlier request with the same idempotency key.
pub(super) fn replayed_acks(settled: &Settled) -> Result<Option<&[(u32, AckRange)]>, Refusal> {
    match &settled.binding {
        Some(AtomOutcome::Replayed(acks)) => Ok(Some(acks)),
        Some(AtomOutcome::Refused(Refusal::Deduplicated(_) | Refusal::Atom)) | Some(AtomOutcome::Applied) | None => Ok(None),
        Some(AtomOutcome::Refused(refusal)) => Err(refusal.clone()),
    }
}

fn replayed(settled: &Settled, append: u32) -> Result<Option<Appended>, Answered> {
    Ok(replayed_acks(settled)?.map(|acks| from_acks(acks, append)))
}

pub(super) fn from_acks(acks: &[(u32, AckRange)], append: u32) -> Appended {
    let ranges: Vec<AckRange> =
        acks.iter().filter(|(of, _)| *of == append).map(|(_, range)| AckRange { duplicate: true, ..*range }).collect();
    Appended { end: None, ranges }
}

/// Puts the offsets of each partition into the order of the request.
fn appended(outcomes: &[PartOutcome], parts: &[(PartitionIndex, u64)], layout: &[LayoutRun]) -> Result<Appended, Answered> {
    let bases = bases(outcomes, parts)?;
    Ok(lay_out(bases, parts, layout))
}

/// Where each partition's records begin, and whether they were there before.
pub(super) type Bases = BTreeMap<PartitionIndex, (Offset, bool)>;

fn bases(outcomes: &[PartOutcome], parts: &[(PartitionIndex, u64)]) -> Result<Bases, Answered> {
    outcomes
        .iter()
        .zip(parts)
        .map(|(outcome, (partition, _))| base(outcome).map(|base| (*partition, base)).map_err(Answered::from))
        .collect()
}

pub(super) fn base(outcome: &PartOutcome) -> Result<(Offset, bool), Refusal> {
    match outcome {
        PartOutcome::Stored(base) => Ok((*base, false)),
        PartOutcome::Duplicate(base) => Ok((*base, true)),
        PartOutcome::Refused(refusal) => Err(refusal.clone()),
    }
}

pub(super) fn lay_out(mut bases: Bases, parts: &[(PartitionIndex, u64)], layout: &[LayoutRun]) -> Appended {
    let end = match (parts, bases.values().next()) {
        ([(_, count)], Some((base, false))) => Some(base.plus(*count)),
        _ => None,
    };
    let range = |run: &LayoutRun| {
        let (next, duplicate) = bases.get_mut(&run.partition)?;
        let range = AckRange { partition: run.partition, first_offset: *next, count: run.count, duplicate: *duplicate };
        *next = next.plus(u64::from(run.count));
        Some(range)
    };
    Appended { ranges: layout.iter().filter_map(range).collect(), end }
}

fn split(range: AckRange) -> impl Iterator<Item = AckRange> {
    (0..range.count).map(move |i| AckRange { first_offset: range.first_offset.plus(u64::from(i)), count: 1, ..range })
}

/// Joins neighbours.
pub(super) fn merge(acks: Vec<AckRange>) -> Vec<AckRange> {
    let mut ranges: Vec<AckRange> = Vec::new();
    for ack in acks {
        match ranges.last_mut() {
            Some(last)
                if last.partition == ack.partition
                    && last.duplicate == ack.duplicate
                    && last.first_offset.plus(u64::from(last.count)) == ack.first_offset =>
            {
                last.count += ack.count;
            }
            _ => ranges.push(ack),
        }
    }
    ranges
}

pub(super) fn check_records(records: &[Record]) -> Result<()> {
    if records.is_empty() {
        return Err(Error::invalid("records", "there is no record to append"));
    }
    Ok(())
}

/// What the room let pass may still be more than this topic takes.
pub(super) fn check_sizes(topic: &Topic, records: &[Record], limits: &lakefall_queue::limits::Limits) -> Result<()> {
    let everyone = (limits.value_bytes + limits.key_bytes + limits.header_bytes) as u64;
    let limit = topic.config.max_record_bytes.unwrap_or(everyone).min(everyone);
    match records.iter().map(|r| r.payload_bytes() as u64).find(|bytes| *bytes > limit) {
        Some(actual) => Err(Error::TooLarge { what: "a record", limit, actual }),
        None => Ok(()),
    }
}
