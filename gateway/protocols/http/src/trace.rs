//! A span for each request that is traced, named by the semantic conventions for HTTP
//! (https://opentelemetry.io/docs/specs/semconv/http/http-spans/). Who is traced is decided here, for all that a request brings about.
//!
//! Must never show what may be a secret: no query, no header but those that stand below.

use std::str::FromStr;

use axum::extract::Request;
use axum::http::{HeaderMap, StatusCode, Version, header};
use lakefall_queue::TraceContext;
use opentelemetry::trace::{SpanContext, SpanId, SpanKind, Status, TraceContextExt, TraceFlags, TraceId, TraceState, Tracer};
use opentelemetry::{Context, KeyValue, global};

use crate::router::Api;

/// Characters of what a caller may make as long as it likes.
const SHOWN: usize = 256;

/// Longest `tracestate` that a span keeps, in bytes: as much as who passes one on should at least
/// (https://www.w3.org/TR/trace-context/#tracestate-limits). A longer one is left out whole; records keep theirs.
const TRACE_STATE: usize = 512;

/// The span of a request. Dropped, it ends.
pub(crate) struct ServerSpan {
    context: Context,
}

/// Begins a request's span, if it is traced.
pub(crate) fn begun(api: &Api, request: &Request, route: Option<&str>, request_id: &str) -> Option<ServerSpan> {
    let sampling = api.settings.sampling.as_ref()?;
    let parent = request.headers().get("traceparent").and_then(|text| TraceContext::parse(text.to_str().ok()?));
    if !sampling.takes(parent.as_ref(), || api.ambient.entropy.draw()) {
        return None;
    }
    let method = request.method().as_str();
    let shown = |text: &str| text.chars().take(SHOWN).collect::<String>();
    let mut attributes = vec![
        KeyValue::new("http.request.method", shown(method)),
        KeyValue::new("url.path", shown(request.uri().path())),
        KeyValue::new("url.scheme", "http"),
        KeyValue::new("lakefall.request_id", request_id.to_owned()),
    ];
    let text = |name: header::HeaderName| request.headers().get(name).and_then(|value| value.to_str().ok()).map(shown);
    attributes.extend(text(header::USER_AGENT).map(|agent| KeyValue::new("user_agent.original", agent)));
    attributes.extend(text(header::HOST).map(|host| KeyValue::new("server.address", host)));
    attributes.extend(version(request.version()).map(|version| KeyValue::new("network.protocol.version", version)));
    attributes.extend(route.map(|route| KeyValue::new("http.route", route.to_owned())));
    let name = route.map_or_else(|| shown(method), |route| format!("{} {route}", shown(method)));
    let tracer = global::tracer("lakefall");
    let builder = tracer.span_builder(name).with_kind(SpanKind::Server).with_attributes(attributes);
    let below = match parent {
        Some(parent) => Context::new().with_remote_span_context(remote(&parent, request.headers())),
        None => Context::new(),
    };
    Some(ServerSpan { context: Context::new().with_span(builder.start_with_context(&tracer, &below)) })
}

impl ServerSpan {
    /// What names it.
    pub(crate) fn trace(&self) -> Option<TraceContext> {
        let span = self.context.span();
        let context = span.span_context();
        let (trace, span) = (u128::from_be_bytes(context.trace_id().to_bytes()), u64::from_be_bytes(context.span_id().to_bytes()));
        context.is_valid().then(|| TraceContext { trace, span, sampled: context.is_sampled() })
    }

    /// For what runs in it.
    pub(crate) fn context(&self) -> Context {
        self.context.clone()
    }

    /// Ends it: the answer's head is there.
    pub(crate) fn answered(self, status: StatusCode, route: &str, request_id: &str) {
        let span = self.context.span();
        span.set_attribute(KeyValue::new("http.response.status_code", i64::from(status.as_u16())));
        if status.is_server_error() {
            span.set_attribute(KeyValue::new("error.type", status.as_str().to_owned()));
            span.set_status(Status::error(""));
        }
        // Says so in the trace itself: nothing else is logged of a request that goes well.
        let _in_it = self.context.clone().attach();
        tracing::debug!(route, status = status.as_u16(), request_id, "a traced request was answered");
    }
}

impl Drop for ServerSpan {
    fn drop(&mut self) {
        // Contexts of what ran in it may outlive it.
        self.context.span().end();
    }
}

/// The caller's span, with what its vendors added.
fn remote(parent: &TraceContext, headers: &HeaderMap) -> SpanContext {
    let text = headers.get("tracestate").filter(|text| text.len() <= TRACE_STATE);
    let state = text.and_then(|text| TraceState::from_str(text.to_str().ok()?).ok());
    let flags = TraceFlags::default().with_sampled(parent.sampled);
    SpanContext::new(TraceId::from(parent.trace), SpanId::from(parent.span), flags, true, state.unwrap_or_default())
}

fn version(version: Version) -> Option<&'static str> {
    match version {
        Version::HTTP_10 => Some("1.0"),
        Version::HTTP_11 => Some("1.1"),
        Version::HTTP_2 => Some("2"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tracestate_of_512_bytes_is_kept_and_a_longer_one_left_out() {
        let parent = TraceContext { trace: 1, span: 2, sampled: true };
        let kept = |text: &str| {
            let headers = HeaderMap::from_iter([(header::HeaderName::from_static("tracestate"), text.parse().unwrap())]);
            remote(&parent, &headers).trace_state().header()
        };
        let value = |bytes: usize| "x".repeat(bytes);
        let longest = format!("a={},b={}", value(256), value(251));
        assert_eq!((longest.len(), kept(&longest)), (TRACE_STATE, longest.clone()));
        assert_eq!(kept(&format!("a={},b={}", value(256), value(252))), "");
    }
}
