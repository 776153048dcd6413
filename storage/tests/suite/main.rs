//! The crate's tests against its public face; each file names the part that it covers.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests: what fails here is a failing test")]

mod batches;
mod caches;
mod decoders;
mod golden;
mod samples;
mod segments;
mod stores;
