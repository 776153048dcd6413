//! Metrics on their way: what `/metrics` shows, now and then and at the end. Nothing is counted twice for it, and nobody who counts
//! waits for it.

use std::sync::Arc;
use std::time::Duration;

use lakefall_queue::Timestamp;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::metrics::v1::{ResourceMetrics, ScopeMetrics};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::transform::common::tonic::ResourceAttributesWithSchema;
use tokio_util::sync::CancellationToken;

use super::sender::{Request, Sender, Signal};
use super::text::{Times, metrics};
use crate::clock::system_ambient;

/// Sends metrics every so often until `stop`, and then once more.
pub(super) async fn run(
    sender: Arc<Sender>,
    every: Duration,
    resource: ResourceAttributesWithSchema,
    render: impl Fn() -> String + Send + 'static,
    stop: CancellationToken,
) {
    let clock = system_ambient().clock;
    let began = nanos(clock.now());
    loop {
        let last = stop.run_until_cancelled(tokio::time::sleep(every)).await.is_none();
        let metrics = metrics(&render(), Times { began, now: nanos(clock.now()) });
        let items = metrics.iter().map(super::text::points).sum();
        let scope = opentelemetry::InstrumentationScope::builder("lakefall").with_version(env!("CARGO_PKG_VERSION")).build();
        let scope_metrics = vec![ScopeMetrics { scope: Some((&scope, None).into()), metrics, ..ScopeMetrics::default() }];
        let of = Resource { attributes: resource.attributes.0.clone(), ..Resource::default() };
        let resource_metrics = vec![ResourceMetrics { resource: Some(of), scope_metrics, ..ResourceMetrics::default() }];
        sender.deliver(Signal::Metrics, Request::Metrics(ExportMetricsServiceRequest { resource_metrics }), items).await;
        if last {
            return;
        }
    }
}

fn nanos(at: Timestamp) -> u64 {
    u64::try_from(at.as_millis()).unwrap_or_default().saturating_mul(1_000_000)
}
