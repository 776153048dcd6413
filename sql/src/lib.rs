//! Topics as tables: statements of SQL over Parquet files, segments and the live tail, in one snapshot of each topic that a
//! statement names. It only ever reads, knows neither stores nor the metadata service (a [`Source`] stands for both), and
//! never takes damaged bytes for rows.

mod columns;
mod encode;
mod engine;
mod files;
mod headers;
pub mod metrics;
mod pieces;
mod prune;
mod query;
mod refusal;
mod scan;
mod shore;
mod source;
mod statement;
mod system;
mod table;
mod typed;
mod widen;

pub use engine::{Sql, SqlConfig};
pub use source::{PartitionSnapshot, RecordPortions, Source, Stored, TopicSnapshot};
pub use statement::check_predicate;
