//! Background work on what is stored: retention, and the collection of what nobody needs any more. Every step asks the
//! ledger first and may be repeated; nothing is ever deleted because a listing shows it, and nothing at all while the
//! metadata store seems to have gone back in time.

pub mod collector;
pub mod compaction;
pub mod mark;
pub mod metrics;
pub mod plan;
pub mod recover;
mod segments;

pub use collector::{CollectError, Collector, CollectorConfig};
pub use compaction::{Compactor, CompactorConfig};
