//! Streams of leases: NDJSON and server-sent events.

use http_body_util::BodyExt;
use serde_json::Value;

use crate::Room;

const LINES: (&str, &str) = ("accept", "application/x-ndjson");
const EVENTS: (&str, &str) = ("accept", "text/event-stream");

/// What comes until `pieces` pieces were read.
async fn read(body: &mut axum::body::Body, pieces: usize) -> String {
    let mut text = String::new();
    for _ in 0..pieces {
        let frame = body.frame().await.unwrap().unwrap();
        text.push_str(std::str::from_utf8(frame.data_ref().unwrap()).unwrap());
    }
    text
}

#[tokio::test]
async fn lines_carry_leases_up_to_the_credit_then_heartbeats_and_end_at_shutdown() {
    let room = Room::with_messages(3).await;
    let answer = room.raw("GET", "/v1/queues/q/messages?credit=2&lease=1m", &[LINES], "").await;
    assert_eq!((answer.status().as_u16(), &answer.headers()["content-type"]), (200, &"application/x-ndjson".parse().unwrap()));
    let mut body = answer.into_body();
    let text = read(&mut body, 1).await;
    let messages: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(messages.len(), 2);
    assert_eq!((&messages[1]["receipt"], &messages[1]["lease_until"]), (&"lf|q|q|0|1|1".into(), &"2023-11-14T22:14:20.000Z".into()));
    assert_eq!(read(&mut body, 2).await, "\n\n", "silence is broken by empty lines");
    room.settings.shutdown.cancel();
    assert!(body.frame().await.is_none());
}

#[tokio::test]
async fn events_carry_leases_and_comments_while_nothing_comes() {
    let room = Room::with_messages(1).await;
    let mut body = room.raw("GET", "/v1/queues/q/messages", &[EVENTS], "").await.into_body();
    let text = read(&mut body, 2).await;
    assert!(
        text.starts_with("retry: 1000\n: connected\n\ndata: {\"id\":\"q:0-0\",\"receipt\":\"lf|q|q|0|0|1\",") && text.ends_with("}\n\n"),
        "{text}"
    );
    assert_eq!(read(&mut body, 1).await, ": heartbeat\n\n");
}

#[tokio::test]
async fn a_failure_is_the_last_that_comes() {
    let room = Room::open().await;
    assert_eq!(room.post("/v1/queues", r#"{"name":"failing"}"#).await.0, 201);
    for (accept, lead) in [(LINES, "{"), (EVENTS, "event: problem\ndata: {")] {
        let body = room.raw("GET", "/v1/queues/failing/messages", &[accept], "").await.into_body();
        let text = String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap();
        assert!(text.contains(lead) && text.contains("\"code\":\"queue_not_found\""), "{text}");
    }
}

#[tokio::test]
async fn what_can_be_refused_is_refused_before_the_stream_begins() {
    let room = Room::with_messages(0).await;
    for (uri, accept, status, code) in [
        ("/v1/queues/nope/messages", "*/*", 404, "queue_not_found"),
        ("/v1/queues/q/messages?credit=0", "*/*", 400, "invalid_argument"),
        ("/v1/queues/q/messages?credit=1001", "*/*", 400, "invalid_argument"),
        ("/v1/queues/q/messages?lease=13h", "*/*", 400, "invalid_argument"),
        ("/v1/queues/q/messages?max=1", "*/*", 400, "unknown_parameter"),
        ("/v1/queues/q/messages", "image/png", 406, "not_acceptable"),
        ("/v1/queues/q/messages", "application/json", 406, "not_acceptable"),
    ] {
        let (got, problem) = room.send("GET", uri, &[("accept", accept)], "").await;
        assert_eq!((got, &problem["code"]), (status, &code.into()), "{uri}: {problem}");
    }
}
