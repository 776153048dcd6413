//! Schemas on the wire: how they are registered, told and judged, and what is refused.

use serde_json::{Value, json};

use super::Room;

const JSON: (&str, &str) = ("content-type", "application/json");

impl Room {
    async fn post_json(&self, uri: &str, body: &Value) -> (u16, Value) {
        self.send("POST", uri, &[JSON], body.to_string()).await
    }

    async fn read(&self, uri: &str) -> (u16, Value) {
        self.send("GET", uri, &[], "").await
    }
}

#[tokio::test]
async fn a_schema_is_registered_as_json_or_as_text_and_told_as_it_was() {
    let room = Room::open().await;
    let versions = "/v1/schemas/orders/versions";
    let schema = json!({"type": "object"});
    let (status, first) = room.post_json(versions, &json!({"type": "json", "schema": schema})).await;
    assert_eq!((status, &first["version"], &first["id"], &first["schema"]), (201, &json!(1), &json!(11), &schema), "{first}");
    assert_eq!(room.post_json(versions, &json!({"schema": schema.to_string()})).await.0, 200, "json is the default");
    let proto = "syntax = \"proto3\"; message M {}";
    let (_, third) = room.post_json(versions, &json!({"type": "protobuf", "schema": proto, "message": "M"})).await;
    assert_eq!((&third["schema"], &third["message"], &third["type"]), (&json!(proto), &json!("M"), &json!("protobuf")));
    assert_eq!(room.read("/v1/schemas/orders/versions/latest").await, (200, third.clone()));
    assert_eq!(room.read("/v1/schemas/orders/versions/1").await.1["schema"], schema);
    let (_, listed) = room.read(versions).await;
    assert_eq!(listed["items"].as_array().unwrap().len(), 2);
    assert_eq!(room.read("/v1/schemas").await.1["items"][0]["name"], "orders");
    assert_eq!(room.send("DELETE", "/v1/schemas/orders/versions/1", &[], "").await.0, 204);
    assert_eq!(room.send("DELETE", "/v1/schemas/orders", &[], "").await.0, 204);
    assert_eq!(room.read("/v1/schemas/orders").await.0, 404);
}

#[tokio::test]
async fn compatibility_is_asked_and_set_under_a_condition() {
    let room = Room::open().await;
    assert_eq!(room.send("PUT", "/v1/schemas/s/config", &[JSON], r#"{"compatibility":"full"}"#).await.0, 201);
    assert_eq!(room.read("/v1/schemas/s/config").await, (200, json!({"compatibility": "full"})));
    let stale = room.send("PUT", "/v1/schemas/s/config", &[JSON, ("if-match", "\"99\"")], r#"{"compatibility":"none"}"#).await;
    assert_eq!((stale.0, &stale.1["code"]), (412, &json!("version_mismatch")));
    room.post_json("/v1/schemas/s/versions", &json!({"schema": {}})).await;
    let (status, verdict) = room.post_json("/v1/schemas/s/compatibility", &json!({"schema": {"title": "other"}})).await;
    let reasons = json!([{"pointer": "/properties/a", "reason": "differs"}]);
    assert_eq!((status, verdict), (200, json!({"compatible": false, "reasons": reasons})));
    let (_, verdict) = room.post_json("/v1/schemas/s/compatibility?version=1", &json!({"schema": true})).await;
    assert_eq!(verdict, json!({"compatible": true, "reasons": []}));
}

#[tokio::test]
async fn bad_input_to_schemas_is_refused_with_its_documented_code() {
    let room = Room::open().await;
    room.post_json("/v1/schemas/s/versions", &json!({"schema": {}})).await;
    let versions = "/v1/schemas/s/versions";
    let cases = [
        ("POST", versions, "{}", 400, "invalid_argument", "/schema"),
        ("POST", versions, r#"{"schema":null}"#, 400, "invalid_argument", "schema"),
        ("POST", versions, r#"{"schema":{},"type":"xml"}"#, 400, "invalid_argument", ""),
        ("POST", versions, r#"{"schema":{},"type":"protobuf"}"#, 400, "invalid_argument", "schema"),
        ("POST", versions, r#"{"schema":{},"colour":1}"#, 400, "unknown_field", "/colour"),
        ("POST", versions, r#"{"schema":{"a":1,"a":2}}"#, 400, "invalid_argument", "/a"),
        ("POST", versions, r#"{"schema":{"title":"broken"}}"#, 422, "schema_invalid", "/schema/properties/a"),
        ("POST", versions, r#"{"schema":{"title":"other"}}"#, 409, "schema_incompatible", "/schema/properties/a"),
        ("POST", versions, "{", 400, "malformed_body", ""),
        ("POST", "/v1/schemas/a%20b/versions", r#"{"schema":{}}"#, 400, "invalid_argument", "subject"),
        ("POST", "/v1/schemas/s/versions?force=1", r#"{"schema":{}}"#, 400, "unknown_parameter", "force"),
        ("GET", "/v1/schemas/none", "", 404, "schema_not_found", ""),
        ("GET", "/v1/schemas/s/versions/0", "", 400, "invalid_argument", "version"),
        ("GET", "/v1/schemas/s/versions/-1", "", 400, "invalid_argument", "version"),
        ("GET", "/v1/schemas/s/versions/99999999999", "", 400, "invalid_argument", "version"),
        ("GET", "/v1/schemas/s/versions/7", "", 404, "schema_not_found", ""),
        ("DELETE", "/v1/schemas/s/versions/latest", "", 400, "invalid_argument", "version"),
        ("DELETE", "/v1/schemas/s/versions/7", "", 404, "schema_not_found", ""),
        ("PUT", "/v1/schemas/s/config", r#"{"compatibility":"sideways"}"#, 400, "invalid_argument", ""),
        ("PUT", "/v1/schemas/s/config", "{}", 400, "invalid_argument", "/compatibility"),
        ("POST", "/v1/schemas/s/compatibility?version=x", r#"{"schema":{}}"#, 400, "invalid_argument", "version"),
        ("POST", "/v1/schemas/none/compatibility", r#"{"schema":{}}"#, 404, "schema_not_found", ""),
        ("PUT", "/v1/topics/u", r#"{"schema":{"subject":"a b"}}"#, 400, "invalid_argument", ""),
        ("PUT", "/v1/topics/u", r#"{"schema":{"subject":"s","invalid":"drop"}}"#, 400, "invalid_argument", ""),
        ("PUT", "/v1/topics/u", r#"{"schema":{}}"#, 400, "invalid_argument", "/subject"),
    ];
    for (method, uri, body, status, code, pointer) in cases {
        let (found, answer) = room.send(method, uri, &[JSON], body).await;
        assert_eq!((found, &answer["code"]), (status, &json!(code)), "{method} {uri} {body}: {answer}");
        let place = answer["errors"][0]["pointer"].as_str().unwrap_or_default();
        assert_eq!(place, pointer, "{method} {uri} {body}: {answer}");
    }
}
