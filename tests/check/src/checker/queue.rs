//! One queue as its clients saw it: messages, leases and what was said of them. Checks Q1 to Q10. It keeps flat rows, and sorts
//! them at the end.

mod order;
mod time;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::sparse::Sparse;
use super::{Check, Report, Subject};
use crate::clock::Nanos;
use crate::history::{Dead, Delivered, LeaseId, MessageAt, Name, QueueFacts, RecordId, Run, Sent, Status, Verb};
use order::Keyed;

/// A message that was sent.
#[derive(Clone, Copy, Debug)]
struct Origin {
    sum: u64,
    key: Option<u64>,
    delay: Nanos,
    /// When it was first sent, and last.
    invoked: Nanos,
    again: Nanos,
    tries: u32,
    once: bool,
    /// Some send of it may have stored it.
    maybe: bool,
    /// Somebody found it.
    found: bool,
}

/// A place, as an acknowledgement or a delivery told of it.
#[derive(Clone, Copy, Debug)]
struct Placed {
    id: RecordId,
    /// When a send was acknowledged there.
    stored: Option<Nanos>,
}

/// A delivery.
#[derive(Clone, Copy, Debug)]
struct LeaseRow {
    id: LeaseId,
    /// When it was asked for, and when it had come.
    invoked: Nanos,
    came: Nanos,
    lasts: Nanos,
    drain: bool,
}

/// What was said of a lease, and was not certainly refused as a whole.
#[derive(Clone, Copy, Debug)]
struct Settling {
    lease: LeaseId,
    verb: Verb,
    invoked: Nanos,
    /// When it was answered, if it was.
    ended: Option<Nanos>,
    status: Status,
}

impl Settling {
    /// Whether it may have changed something.
    fn counts(&self) -> bool {
        matches!(self.status, Status::Done | Status::Info)
    }
}

/// An acknowledgement that was part of a commit.
#[derive(Debug)]
pub(super) struct Late {
    pub(super) lease: LeaseId,
    pub(super) invoked: Nanos,
    pub(super) ended: Option<Nanos>,
    /// The commit certainly happened.
    pub(super) certain: bool,
}

/// A lease with what was said of it.
#[derive(Clone, Copy)]
struct Lease<'q> {
    row: LeaseRow,
    settled: &'q [Settling],
}

/// A message with all that is known of it.
struct Message<'q> {
    at: MessageAt,
    placed: Placed,
    origin: Option<Origin>,
    leases: Vec<Lease<'q>>,
    dead: &'q [Dead],
}

impl Message<'_> {
    fn settlings(&self) -> impl Iterator<Item = &Settling> {
        self.leases.iter().flat_map(|lease| lease.settled)
    }
}

pub(super) struct Queue {
    facts: QueueFacts,
    producers: BTreeMap<u32, Sparse<Origin>>,
    placed: BTreeMap<u32, Sparse<Placed>>,
    leases: Vec<LeaseRow>,
    settlings: Vec<Settling>,
    dead: BTreeMap<MessageAt, Vec<Dead>>,
    /// When the last receiver began, and when he asked last.
    drain: Option<(Nanos, Nanos)>,
    last_asked: Nanos,
    /// Acknowledged as one message, known as another.
    mistaken: Vec<(MessageAt, RecordId)>,
}

impl Queue {
    pub(super) fn new(facts: QueueFacts) -> Self {
        Self {
            facts,
            producers: BTreeMap::new(),
            placed: BTreeMap::new(),
            leases: Vec::new(),
            settlings: Vec::new(),
            dead: BTreeMap::new(),
            drain: None,
            last_asked: 0,
            mistaken: Vec::new(),
        }
    }

    fn origin(&self, id: RecordId) -> Option<&Origin> {
        self.producers.get(&id.producer)?.get(id.seq)
    }

    fn origin_mut(&mut self, id: RecordId) -> Option<&mut Origin> {
        self.producers.get_mut(&id.producer)?.get_mut(id.seq)
    }

    pub(super) fn invoke(&mut self, at: Nanos, messages: &[(Sent, u64)]) -> Result<(), String> {
        for (Sent { id, key, delay, once }, sum) in messages {
            let delay = delay.as_nanos() as Nanos;
            let new = || Origin { sum: *sum, key: *key, delay, invoked: at, again: at, tries: 0, once: false, maybe: false, found: false };
            let (origin, _) = self.producers.entry(id.producer).or_default().entry(id.seq, new);
            if origin.sum != *sum {
                return Err(format!("message {}:{} is sent with two values: ids name one", id.producer, id.seq));
            }
            origin.tries = origin.tries.saturating_add(1);
            (origin.again, origin.once) = (at, origin.once || *once);
        }
        Ok(())
    }

    pub(super) fn maybe(&mut self, messages: &[(Sent, u64)]) {
        for (sent, _) in messages {
            if let Some(origin) = self.origin_mut(sent.id) {
                origin.maybe = true;
            }
        }
    }

    pub(super) fn stored(&mut self, at: Nanos, messages: &[(Sent, u64)], runs: &[Run]) -> Result<(), String> {
        let count: u64 = runs.iter().map(|run| u64::from(run.count)).sum();
        if count != messages.len() as u64 {
            return Err(format!("{} messages are sent, but {count} acknowledged", messages.len()));
        }
        self.maybe(messages);
        let places = runs.iter().flat_map(|run| (0..u64::from(run.count)).map(|nth| (run.partition, run.first + nth)));
        for ((sent, _), (partition, offset)) in messages.iter().zip(places) {
            let new = || Placed { id: sent.id, stored: None };
            let placed = self.placed.entry(partition).or_default().entry(offset, new).0;
            placed.stored.get_or_insert(at);
            if placed.id != sent.id {
                self.mistaken.push(((partition, offset), sent.id));
            }
        }
        Ok(())
    }

    /// Somebody asks for messages.
    pub(super) fn asked(&mut self, at: Nanos, drain: bool) {
        self.last_asked = at;
        if drain {
            self.drain = Some((self.drain.map_or(at, |(began, _)| began), at));
        }
    }

    pub(super) fn delivered(
        &mut self,
        name: &Name,
        (invoked, came): (Nanos, Nanos),
        lease: Duration,
        drain: bool,
        got: &[Delivered],
        report: &mut Report,
    ) {
        report.deliveries += got.len() as u64;
        let lasts = lease.as_nanos() as Nanos;
        for Delivered { lease: id, id: sender, hash } in got {
            self.look(name, id.at, *sender, Some(*hash), report);
            if let Some(sender) = sender {
                self.placed.entry(id.at.0).or_default().entry(id.at.1, || Placed { id: *sender, stored: None });
            }
            self.leases.push(LeaseRow { id: *id, invoked, came, lasts, drain });
        }
    }

    /// H2: what came was sent, and has the value that was sent.
    fn look(&self, name: &Name, at: MessageAt, id: Option<RecordId>, sum: Option<u64>, report: &mut Report) {
        report.examined(Check::H2, 1);
        let wrong = match id.map(|id| (id, self.origin(id))) {
            None => Some("not a message of this run".to_owned()),
            Some((id, None)) => Some(format!("{}:{}, which nobody sent", id.producer, id.seq)),
            Some((id, Some(origin))) if sum.is_some_and(|sum| sum != origin.sum) => {
                Some(format!("{}:{} with another value", id.producer, id.seq))
            }
            Some((id, Some(_))) => {
                let first = self.placed.get(&at.0).and_then(|of| of.get(at.1)).map(|placed| placed.id).filter(|first| *first != id);
                first.map(|first| format!("{}:{}, where {}:{} lies", id.producer, id.seq, first.producer, first.seq))
            }
        };
        if let Some(wrong) = wrong {
            report.violation(Check::H2, Subject::Message(name.clone(), at), format!("{name}: {at:?} is {wrong}"));
        }
    }

    pub(super) fn settle(&mut self, lease: LeaseId, verb: Verb, invoked: Nanos, ended: Option<Nanos>, status: Status) {
        self.settlings.push(Settling { lease, verb, invoked, ended, status });
    }

    pub(super) fn settle_late(&mut self, late: Late) {
        let status = if late.certain { Status::Done } else { Status::Info };
        self.settle(late.lease, Verb::Ack, late.invoked, late.ended, status);
    }

    pub(super) fn died(&mut self, dead: Dead) {
        self.dead.entry(dead.at).or_default().push(dead);
    }

    /// Judges message after message, each with all that is known of it.
    pub(super) fn finish(mut self, name: &Name, report: &mut Report) {
        for (at, dead) in &self.dead {
            dead.iter().for_each(|dead| self.look(name, *at, dead.id, None, report));
        }
        self.leases.sort_by_key(|lease| (lease.id, lease.invoked));
        self.settlings.sort_by_key(|settling| settling.lease);
        self.one_delivery_each(name, report);
        for (at, id) in &self.mistaken {
            let what = format!("{name}: {at:?} is acknowledged as {}:{}, and is another message", id.producer, id.seq);
            report.violation(Check::H2, Subject::Message(name.clone(), *at), what);
        }
        let mut twice = BTreeSet::new();
        let mut keyed = Vec::new();
        let (mut leases, mut settlings) = (&self.leases[..], &self.settlings[..]);
        for (partition, of) in &self.placed {
            for (offset, placed) in of.iter() {
                let at = (*partition, offset);
                if let Some(origin) = self.producers.get_mut(&placed.id.producer).and_then(|of| of.get_mut(placed.id.seq)) {
                    if origin.found {
                        twice.insert(placed.id);
                    }
                    origin.found = true;
                }
                let rows = group(&mut leases, |lease| lease.id.at, at);
                let mut said = group(&mut settlings, |settling| settling.lease.at, at);
                let lease = |row: &LeaseRow| Lease { row: *row, settled: group(&mut said, |settling| settling.lease, row.id) };
                let origin = self.producers.get(&placed.id.producer).and_then(|of| of.get(placed.id.seq)).copied();
                let dead = self.dead.get(&at).map_or(&[][..], Vec::as_slice);
                let message = Message { at, placed: *placed, origin, leases: rows.iter().map(lease).collect(), dead };
                self.judge(name, &message, report);
                keyed.extend(Keyed::of(&message));
            }
        }
        self.stored_once(name, &twice, report);
        if self.facts.ordered {
            order::keys_in_order(name, keyed, report);
        }
    }

    /// Q7: two deliveries are two attempts. A request repeated under its name is one delivery: these would be two.
    fn one_delivery_each(&mut self, name: &Name, report: &mut Report) {
        self.leases.dedup_by(|later, first| {
            let same = later.id == first.id;
            if same {
                let what = format!("{name}: {:?} is delivered twice as attempt {}", later.id.at, later.id.attempt);
                report.violation(Check::Q7, Subject::Message(name.clone(), later.id.at), what);
            }
            same
        });
    }

    fn judge(&self, name: &Name, message: &Message<'_>, report: &mut Report) {
        if message.origin.is_some_and(|origin| !origin.maybe) {
            let what = format!("{name}: {:?} is {}:{}, which was refused", message.at, message.placed.id.producer, message.placed.id.seq);
            report.violation(Check::H2, Subject::Message(name.clone(), message.at), what);
        }
        self.finished(name, message, report);
        self.acked_stays_away(name, message, report);
        self.leases_last(name, message, report);
        self.attempts(name, message, report);
        self.not_too_early(name, message, report);
        self.not_too_late(name, message, report);
    }

    /// Q1, Q4, Q9: each acknowledged send came or is dead, and in the end somebody may have acknowledged it, or it is dead. The
    /// last receiver acknowledges all that is left: so what nobody acknowledged is gone without leave, unless its time is over.
    fn finished(&self, name: &Name, message: &Message<'_>, report: &mut Report) {
        report.acked += u64::from(message.placed.stored.is_some());
        let Some((_, last)) = self.drain else { return };
        let (dead, at) = (!message.dead.is_empty(), message.at);
        let acks = || message.settlings().filter(|settling| settling.verb == Verb::Ack);
        let (acked, refused) = (acks().any(Settling::counts), acks().any(|settling| !settling.counts()));
        report.examined(Check::Q1, u64::from(message.placed.stored.is_some()));
        report.examined(Check::Q4, u64::from(refused));
        let gone = message.leases.is_empty() || !acked;
        if let (Some(keeps), Some(origin)) = (self.facts.keeps_ms, &message.origin) {
            report.examined(Check::Q9, 1);
            let over = last.saturating_sub(origin.invoked) >= keeps.saturating_mul(1_000_000);
            if gone && !dead && over {
                report.expired += 1;
                return;
            }
        }
        if dead || !gone {
            return;
        }
        let who = format!("{name}: {}:{} at {at:?}", message.placed.id.producer, message.placed.id.seq);
        let (check, what) = match (message.leases.is_empty(), refused) {
            _ if self.facts.keeps_ms.is_some() => (Check::Q9, format!("{who} is gone before its time")),
            (true, _) => (Check::Q1, format!("{who} never came, and is not dead")),
            (false, true) => (Check::Q4, format!("{who} is gone, though its only acknowledgements were refused")),
            (false, false) => (Check::Q1, format!("{who} is gone, though nobody acknowledged it")),
        };
        report.violation(check, Subject::Message(name.clone(), at), what);
    }

    /// Q3: nobody who asks after an acknowledgement was answered gets the message.
    fn acked_stays_away(&self, name: &Name, message: &Message<'_>, report: &mut Report) {
        let done = message.settlings().filter(|settling| settling.verb == Verb::Ack && settling.status == Status::Done);
        let Some(acked) = done.map(|settling| settling.ended.unwrap_or(Nanos::MAX)).min() else { return };
        // Only what others could have asked for afterwards says something.
        report.examined(Check::Q3, u64::from(acked < self.last_asked));
        for lease in message.leases.iter().filter(|lease| lease.row.invoked > acked) {
            let what = format!("{name}: {:?} was acknowledged, and comes back as attempt {}", message.at, lease.row.id.attempt);
            report.violation(Check::Q3, Subject::Message(name.clone(), message.at), what);
        }
    }

    /// Q6: what was promised to be stored once lies in one place. Others lie in more only if they were sent again.
    fn stored_once(&self, name: &Name, twice: &BTreeSet<RecordId>, report: &mut Report) {
        let repeated = self.producers.values().flat_map(Sparse::iter).filter(|(_, origin)| origin.once && origin.tries > 1).count();
        report.examined(Check::Q6, repeated as u64);
        let mut places: BTreeMap<RecordId, Vec<MessageAt>> = BTreeMap::new();
        for (partition, of) in self.placed.iter().filter(|_| !twice.is_empty()) {
            for (offset, placed) in of.iter().filter(|(_, placed)| twice.contains(&placed.id)) {
                places.entry(placed.id).or_default().push((*partition, offset));
            }
        }
        for (id, at) in places {
            let Some(origin) = self.origin(id) else { continue };
            let window = self.facts.dedup_window_ms.map(|ms| ms.saturating_mul(1_000_000));
            let forgotten = window.is_some_and(|window| origin.again.saturating_sub(origin.invoked) >= window);
            if (origin.once && !forgotten) || (origin.tries as usize) < at.len() {
                let what = format!("{name}: {}:{} lies at {at:?}", id.producer, id.seq);
                report.violation(Check::Q6, Subject::Message(name.clone(), at[0]), what);
            } else {
                report.honest_duplicates += at.len() as u64 - 1;
            }
        }
    }
}

/// Takes what belongs to a key from sorted rows, and what is before it, as nobody will ask for that.
fn group<'r, T, K: Ord>(rows: &mut &'r [T], key: impl Fn(&T) -> K, of: K) -> &'r [T] {
    let begin = rows.iter().position(|row| key(row) >= of).unwrap_or(rows.len());
    let rest = &rows[begin..];
    let count = rest.iter().position(|row| key(row) > of).unwrap_or(rest.len());
    let (found, after) = rest.split_at(count);
    *rows = after;
    found
}
