//! What a server told an OpenTelemetry collector, as tests look at it. Must never hide a span that came twice.

use std::time::Duration;

use lakefall_servers::Otlp;
use serde_json::Value;
use tokio::time::Instant;

/// Between two looks at what came.
const LOOK: Duration = Duration::from_millis(20);
/// How long what is told may take to come: it waits for others, and other tests may have the machine.
const COME: Duration = Duration::from_secs(30);

/// Where a span or a log record stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The trace, 32 digits.
    pub trace: String,
    /// The span, 16 digits; empty for none.
    pub span: String,
}

impl Place {
    /// What a `traceparent` names.
    pub fn of(traceparent: &str) -> Self {
        let parts: Vec<&str> = traceparent.split('-').collect();
        Self { trace: parts[1].to_owned(), span: parts[2].to_owned() }
    }
}

/// A span as it was received.
#[derive(Clone, Debug)]
pub struct Span {
    /// `service.name` of who told it.
    pub service: String,
    /// Its name.
    pub name: String,
    /// Itself.
    pub place: Place,
    /// What it stands below; its trace is its own.
    pub parent: String,
    /// What it is linked with.
    pub links: Vec<Place>,
    /// OTLP's number of its kind: 1 internal, 2 server, 3 client, 4 producer, 5 consumer.
    pub kind: u64,
    attributes: Value,
}

impl Span {
    /// An attribute as text; empty where there is none.
    pub fn attribute(&self, key: &str) -> String {
        attribute(&self.attributes, key)
    }
}

/// All that a receiver got.
#[derive(Clone, Debug)]
pub struct Told(Vec<Value>);

impl Told {
    /// What came so far.
    pub fn so_far(receiver: &Otlp) -> Self {
        Self(receiver.received().iter().map(|line| serde_json::from_str(line).unwrap()).collect())
    }

    /// Waits until what came is enough.
    pub async fn until(receiver: &Otlp, what: &str, enough: impl Fn(&Self) -> bool) -> Self {
        let deadline = Instant::now() + COME;
        loop {
            let told = Self::so_far(receiver);
            if enough(&told) {
                return told;
            }
            let names = || told.spans().into_iter().map(|span| span.name).collect::<Vec<_>>();
            assert!(Instant::now() < deadline, "{what} did not come within {COME:?}; spans: {:?}; metrics: {:?}", names(), told.metrics());
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Requests of one service alone.
    pub fn of_service(&self, name: &str) -> Self {
        let is_its = |request: &&Value| {
            let resources = ["resourceSpans", "resourceMetrics", "resourceLogs"].into_iter().flat_map(|key| request[key].as_array());
            resources.flatten().any(|of| attribute(&of["resource"]["attributes"], "service.name") == name)
        };
        Self(self.0.iter().filter(is_its).cloned().collect())
    }

    /// The values of a header of each request: none where it had none.
    pub fn headers(&self, name: &str) -> Vec<Vec<String>> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let values = |request: &Value| request["headers"][name].as_array().map(|values| values.iter().map(text).collect());
        self.0.iter().map(|request| values(request).unwrap_or_default()).collect()
    }

    /// All spans.
    pub fn spans(&self) -> Vec<Span> {
        let mut spans = Vec::new();
        for (resource, span) in self.each("resourceSpans", "scopeSpans", "spans") {
            let text = |value: &Value, key: &str| value[key].as_str().unwrap_or_default().to_owned();
            let place = |value: &Value| Place { trace: text(value, "traceId"), span: text(value, "spanId") };
            let links = span["links"].as_array().map(|links| links.iter().map(place).collect()).unwrap_or_default();
            spans.push(Span {
                service: attribute(&resource["attributes"], "service.name"),
                name: text(span, "name"),
                place: place(span),
                parent: text(span, "parentSpanId"),
                links,
                kind: span["kind"].as_u64().unwrap_or_default(),
                attributes: span["attributes"].clone(),
            });
        }
        spans
    }

    /// The only span of a name.
    pub fn span(&self, name: &str) -> Span {
        let spans: Vec<Span> = self.spans().into_iter().filter(|span| span.name == name).collect();
        assert_eq!(spans.len(), 1, "spans of the name {name}: {spans:?}");
        spans[0].clone()
    }

    /// Whether there is a span of each name.
    pub fn has_spans(&self, names: &[&str]) -> bool {
        let spans = self.spans();
        names.iter().all(|name| spans.iter().any(|span| span.name == *name))
    }

    /// Text and place of each log record.
    pub fn logs(&self) -> Vec<(String, Place)> {
        let log = |(_, log): (&Value, &Value)| {
            let text = |key: &str| log[key].as_str().unwrap_or_default().to_owned();
            let body = log["body"]["stringValue"].as_str().unwrap_or_default().to_owned();
            (body, Place { trace: text("traceId"), span: text("spanId") })
        };
        self.each("resourceLogs", "scopeLogs", "logRecords").map(log).collect()
    }

    /// Names of the metrics, each once.
    pub fn metrics(&self) -> Vec<String> {
        let name = |(_, metric): (&Value, &Value)| metric["name"].as_str().unwrap_or_default().to_owned();
        let mut names: Vec<String> = self.each("resourceMetrics", "scopeMetrics", "metrics").map(name).collect();
        names.sort();
        names.dedup();
        names
    }

    /// Each item with its resource.
    fn each<'a>(&'a self, resources: &'a str, scopes: &'a str, items: &'a str) -> impl Iterator<Item = (&'a Value, &'a Value)> {
        let list = |value: &'a Value| value.as_array().into_iter().flatten();
        self.0
            .iter()
            .flat_map(move |request| list(&request[resources]))
            .flat_map(move |of| list(&of[scopes]).flat_map(move |scope| list(&scope[items])).map(move |item| (&of["resource"], item)))
    }
}

fn attribute(attributes: &Value, key: &str) -> String {
    let found = attributes.as_array().into_iter().flatten().find(|pair| pair["key"] == key);
    let value = found.and_then(|pair| pair["value"].as_object()?.values().next().cloned());
    match value {
        Some(Value::String(text)) => text,
        Some(other) => other.to_string(),
        None => String::new(),
    }
}
