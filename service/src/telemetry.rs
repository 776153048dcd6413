//! Logs and metrics of the process. Installed once, by the role; must never wake an idle process more than once in ten
//! seconds.

use std::fmt::Write;
use std::io::IsTerminal;
use std::sync::Arc;
use std::time::Duration;

use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;

use crate::config::{LogConfig, LogFormat};
use crate::live::Take;

/// Bounds of histograms whose name ends in `_seconds`: from what memory takes to what a client gives up at.
const SECONDS: [f64; 17] = [0.0001, 0.00025, 0.0005, 0.001, 0.002, 0.003, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
/// Bounds of histograms whose name ends in `_bytes`: powers of four from 256 B to 64 MiB.
const BYTES: [f64; 10] = [256.0, 1024.0, 4096.0, 16384.0, 65536.0, 262144.0, 1048576.0, 4194304.0, 16777216.0, 67108864.0];
/// Bounds of all other histograms, which count things.
const COUNTS: [f64; 11] = [1.0, 2.0, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 1000.0, 5000.0, 25000.0];

/// How often samples are folded into buckets when nobody scrapes. Until then they wait in memory.
const UPKEEP: Duration = Duration::from_secs(10);

/// Why logs or metrics could not be installed.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// `log.level` is no level and no directive.
    #[error("log.level cannot be read: {0}")]
    Level(#[from] ParseError),
    /// A recorder was installed before.
    #[error("metrics are installed already: {0}")]
    Metrics(String),
    /// A subscriber was installed before.
    #[error("logging is installed already: {0}")]
    Logs(String),
    /// A histogram's bounds were refused.
    #[error("histogram bounds: {0}")]
    Buckets(#[from] BuildError),
}

/// The logs and metrics of the process.
#[derive(Clone)]
pub struct Telemetry {
    prometheus: PrometheusHandle,
    logs: LogFilter,
}

/// Exchanges what is logged. Clones do so for the same logs.
#[derive(Clone)]
pub struct LogFilter(Arc<dyn Fn(EnvFilter) + Send + Sync>);

impl LogFilter {
    /// Looks at a `log.level`; what comes back puts it into use. The error says what is wrong with it.
    pub fn prepare(&self, level: &str) -> Result<Take, String> {
        let filter = EnvFilter::try_new(level).map_err(|error| TelemetryError::Level(error).to_string())?;
        let exchange = Arc::clone(&self.0);
        Ok(Box::new(move || exchange(filter)))
    }
}

impl Telemetry {
    /// Installs logs to standard error and the metrics recorder, for the whole process. Once per process.
    pub fn install(log: &LogConfig) -> Result<Self, TelemetryError> {
        let logs = install_logs(log)?;
        let recorder = builder()?.build_recorder();
        let prometheus = recorder.handle();
        metrics::set_global_recorder(recorder).map_err(|error| TelemetryError::Metrics(error.to_string()))?;
        Ok(Self { prometheus, logs })
    }

    /// What exchanges what is logged.
    pub fn log_filter(&self) -> &LogFilter {
        &self.logs
    }

    /// Metrics that nothing records into; for tests that need an admin port.
    pub fn detached() -> Self {
        Self { prometheus: PrometheusBuilder::new().build_recorder().handle(), logs: LogFilter(Arc::new(drop::<EnvFilter>)) }
    }

    /// All metrics in Prometheus's text format.
    pub fn render_metrics(&self) -> String {
        let mut text = self.prometheus.render();
        self.prometheus.run_upkeep();
        process_metrics(&mut text);
        text
    }

    /// Folds samples now and then until `stop`, so that memory stays bounded when nobody scrapes.
    pub async fn upkeep(self, stop: CancellationToken) {
        while stop.run_until_cancelled(tokio::time::sleep(UPKEEP)).await.is_some() {
            self.prometheus.run_upkeep();
        }
    }
}

fn builder() -> Result<PrometheusBuilder, BuildError> {
    PrometheusBuilder::new()
        .set_buckets(&COUNTS)?
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS)?
        .set_buckets_for_metric(Matcher::Suffix("_bytes".to_owned()), &BYTES)
}

fn install_logs(log: &LogConfig) -> Result<LogFilter, TelemetryError> {
    let base = tracing_subscriber::fmt().with_env_filter(EnvFilter::try_new(&log.level)?).with_writer(std::io::stderr);
    // A filter that cannot be exchanged has no subscriber any more: the process is ending.
    let (installed, filter) = match log.format {
        LogFormat::Text => {
            let logs = base.with_ansi(std::io::stderr().is_terminal()).with_filter_reloading();
            let handle = logs.reload_handle();
            (logs.try_init(), LogFilter(Arc::new(move |filter: EnvFilter| drop(handle.reload(filter)))))
        }
        LogFormat::Json => {
            let logs = base.json().flatten_event(true).with_current_span(true).with_span_list(false).with_filter_reloading();
            let handle = logs.reload_handle();
            (logs.try_init(), LogFilter(Arc::new(move |filter: EnvFilter| drop(handle.reload(filter)))))
        }
    };
    installed.map(|()| filter).map_err(|error| TelemetryError::Logs(error.to_string()))
}

/// Appends what the kernel knows of this process, under the names that Prometheus's client libraries use.
fn process_metrics(text: &mut String) {
    let gauges = [
        ("process_resident_memory_bytes", resident_bytes(), "gauge"),
        ("process_open_fds", open_files(), "gauge"),
        ("process_cpu_seconds_total", cpu_seconds(), "counter"),
    ];
    for (name, value, kind) in gauges {
        if let Some(value) = value {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "# TYPE {name} {kind}\n{name} {value}\n");
        }
    }
}

fn resident_bytes() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<f64>().ok().map(|kib| kib * 1024.0)
}

fn open_files() -> Option<f64> {
    std::fs::read_dir("/proc/self/fd").ok().map(|entries| entries.count() as f64)
}

fn cpu_seconds() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // proc(5): after the name in parentheses, utime and stime are the 12th and 13th fields.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = fields.get(11)?.parse::<f64>().ok()? + fields.get(12)?.parse::<f64>().ok()?;
    Some(ticks / rustix::param::clock_ticks_per_second() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn histograms_take_their_bounds_from_the_unit_in_their_name() {
        let recorder = builder().unwrap().build_recorder();
        let telemetry = Telemetry { prometheus: recorder.handle(), ..Telemetry::detached() };
        metrics::with_local_recorder(&recorder, || {
            metrics::histogram!("ack_seconds").record(0.0012);
            metrics::histogram!("segment_bytes").record(5000.0);
        });
        let text = telemetry.render_metrics();
        assert!(text.contains("ack_seconds_bucket{le=\"0.002\"} 1"), "{text}");
        assert!(text.contains("segment_bytes_bucket{le=\"16384\"} 1"), "{text}");
        assert!(text.contains("process_cpu_seconds_total "), "{text}");
    }

    #[tokio::test(start_paused = true)]
    async fn upkeep_ends_when_it_is_told_to() {
        let stop = CancellationToken::new();
        let upkeep = tokio::spawn(Telemetry::detached().upkeep(stop.clone()));
        stop.cancel();
        upkeep.await.unwrap();
    }
}
