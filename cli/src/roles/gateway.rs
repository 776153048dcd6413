//! `lakefall gateway`: the public side alone, over metadata replicas elsewhere. It keeps nothing that another gateway needs.

use std::sync::Arc;

use clap::Args;
use lakefall_gateway::engine::ReceiptKeys;
use lakefall_metadata::Metadata;
use lakefall_service::Config;
use tokio_util::sync::CancellationToken;

use super::frontend::{self, Backend};
use super::{CommonArgs, Frame, Started, parts, receipts, run};
use crate::failure::Failure;

/// Flags of `lakefall gateway`; each wins over the environment, which wins over the file.
#[derive(Debug, Args)]
pub(crate) struct GatewayArgs {
    /// Where the HTTP API listens [default: 127.0.0.1:8080].
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,
    /// Metadata replicas to ask first, with commas between them; they name the others.
    #[arg(long, value_name = "URLS")]
    metadata: Option<String>,
    /// Where objects are kept: s3://bucket/prefix, gs://…, az://… or a shared file:///….
    #[arg(long, value_name = "URL")]
    store: Option<String>,
    #[command(flatten)]
    common: CommonArgs,
}

/// Runs `lakefall gateway` until it is told to stop.
pub(crate) fn gateway(args: GatewayArgs) -> Result<(), Failure> {
    let flags =
        [("listen", "--listen", &args.listen), ("metadata.endpoints", "--metadata", &args.metadata), ("store.url", "--store", &args.store)];
    let live = args.common.load(Config::default(), flags)?;
    parts::require_cluster(&live.current())?;
    let receipt_keys = receipts::of_a_cluster(&live.current())?;
    run(live, "gateway", |frame| Box::pin(start(frame, receipt_keys)))
}

async fn start(frame: Frame, receipt_keys: ReceiptKeys) -> Result<Started, Failure> {
    let store = parts::open_store(&frame.config)?;
    let metadata_stop = CancellationToken::new();
    let (metadata, ambient) = parts::connect_metadata(&frame, metadata_stop.clone()).await?;
    let metadata = metadata as Arc<dyn Metadata>;
    let address = frontend::start(&frame, Backend { metadata, store, receipt_keys, ambient, metadata_stop, compacted: None }).await?;
    Ok(Started {
        role: "Lakefall gateway",
        lines: vec![
            ("HTTP API", format!("http://{address}   (manual: http://{address}/docs)")),
            ("Metadata", frame.config.metadata.endpoints.join(", ")),
            ("Objects", frame.config.store_url()?.to_string()),
        ],
        hint: String::new(),
    })
}
