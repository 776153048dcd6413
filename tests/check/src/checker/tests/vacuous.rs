//! Histories that prove nothing, or make no sense.

use super::*;
use crate::history::{Expect, Promise, What};

fn one_record() -> Plant {
    let plant = Plant::bare();
    let log = plant.log();
    let op = log.invoke(Promise::default(), &bodies(&[1]));
    log.ok(op, vec![(0, 0)]);
    let op = log.ask(9, true, 0, 0);
    log.saw(op, [(0, body(id(1), 3).as_bytes())], 1);
    plant
}

#[track_caller]
fn refused(history: &History, expect: Expect, why: &str) {
    let report = check(history, expect);
    let found: Vec<_> = report.violations.iter().filter(|violation| violation.check == Check::Vacuous).collect();
    assert!(found.iter().any(|violation| violation.what.contains(why)), "{why}: {found:?}");
}

#[test]
fn a_run_that_proves_nothing_is_refused() {
    let empty = check(&History::default(), Demands::default());
    assert_eq!(empty.broken(), [Check::Vacuous]);
    let history = one_record().tape.take();
    assert_eq!(check(&history, Expect::default()).broken(), []);
    refused(&history, Expect { fault_count: 1, ..Default::default() }, "too few faults happened: 0 of 1");
    refused(&history, Expect { acked: 2, ..Default::default() }, "too little was acknowledged: 1 of 2");
    refused(&history, Expect { faults: ["kill".to_owned()].into(), ..Default::default() }, "\"kill\" never fired");
    refused(&history, Expect { checks: [Check::Q2].into(), ..Default::default() }, "Q2 looked at nothing");
}

#[test]
fn a_run_in_which_half_of_what_was_tried_while_nothing_was_broken_failed_is_refused() {
    let plant = one_record();
    let log = plant.log();
    plant.tape.calm(false);
    for seq in 10..20 {
        let op = log.invoke(Promise::default(), &bodies(&[seq]));
        log.fail(op);
    }
    plant.tape.calm(true);
    let op = log.ask(1, false, 0, 0);
    log.saw(op, [(0, body(id(1), 3).as_bytes())], 1);
    let mut history = plant.tape.take();
    let report = check(&history, Expect::default());
    assert_eq!((report.broken(), report.calm), (vec![], (1, 1)));
    history.events.iter_mut().for_each(|event| {
        if event.what == What::Calm(false) {
            event.what = What::Calm(true);
        }
    });
    refused(&history, Expect::default(), "only 1 of 11 operations");
}

#[test]
fn sends_that_fail_count_where_nobody_says_when_it_was_calm() {
    let plant = one_record();
    for seq in 10..13 {
        let op = plant.log().invoke(Promise::default(), &bodies(&[seq]));
        plant.log().info(op);
    }
    refused(&plant.tape.take(), Expect::default(), "only 1 of 4 operations");
}

#[test]
fn a_partition_that_nobody_read_at_the_end_is_told_of() {
    let plant = one_record();
    let op = plant.log().invoke(Promise::default(), &bodies(&[2]));
    plant.log().ok(op, vec![(1, 0)]);
    refused(&plant.tape.take(), Expect::default(), "load/1 was not read at the end");
}

#[test]
fn events_that_do_not_fit_together_are_no_history() {
    let plant = one_record();
    plant.log().info(77);
    assert_eq!(plant.breaks(&[Check::Format]).violations[0].what, "operation 77 ends, but was not invoked or has ended");
    let plant = one_record();
    let op = plant.log().ask(1, false, 0, 0);
    plant.log().ok(op, vec![]);
    plant.breaks(&[Check::Format]);
    let plant = one_record();
    let other = vec![(id(1), "another value".to_owned())];
    plant.log().invoke(Promise::default(), &other);
    plant.breaks(&[Check::Format]);
}
