//! `lakefall cursor`: named positions of consumers.

use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::{Map, Value, json};

use super::topic::cell;
use super::{Client, Output, segment};
use crate::failure::Failure;

/// Cursors.
#[derive(Debug, Args)]
pub(crate) struct CursorArgs {
    #[command(subcommand)]
    command: CursorCommand,
}

#[derive(Debug, Subcommand)]
enum CursorCommand {
    /// Show a cursor's positions and lag.
    Get {
        /// The cursor.
        name: String,
    },
    /// List cursors.
    List,
    /// Set positions in a topic.
    Set {
        /// The cursor.
        name: String,
        /// The topic.
        topic: String,
        /// partition=offset, or an offset alone for partition 0; the offset is the next record to read.
        #[arg(required = true, value_parser = position)]
        positions: Vec<(u32, u64)>,
    },
    /// Move a cursor to earliest, latest or a time.
    Reset {
        /// The cursor.
        name: String,
        /// earliest, latest or an RFC 3339 time.
        #[arg(long)]
        to: String,
    },
    /// Delete a cursor.
    Delete {
        /// The cursor.
        name: String,
        /// Only its positions in this topic.
        #[arg(long)]
        topic: Option<String>,
    },
}

/// Runs `lakefall cursor`.
pub(crate) fn cursor(args: &CursorArgs, client: &Client, output: &mut Output) -> Result<(), Failure> {
    match &args.command {
        CursorCommand::Get { name } => {
            let cursor = client.blocking(client.get(&format!("/v1/cursors/{}", segment(name))))?;
            print(&cursor, std::slice::from_ref(&cursor), output)
        }
        CursorCommand::List => {
            let cursors = client.blocking(client.list("/v1/cursors"))?;
            print(&Value::Array(cursors.clone()), &cursors, output)
        }
        CursorCommand::Set { name, topic, positions } => {
            let offsets: Map<String, Value> = positions.iter().map(|(partition, offset)| (partition.to_string(), json!(offset))).collect();
            let path = format!("/v1/cursors/{}/topics/{}", segment(name), segment(topic));
            let cursor = client.blocking(client.send(Method::PUT, &path, &json!({"offsets": offsets})))?;
            print(&cursor, std::slice::from_ref(&cursor), output)
        }
        CursorCommand::Reset { name, to } => {
            let answer = client.blocking(client.send(Method::POST, &format!("/v1/cursors/{}/reset", segment(name)), &json!({"to": to})))?;
            output.value_or_lines(&answer, || vec![format!("cursor {name} stands at {to}")])
        }
        CursorCommand::Delete { name, topic } => {
            let within = topic.as_ref().map(|topic| format!("/topics/{}", segment(topic))).unwrap_or_default();
            client.blocking(client.delete(&format!("/v1/cursors/{}{within}", segment(name))))?;
            output.value_or_lines(&json!({"deleted": name}), || vec![format!("deleted cursor {name}")])
        }
    }
}

/// A row for each topic of each cursor.
fn print(value: &Value, cursors: &[Value], output: &mut Output) -> Result<(), Failure> {
    let rows: Vec<Vec<String>> = cursors.iter().flat_map(rows).collect();
    output.table(value, &["CURSOR", "TOPIC", "OFFSETS", "LAG", "UPDATED"], &rows)
}

fn rows(cursor: &Value) -> Vec<Vec<String>> {
    let row = |part: &Value| {
        let name = [&part["cursor"], &cursor["cursor"], &cursor["name"], &part["name"]]
            .into_iter()
            .find(|name| name.is_string())
            .map(cell)
            .unwrap_or_default();
        let [topic, offsets, lag, updated] = ["topic", "offsets", "lag", "updated_at"].map(|field| cell(&part[field]));
        vec![name, topic, offsets, lag, updated]
    };
    // A cursor is told either with its topics in a list, or for one topic alone.
    match cursor["topics"].as_array().or_else(|| cursor["items"].as_array()) {
        Some(topics) => topics.iter().map(row).collect(),
        None => vec![row(cursor)],
    }
}

fn position(text: &str) -> Result<(u32, u64), String> {
    let (partition, offset) = text.split_once('=').unwrap_or(("0", text));
    match (partition.parse(), offset.parse()) {
        (Ok(partition), Ok(offset)) => Ok((partition, offset)),
        _ => Err("use partition=offset, like 0=1500".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_is_an_offset_with_or_without_its_partition() {
        assert_eq!(position("3=17"), Ok((3, 17)));
        assert_eq!(position("17"), Ok((0, 17)));
        assert!(position("a=1").is_err());
    }
}
