//! The store for clusters: PostgreSQL, on which any number of replicas agree who owns which shard. Must never answer that an
//! append stands, or that it never will, without having written (L4), and never talk to anything but the primary (R11).
//!
//! Every statement that is not part of a checkpoint or a load is a transaction of its own, and a connection on which anything
//! failed, or whose user went away, is closed and never used again. The tables are described in `docs/metadata.md`.

mod append;
mod attempts;
mod checkpoint;
mod config;
mod connections;
mod durability;
mod error;
mod extents;
mod journal;
mod load;
mod ownership;
#[cfg(test)]
mod plans_tests;
mod put;
mod queues;
mod schema;
mod schemas;
mod text;
mod usage;

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use lakefall_queue::id::JournalSeq;
use lakefall_queue::ledger::{Checkpoint, Extent};
use lakefall_queue::{Offset, PartitionIndex, ShardId, Timestamp, TopicId};
use sqlx::postgres::PgConnection;

use crate::store::{ExtentScan, Identity, Lease, Loaded, MetadataStore, Replica, Roll, StoreError, WriterToken};
use append::Entry;
use attempts::{Attempts, within};
use connections::Connections;
use error::Failure;
use ownership::Taken;

pub use config::{PostgresConfig, TlsMode};
pub use schema::SCHEMA;

/// How long a shard may take to load.
const LOAD_LIMIT: Duration = Duration::from_secs(300);
/// How long a checkpoint may take; the journal goes on meanwhile.
const CHECKPOINT_LIMIT: Duration = Duration::from_secs(300);
/// More than any cluster has shards: each that is owned here appends through one connection, and settles through another.
const JOURNAL_CONNECTIONS: u32 = 4_096;

/// A metadata store in PostgreSQL, as one replica uses it.
pub struct PostgresStore {
    /// For everything but appends.
    general: Connections,
    /// For appends alone, so that they never wait for anything else.
    journal: Connections,
    replica: Replica,
    lease: Duration,
    /// After this long without an answer the server is out of reach: it ends statements earlier by itself.
    limit: Duration,
    second_append_after: Duration,
}

/// Runs what may be run twice, on a connection for which `$store.general` is asked, until it succeeds or attempts are over.
macro_rules! repeatable {
    ($store:expr, $limit:expr, |$db:ident| $work:expr) => {{
        let mut attempts = Attempts::repeatable($limit);
        loop {
            let mut connection = $store.general.get().await?;
            let done = {
                let $db: &mut PgConnection = &mut connection;
                within($limit, $work).await
            };
            match done {
                Ok(done) => {
                    connection.back();
                    break Ok(done);
                }
                Err(failure) => {
                    if let Err(failure) = attempts.again(connection, failure).await {
                        break Err(failure);
                    }
                }
            }
        }
    }};
}

impl PostgresStore {
    /// Brings the schema up to date, behind an advisory lock: programs that do it at the same time wait for one another.
    pub async fn migrate(config: &PostgresConfig) -> Result<(), StoreError> {
        let connections = Connections::new(config.options()?, config, 1);
        let mut connection = connections.open_one().await?;
        schema::migrate(&mut connection).await?;
        schema::check(&mut connection).await
    }

    /// Connects for a replica whose leases last so long. [`StoreError::Misconfigured`] says what a person must do;
    /// [`StoreError::NotApplied`], that the server cannot be reached now.
    pub async fn connect(config: &PostgresConfig, replica: Replica, lease: Duration) -> Result<Self, StoreError> {
        if config.migrate {
            Self::migrate(config).await?;
        }
        let options = config.options()?;
        let store = Self {
            general: Connections::new(options.clone(), config, config.max_connections),
            journal: Connections::new(options, config, JOURNAL_CONNECTIONS),
            replica,
            lease,
            limit: config.statement_timeout + config.connect_timeout,
            second_append_after: config.second_append_after,
        };
        let mut connection = store.general.open_one().await?;
        durability::check(&mut connection, config.allow_unsafe_durability).await?;
        schema::check(&mut connection).await?;
        store.general.keep(connection);
        Ok(store)
    }

    /// How many shards the cluster was created with; `None` if it was never used.
    pub async fn shards(&self) -> Result<Option<u32>, StoreError> {
        let known: Result<Option<i32>, Failure> = repeatable!(self, self.limit, |db| schema::shards(db));
        Ok(known.map_err(Failure::of_read)?.map(|shards| shards as u32))
    }

    /// What is stored of a shard, without taking it.
    pub async fn inspect(&self, shard: ShardId) -> Result<Loaded, StoreError> {
        let loaded: Result<Option<Loaded>, Failure> = repeatable!(self, LOAD_LIMIT, |db| load_shard(db, shard, None));
        loaded.map_err(Failure::of_read)?.ok_or(StoreError::Fenced)
    }

    async fn truncate(&self, shard: ShardId) -> Result<(), StoreError> {
        let mut connection = self.general.get().await?;
        within(self.limit, journal::truncate(&mut connection, shard)).await.map_err(Failure::of_read)?;
        connection.back();
        Ok(())
    }
}

/// In one snapshot; `None` if the lease's epoch is over.
async fn load_shard(db: &mut PgConnection, shard: ShardId, lease: Option<&Lease>) -> Result<Option<Loaded>, sqlx::Error> {
    let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL statement_timeout = 0";
    let begin = format!("{begin}; {}; {}", config::LOADS, journal::keep_sql(shard));
    sqlx::raw_sql(sqlx::AssertSqlSafe(begin)).execute(&mut *db).await?;
    if let Some(lease) = lease
        && !checkpoint::reigns(db, lease).await?
    {
        sqlx::raw_sql("ROLLBACK").execute(db).await?;
        return Ok(None);
    }
    let row = load::shard_row(db, shard).await?;
    let rows = load::rows(db, shard).await?;
    let entries = journal::read(db, shard, row.map_or(0, |row| row.seq)).await?;
    sqlx::raw_sql("COMMIT").execute(db).await?;
    Ok(Some(Loaded { shard: row, rows, entries }))
}

#[async_trait]
impl MetadataStore for PostgresStore {
    async fn initialize(&self, shards: u32) -> Result<(), StoreError> {
        let known = match self.shards().await? {
            Some(known) => known,
            None => {
                let wanted = i32::try_from(shards).map_err(|_| StoreError::Misconfigured(format!("{shards} shards are too many")))?;
                let made: Result<i32, Failure> = repeatable!(self, LOAD_LIMIT, |db| schema::create_shards(db, wanted));
                made.map_err(schema::cannot_create)? as u32
            }
        };
        if known == shards {
            return Ok(());
        }
        Err(StoreError::Misconfigured(format!("metadata.shards is {shards}, but this store was created with {known}: set it to {known}")))
    }

    fn lease_time(&self) -> Option<Duration> {
        Some(self.lease)
    }

    async fn take(&self, shard: ShardId) -> Result<Lease, StoreError> {
        let taken: Result<Taken, Failure> = repeatable!(self, self.limit, |db| ownership::take(db, shard, &self.replica, self.lease));
        match taken.map_err(Failure::of_write)? {
            Taken::Epoch(epoch) => Ok(Lease { shard, epoch, renew_within: Some(self.lease) }),
            Taken::Held => Err(StoreError::Held),
            Taken::NoSuchShard => Err(StoreError::Misconfigured(format!("this store has no shard {shard}"))),
        }
    }

    async fn renew(&self, leases: &[Lease]) -> Result<Roll, StoreError> {
        // Late is as bad as never: a half leaves time for another attempt, on a fresh connection.
        let limit = self.limit.min(self.lease / 2);
        let roll: Result<Roll, Failure> = repeatable!(self, limit, |db| ownership::renew(db, leases, &self.replica, self.lease));
        roll.map_err(Failure::of_write)
    }

    async fn release(&self, lease: &Lease) -> Result<(), StoreError> {
        let held: Result<bool, Failure> = repeatable!(self, self.limit, |db| ownership::release(db, lease, &self.replica));
        if held.map_err(Failure::of_write)? { Ok(()) } else { Err(StoreError::Fenced) }
    }

    async fn leave(&self) -> Result<(), StoreError> {
        let left: Result<(), Failure> = repeatable!(self, self.limit, |db| ownership::leave(db, &self.replica));
        left.map_err(Failure::of_write)
    }

    async fn identity(&self) -> Result<Identity, StoreError> {
        let identity: Result<Identity, Failure> = repeatable!(self, self.limit, |db| ownership::identity(db));
        identity.map_err(Failure::of_read)
    }

    async fn load(&self, lease: &Lease) -> Result<Loaded, StoreError> {
        let loaded: Result<Option<Loaded>, Failure> = repeatable!(self, LOAD_LIMIT, |db| load_shard(db, lease.shard, Some(lease)));
        loaded.map_err(Failure::of_read)?.ok_or(StoreError::Fenced)
    }

    async fn append(&self, lease: &Lease, seq: JournalSeq, token: WriterToken, payload: Bytes) -> Result<(), StoreError> {
        self.append_for_certain(&Entry { lease, seq, token, payload: &payload }).await
    }

    async fn checkpoint(&self, lease: &Lease, checkpoint: &Checkpoint) -> Result<(), StoreError> {
        let mut connection = self.general.get().await?;
        match within(CHECKPOINT_LIMIT, checkpoint::write(&mut connection, lease, checkpoint)).await {
            Ok(true) => {}
            Ok(false) => return Err(StoreError::Fenced),
            Err(failure) => {
                connection.failed(&failure);
                // It was not committed, and now never will be.
                return Err(failure.of_read());
            }
        }
        within(self.limit, checkpoint::commit(&mut connection)).await.map_err(Failure::of_write)?;
        connection.back();
        // The checkpoint stands: what is left over goes next time.
        if let Err(error) = self.truncate(lease.shard).await {
            tracing::debug!(shard = lease.shard.0, %error, "a slot of the journal could not be emptied yet");
        }
        Ok(())
    }

    async fn scan_extents(&self, shard: ShardId, scan: ExtentScan) -> Result<Vec<Extent>, StoreError> {
        let found: Result<Vec<Extent>, Failure> = repeatable!(self, self.limit, |db| extents::scan(db, shard, &scan));
        found.map_err(Failure::of_read)
    }

    async fn find_extent(
        &self,
        shard: ShardId,
        topic: TopicId,
        partition: PartitionIndex,
        from: Offset,
        at: Timestamp,
    ) -> Result<Option<Extent>, StoreError> {
        let place = (topic, partition);
        let found: Result<Option<Extent>, Failure> = repeatable!(self, self.limit, |db| extents::find(db, shard, place, from, at));
        found.map_err(Failure::of_read)
    }
}
