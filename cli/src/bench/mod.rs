//! `lakefall bench`: how fast a Lakefall is, over HTTP, from a process of its own. It must never share anything with the
//! server but the network, and never count what was not acknowledged.

mod args;
mod consume;
mod metadata;
mod pace;
mod payload;
mod process;
mod produce;
mod queue;
mod report;
mod run;
mod stats;
mod tail;
mod target;
mod wire;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

pub(crate) use args::BenchArgs;
use args::{Acks, BenchCommand, ConsumeArgs, LatencyArgs, LoadArgs, MixedArgs, ProduceArgs, QueueArgs, ReadArgs};
use consume::{Place, Plan};
use hyper::body::Incoming;
use pace::Pace;
use produce::Load;
use report::{Report, Run};
use run::{Outcome, run};
use serde_json::Value;
use stats::Stats;
use tail::{Progress, Stamp};
pub(crate) use target::Fault as BenchFault;
use target::{Connection, Target};

use crate::commands::{Client, Output};
use crate::failure::Failure;

/// Runs a bench and prints its report. Fails when no request was answered.
pub(crate) fn bench(args: &BenchArgs, client: &Client, output: &mut Output) -> Result<(), Failure> {
    let report = match &args.command {
        BenchCommand::Produce(args) => bench_produce(args, client)?,
        BenchCommand::Consume(args) => bench_consume(args, client)?,
        BenchCommand::Latency(args) => bench_latency(args, client)?,
        BenchCommand::Mixed(args) => bench_mixed(args, client)?,
        BenchCommand::Queue(args) => bench_queue(args, client)?,
        BenchCommand::Metadata(args) => metadata::bench_metadata(args)?,
    };
    output.value_or_lines(&report, || report.lines())?;
    match report.runs.iter().find(|run| run.requests == 0) {
        Some(run) if report.failed() > 0 => Err(Failure::Failed(format!("{}: no request was answered", run.name))),
        _ => Ok(()),
    }
}

fn bench_produce(args: &ProduceArgs, client: &Client) -> Result<Report, Failure> {
    topic(client, &args.load, args.partitions)?;
    let target = Target::new(client, args.load.http2)?;
    let load = load(args, &target)?;
    let outcome = run(
        args.load.threads,
        &load.pace,
        &args.load.server_pid,
        |index| produce::open(&target, share(args.load.connections, args.load.threads, index), args.load.streams()),
        |connections| {
            let load = Arc::clone(&load);
            async move { produce::work(&load, connections).await }
        },
    )?;
    single("produce", outcome)
}

fn bench_consume(args: &ConsumeArgs, client: &Client) -> Result<Report, Failure> {
    let places = args.read.places(&describe(client, &args.topic)?)?;
    let target = Target::new(client, args.http2)?;
    let pace = Arc::new(Pace::new(None, None, None, 0));
    let plan = Arc::new(Plan {
        records: args.records,
        duration: args.duration,
        follow: args.duration.is_some(),
        ..plan(&args.read, &args.topic, &target, &pace)
    });
    let threads = args.threads.min(args.read.consumers).max(1);
    let outcome = run(
        threads,
        &pace,
        &args.server_pid,
        |index| consume::open(&target, places.repeat(share(args.read.consumers, threads, index))),
        |readers| {
            let plan = Arc::clone(&plan);
            async move { consume::work(&plan, readers).await }
        },
    )?;
    single("consume", outcome)
}

fn bench_latency(args: &LatencyArgs, client: &Client) -> Result<Report, Failure> {
    topic(client, &args.load, args.partitions)?;
    let target = Target::new(client, args.load.http2)?;
    let produce = args.as_produce();
    let mut load = load_parts(&produce, &target)?;
    if args.end_to_end {
        load.stamp = Some(Stamp::new(args.record_bytes));
    }
    let (load, progress) = (Arc::new(load), Arc::new(Progress::default()));
    let threads = 1 + usize::from(args.end_to_end);
    let outcome = run(
        threads,
        &load.pace,
        &args.load.server_pid,
        |index| open_either(index, &target, &args.load, &produce.load.topic),
        |opened| work_either(opened, &load, &progress),
    )?;
    report(["latency", "end to end"], outcome)
}

fn bench_mixed(args: &MixedArgs, client: &Client) -> Result<Report, Failure> {
    let produced = &args.produce;
    let described = topic(client, &produced.load, produced.partitions)?;
    let places = ReadArgs { from: "latest".to_owned(), ..args.read.clone() }.places(&described)?;
    let target = Target::new(client, produced.load.http2)?;
    let (load, progress) = (load(produced, &target)?, Arc::new(Progress::default()));
    let plan = Plan { follow: true, progress: Some(Arc::clone(&progress)), ..plan(&args.read, &produced.load.topic, &target, &load.pace) };
    // Each consumer reads everything: what all of them have to see is counted in the plan.
    let (plan, copies) = (Arc::new(plan), args.read.consumers as u64);
    let outcome = run(
        2,
        &load.pace,
        &produced.load.server_pid,
        |index| {
            let (target, places) = (Arc::clone(&target), places.repeat(args.read.consumers));
            async move {
                Ok(match index {
                    0 => Opened::Producers(produce::open(&target, produced.load.connections, produced.load.streams()).await?),
                    _ => Opened::Readers(consume::open(&target, places).await?),
                })
            }
        },
        |opened| {
            let (load, plan, progress) = (Arc::clone(&load), Arc::clone(&plan), Arc::clone(&progress));
            async move {
                match opened {
                    Opened::Producers(connections) => {
                        let stats = produce::work(&load, connections).await;
                        progress.finish(&stats, copies);
                        stats
                    }
                    Opened::Readers(readers) => consume::work(&plan, readers).await,
                    Opened::Tail(tail) => tail::work(*tail, &load.pace, &progress).await,
                }
            }
        },
    )?;
    report(["produce", "consume"], outcome)
}

fn bench_queue(args: &QueueArgs, client: &Client) -> Result<Report, Failure> {
    if args.delay.is_some() && args.batch != 1 {
        return Err(Failure::Usage("--delay goes with --batch 1".to_owned()));
    }
    queue::prepare(args, client)?;
    let target = Target::new(client, false)?;
    let (load, progress) = (Arc::new(queue::load(args, &target)?), Arc::new(Progress::default()));
    let consumption = Arc::new(queue::consumption(args, &target, &load, &progress)?);
    let outcome = run(
        2,
        &load.pace,
        &args.server_pid,
        |index| {
            let target = Arc::clone(&target);
            async move {
                let connections = if index == 0 { args.producers } else { args.consumers };
                Ok((index, queue::open(&target, connections).await?))
            }
        },
        |(index, connections)| {
            let (load, consumption, progress) = (Arc::clone(&load), Arc::clone(&consumption), Arc::clone(&progress));
            async move {
                if index == 0 {
                    let stats = produce::work(&load, connections).await;
                    progress.finish(&stats, 1);
                    stats
                } else {
                    queue::consume(&consumption, connections).await
                }
            }
        },
    )?;
    report(["send", "receive, ack"], outcome)
}

/// What a thread of a bench with two kinds of work has open.
enum Opened {
    Producers(Vec<Connection>),
    Readers(Vec<(Connection, Place)>),
    Tail(Box<Incoming>),
}

async fn open_either(index: usize, target: &Arc<Target>, load: &LoadArgs, topic: &str) -> Result<Opened, Failure> {
    Ok(match index {
        0 => Opened::Producers(produce::open(target, load.connections, load.streams()).await?),
        _ => Opened::Tail(Box::new(tail::open(target, topic).await?)),
    })
}

async fn work_either(opened: Opened, load: &Arc<Load>, progress: &Progress) -> Result<Stats, Failure> {
    match opened {
        Opened::Producers(connections) => {
            let stats = produce::work(load, connections).await;
            progress.finish(&stats, 1);
            stats
        }
        Opened::Tail(tail) => tail::work(*tail, &load.pace, progress).await,
        Opened::Readers(_) => Err(Failure::Defect("a latency bench opens no readers".into())),
    }
}

fn load(args: &ProduceArgs, target: &Arc<Target>) -> Result<Arc<Load>, Failure> {
    load_parts(args, target).map(Arc::new)
}

fn load_parts(args: &ProduceArgs, target: &Arc<Target>) -> Result<Load, Failure> {
    let bodies = payload::bodies(args.format, args.payload, args.file.as_deref(), args.record_bytes, args.batch)?;
    let requests = args.load.records.map(|records| records.div_ceil(args.batch as u64));
    // The rate is told in records; the schedule is one of requests.
    let rate = args.load.rate.map(|rate| rate / args.batch as f64);
    let duration = args.load.duration.or(if requests.is_none() { Some(args::DEFAULT_DURATION) } else { None });
    let workers = args.load.connections * args.load.streams();
    Ok(Load {
        prepared: Load::prepare(target, &args.load.topic, args.format, args.acks)?,
        bodies,
        batch: args.batch as u64,
        pace: Arc::new(Pace::new(requests, duration, rate, workers)),
        stamp: None,
    })
}

fn plan(read: &ReadArgs, topic: &str, target: &Arc<Target>, pace: &Arc<Pace>) -> Plan {
    Plan {
        target: Arc::clone(target),
        topic: topic.to_owned(),
        format: read.read_format,
        page_records: read.page_records.unwrap_or(read.read_format.page_records()),
        page_bytes: read.page_bytes,
        records: None,
        duration: None,
        follow: false,
        pace: Arc::clone(pace),
        taken: AtomicU64::new(0),
        progress: None,
    }
}

/// Creates the topic when asked to, and describes it: a bench of a topic that is not there fails before it begins.
fn topic(client: &Client, load: &LoadArgs, partitions: u32) -> Result<Value, Failure> {
    if load.create {
        let body = serde_json::json!({"name": load.topic, "partitions": partitions});
        client.blocking(client.create_if_absent("/v1/topics", &body))?;
    }
    describe(client, &load.topic)
}

fn describe(client: &Client, topic: &str) -> Result<Value, Failure> {
    client.blocking(client.get(&format!("/v1/topics/{}", crate::commands::segment(topic))))
}

impl ReadArgs {
    /// Where readers begin and where the log ends, by partition.
    fn places(&self, described: &Value) -> Result<Vec<Place>, Failure> {
        let status = described["partition_status"].as_array().ok_or_else(|| Failure::Defect("the topic has no partition_status".into()))?;
        let number = |partition: &Value, name: &str| partition[name].as_u64().unwrap_or_default();
        let place = |partition: &Value| {
            let (start, end) = (number(partition, "log_start"), number(partition, "end"));
            let from = match self.from.as_str() {
                "earliest" => start,
                "latest" => end,
                offset => offset.parse().map_err(|_| Failure::Usage(format!("--from {offset}: use earliest, latest or an offset")))?,
            };
            Ok(Place { partition: number(partition, "partition") as u32, from, end })
        };
        status.iter().map(place).collect()
    }
}

impl Progress {
    /// Tells readers how much there is to see, for all their copies.
    fn finish(&self, stats: &Result<Stats, Failure>, copies: u64) {
        self.acknowledged.store(stats.as_ref().map_or(0, |stats| stats.records * copies), Ordering::Release);
        self.done.store(true, Ordering::Release);
    }
}

/// A thread's share of `total` things.
fn share(total: usize, threads: usize, index: usize) -> usize {
    total / threads + usize::from(index < total % threads)
}

fn single(name: &'static str, outcome: Outcome) -> Result<Report, Failure> {
    let mut all = Stats::new()?;
    for stats in outcome.stats {
        all.merge(stats)?;
    }
    Ok(Report::new(vec![Run::new(name, outcome.seconds, all)], outcome.bench, outcome.server))
}

fn report(names: [&'static str; 2], outcome: Outcome) -> Result<Report, Failure> {
    let runs = names.into_iter().zip(outcome.stats).map(|(name, stats)| Run::new(name, outcome.seconds, stats)).collect();
    Ok(Report::new(runs, outcome.bench, outcome.server))
}
