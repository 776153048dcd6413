//! The flags of `lakefall bench`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};

use super::consume::ReadFormat;
use super::payload::{Format, Payload};

/// How long a bench runs that was told neither records nor a duration.
pub(super) const DEFAULT_DURATION: Duration = Duration::from_secs(10);

/// Measures a Lakefall over HTTP.
#[derive(Debug, Args)]
pub(crate) struct BenchArgs {
    #[command(subcommand)]
    pub(super) command: BenchCommand,
}

#[derive(Debug, Subcommand)]
pub(super) enum BenchCommand {
    /// Sends batches as fast as they are acknowledged, or at a rate.
    Produce(ProduceArgs),
    /// Reads a topic, every consumer all of it.
    Consume(ConsumeArgs),
    /// Sends single records at a rate and tells how long each takes, from the moment it was due.
    Latency(LatencyArgs),
    /// Produces, and consumes what is produced, at once.
    Mixed(MixedArgs),
    /// Sends to a queue, receives and acknowledges, at once.
    Queue(QueueArgs),
    /// Commits to metadata replicas through their RPC, without gateway and bucket. Spoils the cluster: its segments exist
    /// nowhere.
    Metadata(MetadataArgs),
}

/// How much is sent over what.
#[derive(Clone, Debug, Args)]
pub(super) struct LoadArgs {
    /// The topic.
    pub(super) topic: String,
    /// Create the topic if it is not there.
    #[arg(long)]
    pub(super) create: bool,
    /// Connections, all kept alive.
    #[arg(long, default_value_t = 16, value_parser = positive)]
    pub(super) connections: usize,
    /// HTTP/2 without TLS (prior knowledge).
    #[arg(long)]
    pub(super) http2: bool,
    /// Requests at once on each HTTP/2 connection.
    #[arg(long, default_value_t = 16, value_parser = positive)]
    streams: usize,
    /// Stop after this many records (rounded up to whole batches).
    #[arg(long)]
    pub(super) records: Option<u64>,
    /// Stop after this time, like 30s. Without it and --records: 10s.
    #[arg(long, value_parser = duration)]
    pub(super) duration: Option<Duration>,
    /// Records per second by a fixed schedule; latencies count from the moment a request was due. Default: as fast as possible.
    #[arg(long, value_parser = rate)]
    pub(super) rate: Option<f64>,
    /// Threads of the bench. More than one only where the bench has cores of its own.
    #[arg(long, default_value_t = 1, value_parser = positive)]
    pub(super) threads: usize,
    /// Tell the CPU seconds and peak memory of these processes too, all together; with commas between them.
    #[arg(long, value_delimiter = ',')]
    pub(super) server_pid: Vec<u32>,
}

impl LoadArgs {
    /// Users of each connection.
    pub(super) fn streams(&self) -> usize {
        if self.http2 { self.streams } else { 1 }
    }
}

#[derive(Clone, Debug, Args)]
pub(super) struct ProduceArgs {
    #[command(flatten)]
    pub(super) load: LoadArgs,
    /// How records are written.
    #[arg(long, value_enum, default_value_t = Format::Ndjson)]
    pub(super) format: Format,
    /// What values are made of.
    #[arg(long, value_enum, default_value_t = Payload::Random)]
    pub(super) payload: Payload,
    /// Lines to send as values, with --payload flights; may be gzip.
    #[arg(long)]
    pub(super) file: Option<PathBuf>,
    /// Bytes of each value.
    #[arg(long, default_value_t = 1024, value_parser = positive)]
    pub(super) record_bytes: usize,
    /// Records of each request.
    #[arg(long, default_value_t = 1000, value_parser = positive)]
    pub(super) batch: usize,
    /// Partitions of a topic that is created.
    #[arg(long, default_value_t = 1)]
    pub(super) partitions: u32,
    /// How much the server tells of what it stored.
    #[arg(long, value_enum, default_value_t = Acks::Ranges)]
    pub(super) acks: Acks,
}

/// How much an acknowledgement tells; all mean stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Acks {
    /// The offsets, as ranges.
    Ranges,
    /// The count alone.
    None,
    /// Each record's offset.
    Records,
}

impl Acks {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Ranges => "ranges",
            Self::None => "none",
            Self::Records => "records",
        }
    }
}

/// How pages are read.
#[derive(Clone, Debug, Args)]
pub(super) struct ReadArgs {
    /// How pages are asked for.
    #[arg(long, value_enum, default_value_t = ReadFormat::Arrow)]
    pub(super) read_format: ReadFormat,
    /// Consumers, each reading everything.
    #[arg(long, default_value_t = 1, value_parser = positive)]
    pub(super) consumers: usize,
    /// earliest, latest or an offset.
    #[arg(long, default_value = "earliest")]
    pub(super) from: String,
    /// Most records of a request. Default: 10,000 for json, 1,000,000 for arrow and ndjson, which are streamed.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    pub(super) page_records: Option<u64>,
    /// Most bytes of a page.
    #[arg(long, default_value_t = 16 << 20)]
    pub(super) page_bytes: u64,
}

#[derive(Clone, Debug, Args)]
pub(super) struct ConsumeArgs {
    /// The topic.
    pub(super) topic: String,
    #[command(flatten)]
    pub(super) read: ReadArgs,
    /// Stop after this many records of all consumers together. Default: at the end of the log.
    #[arg(long)]
    pub(super) records: Option<u64>,
    /// Follow the end of the log for this time.
    #[arg(long, value_parser = duration)]
    pub(super) duration: Option<Duration>,
    /// HTTP/2 without TLS (prior knowledge).
    #[arg(long)]
    pub(super) http2: bool,
    /// Threads of the bench; at most one for each consumer.
    #[arg(long, default_value_t = 1, value_parser = positive)]
    pub(super) threads: usize,
    /// Tell the CPU seconds and peak memory of these processes too, all together; with commas between them.
    #[arg(long, value_delimiter = ',')]
    pub(super) server_pid: Vec<u32>,
}

#[derive(Clone, Debug, Args)]
pub(super) struct LatencyArgs {
    #[command(flatten)]
    pub(super) load: LoadArgs,
    /// Bytes of each value.
    #[arg(long, default_value_t = 1024, value_parser = positive)]
    pub(super) record_bytes: usize,
    /// Partitions of a topic that is created.
    #[arg(long, default_value_t = 1)]
    pub(super) partitions: u32,
    /// Measure the way to a live reader too.
    #[arg(long)]
    pub(super) end_to_end: bool,
}

impl LatencyArgs {
    /// The load that is behind it: single JSON records, at 100/s unless told otherwise, on one thread.
    pub(super) fn as_produce(&self) -> ProduceArgs {
        let load = LoadArgs { rate: self.load.rate.or(Some(100.0)), threads: 1, ..self.load.clone() };
        ProduceArgs {
            load,
            format: Format::Json,
            payload: Payload::Random,
            file: None,
            record_bytes: self.record_bytes,
            batch: 1,
            partitions: self.partitions,
            acks: Acks::Ranges,
        }
    }
}

#[derive(Clone, Debug, Args)]
pub(super) struct MixedArgs {
    #[command(flatten)]
    pub(super) produce: ProduceArgs,
    #[command(flatten)]
    pub(super) read: ReadArgs,
}

#[derive(Clone, Debug, Args)]
pub(super) struct QueueArgs {
    /// The queue.
    pub(super) queue: String,
    /// Create the queue, with its own topic, if it is not there.
    #[arg(long)]
    pub(super) create: bool,
    /// Messages of each send, and at most of each receive. With 1, latencies of receiving count from the moment a message
    /// was due to be sent.
    #[arg(long, default_value_t = 100, value_parser = positive)]
    pub(super) batch: usize,
    /// Messages of each receive, at most, if not as many as of a send.
    #[arg(long, value_parser = positive)]
    receive: Option<usize>,
    /// Connections that send.
    #[arg(long, default_value_t = 8, value_parser = positive)]
    pub(super) producers: usize,
    /// Connections that receive and acknowledge.
    #[arg(long, default_value_t = 8, value_parser = positive)]
    pub(super) consumers: usize,
    /// Bytes of each value.
    #[arg(long, default_value_t = 1024, value_parser = positive)]
    pub(super) record_bytes: usize,
    /// Stop sending after this many messages.
    #[arg(long)]
    pub(super) messages: Option<u64>,
    /// Stop sending after this time, like 30s. Without it and --messages: 10s.
    #[arg(long, value_parser = duration)]
    pub(super) duration: Option<Duration>,
    /// Messages per second by a fixed schedule. Default: as fast as possible.
    #[arg(long, value_parser = rate)]
    pub(super) rate: Option<f64>,
    /// Sent with this delay; latencies count from the moment it is over. With --batch 1.
    #[arg(long, value_parser = duration)]
    pub(super) delay: Option<Duration>,
    /// First leases so many messages for 12 h, which stay in flight.
    #[arg(long, default_value_t = 0)]
    pub(super) in_flight: u64,
    /// First sends so many messages that are due in 12 h.
    #[arg(long, default_value_t = 0)]
    pub(super) delayed: u64,
    /// Tell the CPU seconds and peak memory of these processes too, all together; with commas between them.
    #[arg(long, value_delimiter = ',')]
    pub(super) server_pid: Vec<u32>,
}

impl QueueArgs {
    pub(super) fn receive_max(&self) -> usize {
        self.receive.unwrap_or(self.batch)
    }
}

#[derive(Clone, Debug, Args)]
pub(super) struct MetadataArgs {
    /// Metadata replicas, with commas between them.
    #[arg(long, value_delimiter = ',', default_value = "http://127.0.0.1:8082")]
    pub(super) endpoints: Vec<String>,
    /// The token that replicas ask for.
    #[arg(long, env = "LAKEFALL_METADATA__TOKEN", hide_env_values = true)]
    pub(super) token: Option<String>,
    /// Partitions that are appended to, all in one shard.
    #[arg(long, default_value_t = 10_000, value_parser = positive)]
    pub(super) partitions: usize,
    /// Extents of each commit, each of another partition.
    #[arg(long, default_value_t = 64, value_parser = positive)]
    pub(super) extents: usize,
    /// Commits under way at once.
    #[arg(long, default_value_t = 32, value_parser = positive)]
    pub(super) in_flight: usize,
    /// How long.
    #[arg(long, value_parser = duration, default_value = "10s")]
    pub(super) duration: Duration,
    /// Tell the CPU seconds and peak memory of these processes too, all together; with commas between them.
    #[arg(long, value_delimiter = ',')]
    pub(super) server_pid: Vec<u32>,
}

fn duration(text: &str) -> Result<Duration, String> {
    lakefall_queue::time::parse_duration(text).map_err(|error| error.to_string())
}

fn positive(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|number| *number > 0).ok_or_else(|| "use a whole number above 0".to_owned())
}

fn rate(text: &str) -> Result<f64, String> {
    text.parse().ok().filter(|rate: &f64| *rate >= 0.01 && *rate <= 1e7).ok_or_else(|| "use a number from 0.01 to 10000000".to_owned())
}
