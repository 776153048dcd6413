//! `lakefall consume`: reads a topic, each partition in order, to its end or on and on.

use std::time::Duration;

use clap::{Args, ValueEnum};
use reqwest::Method;
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::sync::mpsc;

use super::{Client, Output, segment};
use crate::failure::Failure;

/// How long a following request waits for records.
const FOLLOW_WAIT: &str = "20s";
/// How long a broken connection is tried again.
const PATIENCE: Duration = Duration::from_secs(30);
/// Pages that wait to be printed: readers are held up beyond it.
const PAGES_AHEAD: usize = 2;

/// Reads records.
#[derive(Debug, Args)]
pub(crate) struct ConsumeArgs {
    /// The topic.
    topic: String,
    /// earliest, latest, an offset, or an RFC 3339 time. Default: latest with --follow, else earliest.
    #[arg(long)]
    from: Option<String>,
    /// The last so many records of each partition.
    #[arg(long, conflicts_with = "from")]
    last: Option<u64>,
    /// Stop before this offset, or at this RFC 3339 time.
    #[arg(long)]
    to: Option<String>,
    /// One partition; without it all of them, each in its own order.
    #[arg(long)]
    partition: Option<u32>,
    /// Wait for more at the end.
    #[arg(long, short)]
    follow: bool,
    /// Stop after so many records.
    #[arg(long, short = 'n')]
    count: Option<u64>,
    /// How records are printed. Default: table on a terminal, else ndjson.
    #[arg(long, value_enum)]
    format: Option<Format>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// One record object per line.
    Ndjson,
    /// One value per line.
    Value,
    /// All records as one JSON array.
    Json,
    /// Partition, offset, time, key and value, cut to fit a line.
    Table,
}

/// A page as the API answers it; records stay as they were sent.
#[derive(Deserialize)]
struct Page {
    records: Vec<Box<RawValue>>,
    next_offset: u64,
    #[serde(default)]
    end: u64,
}

/// What the printed forms need of a record.
#[derive(Deserialize)]
struct Shown<'a> {
    partition: u32,
    offset: u64,
    #[serde(default)]
    timestamp: String,
    #[serde(default)]
    key: Option<String>,
    #[serde(borrow, default)]
    value: Option<&'a RawValue>,
}

/// Runs `lakefall consume`.
pub(crate) fn consume(args: &ConsumeArgs, client: &Client, output: &mut Output) -> Result<(), Failure> {
    let format = args.format.unwrap_or(if output.is_terminal() { Format::Table } else { Format::Ndjson });
    let mut printer = Printer { format, left: args.count.unwrap_or(u64::MAX), printed: 0, output };
    if format == Format::Json {
        printer.output.put(b"[")?;
    }
    client.blocking(read_all(args, client, &mut printer))?;
    if format == Format::Json {
        printer.output.put(b"\n]\n")?;
    }
    printer.output.flush()
}

async fn read_all(args: &ConsumeArgs, client: &Client, printer: &mut Printer<'_>) -> Result<(), Failure> {
    let partitions = partitions(args, client).await?;
    let (pages, mut received) = mpsc::channel(PAGES_AHEAD);
    let limit = args.count.unwrap_or(u64::MAX).clamp(1, 5_000);
    let readers = partitions.into_iter().map(|partition| {
        let pages = pages.clone();
        async move { read_partition(args, client, partition, limit, &pages).await }
    });
    let readers = futures::future::try_join_all(readers.collect::<Vec<_>>());
    drop(pages);
    let print = async {
        while let Some(page) = received.recv().await {
            if printer.page(&page)? {
                return Ok(());
            }
        }
        Ok(())
    };
    // Printing ends when it has enough; then readers have nobody to read for.
    tokio::pin!(print);
    tokio::select! {
        printed = &mut print => printed,
        read = readers => { read?; print.await }
    }
}

async fn partitions(args: &ConsumeArgs, client: &Client) -> Result<Vec<u32>, Failure> {
    if let Some(partition) = args.partition {
        return Ok(vec![partition]);
    }
    let topic = client.get(&format!("/v1/topics/{}", segment(&args.topic))).await?;
    let count = topic["partitions"].as_u64().ok_or_else(|| Failure::Defect("the topic tells no partitions".to_owned()))?;
    Ok((0..count as u32).collect())
}

async fn read_partition(
    args: &ConsumeArgs,
    client: &Client,
    partition: u32,
    limit: u64,
    pages: &mpsc::Sender<Page>,
) -> Result<(), Failure> {
    let path = format!("/v1/topics/{}/partitions/{partition}/records", segment(&args.topic));
    let mut start = args.start();
    // Without --follow, reading ends where the log ended when it began: a topic that is written to has no other end.
    let mut stop = None;
    loop {
        let wait = if args.follow { format!("&wait={FOLLOW_WAIT}") } else { String::new() };
        let query = format!("{path}?{start}&limit={limit}{}{wait}", args.until());
        let response = client.repeat(|| client.request(Method::GET, &query).header("accept", "application/json"), PATIENCE).await?;
        let page: Page = serde_json::from_slice(&response.bytes().await?).map_err(|error| Failure::Defect(format!("the page: {error}")))?;
        let end = *stop.get_or_insert(page.end);
        let (next, empty) = (page.next_offset, page.records.is_empty());
        start = format!("offset={next}");
        let finished =
            !args.follow && (next >= end || empty) || args.to_offset().is_some_and(|to| next >= to) || (args.to.is_some() && empty);
        if pages.send(page).await.is_err() || finished {
            return Ok(());
        }
    }
}

impl ConsumeArgs {
    fn start(&self) -> String {
        if let Some(last) = self.last {
            return format!("last={last}");
        }
        match self.from.as_deref() {
            None if self.follow => "from=latest".to_owned(),
            None => "from=earliest".to_owned(),
            Some(edge @ ("earliest" | "latest")) => format!("from={edge}"),
            Some(number) if number.bytes().all(|byte| byte.is_ascii_digit()) => format!("offset={number}"),
            Some(time) => format!("timestamp={}", time.replace('+', "%2B")),
        }
    }

    fn to_offset(&self) -> Option<u64> {
        self.to.as_ref()?.parse().ok()
    }

    fn until(&self) -> String {
        match (&self.to, self.to_offset()) {
            (None, _) => String::new(),
            (Some(_), Some(offset)) => format!("&until_offset={offset}"),
            (Some(time), None) => format!("&until_timestamp={}", time.replace('+', "%2B")),
        }
    }
}

struct Printer<'a> {
    format: Format,
    left: u64,
    printed: u64,
    output: &'a mut Output,
}

impl Printer<'_> {
    /// Prints a page; true when there is enough.
    fn page(&mut self, page: &Page) -> Result<bool, Failure> {
        for record in page.records.iter().take(usize::try_from(self.left).unwrap_or(usize::MAX)) {
            self.record(record.get())?;
            self.printed += 1;
            self.left -= 1;
        }
        self.output.flush()?;
        Ok(self.left == 0)
    }

    fn record(&mut self, record: &str) -> Result<(), Failure> {
        match self.format {
            Format::Ndjson => self.output.put(record.as_bytes())?,
            Format::Json => {
                self.output.put(if self.printed == 0 { b"\n" } else { b",\n" })?;
                return self.output.put(record.as_bytes());
            }
            Format::Value => self.output.put(value_text(&shown(record)?).as_bytes())?,
            Format::Table => {
                let shown = shown(record)?;
                let value: String = value_text(&shown).chars().take(120).collect();
                let key = shown.key.as_deref().unwrap_or("-");
                let line = format!("{:>3} {:>10}  {}  {key}  {value}", shown.partition, shown.offset, shown.timestamp);
                self.output.put(line.as_bytes())?;
            }
        }
        self.output.put(b"\n")
    }
}

fn shown(record: &str) -> Result<Shown<'_>, Failure> {
    serde_json::from_str(record).map_err(|error| Failure::Defect(format!("a record: {error}")))
}

/// Text without its quotes, the rest as JSON.
fn value_text(shown: &Shown<'_>) -> String {
    let Some(value) = shown.value else { return "null".to_owned() };
    serde_json::from_str::<String>(value.get()).unwrap_or_else(|_| value.get().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::{Cli, Command};
    use clap::Parser;

    fn args(flags: &[&str]) -> ConsumeArgs {
        let Command::Consume(args) = Cli::parse_from([&["lakefall", "consume", "t"], flags].concat()).command else {
            panic!("another command")
        };
        args
    }

    #[test]
    fn the_start_is_what_was_asked_for() {
        assert_eq!(args(&[]).start(), "from=earliest");
        assert_eq!(args(&["-f"]).start(), "from=latest");
        assert_eq!(args(&["--from", "17"]).start(), "offset=17");
        assert_eq!(args(&["--from", "2026-01-31T08:00:00+01:00"]).start(), "timestamp=2026-01-31T08:00:00%2B01:00");
        assert_eq!(args(&["--last", "5"]).start(), "last=5");
        assert_eq!(args(&["--to", "20"]).until(), "&until_offset=20");
    }

    #[test]
    fn a_value_is_shown_as_text_or_as_json() {
        let shown_as = |record| value_text(&shown(record).unwrap());
        assert_eq!(shown_as(r#"{"partition":0,"offset":1,"value":"a\"b"}"#), "a\"b");
        assert_eq!(shown_as(r#"{"partition":0,"offset":1,"value":{"a":1}}"#), "{\"a\":1}");
        assert_eq!(shown_as(r#"{"partition":0,"offset":1,"value":null}"#), "null");
    }
}
