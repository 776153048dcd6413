//! Names of the metrics of this crate.

/// Statements, by what became of them (`outcome`: `answered`, `refused`, `failed`, `dropped`).
pub const STATEMENTS: &str = "lakefall_sql_statements_total";
/// Seconds from a statement's call to its last row.
pub const SECONDS: &str = "lakefall_sql_seconds";
/// Statements that are being answered.
pub const RUNNING: &str = "lakefall_sql_running";
/// Statements that were sent away because as many as may were being answered.
pub const TURNED_AWAY: &str = "lakefall_sql_turned_away_total";
/// Bytes of objects that statements read.
pub const BYTES_READ: &str = "lakefall_sql_bytes_read_total";
/// Row groups that statements read (`what="read"`) or passed over by statistics (`what="pruned"`).
pub const ROW_GROUPS: &str = "lakefall_sql_row_groups_total";
