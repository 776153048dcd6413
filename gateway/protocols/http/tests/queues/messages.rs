//! Messages sent, received, looked at, cancelled, redriven; requests and replies.

use axum::http::StatusCode;
use serde_json::{Value, json};

use crate::Room;

#[tokio::test]
async fn a_message_is_received_with_its_lease_and_its_record() {
    let room = Room::with_messages(0).await;
    let body = r#"{"value":{"n":1},"key":"k","headers":{"h":"v"},"priority":3,"correlation_id":"c","ordering_key":"o"}"#;
    let (status, sent) = room.post("/v1/queues/q/messages?acks=ranges", body).await;
    assert_eq!((status, &sent["acks"]), (200, &json!([{"partition":0,"first_offset":0,"count":1}])), "{sent}");
    let (status, answer) = room.post("/v1/queues/q/receive", r#"{"lease":"1m"}"#).await;
    let expected = json!({"messages":[{
        "id":"q:0-0","receipt":"lf|q|q|0|0|1","attempt":1,"lease_until":"2023-11-14T22:14:20.000Z",
        "first_leased_at":"2023-11-14T22:13:20.000Z",
        "topic":"q","partition":0,"offset":0,"timestamp":"2023-11-14T22:13:20.000Z","appended_at":"2023-11-14T22:13:20.000Z",
        "key":"k","value":{"n":1},"headers":{"h":"v"},"priority":3,"correlation_id":"c","ordering_key":"o",
    }]});
    assert_eq!((status, answer), (200, expected));
}

#[tokio::test]
async fn an_empty_receive_is_one_message_at_once_and_its_wait_may_stand_anywhere() {
    let room = Room::with_messages(2).await;
    let empty = room.raw("POST", "/v1/queues/q/receive", &[], "").await;
    assert_eq!(empty.status(), StatusCode::OK);
    assert_eq!(room.receipts(1_000).await.len(), 1);
    for (query, headers, body) in [("?wait=1ms", vec![], ""), ("", vec![("prefer", "wait=0")], ""), ("", vec![], r#"{"wait":"1ms"}"#)] {
        let (status, answer) = room.send("POST", &format!("/v1/queues/q/receive{query}"), &headers, body).await;
        assert_eq!((status, answer), (200, json!({"messages":[]})));
    }
}

#[tokio::test]
async fn a_repeated_request_id_gets_the_same_leases() {
    let room = Room::with_messages(3).await;
    let body = r#"{"max":2,"request_id":"r"}"#;
    let first = room.post("/v1/queues/q/receive", body).await;
    assert_eq!(room.post("/v1/queues/q/receive", body).await, first);
    assert_eq!(room.receipts(9).await.len(), 1);
}

#[tokio::test]
async fn a_receive_that_waits_ends_empty_when_the_process_shuts_down() {
    let room = Room::with_messages(0).await;
    let stop = room.settings.shutdown.clone();
    let waiting = room.post("/v1/queues/q/receive", r#"{"wait":"60s"}"#);
    let (answer, ()) = tokio::join!(waiting, async { stop.cancel() });
    assert_eq!(answer, (200, json!({"messages":[]})));
}

#[tokio::test]
async fn messages_of_several_topics_name_their_topic() {
    let room = Room::open().await;
    assert_eq!(room.send("PUT", "/v1/topics/u", &[], "{}").await.0, 201);
    assert_eq!(room.post("/v1/queues", r#"{"name":"q","topics":["t","u"]}"#).await.0, 201);
    for topic in ["t", "u", "t"] {
        assert_eq!(room.post(&format!("/v1/topics/{topic}/records"), r#"{"value":"//8=","encoding":"base64"}"#).await.0, 200);
    }
    let (_, answer) = room.post("/v1/queues/q/receive?encoding=base64", r#"{"max":9}"#).await;
    let ids: Vec<&str> = answer["messages"].as_array().unwrap().iter().map(|m| m["id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["t:0-0", "t:0-1", "u:0-0"]);
    assert_eq!(answer["messages"][2]["encoding"], "base64");
    // Neither is the queue's own: a message must be sent to a topic by its name.
    assert_eq!(room.post("/v1/queues/q/messages", r#"{"value":1}"#).await.0, 400);
}

#[tokio::test]
async fn a_look_leases_nothing() {
    let room = Room::with_messages(3).await;
    let (status, answer) = room.post("/v1/queues/q/peek", r#"{"max":2}"#).await;
    let seen = answer["messages"].as_array().unwrap();
    assert_eq!((status, seen.len(), &seen[0]["attempt"]), (200, 2, &json!(0)), "{answer}");
    assert!(seen[0].get("receipt").is_none() && seen[0].get("lease_until").is_none(), "{answer}");
    assert_eq!(room.receipts(9).await.len(), 3);
}

#[tokio::test]
async fn a_message_that_nobody_received_is_cancelled_by_either_form_of_its_id() {
    let room = Room::with_messages(3).await;
    assert_eq!(room.send("DELETE", "/v1/queues/q/messages/q:0-0", &[], "").await.0, 204);
    assert_eq!(room.send("DELETE", "/v1/queues/q/messages/0-1", &[], "").await.0, 204);
    for gone in ["q:0-0", "0-1", "0-99", "t:0-0"] {
        let (status, problem) = room.send("DELETE", &format!("/v1/queues/q/messages/{gone}"), &[], "").await;
        assert_eq!((status, &problem["code"]), (404, &json!("message_not_found")), "{gone}");
    }
    assert_eq!(room.receipts(9).await.len(), 1);
}

#[tokio::test]
async fn dead_letters_are_looked_at_and_redriven_by_an_operation() {
    let room = Room::open().await;
    assert_eq!(room.post("/v1/queues", r#"{"name":"q","dead_letter":{"topic":"dead"}}"#).await.0, 201);
    assert_eq!(room.get("/v1/queues/q/dead-letters").await, (200, json!({"messages":[]})));
    for n in 0..3 {
        assert_eq!(room.post("/v1/topics/dead/records", &json!({ "value": n }).to_string()).await.0, 200);
    }
    let (_, dead) = room.get("/v1/queues/q/dead-letters?limit=2").await;
    assert_eq!((&dead["messages"][1]["value"], dead["messages"].as_array().unwrap().len()), (&json!(1), 2), "{dead}");
    let begun = room.raw("POST", "/v1/queues/q/redrive", &[], r#"{"filter":"true","to":"t","max_per_second":5,"dry_run":true}"#).await;
    assert_eq!((begun.status(), &begun.headers()["location"]), (StatusCode::ACCEPTED, &"/v1/operations/op-0".parse().unwrap()));
    let (status, operation) = room.get("/v1/operations/op-0").await;
    let expected = json!({
        "id":"op-0","kind":"redrive","status":"running","started_at":"2023-11-14T22:13:20.000Z","done":5,"skipped":1,"error":"true",
    });
    assert_eq!((status, operation), (200, expected));
    assert_eq!(room.post("/v1/operations/op-0/cancel", "").await.1["status"], "cancelled");
    assert_eq!(room.get("/v1/operations/op-9").await.1["code"], "operation_not_found");
}

#[tokio::test]
async fn a_request_is_answered_with_its_reply() {
    let room = Room::open().await;
    let (status, reply) = room.post("/v1/topics/t/request?reply_to=answers", r#"{"value":"ping","correlation_id":"c"}"#).await;
    assert_eq!(
        (status, &reply["topic"], &reply["value"], &reply["correlation_id"]),
        (200, &json!("answers"), &json!("pong"), &json!("c")),
        "{reply}"
    );
    let raw = [("content-type", "text/plain"), ("lakefall-correlation-id", "d")];
    let (status, reply) = room.send("POST", "/v1/topics/t/request?wait=20s", &raw, "ping").await;
    assert_eq!((status, &reply["correlation_id"]), (200, &json!("d")), "{reply}");
}

#[tokio::test]
async fn a_request_without_a_reply_says_where_it_is_stored() {
    let room = Room::open().await;
    let (status, problem) = room.post("/v1/topics/t/request?wait=1ms", r#"{"value":"anybody?"}"#).await;
    let told = (&problem["code"], &problem["outcome"], &problem["topic"], &problem["partition"], &problem["offset"]);
    assert_eq!((status, told), (504, (&json!("no_reply"), &json!("unknown"), &json!("t"), &json!(0), &json!(0))), "{problem}");
    assert_eq!(room.records().await.len(), 1);
    let stop = room.settings.shutdown.clone();
    let waiting = room.post("/v1/topics/t/request?wait=60s", r#"{"value":"anybody?"}"#);
    let ((status, problem), ()) = tokio::join!(waiting, async { stop.cancel() });
    assert_eq!((status, &problem["code"]), (504, &json!("outcome_unknown")), "{problem}");
}

#[tokio::test]
async fn send_options_come_with_every_media_type() {
    let room = Room::open().await;
    let options =
        r#"{"value":"v","delay":"1h","priority":9,"ttl":"2h","ordering_key":"o","correlation_id":"c","reply_to":"r","dedup_id":"d"}"#;
    assert_eq!(room.produce("", "application/json", options).await.0, 200);
    assert_eq!(room.produce("", "application/x-ndjson", options).await.0, 200);
    let headers = |media: &'static str| {
        vec![
            ("content-type", media),
            ("lakefall-delay", "1h"),
            ("lakefall-priority", "9"),
            ("lakefall-ttl", "2h"),
            ("lakefall-ordering-key", "o"),
            ("lakefall-correlation-id", "c"),
            ("lakefall-reply-to", "r"),
            ("lakefall-dedup-id", "d"),
        ]
    };
    assert_eq!(room.send("POST", "/v1/topics/t/records", &headers("text/plain"), "v").await.0, 200);
    let event = r#"{"specversion":"1.0","id":"1","source":"/s","type":"a","data":"v"}"#;
    assert_eq!(room.send("POST", "/v1/topics/t/records", &headers("application/cloudevents+json"), event).await.0, 200);
    let mut binary = headers("text/plain");
    binary.extend([("ce-specversion", "1.0"), ("ce-id", "1"), ("ce-source", "/s"), ("ce-type", "a")]);
    assert_eq!(room.send("POST", "/v1/topics/t/records", &binary, "v").await.0, 200);
    assert_eq!(room.produce("", "application/vnd.apache.arrow.stream", arrow_row("1h", 9)).await.0, 200);
    let records = room.records().await;
    assert_eq!(records.len(), 6);
    for record in &records {
        let times = (&record["deliver_at"], &record["expires_at"], &record["priority"]);
        assert_eq!(times, (&json!("2023-11-14T23:13:20.000Z"), &json!("2023-11-15T00:13:20.000Z"), &json!(9)), "{record}");
        for (field, value) in [("ordering_key", "o"), ("correlation_id", "c"), ("reply_to", "r"), ("dedup_id", "d"), ("value", "v")] {
            assert_eq!(record[field], value, "{field} of {record}");
        }
    }
}

#[tokio::test]
async fn send_options_out_of_bounds_are_refused_with_every_media_type() {
    let room = Room::open().await;
    for (field, header, good, bad) in [
        ("delay", "lakefall-delay", json!("365d"), json!("366d")),
        ("deliver_at", "lakefall-deliver-at", json!("2024-11-13T22:13:20Z"), json!("2024-11-13T22:13:21Z")),
        ("ttl", "lakefall-ttl", json!("365d"), json!("1w")),
        ("priority", "lakefall-priority", json!(9), json!(10)),
        ("dedup_id", "lakefall-dedup-id", json!("x".repeat(1_024)), json!("x".repeat(1_025))),
        ("reply_to", "lakefall-reply-to", json!("r"), json!("x".repeat(1_025))),
    ] {
        for (value, status) in [(good, 200), (bad, 400)] {
            let before = room.records().await.len();
            let body = json!({ "value": 1, (field): value }).to_string();
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            let answers: [(u16, Value); 3] = [
                room.produce("", "application/json", body.clone()).await,
                room.produce("", "application/x-ndjson", body).await,
                room.send("POST", "/v1/topics/t/records", &[("content-type", "text/plain"), (header, &text)], "v").await,
            ];
            for (got, answer) in answers {
                assert_eq!(got, status, "{field}: {answer}");
                assert!(status == 200 || answer["code"] == "invalid_argument", "{answer}");
            }
            assert_eq!(room.records().await.len(), before + if status == 200 { 3 } else { 0 });
        }
    }
    let media = "application/vnd.apache.arrow.stream";
    for (delay, priority, status) in [("365d", 9, 200), ("366d", 9, 400), ("1h", 10, 400), ("1h", -1, 400)] {
        assert_eq!(room.produce("", media, arrow_row(delay, priority)).await.0, status, "{delay} {priority}");
    }
    // Where a record's fields stand in the body, headers for them would be passed over: they are refused.
    for media in ["application/json", "application/x-ndjson"] {
        let headers = [("content-type", media), ("lakefall-delay", "1h")];
        let (status, problem) = room.send("POST", "/v1/topics/t/records", &headers, r#"{"value":1}"#).await;
        assert_eq!((status, &problem["code"]), (400, &json!("unknown_parameter")), "{problem}");
    }
    let twice = [("lakefall-delay", "1h"), ("lakefall-delay", "2h")];
    assert_eq!(room.send("POST", "/v1/topics/t/records", &twice, "v").await.0, 400);
}

fn arrow_row(delay: &str, priority: i32) -> Vec<u8> {
    let batch = arrow_array::record_batch!(
        ("value", Utf8, ["v"]),
        ("delay", Utf8, [delay]),
        ("priority", Int32, [priority]),
        ("ttl", Utf8, ["2h"]),
        ("ordering_key", Utf8, ["o"]),
        ("correlation_id", Utf8, ["c"]),
        ("reply_to", Utf8, ["r"]),
        ("dedup_id", Utf8, ["d"])
    )
    .unwrap();
    let mut body = Vec::new();
    let mut writer = arrow_ipc::writer::StreamWriter::try_new(&mut body, &batch.schema()).unwrap();
    writer.write(&batch).unwrap();
    writer.finish().unwrap();
    drop(writer);
    body
}
