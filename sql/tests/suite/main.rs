//! Statements over topics that are held in memory: partly as Parquet files, partly as records.

#![allow(clippy::unwrap_used, clippy::panic, reason = "test helpers: a failure here is the test's")]

mod damage;
mod forms;
mod heap;
mod limits;
mod pruning;
mod refusals;
mod rows;
