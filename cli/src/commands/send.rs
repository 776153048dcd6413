//! `lakefall send`: messages to a queue, with what a message may ask for. Sent with a key, so that one whose answer was lost
//! is repeated safely.

use std::io::BufRead;

use clap::Args;
use reqwest::Method;
use serde_json::{Map, Value, json};

use super::queue::{pair, path};
use super::{Client, Output};
use crate::failure::Failure;

/// Messages of one request.
const BATCH: usize = 1_000;

/// Sends messages.
#[derive(Debug, Args)]
pub(crate) struct SendArgs {
    /// The queue.
    queue: String,
    /// The messages; without any, each line of standard input is one. What is JSON is sent as JSON, all else as text.
    values: Vec<String>,
    /// Send everything as text.
    #[arg(long)]
    text: bool,
    /// The key: routing, and the order of a queue ordered by key.
    #[arg(long)]
    key: Option<String>,
    /// The ordering key, where it is not the key.
    #[arg(long)]
    ordering_key: Option<String>,
    /// A header, as name=value; may be repeated.
    #[arg(long = "header", value_parser = pair)]
    headers: Vec<(String, String)>,
    /// Deliver so much later, up to 365d.
    #[arg(long, conflicts_with = "deliver_at")]
    delay: Option<String>,
    /// Deliver not before this RFC 3339 time.
    #[arg(long)]
    deliver_at: Option<String>,
    /// 0 (last, the default) to 9 (first).
    #[arg(long, value_parser = clap::value_parser!(u8).range(0..=9))]
    priority: Option<u8>,
    /// Do not deliver later than this after it was sent.
    #[arg(long)]
    ttl: Option<String>,
    /// Sent again with the same id within the topic's dedup window, it is stored once. For one message.
    #[arg(long)]
    dedup_id: Option<String>,
    /// Joins a reply to its request.
    #[arg(long)]
    correlation_id: Option<String>,
    /// The topic where the reply goes.
    #[arg(long)]
    reply_to: Option<String>,
}

impl SendArgs {
    fn message(&self, value: &str) -> Value {
        let json_value = if self.text { None } else { serde_json::from_str::<Value>(value).ok() };
        let mut message = Map::new();
        if json_value.is_none() {
            message.insert("encoding".to_owned(), json!("utf8"));
        }
        message.insert("value".to_owned(), json_value.unwrap_or_else(|| json!(value)));
        if !self.headers.is_empty() {
            let headers: Map<String, Value> = self.headers.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
            message.insert("headers".to_owned(), Value::Object(headers));
        }
        let texts = [
            ("key", &self.key),
            ("ordering_key", &self.ordering_key),
            ("delay", &self.delay),
            ("deliver_at", &self.deliver_at),
            ("ttl", &self.ttl),
            ("dedup_id", &self.dedup_id),
            ("correlation_id", &self.correlation_id),
            ("reply_to", &self.reply_to),
        ];
        message.extend(texts.into_iter().filter_map(|(name, text)| Some((name.to_owned(), json!(text.as_ref()?)))));
        message.extend(self.priority.map(|priority| ("priority".to_owned(), json!(priority))));
        Value::Object(message)
    }
}

/// Runs `lakefall send`.
pub(crate) fn send(args: &SendArgs, client: &Client, output: &mut Output) -> Result<(), Failure> {
    if args.dedup_id.is_some() && args.values.len() != 1 {
        return Err(Failure::Usage("--dedup-id goes with exactly one message".to_owned()));
    }
    let mut sent = 0;
    if args.values.is_empty() {
        let mut batch = Vec::new();
        for line in std::io::stdin().lock().lines() {
            let line = line.map_err(|error| Failure::Usage(format!("the input cannot be read: {error}")))?;
            if !line.is_empty() {
                batch.push(args.message(&line));
            }
            if batch.len() == BATCH {
                sent += flush(args, client, &mut batch)?;
            }
        }
        sent += flush(args, client, &mut batch)?;
    } else {
        let mut batch = args.values.iter().map(|value| args.message(value)).collect();
        sent += flush(args, client, &mut batch)?;
    }
    output.value_or_lines(&json!({"sent": sent}), || vec![format!("sent {sent} messages to {}", args.queue)])
}

fn flush(args: &SendArgs, client: &Client, batch: &mut Vec<Value>) -> Result<usize, Failure> {
    let count = batch.len();
    if count == 0 {
        return Ok(0);
    }
    let all_json = std::mem::take(batch);
    // Records with a dedup id are recognised by it; a key besides is refused.
    let path = path(&args.queue, "/messages?acks=none");
    if args.dedup_id.is_some() {
        client.blocking(client.send_unkeyed(Method::POST, &path, &json!({"records": all_json})))?;
    } else {
        client.blocking(client.send(Method::POST, &path, &json!({"records": all_json})))?;
    }
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::{Cli, Command};
    use clap::Parser;

    fn args(flags: &[&str]) -> SendArgs {
        let Command::Send(args) = Cli::parse_from([&["lakefall", "send", "jobs"], flags].concat()).command else {
            panic!("another command")
        };
        args
    }

    #[test]
    fn what_is_json_is_sent_as_json_and_all_else_as_text() {
        assert_eq!(args(&[]).message("{\"a\":1}"), json!({"value": {"a": 1}}));
        assert_eq!(args(&[]).message("hello there"), json!({"value": "hello there", "encoding": "utf8"}));
        assert_eq!(args(&["--text"]).message("17"), json!({"value": "17", "encoding": "utf8"}));
    }

    #[test]
    fn only_what_was_asked_for_goes_with_a_message() {
        let sent = args(&["--priority", "9", "--delay", "5m", "--header", "kind=a=b"]).message("1");
        assert_eq!(sent, json!({"value": 1, "priority": 9, "delay": "5m", "headers": {"kind": "a=b"}}));
    }
}
