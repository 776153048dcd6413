//! The rows of queues to statements and back. Must never put many blocks into one statement: one may take tens of kilobytes.

use lakefall_queue::ShardId;
use lakefall_queue::ledger::{Checkpoint, Row, RowKey, proto};
use sqlx::Row as _;
use sqlx::postgres::PgConnection;

use super::load::{Read, message, small, unsigned};
use super::put::{Query, Table, column, put, put_portions, query};
use crate::queues::{block_state, entries, finished, partition_rest, queue_rest};

/// Blocks of one statement: a few megabytes at most.
const BLOCKS_AT_ONCE: usize = 64;

const QUEUES: Table = Table {
    name: "queues",
    key: &[("id", "bigint")],
    values: &[
        ("namespace", "text"),
        ("name", "text"),
        ("version", "bigint"),
        ("generation", "bigint"),
        ("created_ms", "bigint"),
        ("config", "json"),
        ("bindings", "json"),
        ("acked_total", "bigint"),
        ("dead_total", "bigint"),
        ("more", "bytea"),
    ],
};
const PARTITIONS: Table = Table {
    name: "queue_partitions",
    key: &[("queue", "bigint"), ("topic", "bigint"), ("partition", "int")],
    values: &[("floor", "bigint"), ("head", "bigint"), ("scanned", "bigint"), ("more", "bytea")],
};
const BLOCKS: Table = Table {
    name: "queue_blocks",
    key: &[("queue", "bigint"), ("topic", "bigint"), ("partition", "int"), ("block", "bigint")],
    values: &[("finished", "int"), ("entries", "int"), ("state", "bytea")],
};

/// Writes the queues among a checkpoint's rows.
pub(super) async fn put_rows(db: &mut PgConnection, shard: ShardId, checkpoint: &Checkpoint) -> Result<(), sqlx::Error> {
    let (mut heads, mut places, mut parts) = (Vec::new(), Vec::new(), Vec::new());
    for row in &checkpoint.puts {
        match row {
            Row::Queue(w) => heads.push(w),
            Row::QueuePartition(w) => places.push(w),
            Row::QueueBlock(w) => parts.push(w),
            _ => {}
        }
    }
    put(db, &heads, |rows| queues(shard, rows)).await?;
    put(db, &places, |rows| partitions(shard, rows)).await?;
    put_portions(db, &parts, BLOCKS_AT_ONCE, |rows| blocks(shard, rows)).await
}

fn queues(shard: ShardId, rows: &[&proto::QueueRow]) -> Query {
    query(QUEUES.upsert(), shard)
        .bind(column(rows, |w| w.id as i64))
        .bind(column(rows, |w| w.namespace.clone()))
        .bind(column(rows, |w| w.name.clone()))
        .bind(column(rows, |w| w.version as i64))
        .bind(column(rows, |w| i64::from(w.generation)))
        .bind(column(rows, |w| w.created_ms))
        .bind(column(rows, |w| json(&w.config_json)))
        .bind(column(rows, |w| json(&w.bindings_json)))
        .bind(column(rows, |w| w.acked_total as i64))
        .bind(column(rows, |w| w.dead_total as i64))
        .bind(column(rows, |w| queue_rest(w)))
}

/// A row that says nothing says so in JSON.
fn json(text: &str) -> String {
    if text.is_empty() { "{}".to_owned() } else { text.to_owned() }
}

fn partitions(shard: ShardId, rows: &[&proto::QueuePartitionRow]) -> Query {
    query(PARTITIONS.upsert(), shard)
        .bind(column(rows, |w| w.queue as i64))
        .bind(column(rows, |w| w.topic as i64))
        .bind(column(rows, |w| w.partition as i32))
        .bind(column(rows, |w| w.floor as i64))
        .bind(column(rows, |w| w.head as i64))
        .bind(column(rows, |w| w.scanned as i64))
        .bind(column(rows, |w| partition_rest(w)))
}

fn blocks(shard: ShardId, rows: &[&proto::QueueBlockRow]) -> Query {
    query(BLOCKS.upsert(), shard)
        .bind(column(rows, |w| w.queue as i64))
        .bind(column(rows, |w| w.topic as i64))
        .bind(column(rows, |w| w.partition as i32))
        .bind(column(rows, |w| w.block as i64))
        .bind(column(rows, |w| finished(w)))
        .bind(column(rows, |w| entries(w)))
        .bind(column(rows, |w| block_state(w)))
}

/// Deletes the queues among a checkpoint's keys.
pub(super) async fn delete_rows(db: &mut PgConnection, shard: ShardId, keys: &[RowKey]) -> Result<(), sqlx::Error> {
    let (mut heads, mut places, mut parts) = (Vec::new(), Vec::new(), Vec::new());
    for key in keys {
        match key {
            RowKey::Queue(queue) => heads.push(queue.0 as i64),
            RowKey::QueuePartition(queue, topic, index) => places.push((queue.0 as i64, topic.0 as i64, index.0 as i32)),
            RowKey::QueueBlock(queue, topic, index, block) => parts.push((queue.0 as i64, topic.0 as i64, index.0 as i32, *block as i64)),
            _ => {}
        }
    }
    put(db, &heads, |rows| query(QUEUES.delete(), shard).bind(rows.to_vec())).await?;
    put(db, &places, |rows| {
        let query = query(PARTITIONS.delete(), shard).bind(column(rows, |k| k.0));
        query.bind(column(rows, |k| k.1)).bind(column(rows, |k| k.2))
    })
    .await?;
    put(db, &parts, |rows| {
        let query = query(BLOCKS.delete(), shard).bind(column(rows, |k| k.0)).bind(column(rows, |k| k.1));
        query.bind(column(rows, |k| k.2)).bind(column(rows, |k| k.3))
    })
    .await
}

pub(super) const LOADS: &[(&str, Read)] = &[
    (
        "SELECT id, namespace, name, version, generation, created_ms, config::text, bindings::text, acked_total, dead_total, more
         FROM queues WHERE shard = $1",
        |r| {
            Ok(Row::Queue(proto::QueueRow {
                id: unsigned(r, 0)?,
                namespace: r.try_get(1)?,
                name: r.try_get(2)?,
                version: unsigned(r, 3)?,
                generation: unsigned(r, 4)? as u32,
                created_ms: r.try_get(5)?,
                config_json: r.try_get(6)?,
                bindings_json: r.try_get(7)?,
                acked_total: unsigned(r, 8)?,
                dead_total: unsigned(r, 9)?,
                ..message(r, 10)?
            }))
        },
    ),
    ("SELECT queue, topic, partition, floor, head, scanned, more FROM queue_partitions WHERE shard = $1", |r| {
        let mut w: proto::QueuePartitionRow = message(r, 6)?;
        (w.queue, w.topic, w.partition) = (unsigned(r, 0)?, unsigned(r, 1)?, small(r, 2)?);
        (w.floor, w.head, w.scanned) = (unsigned(r, 3)?, unsigned(r, 4)?, unsigned(r, 5)?);
        Ok(Row::QueuePartition(w))
    }),
    ("SELECT queue, topic, partition, block, state FROM queue_blocks WHERE shard = $1", |r| {
        Ok(Row::QueueBlock(proto::QueueBlockRow {
            queue: unsigned(r, 0)?,
            topic: unsigned(r, 1)?,
            partition: small(r, 2)?,
            block: unsigned(r, 3)?,
            ..message(r, 4)?
        }))
    }),
];
