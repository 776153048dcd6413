//! Names of the metrics of this crate.

/// Partitions whose log start was raised because of their topic's retention.
pub const TRIMS: &str = "lakefall_collector_trims_total";
/// Extents below the log start that were let go of.
pub const RETIRED_EXTENTS: &str = "lakefall_collector_retired_extents_total";
/// Objects that nothing refers to and that still wait for the end of their grace, by the last round; label `shard`.
pub const RELEASED_OBJECTS: &str = "lakefall_collector_released_objects";
/// Objects deleted from the store after their last extent had gone.
pub const DELETED_OBJECTS: &str = "lakefall_collector_deleted_objects_total";
/// Rounds of the collector; label `outcome` (`ok`, `failed`).
pub const ROUNDS: &str = "lakefall_collector_rounds_total";

/// Objects that no ledger knows, older than the grace and not deleted, by the sweep under way or the last one.
pub const ORPHANS: &str = "lakefall_collector_orphans";
/// Their bytes.
pub const ORPHAN_BYTES: &str = "lakefall_collector_orphan_bytes";
/// Age of the oldest of them, in seconds by the ledger's time; 0 without any.
pub const ORPHAN_OLDEST_SECONDS: &str = "lakefall_collector_orphan_oldest_seconds";
/// Objects that no ledger knows and that are spared until an operator discards them, by the last sweep.
pub const SPARED_OBJECTS: &str = "lakefall_collector_spared_objects";
/// Keys among the segments that are not segments: never touched. By the last sweep.
pub const FOREIGN_KEYS: &str = "lakefall_collector_foreign_keys";
/// Orphans refused by every ledger and then deleted.
pub const SWEPT_OBJECTS: &str = "lakefall_collector_swept_objects_total";
/// Bytes of them.
pub const SWEPT_BYTES: &str = "lakefall_collector_swept_bytes_total";
/// Half-written files of killed processes, removed from a local store.
pub const STAGING_FILES: &str = "lakefall_collector_staging_files_total";
/// Sweeps; label `outcome` (`ok`, `failed`, `halted`).
pub const SWEEPS: &str = "lakefall_collector_sweeps_total";
/// When the last sweep ended, in seconds since 1970 by the ledger's time.
pub const LAST_SWEEP_SECONDS: &str = "lakefall_collector_last_sweep_timestamp_seconds";
/// 1 while nothing is deleted until an operator acts; label `reason` (`rewound`, `other_cluster`, `other_incarnation`,
/// `unreadable_mark`).
pub const HALTED: &str = "lakefall_collector_halted";

/// Bytes of extents in whose place others came; label `level`, that of the new ones (`merged`, `parquet`).
pub const BYTES_IN: &str = "lakefall_compactor_bytes_in_total";
/// Bytes of those that came; label `level`.
pub const BYTES_OUT: &str = "lakefall_compactor_bytes_out_total";
/// Objects written and swapped in; label `level`.
pub const FILES: &str = "lakefall_compactor_files_total";
/// Jobs; labels `kind` (`merge`, `partition`) and `outcome` (`ok`, `changed`, `gone`, `store`, `metadata`, `damaged`, `defect`).
pub const JOBS: &str = "lakefall_compactor_jobs_total";
/// Bytes that are not in Parquet files yet, by the last round.
pub const BACKLOG_BYTES: &str = "lakefall_compactor_backlog_bytes";
/// Age of the oldest of them, in seconds.
pub const BACKLOG_SECONDS: &str = "lakefall_compactor_backlog_seconds";
/// Extents that are still in segments of gateways, by the last round.
pub const BACKLOG_EXTENTS: &str = "lakefall_compactor_backlog_extents";
/// How long the backlog takes at the pace of the last jobs, in seconds; 0 as long as nothing was done.
pub const ETA_SECONDS: &str = "lakefall_compactor_eta_seconds";
/// Values that are not in the typed columns of the files written, as they are not JSON objects or do not fit.
pub const UNTYPED: &str = "lakefall_compactor_untyped_values_total";
/// Records that key compaction took out.
pub const CLEANED_RECORDS: &str = "lakefall_compactor_cleaned_records_total";
/// Partitions that this compactor put aside as their objects are damaged.
pub const ASIDE: &str = "lakefall_compactor_partitions_aside";
/// Publications of topics as Iceberg tables, by `outcome`: `ok`, `failed`.
pub const TABLES: &str = "lakefall_tables_published_total";
/// Attempts to bring a topic's table into the REST catalog, by `outcome`: `ok`, `away` (the catalog), `refused` (by it), `contended`,
/// `bucket` (whose metadata could not be read).
pub const TABLES_BROUGHT: &str = "lakefall_tables_committed_total";
/// Tables that the REST catalog is yet to be brought, of those that this compactor published.
pub const TABLES_WAITING: &str = "lakefall_tables_uncommitted";
