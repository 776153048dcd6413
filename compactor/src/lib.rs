//! Background work on what is stored: retention, and the collection of what nobody needs any more. Every step asks the
//! ledger first and may be repeated; nothing is ever deleted because a listing shows it.

pub mod collector;
pub mod metrics;
pub mod plan;

pub use collector::{Collector, CollectorConfig};
