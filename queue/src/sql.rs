//! What a room must know of SQL: a statement, and its rows, which come encoded, in portions. What a statement means is told
//! elsewhere; here nothing is parsed.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use thiserror::Error as ThisError;

use crate::error::Result;
use crate::id::{Offset, PartitionIndex, TopicName};

/// Longest statement, in bytes.
pub const STATEMENT_BYTES: usize = 64 << 10;

/// A question in SQL. It only ever reads.
#[derive(Clone, Debug, PartialEq)]
pub struct Statement {
    /// One statement, at most [`STATEMENT_BYTES`] long.
    pub text: Arc<str>,
    /// What stands for `$1` or `$name` in it.
    pub parameters: Parameters,
    /// How rows are to be encoded.
    pub form: RowsForm,
    /// At most this many rows; the server has a bound of its own.
    pub max_rows: Option<u64>,
    /// From the call to the last row taken; the server has a bound of its own.
    pub timeout: Option<Duration>,
}

/// The values of a statement's placeholders.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Parameters {
    /// It has none.
    #[default]
    None,
    /// `$1`, `$2`, …
    Listed(Vec<Parameter>),
    /// `$name`.
    Named(Vec<(String, Parameter)>),
}

/// The value of a placeholder.
#[derive(Clone, Debug, PartialEq)]
pub enum Parameter {
    /// NULL.
    Null,
    /// A truth.
    Boolean(bool),
    /// A whole number.
    Integer(i64),
    /// Any other number.
    Float(f64),
    /// A text; also stands for times where one is compared with it.
    Text(String),
}

/// How rows are encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowsForm {
    /// Each row a JSON array, in the order of the columns. All portions together, with commas in between, are the items of one array.
    JsonRows,
    /// Each row a JSON object and a newline.
    Lines,
    /// RFC 4180, with a header line.
    Csv,
    /// One Arrow IPC stream.
    Arrow,
}

/// A column of an answer.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Column {
    /// Its name; no two columns have the same.
    pub name: String,
    /// Its type, as Arrow writes it.
    #[serde(rename = "type")]
    pub kind: String,
    /// Whether it may be null.
    pub nullable: bool,
}

/// Which records of a partition a statement saw: all from `log_start` on, and none from `end` on.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Watermark {
    /// The topic.
    pub topic: TopicName,
    /// The partition.
    pub partition: PartitionIndex,
    /// The oldest offset there was.
    pub log_start: Offset,
    /// The offset of the next record: whatever was acknowledged before the statement came is below it.
    pub end: Offset,
}

/// What a statement cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Statistics {
    /// Rows answered.
    pub rows: u64,
    /// There were more rows than asked for, or than a statement may answer.
    pub truncated: bool,
    /// Bytes fetched of objects, from the cache or the store.
    pub bytes_read: u64,
    /// Row groups of Parquet files that were read.
    pub row_groups_read: u64,
    /// Row groups that cannot hold what the statement asks for, and were passed over.
    pub row_groups_pruned: u64,
    /// Extents of records that are not in Parquet yet, and were read.
    pub extents_read: u64,
    /// Such extents that were passed over.
    pub extents_pruned: u64,
    /// Values that are not in typed columns, as they are no JSON objects or do not fit. Their fields were null.
    pub untyped: u64,
    /// Milliseconds from the call to the last row.
    pub elapsed_ms: u64,
}

/// Why a statement was refused.
#[derive(Clone, Debug, PartialEq, Eq, ThisError)]
pub enum SqlRefusal {
    /// It is wrong, or more than reading. Mend it.
    #[error("{reason}")]
    Invalid {
        /// What is wrong.
        reason: String,
        /// Line and column of the place, from 1, where it is known.
        place: Option<(u64, u64)>,
    },
    /// No such table. Name a topic of the namespace, or a system table.
    #[error("there is no table {table}{hint}")]
    TableNotFound {
        /// As it was named.
        table: String,
        /// What may help; empty, or begins with a colon.
        hint: String,
    },
    /// It needs more memory, or reads more, than a statement may. Ask for less.
    #[error("{reason}")]
    LimitExceeded {
        /// Which limit.
        reason: String,
    },
    /// It took longer than it may. Ask for less, or for more time.
    #[error("the statement was not done after {after:?}")]
    TimedOut {
        /// What it was given.
        after: Duration,
    },
}

/// The rows of a statement, as they are found. Dropping it ends the statement.
#[async_trait]
pub trait Rows: Send {
    /// What rows consist of.
    fn columns(&self) -> &[Column];

    /// Which records were seen, of every topic named.
    fn watermarks(&self) -> &[Watermark];

    /// The next portion of encoded rows; none at the end.
    ///
    /// Cancel-safe.
    async fn next(&mut self) -> Result<Option<Bytes>>;

    /// What it cost so far; in whole once [`Self::next`] answered none.
    fn statistics(&self) -> Statistics;
}
