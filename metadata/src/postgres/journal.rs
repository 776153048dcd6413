//! The journal's tables. Each shard has three slots that are filled in turn; a slot whose entries are all in a checkpoint is
//! emptied by TRUNCATE. Must never delete a row, and never truncate what the committed checkpoint does not hold.

use bytes::Bytes;
use lakefall_queue::ShardId;
use lakefall_queue::id::JournalSeq;
use sqlx::postgres::PgConnection;
use sqlx::types::Uuid;
use sqlx::{AssertSqlSafe, Connection as _, Row as _};

use crate::store::{Lease, WriterToken};

/// Slots of a shard: one that is written, one that waits for its checkpoint, one that is being emptied.
pub(super) const SLOTS: u64 = 3;
/// Entries of a slot. So up to twice as many stay that no start needs; a checkpoint is due about as often.
const SPAN: u64 = 2_048;

fn slot(seq: JournalSeq) -> u64 {
    seq.0 / SPAN % SLOTS
}

fn table(shard: ShardId, slot: u64) -> String {
    format!("journal_{shard}_{slot}")
}

/// What became of an append.
pub(super) enum Appended {
    /// It was written now.
    Written,
    /// It was not: this writer's entry stands in its place, or none, as the epoch is over or the entry before is gone.
    Standing(Option<WriterToken>),
}

/// The row of the shard is locked until the entry is committed, so that an epoch does not end in between, however long the
/// server takes. The table is named itself: going through `journal` costs more, and locks more.
///
/// The entry before must be there, in the journal or in the checkpoint: an owner that lives on while the database falls back to
/// an earlier state, as a standby that lagged has it, would leave a gap that nobody can load.
pub(super) fn append_sql(shard: ShardId, seq: JournalSeq) -> String {
    let (at, before) = (slot(seq), slot(JournalSeq(seq.0.saturating_sub(1))));
    let (table, table_before) = (table(shard, at), table(shard, before));
    format!(
        "WITH reign AS MATERIALIZED (SELECT epoch FROM shards WHERE id = $1 FOR SHARE),
         done AS (
             INSERT INTO {table} (shard, slot, seq, epoch, writer, payload)
             SELECT $1, {at}, $2, $3, $4, $5 FROM reign WHERE epoch = $3 AND ($2::bigint = 1
                 OR EXISTS (SELECT 1 FROM {table_before} WHERE shard = $1 AND slot = {before} AND seq = $2::bigint - 1)
                 OR EXISTS (SELECT 1 FROM checkpoints WHERE shard = $1 AND seq >= $2::bigint - 1))
             ON CONFLICT (shard, slot, seq) DO NOTHING RETURNING 1
         )
         SELECT EXISTS (SELECT 1 FROM done)"
    )
}

/// L4. The unique key makes the insert wait for one of the same place that is still under way.
pub(super) async fn append(
    db: &mut PgConnection,
    lease: &Lease,
    seq: JournalSeq,
    token: WriterToken,
    payload: &Bytes,
) -> Result<Appended, sqlx::Error> {
    let (shard, slot) = (lease.shard, slot(seq));
    let written: bool = sqlx::query_scalar(AssertSqlSafe(append_sql(shard, seq)))
        .bind(shard.0 as i32)
        .bind(seq.0 as i64)
        .bind(lease.epoch.0 as i64)
        .bind(Uuid::from_u128(token.0))
        .bind(&payload[..])
        .fetch_one(&mut *db)
        .await?;
    if written {
        return Ok(Appended::Written);
    }
    // A statement of its own, that sees what the first one waited for. Nothing can be under way any more in this place: an
    // entry stands there, or the epoch is over, and the one who ended it waited for the appends of that epoch.
    let standing: Option<Uuid> =
        sqlx::query_scalar(AssertSqlSafe(format!("SELECT writer FROM {} WHERE shard = $1 AND slot = $2 AND seq = $3", table(shard, slot))))
            .bind(shard.0 as i32)
            .bind(slot as i16)
            .bind(seq.0 as i64)
            .fetch_optional(db)
            .await?;
    Ok(Appended::Standing(standing.map(|writer| WriterToken(writer.as_u128()))))
}

/// Keeps the entries from being truncated until the transaction ends: TRUNCATE does not heed snapshots
/// (<https://www.postgresql.org/docs/current/mvcc-caveats.html>). To be run before the transaction has one.
pub(super) fn keep_sql(shard: ShardId) -> String {
    format!("LOCK TABLE journal_{shard} IN ACCESS SHARE MODE")
}

/// The entries after `seq`, in order.
pub(super) async fn read(db: &mut PgConnection, shard: ShardId, after: u64) -> Result<Vec<Bytes>, sqlx::Error> {
    use futures::TryStreamExt as _;
    let sql = AssertSqlSafe(format!("SELECT payload FROM journal_{shard} WHERE seq > $1 ORDER BY seq"));
    let rows = sqlx::query(sql).bind(after as i64).fetch(db);
    rows.and_then(async |row| row.try_get::<Vec<u8>, _>(0).map(Bytes::from)).try_collect().await
}

/// Empties the slots whose entries are all in the committed checkpoint. A slot that somebody reads keeps its entries until
/// the next time: whoever waits for that lock makes others wait.
pub(super) async fn truncate(db: &mut PgConnection, shard: ShardId) -> Result<(), sqlx::Error> {
    for slot in 0..SLOTS {
        let table = table(shard, slot);
        let done =
            format!("SELECT max(seq) <= (SELECT seq FROM checkpoints WHERE shard = $1) FROM {table} WHERE shard = $1 AND slot = {slot}");
        // NULL: it is empty.
        let done = || sqlx::query_scalar::<_, Option<bool>>(AssertSqlSafe(done.clone())).bind(shard.0 as i32);
        if done().fetch_one(&mut *db).await? != Some(true) {
            continue;
        }
        let mut tx = db.begin().await?;
        let lock = format!("SET LOCAL lock_timeout = '100ms'; LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE");
        sqlx::raw_sql(AssertSqlSafe(lock)).execute(&mut *tx).await?;
        // An entry may have come between the look and the lock.
        if done().fetch_one(&mut *tx).await? == Some(true) {
            sqlx::raw_sql(AssertSqlSafe(format!("TRUNCATE {table}"))).execute(&mut *tx).await?;
        }
        tx.commit().await?;
    }
    Ok(())
}
