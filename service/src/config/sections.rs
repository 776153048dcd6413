//! The sections of the configuration: each setting with what it trades, its default and its bounds. Data only; bounds are
//! enforced in `bounds`.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::Secret;
use crate::secret::serialize_url;

/// What `segment.puts_per_second` is on a store that bills for requests. At 0.005 USD per 1,000 PUTs this is at most
/// 4.32 USD a day for each gateway under steady load, and nothing when idle.
pub(super) const PUTS_PER_SECOND_BILLED: f64 = 10.0;

/// Where objects are kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StoreConfig {
    /// `file:///folder`, `memory:///` (lost at exit), `s3://bucket/prefix`, `gs://bucket/prefix` or `az://container/prefix`.
    /// Moving it hides everything stored before.
    /// Default: the folder `objects` of `data_dir`.
    #[serde(serialize_with = "serialize_url")]
    pub url: Option<String>,
    /// Another S3 endpoint than Amazon's, like `http://127.0.0.1:9000`. Default none.
    pub endpoint: Option<String>,
    /// The bucket's region. Default none: the environment's or the store's own.
    pub region: Option<String>,
    /// Allows an endpoint without TLS: records and signatures travel in clear. Default false.
    pub allow_http: bool,
    /// `endpoint/bucket/key` instead of `bucket.endpoint/key`, for stores that know no virtual hosts. Default false.
    pub path_style: bool,
    /// The access key. Default none: the environment's or the machine's role.
    pub access_key_id: Option<String>,
    /// The secret that belongs to the access key. Default none.
    pub secret_access_key: Option<Secret<String>>,
    /// Encryption that each PUT asks an S3 for: `AES256`, or the id of a key of the key management service. Default none:
    /// the bucket's own.
    pub encryption: Option<String>,
    /// Sends a SHA-256 with each object of an S3, which refuses an upload that was damaged on the way. Default true.
    pub checksum: bool,
    /// Longest single request to a remote store. Shorter gives up sooner on a stalled connection; too short never finishes a
    /// large object on a slow line. Default 30,000 ms; 100 to 600,000.
    pub request_timeout_ms: u64,
    /// Longest wait for a connection to a remote store. Default 5,000 ms; 100 to 60,000.
    pub connect_timeout_ms: u64,
    /// Repeated requests that a quiet time saves up: what a store that answers nothing but errors gets at most beyond what was
    /// asked for, and a tenth under steady failures. Default 20; 0 to 10,000.
    pub retry_budget: u32,
    /// Reads that may be asked a second time because the first answer is late, in percent of all: cuts the slowest reads for
    /// that many more requests. Default 5; 0 to 50. Local stores never do.
    pub hedge_percent: u8,
}

impl Default for StoreConfig {
    fn default() -> Self {
        Self {
            url: None,
            endpoint: None,
            region: None,
            allow_http: false,
            path_style: false,
            access_key_id: None,
            secret_access_key: None,
            encryption: None,
            checksum: true,
            request_timeout_ms: 30_000,
            connect_timeout_ms: 5_000,
            retry_budget: 20,
            hedge_percent: 5,
        }
    }
}

/// How records become objects.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SegmentConfig {
    /// Size at which the open segment closes, whatever the PUT rate. Larger objects are cheaper and need more memory.
    /// Default 8 MiB; 1 KiB to 256 MiB.
    pub target_bytes: usize,
    /// PUT requests per second for each gateway: the bill's ceiling. A steady trickle waits half an interval on average,
    /// so 10 costs 50 ms and at most 4.32 USD a day at 0.005 USD per 1,000 PUTs; 1 costs 500 ms and 0.43 USD.
    /// Default none: 10 on `s3`, unlimited on `file` and `memory`. 0.01 to 10,000.
    pub puts_per_second: Option<f64>,
    /// PUT requests that a quiet time saves up, so that the first records after it leave at once. Default 2; 1 to 100.
    pub put_burst: u32,
    /// Uncompressed size at which a record batch closes. Larger compress better; a reader of one record decodes all of it.
    /// Default 1 MiB; 1 KiB to 16 MiB.
    pub batch_bytes: usize,
}

impl Default for SegmentConfig {
    fn default() -> Self {
        Self { target_bytes: 8 << 20, puts_per_second: None, put_burst: 2, batch_bytes: 1 << 20 }
    }
}

/// How objects are uploaded.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct UploadsConfig {
    /// Most uploads at the same time; fewer are used while the store is slow. Each holds a segment in memory.
    /// Default 16; 1 to 256.
    pub max: usize,
    /// Uploads below which a segment leaves without being full. More lower the latency of small loads and make smaller
    /// objects. Default 2; 1 to `uploads.max`.
    pub eager: usize,
}

impl Default for UploadsConfig {
    fn default() -> Self {
        Self { max: 16, eager: 2 }
    }
}

/// How much is accepted before it is stored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct IngestConfig {
    /// Bytes of request bodies and unsent segments held at once; past it requests wait, then get 503. It is the largest
    /// part of the process's memory under load. Default 64 MiB; 1 MiB to 16 GiB, at least `limits.batch_bytes`.
    pub buffer_bytes: usize,
    /// How long a request waits for room before 503. Longer hides bursts and lets clients pile up.
    /// Default 1,000 ms; 0 to 60,000.
    pub admission_wait_ms: u64,
}

impl Default for IngestConfig {
    fn default() -> Self {
        Self { buffer_bytes: 64 << 20, admission_wait_ms: 1_000 }
    }
}

/// How much readers hold at once.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ReadConfig {
    /// Bytes of answers held at once, for all readers together; past it readers wait their turn and get smaller pages. A single
    /// answer takes a quarter at most. Default 128 MiB; 16 MiB to 64 GiB.
    pub buffer_bytes: usize,
}

impl Default for ReadConfig {
    fn default() -> Self {
        Self { buffer_bytes: 128 << 20 }
    }
}

/// What statements of SQL may use. Memory of all together: `sql.max_concurrent` times `sql.memory_bytes`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SqlConfig {
    /// Statements answered at once; more wait half a second, then get 503. Default 4; 1 to 1,000.
    pub max_concurrent: usize,
    /// Memory of one statement, for what it groups, sorts, joins and reads ahead; past it the statement is refused. Nothing is
    /// ever put on disk. Default 256 MiB; 16 MiB to 64 GiB.
    pub memory_bytes: usize,
    /// Longest time of a statement, until its last row is taken. Must end before what it reads is deleted: keep it below
    /// `collector.grace_seconds`. Default 60,000 ms; 100 to 3,600,000.
    pub timeout_ms: u64,
    /// Most rows of an answer. Default 10,000,000; 1 to 1,000,000,000,000.
    pub max_rows: u64,
    /// Threads that all statements share, beside those that serve everything else. More make queries faster and leave less to
    /// producers and readers. Default 2; 1 to 256.
    pub threads: usize,
}

impl Default for SqlConfig {
    fn default() -> Self {
        Self { max_concurrent: 4, memory_bytes: 256 << 20, timeout_ms: 60_000, max_rows: 10_000_000, threads: 2 }
    }
}

/// What is kept near for readers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CacheConfig {
    /// Memory for the tail, filled by the writers themselves. Tails that fall out of it are read from the store.
    /// Default 64 MiB; 1 MiB to 256 GiB, at least `cache.block_bytes`.
    pub memory_bytes: usize,
    /// Memory for readers of old records, apart, so that a replay evicts nobody's tail. Default 16 MiB; 1 MiB to 256 GiB,
    /// at least `cache.block_bytes`.
    pub cold_bytes: usize,
    /// Unit in which objects are fetched. Larger mean fewer requests and more bytes read in vain.
    /// Default 1 MiB; 64 KiB to 16 MiB.
    pub block_bytes: usize,
    /// Folder of the disk tier; it may be lost at any time. Default none: no disk tier.
    pub disk_path: Option<PathBuf>,
    /// Size of the disk tier. Default 10 GiB; 64 MiB to 16 TiB.
    pub disk_bytes: u64,
}

impl Default for CacheConfig {
    fn default() -> Self {
        Self { memory_bytes: 64 << 20, cold_bytes: 16 << 20, block_bytes: 1 << 20, disk_path: None, disk_bytes: 10 << 30 }
    }
}

/// How what nobody needs any more is let go of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CollectorConfig {
    /// How long an object outlives its last record. Longer than any reader goes on with what it located (a minute); the bucket
    /// holds that much more. Default 600 s; 1 to 2,592,000.
    pub grace_seconds: u64,
    /// How old an object must be before it is taken for an orphan: what a gateway stored and could not commit. Shorter frees
    /// the room sooner and refuses gateways that were held up for as long. Default 3,600 s; 1 to 2,592,000.
    pub orphan_grace_seconds: u64,
    /// Shortest time between two searches for orphans. Each lists the bucket: a request for each 1,000 objects, at least 256,
    /// at 0.005 USD per 1,000; four a day cost 0.005 USD for a small bucket, 0.20 USD for ten million objects. While nothing is
    /// appended none is made.
    /// Default 21,600 s; 10 to 2,592,000.
    pub orphan_interval_seconds: u64,
    /// Shortest time between two rounds while there is something to do; while there is not, none run. Shorter keeps closer
    /// to `retention.bytes` and asks the metadata service more often. Default 10 s; 1 to 86,400.
    pub interval_seconds: u64,
}

/// How segments become Parquet files: part of `lakefall dev` and `lakefall compactor` ([Parquet](parquet.md)).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CompactorConfig {
    /// Whether this process compacts. Off, only the collector works; then others must compact, or segments pile up. Default true.
    pub enabled: bool,
    /// Partitions worked on at once, each by a thread of low priority, which takes up to about 200 MiB. Default 1; 1 to 64.
    pub threads: usize,
    /// Most bytes a second that compaction reads from and writes to the store. Lower leaves more of the network to readers and
    /// writers; below what is appended, the backlog grows. Default none: no bound; 65,536 to 1,099,511,627,776.
    pub max_bytes_per_second: Option<u64>,
    /// How long segments wait to be merged into one for all partitions. Shorter spares readers requests sooner and costs a PUT
    /// and a GET of each segment more often. Default 15 s; 1 to 3,600.
    pub merge_interval_seconds: u64,
    /// Compressed bytes of a partition that are rolled into a Parquet file before the topic's `parquet.max_age`, and the most that
    /// one file is made of. Larger makes larger files and takes more memory. Default 64 MiB; 1 MiB to 256 MiB.
    pub roll_bytes: u64,
    /// How long a topic with `cleanup: compact` keeps the mark of a deleted key, so that readers learn of the deletion. Default
    /// 86,400 s; 0 to 31,536,000.
    pub delete_retention_seconds: u64,
}

impl Default for CompactorConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            threads: 1,
            max_bytes_per_second: None,
            merge_interval_seconds: 15,
            roll_bytes: 64 << 20,
            delete_retention_seconds: 86_400,
        }
    }
}

impl Default for CollectorConfig {
    fn default() -> Self {
        Self { grace_seconds: 600, orphan_grace_seconds: 3_600, orphan_interval_seconds: 21_600, interval_seconds: 10 }
    }
}

/// What receipts of leased messages are sealed with, so that nobody settles what was not given to them. All gateways of a cluster
/// need the same key: one settles what another leased. Without a setting, `lakefall dev` makes a key in `receipts.key` of its data
/// folder, and a gateway derives one from `metadata.token`, which it shares with the others; a gateway that has neither refuses to
/// start.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ReceiptsConfig {
    /// The key, 32 bytes of text or more, as `openssl rand -hex 32` makes one. Another one makes the receipts given out so far
    /// worthless, unless it stands in `receipts.previous`. Default none: `lakefall dev` makes one in its data folder, a gateway
    /// derives one from the token that it shows the metadata replicas.
    pub key: Option<Secret<String>>,
    /// A file that holds the key. Default none.
    pub key_file: Option<PathBuf>,
    /// Keys used before, which still open receipts: to change the key, put the old one here on all gateways, then the new one into
    /// `receipts.key`, and drop the old one when the longest lease is over. Default none.
    pub previous: Vec<Secret<String>>,
}

/// How what topics use is counted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct UsageConfig {
    /// How long what topics use is gathered before it is reported to the metadata service: a small journal entry for each process
    /// and shard, while anything is used. It is also what a process that dies may leave uncounted, and how late usage is told.
    /// Default 60,000 ms; 100 to 3,600,000.
    pub report_interval_ms: u64,
}

impl Default for UsageConfig {
    fn default() -> Self {
        Self { report_interval_ms: 60_000 }
    }
}

/// Timeouts and caps of connections. Every one bounds what a slow or hostile client can hold.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HttpConfig {
    /// From the first byte of a request to the end of its headers. Default 10,000 ms; 100 to 300,000.
    pub header_timeout_ms: u64,
    /// Longest silence inside a request body. Default 30,000 ms; 100 to 600,000.
    pub body_timeout_ms: u64,
    /// Longest time that a client takes nothing of an answer. Default 30,000 ms; 100 to 600,000.
    pub write_timeout_ms: u64,
    /// Longest pause between two requests of a connection. Keep it above a load balancer's own. Default 75,000 ms;
    /// 1,000 to 3,600,000.
    pub idle_timeout_ms: u64,
    /// Connections at once; more are refused. Each idle one costs some 10 KiB. Default 20,000; 1 to 1,000,000.
    pub max_connections: usize,
    /// How long a stop waits for requests in flight. Keep it below the orchestrator's patience.
    /// Default 25,000 ms; 0 to 600,000.
    pub drain_ms: u64,
    /// How long a stop leaves connections open on which nothing is under way: what is sent on them meanwhile is answered, and the
    /// answer closes the connection. Shorter stops sooner, and a client whose request meets the closing connection never learns what
    /// became of it. No longer than half of `http.drain_ms`, so that what comes last has the other half to be answered.
    /// Default 3,000 ms, in dev 0; 0 to 60,000.
    pub idle_drain_ms: u64,
    /// How old a connection becomes before an answer closes it, or up to a tenth less: so clients that keep theirs come to gateways
    /// that were added. Shorter spreads them sooner and opens more connections. Default 300,000 ms; 1,000 to 86,400,000.
    pub connection_age_ms: u64,
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self {
            header_timeout_ms: 10_000,
            body_timeout_ms: 30_000,
            write_timeout_ms: 30_000,
            idle_timeout_ms: 75_000,
            max_connections: 20_000,
            drain_ms: 25_000,
            idle_drain_ms: 3_000,
            connection_age_ms: 300_000,
        }
    }
}

/// What is logged, and how.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LogConfig {
    /// `error`, `warn`, `info`, `debug`, `trace`, or directives like `info,lakefall_metadata=debug`. Default info.
    pub level: String,
    /// `text` for people, `json` for collectors; both go to standard error. Default text.
    pub format: LogFormat,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { level: "info".to_owned(), format: LogFormat::Text }
    }
}

/// How a log line is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}
