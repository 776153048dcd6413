//! Names of the metrics of this crate.

/// Times that settings were read again; label `outcome` (`taken`, `unchanged`, `refused`).
pub const RELOADS: &str = "lakefall_config_reloads_total";
/// 1 while what the settings come from holds something that was refused: the process goes on with those before.
pub const REFUSED: &str = "lakefall_config_refused";
/// Settings that were changed where they come from, and that hold from the next start on.
pub const WAITING: &str = "lakefall_config_settings_waiting";
