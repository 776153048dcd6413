//! What clients saw, written down, and its judge. Must never use a crate of Lakefall, read a clock that it was not given, or
//! answer in an order that chance decides: simulations record with it as well as real clients.
#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails where it stands, and tells what it saw")
)]

pub mod checker;
pub mod clock;
pub mod file;
pub mod generate;
pub mod history;
pub mod linearizable;
pub mod queues;
pub mod report;
