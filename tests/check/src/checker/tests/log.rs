//! H1 to H7.

use super::*;
use crate::history::{Append, OpId, Promise, Refusal, hash};

const PLAIN: Promise = Promise { once: false, pipelined: false };
const ONCE: Promise = Promise { once: true, pipelined: false };
const PIPELINED: Promise = Promise { once: false, pipelined: true };

impl Plant {
    fn invoke(&self, promise: Promise, seqs: &[u64]) -> OpId {
        self.log().invoke(promise, &bodies(seqs))
    }

    fn ok(&self, op: OpId, offsets: &[u64]) {
        self.log().ok(op, offsets.iter().map(|offset| (0, *offset)).collect());
    }

    fn send(&self, promise: Promise, seqs: &[u64], offsets: &[u64]) {
        let op = self.invoke(promise, seqs);
        self.ok(op, offsets);
    }

    fn read(&self, reader: u32, last: bool, from: u64, rows: &[(u64, u64)], end: u64) {
        let op = self.log().ask(reader, last, 0, from);
        self.saw(op, rows, end);
    }

    fn saw(&self, op: OpId, rows: &[(u64, u64)], end: u64) {
        let rows: Vec<(u64, String)> = rows.iter().map(|(offset, seq)| (*offset, body(id(*seq), 3))).collect();
        self.log().saw(op, rows.iter().map(|(offset, value)| (*offset, value.as_bytes())), end);
    }

    /// The last read, by one reader: the records in order from offset 0.
    fn end(&self, seqs: &[u64]) {
        let rows: Vec<(u64, u64)> = seqs.iter().enumerate().map(|(offset, seq)| (offset as u64, *seq)).collect();
        self.read(9, true, 0, &rows, rows.len() as u64);
    }
}

#[test]
fn a_history_without_fault_of_the_server_passes_and_every_check_has_looked_at_something() {
    let plant = Plant::new();
    plant.tape.fault("kill", None);
    plant.send(PLAIN, &[1, 2], &[0, 1]);
    plant.read(1, false, 0, &[(0, 1)], 2);
    plant.send(ONCE, &[3], &[2]);
    plant.read(1, false, 1, &[(1, 2), (2, 3)], 3);
    let open = plant.invoke(PLAIN, &[4]);
    plant.log().info(open);
    plant.send(PLAIN, &[4], &[3]);
    plant.end(&[1, 2, 3, 4, 4]);
    let history = plant.tape.take();
    let report = check(&history, Demands { faults: 1, acked: 4 });
    assert_eq!(report.violations, []);
    assert_eq!((report.acked, report.stored, report.honest_duplicates, report.unknown_stored), (4, 5, 1, 1));
    for check in [Check::H1, Check::H2, Check::H3, Check::H4, Check::H5, Check::H6, Check::H7] {
        assert!(report.examined_by(check) > 0, "{check:?}");
    }
}

#[test]
fn h1_an_acknowledged_record_that_is_nowhere_is_lost() {
    for (lost, part) in [(1, "before all"), (2, "in the middle"), (3, "after all")] {
        let plant = Plant::new();
        plant.send(PLAIN, &[1], &[0]);
        plant.send(PLAIN, &[2], &[1]);
        plant.send(PLAIN, &[3], &[2]);
        let other = plant.invoke(PLAIN, &[7]);
        plant.log().info(other);
        let seqs = [1, 2, 3].map(|seq| if seq == lost { 7 } else { seq });
        plant.end(&seqs);
        let report = plant.breaks(&[Check::H1]);
        assert!(report.violations[0].what.contains(part), "{report}");
        assert_eq!((report.lost(), report.bound()), (1, None));
    }
}

#[test]
fn h1_what_readers_saw_during_the_run_and_is_gone_at_the_end_is_lost() {
    let plant = Plant::new();
    plant.send(PLAIN, &[1], &[0]);
    plant.send(PLAIN, &[2], &[1]);
    plant.read(1, false, 0, &[(0, 1), (1, 2)], 2);
    plant.end(&[1]);
    let report = plant.report();
    assert!(report.broken().contains(&Check::H1) && report.lost() == 1, "{:#?}", report.violations);
}

#[test]
fn h1_what_retention_took_is_not_lost_where_it_may() {
    for (trimmed, expected) in [(true, vec![]), (false, vec![Check::H5])] {
        let plant = Plant::new();
        plant.send(PLAIN, &[1, 2], &[0, 1]);
        plant.read(9, true, 1, &[(1, 2)], 2);
        let mut history = plant.tape.take();
        history.header.topics.insert("load".into(), crate::history::TopicFacts { trimmed, ..Default::default() });
        let report = judge(&history);
        assert_eq!(report.broken(), expected, "{:?}", report.violations);
        assert_eq!(report.trimmed, 1);
    }
}

#[test]
fn h2_a_record_that_nobody_sent_is_a_phantom() {
    let plant = Plant::new();
    plant.send(PLAIN, &[1], &[0]);
    plant.end(&[1, 7]);
    assert!(plant.breaks(&[Check::H2]).violations[0].what.contains("nobody sent"));
}

#[test]
fn h2_a_refused_record_that_is_there_is_a_phantom() {
    let plant = Plant::new();
    plant.send(PLAIN, &[1], &[0]);
    let op = plant.invoke(PLAIN, &[2]);
    plant.log().fail(op);
    plant.end(&[1, 2]);
    assert!(plant.breaks(&[Check::H2]).violations[0].what.contains("refused"));
}

#[test]
fn h2_other_bytes_than_sent_are_a_phantom() {
    let plant = Plant::new();
    plant.send(PLAIN, &[1], &[0]);
    let op = plant.log().ask(9, true, 0, 0);
    plant.log().saw(op, [(0, body(id(1), 4).as_bytes())], 1);
    assert!(plant.breaks(&[Check::H2]).violations[0].what.contains("other bytes"));
}

#[test]
fn h3_readers_who_see_different_records_at_an_offset_disagree() {
    let plant = Plant::new();
    plant.send(PLAIN, &[1], &[0]);
    plant.send(PLAIN, &[2], &[1]);
    plant.read(1, false, 0, &[(0, 2), (1, 2)], 2);
    plant.end(&[1, 2]);
    assert!(plant.report().broken().contains(&Check::H3));
}

#[test]
fn h3_readers_who_are_told_different_ends_when_all_is_over_disagree() {
    let plant = Plant::new();
    plant.send(PLAIN, &[1, 2], &[0, 1]);
    plant.end(&[1, 2]);
    let op = plant.invoke(PLAIN, &[3]);
    plant.log().info(op);
    plant.read(8, true, 0, &[(0, 1), (1, 2), (2, 3)], 3);
    plant.breaks(&[Check::H3]);
}

#[test]
fn h3_an_acknowledgement_of_another_offset_disagrees() {
    let plant = Plant::new();
    let (first, second) = (plant.invoke(PLAIN, &[1]), plant.invoke(PLAIN, &[2]));
    plant.ok(first, &[1]);
    plant.ok(second, &[0]);
    plant.end(&[1, 2]);
    plant.breaks(&[Check::H3]);
}

#[test]
fn h4_a_record_that_must_be_stored_once_is_not_stored_twice() {
    let plant = Plant::new();
    let open = plant.invoke(ONCE, &[1]);
    plant.log().info(open);
    plant.send(ONCE, &[1], &[0]);
    plant.send(PLAIN, &[2], &[1]);
    plant.end(&[1, 2, 1]);
    plant.breaks(&[Check::H4]);
}

#[test]
fn h4_a_record_sent_once_is_not_stored_twice() {
    let plant = Plant::new();
    plant.send(PLAIN, &[1], &[0]);
    plant.end(&[1, 1]);
    plant.breaks(&[Check::H4]);
}

#[test]
fn h4_a_repetition_with_a_promise_gets_the_first_offset() {
    for (second, expected) in [(0, vec![]), (1, vec![Check::H4])] {
        let plant = Plant::new();
        plant.send(ONCE, &[1], &[0]);
        plant.send(ONCE, &[1], &[second]);
        plant.breaks(&expected);
    }
}

#[test]
fn h5_a_missing_offset_is_a_gap() {
    let plant = Plant::new();
    plant.send(PLAIN, &[1], &[0]);
    plant.read(9, true, 0, &[(0, 1)], 2);
    plant.breaks(&[Check::H5]);
    let plant = Plant::new();
    plant.send(PLAIN, &[1], &[0]);
    plant.send(PLAIN, &[2], &[2]);
    plant.read(9, true, 0, &[(0, 1), (2, 2)], 3);
    plant.breaks(&[Check::H7]);
}

#[test]
fn h6_a_later_record_does_not_stand_before_an_acknowledged_one() {
    let plant = Plant::new();
    plant.send(PLAIN, &[1], &[1]);
    plant.send(PLAIN, &[2], &[0]);
    plant.end(&[2, 1]);
    plant.breaks(&[Check::H6]);
}

#[test]
fn h6_a_repetition_stands_where_the_first_send_brought_it() {
    let plant = Plant::new();
    let open = plant.invoke(ONCE, &[1]);
    plant.log().info(open);
    plant.send(ONCE, &[2], &[1]);
    plant.send(ONCE, &[1], &[0]);
    plant.end(&[1, 2]);
    plant.breaks(&[]);
}

#[test]
fn h6_records_that_are_sent_at_the_same_time_stand_in_any_order() {
    let plant = Plant::new();
    let (first, second) = (plant.invoke(PLAIN, &[1]), plant.invoke(PLAIN, &[2]));
    plant.ok(first, &[1]);
    plant.ok(second, &[0]);
    plant.end(&[2, 1]);
    plant.breaks(&[]);
}

#[test]
fn h6_pipelined_records_stand_in_the_order_of_their_counts() {
    let plant = Plant::new();
    let (first, second) = (plant.invoke(PIPELINED, &[1]), plant.invoke(PIPELINED, &[2]));
    plant.ok(second, &[0]);
    plant.ok(first, &[1]);
    plant.end(&[2, 1]);
    plant.breaks(&[Check::H6]);
}

#[test]
fn h6_a_batch_is_in_one_piece() {
    let plant = Plant::new();
    let (one, other) = (plant.invoke(PLAIN, &[1, 3]), plant.invoke(PLAIN, &[2]));
    plant.ok(one, &[0, 2]);
    plant.ok(other, &[1]);
    plant.end(&[1, 2, 3]);
    plant.breaks(&[Check::H6]);
}

#[test]
fn h6_a_batch_is_stored_whole_or_not_at_all_and_seen_so() {
    let plant = Plant::new();
    let (records, expected) = (bodies(&[1, 2]), [Check::H6]);
    let mut append = Append::new("load".into(), PLAIN, records.iter().map(|(id, body)| (*id, hash(body.as_bytes()))).collect());
    append.partition = Some(0);
    let op = plant.log().append(append);
    plant.log().info(op);
    plant.end(&[1]);
    plant.breaks(&expected);

    let plant = Plant::new();
    let op = plant.invoke(PLAIN, &[1, 2]);
    plant.read(1, false, 0, &[(0, 1)], 1);
    plant.ok(op, &[0, 1]);
    plant.end(&[1, 2]);
    plant.breaks(&expected);
}

#[test]
fn h6_fewer_acknowledgements_than_records_are_found() {
    let plant = Plant::new();
    plant.send(PLAIN, &[1, 2], &[0]);
    plant.end(&[1, 2]);
    plant.breaks(&[Check::H6]);
}

#[test]
fn h6_a_key_stays_in_its_partition() {
    for (second, expected) in [(3, vec![]), (4, vec![Check::H6])] {
        let plant = Plant::new();
        for (seq, partition) in [(1, 3), (2, second)] {
            let mut append = Append::new("load".into(), PLAIN, vec![(id(seq), seq)]);
            append.keys = vec![77];
            let op = plant.log().append(append);
            plant.log().ok(op, vec![(partition, seq)]);
        }
        plant.breaks(&expected);
    }
}

#[test]
fn h7_a_reader_neither_skips_nor_steps_back() {
    let plant = Plant::new();
    plant.send(PLAIN, &[1, 2, 3], &[0, 1, 2]);
    plant.read(1, false, 0, &[(0, 1)], 3);
    plant.read(1, false, 2, &[(2, 3)], 3);
    plant.read(2, false, 1, &[(1, 2)], 3);
    plant.read(2, false, 1, &[(1, 2)], 3);
    plant.end(&[1, 2, 3]);
    assert_eq!(plant.breaks(&[Check::H7]).violations.len(), 2);
}

#[test]
fn h7_a_reader_whose_place_was_trimmed_goes_on_at_the_start() {
    let plant = Plant::new();
    plant.send(PLAIN, &[1, 2, 3], &[0, 1, 2]);
    plant.read(1, false, 0, &[], 3);
    let op = plant.log().ask(1, false, 0, 0);
    plant.tape.fail(op, Refusal::Trimmed { start: 2 });
    plant.read(1, false, 2, &[(2, 3)], 3);
    plant.breaks(&[]);
}

#[test]
fn h7_an_acknowledged_record_is_visible_to_whoever_asks_after_it() {
    let plant = Plant::new();
    let early = plant.log().ask(2, false, 0, 0);
    plant.send(PLAIN, &[1], &[0]);
    // Who asked before may miss it.
    plant.saw(early, &[], 0);
    plant.breaks(&[]);
    let plant = Plant::new();
    plant.send(PLAIN, &[1], &[0]);
    plant.read(1, false, 0, &[], 0);
    plant.end(&[1]);
    plant.breaks(&[Check::H7]);
}

#[test]
fn h7_a_reader_who_is_not_told_the_end_is_not_told_that_nothing_follows_and_still_sees_what_there_is() {
    for (value, right) in [(1, true), (2, false)] {
        let plant = Plant::new();
        for id in 1..=2 {
            plant.send(PLAIN, &[id], &[id - 1]);
        }
        let op = plant.log().ask(1, false, 0, 0);
        plant.log().saw(op, [(0, body(id(value), 3).as_bytes())], None);
        plant.read(1, false, 1, &[(1, 2)], 2);
        plant.end(&[1, 2]);
        let report = plant.report();
        assert_eq!(report.violations.is_empty(), right, "{:#?}", report.violations);
    }
}

#[test]
fn what_is_around_a_violation_is_shown_and_nothing_else() {
    let plant = Plant::bare();
    plant.send(PLAIN, &[1], &[0]);
    plant.tape.fault("kill", Some("gateway 1"));
    plant.send(PLAIN, &[2], &[1]);
    plant.end(&[1]);
    let history = plant.tape.take();
    let report = judge(&history);
    let lost = report.violations.iter().find(|violation| violation.check == Check::H1).unwrap();
    let around = context(&lost.subject, &history.events);
    assert_eq!(around.iter().map(|(line, _)| *line).collect::<Vec<_>>(), [3, 4, 5], "{around:?}");
    assert!(around[0].1.contains("gateway 1") && around[1].1.contains("\"ids\":[[1,2,1]]"), "{around:?}");
}

#[test]
fn h7_a_page_that_stops_before_the_end_it_was_told_says_nothing_of_what_lies_behind() {
    for (rows, expected) in [(&[(0, 1)][..], vec![]), (&[(0, 1), (1, 2)], vec![Check::H7])] {
        let plant = Plant::new();
        for id in 1..=3 {
            plant.send(PLAIN, &[id], &[id - 1]);
        }
        plant.read(1, false, 0, rows, 2);
        plant.end(&[1, 2, 3]);
        plant.breaks(&expected);
    }
}
