//! Mistakes in the ledger itself, planted one after the other: the models refute each of them. A process of its own, as what is
//! planted is planted for all of it.

use std::time::Duration;

use lakefall_model::commit::{self, Commits};
use lakefall_model::lease::{self, Leases};
use lakefall_model::refute;
use lakefall_model::swap::{LONG, Swaps};
use lakefall_queue::planted::{plant, reached, remove};

#[test]
fn mistakes_in_the_ledger_are_refuted() {
    let commits =
        Commits { rules: commit::Rules::Right, gateways: &[0, 1], faults: 2, takeovers: 1, sweeps: 0, checkpoints: 0, time: false };
    let swaps = Swaps {
        lease: Duration::from_secs(60),
        grace: Duration::from_secs(600),
        passes: 1,
        steps: &[LONG],
        compactors: 2,
        reads: false,
        refuses: true,
        dates: true,
    };
    let leases = Leases { rules: lease::Rules::Right, messages: 1, passes: 3, takeovers: 0, losses: 0, attempts: 2 };
    let never = "nothing happens that can never be right";
    let planted = |name: &str, refuted: &dyn Fn()| {
        assert!(plant(name), "{name}");
        refuted();
        assert!(reached() > 0, "{name} was never made");
        remove();
    };
    planted("repeated-commit-applied", &|| refute("repeated commit", commits, never));
    planted("swap-without-generation", &|| refute("swap without generation", swaps, "an object counts as many extents as lie in it"));
    planted("receipt-without-attempt", &|| refute("receipt without attempt", leases, never));
}
