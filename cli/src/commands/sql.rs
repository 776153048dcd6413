//! `lakefall sql`: one question, or a shell for many.

mod shell;

use clap::{Args, ValueEnum};
use reqwest::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use super::client::accepted;
use super::output::table;
use super::{Client, Output};
use crate::failure::Failure;

/// Longest cell of a table.
const CELL: usize = 80;

/// Asks in SQL: tables are the topics.
#[derive(Debug, Args)]
pub(crate) struct SqlArgs {
    /// The query. Without one: a shell.
    query: Option<String>,
    /// How rows are printed. Default: table on a terminal, else ndjson; with --json, json.
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// Values for $1, $2, … in the query: JSON scalars, or text.
    #[arg(long = "param", short = 'p')]
    params: Vec<String>,
    /// At most so many rows.
    #[arg(long)]
    max_rows: Option<u64>,
    /// At most so long, like 30s.
    #[arg(long)]
    timeout: Option<String>,
    /// Print what was seen and what it cost, on standard error.
    #[arg(long)]
    statistics: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Columns for people, cut to fit.
    Table,
    /// The whole answer, with columns, watermarks and statistics.
    Json,
    /// One row per line.
    Ndjson,
    /// RFC 4180, with a header line.
    Csv,
}

/// An answer as a JSON page.
#[derive(Deserialize)]
struct Page {
    columns: Vec<Column>,
    rows: Vec<Vec<Value>>,
    statistics: Value,
    watermarks: Vec<Value>,
}

#[derive(Deserialize)]
struct Column {
    name: String,
}

/// Runs `lakefall sql`.
pub(crate) fn sql(args: &SqlArgs, client: &Client, output: &mut Output, json: bool) -> Result<(), Failure> {
    let plain = if json { Format::Json } else { Format::Ndjson };
    let format = args.format.unwrap_or(if output.is_terminal() { Format::Table } else { plain });
    match &args.query {
        Some(query) => client.blocking(answer(args, query, format, client, output)),
        None => shell::shell(args, format, client, output),
    }
}

async fn answer(args: &SqlArgs, query: &str, format: Format, client: &Client, output: &mut Output) -> Result<(), Failure> {
    let accept = match format {
        Format::Table | Format::Json => "application/json",
        Format::Ndjson => "application/x-ndjson",
        Format::Csv => "text/csv",
    };
    let request = client.request(Method::POST, "/v1/sql").header("accept", accept).json(&args.body(query));
    let mut response = accepted(request.send().await?).await?;
    if matches!(format, Format::Ndjson | Format::Csv) {
        while let Some(portion) = response.chunk().await? {
            output.put(&portion)?;
        }
        return output.flush();
    }
    let body = response.bytes().await?;
    if format == Format::Json {
        output.put(&body)?;
        return output.line("");
    }
    let page: Page = serde_json::from_slice(&body).map_err(|error| Failure::Defect(format!("the answer: {error}")))?;
    print(args, &page, output)
}

fn print(args: &SqlArgs, page: &Page, output: &mut Output) -> Result<(), Failure> {
    let head: Vec<&str> = page.columns.iter().map(|column| column.name.as_str()).collect();
    let rows: Vec<Vec<String>> = page.rows.iter().map(|row| row.iter().map(cell).collect()).collect();
    if !head.is_empty() {
        for line in table(&head, &rows) {
            output.put(line.as_bytes())?;
            output.put(b"\n")?;
        }
    }
    let more = if page.statistics["truncated"] == true { ", and more there are" } else { "" };
    let took = page.statistics["elapsed_ms"].as_u64().unwrap_or_default();
    output.line(&format!("({} row(s){more}, {took} ms)", rows.len()))?;
    if args.statistics {
        let seen = json!({"watermarks": page.watermarks, "statistics": page.statistics});
        output.line(&seen.to_string())?;
    }
    Ok(())
}

/// A value in a line of a table.
fn cell(value: &Value) -> String {
    let text = match value {
        Value::Null => "NULL".to_owned(),
        Value::String(text) => text.replace(['\n', '\r', '\t'], " "),
        other => other.to_string(),
    };
    match text.char_indices().nth(CELL) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

impl SqlArgs {
    fn body(&self, query: &str) -> Value {
        let mut body = json!({ "query": query });
        if !self.params.is_empty() {
            let scalar = |text: &String| {
                let json = serde_json::from_str::<Value>(text).ok().filter(|value| !value.is_array() && !value.is_object());
                json.unwrap_or_else(|| text.as_str().into())
            };
            body["params"] = self.params.iter().map(scalar).collect();
        }
        if let Some(rows) = self.max_rows {
            body["max_rows"] = rows.into();
        }
        if let Some(timeout) = &self.timeout {
            body["timeout"] = timeout.as_str().into();
        }
        body
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::args::{Cli, Command};

    #[test]
    fn the_request_holds_what_was_asked_for() {
        let line = ["lakefall", "sql", "SELECT $1, $2", "-p", "7", "-p", "text", "--max-rows", "3", "--timeout", "5s"];
        let Command::Sql(args) = Cli::parse_from(line).command else { panic!("another command") };
        let expected = json!({"query": "SELECT $1, $2", "params": [7, "text"], "max_rows": 3, "timeout": "5s"});
        assert_eq!(args.body(args.query.as_deref().unwrap()), expected);
    }

    #[test]
    fn a_cell_is_one_line() {
        assert_eq!(cell(&json!("a\nb")), "a b");
        assert_eq!(cell(&json!(null)), "NULL");
        assert_eq!(cell(&json!("x".repeat(200))).chars().count(), CELL + 1);
        assert_eq!(cell(&json!({"a": [1]})), "{\"a\":[1]}");
    }
}
