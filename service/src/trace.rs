//! Spans: made only of what is traced, so that what is not costs nothing but the look whether it is.
//!
//! The facade is OpenTelemetry's own; whether anybody records is the role's ([`crate::telemetry`]). A span's attributes are named by
//! the semantic conventions (https://opentelemetry.io/docs/specs/semconv/messaging/messaging-spans/).

use std::borrow::Cow;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use lakefall_queue::TraceContext;
use opentelemetry::global::{self, BoxedTracer};
use opentelemetry::trace::{Link, SpanContext, SpanId, Status, TraceContextExt, TraceFlags, TraceId, TraceState, Tracer};
use opentelemetry::{Context, Value};
use opentelemetry_sdk::trace::SdkTracerProvider;

pub use opentelemetry::KeyValue;
pub use opentelemetry::trace::{FutureExt, SpanKind};

/// Most links of a span; of a batch that carries more, the first are told.
pub const LINKS_MAX: usize = 128;

static ENABLED: AtomicBool = AtomicBool::new(false);
static TRACER: OnceLock<BoxedTracer> = OnceLock::new();

/// From here on spans are recorded by `provider`. Once per process.
pub fn install(provider: SdkTracerProvider) {
    global::set_tracer_provider(provider);
    ENABLED.store(true, Ordering::Relaxed);
}

/// `messaging.system`, which every span of messages has.
pub fn system() -> KeyValue {
    KeyValue::new("messaging.system", "lakefall")
}

/// Whether this process records spans.
pub fn is_enabled() -> bool {
    ENABLED.load(Ordering::Relaxed)
}

/// The span that the code runs in, if it is traced.
pub fn current() -> Option<TraceContext> {
    if !is_enabled() {
        return None;
    }
    Context::map_current(|context| named(context.span().span_context())).filter(|context| context.sampled)
}

/// A span under way. Dropped, it ends.
pub struct Span {
    context: Context,
}

impl Span {
    /// Begins a span below `parent`, at most [`LINKS_MAX`] others linked.
    pub fn start(
        name: impl Into<Cow<'static, str>>,
        kind: SpanKind,
        parent: Option<&TraceContext>,
        links: impl IntoIterator<Item = TraceContext>,
        attributes: Vec<KeyValue>,
    ) -> Self {
        let tracer = TRACER.get_or_init(|| global::tracer("lakefall"));
        let links = links.into_iter().take(LINKS_MAX).map(|context| Link::with_context(spoken(&context))).collect();
        let builder = tracer.span_builder(name).with_kind(kind).with_attributes(attributes).with_links(links);
        let below = match parent {
            Some(parent) => Context::new().with_remote_span_context(spoken(parent)),
            None => Context::new(),
        };
        Self { context: Context::new().with_span(builder.start_with_context(tracer, &below)) }
    }

    /// What names it.
    pub fn trace(&self) -> Option<TraceContext> {
        named(self.context.span().span_context())
    }

    /// For what runs in it: see [`FutureExt::with_context`].
    pub fn context(&self) -> Context {
        self.context.clone()
    }

    /// Links spans that became known after it began, at most [`LINKS_MAX`].
    pub fn link(&self, links: impl IntoIterator<Item = TraceContext>) {
        let span = self.context.span();
        links.into_iter().take(LINKS_MAX).for_each(|context| span.add_link(spoken(&context), Vec::new()));
    }

    /// Adds an attribute.
    pub fn set(&self, key: &'static str, value: impl Into<Value>) {
        self.context.span().set_attribute(KeyValue::new(key, value));
    }

    /// It did not do what it was to do. `kind` is of few: `error.type`.
    pub fn failed(&self, kind: &'static str, reason: impl Into<Cow<'static, str>>) {
        self.set("error.type", kind);
        self.context.span().set_status(Status::error(reason));
    }
}

impl Drop for Span {
    fn drop(&mut self) {
        // Contexts of futures that ran in it may outlive it.
        self.context.span().end();
    }
}

/// The context to run in: a span's, or none.
pub fn context_of(span: Option<&Span>) -> Context {
    span.map(Span::context).unwrap_or_default()
}

fn named(context: &SpanContext) -> Option<TraceContext> {
    let (trace, span) = (u128::from_be_bytes(context.trace_id().to_bytes()), u64::from_be_bytes(context.span_id().to_bytes()));
    context.is_valid().then(|| TraceContext { trace, span, sampled: context.is_sampled() })
}

fn spoken(context: &TraceContext) -> SpanContext {
    let flags = TraceFlags::default().with_sampled(context.sampled);
    SpanContext::new(TraceId::from(context.trace), SpanId::from(context.span), flags, true, TraceState::NONE)
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use opentelemetry_sdk::error::OTelSdkResult;
    use opentelemetry_sdk::trace::{SpanData, SpanExporter};

    use super::*;

    #[derive(Clone, Debug, Default)]
    struct Kept(Arc<Mutex<Vec<SpanData>>>);

    impl SpanExporter for Kept {
        async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
            self.0.lock().unwrap().extend(batch);
            Ok(())
        }
    }

    /// The only test of this process that installs: what comes before is what no one records.
    #[tokio::test]
    async fn a_span_stands_below_its_parent_links_a_bounded_number_and_is_the_current_one_of_what_runs_in_it() {
        assert_eq!(current(), None);
        let kept = Kept::default();
        install(SdkTracerProvider::builder().with_simple_exporter(kept.clone()).build());
        let parent = TraceContext { trace: 7, span: 8, sampled: true };
        let others = (1..=200).map(|span| TraceContext { trace: 9, span, sampled: true });
        let span = Span::start("send t", SpanKind::Producer, Some(&parent), others, vec![system()]);
        let trace = span.trace().unwrap();
        assert_eq!((trace.trace, trace.sampled), (7, true));
        assert_eq!(async { current() }.with_context(span.context()).await, Some(trace));
        assert_eq!(current(), None);
        span.failed("unavailable", "it is full");
        drop(span);
        let spans = kept.0.lock().unwrap();
        let [span] = spans.as_slice() else { panic!("{spans:?}") };
        assert_eq!((span.parent_span_id, span.links.links.len()), (SpanId::from(8), LINKS_MAX));
        assert!(matches!(&span.status, Status::Error { description } if description == "it is full"));
    }
}
