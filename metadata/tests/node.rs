//! The metadata service in one process: what callers are told, what they may see, and what is stored, whatever the store does.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests may fail a test")]

mod support;

#[path = "node/checkpoints.rs"]
mod checkpoints;
#[path = "node/cluster.rs"]
mod cluster;
#[path = "node/durability.rs"]
mod durability;
#[path = "node/leases.rs"]
mod leases;
#[path = "node/located.rs"]
mod located;
#[path = "node/news.rs"]
mod news;
#[path = "node/ownership.rs"]
mod ownership;
#[path = "node/placement.rs"]
mod placement;
#[path = "node/queues.rs"]
mod queues;
#[path = "node/recovery.rs"]
mod recovery;
#[path = "node/weather.rs"]
mod weather;
