//! A table of bad requests. Each gets the documented status and code, changes nothing, and leaves the server as it was.

use lakefall_tests::Client;
use lakefall_tests::rows::gzip;
use reqwest::Method;
use serde_json::json;

use super::{Subject, start};

const JSON: &str = "application/json";
const LINES: &str = "application/x-ndjson";
const RECORDS: &str = "/v1/topics/t/records";
const READ: &str = "/v1/topics/t/partitions/0/records";

/// One bad request, and what it gets.
pub(super) struct Case {
    pub(super) method: Method,
    pub(super) path: String,
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) body: Vec<u8>,
    pub(super) status: u16,
    pub(super) code: &'static str,
}

impl Case {
    pub(super) fn new(method: Method, path: impl Into<String>, status: u16, code: &'static str) -> Self {
        Self { method, path: path.into(), headers: Vec::new(), body: Vec::new(), status, code }
    }

    fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    pub(super) fn body(self, media: &str, body: impl Into<Vec<u8>>) -> Self {
        Self { body: body.into(), ..self }.header("content-type", media)
    }

    pub(super) fn name(&self) -> String {
        let path: String = self.path.chars().take(120).collect();
        let body: String = String::from_utf8_lossy(&self.body).chars().take(80).collect();
        format!("{} {path} {:?} {body:?} ({} bytes)", self.method, self.headers, self.body.len())
    }
}

fn get(path: impl Into<String>, status: u16, code: &'static str) -> Case {
    Case::new(Method::GET, path, status, code)
}

/// A JSON body to the topic.
fn record(body: impl Into<Vec<u8>>, status: u16, code: &'static str) -> Case {
    Case::new(Method::POST, RECORDS, status, code).body(JSON, body)
}

/// NDJSON to the topic.
fn lines(body: impl Into<Vec<u8>>, status: u16, code: &'static str) -> Case {
    Case::new(Method::POST, RECORDS, status, code).body(LINES, body)
}

fn create(body: impl Into<Vec<u8>>, status: u16, code: &'static str) -> Case {
    Case::new(Method::POST, "/v1/topics", status, code).body(JSON, body)
}

/// A topic `t` that has seen some use: offsets 3 to 12, a producer at epoch 5, a used key, a cursor.
async fn prepare(client: &Client) {
    client.create_topic("t", 1).await;
    client.create_topic("good", 1).await;
    for n in 0..10 {
        client.put("t", 0, &json!(n)).await;
    }
    client.send(client.request(Method::DELETE, "/v1/topics/t/records?before_offset=3")).await.unwrap().ok();
    client.send(client.values("t", "producer_id=p&producer_epoch=5&producer_sequence=0", "1\n2")).await.unwrap().ok();
    client.send(client.values("t", "partition=0", "3").header("idempotency-key", "used")).await.unwrap().ok();
    client.call(Method::PUT, "/v1/cursors/c/topics/t", &json!({"offsets": {"0": 5}})).await;
}

/// Sends every case; after each the topic ends where it ended, and a good request succeeds. All failures are told.
async fn run(server: &mut Subject, cases: Vec<Case>) {
    let client = server.client();
    let state = async || {
        let cursor = client.get("/v1/cursors/c/topics/t").await.unwrap().ok().json()["offsets"].clone();
        let topics: Vec<_> =
            client.get("/v1/topics").await.unwrap().ok().json()["items"].as_array().unwrap().iter().map(|t| t["name"].clone()).collect();
        (client.ends("t").await, cursor, topics)
    };
    let before = state().await;
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
        let told = (answer.status, answer.code());
        if (told.0, told.1.as_str()) != (case.status, case.code) {
            wrong.push(format!(
                "{name}: expected {} {}, got {}",
                case.status,
                case.code,
                answer.text().chars().take(400).collect::<String>()
            ));
            continue;
        }
        let problem = answer.json();
        let complete =
            ["type", "title", "detail", "request_id"].iter().all(|member| problem[*member].as_str().is_some_and(|text| !text.is_empty()));
        let media = answer.headers.get("content-type").is_some_and(|media| media == "application/problem+json");
        if problem["outcome"] != "not_applied" || problem["status"] != case.status || !complete || !media {
            wrong.push(format!("{name}: the problem is not whole: {problem}"));
        }
        if state().await != before {
            wrong.push(format!("{name}: it changed something: {:?} became {:?}", before, state().await));
        }
        client.put("good", 0, &json!("good")).await;
    }
    assert!(server.ended().is_none(), "the server is gone");
    assert!(!server.whole_log().contains("panicked"), "something panicked");
    println!("bad_input: {count} bad requests, {} wrong", wrong.len());
    assert!(wrong.is_empty(), "{} of {count} are answered wrongly:\n{}", wrong.len(), wrong.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_names_and_routes_are_refused() {
    let mut server = start().await;
    prepare(&server.client()).await;
    let mut cases = vec![
        get("/v1/topics/absent", 404, "topic_not_found"),
        Case::new(Method::POST, "/v1/topics/absent/records", 404, "topic_not_found").body(JSON, r#"{"value":1}"#),
        Case::new(Method::POST, "/v1/topics/absent/records/stream", 404, "topic_not_found").body(LINES, r#"{"value":1}"#),
        get("/v1/topics/absent/partitions/0/records?from=earliest", 404, "topic_not_found"),
        get("/v1/topics/t/partitions/1000000000/records?from=earliest", 404, "partition_not_found"),
        get("/v1/topics/t/partitions/-1/records?from=earliest", 400, "invalid_argument"),
        get("/v1/topics/t/partitions/99999999999999/records?from=earliest", 400, "invalid_argument"),
        Case::new(Method::POST, format!("{RECORDS}?partition=7"), 404, "partition_not_found").body(JSON, r#"{"value":1}"#),
        get("/v1/cursors/absent", 404, "cursor_not_found"),
        get("/v1/topics", 404, "namespace_not_found").header("lakefall-namespace", "nobody"),
        get("/v1/topics", 400, "invalid_argument").header("lakefall-namespace", "../x"),
        get("/v0/topics", 404, "route_not_found"),
        get("/v2/topics", 404, "route_not_found"),
        get("/", 404, "route_not_found"),
        get("/v1/topics/", 400, "invalid_argument"),
        get("/v1/queues/q", 404, "queue_not_found"),
        Case::new(Method::TRACE, "/v1/topics", 405, "method_not_allowed"),
        Case::new(Method::from_bytes(b"BREW").unwrap(), "/v1/topics", 405, "method_not_allowed"),
        Case::new(Method::PUT, RECORDS, 405, "method_not_allowed").body(JSON, "{}"),
        get("/v1/topics", 400, "malformed_body").body(JSON, "{}"),
        get(format!("/v1/topics?page_token={}", "a".repeat(9 << 10)), 414, "uri_too_long"),
        get("/v1/topics?page_token=!!", 400, "invalid_argument"),
        get("/v1/topics?limit=0", 400, "invalid_argument"),
        get("/v1/topics?offset=1", 400, "unknown_parameter"),
    ];
    // What is not public stays on the admin port.
    cases.extend(
        ["/metrics", "/healthz", "/readyz", "/debug/config", "/debug/tasks", "/debug/pprof", "/admin"]
            .map(|path| get(path, 404, "route_not_found")),
    );
    for name in
        ["..%2Fx", "%00", "a%00b", "%F0%9F%98%80", "-a", ".a", "a%20b", "orders-%2e%2e%2fx", "'; DROP TABLE topics; --", "%ff", "a%0d%0ab"]
    {
        cases.push(get(format!("/v1/topics/{name}"), 400, "invalid_argument"));
        cases.push(get(format!("/v1/cursors/{name}"), 400, "invalid_argument"));
    }
    cases.push(get(format!("/v1/topics/{}", "a".repeat(250)), 400, "invalid_argument"));
    run(&mut server, cases).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_settings_are_refused() {
    let mut server = start().await;
    prepare(&server.client()).await;
    let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
    let wide = format!("{{\"name\":\"x\",{}\"z\":1}}", (0..100_000).map(|n| format!("\"k{n}\":1,")).collect::<String>());
    let mut cases = vec![
        create(r#"{"name":""}"#, 400, "invalid_argument"),
        create(r#"{"name":"a/b"}"#, 400, "invalid_argument"),
        create(r#"{"name":"a\u0000"}"#, 400, "invalid_argument"),
        create(r#"{"name":"a\r\nx: y"}"#, 400, "invalid_argument"),
        create(r#"{"name":"\ud83d\ude00"}"#, 400, "invalid_argument"),
        create(format!(r#"{{"name":"{}"}}"#, "a".repeat(250)), 400, "invalid_argument"),
        create("{}", 400, "invalid_argument"),
        create("", 400, "invalid_argument"),
        create("[]", 400, "malformed_body"),
        create(r#"{"name":"x""#, 400, "malformed_body"),
        create(r#"{"name":"x","name":"y"}"#, 400, "invalid_argument"),
        create(r#"{"name":"x","partitions":0}"#, 400, "invalid_argument"),
        create(r#"{"name":"x","partitions":-1}"#, 400, "invalid_argument"),
        create(r#"{"name":"x","partitions":1e400}"#, 400, "malformed_body"),
        create(r#"{"name":"x","partitions":100000}"#, 400, "invalid_argument"),
        create(r#"{"name":"x","retention":{"age":"-1s"}}"#, 400, "invalid_argument"),
        create(r#"{"name":"x","dedup_window":"100d"}"#, 400, "invalid_argument"),
        create(r#"{"name":"x","cleanup":"burn"}"#, 400, "invalid_argument"),
        create(r#"{"name":"x","compression":"brotli"}"#, 400, "invalid_argument"),
        create(r#"{"name":"t"}"#, 409, "already_exists"),
        create(format!(r#"{{"name":"x","a":{deep}}}"#), 400, "invalid_argument"),
        create(wide, 413, "too_large"),
        create("{\"name\":\"\\ud800\"}", 400, "malformed_body"),
        create(&b"{\"name\":\"\xff\"}"[..], 400, "malformed_body"),
        Case::new(Method::POST, "/v1/topics", 415, "unsupported_media_type").body("text/xml", "<a/>"),
        Case::new(Method::PATCH, "/v1/topics/t", 412, "version_mismatch").body(JSON, r#"{"partitions":2}"#).header("if-match", "\"99\""),
        Case::new(Method::PATCH, "/v1/topics/t", 400, "invalid_argument").body(JSON, r#"{"partitions":2}"#).header("if-match", "what"),
        Case::new(Method::PUT, "/v1/topics/t", 412, "precondition_failed").body(JSON, "{}").header("if-none-match", "*"),
        Case::new(Method::DELETE, "/v1/topics/t", 412, "version_mismatch").header("if-match", "\"99\""),
        Case::new(Method::PUT, "/v1/cursors/c/topics/t", 400, "invalid_argument").body(JSON, r#"{"offsets":{"0":-1}}"#),
        Case::new(Method::PUT, "/v1/cursors/c/topics/t", 404, "partition_not_found").body(JSON, r#"{"offsets":{"9":1}}"#),
        Case::new(Method::PUT, "/v1/cursors/c/topics/absent", 404, "topic_not_found").body(JSON, r#"{"offsets":{"0":1}}"#),
        Case::new(Method::PUT, "/v1/cursors/c/topics/t", 412, "version_mismatch")
            .body(JSON, r#"{"offsets":{"0":1}}"#)
            .header("if-match", "\"99\""),
        Case::new(Method::POST, "/v1/cursors/c/reset", 400, "invalid_argument").body(JSON, r#"{"to":"yesterday"}"#),
        Case::new(Method::DELETE, format!("{RECORDS}?before_offset=-1"), 400, "invalid_argument"),
        Case::new(Method::DELETE, RECORDS, 400, "invalid_argument"),
        Case::new(Method::DELETE, "/v1/namespaces/default", 409, "namespace_not_empty"),
    ];
    // Nobody sets what is the server's to set.
    for field in ["tenant_id", "next_offset", "is_admin", "id", "version", "created_at", "namespace"] {
        cases.push(create(format!(r#"{{"name":"x","{field}":1}}"#), 400, "unknown_field"));
    }
    run(&mut server, cases).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_reads_are_refused() {
    let mut server = start().await;
    prepare(&server.client()).await;
    let mut cases = vec![
        get(format!("{READ}?offset=2"), 410, "offset_trimmed"),
        get(format!("{RECORDS}?offset=0"), 410, "offset_trimmed"),
        get(READ, 400, "invalid_argument"),
        get(format!("{READ}?offset=3&from=earliest"), 400, "invalid_argument"),
        get(format!("{READ}?from=middle"), 400, "invalid_argument"),
        get(format!("{READ}?timestamp=yesterday"), 400, "invalid_argument"),
        get(format!("{READ}?offset=3&wait=1000000000s"), 400, "invalid_argument"),
        get(format!("{READ}?offset=3&wait=61s"), 400, "invalid_argument"),
        get(format!("{READ}?offset=3&encoding=rot13"), 400, "invalid_argument"),
        get(format!("{READ}?offset=3&nonsense=1"), 400, "unknown_parameter"),
        get(format!("{READ}?offset=3&range=bytes"), 400, "unknown_parameter"),
        get(format!("{READ}?offset=3&offset=4"), 400, "invalid_argument"),
        get(format!("{READ}?offset=%ff"), 400, "invalid_argument"),
        get(format!("{RECORDS}?cursor=AAAA"), 400, "invalid_argument"),
        get(format!("{READ}?offset=3"), 406, "not_acceptable").header("accept", "image/png"),
        get(RECORDS, 400, "invalid_argument").header("accept", "text/event-stream").header("last-event-id", "forged"),
    ];
    for bad in ["-1", "9223372036854775808", "1e400", "NaN", "1.5", "", "+3", "0x3", "99999999999999999999999"] {
        cases.push(get(format!("{READ}?offset={}", bad.replace('+', "%2B")), 400, "invalid_argument"));
    }
    for bad in ["0", "-1", "1000000000", "ten"] {
        cases.push(get(format!("{READ}?offset=3&limit={bad}"), 400, "invalid_argument"));
        cases.push(get(
            format!("{READ}?offset=3&max_bytes={}", if bad == "1000000000" { "99999999999" } else { bad }),
            400,
            "invalid_argument",
        ));
    }
    run(&mut server, cases).await;
    // Beyond the end is no error: there is nothing yet.
    let page = server.client().page("t", 0, 1_000_000, "").await.unwrap();
    assert_eq!((page.rows.len(), page.next, page.end), (0, 1_000_000, 13));
    let below = server.client().get(&format!("{READ}?offset=0")).await.unwrap().json();
    assert_eq!(below["log_start"], 3);
}

fn arrow_with_unknown_column() -> Vec<u8> {
    use arrow_array::{ArrayRef, Int32Array, RecordBatch};
    let column: ArrayRef = std::sync::Arc::new(Int32Array::from(vec![1]));
    let batch = RecordBatch::try_from_iter([("surprise", column)]).unwrap();
    let mut writer = arrow_ipc::writer::StreamWriter::try_new(Vec::new(), &batch.schema()).unwrap();
    writer.write(&batch).unwrap();
    writer.into_inner().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_records_are_refused_and_nothing_of_their_batch_is_stored() {
    let mut server = start().await;
    prepare(&server.client()).await;
    let deep = |n: usize| format!(r#"{{"value":{}1{}}}"#, "[".repeat(n), "]".repeat(n));
    let post = |path: String, media: &str, body: &[u8], status, code| Case::new(Method::POST, path, status, code).body(media, body);
    let good = r#"{"value":1}"#;
    let mut cases = vec![
        record("{", 400, "malformed_body"),
        record("", 400, "malformed_body"),
        record("nonsense", 400, "malformed_body"),
        record(r#"{"value":NaN}"#, 400, "malformed_body"),
        record(r#"{"value":1} trailing"#, 400, "malformed_body"),
        record(r#"{"value":1,"colour":2}"#, 400, "unknown_field"),
        record(r#"{"value":1,"value":2}"#, 400, "invalid_argument"),
        record(r#"{"key":"k"}"#, 400, "invalid_argument"),
        record(r#"{"records":[]}"#, 400, "invalid_argument"),
        record(r#"{"value":"!!","encoding":"base64"}"#, 400, "invalid_argument"),
        record(r#"{"value":1,"encoding":"utf8"}"#, 400, "invalid_argument"),
        record(r#"{"value":1,"encoding":"rot13"}"#, 400, "invalid_argument"),
        record(r#"{"value":1,"timestamp":"yesterday"}"#, 400, "invalid_argument"),
        record(r#"{"value":1,"priority":10}"#, 400, "invalid_argument"),
        record(r#"{"value":1,"partition":-1}"#, 400, "invalid_argument"),
        record(r#"{"value":1,"partition":9}"#, 404, "partition_not_found"),
        record(r#"{"value":1,"ttl":"-1s"}"#, 400, "invalid_argument"),
        record(r#"{"value":1,"headers":{"h":5}}"#, 400, "invalid_argument"),
        record(r#"{"value":1,"headers":{"h":{"base64":"!"}}}"#, 400, "invalid_argument"),
        record(&b"{\"value\":\"\xff\xfe\"}"[..], 400, "malformed_body"),
        record("{\"value\":\"\\ud800\"}", 400, "malformed_record"),
        record(deep(10_000), 400, "malformed_record"),
        record(r#"{"records":[{"value":1},{"value":}]}"#, 400, "invalid_argument"),
        record(r#"{"records":[{"value":1},{"value":1,"encoding":"base64"}]}"#, 400, "invalid_argument"),
        record(r#"{"records":[{"value":1}],"expect_offset":5}"#, 412, "offset_mismatch"),
        record(r#"{"records":[{"value":1}],"expect_offset":-5}"#, 400, "invalid_argument"),
        record(r#"{"records":[{"value":1}],"expect_offset":9223372036854775808}"#, 400, "invalid_argument"),
        record(r#"{"records":[{"value":1}],"producer":{"id":"p","epoch":4,"sequence":2}}"#, 409, "producer_fenced"),
        record(r#"{"records":[{"value":1}],"producer":{"id":"p","epoch":5,"sequence":9}}"#, 409, "sequence_gap"),
        record(r#"{"records":[{"value":1}],"producer":{"id":"p"}}"#, 400, "invalid_argument"),
        lines(format!("{good}\n{good}\n{{\n"), 400, "malformed_record"),
        lines(format!("{good}\n{{\"value\":1,\"x\":2}}\n"), 400, "unknown_field"),
        lines(format!("{good}\n{{\"value\":\"!\",\"encoding\":\"base64\"}}\n"), 400, "invalid_argument"),
        lines([format!("{good}\n").as_bytes(), b"{\"value\":\"\xff\"}\n"].concat(), 400, "malformed_record"),
        lines("\n\n", 400, "invalid_argument"),
        lines(format!("{good}\n{}\n", deep(10_000)), 400, "malformed_record"),
        lines(good, 409, "idempotency_conflict").header("idempotency-key", "used"),
        lines(good, 400, "invalid_argument").header("idempotency-key", "k".repeat(256)),
        lines(good, 415, "unsupported_encoding").header("content-encoding", "br"),
        lines(good, 415, "unsupported_encoding").header("content-encoding", "gzip, gzip"),
        lines(good, 400, "malformed_body").header("content-encoding", "gzip"),
        lines(gzip(format!("{good}\n").repeat(1_000).as_bytes()).slice(..40).to_vec(), 400, "malformed_body").header("content-encoding", "gzip"),
        // A frame that asks for a window of 2 GiB: magic, descriptor without content size, window descriptor.
        lines(vec![0x28, 0xb5, 0x2f, 0xfd, 0x00, 0xa8, 0x01, 0x00, 0x00], 400, "malformed_body").header("content-encoding", "zstd"),
        post(format!("{RECORDS}?durability=buffered"), JSON, good.as_bytes(), 400, "not_supported"),
        post(format!("{RECORDS}?acks=maybe"), JSON, good.as_bytes(), 400, "invalid_argument"),
        post(format!("{RECORDS}?format=csv"), LINES, good.as_bytes(), 400, "invalid_argument"),
        post(format!("{RECORDS}?key=no-pointer"), LINES, good.as_bytes(), 400, "invalid_argument"),
        post(format!("{RECORDS}?tenant=x"), JSON, good.as_bytes(), 400, "unknown_parameter"),
        post(format!("{RECORDS}?producer_id=p"), JSON, good.as_bytes(), 400, "invalid_argument"),
        post(format!("{RECORDS}?partition=0&partition=0"), JSON, good.as_bytes(), 400, "invalid_argument"),
        post(format!("{RECORDS}?format=values"), LINES, b"1\n{\n", 400, "malformed_record"),
        post(format!("{RECORDS}?format=values&key=/a"), LINES, b"{\"a\":{}}\n", 400, "invalid_argument"),
        post(format!("{RECORDS}/stream"), JSON, good.as_bytes(), 415, "unsupported_media_type"),
        post(RECORDS.into(), "application/cloudevents+json", b"{\"id\":\"1\"}", 400, "invalid_argument"),
        post(RECORDS.into(), "application/cloudevents-batch+json", b"{}", 400, "invalid_argument"),
        post(RECORDS.into(), "application/vnd.apache.arrow.stream", b"ARROW?", 400, "malformed_body"),
        post(RECORDS.into(), "application/vnd.apache.arrow.stream", &arrow_with_unknown_column(), 400, "unknown_field"),
        post(RECORDS.into(), "application/json; charset=utf-16", good.as_bytes(), 415, "unsupported_media_type"),
        post(RECORDS.into(), "text/plain", b"x", 400, "unknown_parameter").header("lakefall-colour", "x"),
        post("/v1/commit".into(), JSON, b"{}", 400, "invalid_argument"),
        post("/v1/commit".into(), JSON, br#"{"acks":[]}"#, 400, "invalid_argument"),
        post("/v1/commit".into(), JSON, br#"{"appends":[{"topic":"t","records":[{"value":1}]},{"topic":"absent","records":[{"value":1}]}]}"#, 404, "topic_not_found"),
        post("/v1/commit".into(), JSON, br#"{"appends":[{"topic":"t","records":[{"value":1}]},{"topic":"good","records":[{"value":1}],"expect_offset":999}]}"#, 412, "offset_mismatch"),
        post("/v1/commit".into(), JSON, br#"{"appends":[{"topic":"t","records":[{"value":1}]}],"cursors":[{"cursor":"c","topic":"t","offsets":{"0":1},"if_version":99}]}"#, 412, "version_mismatch"),
    ];
    cases.push(lines(good, 400, "invalid_argument").header("idempotency-key", "a").header("idempotency-key", "b"));
    run(&mut server, cases).await;
    // The line is named, and how much was stored.
    let client = server.client();
    let refused = client
        .send(client.request(Method::POST, RECORDS).header("content-type", LINES).body(format!("{good}\n\n{good}\n[]\n")))
        .await
        .unwrap()
        .json();
    assert_eq!((&refused["line"], &refused["record"], &refused["stored"]), (&json!(4), &json!(3), &json!(0)), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_large_is_refused() {
    let mut server = start().await;
    prepare(&server.client()).await;
    let value = |bytes: usize| format!(r#"{{"value":"{}"}}"#, "x".repeat(bytes));
    let cases = vec![
        record(value(8 << 20), 200, ""),
        record(value((8 << 20) + 1), 413, "too_large"),
        record(format!(r#"{{"records":[{}]}}"#, vec![value(6 << 20); 3].join(",")), 413, "too_large"),
        record(format!(r#"{{"value":1,"key":"{}"}}"#, "k".repeat((64 << 10) + 1)), 413, "too_large"),
        record(format!(r#"{{"value":1,"headers":{{"h":"{}"}}}}"#, "k".repeat(64 << 10)), 413, "too_large"),
        record(format!(r#"{{"records":[{}]}}"#, vec![r#"{"value":1}"#; 10_001].join(",")), 413, "too_large")
            .header("idempotency-key", "many"),
        lines(format!("{}\n", value((8 << 20) + 1)), 413, "too_large"),
        lines("{\"value\":1}\n".repeat(10_001), 413, "too_large").header("idempotency-key", "many"),
        Case::new(Method::POST, RECORDS, 413, "too_large").body("image/png", vec![0_u8; (8 << 20) + 1]),
        Case::new(Method::POST, "/v1/topics", 413, "too_large").body(JSON, vec![b' '; (1 << 20) + 1]),
        lines(gzip(&vec![b' '; 256 << 20]).to_vec(), 413, "too_large").header("content-encoding", "gzip"),
        record(gzip(&vec![b' '; 256 << 20]).to_vec(), 413, "too_large").header("content-encoding", "gzip"),
    ];
    // The first is just small enough: it shows where the limit is, and is the one that is stored.
    let mut cases = cases.into_iter();
    let allowed = cases.next().unwrap();
    let client = server.client();
    client.send(client.request(allowed.method, &allowed.path).header("content-type", JSON).body(allowed.body)).await.unwrap().ok();
    let before = server.resident_kib();
    run(&mut server, cases.collect()).await;
    let grown = server.resident_kib().saturating_sub(before);
    println!("bad_input: too large bodies and bombs grew the server by {} MiB", grown >> 10);
    assert!(grown < 128 << 10, "the server grew by {} MiB", grown >> 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn text_that_would_be_code_elsewhere_is_stored_as_it_is() {
    let server = start().await;
    let client = server.client();
    client.create_topic("t", 1).await;
    for text in ["'; DROP TABLE records; --", "\\x27", "${jndi:ldap://x}", "<script>", "\u{0}\u{1f}\u{7f}", "%00%0d%0a", "🦀\u{202e}"] {
        let record = json!({"value": text, "key": text, "headers": {"h": text}, "correlation_id": "c"});
        let at = client.call(Method::POST, RECORDS, &record).await.offsets()[0].1;
        let read = client.get(&format!("{READ}?offset={at}&limit=1")).await.unwrap().ok().json();
        let read = &read["records"][0];
        assert_eq!((&read["value"], &read["key"], &read["headers"]["h"]), (&json!(text), &json!(text), &json!(text)));
    }
}
