//! Judges the history of a queue: nothing lost, nothing made up, nobody disturbed while a lease lasts. Linear, or n log n where
//! it sorts.
//!
//! Must never pass a history that proves nothing: each check counts what it looked at, and none is a violation. Nor may it
//! accuse without proof: where clients cannot know, the server is believed.

mod leases;
mod order;
mod report;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

pub use report::{Check, Demands, Report, Violation};

use super::history::{Dead, Delivered, End, Event, History, LeaseId, MessageAt, Nanos, OpId, RecordId, Sent, Status, Verb};

/// Most violations told: the first few show the cause.
const TOLD: usize = 100;

/// A send with how it ended.
struct Send<'h> {
    invoked: Nanos,
    messages: &'h [Sent],
    end: Option<(Nanos, &'h End)>,
}

impl Send<'_> {
    fn failed(&self) -> bool {
        matches!(self.end, Some((_, End::Fail)))
    }
}

/// A settlement of one lease that certainly was not refused as a whole.
#[derive(Clone, Copy)]
struct Settling {
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

/// A delivery.
struct Lease {
    id: LeaseId,
    /// When it was asked for, and when it had come.
    invoked: Nanos,
    came: Nanos,
    lasts: Nanos,
    drain: bool,
    settled: Vec<Settling>,
}

/// A message as far as it is known who sent it.
#[derive(Clone, Copy)]
struct Origin {
    sent: Sent,
    /// When it was first sent.
    invoked: Nanos,
}

/// Judges the history.
pub fn check(history: &History, demands: Demands) -> Report {
    let mut judge = Judge::new(history, demands);
    judge.values();
    judge.finished();
    judge.acked_stays_away();
    judge.stored_once();
    judge.leases_last();
    judge.attempts();
    judge.not_too_early();
    judge.not_too_late();
    judge.keys_in_order();
    judge.vacuous();
    judge.report.violations.truncate(TOLD);
    judge.report
}

struct Judge<'h> {
    history: &'h History,
    demands: Demands,
    sends: Vec<Send<'h>>,
    /// In the order of messages, and of attempts within a message.
    leases: BTreeMap<LeaseId, Lease>,
    origins: BTreeMap<RecordId, Origin>,
    /// Who lies where, as far as an acknowledgement or a delivery told.
    places: BTreeMap<MessageAt, RecordId>,
    /// When a send was acknowledged, by place.
    stored: BTreeMap<MessageAt, Nanos>,
    dead: BTreeMap<MessageAt, Vec<&'h Dead>>,
    report: Report,
}

impl<'h> Judge<'h> {
    fn new(history: &'h History, demands: Demands) -> Self {
        let mut judge = Self {
            history,
            demands,
            sends: Vec::new(),
            leases: BTreeMap::new(),
            origins: BTreeMap::new(),
            places: BTreeMap::new(),
            stored: BTreeMap::new(),
            dead: BTreeMap::new(),
            report: Report::default(),
        };
        let ends: BTreeMap<OpId, (Nanos, &'h End)> = history
            .events
            .iter()
            .filter_map(|event| if let Event::End { op, at, end } = event { Some((*op, (*at, end))) } else { None })
            .collect();
        judge.deliveries(&ends);
        for event in &history.events {
            match event {
                Event::Send { op, at, messages } => judge.sent(Send { invoked: *at, messages, end: ends.get(op).copied() }),
                Event::Settle { op, at, verb, leases } => judge.settled(*at, *verb, leases, ends.get(op).copied()),
                Event::Dead(dead) => {
                    judge.dead.entry(dead.at).or_default().push(dead);
                    judge.report.dead += 1;
                }
                Event::Fault { .. } => judge.report.faults += 1,
                Event::Receive { .. } | Event::End { .. } => {}
            }
            if let Event::Send { op, .. } | Event::Receive { op, .. } | Event::Settle { op, .. } = event
                && matches!(ends.get(op), None | Some((_, End::Info)))
            {
                judge.report.unknown += 1;
            }
        }
        judge
    }

    fn deliveries(&mut self, ends: &BTreeMap<OpId, (Nanos, &'h End)>) {
        for event in &self.history.events {
            let Event::Receive { op, at, lease, drain } = event else { continue };
            let Some((came, End::Delivered(got))) = ends.get(op) else { continue };
            for Delivered { lease: id, id: sender, .. } in got {
                self.report.deliveries += 1;
                if let Some(sender) = sender {
                    self.places.entry(id.at).or_insert(*sender);
                }
                let lasts = lease.as_nanos() as Nanos;
                let found = Lease { id: *id, invoked: *at, came: *came, lasts, drain: *drain, settled: Vec::new() };
                if self.leases.insert(*id, found).is_some() {
                    // A repeated request is one operation: these are two.
                    self.report.violations.push(Violation::AttemptDoesNotRise(*id));
                }
            }
        }
    }

    fn sent(&mut self, send: Send<'h>) {
        for sent in send.messages {
            let origin = self.origins.entry(sent.id).or_insert(Origin { sent: *sent, invoked: send.invoked });
            origin.invoked = origin.invoked.min(send.invoked);
        }
        if let Some((at, End::Stored(places))) = send.end {
            self.report.acked += places.len();
            for (place, sent) in places.iter().zip(send.messages) {
                self.places.entry(*place).or_insert(sent.id);
                self.stored.entry(*place).or_insert(at);
            }
        }
        self.sends.push(send);
    }

    fn settled(&mut self, invoked: Nanos, verb: Verb, leases: &[LeaseId], end: Option<(Nanos, &End)>) {
        for (nth, id) in leases.iter().enumerate() {
            let (ended, status) = match end {
                Some((_, End::Fail)) => continue,
                Some((at, End::Settled(statuses))) => (Some(at), statuses[nth]),
                _ => (None, Status::Info),
            };
            if let Some(lease) = self.leases.get_mut(id) {
                lease.settled.push(Settling { verb, invoked, ended, status });
            }
        }
    }

    fn violation(&mut self, violation: Violation) {
        self.report.violations.push(violation);
    }

    fn examined(&mut self, check: Check, count: usize) {
        *self.report.examined.entry(check).or_default() += count;
    }

    /// What was delivered or is dead was sent, not only refused, and has the value that was sent.
    fn values(&mut self) {
        let possible: BTreeSet<RecordId> =
            self.sends.iter().filter(|send| !send.failed()).flat_map(|send| send.messages).map(|sent| sent.id).collect();
        let mut violations = Vec::new();
        let mut look = |at: MessageAt, id: Option<RecordId>, hash: Option<u64>| {
            let Some(id) = id else { return violations.push(Violation::Phantom(at, "not a message of this test")) };
            let wrong = match self.history.bodies.get(&id) {
                None => Some("nobody sent it"),
                Some(_) if !possible.contains(&id) => Some("it was refused"),
                Some(sent) if hash.is_some_and(|hash| hash != *sent) => Some("its value is another"),
                Some(_) if self.places.get(&at).is_some_and(|first| *first != id) => Some("another message lies there"),
                Some(_) => None,
            };
            violations.extend(wrong.map(|why| Violation::Phantom(at, why)));
        };
        for event in &self.history.events {
            match event {
                Event::End { end: End::Delivered(got), .. } => got.iter().for_each(|d| look(d.lease.at, d.id, Some(d.hash))),
                Event::Dead(dead) => look(dead.at, dead.id, None),
                _ => {}
            }
        }
        self.report.violations.extend(violations);
    }

    /// Settlements of a message, whichever lease of it they name.
    fn settlements(&self, at: MessageAt) -> impl Iterator<Item = &Settling> {
        let (first, last) = (LeaseId { at, attempt: 0 }, LeaseId { at, attempt: u32::MAX });
        self.leases.range(first..=last).flat_map(|(_, lease)| &lease.settled)
    }

    /// Q1, Q4: each acknowledged send came or is dead, and in the end somebody may have acknowledged it, or it is dead. The last
    /// receiver acknowledges all that is left: so what nobody acknowledged is gone without leave.
    fn finished(&mut self) {
        let mut violations = Vec::new();
        let (mut sends, mut refused) = (0, 0);
        let came: BTreeSet<MessageAt> = self.leases.keys().map(|lease| lease.at).collect();
        for (at, id) in &self.places {
            let dead = self.dead.contains_key(at);
            sends += usize::from(self.stored.contains_key(at));
            if !came.contains(at) && !dead {
                // What was sent with an unknown outcome is known by its delivery alone.
                violations.push(Violation::Lost(*id, *at));
                continue;
            }
            let acked = self.settlements(*at).any(|s| s.verb == Verb::Ack && s.counts());
            let was_refused = self.settlements(*at).any(|s| s.verb == Verb::Ack && !s.counts());
            refused += usize::from(was_refused);
            match (acked || dead, was_refused) {
                (true, _) => {}
                (false, true) => violations.push(Violation::RefusedAckDeleted(*at)),
                (false, false) => violations.push(Violation::Vanished(*at)),
            }
        }
        self.examined(Check::Q1, sends);
        self.examined(Check::Q4, refused);
        self.report.violations.extend(violations);
    }

    /// Q3: nobody who asks after an acknowledgement was answered gets the message.
    fn acked_stays_away(&mut self) {
        let mut acked: BTreeMap<MessageAt, Nanos> = BTreeMap::new();
        for lease in self.leases.values() {
            for settling in lease.settled.iter().filter(|s| s.verb == Verb::Ack && s.status == Status::Done) {
                let at = settling.ended.unwrap_or(Nanos::MAX);
                let first = acked.entry(lease.id.at).or_insert(at);
                *first = at.min(*first);
            }
        }
        let back = |lease: &&Lease| acked.get(&lease.id.at).is_some_and(|acked| lease.invoked > *acked);
        let violations: Vec<Violation> = self.leases.values().filter(back).map(|lease| Violation::AckedCameBack(lease.id)).collect();
        // Only a message that others could have asked for afterwards says something.
        let last = self.leases.values().map(|lease| lease.invoked).max().unwrap_or_default();
        let examined = acked.values().filter(|at| **at < last).count();
        self.examined(Check::Q3, examined);
        self.report.violations.extend(violations);
    }

    /// Q6: what was promised to be stored once lies in one place. Others lie in more only if they were sent again, or an outcome
    /// was unknown.
    fn stored_once(&mut self) {
        let mut tries: BTreeMap<RecordId, usize> = BTreeMap::new();
        for send in &self.sends {
            send.messages.iter().for_each(|sent| *tries.entry(sent.id).or_default() += 1);
        }
        let mut found: BTreeMap<RecordId, Vec<MessageAt>> = BTreeMap::new();
        for (at, id) in &self.places {
            found.entry(*id).or_default().push(*at);
        }
        let mut violations = Vec::new();
        for (id, at) in found.iter().filter(|(_, at)| at.len() > 1) {
            let once = self.origins.get(id).is_some_and(|origin| origin.sent.once);
            if once || tries.get(id).is_none_or(|tries| *tries < at.len()) {
                violations.push(Violation::Duplicate(*id, at[0], at[1]));
            }
        }
        // An acknowledgement of a repeated send may also name a place that another's name is known for.
        for send in &self.sends {
            let Some((_, End::Stored(places))) = send.end else { continue };
            for (at, sent) in places.iter().zip(send.messages) {
                violations.extend((self.places[at] != sent.id).then_some(Violation::Phantom(*at, "acknowledged as another message")));
            }
        }
        let repeated = tries.iter().filter(|(id, tries)| **tries > 1 && self.origins[*id].sent.once).count();
        self.examined(Check::Q6, repeated);
        self.report.violations.extend(violations);
    }

    fn vacuous(&mut self) {
        let oks = self.sends.iter().filter(|send| matches!(send.end, Some((_, End::Stored(_))))).count();
        let checks = [
            (self.report.acked == 0 || self.report.acked < self.demands.acked, "too little was acknowledged"),
            (self.report.faults < self.demands.faults, "too few faults happened"),
            (self.report.deliveries == 0, "nothing was delivered"),
            (!self.leases.values().any(|lease| lease.drain), "nothing was left for the last receiver"),
            (oks * 2 < self.sends.len(), "fewer than half of the sends were acknowledged"),
        ];
        for (_, why) in checks.iter().filter(|(vacuous, _)| *vacuous) {
            self.violation(Violation::Vacuous(why));
        }
        for check in self.demands.examined {
            if self.report.examined.get(check).is_none_or(|count| *count == 0) {
                self.violation(Violation::Unexamined(*check));
            }
        }
    }
}
