//! The checkpoint's database: the state as ordinary tables, readable with the `sqlite3` shell.

use lakefall_queue::ledger::{Checkpoint, Extent, Row, ShardRow, proto};
use lakefall_queue::{Offset, PartitionIndex, ShardId, Timestamp, TopicId};
use sqlx::sqlite::SqliteRow;
use sqlx::{QueryBuilder, Row as _, Sqlite, SqliteConnection, SqlitePool};

use super::rows::{delete_row, load_rows, put_row};
use super::store_error;
use crate::store::{ExtentScan, StoreError};

const SCHEMA: &str = include_str!("tables.sql");

/// Rows of one INSERT: 13 parameters each, and SQLite takes 32,766.
const EXTENTS_AT_ONCE: usize = 256;

const EXTENT_COLUMNS: &str =
    "base_offset, records, object, position, length, first_timestamp_ms, max_timestamp_ms, appended_ms, object_size, level";

/// Columns that later releases added, at their tables' ends.
const ADDED: [(&str, &str, &str); 3] =
    [("partitions", "compaction", "BLOB"), ("extents", "level", "INTEGER NOT NULL DEFAULT 0"), ("objects", "key", "TEXT")];

pub(super) struct Tables {
    pool: SqlitePool,
}

impl Tables {
    pub(super) async fn new(pool: SqlitePool, read_only: bool) -> Result<Self, StoreError> {
        if !read_only {
            sqlx::raw_sql(sqlx::AssertSqlSafe(format!("BEGIN; {SCHEMA} COMMIT;"))).execute(&pool).await.map_err(store_error)?;
        }
        for (table, column, kind) in ADDED {
            add_column(&pool, table, column, kind, read_only).await?;
        }
        Ok(Self { pool })
    }

    pub(super) async fn load(&self, shard: ShardId) -> Result<(Option<ShardRow>, Vec<Row>), StoreError> {
        let mut tx = self.pool.begin().await.map_err(store_error)?;
        let found = sqlx::query("SELECT version, seq, epoch, time_ms, next_topic FROM shards WHERE shard = ?1")
            .bind(i64::from(shard.0))
            .fetch_optional(&mut *tx)
            .await
            .map_err(store_error)?;
        let row = found.map(|r| ShardRow {
            version: r.get::<i64, _>(0) as u32,
            seq: r.get::<i64, _>(1) as u64,
            epoch: r.get::<i64, _>(2) as u64,
            time_ms: r.get(3),
            next_topic: r.get::<i64, _>(4) as u64,
        });
        let rows = load_rows(&mut tx, shard).await?;
        Ok((row, rows))
    }

    pub(super) async fn write(&self, shard: ShardId, checkpoint: &Checkpoint) -> Result<(), StoreError> {
        let mut tx = self.pool.begin().await.map_err(store_error)?;
        // First, so that a checkpoint that is older than the one that stands never lies over it.
        if !put_shard(&mut tx, shard, &checkpoint.shard).await.map_err(store_error)? {
            return Err(StoreError::Fenced);
        }
        for row in &checkpoint.puts {
            put_row(&mut tx, shard, row).await.map_err(store_error)?;
        }
        for key in &checkpoint.deletes {
            delete_row(&mut tx, shard, key).await.map_err(store_error)?;
        }
        for (topic, partition, from, to) in &checkpoint.replaced {
            sqlx::query(
                "DELETE FROM extents WHERE shard = ?1 AND topic = ?2 AND partition = ?3 AND base_offset >= ?4 AND base_offset < ?5",
            )
            .bind(i64::from(shard.0))
            .bind(topic.0 as i64)
            .bind(i64::from(partition.0))
            .bind(clamp(*from))
            .bind(clamp(*to))
            .execute(&mut *tx)
            .await
            .map_err(store_error)?;
        }
        put_extents(&mut tx, shard, &checkpoint.extents).await.map_err(store_error)?;
        for (topic, partition, below) in &checkpoint.retired {
            sqlx::query("DELETE FROM extents WHERE shard = ?1 AND topic = ?2 AND partition = ?3 AND base_offset < ?4")
                .bind(i64::from(shard.0))
                .bind(topic.0 as i64)
                .bind(i64::from(partition.0))
                .bind(i64::try_from(below.0).unwrap_or(i64::MAX))
                .execute(&mut *tx)
                .await
                .map_err(store_error)?;
        }
        tx.commit().await.map_err(|e| StoreError::Unknown(e.to_string()))
    }

    pub(super) async fn scan(&self, shard: ShardId, scan: ExtentScan) -> Result<Vec<Extent>, StoreError> {
        let rows = sqlx::query(sqlx::AssertSqlSafe(scan_sql()))
            .bind(i64::from(shard.0))
            .bind(scan.topic.0 as i64)
            .bind(i64::from(scan.partition.0))
            .bind(clamp(scan.from))
            .bind(clamp(scan.below))
            .bind(i64::try_from(scan.max_extents.max(1)).unwrap_or(i64::MAX))
            .fetch_all(&self.pool)
            .await
            .map_err(store_error)?;
        let mut extents = rows.iter().map(extent).collect::<Result<Vec<_>, _>>()?;
        extents.retain(|e| e.end() > scan.from);
        scan.cut(&mut extents);
        Ok(extents)
    }

    pub(super) async fn find(
        &self,
        shard: ShardId,
        topic: TopicId,
        partition: PartitionIndex,
        from: Offset,
        at: Timestamp,
    ) -> Result<Option<Extent>, StoreError> {
        let row = sqlx::query(sqlx::AssertSqlSafe(find_sql()))
            .bind(i64::from(shard.0))
            .bind(topic.0 as i64)
            .bind(i64::from(partition.0))
            .bind(clamp(from))
            .bind(at.as_millis())
            .fetch_optional(&self.pool)
            .await
            .map_err(store_error)?;
        row.as_ref().map(extent).transpose()
    }
}

/// Adds a column that the table of an earlier release does not have.
async fn add_column(pool: &SqlitePool, table: &str, column: &str, kind: &str, read_only: bool) -> Result<(), StoreError> {
    let known = sqlx::query_scalar::<_, i64>("SELECT count(*) FROM pragma_table_info(?1) WHERE name = ?2").bind(table).bind(column);
    if known.fetch_one(pool).await.map_err(store_error)? > 0 {
        return Ok(());
    }
    if read_only {
        let reason =
            format!("table {table} has no column {column}: an earlier release made it; start the server once to bring it up to date");
        return Err(StoreError::Misconfigured(reason));
    }
    let sql = format!("ALTER TABLE {table} ADD COLUMN {column} {kind}");
    sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(pool).await.map(|_| ()).map_err(store_error)
}

/// The extent that holds `from` begins at or before it: step back to it by the key, then go on forward.
fn scan_sql() -> String {
    format!(
        "SELECT {EXTENT_COLUMNS} FROM extents WHERE shard = ?1 AND topic = ?2 AND partition = ?3 AND base_offset < ?5 AND base_offset >=
            coalesce((SELECT max(base_offset) FROM extents WHERE shard = ?1 AND topic = ?2 AND partition = ?3 AND base_offset <= ?4), ?4)
         ORDER BY base_offset LIMIT ?6"
    )
}

fn find_sql() -> String {
    format!(
        "SELECT {EXTENT_COLUMNS} FROM extents WHERE shard = ?1 AND topic = ?2 AND partition = ?3
            AND base_offset + records > ?4 AND max_timestamp_ms >= ?5 ORDER BY base_offset LIMIT 1"
    )
}

fn clamp(offset: Offset) -> i64 {
    i64::try_from(offset.0).unwrap_or(i64::MAX)
}

fn extent(row: &SqliteRow) -> Result<Extent, StoreError> {
    let number = |i: usize| row.get::<i64, _>(i);
    let stored = proto::ExtentRow {
        base_offset: number(0) as u64,
        records: number(1) as u32,
        object: row.get::<Vec<u8>, _>(2).into(),
        position: number(3) as u64,
        length: number(4) as u32,
        first_timestamp_ms: number(5),
        max_timestamp_ms: number(6),
        appended_ms: number(7),
        object_size: number(8) as u64,
        level: number(9) as u32,
        ..Default::default()
    };
    stored.to_extent().ok_or_else(|| StoreError::Corrupt("an extent's object id is malformed".to_owned()))
}

/// Many rows in one statement: each statement costs a round trip to the connection's thread.
async fn put_extents(tx: &mut SqliteConnection, shard: ShardId, rows: &[proto::ExtentRow]) -> Result<(), sqlx::Error> {
    for chunk in rows.chunks(EXTENTS_AT_ONCE) {
        let mut insert =
            QueryBuilder::<Sqlite>::new(format!("INSERT OR REPLACE INTO extents (shard, topic, partition, {EXTENT_COLUMNS}) "));
        insert.push_values(chunk, |mut values, row| {
            values
                .push_bind(i64::from(shard.0))
                .push_bind(row.topic as i64)
                .push_bind(i64::from(row.partition))
                .push_bind(row.base_offset as i64)
                .push_bind(i64::from(row.records))
                .push_bind(row.object.to_vec())
                .push_bind(row.position as i64)
                .push_bind(i64::from(row.length))
                .push_bind(row.first_timestamp_ms)
                .push_bind(row.max_timestamp_ms)
                .push_bind(row.appended_ms)
                .push_bind(row.object_size as i64)
                .push_bind(i64::from(row.level));
        });
        insert.build().execute(&mut *tx).await?;
    }
    Ok(())
}

/// Whether it was written: not over the row of a later reign, or of a later entry.
async fn put_shard(tx: &mut SqliteConnection, shard: ShardId, row: &ShardRow) -> Result<bool, sqlx::Error> {
    let sql = "INSERT INTO shards (shard, version, seq, epoch, time_ms, next_topic) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
        ON CONFLICT (shard) DO UPDATE SET version = ?2, seq = ?3, epoch = ?4, time_ms = ?5, next_topic = ?6
        WHERE epoch <= ?4 AND seq <= ?3";
    let done = sqlx::query(sql)
        .bind(i64::from(shard.0))
        .bind(i64::from(row.version))
        .bind(row.seq as i64)
        .bind(row.epoch as i64)
        .bind(row.time_ms)
        .bind(row.next_topic as i64)
        .execute(tx)
        .await?;
    Ok(done.rows_affected() == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The lines of EXPLAIN QUERY PLAN: <https://www.sqlite.org/eqp.html>.
    async fn plan(sql: String) -> Vec<String> {
        // One connection: each has a database of its own in memory.
        let pool = sqlx::sqlite::SqlitePoolOptions::new().max_connections(1).connect("sqlite::memory:").await.unwrap();
        let tables = Tables::new(pool, false).await.unwrap();
        let rows = sqlx::query(sqlx::AssertSqlSafe(format!("EXPLAIN QUERY PLAN {sql}"))).fetch_all(&tables.pool).await.unwrap();
        rows.iter().map(|row| row.get("detail")).collect()
    }

    #[tokio::test]
    async fn a_scan_of_extents_goes_by_the_primary_key_from_the_first_to_the_last_wanted() {
        let plan = plan(scan_sql()).await;
        let outer = "SEARCH extents USING PRIMARY KEY (shard=? AND topic=? AND partition=? AND base_offset>? AND base_offset<?)";
        let inner = "SEARCH extents USING PRIMARY KEY (shard=? AND topic=? AND partition=? AND base_offset<?)";
        assert!(plan.iter().any(|line| line == outer) && plan.iter().any(|line| line == inner), "{plan:#?}");
        assert!(!plan.iter().any(|line| line.starts_with("SCAN extents") || line.contains("TEMP B-TREE")), "{plan:#?}");
    }

    #[tokio::test]
    async fn an_extent_is_found_by_time_within_its_partition_and_without_sorting() {
        let plan = plan(find_sql()).await;
        assert_eq!(plan, ["SEARCH extents USING PRIMARY KEY (shard=? AND topic=? AND partition=?)"]);
    }
}
