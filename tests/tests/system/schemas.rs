//! Schemas with the executable: registered from files, kept over a restart, and records held against them.

use lakefall_tests::Client;
use reqwest::Method;
use serde_json::{Value, json};

use super::{Subject, start};

const ORDER: &str = r#"{"type":"object","required":["id"],"properties":{"id":{"type":"integer"},"price":{"type":"number"}}}"#;

async fn ask(client: &Client, method: Method, path: &str, body: &Value) -> (u16, Value) {
    let request = client.request(method, path).header("content-type", "application/json").body(body.to_string());
    let answer = client.send(request).await.unwrap();
    (answer.status, answer.json())
}

async fn register(client: &Client, subject: &str, body: &Value) -> (u16, Value) {
    ask(client, Method::POST, &format!("/v1/schemas/{subject}/versions"), body).await
}

async fn produce(client: &Client, topic: &str, body: &Value) -> (u16, Value) {
    ask(client, Method::POST, &format!("/v1/topics/{topic}/records"), body).await
}

/// A topic `t` that refuses, and one `m` that marks.
async fn prepare(server: &Subject) -> Client {
    let client = server.client();
    assert_eq!(register(&client, "orders", &json!({"schema": ORDER})).await.0, 201);
    for (topic, invalid) in [("t", "reject"), ("m", "mark")] {
        let settings = json!({"schema": {"subject": "orders", "invalid": invalid}});
        client.call(Method::PUT, &format!("/v1/topics/{topic}"), &settings).await;
    }
    client
}

#[tokio::test(flavor = "multi_thread")]
async fn records_are_held_against_the_topics_schema_whatever_way_they_come() {
    let server = start().await;
    let client = prepare(&server).await;
    assert_eq!(produce(&client, "t", &json!({"value": {"id": 1, "price": 2.5}})).await.0, 200);
    let bad = json!({"records": [{"value": {"id": 2}}, {"value": {"id": "x"}}, {"value": 7}]});
    let (status, refused) = produce(&client, "t", &bad).await;
    assert_eq!(
        (status, &refused["code"], &refused["outcome"], &refused["record"]),
        (422, &json!("record_invalid"), &json!("not_applied"), &json!(2))
    );
    let places: Vec<&str> = refused["errors"].as_array().unwrap().iter().map(|e| e["pointer"].as_str().unwrap()).collect();
    assert_eq!(places, ["/records/1/value/id", "/records/2/value"]);
    let lines = client.send(client.values("t", "", "{\"id\":3}\n{\"id\":null}")).await.unwrap();
    assert_eq!((lines.status, lines.code().as_str()), (422, "record_invalid"));
    let raw = client.request(Method::POST, "/v1/topics/t/records").header("content-type", "application/octet-stream").body("no JSON");
    assert_eq!(client.send(raw).await.unwrap().status, 422);
    let raw = client.request(Method::POST, "/v1/topics/t/records").header("content-type", "application/octet-stream").body(r#"{"id":4}"#);
    client.send(raw).await.unwrap().ok();
    let commit = json!({"appends": [{"topic": "m", "records": [{"value": {"id": 1}}]}, {"topic": "t", "records": [{"value": {}}]}]});
    let (_, refused) = ask(&client, Method::POST, "/v1/commit", &commit).await;
    assert_eq!(refused["errors"][0]["pointer"], "/appends/1/records/0/value");
    assert_eq!((client.ends("t").await, client.ends("m").await), (vec![(0, 2)], vec![(0, 0)]));

    assert_eq!(produce(&client, "m", &bad).await.0, 200);
    let read = client.get("/v1/topics/m/partitions/0/records?offset=0").await.unwrap().ok().json();
    let marks: Vec<bool> = read["records"].as_array().unwrap().iter().map(|record| record["schema_error"].is_string()).collect();
    assert_eq!(marks, [false, true, true]);
    // Refused: two, one, one and one; marked: two.
    assert_eq!(server.metric("lakefall_records_invalid_total").await, 7.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn schemas_and_their_topics_outlive_a_restart() {
    let mut server = start().await;
    let client = prepare(&server).await;
    client.call(Method::PUT, "/v1/schemas/orders/config", &json!({"compatibility": "full"})).await;
    let newer = ORDER.replace("\"price\"", "\"note\":{\"type\":\"string\"},\"price\"");
    let (_, second) = register(&client, "orders", &json!({"schema": newer})).await;
    assert_eq!(second["version"], 2, "{second}");
    server.kill_nine();
    server.start().await;
    let client = server.client();
    assert_eq!(client.get("/v1/schemas/orders/versions/latest").await.unwrap().ok().json(), second);
    assert_eq!(client.get("/v1/schemas/orders/config").await.unwrap().ok().json()["compatibility"], "full");
    assert_eq!(produce(&client, "t", &json!({"value": {"id": 1, "note": 5}})).await.0, 422);
    let (status, refused) = register(&client, "orders", &json!({"schema": {"type": "object", "required": ["new"]}})).await;
    assert_eq!((status, &refused["code"], &refused["version"]), (409, &json!("schema_incompatible"), &json!(2)));
    let (status, refused) = ask(&client, Method::DELETE, "/v1/schemas/orders", &Value::Null).await;
    assert_eq!((status, &refused["code"], &refused["topic"]), (409, &json!("schema_in_use"), &json!("t")));
    let (status, again) = register(&client, "orders", &json!({"schema": ORDER})).await;
    assert_eq!((status, &again["version"]), (200, &json!(1)));
}

#[tokio::test(flavor = "multi_thread")]
async fn avro_and_protobuf_values_are_checked_as_bytes() {
    let server = start().await;
    let client = server.client();
    let avro = r#"{"type":"record","name":"R","fields":[{"name":"a","type":"int"},{"name":"s","type":"string"}]}"#;
    let proto = "syntax = \"proto3\"; message M { int32 a = 1; string s = 2; }";
    for (subject, kind, schema) in [("avro", "avro", avro), ("proto", "protobuf", proto)] {
        let (status, registered) = register(&client, subject, &json!({"type": kind, "schema": schema})).await;
        assert_eq!(status, 201, "{registered}");
        client.call(Method::PUT, &format!("/v1/topics/{subject}"), &json!({"schema": {"subject": subject}})).await;
    }
    let value = |base64: &str| json!({"value": base64, "encoding": "base64"});
    // 1 and "hi": 02 04 68 69, and 08 01 12 02 68 69.
    for (topic, good, bad) in [("avro", "AgRoaQ==", "AgRo"), ("proto", "CAESAmhp", "CAESAmg=")] {
        let (status, answer) = produce(&client, topic, &value(good)).await;
        assert_eq!(status, 200, "{answer}");
        let (status, answer) = produce(&client, topic, &value(bad)).await;
        assert_eq!((status, &answer["errors"][0]["pointer"]), (422, &json!("/records/0/value/s")), "{answer}");
        assert_eq!(produce(&client, topic, &json!({"value": {"a": 1}})).await.0, 422);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_schemas_and_values_are_refused_and_leave_the_server_well() {
    let mut server = start().await;
    let client = prepare(&server).await;
    let deep = format!("{}{}", "{\"items\":".repeat(20_000), "}".repeat(20_000));
    let nested = format!("syntax = \"proto3\"; {}{}", "message M {".repeat(20_000), "}".repeat(20_000));
    let unions = format!("{}\"null\"{}", "[".repeat(50_000), "]".repeat(50_000));
    let hostile = [
        ("json", deep.as_str()),
        ("json", r##"{"$ref":"#"}"##),
        ("json", r#"{"$ref":"http://127.0.0.1:1/schema"}"#),
        ("json", r#"{"$ref":"file:///etc/passwd"}"#),
        ("json", r#"{"pattern":"(?=a)*"}"#),
        ("avro", unions.as_str()),
        ("avro", r#"{"type":"record","name":"R","fields":[{"name":"a","type":"Nothing"}]}"#),
        ("protobuf", nested.as_str()),
        ("protobuf", "syntax = \"proto3\"; import \"/etc/passwd\"; message M {}"),
    ];
    for (kind, schema) in hostile {
        let (status, answer) = register(&client, "hostile", &json!({"type": kind, "schema": schema})).await;
        let told: String = schema.chars().take(60).collect();
        assert_eq!((status, &answer["code"]), (422, &json!("schema_invalid")), "{told}: {answer}");
    }
    let (status, answer) = register(&client, "hostile", &json!({"schema": "x".repeat(300_000)})).await;
    assert_eq!((status, &answer["code"]), (422, &json!("schema_invalid")));
    let list = r#"{"type":"record","name":"L","fields":[{"name":"next","type":["null","L"]}]}"#;
    register(&client, "list", &json!({"type": "avro", "schema": list})).await;
    client.call(Method::PUT, "/v1/topics/list", &json!({"schema": {"subject": "list"}})).await;
    let deep = client.request(Method::POST, "/v1/topics/list/records").header("content-type", "application/octet-stream");
    assert_eq!(client.send(deep.body(vec![2_u8; 1 << 20])).await.unwrap().status, 422);
    assert_eq!(produce(&client, "t", &json!({"value": {"id": 1}})).await.0, 200);
    assert!(server.ended().is_none() && !server.whole_log().contains("panicked"));
}
