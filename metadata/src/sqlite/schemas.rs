//! The rows of schemas to statements and back.

use lakefall_queue::ShardId;
use lakefall_queue::ledger::{Row, proto};
use lakefall_queue::{NamespaceName, SubjectName};
use prost::Message as _;
use sqlx::Row as _;

use super::rows::{Query, Read, put};

pub(super) fn put_subject(shard: ShardId, w: &proto::SubjectRow) -> Query {
    put("INSERT OR REPLACE INTO subjects VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)", shard)
        .bind(w.namespace.clone())
        .bind(w.name.clone())
        .bind(w.revision as i64)
        .bind(w.created_ms)
        .bind(w.compatibility)
        .bind(i64::from(w.next_version))
}

pub(super) fn put_schema(shard: ShardId, w: &proto::SchemaRow) -> Query {
    put("INSERT OR REPLACE INTO schemas VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)", shard)
        .bind(w.namespace.clone())
        .bind(w.subject.clone())
        .bind(i64::from(w.version))
        .bind(i64::from(w.id))
        .bind(w.created_ms)
        .bind(w.schema.clone().unwrap_or_default().encode_to_vec())
}

pub(super) fn delete_subject(shard: ShardId, namespace: &NamespaceName, name: &SubjectName) -> Query {
    put("DELETE FROM subjects WHERE shard = ?1 AND namespace = ?2 AND name = ?3", shard).bind(namespace.to_string()).bind(name.to_string())
}

pub(super) fn delete_schema(shard: ShardId, namespace: &NamespaceName, subject: &SubjectName, version: u32) -> Query {
    put("DELETE FROM schemas WHERE shard = ?1 AND namespace = ?2 AND subject = ?3 AND version = ?4", shard)
        .bind(namespace.to_string())
        .bind(subject.to_string())
        .bind(i64::from(version))
}

pub(super) const LOADS: &[(&str, Read)] = &[
    ("SELECT namespace, name, revision, created_ms, compatibility, next_version FROM subjects WHERE shard = ?1", |r| {
        let (revision, next_version): (i64, i64) = (r.try_get(2)?, r.try_get(5)?);
        Ok(Row::Subject(proto::SubjectRow {
            namespace: r.try_get(0)?,
            name: r.try_get(1)?,
            revision: revision as u64,
            created_ms: r.try_get(3)?,
            compatibility: r.try_get(4)?,
            next_version: next_version as u32,
        }))
    }),
    ("SELECT namespace, subject, version, id, created_ms, definition FROM schemas WHERE shard = ?1", |r| {
        let (version, id): (i64, i64) = (r.try_get(2)?, r.try_get(3)?);
        Ok(Row::Schema(proto::SchemaRow {
            namespace: r.try_get(0)?,
            subject: r.try_get(1)?,
            version: version as u32,
            id: id as u32,
            created_ms: r.try_get(4)?,
            schema: Some(proto::SchemaText::decode(&r.try_get::<Vec<u8>, _>(5)?[..])?),
        }))
    }),
];
