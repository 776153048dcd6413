//! What can only be judged at the end: H1, H4, H5, and what was refused and is there all the same.

use std::collections::{BTreeMap, BTreeSet};

use super::{ACKED, Check, FOUND, LEFT, MAYBE, Name, ONCE, PIPELINED, RecordId, Report, Subject, Topic, UNKNOWN};

/// Where the last readers began and ended, by partition.
type Ranges = BTreeMap<u32, (u64, u64)>;

impl Topic {
    pub(in crate::checker) fn finish(&mut self, name: &Name, report: &mut Report) {
        let ranges = self.whole(name, report);
        let twice = self.find(name, report);
        self.duplicates(name, &twice, report);
        self.acknowledged(name, &ranges, report);
        self.torn_batches(name, report);
        self.unsure(name, report);
    }

    /// H5: each last read came to the end that it was told, all were told the same, and nothing stands beyond it.
    fn whole(&self, name: &Name, report: &mut Report) -> Ranges {
        let mut ranges = Ranges::new();
        for (number, partition) in &self.partitions {
            report.stored += partition.places.iter().count() as u64;
            for (reader, (began, reached, end)) in &partition.whole {
                report.examined(Check::H5, end.saturating_sub(*began));
                let short = if self.facts.cleaned { reached > end } else { reached != end };
                if short {
                    let what = format!("{name}/{number}: the last read of reader {reader} ends at {reached}, the partition at {end}");
                    report.violation(Check::H5, Subject::Place(name.clone(), *number, *reached), what);
                }
                let (first_began, first_end) = *ranges.entry(*number).or_insert((*began, *end));
                if (first_began, first_end) != (*began, *end) {
                    let what = format!("{name}/{number} is {first_began} to {first_end} for one last reader, {began} to {end} for another");
                    report.violation(Check::H3, Subject::Place(name.clone(), *number, *end), what);
                }
            }
            match ranges.get(number) {
                Some((began, end)) => {
                    if *began > 0 && !self.facts.trimmed {
                        let what = format!("{name}/{number} starts at {began}, though nobody trims it");
                        report.violation(Check::H5, Subject::Place(name.clone(), *number, 0), what);
                    }
                    if let Some(beyond) = partition.places.last().filter(|last| last >= end) {
                        let what = format!("{name}/{number}: a reader saw offset {beyond}, but the partition ends at {end}");
                        report.violation(Check::H3, Subject::Place(name.clone(), *number, beyond), what);
                    }
                }
                None if partition.acked_end > 0 && self.was_read() => {
                    report.violation(Check::Vacuous, Subject::Run, format!("{name}/{number} was not read at the end"));
                }
                None => {}
            }
        }
        ranges
    }

    /// Marks what readers found. H2: nothing that was only refused. H6: pipelined records in the order of their counts. Returns
    /// what was found in more than one place.
    fn find(&mut self, name: &Name, report: &mut Report) -> BTreeSet<RecordId> {
        let mut twice = BTreeSet::new();
        let Self { partitions, producers, .. } = self;
        for (number, partition) in partitions {
            let mut highest: BTreeMap<u32, u64> = BTreeMap::new();
            for (offset, id) in partition.places.iter().map(|(offset, standing)| (offset, standing.id())) {
                let Some(sent) = producers.get_mut(&id.producer).and_then(|producer| producer.sent.get_mut(id.seq)) else { continue };
                if sent.is(FOUND) {
                    twice.insert(id);
                }
                sent.flags |= FOUND;
                if !sent.is(MAYBE) {
                    let what = format!("{name}/{number}/{offset} is {}:{}, which was refused", id.producer, id.seq);
                    report.violation(Check::H2, Subject::Record(name.clone(), id), what);
                }
                if sent.is(PIPELINED) && sent.is(ACKED) && (sent.partition, sent.offset) == (*number, offset) {
                    let before = highest.insert(id.producer, id.seq);
                    if let Some(before) = before.filter(|before| *before > id.seq) {
                        let what = format!(
                            "{name}/{number}: {}:{} stands after {}:{before}, which was sent later on the stream",
                            id.producer, id.seq, id.producer
                        );
                        report.violation(Check::H6, Subject::Record(name.clone(), id), what);
                    }
                }
            }
        }
        twice
    }

    /// H4: a record is in two places only if a send of it has an unknown outcome, or several were acknowledged, and nothing
    /// better was promised.
    fn duplicates(&self, name: &Name, twice: &BTreeSet<RecordId>, report: &mut Report) {
        report.examined(Check::H4, self.partitions.values().map(|partition| partition.places.iter().count() as u64).sum());
        if twice.is_empty() {
            return;
        }
        let mut places: BTreeMap<RecordId, Vec<(u32, u64)>> = BTreeMap::new();
        for (number, partition) in &self.partitions {
            let all = partition.places.iter().map(|(offset, standing)| (offset, standing.id()));
            for (offset, id) in all.filter(|(_, id)| twice.contains(id)) {
                places.entry(id).or_default().push((*number, offset));
            }
        }
        let again: BTreeSet<RecordId> = self.again.iter().map(|(id, _)| *id).collect();
        for (id, places) in places {
            let Some(sent) = self.sent(id) else { continue };
            if !sent.is(ONCE) && (sent.is(UNKNOWN) || again.contains(&id)) {
                report.honest_duplicates += places.len() as u64 - 1;
            } else {
                let what = format!("{name}: {}:{} stands at {places:?}", id.producer, id.seq);
                report.violation(Check::H4, Subject::Record(name.clone(), id), what);
            }
        }
    }

    /// H1, H3: each acknowledged record is in the last read, at the place acknowledged.
    fn acknowledged(&self, name: &Name, ranges: &Ranges, report: &mut Report) {
        if self.facts.cleaned {
            return;
        }
        for (producer, of) in &self.producers {
            let acked = || {
                let acked = of.sent.iter().filter(|(_, sent)| sent.is(ACKED));
                acked.map(|(seq, sent)| (RecordId { producer: *producer, seq }, (sent.partition, sent.offset)))
            };
            // Where its loss lies among a producer's records says much of its cause.
            let there = || acked().filter(|(id, place)| self.look(ranges, *place, *id) == Found::There).map(|(id, _)| id.seq);
            let whole = there().min().zip(there().max());
            for (id, place) in acked() {
                self.judge_ack(name, id, place, self.look(ranges, place, id), whole, report);
            }
        }
        for (id, place) in &self.again {
            self.judge_ack(name, *id, *place, self.look(ranges, *place, *id), None, report);
        }
    }

    /// Where a record is that was acknowledged at a place.
    fn look(&self, ranges: &Ranges, (number, offset): (u32, u64), id: RecordId) -> Found {
        let Some((began, end)) = ranges.get(&number) else { return Found::NotLooked };
        if offset < *began {
            return Found::Trimmed;
        }
        let standing = self.partitions.get(&number).and_then(|of| of.places.get(offset)).filter(|_| offset < *end);
        match standing {
            Some(standing) if standing.id() == id && standing.left => Found::There,
            _ if self.sent(id).is_some_and(|sent| sent.is(LEFT)) => Found::Elsewhere,
            _ => Found::Nowhere,
        }
    }

    fn judge_ack(
        &self,
        name: &Name,
        id: RecordId,
        (number, offset): (u32, u64),
        found: Found,
        whole: Option<(u64, u64)>,
        report: &mut Report,
    ) {
        let record = format!("{name}: {}:{}, acknowledged at {number}/{offset}", id.producer, id.seq);
        match found {
            Found::NotLooked => return,
            Found::There => {}
            Found::Trimmed => report.trimmed += 1,
            Found::Elsewhere => report.violation(Check::H3, Subject::Record(name.clone(), id), format!("{record}, stands elsewhere")),
            Found::Nowhere => {
                let part = match whole {
                    Some((first, _)) if id.seq < first => "before all that is left of the producer's",
                    Some((_, last)) if id.seq > last => "after all that is left of the producer's",
                    Some(_) => "in the middle of the producer's",
                    None => "with all of the producer's",
                };
                report.violation(Check::H1, Subject::Record(name.clone(), id), format!("{record}, is lost, {part}"));
            }
        }
        report.examined(Check::H1, 1);
    }

    /// H6: nobody was told an end in the middle of a batch.
    fn torn_batches(&mut self, name: &Name, report: &mut Report) {
        for (number, partition) in &mut self.partitions {
            partition.ends.sort_unstable();
            report.examined(Check::H6, partition.batches.len() as u64);
            for (first, end) in &partition.batches {
                let at = partition.ends.partition_point(|told| told <= first);
                if let Some(told) = partition.ends.get(at).filter(|told| *told < end) {
                    let what = format!("{name}/{number}: a reader was told the end {told}, within the batch from {first} to {end}");
                    report.violation(Check::H6, Subject::Place(name.clone(), *number, *told), what);
                }
            }
        }
    }

    /// What became of sends with an unknown outcome. H6: a batch in one partition was stored whole or not at all.
    fn unsure(&self, name: &Name, report: &mut Report) {
        let was_read = self.was_read();
        for unsure in &self.unsure {
            let found = unsure.ids.iter().filter(|id| self.sent(**id).is_some_and(|sent| sent.is(FOUND))).count();
            if found > 0 {
                report.unknown_stored += 1;
            } else {
                report.unknown_absent += 1;
            }
            // Sent again, a part may have been stored by another send.
            let once = unsure.ids.iter().all(|id| self.sent(*id).is_some_and(|sent| sent.tries == 1));
            if was_read && unsure.together && once && !self.facts.trimmed && !self.facts.cleaned {
                report.examined(Check::H6, 1);
                if found > 0 && found < unsure.ids.len() {
                    let first = unsure.ids[0];
                    let what = format!(
                        "{name}: {found} of the {} records of a batch from {}:{} on are stored",
                        unsure.ids.len(),
                        first.producer,
                        first.seq
                    );
                    report.violation(Check::H6, Subject::Record(name.clone(), first), what);
                }
            }
        }
    }
}

/// Where an acknowledged record is.
#[derive(Clone, Copy, PartialEq)]
enum Found {
    There,
    Elsewhere,
    Nowhere,
    Trimmed,
    NotLooked,
}
