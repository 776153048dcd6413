//! What a metadata store must do. The implementations pass one contract suite (`tests/contract.rs`).

use async_trait::async_trait;
use bytes::Bytes;
use lakefall_queue::id::{Epoch, JournalSeq};
use lakefall_queue::ledger::{Checkpoint, Extent, Row, ShardRow};
use lakefall_queue::time::Timestamp;
use lakefall_queue::{Offset, PartitionIndex, ShardId, TopicId};
use std::time::Duration;
use thiserror::Error as ThisError;

/// Tells the appends of one owner's reign from those of all others. Drawn anew at each takeover.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WriterToken(pub u128);

/// The right to append to a shard's journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Which shard.
    pub shard: ShardId,
    /// The reign; every append carries it, and the store refuses an old one.
    pub epoch: Epoch,
    /// Renew within this time, or lose it. `None`: it lasts as long as the store is open, and idleness costs nothing.
    pub renew_within: Option<Duration>,
}

/// Names a metadata replica; drawn anew at each start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReplicaId(pub u128);

/// A metadata replica, as others find it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Replica {
    /// Which one.
    pub id: ReplicaId,
    /// Where its service listens, as a URL that gateways and other replicas reach.
    pub address: String,
}

/// Who holds a shard, by the store's clock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holding {
    /// The shard.
    pub shard: ShardId,
    /// Its owner, whose lease has not ended; `None`: it is free.
    pub owner: Option<Replica>,
    /// How long that lease lasts if nobody renews it.
    pub remaining: Duration,
}

/// What a replica learns when it renews its leases.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Roll {
    /// The store's clock: the time by which all replicas go.
    pub now: Timestamp,
    /// Replicas that are alive, in the order of their ids; this one is among them.
    pub replicas: Vec<Replica>,
    /// Every shard of the cluster, in order.
    pub holdings: Vec<Holding>,
    /// Which of the leases to renew were renewed; the others are lost.
    pub renewed: Vec<ShardId>,
}

/// What tells a store from its own past: R12, a store that was restored to an earlier point must not let a collector delete
/// what it no longer knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Drawn when the cluster was created.
    pub cluster: String,
    /// Changes when the database was restored, copied or failed over (Postgres: system identifier and timeline).
    pub incarnation: String,
}

/// All that is stored of a shard.
#[derive(Debug, Default)]
pub struct Loaded {
    /// The last checkpoint's; `None` if there was none yet.
    pub shard: Option<ShardRow>,
    /// The last checkpoint's rows.
    pub rows: Vec<Row>,
    /// The journal's entries after the checkpoint, in order.
    pub entries: Vec<Bytes>,
}

/// Why a store did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, ThisError)]
pub enum StoreError {
    /// Another owner holds the shard: drop the state.
    #[error("shard is owned by another process")]
    Fenced,
    /// The shard cannot be taken: another replica's lease has not ended. Ask that one, or wait.
    #[error("shard is held by another replica")]
    Held,
    /// It certainly did not happen. Trying again later may help.
    #[error("metadata store: {0}")]
    NotApplied(String),
    /// It may have happened. For an append: write it again (L4).
    #[error("metadata store: {0}; it may or may not have been applied")]
    Unknown(String),
    /// What is stored makes no sense, or is from a newer program. A person must act.
    #[error("metadata store is damaged: {0}")]
    Corrupt(String),
    /// The store is set up differently. A person must act.
    #[error("{0}")]
    Misconfigured(String),
}

/// Where a shard's journal and checkpoints are kept.
#[async_trait]
pub trait MetadataStore: Send + Sync + 'static {
    /// Sets the number of shards on first use; later only checks it ([`StoreError::Misconfigured`]).
    async fn initialize(&self, shards: u32) -> Result<(), StoreError>;

    /// How long leases last. `None`: one process owns every shard for as long as the store is open, nothing is renewed, and
    /// idleness costs nothing.
    fn lease_time(&self) -> Option<Duration>;

    /// Takes a shard that is free (or this replica's own), raising its epoch. From here on appends of older epochs are refused.
    async fn take(&self, shard: ShardId) -> Result<Lease, StoreError>;

    /// Prolongs leases, says that this replica is alive, and tells who else is. One round trip, whatever is held. Stores
    /// without [`MetadataStore::lease_time`] renew nothing and tell of themselves alone.
    async fn renew(&self, leases: &[Lease]) -> Result<Roll, StoreError>;

    /// Gives a shard back, so that another owner need not wait.
    async fn release(&self, lease: &Lease) -> Result<(), StoreError>;

    /// Says that this replica is gone, so that nobody counts on it.
    async fn leave(&self) -> Result<(), StoreError>;

    /// What tells this store from its own past.
    async fn identity(&self) -> Result<Identity, StoreError>;

    /// Reads all that is stored of a shard.
    async fn load(&self, lease: &Lease) -> Result<Loaded, StoreError>;

    /// Makes one journal entry durable.
    ///
    /// L4: repeating an append with the same sequence and token is how an ambiguous one is settled. `Ok` means that this
    /// token's entry stands at `seq`, written now or before; [`StoreError::Fenced`], that another's does or that the epoch
    /// is over, and that this one never will.
    async fn append(&self, lease: &Lease, seq: JournalSeq, token: WriterToken, payload: Bytes) -> Result<(), StoreError>;

    /// Writes a checkpoint in one transaction, then drops the journal entries that are in it.
    async fn checkpoint(&self, lease: &Lease, checkpoint: &Checkpoint) -> Result<(), StoreError>;

    /// Stored extents of a partition from the one that holds `from` on, below `below`, until about `max_bytes` (at least
    /// one) or `max_extents`.
    async fn scan_extents(&self, shard: ShardId, scan: ExtentScan) -> Result<Vec<Extent>, StoreError>;

    /// The first stored extent with an offset at or above `from` and a record at or after `at`.
    async fn find_extent(
        &self,
        shard: ShardId,
        topic: TopicId,
        partition: PartitionIndex,
        from: Offset,
        at: Timestamp,
    ) -> Result<Option<Extent>, StoreError>;
}

/// Which stored extents are wanted.
#[derive(Clone, Copy, Debug)]
pub struct ExtentScan {
    /// The topic.
    pub topic: TopicId,
    /// The partition.
    pub partition: PartitionIndex,
    /// The first offset wanted.
    pub from: Offset,
    /// Extents that begin here or later are not wanted.
    pub below: Offset,
    /// Stop after this many bytes.
    pub max_bytes: u64,
    /// Stop after this many extents.
    pub max_extents: usize,
}

impl ExtentScan {
    /// The leading part of `extents` that fits the budget; at least one.
    pub(crate) fn cut(&self, extents: &mut Vec<Extent>) {
        let mut bytes = 0_u64;
        let mut keep = 0;
        for extent in extents.iter().take(self.max_extents) {
            if bytes >= self.max_bytes {
                break;
            }
            bytes += u64::from(extent.length);
            keep += 1;
        }
        extents.truncate(keep.max(1));
    }
}
