//! The engine over a metadata node and an object store that fail on demand, all in this process.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "helpers of tests, not only tests, may fail at once"
)]

mod support;

mod engine {
    mod acks;
    mod atomic;
    mod columns;
    mod commits;
    mod damage;
    mod dead_letters;
    mod dedup;
    mod idempotence;
    mod limits;
    mod listen;
    mod locations;
    mod outages;
    mod queue_commits;
    mod queue_filters;
    mod queues;
    mod reads;
    mod replays;
    mod request_reply;
    mod room;
    mod rpc;
    mod schemas;
    mod sql;
    mod streams;
    mod tails;
    mod topics;
    mod uploads;
    mod usage;
    mod waits;
}
