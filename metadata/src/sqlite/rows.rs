//! Rows to statements and back. Lists and answers are kept as protobuf in one column; everything else has its own.

use lakefall_queue::ShardId;
use lakefall_queue::ledger::{Row, RowKey, proto};
use prost::Message;
use sqlx::sqlite::SqliteArguments;
use sqlx::{Row as _, Sqlite, SqliteConnection};

use super::{schemas, store_error, usage};
use crate::queues;
use crate::store::StoreError;

pub(super) type Query = sqlx::query::Query<'static, Sqlite, SqliteArguments>;

pub(super) fn put(sql: &'static str, shard: ShardId) -> Query {
    sqlx::query(sql).bind(i64::from(shard.0))
}

pub(super) async fn put_row(tx: &mut SqliteConnection, shard: ShardId, row: &Row) -> Result<(), sqlx::Error> {
    let query = match row {
        Row::Namespace(w) => put("INSERT OR REPLACE INTO namespaces VALUES (?1, ?2, ?3, ?4, ?5)", shard)
            .bind(w.name.clone())
            .bind(w.version as i64)
            .bind(w.created_ms)
            .bind(w.description.clone()),
        Row::Topic(w) => put("INSERT OR REPLACE INTO topics VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)", shard)
            .bind(w.id as i64)
            .bind(w.namespace.clone())
            .bind(w.name.clone())
            .bind(w.version as i64)
            .bind(w.created_ms)
            .bind(w.config_json.clone()),
        Row::Partition(w) => put("INSERT OR REPLACE INTO partitions VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)", shard)
            .bind(w.topic as i64)
            .bind(i64::from(w.partition))
            .bind(w.log_start as i64)
            .bind(w.next as i64)
            .bind(w.retired as i64)
            .bind(w.fencing_token.map(|token| token.to_be_bytes().to_vec()))
            .bind(w.bytes as i64)
            .bind(w.extents as i64)
            .bind(w.deleted)
            .bind(w.compaction.as_ref().map(Message::encode_to_vec)),
        Row::Object(w) => put("INSERT OR REPLACE INTO objects VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)", shard)
            .bind(w.id.to_vec())
            .bind(w.size as i64)
            .bind(i64::from(w.live_extents))
            .bind(w.committed_ms)
            .bind(w.released_ms)
            .bind(w.refused)
            .bind(w.answer.as_ref().map(Message::encode_to_vec))
            .bind(w.key.clone()),
        Row::Cursor(w) => put("INSERT OR REPLACE INTO cursors VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)", shard)
            .bind(w.namespace.clone())
            .bind(w.cursor.clone())
            .bind(w.topic.clone())
            .bind(w.topic_id as i64)
            .bind(w.version as i64)
            .bind(w.updated_ms)
            .bind(proto::CursorRow { offsets: w.offsets.clone(), ..Default::default() }.encode_to_vec()),
        Row::Producer(w) => put("INSERT OR REPLACE INTO producers VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)", shard)
            .bind(w.topic as i64)
            .bind(i64::from(w.partition))
            .bind(w.id.clone())
            .bind(i64::from(w.epoch))
            .bind(w.next_sequence as i64)
            .bind(w.seen_ms)
            .bind(proto::ProducerRow { batches: w.batches.clone(), ..Default::default() }.encode_to_vec()),
        Row::Dedup(w) => put("INSERT OR REPLACE INTO dedup VALUES (?1, ?2, ?3, ?4, ?5, ?6)", shard)
            .bind(w.topic as i64)
            .bind(w.hash.to_vec())
            .bind(i64::from(w.partition))
            .bind(w.offset as i64)
            .bind(w.expires_ms),
        Row::Idempotency(w) => put("INSERT OR REPLACE INTO idempotency VALUES (?1, ?2, ?3, ?4, ?5)", shard)
            .bind(w.namespace.clone())
            .bind(w.key.clone())
            .bind(w.expires_ms)
            .bind(w.encode_to_vec()),
        Row::Queue(w) => put("INSERT OR REPLACE INTO queues VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)", shard)
            .bind(w.id as i64)
            .bind(w.namespace.clone())
            .bind(w.name.clone())
            .bind(w.version as i64)
            .bind(i64::from(w.generation))
            .bind(w.created_ms)
            .bind(w.config_json.clone())
            .bind(w.bindings_json.clone())
            .bind(w.acked_total as i64)
            .bind(w.dead_total as i64)
            .bind(queues::queue_rest(w)),
        Row::QueuePartition(w) => put("INSERT OR REPLACE INTO queue_partitions VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)", shard)
            .bind(w.queue as i64)
            .bind(w.topic as i64)
            .bind(i64::from(w.partition))
            .bind(w.floor as i64)
            .bind(w.head as i64)
            .bind(w.scanned as i64)
            .bind(queues::partition_rest(w)),
        Row::QueueBlock(w) => put("INSERT OR REPLACE INTO queue_blocks VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)", shard)
            .bind(w.queue as i64)
            .bind(w.topic as i64)
            .bind(i64::from(w.partition))
            .bind(w.block as i64)
            .bind(queues::finished(w))
            .bind(queues::entries(w))
            .bind(queues::block_state(w)),
        Row::Subject(w) => schemas::put_subject(shard, w),
        Row::Schema(w) => schemas::put_schema(shard, w),
        Row::Usage(w) => usage::put_usage(shard, w),
        Row::UsageReporter(w) => usage::put_reporter(shard, w),
    };
    query.execute(tx).await.map(|_| ())
}

pub(super) async fn delete_row(tx: &mut SqliteConnection, shard: ShardId, key: &RowKey) -> Result<(), sqlx::Error> {
    let query = match key {
        RowKey::Namespace(name) => put("DELETE FROM namespaces WHERE shard = ?1 AND name = ?2", shard).bind(name.to_string()),
        RowKey::Topic(id) => put("DELETE FROM topics WHERE shard = ?1 AND id = ?2", shard).bind(id.0 as i64),
        RowKey::Partition(topic, index) => put("DELETE FROM partitions WHERE shard = ?1 AND topic = ?2 AND partition = ?3", shard)
            .bind(topic.0 as i64)
            .bind(i64::from(index.0)),
        RowKey::Object(id) => put("DELETE FROM objects WHERE shard = ?1 AND id = ?2", shard).bind(id.0.as_bytes().to_vec()),
        RowKey::Cursor((namespace, cursor, topic)) => {
            put("DELETE FROM cursors WHERE shard = ?1 AND namespace = ?2 AND cursor = ?3 AND topic = ?4", shard)
                .bind(namespace.to_string())
                .bind(cursor.to_string())
                .bind(topic.to_string())
        }
        RowKey::Producer((topic, index, id)) => {
            put("DELETE FROM producers WHERE shard = ?1 AND topic = ?2 AND partition = ?3 AND id = ?4", shard)
                .bind(topic.0 as i64)
                .bind(i64::from(index.0))
                .bind(id.to_string())
        }
        RowKey::Dedup(topic, hash) => put("DELETE FROM dedup WHERE shard = ?1 AND topic = ?2 AND hash = ?3", shard)
            .bind(topic.0 as i64)
            .bind(hash.to_be_bytes().to_vec()),
        RowKey::Idempotency(namespace, key) => put("DELETE FROM idempotency WHERE shard = ?1 AND namespace = ?2 AND key = ?3", shard)
            .bind(namespace.to_string())
            .bind(key.to_string()),
        RowKey::Queue(id) => put("DELETE FROM queues WHERE shard = ?1 AND id = ?2", shard).bind(id.0 as i64),
        RowKey::QueuePartition(queue, topic, index) => {
            put("DELETE FROM queue_partitions WHERE shard = ?1 AND queue = ?2 AND topic = ?3 AND partition = ?4", shard)
                .bind(queue.0 as i64)
                .bind(topic.0 as i64)
                .bind(i64::from(index.0))
        }
        RowKey::QueueBlock(queue, topic, index, block) => {
            put("DELETE FROM queue_blocks WHERE shard = ?1 AND queue = ?2 AND topic = ?3 AND partition = ?4 AND block = ?5", shard)
                .bind(queue.0 as i64)
                .bind(topic.0 as i64)
                .bind(i64::from(index.0))
                .bind(*block as i64)
        }
        RowKey::Subject((namespace, name)) => schemas::delete_subject(shard, namespace, name),
        RowKey::Schema((namespace, subject), version) => schemas::delete_schema(shard, namespace, subject, *version),
        RowKey::Usage(key) => usage::delete_usage(shard, key),
        RowKey::UsageReporter(reporter) => usage::delete_reporter(shard, *reporter),
    };
    query.execute(tx).await.map(|_| ())
}

/// Every row of a shard but its extents.
pub(super) async fn load_rows(tx: &mut SqliteConnection, shard: ShardId) -> Result<Vec<Row>, StoreError> {
    // A database that was last written by an earlier program, and is only looked at, may have no such tables.
    let mut loads = LOADS.to_vec();
    for (table, more) in [("queue_blocks", QUEUE_LOADS), ("schemas", schemas::LOADS), ("usage_reporters", usage::LOADS)] {
        let known = sqlx::query("SELECT 1 FROM sqlite_schema WHERE name = ?1").bind(table).fetch_optional(&mut *tx).await;
        if known.map_err(store_error)?.is_some() {
            loads.extend_from_slice(more);
        }
    }
    let mut rows = Vec::new();
    for (sql, read) in loads {
        let found = sqlx::query(sql).bind(i64::from(shard.0)).fetch_all(&mut *tx).await.map_err(store_error)?;
        for row in &found {
            rows.push(read(row).map_err(|e| StoreError::Corrupt(e.to_string()))?);
        }
    }
    Ok(rows)
}

pub(super) type Read = fn(&sqlx::sqlite::SqliteRow) -> Result<Row, Box<dyn std::error::Error + Send + Sync>>;

const LOADS: &[(&str, Read)] = &[
    ("SELECT name, version, created_ms, description FROM namespaces WHERE shard = ?1", |r| {
        let (version, created_ms): (i64, i64) = (r.try_get(1)?, r.try_get(2)?);
        Ok(Row::Namespace(proto::NamespaceRow { name: r.try_get(0)?, version: version as u64, created_ms, description: r.try_get(3)? }))
    }),
    ("SELECT id, namespace, name, version, created_ms, config_json FROM topics WHERE shard = ?1", |r| {
        let (id, version): (i64, i64) = (r.try_get(0)?, r.try_get(3)?);
        Ok(Row::Topic(proto::TopicRow {
            id: id as u64,
            namespace: r.try_get(1)?,
            name: r.try_get(2)?,
            version: version as u64,
            created_ms: r.try_get(4)?,
            config_json: r.try_get(5)?,
        }))
    }),
    (
        "SELECT topic, partition, log_start, next, retired, fencing_token, bytes, extents, deleted, compaction
      FROM partitions WHERE shard = ?1",
        |r| {
            let number = |i: usize| r.try_get::<i64, _>(i).map(|n| n as u64);
            let token: Option<Vec<u8>> = r.try_get(5)?;
            Ok(Row::Partition(proto::PartitionRow {
                topic: number(0)?,
                partition: number(1)? as u32,
                log_start: number(2)?,
                next: number(3)?,
                retired: number(4)?,
                fencing_token: token.map(|bytes| bytes.as_slice().try_into().map(u64::from_be_bytes)).transpose()?,
                bytes: number(6)?,
                extents: number(7)?,
                deleted: r.try_get(8)?,
                compaction: r.try_get::<Option<Vec<u8>>, _>(9)?.map(|bytes| proto::CompactionState::decode(&bytes[..])).transpose()?,
            }))
        },
    ),
    ("SELECT id, size, live_extents, committed_ms, released_ms, refused, answer, key FROM objects WHERE shard = ?1", |r| {
        let (size, live_extents): (i64, i64) = (r.try_get(1)?, r.try_get(2)?);
        let answer: Option<Vec<u8>> = r.try_get(6)?;
        Ok(Row::Object(proto::ObjectRow {
            id: r.try_get::<Vec<u8>, _>(0)?.into(),
            size: size as u64,
            live_extents: live_extents as u32,
            committed_ms: r.try_get(3)?,
            released_ms: r.try_get(4)?,
            refused: r.try_get(5)?,
            answer: answer.map(|bytes| proto::CommitReply::decode(&bytes[..])).transpose()?,
            key: r.try_get(7)?,
        }))
    }),
    ("SELECT namespace, cursor, topic, topic_id, version, updated_ms, offsets FROM cursors WHERE shard = ?1", |r| {
        let (topic_id, version): (i64, i64) = (r.try_get(3)?, r.try_get(4)?);
        Ok(Row::Cursor(proto::CursorRow {
            namespace: r.try_get(0)?,
            cursor: r.try_get(1)?,
            topic: r.try_get(2)?,
            topic_id: topic_id as u64,
            version: version as u64,
            updated_ms: r.try_get(5)?,
            offsets: proto::CursorRow::decode(&r.try_get::<Vec<u8>, _>(6)?[..])?.offsets,
        }))
    }),
    ("SELECT topic, partition, id, epoch, next_sequence, seen_ms, batches FROM producers WHERE shard = ?1", |r| {
        let number = |i: usize| r.try_get::<i64, _>(i).map(|n| n as u64);
        Ok(Row::Producer(proto::ProducerRow {
            topic: number(0)?,
            partition: number(1)? as u32,
            id: r.try_get(2)?,
            epoch: number(3)? as u32,
            next_sequence: number(4)?,
            seen_ms: r.try_get(5)?,
            batches: proto::ProducerRow::decode(&r.try_get::<Vec<u8>, _>(6)?[..])?.batches,
        }))
    }),
    ("SELECT topic, hash, partition, record_offset, expires_ms FROM dedup WHERE shard = ?1", |r| {
        let (topic, partition, offset): (i64, i64, i64) = (r.try_get(0)?, r.try_get(2)?, r.try_get(3)?);
        Ok(Row::Dedup(proto::DedupRow {
            topic: topic as u64,
            hash: r.try_get::<Vec<u8>, _>(1)?.into(),
            partition: partition as u32,
            offset: offset as u64,
            expires_ms: r.try_get(4)?,
        }))
    }),
    ("SELECT answer FROM idempotency WHERE shard = ?1", |r| {
        Ok(Row::Idempotency(proto::IdempotencyRow::decode(&r.try_get::<Vec<u8>, _>(0)?[..])?))
    }),
];

const QUEUE_LOADS: &[(&str, Read)] = &[
    (
        "SELECT id, namespace, name, version, generation, created_ms, config_json, bindings_json, acked_total, dead_total, more
         FROM queues WHERE shard = ?1",
        |r| {
            let number = |i: usize| r.try_get::<i64, _>(i).map(|n| n as u64);
            Ok(Row::Queue(proto::QueueRow {
                id: number(0)?,
                namespace: r.try_get(1)?,
                name: r.try_get(2)?,
                version: number(3)?,
                generation: number(4)? as u32,
                created_ms: r.try_get(5)?,
                config_json: r.try_get(6)?,
                bindings_json: r.try_get(7)?,
                acked_total: number(8)?,
                dead_total: number(9)?,
                ..proto::QueueRow::decode(&r.try_get::<Vec<u8>, _>(10)?[..])?
            }))
        },
    ),
    ("SELECT queue, topic, partition, floor, head, scanned, more FROM queue_partitions WHERE shard = ?1", |r| {
        let number = |i: usize| r.try_get::<i64, _>(i).map(|n| n as u64);
        let mut w = proto::QueuePartitionRow::decode(&r.try_get::<Vec<u8>, _>(6)?[..])?;
        (w.queue, w.topic, w.partition) = (number(0)?, number(1)?, number(2)? as u32);
        (w.floor, w.head, w.scanned) = (number(3)?, number(4)?, number(5)?);
        Ok(Row::QueuePartition(w))
    }),
    ("SELECT queue, topic, partition, block, state FROM queue_blocks WHERE shard = ?1", |r| {
        let number = |i: usize| r.try_get::<i64, _>(i).map(|n| n as u64);
        Ok(Row::QueueBlock(proto::QueueBlockRow {
            queue: number(0)?,
            topic: number(1)?,
            partition: number(2)? as u32,
            block: number(3)?,
            ..proto::QueueBlockRow::decode(&r.try_get::<Vec<u8>, _>(4)?[..])?
        }))
    }),
];
