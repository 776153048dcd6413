//! Bad requests to queues: each gets its status and code, and changes nothing.

use serde_json::json;

use crate::Room;

#[tokio::test]
async fn bad_input_to_queues_is_refused_with_its_documented_code() {
    let room = Room::with_messages(2).await;
    assert_eq!(room.send("PUT", "/v1/queues/q/bindings/b", &[], r#"{"topic":"t","match":{"type":"all"}}"#).await.0, 201);
    let wide = format!("{{\"name\":\"x\",\"filter\":\"{}\"}}", "x".repeat(4_097));
    let put = "/v1/queues/q";
    let binding = "/v1/queues/q/bindings/c";
    let cases: Vec<(&str, String, &str, u16, &str, &str)> = vec![
        // Settings.
        ("POST", "/v1/queues".into(), "{}", 400, "invalid_argument", "name"),
        ("POST", "/v1/queues".into(), r#"{"name":"a b"}"#, 400, "invalid_argument", "queue"),
        ("POST", "/v1/queues".into(), r#"{"name":"x","colour":"red"}"#, 400, "unknown_field", "/colour"),
        ("POST", "/v1/queues".into(), r#"{"name":"x","lease":"30s","lease":"30s"}"#, 400, "invalid_argument", "/lease"),
        ("POST", "/v1/queues".into(), r#"{"name":"q"}"#, 409, "already_exists", ""),
        ("POST", "/v1/queues".into(), &wide, 400, "invalid_argument", "filter"),
        ("POST", "/v1/queues".into(), r#"{"name":"x","filter":"broken("}"#, 400, "invalid_argument", "filter"),
        ("POST", "/v1/queues".into(), r#"{"name":"x","topics":["nope"]}"#, 404, "topic_not_found", ""),
        (
            "POST",
            "/v1/queues".into(),
            r#"{"name":"x","topics":["t"],"dead_letter":{"topic":"t"}}"#,
            409,
            "dead_letter_cycle",
            "/dead_letter/topic",
        ),
        ("PUT", put.into(), r#"{"name":"q"}"#, 400, "unknown_field", "/name"),
        ("PUT", put.into(), r#"{"lease":"13h"}"#, 400, "invalid_argument", "lease"),
        ("PUT", put.into(), r#"{"lease":30}"#, 400, "invalid_argument", ""),
        ("PUT", put.into(), r#"{"lease":"-1s"}"#, 400, "invalid_argument", ""),
        ("PUT", put.into(), r#"{"max_attempts":0}"#, 400, "invalid_argument", "max_attempts"),
        ("PUT", put.into(), r#"{"priorities":11}"#, 400, "invalid_argument", "priorities"),
        ("PUT", put.into(), r#"{"max_depth":0}"#, 400, "invalid_argument", "max_depth"),
        ("PUT", put.into(), r#"{"retry":{"min":"2h","max":"1h"}}"#, 400, "invalid_argument", "retry.min"),
        ("PUT", put.into(), r#"{"retry":{"jitter":2}}"#, 400, "invalid_argument", "retry.jitter"),
        ("PUT", put.into(), r#"{"retry":{"colour":2}}"#, 400, "unknown_field", "/colour"),
        ("PUT", put.into(), r#"{"ordering":"strict"}"#, 400, "invalid_argument", ""),
        ("PUT", put.into(), r#"{"overflow":"spill"}"#, 400, "invalid_argument", ""),
        ("PUT", put.into(), r#"{"start":"middle"}"#, 400, "invalid_argument", ""),
        ("PUT", put.into(), r#"{"start":{"offset":9007199254740993}}"#, 400, "invalid_argument", "/start/offset"),
        ("PUT", put.into(), r#"{"topics":["t","t"]}"#, 400, "invalid_argument", "topics"),
        ("PUT", put.into(), "[]", 400, "malformed_body", ""),
        ("PUT", put.into(), "{", 400, "malformed_body", ""),
        ("PATCH", "/v1/queues/nope".into(), "{}", 404, "queue_not_found", ""),
        ("PATCH", put.into(), r#"{"lease":"13h"}"#, 400, "invalid_argument", "lease"),
        ("DELETE", "/v1/queues/nope".into(), "", 404, "queue_not_found", ""),
        ("GET", "/v1/queues/%2e%2e".into(), "", 400, "invalid_argument", "queue"),
        ("GET", "/v1/queues/q?verbose=1".into(), "", 400, "unknown_parameter", "verbose"),
        ("GET", "/v1/queues?limit=0".into(), "", 400, "invalid_argument", "limit"),
        // Bindings.
        ("PUT", binding.into(), r#"{"topic":"t"}"#, 400, "invalid_argument", "/match"),
        ("PUT", binding.into(), r#"{"topic":"t","match":{}}"#, 400, "invalid_argument", "/type"),
        ("PUT", binding.into(), r#"{"topic":"t","match":{"type":"regex"}}"#, 400, "invalid_argument", ""),
        ("PUT", binding.into(), r#"{"topic":"t","match":{"type":"exact","key":"k","glob":1}}"#, 400, "unknown_field", "/glob"),
        ("PUT", binding.into(), r#"{"topic":"nope","match":{"type":"all"}}"#, 404, "topic_not_found", ""),
        ("PUT", "/v1/queues/nope/bindings/c".into(), r#"{"topic":"t","match":{"type":"all"}}"#, 404, "queue_not_found", ""),
        ("PUT", "/v1/queues/q/bindings/a%20b".into(), r#"{"topic":"t","match":{"type":"all"}}"#, 400, "invalid_argument", "binding"),
        ("GET", binding.into(), "", 404, "binding_not_found", ""),
        ("DELETE", binding.into(), "", 404, "binding_not_found", ""),
        // Sending.
        ("POST", "/v1/queues/nope/messages".into(), r#"{"value":1}"#, 404, "queue_not_found", ""),
        ("POST", "/v1/queues/q/messages".into(), r#"{"value":1,"for_queue":"q"}"#, 400, "unknown_field", "/for_queue"),
        ("POST", "/v1/queues/q/messages".into(), r#"{"value":1,"priority":10}"#, 400, "invalid_argument", "priority"),
        ("POST", "/v1/queues/q/messages".into(), r#"{"value":"full"}"#, 429, "queue_full", ""),
        ("POST", "/v1/queues/q/messages?colour=red".into(), r#"{"value":1}"#, 400, "unknown_parameter", "colour"),
        // Receiving.
        ("POST", "/v1/queues/nope/receive".into(), "", 404, "queue_not_found", ""),
        ("POST", "/v1/queues/q/receive".into(), r#"{"max":0}"#, 400, "invalid_argument", "/max"),
        ("POST", "/v1/queues/q/receive".into(), r#"{"max":1001}"#, 400, "invalid_argument", "/max"),
        ("POST", "/v1/queues/q/receive".into(), r#"{"max":-1}"#, 400, "invalid_argument", ""),
        ("POST", "/v1/queues/q/receive".into(), r#"{"max":"1"}"#, 400, "invalid_argument", ""),
        ("POST", "/v1/queues/q/receive".into(), r#"{"lease":"13h"}"#, 400, "invalid_argument", "/lease"),
        ("POST", "/v1/queues/q/receive".into(), r#"{"wait":"61s"}"#, 400, "invalid_argument", "/wait"),
        ("POST", "/v1/queues/q/receive?wait=61s".into(), "", 400, "invalid_argument", "wait"),
        ("POST", "/v1/queues/q/receive?wait=1s".into(), r#"{"wait":"1s"}"#, 400, "invalid_argument", "/wait"),
        ("POST", "/v1/queues/q/receive".into(), r#"{"request_id":""}"#, 400, "invalid_argument", "/request_id"),
        ("POST", "/v1/queues/q/receive".into(), r#"{"count":1}"#, 400, "unknown_field", "/count"),
        ("POST", "/v1/queues/q/receive?encoding=hex".into(), "", 400, "invalid_argument", "encoding"),
        ("POST", "/v1/queues/q/peek".into(), r#"{"max":1001}"#, 400, "invalid_argument", "/max"),
        ("GET", "/v1/queues/q/receive".into(), "", 405, "method_not_allowed", ""),
        // Settling.
        ("POST", "/v1/queues/nope/ack".into(), r#"{"receipts":["x"]}"#, 404, "queue_not_found", ""),
        ("POST", "/v1/queues/q/ack".into(), "", 400, "malformed_body", ""),
        ("POST", "/v1/queues/q/ack".into(), "{}", 400, "invalid_argument", "/receipts"),
        ("POST", "/v1/queues/q/ack".into(), r#"{"receipts":[]}"#, 400, "invalid_argument", "/receipts"),
        ("POST", "/v1/queues/q/ack".into(), r#"{"receipts":["x"],"receipt":"x"}"#, 400, "invalid_argument", "/receipts"),
        ("POST", "/v1/queues/q/ack".into(), r#"{"receipts":["x",7]}"#, 400, "invalid_argument", "/receipts/1"),
        ("POST", "/v1/queues/q/ack".into(), r#"{"items":[]}"#, 400, "unknown_field", "/items"),
        ("POST", "/v1/queues/q/ack".into(), r#"{"receipts":["x"]}"#, 400, "receipt_forged", "/receipts/0"),
        ("POST", "/v1/queues/q/ack".into(), r#"{"receipts":["lf|t|t|0|0|1"]}"#, 404, "receipt_not_found", "/receipts/0"),
        ("POST", "/v1/queues/q/ack".into(), r#"{"receipts":["lf|q|q|0|0|1"]}"#, 409, "lease_expired", "/receipts/0"),
        ("POST", "/v1/queues/q/nack".into(), "{}", 400, "invalid_argument", "/items"),
        ("POST", "/v1/queues/q/nack".into(), r#"{"items":[]}"#, 400, "invalid_argument", "/items"),
        ("POST", "/v1/queues/q/nack".into(), r#"{"items":[{"receipt":"x","lease":"1s"}]}"#, 400, "unknown_field", "/items/0/lease"),
        ("POST", "/v1/queues/q/nack".into(), r#"{"items":[{"receipt":"x"},{}]}"#, 400, "invalid_argument", "/items/1/receipt"),
        ("POST", "/v1/queues/q/extend".into(), r#"{"items":[{"receipt":"x"}]}"#, 400, "invalid_argument", "/items/0/lease"),
        ("POST", "/v1/queues/q/extend".into(), r#"{"items":[{"receipt":"x","lease":"soon"}]}"#, 400, "invalid_argument", "/items/0/lease"),
        ("POST", "/v1/queues/q/reject".into(), r#"{"items":[{"receipt":"x"}],"receipts":["x"]}"#, 400, "invalid_argument", "/items"),
        // The queue as a whole.
        ("POST", "/v1/queues/nope/purge".into(), "", 404, "queue_not_found", ""),
        ("POST", "/v1/queues/q/purge".into(), r#"{"all":true}"#, 400, "unknown_field", "/all"),
        ("POST", "/v1/queues/q/seek".into(), "{}", 400, "invalid_argument", "/to"),
        ("POST", "/v1/queues/q/seek".into(), r#"{"to":"middle"}"#, 400, "invalid_argument", "/to"),
        ("POST", "/v1/queues/q/seek".into(), r#"{"to":{"offset":9007199254740993}}"#, 400, "invalid_argument", "/to/offset"),
        ("POST", "/v1/queues/q/seek".into(), r#"{"to":{"offsets":{}}}"#, 400, "invalid_argument", "/to/offsets"),
        ("POST", "/v1/queues/q/seek".into(), r#"{"to":{"offsets":{"q":{"x":1}}}}"#, 400, "invalid_argument", "/to/offsets/q/offsets/x"),
        ("POST", "/v1/queues/q/seek".into(), r#"{"to":{"offsets":{"t":{"0":1}}}}"#, 404, "topic_not_found", ""),
        ("GET", "/v1/queues/nope/stats".into(), "", 404, "queue_not_found", ""),
        ("DELETE", "/v1/queues/q/messages/x".into(), "", 400, "invalid_argument", "message"),
        ("DELETE", "/v1/queues/q/messages/0-99".into(), "", 404, "message_not_found", ""),
        ("DELETE", "/v1/queues/nope/messages/0-0".into(), "", 404, "queue_not_found", ""),
        // Dead letters and operations.
        ("GET", "/v1/queues/q/dead-letters".into(), "", 400, "invalid_argument", "queue"),
        ("GET", "/v1/queues/q/dead-letters?limit=1001".into(), "", 400, "invalid_argument", "limit"),
        ("POST", "/v1/queues/q/redrive".into(), r#"{"max_per_second":0}"#, 400, "invalid_argument", "/max_per_second"),
        ("POST", "/v1/queues/q/redrive".into(), r#"{"from":"x"}"#, 400, "unknown_field", "/from"),
        ("POST", "/v1/queues/q/redrive".into(), "", 400, "invalid_argument", "queue"),
        ("GET", "/v1/operations/nope".into(), "", 404, "operation_not_found", ""),
        ("GET", format!("/v1/operations/{}", "x".repeat(200)), "", 404, "operation_not_found", ""),
        ("POST", "/v1/operations/nope/cancel".into(), "", 404, "operation_not_found", ""),
        // Requests and commits.
        ("POST", "/v1/topics/nope/request".into(), r#"{"value":1}"#, 404, "topic_not_found", ""),
        ("POST", "/v1/topics/t/request?wait=61s".into(), r#"{"value":1}"#, 400, "invalid_argument", "wait"),
        ("POST", "/v1/topics/t/request?reply_to=a%20b".into(), r#"{"value":1}"#, 400, "invalid_argument", "topic"),
        ("POST", "/v1/topics/t/request".into(), r#"{"records":[{"value":1}]}"#, 400, "unknown_field", "/records"),
        ("POST", "/v1/commit".into(), "{}", 400, "invalid_argument", "appends"),
        ("POST", "/v1/commit".into(), r#"{"acks":[{"queue":"nope","receipts":["x"]}]}"#, 404, "queue_not_found", ""),
        ("POST", "/v1/commit".into(), r#"{"acks":[{"queue":"q","receipts":[]}]}"#, 400, "invalid_argument", "/acks/0/receipts"),
        (
            "POST",
            "/v1/commit".into(),
            r#"{"acks":[{"queue":"q","receipts":["x"]},{"queue":"q","receipts":["y"]}]}"#,
            400,
            "invalid_argument",
            "/acks/1/queue",
        ),
        (
            "POST",
            "/v1/commit".into(),
            r#"{"nacks":[{"queue":"q","items":[{"receipt":"x","delay":"366d"}]}]}"#,
            400,
            "invalid_argument",
            "/nacks/0/items/0/delay",
        ),
        ("POST", "/v1/commit".into(), r#"{"nacks":[{"queue":"q","items":[{"receipt":"x"}]}]}"#, 400, "receipt_forged", ""),
    ];
    let state = async || {
        (room.get("/v1/queues").await.1, room.get("/v1/queues/q/stats").await.1, room.get("/v1/topics").await.1, room.records().await)
    };
    let before = state().await;
    let mut wrong = Vec::new();
    for (method, uri, body, status, code, pointer) in cases {
        let headers: &[(&str, &str)] = if body.is_empty() { &[] } else { &[("content-type", "application/json")] };
        let (got, problem) = room.send(method, &uri, headers, body).await;
        let place = problem["errors"][0]["pointer"].as_str().unwrap_or_default();
        if (got, &problem["code"], place) != (status, &json!(code), pointer) || problem["outcome"] != "not_applied" {
            wrong.push(format!("{method} {uri} {}: {problem}", &body[..body.len().min(80)]));
        }
        assert_eq!(state().await, before, "{method} {uri} {body} changed something");
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn conditions_and_keys_that_would_be_passed_over_are_refused() {
    let room = Room::with_messages(1).await;
    let binding = r#"{"topic":"t","match":{"type":"all"}}"#;
    for (method, uri, header, body) in [
        ("PUT", "/v1/queues/q/bindings/b", ("if-match", "\"1\""), binding),
        ("DELETE", "/v1/queues/q/bindings/b", ("if-match", "\"1\""), ""),
        ("POST", "/v1/queues/q/purge", ("if-match", "\"1\""), ""),
        ("POST", "/v1/queues/q/seek", ("if-match", "\"1\""), r#"{"to":"latest"}"#),
        ("DELETE", "/v1/queues/q/messages/0-0", ("if-match", "*"), ""),
        ("POST", "/v1/queues/q/redrive", ("idempotency-key", "k"), ""),
        ("POST", "/v1/topics/t/request", ("idempotency-key", "k"), r#"{"value":1}"#),
    ] {
        let (status, problem) = room.send(method, uri, &[header, ("content-type", "application/json")], body).await;
        assert_eq!((status, &problem["code"]), (400, &json!("not_supported")), "{method} {uri}: {problem}");
    }
    for media in ["application/x-ndjson", "application/vnd.apache.arrow.stream", "application/cloudevents-batch+json"] {
        let (status, problem) = room.send("POST", "/v1/topics/t/request", &[("content-type", media)], "x").await;
        assert_eq!((status, &problem["code"]), (415, &json!("unsupported_media_type")), "{problem}");
    }
    let full = room.raw("POST", "/v1/queues/q/messages", &[("content-type", "text/plain")], "full").await;
    assert_eq!((full.status().as_u16(), &full.headers()["retry-after"]), (429, &"1".parse().unwrap()));
}
