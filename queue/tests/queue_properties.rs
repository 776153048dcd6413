//! Queues over random histories: a naive model of each message stands beside the ledger, and agrees with it after every
//! command, also after an owner died and another one went on from checkpoints and the journal.
//!
//! A failing case is shrunk and printed; its seed is printed and written next to this file. `PROPTEST_CASES` sets how many run.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests may fail a test")]

#[path = "queues/lab.rs"]
mod lab;
#[path = "queues/model.rs"]
mod model;
#[path = "queues/ops.rs"]
mod ops;
#[path = "common/store.rs"]
mod store;

use std::collections::BTreeSet;

use lab::Lab;
use ops::history;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{FileFailurePersistence, TestRunner};

fn config() -> ProptestConfig {
    let seeds = FileFailurePersistence::WithSource("regressions");
    ProptestConfig { failure_persistence: Some(Box::new(seeds)), max_shrink_iters: 20_000, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config())]

    /// Grants, outcomes and numbers are compared by the lab; here, that the state is the same byte for byte however it came about.
    #[test]
    fn l6_queues_are_what_a_naive_model_says_and_a_replay_yields_the_same_bytes(history in history(40)) {
        let lab = Lab::run(&history);
        prop_assert!(lab.ledger.snapshot() == lab.replayed().snapshot() || lab.reached.contains("recovered"));
        let rows = |mut ledger: lakefall_queue::ledger::Ledger| {
            let checkpoint = ledger.checkpoint();
            ledger.checkpointed(&checkpoint, 0);
            ledger.snapshot()
        };
        prop_assert!(rows(lab.replayed()) == rows(lab.recovered()), "L6: the recovered state differs");
    }
}

/// The properties would hold of histories in which nothing happens.
#[test]
fn random_histories_of_queues_reach_every_outcome() {
    let mut runner = TestRunner::deterministic();
    let mut reached = BTreeSet::new();
    for _ in 0..60 {
        reached.extend(Lab::run(&history(40).new_tree(&mut runner).unwrap().current()).reached);
    }
    let wanted = [
        "full",
        "repeated",
        "redelivered",
        "second block",
        "held back",
        "done",
        "extended",
        "expired",
        "unknown",
        "atom applied",
        "atom refused",
        "blocked",
        "delayed",
        "recovered",
    ];
    let missing: Vec<&str> = wanted.into_iter().filter(|name| !reached.contains(*name)).collect();
    assert!(missing.is_empty(), "never reached: {missing:?}; reached: {reached:?}");
}
