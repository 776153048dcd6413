//! Names of the metrics of this crate.

/// Partitions whose log start was raised because of their topic's retention.
pub const TRIMS: &str = "lakefall_collector_trims_total";
/// Extents below the log start that were let go of.
pub const RETIRED_EXTENTS: &str = "lakefall_collector_retired_extents_total";
/// Objects that nothing refers to and that still wait for the end of their grace, by the last round; label `shard`.
pub const RELEASED_OBJECTS: &str = "lakefall_collector_released_objects";
/// Objects deleted from the store.
pub const DELETED_OBJECTS: &str = "lakefall_collector_deleted_objects_total";
/// Rounds of the collector; label `outcome` (`ok`, `failed`).
pub const ROUNDS: &str = "lakefall_collector_rounds_total";
