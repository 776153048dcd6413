//! `lakefall produce`: sends a file or standard input. One batch after the other keeps the order of the input; more in
//! flight give it up for speed. Every batch carries a key, so that one whose answer was lost is repeated safely.

use std::io::{self, BufRead, IsTerminal};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use clap::{Args, ValueEnum};
use futures::stream::{self, StreamExt, TryStreamExt};
use indicatif::{ProgressBar, ProgressStyle};
use reqwest::Method;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use super::client::{accepted, idempotency_key};
use super::{Client, Output, segment};
use crate::failure::Failure;
use crate::input::{self, Input};

/// Batches read ahead of those in flight.
const READ_AHEAD: usize = 2;

/// Sends records.
#[derive(Debug, Args)]
pub(crate) struct ProduceArgs {
    /// The topic.
    topic: String,
    /// The file, plain or gzip; standard input without it or for `-`.
    file: Option<PathBuf>,
    /// What the input holds.
    #[arg(long, value_enum, default_value_t = Framing::Values)]
    format: Framing,
    /// JSON pointer to the key inside each value, like /carrier.
    #[arg(long, value_name = "POINTER")]
    key: Option<String>,
    /// The partition; without it the key decides, or the server.
    #[arg(long)]
    partition: Option<u32>,
    /// Records of a batch.
    #[arg(long, default_value_t = 5_000, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    batch: u64,
    /// Bytes of a batch.
    #[arg(long, default_value_t = 4 << 20, value_parser = clap::value_parser!(u64).range(1..=268_435_456))]
    batch_bytes: u64,
    /// Batches in flight; more than one does not keep the order of the input.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    in_flight: u16,
    /// How long a batch is tried again while the server has no room or cannot be reached, like 30s.
    #[arg(long, default_value = "30s", value_parser = duration)]
    retry_for: Duration,
    /// Media type of the value, with --format raw.
    #[arg(long, default_value = "application/octet-stream")]
    content_type: String,
}

/// What the input holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Framing {
    /// NDJSON: each line is a value.
    Values,
    /// NDJSON: each line is a record object with value, key, headers…
    Records,
    /// Text: each line is a value, as it stands.
    Lines,
    /// The whole input is one value, byte for byte.
    Raw,
}

#[derive(Default, Serialize)]
struct Sent {
    records: u64,
    bytes: u64,
    requests: u64,
}

struct Batch {
    body: Bytes,
    records: u64,
}

/// Runs `lakefall produce`.
pub(crate) fn produce(args: &ProduceArgs, client: &Client, output: &mut Output) -> Result<(), Failure> {
    let input = input::open(args.file.as_deref())?;
    let sent = if args.format == Framing::Raw {
        client.blocking(send_raw(args, client, input))?
    } else {
        client.blocking(send_lines(args, client, input))?
    };
    output.value_or_lines(&sent, || vec![format!("stored {} records ({} bytes) in {}", sent.records, sent.bytes, args.topic)])
}

async fn send_raw(args: &ProduceArgs, client: &Client, mut input: Input) -> Result<Sent, Failure> {
    if args.key.is_some() {
        return Err(Failure::Usage("--key reads JSON: it does not go with --format raw".to_owned()));
    }
    let mut value = Vec::new();
    input.reader.read_to_end(&mut value).map_err(unreadable)?;
    let batch = Batch { body: value.into(), records: 1 };
    send(args, client, &path(args), &args.content_type, batch).await
}

async fn send_lines(args: &ProduceArgs, client: &Client, input: Input) -> Result<Sent, Failure> {
    let progress = progress(&input);
    let read_bytes = Arc::clone(&input.read_bytes);
    let (batches, received) = mpsc::channel(READ_AHEAD);
    let framer = Framer { framing: args.format, max_records: args.batch, max_bytes: args.batch_bytes as usize };
    // Its end is seen when the channel closes; it holds nothing but the input.
    tokio::task::spawn_blocking(move || framer.read(input, &batches));
    let (path, total) = (path(args), AtomicU64::new(0));
    let received = stream::unfold(received, async |mut received| received.recv().await.map(|batch| (batch, received)));
    let sent = received
        .map(|batch: Result<Batch, Failure>| async { send(args, client, &path, "application/x-ndjson", batch?).await })
        .buffered(usize::from(args.in_flight))
        .try_fold(Sent::default(), |sent, more| {
            let records = total.fetch_add(more.records, Ordering::Relaxed) + more.records;
            progress.set_position(read_bytes.load(Ordering::Relaxed));
            progress.set_message(records.to_string());
            std::future::ready(Ok(Sent { records, bytes: sent.bytes + more.bytes, requests: sent.requests + 1 }))
        })
        .await;
    progress.finish_and_clear();
    sent.map_err(|failure| match total.into_inner() {
        0 => failure,
        stored => with_stored(failure, stored),
    })
}

/// What had been stored before is part of the refusal: the rest can be sent again from there.
fn with_stored(failure: Failure, stored: u64) -> Failure {
    let told = format!("{stored} records were acknowledged before that");
    match failure {
        Failure::Refused(mut problem) => {
            problem.detail = format!("{}\n{told}", problem.detail);
            Failure::Refused(problem)
        }
        Failure::Unreachable(text) => Failure::Unreachable(format!("{text}; {told}")),
        Failure::Usage(text) => Failure::Usage(format!("{text}; {told}")),
        other => other,
    }
}

fn path(args: &ProduceArgs) -> String {
    let mut query = vec!["acks=ranges".to_owned()];
    if args.format == Framing::Values {
        query.push("format=values".to_owned());
    }
    if let Some(pointer) = &args.key {
        query.push(format!("key={}", percent_encoding::utf8_percent_encode(pointer, percent_encoding::NON_ALPHANUMERIC)));
    }
    query.extend(args.partition.map(|partition| format!("partition={partition}")));
    format!("/v1/topics/{}/records?{}", segment(&args.topic), query.join("&"))
}

async fn send(args: &ProduceArgs, client: &Client, path: &str, content_type: &str, batch: Batch) -> Result<Sent, Failure> {
    #[derive(Deserialize)]
    struct Answer {
        count: Option<u64>,
    }
    let key = idempotency_key();
    let request = || {
        let request = client.request(Method::POST, path).header("content-type", content_type).header("idempotency-key", &key);
        request.body(batch.body.clone())
    };
    let response = accepted(client.repeat(request, args.retry_for).await?).await?;
    let answer: Answer = serde_json::from_slice(&response.bytes().await?).map_err(|error| Failure::Defect(error.to_string()))?;
    if answer.count.is_some_and(|count| count != batch.records) {
        return Err(Failure::Defect(format!("sent {} records, {} were acknowledged", batch.records, answer.count.unwrap_or_default())));
    }
    Ok(Sent { records: batch.records, bytes: batch.body.len() as u64, requests: 1 })
}

/// Cuts the input into batches.
struct Framer {
    framing: Framing,
    max_records: u64,
    max_bytes: usize,
}

impl Framer {
    fn read(&self, mut input: Input, batches: &mpsc::Sender<Result<Batch, Failure>>) {
        loop {
            let batch = match self.next(&mut input.reader) {
                Ok(batch) if batch.records == 0 => return,
                Ok(batch) => Ok(batch),
                Err(error) => Err(unreadable(error)),
            };
            let last = batch.is_err();
            // The receiver is gone when sending failed: it tells why.
            if batches.blocking_send(batch).is_err() || last {
                return;
            }
        }
    }

    /// The next batch; without records at the end. Empty lines are no records.
    fn next(&self, reader: &mut dyn BufRead) -> io::Result<Batch> {
        let (mut body, mut records, mut line) = (Vec::new(), 0, Vec::new());
        while records < self.max_records && body.len() < self.max_bytes {
            line.clear();
            if reader.read_until(b'\n', &mut line)? == 0 {
                break;
            }
            let text = line.trim_ascii_end();
            if text.is_empty() {
                continue;
            }
            match self.framing {
                Framing::Lines => put_text(&mut body, text),
                Framing::Values | Framing::Records | Framing::Raw => body.extend_from_slice(text),
            }
            body.push(b'\n');
            records += 1;
        }
        Ok(Batch { body: body.into(), records })
    }
}

/// A line of text as a record object.
fn put_text(body: &mut Vec<u8>, text: &[u8]) {
    let text = serde_json::Value::String(String::from_utf8_lossy(text).into_owned());
    body.extend_from_slice(format!("{{\"value\":{text},\"encoding\":\"utf8\"}}").as_bytes());
}

fn unreadable(error: io::Error) -> Failure {
    Failure::Usage(format!("the input cannot be read: {error}"))
}

/// A bar on a terminal, nothing elsewhere.
fn progress(input: &Input) -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let (bar, template) = match input.total_bytes {
        Some(total) => (ProgressBar::new(total), "{bar:30} {percent:>3}%  {msg} records  {bytes_per_sec}  {eta}"),
        None => (ProgressBar::new_spinner(), "{spinner} {msg} records  {bytes_per_sec}"),
    };
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    lakefall_queue::time::parse_duration(text).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batches(framing: Framing, text: &str) -> Vec<(u64, String)> {
        let framer = Framer { framing, max_records: 2, max_bytes: 1 << 20 };
        let mut reader = text.as_bytes();
        std::iter::from_fn(|| Some(framer.next(&mut reader).unwrap()).filter(|batch| batch.records > 0))
            .map(|batch| (batch.records, String::from_utf8(batch.body.to_vec()).unwrap()))
            .collect()
    }

    #[test]
    fn lines_become_batches_and_empty_ones_nothing() {
        let made = batches(Framing::Values, "1\n\n2\r\n3");
        assert_eq!(made, [(2, "1\n2\n".to_owned()), (1, "3\n".to_owned())]);
    }

    #[test]
    fn text_is_quoted_as_json_needs_it() {
        let made = batches(Framing::Lines, "say \"hi\"\n");
        assert_eq!(made, [(1, "{\"value\":\"say \\\"hi\\\"\",\"encoding\":\"utf8\"}\n".to_owned())]);
    }
}
