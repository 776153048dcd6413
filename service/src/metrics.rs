//! Names of the metrics of this crate.

/// Spans, log records and metric points that a collector took, by `signal` (`traces`, `metrics`, `logs`).
pub const TELEMETRY_SENT: &str = "lakefall_telemetry_sent_total";
/// Spans, log records and metric points that no collector got, by `signal` and `reason`: `full` (too many waited), `failed` (the
/// collector was not reached), `refused` (it does not take them).
pub const TELEMETRY_DROPPED: &str = "lakefall_telemetry_dropped_total";
