//! Lakefall's bytes: how records become batches, batches become segments, and segments live in object stores and are
//! read back through a cache.
//!
//! This crate knows nothing of topics' names, offsets' order or who may read what: that is the ledger's and the
//! gateway's. It must never decide that damaged bytes are good enough: they are an error, always.

pub mod batch;
pub mod bucket;
pub mod cache;
pub mod meter;
pub mod metrics;
pub mod parquet;
pub mod segment;
pub mod store;
