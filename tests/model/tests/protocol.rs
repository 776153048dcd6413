//! The protocol holds under every order of events within the bounds, and each wrong rule is refuted.

use std::time::Duration;

use lakefall_model::commit::{self, Commits};
use lakefall_model::lease::{self, Leases};
use lakefall_model::swap::{LATE, LONG, SHORT, Swaps};
use lakefall_model::{check, refute};

const COMMITS: Commits =
    Commits { rules: commit::Rules::Right, gateways: &[0, 1], faults: 2, takeovers: 2, sweeps: 1, checkpoints: 0, time: false };
const CHECKPOINTED: Commits = Commits { sweeps: 0, checkpoints: 1, ..COMMITS };
const SWAPS: Swaps = Swaps {
    lease: Duration::from_secs(60),
    grace: Duration::from_secs(600),
    passes: 1,
    steps: &[LONG],
    compactors: 2,
    reads: false,
    refuses: true,
    dates: true,
};
const READ: Swaps = Swaps { passes: 2, steps: &[SHORT, LATE, LONG], compactors: 1, reads: true, ..SWAPS };
const LEASES: Leases = Leases { rules: lease::Rules::Right, messages: 1, passes: 4, takeovers: 2, losses: 1, attempts: 3 };

/// In what a commit must never end.
const LOST: &str = "what was acknowledged is in the log, where it was said to be, and its object is stored";
const DANGLING: &str = "an object that the log refers to is stored";
const NOT_APPLIED: &str = "what is told not to be applied is not in the log";
const NEVER: &str = "nothing happens that can never be right";

#[test]
fn no_acknowledged_record_is_lost_whatever_becomes_of_owners_appends_and_sweeps() {
    check("commit, journal, takeover, sweep", COMMITS);
}

#[test]
fn no_acknowledged_record_is_lost_when_refusals_are_forgotten() {
    check("commit, sweep, forgetting", Commits { faults: 1, takeovers: 1, time: true, ..COMMITS });
}

#[test]
fn no_acknowledged_record_is_lost_when_a_checkpoint_empties_the_journal() {
    check("commit, journal, takeover, checkpoint", CHECKPOINTED);
}

#[test]
fn three_segments_of_two_gateways_keep_their_offsets() {
    check("three segments", Commits { gateways: &[0, 0, 1], faults: 1, takeovers: 1, ..COMMITS });
}

#[test]
fn no_object_that_is_needed_is_deleted_whatever_compactors_and_collectors_do() {
    check("swaps, retention, collector, sweeper", SWAPS);
}

#[test]
fn no_object_that_a_reader_located_is_deleted_within_its_lease() {
    check("swap, retention, collector, sweeper, reader", READ);
}

#[test]
fn a_message_is_leased_to_one_at_a_time_and_finished_by_nobody_else() {
    check("lease, ack, takeover", LEASES);
}

#[test]
fn an_append_in_doubt_must_not_be_settled_by_looking() {
    refute("look instead of write", Commits { rules: commit::Rules::Look, sweeps: 0, ..COMMITS }, LOST);
}

#[test]
fn an_orphan_must_not_be_deleted_before_it_is_refused() {
    refute("sweep without refusal", Commits { rules: commit::Rules::SweepUnrefused, ..COMMITS }, DANGLING);
}

#[test]
fn nothing_must_be_answered_before_its_entry_is_durable() {
    refute("answer before the append", Commits { rules: commit::Rules::AnswerEarly, ..COMMITS }, LOST);
}

#[test]
fn entries_of_a_former_reign_must_be_refused() {
    refute("any epoch", Commits { rules: commit::Rules::AnyEpoch, ..CHECKPOINTED }, LOST);
}

#[test]
fn an_owner_that_is_fenced_after_a_doubt_must_not_say_that_nothing_was_applied() {
    refute("fenced is never", Commits { rules: commit::Rules::FencedIsNever, ..CHECKPOINTED }, NOT_APPLIED);
}

#[test]
fn an_owner_whose_append_was_refused_must_drop_its_state() {
    refute("owner goes on", Commits { rules: commit::Rules::GoOn, ..COMMITS }, NEVER);
}

#[test]
fn a_compactors_object_must_not_be_deleted_before_it_is_refused() {
    let stored = "each record that was not let go of is in one stored object, where the log says";
    refute("sweep of a compactor's object", Swaps { refuses: false, ..SWAPS }, stored);
}

#[test]
fn extents_must_not_be_let_go_of_as_they_were_before_others_took_their_place() {
    refute("retire at any generation", Swaps { dates: false, ..SWAPS }, "an object counts as many extents as lie in it");
}

#[test]
fn an_object_must_outlive_what_readers_were_told() {
    let told = "what a reader was told within its lease is stored";
    refute("grace below the lease", Swaps { lease: LONG + SHORT, ..READ }, told);
}

#[test]
fn leases_must_not_go_by_the_owners_own_clocks() {
    refute("own clock", Leases { rules: lease::Rules::OwnClock, ..LEASES }, NEVER);
}

#[test]
fn leases_must_not_be_told_before_their_entry_is_durable() {
    refute("lease before its entry", Leases { rules: lease::Rules::AnswerEarly, ..LEASES }, NEVER);
}
