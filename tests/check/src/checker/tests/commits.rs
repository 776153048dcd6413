//! H9.

use super::*;
use crate::history::{Append, CursorMove, OpId, Promise, Read, Run, Seen};

const BOTH: [&str; 2] = ["left", "right"];

impl Plant {
    /// Moves a cursor from one input to the next, with a record to each of two topics.
    fn commit(&self, seq: u64) -> OpId {
        let append = |topic: &str| Append::new(topic.into(), Promise { once: true, pipelined: false }, vec![(id(seq), seq)]);
        let change = CursorMove { cursor: "worker".into(), topic: "input".into(), offsets: vec![(0, seq + 1)] };
        self.tape.invoke(None, Call::Commit { appends: BOTH.map(append).into(), moves: vec![change], acks: Vec::new() })
    }

    fn committed(&self, op: OpId, offset: u64) {
        self.tape.ok(op, Answer::Committed(vec![vec![Run { partition: 0, first: offset, count: 1 }]; 2]));
    }

    fn whole(&self, topic: &str, seqs: &[u64]) {
        let read = Read { topic: topic.into(), reader: 9, last: true, seek: false, partition: 0, from: 0 };
        let op = self.tape.invoke(None, Call::Read(read));
        let rows: Vec<Seen> = seqs.iter().zip(0..).map(|(seq, offset)| Seen { offset, id: Some(id(*seq)), sum: *seq }).collect();
        self.tape.ok(op, Answer::Rows { end: rows.len() as u64, rows });
    }

    fn cursor(&self, last: bool, at: u64) {
        let op = self.tape.invoke(None, Call::Cursor { cursor: "worker".into(), topic: "input".into(), last });
        self.tape.ok(op, Answer::Positions(vec![(0, at)]));
    }
}

#[test]
fn h9_commits_that_happened_as_a_whole_or_not_at_all_pass() {
    let plant = Plant::new();
    let op = plant.commit(0);
    plant.committed(op, 0);
    plant.cursor(false, 1);
    let stored = plant.commit(1);
    plant.tape.info(stored);
    let refused = plant.commit(2);
    plant.tape.fail(refused, Refusal::Refused);
    let lost = plant.commit(3);
    plant.tape.info(lost);
    BOTH.iter().for_each(|topic| plant.whole(topic, &[0, 1]));
    plant.cursor(true, 2);
    assert_eq!(plant.breaks(&[]).examined_by(Check::H9), 6);
}

#[test]
fn h9_a_commit_of_which_one_topic_has_nothing_is_torn() {
    let plant = Plant::new();
    let op = plant.commit(0);
    plant.tape.info(op);
    plant.whole("left", &[0]);
    plant.whole("right", &[]);
    plant.breaks(&[Check::H9]);
}

#[test]
fn h9_a_cursor_moves_if_and_only_if_the_records_are_there() {
    for (at, there, expected) in [(1, true, vec![]), (0, true, vec![Check::H9]), (1, false, vec![Check::H9]), (0, false, vec![])] {
        let plant = Plant::new();
        let op = plant.commit(0);
        plant.tape.info(op);
        let seqs = if there { &[0][..] } else { &[] };
        BOTH.iter().for_each(|topic| plant.whole(topic, seqs));
        plant.cursor(true, at);
        plant.breaks(&expected);
    }
}

#[test]
fn h9_whoever_looks_after_a_commit_finds_the_cursor_moved() {
    let plant = Plant::new();
    let op = plant.commit(0);
    plant.committed(op, 0);
    plant.cursor(false, 0);
    plant.breaks(&[Check::H9]);
}

#[test]
fn h2_what_a_refused_commit_holds_is_not_there() {
    let plant = Plant::new();
    let op = plant.commit(0);
    plant.tape.fail(op, Refusal::Refused);
    BOTH.iter().for_each(|topic| plant.whole(topic, &[0]));
    plant.breaks(&[Check::H2]);
}
