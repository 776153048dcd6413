//! The command line: which commands there are and what all of them share.

use clap::{Args, Parser, Subcommand};

use crate::bench::BenchArgs;
use crate::commands::bucket::{BucketArgs, DoctorArgs};
use crate::commands::config::ConfigArgs;
use crate::commands::consume::ConsumeArgs;
use crate::commands::cost::CostArgs;
use crate::commands::cursor::CursorArgs;
use crate::commands::fsck::FsckArgs;
use crate::commands::produce::ProduceArgs;
use crate::commands::queue::QueueArgs;
use crate::commands::receive::ReceiveArgs;
use crate::commands::recover::RecoverArgs;
use crate::commands::replay::ReplayArgs;
use crate::commands::schema::SchemaArgs;
use crate::commands::send::SendArgs;
use crate::commands::sql::SqlArgs;
use crate::commands::topic::TopicArgs;
use crate::commands::usage::UsageArgs;
use crate::commands::work::WorkArgs;
use crate::roles::{CompactorArgs, DevArgs, GatewayArgs, MetadataArgs};

/// Lakefall: a serverless message queue over object storage.
#[derive(Debug, Parser)]
#[command(name = "lakefall", version, about, max_term_width = 110)]
pub(crate) struct Cli {
    /// What client commands have in common.
    #[command(flatten)]
    pub(crate) client: ClientArgs,
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Which server, which tenant, which output.
#[derive(Clone, Debug, Args)]
pub(crate) struct ClientArgs {
    /// The server that client commands talk to.
    #[arg(long, global = true, env = "LAKEFALL_URL", default_value = "http://127.0.0.1:8080", help_heading = "Client options")]
    pub(crate) url: String,
    /// The namespace; without it the server's default.
    #[arg(long, global = true, env = "LAKEFALL_NAMESPACE", help_heading = "Client options")]
    pub(crate) namespace: Option<String>,
    /// Print JSON, for scripts.
    #[arg(long, global = true, help_heading = "Client options")]
    pub(crate) json: bool,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run all roles in this process, with everything in a local folder.
    Dev(DevArgs),
    /// Run a gateway: the HTTP API, stateless, as many as the load asks for.
    Gateway(GatewayArgs),
    /// Run a metadata replica: offsets, cursors and ownership, over Postgres.
    Metadata(MetadataArgs),
    /// Run a compactor: segments into Parquet files, retention, and the collection of what nobody needs any more.
    Compactor(CompactorArgs),
    /// Create, list, describe and delete topics.
    Topic(TopicArgs),
    /// Register, list, show, check and delete schemas.
    Schema(SchemaArgs),
    /// Send records.
    Produce(ProduceArgs),
    /// Read records.
    Consume(ConsumeArgs),
    /// Named positions of consumers.
    Cursor(CursorArgs),
    /// Create, list, describe, alter, watch and empty queues.
    Queue(QueueArgs),
    /// Send messages to a queue.
    Send(SendArgs),
    /// Receive messages from a queue.
    Receive(ReceiveArgs),
    /// Run a command for each message of a queue.
    Work(WorkArgs),
    /// Copy a range of a topic into another topic or a queue.
    Replay(ReplayArgs),
    /// Ask in SQL: topics are tables.
    Sql(SqlArgs),
    /// Verify segments and index against the metadata, with the server stopped.
    Fsck(FsckArgs),
    /// Show what a restored metadata store lost, and let the collector go on.
    Recover(RecoverArgs),
    /// Try out what the object store must be able to do.
    Doctor(DoctorArgs),
    /// Make a bucket and set it up.
    Bucket(BucketArgs),
    /// Measure a server.
    Bench(BenchArgs),
    /// Show the configuration.
    Config(ConfigArgs),
    /// Estimate what a workload costs.
    Cost(CostArgs),
    /// Show what a namespace and its topics used, and what it costs.
    Usage(UsageArgs),
    /// Print completions for a shell.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
}
