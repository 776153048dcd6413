//! The metadata service over real connections: what a client is told whatever becomes of connections, replicas and frames.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests may fail a test")]

#[path = "rpc/asks.rs"]
mod asks;
#[path = "rpc/compat.rs"]
mod compat;
#[path = "rpc/doubt.rs"]
mod doubt;
#[path = "rpc/hostile.rs"]
mod hostile;
#[path = "rpc/load.rs"]
mod load;
#[path = "rpc/news.rs"]
mod news;
#[path = "rpc/owners.rs"]
mod owners;
#[path = "rpc/proxy.rs"]
mod proxy;
#[path = "rpc/security.rs"]
mod security;
#[path = "rpc/stop.rs"]
mod stop;
#[path = "rpc/world.rs"]
mod world;
