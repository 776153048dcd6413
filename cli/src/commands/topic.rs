//! `lakefall topic`: create, list, describe, delete.

use std::io::{BufRead, IsTerminal, Write};

use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::{Map, Value, json};

use super::{Client, Output, segment};
use crate::failure::Failure;

/// Topics.
#[derive(Debug, Args)]
pub(crate) struct TopicArgs {
    #[command(subcommand)]
    command: TopicCommand,
}

#[derive(Debug, Subcommand)]
enum TopicCommand {
    /// Create a topic.
    Create(CreateArgs),
    /// List topics.
    List,
    /// Show a topic's settings and partitions.
    Describe {
        /// The topic.
        name: String,
    },
    /// Delete a topic and everything in it.
    Delete {
        /// The topic.
        name: String,
        /// Do not ask.
        #[arg(long, short)]
        yes: bool,
    },
}

#[derive(Debug, Args)]
struct CreateArgs {
    /// The topic.
    name: String,
    /// Partitions; one has a total order and no ceiling of its own.
    #[arg(long)]
    partitions: Option<u32>,
    /// Age after which records go, like 7d. Default: never.
    #[arg(long)]
    retention_age: Option<String>,
    /// Size above which the oldest records go. Default: none.
    #[arg(long)]
    retention_bytes: Option<u64>,
    /// delete, or compact: keep the last value of each key.
    #[arg(long, value_parser = ["delete", "compact"])]
    cleanup: Option<String>,
    /// zstd, lz4 or none.
    #[arg(long, value_parser = ["zstd", "lz4", "none"])]
    compression: Option<String>,
    /// express leaves sooner and costs more requests, economy the other way round.
    #[arg(long, value_parser = ["express", "standard", "economy"])]
    urgency: Option<String>,
    /// How long a repeated request or dedup_id is recognised, like 5m.
    #[arg(long)]
    dedup_window: Option<String>,
    /// Largest record in bytes.
    #[arg(long)]
    max_record_bytes: Option<u64>,
    /// It is well if the topic is there already.
    #[arg(long)]
    if_not_exists: bool,
}

impl CreateArgs {
    /// What is sent: only what was given, so that the server's defaults hold.
    fn body(&self) -> Value {
        let mut retention = Map::new();
        put(&mut retention, "age", self.retention_age.as_ref());
        put(&mut retention, "bytes", self.retention_bytes);
        let mut body = Map::new();
        put(&mut body, "name", Some(&self.name));
        put(&mut body, "partitions", self.partitions);
        put(&mut body, "retention", (!retention.is_empty()).then_some(Value::Object(retention)));
        put(&mut body, "cleanup", self.cleanup.as_ref());
        put(&mut body, "compression", self.compression.as_ref());
        put(&mut body, "urgency", self.urgency.as_ref());
        put(&mut body, "dedup_window", self.dedup_window.as_ref());
        put(&mut body, "max_record_bytes", self.max_record_bytes);
        Value::Object(body)
    }
}

fn put(object: &mut Map<String, Value>, name: &str, value: Option<impl serde::Serialize>) {
    if let Some(value) = value {
        object.insert(name.to_owned(), json!(value));
    }
}

/// Runs `lakefall topic`.
pub(crate) fn topic(args: &TopicArgs, client: &Client, output: &mut Output) -> Result<(), Failure> {
    match &args.command {
        TopicCommand::Create(args) => create(args, client, output),
        TopicCommand::List => list(client, output),
        TopicCommand::Describe { name } => describe(name, client, output),
        TopicCommand::Delete { name, yes } => delete(name, *yes, client, output),
    }
}

fn create(args: &CreateArgs, client: &Client, output: &mut Output) -> Result<(), Failure> {
    let body = args.body();
    let created = if args.if_not_exists {
        client.blocking(client.create_if_absent("/v1/topics", &body))?
    } else {
        client.blocking(client.send(Method::POST, "/v1/topics", &body))?
    };
    let text = match &created {
        Value::Null => format!("topic {} was there already", args.name),
        topic => format!("created topic {} with {} partition(s)", args.name, topic["partitions"]),
    };
    output.value_or_lines(&created, || vec![text])
}

fn list(client: &Client, output: &mut Output) -> Result<(), Failure> {
    let topics = client.blocking(client.list("/v1/topics"))?;
    let rows: Vec<_> = topics.iter().map(|topic| ["name", "partitions", "created_at"].map(|field| cell(&topic[field])).to_vec()).collect();
    output.table(&topics, &["TOPIC", "PARTITIONS", "CREATED"], &rows)
}

fn describe(name: &str, client: &Client, output: &mut Output) -> Result<(), Failure> {
    let topic = client.blocking(client.get(&format!("/v1/topics/{}", segment(name))))?;
    output.value_or_lines(&topic, || {
        let mut lines = Vec::new();
        for (field, value) in topic.as_object().into_iter().flatten().filter(|(field, _)| *field != "partition_status") {
            lines.push(format!("{field:<18} {}", cell(value)));
        }
        lines.push(String::new());
        lines.push(format!("{:>9} {:>14} {:>14} {:>16} {:>9}", "PARTITION", "LOG START", "END", "BYTES", "EXTENTS"));
        for status in topic["partition_status"].as_array().into_iter().flatten() {
            let [partition, start, end, bytes, extents] =
                ["partition", "log_start", "end", "bytes", "extents"].map(|field| cell(&status[field]));
            lines.push(format!("{partition:>9} {start:>14} {end:>14} {bytes:>16} {extents:>9}"));
        }
        lines
    })
}

fn delete(name: &str, yes: bool, client: &Client, output: &mut Output) -> Result<(), Failure> {
    if !yes && !confirmed("delete topic and all records of", name)? {
        return Err(Failure::Usage(format!("topic {name} was not deleted: --yes deletes without asking")));
    }
    client.blocking(client.delete(&format!("/v1/topics/{}", segment(name))))?;
    output.value_or_lines(&json!({"deleted": name}), || vec![format!("deleted topic {name}")])
}

/// Asks on a terminal; elsewhere nobody can answer.
pub(super) fn confirmed(what: &str, name: &str) -> Result<bool, Failure> {
    if !std::io::stdin().is_terminal() {
        return Ok(false);
    }
    let asked = || -> std::io::Result<String> {
        write!(std::io::stderr(), "About to {what} {name}. Type its name to go on: ")?;
        let mut answer = String::new();
        std::io::stdin().lock().read_line(&mut answer)?;
        Ok(answer)
    };
    asked().map(|answer| answer.trim() == name).map_err(|error| Failure::Failed(error.to_string()))
}

/// A value as a cell: text without quotes, the rest as JSON.
pub(super) fn cell(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::{Cli, Command};
    use clap::Parser;

    #[test]
    fn only_settings_that_were_given_are_sent() {
        let cli = Cli::parse_from(["lakefall", "topic", "create", "t", "--partitions", "4", "--retention-age", "7d"]);
        let Command::Topic(TopicArgs { command: TopicCommand::Create(args) }) = cli.command else { panic!("another command") };
        assert_eq!(args.body(), json!({"name": "t", "partitions": 4, "retention": {"age": "7d"}}));
    }
}
