//! The room over a log in memory: what goes in comes out, and what is wrong is refused as documented.

#![allow(clippy::unwrap_used, clippy::panic, reason = "test helpers: a failure here is the test's")]

mod fake;
mod queues;
mod replays;
mod schemas;
mod sql;
mod usage;

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, Response, StatusCode};
use fake::Fake;
use http_body_util::BodyExt;
use lakefall_http::{HttpSettings, router};
use lakefall_queue::Timestamp;
use lakefall_queue::clock::{Ambient, Clock, Entropy};
use serde_json::{Value, json};
use tower::ServiceExt;

struct Fixed;

impl Clock for Fixed {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(1_700_000_000_000)
    }
    fn elapsed(&self) -> Duration {
        Duration::ZERO
    }
}

impl Entropy for Fixed {
    fn draw(&self) -> u128 {
        7
    }
}

struct Room {
    fake: Arc<Fake>,
    settings: HttpSettings,
    router: Router,
}

impl Room {
    /// With topic `t` of two partitions.
    async fn open() -> Self {
        Self::open_with(Fake::new()).await
    }

    async fn open_with(fake: Fake) -> Self {
        let fake = Arc::new(fake);
        let settings = HttpSettings { heartbeat: Duration::from_millis(20), ..HttpSettings::default() };
        let ambient = Ambient { clock: Arc::new(Fixed), entropy: Arc::new(Fixed) };
        let room = Self { router: router(fake.clone(), ambient, settings.clone()), fake, settings };
        assert_eq!(room.send("PUT", "/v1/topics/t", &[("content-type", "application/json")], r#"{"partitions":2}"#).await.0, 201);
        room
    }

    async fn raw(&self, method: &str, uri: &str, headers: &[(&str, &str)], body: impl Into<Vec<u8>>) -> Response<Body> {
        let body: Vec<u8> = body.into();
        let mut request = Request::builder().method(method).uri(uri);
        if !body.is_empty() {
            request = request.header("content-length", body.len());
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.router.clone().oneshot(request.body(Body::from(body)).unwrap()).await.unwrap()
    }

    async fn send(&self, method: &str, uri: &str, headers: &[(&str, &str)], body: impl Into<Vec<u8>>) -> (u16, Value) {
        let response = self.raw(method, uri, headers, body).await;
        let status = response.status().as_u16();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice(&bytes).unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&bytes).into_owned())))
    }

    async fn produce(&self, query: &str, media: &str, body: impl Into<Vec<u8>>) -> (u16, Value) {
        self.send("POST", &format!("/v1/topics/t/records{query}"), &[("content-type", media)], body).await
    }

    async fn records(&self) -> Vec<Value> {
        let (status, page) = self.send("GET", "/v1/topics/t/partitions/0/records?from=earliest", &[], "").await;
        assert_eq!(status, 200, "{page}");
        page["records"].as_array().unwrap().clone()
    }
}

const NDJSON: &str = "application/x-ndjson";

#[tokio::test]
async fn streams_of_old_records_are_written_aside_and_are_the_same_to_the_byte() {
    let room = Room::open().await;
    assert_eq!(room.produce("?format=values&partition=0", NDJSON, "1\n{\"two\":2}\n").await.0, 200);
    for media in [NDJSON, "application/vnd.apache.arrow.stream"] {
        let read = async || {
            let answer = room.raw("GET", "/v1/topics/t/partitions/0/records?from=earliest", &[("accept", media)], "").await;
            assert_eq!((answer.status().as_u16(), &answer.headers()["content-type"]), (200, &media.parse().unwrap()));
            answer.into_body().collect().await.unwrap().to_bytes()
        };
        let recent = read().await;
        assert_eq!((recent.is_empty(), room.fake.asides.load(Ordering::SeqCst)), (false, 0));
        room.fake.old.store(true, Ordering::SeqCst);
        assert_eq!(read().await, recent, "{media}");
        assert_eq!(room.fake.asides.swap(0, Ordering::SeqCst), 1, "{media}");
        room.fake.old.store(false, Ordering::SeqCst);
    }
}

#[tokio::test]
async fn a_record_comes_back_as_it_was_sent() {
    let room = Room::open().await;
    for (body, field, expected) in [
        (r#"{"value":"text"}"#, "value", json!("text")),
        (r#"{"value":{"a": [1.50, null]}}"#, "value", json!({"a": [1.5, null]})),
        (r#"{"value":"s","encoding":"json"}"#, "encoding", json!("json")),
        (r#"{"value":"//79","encoding":"base64"}"#, "encoding", json!("base64")),
        (r#"{"value":null,"key":"k"}"#, "value", Value::Null),
        (r#"{"value":1,"headers":{"h":"v","n":null,"m":["a","b"]}}"#, "headers", json!({"h":"v","n":null,"m":["a","b"]})),
        (r#"{"value":1,"timestamp":"2026-01-31T08:00:00Z"}"#, "timestamp", json!("2026-01-31T08:00:00.000Z")),
        (r#"{"value":1,"delay":"30s"}"#, "deliver_at", json!("2023-11-14T22:13:50.000Z")),
        (r#"{"value":"line\nbreak \"q\""}"#, "value", json!("line\nbreak \"q\"")),
    ] {
        let (status, answer) = room.produce("", "application/json", body).await;
        assert_eq!(status, 200, "{body}: {answer}");
        assert_eq!(room.records().await.last().unwrap()[field], expected, "{body}");
    }
    let (_, answer) = room.produce("?acks=ranges", "application/json", r#"{"records":[{"value":1},{"value":2}],"partition":1}"#).await;
    assert_eq!(answer, json!({"acks":[{"partition":1,"first_offset":0,"count":2}],"count":2,"end":2}));
}

#[tokio::test]
async fn a_raw_body_is_the_value_and_headers_carry_the_rest() {
    let room = Room::open().await;
    let headers = [("content-type", "image/png"), ("lakefall-key", "k"), ("lakefall-header-a", "b"), ("traceparent", "00-1-2-01")];
    assert_eq!(room.send("POST", "/v1/topics/t/records", &headers, vec![0xff, 0, 1]).await.0, 200);
    let record = &room.records().await[0];
    assert_eq!((&record["value"], &record["key"], &record["headers"]["a"]), (&json!("/wAB"), &json!("k"), &json!("b")));
    assert_eq!(record["traceparent"], "00-1-2-01");
    let value = room.raw("GET", "/v1/topics/t/partitions/0/records?offset=0", &[("accept", "application/octet-stream")], "").await;
    assert_eq!(value.into_body().collect().await.unwrap().to_bytes()[..], [0xff, 0, 1]);
}

#[tokio::test]
async fn lines_are_one_batch_and_a_bad_line_stores_nothing() {
    let room = Room::open().await;
    let (status, answer) = room.produce("?format=values&key=/id", NDJSON, "{\"id\":\"a\"}\n\n{\"id\":7}\r\n[1]").await;
    assert_eq!((status, &answer["count"]), (200, &json!(3)), "{answer}");
    assert_eq!(*room.fake.appends.lock().unwrap(), [3]);
    assert_eq!(room.records().await[1]["key"], "7");
    let (status, problem) = room.produce("", NDJSON, "{\"value\":1}\n{\"value\":2}\n{\"value\":").await;
    assert_eq!((status, &problem["code"], &problem["line"], &problem["stored"]), (400, &json!("malformed_record"), &json!(3), &json!(0)));
    assert_eq!(room.records().await.len(), 3);
    let (_, problem) = room.produce("?partial=true", NDJSON, "{\"value\":1}\n{\"value\":2}\nx").await;
    assert_eq!((&problem["stored"], &problem["outcome"]), (&json!(2), &json!("unknown")));
    let (_, problem) = room.produce("", NDJSON, &b"{\"value\":1}\n{\"value\":\"\xff\"}\n"[..]).await;
    assert_eq!(problem["line"], 2, "{problem}");
}

#[tokio::test]
async fn a_long_body_is_a_stream_stored_chunk_by_chunk() {
    let mut fake = Fake::new();
    fake.limits.batch_bytes = 64 << 10;
    fake.limits.batch_records = 500;
    let room = Room::open_with(fake).await;
    let lines: String = (0..50_000).map(|n| format!("{{\"value\":\"record number {n}\"}}\n")).collect();
    let (status, answer) = room.produce("?acks=ranges", NDJSON, lines.clone()).await;
    assert_eq!((status, &answer["count"]), (200, &json!(50_000)), "{answer}");
    assert!(room.fake.appends.lock().unwrap().iter().all(|count| *count <= 500));
    let (_, listed) = room.produce("", NDJSON, lines.clone()).await;
    assert_eq!(listed["acks"].as_array().unwrap().len(), 50_000);
    let (status, problem) = room.produce("", NDJSON, lines + "broken\n").await;
    assert_eq!((status, &problem["line"]), (400, &json!(50_001)), "{problem}");
    let all = room.raw("GET", "/v1/topics/t/records?from=earliest", &[("accept", NDJSON)], "").await;
    let text = all.into_body().collect().await.unwrap().to_bytes();
    let stored = 100_000 + problem["stored"].as_u64().unwrap();
    assert_eq!(text.iter().filter(|b| **b == b'\n').count() as u64, stored);
}

#[tokio::test]
async fn compressed_bodies_are_read_and_bombs_refused() {
    let room = Room::open().await;
    let gzip = |data: &[u8]| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(data).unwrap();
        encoder.finish().unwrap()
    };
    let headers = |encoding: &'static str| [("content-type", NDJSON), ("content-encoding", encoding)];
    let packed = gzip(b"{\"value\":1}\n");
    assert_eq!(room.send("POST", "/v1/topics/t/records", &headers("gzip"), packed.clone()).await.0, 200);
    let zstd = zstd::encode_all(&b"{\"value\":2}\n"[..], 1).unwrap();
    assert_eq!(room.send("POST", "/v1/topics/t/records", &headers("zstd"), zstd.clone()).await.0, 200);
    for (encoding, body, status, code) in [
        ("gzip", packed[..packed.len() - 4].to_vec(), 400, "malformed_body"),
        ("zstd", zstd[..zstd.len() - 2].to_vec(), 400, "malformed_body"),
        ("br", packed.clone(), 415, "unsupported_encoding"),
        ("gzip, gzip", gzip(&packed), 415, "unsupported_encoding"),
        ("gzip", gzip(&vec![b'0'; 64 << 20]), 413, "too_large"),
    ] {
        let (got, problem) = room.send("POST", "/v1/topics/t/records", &headers(encoding), body).await;
        assert_eq!((got, &problem["code"]), (status, &json!(code)), "{encoding}: {problem}");
    }
    assert_eq!(room.records().await.len(), 2);
    let plain = room.raw("GET", "/v1/openapi.json", &[("accept-encoding", "gzip, zstd")], "").await;
    assert_eq!(plain.headers()["content-encoding"], "zstd");
    let bytes = plain.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(zstd::decode_all(&bytes[..]).unwrap(), lakefall_http::openapi_document().into_bytes());
}

#[tokio::test]
async fn cloud_events_become_records_in_every_mode() {
    let room = Room::open().await;
    let event = json!({"specversion":"1.0","id":"1","source":"/s","type":"a.b","subject":"k","time":"2026-01-01T00:00:00Z","data":{"x":1}});
    assert_eq!(room.produce("", "application/cloudevents+json", event.to_string()).await.0, 200);
    assert_eq!(room.produce("", "application/cloudevents-batch+json", json!([event, event]).to_string()).await.0, 200);
    let binary = [
        ("content-type", "application/json"),
        ("ce-specversion", "1.0"),
        ("ce-id", "9"),
        ("ce-source", "/s"),
        ("ce-type", "a.b"),
        ("ce-subject", "k"),
    ];
    assert_eq!(room.send("POST", "/v1/topics/t/records", &binary, r#"{"x":1}"#).await.0, 200);
    let records = room.records().await;
    assert_eq!(records.len(), 4);
    for record in &records {
        assert_eq!((&record["key"], &record["value"]["x"], &record["headers"]["ce_type"]), (&json!("k"), &json!(1), &json!("a.b")));
    }
    assert_eq!(room.produce("", "application/cloudevents+json", r#"{"specversion":"1.0","id":"1"}"#).await.0, 400);
}

#[tokio::test]
async fn arrow_goes_in_and_comes_out() {
    use arrow_array::cast::AsArray;
    let room = Room::open().await;
    let batch = arrow_array::record_batch!(("value", Utf8, [Some("a"), None, Some("ccc")]), ("key", Utf8, ["x", "y", "z"])).unwrap();
    let mut body = Vec::new();
    let mut writer = arrow_ipc::writer::StreamWriter::try_new(&mut body, &batch.schema()).unwrap();
    writer.write(&batch).unwrap();
    writer.finish().unwrap();
    drop(writer);
    let media = "application/vnd.apache.arrow.stream";
    let (status, answer) = room.produce("", media, body.clone()).await;
    assert_eq!((status, &answer["count"]), (200, &json!(3)), "{answer}");
    assert_eq!(room.produce("", media, body[..body.len() / 2].to_vec()).await.0, 400);
    let out = room.raw("GET", "/v1/topics/t/partitions/0/records?from=earliest", &[("accept", media)], "").await;
    let out = out.into_body().collect().await.unwrap().to_bytes();
    let read: Vec<_> = arrow_ipc::reader::StreamReader::try_new(&out[..], None).unwrap().map(|b| b.unwrap()).collect();
    let values = read[0].column_by_name("value").unwrap().as_binary::<i32>();
    assert_eq!(values.iter().collect::<Vec<_>>(), [Some(&b"a"[..]), None, Some(b"ccc")]);
    let empty = room.raw("GET", "/v1/topics/t/partitions/1/records?from=earliest", &[("accept", media)], "").await;
    let empty = empty.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(arrow_ipc::reader::StreamReader::try_new(&empty[..], None).unwrap().count(), 0);
}

#[tokio::test]
async fn a_tail_names_where_it_is_and_resumes_there() {
    let room = Room::open().await;
    room.produce("", NDJSON, "{\"value\":1}\n{\"value\":2}\n{\"value\":3}\n").await;
    let events = [("accept", "text/event-stream")];
    let text =
        |response: Response<Body>| async { String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap() };
    let first = text(room.raw("GET", "/v1/topics/t/records?from=earliest&limit=2", &events, "").await).await;
    let id = first.lines().filter_map(|l| l.strip_prefix("id: ")).next_back().unwrap().to_owned();
    let rest = text(room.raw("GET", "/v1/topics/t/records?limit=1", &[events[0], ("last-event-id", &id)], "").await).await;
    assert!(rest.contains("\"offset\":2"), "{rest}");
    // A tail with nothing to say ends when the process shuts down.
    let tail = room.raw("GET", "/v1/topics/t/records", &events, "").await;
    room.settings.shutdown.cancel();
    assert!(text(tail).await.contains(": connected"));
}

#[tokio::test]
async fn a_stream_acknowledges_each_line_in_order_and_ends_at_a_refusal() {
    let room = Room::open().await;
    let body = "{\"value\":1}\n{\"value\":2}\nbroken\n{\"value\":4}\n";
    let answer = room.raw("POST", "/v1/topics/t/records/stream", &[("content-type", NDJSON)], body).await;
    assert_eq!(answer.status(), StatusCode::OK);
    let text = answer.into_body().collect().await.unwrap().to_bytes();
    let lines: Vec<Value> = text.split(|b| *b == b'\n').filter(|l| !l.is_empty()).map(|l| serde_json::from_slice(l).unwrap()).collect();
    assert_eq!((&lines[0]["offset"], &lines[1]["offset"], &lines[2]["line"], lines.len()), (&json!(0), &json!(1), &json!(3), 3));
}

#[tokio::test]
async fn an_end_that_may_not_be_the_end_any_more_is_told_as_such_and_never_by_an_empty_answer() {
    let room = Room::open().await;
    let json = [("content-type", "application/json")];
    assert_eq!(room.send("PUT", "/v1/topics/away", &json, r#"{"partitions":1}"#).await.0, 201);
    let (page, all) = ("/v1/topics/away/partitions/0/records?offset=0", "/v1/topics/away/records?from=earliest");
    for uri in [page, all] {
        let (status, problem) = room.send("GET", uri, &[], "").await;
        assert_eq!((status, &problem["code"], &problem["outcome"]), (503, &json!("not_committed"), &json!("not_applied")), "{problem}");
    }
    assert_eq!(room.send("GET", page, &[("accept", "application/octet-stream")], "").await.0, 503);
    assert_eq!(room.send("POST", "/v1/topics/away/records", &json, r#"{"records":[{"value":1},{"value":2}]}"#).await.0, 200);
    let (_, found) = room.send("GET", page, &[], "").await;
    assert_eq!((&found["end"], &found["stale"]), (&json!(2), &json!(true)), "{found}");
    let (_, found) = room.send("GET", all, &[], "").await;
    assert_eq!(found["partitions"][0]["stale"], true, "{found}");
    let (_, found) = room.send("GET", &format!("{page}&limit=1"), &[], "").await;
    assert_eq!(found.get("stale"), None, "who goes on asks again: {found}");
    let (_, found) = room.send("GET", "/v1/topics/t/partitions/0/records?offset=0", &[], "").await;
    assert_eq!((&found["end"], found.get("stale")), (&json!(0), None), "{found}");
}

#[tokio::test]
async fn topics_are_created_listed_patched_and_deleted() {
    let room = Room::open().await;
    let (status, topic) = room.send("POST", "/v1/topics", &[], r#"{"name":"a","retention":{"age":"7d"}}"#).await;
    assert_eq!((status, &topic["retention"]["age"]), (201, &json!("7d")), "{topic}");
    assert_eq!(room.send("POST", "/v1/topics", &[], r#"{"name":"a"}"#).await.0, 409);
    assert_eq!(room.send("PUT", "/v1/topics/a", &[("if-none-match", "*")], "{}").await.0, 412);
    let (_, page) = room.send("GET", "/v1/topics?limit=1", &[], "").await;
    let token = page["next_page_token"].as_str().unwrap();
    let (_, page) = room.send("GET", &format!("/v1/topics?limit=1&page_token={token}"), &[], "").await;
    assert_eq!(page["items"][0]["name"], "t");
    let (status, topic) =
        room.send("PATCH", "/v1/topics/a", &[("if-match", "\"1\"")], r#"{"retention":{"age":null},"partitions":3}"#).await;
    assert_eq!((status, &topic["partitions"], &topic["retention"]), (200, &json!(3), &json!({})), "{topic}");
    assert_eq!(room.send("PATCH", "/v1/topics/a", &[("if-match", "\"1\"")], "{}").await.0, 412);
    assert_eq!(room.send("DELETE", "/v1/topics/a", &[], "").await.0, 204);
    assert_eq!(room.send("GET", "/v1/topics/a", &[], "").await.0, 404);
}

#[tokio::test]
async fn an_idempotency_key_goes_with_what_was_asked() {
    let room = Room::open().await;
    let mut prints = Vec::new();
    for body in ["{\"value\":1}", "{\"value\":1}", "{\"value\":2}"] {
        let headers = [("content-type", "application/json"), ("idempotency-key", "k-1")];
        assert_eq!(room.send("POST", "/v1/topics/t/records", &headers, body).await.0, 200);
        prints.push(room.fake.idempotency.lock().unwrap().clone().unwrap().fingerprint);
    }
    assert!(prints[0] == prints[1] && prints[1] != prints[2]);
}

#[tokio::test]
async fn commits_and_cursors_speak_json() {
    let room = Room::open().await;
    let body = r#"{"appends":[{"topic":"t","records":[{"value":1}]}],"cursors":[{"cursor":"c","topic":"t","offsets":{"0":1}}]}"#;
    let (status, answer) = room.send("POST", "/v1/commit", &[("content-type", "application/json")], body).await;
    assert_eq!((status, &answer["appends"][0]["acks"][0]["offset"]), (200, &json!(0)), "{answer}");
    let (status, cursor) = room.send("PUT", "/v1/cursors/c/topics/t", &[], r#"{"offsets":{"0":5}}"#).await;
    assert_eq!((status, &cursor["offsets"]["0"]), (200, &json!(5)), "{cursor}");
    assert_eq!(room.send("POST", "/v1/cursors/c/reset", &[], r#"{"to":"earliest"}"#).await.0, 200);
    assert_eq!(room.send("DELETE", "/v1/cursors/c", &[], "").await.0, 204);
    assert_eq!(room.send("GET", "/v1/cursors/c", &[], "").await.0, 404);
}

#[tokio::test]
async fn bad_input_is_refused_with_its_documented_code() {
    let room = Room::open().await;
    let deep = format!(r#"{{"value":{}1{}}}"#, "[".repeat(10_000), "]".repeat(10_000));
    let long_uri = format!("/v1/topics/t/records?from={}", "x".repeat(9_000));
    let huge = "x".repeat((8 << 20) + 1);
    let json = "application/json";
    let records = "/v1/topics/t/records";
    let read = |query: &str| format!("/v1/topics/t/partitions/0/records?{query}");
    let cases: Vec<(&str, String, &str, &str, u16, &str)> = vec![
        ("POST", "/v1/topics/nope/records".into(), json, r#"{"value":1}"#, 404, "topic_not_found"),
        ("POST", "/v1/topics/%00/records".into(), json, r#"{"value":1}"#, 400, "invalid_argument"),
        ("POST", "/v1/topics/a%2Fb/records".into(), json, r#"{"value":1}"#, 400, "invalid_argument"),
        ("POST", "/v1/topics/../records".into(), json, r#"{"value":1}"#, 400, "invalid_argument"),
        ("POST", "/v1/topics//records".into(), json, r#"{"value":1}"#, 400, "invalid_argument"),
        ("POST", "/v1/topics/%F0%9F%98%80/records".into(), json, r#"{"value":1}"#, 400, "invalid_argument"),
        ("POST", "/v1/topics/%ff/records".into(), json, r#"{"value":1}"#, 400, "invalid_argument"),
        ("POST", records.into(), json, "{", 400, "malformed_body"),
        ("POST", records.into(), json, r#"{"key":"k"}"#, 400, "invalid_argument"),
        ("POST", records.into(), json, r#"{"value":1,"valeu":2}"#, 400, "unknown_field"),
        ("POST", records.into(), json, r#"{"value":1,"value":2}"#, 400, "invalid_argument"),
        ("POST", records.into(), json, r#"{"value":1,"headers":{"a":"1","a":"2"}}"#, 400, "invalid_argument"),
        ("POST", records.into(), json, r#"{"value":"?","encoding":"base64"}"#, 400, "invalid_argument"),
        ("POST", records.into(), json, r#"{"value":{"a":"\ud800"}}"#, 400, "malformed_record"),
        ("POST", records.into(), json, &deep, 400, "malformed_record"),
        ("POST", records.into(), json, r#"{"records":[]}"#, 400, "invalid_argument"),
        ("POST", records.into(), json, r#"{"records":[{"value":1},{"vale":1}]}"#, 400, "unknown_field"),
        ("POST", records.into(), json, r#"{"records":[{"value":1}],"expect_offset":9}"#, 412, "offset_mismatch"),
        ("POST", records.into(), json, r#"{"value":1,"partition":1000000000}"#, 404, "partition_not_found"),
        ("POST", records.into(), json, r#"{"value":1,"priority":10}"#, 400, "invalid_argument"),
        ("POST", records.into(), "text/plain", "panic", 500, "internal"),
        ("POST", records.into(), "text/plain", "busy", 503, "not_committed"),
        ("POST", records.into(), "text/plain", &huge, 413, "too_large"),
        ("POST", format!("{records}?durability=buffered"), json, r#"{"value":1}"#, 400, "not_supported"),
        ("POST", format!("{records}?colour=red"), json, r#"{"value":1}"#, 400, "unknown_parameter"),
        ("POST", format!("{records}/stream"), json, r#"{"value":1}"#, 415, "unsupported_media_type"),
        ("POST", "/v1/topics".into(), json, r#"{"name":"x","is_admin":true}"#, 400, "unknown_field"),
        ("POST", "/v1/topics".into(), json, r#"{"name":"x","name":"y"}"#, 400, "invalid_argument"),
        ("POST", "/v1/topics".into(), json, r#"{"name":"x","partitions":0}"#, 400, "invalid_argument"),
        ("POST", "/v1/topics".into(), "text/xml", "<x/>", 415, "unsupported_media_type"),
        ("POST", "/v1/commit".into(), json, r#"{"acks":[]}"#, 400, "invalid_argument"),
        ("GET", read("offset=-1"), "", "", 400, "invalid_argument"),
        ("GET", read("offset=NaN"), "", "", 400, "invalid_argument"),
        ("GET", read("offset=1e400"), "", "", 400, "invalid_argument"),
        ("GET", read("offset=9223372036854775808"), "", "", 400, "invalid_argument"),
        ("GET", read("offset=0&from=latest"), "", "", 400, "invalid_argument"),
        ("GET", read(""), "", "", 400, "invalid_argument"),
        ("GET", read("from=earliest&limit=0"), "", "", 400, "invalid_argument"),
        ("GET", read("from=earliest&limit=1000000000"), "", "", 400, "invalid_argument"),
        ("GET", read("from=earliest&wait=1000000000s"), "", "", 400, "invalid_argument"),
        ("GET", read("offset=13"), "", "", 410, "offset_trimmed"),
        ("GET", "/v1/topics/t/partitions/1000000000/records?offset=0".into(), "", "", 404, "partition_not_found"),
        ("GET", "/v1/topics/t/records?cursor=AAAA".into(), "", "", 400, "invalid_argument"),
        ("GET", read("offset=0"), "", "body", 400, "malformed_body"),
        ("GET", long_uri, "", "", 414, "uri_too_long"),
        ("TRACE", records.into(), "", "", 405, "method_not_allowed"),
        ("GET", "/v2/topics".into(), "", "", 404, "route_not_found"),
        ("GET", "/metrics".into(), "", "", 404, "route_not_found"),
    ];
    for (method, uri, media, body, status, code) in cases {
        let headers: &[(&str, &str)] = if media.is_empty() { &[] } else { &[("content-type", media)] };
        let before = room.records().await.len();
        let (got, problem) = room.send(method, &uri, headers, body).await;
        let shown = &body[..body.len().min(80)];
        assert_eq!((got, &problem["code"]), (status, &json!(code)), "{method} {uri} {shown}: {problem}");
        let outcome = if code == "internal" { "unknown" } else { "not_applied" };
        assert_eq!(problem["outcome"], outcome, "{uri} {shown}");
        assert_eq!(problem["status"], status);
        assert_eq!(room.records().await.len(), before, "{uri} {shown} stored something");
    }
    let many: Vec<(String, String)> = (0..101).map(|n| (format!("x-{n}"), "1".to_owned())).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
    assert_eq!(room.send("GET", "/v1/topics", &many, "").await.0, 431);
    assert_eq!(room.send("GET", &read("from=latest"), &[("accept", "image/png")], "").await.0, 406);
    let beyond = room.send("GET", &read("offset=999"), &[], "").await;
    assert_eq!((beyond.0, &beyond.1["records"]), (200, &json!([])));
    let named = room.raw("GET", "/v1/topics", &[("lakefall-request-id", "mine-1")], "").await;
    assert_eq!(named.headers()["lakefall-request-id"], "mine-1");
}
