//! The ledger's invariants over random histories: every property is named after the invariant it proves. The lab compares
//! with the model after each command, so each property also proves that the two agree.
//!
//! A failing case is shrunk and printed; its seed is printed and written next to this file. `PROPTEST_CASES` sets how many run.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests may fail a test")]

mod common;

use std::collections::BTreeSet;

use common::lab::{Lab, SHARD};
use common::model::Fate;
use common::ops::history;
use lakefall_queue::Timestamp;
use lakefall_queue::id::Epoch;
use lakefall_queue::ledger::{Command, JournalEntry, Ledger, Refusal, Reply, SliceOutcome};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{FileFailurePersistence, TestRunner};

fn config() -> ProptestConfig {
    let seeds = FileFailurePersistence::WithSource("regressions");
    ProptestConfig { failure_persistence: Some(Box::new(seeds)), max_shrink_iters: 20_000, ..ProptestConfig::default() }
}

/// The whole state without extents: what is in memory differs with what was evicted.
fn rows(mut ledger: Ledger) -> Vec<u8> {
    let checkpoint = ledger.checkpoint();
    ledger.checkpointed(&checkpoint, 0);
    ledger.snapshot()
}

proptest! {
    #![proptest_config(config())]

    /// The lab asserts the density of extents, in memory and in the store; here the sums are taken once more at the end,
    /// and slices of one partition lie in the order in which the segment holds them.
    #[test]
    fn l2_offsets_are_dense_and_a_refused_slice_takes_none(history in history(40)) {
        let lab = Lab::run(&history);
        for ((topic, partition), records) in &lab.stored {
            let end = lab.ledger.partition(*topic, *partition).map(|p| p.end().0);
            prop_assert!(end.is_none_or(|end| end == *records));
        }
        let mut seen = BTreeSet::new();
        for commit in &lab.commits {
            // What comes under the id of an earlier segment is an impostor.
            let first = seen.insert(commit.segment);
            let Some(Fate::Committed { reply, .. }) = lab.model.fates.get(&commit.segment).filter(|_| first) else { continue };
            let mut outcomes = reply.slices.iter();
            for extent in &commit.extents {
                let stored = outcomes.by_ref().take(extent.slices.len()).filter_map(|outcome| match outcome {
                    SliceOutcome::Stored(base) => Some(*base),
                    _ => None,
                });
                let stored: Vec<_> = stored.collect();
                prop_assert!(stored.is_sorted(), "{stored:?} in {extent:?}");
            }
        }
    }

    #[test]
    fn l3_a_repeated_commit_gets_the_first_answer_and_changes_nothing(history in history(40)) {
        let mut lab = Lab::run(&history);
        let before = lab.ledger.snapshot();
        let now = lab.ledger.group_time(Timestamp::default());
        for commit in lab.commits.clone() {
            let Some(fate) = lab.model.fates.get(&commit.segment).cloned() else { continue };
            let applied = lab.ledger.apply(&Command::Commit(commit), now);
            prop_assert!(!applied.changed);
            match (fate, applied.reply) {
                (Fate::Committed { reply, .. }, Ok(Reply::Committed(again))) => prop_assert_eq!(&*again, &reply),
                (Fate::Committed { .. }, Err(error)) => prop_assert_eq!(error.outcome(), lakefall_queue::Outcome::Unknown),
                (Fate::Refused { .. }, Ok(Reply::Committed(again))) => {
                    prop_assert!(again.slices.iter().all(|s| *s == SliceOutcome::Refused(Refusal::SegmentRefused)));
                }
                (fate, reply) => prop_assert!(false, "{fate:?} was answered {reply:?}"),
            }
        }
        prop_assert!(before == lab.ledger.snapshot());
    }

    /// Whatever the owner is: the one that refused it, one that replayed, one that recovered; now, and years later.
    #[test]
    fn l5_a_refused_segment_never_commits_later(history in history(40), later_ms in prop_oneof![Just(0_i64), 0..1_000_000_000_000_i64]) {
        let lab = Lab::run(&history);
        let refused = |id: &_| matches!(lab.model.fates.get(id), Some(Fate::Refused { .. }));
        let mut late: Vec<_> = lab.commits.iter().filter(|commit| refused(&commit.segment)).cloned().collect();
        if let Some(shape) = lab.commits.last() {
            let swept = lab.refused.iter().map(|id| lakefall_queue::ledger::SegmentCommit { segment: *id, ..shape.clone() });
            late.extend(swept);
        }
        for mut owner in [lab.replayed(), lab.recovered()] {
            let now = owner.group_time(Timestamp::from_millis(lab.model.time + later_ms));
            let all: Vec<_> = late.iter().map(|commit| commit.segment).collect();
            // Even when the collector forgot it in the meantime.
            owner.seal(Epoch(1_000), now, Vec::new());
            let _ = owner.apply(&Command::ForgetObjects { objects: all }, now);
            for commit in &late {
                let applied = owner.apply(&Command::Commit(commit.clone()), now);
                let Ok(Reply::Committed(reply)) = applied.reply else { panic!("L5: {:?}", applied.reply) };
                let refused = SliceOutcome::Refused(Refusal::SegmentRefused);
                prop_assert!(reply.slices.iter().all(|s| *s == refused), "L5: {:?} was committed: {:?}", commit, reply);
            }
        }
    }

    #[test]
    fn l6_replaying_the_journal_yields_byte_identical_state(history in history(40)) {
        let lab = Lab::run(&history);
        let mut replayed = lab.replayed();
        prop_assert_eq!(replayed.seq(), lab.ledger.seq());
        prop_assert_eq!(rows(lab.replayed()), rows(lab.recovered()));
        prop_assert!(replayed.snapshot() == lab.replayed().snapshot());
        prop_assert!(replayed.take_notices().is_empty());
        let mut unevicted = Lab::new();
        for group in &history {
            unevicted.group(&common::ops::GroupOp { checkpoint: common::ops::CheckpointOp::Nothing, ..group.clone() });
        }
        prop_assert!(unevicted.ledger.snapshot() == lab.replayed().snapshot(), "L6: the replayed state differs");
        for bytes in &lab.journal {
            prop_assert_eq!(&JournalEntry::decode(bytes).unwrap().encode(), bytes);
        }
    }

    /// The store may hold any checkpoint that landed, with later ones lost or under way.
    #[test]
    fn l6b_a_ledger_restored_from_checkpoints_and_the_tail_equals_the_full_replay(history in history(40)) {
        let mut lab = Lab::new();
        for (at, group) in history.iter().enumerate() {
            lab.group(group);
            if at % 8 != 7 && at + 1 != history.len() {
                continue;
            }
            let (mut full, mut recovered) = (lab.replayed(), lab.recovered());
            let mut store = lab.store.clone();
            let rest = recovered.checkpoint();
            store.write(&rest);
            recovered.checkpointed(&rest, 0);
            let whole = full.checkpoint();
            let mut complete = common::store::Store::default();
            complete.write(&whole);
            full.checkpointed(&whole, 0);
            prop_assert_eq!(&store.rows, &complete.rows);
            prop_assert_eq!(&store.extents, &complete.extents);
            prop_assert!(recovered.snapshot() == full.snapshot());
        }
    }

    /// What the owners answer does not depend on how they came to their state.
    #[test]
    fn l6c_a_recovered_owner_answers_as_the_old_one_would(history in history(30), more in history(6)) {
        let lab = Lab::run(&history);
        let mut successor = Lab::run(&history);
        successor.ledger = lab.recovered();
        for group in &more {
            // The lab compares every answer with the model.
            successor.group(&common::ops::GroupOp { checkpoint: common::ops::CheckpointOp::Nothing, ..group.clone() });
        }
    }

    #[test]
    fn l7_time_never_goes_back_whatever_the_clocks_do(history in history(40)) {
        let lab = Lab::run(&history);
        prop_assert!(lab.times.is_sorted());
        let highest = lab.times.last().copied().unwrap_or_default();
        prop_assert_eq!(lab.recovered().group_time(Timestamp::from_millis(0)), highest);
        // An entry that goes back is refused.
        let mut ledger = lab.replayed();
        let back = JournalEntry {
            shard: SHARD,
            seq: lakefall_queue::id::JournalSeq(ledger.seq().0 + 1),
            epoch: ledger.epoch(),
            time: Timestamp::from_millis(highest.as_millis() - 1),
            commands: Vec::new(),
        };
        prop_assert!(ledger.replay(&back).is_err());
    }
}

/// The properties would hold of histories in which nothing happens.
#[test]
fn random_histories_reach_every_outcome() {
    let mut runner = TestRunner::deterministic();
    let mut reached = BTreeSet::new();
    for _ in 0..150 {
        reached.extend(Lab::run(&history(40).new_tree(&mut runner).unwrap().current()).reached);
    }
    let wanted = [
        "Stored",
        "Duplicate",
        "Applied",
        "Replayed",
        "TopicGone",
        "OffsetMismatch",
        "Fenced",
        "ProducerFenced",
        "SequenceGap",
        "Deduplicated",
        "Atom",
        "IdempotencyConflict",
        "CursorVersion",
        "CursorOffset",
        "SegmentRefused",
        "Forgotten",
        "retired",
        "retire refused",
        "retire refused after a swap",
        "partition finished",
        "evicted",
        "forgotten objects",
        "checkpoint failed",
        "clock went back",
        "repeated",
        "merged",
        "rolled",
        "rewritten",
        "overlaid",
        "inspected before the checkpoint of a swap",
        "swap repeated",
        "ExtentsChanged",
    ];
    let missing: Vec<&str> = wanted.into_iter().filter(|name| !reached.contains(*name)).collect();
    assert!(missing.is_empty(), "never reached: {missing:?}; reached: {reached:?}");
}
