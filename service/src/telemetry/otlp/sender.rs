//! Requests to the collector: each is tried for a bounded time, and what it did not take is counted. Trouble with a signal is reported
//! once a minute while it lasts, its end once.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::TARGET;
use super::settings::Settings;
use super::wire::{Failed, Rejected, Wire};
use crate::metrics::{TELEMETRY_DROPPED, TELEMETRY_SENT};

/// Attempts at one request.
const ATTEMPTS: u32 = 4;
/// The pause after the first, doubled after each.
const PAUSE: Duration = Duration::from_millis(500);
/// Between two reports of the same trouble.
const REPORT_EVERY: Duration = Duration::from_secs(60);

/// What is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Signal {
    Traces,
    Metrics,
    Logs,
}

impl Signal {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Traces => "traces",
            Self::Metrics => "metrics",
            Self::Logs => "logs",
        }
    }
}

/// A request as OTLP has it.
#[derive(Clone)]
pub(super) enum Request {
    Traces(ExportTraceServiceRequest),
    Metrics(ExportMetricsServiceRequest),
    Logs(ExportLogsServiceRequest),
}

/// Sends requests.
pub(super) struct Sender {
    wire: Wire,
    timeout: Duration,
    stop: CancellationToken,
    trouble: Trouble,
}

impl Sender {
    /// From within the runtime.
    pub(super) fn new(settings: &Settings, stop: CancellationToken) -> Self {
        Self { wire: settings.way.open(), timeout: settings.timeout, stop, trouble: Trouble::default() }
    }

    /// Sends a request of so many items, or counts them as dropped. Takes [`ATTEMPTS`] times `telemetry.timeout_ms` at most, and 3.5 s
    /// of pauses. An attempt that the stop meets is the last; a pause that it meets is over, and the attempt after it the last.
    pub(super) async fn deliver(&self, signal: Signal, request: Request, items: u64) {
        let mut pause = PAUSE;
        for attempt in 1..=ATTEMPTS {
            let sent = tokio::time::timeout(self.timeout, self.wire.send(&request)).await;
            let failed = match sent {
                Ok(Ok(rejected)) => return self.taken(signal, items, rejected),
                Ok(Err(failed)) => failed,
                Err(_) => Failed::ForNow("it did not answer in time".to_owned()),
            };
            match failed {
                Failed::ForGood(reason) => return self.dropped(signal, items, "refused", &reason),
                Failed::ForNow(reason) if attempt == ATTEMPTS || self.stop.is_cancelled() => {
                    return self.dropped(signal, items, "failed", &reason);
                }
                Failed::ForNow(_) => {}
            }
            // The last attempt comes at once when the process stops.
            let _ = self.stop.run_until_cancelled(tokio::time::sleep(pause)).await;
            pause *= 2;
        }
    }

    fn taken(&self, signal: Signal, items: u64, rejected: Option<Rejected>) {
        let refused = rejected.as_ref().map_or(0, |rejected| rejected.items.min(items));
        metrics::counter!(TELEMETRY_SENT, "signal" => signal.name()).increment(items - refused);
        match rejected {
            Some(rejected) if refused > 0 => self.dropped(signal, refused, "refused", &rejected.reason),
            _ => {
                if self.trouble.ends(signal) {
                    tracing::info!(target: TARGET, signal = signal.name(), "the collector takes telemetry again");
                }
            }
        }
    }

    fn dropped(&self, signal: Signal, items: u64, why: &'static str, reason: &str) {
        metrics::counter!(TELEMETRY_DROPPED, "signal" => signal.name(), "reason" => why).increment(items);
        if self.trouble.is_news(signal) {
            tracing::warn!(target: TARGET, signal = signal.name(), reason, "the collector does not take telemetry: it is dropped");
        }
    }
}

/// When trouble with a signal was reported last, if it is not over. Each has its own: one that is taken must not hide one that is not.
#[derive(Default)]
struct Trouble {
    traces: Mutex<Option<Instant>>,
    metrics: Mutex<Option<Instant>>,
    logs: Mutex<Option<Instant>>,
}

impl Trouble {
    /// There is trouble. Whether it is to be reported.
    fn is_news(&self, signal: Signal) -> bool {
        let mut reported = self.of(signal);
        let is_news = reported.is_none_or(|reported| reported.elapsed() >= REPORT_EVERY);
        if is_news {
            *reported = Some(Instant::now());
        }
        is_news
    }

    /// There is none. Whether there was.
    fn ends(&self, signal: Signal) -> bool {
        self.of(signal).take().is_some()
    }

    fn of(&self, signal: Signal) -> MutexGuard<'_, Option<Instant>> {
        let reported = match signal {
            Signal::Traces => &self.traces,
            Signal::Metrics => &self.metrics,
            Signal::Logs => &self.logs,
        };
        reported.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_signal_that_is_taken_hides_no_trouble_of_another_which_is_told_once_a_minute() {
        let trouble = Trouble::default();
        assert!(trouble.is_news(Signal::Traces));
        assert!(!trouble.ends(Signal::Metrics));
        assert!(!trouble.is_news(Signal::Traces), "metrics that are taken end no trouble with traces");
        assert!(trouble.is_news(Signal::Logs), "trouble with traces hides none with logs");
        tokio::time::advance(REPORT_EVERY).await;
        assert!(trouble.is_news(Signal::Traces));
        assert!(trouble.ends(Signal::Traces) && !trouble.ends(Signal::Traces));
    }
}
