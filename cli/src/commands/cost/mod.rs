//! `lakefall cost estimate`: what a workload would cost in a month, and what the PUT rate trades. It asks no server.

mod model;
mod prices;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use serde::Serialize;

use self::model::{Bill, Deployment, Rates, Stored, Workload, days};
pub(super) use self::prices::Prices;
use super::Output;
use super::output::table;
use crate::failure::Failure;

/// PUT rates of the table, for each gateway.
const DIALS: [f64; 8] = [0.5, 1.0, 2.0, 4.0, 10.0, 20.0, 50.0, 100.0];

/// Estimates costs.
#[derive(Debug, Args)]
pub(crate) struct CostArgs {
    #[command(subcommand)]
    command: CostCommand,
}

#[derive(Debug, Subcommand)]
enum CostCommand {
    /// Estimate the monthly cost of a workload, part by part, and what the PUT rate trades.
    Estimate(Box<EstimateArgs>),
}

#[derive(Debug, Args)]
struct EstimateArgs {
    /// Records sent each second, by all producers.
    #[arg(long, value_name = "N", value_parser = between::<0, 1_000_000_000>)]
    records_per_second: f64,
    /// Bytes of a record.
    #[arg(long, value_name = "N", default_value = "1024", value_parser = between::<1, 67_108_864>)]
    record_bytes: f64,
    /// Records in a request.
    #[arg(long, value_name = "N", default_value = "1", value_parser = between::<1, 100_000>)]
    batch: f64,
    /// How much smaller records are when stored: 3 is a third.
    #[arg(long, value_name = "RATIO", default_value = "3", value_parser = between::<1, 1_000>)]
    compression: f64,
    /// The share of the month in which records are sent: 0.25 is six hours a day.
    #[arg(long, value_name = "SHARE", default_value = "1", value_parser = between::<0, 1>)]
    active: f64,
    /// How long records are kept.
    #[arg(long, value_name = "TIME", default_value = "7d", value_parser = duration)]
    retention: Duration,
    /// For how long the bucket keeps what was deleted (versions that are not current).
    #[arg(long, value_name = "TIME", default_value = "7d", value_parser = duration)]
    noncurrent: Duration,
    /// Partitions that get records.
    #[arg(long, value_name = "N", default_value = "1", value_parser = between::<1, 1_000_000>)]
    partitions: f64,
    /// How many times each record is read.
    #[arg(long, value_name = "N", default_value = "1", value_parser = between::<0, 100_000>)]
    fan_out: f64,
    /// Processes that read, spread over the gateways [default: as many as --fan-out].
    #[arg(long, value_name = "N", value_parser = between::<0, 1_000_000>)]
    consumers: Option<f64>,
    /// The share of reads that no cache holds, as replays of old records.
    #[arg(long, value_name = "SHARE", default_value = "0", value_parser = between::<0, 1>)]
    cold: f64,
    /// The share of traffic between clients and gateways that crosses zones: two thirds where both are spread over three.
    #[arg(long, value_name = "SHARE", default_value = "0.667", value_parser = between::<0, 1>)]
    cross_zone: f64,
    /// Gateways.
    #[arg(long, value_name = "N", default_value = "2", value_parser = between::<1, 10_000>)]
    gateways: f64,
    /// PUT requests each second of each gateway: `segment.puts_per_second`.
    #[arg(long, value_name = "N", default_value = "10", value_parser = rate, conflicts_with = "latency")]
    puts_per_second: f64,
    /// Instead of --puts-per-second: how long a record may wait for its segment to leave, on average.
    #[arg(long, value_name = "TIME", value_parser = duration)]
    latency: Option<Duration>,
    /// Bytes of records at which a segment is full: `segment.target_bytes`.
    #[arg(long, value_name = "N", default_value = "8388608", value_parser = between::<1_024, 268_435_456>)]
    segment_bytes: f64,
    /// Cores of a gateway.
    #[arg(long, value_name = "N", default_value = "1", value_parser = between::<0, 1_024>)]
    gateway_vcpus: f64,
    /// GiB of memory of a gateway.
    #[arg(long, value_name = "N", default_value = "2", value_parser = between::<0, 4_096>)]
    gateway_gib: f64,
    /// Metadata replicas, of half a core and 1 GiB each.
    #[arg(long, value_name = "N", default_value = "2", value_parser = between::<1, 1_000>)]
    metadata_replicas: f64,
    /// Compactors, of half a core and 1 GiB each.
    #[arg(long, value_name = "N", default_value = "1", value_parser = between::<0, 1_000>)]
    compactors: f64,
    /// Units of the database's capacity, on average: Aurora's ACUs, or machines with their standby.
    #[arg(long, value_name = "N", default_value = "1", value_parser = between::<0, 1_024>)]
    postgres_units: f64,
    /// A table of prices (TOML) instead of the one built in, which is that of AWS in us-east-1.
    #[arg(long, value_name = "FILE")]
    prices: Option<PathBuf>,
}

fn between<const LEAST: u64, const MOST: u64>(text: &str) -> Result<f64, String> {
    let within = |number: &f64| (LEAST as f64..=MOST as f64).contains(number);
    text.parse().ok().filter(within).ok_or_else(|| format!("use a number from {LEAST} to {MOST}"))
}

/// As `segment.puts_per_second` is bounded.
fn rate(text: &str) -> Result<f64, String> {
    text.parse().ok().filter(|rate| (0.01..=10_000.0).contains(rate)).ok_or_else(|| "use a number from 0.01 to 10000".to_owned())
}

fn duration(text: &str) -> Result<Duration, String> {
    lakefall_queue::time::parse_duration(text).map_err(|error| error.to_string())
}

impl EstimateArgs {
    fn workload(&self) -> Result<Workload, Failure> {
        let puts_per_second = match self.latency {
            None => self.puts_per_second,
            // Half an interval on average.
            Some(latency) => {
                let puts = 0.5 / latency.as_secs_f64();
                if !(0.01..=10_000.0).contains(&puts) {
                    return Err(Failure::Usage(
                        "--latency must be from 1ms to 50s: `segment.puts_per_second` goes from 0.01 to 10000".to_owned(),
                    ));
                }
                puts
            }
        };
        Ok(Workload {
            records_per_second: self.records_per_second,
            record_bytes: self.record_bytes,
            batch: self.batch,
            compression: self.compression,
            active: self.active,
            retention_seconds: self.retention.as_secs_f64(),
            noncurrent_seconds: self.noncurrent.as_secs_f64(),
            partitions: self.partitions,
            fan_out: self.fan_out,
            consumers: self.consumers.unwrap_or(self.fan_out),
            cold: self.cold,
            cross_zone: self.cross_zone,
            deployment: Deployment {
                gateways: self.gateways,
                puts_per_second,
                segment_bytes: self.segment_bytes,
                gateway_vcpus: self.gateway_vcpus,
                gateway_gib: self.gateway_gib,
                metadata_replicas: self.metadata_replicas,
                compactors: self.compactors,
                postgres_units: self.postgres_units,
            },
        })
    }
}

/// What is answered.
#[derive(Debug, Serialize)]
struct Estimate {
    prices: Prices,
    workload: Workload,
    per_second: Rates,
    stored: Stored,
    per_month: Bill,
    trade_off: Vec<Trade>,
}

/// What a PUT rate trades.
#[derive(Debug, Serialize)]
struct Trade {
    puts_per_second: f64,
    chosen: bool,
    segments_per_second: f64,
    segment_bytes: f64,
    wait_ms: f64,
    longest_wait_ms: f64,
    put: f64,
    get: f64,
    total: f64,
}

impl Estimate {
    fn of(workload: Workload, prices: Prices) -> Self {
        let chosen = workload.deployment.puts_per_second;
        let mut dials = DIALS.to_vec();
        if !dials.contains(&chosen) {
            dials.push(chosen);
            dials.sort_by(f64::total_cmp);
        }
        let trade = |dial: f64| {
            let other = workload.with_puts(dial);
            let (rates, bill) = (other.rates(), other.bill(&prices));
            Trade {
                puts_per_second: dial,
                chosen: dial == chosen,
                segments_per_second: rates.segments,
                segment_bytes: rates.segment_bytes,
                wait_ms: rates.wait_ms,
                longest_wait_ms: rates.longest_wait_ms,
                put: bill.put,
                get: bill.get,
                total: bill.total,
            }
        };
        let trade_off = dials.into_iter().map(trade).collect();
        Self { per_second: workload.rates(), stored: workload.kept(), per_month: workload.bill(&prices), trade_off, prices, workload }
    }

    fn lines(&self) -> Vec<String> {
        let Self { prices, workload, per_second, stored, per_month, .. } = self;
        let month = |per_second: f64| millions(per_second * workload.active_seconds());
        let deployment = &workload.deployment;
        let part = |name: &str, what: String, cost: f64| vec![name.to_owned(), what, money(cost)];
        let rows = [
            part("PUT", format!("{} segments, {} compacted", month(per_second.segments), month(per_second.compacted)), per_month.put),
            part(
                "GET",
                format!("{} by compaction, {} by readers", month(per_second.compaction_gets), month(per_second.reader_gets)),
                per_month.get,
            ),
            part(
                "storage",
                format!(
                    "{:.1} GiB for {:.1} days, {:.1} GiB deleted and kept for {:.1} days",
                    stored.live_gib,
                    days(workload.retention_seconds),
                    stored.deleted_gib,
                    days(workload.noncurrent_seconds)
                ),
                per_month.storage,
            ),
            part("Postgres", format!("{} units", deployment.postgres_units), per_month.postgres),
            part(
                "compute",
                format!(
                    "{} gateways, {} metadata, {} compactors",
                    deployment.gateways, deployment.metadata_replicas, deployment.compactors
                ),
                per_month.compute,
            ),
            part("transfer", format!("{:.0} % between zones", workload.cross_zone * 100.0), per_month.transfer),
            part("total", String::new(), per_month.total),
        ];
        let currency = &prices.currency;
        let mut lines = vec![format!("Prices: {} ({currency}, {})", prices.name, prices.as_of), String::new()];
        lines.extend(table(&["PART", "A MONTH (730 h)", currency], &rows));
        lines.push(String::new());
        lines.push("What `segment.puts_per_second` trades; a record also waits for its PUT and its commit:".to_owned());
        let rows: Vec<Vec<String>> = self.trade_off.iter().map(Trade::row).collect();
        lines.extend(table(&["PUTS/S", "ALL PUTS/S", "SEGMENT", "WAIT (MEAN)", "AT MOST", "PUT", "GET", "TOTAL"], &rows));
        lines
    }
}

impl Trade {
    fn row(&self) -> Vec<String> {
        vec![
            format!("{}{}", self.puts_per_second, if self.chosen { " *" } else { "" }),
            format!("{:.1}", self.segments_per_second),
            format!("{:.1} KiB", self.segment_bytes / 1_024.0),
            format!("{:.0} ms", self.wait_ms),
            format!("{:.0} ms", self.longest_wait_ms),
            money(self.put),
            money(self.get),
            money(self.total),
        ]
    }
}

fn money(amount: f64) -> String {
    format!("{amount:.2}")
}

fn millions(count: f64) -> String {
    format!("{:.2} M", count / 1e6)
}

/// Runs `lakefall cost`.
pub(crate) fn cost(args: &CostArgs, output: &mut Output) -> Result<(), Failure> {
    let CostCommand::Estimate(args) = &args.command;
    let estimate = Estimate::of(args.workload()?, Prices::load(args.prices.as_deref())?);
    output.value_or_lines(&estimate, || estimate.lines())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::args::{Cli, Command};

    fn args(flags: &str) -> Result<EstimateArgs, String> {
        let line = "lakefall cost estimate --records-per-second 1000".split(' ').chain(flags.split_whitespace());
        match Cli::try_parse_from(line).map_err(|error| error.to_string())?.command {
            Command::Cost(CostArgs { command: CostCommand::Estimate(args) }) => Ok(*args),
            other => Err(format!("{other:?}")),
        }
    }

    fn estimate(flags: &str) -> Estimate {
        Estimate::of(args(flags).unwrap().workload().unwrap(), Prices::load(None).unwrap())
    }

    #[test]
    fn a_latency_becomes_the_put_rate_that_keeps_it() {
        assert_eq!(args("--latency 50ms").unwrap().workload().unwrap().deployment.puts_per_second, 10.0);
        assert_eq!(args("--latency 500ms").unwrap().workload().unwrap().deployment.puts_per_second, 1.0);
        assert!(args("--latency 2m").unwrap().workload().unwrap_err().to_string().contains("--latency"));
        assert!(args("--latency 0s").is_err() || args("--latency 0s").unwrap().workload().is_err());
    }

    #[test]
    fn what_makes_no_sense_is_refused_and_says_what_would() {
        for flags in [
            "--compression 0.5",
            "--active 2",
            "--cold=-1",
            "--gateways 0",
            "--record-bytes many",
            "--puts-per-second 0",
            "--fan-out nan",
            "--retention ever",
            "--latency 1s --puts-per-second 3",
        ] {
            let refused = args(flags).unwrap_err();
            assert!(refused.contains(flags.split([' ', '=']).next().unwrap()), "{refused}");
        }
    }

    #[test]
    fn the_chosen_rate_stands_in_the_table_of_rates_once() {
        assert_eq!(estimate("").trade_off.len(), DIALS.len());
        let other = estimate("--puts-per-second 3");
        let rates: Vec<f64> = other.trade_off.iter().map(|trade| trade.puts_per_second).collect();
        assert_eq!(rates, [0.5, 1.0, 2.0, 3.0, 4.0, 10.0, 20.0, 50.0, 100.0]);
        let chosen: Vec<&Trade> = other.trade_off.iter().filter(|trade| trade.chosen).collect();
        assert_eq!(chosen.len(), 1);
        assert_eq!(chosen[0].total, other.per_month.total);
    }

    #[test]
    fn more_puts_cost_more_and_wait_less() {
        for pair in estimate("").trade_off.windows(2) {
            assert!(pair[0].put < pair[1].put && pair[0].wait_ms > pair[1].wait_ms, "{pair:?}");
        }
    }

    #[test]
    fn people_see_every_part_and_the_rate_they_chose() {
        let text = estimate("--puts-per-second 4").lines().join("\n");
        for part in ["PUT", "GET", "storage", "Postgres", "compute", "transfer", "total", "4 *", "S3 Standard", "USD"] {
            assert!(text.contains(part), "{part} is not in {text}");
        }
    }
}
