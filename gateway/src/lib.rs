//! The gateway: everything between a protocol room and the stores. It gathers records into segments, uploads and commits
//! them, and reads them back through a cache. It keeps nothing that it could not lose: a gateway may die at any moment.

pub mod engine;
mod ingest;
pub mod listen;
pub mod metrics;
mod queues;
mod read;
mod remembered;
mod replays;
mod schemas;
mod sql;
mod topics;
mod trace;

pub use engine::{Engine, EngineConfig};
pub use queues::{Filters, Forged, Receipt, Receipts};
