//! Ack, nack, extend, reject, and the same in an atomic commit.

use serde_json::{Value, json};

use crate::Room;

fn statuses(answer: &Value) -> Vec<&str> {
    answer["results"].as_array().unwrap().iter().map(|r| r["status"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn each_receipt_has_its_own_result_in_order() {
    let room = Room::with_messages(3).await;
    assert_eq!(room.post("/v1/queues", r#"{"name":"other"}"#).await.0, 201);
    let receipts = room.receipts(3).await;
    room.post("/v1/queues/q/nack", &json!({"items":[{"receipt":receipts[1]}]}).to_string()).await;
    let all = [receipts[0].as_str(), &receipts[1], "lf|other|t|0|0|1", "made up", "broken", &receipts[2], &receipts[0]];
    let (status, answer) = room.post("/v1/queues/q/ack", &json!({ "receipts": all }).to_string()).await;
    assert_eq!((status, &answer["ok"]), (200, &json!(3)), "{answer}");
    assert_eq!(statuses(&answer), ["ok", "expired", "unknown", "forged", "failed", "ok", "ok"]);
    let told: Vec<_> = answer["results"].as_array().unwrap().iter().map(|r| (r["receipt"].as_str().unwrap(), r["code"].as_str())).collect();
    let codes = [None, Some("lease_expired"), Some("receipt_not_found"), Some("receipt_forged"), Some("outcome_unknown"), None, None];
    assert_eq!(told, all.into_iter().zip(codes).collect::<Vec<_>>());
    assert!(answer["results"][1]["detail"].as_str().is_some_and(|text| !text.is_empty()));
    assert_eq!(room.post("/v1/queues/q/ack", &json!({"receipt":receipts[0]}).to_string()).await.0, 200, "acking twice is ok");
}

#[tokio::test]
async fn where_nothing_could_be_settled_the_answer_is_the_first_ones_problem() {
    let room = Room::with_messages(1).await;
    assert_eq!(room.post("/v1/queues", r#"{"name":"other"}"#).await.0, 201);
    let receipt = room.receipts(1).await.remove(0);
    room.post("/v1/queues/q/nack", &json!({"items":[{"receipt":receipt}]}).to_string()).await;
    for (first, status, code, outcome) in [
        ("made up", 400, "receipt_forged", "not_applied"),
        ("lf|other|t|0|0|1", 404, "receipt_not_found", "not_applied"),
        (receipt.as_str(), 409, "lease_expired", "not_applied"),
        ("broken", 504, "outcome_unknown", "unknown"),
    ] {
        let (got, problem) = room.post("/v1/queues/q/ack", &json!({"receipts":[first, "made up"]}).to_string()).await;
        assert_eq!((got, &problem["code"], &problem["outcome"]), (status, &json!(code), &json!(outcome)), "{problem}");
        let places: Vec<&str> = problem["errors"].as_array().unwrap().iter().map(|e| e["pointer"].as_str().unwrap()).collect();
        assert_eq!(places, ["/receipts/0", "/receipts/1"]);
    }
    let (_, problem) = room.post("/v1/queues/q/ack", r#"{"receipts":["made up","broken"]}"#).await;
    assert_eq!((&problem["code"], &problem["outcome"]), (&json!("receipt_forged"), &json!("unknown")), "one of them may have been settled");
    let (_, problem) = room.post("/v1/queues/q/ack", r#"{"receipt":"made up"}"#).await;
    assert_eq!(problem["errors"][0]["pointer"], "/receipt");
}

#[tokio::test]
async fn a_nacked_message_comes_again_and_a_rejected_one_does_not() {
    let room = Room::with_messages(2).await;
    let receipts = room.receipts(2).await;
    let body = json!({"items":[{"receipt":receipts[0],"delay":"0s","reason":"later"}]}).to_string();
    assert_eq!(statuses(&room.post("/v1/queues/q/nack", &body).await.1), ["ok"]);
    let again = room.receipts(9).await;
    assert_eq!(again, ["lf|q|q|0|0|2"]);
    let body = json!({"items":[{"receipt":receipts[1],"reason":"no"}]}).to_string();
    assert_eq!(statuses(&room.post("/v1/queues/q/reject", &body).await.1), ["ok"]);
    assert_eq!(statuses(&room.post("/v1/queues/q/reject", &json!({ "receipts": again }).to_string()).await.1), ["ok"]);
    assert!(room.receipts(9).await.is_empty());
}

#[tokio::test]
async fn an_extension_says_until_when() {
    let room = Room::with_messages(1).await;
    let receipt = room.receipts(1).await.remove(0);
    let (status, answer) = room.post("/v1/queues/q/extend", &json!({"items":[{"receipt":receipt,"lease":"12h"}]}).to_string()).await;
    let expected = json!({"results":[{"receipt":receipt,"status":"ok","lease_until":"2023-11-15T10:13:20.000Z"}],"ok":1});
    assert_eq!((status, answer), (200, expected));
}

#[tokio::test]
async fn a_value_out_of_bounds_fails_its_item_and_no_other() {
    let room = Room::with_messages(2).await;
    let receipts = room.receipts(2).await;
    for (verb, good, bad, field) in
        [("extend", json!({"lease":"0s"}), json!({"lease":"13h"}), "lease"), ("nack", json!({}), json!({"delay":"366d"}), "delay")]
    {
        let item = |mut fields: Value, at: usize| {
            fields["receipt"] = receipts[at].clone().into();
            fields
        };
        let uri = format!("/v1/queues/q/{verb}");
        let (status, answer) = room.post(&uri, &json!({"items":[item(bad.clone(), 0), item(good, 1)]}).to_string()).await;
        assert_eq!((status, statuses(&answer), &answer["results"][0]["code"]), (200, vec!["failed", "ok"], &json!("invalid_argument")));
        let (status, problem) = room.post(&uri, &json!({"items":[item(bad, 0)]}).to_string()).await;
        assert_eq!((status, &problem["errors"][0]["pointer"]), (400, &json!(format!("/items/0/{field}"))), "{problem}");
    }
    let long = json!({"items":[{"receipt":receipts[0],"reason":"x".repeat(1_025)}]}).to_string();
    assert_eq!(room.post("/v1/queues/q/reject", &long).await.1["errors"][0]["pointer"], "/items/0/reason");
}

#[tokio::test]
async fn ten_thousand_receipts_are_settled_at_once_and_not_one_more() {
    let room = Room::with_messages(1).await;
    let receipt = room.receipts(1).await.remove(0);
    let many = |count: usize| json!({"receipts": vec![receipt.as_str(); count]}).to_string();
    assert_eq!(room.post("/v1/queues/q/ack", &many(10_000)).await.1["ok"], 10_000);
    let (status, problem) = room.post("/v1/queues/q/ack", &many(10_001)).await;
    assert_eq!((status, &problem["errors"][0]["pointer"]), (400, &json!("/receipts")), "{problem}");
}

#[tokio::test]
async fn a_commit_settles_leases_with_what_it_appends() {
    let room = Room::with_messages(3).await;
    let receipts = room.receipts(3).await;
    let body = json!({
        "appends": [{"topic":"t","records":[{"value":1}]}],
        "acks": [{"queue":"q","receipts":[receipts[0]]}],
        "nacks": [{"queue":"q","items":[{"receipt":receipts[1],"delay":"1s","reason":"later"}]}],
    });
    let (status, answer) = room.post("/v1/commit", &body.to_string()).await;
    assert_eq!((status, &answer["acks"], &answer["nacks"], &answer["cursors"]), (200, &json!(1), &json!(1), &json!(0)), "{answer}");
    assert_eq!(room.receipts(9).await, ["lf|q|q|0|1|2"]);
    let before = room.records().await.len();
    for (receipt, status, code) in
        [(receipts[1].as_str(), 409, "lease_over"), ("made up", 400, "receipt_forged"), ("lf|x|t|0|0|1", 404, "receipt_not_found")]
    {
        let body = json!({"appends":[{"topic":"t","records":[{"value":1}]}],"acks":[{"queue":"q","receipts":[receipts[2], receipt]}]});
        let (got, problem) = room.post("/v1/commit", &body.to_string()).await;
        assert_eq!((got, &problem["code"]), (status, &json!(code)), "{problem}");
    }
    assert_eq!(room.records().await.len(), before);
    let (_, stats) = room.get("/v1/queues/q/stats").await;
    assert_eq!(stats["leased"], 2, "the receipt beside the bad one is not settled: {stats}");
}
