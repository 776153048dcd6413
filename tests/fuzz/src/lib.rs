//! Everything that takes bytes from strangers, each as a function of bytes that panics where a promise is broken: the targets.
//! libFuzzer runs them guided by coverage (`fuzz/`), and [`Campaign`] on the stable compiler with every `cargo test`. Must
//! never reach into a crate by another way than its own users do.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "only tests use it: a target panics where a promise is broken, and that is what it is for"
)]

mod campaign;
pub mod files;
mod mutate;
pub mod seeds;
pub mod targets;

pub use campaign::{Campaign, Measure, Report};
pub use targets::{TARGETS, Target};

/// Longest input that [`Campaign`] makes, and that the bounds of time and memory hold for, in bytes.
pub const LONGEST_INPUT: usize = 32 << 10;
