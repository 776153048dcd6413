//! The bounds of every number in the configuration, and the rules between settings. One refusal lists all that is wrong.

use super::{Config, ConfigError};

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
/// Shortest key of receipts, in bytes.
const RECEIPT_KEY_BYTES: usize = 32;

/// Refuses a configuration with a setting out of bounds.
pub(super) fn check(config: &Config) -> Result<(), ConfigError> {
    let mut problems: Vec<String> = ranges(config)
        .into_iter()
        .filter(|(_, value, low, high)| value < low || value > high)
        .map(|(key, value, low, high)| format!("{key} is {value}: allowed is {low} to {high}"))
        .collect();
    problems.extend(config.limits.check().err());
    problems.extend(relations(config));
    problems.extend(urls(config));
    problems.extend(config.telemetry.problems());
    problems.extend(config.catalog.problems());
    if problems.is_empty() { Ok(()) } else { Err(ConfigError::OutOfBounds(problems)) }
}

/// Key, value, least, most.
pub(super) fn ranges(config: &Config) -> Vec<(&'static str, u64, u64, u64)> {
    let Config {
        store, metadata, segment, uploads, ingest, read, sql, cache, collector, compactor, catalog, usage, http, telemetry, ..
    } = config;
    vec![
        ("store.request_timeout_ms", store.request_timeout_ms, 100, 600_000),
        ("store.connect_timeout_ms", store.connect_timeout_ms, 100, 60_000),
        ("store.retry_budget", u64::from(store.retry_budget), 0, 10_000),
        ("store.hedge_percent", u64::from(store.hedge_percent), 0, 50),
        ("metadata.shards", u64::from(metadata.shards), 1, 1_024),
        ("metadata.lease_ms", metadata.lease_ms, 1_000, 60_000),
        ("metadata.deadline_ms", metadata.deadline_ms, 500, 120_000),
        ("metadata.postgres.max_connections", u64::from(metadata.postgres.max_connections), 2, 1_000),
        ("metadata.postgres.connect_timeout_ms", metadata.postgres.connect_timeout_ms, 100, 60_000),
        ("metadata.postgres.statement_timeout_ms", metadata.postgres.statement_timeout_ms, 100, 600_000),
        ("metadata.postgres.lock_timeout_ms", metadata.postgres.lock_timeout_ms, 100, 60_000),
        ("metadata.postgres.idle_timeout_ms", metadata.postgres.idle_timeout_ms, 100, 600_000),
        ("metadata.checkpoint_entries", metadata.checkpoint_entries, 1, 1_000_000),
        ("metadata.checkpoint_bytes", metadata.checkpoint_bytes, 64 * KIB, 4 * GIB),
        ("metadata.recent_extents", metadata.recent_extents as u64, 1, 100_000),
        ("segment.target_bytes", segment.target_bytes as u64, KIB, 256 * MIB),
        ("segment.put_burst", u64::from(segment.put_burst), 1, 100),
        ("segment.batch_bytes", segment.batch_bytes as u64, KIB, 16 * MIB),
        ("uploads.max", uploads.max as u64, 1, 256),
        ("uploads.eager", uploads.eager as u64, 1, uploads.max as u64),
        ("ingest.buffer_bytes", ingest.buffer_bytes as u64, MIB, 16 * GIB),
        ("ingest.admission_wait_ms", ingest.admission_wait_ms, 0, 60_000),
        ("read.buffer_bytes", read.buffer_bytes as u64, 16 * MIB, 64 * GIB),
        ("sql.max_concurrent", sql.max_concurrent as u64, 1, 1_000),
        ("sql.memory_bytes", sql.memory_bytes as u64, 16 * MIB, 64 * GIB),
        ("sql.timeout_ms", sql.timeout_ms, 100, 3_600_000),
        ("sql.max_rows", sql.max_rows, 1, 1_000_000_000_000),
        ("sql.threads", sql.threads as u64, 1, 256),
        ("cache.memory_bytes", cache.memory_bytes as u64, MIB, 256 * GIB),
        ("cache.cold_bytes", cache.cold_bytes as u64, MIB, 256 * GIB),
        ("cache.block_bytes", cache.block_bytes as u64, 64 * KIB, 16 * MIB),
        ("cache.disk_bytes", cache.disk_bytes, 64 * MIB, 16 << 40),
        ("collector.grace_seconds", collector.grace_seconds, 1, 2_592_000),
        ("collector.orphan_grace_seconds", collector.orphan_grace_seconds, 1, 2_592_000),
        ("collector.orphan_interval_seconds", collector.orphan_interval_seconds, 10, 2_592_000),
        ("collector.interval_seconds", collector.interval_seconds, 1, 86_400),
        ("compactor.threads", compactor.threads as u64, 1, 64),
        ("compactor.max_bytes_per_second", compactor.max_bytes_per_second.unwrap_or(MIB), 64 * KIB, 1 << 40),
        ("compactor.merge_interval_seconds", compactor.merge_interval_seconds, 1, 3_600),
        ("compactor.roll_bytes", compactor.roll_bytes, MIB, 256 * MIB),
        ("compactor.delete_retention_seconds", compactor.delete_retention_seconds, 0, 31_536_000),
        ("catalog.timeout_ms", catalog.timeout_ms, 100, 60_000),
        ("usage.report_interval_ms", usage.report_interval_ms, 100, 3_600_000),
        ("http.header_timeout_ms", http.header_timeout_ms, 100, 300_000),
        ("http.body_timeout_ms", http.body_timeout_ms, 100, 600_000),
        ("http.write_timeout_ms", http.write_timeout_ms, 100, 600_000),
        ("http.idle_timeout_ms", http.idle_timeout_ms, 1_000, 3_600_000),
        ("http.max_connections", http.max_connections as u64, 1, 1_000_000),
        ("http.drain_ms", http.drain_ms, 0, 600_000),
        ("http.idle_drain_ms", http.idle_drain_ms, 0, 60_000),
        ("http.connection_age_ms", http.connection_age_ms, 1_000, 86_400_000),
        ("telemetry.metrics_interval_ms", telemetry.metrics_interval_ms, 1_000, 3_600_000),
        ("telemetry.linger_ms", telemetry.linger_ms, 10, 60_000),
        ("telemetry.timeout_ms", telemetry.timeout_ms, 100, 60_000),
        ("telemetry.queue_items", telemetry.queue_items as u64, 16, 1_000_000),
    ]
}

/// What must hold between two settings.
fn relations(config: &Config) -> Vec<String> {
    let mut problems = Vec::new();
    let mut at_least = |key: &str, value: usize, other: &str, low: usize| {
        if value < low {
            problems.push(format!("{key} is {value}: it must hold at least {other}, which is {low}"));
        }
    };
    at_least("ingest.buffer_bytes", config.ingest.buffer_bytes, "limits.batch_bytes", config.limits.batch_bytes);
    at_least("limits.batch_bytes", config.limits.batch_bytes, "limits.value_bytes", config.limits.value_bytes);
    at_least("cache.memory_bytes", config.cache.memory_bytes, "cache.block_bytes", config.cache.block_bytes);
    at_least("cache.cold_bytes", config.cache.cold_bytes, "cache.block_bytes", config.cache.block_bytes);
    if let Some(rate) = config.segment.puts_per_second
        && !(0.01..=10_000.0).contains(&rate)
    {
        problems.push(format!("segment.puts_per_second is {rate}: allowed is 0.01 to 10000"));
    }
    for (one, other, what) in [
        (&config.metadata.token.is_some(), &config.metadata.token_file.is_some(), "metadata.token and metadata.token_file"),
        (
            &config.metadata.postgres.password.is_some(),
            &config.metadata.postgres.password_file.is_some(),
            "metadata.postgres.password and metadata.postgres.password_file",
        ),
        (&config.receipts.key.is_some(), &config.receipts.key_file.is_some(), "receipts.key and receipts.key_file"),
    ] {
        if *one && *other {
            problems.push(format!("{what} are both set: keep one"));
        }
    }
    let short = |key: &crate::Secret<String>| key.expose().len() < RECEIPT_KEY_BYTES;
    for (key, is_short) in [
        ("receipts.key", config.receipts.key.as_ref().is_some_and(short)),
        ("receipts.previous", config.receipts.previous.iter().any(short)),
    ] {
        if is_short {
            problems.push(format!("{key} has less than {RECEIPT_KEY_BYTES} bytes: make one with `openssl rand -hex 32`"));
        }
    }
    if config.metadata.tls.cert.is_some() != config.metadata.tls.key.is_some() {
        problems.push("metadata.tls.cert and metadata.tls.key belong together: set both or none".to_owned());
    }
    if config.listen == config.admin_listen && config.listen.port() != 0 {
        problems.push(format!("listen and admin_listen are both {}: give them two ports", config.listen));
    }
    problems
}

fn urls(config: &Config) -> Option<String> {
    let url = match config.store_url() {
        Ok(url) => url,
        Err(error) => return Some(error.to_string()),
    };
    match url.scheme() {
        "file" | "memory" | "s3" | "gs" | "az" => None,
        other => Some(format!("store.url has the scheme {other:?}: use file, memory, s3, gs or az")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_out_of_bounds_is_named_at_once() {
        let mut config = Config::default();
        config.segment.target_bytes = 1;
        config.uploads.eager = 17;
        config.segment.puts_per_second = Some(0.0);
        config.limits.partitions = 0;
        config.receipts.previous = vec![crate::Secret::new("short".into())];
        config.store.url = Some("ftp://x".into());
        let ConfigError::OutOfBounds(problems) = config.check().unwrap_err() else { panic!("another error") };
        let text = problems.join("\n");
        for key in
            ["segment.target_bytes", "uploads.eager", "segment.puts_per_second", "limits.partitions", "receipts.previous", "store.url"]
        {
            assert!(text.contains(key), "{key} is not in {text}");
        }
        assert_eq!(problems.len(), 6);
    }
}
