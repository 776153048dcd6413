//! What the system tests stand on: the real executable as a child process, a small HTTP client, raw sockets, and
//! the loads whose histories `lakefall-check` judges. Must never use a crate of Lakefall: tests see what users see.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "only tests use it: a test fails where it stands, and tells what it saw"
)]

pub mod chaos;
pub mod chart;
pub mod client;
pub mod clocks;
pub mod cluster;
pub mod dice;
pub mod disk;
pub mod hpa;
pub mod load;
pub mod manners;
pub mod place;
pub mod process;
pub mod queues;
pub mod raw;
pub mod rows;
pub mod server;
pub mod small;
pub mod telemetry;
pub mod verdict;

pub use lakefall_check::{checker, history};

pub use client::{Answer, Client, Row};
pub use cluster::Cluster;
pub use server::{Options, Server};
