//! Logs, metrics and traces of the process. Installed once, by the role; must never wake an idle process more than once in ten
//! seconds.

mod logs;
mod otlp;
mod process;

use std::sync::Arc;
use std::time::Duration;

use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::filter::ParseError;

pub use self::logs::LogFilter;
use self::otlp::Otlp;
use crate::config::Config;
use crate::trace;

/// Bounds of histograms whose name ends in `_seconds`: from what memory takes to what a client gives up at.
const SECONDS: [f64; 17] = [0.0001, 0.00025, 0.0005, 0.001, 0.002, 0.003, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
/// Bounds of histograms whose name ends in `_bytes`: powers of four from 256 B to 64 MiB.
const BYTES: [f64; 10] = [256.0, 1024.0, 4096.0, 16384.0, 65536.0, 262144.0, 1048576.0, 4194304.0, 16777216.0, 67108864.0];
/// Bounds of all other histograms, which count things.
const COUNTS: [f64; 11] = [1.0, 2.0, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 1000.0, 5000.0, 25000.0];

/// How often samples are folded into buckets when nobody scrapes. Until then they wait in memory.
const UPKEEP: Duration = Duration::from_secs(10);

/// Why logs, metrics or traces could not be installed.
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
    /// The collector cannot be sent to as the settings have it. The sentence names the setting.
    #[error("{0}")]
    Collector(String),
}

/// What the process tells of itself.
#[derive(Clone)]
pub struct Telemetry {
    prometheus: PrometheusHandle,
    logs: LogFilter,
    otlp: Option<Arc<Otlp>>,
}

impl Telemetry {
    /// Installs logs to standard error, the metrics recorder and, where a collector is named, what it is sent, for the whole process.
    /// Once per process. `role` names the service where no setting does.
    pub fn install(config: &Config, role: &str) -> Result<Self, TelemetryError> {
        let otlp = Otlp::prepare(&config.telemetry, role)?;
        let logs = logs::install(&config.log, otlp.as_ref().and_then(Otlp::logs))?;
        let recorder = builder()?.build_recorder();
        let prometheus = recorder.handle();
        metrics::set_global_recorder(recorder).map_err(|error| TelemetryError::Metrics(error.to_string()))?;
        if let Some(provider) = otlp.as_ref().and_then(Otlp::traces) {
            trace::install(provider.clone());
        }
        Ok(Self { prometheus, logs, otlp: otlp.map(Arc::new) })
    }

    /// What exchanges what is logged.
    pub fn log_filter(&self) -> &LogFilter {
        &self.logs
    }

    /// Metrics that nothing records into; for tests that need an admin port.
    pub fn detached() -> Self {
        Self { prometheus: PrometheusBuilder::new().build_recorder().handle(), logs: LogFilter::detached(), otlp: None }
    }

    /// All metrics in Prometheus's text format.
    pub fn render_metrics(&self) -> String {
        let mut text = self.prometheus.render();
        self.prometheus.run_upkeep();
        process::process_metrics(&mut text);
        text
    }

    /// Folds samples now and then until `stop`, so that memory stays bounded when nobody scrapes.
    pub async fn upkeep(self, stop: CancellationToken) {
        while stop.run_until_cancelled(tokio::time::sleep(UPKEEP)).await.is_some() {
            self.prometheus.run_upkeep();
        }
    }

    /// Starts to send, if there is a collector: from within the runtime. What was told before waited.
    pub fn start(&self) {
        if let Some(otlp) = &self.otlp {
            let all = self.clone();
            otlp.start(move || all.render_metrics());
        }
    }

    /// Sends what still waits, for a bounded time. After everything else of the process has ended, so that it is told of, too.
    pub async fn close(&self) {
        if let Some(otlp) = &self.otlp {
            otlp.close().await;
        }
    }
}

fn builder() -> Result<PrometheusBuilder, BuildError> {
    PrometheusBuilder::new()
        .set_buckets(&COUNTS)?
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS)?
        .set_buckets_for_metric(Matcher::Suffix("_bytes".to_owned()), &BYTES)
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
