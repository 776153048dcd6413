//! The checks of time: Q2, Q7, Q8, Q10. Must accuse nobody by a bound that is not certain: a lease ends no earlier than its
//! asking plus its length, and no later than its coming plus its length.

use std::time::Duration;

use super::{Check, Lease, Message, Name, Nanos, Queue, Report, Settling, Status, Subject, Verb};

const MS: Nanos = 1_000_000;

fn nanos(time: Duration) -> Nanos {
    time.as_nanos() as Nanos
}

impl Lease<'_> {
    /// The earliest time at which it may be over by itself, as seen before `now`.
    fn ends_at_earliest(&self, now: Nanos) -> Nanos {
        let mut end = self.row.invoked + self.row.lasts;
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
        let mut end = self.row.came + self.row.lasts;
        for settling in self.settled {
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

/// Deliveries that follow each other.
fn pairs<'m>(message: &'m Message<'_>) -> impl Iterator<Item = (&'m Lease<'m>, &'m Lease<'m>)> {
    message.leases.iter().zip(message.leases.iter().skip(1))
}

impl Queue {
    fn clock(&self) -> Nanos {
        self.facts.clock_ms.saturating_mul(MS)
    }

    /// Q2: while a lease lasts, its message is delivered to nobody else, and its receiver is not told that it is over.
    pub(super) fn leases_last(&self, name: &Name, message: &Message<'_>, report: &mut Report) {
        let subject = || Subject::Message(name.clone(), message.at);
        let clock = self.clock();
        for (first, second) in pairs(message) {
            report.examined(Check::Q2, 1);
            let came = second.row.came;
            if came.saturating_add(clock) < first.ends_at_earliest(came) && first.let_go() > came {
                let what = format!("{name}: {:?} was delivered again while attempt {} was leased", message.at, first.row.id.attempt);
                report.violation(Check::Q2, subject(), what);
            }
        }
        for lease in &message.leases {
            for refused in lease.settled.iter().filter(|s| matches!(s.status, Status::Expired | Status::Unknown)) {
                let ended = refused.ended.unwrap_or(Nanos::MAX);
                if ended.saturating_add(clock) < lease.ends_at_earliest(refused.invoked) && lease.let_go() > ended {
                    let what = format!("{name}: {:?}: attempt {} was cut short", message.at, lease.row.id.attempt);
                    report.violation(Check::Q2, subject(), what);
                }
            }
        }
    }

    /// Q7: a later delivery has a higher attempt, none is beyond the last, and who is dead of attempts had just so many.
    pub(super) fn attempts(&self, name: &Name, message: &Message<'_>, report: &mut Report) {
        let mut wrong = |why: String| {
            report.violation(Check::Q7, Subject::Message(name.clone(), message.at), format!("{name}: {:?} {why}", message.at))
        };
        for (first, second) in pairs(message) {
            if second.row.came < first.row.invoked {
                wrong(format!("was delivered as attempt {} after attempt {}", first.row.id.attempt, second.row.id.attempt));
            }
        }
        // The attempt itself may be higher: leases that nobody got are not counted against a message.
        let count = message.leases.len();
        if let Some(max) = self.facts.max_attempts.filter(|max| count > *max as usize) {
            wrong(format!("was delivered {count} times, {max} are allowed"));
        }
        if message.dead.len() > 1 {
            wrong("is dead twice".to_owned());
        }
        if let Some(dead) = message.dead.first() {
            let rejected = message.settlings().any(|s| s.verb == Verb::Reject && s.counts());
            match dead.reason.as_str() {
                "max_attempts" if Some(dead.attempts) != self.facts.max_attempts => {
                    wrong(format!("is dead after {} attempts", dead.attempts))
                }
                "rejected" if !rejected => wrong("is dead as rejected, but nobody rejected it".to_owned()),
                "max_attempts" | "rejected" => {}
                other => wrong(format!("is dead for a reason that nobody knows: {other}")),
            }
        }
        let redeliveries = count.saturating_sub(1) as u64;
        report.redeliveries += redeliveries;
        report.examined(Check::Q7, redeliveries + u64::from(!message.dead.is_empty()));
    }

    /// Q8: nothing comes before its delay has passed since it was sent, or since it was given back.
    pub(super) fn not_too_early(&self, name: &Name, message: &Message<'_>, report: &mut Report) {
        let clock = self.clock();
        let mut look = |came: Nanos, due: Nanos, attempt: u32| {
            report.examined(Check::Q8, 1);
            if came.saturating_add(clock) < due {
                let what = format!("{name}: {:?} came as attempt {attempt}, {:?} too early", message.at, Duration::from_nanos(due - came));
                report.violation(Check::Q8, Subject::Message(name.clone(), message.at), what);
            }
        };
        if let Some(origin) = message.origin.filter(|origin| origin.delay > 0) {
            message.leases.iter().for_each(|lease| look(lease.row.came, origin.invoked + origin.delay, lease.row.id.attempt));
        }
        for (first, second) in pairs(message) {
            for settling in first.settled.iter().filter(|s: &&Settling| s.status == Status::Done) {
                if let Verb::Nack(delay) = settling.verb
                    && !delay.is_zero()
                {
                    look(second.row.came, settling.invoked + nanos(delay), second.row.id.attempt);
                }
            }
        }
    }

    /// Q10: once faults have ended and somebody takes all there is, what nobody leases any more comes soon after its time.
    pub(super) fn not_too_late(&self, name: &Name, message: &Message<'_>, report: &mut Report) {
        let Some((began, _)) = self.drain else { return };
        let mut look = |came: Nanos, due: Nanos, attempt: u32| {
            let late = Duration::from_nanos(came.saturating_sub(due.max(began)));
            report.examined(Check::Q10, 1);
            report.slowest = report.slowest.max(late);
            if late > Duration::from_millis(self.facts.redelivery_ms) {
                let what = format!("{name}: {:?} came as attempt {attempt}, {late:?} after it could have", message.at);
                report.violation(Check::Q10, Subject::Message(name.clone(), message.at), what);
            }
        };
        for (first, second) in pairs(message).filter(|(_, second)| second.row.drain) {
            let (before, attempt) = (first.row.id.attempt, second.row.id.attempt);
            if let Some(due) = first.available_at_latest().filter(|_| before.checked_add(1) == Some(attempt)) {
                look(second.row.came, due, attempt);
            }
        }
        // What is delayed, and comes for the first time. One with a key may have to wait for others.
        if let (Some(stored), Some(origin)) = (message.placed.stored, message.origin.filter(|of| of.delay > 0 && of.key.is_none())) {
            for lease in message.leases.iter().filter(|lease| lease.row.drain && lease.row.id.attempt == 1) {
                look(lease.row.came, stored + origin.delay, 1);
            }
        }
    }
}
