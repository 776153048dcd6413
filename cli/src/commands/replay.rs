//! `lakefall replay`: copies a range of a topic into another one, and stays until it is done.

use clap::{ArgGroup, Args};
use serde_json::{Map, Value, json};

use super::operation::carried_out;
use super::topic::cell;
use super::{Client, Output};
use crate::failure::Failure;

/// Copies records of a topic into another topic or a queue. The same command goes on where it was left.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("target").required(true).args(["to", "to_queue"]))]
pub(crate) struct ReplayArgs {
    /// Its name: under it, it goes on where it was left.
    name: String,
    /// The topic whose records are copied.
    #[arg(long)]
    from: String,
    /// The topic that they are copied to.
    #[arg(long)]
    to: Option<String>,
    /// The queue that they are sent to.
    #[arg(long)]
    to_queue: Option<String>,
    /// earliest, an offset, or an RFC 3339 time.
    #[arg(long, default_value = "earliest")]
    start: String,
    /// latest, an offset (not copied itself), or an RFC 3339 time.
    #[arg(long, default_value = "latest")]
    end: String,
    /// Only this partition.
    #[arg(long)]
    partition: Option<u32>,
    /// Only records with this key.
    #[arg(long)]
    key: Option<String>,
    /// Only those for which this CEL expression is true.
    #[arg(long)]
    filter: Option<String>,
    /// Only those for which this SQL predicate is true.
    #[arg(long = "where")]
    predicate: Option<String>,
    /// At most this many per second.
    #[arg(long)]
    max_per_second: Option<u32>,
    /// Only count.
    #[arg(long)]
    dry_run: bool,
}

/// Runs `lakefall replay`.
pub(crate) fn replay(args: &ReplayArgs, client: &Client, output: &mut Output) -> Result<(), Failure> {
    let ended = client.blocking(carried_out(client, "/v1/replays", &args.body()))?;
    let word = if args.dry_run { "would copy" } else { "copied" };
    output.value_or_lines(&ended, || vec![format!("{word} {} records, passed over {}", cell(&ended["done"]), cell(&ended["skipped"]))])?;
    match ended["status"].as_str() {
        Some("succeeded") => Ok(()),
        _ => Err(Failure::Failed(format!("the replay did not end well: {}", cell(&ended["error"])))),
    }
}

impl ReplayArgs {
    fn body(&self) -> Value {
        let mut from = Map::new();
        let mut put = |name: &str, value: Option<Value>| value.map(|value| from.insert(name.to_owned(), value));
        put("topic", Some(json!(self.from)));
        put("start", Some(bound(&self.start)));
        put("end", Some(bound(&self.end)));
        put("partition", self.partition.map(|partition| json!(partition)));
        put("key", self.key.as_ref().map(|key| json!(key)));
        put("filter", self.filter.as_ref().map(|filter| json!(filter)));
        put("where", self.predicate.as_ref().map(|predicate| json!(predicate)));
        let to = match &self.to_queue {
            Some(queue) => json!({ "queue": queue }),
            None => json!({ "topic": self.to }),
        };
        let mut body = json!({"name": self.name, "from": from, "to": to});
        if let Some(rate) = self.max_per_second {
            body["max_per_second"] = rate.into();
        }
        if self.dry_run {
            body["dry_run"] = true.into();
        }
        body
    }
}

/// A name stands for itself, digits for an offset, all else for a time.
fn bound(text: &str) -> Value {
    match text.parse::<u64>() {
        _ if matches!(text, "earliest" | "latest") => json!(text),
        Ok(offset) => json!({ "offset": offset }),
        Err(_) => json!({ "timestamp": text }),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::args::{Cli, Command};

    fn parsed(line: &[&str]) -> Result<ReplayArgs, clap::Error> {
        Cli::try_parse_from(["lakefall", "replay"].iter().chain(line).copied()).map(|cli| match cli.command {
            Command::Replay(args) => args,
            _ => panic!("another command"),
        })
    }

    #[test]
    fn the_request_holds_what_was_asked_for() {
        let args = parsed(&["r", "--from", "a", "--to-queue", "q", "--start", "7", "--end", "2026-01-31T08:00:00Z", "--where", "n > 1"]);
        let from = json!({"topic": "a", "start": {"offset": 7}, "end": {"timestamp": "2026-01-31T08:00:00Z"}, "where": "n > 1"});
        assert_eq!(args.unwrap().body(), json!({"name": "r", "from": from, "to": {"queue": "q"}}));
        let args = parsed(&["r", "--from", "a", "--to", "b", "--partition", "1", "--max-per-second", "5", "--dry-run"]).unwrap();
        let from = json!({"topic": "a", "start": "earliest", "end": "latest", "partition": 1});
        assert_eq!(args.body(), json!({"name": "r", "from": from, "to": {"topic": "b"}, "max_per_second": 5, "dry_run": true}));
    }

    #[test]
    fn there_is_one_target() {
        assert!(parsed(&["r", "--from", "a"]).is_err());
        assert!(parsed(&["r", "--from", "a", "--to", "b", "--to-queue", "c"]).is_err());
    }
}
