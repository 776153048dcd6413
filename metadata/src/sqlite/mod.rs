//! The embedded store: two SQLite databases beside each other. The journal has its own, so that an append never waits for
//! a checkpoint: SQLite lets one transaction write at a time. Both are in WAL mode with `synchronous=FULL`: a commit is on
//! disk when it returns (<https://www.sqlite.org/pragma.html#pragma_synchronous>).
//!
//! One process owns the directory, by a lock on a file that the kernel drops with the process. So a lease lasts as long as
//! the store is open, and idleness writes nothing.

mod journal;
mod rows;
mod schemas;
mod tables;
mod usage;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use lakefall_queue::id::JournalSeq;
use lakefall_queue::ledger::{Checkpoint, Extent};
use lakefall_queue::{Offset, PartitionIndex, ShardId, Timestamp, TopicId};
use sqlx::SqlitePool;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};

use crate::store::{ExtentScan, Identity, Lease, Loaded, MetadataStore, Roll, StoreError, WriterToken};

/// A metadata store in a directory.
pub struct SqliteStore {
    journal: journal::Journal,
    tables: tables::Tables,
    /// Held until the store is dropped.
    _lock: Option<File>,
}

impl SqliteStore {
    /// Opens or creates the store at `path` (the tables; the journal is beside it as `<path>-journal.sqlite`).
    pub async fn open(path: &Path) -> Result<Self, StoreError> {
        let lock = lock(path)?;
        Self::connect(path, Some(lock), false).await
    }

    /// Opens a store to look at it: nothing is written, nothing is locked. For offline inspection.
    pub async fn open_read_only(path: &Path) -> Result<Self, StoreError> {
        Self::connect(path, None, true).await
    }

    /// How many shards the store was created with; `None` if it was never used.
    pub async fn shards(&self) -> Result<Option<u32>, StoreError> {
        self.journal.shards().await
    }

    /// What is stored of a shard, without taking it.
    pub async fn inspect(&self, shard: ShardId) -> Result<Loaded, StoreError> {
        // The journal first: were it read last, a checkpoint that lands in between could have dropped entries that the
        // tables read before do not hold.
        let journal = self.journal.read(shard).await?;
        let (row, rows) = self.tables.load(shard).await?;
        let after = row.as_ref().map_or(0, |row| row.seq);
        let entries = journal.into_iter().filter(|(seq, _)| *seq > after).map(|(_, payload)| payload).collect();
        Ok(Loaded { shard: row, rows, entries })
    }

    async fn connect(path: &Path, lock: Option<File>, read_only: bool) -> Result<Self, StoreError> {
        let journal = journal::Journal::new(pool(&journal_path(path), 1, read_only).await?, read_only).await?;
        let tables = tables::Tables::new(pool(path, 2, read_only).await?, read_only).await?;
        Ok(Self { journal, tables, _lock: lock })
    }
}

fn journal_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push("-journal.sqlite");
    name.into()
}

fn lock(path: &Path) -> Result<File, StoreError> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let cannot = |e: std::io::Error| StoreError::Misconfigured(format!("cannot open {}: {e}", Path::new(&name).display()));
    let file = File::options().create(true).truncate(false).write(true).open(&name).map_err(cannot)?;
    rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive).map_err(|_| {
        StoreError::Misconfigured(format!("{} is in use by another lakefall process: stop it, or choose another directory", path.display()))
    })?;
    Ok(file)
}

async fn pool(path: &Path, connections: u32, read_only: bool) -> Result<SqlitePool, StoreError> {
    // Not by URL: a path may hold `?`, `#` and `%`.
    let options = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(!read_only)
        .read_only(read_only)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(Duration::from_secs(5));
    let pool = SqlitePoolOptions::new()
        // No minimum: it is kept by a second task, whose connection can meet the first one's switch of a new file to WAL,
        // which SQLite refuses at once, whatever the timeout.
        .max_connections(connections)
        .idle_timeout(None)
        .max_lifetime(None)
        .connect_with(options)
        .await
        .map_err(|e| StoreError::Misconfigured(format!("cannot open {}: {e}", path.display())))?;
    Ok(pool)
}

/// What a failed statement means. A statement outside a transaction either happened or not; only an error of the commit
/// itself (an I/O error of the disk) leaves that open.
fn store_error(error: sqlx::Error) -> StoreError {
    match &error {
        sqlx::Error::Database(db) => match db.code().as_deref().and_then(|code| code.parse::<u32>().ok()).map(|code| code & 0xff) {
            // SQLITE_IOERR
            Some(10) => StoreError::Unknown(db.message().to_owned()),
            // SQLITE_CORRUPT, SQLITE_NOTADB
            Some(11 | 26) => StoreError::Corrupt(db.message().to_owned()),
            _ => StoreError::NotApplied(db.message().to_owned()),
        },
        sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) | sqlx::Error::ColumnNotFound(_) => {
            StoreError::Corrupt(error.to_string())
        }
        sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed => StoreError::NotApplied(error.to_string()),
        _ => StoreError::Unknown(error.to_string()),
    }
}

#[async_trait]
impl MetadataStore for SqliteStore {
    async fn initialize(&self, shards: u32) -> Result<(), StoreError> {
        self.journal.initialize(shards).await
    }

    async fn take(&self, shard: ShardId) -> Result<Lease, StoreError> {
        let epoch = self.journal.take(shard).await?;
        Ok(Lease { shard, epoch, renew_within: None })
    }

    fn lease_time(&self) -> Option<Duration> {
        None
    }

    async fn renew(&self, _leases: &[Lease]) -> Result<Roll, StoreError> {
        Err(StoreError::NotApplied("an embedded store has no leases".to_owned()))
    }

    async fn leave(&self) -> Result<(), StoreError> {
        Ok(())
    }

    async fn identity(&self) -> Result<Identity, StoreError> {
        Ok(Identity { cluster: self.journal.cluster().await?, incarnation: String::new() })
    }

    async fn release(&self, lease: &Lease) -> Result<(), StoreError> {
        self.journal.check(lease).await
    }

    async fn load(&self, lease: &Lease) -> Result<Loaded, StoreError> {
        self.journal.check(lease).await?;
        self.inspect(lease.shard).await
    }

    async fn append(&self, lease: &Lease, seq: JournalSeq, token: WriterToken, payload: Bytes) -> Result<(), StoreError> {
        self.journal.append(lease, seq, token, &payload).await
    }

    async fn checkpoint(&self, lease: &Lease, checkpoint: &Checkpoint) -> Result<(), StoreError> {
        self.journal.check(lease).await?;
        self.tables.write(lease.shard, checkpoint).await?;
        self.journal.drop_through(lease.shard, checkpoint.shard.seq).await
    }

    async fn scan_extents(&self, shard: ShardId, scan: ExtentScan) -> Result<Vec<Extent>, StoreError> {
        self.tables.scan(shard, scan).await
    }

    async fn find_extent(
        &self,
        shard: ShardId,
        topic: TopicId,
        partition: PartitionIndex,
        from: Offset,
        at: Timestamp,
    ) -> Result<Option<Extent>, StoreError> {
        self.tables.find(shard, topic, partition, from, at).await
    }
}
