//! A queue's settings and matches as flags, and as the JSON that is sent: only what was given, so that the server's defaults
//! hold.

use clap::Args;
use serde_json::{Map, Value, json};

#[derive(Debug, Args)]
pub(super) struct SettingsArgs {
    /// A topic whose messages all come to the queue; may be repeated.
    #[arg(long = "topic")]
    topics: Vec<String>,
    /// Where newly bound topics begin: earliest, latest (default), an offset, or an RFC 3339 time.
    #[arg(long)]
    start: Option<String>,
    /// How long a receiver has a message to itself, 0s to 12h. Default: 30s.
    #[arg(long)]
    lease: Option<String>,
    /// Attempts before a message is dead. Default: 5 with --dead-letter, no bound without.
    #[arg(long)]
    max_attempts: Option<u32>,
    /// The topic for dead letters; it is made, with a queue of the same name.
    #[arg(long)]
    dead_letter: Option<String>,
    /// The wait after the first failed attempt, like 1s. Default: none.
    #[arg(long)]
    retry_min: Option<String>,
    /// The longest wait after a failed attempt. Default: 15m.
    #[arg(long)]
    retry_max: Option<String>,
    /// How the wait grows: 1 is fixed. Default: 2.
    #[arg(long)]
    retry_multiplier: Option<f64>,
    /// By how much of itself each wait may be shorter, 0 to 1. Default: 0.2.
    #[arg(long)]
    retry_jitter: Option<f64>,
    /// none, or key: messages of one ordering key one at a time, in order.
    #[arg(long, value_parser = ["none", "key"])]
    ordering: Option<String>,
    /// Delay of messages that name none, up to 365d.
    #[arg(long)]
    delay: Option<String>,
    /// Messages older than this are finished instead of delivered.
    #[arg(long)]
    ttl: Option<String>,
    /// Priorities told apart, 1 (none) to 10. Default: 10.
    #[arg(long)]
    priorities: Option<u8>,
    /// Most messages that are not finished.
    #[arg(long)]
    max_depth: Option<u64>,
    /// What happens beyond: reject the send, drop_oldest, or make dead letters of the oldest.
    #[arg(long, value_parser = ["reject", "drop_oldest", "dead_letter"])]
    overflow: Option<String>,
    /// Most messages leased at a time.
    #[arg(long)]
    max_in_flight: Option<u64>,
    /// A CEL expression; messages for which it is not true are passed over.
    #[arg(long)]
    filter: Option<String>,
}

impl SettingsArgs {
    pub(super) fn body(&self) -> Map<String, Value> {
        let mut retry = Map::new();
        put(&mut retry, "min", self.retry_min.as_ref());
        put(&mut retry, "max", self.retry_max.as_ref());
        put(&mut retry, "multiplier", self.retry_multiplier);
        put(&mut retry, "jitter", self.retry_jitter);
        let mut body = Map::new();
        put(&mut body, "topics", (!self.topics.is_empty()).then_some(&self.topics));
        put(&mut body, "start", self.start.as_deref().map(start));
        put(&mut body, "lease", self.lease.as_ref());
        put(&mut body, "max_attempts", self.max_attempts);
        put(&mut body, "dead_letter", self.dead_letter.as_ref().map(|topic| json!({"topic": topic})));
        put(&mut body, "retry", (!retry.is_empty()).then_some(retry));
        put(&mut body, "ordering", self.ordering.as_ref());
        put(&mut body, "delay", self.delay.as_ref());
        put(&mut body, "ttl", self.ttl.as_ref());
        put(&mut body, "priorities", self.priorities);
        put(&mut body, "max_depth", self.max_depth);
        put(&mut body, "overflow", self.overflow.as_ref());
        put(&mut body, "max_in_flight", self.max_in_flight);
        put(&mut body, "filter", self.filter.as_ref());
        body
    }
}

#[derive(Debug, Args)]
#[group(multiple = false)]
pub(super) struct MatchArgs {
    /// Only messages with this routing key: their header routing-key, else their key.
    #[arg(long)]
    exact: Option<String>,
    /// Only messages whose routing key has this form: `*` is one word, `#` any number.
    #[arg(long)]
    wildcard: Option<String>,
    /// Only messages with all of these headers, as name=value; may be repeated.
    #[arg(long = "header", value_parser = pair)]
    headers: Vec<(String, String)>,
    /// Only messages with one of these headers.
    #[arg(long = "any-header", value_parser = pair)]
    any_headers: Vec<(String, String)>,
    /// Only messages for which this CEL expression is true.
    #[arg(long)]
    expression: Option<String>,
}

impl MatchArgs {
    pub(super) fn body(&self) -> Value {
        let object = |pairs: &[(String, String)]| -> Map<String, Value> { pairs.iter().map(|(n, v)| (n.clone(), json!(v))).collect() };
        match self {
            Self { exact: Some(key), .. } => json!({"type": "exact", "key": key}),
            Self { wildcard: Some(pattern), .. } => json!({"type": "wildcard", "pattern": pattern}),
            Self { expression: Some(expression), .. } => json!({"type": "expression", "expression": expression}),
            Self { headers, .. } if !headers.is_empty() => json!({"type": "headers", "headers": object(headers)}),
            Self { any_headers, .. } if !any_headers.is_empty() => json!({"type": "headers", "headers": object(any_headers), "any": true}),
            _ => json!({"type": "all"}),
        }
    }
}

/// A place to begin, as the API writes it.
pub(super) fn start(text: &str) -> Value {
    match text {
        "earliest" | "latest" => json!(text),
        number if !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()) => {
            json!({"offset": number.parse::<u64>().unwrap_or(u64::MAX)})
        }
        time => json!({"time": time}),
    }
}

/// `name=value`.
pub(in crate::commands) fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("use name=value".to_owned()),
    }
}

fn put(object: &mut Map<String, Value>, name: &str, value: Option<impl serde::Serialize>) {
    if let Some(value) = value {
        object.insert(name.to_owned(), json!(value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::{Cli, Command};
    use crate::commands::queue::args::{QueueArgs, QueueCommand};
    use clap::Parser;

    fn command(flags: &[&str]) -> QueueCommand {
        let Command::Queue(QueueArgs { command }) = Cli::parse_from([&["lakefall", "queue"], flags].concat()).command else {
            panic!("another command")
        };
        command
    }

    #[test]
    fn only_settings_that_were_given_are_sent() {
        let flags = ["create", "jobs", "--lease", "1m", "--dead-letter", "jobs.dead", "--retry-min", "1s", "--start", "17"];
        let QueueCommand::Create { settings, .. } = command(&flags) else { panic!("another command") };
        let sent = json!({"lease": "1m", "dead_letter": {"topic": "jobs.dead"}, "retry": {"min": "1s"}, "start": {"offset": 17}});
        assert_eq!(Value::Object(settings.body()), sent);
    }

    #[test]
    fn a_match_is_one_of_its_kinds() {
        let bind = |flags: &[&str]| match command(&[&["bind", "q", "b", "t"], flags].concat()) {
            QueueCommand::Bind { matches, .. } => matches.body(),
            _ => panic!("another command"),
        };
        assert_eq!(bind(&[]), json!({"type": "all"}));
        assert_eq!(bind(&["--wildcard", "orders.*.eu"]), json!({"type": "wildcard", "pattern": "orders.*.eu"}));
        assert_eq!(bind(&["--header", "a=1", "--header", "b=2"]), json!({"type": "headers", "headers": {"a": "1", "b": "2"}}));
        assert_eq!(bind(&["--any-header", "a=1"]), json!({"type": "headers", "headers": {"a": "1"}, "any": true}));
    }

    #[test]
    fn a_start_is_an_edge_an_offset_or_a_time() {
        assert_eq!(start("earliest"), json!("earliest"));
        assert_eq!(start("12"), json!({"offset": 12}));
        assert_eq!(start("2026-01-31T08:00:00Z"), json!({"time": "2026-01-31T08:00:00Z"}));
    }
}
