//! OTLP: spans, log records and metrics on their way to a collector. Who is traced or logs never waits for it: what finds no place
//! in a bounded queue is dropped and counted, and so is what the collector does not take in time.

mod batch;
mod names;
mod points;
mod sender;
mod settings;
mod text;
mod wire;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::transform::common::tonic::ResourceAttributesWithSchema;
use opentelemetry_proto::transform::logs::tonic::group_logs_by_resource_and_scope;
use opentelemetry_proto::transform::trace::tonic::group_spans_by_resource_and_scope;
use opentelemetry_sdk::logs::{LogBatch, SdkLoggerProvider};
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider, SpanData};
use tokio::sync::mpsc;

use self::batch::{Batches, LogEntry, LogQueue, SpanQueue};
use self::sender::{Request, Sender, Signal};
use self::settings::Settings;
use super::TelemetryError;
use crate::Tasks;
use crate::config::TelemetryConfig;

/// Of this module's own events.
pub(super) const TARGET: &str = "lakefall_service::telemetry";
/// What closing may take. With what the role takes for its last flush (5 s) and for its admin port (1 s) it stays within the 10 s
/// after the drain that operators are told of.
const CLOSE: Duration = Duration::from_secs(3);

/// What a collector is sent, from the start of the process to its end.
pub(super) struct Otlp {
    settings: Settings,
    traces: Option<SdkTracerProvider>,
    logs: Option<SdkLoggerProvider>,
    /// Until the start.
    spans_waiting: Mutex<Option<mpsc::Receiver<SpanData>>>,
    logs_waiting: Mutex<Option<mpsc::Receiver<LogEntry>>>,
    /// Its own: they end after all others.
    tasks: Tasks,
}

impl Otlp {
    /// `None`: there is no collector, or nothing to send.
    pub(super) fn prepare(config: &TelemetryConfig, role: &str) -> Result<Option<Self>, TelemetryError> {
        let Some(settings) = Settings::read(config, role)? else { return Ok(None) };
        let (mut traces, mut spans_waiting) = (None, None);
        if settings.traces {
            let (to, waiting) = mpsc::channel(settings.queue_items);
            // What is to be traced was decided before a span begins: see `lakefall_queue::trace::Sampling`.
            let builder = SdkTracerProvider::builder().with_sampler(Sampler::AlwaysOn).with_resource(settings.resource.clone());
            traces = Some(builder.with_span_processor(SpanQueue::new(to)).build());
            spans_waiting = Some(waiting);
        }
        let (mut logs, mut logs_waiting) = (None, None);
        if settings.logs {
            let (to, waiting) = mpsc::channel(settings.queue_items);
            let builder = SdkLoggerProvider::builder().with_resource(settings.resource.clone());
            logs = Some(builder.with_log_processor(LogQueue::new(to)).build());
            logs_waiting = Some(waiting);
        }
        let (spans_waiting, logs_waiting) = (Mutex::new(spans_waiting), Mutex::new(logs_waiting));
        Ok(Some(Self { settings, traces, logs, spans_waiting, logs_waiting, tasks: Tasks::new() }))
    }

    /// Where spans come from.
    pub(super) fn traces(&self) -> Option<&SdkTracerProvider> {
        self.traces.as_ref()
    }

    /// Where log records come from.
    pub(super) fn logs(&self) -> Option<&SdkLoggerProvider> {
        self.logs.as_ref()
    }

    /// Starts the tasks that send, from within the runtime. `render` tells all metrics in Prometheus's text format.
    pub(super) fn start(&self, render: impl Fn() -> String + Send + 'static) {
        let stop = self.tasks.token();
        let sender = Arc::new(Sender::new(&self.settings, stop.clone()));
        let resource = || ResourceAttributesWithSchema::from(&self.settings.resource);
        let linger = self.settings.linger;
        if let Some(waiting) = take(&self.spans_waiting) {
            let (sender, resource) = (Arc::clone(&sender), Arc::new(resource()));
            let send = move |spans: Vec<SpanData>| {
                let (sender, resource) = (Arc::clone(&sender), Arc::clone(&resource));
                async move {
                    let items = spans.len() as u64;
                    let resource_spans = group_spans_by_resource_and_scope(spans, &resource);
                    sender.deliver(Signal::Traces, Request::Traces(ExportTraceServiceRequest { resource_spans }), items).await;
                }
            };
            self.tasks.spawn("otlp traces", Batches { waiting, linger, stop: stop.clone() }.run(send));
        }
        if let Some(waiting) = take(&self.logs_waiting) {
            let (sender, resource) = (Arc::clone(&sender), Arc::new(resource()));
            let send = move |entries: Vec<LogEntry>| {
                let (sender, resource) = (Arc::clone(&sender), Arc::clone(&resource));
                async move {
                    let items = entries.len() as u64;
                    let resource_logs = {
                        let pairs: Vec<_> = entries.iter().map(|(record, scope)| (record, scope)).collect();
                        group_logs_by_resource_and_scope(&LogBatch::new(&pairs), &resource)
                    };
                    sender.deliver(Signal::Logs, Request::Logs(ExportLogsServiceRequest { resource_logs }), items).await;
                }
            };
            self.tasks.spawn("otlp logs", Batches { waiting, linger, stop: stop.clone() }.run(send));
        }
        if self.settings.metrics {
            let (interval, resource) = (self.settings.metrics_interval, resource());
            self.tasks.spawn("otlp metrics", points::run(sender, interval, resource, render, stop));
        }
    }

    /// Sends what waits, and ends.
    pub(super) async fn close(&self) {
        if let Err(late) = self.tasks.shutdown(CLOSE).await {
            tracing::warn!(target: TARGET, %late, "the collector did not take the last of the telemetry in time");
        }
    }
}

fn take<T>(waiting: &Mutex<Option<T>>) -> Option<T> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner).take()
}
