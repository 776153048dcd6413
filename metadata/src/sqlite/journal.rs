//! The journal's database: who owns each shard, and the entries that no checkpoint holds yet.

use bytes::Bytes;
use lakefall_queue::ShardId;
use lakefall_queue::id::{Epoch, JournalSeq};
use sqlx::{Row as _, SqlitePool};

use super::store_error;
use crate::store::{Lease, StoreError, WriterToken};

const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS cluster (one INTEGER PRIMARY KEY CHECK (one = 1), version INTEGER NOT NULL, shards INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS shards (id INTEGER PRIMARY KEY, epoch INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS journal (
    shard INTEGER NOT NULL, seq INTEGER NOT NULL, epoch INTEGER NOT NULL, writer BLOB NOT NULL, payload BLOB NOT NULL,
    PRIMARY KEY (shard, seq)
) WITHOUT ROWID;
";

/// The schema that this program writes.
const VERSION: i64 = 1;
/// Rows deleted in one transaction, so that appends wait a few milliseconds at most.
const DROP_AT_ONCE: u64 = 500;

const APPEND: &str = "INSERT INTO journal (shard, seq, epoch, writer, payload)
    SELECT ?1, ?2, ?3, ?4, ?5 WHERE EXISTS (SELECT 1 FROM shards WHERE id = ?1 AND epoch = ?3)
    ON CONFLICT (shard, seq) DO NOTHING";

pub(super) struct Journal {
    pool: SqlitePool,
}

impl Journal {
    pub(super) async fn new(pool: SqlitePool, read_only: bool) -> Result<Self, StoreError> {
        if !read_only {
            sqlx::raw_sql(sqlx::AssertSqlSafe(format!("BEGIN; {SCHEMA} COMMIT;"))).execute(&pool).await.map_err(store_error)?;
            name_cluster(&pool).await.map_err(store_error)?;
        }
        Ok(Self { pool })
    }

    /// Drawn when the cluster was created, or by the first program that knew of it.
    pub(super) async fn cluster(&self) -> Result<String, StoreError> {
        let id: Option<Option<String>> =
            sqlx::query_scalar("SELECT id FROM cluster").fetch_optional(&self.pool).await.map_err(store_error)?;
        id.flatten().ok_or_else(|| StoreError::NotApplied("the store was not initialized yet".to_owned()))
    }

    pub(super) async fn initialize(&self, shards: u32) -> Result<(), StoreError> {
        let insert = "INSERT INTO cluster (one, version, shards, id) VALUES (1, ?1, ?2, lower(hex(randomblob(16)))) ON CONFLICT DO NOTHING";
        sqlx::query(insert).bind(VERSION).bind(i64::from(shards)).execute(&self.pool).await.map_err(store_error)?;
        let row = sqlx::query("SELECT version, shards FROM cluster").fetch_one(&self.pool).await.map_err(store_error)?;
        let (version, known): (i64, i64) = (row.get(0), row.get(1));
        if version > VERSION {
            return Err(StoreError::Misconfigured(format!(
                "the metadata store has schema {version}, this program knows {VERSION}: upgrade it"
            )));
        }
        if known != i64::from(shards) {
            return Err(StoreError::Misconfigured(format!(
                "metadata.shards is {shards}, but this store was created with {known}: set it to {known}"
            )));
        }
        Ok(())
    }

    /// How many shards the store was created with; `None` if it was never used.
    pub(super) async fn shards(&self) -> Result<Option<u32>, StoreError> {
        let known: Option<i64> = sqlx::query_scalar("SELECT shards FROM cluster").fetch_optional(&self.pool).await.map_err(store_error)?;
        Ok(known.and_then(|shards| u32::try_from(shards).ok()))
    }

    pub(super) async fn take(&self, shard: ShardId) -> Result<Epoch, StoreError> {
        let upsert = "INSERT INTO shards (id, epoch) VALUES (?1, 1) ON CONFLICT (id) DO UPDATE SET epoch = epoch + 1 RETURNING epoch";
        let epoch: i64 = sqlx::query_scalar(upsert).bind(i64::from(shard.0)).fetch_one(&self.pool).await.map_err(store_error)?;
        Ok(Epoch(epoch as u64))
    }

    pub(super) async fn check(&self, lease: &Lease) -> Result<(), StoreError> {
        let epoch: Option<i64> = sqlx::query_scalar("SELECT epoch FROM shards WHERE id = ?1")
            .bind(i64::from(lease.shard.0))
            .fetch_optional(&self.pool)
            .await
            .map_err(store_error)?;
        if epoch == Some(lease.epoch.0 as i64) { Ok(()) } else { Err(StoreError::Fenced) }
    }

    pub(super) async fn append(&self, lease: &Lease, seq: JournalSeq, token: WriterToken, payload: &Bytes) -> Result<(), StoreError> {
        let writer = token.0.to_be_bytes();
        let done = sqlx::query(APPEND)
            .bind(i64::from(lease.shard.0))
            .bind(seq.0 as i64)
            .bind(lease.epoch.0 as i64)
            .bind(&writer[..])
            .bind(&payload[..])
            .execute(&self.pool)
            .await
            .map_err(store_error)?;
        if done.rows_affected() == 1 {
            return Ok(());
        }
        // Refused: the place is taken, by an earlier attempt of ours or by another owner, or the epoch is over.
        let standing: Option<Vec<u8>> = sqlx::query_scalar("SELECT writer FROM journal WHERE shard = ?1 AND seq = ?2")
            .bind(i64::from(lease.shard.0))
            .bind(seq.0 as i64)
            .fetch_optional(&self.pool)
            .await
            .map_err(store_error)?;
        if standing.as_deref() == Some(&writer[..]) { Ok(()) } else { Err(StoreError::Fenced) }
    }

    /// Every entry with its sequence, in order.
    pub(super) async fn read(&self, shard: ShardId) -> Result<Vec<(u64, Bytes)>, StoreError> {
        let rows: Vec<(i64, Vec<u8>)> = sqlx::query_as("SELECT seq, payload FROM journal WHERE shard = ?1 ORDER BY seq")
            .bind(i64::from(shard.0))
            .fetch_all(&self.pool)
            .await
            .map_err(store_error)?;
        Ok(rows.into_iter().map(|(seq, payload)| (seq as u64, Bytes::from(payload))).collect())
    }

    pub(super) async fn drop_through(&self, shard: ShardId, seq: u64) -> Result<(), StoreError> {
        let first: Option<i64> = sqlx::query_scalar("SELECT min(seq) FROM journal WHERE shard = ?1")
            .bind(i64::from(shard.0))
            .fetch_one(&self.pool)
            .await
            .map_err(store_error)?;
        let mut from = first.map_or(seq + 1, |first| first as u64);
        while from <= seq {
            let to = seq.min(from + DROP_AT_ONCE - 1);
            sqlx::query("DELETE FROM journal WHERE shard = ?1 AND seq <= ?2")
                .bind(i64::from(shard.0))
                .bind(to as i64)
                .execute(&self.pool)
                .await
                .map_err(store_error)?;
            from = to + 1;
        }
        Ok(())
    }
}

/// Adds the column that the first databases had not. Programs from before it go on working.
async fn name_cluster(pool: &SqlitePool) -> Result<(), sqlx::Error> {
    let column = sqlx::query("SELECT 1 FROM pragma_table_info('cluster') WHERE name = 'id'").fetch_optional(pool).await?;
    if column.is_none() {
        sqlx::query("ALTER TABLE cluster ADD COLUMN id TEXT").execute(pool).await?;
    }
    sqlx::query("UPDATE cluster SET id = lower(hex(randomblob(16))) WHERE id IS NULL").execute(pool).await.map(|_| ())
}
