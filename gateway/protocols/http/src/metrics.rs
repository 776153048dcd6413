//! Names of this room's metrics, and handles that cost no lookup by name per request.

use std::collections::HashMap;
use std::sync::RwLock;
use std::time::Duration;

use axum::http::{Method, StatusCode};
use metrics::{Counter, Histogram};
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Requests answered, by route, method and status.
pub(crate) const REQUESTS: &str = "lakefall_http_requests_total";

/// Seconds from the request's head to the answer's head, by route, method and status.
pub(crate) const SECONDS: &str = "lakefall_http_request_seconds";

/// Records taken in, before they are stored.
pub(crate) const PRODUCED: &str = "lakefall_http_produced_records_total";

/// Records given out.
pub(crate) const READ: &str = "lakefall_http_read_records_total";

/// Live tails that are open.
pub(crate) const TAILS: &str = "lakefall_http_tails";

/// Messages given out under a lease.
pub(crate) const RECEIVED: &str = "lakefall_http_received_messages_total";

/// Messages settled: acked, given back, rejected or kept for longer.
pub(crate) const SETTLED: &str = "lakefall_http_settled_messages_total";

/// Streams of leases that are open.
pub(crate) const CONSUMERS: &str = "lakefall_http_message_streams";

/// Counts something that is open, until it is dropped.
pub(crate) struct Open(&'static str);

impl Open {
    /// One more of the gauge `name`.
    pub(crate) fn new(name: &'static str) -> Self {
        metrics::gauge!(name).increment(1.0);
        Self(name)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        metrics::gauge!(self.0).decrement(1.0);
    }
}

/// Handles by route, method and status. As many as there are combinations: routes are templates, never paths.
#[derive(Default)]
pub(crate) struct RequestMetrics(RwLock<HashMap<u64, (Counter, Histogram)>>);

impl RequestMetrics {
    /// Counts one request.
    pub(crate) fn record(&self, route: &str, method: &Method, status: StatusCode, took: Duration) {
        let method = method_label(method);
        let seed = (u64::from(status.as_u16()) << 32) | u64::from(method.as_bytes()[0]) << 8 | u64::from(method.as_bytes()[1]);
        let key = xxh3_64_with_seed(route.as_bytes(), seed);
        if let Ok(known) = self.0.read()
            && let Some((requests, seconds)) = known.get(&key)
        {
            requests.increment(1);
            seconds.record(took);
            return;
        }
        let route = route.to_owned();
        let status = status.as_str().to_owned();
        let requests = metrics::counter!(REQUESTS, "route" => route.clone(), "method" => method, "status" => status.clone());
        let seconds = metrics::histogram!(SECONDS, "route" => route, "method" => method, "status" => status);
        requests.increment(1);
        seconds.record(took);
        if let Ok(mut known) = self.0.write() {
            known.insert(key, (requests, seconds));
        }
    }
}

/// Methods of strangers are all one label: a label per invented method would grow without bound.
fn method_label(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        _ => "OTHER",
    }
}
