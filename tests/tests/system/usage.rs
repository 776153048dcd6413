//! The meter from outside: what was sent, read and received is what is told; what the store was asked is all accounted for; a
//! restart loses nothing that was reported.

use std::process::Command;
use std::time::Duration;

use lakefall_tests::process::binary;
use lakefall_tests::queues::Queue;
use lakefall_tests::queues::history::Verb;
use lakefall_tests::server::Options;
use lakefall_tests::{Client, Server};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::time::Instant;

/// Within which what was used must be told.
const TOLD: Duration = Duration::from_secs(30);
const INTERVAL: &str = "LAKEFALL_USAGE__REPORT_INTERVAL_MS";
const TEAM: &str = "team";

async fn get(client: &Client, path: &str) -> Value {
    client.get(path).await.unwrap().ok().json()
}

/// Asks until the answer is as it must be.
async fn until(client: &Client, path: &str, is: impl Fn(&Value) -> bool) -> Value {
    let began = Instant::now();
    loop {
        let told = get(client, path).await;
        if is(&told) {
            return told;
        }
        assert!(began.elapsed() < TOLD, "{path} stays at {told}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn counts(told: &Value, expected: &Value) -> bool {
    expected.as_object().unwrap().iter().all(|(name, count)| told["total"][name] == *count)
}

async fn send(client: &Client, topic: &str, lines: &[&str]) {
    client.send(client.values(topic, "partition=0", lines.join("\n"))).await.unwrap().ok();
}

/// Sends known bytes to a topic in each of two namespaces, reads one, and receives from a queue on the other.
async fn work(own: &Client, team: &Client) {
    own.create_topic("a", 1).await;
    own.call(Method::PUT, "/v1/namespaces/team", &json!({})).await;
    team.create_topic("b", 1).await;
    for _ in 0..20 {
        send(own, "a", &["[10,20]", "123"]).await;
    }
    send(team, "b", &["12345", "6789", "{}"]).await;
    assert_eq!(own.read_pages("a", 0, 0).await.len(), 40);
    let queue = Queue::of(team, "work");
    queue.create(json!({"topics": ["b"], "start": "earliest"})).await;
    for _ in 0..3 {
        let message = queue.one(TOLD).await;
        queue.settled(Verb::Ack, &message).await;
    }
}

/// The requests to the object store that are accounted for, in millionths.
fn requests(told: &Value) -> u64 {
    let number = |name: &str| (told["total"][name].as_f64().unwrap() * 1e6).round() as u64;
    number("store_writes") + number("store_reads") + number("store_deletes")
}

async fn all_requests(server: &Server, own: &Client, team: &Client) -> (u64, u64) {
    let (sent, nobodys) =
        (server.metric("lakefall_store_requests_total").await, server.metric("lakefall_store_unattributed_requests_total").await);
    let accounted = requests(&get(own, "/v1/usage").await) + requests(&get(team, "/v1/usage").await);
    ((sent - nobodys) as u64 * 1_000_000, accounted)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn usage_is_exactly_what_was_sent_read_and_received_and_survives_stops_and_kills() {
    let mut server = Options::default().env(INTERVAL, 100).start().await;
    let own = server.client();
    let team = server.client().in_namespace(TEAM);
    work(&own, &team).await;

    let expected = json!({"produced_records": 40, "produced_bytes": 200, "read_records": 40, "read_bytes": 200, "queue_requests": 0});
    let a = until(&own, "/v1/topics/a/usage", |told| counts(told, &expected)).await;
    let expected = json!({"produced_records": 3, "produced_bytes": 11, "received_messages": 3, "received_bytes": 11, "read_records": 0});
    let b = until(&team, "/v1/topics/b/usage", |told| counts(told, &expected)).await;
    assert!(b["total"]["queue_requests"].as_u64().unwrap() >= 6, "each of three was received and acknowledged: {b}");
    assert_eq!((&a["holdings"]["topics"], &a["holdings"]["partitions"]), (&json!(1), &json!(1)));
    assert_eq!((&b["holdings"]["queues"], &b["namespace"]), (&json!(1), &json!(TEAM)));
    let stored = |told: &Value| told["holdings"]["segment_bytes"].as_u64().unwrap() + told["holdings"]["parquet_bytes"].as_u64().unwrap();
    assert!(stored(&a) > 0 && a["total"]["stored_bytes"].as_u64().unwrap() > 0, "{a}");

    // A namespace uses what its topics use: here, one each.
    assert_eq!(get(&own, "/v1/usage").await["total"]["produced_records"], json!(40));
    let hours = get(&own, "/v1/usage?granularity=hour").await;
    let by_hour: u64 = hours["buckets"].as_array().unwrap().iter().map(|hour| hour["usage"]["produced_records"].as_u64().unwrap()).sum();
    assert_eq!(by_hour, 40);

    // Every request to the store is some topic's, or known to be nobody's.
    let began = Instant::now();
    loop {
        let (sent, accounted) = all_requests(&server, &own, &team).await;
        if sent == accounted && sent > 20_000_000 {
            break;
        }
        assert!(began.elapsed() < TOLD, "{sent} requests were sent and {accounted} are accounted for");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(server.metric("lakefall_usage_produced_records_total").await, 43.0);
    let b = get(&team, "/v1/topics/b/usage").await;
    until(&own, "/v1/namespaces/team/usage", |told| told["total"] == b["total"]).await;

    // What was reported is journaled.
    let before = get(&own, "/v1/topics/a/usage").await["total"].clone();
    server.kill_nine();
    server.start().await;
    assert_eq!(get(&own, "/v1/topics/a/usage").await["total"]["produced_records"], before["produced_records"]);

    // A stop reports what it did not report yet.
    server.set_env(INTERVAL, 3_600_000);
    server.stop().await;
    server.start().await;
    send(&own, "a", &["1", "2", "3"]).await;
    assert_eq!(get(&own, "/v1/topics/a/usage").await["total"]["produced_records"], json!(40));
    server.stop().await;
    server.start().await;
    assert_eq!(get(&own, "/v1/topics/a/usage").await["total"]["produced_records"], json!(43));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_for_usage_that_makes_no_sense_is_refused_and_says_what_would() {
    let server = Server::start_default().await;
    let client = server.client();
    for (path, status, code, says) in [
        ("/v1/usage?granularity=minute", 400, "invalid_argument", "hour, day or total"),
        ("/v1/usage?from=yesterday", 400, "invalid_argument", "RFC 3339"),
        ("/v1/usage?from=9999-01-01T00:00:00Z", 400, "invalid_argument", "future"),
        ("/v1/usage?granularity=hour&from=2020-01-01T00:00:00Z", 400, "invalid_argument", "granularity=day"),
        ("/v1/usage?granularity=day&from=2020-01-01T00:00:00Z", 400, "invalid_argument", "days are kept from"),
        ("/v1/usage?by=topic", 400, "unknown_parameter", "granularity"),
        ("/v1/topics/none/usage", 404, "topic_not_found", "none"),
        ("/v1/namespaces/none/usage", 404, "namespace_not_found", "none"),
    ] {
        let answer = client.get(path).await.unwrap();
        assert_eq!((answer.status, answer.code().as_str()), (status, code), "{path}: {}", answer.text());
        assert!(answer.text().contains(says), "{path}: {}", answer.text());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_command_shows_usage_of_a_namespace_its_topics_and_what_it_costs() {
    let server = Options::default().env(INTERVAL, 100).start().await;
    let client = server.client();
    client.create_topic("a", 1).await;
    client.create_topic("b", 1).await;
    send(&client, "a", &["1", "2"]).await;
    until(&client, "/v1/usage", |told| counts(told, &json!({"produced_records": 2}))).await;
    let run = |arguments: &[&str]| {
        let mut command = Command::new(binary());
        command.arg("usage").args(arguments).env_clear().env("LAKEFALL_URL", format!("http://{}", server.address()));
        let output = command.output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    assert!(run(&[]).lines().any(|line| line.starts_with("produced_records") && line.ends_with(" 2")), "{}", run(&[]));
    let told: Value = serde_json::from_str(&run(&["a", "--prices", "--json"])).unwrap();
    assert_eq!((&told["topic"], &told["cost"]["currency"]), (&json!("a"), &json!("USD")));
    assert!(told["cost"]["store_requests"].as_f64().unwrap() > 0.0, "{told}");
    let topics = run(&["--topics"]);
    assert!(topics.lines().any(|line| line.starts_with("a ")) && topics.lines().any(|line| line.starts_with("b ")), "{topics}");
    assert!(run(&["--granularity", "day"]).lines().count() == 2);
}
