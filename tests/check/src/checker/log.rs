//! One topic as its clients saw it: what was sent, what was acknowledged where, what readers found. Checks H1 to H7.

mod end;
mod order;

use std::collections::{BTreeMap, BTreeSet};

use super::sparse::Sparse;
use super::{Check, Report, Subject};
use crate::history::{Append, Name, OpId, Process, Read, RecordId, Run, Seen, TopicFacts};
use order::Highest;

/// The record was promised to be stored once.
const ONCE: u8 = 1;
/// It was sent on a pipelined stream.
const PIPELINED: u8 = 2;
/// Some send of it may have stored it.
const MAYBE: u8 = 4;
/// Some send of it was acknowledged.
const ACKED: u8 = 8;
/// Some send of it has an unknown outcome.
const UNKNOWN: u8 = 16;
/// Some reader found it.
const FOUND: u8 = 32;
/// Some reader found it when everything had ended.
const LEFT: u8 = 64;

/// A record that was sent. Small, as there are millions.
#[derive(Clone, Copy, Debug)]
struct Sent {
    sum: u64,
    /// Where it was first acknowledged.
    offset: u64,
    partition: u32,
    flags: u8,
    /// How many sends of it were invoked; stays at the highest.
    tries: u8,
}

impl Sent {
    fn is(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

/// What stands at an offset, as the first reader saw it.
#[derive(Clone, Copy, Debug)]
struct Standing {
    seq: u64,
    producer: u32,
    /// Somebody saw it there when everything had ended.
    left: bool,
}

impl Standing {
    fn id(&self) -> RecordId {
        RecordId { producer: self.producer, seq: self.seq }
    }
}

#[derive(Debug, Default)]
struct Producer {
    sent: Sparse<Sent>,
    /// The highest acknowledged place, by partition.
    highest: BTreeMap<u32, Highest>,
}

#[derive(Debug, Default)]
struct Partition {
    places: Sparse<Standing>,
    /// The end after the highest acknowledged offset.
    acked_end: u64,
    /// Of each reader, whether it is its last read or not: the offset that must come next.
    next: BTreeMap<(Process, bool), u64>,
    /// Of each last read: where it began, how far it came, and the end as told.
    whole: BTreeMap<Process, (u64, u64, u64)>,
    /// Ends that readers were told, and batches of more than one record: no end may lie within one.
    ends: Vec<u64>,
    batches: Vec<(u64, u64)>,
}

/// A send whose outcome is unknown.
#[derive(Debug)]
struct Unsure {
    ids: Vec<RecordId>,
    /// Whether all went to one partition, and so were stored together or not at all.
    together: bool,
}

#[derive(Debug, Default)]
pub(super) struct Topic {
    facts: TopicFacts,
    partitions: BTreeMap<u32, Partition>,
    producers: BTreeMap<u32, Producer>,
    /// Where the records of each key are.
    keys: BTreeMap<u64, u32>,
    /// Acknowledgements of records that were acknowledged elsewhere before.
    again: Vec<(RecordId, (u32, u64))>,
    unsure: Vec<Unsure>,
    /// When the sends that are under way began.
    under_way: BTreeSet<u64>,
}

impl Topic {
    pub(super) fn new(facts: TopicFacts) -> Self {
        Self { facts, ..Self::default() }
    }

    fn sent(&self, id: RecordId) -> Option<&Sent> {
        self.producers.get(&id.producer)?.sent.get(id.seq)
    }

    fn sent_mut(&mut self, id: RecordId) -> Option<&mut Sent> {
        self.producers.get_mut(&id.producer)?.sent.get_mut(id.seq)
    }

    /// Records are sent.
    pub(super) fn invoke(&mut self, order: u64, append: &Append) -> Result<(), String> {
        self.under_way.insert(order);
        let promised = (if append.promise.once { ONCE } else { 0 }) | (if append.promise.pipelined { PIPELINED } else { 0 });
        for (id, sum) in &append.records {
            let new = || Sent { sum: *sum, offset: 0, partition: 0, flags: 0, tries: 0 };
            let (sent, _) = self.producers.entry(id.producer).or_default().sent.entry(id.seq, new);
            if sent.sum != *sum {
                return Err(format!("record {}:{} of {} is sent with two values: ids name one", id.producer, id.seq, append.topic));
            }
            sent.flags |= promised;
            sent.tries = sent.tries.saturating_add(1);
        }
        Ok(())
    }

    /// A send ended without effect.
    pub(super) fn closed(&mut self, order: u64) {
        self.under_way.remove(&order);
    }

    /// A send ended, or did not end: nobody knows.
    pub(super) fn maybe(&mut self, order: u64, append: &Append) {
        self.under_way.remove(&order);
        for (id, _) in &append.records {
            if let Some(sent) = self.sent_mut(*id) {
                sent.flags |= MAYBE | UNKNOWN;
            }
        }
        self.unsure.push(Unsure { ids: append.records.iter().map(|(id, _)| *id).collect(), together: append.partition.is_some() });
    }

    /// A send was acknowledged: H6 and the acknowledgement's half of H3.
    pub(super) fn ok(
        &mut self,
        invoked: u64,
        order: u64,
        op: OpId,
        append: Append,
        runs: &[Run],
        report: &mut Report,
    ) -> Result<(), String> {
        let name = &append.topic;
        let count: u64 = runs.iter().map(|run| u64::from(run.count)).sum();
        if count != append.records.len() as u64 {
            let what = format!("{} records were sent to {name}, but {count} acknowledged", append.records.len());
            report.violation(Check::H6, Subject::Op(op), what);
            self.maybe(invoked, &append);
            return Ok(());
        }
        report.acked += count;
        report.examined(Check::H6, count);
        let places = runs.iter().flat_map(|run| (0..u64::from(run.count)).map(|nth| (run.partition, run.first + nth)));
        let mut fresh = Vec::with_capacity(append.records.len());
        for ((id, _), place) in append.records.iter().zip(places.clone()) {
            let Some(sent) = self.sent_mut(*id) else { return Err(format!("record {}:{} was not invoked", id.producer, id.seq)) };
            sent.flags |= MAYBE;
            if !sent.is(ACKED) {
                sent.flags |= ACKED;
                (sent.partition, sent.offset) = place;
                fresh.push((*id, place));
            } else if (sent.partition, sent.offset) != place {
                if sent.is(ONCE) {
                    let what = format!(
                        "{name}: {}:{} is acknowledged at {}/{} and at {}/{}",
                        id.producer, id.seq, sent.partition, sent.offset, place.0, place.1
                    );
                    report.violation(Check::H4, Subject::Record(name.clone(), *id), what);
                }
                self.again.push((*id, place));
            }
        }
        self.keyed(&append, places, report);
        self.batch(&append, runs, op, report);
        self.producers_order(invoked, order, name, &fresh, report);
        self.under_way.remove(&invoked);
        Ok(())
    }

    /// H6: a key stays in its partition.
    fn keyed(&mut self, append: &Append, places: impl Iterator<Item = (u32, u64)>, report: &mut Report) {
        for ((key, (id, _)), (partition, _)) in append.keys.iter().zip(&append.records).zip(places) {
            let first = *self.keys.entry(*key).or_insert(partition);
            if first != partition {
                let what = format!("{}: key {key} is in partition {first} and in {partition}", append.topic);
                report.violation(Check::H6, Subject::Record(append.topic.clone(), *id), what);
            }
        }
    }

    /// H6: a batch is in one piece in each of its partitions.
    fn batch(&mut self, append: &Append, runs: &[Run], op: OpId, report: &mut Report) {
        let mut pieces: BTreeMap<u32, (u64, u64)> = BTreeMap::new();
        for run in runs {
            let end = run.first + u64::from(run.count);
            let piece = pieces.entry(run.partition).or_insert((run.first, run.first));
            if piece.1 != run.first {
                let what = format!(
                    "{}: a batch is not in one piece in partition {}: {} follows {}",
                    append.topic, run.partition, run.first, piece.1
                );
                report.violation(Check::H6, Subject::Op(op), what);
            }
            piece.1 = end;
        }
        for (partition, (first, end)) in pieces {
            let partition = self.partitions.entry(partition).or_default();
            partition.acked_end = partition.acked_end.max(end);
            if end.saturating_sub(first) > 1 {
                partition.batches.push((first, end));
            }
        }
    }

    /// The least end that a reader must be told who asks now.
    pub(super) fn acked_end(&self, partition: u32) -> u64 {
        self.partitions.get(&partition).map_or(0, |partition| partition.acked_end)
    }

    /// Somebody was told an end: H7, what was acknowledged before is below it.
    pub(super) fn told(&mut self, name: &Name, number: u32, end: u64, least: u64, report: &mut Report) {
        report.examined(Check::H7, 1);
        if end < least {
            let what = format!("{name}/{number}: offset {} was acknowledged before a reader asked who was told the end {end}", least - 1);
            report.violation(Check::H7, Subject::Place(name.clone(), number, least - 1), what);
        }
        let ends = &mut self.partitions.entry(number).or_default().ends;
        if ends.last() != Some(&end) {
            ends.push(end);
        }
    }

    /// The log starts later than a reader asked for, who goes on there.
    pub(super) fn turned_away(&mut self, read: &Read, start: u64) {
        self.partitions.entry(read.partition).or_default().next.insert((read.reader, read.last), start);
    }

    /// A reader saw rows, and was perhaps told the end: H2, H3, H7.
    pub(super) fn rows(&mut self, read: &Read, rows: &[Seen], end: Option<u64>, least: u64, report: &mut Report) {
        let Read { topic: name, reader, last, seek, partition: number, from } = read;
        // A page that stops before the end it is told says nothing of what lies behind it: who goes on asks again.
        let reached = rows.last().map_or(*from, |row| row.offset.saturating_add(1));
        if let Some(end) = end {
            self.told(name, *number, end, if reached < end { 0 } else { least }, report);
        }
        let cleaned = self.facts.cleaned;
        let partition = self.partitions.entry(*number).or_default();
        let expected = partition.next.entry((*reader, *last)).or_insert(*from);
        let mut skip = |at: u64, expected: u64| {
            let what = format!("{name}/{number}: reader {reader} should have come to {expected}, not {at}");
            report.violation(Check::H7, Subject::Place(name.clone(), *number, expected), what);
        };
        if *from != *expected && !seek {
            skip(*from, *expected);
        }
        *expected = *from;
        for row in rows {
            if row.offset != *expected && !(cleaned && row.offset > *expected) {
                skip(row.offset, *expected);
            }
            *expected = row.offset.saturating_add(1);
        }
        let reached = *expected;
        if let Some(end) = end.filter(|_| *last) {
            let began = partition.whole.get(reader).map_or(*from, |(began, ..)| *began);
            partition.whole.insert(*reader, (began, reached, end));
        }
        report.examined(Check::H2, rows.len() as u64);
        report.examined(Check::H3, rows.len() as u64);
        for row in rows {
            self.row(name, *number, *last, *row, report);
        }
    }

    fn row(&mut self, name: &Name, number: u32, last: bool, row: Seen, report: &mut Report) {
        let place = || Subject::Place(name.clone(), number, row.offset);
        let wrong = match row.id.map(|id| (id, self.sent(id))) {
            None => Some("not a value of this run".to_owned()),
            Some((id, None)) => Some(format!("{}:{}, which nobody sent", id.producer, id.seq)),
            Some((id, Some(sent))) if sent.sum != row.sum => Some(format!("{}:{} with other bytes than were sent", id.producer, id.seq)),
            Some(_) => None,
        };
        if let Some(wrong) = wrong {
            report.violation(Check::H2, place(), format!("{name}/{number}/{} is {wrong}", row.offset));
        }
        let Some(id) = row.id else { return };
        if let Some(sent) = self.sent_mut(id).filter(|_| last) {
            sent.flags |= LEFT;
        }
        let new = || Standing { seq: id.seq, producer: id.producer, left: last };
        let (standing, _) = self.partitions.entry(number).or_default().places.entry(row.offset, new);
        let first = standing.id();
        standing.left |= last && first == id;
        if first != id {
            let what = format!(
                "{name}/{number}/{} is {}:{} to one reader and {}:{} to another",
                row.offset, first.producer, first.seq, id.producer, id.seq
            );
            report.violation(Check::H3, place(), what);
        }
    }

    /// The end that the last readers were told.
    pub(super) fn last_end(&self, partition: u32) -> Option<u64> {
        self.partitions.get(&partition)?.whole.values().next().map(|(_, _, end)| *end)
    }

    /// Whether the last readers found a record, and how often it was sent. After the end.
    pub(super) fn found(&self, id: RecordId) -> (bool, u8) {
        self.sent(id).map_or((false, 0), |sent| (sent.is(FOUND), sent.tries))
    }

    /// Whether anybody read it to its end.
    pub(super) fn was_read(&self) -> bool {
        self.partitions.values().any(|partition| !partition.whole.is_empty())
    }
}
