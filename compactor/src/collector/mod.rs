//! The collector: lowers what is kept to what retention, trims and deletions left of it. It reconciles: each step reads
//! what the ledger says, does what is missing, and may be cut off and repeated anywhere. The order is what makes it safe:
//! records leave the readers' sight (trim), their extents are let go of (retire), and only an object that no shard refers
//! to is deleted, a grace later, and then forgotten.
//!
//! Apart from that it sweeps orphans: objects that a listing shows and no ledger knows, after every ledger refused them for
//! ever (L5). And before anything is deleted it makes sure that the ledgers did not go back in time (R12).

mod expire;
mod guard;
mod orphans;
mod release;
mod retire;
mod staging;
mod wake;
mod watch;

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use lakefall_metadata::Metadata;
use lakefall_queue::clock::Ambient;
use lakefall_queue::error::Error;
use lakefall_queue::ledger::{Answer, Query};
use lakefall_queue::{ShardId, Timestamp, TopicId};
use lakefall_storage::store::{Store, StoreError};
use tokio_util::sync::CancellationToken;

use crate::metrics as names;

pub use expire::Expired;
pub(crate) use guard::{positions, read_mark, write_mark};
pub use orphans::{Sweep, Swept};
pub use release::{Gone, Released};

/// How the collector works.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CollectorConfig {
    /// How long an object outlives its last extent: longer than any reader goes on with what it located. Default 10 min.
    pub grace: Duration,
    /// Shortest time between two rounds: under constant appends it bounds the work, and by how much retention by bytes is
    /// exceeded. Default 10 s.
    pub interval: Duration,
    /// How old an object that no ledger knows must be to be swept as an orphan, by its id and by the store. Shorter gives
    /// its bytes back sooner; an upload that is held up for longer fails, and its client has to repeat it. Default 1 h.
    pub orphan_grace: Duration,
    /// Time between two sweeps, if something was appended. Each lists the bucket: one LIST for every 1,000 objects, and at
    /// least 256. At 0.005 USD for 1,000 of them, four sweeps a day of a small bucket are 0.15 USD a month, and of one
    /// with ten million objects 6 USD. Default 6 h.
    pub orphan_interval: Duration,
    /// Pause after each of the 256 folders of a sweep: bounds the rate of its requests. Default 20 ms, so that a sweep takes
    /// at least 5 s.
    pub list_pause: Duration,
    /// Time between two marks of how far the ledgers are, if something was appended; the first one follows the first append
    /// by a second. What a restored metadata store lost of this time may go unnoticed; each costs a GET and a PUT, at most
    /// 0.25 USD a month. Default 60 s.
    pub mark_interval: Duration,
}

impl Default for CollectorConfig {
    fn default() -> Self {
        Self {
            grace: Duration::from_secs(600),
            interval: Duration::from_secs(10),
            orphan_grace: Duration::from_secs(3_600),
            orphan_interval: Duration::from_secs(6 * 3_600),
            list_pause: Duration::from_millis(20),
            mark_interval: Duration::from_secs(60),
        }
    }
}

/// Why a step was not finished. The next round takes it up again.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CollectError {
    /// The metadata service refused or did not answer.
    #[error(transparent)]
    Metadata(#[from] Error),
    /// The object store did.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Stored bytes or an answer make no sense. A person must look; what they concern stays as it is.
    #[error("{0}")]
    Defect(String),
    /// The folder of a local store cannot be read or written.
    #[error("the folder of the object store: {0}")]
    Folder(String),
}

/// See the module. All state is in the ledger; what is remembered here only spares requests.
pub struct Collector {
    metadata: Arc<dyn Metadata>,
    store: Store,
    ambient: Ambient,
    config: CollectorConfig,
    /// The store's folder, if it is one of this machine.
    local: Option<PathBuf>,
    shared: release::SharedObjects,
    guard: guard::Guard,
}

/// What a round found out about the next one.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Round {
    /// When something is due by itself; `None`: only a notice can bring work.
    pub due: Option<Timestamp>,
    /// Topics where the next append brings work.
    pub watch: BTreeSet<TopicId>,
    /// Something was left undone and has to be tried again.
    pub failed: bool,
}

impl Collector {
    /// A collector that does nothing until it is told to.
    pub fn new(config: CollectorConfig, metadata: Arc<dyn Metadata>, store: Store, ambient: Ambient) -> Self {
        Self { metadata, store, ambient, config, local: None, shared: release::SharedObjects::default(), guard: guard::Guard::default() }
    }

    /// The folder that the store is, if it is one: files that a killed process left there are removed too.
    #[must_use]
    pub fn with_local_folder(mut self, folder: Option<PathBuf>) -> Self {
        self.local = folder;
        self
    }

    /// Works until stopped. Between rounds it waits for a notice or for what is due: while nothing is, it does nothing.
    pub async fn run(self, stop: CancellationToken) -> Result<(), Infallible> {
        // Before the first look at anything: what happens during it must not be missed.
        let mut waker = wake::Waker::new(self.metadata.subscribe(), self.ambient.clone(), self.config.interval);
        let rounds = async {
            loop {
                let round = self.round().await;
                waker.wait(&round).await;
            }
        };
        let marks = self.keep_marking(self.metadata.subscribe());
        let sweeps = self.keep_sweeping(self.metadata.subscribe());
        // All of them may be dropped anywhere: each step is repeated by the next collector.
        tokio::select! {
            () = rounds => {}
            () = marks => {}
            () = sweeps => {}
            () = stop.cancelled() => {}
        }
        Ok(())
    }

    /// All steps over all shards, until nothing is left that is due now.
    pub async fn round(&self) -> Round {
        let mut round = Round::default();
        for shard in (0..self.metadata.shards()).map(ShardId) {
            if let Err(error) = self.round_of(shard, &mut round).await {
                tracing::warn!(shard = shard.0, %error, "the collector could not finish a shard: it tries again later");
                round.failed = true;
            }
        }
        ::metrics::counter!(names::ROUNDS, "outcome" => if round.failed { "failed" } else { "ok" }).increment(1);
        round
    }

    async fn round_of(&self, shard: ShardId, round: &mut Round) -> Result<(), CollectError> {
        loop {
            let expired = self.expire(shard).await?;
            self.retire(shard).await?;
            if !expired.more {
                round.watch.extend(expired.watch);
                round.due = earliest(round.due, expired.due);
                break;
            }
        }
        let mut after = None;
        loop {
            let released = self.released(shard, after).await?;
            ::metrics::gauge!(names::RELEASED_OBJECTS, "shard" => shard.0.to_string()).set(released.waiting as f64);
            round.due = earliest(round.due, released.due);
            let Some(last) = released.objects.last().copied() else { return Ok(()) };
            if self.check().await?.is_some() {
                // Looked at again soon: an operator may let it go on at any time.
                round.due = earliest(round.due, Some(self.ambient.now().plus(self.config.interval.max(watch::HALTED_PAUSE))));
                return Ok(());
            }
            let gone = self.delete(shard, &released.objects).await;
            self.forget(shard, gone.objects).await?;
            if let Some(error) = gone.failure {
                return Err(error);
            }
            after = Some(last);
        }
    }

    async fn ask(&self, shard: ShardId, query: Query) -> Result<Answer, CollectError> {
        Ok(self.metadata.query(shard, query).await?)
    }
}

fn earliest(one: Option<Timestamp>, other: Option<Timestamp>) -> Option<Timestamp> {
    one.into_iter().chain(other).min()
}

pub(crate) fn unexpected(answer: &Answer) -> CollectError {
    CollectError::Defect(format!("the metadata service answered another question: {answer:?}"))
}
