//! `lakefall metadata`: one metadata replica over Postgres, and the migration of its schema. Shards are handed to the other
//! replicas before it stops.

use std::sync::Arc;

use clap::{Args, Subcommand};
use lakefall_metadata::{Membership, Node, Peers, rpc};
use lakefall_service::Config;
use lakefall_service::net::Dialing;
use tokio_util::sync::CancellationToken;

use super::{CommonArgs, Frame, Started, bind, certificates, local_address, parts, run, until_ready};
use crate::failure::Failure;

/// Flags of `lakefall metadata`; each wins over the environment, which wins over the file.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct MetadataArgs {
    #[command(subcommand)]
    command: Option<MetadataCommand>,
    #[command(flatten)]
    serve: ServeArgs,
}

/// What else there is to do about metadata.
#[derive(Debug, Subcommand)]
enum MetadataCommand {
    /// Bring the database's schema to what this executable writes, and exit. Replicas do so themselves at start; run it
    /// before where they have no right to.
    Migrate(MigrateArgs),
}

/// Flags of the replica.
#[derive(Debug, Args)]
struct ServeArgs {
    /// Where the RPC listens [default: 127.0.0.1:8082].
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,
    /// The URL under which gateways and other replicas reach this one [default: made of --listen].
    #[arg(long, value_name = "URL")]
    advertise: Option<String>,
    /// The database: postgres://user@host/name.
    #[arg(long, value_name = "URL")]
    database: Option<String>,
    /// Shards of the cluster, fixed at its creation [default: 16].
    #[arg(long, value_name = "COUNT")]
    shards: Option<String>,
    #[command(flatten)]
    common: CommonArgs,
}

/// Flags of the migration.
#[derive(Debug, Args)]
struct MigrateArgs {
    /// The database: postgres://user@host/name.
    #[arg(long, value_name = "URL")]
    database: Option<String>,
    /// Shards of the cluster, fixed at its creation [default: 16].
    #[arg(long, value_name = "COUNT")]
    shards: Option<String>,
    #[command(flatten)]
    common: CommonArgs,
}

/// Runs `lakefall metadata` until it is told to stop.
pub(crate) fn metadata(args: MetadataArgs) -> Result<(), Failure> {
    if let Some(MetadataCommand::Migrate(args)) = args.command {
        let flags = [("metadata.url", "--database", &args.database), ("metadata.shards", "--shards", &args.shards)];
        let config = args.common.load(Config::default(), flags)?.current();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| Failure::Failed(format!("the runtime did not start: {error}")))?;
        return runtime.block_on(parts::migrate(&config));
    }
    let args = args.serve;
    let flags = [
        ("metadata.listen", "--listen", &args.listen),
        ("metadata.advertise", "--advertise", &args.advertise),
        ("metadata.url", "--database", &args.database),
        ("metadata.shards", "--shards", &args.shards),
    ];
    let live = args.common.load(Config::default(), flags)?;
    if live.current().metadata.url.is_none() {
        return Err(Failure::Usage(
            "metadata.url is not set: name the database with --database postgres://user@host/name (`lakefall dev` keeps its own in a folder)"
                .to_owned(),
        ));
    }
    run(live, "metadata", |frame| Box::pin(start(frame)))
}

async fn start(frame: Frame) -> Result<Started, Failure> {
    let Frame { config, live, tasks, ambient } = frame;
    let security = parts::server_security(&config)?;
    let listener = bind(config.metadata.listen).await?;
    let address = local_address(&listener)?;
    let scheme = if security.tls.is_some() { "https" } else { "http" };
    let advertised = config.metadata.advertise.clone().unwrap_or_else(|| format!("{scheme}://{address}"));
    let me = parts::replica(&ambient, advertised.clone());
    let store = parts::open_metadata(&config, &me).await?;
    let (node_stop, server_stop) = (CancellationToken::new(), CancellationToken::new());
    let peers = rpc::RpcPeers::new(&parts::client_security(&config)?, Dialing::Tcp).map_err(|error| Failure::Usage(error.to_string()))?;
    let peers = Arc::new(peers);
    let membership = Membership { me, peers: Arc::clone(&peers) as Arc<dyn Peers> };
    let node = Node::join(store, parts::node_config(&config), ambient, &tasks, node_stop.clone(), membership)
        .await
        .map_err(parts::metadata_failure)?;
    let host = Arc::clone(&node) as Arc<dyn rpc::Host>;
    let served = rpc::serve(listener, host, &security, &tasks, server_stop.clone()).map_err(|error| Failure::Usage(error.to_string()))?;
    certificates::of_a_replica(&live, served, peers);
    until_ready(node.ready(), &tasks, parts::START, || "the metadata store did not answer".to_owned()).await?;
    let stopping = tasks.token();
    tasks.spawn("hand over", async move {
        // Order of the stop: shards go to the other replicas while this one still tells callers where they went.
        stopping.cancelled().await;
        node_stop.cancel();
        node.handed_over().await;
        server_stop.cancel();
    });
    Ok(Started {
        role: "Lakefall metadata replica",
        lines: vec![("RPC", format!("{scheme}://{address}   (advertised as {advertised})"))],
        hint: String::new(),
    })
}
