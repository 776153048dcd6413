//! A table of bad requests to queues. Each gets the documented status and code, and changes nothing: what is leased stays
//! leased, what is ready stays ready.

use lakefall_tests::Client;
use reqwest::Method;
use serde_json::{Value, json};

use super::bad_input::Case;
use super::{Subject, start};

const JSON: &str = "application/json";

fn get(path: &str, status: u16, code: &'static str) -> Case {
    Case::new(Method::GET, path, status, code)
}

fn post(path: &str, body: &str, status: u16, code: &'static str) -> Case {
    Case::new(Method::POST, path, status, code).body(JSON, body)
}

fn put(path: &str, body: &str, status: u16, code: &'static str) -> Case {
    Case::new(Method::PUT, path, status, code).body(JSON, body)
}

async fn receive(client: &Client, queue: &str) -> String {
    let answer = client.call(Method::POST, &format!("/v1/queues/{queue}/receive"), &json!({"lease": "12h", "wait": "10s"})).await.ok();
    answer.json()["messages"][0]["receipt"].as_str().expect("a message was sent").to_owned()
}

/// Receipts that are of no use at queue `q`.
struct Receipts {
    /// Of a lease that was given back, after which the message was leased again.
    stale: String,
    /// Of another queue.
    other: String,
    /// Of a queue of the same name in another namespace.
    foreign: String,
    /// Good: the message is leased.
    good: String,
}

/// Queue `q` with three messages, one of them leased; `other` with one; `small` that is full; `orphan` whose topic is gone.
async fn prepare(client: &Client) -> Receipts {
    client.create_topic("t", 1).await;
    client.create_topic("gone", 1).await;
    for (name, settings) in [
        ("q", json!({"start": "earliest"})),
        ("other", json!({"start": "earliest"})),
        ("small", json!({"start": "earliest", "max_depth": 1})),
        ("orphan", json!({"topics": ["gone"]})),
        ("dying", json!({"start": "earliest", "dead_letter": {"topic": "dead"}})),
    ] {
        client.call(Method::PUT, &format!("/v1/queues/{name}"), &settings).await.ok();
    }
    for queue in ["q", "q", "q", "other", "small"] {
        client.call(Method::POST, &format!("/v1/queues/{queue}/messages"), &json!({"value": 1})).await.ok();
    }
    client.send(client.request(Method::DELETE, "/v1/topics/gone")).await.unwrap().ok();
    client.call(Method::PUT, "/v1/namespaces/elsewhere", &json!({})).await.ok();
    let elsewhere = client.clone().in_namespace("elsewhere");
    elsewhere.call(Method::PUT, "/v1/queues/q", &json!({"start": "earliest"})).await.ok();
    elsewhere.call(Method::POST, "/v1/queues/q/messages", &json!({"value": 1})).await.ok();
    let stale = receive(client, "q").await;
    client.call(Method::POST, "/v1/queues/q/nack", &json!({"items": [{"receipt": stale, "delay": "0s"}]})).await.ok();
    Receipts { stale, other: receive(client, "other").await, foreign: receive(&elsewhere, "q").await, good: receive(client, "q").await }
}

/// What must stay as it is.
async fn state(client: &Client) -> Value {
    let stats = client.get("/v1/queues/q/stats").await.unwrap().ok().json();
    let counts = ["ready", "leased", "delayed", "acked_total", "dead_total"].map(|name| stats[name].clone());
    let queues = client.get("/v1/queues").await.unwrap().ok().json();
    let topics = client.get("/v1/topics").await.unwrap().ok().json();
    json!([counts, queues, topics, client.ends("q").await, client.ends("t").await])
}

async fn run(server: &mut Subject, cases: Vec<Case>) {
    let client = server.client();
    let before = state(&client).await;
    let (count, mut wrong) = (cases.len(), Vec::new());
    for case in cases {
        let name = case.name();
        let mut request = client.request(case.method.clone(), &case.path);
        for (header, value) in &case.headers {
            request = request.header(*header, value);
        }
        let answer = match client.send(request.body(case.body)).await {
            Ok(answer) => answer,
            Err(error) => {
                wrong.push(format!("{name}: no answer: {error:?}"));
                continue;
            }
        };
        if (answer.status, answer.code().as_str()) != (case.status, case.code) || answer.json()["outcome"] != "not_applied" {
            let told: String = answer.text().chars().take(400).collect();
            wrong.push(format!("{name}: expected {} {}, got {told}", case.status, case.code));
        }
        let after = state(&client).await;
        if after != before {
            wrong.push(format!("{name}: it changed something: {before} became {after}"));
        }
    }
    assert!(server.ended().is_none(), "the server is gone");
    assert!(!server.whole_log().contains("panicked"), "something panicked");
    println!("bad_queue_input: {count} bad requests, {} wrong", wrong.len());
    assert!(wrong.is_empty(), "{} of {count} are answered wrongly:\n{}", wrong.len(), wrong.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_settings_of_queues_are_refused() {
    let mut server = start().await;
    prepare(&server.client()).await;
    let long = format!(r#"{{"name":"x","filter":"{}"}}"#, "x".repeat(4_097));
    let (new, q, binding) = ("/v1/queues", "/v1/queues/q", "/v1/queues/q/bindings/b");
    let cases = vec![
        get("/v1/queues/absent", 404, "queue_not_found"),
        get("/v1/queues/a%20b", 400, "invalid_argument"),
        get("/v1/queues?limit=0", 400, "invalid_argument"),
        post(new, "{}", 400, "invalid_argument"),
        post(new, r#"{"name":"q"}"#, 409, "already_exists"),
        post(new, r#"{"name":"x","is_admin":true}"#, 400, "unknown_field"),
        post(new, r#"{"name":"x","topics":["absent"]}"#, 404, "topic_not_found"),
        post(new, r#"{"name":"x","topics":["t"],"dead_letter":{"topic":"t"}}"#, 409, "dead_letter_cycle"),
        post(new, r#"{"name":"x","filter":"headers.a ==="}"#, 400, "invalid_argument"),
        post(new, r#"{"name":"x","filter":""}"#, 400, "invalid_argument"),
        post(new, &long, 400, "invalid_argument"),
        put(q, r#"{"dead_letter":{"topic":"q"}}"#, 409, "dead_letter_cycle"),
        put(q, r#"{"lease":"13h"}"#, 400, "invalid_argument"),
        put(q, r#"{"lease":"soon"}"#, 400, "invalid_argument"),
        put(q, r#"{"delay":"366d"}"#, 400, "invalid_argument"),
        put(q, r#"{"max_attempts":0}"#, 400, "invalid_argument"),
        put(q, r#"{"max_depth":0}"#, 400, "invalid_argument"),
        put(q, r#"{"max_in_flight":0}"#, 400, "invalid_argument"),
        put(q, r#"{"priorities":0}"#, 400, "invalid_argument"),
        put(q, r#"{"retry":{"min":"2h","max":"1h"}}"#, 400, "invalid_argument"),
        put(q, r#"{"retry":{"multiplier":1e308}}"#, 400, "invalid_argument"),
        put(q, r#"{"ordering":"strict"}"#, 400, "invalid_argument"),
        put(q, r#"{"start":{"offset":9007199254740993}}"#, 400, "invalid_argument"),
        put(binding, r#"{"topic":"absent","match":{"type":"all"}}"#, 404, "topic_not_found"),
        put(binding, r#"{"topic":"t","match":{"type":"regex"}}"#, 400, "invalid_argument"),
        put(binding, r#"{"topic":"t","match":{"type":"expression","expression":"value."}}"#, 400, "invalid_argument"),
        get(binding, 404, "binding_not_found"),
        post("/v1/queues/q/seek", r#"{"to":"middle"}"#, 400, "invalid_argument"),
        post("/v1/queues/q/seek", r#"{"to":{"offsets":{"t":{"0":0}}}}"#, 400, "invalid_argument"),
        post("/v1/queues/absent/purge", "{}", 404, "queue_not_found"),
        post("/v1/queues/absent/seek", r#"{"to":"latest"}"#, 404, "queue_not_found"),
        post("/v1/queues/absent/redrive", "{}", 404, "queue_not_found"),
        get("/v1/queues/absent/dead-letters", 404, "queue_not_found"),
        get("/v1/queues/absent/stats", 404, "queue_not_found"),
        get("/v1/queues/absent/bindings/b", 404, "queue_not_found"),
        put("/v1/queues/absent/bindings/b", r#"{"topic":"t","match":{"type":"all"}}"#, 404, "queue_not_found"),
        Case::new(Method::PATCH, "/v1/queues/absent", 404, "queue_not_found").body("application/merge-patch+json", r#"{"lease":"1m"}"#),
        Case::new(Method::DELETE, "/v1/queues/absent", 404, "queue_not_found"),
        Case::new(Method::PATCH, q, 409, "dead_letter_cycle").body("application/merge-patch+json", r#"{"dead_letter":{"topic":"q"}}"#),
        get("/v1/queues/q/dead-letters", 400, "invalid_argument"),
        post("/v1/queues/dying/redrive", r#"{"max_per_second":0}"#, 400, "invalid_argument"),
        post("/v1/queues/dying/redrive", r#"{"filter":"value."}"#, 400, "invalid_argument"),
        post("/v1/queues/dying/redrive", r#"{"to":"absent"}"#, 404, "topic_not_found"),
        get("/v1/operations/absent", 404, "operation_not_found"),
    ];
    run(&mut server, cases).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_receives_and_receipts_are_refused() {
    let mut server = start().await;
    let client = server.client();
    let Receipts { stale, other, foreign, good } = prepare(&client).await;
    let (ack, nack, extend) = ("/v1/queues/q/ack", "/v1/queues/q/nack", "/v1/queues/q/extend");
    let one = |receipt: &str| json!({ "receipts": [receipt] }).to_string();
    let items = |receipt: &str| json!({ "items": [{"receipt": receipt}] }).to_string();
    let leases = |receipt: &str| json!({ "items": [{"receipt": receipt, "lease": "1m"}] }).to_string();
    let flipped: String = good.chars().rev().collect();
    let commit = |receipt: &str| {
        json!({"appends": [{"topic": "t", "records": [{"value": 1}]}], "acks": [{"queue": "q", "receipts": [good, receipt]}]}).to_string()
    };
    let cases = vec![
        post("/v1/queues/absent/receive", "{}", 404, "queue_not_found"),
        post("/v1/queues/orphan/receive", "{}", 409, "queue_without_topic"),
        post("/v1/queues/q/receive", r#"{"max":0}"#, 400, "invalid_argument"),
        post("/v1/queues/q/receive", r#"{"max":1001}"#, 400, "invalid_argument"),
        post("/v1/queues/q/receive", r#"{"lease":"13h"}"#, 400, "invalid_argument"),
        post("/v1/queues/q/receive", r#"{"wait":"1d"}"#, 400, "invalid_argument"),
        get("/v1/queues/q/messages?credit=0", 400, "invalid_argument"),
        get("/v1/queues/absent/messages", 404, "queue_not_found"),
        post("/v1/queues/absent/messages", r#"{"value":1}"#, 404, "queue_not_found"),
        post("/v1/queues/small/messages", r#"{"value":1}"#, 429, "queue_full"),
        post("/v1/queues/q/messages", r#"{"value":1,"delay":"366d"}"#, 400, "invalid_argument"),
        post("/v1/queues/q/messages", r#"{"value":1,"for_queue":"q"}"#, 400, "unknown_field"),
        post(ack, r#"{"receipts":[]}"#, 400, "invalid_argument"),
        post(ack, &json!({ "receipts": vec!["x"; 10_001] }).to_string(), 400, "invalid_argument"),
        post(ack, &one(""), 400, "receipt_forged"),
        post(ack, &one("made up"), 400, "receipt_forged"),
        post(ack, &one(&flipped), 400, "receipt_forged"),
        post(ack, &one(&"x".repeat(100_000)), 400, "receipt_forged"),
        post(ack, &one(&other), 404, "receipt_not_found"),
        post(ack, &one(&foreign), 404, "receipt_not_found"),
        post(ack, &one(&stale), 409, "lease_expired"),
        post("/v1/queues/absent/ack", &one(&stale), 404, "queue_not_found"),
        post(nack, &json!({"items": [{"receipt": good, "delay": "366d"}]}).to_string(), 400, "invalid_argument"),
        post(extend, &json!({"items": [{"receipt": good, "lease": "13h"}]}).to_string(), 400, "invalid_argument"),
        post("/v1/queues/q/reject", &one(&stale), 409, "lease_expired"),
        post(nack, &items("made up"), 400, "receipt_forged"),
        post(nack, &items(&other), 404, "receipt_not_found"),
        post(nack, &items(&foreign), 404, "receipt_not_found"),
        post(extend, &leases("made up"), 400, "receipt_forged"),
        post(extend, &leases(&stale), 409, "lease_expired"),
        post(extend, &leases(&other), 404, "receipt_not_found"),
        post(extend, &leases(&foreign), 404, "receipt_not_found"),
        post("/v1/queues/q/reject", &one("made up"), 400, "receipt_forged"),
        post("/v1/queues/q/reject", &one(&other), 404, "receipt_not_found"),
        post("/v1/queues/q/reject", &one(&foreign), 404, "receipt_not_found"),
        post("/v1/queues/absent/nack", &items(&stale), 404, "queue_not_found"),
        post("/v1/queues/absent/extend", &leases(&stale), 404, "queue_not_found"),
        post("/v1/queues/absent/reject", &one(&stale), 404, "queue_not_found"),
        post("/v1/queues/absent/peek", "{}", 404, "queue_not_found"),
        post("/v1/commit", &commit(&foreign), 404, "receipt_not_found"),
        post("/v1/commit", &commit(&good), 400, "invalid_argument"),
        post("/v1/commit", &commit(&stale), 409, "lease_over"),
        post("/v1/commit", &commit("made up"), 400, "receipt_forged"),
        post("/v1/commit", &commit(&other), 404, "receipt_not_found"),
        Case::new(Method::DELETE, "/v1/queues/q/messages/0-99", 404, "message_not_found"),
        Case::new(Method::DELETE, "/v1/queues/q/messages/first", 400, "invalid_argument"),
        post("/v1/topics/absent/request", r#"{"value":1}"#, 404, "topic_not_found"),
        post("/v1/topics/t/request?wait=1d", r#"{"value":1}"#, 400, "invalid_argument"),
    ];
    run(&mut server, cases).await;
    // In a batch, the good one is settled all the same.
    let answer = client.call(Method::POST, ack, &json!({"receipts": ["made up", stale, other, good]})).await.ok().json();
    let statuses: Vec<&str> = answer["results"].as_array().unwrap().iter().map(|result| result["status"].as_str().unwrap()).collect();
    assert_eq!(statuses, ["forged", "expired", "unknown", "ok"], "{answer}");
    // And nothing was lost: the two others are still there, each once, and may be named twice in one batch.
    let taken = client.call(Method::POST, "/v1/queues/q/receive", &json!({"max": 10, "wait": "10s"})).await.ok().json();
    let receipts: Vec<&str> = taken["messages"].as_array().unwrap().iter().map(|m| m["receipt"].as_str().unwrap()).collect();
    assert_eq!(receipts.len(), 2, "{taken}");
    let twice: Vec<&str> = receipts.iter().chain(&receipts).copied().collect();
    let answer = client.call(Method::POST, ack, &json!({ "receipts": twice })).await.ok().json();
    assert!(answer["results"].as_array().unwrap().iter().all(|result| result["status"] == "ok"), "{answer}");
    assert_eq!(state(&client).await[0], json!([0, 0, 0, 3, 0]));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expression_that_does_not_parse_is_refused_and_told_where() {
    let server = start().await;
    let settings = json!({"name": "x", "filter": "headers.a == 'b' &&& true"});
    let client = server.client();
    let request = client.request(Method::POST, "/v1/queues").header("content-type", JSON).body(settings.to_string());
    let answer = client.send(request).await.unwrap();
    let problem = answer.json();
    assert_eq!((answer.status, &problem["errors"][0]["pointer"]), (400, &json!("filter")), "{problem}");
    let reason = problem["errors"][0]["reason"].as_str().unwrap();
    assert!(reason.contains("line 1, column 20"), "it does not say where: {problem}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_leased_when_its_topic_is_deleted_is_told_to_be_unknown_and_the_queue_goes_on() {
    let server = start().await;
    let client = server.client();
    client.create_topic("a", 1).await;
    client.create_topic("b", 1).await;
    client.call(Method::PUT, "/v1/queues/both", &json!({"topics": ["a", "b"]})).await.ok();
    client.put("a", 0, &json!("a")).await;
    let lost = receive(&client, "both").await;
    client.send(client.request(Method::DELETE, "/v1/topics/a")).await.unwrap().ok();
    client.put("b", 0, &json!("b")).await;
    let kept = receive(&client, "both").await;
    let answer = client.call(Method::POST, "/v1/queues/both/ack", &json!({"receipts": [lost, kept]})).await.ok().json();
    assert_eq!((&answer["results"][0]["status"], &answer["results"][1]["status"]), (&json!("unknown"), &json!("ok")), "{answer}");
    let stats = client.get("/v1/queues/both/stats").await.unwrap().ok().json();
    assert_eq!((&stats["leased"], &stats["ready"]), (&json!(0), &json!(0)), "{stats}");
}
