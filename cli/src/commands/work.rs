//! `lakefall work`: runs a command for each message. It reads the value from its standard input; exit code 0 acknowledges,
//! anything else gives the message back. A message that takes long keeps its lease as long as its command runs.

use std::process::Stdio;
use std::time::Duration;

use clap::Args;
use futures::stream::{FuturesUnordered, StreamExt};
use reqwest::Method;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use super::queue::path;
use super::{Client, Output};
use crate::failure::Failure;

/// How long a broken connection is tried again.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long one receive waits when there is nothing to do.
const WAIT: &str = "20s";
/// The exit code that rejects a message: to the dead letters at once (EX_DATAERR of sysexits.h).
const REJECTED: i32 = 65;
/// Most bytes of a command's standard error that go with a message that failed.
const REASON_BYTES: usize = 1_000;

/// Works on messages.
#[derive(Debug, Args)]
pub(crate) struct WorkArgs {
    /// The queue.
    queue: String,
    /// Commands at a time.
    #[arg(long, short, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    concurrency: u16,
    /// How long a message is leased; renewed while its command runs.
    #[arg(long, default_value = "30s", value_parser = lease)]
    lease: Duration,
    /// Stop after so many messages.
    #[arg(long, short = 'n')]
    count: Option<u64>,
    /// Stop when there is nothing to do.
    #[arg(long)]
    until_empty: bool,
    /// The command and its arguments. It finds LAKEFALL_KEY, LAKEFALL_TOPIC, LAKEFALL_PARTITION, LAKEFALL_OFFSET,
    /// LAKEFALL_ATTEMPT, LAKEFALL_CORRELATION_ID, LAKEFALL_REPLY_TO and LAKEFALL_HEADERS (JSON) in its environment. Exit
    /// code 0 acknowledges, 65 rejects, any other gives the message back.
    #[arg(last = true, required = true)]
    command: Vec<String>,
}

/// A message, as far as commands are told of it.
#[derive(Deserialize)]
struct Message {
    receipt: String,
    topic: String,
    partition: u32,
    offset: u64,
    attempt: u32,
    #[serde(default)]
    key: Option<String>,
    #[serde(default)]
    value: Value,
    #[serde(default)]
    encoding: Option<String>,
    #[serde(default)]
    headers: Value,
    #[serde(default)]
    correlation_id: Option<String>,
    #[serde(default)]
    reply_to: Option<String>,
}

#[derive(Deserialize)]
struct Answer {
    messages: Vec<Message>,
}

/// How a command ended.
enum Ended {
    Done,
    Failed(String),
    Rejected(String),
}

/// Runs `lakefall work`.
pub(crate) fn work(args: &WorkArgs, client: &Client, output: &mut Output) -> Result<(), Failure> {
    let (done, failed) = client.blocking(serve(args, client))?;
    let told = json!({"done": done, "failed": failed});
    output.value_or_lines(&told, || vec![format!("{done} messages done, {failed} given back or rejected")])
}

async fn serve(args: &WorkArgs, client: &Client) -> Result<(u64, u64), Failure> {
    let mut running = FuturesUnordered::new();
    let (mut taken, mut done, mut failed) = (0_u64, 0_u64, 0_u64);
    let mut empty = false;
    loop {
        let free = u64::from(args.concurrency) - running.len() as u64;
        let wanted = args.count.map_or(free, |count| free.min(count - taken));
        if wanted > 0 && !(empty && args.until_empty) {
            // While commands run, what they wait for is looked at first.
            let wait = if running.is_empty() && !args.until_empty { WAIT } else { "0s" };
            let messages = receive(args, client, wanted, wait).await?;
            empty = messages.is_empty();
            taken += messages.len() as u64;
            running.extend(messages.into_iter().map(|message| one(args, client, message)));
        }
        if running.is_empty() {
            if args.count.is_some_and(|count| taken >= count) || (empty && args.until_empty) {
                return Ok((done, failed));
            }
            continue;
        }
        let looked_again = tokio::time::timeout(Duration::from_secs(1), running.next()).await;
        if let Ok(Some(ended)) = looked_again {
            empty = false;
            if ended? { done += 1 } else { failed += 1 }
        }
    }
}

async fn receive(args: &WorkArgs, client: &Client, max: u64, wait: &str) -> Result<Vec<Message>, Failure> {
    let request_id = super::client::idempotency_key();
    let lease = format!("{}ms", args.lease.as_millis());
    let body = json!({"max": max.min(1_000), "wait": wait, "lease": lease, "request_id": request_id});
    let path = path(&args.queue, "/receive");
    let response = client.repeat(|| client.request(Method::POST, &path).json(&body), PATIENCE).await?;
    let answer: Answer =
        serde_json::from_slice(&response.bytes().await?).map_err(|error| Failure::Defect(format!("the answer: {error}")))?;
    Ok(answer.messages)
}

/// Runs the command for a message, keeps its lease meanwhile, and says what became of it.
async fn one(args: &WorkArgs, client: &Client, message: Message) -> Result<bool, Failure> {
    let ended = {
        let command = run(args, &message);
        tokio::pin!(command);
        loop {
            match tokio::time::timeout(args.lease / 3, &mut command).await {
                Ok(ended) => break ended?,
                Err(_) => extend(args, client, &message.receipt).await,
            }
        }
    };
    let (verb, body) = match &ended {
        Ended::Done => ("/ack", json!({"receipts": [message.receipt]})),
        Ended::Failed(reason) => ("/nack", json!({"items": [{"receipt": message.receipt, "reason": reason}]})),
        Ended::Rejected(reason) => ("/reject", json!({"items": [{"receipt": message.receipt, "reason": reason}]})),
    };
    match client.send_unkeyed(Method::POST, &path(&args.queue, verb), &body).await {
        // Another worker has it by now; this one cannot say more about it.
        Err(Failure::Refused(problem)) if problem.status == 409 => Ok(false),
        Err(failure) => Err(failure),
        Ok(_) => Ok(matches!(ended, Ended::Done)),
    }
}

/// A lease that cannot be renewed runs out: then another worker gets the message.
async fn extend(args: &WorkArgs, client: &Client, receipt: &str) {
    let lease = format!("{}ms", args.lease.as_millis());
    let body = json!({"items": [{"receipt": receipt, "lease": lease}]});
    let _ = client.send_unkeyed(Method::POST, &path(&args.queue, "/extend"), &body).await;
}

async fn run(args: &WorkArgs, message: &Message) -> Result<Ended, Failure> {
    let value = bytes(message)?;
    let (program, arguments) = args.command.split_first().ok_or_else(|| Failure::Usage("name a command after --".to_owned()))?;
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command.env("LAKEFALL_TOPIC", &message.topic).env("LAKEFALL_PARTITION", message.partition.to_string());
    command.env("LAKEFALL_OFFSET", message.offset.to_string()).env("LAKEFALL_ATTEMPT", message.attempt.to_string());
    let optional =
        [("LAKEFALL_KEY", &message.key), ("LAKEFALL_CORRELATION_ID", &message.correlation_id), ("LAKEFALL_REPLY_TO", &message.reply_to)];
    for (name, text) in optional {
        command.env(name, text.as_deref().unwrap_or_default());
    }
    command.env("LAKEFALL_HEADERS", if message.headers.is_null() { "{}".to_owned() } else { message.headers.to_string() });
    let failed = |error: std::io::Error| Failure::Usage(format!("{program}: {error}"));
    let mut child = command.spawn().map_err(failed)?;
    let stdin = child.stdin.take();
    let feed = async move {
        if let Some(mut stdin) = stdin {
            // A command need not read what it does not want.
            let _ = stdin.write_all(&value).await;
        }
    };
    let (output, ()) = tokio::join!(child.wait_with_output(), feed);
    let output = output.map_err(failed)?;
    let told = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    let told = if told.is_empty() { output.status.to_string() } else { told };
    let reason = tail(&told);
    Ok(match output.status.code() {
        Some(0) => Ended::Done,
        Some(REJECTED) => Ended::Rejected(reason),
        _ => Ended::Failed(reason),
    })
}

/// The end of a text, which says most, within the bound.
fn tail(text: &str) -> String {
    let mut from = text.len().saturating_sub(REASON_BYTES);
    while !text.is_char_boundary(from) {
        from += 1;
    }
    text[from..].to_owned()
}

/// The value as the command reads it: text and bytes as they are, JSON as JSON.
fn bytes(message: &Message) -> Result<Vec<u8>, Failure> {
    use base64::Engine;
    match (&message.value, message.encoding.as_deref()) {
        (Value::String(text), Some("base64")) => base64::engine::general_purpose::STANDARD
            .decode(text)
            .map_err(|error| Failure::Defect(format!("a value that is not base64: {error}"))),
        (Value::String(text), None | Some("utf8")) => Ok(text.clone().into_bytes()),
        (Value::Null, _) => Ok(Vec::new()),
        (value, _) => Ok(value.to_string().into_bytes()),
    }
}

fn lease(text: &str) -> Result<Duration, String> {
    let lease = lakefall_queue::time::parse_duration(text).map_err(|error| error.to_string())?;
    if lease < Duration::from_secs(1) { Err("use at least 1s: the lease is renewed while the command runs".to_owned()) } else { Ok(lease) }
}
