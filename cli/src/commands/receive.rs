//! `lakefall receive`: leases messages and prints them, one JSON object per line. What is not acknowledged comes back when
//! its lease is over.

use std::time::Duration;

use clap::Args;
use reqwest::Method;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::queue::path;
use super::{Client, Output};
use crate::failure::Failure;

/// How long a broken connection is tried again.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long one request of a following receiver waits.
const FOLLOW_WAIT: &str = "20s";

/// Receives messages.
#[derive(Debug, Args)]
pub(crate) struct ReceiveArgs {
    /// The queue.
    queue: String,
    /// Stop after so many messages.
    #[arg(long, short = 'n', default_value_t = 1)]
    count: u64,
    /// How long to wait for a first message, like 20s.
    #[arg(long, default_value = "0s")]
    wait: String,
    /// How long they are leased; the queue's setting when absent.
    #[arg(long)]
    lease: Option<String>,
    /// Go on and on.
    #[arg(long, short)]
    follow: bool,
    /// Acknowledge what was printed.
    #[arg(long)]
    ack: bool,
    /// Print the values alone.
    #[arg(long)]
    values: bool,
}

/// What was answered; messages stay as they were sent.
#[derive(Deserialize)]
struct Answer {
    messages: Vec<Box<RawValue>>,
}

/// What is needed of a message.
#[derive(Deserialize)]
struct Leased<'a> {
    receipt: String,
    #[serde(borrow, default)]
    value: Option<&'a RawValue>,
}

/// Runs `lakefall receive`.
pub(crate) fn receive(args: &ReceiveArgs, client: &Client, output: &mut Output) -> Result<(), Failure> {
    let mut left = if args.follow { u64::MAX } else { args.count };
    while left > 0 {
        let answer = client.blocking(ask(args, client, left))?;
        let mut receipts = Vec::with_capacity(answer.messages.len());
        for message in &answer.messages {
            let leased: Leased<'_> = serde_json::from_str(message.get()).map_err(|error| Failure::Defect(format!("a message: {error}")))?;
            let text = if args.values { text(leased.value) } else { message.get().to_owned() };
            output.put(text.as_bytes())?;
            output.put(b"\n")?;
            receipts.push(leased.receipt);
        }
        output.flush()?;
        if args.ack && !receipts.is_empty() {
            client.blocking(client.send_unkeyed(Method::POST, &path(&args.queue, "/ack"), &json!({"receipts": receipts})))?;
        }
        left -= answer.messages.len() as u64;
        if answer.messages.is_empty() && !args.follow {
            break;
        }
    }
    Ok(())
}

async fn ask(args: &ReceiveArgs, client: &Client, left: u64) -> Result<Answer, Failure> {
    let wait = if args.follow { FOLLOW_WAIT } else { &args.wait };
    let mut body = json!({"max": left.min(1_000), "wait": wait});
    if let Some(lease) = &args.lease {
        body["lease"] = Value::String(lease.clone());
    }
    // Named, so that a lost answer can be asked for again.
    body["request_id"] = Value::String(super::client::idempotency_key());
    let path = path(&args.queue, "/receive");
    let response = client.repeat(|| client.request(Method::POST, &path).json(&body), PATIENCE).await?;
    serde_json::from_slice(&response.bytes().await?).map_err(|error| Failure::Defect(format!("the answer: {error}")))
}

/// Text without its quotes, the rest as JSON.
fn text(value: Option<&RawValue>) -> String {
    let Some(value) = value else { return "null".to_owned() };
    serde_json::from_str::<String>(value.get()).unwrap_or_else(|_| value.get().to_owned())
}
