//! The way of a message through a queue: sent, received, acknowledged. What is counted is what was acknowledged.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, header};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::args::QueueArgs;
use super::pace::Pace;
use super::payload::{self, Format, Payload};
use super::produce::{self, Load, recover};
use super::stats::Stats;
use super::tail::{Progress, Stamp, moments};
use super::target::{Connection, Prepared, Target};
use crate::commands::{Client, segment};
use crate::failure::Failure;

/// What stands before a receipt in an answer.
const RECEIPT: &[u8] = b"\"receipt\":\"";
/// How long consumers wait for messages that were acknowledged to their sender and not seen.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long one receive waits.
const WAIT: &str = "1s";
/// Messages of a request that prepares the queue.
const PREPARED: u64 = 1_000;

/// What consumers ask for, and what they did.
pub(super) struct Consumption {
    receive: Prepared,
    receive_body: Bytes,
    ack: Prepared,
    pace: Arc<Pace>,
    /// Told by producers.
    progress: Arc<Progress>,
    acked: AtomicU64,
    /// How much later than their moment messages are due.
    delay: Duration,
    stamped: bool,
}

/// Creates the queue when asked to, and puts into it what is to lie there.
pub(super) fn prepare(args: &QueueArgs, client: &Client) -> Result<(), Failure> {
    if args.create {
        client.blocking(client.create_if_absent("/v1/queues", &json!({"name": args.queue})))?;
    }
    let path = format!("/v1/queues/{}", segment(&args.queue));
    client.blocking(client.get(&path))?;
    let small = |count: u64, delay: Option<&str>| -> Value {
        let message = match delay {
            Some(delay) => json!({"value": 0, "delay": delay}),
            None => json!({"value": 0}),
        };
        json!({"records": vec![message; count as usize]})
    };
    client.blocking(async {
        for _ in 0..args.delayed.div_ceil(PREPARED) {
            client.send_unkeyed(Method::POST, &format!("{path}/messages?acks=none"), &small(PREPARED, Some("12h"))).await?;
        }
        let mut leased = 0;
        while leased < args.in_flight {
            client.send_unkeyed(Method::POST, &format!("{path}/messages?acks=none"), &small(PREPARED, None)).await?;
            let body = json!({"max": PREPARED, "lease": "12h", "wait": "5s"});
            let answer = client.send_unkeyed(Method::POST, &format!("{path}/receive"), &body).await?;
            leased += answer["messages"].as_array().map_or(0, Vec::len) as u64;
        }
        Ok(())
    })
}

/// The sending half.
pub(super) fn load(args: &QueueArgs, target: &Arc<Target>) -> Result<Load, Failure> {
    let format = if args.batch == 1 { Format::Json } else { Format::Ndjson };
    let bodies = payload::bodies(format, Payload::Random, None, args.record_bytes, args.batch)?;
    let requests = args.messages.map(|messages| messages.div_ceil(args.batch as u64));
    let rate = args.rate.map(|rate| rate / args.batch as f64);
    let duration = args.duration.or(if requests.is_none() { Some(super::args::DEFAULT_DURATION) } else { None });
    let path = format!("/v1/queues/{}/messages?{}acks=none", segment(&args.queue), format.query());
    Ok(Load {
        prepared: target.prepare(Method::POST, &path, &format.headers())?,
        bodies,
        batch: args.batch as u64,
        pace: Arc::new(Pace::new(requests, duration, rate, args.producers)),
        stamp: (args.batch == 1).then(|| Stamp::delayed(args.record_bytes, args.delay)),
    })
}

/// The receiving half.
pub(super) fn consumption(args: &QueueArgs, target: &Target, load: &Load, progress: &Arc<Progress>) -> Result<Consumption, Failure> {
    let path = |verb: &str| format!("/v1/queues/{}/{verb}", segment(&args.queue));
    let headers = [(header::CONTENT_TYPE, "application/json"), (header::ACCEPT, "application/json")];
    Ok(Consumption {
        receive: target.prepare(Method::POST, &path("receive"), &headers)?,
        receive_body: json!({"max": args.receive_max(), "wait": WAIT}).to_string().into(),
        ack: target.prepare(Method::POST, &path("ack"), &headers)?,
        pace: Arc::clone(&load.pace),
        progress: Arc::clone(progress),
        acked: AtomicU64::new(0),
        delay: args.delay.unwrap_or_default(),
        stamped: load.stamp.is_some(),
    })
}

/// Receives and acknowledges over these connections until everything that was sent is acknowledged.
pub(super) async fn consume(consumption: &Arc<Consumption>, connections: Vec<Connection>) -> Result<Stats, Failure> {
    let mut workers = JoinSet::new();
    for connection in connections {
        workers.spawn(consumer(Arc::clone(consumption), connection));
    }
    let mut all = Stats::new()?;
    while let Some(ended) = workers.join_next().await {
        all.merge(ended.map_err(|error| Failure::Defect(error.to_string()))??)?;
    }
    Ok(all)
}

async fn consumer(consumption: Arc<Consumption>, mut connection: Connection) -> Result<Stats, Failure> {
    let mut stats = Stats::new()?;
    let mut last = consumption.pace.now();
    while !consumption.over(last) {
        let asked = consumption.pace.now();
        let answer = match connection.exchange_answer(&consumption.receive, consumption.receive_body.clone()).await {
            Ok(answer) => answer,
            Err(fault) => {
                stats.failed(&fault);
                recover(&mut connection, &fault).await;
                continue;
            }
        };
        let now = consumption.pace.now();
        let (acks, count) = acks(&answer);
        if count == 0 {
            continue;
        }
        last = now;
        match connection.exchange(&consumption.ack, acks.into()).await {
            Ok(_) => {
                consumption.acked.fetch_add(count, Ordering::AcqRel);
                if consumption.stamped {
                    let late = |due: Duration| now.saturating_sub(due + consumption.delay);
                    moments(&answer, |due| stats.took(late(due)));
                    stats.counted(count, answer.len() as u64);
                } else {
                    stats.answered(count, answer.len() as u64, consumption.pace.now().saturating_sub(asked));
                }
            }
            Err(fault) => {
                stats.failed(&fault);
                recover(&mut connection, &fault).await;
            }
        }
    }
    Ok(stats)
}

impl Consumption {
    fn over(&self, last: Duration) -> bool {
        let done = self.progress.done.load(Ordering::Acquire);
        let all = self.acked.load(Ordering::Acquire) >= self.progress.acknowledged.load(Ordering::Acquire);
        done && (all || self.pace.now().saturating_sub(last) > PATIENCE + self.delay)
    }
}

/// The body that acknowledges everything in an answer, and how much that is.
fn acks(answer: &[u8]) -> (Vec<u8>, u64) {
    let mut body = b"{\"receipts\":[".to_vec();
    let mut count = 0;
    for at in memchr::memmem::find_iter(answer, RECEIPT) {
        let rest = &answer[at + RECEIPT.len()..];
        let Some(end) = memchr::memchr(b'"', rest) else { break };
        if count > 0 {
            body.push(b',');
        }
        body.push(b'"');
        body.extend_from_slice(&rest[..=end]);
        count += 1;
    }
    body.extend_from_slice(b"]}");
    (body, count)
}

/// Opens a thread's connections.
pub(super) async fn open(target: &Arc<Target>, connections: usize) -> Result<Vec<Connection>, Failure> {
    produce::open(target, connections, 1).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_receipt_of_an_answer_is_acknowledged() {
        let (body, count) = acks(br#"{"messages":[{"receipt":"a.b","value":1},{"receipt":"c","value":2}]}"#);
        assert_eq!((String::from_utf8(body).unwrap().as_str(), count), (r#"{"receipts":["a.b","c"]}"#, 2));
    }
}
