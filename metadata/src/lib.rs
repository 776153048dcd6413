//! The ledger made durable: commands are applied in groups, each group is one journal append, and a checkpoint writes the
//! state into ordinary tables in the background. Knows no bucket, no segment bytes and no protocol.

mod attend;
mod checkpoints;
mod insist;
mod located;
mod look;
pub mod memory;
pub mod metrics;
mod news;
pub mod node;
mod owner;
mod peers;
pub mod placement;
pub mod postgres;
mod queues;
pub mod rpc;
mod slots;
pub mod sqlite;
pub mod store;
mod supervisor;
mod tenure;
mod usage;

pub use supervisor::rebuild;
pub use usage::{Account, Meter};

pub use node::{Followed, Metadata, News, Node, NodeConfig, NotDone, Roster};
pub use peers::{Membership, NoPeers, Peers};
pub use store::{ExtentScan, Holding, Identity, Lease, Loaded, MetadataStore, Replica, ReplicaId, Roll, StoreError, WriterToken};
