//! Gateways and metadata replicas over a real Postgres and a real S3 server, from outside: killed, paused, cut off, lied to.
//! One binary, so that it is linked once; each file below tells one kind of trouble.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test fails where it stands, and tells what it saw"
)]

mod cluster {
    mod autoscaling;
    mod caches;
    mod clocks;
    mod failover;
    mod kill_points;
    mod pods;
    mod postgres;
    mod queues;
    mod recovery;
    mod reload;
    mod repeats;
    mod rolling;
    mod store;
    mod surroundings;
    mod takeover;
    mod telemetry;
    mod zombie;
}

/// What runs on `lakefall dev` runs on a cluster: the same files, with another thing behind `start`.
#[path = "system"]
mod smoke {
    mod bad_input;
    mod orders;
    mod restart;

    pub(crate) use lakefall_tests::Cluster as Subject;

    pub(crate) async fn start() -> Subject {
        Subject::start_default().await
    }
}
