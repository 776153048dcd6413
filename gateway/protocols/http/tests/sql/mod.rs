//! `POST /v1/sql`: forms, watermarks, and what is refused how.

use axum::http::header;
use http_body_util::BodyExt;
use serde_json::{Value, json};

use crate::Room;

const JSON: (&str, &str) = ("content-type", "application/json");

async fn ask(room: &Room, body: Value) -> (u16, Value) {
    room.send("POST", "/v1/sql", &[JSON], body.to_string()).await
}

#[tokio::test]
async fn a_page_has_columns_rows_watermarks_and_statistics() {
    let room = Room::open().await;
    let (status, page) = ask(&room, json!({"query": "SELECT n, s FROM t"})).await;
    assert_eq!(status, 200, "{page}");
    assert_eq!(page["columns"][1], json!({"name": "s", "type": "Utf8View", "nullable": true}));
    assert_eq!(page["rows"], json!([[1, "a"], [2, null]]));
    assert_eq!(page["watermarks"], json!([{"topic": "t", "partition": 0, "log_start": 1, "end": 9}]));
    assert_eq!((&page["statistics"]["rows"], &page["statistics"]["truncated"]), (&json!(2), &json!(false)));
}

#[tokio::test]
async fn a_stream_tells_watermarks_before_and_statistics_after() {
    let room = Room::open().await;
    for (accept, content_type, body) in [
        ("application/x-ndjson", "application/x-ndjson", "{\"n\":1}\n{\"n\":2}\n"),
        ("text/csv", "text/csv; charset=utf-8; header=present", "n\n1\n2\n"),
        ("application/vnd.apache.arrow.stream", "application/vnd.apache.arrow.stream", "arrowstream"),
    ] {
        let query = json!({"query": "SELECT n FROM t"}).to_string();
        let response = room.raw("POST", "/v1/sql", &[JSON, ("accept", accept)], query).await;
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()[header::CONTENT_TYPE], content_type);
        assert_eq!(response.headers()["lakefall-watermark"], "t 0=1..9");
        assert_eq!(response.headers()[header::TRAILER], "lakefall-statistics");
        let whole = response.into_body().collect().await.unwrap();
        let statistics: Value = serde_json::from_str(whole.trailers().unwrap()["lakefall-statistics"].to_str().unwrap()).unwrap();
        assert_eq!(statistics["rows"], 2);
        assert_eq!(whole.to_bytes(), body);
    }
}

#[tokio::test]
async fn an_answer_that_breaks_is_never_taken_for_whole() {
    let room = Room::open().await;
    let (status, problem) = ask(&room, json!({"query": "breaks"})).await;
    assert_eq!((status, &problem["code"]), (503, &json!("not_committed")), "a page is not begun before it is whole");
    let query = |query: &str| json!({ "query": query }).to_string();
    let lines = [JSON, ("accept", "application/x-ndjson")];
    let response = room.raw("POST", "/v1/sql", &lines, query("breaks")).await;
    assert_eq!(response.status(), 200);
    let mut body = response.into_body();
    let mut seen = Vec::new();
    let broken = loop {
        match body.frame().await {
            Some(Ok(frame)) => seen.extend_from_slice(&frame.into_data().unwrap()),
            other => break other,
        }
    };
    assert!(broken.unwrap().is_err(), "the body is cut off");
    let last: Value = serde_json::from_slice(seen.split(|byte| *byte == b'\n').nth(2).unwrap()).unwrap();
    assert_eq!(last["code"], "not_committed");
    let response = room.raw("POST", "/v1/sql", &lines, query("breaks at once")).await;
    assert_eq!(response.status(), 422, "nothing was sent yet");
}

#[tokio::test]
async fn what_is_wrong_with_a_query_is_told_by_a_code() {
    let room = Room::open().await;
    for (query, status, code) in [
        ("wrong", 400, "sql_invalid"),
        ("nowhere", 404, "sql_table_not_found"),
        ("large", 422, "sql_limit_exceeded"),
        ("slow", 422, "sql_timeout"),
        ("busy", 503, "not_committed"),
    ] {
        let (found, problem) = ask(&room, json!({ "query": query })).await;
        assert_eq!((found, problem["code"].as_str()), (status, Some(code)), "{problem}");
        assert_eq!(problem["outcome"], "not_applied");
    }
    let (_, problem) = ask(&room, json!({"query": "wrong"})).await;
    assert_eq!((&problem["line"], &problem["column"]), (&json!(1), &json!(3)));
    let (_, problem) = ask(&room, json!({"query": "nowhere"})).await;
    assert_eq!(problem["table"], "nowhere");
}

#[tokio::test]
async fn what_is_asked_for_reaches_the_verb() {
    let room = Room::open().await;
    let (_, page) = ask(&room, json!({"query": "asks", "params": [1, "x"], "max_rows": 5, "timeout": "250ms"})).await;
    assert_eq!(page["rows"], json!([["Listed([Integer(1), Text(\"x\")]) Some(5) Some(250ms)"]]));
    let (_, page) = ask(&room, json!({"query": "asks", "params": {"a": null}})).await;
    assert_eq!(page["rows"], json!([["Named([(\"a\", Null)]) Some(10000) None"]]));
}

#[tokio::test]
async fn a_malformed_request_is_refused_and_names_the_place() {
    let room = Room::open().await;
    for (body, code, place) in [
        (json!({}), "invalid_argument", "/query"),
        (json!({"query": ""}), "invalid_argument", "/query"),
        (json!({"query": 1}), "invalid_argument", "/query"),
        (json!({"query": "x", "extra": 1}), "unknown_field", "/extra"),
        (json!({"query": "x", "max_rows": 0}), "invalid_argument", "/max_rows"),
        (json!({"query": "x", "timeout": "soon"}), "invalid_argument", "/timeout"),
        (json!({"query": "x", "timeout": "0s"}), "invalid_argument", "/timeout"),
        (json!({"query": "x", "params": 1}), "invalid_argument", "/params"),
        (json!({"query": "x", "params": [{}]}), "invalid_argument", "/params/0"),
        (json!({"query": "x", "params": {"a": []}}), "invalid_argument", "/params/a"),
        (json!({"query": "x", "params": vec![0; 1_001]}), "invalid_argument", "/params"),
    ] {
        let (status, problem) = ask(&room, body.clone()).await;
        assert_eq!((status, problem["code"].as_str()), (400, Some(code)), "{body}: {problem}");
        if body["query"] != 1 {
            assert_eq!(problem["errors"][0]["pointer"], place, "{body}: {problem}");
        }
    }
    let statuses = [
        (room.send("POST", "/v1/sql", &[JSON], "{").await.0, 400),
        (room.send("POST", "/v1/sql", &[("content-type", "text/plain")], "SELECT 1").await.0, 415),
        (room.send("POST", "/v1/sql", &[JSON, ("accept", "image/png")], "{\"query\":\"x\"}").await.0, 406),
        (room.send("POST", "/v1/sql?pretty=1", &[JSON], "{\"query\":\"x\"}").await.0, 400),
        (room.send("GET", "/v1/sql", &[], "").await.0, 405),
        (room.send("POST", "/v1/sql", &[JSON], vec![b' '; (1 << 20) + 1]).await.0, 413),
    ];
    for (found, expected) in statuses {
        assert_eq!(found, expected);
    }
}
