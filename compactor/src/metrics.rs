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
