//! Rows as they were written. Must never keep more than one row of the server's answer beside what it makes of it: a shard
//! may have millions.

use futures::TryStreamExt as _;
use lakefall_queue::ShardId;
use lakefall_queue::ledger::{Row, ShardRow, proto};
use prost::Message;
use sqlx::Row as _;
use sqlx::postgres::{PgConnection, PgRow};
use sqlx::types::Uuid;

use super::text::original;
use super::{queues, schemas, usage};

/// The last checkpoint, if there is one.
pub(super) async fn shard_row(db: &mut PgConnection, shard: ShardId) -> Result<Option<ShardRow>, sqlx::Error> {
    let query = sqlx::query("SELECT version, seq, epoch, time_ms, next_topic FROM checkpoints WHERE shard = $1").bind(shard.0 as i32);
    let Some(row) = query.fetch_optional(db).await? else { return Ok(None) };
    Ok(Some(ShardRow {
        version: row.try_get::<i32, _>(0)? as u32,
        seq: unsigned(&row, 1)?,
        epoch: unsigned(&row, 2)?,
        time_ms: row.try_get(3)?,
        next_topic: unsigned(&row, 4)?,
    }))
}

/// Every row of a shard but its extents.
pub(super) async fn rows(db: &mut PgConnection, shard: ShardId) -> Result<Vec<Row>, sqlx::Error> {
    let mut rows = Vec::new();
    for (sql, read) in LOADS.iter().chain(queues::LOADS).chain(schemas::LOADS).chain(usage::LOADS) {
        let mut found = sqlx::query(*sql).bind(shard.0 as i32).fetch(&mut *db);
        while let Some(row) = found.try_next().await? {
            rows.push(read(&row)?);
        }
    }
    Ok(rows)
}

pub(super) fn unsigned(row: &PgRow, column: usize) -> Result<u64, sqlx::Error> {
    row.try_get::<i64, _>(column).map(|number| number as u64)
}

pub(super) fn small(row: &PgRow, column: usize) -> Result<u32, sqlx::Error> {
    row.try_get::<i32, _>(column).map(|number| number as u32)
}

fn text(row: &PgRow, column: usize) -> Result<String, sqlx::Error> {
    row.try_get(column).map(original)
}

pub(super) fn uuid(row: &PgRow, column: usize) -> Result<bytes::Bytes, sqlx::Error> {
    row.try_get::<Uuid, _>(column).map(|id| bytes::Bytes::copy_from_slice(id.as_bytes()))
}

pub(super) fn message<M: Message + Default>(row: &PgRow, column: usize) -> Result<M, sqlx::Error> {
    M::decode(row.try_get::<&[u8], _>(column)?).map_err(malformed)
}

fn optional<M: Message + Default>(row: &PgRow, column: usize) -> Result<Option<M>, sqlx::Error> {
    if row.try_get::<Option<&[u8]>, _>(column)?.is_some() { message(row, column).map(Some) } else { Ok(None) }
}

fn malformed(error: impl std::error::Error + Send + Sync + 'static) -> sqlx::Error {
    sqlx::Error::Decode(Box::new(error))
}

pub(super) type Read = fn(&PgRow) -> Result<Row, sqlx::Error>;

const LOADS: &[(&str, Read)] = &[
    ("SELECT name, version, created_ms, description FROM namespaces WHERE shard = $1", |r| {
        Ok(Row::Namespace(proto::NamespaceRow {
            name: r.try_get(0)?,
            version: unsigned(r, 1)?,
            created_ms: r.try_get(2)?,
            description: text(r, 3)?,
        }))
    }),
    ("SELECT id, namespace, name, version, created_ms, config::text FROM topics WHERE shard = $1", |r| {
        Ok(Row::Topic(proto::TopicRow {
            id: unsigned(r, 0)?,
            namespace: r.try_get(1)?,
            name: r.try_get(2)?,
            version: unsigned(r, 3)?,
            created_ms: r.try_get(4)?,
            config_json: r.try_get(5)?,
        }))
    }),
    (
        "SELECT topic, partition, log_start, next, retired, bytes, extents, deleted, fencing_token::text, compaction
         FROM partitions WHERE shard = $1",
        |r| {
            let token: Option<&str> = r.try_get(8)?;
            Ok(Row::Partition(proto::PartitionRow {
                topic: unsigned(r, 0)?,
                partition: small(r, 1)?,
                log_start: unsigned(r, 2)?,
                next: unsigned(r, 3)?,
                retired: unsigned(r, 4)?,
                bytes: unsigned(r, 5)?,
                extents: unsigned(r, 6)?,
                deleted: r.try_get(7)?,
                fencing_token: token.map(|digits| digits.parse().map_err(malformed)).transpose()?,
                compaction: optional(r, 9)?,
            }))
        },
    ),
    ("SELECT id, size, live_extents, committed_ms, released_ms, refused, answer, key FROM objects WHERE shard = $1", |r| {
        Ok(Row::Object(proto::ObjectRow {
            id: uuid(r, 0)?,
            size: unsigned(r, 1)?,
            live_extents: unsigned(r, 2)? as u32,
            committed_ms: r.try_get(3)?,
            released_ms: r.try_get(4)?,
            refused: r.try_get(5)?,
            answer: optional(r, 6)?,
            key: r.try_get(7)?,
        }))
    }),
    ("SELECT namespace, cursor, topic, topic_id, version, updated_ms, partitions, offsets FROM cursors WHERE shard = $1", |r| {
        let (partitions, offsets): (Vec<i32>, Vec<i64>) = (r.try_get(6)?, r.try_get(7)?);
        let offset = |(partition, offset): (i32, i64)| proto::PartitionOffset { partition: partition as u32, offset: offset as u64 };
        Ok(Row::Cursor(proto::CursorRow {
            namespace: r.try_get(0)?,
            cursor: r.try_get(1)?,
            topic: r.try_get(2)?,
            topic_id: unsigned(r, 3)?,
            version: unsigned(r, 4)?,
            updated_ms: r.try_get(5)?,
            offsets: partitions.into_iter().zip(offsets).map(offset).collect(),
        }))
    }),
    ("SELECT topic, partition, id, epoch, next_sequence, seen_ms, batches FROM producers WHERE shard = $1", |r| {
        Ok(Row::Producer(proto::ProducerRow {
            topic: unsigned(r, 0)?,
            partition: small(r, 1)?,
            id: text(r, 2)?,
            epoch: unsigned(r, 3)? as u32,
            next_sequence: unsigned(r, 4)?,
            seen_ms: r.try_get(5)?,
            batches: message::<proto::ProducerRow>(r, 6)?.batches,
        }))
    }),
    ("SELECT topic, hash, partition, record_offset, expires_ms FROM dedup WHERE shard = $1", |r| {
        Ok(Row::Dedup(proto::DedupRow {
            topic: unsigned(r, 0)?,
            hash: uuid(r, 1)?,
            partition: small(r, 2)?,
            offset: unsigned(r, 3)?,
            expires_ms: r.try_get(4)?,
        }))
    }),
    ("SELECT answer FROM idempotency WHERE shard = $1", |r| Ok(Row::Idempotency(message(r, 0)?))),
];
