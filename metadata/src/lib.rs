//! The ledger made durable: commands are applied in groups, each group is one journal append, and a checkpoint writes the
//! state into ordinary tables in the background. Knows no bucket, no segment bytes and no protocol.

pub mod memory;
pub mod metrics;
pub mod node;
mod owner;
pub mod sqlite;
pub mod store;
mod supervisor;

pub use supervisor::rebuild;

pub use node::{Metadata, Node, NodeConfig, NoticeBatch};
pub use store::{ExtentScan, Lease, Loaded, MetadataStore, StoreError, WriterToken};
