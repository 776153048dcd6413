//! The calls of a queue. They hide nothing: an answer is what the server said, no answer is an error, and the outcome of a call
//! is one of three classes.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use tokio::time::Instant;
use tokio_stream::StreamExt;

use crate::cluster::eventually;
use crate::history::{RecordId, hash};
use crate::queues::history::{LeaseId, MessageAt, Status, Verb};
use crate::{Answer, Client};

/// A queue, as one client reaches it.
#[derive(Clone, Debug)]
pub struct Queue {
    client: Client,
    name: String,
}

/// A message as a receiver got it.
#[derive(Clone, Debug)]
pub struct Message {
    /// Where it lies.
    pub at: MessageAt,
    /// The lease's receipt.
    pub receipt: String,
    /// How often it was leased, this time included.
    pub attempt: u32,
    /// All fields as they were answered.
    pub fields: Value,
}

impl Message {
    /// As it stands in an answer.
    pub fn from_json(fields: &Value) -> Self {
        let number = |name: &str| fields[name].as_u64().unwrap_or_else(|| panic!("a message without {name}: {fields}"));
        Self {
            at: (number("partition") as u32, number("offset")),
            receipt: fields["receipt"].as_str().unwrap_or_else(|| panic!("a message without a receipt: {fields}")).to_owned(),
            attempt: number("attempt") as u32,
            fields: fields.clone(),
        }
    }

    /// The value.
    pub fn value(&self) -> &Value {
        &self.fields["value"]
    }

    /// Names the lease.
    pub fn lease(&self) -> LeaseId {
        LeaseId { at: self.at, attempt: self.attempt }
    }

    /// Who sent it, where the value tells, and the hash of its text.
    pub fn id(&self) -> (Option<RecordId>, u64) {
        body_id(self.value())
    }
}

/// Who sent a value that is made by [`crate::history::body`], and the hash of its text.
pub fn body_id(value: &Value) -> (Option<RecordId>, u64) {
    let id = || Some(RecordId { producer: value["producer"].as_u64()?.try_into().ok()?, seq: value["seq"].as_u64()? });
    let canonical = id().map(|id| json!({"producer": id.producer, "seq": id.seq, "pad": value["pad"]}).to_string());
    (id(), hash(canonical.unwrap_or_default().as_bytes()))
}

/// What a call came to.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome<T> {
    /// It happened.
    Ok(T),
    /// It certainly did not: refused, or nobody took the connection.
    Fail,
    /// Nobody knows.
    Info,
}

/// The class of an answer. Fails the test where the request itself was at fault, unless its code is among those `expected`.
pub fn class(sent: Result<Answer, reqwest::Error>, expected: &[&str]) -> Outcome<Answer> {
    match sent {
        Ok(answer) if (200..300).contains(&answer.status) => Outcome::Ok(answer),
        Ok(answer) => {
            let problem = answer.json();
            let known = matches!(answer.status, 500 | 503 | 504) || expected.contains(&answer.code().as_str());
            assert!(known, "the load is in order, but was refused: {problem}");
            if problem["outcome"] == "not_applied" { Outcome::Fail } else { Outcome::Info }
        }
        Err(error) if error.is_connect() => Outcome::Fail,
        Err(_) => Outcome::Info,
    }
}

/// A time as the API takes it.
pub fn text(time: Duration) -> String {
    format!("{}ms", time.as_millis())
}

impl Queue {
    /// A queue that is or will be there.
    pub fn of(client: &Client, name: &str) -> Self {
        Self { client: client.clone(), name: name.to_owned() }
    }

    /// The client.
    pub fn client(&self) -> &Client {
        &self.client
    }

    fn path(&self, rest: &str) -> String {
        format!("/v1/queues/{}{rest}", self.name)
    }

    /// A POST below the queue.
    pub async fn post(&self, rest: &str, body: &Value) -> Result<Answer, reqwest::Error> {
        let request = self.client.request(Method::POST, &self.path(rest)).header("content-type", "application/json");
        self.client.send(request.body(body.to_string())).await
    }

    /// Creates it.
    pub async fn create(&self, settings: Value) -> &Self {
        self.client.call(Method::PUT, &self.path(""), &settings).await;
        self
    }

    /// Sends one message or a batch, perhaps with an `Idempotency-Key`.
    pub async fn send(&self, body: &Value, key: Option<&str>) -> Result<Answer, reqwest::Error> {
        let mut request = self.client.request(Method::POST, &self.path("/messages")).header("content-type", "application/json");
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        self.client.send(request.body(body.to_string())).await
    }

    /// Sends one message, which must be stored. Returns where it lies.
    pub async fn put(&self, message: &Value) -> MessageAt {
        self.send(message, None).await.unwrap().ok().offsets()[0]
    }

    /// Asks for messages.
    pub async fn try_receive(&self, body: &Value) -> Result<Answer, reqwest::Error> {
        self.post("/receive", body).await
    }

    /// Receives messages; it must be answered.
    pub async fn receive(&self, body: Value) -> Vec<Message> {
        messages(&self.try_receive(&body).await.unwrap().ok())
    }

    /// Receives one message, which must come within this time.
    pub async fn one(&self, within: Duration) -> Message {
        let began = Instant::now();
        let mut got = self.receive(json!({"max": 1, "wait": text(within)})).await;
        assert_eq!(got.len(), 1, "nothing came to {} within {:?}: {}", self.name, began.elapsed(), self.stats().await);
        got.remove(0)
    }

    /// Settles leases: the status of each, or what became of the call.
    pub async fn settle(&self, verb: Verb, receipts: &[String]) -> Outcome<Vec<Status>> {
        let items = |more: Option<(&str, Duration)>| -> Value {
            let item = |receipt: &String| match more {
                Some((name, time)) => json!({"receipt": receipt, name: text(time)}),
                None => json!({"receipt": receipt}),
            };
            json!({"items": receipts.iter().map(item).collect::<Vec<_>>()})
        };
        let (rest, body) = match verb {
            Verb::Ack => ("/ack", json!({"receipts": receipts})),
            Verb::Nack(delay) => ("/nack", items(Some(("delay", delay)))),
            Verb::Extend(lease) => ("/extend", items(Some(("lease", lease)))),
            Verb::Reject => ("/reject", items(None)),
        };
        let sent = self.post(rest, &body).await;
        // A call of which nothing succeeded is a problem, which tells of each item all the same.
        if let Ok(answer) = &sent
            && matches!(answer.code().as_str(), "lease_expired" | "receipt_not_found")
        {
            let problem = answer.json();
            let statuses: Vec<Status> = problem["errors"].as_array().into_iter().flatten().map(refused).collect();
            assert_eq!(statuses.len(), receipts.len(), "{verb:?}: not every item is told of: {problem}");
            return Outcome::Ok(statuses);
        }
        match class(sent, &[]) {
            Outcome::Ok(answer) => {
                let results: Vec<Status> = answer.json()["results"].as_array().unwrap().iter().map(status).collect();
                assert_eq!(results.len(), receipts.len(), "{verb:?}: not every item is answered: {}", answer.text());
                Outcome::Ok(results)
            }
            Outcome::Fail => Outcome::Fail,
            Outcome::Info => Outcome::Info,
        }
    }

    /// Settles one lease, which must still be there.
    pub async fn settled(&self, verb: Verb, message: &Message) {
        assert_eq!(
            self.settle(verb, std::slice::from_ref(&message.receipt)).await,
            Outcome::Ok(vec![Status::Done]),
            "{verb:?} {message:?}"
        );
    }

    /// What there is in the queue.
    pub async fn stats(&self) -> Value {
        self.client.get(&self.path("/stats")).await.unwrap().ok().json()
    }

    /// Messages that are not finished.
    pub async fn left(&self) -> u64 {
        let stats = self.stats().await;
        ["ready", "leased", "delayed"]
            .iter()
            .map(|name| stats[name].as_u64().unwrap_or_else(|| panic!("stats without {name}: {stats}")))
            .sum()
    }

    /// Waits until everything is finished.
    pub async fn until_empty(&self, within: Duration) {
        eventually("the queue is empty", within, async || self.left().await == 0).await;
    }

    /// Opens a stream of leased messages, as NDJSON, with room for so many at a time.
    pub async fn stream(&self, credit: u32) -> Stream {
        let path = self.path(&format!("/messages?credit={credit}"));
        let request = self.client.request(Method::GET, &path).header("accept", "application/x-ndjson");
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 200);
        Stream { pieces: Box::pin(response.bytes_stream()), bytes: Vec::new() }
    }
}

/// Messages of an answer.
pub fn messages(answer: &Answer) -> Vec<Message> {
    answer.json()["messages"].as_array().unwrap().iter().map(Message::from_json).collect()
}

fn status(item: &Value) -> Status {
    match item["status"].as_str() {
        Some("ok") => Status::Done,
        Some("expired") => Status::Expired,
        Some("unknown") => Status::Unknown,
        Some("failed") => Status::Info,
        _ => panic!("no status that is known: {item}"),
    }
}

/// An item among a problem's `errors`, which say in words what a result says in `status`.
fn refused(item: &Value) -> Status {
    let reason = item["reason"].as_str().unwrap_or_else(|| panic!("no reason: {item}"));
    match reason {
        _ if reason.starts_with("the lease is over") => Status::Expired,
        _ if reason.contains("receipt") => Status::Unknown,
        _ => Status::Info,
    }
}

/// A stream of leased messages.
pub struct Stream {
    pieces: std::pin::Pin<Box<dyn futures::Stream<Item = reqwest::Result<bytes::Bytes>> + Send>>,
    bytes: Vec<u8>,
}

impl Stream {
    /// The next message; `None` when none comes within this time.
    pub async fn next(&mut self, within: Duration) -> Option<Message> {
        let until = Instant::now() + within;
        loop {
            if let Some(end) = self.bytes.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.bytes.drain(..=end).collect();
                let fields: Value = match serde_json::from_slice(&line) {
                    Ok(fields) => fields,
                    // An empty line keeps the connection alive.
                    Err(_) if line.trim_ascii().is_empty() => continue,
                    Err(error) => panic!("not a message ({error}): {}", String::from_utf8_lossy(&line)),
                };
                if fields.get("receipt").is_some() {
                    return Some(Message::from_json(&fields));
                }
                continue;
            }
            match tokio::time::timeout_at(until, self.pieces.next()).await {
                Ok(Some(piece)) => self.bytes.extend_from_slice(&piece.unwrap()),
                Ok(None) => panic!("the stream ended"),
                Err(_) => return None,
            }
        }
    }
}
