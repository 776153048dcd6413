//! What the processes of a cluster tell an OpenTelemetry collector of one message.

use lakefall_servers::Otlp;
use lakefall_tests::cluster::{Options, Role};
use lakefall_tests::telemetry::{Place, Told};
use reqwest::Method;
use serde_json::json;

const SENDER: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const SETTLER: &str = "00-55555555555555555555555555555555-6666666666666666-01";
/// What a replica does for who asks it.
const ASKED: &str = "lakefall.metadata.v1.Metadata/Session";

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_is_followed_into_the_replica_and_a_settlement_through_another_gateway_to_its_message() {
    let receiver = Otlp::start().await;
    let options = [Role::Gateway, Role::Metadata].into_iter().fold(Options::default(), |options, role| {
        options.env(role, "LAKEFALL_TELEMETRY__ENDPOINT", receiver.grpc()).env(role, "LAKEFALL_TELEMETRY__SAMPLE_RATIO", 0).env(
            role,
            "LAKEFALL_TELEMETRY__LINGER_MS",
            20,
        )
    });
    let cluster = options.start().await;
    let (one, other) = (cluster.client_of(0), cluster.client_of(1));
    one.call(Method::PUT, "/v1/queues/jobs", &json!({})).await;
    let post = async |client: &lakefall_tests::Client, path: &str, traceparent: &str, body: serde_json::Value| {
        let request = client.request(Method::POST, path).header("content-type", "application/json").header("traceparent", traceparent);
        client.send(request.body(body.to_string())).await.unwrap().ok().json()
    };
    post(&one, "/v1/queues/jobs/messages", SENDER, json!({"records": [{"value": 1}]})).await;
    let got = post(&one, "/v1/queues/jobs/receive", SENDER, json!({"wait": "10s"})).await;
    post(&other, "/v1/queues/jobs/ack", SETTLER, json!({"receipts": [got["messages"][0]["receipt"]]})).await;
    let told = Told::until(&receiver, "a span", |told| told.has_spans(&["commit", "ack jobs", ASKED])).await;
    let (commit, ack) = (told.span("commit"), told.span("ack jobs"));
    assert_eq!(commit.service, "lakefall-gateway");
    let below: Vec<_> = told.spans().into_iter().filter(|span| span.name == ASKED && span.parent == commit.place.span).collect();
    let [asked] = below.as_slice() else { panic!("below the commit: {below:?}") };
    assert_eq!((asked.service.as_str(), asked.kind, &asked.place.trace), ("lakefall-metadata", 2, &Place::of(SENDER).trace));
    // The gateway that settles never saw the message: its receipt tells.
    assert_eq!(ack.links, [Place::of(SENDER)]);
}
