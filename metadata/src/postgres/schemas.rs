//! The rows of schemas to statements and back. Must never put many schemas into one statement: one may be 256 KiB.

use lakefall_queue::ShardId;
use lakefall_queue::ledger::{Checkpoint, Row, RowKey, proto};
use prost::Message as _;
use sqlx::Row as _;
use sqlx::postgres::PgConnection;

use super::load::{Read, message, unsigned};
use super::put::{Table, column, put, put_portions, query};

/// Schemas of one statement: a few megabytes at most.
const SCHEMAS_AT_ONCE: usize = 32;

const SUBJECTS: Table = Table {
    name: "subjects",
    key: &[("namespace", "text"), ("name", "text")],
    values: &[("revision", "bigint"), ("created_ms", "bigint"), ("compatibility", "int"), ("next_version", "bigint")],
};
const SCHEMAS: Table = Table {
    name: "schemas",
    key: &[("namespace", "text"), ("subject", "text"), ("version", "bigint")],
    values: &[("id", "bigint"), ("created_ms", "bigint"), ("definition", "bytea")],
};

/// Writes the subjects and schemas among a checkpoint's rows.
pub(super) async fn put_rows(db: &mut PgConnection, shard: ShardId, checkpoint: &Checkpoint) -> Result<(), sqlx::Error> {
    let (mut subjects, mut schemas) = (Vec::new(), Vec::new());
    for row in &checkpoint.puts {
        match row {
            Row::Subject(w) => subjects.push(w),
            Row::Schema(w) => schemas.push(w),
            _ => {}
        }
    }
    put(db, &subjects, |rows| {
        query(SUBJECTS.upsert(), shard)
            .bind(column(rows, |w| w.namespace.clone()))
            .bind(column(rows, |w| w.name.clone()))
            .bind(column(rows, |w| w.revision as i64))
            .bind(column(rows, |w| w.created_ms))
            .bind(column(rows, |w| w.compatibility))
            .bind(column(rows, |w| i64::from(w.next_version)))
    })
    .await?;
    put_portions(db, &schemas, SCHEMAS_AT_ONCE, |rows| {
        query(SCHEMAS.upsert(), shard)
            .bind(column(rows, |w| w.namespace.clone()))
            .bind(column(rows, |w| w.subject.clone()))
            .bind(column(rows, |w| i64::from(w.version)))
            .bind(column(rows, |w| i64::from(w.id)))
            .bind(column(rows, |w| w.created_ms))
            .bind(column(rows, |w| w.schema.clone().unwrap_or_default().encode_to_vec()))
    })
    .await
}

/// Deletes the subjects and schemas among a checkpoint's keys.
pub(super) async fn delete_rows(db: &mut PgConnection, shard: ShardId, keys: &[RowKey]) -> Result<(), sqlx::Error> {
    let (mut subjects, mut schemas) = (Vec::new(), Vec::new());
    for key in keys {
        match key {
            RowKey::Subject((namespace, name)) => subjects.push((namespace.to_string(), name.to_string())),
            RowKey::Schema((namespace, subject), version) => {
                schemas.push((namespace.to_string(), subject.to_string(), i64::from(*version)))
            }
            _ => {}
        }
    }
    put(db, &subjects, |rows| query(SUBJECTS.delete(), shard).bind(column(rows, |k| k.0.clone())).bind(column(rows, |k| k.1.clone())))
        .await?;
    put(db, &schemas, |rows| {
        let query = query(SCHEMAS.delete(), shard).bind(column(rows, |k| k.0.clone()));
        query.bind(column(rows, |k| k.1.clone())).bind(column(rows, |k| k.2))
    })
    .await
}

pub(super) const LOADS: &[(&str, Read)] = &[
    ("SELECT namespace, name, revision, created_ms, compatibility, next_version FROM subjects WHERE shard = $1", |r| {
        Ok(Row::Subject(proto::SubjectRow {
            namespace: r.try_get(0)?,
            name: r.try_get(1)?,
            revision: unsigned(r, 2)?,
            created_ms: r.try_get(3)?,
            compatibility: r.try_get(4)?,
            next_version: unsigned(r, 5)? as u32,
        }))
    }),
    ("SELECT namespace, subject, version, id, created_ms, definition FROM schemas WHERE shard = $1", |r| {
        Ok(Row::Schema(proto::SchemaRow {
            namespace: r.try_get(0)?,
            subject: r.try_get(1)?,
            version: unsigned(r, 2)? as u32,
            id: unsigned(r, 3)? as u32,
            created_ms: r.try_get(4)?,
            schema: Some(message(r, 5)?),
        }))
    }),
];
