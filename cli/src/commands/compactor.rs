//! `lakefall compactor status`: what waits to be compacted, and who works on it. Asks the metadata service, or looks at the
//! metadata store of a server on this machine; changes nothing.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use lakefall_compactor::compaction::{ASIDE, CompactError, compactable};
use lakefall_metadata::{Metadata, rebuild};
use lakefall_queue::ledger::{Answer, Claim, Compactable, CompactablePartition, Query, Work};
use lakefall_queue::{ShardId, Timestamp, TopicId};
use lakefall_service::config::Sources;
use lakefall_service::{Config, LiveConfig, Tasks, system_ambient};
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::Output;
use super::output::table;
use super::stored::{Stored, unreadable};
use crate::failure::Failure;
use crate::roles::{Frame, parts};

/// How long the client may take to end.
const END: Duration = Duration::from_secs(5);
/// Partitions looked at in a stored ledger at once.
const PAGE: usize = 1_000_000;

/// Shows what waits to be compacted, and who works on it.
#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    /// Metadata replicas to ask first, with commas between them. Without, the metadata store is looked at.
    #[arg(long, value_name = "URLS")]
    metadata: Option<String>,
    /// The folder of everything kept on local disk [default: ./lakefall-data].
    #[arg(long, value_name = "FOLDER")]
    data_dir: Option<String>,
    /// Where order is kept, if not inside the data folder: sqlite:///… or postgres://….
    #[arg(long, value_name = "URL")]
    database: Option<String>,
    /// The server's configuration file (TOML).
    #[arg(long, value_name = "FILE", env = "LAKEFALL_CONFIG")]
    config: Option<PathBuf>,
    /// Look once more after this time, like 30s, and tell how long what waits takes at the pace seen. A file of 64 MiB takes
    /// some seconds, so a shorter look may see no progress.
    #[arg(long, value_name = "TIME", value_parser = pause)]
    pace: Option<Duration>,
}

fn pause(text: &str) -> Result<Duration, String> {
    lakefall_queue::time::parse_duration(text).map_err(|error| error.to_string())
}

/// Runs `lakefall compactor status`.
pub(crate) fn status(args: &StatusArgs, output: &mut Output) -> Result<(), Failure> {
    let flags = [
        ("metadata.endpoints", "--metadata", &args.metadata),
        ("data_dir", "--data-dir", &args.data_dir),
        ("metadata.url", "--database", &args.database),
    ];
    let flags = flags.into_iter().filter_map(|(key, flag, text)| Some((key, flag, text.clone()?))).collect();
    let config = Config::load(Config::dev(), &Sources { file: args.config.clone(), flags, ..Sources::from_process() })?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = runtime.map_err(|error| Failure::Failed(format!("the runtime did not start: {error}")))?;
    let config = Arc::new(config);
    let look = async || if config.metadata.endpoints.is_empty() { stored(&config).await } else { served(Arc::clone(&config)).await };
    let status = runtime.block_on(Box::pin(async {
        let mut status = look().await?;
        if let Some(pause) = args.pace {
            tokio::time::sleep(pause).await;
            let earlier = std::mem::replace(&mut status, look().await?);
            status.pace = Some(status.pace_since(&earlier, pause));
        }
        Ok::<_, Failure>(status)
    }))?;
    output.value_or_lines(&status, || status.lines())
}

/// What was found in all shards.
#[derive(Debug, Default, Serialize)]
struct Status {
    /// Compressed bytes that are not in Parquet files yet.
    backlog_bytes: u64,
    /// When the oldest of them was appended, or somewhat before.
    backlog_since: Option<Timestamp>,
    /// Extents that are still in segments of gateways.
    unmerged_extents: u64,
    /// Partitions with something to do.
    partitions: Vec<Row>,
    /// Shards whose segments are being merged, and until when that is claimed.
    merging: BTreeMap<u32, Timestamp>,
    /// How fast it goes, if asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pace: Option<Pace>,
}

/// What two looks at the same partitions show.
#[derive(Debug, Serialize)]
struct Pace {
    /// Records that came into Parquet files in a second.
    records_per_second: f64,
    /// Records that are in none yet.
    records_waiting: u64,
    /// How long those take at this pace, if nothing is appended meanwhile; none where no progress was seen.
    eta_seconds: Option<f64>,
}

/// A partition with something to do, now or later.
#[derive(Debug, Serialize)]
struct Row {
    topic: String,
    partition: u32,
    /// Compressed bytes that wait to become Parquet.
    bytes: u64,
    /// Since when.
    since: Option<Timestamp>,
    /// Offsets below are in Parquet files.
    rolled: u64,
    end: u64,
    unmerged_extents: u64,
    /// Parquet files that may still be merged, about.
    small_files: u32,
    /// `waiting`, `working`, or `put aside` as an object of it is damaged.
    state: &'static str,
    /// Until when that is claimed.
    until: Option<Timestamp>,
}

impl Status {
    fn add(&mut self, shard: ShardId, found: &Compactable, names: &BTreeMap<TopicId, String>) {
        let claim = |work| found.claims.iter().find(|claim: &&Claim| claim.work == work);
        if let Some(merging) = claim(Work::Merge) {
            self.merging.insert(shard.0, merging.until);
        }
        for partition in &found.partitions {
            self.backlog_bytes += partition.unrolled_bytes;
            self.unmerged_extents += partition.unmerged_extents;
            self.backlog_since = self.backlog_since.into_iter().chain(partition.unrolled_since).min();
            self.partitions.push(row(partition, claim(Work::Partition(partition.topic, partition.partition)), names));
        }
    }

    /// A partition that is listed no longer has nothing to do any more: all that it had waiting was rolled.
    fn pace_since(&self, earlier: &Self, pause: Duration) -> Pace {
        let now: BTreeMap<(&str, u32), &Row> = self.partitions.iter().map(|row| ((row.topic.as_str(), row.partition), row)).collect();
        let progress =
            |row: &Row| now.get(&(row.topic.as_str(), row.partition)).map_or(row.end, |now| now.rolled).saturating_sub(row.rolled);
        let records_per_second = earlier.partitions.iter().map(progress).sum::<u64>() as f64 / pause.as_secs_f64().max(1e-3);
        let records_waiting = self.partitions.iter().map(|row| row.end.saturating_sub(row.rolled)).sum();
        let eta_seconds = (records_per_second > 0.0).then(|| records_waiting as f64 / records_per_second);
        Pace { records_per_second, records_waiting, eta_seconds }
    }

    fn lines(&self) -> Vec<String> {
        let text = |at: Option<Timestamp>| at.map_or_else(|| "-".to_owned(), |at| at.to_string());
        let row = |row: &Row| {
            let numbers = [u64::from(row.partition), row.bytes, row.unmerged_extents, u64::from(row.small_files)];
            let state = row.until.map_or_else(|| row.state.to_owned(), |until| format!("{} until {until}", row.state));
            let numbers = numbers.map(|number| number.to_string());
            [vec![row.topic.clone()], numbers.to_vec(), vec![text(row.since), state]].concat()
        };
        let rows: Vec<Vec<String>> = self.partitions.iter().map(row).collect();
        let mut lines = match rows.is_empty() {
            true => Vec::new(),
            false => table(&["TOPIC", "PARTITION", "BYTES", "UNMERGED", "SMALL FILES", "SINCE", "STATE"], &rows),
        };
        lines.extend(self.merging.iter().map(|(shard, until)| format!("shard {shard}: segments are merged (claimed until {until})")));
        lines.push(format!(
            "backlog: {} bytes since {}, {} extents in segments of gateways",
            self.backlog_bytes,
            text(self.backlog_since),
            self.unmerged_extents
        ));
        lines.extend(self.pace.as_ref().map(|pace| {
            let left = pace.eta_seconds.map_or_else(|| "no progress was seen".to_owned(), |left| format!("done in about {left:.0} s"));
            format!("pace: {:.0} records/s into Parquet, {} wait: {left}", pace.records_per_second, pace.records_waiting)
        }));
        lines
    }
}

fn row(partition: &CompactablePartition, claim: Option<&Claim>, names: &BTreeMap<TopicId, String>) -> Row {
    let state = match claim {
        None => "waiting",
        Some(claim) if claim.worker == ASIDE => "put aside",
        Some(_) => "working",
    };
    Row {
        topic: names.get(&partition.topic).cloned().unwrap_or_else(|| format!("(topic {})", partition.topic)),
        partition: partition.partition.0,
        bytes: partition.unrolled_bytes,
        since: partition.unrolled_since,
        rolled: partition.rolled.0,
        end: partition.end.0,
        unmerged_extents: partition.unmerged_extents,
        small_files: partition.small,
        state,
        until: claim.map(|claim| claim.until),
    }
}

/// As the metadata replicas tell.
async fn served(config: Arc<Config>) -> Result<Status, Failure> {
    let (tasks, stop) = (Tasks::new(), CancellationToken::new());
    let live = LiveConfig::fixed((*config).clone());
    let frame = Frame { config, live, tasks: tasks.clone(), ambient: system_ambient() };
    let asked = async {
        let (metadata, _) = parts::connect_metadata(&frame, stop.clone()).await?;
        ask(&*metadata).await.map_err(|error| Failure::Failed(error.to_string()))
    };
    let status = asked.await;
    stop.cancel();
    // What does not end in time ends with the process.
    let _ = tasks.shutdown(END).await;
    status
}

async fn ask(metadata: &dyn Metadata) -> Result<Status, CompactError> {
    let mut status = Status::default();
    for shard in (0..metadata.shards()).map(ShardId) {
        let found = compactable(metadata, shard).await?;
        let mut names = BTreeMap::new();
        for partition in &found.partitions {
            if names.contains_key(&partition.topic) {
                continue;
            }
            // One that was deleted meanwhile has its number for a name.
            if let Ok(Answer::Topic(topic)) = metadata.query(shard, Query::TopicById(partition.topic)).await {
                names.insert(topic.id, format!("{}/{}", topic.namespace, topic.name));
            }
        }
        status.add(shard, &found, &names);
    }
    Ok(status)
}

/// As the metadata store has it. Claims are not stored.
async fn stored(config: &Config) -> Result<Status, Failure> {
    let stored = Stored::open(config).await?;
    let mut status = Status::default();
    let shards = stored.shards().await.map_err(|error| unreadable(&error))?;
    for shard in (0..shards).map(ShardId) {
        let loaded = stored.inspect(shard).await.map_err(|error| unreadable(&error))?;
        let ledger = rebuild(shard, shards, loaded).map_err(|error| unreadable(&error))?;
        let names = ledger.topics().map(|topic| (topic.id, format!("{}/{}", topic.namespace, topic.name))).collect();
        match ledger.query(&Query::Compactable { limit: PAGE, after: None }) {
            Ok(Answer::Compactable(found)) => status.add(shard, &found, &names),
            other => return Err(Failure::Failed(format!("the ledger answered another question: {other:?}"))),
        }
    }
    Ok(status)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(topic: &str, rolled: u64, end: u64) -> Row {
        Row {
            topic: topic.to_owned(),
            partition: 0,
            bytes: 1,
            since: None,
            rolled,
            end,
            unmerged_extents: 0,
            small_files: 0,
            state: "working",
            until: None,
        }
    }

    fn status(partitions: Vec<Row>) -> Status {
        Status { partitions, ..Status::default() }
    }

    #[test]
    fn the_time_left_is_what_waits_over_what_was_rolled_between_two_looks() {
        let earlier = status(vec![row("a", 0, 1_000), row("done", 50, 150)]);
        let pace = status(vec![row("a", 300, 1_500), row("new", 0, 200)]).pace_since(&earlier, Duration::from_secs(4));
        assert_eq!((pace.records_per_second, pace.records_waiting, pace.eta_seconds), (100.0, 1_400, Some(14.0)));
    }

    #[test]
    fn no_time_is_told_where_nothing_moved() {
        let earlier = status(vec![row("a", 10, 1_000)]);
        let now = status(vec![row("a", 10, 2_000)]);
        assert_eq!(now.pace_since(&earlier, Duration::from_secs(4)).eta_seconds, None);
        assert!(status(Vec::new()).pace_since(&status(Vec::new()), Duration::ZERO).eta_seconds.is_none());
    }
}
