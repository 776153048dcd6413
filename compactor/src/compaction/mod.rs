//! Compaction: the segments of gateways become few merged ones, then Parquet files, and small files large ones. Readers see the
//! same records at the same offsets before, during and after.
//!
//! Every job goes the same way, and may be killed anywhere: claim what it works on, so that no other compactor does the same;
//! read the inputs, checking every checksum; write one object under a fresh key; read that back from the store and compare
//! what is in it with what went in; have the ledger swap it in for its inputs, which it does only if those are still what the
//! partition holds. What a killed job leaves is an object that no ledger knows: the collector finds it. Claims save work, the
//! swap keeps it right.

mod aside;
mod chunks;
mod claim;
mod clean;
pub mod columns;
mod convert;
mod merge;
mod pace;
mod partition;
pub mod plan;
mod progress;
mod publish;
mod rounds;
pub mod schemas;
mod tables;
mod wake;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use lakefall_metadata::{Metadata, Meter};
use lakefall_queue::ShardId;
use lakefall_queue::clock::Ambient;
use lakefall_queue::error::Error;
use lakefall_queue::ledger::{Answer, Compactable, CompactablePartition, Query};
use lakefall_service::Background;
use lakefall_storage::batch::BatchError;
use lakefall_storage::parquet::ParquetError;
use lakefall_storage::store::{Store, StoreError};
use tokio_util::sync::CancellationToken;

use crate::iceberg::Catalog;

pub use aside::ASIDE;
pub use columns::{Columns, NoColumns};
pub use pace::Bound;
pub use rounds::Round;
pub use schemas::SchemaColumns;

/// How compactors work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompactorConfig {
    /// Partitions worked on at once, and threads for it, which run at low priority. Each takes up to about 200 MiB. Default 1.
    pub threads: usize,
    /// Bytes read from and written to the store in a second, at most. Default: no bound.
    pub max_bytes_per_second: Option<u64>,
    /// How long segments of gateways wait to be merged. Shorter spares readers requests sooner and makes more objects. Default
    /// 15 s.
    pub merge_interval: Duration,
    /// How large merged segments become, about. Default 64 MiB.
    pub merge_bytes: u64,
    /// With so many bytes in segments a partition is rolled before its time; also the most that one Parquet file is made
    /// of. Default 64 MiB.
    pub roll_bytes: u64,
    /// How long a claim lasts that is not renewed: for so long nobody takes up what a killed compactor was at. Default 60 s.
    pub lease: Duration,
    /// How long the mark of a deleted key stays in a topic of which the last record of each key is kept: a reader who reads all
    /// of it in less time learns of every deletion. Default 24 h.
    pub delete_retention: Duration,
    /// What stands before a key for readers of tables, the store's URL. Topics are published as Iceberg tables under it. Default:
    /// they are not.
    pub tables_root: Option<String>,
    /// How long what topics use is gathered before it is reported. Default 60 s.
    pub usage_interval: Duration,
}

impl Default for CompactorConfig {
    fn default() -> Self {
        Self {
            threads: 1,
            max_bytes_per_second: None,
            merge_interval: Duration::from_secs(15),
            merge_bytes: 64 << 20,
            roll_bytes: 64 << 20,
            lease: Duration::from_secs(60),
            delete_retention: Duration::from_secs(86_400),
            tables_root: None,
            usage_interval: Duration::from_secs(60),
        }
    }
}

/// Why a job came to nothing. Nothing is lost by any of them.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CompactError {
    /// The metadata service refused or did not answer: later again.
    #[error(transparent)]
    Metadata(#[from] Error),
    /// The object store did: later again.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Somebody else changed what was worked on, or works on it: nothing is wrong.
    #[error("others changed what was to be compacted")]
    Changed,
    /// The topic was deleted.
    #[error("the topic was deleted")]
    Gone,
    /// Inputs are damaged, or the output would not hold the same. The partition is put aside; a person must look.
    #[error("object {object}: {reason}")]
    Damaged {
        /// Its key.
        object: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A defect of this program.
    #[error("{0}")]
    Defect(String),
}

impl CompactError {
    fn damaged(object: &str, reason: &impl ToString) -> Self {
        Self::Damaged { object: object.to_owned(), reason: reason.to_string() }
    }

    /// Its name in metrics.
    fn outcome(&self) -> &'static str {
        match self {
            Self::Metadata(_) => "metadata",
            Self::Store(_) => "store",
            Self::Changed => "changed",
            Self::Gone => "gone",
            Self::Damaged { .. } => "damaged",
            Self::Defect(_) => "defect",
        }
    }
}

/// What is wrong with bytes that were read.
#[derive(Clone, Debug, thiserror::Error)]
enum Unreadable {
    #[error(transparent)]
    Batch(#[from] BatchError),
    #[error(transparent)]
    Parquet(#[from] ParquetError),
    #[error("{0}")]
    Other(String),
}

/// See the module. What is remembered here only saves work.
pub struct Compactor {
    metadata: Arc<dyn Metadata>,
    store: Store,
    ambient: Ambient,
    config: CompactorConfig,
    columns: Arc<dyn Columns>,
    /// Drawn anew at each start.
    worker: u128,
    threads: Background,
    pace: Arc<pace::Pace>,
    aside: aside::Aside,
    known_columns: columns::Known,
    progress: progress::Progress,
    looked: rounds::Looked,
    failing: rounds::Failing,
    /// Topics pay for what is read and written of them.
    usage: Arc<Meter>,
    /// Where tables are told beside the bucket, if they are.
    catalog: Option<Catalog>,
}

impl Compactor {
    /// A compactor that does nothing until it is told to.
    pub fn new(config: CompactorConfig, metadata: Arc<dyn Metadata>, store: Store, ambient: Ambient, columns: Arc<dyn Columns>) -> Self {
        Self {
            worker: ambient.entropy.draw(),
            usage: Meter::new(Arc::clone(&metadata), &ambient, config.usage_interval),
            threads: Background::start("compaction", config.threads),
            pace: Arc::new(pace::Pace::new(config.max_bytes_per_second)),
            metadata,
            store,
            ambient,
            config,
            columns,
            aside: aside::Aside::default(),
            known_columns: columns::Known::default(),
            progress: progress::Progress::default(),
            looked: rounds::Looked::default(),
            failing: rounds::Failing::default(),
            catalog: None,
        }
    }

    /// Has the tables that are published brought into a catalog as well.
    pub fn with_catalog(self, catalog: Option<Catalog>) -> Self {
        Self { catalog, ..self }
    }

    /// What exchanges [`CompactorConfig::max_bytes_per_second`] while it works.
    pub fn bound(&self) -> Bound {
        Bound(Arc::clone(&self.pace))
    }

    /// Works until stopped. While nothing is due it waits for a notice, and asks nobody.
    pub async fn run(self, stop: CancellationToken) -> Result<(), Infallible> {
        // May be dropped anywhere: what was begun is an orphan, and is done anew.
        tokio::select! {
            () = self.keep_merging() => {}
            () = self.keep_rolling() => {}
            () = Box::pin(self.keep_bringing()) => {}
            _ = Arc::clone(&self.usage).run(stop.clone()) => {}
            () = stop.cancelled() => {}
        }
        self.usage.close().await;
        Ok(())
    }

    fn shards(&self) -> impl Iterator<Item = ShardId> + use<> {
        (0..self.metadata.shards()).map(ShardId)
    }

    /// All that may be compacted in a shard.
    async fn compactable(&self, shard: ShardId) -> Result<Compactable, CompactError> {
        let mut found = compactable(&*self.metadata, shard).await?;
        // A ledger's time stands while nothing is journaled.
        found.now = found.now.max(self.ambient.now());
        found.claims.retain(|claim| claim.until > found.now);
        Ok(found)
    }

    /// How a partition stands, if it may be compacted.
    async fn standing(&self, of: &CompactablePartition) -> Result<Option<CompactablePartition>, CompactError> {
        let before = match of.partition.0.checked_sub(1) {
            Some(partition) => Some((of.topic, lakefall_queue::PartitionIndex(partition))),
            None => of.topic.0.checked_sub(1).map(|topic| (lakefall_queue::TopicId(topic), lakefall_queue::PartitionIndex(u32::MAX))),
        };
        match self.metadata.query(of.topic.shard(), Query::Compactable { limit: 1, after: before }).await? {
            Answer::Compactable(found) => {
                Ok(found.partitions.into_iter().next().filter(|p| (p.topic, p.partition) == (of.topic, of.partition)))
            }
            other => Err(unexpected(&other)),
        }
    }
}

/// Partitions asked for at once.
const PAGE: usize = 1_000;

/// All that may be compacted in a shard, as its ledger tells.
pub async fn compactable(metadata: &dyn Metadata, shard: ShardId) -> Result<Compactable, CompactError> {
    let mut all = Compactable::default();
    loop {
        let after = all.partitions.last().map(|partition| (partition.topic, partition.partition));
        match metadata.query(shard, Query::Compactable { limit: PAGE, after }).await? {
            Answer::Compactable(page) => {
                (all.claims, all.now) = (page.claims, page.now);
                let more = page.more && !page.partitions.is_empty();
                all.partitions.extend(page.partitions);
                if !more {
                    return Ok(all);
                }
            }
            other => return Err(unexpected(&other)),
        }
    }
}

fn unexpected(answer: &impl std::fmt::Debug) -> CompactError {
    CompactError::Defect(format!("the metadata service answered another question: {answer:?}"))
}

fn defect(error: impl std::fmt::Display) -> CompactError {
    CompactError::Defect(error.to_string())
}
