//! Planted histories: the checker finds each violation, and only it.

use super::*;
use crate::history::hash;

const PLAIN: Promise = Promise { once: false, pipelined: false };
const ONCE: Promise = Promise { once: true, pipelined: false };
const PIPELINED: Promise = Promise { once: false, pipelined: true };
const DEMANDS: Demands = Demands { faults: 1, acked: 1 };

fn id(seq: u64) -> RecordId {
    RecordId { producer: 1, seq }
}

/// A history under construction: its clock ticks with every event.
struct Plant {
    history: History,
    now: Nanos,
    ops: OpId,
}

impl Plant {
    fn new() -> Self {
        let mut plant = Self { history: History::default(), now: 0, ops: 0 };
        plant.push(Event::Fault { at: 0, what: "kill".into() });
        plant
    }

    fn push(&mut self, event: Event) {
        self.now += 1;
        self.history.events.push(event);
    }

    fn invoke(&mut self, promise: Promise, seqs: &[u64]) -> OpId {
        self.ops += 1;
        self.history.bodies.extend(seqs.iter().map(|seq| (id(*seq), *seq)));
        self.push(Event::Invoke { op: self.ops, at: self.now, promise, ids: seqs.iter().map(|seq| id(*seq)).collect() });
        self.ops
    }

    fn ok(&mut self, op: OpId, offsets: &[u64]) {
        self.push(Event::Ok { op, at: self.now, places: offsets.iter().map(|offset| (0, *offset)).collect() });
    }

    fn send(&mut self, promise: Promise, seqs: &[u64], offsets: &[u64]) {
        let op = self.invoke(promise, seqs);
        self.ok(op, offsets);
    }

    fn read(&mut self, reader: u32, last: bool, from: u64, rows: &[(u64, u64)], end: u64) {
        let seen = rows.iter().map(|(offset, seq)| (*offset, Some(id(*seq)), *seq)).collect();
        self.push(Event::Read { reader, last, asked: self.now, partition: 0, from, seen, end });
    }

    /// The last read, by one reader: the records in order from offset 0.
    fn end(&mut self, seqs: &[u64]) {
        let rows: Vec<(u64, u64)> = seqs.iter().enumerate().map(|(offset, seq)| (offset as u64, *seq)).collect();
        self.read(9, true, 0, &rows, rows.len() as u64);
    }

    fn violations(&self) -> Vec<Violation> {
        check(&self.history, DEMANDS).violations
    }
}

#[test]
fn a_history_without_fault_of_the_server_passes() {
    let mut plant = Plant::new();
    plant.send(PLAIN, &[1, 2], &[0, 1]);
    plant.read(1, false, 0, &[(0, 1)], 2);
    plant.send(ONCE, &[3], &[2]);
    plant.read(1, false, 1, &[(1, 2), (2, 3)], 3);
    let open = plant.invoke(PLAIN, &[4]);
    plant.push(Event::Info { op: open });
    plant.send(PLAIN, &[4], &[3]);
    plant.end(&[1, 2, 3, 4, 4]);
    let report = check(&plant.history, DEMANDS);
    assert_eq!(report.violations, []);
    assert_eq!((report.acked, report.stored, report.honest_duplicates, report.unknown_stored), (4, 5, 1, 1));
}

#[test]
fn an_acknowledged_record_that_is_nowhere_is_lost() {
    let mut plant = Plant::new();
    plant.send(PLAIN, &[1], &[0]);
    plant.send(PLAIN, &[2], &[1]);
    plant.end(&[1]);
    let found = plant.violations();
    assert!(found.contains(&Violation::Lost(id(2))), "{found:?}");
}

#[test]
fn a_record_that_nobody_sent_is_a_phantom() {
    let mut plant = Plant::new();
    plant.send(PLAIN, &[1], &[0]);
    plant.end(&[1, 7]);
    assert_eq!(plant.violations(), [Violation::Phantom(0, 1, "nobody sent it")]);
}

#[test]
fn a_refused_record_that_is_there_is_a_phantom() {
    let mut plant = Plant::new();
    plant.send(PLAIN, &[1], &[0]);
    let op = plant.invoke(PLAIN, &[2]);
    plant.push(Event::Fail { op });
    plant.end(&[1, 2]);
    assert_eq!(plant.violations(), [Violation::Phantom(0, 1, "it was refused")]);
}

#[test]
fn other_bytes_than_sent_are_a_phantom() {
    let mut plant = Plant::new();
    plant.send(PLAIN, &[1], &[0]);
    plant.push(Event::Read { reader: 9, last: true, asked: 9, partition: 0, from: 0, seen: vec![(0, Some(id(1)), hash(b"x"))], end: 1 });
    assert_eq!(plant.violations(), [Violation::Phantom(0, 0, "its bytes are others")]);
}

#[test]
fn readers_who_see_different_records_at_an_offset_disagree() {
    let mut plant = Plant::new();
    plant.send(PLAIN, &[1], &[0]);
    plant.send(PLAIN, &[2], &[1]);
    plant.read(1, false, 0, &[(0, 2)], 2);
    plant.end(&[1, 2]);
    let found = plant.violations();
    assert!(found.contains(&Violation::Disagreement(0, 0)), "{found:?}");
}

#[test]
fn an_acknowledgement_of_another_offset_disagrees() {
    let mut plant = Plant::new();
    plant.send(PLAIN, &[1], &[1]);
    plant.send(PLAIN, &[2], &[0]);
    plant.end(&[1, 2]);
    assert!(plant.violations().contains(&Violation::Disagreement(0, 1)));
}

#[test]
fn a_record_that_must_be_stored_once_is_not_stored_twice() {
    let mut plant = Plant::new();
    let open = plant.invoke(ONCE, &[1]);
    plant.push(Event::Info { op: open });
    plant.send(ONCE, &[1], &[0]);
    plant.send(PLAIN, &[2], &[1]);
    plant.end(&[1, 2, 1]);
    assert_eq!(plant.violations(), [Violation::Duplicate(id(1), 0, 2)]);
}

#[test]
fn a_record_sent_once_is_not_stored_twice() {
    let mut plant = Plant::new();
    plant.send(PLAIN, &[1], &[0]);
    plant.end(&[1, 1]);
    assert_eq!(plant.violations(), [Violation::Duplicate(id(1), 0, 1)]);
}

#[test]
fn a_missing_offset_is_a_gap() {
    let mut plant = Plant::new();
    plant.send(PLAIN, &[1], &[0]);
    plant.send(PLAIN, &[2], &[2]);
    plant.read(9, true, 0, &[(0, 1), (2, 2)], 3);
    assert_eq!(plant.violations(), [Violation::Skipped(9, 0, 1)]);
    let mut short = Plant::new();
    short.send(PLAIN, &[1], &[0]);
    short.read(9, true, 0, &[(0, 1)], 2);
    assert_eq!(short.violations(), [Violation::Gap(0, 1)]);
}

#[test]
fn a_later_record_does_not_stand_before_an_acknowledged_one() {
    let mut plant = Plant::new();
    plant.send(PLAIN, &[1], &[1]);
    plant.send(PLAIN, &[2], &[0]);
    plant.end(&[2, 1]);
    assert_eq!(plant.violations(), [Violation::Order(id(1), id(2))]);
}

#[test]
fn pipelined_records_stand_in_the_order_of_their_counts() {
    let mut plant = Plant::new();
    let (first, second) = (plant.invoke(PIPELINED, &[1]), plant.invoke(PIPELINED, &[2]));
    plant.ok(second, &[0]);
    plant.ok(first, &[1]);
    plant.end(&[2, 1]);
    assert_eq!(plant.violations(), [Violation::Order(id(1), id(2))]);
}

#[test]
fn a_batch_is_in_one_piece() {
    let mut plant = Plant::new();
    let (one, other) = (plant.invoke(PLAIN, &[1, 3]), plant.invoke(PLAIN, &[2]));
    plant.ok(one, &[0, 2]);
    plant.ok(other, &[1]);
    plant.end(&[1, 2, 3]);
    assert_eq!(plant.violations(), [Violation::Order(id(1), id(3))]);
}

#[test]
fn a_reader_neither_skips_nor_steps_back() {
    let mut plant = Plant::new();
    plant.send(PLAIN, &[1, 2, 3], &[0, 1, 2]);
    plant.read(1, false, 0, &[(0, 1)], 3);
    plant.read(1, false, 2, &[(2, 3)], 3);
    plant.read(2, false, 1, &[(1, 2)], 3);
    plant.read(2, false, 1, &[(1, 2)], 3);
    plant.end(&[1, 2, 3]);
    assert_eq!(plant.violations(), [Violation::Skipped(1, 0, 1), Violation::Skipped(2, 0, 2)]);
}

#[test]
fn an_acknowledged_record_is_visible_to_whoever_asks_after_it() {
    let mut plant = Plant::new();
    plant.send(PLAIN, &[1], &[0]);
    plant.read(1, false, 0, &[], 0);
    plant.end(&[1]);
    assert_eq!(plant.violations(), [Violation::Invisible(0, 0)]);
}

#[test]
fn a_run_that_proves_nothing_is_refused() {
    let found = check(&History::default(), Demands::default()).violations;
    assert_eq!(found.len(), 3, "{found:?}");
    let mut calm = Plant::new();
    calm.send(PLAIN, &[1], &[0]);
    calm.end(&[1]);
    let found = check(&calm.history, Demands { faults: 2, acked: 1 }).violations;
    assert_eq!(found, [Violation::Vacuous("too few faults happened")]);
    calm.history.events.remove(0);
    assert_eq!(check(&calm.history, Demands::default()).violations, [Violation::Vacuous("too few faults happened")]);
}
