//! The extents' table. Must never read much more than is asked for: a partition may have millions.

use lakefall_queue::ledger::{Extent, proto};
use lakefall_queue::{Offset, PartitionIndex, ShardId, Timestamp, TopicId};
use sqlx::AssertSqlSafe;
use sqlx::Row as _;
use sqlx::postgres::{PgConnection, PgRow};
use sqlx::types::Uuid;

use super::put::AT_ONCE;
use crate::store::ExtentScan;

/// Extents of the first page; each page after it has four times as many. So a scan reads at most four times what it needs.
const FIRST_PAGE: usize = 32;
const LAST_PAGE: usize = 8_192;

const COLUMNS: &str =
    "base_offset, records, object, position, length, first_timestamp_ms, max_timestamp_ms, appended_ms, object_size, level";

/// The extent that holds `from` begins at or before it: step back to it by the key, then go on forward.
pub(super) fn scan_sql() -> String {
    format!(
        "SELECT {COLUMNS} FROM extents WHERE shard = $1 AND topic = $2 AND partition = $3 AND base_offset < $5 AND base_offset >=
            coalesce((SELECT max(base_offset) FROM extents WHERE shard = $1 AND topic = $2 AND partition = $3 AND base_offset <= $4), $4)
         ORDER BY base_offset LIMIT $6"
    )
}

/// Finds the first extent with a record at or after a time ($5), from offset $4 on.
///
/// `latest_ms` never falls along a partition, so the first extent where it reaches the time is found by halving the range of
/// offsets: a look at the index for each of its bits. If that is after the beginning, it is the one. If the time was
/// reached before the beginning already, by an extent that is not wanted, the next one that reaches it is looked for one by
/// one: mostly the first. `OFFSET 0` keeps each look from being made twice.
pub(super) fn find_sql() -> String {
    format!(
        "WITH RECURSIVE bounds AS MATERIALIZED (
             SELECT coalesce((SELECT max(base_offset) FROM extents WHERE {PARTITION} AND base_offset <= $4), $4) AS first,
                    (SELECT max(base_offset) FROM extents WHERE {PARTITION}) AS last
         ), halving AS (
             SELECT first AS low, last AS high FROM bounds WHERE first <= last
             UNION ALL
             SELECT CASE WHEN reached THEN low ELSE middle + 1 END, CASE WHEN reached THEN middle ELSE high END
             FROM (
                 SELECT low, high, low + (high - low) / 2 AS middle, (
                     SELECT latest_ms >= $5 FROM extents WHERE {PARTITION} AND base_offset >= halving.low
                        AND base_offset <= halving.low + (halving.high - halving.low) / 2 ORDER BY base_offset DESC LIMIT 1
                 ) IS TRUE AS reached FROM halving WHERE low < high OFFSET 0
             ) looked
         ), candidate AS (
             SELECT min(low) AS low FROM halving WHERE low >= high
         )
         SELECT {COLUMNS} FROM extents
         WHERE {PARTITION} AND base_offset >= (SELECT low FROM candidate) AND base_offset + records > $4 AND max_timestamp_ms >= $5
         ORDER BY base_offset LIMIT 1"
    )
}

const PARTITION: &str = "shard = $1 AND topic = $2 AND partition = $3";

fn clamp(offset: Offset) -> i64 {
    i64::try_from(offset.0).unwrap_or(i64::MAX)
}

pub(super) async fn scan(db: &mut PgConnection, shard: ShardId, scan: &ExtentScan) -> Result<Vec<Extent>, sqlx::Error> {
    let mut found: Vec<Extent> = Vec::new();
    let mut page = FIRST_PAGE;
    let (mut bytes, mut from) = (0_u64, scan.from);
    loop {
        // One more: the extent at which a page begins may end before what is wanted.
        let limit = page.min(scan.max_extents.max(1) - found.len()) + 1;
        let rows = sqlx::query(AssertSqlSafe(scan_sql()))
            .bind(shard.0 as i32)
            .bind(scan.topic.0 as i64)
            .bind(scan.partition.0 as i32)
            .bind(clamp(from))
            .bind(clamp(scan.below))
            .bind(limit as i64)
            .fetch_all(&mut *db)
            .await?;
        for row in &rows {
            let extent = extent(row)?;
            if extent.end() <= from {
                continue;
            }
            // Between two pages the extents after the first ones may have been let go of.
            if found.last().is_some_and(|last| last.end() != extent.base_offset) {
                return Ok(found);
            }
            bytes += u64::from(extent.length);
            from = extent.end();
            found.push(extent);
            if bytes >= scan.max_bytes || found.len() >= scan.max_extents.max(1) {
                return Ok(found);
            }
        }
        if rows.len() < limit {
            return Ok(found);
        }
        page = (page * 4).min(LAST_PAGE);
    }
}

pub(super) async fn find(
    db: &mut PgConnection,
    shard: ShardId,
    (topic, partition): (TopicId, PartitionIndex),
    from: Offset,
    at: Timestamp,
) -> Result<Option<Extent>, sqlx::Error> {
    let row = sqlx::query(AssertSqlSafe(find_sql()))
        .bind(shard.0 as i32)
        .bind(topic.0 as i64)
        .bind(partition.0 as i32)
        .bind(clamp(from))
        .bind(at.as_millis())
        .fetch_optional(db)
        .await?;
    row.as_ref().map(extent).transpose()
}

fn extent(row: &PgRow) -> Result<Extent, sqlx::Error> {
    let number = |i: usize| row.try_get::<i64, _>(i);
    let stored = proto::ExtentRow {
        base_offset: number(0)? as u64,
        records: number(1)? as u32,
        object: bytes::Bytes::copy_from_slice(row.try_get::<Uuid, _>(2)?.as_bytes()),
        position: number(3)? as u64,
        length: number(4)? as u32,
        first_timestamp_ms: number(5)?,
        max_timestamp_ms: number(6)?,
        appended_ms: number(7)?,
        object_size: number(8)? as u64,
        level: row.try_get::<i16, _>(9)? as u32,
        ..Default::default()
    };
    stored.to_extent().ok_or_else(|| sqlx::Error::Decode("an extent's object id is malformed".into()))
}

/// The latest time that each partition has reached before an offset; in the order of what is asked.
pub(super) const LATEST: &str = "
    SELECT before.latest_ms
    FROM unnest($2::bigint[], $3::int[], $4::bigint[]) WITH ORDINALITY AS v (topic, partition, base_offset, at)
    LEFT JOIN LATERAL (
        SELECT e.latest_ms FROM extents e
        WHERE e.shard = $1 AND e.topic = v.topic AND e.partition = v.partition AND e.base_offset < v.base_offset
        ORDER BY e.base_offset DESC LIMIT 1
    ) before ON true
    ORDER BY v.at";

/// A checkpoint whose commit was in doubt is written again, so the rows may be there.
pub(super) const PUT: &str = "
    INSERT INTO extents (shard, topic, partition, base_offset, records, object, position, length, first_timestamp_ms, max_timestamp_ms,
        appended_ms, object_size, level, latest_ms)
    SELECT $1, * FROM unnest($2::bigint[], $3::int[], $4::bigint[], $5::bigint[], $6::uuid[], $7::bigint[], $8::bigint[], $9::bigint[],
        $10::bigint[], $11::bigint[], $12::bigint[], $13::smallint[], $14::bigint[])
    ON CONFLICT (shard, topic, partition, base_offset) DO UPDATE SET records = EXCLUDED.records, object = EXCLUDED.object,
        position = EXCLUDED.position, length = EXCLUDED.length, first_timestamp_ms = EXCLUDED.first_timestamp_ms,
        max_timestamp_ms = EXCLUDED.max_timestamp_ms, appended_ms = EXCLUDED.appended_ms, object_size = EXCLUDED.object_size,
        level = EXCLUDED.level, latest_ms = EXCLUDED.latest_ms";

/// Adds extents, which are in the order of their partitions and offsets.
pub(super) async fn put(db: &mut PgConnection, shard: ShardId, rows: &[proto::ExtentRow]) -> Result<(), sqlx::Error> {
    for rows in rows.chunks(AT_ONCE) {
        let latest = latest(db, shard, rows).await?;
        let numbers = |value: fn(&proto::ExtentRow) -> i64| rows.iter().map(value).collect::<Vec<i64>>();
        sqlx::query(PUT)
            .persistent(false)
            .bind(shard.0 as i32)
            .bind(numbers(|w| w.topic as i64))
            .bind(rows.iter().map(|w| w.partition as i32).collect::<Vec<i32>>())
            .bind(numbers(|w| w.base_offset as i64))
            .bind(numbers(|w| i64::from(w.records)))
            .bind(rows.iter().map(|w| Uuid::from_slice(&w.object).unwrap_or_default()).collect::<Vec<Uuid>>())
            .bind(numbers(|w| w.position as i64))
            .bind(numbers(|w| i64::from(w.length)))
            .bind(numbers(|w| w.first_timestamp_ms))
            .bind(numbers(|w| w.max_timestamp_ms))
            .bind(numbers(|w| w.appended_ms))
            .bind(numbers(|w| w.object_size as i64))
            .bind(rows.iter().map(|w| w.level as i16).collect::<Vec<i16>>())
            .bind(latest)
            .execute(&mut *db)
            .await?;
    }
    Ok(())
}

/// `latest_ms` of each row: the table is asked once for each partition, the rest is in the rows themselves.
async fn latest(db: &mut PgConnection, shard: ShardId, rows: &[proto::ExtentRow]) -> Result<Vec<i64>, sqlx::Error> {
    let partitions: Vec<&[proto::ExtentRow]> = rows.chunk_by(|a, b| (a.topic, a.partition) == (b.topic, b.partition)).collect();
    let before: Vec<Option<i64>> = sqlx::query_scalar(LATEST)
        .persistent(false)
        .bind(shard.0 as i32)
        .bind(partitions.iter().map(|rows| rows[0].topic as i64).collect::<Vec<i64>>())
        .bind(partitions.iter().map(|rows| rows[0].partition as i32).collect::<Vec<i32>>())
        .bind(partitions.iter().map(|rows| rows[0].base_offset as i64).collect::<Vec<i64>>())
        .fetch_all(db)
        .await?;
    let mut latest = Vec::with_capacity(rows.len());
    for (rows, before) in partitions.into_iter().zip(before) {
        latest.extend(rows.iter().scan(before.unwrap_or(i64::MIN), |reached, row| {
            *reached = row.max_timestamp_ms.max(*reached);
            Some(*reached)
        }));
    }
    Ok(latest)
}

pub(super) const DELETE_RANGES: &str =
    "DELETE FROM extents e USING unnest($2::bigint[], $3::int[], $4::bigint[], $5::bigint[]) AS gone (topic, partition, since, below)
    WHERE e.shard = $1 AND e.topic = gone.topic AND e.partition = gone.partition AND e.base_offset >= gone.since
        AND e.base_offset < gone.below";

/// Deletes the extents of each partition that begin within a range of offsets.
pub(super) async fn delete_ranges(
    db: &mut PgConnection,
    shard: ShardId,
    ranges: &[(TopicId, PartitionIndex, Offset, Offset)],
) -> Result<(), sqlx::Error> {
    super::put::put(db, ranges, |rows| {
        sqlx::query(DELETE_RANGES)
            .persistent(false)
            .bind(shard.0 as i32)
            .bind(rows.iter().map(|(topic, ..)| topic.0 as i64).collect::<Vec<i64>>())
            .bind(rows.iter().map(|(_, index, ..)| index.0 as i32).collect::<Vec<i32>>())
            .bind(rows.iter().map(|(_, _, since, _)| clamp(*since)).collect::<Vec<i64>>())
            .bind(rows.iter().map(|(.., below)| clamp(*below)).collect::<Vec<i64>>())
    })
    .await
}

pub(super) const DELETE: &str =
    "DELETE FROM extents e USING unnest($2::bigint[], $3::int[], $4::bigint[]) AS gone (topic, partition, below)
    WHERE e.shard = $1 AND e.topic = gone.topic AND e.partition = gone.partition AND e.base_offset < gone.below";

/// Deletes the extents of each partition below an offset.
pub(super) async fn delete(
    db: &mut PgConnection,
    shard: ShardId,
    retired: &[(TopicId, PartitionIndex, Offset)],
) -> Result<(), sqlx::Error> {
    super::put::put(db, retired, |rows| {
        sqlx::query(DELETE)
            .persistent(false)
            .bind(shard.0 as i32)
            .bind(rows.iter().map(|(topic, _, _)| topic.0 as i64).collect::<Vec<i64>>())
            .bind(rows.iter().map(|(_, index, _)| index.0 as i32).collect::<Vec<i32>>())
            .bind(rows.iter().map(|(_, _, below)| clamp(*below)).collect::<Vec<i64>>())
    })
    .await
}
