//! The rows of usage to statements and back.

use lakefall_queue::ledger::{Row, proto};
use lakefall_queue::usage::Grain;
use lakefall_queue::{NamespaceName, ShardId, Timestamp, TopicId};
use prost::Message as _;
use sqlx::Row as _;

use super::rows::{Query, Read, put};

pub(super) fn put_usage(shard: ShardId, w: &proto::UsageRow) -> Query {
    put("INSERT OR REPLACE INTO usage VALUES (?1, ?2, ?3, ?4, ?5, ?6)", shard)
        .bind(w.namespace.clone())
        .bind(w.topic as i64)
        .bind(w.grain)
        .bind(w.start_ms)
        .bind(proto::UsageRow { counts: w.counts.clone(), ..Default::default() }.encode_to_vec())
}

pub(super) fn put_reporter(shard: ShardId, w: &proto::UsageReporterRow) -> Query {
    put("INSERT OR REPLACE INTO usage_reporters VALUES (?1, ?2, ?3, ?4)", shard)
        .bind(w.reporter.to_vec())
        .bind(w.sequence as i64)
        .bind(w.seen_ms)
}

pub(super) fn delete_usage(shard: ShardId, (namespace, topic, grain, start): &(NamespaceName, Option<TopicId>, Grain, Timestamp)) -> Query {
    put("DELETE FROM usage WHERE shard = ?1 AND namespace = ?2 AND topic = ?3 AND grain = ?4 AND start_ms = ?5", shard)
        .bind(namespace.to_string())
        .bind(topic.map_or(0, |topic| topic.0 as i64))
        .bind(crate::usage::grain_number(*grain))
        .bind(start.as_millis())
}

pub(super) fn delete_reporter(shard: ShardId, reporter: u128) -> Query {
    put("DELETE FROM usage_reporters WHERE shard = ?1 AND reporter = ?2", shard).bind(reporter.to_be_bytes().to_vec())
}

pub(super) const LOADS: &[(&str, Read)] = &[
    ("SELECT namespace, topic, grain, start_ms, counts FROM usage WHERE shard = ?1", |r| {
        let topic: i64 = r.try_get(1)?;
        Ok(Row::Usage(proto::UsageRow {
            namespace: r.try_get(0)?,
            topic: topic as u64,
            grain: r.try_get(2)?,
            start_ms: r.try_get(3)?,
            counts: proto::UsageRow::decode(&r.try_get::<Vec<u8>, _>(4)?[..])?.counts,
        }))
    }),
    ("SELECT reporter, sequence, seen_ms FROM usage_reporters WHERE shard = ?1", |r| {
        let sequence: i64 = r.try_get(1)?;
        Ok(Row::UsageReporter(proto::UsageReporterRow {
            reporter: r.try_get::<Vec<u8>, _>(0)?.into(),
            sequence: sequence as u64,
            seen_ms: r.try_get(2)?,
        }))
    }),
];
