//! What a queue knew before a stop or a kill it knows after it: delays, leases, attempts, remembered requests, dedup windows.

use std::time::Duration;

use lakefall_tests::queues::calls::Outcome;
use lakefall_tests::queues::history::{Status, Verb};
use lakefall_tests::queues::{Message, Queue};
use lakefall_tests::{Client, Server};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::time::Instant;

const PROMPT: Duration = Duration::from_secs(10);

/// Kills the server, or stops it, and starts it again.
async fn again(server: &mut Server, kill: bool) {
    if kill {
        server.kill_nine();
    } else {
        server.stop().await;
    }
    server.start().await;
}

async fn stats(queue: &Queue) -> [u64; 3] {
    let stats = queue.stats().await;
    ["ready", "leased", "delayed"].map(|name| stats[name].as_u64().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn delayed_messages_keep_their_time_over_restarts_and_come_when_it_is_there() {
    let mut server = Server::start_default().await;
    let queue = Queue::of(&server.client(), "later");
    queue.create(json!({})).await;
    let sent = Instant::now();
    queue.put(&json!({"value": "soon", "delay": "3s"})).await;
    queue.put(&json!({"value": "next year", "delay": "365d"})).await;
    queue.put(&json!({"value": "now"})).await;
    let now = queue.one(PROMPT).await;
    assert_eq!(now.value(), "now");
    queue.settled(Verb::Ack, &now).await;
    // The gateway has looked at all three, so the ledger knows what is delayed.
    assert_eq!(stats(&queue).await, [0, 0, 2]);
    for kill in [true, false] {
        again(&mut server, kill).await;
        assert_eq!(stats(&queue).await[1], 0);
        assert_eq!(queue.left().await, 2);
    }
    let soon = queue.one(PROMPT).await;
    assert_eq!(soon.value(), "soon");
    let took = sent.elapsed();
    assert!(took >= Duration::from_secs(3), "it came after {took:?}");
    queue.settled(Verb::Ack, &soon).await;
    assert_eq!(stats(&queue).await, [0, 0, 1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn leases_attempts_and_acknowledgements_survive_a_kill() {
    let mut server = Server::start_default().await;
    let client = server.client();
    let queue = Queue::of(&client, "work");
    queue.create(json!({"lease": "30s", "max_attempts": 3, "dead_letter": {"topic": "work.dead"}})).await;
    queue.send(&json!({"records": [{"value": 0}, {"value": 1}, {"value": 2}, {"value": 3}]}), None).await.unwrap().ok();
    let got = queue.receive(json!({"max": 4, "wait": "10s", "lease": "60s"})).await;
    assert_eq!(got.iter().map(|message| message.value().as_u64().unwrap()).collect::<Vec<_>>(), [0, 1, 2, 3]);
    queue.settled(Verb::Ack, &got[0]).await;
    queue.settled(Verb::Nack(Duration::ZERO), &got[1]).await;
    queue.settled(Verb::Extend(Duration::from_secs(1)), &got[2]).await;
    again(&mut server, true).await;
    // The third is leased for a second longer, the fourth for a minute; the second is there.
    let second = queue.one(PROMPT).await;
    assert_eq!((second.at, second.attempt), (got[1].at, 2));
    let third = queue.one(PROMPT).await;
    assert_eq!((third.at, third.attempt), (got[2].at, 2));
    assert_eq!(queue.receive(json!({"max": 10})).await.len(), 0, "what is leased or done was given out again");
    // Receipts from before: one is still good, one was used, one is of an attempt that is over.
    queue.settled(Verb::Ack, &got[3]).await;
    queue.settled(Verb::Ack, &got[0]).await;
    assert_eq!(queue.settle(Verb::Ack, std::slice::from_ref(&got[1].receipt)).await, Outcome::Ok(vec![Status::Expired]));
    // Attempts go on from where they were: after the third the message is dead.
    queue.settled(Verb::Nack(Duration::ZERO), &second).await;
    again(&mut server, true).await;
    let last = queue.one(PROMPT).await;
    assert_eq!((last.at, last.attempt), (got[1].at, 3));
    queue.settled(Verb::Nack(Duration::ZERO), &last).await;
    queue.settled(Verb::Ack, &third).await;
    queue.until_empty(PROMPT).await;
    again(&mut server, true).await;
    assert_eq!(stats(&queue).await, [0, 0, 0]);
    assert_eq!(queue.stats().await["dead"], 1);
    let dead = Queue::of(&client, "work.dead").one(PROMPT).await;
    assert_eq!((dead.value(), &dead.fields["headers"]["dead-letter-attempts"]), (&json!(1), &json!("3")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receive_repeated_under_its_request_id_after_a_kill_gets_the_same_leases() {
    let mut server = Server::start_default().await;
    let queue = Queue::of(&server.client(), "work");
    queue.create(json!({})).await;
    queue.send(&json!({"records": [{"value": 0}, {"value": 1}, {"value": 2}]}), None).await.unwrap().ok();
    let ask = json!({"max": 2, "wait": "10s", "request_id": "r-1"});
    let first = queue.receive(ask.clone()).await;
    assert_eq!(first.len(), 2);
    let known = |got: &[Message]| got.iter().map(|m| (m.at, m.attempt, m.fields["lease_until"].clone())).collect::<Vec<_>>();
    for kill in [true, false] {
        again(&mut server, kill).await;
        let repeated = queue.receive(ask.clone()).await;
        assert_eq!(known(&repeated), known(&first));
    }
    let other = queue.receive(json!({"max": 2, "wait": "10s", "request_id": "r-2"})).await;
    assert_eq!(other.iter().map(|message| message.at.1).collect::<Vec<_>>(), [2]);
    for message in first.iter().chain(&other) {
        queue.settled(Verb::Ack, message).await;
    }
    assert_eq!(queue.left().await, 0);
}

async fn commit(client: &Client, receipt: &str) -> (u16, String) {
    let body = json!({
        "acks": [{"queue": "work", "receipts": [receipt]}],
        "appends": [{"topic": "out", "records": [{"value": "done"}]}]
    });
    let request = client.request(Method::POST, "/v1/commit").header("content-type", "application/json").header("idempotency-key", "c-1");
    let answer = client.send(request.body(body.to_string())).await.unwrap();
    (answer.status, answer.code())
}

#[tokio::test(flavor = "multi_thread")]
async fn sends_and_commits_that_are_repeated_after_a_kill_are_remembered() {
    let mut server = Server::start_default().await;
    let client = server.client();
    let queue = Queue::of(&client, "work");
    queue.create(json!({})).await;
    client.create_topic("out", 1).await;
    let (deduped, keyed) = (json!({"value": 1, "dedup_id": "d-1"}), json!({"value": 2}));
    let places = async |queue: &Queue| {
        let first = queue.send(&deduped, None).await.unwrap().ok().offsets();
        let second = queue.send(&keyed, Some("k-1")).await.unwrap().ok().offsets();
        (first, second)
    };
    let before = places(&queue).await;
    let message = queue.one(PROMPT).await;
    assert_eq!(commit(&client, &message.receipt).await.0, 200);
    for kill in [true, false] {
        again(&mut server, kill).await;
        assert_eq!(places(&queue).await, before);
        assert_eq!(commit(&client, &message.receipt).await.0, 200);
    }
    let values: Vec<Value> = vec![queue.one(PROMPT).await.value().clone()];
    assert_eq!(values, [json!(2)]);
    assert_eq!(client.ends("out").await, [(0, 1)]);
    assert_eq!(client.ends("work").await, [(0, 2)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_bindings_and_deleted_queues_are_the_same_after_a_kill() {
    let mut server = Server::start_default().await;
    let client = server.client();
    client.create_topic("events", 3).await;
    let queue = Queue::of(&client, "europe");
    queue.create(json!({"lease": "7s", "retry": {"min": "1s", "max": "1m"}, "ordering": "key", "max_depth": 1000})).await;
    let binding = json!({"topic": "events", "match": {"type": "wildcard", "pattern": "*.eu"}});
    client.call(Method::PUT, "/v1/queues/europe/bindings/eu", &binding).await;
    Queue::of(&client, "gone").create(json!({})).await;
    client.send(client.request(Method::DELETE, "/v1/queues/gone")).await.unwrap().ok();
    let state = async || {
        let mut state = Vec::new();
        for path in ["/v1/queues", "/v1/queues/europe", "/v1/queues/europe/bindings/eu"] {
            let answer = client.get(path).await.unwrap().ok();
            state.push((answer.json(), answer.headers.get("etag").cloned()));
        }
        state
    };
    let before = state().await;
    for kill in [true, false] {
        again(&mut server, kill).await;
        assert_eq!(state().await, before);
        assert_eq!(client.get("/v1/queues/gone").await.unwrap().code(), "queue_not_found");
    }
    let records = json!({"records": [{"key": "new.eu", "value": 1}, {"key": "new.us", "value": 2}, {"key": "old.eu", "value": 3}]});
    client.call(Method::POST, "/v1/topics/events/records", &records).await;
    let mut seen = Vec::new();
    while seen.len() < 2 {
        let message = queue.one(PROMPT).await;
        seen.push(message.value().as_u64().unwrap());
        queue.settled(Verb::Ack, &message).await;
    }
    seen.sort_unstable();
    assert_eq!(seen, [1, 3]);
    queue.until_empty(PROMPT).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_is_delivered_until_it_expires_and_not_after() {
    let mut server = Server::start_default().await;
    let queue = Queue::of(&server.client(), "work");
    queue.create(json!({"lease": "12h"})).await;
    queue.put(&json!({"value": "long", "ttl": "1h"})).await;
    queue.put(&json!({"value": "short", "ttl": "1s"})).await;
    let over = Instant::now() + Duration::from_secs(1);
    queue.put(&json!({"value": "for ever"})).await;
    // Over a start, too.
    server.kill_nine();
    server.start().await;
    tokio::time::sleep_until(over + Duration::from_millis(50)).await;
    let queue = Queue::of(&server.client(), "work");
    let mut values = Vec::new();
    while values.len() < 2 {
        let got = queue.receive(json!({"max": 10, "wait": "20s"})).await;
        assert!(!got.is_empty(), "what has not expired does not come: {values:?}");
        values.extend(got.iter().map(|message| message.value().clone()));
    }
    assert_eq!(values, ["long", "for ever"]);
    assert_eq!(queue.receive(json!({"max": 10})).await.len(), 0);
}
