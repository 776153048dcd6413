//! `lakefall recover`: after the metadata store was restored to an earlier point, or was lost, shows which stored records it does not
//! know, takes topics back over their Parquet files, and lets the collector go on once an operator accepts that. Reads the metadata
//! store as it is, served or not; has it changed by those who serve it, and writes the mark in the bucket, only when told to.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use lakefall_compactor::CollectError;
use lakefall_compactor::recover::{Decision, Offline, Report, TakenBack, Wanted, accept, examine, take_back};
use lakefall_metadata::{Node, StoreError, rebuild};
use lakefall_queue::{NamespaceName, ShardId, TopicName};
use lakefall_service::config::Sources;
use lakefall_service::{Config, LiveConfig, Tasks, system_ambient};
use lakefall_storage::store::Store;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::Output;
use super::stored::{Stored, unreadable};
use crate::failure::Failure;
use crate::roles::Frame;
use crate::roles::parts::{self, open_store};

/// How long who was asked may take to end.
const END: Duration = Duration::from_secs(30);

/// Shows what a restored metadata store lost, takes topics of a lost one back, and lets the collector go on.
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
    /// Metadata replicas, with commas between them: to take topics back in a cluster.
    #[arg(long, value_name = "URLS")]
    metadata: Option<String>,
    /// The server's configuration file (TOML).
    #[arg(long, value_name = "FILE", env = "LAKEFALL_CONFIG")]
    config: Option<PathBuf>,
    /// Take a topic of a lost metadata store back over the Parquet files that are left of it, at their offsets: NAMESPACE/TOPIC, or
    /// all. May be given several times. Without --metadata, the server must be stopped.
    #[arg(long, value_name = "TOPIC", value_parser = parse_wanted, conflicts_with = "discard")]
    take_back: Vec<Named>,
    /// Take what the metadata store holds now for the truth: the collector goes on, and keeps what is listed here.
    #[arg(long)]
    accept: bool,
    /// Let go of what is kept although the metadata store does not know it: the next sweep deletes it. With --accept, also
    /// of what is listed here.
    #[arg(long)]
    discard: bool,
}

/// A topic as it is named on the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Named {
    All,
    Topic(NamespaceName, TopicName),
}

fn parse_wanted(text: &str) -> Result<Named, String> {
    if text == "all" {
        return Ok(Named::All);
    }
    let (namespace, topic) = text.split_once('/').ok_or_else(|| format!("{text} is not NAMESPACE/TOPIC, nor all"))?;
    let named = || Ok::<_, lakefall_queue::Error>(Named::Topic(NamespaceName::new(namespace)?, TopicName::new(topic)?));
    named().map_err(|error| error.to_string())
}

/// What is wanted by all that is named; `None` if nothing is.
fn wanted(named: &[Named]) -> Option<Wanted> {
    let mut topics = BTreeSet::new();
    for named in named {
        match named {
            Named::All => return Some(Wanted::All),
            Named::Topic(namespace, topic) => topics.insert((namespace.clone(), topic.clone())),
        };
    }
    (!topics.is_empty()).then_some(Wanted::Topics(topics))
}

/// Runs `lakefall recover`.
pub(crate) fn recover(args: &RecoverArgs, output: &mut Output) -> Result<(), Failure> {
    let flags = [
        ("data_dir", "--data-dir", &args.data_dir),
        ("store.url", "--store", &args.store),
        ("metadata.url", "--database", &args.database),
        ("metadata.endpoints", "--metadata", &args.metadata),
    ];
    let flags = flags.into_iter().filter_map(|(key, flag, text)| Some((key, flag, text.clone()?))).collect();
    let config = Config::load(Config::dev(), &Sources { file: args.config.clone(), flags, ..Sources::from_process() })?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = runtime.map_err(|error| Failure::Failed(format!("the runtime did not start: {error}")))?;
    let outcome = runtime.block_on(Box::pin(run(&config, args)))?;
    output.value_or_lines(&outcome, || outcome.lines())?;
    match &outcome.taken_back {
        Some(taken) if !taken.missing.is_empty() => Err(Failure::Failed(format!("not taken back: {}", taken.missing.join(", ")))),
        // What was asked for is done; that the collector is halted, the report says.
        Some(_) => Ok(()),
        None if outcome.report.is_halted() && !outcome.accepted => Err(Failure::Failed("the collector is halted".to_owned())),
        None => Ok(()),
    }
}

/// What was found, and what was done about it.
#[derive(Debug, Serialize)]
struct Outcome {
    #[serde(flatten)]
    report: Report,
    /// A new mark was written: the collector goes on from there.
    accepted: bool,
    /// If something was to be taken back. What it took, the report knows already.
    #[serde(skip_serializing_if = "Option::is_none")]
    taken_back: Option<TakenBack>,
}

impl Outcome {
    fn lines(&self) -> Vec<String> {
        let mut lines = self.taken_back.as_ref().map(TakenBack::lines).unwrap_or_default();
        lines.extend(self.report.lines());
        if self.accepted && self.report.is_halted() {
            lines.push("Accepted: a running collector goes on within a few seconds.".to_owned());
        } else if self.accepted {
            lines.push("Discarded: the next sweep deletes what no ledger knows.".to_owned());
        }
        lines
    }
}

async fn run(config: &Config, args: &RecoverArgs) -> Result<Outcome, Failure> {
    let store = open_store(config)?;
    let taken_back = match wanted(&args.take_back) {
        Some(wanted) => Some(Box::pin(taken_back(config, &store, &wanted)).await?),
        None => None,
    };
    let ledgers = read_ledgers(config).await?;
    let report = examine(&ledgers, &store, system_ambient().now()).await.map_err(|error| failed(&error))?;
    if report.is_halted() && args.discard && !args.accept {
        return Err(Failure::Usage("the collector is halted: look at `lakefall recover`, then give --accept as well".to_owned()));
    }
    // Where nothing is halted there is nothing to accept: it would only keep what is orphaned by chance.
    if !(args.discard || args.accept && report.is_halted()) {
        return Ok(Outcome { report, accepted: false, taken_back });
    }
    accept(&ledgers, &store, &report, Decision { discard: args.discard }).await.map_err(|error| failed(&error))?;
    Ok(Outcome { report, accepted: true, taken_back })
}

/// Has topics taken back: by the replicas of a cluster, or in the files of a server that is stopped.
async fn taken_back(config: &Config, store: &Store, wanted: &Wanted) -> Result<TakenBack, Failure> {
    let (tasks, stop, ambient) = (Tasks::new(), CancellationToken::new(), system_ambient());
    let asked = async {
        if !config.metadata.endpoints.is_empty() {
            let live = LiveConfig::fixed(config.clone());
            let frame = Frame { config: Arc::new(config.clone()), live, tasks: tasks.clone(), ambient };
            let (metadata, _) = parts::connect_metadata(&frame, stop.clone()).await?;
            return take_back(&*metadata, store, wanted).await.map_err(|error| failed(&error));
        }
        if parts::is_postgres(&config.metadata_url()?) {
            return Err(Failure::Usage("name the metadata replicas with --metadata http://host:8082: they take topics back".to_owned()));
        }
        let metadata = parts::open_metadata(config, &parts::replica(&ambient, String::new())).await?;
        let node =
            Node::start(metadata, parts::node_config(config), ambient, &tasks, stop.clone()).await.map_err(parts::metadata_failure)?;
        node.ready().await;
        take_back(&*node, store, wanted).await.map_err(|error| failed(&error))
    };
    let taken = Box::pin(asked).await;
    stop.cancel();
    let ended = tasks.shutdown(END).await;
    let taken = taken?;
    ended.map(|()| taken).map_err(|error| Failure::Failed(format!("the metadata store was not closed in time: {error}")))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_are_named_with_their_namespace_or_all_at_once() {
        let topic = Named::Topic(NamespaceName::new("acme").unwrap(), TopicName::new("orders").unwrap());
        assert_eq!((parse_wanted("acme/orders"), parse_wanted("all")), (Ok(topic.clone()), Ok(Named::All)));
        for text in ["", "orders", "acme/", "/orders", "acme/orders/x"] {
            assert!(parse_wanted(text).is_err(), "{text:?}");
        }
        assert_eq!(wanted(&[]), None);
        assert_eq!(wanted(&[topic.clone(), Named::All]), Some(Wanted::All));
        let Some(Wanted::Topics(topics)) = wanted(&[topic.clone(), topic]) else { panic!("nothing is wanted") };
        assert_eq!(topics.len(), 1);
    }
}
