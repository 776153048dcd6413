//! Queues as clients see them: calls, a load of senders and receivers, the history of what they saw, and its judge. Must never
//! use a crate of Lakefall.

pub mod calls;
pub mod consumer;
pub mod effects;
pub mod load;
pub mod producer;
pub mod verdict;
pub mod waiting;

pub use lakefall_check::queues::{checker, history};

pub use calls::{Message, Queue};
