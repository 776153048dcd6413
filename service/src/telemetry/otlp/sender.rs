//! Requests to the collector: each is tried for a bounded time, and what it did not take is counted. Its trouble is reported once a
//! minute, its end once.

use std::sync::{Mutex, PoisonError};
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
    /// When trouble was reported last, if it is not over.
    trouble: Mutex<Option<Instant>>,
}

impl Sender {
    /// From within the runtime. The error says what is wrong with the settings.
    pub(super) fn new(settings: &Settings, stop: CancellationToken) -> Result<Self, String> {
        Ok(Self { wire: Wire::new(settings)?, timeout: settings.timeout, stop, trouble: Mutex::default() })
    }

    /// Sends a request of so many items, or counts them as dropped. Takes a minute at most, and after the stop one attempt.
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
                if self.trouble.lock().unwrap_or_else(PoisonError::into_inner).take().is_some() {
                    tracing::info!(target: TARGET, "the collector takes telemetry again");
                }
            }
        }
    }

    fn dropped(&self, signal: Signal, items: u64, why: &'static str, reason: &str) {
        metrics::counter!(TELEMETRY_DROPPED, "signal" => signal.name(), "reason" => why).increment(items);
        let mut trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        if trouble.is_none_or(|reported| reported.elapsed() >= REPORT_EVERY) {
            *trouble = Some(Instant::now());
            tracing::warn!(target: TARGET, signal = signal.name(), reason, "the collector does not take telemetry: it is dropped");
        }
    }
}
