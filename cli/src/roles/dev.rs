//! `lakefall dev`: all roles in this process, on the embedded defaults or on whatever the settings name.

use std::sync::Arc;

use clap::Args;
use lakefall_metadata::{Membership, Metadata, NoPeers, Node};
use lakefall_service::Config;
use tokio_util::sync::CancellationToken;

use super::frontend::{self, Backend};
use super::{CommonArgs, Frame, Started, parts, receipts, run, until_ready};
use crate::failure::Failure;

/// What stands for an address: nobody else reaches this replica. On a shared database others would only wait for its leases.
const IN_PROCESS: &str = "in-process";

/// Flags of `lakefall dev`; each wins over the environment, which wins over the file.
#[derive(Debug, Args)]
pub(crate) struct DevArgs {
    /// Where the HTTP API listens [default: 127.0.0.1:8080].
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,
    /// The folder of everything kept [default: ./lakefall-data].
    #[arg(long, value_name = "FOLDER")]
    data_dir: Option<String>,
    /// Where objects are kept: file:///…, memory:///, s3://bucket/prefix, gs://… or az://… [default: inside the data folder].
    #[arg(long, value_name = "URL")]
    store: Option<String>,
    /// Where order is kept: sqlite:///…, postgres://… or memory: [default: inside the data folder].
    #[arg(long, value_name = "URL")]
    database: Option<String>,
    #[command(flatten)]
    common: CommonArgs,
}

/// Runs `lakefall dev` until it is told to stop.
pub(crate) fn dev(args: DevArgs) -> Result<(), Failure> {
    let flags = [
        ("listen", "--listen", &args.listen),
        ("data_dir", "--data-dir", &args.data_dir),
        ("store.url", "--store", &args.store),
        ("metadata.url", "--database", &args.database),
    ];
    let live = args.common.load(Config::dev(), flags)?;
    run(live, "dev", |frame| Box::pin(start(frame)))
}

async fn start(frame: Frame) -> Result<Started, Failure> {
    let Frame { config, tasks, ambient, .. } = frame.clone();
    parts::create_folder(&config.data_dir)?;
    let receipt_keys = receipts::of_one_process(&config, &ambient)?;
    let store = parts::open_store(&config)?;
    let background = store.clone().for_role("compactor");
    let node_stop = CancellationToken::new();
    let me = parts::replica(&ambient, IN_PROCESS.to_owned());
    let metadata = parts::open_metadata(&config, &me).await?;
    let membership = Membership { me, peers: Arc::new(NoPeers) };
    let node = Node::join(metadata, parts::node_config(&config), ambient.clone(), &tasks, node_stop.clone(), membership)
        .await
        .map_err(parts::metadata_failure)?;
    until_ready(node.ready(), &tasks, parts::START, || "the metadata store did not answer".to_owned()).await?;
    let node = node as Arc<dyn Metadata>;
    parts::start_collector(&config, Arc::clone(&node), background.clone(), ambient.clone(), &tasks);
    let compacted = parts::start_compactor(&frame, Arc::clone(&node), background, ambient.clone())?;
    let backend = Backend { metadata: node, store, receipt_keys, ambient, metadata_stop: node_stop, compacted: Some(compacted) };
    let address = frontend::start(&frame, backend).await?;
    let at = if address.port() == 8080 && address.ip().is_loopback() { String::new() } else { format!(" --url http://{address}") };
    Ok(Started {
        role: "Lakefall",
        lines: vec![
            ("HTTP API", format!("http://{address}   (manual: http://{address}/docs)")),
            ("Data", config.data_dir.display().to_string()),
            ("Objects", config.store_url()?.to_string()),
        ],
        hint: format!(
            "Try it:
  lakefall topic create hello{at}
  echo '{{\"hello\":\"world\"}}' | lakefall produce hello{at}
  lakefall consume hello --from earliest --follow{at}"
        ),
    })
}
