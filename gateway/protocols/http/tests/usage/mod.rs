//! Usage on the wire: how it is told, and what is refused.

use serde_json::json;

use super::Room;

#[tokio::test]
async fn usage_is_told_of_the_callers_namespace_of_one_by_name_and_of_a_topic() {
    let room = Room::open().await;
    for (uri, topic) in
        [("/v1/usage", json!(null)), ("/v1/namespaces/default/usage", json!(null)), ("/v1/topics/t/usage?granularity=hour", json!("t"))]
    {
        let (status, told) = room.send("GET", uri, &[], "").await;
        assert_eq!((status, &told["namespace"], &told["topic"]), (200, &json!("default"), &topic), "{told}");
        assert_eq!((&told["total"]["produced_records"], &told["total"]["store_writes"]), (&json!(7), &json!(0.25)), "{told}");
        assert_eq!(told["buckets"][0]["usage"], told["total"]);
        assert_eq!((&told["total"]["commits"], &told["holdings"]["parquet_bytes"]), (&json!(0.0), &json!(9)));
    }
    // It is 2023-11-14T22:13:20Z.
    let (_, told) = room.send("GET", "/v1/usage?granularity=day&from=2023-11-01T05:00:00Z&to=2023-11-02T00:00:01Z", &[], "").await;
    assert_eq!((&told["from"], &told["to"]), (&json!("2023-11-01T00:00:00.000Z"), &json!("2023-11-03T00:00:00.000Z")));
}

#[tokio::test]
async fn a_question_for_usage_that_cannot_be_answered_is_refused_with_its_documented_code() {
    let room = Room::open().await;
    for (uri, status, code, pointer) in [
        ("/v1/usage?granularity=week", 400, "invalid_argument", "granularity"),
        ("/v1/usage?granularity=", 400, "invalid_argument", "granularity"),
        ("/v1/usage?from=yesterday", 400, "invalid_argument", "from"),
        ("/v1/usage?to=-5", 400, "invalid_argument", "to"),
        ("/v1/usage?from=2030-01-01T00:00:00Z", 400, "invalid_argument", "from"),
        ("/v1/usage?from=2023-11-14T10:00:00Z&to=2023-11-14T09:00:00Z", 400, "invalid_argument", "to"),
        ("/v1/usage?granularity=hour&from=2023-11-01T00:00:00Z", 400, "invalid_argument", "from"),
        ("/v1/usage?granularity=day&from=2022-11-01T00:00:00Z", 400, "invalid_argument", "from"),
        ("/v1/usage?granularity=day&granularity=hour", 400, "invalid_argument", "granularity"),
        ("/v1/usage?topic=t", 400, "unknown_parameter", "topic"),
        ("/v1/topics/none/usage", 404, "topic_not_found", ""),
        ("/v1/topics/a%20b/usage", 400, "invalid_argument", "topic"),
        ("/v1/namespaces/none/usage", 404, "namespace_not_found", ""),
    ] {
        let (found, answer) = room.send("GET", uri, &[], "").await;
        assert_eq!((found, &answer["code"]), (status, &json!(code)), "{uri}: {answer}");
        assert_eq!(answer["errors"][0]["pointer"].as_str().unwrap_or_default(), pointer, "{uri}: {answer}");
    }
    assert_eq!(room.send("POST", "/v1/usage", &[], "").await.0, 405);
}
