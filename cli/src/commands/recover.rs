//! `lakefall recover`: after the metadata store was restored to an earlier point, shows which stored records it does not know,
//! and lets the collector go on once an operator accepts that. Reads the metadata store as it is, served or not; writes
//! nothing but the mark in the bucket, and that only when told to.

use std::path::PathBuf;

use clap::Args;
use lakefall_compactor::CollectError;
use lakefall_compactor::recover::{Decision, Offline, Report, accept, examine};
use lakefall_metadata::{StoreError, rebuild};
use lakefall_queue::ShardId;
use lakefall_service::config::Sources;
use lakefall_service::{Config, system_ambient};
use serde::Serialize;

use super::Output;
use super::stored::{Stored, unreadable};
use crate::failure::Failure;
use crate::roles::parts::open_store;

/// Shows what a restored metadata store lost, and lets the collector go on.
#[derive(Debug, Args)]
pub(crate) struct RecoverArgs {
    /// The folder of everything kept on local disk [default: ./lakefall-data].
    #[arg(long, value_name = "FOLDER")]
    data_dir: Option<String>,
    /// Where objects are kept, if not inside the data folder.
    #[arg(long, value_name = "URL")]
    store: Option<String>,
    /// Where order is kept, if not inside the data folder: sqlite:///… or postgres://….
    #[arg(long, value_name = "URL")]
    database: Option<String>,
    /// The server's configuration file (TOML).
    #[arg(long, value_name = "FILE", env = "LAKEFALL_CONFIG")]
    config: Option<PathBuf>,
    /// Take what the metadata store holds now for the truth: the collector goes on, and keeps what is listed here.
    #[arg(long)]
    accept: bool,
    /// Let go of what is kept although the metadata store does not know it: the next sweep deletes it. With --accept, also
    /// of what is listed here.
    #[arg(long)]
    discard: bool,
}

/// Runs `lakefall recover`.
pub(crate) fn recover(args: &RecoverArgs, output: &mut Output) -> Result<(), Failure> {
    let flags =
        [("data_dir", "--data-dir", &args.data_dir), ("store.url", "--store", &args.store), ("metadata.url", "--database", &args.database)];
    let flags = flags.into_iter().filter_map(|(key, flag, text)| Some((key, flag, text.clone()?))).collect();
    let config = Config::load(Config::dev(), &Sources { file: args.config.clone(), flags, ..Sources::from_process() })?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::Failed(format!("the runtime did not start: {error}")))?;
    let outcome = runtime.block_on(Box::pin(run(&config, args)))?;
    output.value_or_lines(&outcome, || outcome.lines())?;
    if outcome.report.is_halted() && !outcome.accepted { Err(Failure::Failed("the collector is halted".to_owned())) } else { Ok(()) }
}

/// What was found, and what was done about it.
#[derive(Debug, Serialize)]
struct Outcome {
    #[serde(flatten)]
    report: Report,
    /// A new mark was written: the collector goes on from there.
    accepted: bool,
}

impl Outcome {
    fn lines(&self) -> Vec<String> {
        let mut lines = self.report.lines();
        if self.accepted && self.report.is_halted() {
            lines.push("Accepted: a running collector goes on within a few seconds.".to_owned());
        } else if self.accepted {
            lines.push("Discarded: the next sweep deletes what no ledger knows.".to_owned());
        }
        lines
    }
}

async fn run(config: &Config, args: &RecoverArgs) -> Result<Outcome, Failure> {
    let ledgers = read_ledgers(config).await?;
    let store = open_store(config)?;
    let report = examine(&ledgers, &store, system_ambient().now()).await.map_err(|error| failed(&error))?;
    if report.is_halted() && args.discard && !args.accept {
        return Err(Failure::Usage("the collector is halted: look at `lakefall recover`, then give --accept as well".to_owned()));
    }
    // Where nothing is halted there is nothing to accept: it would only keep what is orphaned by chance.
    if !(args.discard || args.accept && report.is_halted()) {
        return Ok(Outcome { report, accepted: false });
    }
    accept(&ledgers, &store, &report, Decision { discard: args.discard }).await.map_err(|error| failed(&error))?;
    Ok(Outcome { report, accepted: true })
}

/// Every shard's ledger as it is stored. Nobody is kept from serving it.
async fn read_ledgers(config: &Config) -> Result<Offline, Failure> {
    let stored = Stored::open(config).await?;
    let read = async {
        let shards = stored.shards().await?;
        let mut ledgers = Vec::new();
        for shard in (0..shards).map(ShardId) {
            ledgers.push(rebuild(shard, shards, stored.inspect(shard).await?)?);
        }
        Ok(Offline::new(stored.store().identity().await?, ledgers))
    };
    read.await.map_err(|error: StoreError| unreadable(&error))
}

fn failed(error: &CollectError) -> Failure {
    Failure::Failed(error.to_string())
}
