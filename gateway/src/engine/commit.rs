//! Many appends, settled leases and cursor moves, all or nothing: one atom of one segment, one journal entry.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use lakefall_queue::error::{Error, Result};
use lakefall_queue::ledger::{Atom, AtomOutcome, Command, LayoutRun, Refusal, Reply, SegmentCommit, SettleMessages};
use lakefall_queue::queue::QueueSettlements;
use lakefall_queue::topic::{Topic, Urgency};
use lakefall_queue::verbs::{Admission, Appended, Caller, Commit, CursorMove, Idempotency, TopicAppend};
use lakefall_queue::{PartitionIndex, Record, SegmentId, TopicName};
use lakefall_service::failpoint;
use tokio::sync::oneshot;

use super::Engine;
use super::append::{ATTEMPTS, base, check_records, check_sizes, from_acks, lay_out, replayed_acks};
use super::dedup::has_dedup_id;
use super::resources::unexpected;
use crate::ingest::{Binding, Part, Settled, Submission};
use crate::queues::{Settles, check_settlements, refusal};

/// One append of a commit, as it is to be answered.
struct Laid {
    parts: Vec<(PartitionIndex, u64)>,
    layout: Vec<LayoutRun>,
}

/// What happens along with the appends.
struct Along {
    cursors: Vec<CursorMove>,
    settles: Vec<SettleMessages>,
    idempotency: Option<Idempotency>,
}

impl Engine {
    pub(super) async fn commit_all(&self, caller: &Caller, commit: Commit) -> Result<Vec<Appended>> {
        failpoint::hit("k0");
        let Commit { mut appends, cursors, settlements, idempotency, mut admission } = commit;
        check(&appends, &cursors, &settlements)?;
        for (at, append) in appends.iter_mut().enumerate() {
            self.hold_against_schema(caller, append, Some(at)).await?;
        }
        for attempt in 1.. {
            let Settles { settles, letters, admission: room } = self.queues.settles(caller, settlements.clone()).await?;
            let along = Along { cursors: cursors.clone(), settles, idempotency: idempotency.clone() };
            let held = along.settles.clone();
            let committed = if appends.is_empty() && letters.is_empty() {
                self.commit_bare(caller, along).await
            } else {
                // Kept for another attempt only where there may be one; the clones share their bytes, and the first one's room.
                let spare = if settlements.is_empty() { Vec::new() } else { appends.clone() };
                let mut admission = std::mem::take(&mut admission);
                admission.join(room);
                self.commit_records(caller, std::mem::replace(&mut appends, spare), letters, along, admission).await
            };
            match committed {
                // What dies by it, and where its letter goes, is to be told by the settings as they are.
                Err(Error::QueueChanged(_)) if attempt < ATTEMPTS => {
                    settlements.iter().for_each(|of| self.queues.bell.known.forget(&caller.namespace, &of.queue));
                }
                Ok(_) => {
                    self.queues.committed(&held);
                    return committed;
                }
                Err(_) => return committed,
            }
        }
        Err(Error::unavailable("the queue keeps changing"))
    }

    async fn commit_records(
        &self,
        caller: &Caller,
        appends: Vec<TopicAppend>,
        letters: BTreeMap<TopicName, Vec<Record>>,
        along: Along,
        mut admission: Admission,
    ) -> Result<Vec<Appended>> {
        let mut topics = self.topics_of(caller, &appends).await?;
        let (mut parts, laid) = self.lay_out_all(&topics, appends, along.idempotency.as_ref(), 0)?;
        // Dead letters come after what was asked for, and are no part of the answer.
        let mut layout: Vec<LayoutRun> = laid.iter().flat_map(|laid| laid.layout.iter().copied()).collect();
        for (name, records) in letters {
            admission.join(self.gate.admit(records.iter().map(Record::payload_bytes).sum()).await?);
            let topic = self.topic(caller, &name).await?;
            let letters = vec![TopicAppend::new(name, records)];
            let (more, at) = self.lay_out_all(&[Arc::clone(&topic)], letters, along.idempotency.as_ref(), topics.len())?;
            parts.extend(more);
            layout.extend(at.into_iter().flat_map(|laid| laid.layout));
            topics.push(topic);
        }
        let settled = self.submit_all(caller, parts, layout, along, admission).await?;
        answers(&settled, &laid).map_err(|refusal| {
            if refusal == Refusal::TopicGone {
                topics.iter().for_each(|topic| self.topics.forget(&caller.namespace, &topic.name));
            }
            refusal.into_error()
        })
    }

    async fn topics_of(&self, caller: &Caller, appends: &[TopicAppend]) -> Result<Vec<Arc<Topic>>> {
        let mut topics = Vec::with_capacity(appends.len());
        for append in appends {
            let topic = self.topic(caller, &append.topic).await?;
            check_sizes(&topic, &append.records, &self.limits_now())?;
            topics.push(topic);
        }
        Ok(topics)
    }

    fn lay_out_all(
        &self,
        topics: &[Arc<Topic>],
        appends: Vec<TopicAppend>,
        idempotency: Option<&Idempotency>,
        first: usize,
    ) -> Result<(Vec<Part>, Vec<Laid>)> {
        let (mut all, mut laid) = (Vec::new(), Vec::new());
        for (index, (topic, append)) in (first..).zip(topics.iter().zip(appends)) {
            let (parts, layout, _) = self.parts(topic, append, idempotency, None, index as u32)?;
            laid.push(Laid { parts: parts.iter().map(|p| (p.partition, p.records.len() as u64)).collect(), layout });
            all.extend(parts);
        }
        Ok((all, laid))
    }

    async fn submit_all(
        &self,
        caller: &Caller,
        parts: Vec<Part>,
        layout: Vec<LayoutRun>,
        Along { cursors, settles, idempotency }: Along,
        admission: Admission,
    ) -> Result<Settled> {
        let binding = Some(Binding { namespace: caller.namespace.clone(), idempotency, layout, cursors, settles });
        let bytes = parts.iter().flat_map(|p| &p.records).map(Record::payload_bytes).sum();
        let (reply, settled) = oneshot::channel();
        let (submitted, urgency, trace) = (self.ingest.now(), Urgency::Standard, caller.trace);
        self.ingest.submit(Submission { parts, binding, order: None, urgency, bytes, submitted, reply, admission, trace })?;
        settled.await.unwrap_or_else(|_| Err(Error::unknown("the gateway failed while it stored the records")))
    }

    /// Without records there is nothing to store: an atom without slices, of a segment that is never uploaded.
    async fn commit_bare(&self, caller: &Caller, Along { cursors, settles, idempotency }: Along) -> Result<Vec<Appended>> {
        let segment = SegmentId::mint(self.ambient.now(), self.ambient.entropy.draw());
        let atom = Atom { namespace: caller.namespace.clone(), idempotency, layout: Vec::new(), cursors, settles };
        let commit = SegmentCommit { segment, size: 0, extents: Vec::new(), atoms: vec![atom] };
        match self.execute(&caller.namespace, Command::Commit(commit)).await? {
            Reply::Committed(reply) => match reply.atoms.first() {
                Some(AtomOutcome::Refused(refusal)) => Err(refusal.clone().into_error()),
                _ => Ok(Vec::new()),
            },
            other => Err(unexpected(&other)),
        }
    }
}

fn check(appends: &[TopicAppend], cursors: &[CursorMove], settlements: &[QueueSettlements]) -> Result<()> {
    if appends.is_empty() && cursors.is_empty() && settlements.iter().all(|of| of.settlements.is_empty()) {
        return Err(Error::invalid("appends", "a commit needs an append, a receipt or a cursor"));
    }
    check_settlements(settlements)?;
    let mut topics = HashSet::new();
    for (index, append) in appends.iter().enumerate() {
        check_records(&append.records)?;
        if append.records.iter().any(has_dedup_id) {
            return Err(Error::invalid(format!("/appends/{index}/records"), "an atomic commit takes no dedup_id: use an Idempotency-Key"));
        }
        if !topics.insert(&append.topic) {
            return Err(Error::invalid(
                format!("/appends/{index}/topic"),
                format!("topic {} occurs twice: put its records into one append", append.topic),
            ));
        }
    }
    Ok(())
}

fn answers(settled: &Settled, laid: &[Laid]) -> Result<Vec<Appended>, Refusal> {
    if let Some(acks) = replayed_acks(settled)? {
        return Ok((0..laid.len()).map(|i| from_acks(acks, i as u32)).collect());
    }
    if let Some(refusal) = refusal(settled) {
        return Err(refusal.clone());
    }
    let mut outcomes = settled.parts.iter();
    let mut answers = Vec::with_capacity(laid.len());
    for Laid { parts, layout } in laid {
        let bases = parts.iter().zip(&mut outcomes).map(|((partition, _), outcome)| base(outcome).map(|b| (*partition, b)));
        answers.push(lay_out(bases.collect::<Result<_, _>>()?, parts, layout));
    }
    Ok(answers)
}
