//! The checks of time: Q2, Q7, Q8, Q10. Must accuse nobody by a bound that is not certain: a lease ends no earlier than its
//! asking plus its length, and no later than its coming plus its length.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Check, Judge, Lease, MessageAt, Nanos, Status, Verb, Violation};

fn nanos(time: Duration) -> Nanos {
    time.as_nanos() as Nanos
}

impl Lease {
    /// The earliest time at which it may be over by itself, as seen before `now`.
    fn ends_at_earliest(&self, now: Nanos) -> Nanos {
        let mut end = self.invoked + self.lasts;
        for settling in self.settled.iter().filter(|s| s.invoked < now) {
            if let Verb::Extend(more) = settling.verb {
                let extended = settling.invoked + nanos(more);
                match settling.status {
                    Status::Done => end = extended,
                    // It may have been made shorter.
                    Status::Info => end = end.min(extended),
                    Status::Expired | Status::Unknown => {}
                }
            }
        }
        end
    }

    /// When its receiver may have let go of it first.
    fn let_go(&self) -> Nanos {
        let lets_go = |verb: Verb| !matches!(verb, Verb::Extend(more) if !more.is_zero());
        self.settled.iter().filter(|s| s.counts() && lets_go(s.verb)).map(|s| s.invoked).min().unwrap_or(Nanos::MAX)
    }

    /// The latest time at which it was over and its message available, where that is certain.
    fn available_at_latest(&self) -> Option<Nanos> {
        let mut end = self.came + self.lasts;
        for settling in &self.settled {
            match (settling.status, settling.verb) {
                (Status::Done, Verb::Extend(more)) => end = settling.ended? + nanos(more),
                (Status::Done, Verb::Nack(delay)) => return Some(settling.ended? + nanos(delay)),
                (Status::Done, Verb::Ack | Verb::Reject) | (Status::Info, _) => return None,
                (Status::Expired | Status::Unknown, _) => {}
            }
        }
        Some(end)
    }
}

impl Judge<'_> {
    /// Pairs of one message's deliveries that follow each other.
    fn pairs(&self) -> impl Iterator<Item = (&Lease, &Lease)> {
        self.leases.values().zip(self.leases.values().skip(1)).filter(|(first, second)| first.id.at == second.id.at)
    }

    /// Q2: while a lease lasts, its message is delivered to nobody else, and its receiver is not told that it is over.
    pub(super) fn leases_last(&mut self) {
        let clock = nanos(self.demands.clock);
        let mut violations = Vec::new();
        let mut examined = 0;
        for (first, second) in self.pairs() {
            examined += 1;
            if second.came + clock < first.ends_at_earliest(second.came) && first.let_go() > second.came {
                violations.push(Violation::DeliveredTwice(first.id));
            }
        }
        for lease in self.leases.values() {
            for refused in lease.settled.iter().filter(|s| matches!(s.status, Status::Expired | Status::Unknown)) {
                let ended = refused.ended.unwrap_or(Nanos::MAX);
                if ended.saturating_add(clock) < lease.ends_at_earliest(refused.invoked) && lease.let_go() > ended {
                    violations.push(Violation::CutShort(lease.id));
                }
            }
        }
        self.examined(Check::Q2, examined);
        self.report.violations.extend(violations);
    }

    /// Q7: a later delivery has a higher attempt, none is beyond the last, and who is dead of attempts had just so many.
    pub(super) fn attempts(&mut self) {
        let mut violations = Vec::new();
        let mut examined = 0;
        for (first, second) in self.pairs() {
            examined += 1;
            if second.came < first.invoked {
                violations.push(Violation::AttemptDoesNotRise(second.id));
            }
        }
        self.report.redeliveries = examined;
        if let Some(max) = self.demands.max_attempts {
            // The attempt itself may be higher: leases that nobody got are not counted against a message.
            let mut deliveries: BTreeMap<MessageAt, u32> = BTreeMap::new();
            self.leases.keys().for_each(|lease| *deliveries.entry(lease.at).or_default() += 1);
            let beyond = deliveries.into_iter().filter(|(_, count)| *count > max);
            violations.extend(beyond.map(|(at, _)| Violation::WrongDeath(at, "delivered more often than allowed")));
        }
        for (at, dead) in &self.dead {
            examined += 1;
            if dead.len() > 1 {
                violations.push(Violation::WrongDeath(*at, "dead twice"));
            }
            let last = self.demands.max_attempts;
            let rejected = self.settlements(*at).any(|s| s.verb == Verb::Reject && s.counts());
            let wrong = match dead[0].reason.as_str() {
                "max_attempts" => (Some(dead[0].attempts) != last).then_some("dead after another number of attempts"),
                "rejected" => (!rejected).then_some("nobody rejected it"),
                _ => Some("dead for a reason that nobody knows"),
            };
            violations.extend(wrong.map(|why| Violation::WrongDeath(*at, why)));
        }
        self.examined(Check::Q7, examined);
        self.report.violations.extend(violations);
    }

    /// Q8: nothing comes before its delay has passed since it was sent, or since it was given back.
    pub(super) fn not_too_early(&mut self) {
        let clock = nanos(self.demands.clock);
        let mut violations = Vec::new();
        let mut examined = 0;
        for lease in self.leases.values() {
            let Some(origin) = self.places.get(&lease.id.at).and_then(|id| self.origins.get(id)) else { continue };
            if !origin.sent.delay.is_zero() {
                examined += 1;
                if lease.came + clock < origin.invoked + nanos(origin.sent.delay) {
                    violations.push(Violation::TooEarly(lease.id));
                }
            }
        }
        for (first, second) in self.pairs() {
            for settling in first.settled.iter().filter(|s| s.status == Status::Done) {
                if let Verb::Nack(delay) = settling.verb
                    && !delay.is_zero()
                {
                    examined += 1;
                    if second.came + clock < settling.invoked + nanos(delay) {
                        violations.push(Violation::TooEarly(second.id));
                    }
                }
            }
        }
        self.examined(Check::Q8, examined);
        self.report.violations.extend(violations);
    }

    /// Q10: once faults have ended and somebody takes all there is, what nobody leases any more comes soon after its time.
    pub(super) fn not_too_late(&mut self) {
        let Some(began) = self.leases.values().filter(|lease| lease.drain).map(|lease| lease.invoked).min() else { return };
        let mut late = Vec::new();
        for (first, second) in self.pairs().filter(|(first, second)| second.drain && second.id.attempt == first.id.attempt + 1) {
            let Some(available) = first.available_at_latest() else { continue };
            late.push((second.id, second.came.saturating_sub(available.max(began))));
        }
        // What is delayed, and comes for the first time. One with a key may have to wait for others.
        for lease in self.leases.values().filter(|lease| lease.drain && lease.id.attempt == 1) {
            let Some(origin) = self.places.get(&lease.id.at).and_then(|id| self.origins.get(id)) else { continue };
            let Some(stored) = self.stored.get(&lease.id.at).filter(|_| origin.sent.key.is_none() && !origin.sent.delay.is_zero()) else {
                continue;
            };
            late.push((lease.id, lease.came.saturating_sub((stored + nanos(origin.sent.delay)).max(began))));
        }
        self.report.slowest = Duration::from_nanos(late.iter().map(|(_, late)| *late).max().unwrap_or_default());
        self.examined(Check::Q10, late.len());
        let too_late = late.into_iter().filter(|(_, late)| *late > nanos(self.demands.redelivery));
        self.report.violations.extend(too_late.map(|(id, late)| Violation::TooLate(id, Duration::from_nanos(late))));
    }
}
