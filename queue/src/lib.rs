//! The pure core of Lakefall: what a topic, a record, an offset and a caller are, the verbs that protocol rooms
//! call, and the ledger that orders everything.
//!
//! This crate does no I/O, reads no clock and draws no randomness: both come in through [`clock`].

// So that tests in here can use what the tests outside use.
#[cfg(test)]
extern crate self as lakefall_queue;

mod admission;
pub mod clock;
pub mod error;
mod fetched;
pub mod id;
pub mod ledger;
pub mod limits;
pub mod planted;
pub mod queue;
pub mod record;
pub mod replay;
pub mod schema;
pub mod sql;
pub mod time;
pub mod topic;
pub mod trace;
pub mod turn;
pub mod usage;
pub mod verbs;

pub use error::{Error, Outcome, Result};
pub use id::{
    BindingName, CursorName, NamespaceName, Offset, PartitionIndex, QueueId, QueueName, ReplayName, SegmentId, ShardId, SubjectName,
    TopicId, TopicName,
};
pub use ledger::object_key;
pub use record::{Header, Properties, Record, StoredRecord, ValueKind};
pub use time::Timestamp;
pub use trace::TraceContext;
