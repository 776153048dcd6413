//! Judges a history: nothing lost, nothing made up, one order for all readers. Linear, or n log n where it sorts.
//!
//! Must never pass a history that proves nothing: one without acknowledgements, reads or faults is refused.

mod report;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

pub use report::{Demands, Report, Violation};

use crate::history::{Event, History, Nanos, OpId, Promise, RecordId};

/// A send with how it ended.
struct Send<'h> {
    op: OpId,
    invoked: Nanos,
    promise: Promise,
    ids: &'h [RecordId],
    end: End<'h>,
}

/// What matters to visibility.
enum Step {
    Asked { partition: u32, end: u64 },
    Acked { partition: u32, offset: u64 },
}

#[derive(Clone, Copy, PartialEq)]
enum End<'h> {
    Ok(Nanos, &'h [(u32, u64)]),
    Fail,
    Info,
}

/// Most violations told: the first few show the cause.
const TOLD: usize = 100;

/// Judges the history.
pub fn check(history: &History, demands: Demands) -> Report {
    let mut judge = Judge::new(history);
    judge.readers();
    judge.values();
    judge.acknowledged();
    judge.duplicates();
    judge.producer_order();
    judge.acks_visible();
    judge.vacuous(demands);
    judge.report.violations.truncate(TOLD);
    judge.report
}

struct Judge<'h> {
    history: &'h History,
    sends: Vec<Send<'h>>,
    /// What stands where, as the first reader saw it.
    places: BTreeMap<(u32, u64), (Option<RecordId>, u64)>,
    /// Where each record stands, lowest first.
    found: BTreeMap<RecordId, Vec<(u32, u64)>>,
    report: Report,
}

impl<'h> Judge<'h> {
    fn new(history: &'h History) -> Self {
        let mut ends: BTreeMap<OpId, End<'h>> = BTreeMap::new();
        let mut faults = 0;
        for event in &history.events {
            match event {
                Event::Ok { op, at, places } => drop(ends.insert(*op, End::Ok(*at, places))),
                Event::Fail { op } => drop(ends.insert(*op, End::Fail)),
                Event::Info { op } => drop(ends.insert(*op, End::Info)),
                Event::Fault { .. } => faults += 1,
                Event::Invoke { .. } | Event::Read { .. } => {}
            }
        }
        let send = |event: &'h Event| match event {
            // A send without an end was cut with its client: nobody knows.
            Event::Invoke { op, at, promise, ids } => {
                Some(Send { op: *op, invoked: *at, promise: *promise, ids, end: ends.get(op).copied().unwrap_or(End::Info) })
            }
            _ => None,
        };
        let sends = history.events.iter().filter_map(send).collect();
        Self { history, sends, places: BTreeMap::new(), found: BTreeMap::new(), report: Report { faults, ..Report::default() } }
    }

    fn violation(&mut self, violation: Violation) {
        self.report.violations.push(violation);
    }

    /// H3, H5, H7: each reader goes up by one, all see the same, and the last reads are whole.
    fn readers(&mut self) {
        let mut next: BTreeMap<(u32, bool, u32), u64> = BTreeMap::new();
        let mut whole: BTreeMap<(u32, u32), (u64, u64)> = BTreeMap::new();
        let mut violations = Vec::new();
        for event in &self.history.events {
            let Event::Read { reader, last, partition, from, seen, end, .. } = event else { continue };
            let mut expected = *next.entry((*reader, *last, *partition)).or_insert(*from);
            if *from != expected {
                violations.push(Violation::Skipped(*reader, *partition, expected));
                expected = *from;
            }
            for (offset, id, hash) in seen {
                if *offset != expected {
                    violations.push(Violation::Skipped(*reader, *partition, expected));
                }
                expected = offset + 1;
                let first = *self.places.entry((*partition, *offset)).or_insert((*id, *hash));
                if first != (*id, *hash) {
                    violations.push(Violation::Disagreement(*partition, *offset));
                }
            }
            next.insert((*reader, *last, *partition), expected);
            if *last {
                whole.insert((*reader, *partition), (expected, *end));
            }
        }
        for ((_, partition), (reached, end)) in &whole {
            if reached != end {
                violations.push(Violation::Gap(*partition, *reached));
            }
        }
        // Readers may not disagree about where the log ends, and nothing may stand beyond it.
        let mut ends: BTreeMap<u32, u64> = BTreeMap::new();
        for ((_, partition), (_, end)) in &whole {
            if *ends.entry(*partition).or_insert(*end) != *end {
                violations.push(Violation::Disagreement(*partition, *end));
            }
        }
        let beyond = self.places.keys().find(|(partition, offset)| ends.get(partition).is_none_or(|end| offset >= end));
        violations.extend(beyond.map(|(partition, offset)| Violation::Disagreement(*partition, *offset)));
        self.report.violations.extend(violations);
        self.report.stored = self.places.len();
    }

    /// H2: each value was sent, not only refused, and has the bytes that were sent.
    fn values(&mut self) {
        let possible: BTreeSet<RecordId> = self.sends.iter().filter(|s| s.end != End::Fail).flat_map(|s| s.ids).copied().collect();
        let mut violations = Vec::new();
        for ((partition, offset), (id, hash)) in &self.places {
            let wrong = match id {
                None => Some("not a value of this test"),
                Some(id) => match self.history.bodies.get(id) {
                    None => Some("nobody sent it"),
                    Some(_) if !possible.contains(id) => Some("it was refused"),
                    Some(sent) if sent != hash => Some("its bytes are others"),
                    Some(_) => None,
                },
            };
            violations.extend(wrong.map(|why| Violation::Phantom(*partition, *offset, why)));
            if let Some(id) = id {
                self.found.entry(*id).or_default().push((*partition, *offset));
            }
        }
        self.report.violations.extend(violations);
    }

    /// H1, H3: each acknowledged record is there, at the place acknowledged.
    fn acknowledged(&mut self) {
        let mut violations = Vec::new();
        for send in &self.sends {
            match send.end {
                End::Ok(_, places) => {
                    self.report.acked += send.ids.len();
                    if places.len() != send.ids.len() {
                        violations.push(Violation::Order(send.ids[0], send.ids[0]));
                    }
                    for (id, place) in send.ids.iter().zip(places) {
                        match self.found.get(id) {
                            None => violations.push(Violation::Lost(*id)),
                            Some(found) if !found.contains(place) => violations.push(Violation::Disagreement(place.0, place.1)),
                            Some(_) => {}
                        }
                    }
                    // A batch is in one piece in each of its partitions.
                    let mut last: BTreeMap<u32, (u64, RecordId)> = BTreeMap::new();
                    for (id, (partition, offset)) in send.ids.iter().zip(places) {
                        if let Some((before, earlier)) = last.insert(*partition, (*offset, *id))
                            && *offset != before + 1
                        {
                            violations.push(Violation::Order(earlier, *id));
                        }
                    }
                }
                End::Info if send.ids.iter().any(|id| self.found.contains_key(id)) => self.report.unknown_stored += 1,
                End::Info => self.report.unknown_absent += 1,
                End::Fail => {}
            }
        }
        self.report.violations.extend(violations);
    }

    /// H4: a record is stored twice only if a send of it had an unknown outcome, and nothing better was promised.
    fn duplicates(&mut self) {
        let mut excused: BTreeSet<RecordId> = BTreeSet::new();
        for send in &self.sends {
            if send.end == End::Info && !send.promise.once {
                excused.extend(send.ids);
            }
        }
        let mut violations = Vec::new();
        for (id, places) in self.found.iter().filter(|(_, places)| places.len() > 1) {
            if excused.contains(id) {
                self.report.honest_duplicates += places.len() - 1;
            } else {
                violations.push(Violation::Duplicate(*id, places[0].1, places[1].1));
            }
        }
        self.report.violations.extend(violations);
    }

    /// H6: what was acknowledged before the next send began stands before it; pipelined records stand in order of counts.
    fn producer_order(&mut self) {
        let mut violations = Vec::new();
        let mut steps: Vec<(Nanos, bool, &Send<'h>)> = Vec::new();
        for send in &self.sends {
            steps.push((send.invoked, false, send));
            if let End::Ok(at, _) = send.end {
                steps.push((at, true, send));
            }
        }
        steps.sort_by_key(|(at, acked, send)| (*at, *acked, send.op));
        // Highest acknowledged place of each producer and partition.
        let mut highest: BTreeMap<(u32, u32), (u64, RecordId)> = BTreeMap::new();
        let mut pipelined: BTreeMap<(u32, u32), (u64, RecordId)> = BTreeMap::new();
        for (_, acked, send) in steps {
            let End::Ok(_, places) = send.end else { continue };
            for (id, (partition, offset)) in send.ids.iter().zip(places) {
                let stream = (id.producer, *partition);
                if acked {
                    let before = highest.entry(stream).or_insert((*offset, *id));
                    *before = (*before).max((*offset, *id));
                } else if let Some((_, earlier)) = highest.get(&stream).filter(|(before, _)| offset < before) {
                    violations.push(Violation::Order(*earlier, *id));
                }
                if !acked && send.promise.pipelined {
                    let before = pipelined.insert((id.producer, *partition), (*offset, *id));
                    violations
                        .extend(before.filter(|(at, earlier)| at > offset && earlier.seq < id.seq).map(|(_, e)| Violation::Order(e, *id)));
                }
            }
        }
        self.report.violations.extend(violations);
    }

    /// H7: a read asked for after an acknowledgement was told of an end beyond it.
    fn acks_visible(&mut self) {
        let mut steps: Vec<(Nanos, Step)> = Vec::new();
        for event in &self.history.events {
            if let Event::Read { asked, partition, end, .. } = event {
                steps.push((*asked, Step::Asked { partition: *partition, end: *end }));
            }
        }
        for send in &self.sends {
            if let End::Ok(at, places) = send.end {
                steps.extend(places.iter().map(|(partition, offset)| (at, Step::Acked { partition: *partition, offset: *offset })));
            }
        }
        steps.sort_by_key(|(at, step)| (*at, matches!(step, Step::Acked { .. })));
        let mut acked: BTreeMap<u32, u64> = BTreeMap::new();
        let mut violations = Vec::new();
        for (_, step) in steps {
            match step {
                Step::Acked { partition, offset } => {
                    let highest = acked.entry(partition).or_default();
                    *highest = offset.max(*highest);
                }
                Step::Asked { partition, end } => {
                    let beyond = acked.get(&partition).filter(|offset| **offset >= end);
                    violations.extend(beyond.map(|offset| Violation::Invisible(partition, *offset)));
                }
            }
        }
        self.report.violations.extend(violations);
    }

    fn vacuous(&mut self, demands: Demands) {
        let last = self.history.events.iter().any(|e| matches!(e, Event::Read { last: true, seen, .. } if !seen.is_empty()));
        // A stream that is cut leaves a window of lines that nobody knows about: one try, not hundreds.
        let tried = self.sends.iter().filter(|send| !(send.promise.pipelined && send.end == End::Info)).count();
        let oks = self.sends.iter().filter(|send| matches!(send.end, End::Ok(..))).count();
        let checks = [
            (self.report.acked == 0 || self.report.acked < demands.acked, "too little was acknowledged"),
            (self.report.faults == 0 || self.report.faults < demands.faults, "too few faults happened"),
            (!last, "nothing was read at the end"),
            (oks * 2 < tried, "fewer than half of the sends were acknowledged"),
        ];
        for (_, why) in checks.iter().filter(|(vacuous, _)| *vacuous) {
            self.violation(Violation::Vacuous(why));
        }
    }
}
