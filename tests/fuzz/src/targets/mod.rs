//! The targets, one file each or for a few of a kind. Each answers whether the input was taken rather than refused, so that a
//! campaign knows that it got past the door.

mod arrow;
mod batch;
mod columns;
mod decompress;
mod filter;
mod history;
mod journal;
pub(crate) mod ledger;
mod parquet;
mod produce;
mod receipt;
mod records;
mod room;
mod routing;
mod rpc;
mod schema;
mod segment;
mod sql;

pub use self::arrow::http_arrow;
pub use self::batch::batch_decode;
pub use self::columns::json_columns;
pub use self::decompress::http_decompress;
pub use self::filter::filter_expression;
pub use self::history::history;
pub(crate) use self::journal::rows_as_input;
pub use self::journal::{journal_entry, ledger_rows};
pub use self::parquet::parquet_read;
pub use self::produce::http_produce;
pub use self::receipt::receipt;
pub(crate) use self::room::fixed;
pub use self::routing::routing_pattern;
pub use self::rpc::rpc_message;
pub use self::schema::{avro_schema, json_schema, protobuf_schema};
pub use self::segment::segment_decode;
pub use self::sql::sql_statement;

/// A function of bytes, and what a campaign needs to know of it.
#[derive(Clone, Copy)]
pub struct Target {
    /// Its name, as of its folders of inputs.
    pub name: &'static str,
    /// Panics where a promise is broken; else, whether the input was taken.
    pub run: fn(&[u8]) -> bool,
    /// Mutants of a short run: a few seconds in a debug build.
    pub executions: u64,
    /// Most bytes that an input of [`crate::LONGEST_INPUT`] may take in the thread that runs it.
    pub memory: u64,
}

const MIB: u64 = 1 << 20;

/// All targets.
pub const TARGETS: &[Target] = &[
    Target { name: "batch_decode", run: batch_decode, executions: 6_000, memory: 24 * MIB },
    Target { name: "segment_decode", run: segment_decode, executions: 3_000, memory: 96 * MIB },
    Target { name: "parquet_read", run: parquet_read, executions: 1_500, memory: 128 * MIB },
    Target { name: "http_produce", run: http_produce, executions: 1_500, memory: 16 * MIB },
    Target { name: "http_arrow", run: http_arrow, executions: 2_000, memory: 16 * MIB },
    Target { name: "http_decompress", run: http_decompress, executions: 800, memory: 48 * MIB },
    Target { name: "receipt", run: receipt, executions: 3_000, memory: MIB },
    Target { name: "routing_pattern", run: routing_pattern, executions: 6_000, memory: 4 * MIB },
    Target { name: "filter_expression", run: filter_expression, executions: 1_500, memory: 16 * MIB },
    Target { name: "json_schema", run: json_schema, executions: 1_000, memory: 32 * MIB },
    Target { name: "avro_schema", run: avro_schema, executions: 1_500, memory: 32 * MIB },
    Target { name: "protobuf_schema", run: protobuf_schema, executions: 1_000, memory: 32 * MIB },
    Target { name: "sql_statement", run: sql_statement, executions: 500, memory: 64 * MIB },
    Target { name: "journal_entry", run: journal_entry, executions: 3_000, memory: 32 * MIB },
    Target { name: "ledger_rows", run: ledger_rows, executions: 4_000, memory: 32 * MIB },
    Target { name: "rpc_message", run: rpc_message, executions: 6_000, memory: 16 * MIB },
    Target { name: "json_columns", run: json_columns, executions: 2_500, memory: 16 * MIB },
    Target { name: "history", run: history, executions: 1_500, memory: 16 * MIB },
];

/// The target of a name.
pub fn named(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}
