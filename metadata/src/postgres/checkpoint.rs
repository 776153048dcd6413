//! A checkpoint: one transaction. Must never be committed by an owner whose epoch is over.

use lakefall_queue::ShardId;
use lakefall_queue::ledger::Checkpoint;
use sqlx::postgres::PgConnection;
use sqlx::{Connection as _, Row as _};

use super::{extents, put};
use crate::store::Lease;

/// The epoch is locked only here, for the moment until the commit: an owner that is paused in the middle of its checkpoint
/// keeps nobody from taking the shard. The lock is one that appends take as well, so neither waits for the other.
const PUT_CHECKPOINT: &str = "
    WITH reign AS MATERIALIZED (SELECT epoch FROM shards WHERE id = $1 FOR SHARE),
    done AS (
        INSERT INTO checkpoints (shard, version, seq, epoch, time_ms, next_topic)
        SELECT $1, $3, $4, $5, $6, $7 FROM reign WHERE epoch = $2
        ON CONFLICT (shard) DO UPDATE SET version = EXCLUDED.version, seq = EXCLUDED.seq, epoch = EXCLUDED.epoch,
            time_ms = EXCLUDED.time_ms, next_topic = EXCLUDED.next_topic, written = clock_timestamp()
        WHERE checkpoints.seq <= EXCLUDED.seq
        RETURNING 1
    )
    SELECT EXISTS (SELECT 1 FROM done)";

/// Whether the reign is still on. Only a look: it may end at any time.
pub(super) async fn reigns(db: &mut PgConnection, lease: &Lease) -> Result<bool, sqlx::Error> {
    let query = sqlx::query("SELECT 1 FROM shards WHERE id = $1 AND epoch = $2");
    Ok(query.bind(lease.shard.0 as i32).bind(lease.epoch.0 as i64).fetch_optional(db).await?.is_some())
}

/// Everything but the end: `false` if the epoch is over. Nothing is written until [`commit`].
pub(super) async fn write(db: &mut PgConnection, lease: &Lease, checkpoint: &Checkpoint) -> Result<bool, sqlx::Error> {
    let shard: ShardId = lease.shard;
    sqlx::raw_sql("BEGIN").execute(&mut *db).await?;
    if !reigns(db, lease).await? {
        return Ok(false);
    }
    put::put_rows(db, shard, checkpoint).await?;
    put::delete_rows(db, shard, &checkpoint.deletes).await?;
    extents::delete_ranges(db, shard, &checkpoint.replaced).await?;
    extents::put(db, shard, &checkpoint.extents).await?;
    extents::delete(db, shard, &checkpoint.retired).await?;
    let row = &checkpoint.shard;
    let written = sqlx::query(PUT_CHECKPOINT)
        .bind(shard.0 as i32)
        .bind(lease.epoch.0 as i64)
        .bind(row.version as i32)
        .bind(row.seq as i64)
        .bind(row.epoch as i64)
        .bind(row.time_ms)
        .bind(row.next_topic as i64)
        .fetch_one(db)
        .await?;
    written.try_get(0)
}

pub(super) async fn commit(db: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::raw_sql("COMMIT").execute(&mut *db).await?;
    debug_assert!(!db.is_in_transaction());
    Ok(())
}
