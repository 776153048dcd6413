//! What was answered before a stop or a kill holds after it: records, topics, cursors, remembered requests.

use bytes::Bytes;
use lakefall_tests::{Answer, Client};
use reqwest::Method;
use serde_json::{Value, json};

use super::start;

async fn get(client: &Client, path: &str) -> Value {
    client.get(path).await.unwrap().ok().json()
}

async fn keyed(client: &Client) -> Answer {
    client.send(client.values("orders", "partition=1", "{\"n\":1}\n{\"n\":2}").header("idempotency-key", "k-1")).await.unwrap()
}

async fn sequenced(client: &Client, sequence: u64) -> Answer {
    let query = format!("partition=2&producer_id=p&producer_epoch=3&producer_sequence={sequence}");
    client.send(client.values("orders", &query, "{\"s\":1}\n{\"s\":2}")).await.unwrap()
}

/// Everything that a client can ask for and that must not change.
async fn state(client: &Client) -> Vec<Value> {
    let mut state = Vec::new();
    for path in ["/v1/topics", "/v1/topics/orders", "/v1/topics/empty", "/v1/cursors", "/v1/cursors/billing", "/v1/namespaces/team"] {
        let mut found = get(client, path).await;
        // Trimmed objects are let go of in the background: what they occupy may be told a little longer.
        for status in found["partition_status"].as_array_mut().into_iter().flatten() {
            status.as_object_mut().unwrap().retain(|name, _| name != "bytes" && name != "extents");
        }
        state.push(found);
    }
    for partition in 0..3 {
        state.push(get(client, &format!("/v1/topics/orders/partitions/{partition}/records?from=earliest")).await);
    }
    state
}

async fn fill(client: &Client) {
    let settings = json!({
        "name": "orders", "partitions": 3, "compression": "lz4", "urgency": "express", "dedup_window": "10m",
        "max_record_bytes": 4096, "retention": {"age": "7d", "bytes": 1_000_000_000}
    });
    client.call(Method::POST, "/v1/topics", &settings).await;
    client.call(Method::PATCH, "/v1/topics/orders", &json!({"max_record_bytes": 2048})).await;
    client.create_topic("empty", 1).await;
    client.call(Method::PUT, "/v1/namespaces/team", &json!({})).await;
    let record = json!({
        "key": "kä", "value": {"a": [1, 2.50, null]}, "headers": {"h": "1", "b": {"base64": "/w=="}}, "timestamp": "2026-01-02T03:04:05.678Z",
        "correlation_id": "c", "reply_to": "r", "priority": 3, "dedup_id": "d-1", "partition": 0
    });
    client.call(Method::POST, "/v1/topics/orders/records", &record).await;
    for n in 0..10 {
        client.put("orders", 0, &json!({ "n": n })).await;
    }
    keyed(client).await.ok();
    sequenced(client, 0).await.ok();
    client.send(client.request(Method::DELETE, "/v1/topics/orders/records?before_offset=2&partition=0")).await.unwrap().ok();
    client.call(Method::PUT, "/v1/cursors/billing/topics/orders", &json!({"offsets": {"0": 5, "1": 1}})).await;
    let commit = json!({"appends": [{"topic": "empty", "records": [{"value": 1}]}], "cursors": [{"cursor": "billing", "topic": "orders", "offsets": {"2": 1}}]});
    client.call(Method::POST, "/v1/commit", &commit).await;
}

/// The requests that were made before are remembered: same answers, nothing stored again.
async fn remembered(client: &Client, before: &[Bytes; 2]) {
    let ends = client.ends("orders").await;
    let again = keyed(client).await;
    assert_eq!((again.status, places(&again.body)), (200, places(&before[0])));
    let again = sequenced(client, 0).await;
    assert_eq!((again.status, places(&again.body)), (200, places(&before[1])));
    let dedup = client.call(Method::POST, "/v1/topics/orders/records", &json!({"value": 0, "dedup_id": "d-1", "partition": 0})).await;
    assert_eq!((dedup.json()["acks"][0]["offset"].as_u64(), &dedup.json()["acks"][0]["duplicate"]), (Some(0), &json!(true)));
    let conflict = client.send(client.values("orders", "partition=1", "{\"n\":3}").header("idempotency-key", "k-1")).await.unwrap();
    assert_eq!((conflict.status, conflict.code().as_str()), (409, "idempotency_conflict"));
    let gap = sequenced(client, 100).await;
    assert_eq!((gap.status, gap.code().as_str(), gap.json()["expected"].as_u64()), (409, "sequence_gap", Some(2)));
    assert_eq!(client.ends("orders").await, ends, "a repeated request stored something");
}

fn places(body: &[u8]) -> Vec<(u64, u64)> {
    let answer: Value = serde_json::from_slice(body).unwrap();
    answer["acks"].as_array().unwrap().iter().map(|ack| (ack["partition"].as_u64().unwrap(), ack["offset"].as_u64().unwrap())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_answered_survives_a_stop_and_a_kill() {
    let mut server = start().await;
    let client = server.client();
    fill(&client).await;
    let acks = [keyed(&client).await.body, sequenced(&client, 0).await.body];
    let before = state(&client).await;
    for round in 0..4 {
        if round % 2 == 0 {
            server.stop().await;
        } else {
            server.kill_nine();
        }
        server.start().await;
        let now = state(&client).await;
        for (was, is) in before.iter().zip(&now) {
            assert_eq!(was, is, "changed by restart {round}");
        }
        remembered(&client, &acks).await;
    }
    // And the log goes on where it ended.
    assert_eq!(client.put("orders", 0, &json!("next")).await, 11);
    let below = client.get("/v1/topics/orders/partitions/0/records?offset=1").await.unwrap();
    assert_eq!((below.status, below.code().as_str(), below.json()["log_start"].as_u64()), (410, "offset_trimmed", Some(2)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cursor_of_all_partitions_goes_on_after_a_restart() {
    let mut server = start().await;
    let client = server.client();
    client.create_topic("t", 3).await;
    for n in 0..30 {
        client.put("t", n % 3, &json!(n)).await;
    }
    let first = get(&client, "/v1/topics/t/records?from=earliest&limit=10").await;
    server.kill_nine();
    server.start().await;
    let rest = get(&client, &format!("/v1/topics/t/records?cursor={}", first["cursor"].as_str().unwrap())).await;
    let mut seen: Vec<u64> =
        [first, rest].iter().flat_map(|page| page["records"].as_array().unwrap().clone()).map(|r| r["value"].as_u64().unwrap()).collect();
    seen.sort_unstable();
    assert_eq!(seen, (0..30).collect::<Vec<u64>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_topic_stays_deleted_and_its_name_starts_anew() {
    let mut server = start().await;
    let client = server.client();
    client.create_topic("t", 1).await;
    client.put("t", 0, &json!("old")).await;
    client.send(client.request(Method::DELETE, "/v1/topics/t")).await.unwrap().ok();
    server.kill_nine();
    server.start().await;
    assert_eq!(client.get("/v1/topics/t").await.unwrap().code(), "topic_not_found");
    client.create_topic("t", 1).await;
    assert_eq!(client.put("t", 0, &json!("new")).await, 0);
    let rows = client.read_pages("t", 0, 0).await;
    assert_eq!((rows.len(), &rows[0].value[..]), (1, &b"\"new\""[..]));
}
