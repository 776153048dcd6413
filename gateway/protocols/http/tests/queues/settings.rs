//! Queues and bindings: created, replaced, patched, listed, deleted.

use serde_json::json;

use crate::Room;

#[tokio::test]
async fn queues_are_created_described_listed_patched_and_deleted() {
    let room = Room::open().await;
    let body = r#"{"name":"a","topics":["t"],"start":{"time":"2026-01-31T08:00:00Z"},"lease":"1m","dead_letter":{"topic":"dead"}}"#;
    let made = room.raw("POST", "/v1/queues", &[], body).await;
    assert_eq!(
        (made.status().as_u16(), &made.headers()["location"], &made.headers()["etag"]),
        (201, &"/v1/queues/a".parse().unwrap(), &"\"1\"".parse().unwrap())
    );
    let (status, queue) = room.get("/v1/queues/a").await;
    assert_eq!((status, &queue["lease"], &queue["start"]), (200, &json!("1m"), &json!({"time":"2026-01-31T08:00:00.000Z"})), "{queue}");
    assert_eq!((&queue["sources"], &queue["bindings"]), (&json!([{"topic":"t","partitions":2}]), &json!({})), "{queue}");
    assert_eq!(room.raw("GET", "/v1/queues/a", &[("if-none-match", "\"1\"")], "").await.status(), 304);
    assert_eq!(room.post("/v1/queues", r#"{"name":"a"}"#).await.1["code"], "already_exists");
    assert_eq!(room.send("PUT", "/v1/queues/a", &[("if-none-match", "*")], "{}").await.1["code"], "precondition_failed");

    let (_, page) = room.get("/v1/queues?limit=1").await;
    assert_eq!(page["items"][0]["name"], "a");
    let token = page["next_page_token"].as_str().unwrap();
    let (_, page) = room.get(&format!("/v1/queues?limit=1&page_token={token}")).await;
    assert_eq!((&page["items"][0]["name"], &page["next_page_token"]), (&json!("dead"), &json!(null)), "dead letters have a queue: {page}");

    let patch = r#"{"lease":"30s","max_depth":10,"dead_letter":null,"retry":{"min":"1s"}}"#;
    let (status, queue) = room.send("PATCH", "/v1/queues/a", &[("if-match", "\"1\"")], patch).await;
    assert_eq!(
        (status, &queue["lease"], &queue["max_depth"], &queue["dead_letter"]),
        (200, &json!("30s"), &json!(10), &json!(null)),
        "{queue}"
    );
    assert_eq!((&queue["retry"]["min"], &queue["retry"]["max"], &queue["topics"]), (&json!("1s"), &json!("15m"), &json!(["t"])), "{queue}");
    assert_eq!(room.send("PATCH", "/v1/queues/a", &[("if-match", "\"1\"")], "{}").await.1["code"], "version_mismatch");
    assert_eq!(room.send("DELETE", "/v1/queues/a", &[("if-match", "\"1\"")], "").await.1["code"], "version_mismatch");
    assert_eq!(room.send("DELETE", "/v1/queues/a", &[("if-match", "\"2\"")], "").await.0, 204);
    assert_eq!(room.get("/v1/queues/a").await.1["code"], "queue_not_found");
}

#[tokio::test]
async fn every_start_is_read_as_it_is_shown() {
    let room = Room::open().await;
    for start in
        [json!("earliest"), json!("latest"), json!({"offset": 9_007_199_254_740_992_u64}), json!({"time": "2026-01-31T08:00:00.000Z"})]
    {
        let (status, queue) = room.send("PUT", "/v1/queues/a", &[], json!({ "start": start }).to_string()).await;
        assert!(status < 300, "{queue}");
        assert_eq!(queue["start"], start);
    }
}

#[tokio::test]
async fn an_idempotency_key_of_a_new_queue_reaches_the_verb() {
    let room = Room::open().await;
    assert_eq!(room.send("POST", "/v1/queues", &[("idempotency-key", "k")], r#"{"name":"a"}"#).await.0, 201);
    assert_eq!(&*room.fake.idempotency.lock().unwrap().clone().unwrap().key, "k");
}

#[tokio::test]
async fn bindings_are_put_read_listed_and_taken_away() {
    let room = Room::with_messages(0).await;
    let matches = [
        json!({"type":"all"}),
        json!({"type":"exact","key":"a"}),
        json!({"type":"wildcard","pattern":"a.*.#"}),
        json!({"type":"headers","headers":{"h":"v"},"any":true}),
        json!({"type":"expression","expression":"value.total > 10"}),
    ];
    for (at, matches) in matches.iter().enumerate() {
        let uri = format!("/v1/queues/q/bindings/b{at}");
        let body = json!({"topic":"t","match":matches});
        let (status, binding) = room.send("PUT", &uri, &[], body.to_string()).await;
        assert_eq!((status, &binding["id"], &binding["match"]), (201, &json!(format!("b{at}")), matches), "{binding}");
        assert_eq!(room.send("PUT", &uri, &[], body.to_string()).await.0, 200);
        assert_eq!(room.get(&uri).await, (200, binding));
    }
    let (_, page) = room.get("/v1/queues/q/bindings?limit=4").await;
    assert_eq!(page["items"].as_array().unwrap().len(), 4);
    let token = page["next_page_token"].as_str().unwrap();
    let (_, page) = room.get(&format!("/v1/queues/q/bindings?limit=4&page_token={token}")).await;
    assert_eq!((&page["items"][0]["id"], &page["next_page_token"]), (&json!("b4"), &json!(null)), "{page}");
    assert_eq!(room.get("/v1/queues/q").await.1["bindings"]["b1"], json!({"topic":"t","match":{"type":"exact","key":"a"}}));
    assert_eq!(room.send("DELETE", "/v1/queues/q/bindings/b1", &[], "").await.0, 204);
    assert_eq!(room.send("DELETE", "/v1/queues/q/bindings/b1", &[], "").await.1["code"], "binding_not_found");
    assert_eq!(room.get("/v1/queues/q/bindings/b1").await.1["code"], "binding_not_found");
}

#[tokio::test]
async fn a_queue_is_purged_moved_and_measured() {
    let room = Room::with_messages(3).await;
    room.receipts(1).await;
    let (status, stats) = room.get("/v1/queues/q/stats").await;
    assert_eq!((status, &stats["ready"], &stats["leased"], &stats["in_rate"]), (200, &json!(2), &json!(1), &json!(0.5)), "{stats}");
    assert!(stats.get("oldest_age_seconds").is_none(), "{stats}");
    let (status, queue) = room.post("/v1/queues/q/purge", "").await;
    assert_eq!((status, &queue["generation"]), (200, &json!(2)), "{queue}");
    assert!(room.receipts(9).await.is_empty());
    for (to, left) in [
        (json!("earliest"), 3),
        (json!({"offset":2}), 1),
        (json!({"offsets":{"q":{"0":1}}}), 2),
        (json!({"time":"2026-01-01T00:00:00Z"}), 3),
    ] {
        let (status, queue) = room.post("/v1/queues/q/seek", &json!({ "to": to }).to_string()).await;
        assert_eq!(status, 200, "{queue}");
        assert_eq!(room.receipts(9).await.len(), left, "{to}");
    }
}
