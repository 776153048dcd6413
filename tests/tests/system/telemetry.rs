//! What a server tells an OpenTelemetry collector: one message from its sender to its settlement, and nothing where nothing is to be
//! told; and that nobody waits for a collector that is away.

use std::time::Duration;

use lakefall_servers::Otlp;
use lakefall_tests::telemetry::{Place, Told};
use lakefall_tests::{Client, Options};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::time::Instant;

const SENDER: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const RECEIVER: &str = "00-11111111111111111111111111111111-2222222222222222-01";
const UNSAMPLED: &str = "00-33333333333333333333333333333333-4444444444444444-00";
const SETTLER: &str = "00-55555555555555555555555555555555-6666666666666666-01";

/// Told soon, whoever is traced by its own word alone.
fn told_to(endpoint: &str) -> Options {
    Options::default()
        .env("LAKEFALL_TELEMETRY__ENDPOINT", endpoint)
        .env("LAKEFALL_TELEMETRY__SAMPLE_RATIO", "0")
        .env("LAKEFALL_TELEMETRY__LINGER_MS", "20")
        .env("LAKEFALL_TELEMETRY__METRICS_INTERVAL_MS", "1000")
}

async fn post(client: &Client, path: &str, traceparent: Option<&str>, body: &Value) -> Value {
    let mut request = client.request(Method::POST, path).header("content-type", "application/json").body(body.to_string());
    if let Some(traceparent) = traceparent {
        request = request.header("traceparent", traceparent);
    }
    client.send(request).await.unwrap().ok().json()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_spans_of_one_message_are_joined_from_its_sender_to_its_settlement() {
    let receiver = Otlp::start().await;
    let server = told_to(&receiver.grpc()).env("LAKEFALL_LOG__LEVEL", "info,lakefall_http=debug").start().await;
    let client = server.client();
    client.call(Method::PUT, "/v1/queues/jobs", &json!({})).await;
    post(&client, "/v1/queues/jobs/messages", Some(SENDER), &json!({"records": [{"value": 1}]})).await;
    let got = post(&client, "/v1/queues/jobs/receive", Some(RECEIVER), &json!({"wait": "10s"})).await;
    let message = &got["messages"][0];
    assert_eq!(message["traceparent"], SENDER, "{got}");
    let settled = post(&client, "/v1/queues/jobs/ack", Some(SETTLER), &json!({"receipts": [message["receipt"]]})).await;
    let names = [
        "POST /v1/queues/{queue}/messages",
        "send jobs",
        "segment",
        "upload",
        "commit",
        "POST /v1/queues/{queue}/receive",
        "receive jobs",
        "POST /v1/queues/{queue}/ack",
        "ack jobs",
    ];
    let told = Told::until(&receiver, "a span", |told| told.has_spans(&names)).await;
    let [request, send, segment, upload, commit, asked, receive, ordered, ack] = names.map(|name| told.span(name));
    let (sender, receiving, settling) = (Place::of(SENDER), Place::of(RECEIVER), Place::of(SETTLER));
    // The way in: the sender's span, the request, what it sends; the segment below the only one that it carries.
    assert_eq!((&request.place.trace, &request.parent), (&sender.trace, &sender.span));
    assert_eq!((&send.place.trace, &send.parent), (&sender.trace, &request.place.span));
    assert_eq!((&segment.place.trace, &segment.parent), (&sender.trace, &send.place.span));
    assert_eq!(segment.links, std::slice::from_ref(&send.place));
    assert_eq!((&upload.parent, &commit.parent), (&segment.place.span, &segment.place.span));
    // The way out: in the receiver's own traces, linked with what the message says of itself.
    assert_eq!((&asked.place.trace, &asked.parent), (&receiving.trace, &receiving.span));
    assert_eq!((&receive.place.trace, &receive.parent), (&receiving.trace, &asked.place.span));
    assert_eq!(receive.links, std::slice::from_ref(&sender));
    assert_eq!((&ordered.place.trace, &ack.parent), (&settling.trace, &ordered.place.span));
    assert_eq!(ack.links, std::slice::from_ref(&sender), "{settled}");
    // What they are called by the conventions.
    assert_eq!((request.kind, send.kind, segment.kind, receive.kind), (2, 4, 1, 3));
    assert_eq!(request.attribute("http.route"), "/v1/queues/{queue}/messages");
    assert_eq!(request.attribute("http.response.status_code"), "200");
    for (span, operation) in [(&send, "send"), (&receive, "receive"), (&ack, "settle")] {
        assert_eq!(span.attribute("messaging.system"), "lakefall");
        assert_eq!(span.attribute("messaging.operation.type"), operation);
        assert_eq!(span.attribute("messaging.destination.name"), "jobs");
        assert_eq!(span.attribute("messaging.batch.message_count"), "1");
        assert_eq!(span.service, "lakefall-dev");
    }
    Told::until(&receiver, "a log record of the trace, or a metric", |told| {
        let metrics = told.metrics();
        let has = |name: &str| metrics.iter().any(|metric| metric == name);
        told.logs().iter().any(|(_, place)| *place == request.place)
            && has("http.server.request.duration")
            && has("messaging.client.sent.messages")
            && has("lakefall.upload.duration")
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trace_that_begins_here_is_told_to_its_receiver_by_http_and_by_the_standard_variables() {
    let receiver = Otlp::start().await;
    let server = Options::default()
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.http())
        .env("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")
        .env("OTEL_TRACES_SAMPLER", "always_on")
        .env("OTEL_SERVICE_NAME", "by-http")
        .start()
        .await;
    let client = server.client();
    client.create_topic("t", 1).await;
    post(&client, "/v1/topics/t/records", None, &json!({"records": [{"value": 1}, {"value": 2, "traceparent": SENDER}]})).await;
    let page = client.get("/v1/topics/t/partitions/0/records?offset=0").await.unwrap().ok().json();
    let told = Told::until(&receiver, "what is read", |told| told.has_spans(&["send t", "read t"])).await;
    let (send, read) = (told.span("send t"), told.span("read t"));
    let told_by = |record: usize| page["records"][record]["traceparent"].as_str().unwrap_or_default().to_owned();
    // A record that comes from a trace of its own keeps it.
    assert_eq!((Place::of(&told_by(0)), told_by(1).as_str()), (send.place.clone(), SENDER));
    assert_eq!(read.links, [send.place, Place::of(SENDER)]);
    assert_eq!(send.service, "by-http");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_headers_that_are_set_come_with_each_request_and_those_of_a_file_win_over_the_standard_variable() {
    let receiver = Otlp::start().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("headers");
    std::fs::write(&file, "api-key=of%20the%20file,x-tenant=a\n").unwrap();
    for (protocol, endpoint, of_file, key) in [
        ("grpc", receiver.grpc(), true, "of the file"),
        ("http", receiver.http(), true, "of the file"),
        ("grpc", receiver.grpc(), false, "of the environment"),
        ("http", receiver.http(), false, "of the environment"),
    ] {
        let service = format!("{protocol}-{of_file}");
        let mut options = told_to(&endpoint)
            .env("LAKEFALL_TELEMETRY__PROTOCOL", protocol)
            .env("LAKEFALL_TELEMETRY__SERVICE_NAME", &service)
            .env("OTEL_EXPORTER_OTLP_HEADERS", "api-key=of%20the%20environment");
        if of_file {
            options = options.env("LAKEFALL_TELEMETRY__HEADERS_FILE", file.display());
        }
        let mut server = options.start().await;
        Told::until(&receiver, "a metric", |told| !told.of_service(&service).metrics().is_empty()).await;
        server.stop().await;
        let told = Told::so_far(&receiver).of_service(&service);
        let keys = told.headers("api-key");
        assert!(!keys.is_empty() && keys.iter().all(|values| *values == [key]), "{service}: {keys:?}");
        let tenant: &[&str] = if of_file { &["a"] } else { &[] };
        assert!(told.headers("x-tenant").iter().all(|values| *values == tenant), "{service}: {:?}", told.headers("x-tenant"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_told_of_requests_that_are_not_sampled() {
    let receiver = Otlp::start().await;
    let options = told_to(&receiver.grpc()).env("LAKEFALL_TELEMETRY__METRICS", "false").env("LAKEFALL_TELEMETRY__LOGS", "false");
    let mut server = options.start().await;
    let client = server.client();
    client.create_topic("t", 1).await;
    for traceparent in [None, Some(UNSAMPLED), Some("00-1-2-01")].into_iter().cycle().take(30) {
        post(&client, "/v1/topics/t/records", traceparent, &json!({"records": [{"value": 1}]})).await;
    }
    let page = client.get("/v1/topics/t/partitions/0/records?offset=0&limit=3").await.unwrap().ok().json();
    let told = |record: usize| page["records"][record]["traceparent"].as_str();
    assert_eq!([told(0), told(1), told(2)], [None, Some(UNSAMPLED), Some("00-1-2-01")]);
    // What waited to be sent is sent with the stop.
    server.stop().await;
    assert_eq!(receiver.received(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_go_on_while_the_collector_is_away_or_says_nothing_and_it_is_told_again_when_it_is_back() {
    let receiver = Otlp::reserve();
    let options = told_to(&receiver.grpc())
        .env("LAKEFALL_TELEMETRY__QUEUE_ITEMS", "16")
        .env("LAKEFALL_TELEMETRY__TIMEOUT_MS", "300")
        .env("LAKEFALL_TELEMETRY__SAMPLE_RATIO", "1");
    let mut server = options.start().await;
    let client = server.client();
    client.create_topic("t", 1).await;
    let began = Instant::now();
    let load = async |rounds: usize| {
        for _ in 0..rounds {
            post(&client, "/v1/topics/t/records", None, &json!({"records": [{"value": 1}]})).await;
        }
    };
    load(100).await;
    assert!(server.metric("lakefall_telemetry_dropped_total").await > 0.0, "{}", server.log());
    let warned = |signal: &str| {
        let log = server.whole_log();
        let of = format!("signal=\"{signal}\"");
        log.lines().filter(|line| line.contains("the collector does not take telemetry") && line.contains(&of)).count()
    };
    while warned("traces") == 0 {
        assert!(began.elapsed() < Duration::from_secs(30), "nobody is warned:\n{}", server.log());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    receiver.start_again().await;
    receiver.pause().await;
    let paused = Instant::now();
    load(100).await;
    // Far from what waiting for the collector would take: each attempt lasts 300 ms.
    assert!(paused.elapsed() < Duration::from_secs(15), "100 requests took {:?}", paused.elapsed());
    receiver.resume().await;
    let told = Told::until(&receiver, "a span after the pause", |told| told.has_spans(&["send t"])).await;
    assert!(told.spans().len() > 1);
    receiver.kill_nine().await;
    load(10).await;
    // Away, silent, and gone again: once each.
    for signal in ["traces", "metrics", "logs"] {
        assert!(warned(signal) <= 3, "warned {} times of {signal}:\n{}", warned(signal), server.log());
    }
    let stopping = Instant::now();
    server.stop().await;
    assert!(stopping.elapsed() < Duration::from_secs(15), "the stop took {:?}", stopping.elapsed());
}
