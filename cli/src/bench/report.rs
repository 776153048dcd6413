//! What a run is told as: a table for people, JSON for scripts.

use std::collections::BTreeMap;

use serde::Serialize;

use super::run::Usage;
use super::stats::{Quantiles, Stats};

/// A whole bench.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) runs: Vec<Run>,
    pub(super) bench: Usage,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) server: Option<Usage>,
    /// Of the server, for each million records of all runs together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) server_cpu_seconds_per_million: Option<f64>,
    pub(super) bench_cpu_seconds_per_million: Option<f64>,
    /// Journal entries, of a bench of metadata replicas alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) journal_groups_per_second: Option<f64>,
}

/// One kind of work within it.
#[derive(Debug, Serialize)]
pub(super) struct Run {
    pub(super) name: &'static str,
    pub(super) seconds: f64,
    pub(super) requests: u64,
    pub(super) records: u64,
    pub(super) bytes: u64,
    pub(super) requests_per_second: f64,
    pub(super) records_per_second: f64,
    /// Millions of bytes: of values when producing, of answers when consuming.
    pub(super) mb_per_second: f64,
    pub(super) errors: BTreeMap<String, u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) first_error: Option<String>,
    pub(super) latency: Quantiles,
}

impl Run {
    /// Names what was counted in so many seconds.
    pub(super) fn new(name: &'static str, seconds: f64, stats: Stats) -> Self {
        let per_second = |count: u64| if seconds > 0.0 { count as f64 / seconds } else { 0.0 };
        Self {
            name,
            seconds,
            requests: stats.requests,
            records: stats.records,
            bytes: stats.bytes,
            requests_per_second: per_second(stats.requests),
            records_per_second: per_second(stats.records),
            mb_per_second: per_second(stats.bytes) / 1e6,
            latency: stats.quantiles(),
            errors: stats.errors,
            first_error: stats.first_error,
        }
    }
}

impl Report {
    /// Puts runs and usage together.
    pub(super) fn new(runs: Vec<Run>, bench: Usage, server: Option<Usage>) -> Self {
        let records: u64 = runs.iter().map(|run| run.records).sum();
        let per_million = |seconds: f64| (records > 0).then(|| seconds / records as f64 * 1e6);
        Self {
            bench_cpu_seconds_per_million: per_million(bench.cpu_seconds),
            server_cpu_seconds_per_million: server.and_then(|server| per_million(server.cpu_seconds)),
            runs,
            bench,
            server,
            journal_groups_per_second: None,
        }
    }

    /// Requests that brought nothing, in all runs.
    pub(super) fn failed(&self) -> u64 {
        self.runs.iter().flat_map(|run| run.errors.values()).sum()
    }

    /// The table for people.
    pub(super) fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for run in &self.runs {
            run.lines(&mut lines);
        }
        if let Some(groups) = self.journal_groups_per_second {
            lines.push(format!("{:<12} {groups:.0} journal entries/s", "groups"));
        }
        lines.push(usage("bench", self.bench, self.bench_cpu_seconds_per_million));
        if let Some(server) = self.server {
            lines.push(usage("server", server, self.server_cpu_seconds_per_million));
        }
        lines
    }
}

impl Run {
    fn lines(&self, lines: &mut Vec<String>) {
        let latency = self.latency;
        lines.push(format!(
            "{:<12} {} records in {:.2} s: {:.0} records/s, {:.1} MB/s, {:.0} requests/s",
            self.name, self.records, self.seconds, self.records_per_second, self.mb_per_second, self.requests_per_second
        ));
        lines.push(format!(
            "{:<12} p50 {}  p90 {}  p99 {}  p99.9 {}  max {}",
            "  latency",
            millis(latency.p50_us),
            millis(latency.p90_us),
            millis(latency.p99_us),
            millis(latency.p999_us),
            millis(latency.max_us)
        ));
        for (class, count) in &self.errors {
            lines.push(format!("{:<12} {count} x {class}", "  errors"));
        }
        if let Some(error) = &self.first_error {
            lines.push(format!("{:<12} {error}", "  the first"));
        }
    }
}

fn millis(micros: u64) -> String {
    format!("{:.2} ms", micros as f64 / 1000.0)
}

fn usage(name: &str, usage: Usage, per_million: Option<f64>) -> String {
    let per_million = per_million.map(|seconds| format!(" ({seconds:.2} per million records)")).unwrap_or_default();
    format!("{name:<12} {:.2} CPU seconds{per_million}, peak memory {:.0} MiB", usage.cpu_seconds, usage.peak_rss_bytes as f64 / 1048576.0)
}
