//! `POST /v1/replays`: what is passed on, and what is refused how.

use axum::http::StatusCode;
use serde_json::{Value, json};

use crate::Room;

const JSON: (&str, &str) = ("content-type", "application/json");

/// With topics `t` and `u`, and queue `q`.
async fn room() -> Room {
    let room = Room::open().await;
    assert_eq!(room.send("PUT", "/v1/topics/u", &[JSON], "{}").await.0, 201);
    assert_eq!(room.send("POST", "/v1/queues", &[JSON], r#"{"name":"q"}"#).await.0, 201);
    room
}

#[tokio::test]
async fn a_replay_is_begun_as_it_was_asked_for() {
    let room = room().await;
    let body = json!({
        "name": "r", "max_per_second": 5, "dry_run": true, "to": {"queue": "q"},
        "from": {
            "topic": "t", "start": {"offset": 3}, "end": {"timestamp": "2023-11-14T22:13:20Z"}, "partition": 1, "key": "k",
            "filter": "true", "where": "n > 1",
        },
    });
    let begun = room.raw("POST", "/v1/replays", &[JSON], body.to_string()).await;
    assert_eq!((begun.status(), &begun.headers()["location"]), (StatusCode::ACCEPTED, &"/v1/operations/op-0".parse().unwrap()));
    let (_, operation) = room.send("GET", "/v1/operations/op-0", &[], "").await;
    assert_eq!((&operation["kind"], &operation["done"], &operation["skipped"]), (&json!("replay"), &json!(5), &json!(1)));
    let asked = operation["error"].as_str().unwrap();
    for part in
        ["Offset(Offset(3))", "Timestamp(Timestamp(1700000000000))", "PartitionIndex(1)", "\"k\"", "\"true\"", "\"n > 1\"", "Queue(\"q\")"]
    {
        assert!(asked.contains(part), "{part}: {asked}");
    }
    let (status, operation) = room.send("POST", "/v1/replays", &[JSON], r#"{"name":"r","from":{"topic":"t"},"to":{"topic":"u"}}"#).await;
    let asked = operation["error"].as_str().unwrap();
    assert!(status == 202 && asked.contains("start: Earliest, end: Latest, partition: None"), "{operation}");
}

#[tokio::test]
async fn bad_input_to_replays_is_refused_with_its_documented_code() {
    let room = room().await;
    let with = |from: Value| json!({"name": "r", "from": from, "to": {"topic": "u"}});
    let to = |to: Value| json!({"name": "r", "from": {"topic": "t"}, "to": to});
    let cases = [
        (json!({}), 400, "invalid_argument", "/name"),
        (json!({"name": "a b", "from": {"topic": "t"}, "to": {"topic": "u"}}), 400, "invalid_argument", ""),
        (json!({"name": "r", "to": {"topic": "u"}}), 400, "invalid_argument", "/from"),
        (json!({"name": "r", "from": {"topic": "t"}}), 400, "invalid_argument", "/to"),
        (json!({"name": "r", "from": {"topic": "t"}, "to": {"topic": "u"}, "colour": 1}), 400, "unknown_field", "/colour"),
        (
            json!({"name": "r", "from": {"topic": "t"}, "to": {"topic": "u"}, "max_per_second": 0}),
            400,
            "invalid_argument",
            "/max_per_second",
        ),
        (json!({"name": "r", "from": {"topic": "t"}, "to": {"topic": "u"}, "max_per_second": -1}), 400, "invalid_argument", ""),
        (json!({"name": "r", "from": {"topic": "t"}, "to": {"topic": "u"}, "dry_run": "yes"}), 400, "invalid_argument", ""),
        (with(json!({})), 400, "invalid_argument", "/topic"),
        (with(json!({"topic": "t", "colour": 1})), 400, "unknown_field", "/colour"),
        (with(json!({"topic": "t", "start": "latest"})), 400, "invalid_argument", ""),
        (with(json!({"topic": "t", "end": "earliest"})), 400, "invalid_argument", ""),
        (with(json!({"topic": "t", "start": {"offset": -1}})), 400, "invalid_argument", ""),
        (with(json!({"topic": "t", "start": {"offset": 1, "timestamp": "2023-11-14T22:13:20Z"}})), 400, "invalid_argument", ""),
        (with(json!({"topic": "t", "end": {"timestamp": "yesterday"}})), 400, "invalid_argument", ""),
        (with(json!({"topic": "t", "partition": "one"})), 400, "invalid_argument", ""),
        (with(json!({"topic": "t", "key": 7})), 400, "invalid_argument", ""),
        (with(json!({"topic": "t", "filter": "x".repeat(4_097)})), 400, "invalid_argument", "/from/filter"),
        (with(json!({"topic": "t", "where": "x".repeat(65_537)})), 400, "invalid_argument", "/from/where"),
        (with(json!({"topic": "nope"})), 404, "topic_not_found", ""),
        (to(json!({"topic": "nope"})), 404, "topic_not_found", ""),
        (to(json!({"queue": "nope"})), 404, "queue_not_found", ""),
        (to(json!({"topic": "u", "queue": "q"})), 400, "invalid_argument", ""),
        (to(json!({"stream": "u"})), 400, "invalid_argument", ""),
        (to(json!({"topic": "t"})), 400, "invalid_argument", "/to"),
        (json!({"name": "taken", "from": {"topic": "t"}, "to": {"topic": "u"}}), 409, "replay_conflict", ""),
    ];
    for (body, status, code, place) in cases {
        let (answered, problem) = room.send("POST", "/v1/replays", &[JSON], body.to_string()).await;
        let named = problem["errors"][0]["pointer"].as_str().unwrap_or_default();
        assert_eq!((answered, problem["code"].as_str().unwrap_or_default()), (status, code), "{body}: {problem}");
        assert!(named.ends_with(place), "{body}: {problem}");
    }
    let good = to(json!({"topic": "u"})).to_string();
    let (status, problem) = room.send("POST", "/v1/replays", &[JSON, ("idempotency-key", "k")], good.clone()).await;
    assert_eq!((status, &problem["code"]), (400, &json!("not_supported")));
    let (status, problem) = room.send("POST", "/v1/replays?dry_run=true", &[JSON], good.clone()).await;
    assert_eq!((status, &problem["code"]), (400, &json!("unknown_parameter")));
    assert_eq!(room.send("POST", "/v1/replays", &[("content-type", "text/plain")], good).await.0, 415);
    assert_eq!(room.send("GET", "/v1/replays", &[], "").await.0, 405);
}
