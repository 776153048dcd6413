//! Names of the metrics of this crate.

/// Times that settings were read again; label `outcome` (`taken`, `unchanged`, `refused`).
pub const RELOADS: &str = "lakefall_config_reloads_total";
/// 1 while what the settings come from holds something that was refused: the process goes on with those before.
pub const REFUSED: &str = "lakefall_config_refused";
/// Settings that were changed where they come from, and that hold from the next start on.
pub const WAITING: &str = "lakefall_config_settings_waiting";
/// Spans, log records and metric points that a collector took, by `signal` (`traces`, `metrics`, `logs`).
pub const TELEMETRY_SENT: &str = "lakefall_telemetry_sent_total";
/// Spans, log records and metric points that no collector got, by `signal` and `reason`: `full` (too many waited), `stopped` (the
/// process was about to end), `failed` (the collector was not reached), `refused` (it does not take them).
pub const TELEMETRY_DROPPED: &str = "lakefall_telemetry_dropped_total";
