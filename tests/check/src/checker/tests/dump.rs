//! W1 to W8.

use super::*;
use crate::history::{Dump, Read};

fn partition(end: u64) -> Dump {
    Dump::Partition { topic: "load".into(), partition: 0, log_start: 0, end, committed: Some(end) }
}

fn extent(first: u64, count: u64, object: &str) -> Dump {
    Dump::Extent { topic: "load".into(), partition: 0, first, count, object: object.into(), intact: true }
}

fn chain(after: &str) -> Dump {
    Dump::Chain { topic: "load".into(), partition: 0, first: 0, count: 2, before: "abc".into(), after: after.into() }
}

fn orphan(age_ms: u64) -> Dump {
    Dump::Orphan { object: "x".into(), age_ms, allowed_ms: 1_000 }
}

#[track_caller]
fn breaks(dumps: Vec<Dump>, expected: &[Check]) -> Report {
    let plant = Plant::new();
    dumps.into_iter().for_each(|dump| plant.tape.dump(dump));
    plant.breaks(expected)
}

#[test]
fn what_is_whole_behind_the_api_passes_and_every_check_has_looked_at_something() {
    let tombstone = Dump::Tombstone { object: "old".into() };
    let idle = Dump::IdleSession { idle_ms: 10 };
    let report = breaks(vec![partition(5), extent(2, 3, "b"), extent(0, 2, "a"), tombstone, orphan(10), chain("abc"), idle], &[]);
    for check in [Check::W1, Check::W2, Check::W3, Check::W4, Check::W6, Check::W7, Check::W8] {
        assert!(report.examined_by(check) > 0, "{check:?}");
    }
}

#[test]
fn w1_an_extent_without_its_bytes_is_found() {
    let broken = Dump::Extent { topic: "load".into(), partition: 0, first: 0, count: 5, object: "a".into(), intact: false };
    breaks(vec![partition(5), broken], &[Check::W1]);
}

#[test]
fn w2_an_offset_in_no_extent_or_in_two_is_found() {
    for extents in [vec![(0, 2), (3, 2)], vec![(0, 3), (2, 3)], vec![(1, 4)], vec![(0, 4)], vec![]] {
        let dumps = extents.into_iter().map(|(first, count)| extent(first, count, "a")).chain([partition(5)]);
        breaks(dumps.collect(), &[Check::W2]);
    }
}

#[test]
fn w3_an_orphan_older_than_the_grace_is_found() {
    breaks(vec![orphan(1_001)], &[Check::W3]);
}

#[test]
fn w4_a_range_that_rewriting_changed_is_found() {
    breaks(vec![chain("abd")], &[Check::W4]);
}

#[test]
fn w6_an_extent_in_an_object_that_may_be_deleted_is_found() {
    breaks(vec![partition(5), extent(0, 5, "a"), Dump::Tombstone { object: "a".into() }], &[Check::W6]);
}

#[test]
fn w7_ends_that_are_not_what_was_committed_or_read_are_found() {
    let wrong = Dump::Partition { topic: "load".into(), partition: 0, log_start: 0, end: 5, committed: Some(6) };
    breaks(vec![wrong, extent(0, 5, "a")], &[Check::W7]);
    let plant = Plant::new();
    let read = Read { topic: "load".into(), reader: 1, last: true, seek: false, partition: 0, from: 0 };
    let op = plant.tape.invoke(None, Call::Read(read));
    plant.tape.ok(op, Answer::Rows { rows: Vec::new(), end: 0 });
    [partition(5), extent(0, 5, "a")].into_iter().for_each(|dump| plant.tape.dump(dump));
    plant.breaks(&[Check::W7]);
}

#[test]
fn w8_a_session_that_stays_idle_in_a_transaction_is_found() {
    breaks(vec![Dump::IdleSession { idle_ms: 1_500 }], &[Check::W8]);
}
