//! The metadata service in one process: what callers are told, what they may see, and what is stored, whatever the store does.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests may fail a test")]

mod support;

#[path = "node/checkpoints.rs"]
mod checkpoints;
#[path = "node/durability.rs"]
mod durability;
#[path = "node/located.rs"]
mod located;
#[path = "node/ownership.rs"]
mod ownership;
