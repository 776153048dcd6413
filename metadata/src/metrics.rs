//! Names of the metrics of this crate.

/// Journal appends (groups), by shard owner.
pub const GROUPS: &str = "lakefall_metadata_groups_total";
/// Commands in a group.
pub const GROUP_COMMANDS: &str = "lakefall_metadata_group_commands";
/// Bytes of journal entries.
pub const JOURNAL_BYTES: &str = "lakefall_metadata_journal_bytes_total";
/// Seconds that an append took.
pub const APPEND_SECONDS: &str = "lakefall_metadata_append_seconds";
/// Appends that had to be written again to learn whether they happened.
pub const APPENDS_REPEATED: &str = "lakefall_metadata_appends_repeated_total";
/// Checkpoints written.
pub const CHECKPOINTS: &str = "lakefall_metadata_checkpoints_total";
/// Seconds that a checkpoint took.
pub const CHECKPOINT_SECONDS: &str = "lakefall_metadata_checkpoint_seconds";
/// Times that an owner let go of a shard because it was unsure of it.
pub const STEP_DOWNS: &str = "lakefall_metadata_step_downs_total";
