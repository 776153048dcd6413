//! H9: commits of records, cursors and acknowledgements together happened as a whole or not at all.

use std::collections::BTreeMap;

use super::queue::Late;
use super::{Check, Report, Subject, Topic};
use crate::clock::Nanos;
use crate::history::{Append, CursorMove, LeaseId, Name, OpId, RecordId};

/// A commit that was not refused.
#[derive(Debug)]
struct Done {
    op: OpId,
    invoked: Nanos,
    /// When it was acknowledged; a commit without has an unknown outcome.
    ended: Option<Nanos>,
    records: Vec<(Name, RecordId)>,
    moves: Vec<CursorMove>,
    acks: Vec<(Name, Vec<LeaseId>)>,
}

/// A cursor in one partition.
#[derive(Debug, Default)]
struct Cursor {
    /// After how many acknowledged moves of the cursor it was how far.
    acked: Vec<(u64, u64)>,
    /// The highest of these.
    highest: u64,
    /// Somebody moved it back: then nothing is said of where it stands.
    free: bool,
    /// Where it stood when everything had ended.
    last: Option<u64>,
}

#[derive(Debug, Default)]
pub(super) struct Commits {
    done: Vec<Done>,
    cursors: BTreeMap<(Name, Name, u32), Cursor>,
    /// How many acknowledged moves each cursor has had.
    moved: BTreeMap<Name, u64>,
}

impl Commits {
    /// Cursors are about to be moved.
    pub(super) fn invoke(&mut self, moves: &[CursorMove]) {
        for change in moves {
            for (partition, _) in &change.offsets {
                self.cursors.entry((change.cursor.clone(), change.topic.clone(), *partition)).or_default();
            }
        }
    }

    /// How many acknowledged moves a cursor has had so far.
    pub(super) fn moved(&self, cursor: &Name) -> u64 {
        self.moved.get(cursor).copied().unwrap_or_default()
    }

    pub(super) fn ended(
        &mut self,
        op: OpId,
        invoked: Nanos,
        ended: Option<Nanos>,
        appends: &[Append],
        moves: Vec<CursorMove>,
        acks: Vec<(Name, Vec<LeaseId>)>,
    ) {
        if ended.is_some() {
            for change in &moves {
                *self.moved.entry(change.cursor.clone()).or_default() += 1;
                let moved = self.moved(&change.cursor);
                for (partition, to) in &change.offsets {
                    let cursor = self.cursors.entry((change.cursor.clone(), change.topic.clone(), *partition)).or_default();
                    cursor.free |= *to < cursor.highest;
                    cursor.highest = cursor.highest.max(*to);
                    cursor.acked.push((moved, cursor.highest));
                }
            }
        }
        let records = appends.iter().flat_map(|append| append.records.iter().map(|(id, _)| (append.topic.clone(), *id))).collect();
        self.done.push(Done { op, invoked, ended, records, moves, acks });
    }

    /// Somebody looked where a cursor stands, after `moves` acknowledged moves.
    pub(super) fn looked(&mut self, cursor: &Name, topic: &Name, offsets: &[(u32, u64)], last: bool, moves: u64, report: &mut Report) {
        let range = (cursor.clone(), topic.clone(), 0)..=(cursor.clone(), topic.clone(), u32::MAX);
        for ((_, _, partition), of) in self.cursors.range_mut(range) {
            let at = offsets.iter().find(|(number, _)| number == partition).map(|(_, at)| *at);
            let before = of.acked.partition_point(|(after, _)| *after <= moves);
            let least = of.acked[..before].last().map_or(0, |(_, highest)| *highest);
            report.examined(Check::H9, 1);
            if at.unwrap_or_default() < least && !of.free {
                let what = format!("cursor {cursor} is at {at:?} in {topic}/{partition}, but was moved to {least} before");
                report.violation(Check::H9, Subject::Cursor(cursor.clone()), what);
            }
            if last {
                of.last = Some(at.unwrap_or_default());
            }
        }
    }

    /// Judges, once the topics are; returns what the commits did to queues.
    pub(super) fn finish(&mut self, topics: &BTreeMap<Name, Topic>, report: &mut Report) -> Vec<(Name, Late)> {
        let mut settled = Vec::new();
        // Where unknown commits without records may have moved cursors, and where others certainly did.
        let mut may: BTreeMap<(Name, Name, u32), Vec<u64>> = BTreeMap::new();
        let mut did: BTreeMap<(Name, Name, u32), u64> = BTreeMap::new();
        for done in std::mem::take(&mut self.done) {
            let was_read = !done.records.is_empty() && done.records.iter().all(|(topic, _)| topics.get(topic).is_some_and(Topic::was_read));
            let applied = match done.ended {
                Some(_) => Some(true),
                None if was_read => Self::applied(&done, topics, report),
                None => None,
            };
            report.examined(Check::H9, u64::from(was_read || done.ended.is_some()));
            for change in &done.moves {
                for (partition, to) in &change.offsets {
                    let at = (change.cursor.clone(), change.topic.clone(), *partition);
                    match applied {
                        Some(true) => {
                            let highest = did.entry(at).or_default();
                            *highest = (*highest).max(*to);
                        }
                        Some(false) => {}
                        None => may.entry(at).or_default().push(*to),
                    }
                }
            }
            if applied != Some(false) {
                let late = |lease: LeaseId| Late { lease, invoked: done.invoked, ended: done.ended, certain: applied == Some(true) };
                settled.extend(done.acks.iter().flat_map(|(queue, leases)| leases.iter().map(|lease| (queue.clone(), late(*lease)))));
            }
        }
        for (at, cursor) in &self.cursors {
            let Some(last) = cursor.last.filter(|_| !cursor.free) else { continue };
            report.examined(Check::H9, 1);
            let least = did.get(at).copied().unwrap_or_default();
            let known = last == least || may.get(at).is_some_and(|may| may.contains(&last) && last > least);
            if !known {
                let (name, topic, partition) = at;
                let what =
                    format!("cursor {name} ends at {last} in {topic}/{partition}; the commits whose records are there moved it to {least}");
                report.violation(Check::H9, Subject::Cursor(name.clone()), what);
            }
        }
        settled
    }

    /// Whether a commit with an unknown outcome happened, by its records.
    fn applied(done: &Done, topics: &BTreeMap<Name, Topic>, report: &mut Report) -> Option<bool> {
        let look = |(topic, id): &(Name, RecordId)| topics.get(topic).map_or((false, 0), |topic| topic.found(*id));
        let found = done.records.iter().filter(|record| look(record).0).count();
        // Of what was sent by others as well, nobody can tell whose it is.
        let own = done.records.iter().all(|record| look(record).1 == 1);
        if found > 0 && found < done.records.len() && own {
            let what = format!("{found} of the {} records of a commit are there", done.records.len());
            report.violation(Check::H9, Subject::Op(done.op), what);
        }
        match found {
            0 => Some(false),
            _ if own => Some(true),
            _ => None,
        }
    }
}
