//! `lakefall usage`: what a namespace and its topics used, what they keep, and what the object store asks for it.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use super::cost::Prices;
use super::output::table;
use super::topic::cell;
use super::{Client, Output, segment};
use crate::failure::Failure;

const GIB: f64 = 1_073_741_824.0;
/// Stands for the prices that are built in.
const BUILT_IN: &str = "built-in";

/// Usage.
#[derive(Debug, Args)]
pub(crate) struct UsageArgs {
    /// Only of this topic.
    #[arg(conflicts_with = "topics")]
    topic: Option<String>,
    /// A line for each topic.
    #[arg(long)]
    topics: bool,
    /// Where it begins: RFC 3339, or milliseconds since 1970; rounded down to the hour or day [default: 30 days ago, by the hour
    /// a day ago].
    #[arg(long, value_name = "TIME")]
    from: Option<String>,
    /// Where it ends; rounded up [default: now].
    #[arg(long, value_name = "TIME")]
    to: Option<String>,
    /// One sum, or a line for each hour or day in which anything was used. Hours are kept for two days, days for 90.
    #[arg(long, value_enum, default_value = "total", conflicts_with = "topics")]
    granularity: Granularity,
    /// Also what the object store asks for it, by a table of prices (TOML), or without one by the list prices of AWS in us-east-1.
    #[arg(long, value_name = "FILE", num_args = 0..=1, require_equals = true, default_missing_value = BUILT_IN)]
    prices: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Granularity {
    Hour,
    Day,
    Total,
}

impl UsageArgs {
    fn query(&self) -> String {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        let granularity = match self.granularity {
            Granularity::Hour => "hour",
            Granularity::Day => "day",
            Granularity::Total => "total",
        };
        query.append_pair("granularity", granularity);
        for (name, value) in [("from", &self.from), ("to", &self.to)] {
            if let Some(value) = value {
                query.append_pair(name, value);
            }
        }
        query.finish()
    }

    fn prices(&self) -> Result<Option<Prices>, Failure> {
        let Some(file) = &self.prices else { return Ok(None) };
        Prices::load(Some(file.as_path()).filter(|file| file.as_os_str() != BUILT_IN)).map(Some)
    }
}

/// What the object store asks for what was used.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Charge {
    requests: f64,
    storage_month: f64,
}

impl Charge {
    /// Of an answer, or of one of its pieces and the same holdings.
    fn of(figures: &Value, holdings: &Value, prices: &Prices) -> Self {
        let number = |of: &Value, name: &str| of[name].as_f64().unwrap_or(0.0);
        let writes = number(figures, "store_writes") / 1_000.0 * prices.store.put_per_1000;
        let reads = number(figures, "store_reads") / 1_000.0 * prices.store.get_per_1000;
        let kept = number(holdings, "segment_bytes") + number(holdings, "parquet_bytes");
        Self { requests: writes + reads, storage_month: kept / GIB * prices.store.gib_month }
    }
}

/// Adds what it costs to an answer.
fn priced(mut told: Value, prices: Option<&Prices>) -> Value {
    if let Some(prices) = prices {
        let charge = Charge::of(&told["total"], &told["holdings"], prices);
        told["cost"] = json!({
            "prices": prices.name,
            "currency": prices.currency,
            "store_requests": charge.requests,
            "storage_per_month": charge.storage_month,
        });
    }
    told
}

fn lines(told: &Value) -> Vec<String> {
    let mut lines = vec![format!("From {} to {}", cell(&told["from"]), cell(&told["to"])), String::new()];
    let pair = |(name, value): (&String, &Value)| vec![name.clone(), cell(value)];
    let figures: Vec<Vec<String>> = told["total"].as_object().into_iter().flatten().map(pair).collect();
    lines.extend(table(&["USED", ""], &figures));
    lines.push(String::new());
    let held: Vec<Vec<String>> = told["holdings"].as_object().into_iter().flatten().map(pair).collect();
    lines.extend(table(&["KEPT NOW", ""], &held));
    lines.extend(cost_lines(&told["cost"]));
    lines
}

fn cost_lines(cost: &Value) -> Vec<String> {
    if cost.is_null() {
        return Vec::new();
    }
    let (currency, amount) = (cell(&cost["currency"]), |name: &str| money(cost[name].as_f64().unwrap_or(0.0)));
    vec![
        String::new(),
        format!("Prices: {}", cell(&cost["prices"])),
        format!("Requests to the object store: {} {currency}", amount("store_requests")),
        format!("What is kept, for a month: {} {currency}", amount("storage_per_month")),
    ]
}

fn money(amount: f64) -> String {
    format!("{amount:.6}")
}

/// A row for each piece, or each topic.
fn row(name: String, figures: &Value, holdings: &Value, prices: Option<&Prices>) -> Vec<String> {
    let columns = ["produced_records", "produced_bytes", "read_records", "received_messages", "store_writes", "store_reads"];
    let mut row = vec![name];
    row.extend(columns.iter().map(|column| cell(&figures[*column])));
    if !holdings.is_null() {
        row.push(cell(&json!(holdings["segment_bytes"].as_u64().unwrap_or(0) + holdings["parquet_bytes"].as_u64().unwrap_or(0))));
    }
    if let Some(prices) = prices {
        row.push(money(Charge::of(figures, holdings, prices).requests));
    }
    row
}

fn head(first: &'static str, kept: bool, prices: Option<&Prices>) -> Vec<&'static str> {
    let mut head = vec![first, "PRODUCED", "BYTES", "READ", "RECEIVED", "WRITES", "READS"];
    if kept {
        head.push("KEPT BYTES");
    }
    if prices.is_some() {
        head.push("REQUESTS COST");
    }
    head
}

/// Runs `lakefall usage`.
pub(crate) fn usage(args: &UsageArgs, client: &Client, output: &mut Output) -> Result<(), Failure> {
    let (query, prices) = (args.query(), args.prices()?);
    let prices = prices.as_ref();
    if args.topics {
        let told = client.blocking(async {
            let mut told = Vec::new();
            for topic in client.list("/v1/topics").await? {
                let name = topic["name"].as_str().unwrap_or_default();
                match client.get(&format!("/v1/topics/{}/usage?{query}", segment(name))).await {
                    Ok(usage) => told.push(priced(usage, prices)),
                    // Deleted since it was listed.
                    Err(Failure::Refused(refused)) if refused.status == 404 => {}
                    Err(failure) => return Err(failure),
                }
            }
            Ok(told)
        })?;
        let rows: Vec<_> = told.iter().map(|one| row(cell(&one["topic"]), &one["total"], &one["holdings"], prices)).collect();
        return output.table(&told, &head("TOPIC", true, prices), &rows);
    }
    let path = match &args.topic {
        Some(topic) => format!("/v1/topics/{}/usage?{query}", segment(topic)),
        None => format!("/v1/usage?{query}"),
    };
    let told = priced(client.blocking(client.get(&path))?, prices);
    if args.granularity == Granularity::Total {
        return output.value_or_lines(&told, || lines(&told));
    }
    let buckets = told["buckets"].as_array().cloned().unwrap_or_default();
    let rows: Vec<_> = buckets.iter().map(|bucket| row(cell(&bucket["start"]), &bucket["usage"], &Value::Null, prices)).collect();
    output.table(&told, &head("FROM", false, prices), &rows)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::args::{Cli, Command};

    fn args(flags: &str) -> Result<UsageArgs, String> {
        let line = "lakefall usage".split(' ').chain(flags.split_whitespace());
        match Cli::try_parse_from(line).map_err(|error| error.to_string())?.command {
            Command::Usage(args) => Ok(args),
            other => Err(format!("{other:?}")),
        }
    }

    #[test]
    fn only_the_times_that_were_given_are_asked_for() {
        assert_eq!(args("").unwrap().query(), "granularity=total");
        let asked = args("orders --granularity day --from 2026-01-31T08:00:00+01:00").unwrap();
        assert_eq!((asked.topic.as_deref(), &*asked.query()), (Some("orders"), "granularity=day&from=2026-01-31T08%3A00%3A00%2B01%3A00"));
        assert!(args("orders --topics").is_err() && args("--granularity week").is_err());
    }

    #[test]
    fn prices_are_those_built_in_unless_a_file_is_named() {
        assert!(args("").unwrap().prices().unwrap().is_none());
        assert_eq!(args("--prices").unwrap().prices().unwrap().unwrap().currency, "USD");
        assert!(args("--prices=/no/such.toml").unwrap().prices().unwrap_err().to_string().contains("/no/such.toml"));
    }

    #[test]
    fn requests_cost_what_their_class_costs_and_storage_what_a_month_costs() {
        let prices = Prices::load(None).unwrap();
        let told = json!({
            "total": {"store_writes": 2_000.0, "store_reads": 1_000.0, "store_deletes": 9.0},
            "holdings": {"segment_bytes": 1_u64 << 30, "parquet_bytes": 1_u64 << 30},
        });
        let cost = priced(told, Some(&prices))["cost"].clone();
        assert!((cost["store_requests"].as_f64().unwrap() - 0.010_4).abs() < 1e-9, "{cost}");
        assert!((cost["storage_per_month"].as_f64().unwrap() - 0.046).abs() < 1e-9, "{cost}");
        assert!(cost_lines(&cost).join("\n").contains("0.010400 USD"));
        assert_eq!(priced(json!({}), None).get("cost"), None);
    }
}
