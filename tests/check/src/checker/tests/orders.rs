//! H8, through the header of a history.

use super::*;
use crate::history::{Append, Promise, Refusal, TopicFacts};

fn small(plant: &Plant) -> Report {
    let mut history = plant.tape.take();
    history.header.topics.insert("load".into(), TopicFacts { linearizable: true, ..TopicFacts::default() });
    judge(&history)
}

fn append(seq: u64, expect: Option<u64>) -> Append {
    let mut append = Append::new("load".into(), Promise::default(), vec![(id(seq), seq)]);
    (append.partition, append.expect) = (Some(0), expect);
    append
}

#[test]
fn h8_two_conditional_appends_of_which_one_wins_have_an_order_and_two_winners_have_none() {
    for (second, expected) in [(Err(1), vec![]), (Ok(1), vec![Check::H8]), (Err(0), vec![Check::H8])] {
        let plant = Plant::new();
        let (one, two) = (plant.log().append(append(1, Some(0))), plant.log().append(append(2, Some(0))));
        plant.log().ok(one, vec![(0, 0)]);
        match second {
            Ok(offset) => plant.log().ok(two, vec![(0, offset)]),
            Err(end) => plant.tape.fail(two, Refusal::Mismatch { end }),
        }
        let report = small(&plant);
        assert_eq!(report.broken(), expected, "{:?}", report.violations);
        assert_eq!(report.examined_by(Check::H8), 2);
    }
}

#[test]
fn what_no_model_can_be_asked_about_is_no_history_of_this_kind() {
    let plant = Plant::new();
    let mut nowhere = append(1, None);
    nowhere.partition = None;
    let op = plant.log().append(nowhere);
    plant.log().info(op);
    assert_eq!(small(&plant).broken(), [Check::Format]);
}
