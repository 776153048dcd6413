//! The rows of usage to statements and back.

use lakefall_queue::ShardId;
use lakefall_queue::ledger::{Checkpoint, Row, RowKey, proto};
use prost::Message as _;
use sqlx::Row as _;
use sqlx::postgres::PgConnection;
use sqlx::types::Uuid;

use super::load::{Read, message, unsigned, uuid};
use super::put::{Table, column, put, query};
use crate::usage::grain_number;

const USAGE: Table = Table {
    name: "usage",
    key: &[("namespace", "text"), ("topic", "bigint"), ("grain", "int"), ("start_ms", "bigint")],
    values: &[("counts", "bytea")],
};
const REPORTERS: Table =
    Table { name: "usage_reporters", key: &[("reporter", "uuid")], values: &[("sequence", "bigint"), ("seen_ms", "bigint")] };

/// Writes the usage among a checkpoint's rows.
pub(super) async fn put_rows(db: &mut PgConnection, shard: ShardId, checkpoint: &Checkpoint) -> Result<(), sqlx::Error> {
    let (mut usage, mut reporters) = (Vec::new(), Vec::new());
    for row in &checkpoint.puts {
        match row {
            Row::Usage(w) => usage.push(w),
            Row::UsageReporter(w) => reporters.push(w),
            _ => {}
        }
    }
    put(db, &usage, |rows| {
        query(USAGE.upsert(), shard)
            .bind(column(rows, |w| w.namespace.clone()))
            .bind(column(rows, |w| w.topic as i64))
            .bind(column(rows, |w| w.grain))
            .bind(column(rows, |w| w.start_ms))
            .bind(column(rows, |w| proto::UsageRow { counts: w.counts.clone(), ..Default::default() }.encode_to_vec()))
    })
    .await?;
    put(db, &reporters, |rows| {
        query(REPORTERS.upsert(), shard)
            .bind(column(rows, |w| Uuid::from_slice(&w.reporter).unwrap_or_default()))
            .bind(column(rows, |w| w.sequence as i64))
            .bind(column(rows, |w| w.seen_ms))
    })
    .await
}

/// Deletes the usage among a checkpoint's keys.
pub(super) async fn delete_rows(db: &mut PgConnection, shard: ShardId, keys: &[RowKey]) -> Result<(), sqlx::Error> {
    let (mut usage, mut reporters) = (Vec::new(), Vec::new());
    for key in keys {
        match key {
            RowKey::Usage((namespace, topic, grain, start)) => {
                usage.push((namespace.to_string(), topic.map_or(0, |topic| topic.0 as i64), grain_number(*grain), start.as_millis()));
            }
            RowKey::UsageReporter(reporter) => reporters.push(Uuid::from_u128(*reporter)),
            _ => {}
        }
    }
    put(db, &usage, |rows| {
        let query = query(USAGE.delete(), shard).bind(column(rows, |k| k.0.clone())).bind(column(rows, |k| k.1));
        query.bind(column(rows, |k| k.2)).bind(column(rows, |k| k.3))
    })
    .await?;
    put(db, &reporters, |rows| query(REPORTERS.delete(), shard).bind(rows.to_vec())).await
}

pub(super) const LOADS: &[(&str, Read)] = &[
    ("SELECT namespace, topic, grain, start_ms, counts FROM usage WHERE shard = $1", |r| {
        Ok(Row::Usage(proto::UsageRow {
            namespace: r.try_get(0)?,
            topic: unsigned(r, 1)?,
            grain: r.try_get(2)?,
            start_ms: r.try_get(3)?,
            ..message(r, 4)?
        }))
    }),
    ("SELECT reporter, sequence, seen_ms FROM usage_reporters WHERE shard = $1", |r| {
        Ok(Row::UsageReporter(proto::UsageReporterRow { reporter: uuid(r, 0)?, sequence: unsigned(r, 1)?, seen_ms: r.try_get(2)? }))
    }),
];
