//! `lakefall compactor`: background work on what is stored, over metadata replicas elsewhere. Any number may run; each may be
//! killed at any moment.

use clap::{Args, Subcommand};
use lakefall_service::{Config, lower_priority};
use tokio_util::sync::CancellationToken;

use super::{CommonArgs, Frame, Started, parts, run};
use crate::commands::compactor::StatusArgs;
use crate::failure::Failure;

/// Flags of `lakefall compactor`; each wins over the environment, which wins over the file.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct CompactorArgs {
    #[command(subcommand)]
    pub(crate) command: Option<CompactorCommand>,
    /// Metadata replicas to ask first, with commas between them; they name the others.
    #[arg(long, value_name = "URLS")]
    metadata: Option<String>,
    /// Where objects are kept: s3://bucket/prefix, gs://…, az://… or a shared file:///….
    #[arg(long, value_name = "URL")]
    store: Option<String>,
    #[command(flatten)]
    common: CommonArgs,
}

/// What else there is to a compactor.
#[derive(Debug, Subcommand)]
pub(crate) enum CompactorCommand {
    /// Show what waits to be compacted, and who works on it.
    Status(StatusArgs),
}

/// Runs `lakefall compactor` until it is told to stop.
pub(crate) fn compactor(args: CompactorArgs) -> Result<(), Failure> {
    let flags = [("metadata.endpoints", "--metadata", &args.metadata), ("store.url", "--store", &args.store)];
    let live = args.common.load(Config::default(), flags)?;
    parts::require_cluster(&live.current())?;
    // Nobody waits for a compactor: on a machine that others share it takes what they leave. What cannot be lowered is told of later,
    // by the threads that do the work.
    let _ = lower_priority();
    run(live, "compactor", |frame| Box::pin(start(frame)))
}

async fn start(frame: Frame) -> Result<Started, Failure> {
    let store = parts::open_store(&frame.config)?.for_role("compactor");
    let metadata_stop = CancellationToken::new();
    let (metadata, ambient) = parts::connect_metadata(&frame, metadata_stop.clone()).await?;
    parts::start_collector(&frame.config, metadata.clone(), store.clone(), ambient.clone(), &frame.tasks);
    let compacted = parts::start_compactor(&frame, metadata, store, ambient)?;
    // Nothing is under way that must be answered: the client goes with the first word of the stop, and the last report.
    let stopping = frame.tasks.token();
    frame.tasks.spawn("metadata client", async move {
        stopping.cancelled().await;
        compacted.cancelled().await;
        metadata_stop.cancel();
    });
    Ok(Started {
        role: "Lakefall compactor",
        lines: vec![("Metadata", frame.config.metadata.endpoints.join(", ")), ("Objects", frame.config.store_url()?.to_string())],
        hint: String::new(),
    })
}
