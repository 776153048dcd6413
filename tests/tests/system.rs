//! The real executable, from outside: killed, stopped, filled up, starved and lied to. One binary, so that it is linked
//! once; each file below tells one kind of trouble.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test fails where it stands, and tells what it saw"
)]

mod system {
    mod bad_input;
    mod bad_queue_input;
    mod bad_wire;
    mod cli;
    mod examples;
    mod flights;
    mod full_disk;
    mod idle;
    mod idle_tails;
    mod kill_nine;
    mod orders;
    mod queue_kill_nine;
    mod queue_restart;
    mod queue_wake;
    mod replay_kill_nine;
    mod restart;
    mod schemas;
    mod second_server;
    mod sigterm;
    mod slow_client;
    mod sql;
    mod tables;
    mod telemetry;
    mod upgrade;
    mod usage;

    /// What the tests that also run on a cluster start (see `cluster.rs`).
    pub(crate) use lakefall_tests::Server as Subject;

    pub(crate) async fn start() -> Subject {
        Subject::start_default().await
    }

    /// Taken by tests that load the machine, so that they do not slow each other beyond their deadlines.
    pub(crate) async fn machine() -> tokio::sync::MutexGuard<'static, ()> {
        static MACHINE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
        MACHINE.lock().await
    }
}
