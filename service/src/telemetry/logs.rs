//! Where log events go: to standard error, and to a collector if there is one. The filter is the same for both.

use std::io::IsTerminal;
use std::sync::Arc;

use opentelemetry_appender_tracing::layer::OpenTelemetryTracingBridge;
use opentelemetry_sdk::logs::SdkLoggerProvider;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, filter, reload};

use super::TelemetryError;
use crate::config::{LogConfig, LogFormat};
use crate::live::Take;

/// What the way to the collector itself is made of. Its events stay on standard error, whatever the level: each that was sent would
/// make others.
const OF_THE_WAY: [&str; 9] = ["h2", "hyper", "hyper_util", "tonic", "tower", "reqwest", "rustls", "opentelemetry", super::otlp::TARGET];

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

    /// The filter of logs that nobody installed.
    pub(super) fn detached() -> Self {
        Self(Arc::new(drop::<EnvFilter>))
    }
}

/// Installs it for the whole process.
pub(super) fn install(log: &LogConfig, collector: Option<&SdkLoggerProvider>) -> Result<LogFilter, TelemetryError> {
    let (filter, handle) = reload::Layer::new(EnvFilter::try_new(&log.level)?);
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let lines = match log.format {
        LogFormat::Text => lines.with_ansi(std::io::stderr().is_terminal()).boxed(),
        LogFormat::Json => lines.json().flatten_event(true).with_current_span(true).with_span_list(false).boxed(),
    };
    let subscriber = tracing_subscriber::registry().with(filter).with(lines);
    let installed = match collector {
        Some(provider) => {
            subscriber.with(OpenTelemetryTracingBridge::new(provider).with_filter(filter::filter_fn(|of| is_told(of.target())))).try_init()
        }
        None => subscriber.try_init(),
    };
    installed.map_err(|error| TelemetryError::Logs(error.to_string()))?;
    // A filter that cannot be exchanged has no subscriber any more: the process is ending.
    Ok(LogFilter(Arc::new(move |filter: EnvFilter| drop(handle.reload(filter)))))
}

/// Whether a collector is told of events of a target.
fn is_told(target: &str) -> bool {
    let within = |module: &str| target.strip_prefix(module).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"));
    !OF_THE_WAY.iter().any(|module| within(module))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_collector_is_told_of_everything_but_the_way_to_itself() {
        let of_the_way =
            ["h2", "h2::codec::framed_read", "hyper_util::client::legacy::pool", "tonic::transport", "lakefall_service::telemetry"];
        for target in of_the_way {
            assert!(!is_told(target), "{target}");
        }
        for target in ["lakefall_http::trace", "lakefall_service::tasks", "lakefall_service", "h2o", "towers::x", "sqlx::query"] {
            assert!(is_told(target), "{target}");
        }
    }
}
