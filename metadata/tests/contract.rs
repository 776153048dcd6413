//! What every metadata store must do, as one suite that runs on each of them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests may fail a test")]

#[path = "support/fixtures.rs"]
mod fixtures;

/// The ledger's own library of random histories.
#[allow(dead_code, reason = "the ledger's tests use the rest of it")]
#[path = "../../queue/tests/common/mod.rs"]
mod common;

#[path = "contract/suite.rs"]
mod suite;

#[path = "contract/bench.rs"]
mod bench;
#[path = "contract/checkpoints.rs"]
mod checkpoints;
#[path = "contract/extents.rs"]
mod extents;
#[path = "contract/journal.rs"]
mod journal;
#[path = "contract/leases.rs"]
mod leases;
#[path = "contract/postgres/mod.rs"]
mod postgres;
#[path = "contract/queues.rs"]
mod queues;
#[path = "contract/random.rs"]
mod random;
#[path = "contract/schemas.rs"]
mod schemas;
#[path = "contract/sqlite.rs"]
mod sqlite;
#[path = "contract/usage.rs"]
mod usage;
