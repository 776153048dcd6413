//! Tests of what the other tests stand on: that the servers are honest and go with their handles, and that each harm of
//! the proxies is done, counted, and undone.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests may fail a test")]

mod common;
mod http_faults;
mod postgres;
mod proxy;
mod s3;
