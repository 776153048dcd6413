//! The crate's tests against its public face; each file names the part that it covers.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "helpers of tests: what fails here is a failing test")]

mod batches;
mod buckets;
mod caches;
mod compacted;
mod decoders;
mod disks;
mod faults;
mod golden;
mod parquet_files;
mod parquet_forgeries;
mod parquet_typed;
mod real_s3;
mod samples;
mod segments;
mod stores;
mod stub;
