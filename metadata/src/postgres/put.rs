//! Rows to statements: many rows of one kind in one, as arrays, one for each column. Lists and answers that nobody asks for
//! in SQL are protobuf in one column.

use lakefall_queue::ShardId;
use lakefall_queue::ledger::{Checkpoint, Row, RowKey, proto};
use prost::Message;
use sqlx::postgres::{PgArguments, PgConnection};
use sqlx::types::Uuid;
use sqlx::{AssertSqlSafe, Postgres};

use super::text::stored;
use super::{queues, schemas, usage};

pub(super) type Query = sqlx::query::Query<'static, Postgres, PgArguments>;

/// Rows of one statement: enough that a round trip does not count, few enough to stay far below the time a statement has.
pub(super) const AT_ONCE: usize = 5_000;

/// A table: its key and its other columns, each with its type as an array's element.
pub(super) struct Table {
    pub(super) name: &'static str,
    pub(super) key: &'static [(&'static str, &'static str)],
    pub(super) values: &'static [(&'static str, &'static str)],
}

const NAMESPACES: Table = Table {
    name: "namespaces",
    key: &[("name", "text")],
    values: &[("version", "bigint"), ("created_ms", "bigint"), ("description", "text")],
};
const TOPICS: Table = Table {
    name: "topics",
    key: &[("id", "bigint")],
    values: &[("namespace", "text"), ("name", "text"), ("version", "bigint"), ("created_ms", "bigint"), ("config", "json")],
};
const PARTITIONS: Table = Table {
    name: "partitions",
    key: &[("topic", "bigint"), ("partition", "int")],
    values: &[
        ("log_start", "bigint"),
        ("next", "bigint"),
        ("retired", "bigint"),
        ("bytes", "bigint"),
        ("extents", "bigint"),
        ("deleted", "boolean"),
        ("fencing_token", "numeric"),
        ("compaction", "bytea"),
    ],
};
const OBJECTS: Table = Table {
    name: "objects",
    key: &[("id", "uuid")],
    values: &[
        ("size", "bigint"),
        ("live_extents", "bigint"),
        ("committed_ms", "bigint"),
        ("released_ms", "bigint"),
        ("refused", "boolean"),
        ("answer", "bytea"),
        ("key", "text"),
    ],
};
const CURSORS: Table = Table {
    name: "cursors",
    key: &[("namespace", "text"), ("cursor", "text"), ("topic", "text")],
    values: &[("topic_id", "bigint"), ("version", "bigint"), ("updated_ms", "bigint"), ("partitions", "int[]"), ("offsets", "bigint[]")],
};
const PRODUCERS: Table = Table {
    name: "producers",
    key: &[("topic", "bigint"), ("partition", "int"), ("id", "text")],
    values: &[("epoch", "bigint"), ("next_sequence", "bigint"), ("seen_ms", "bigint"), ("batches", "bytea")],
};
const DEDUP: Table = Table {
    name: "dedup",
    key: &[("topic", "bigint"), ("hash", "uuid")],
    values: &[("partition", "int"), ("record_offset", "bigint"), ("expires_ms", "bigint")],
};
const IDEMPOTENCY: Table =
    Table { name: "idempotency", key: &[("namespace", "text"), ("key", "text")], values: &[("expires_ms", "bigint"), ("answer", "bytea")] };

impl Table {
    /// Parameter 1 is the shard, those after it are the columns. Types that have no arrays of their own here (lists, json,
    /// numbers of 20 digits) travel as text.
    pub(super) fn upsert(&self) -> String {
        let columns: Vec<(&str, &str)> = self.key.iter().chain(self.values).copied().collect();
        let names: Vec<&str> = columns.iter().map(|(name, _)| *name).collect();
        let cast = |(name, kind): &(&str, &str)| if by_text(kind) { format!("v.{name}::{kind}") } else { format!("v.{name}") };
        let set: Vec<String> = self.values.iter().map(|(name, _)| format!("{name} = EXCLUDED.{name}")).collect();
        format!(
            "INSERT INTO {table} (shard, {names}) SELECT $1, {values} FROM unnest({arrays}) AS v ({names})
             ON CONFLICT (shard, {key}) DO UPDATE SET {set}",
            table = self.name,
            names = names.join(", "),
            values = columns.iter().map(cast).collect::<Vec<_>>().join(", "),
            arrays = arrays(&columns),
            key = self.key.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", "),
            set = set.join(", "),
        )
    }

    pub(super) fn delete(&self) -> String {
        let names: Vec<&str> = self.key.iter().map(|(name, _)| *name).collect();
        let same: Vec<String> = names.iter().map(|name| format!("t.{name} = v.{name}")).collect();
        format!(
            "DELETE FROM {} t USING unnest({}) AS v ({}) WHERE t.shard = $1 AND {}",
            self.name,
            arrays(self.key),
            names.join(", "),
            same.join(" AND ")
        )
    }
}

fn by_text(kind: &str) -> bool {
    matches!(kind, "json" | "numeric") || kind.ends_with("[]")
}

fn arrays(columns: &[(&str, &str)]) -> String {
    let array = |(at, (_, kind)): (usize, &(&str, &str))| format!("${}::{}[]", at + 2, if by_text(kind) { "text" } else { kind });
    columns.iter().enumerate().map(array).collect::<Vec<_>>().join(", ")
}

/// Planned with the values in hand: a plan for any values would take a few rows for many, or the other way round.
pub(super) fn query(sql: String, shard: ShardId) -> Query {
    sqlx::query(AssertSqlSafe(sql)).persistent(false).bind(shard.0 as i32)
}

pub(super) fn column<W, T>(rows: &[W], value: impl Fn(&W) -> T) -> Vec<T> {
    rows.iter().map(value).collect()
}

/// A UUID's column; bytes of another length, which no ledger makes, become the nil one.
fn uuids<W>(rows: &[W], bytes: impl Fn(&W) -> &[u8]) -> Vec<Uuid> {
    column(rows, |w| Uuid::from_slice(bytes(w)).unwrap_or_default())
}

/// An array as text, as PostgreSQL writes it.
fn list<T: std::fmt::Display>(numbers: impl Iterator<Item = T>) -> String {
    let numbers: Vec<String> = numbers.map(|n| n.to_string()).collect();
    format!("{{{}}}", numbers.join(","))
}

/// The rows that are to be written, by their kind.
#[derive(Default)]
struct Puts<'a> {
    namespaces: Vec<&'a proto::NamespaceRow>,
    topics: Vec<&'a proto::TopicRow>,
    partitions: Vec<&'a proto::PartitionRow>,
    objects: Vec<&'a proto::ObjectRow>,
    cursors: Vec<&'a proto::CursorRow>,
    producers: Vec<&'a proto::ProducerRow>,
    dedup: Vec<&'a proto::DedupRow>,
    idempotency: Vec<&'a proto::IdempotencyRow>,
}

pub(super) async fn put_rows(db: &mut PgConnection, shard: ShardId, checkpoint: &Checkpoint) -> Result<(), sqlx::Error> {
    let mut puts = Puts::default();
    for row in &checkpoint.puts {
        match row {
            Row::Namespace(w) => puts.namespaces.push(w),
            Row::Topic(w) => puts.topics.push(w),
            Row::Partition(w) => puts.partitions.push(w),
            Row::Object(w) => puts.objects.push(w),
            Row::Cursor(w) => puts.cursors.push(w),
            Row::Producer(w) => puts.producers.push(w),
            Row::Dedup(w) => puts.dedup.push(w),
            Row::Idempotency(w) => puts.idempotency.push(w),
            // Those have a file of their own.
            Row::Queue(_) | Row::QueuePartition(_) | Row::QueueBlock(_) | Row::Subject(_) | Row::Schema(_) => {}
            Row::Usage(_) | Row::UsageReporter(_) => {}
        }
    }
    put(db, &puts.namespaces, |rows| namespaces(shard, rows)).await?;
    put(db, &puts.topics, |rows| topics(shard, rows)).await?;
    put(db, &puts.partitions, |rows| partitions(shard, rows)).await?;
    put(db, &puts.objects, |rows| objects(shard, rows)).await?;
    put(db, &puts.cursors, |rows| cursors(shard, rows)).await?;
    put(db, &puts.producers, |rows| producers(shard, rows)).await?;
    put(db, &puts.dedup, |rows| dedup(shard, rows)).await?;
    put(db, &puts.idempotency, |rows| idempotency(shard, rows)).await?;
    queues::put_rows(db, shard, checkpoint).await?;
    schemas::put_rows(db, shard, checkpoint).await?;
    usage::put_rows(db, shard, checkpoint).await
}

/// Runs a statement for each portion of the rows.
pub(super) async fn put<W>(db: &mut PgConnection, rows: &[W], statement: impl Fn(&[W]) -> Query) -> Result<(), sqlx::Error> {
    put_portions(db, rows, AT_ONCE, statement).await
}

/// The same in portions of another size.
pub(super) async fn put_portions<W>(
    db: &mut PgConnection,
    rows: &[W],
    at_once: usize,
    statement: impl Fn(&[W]) -> Query,
) -> Result<(), sqlx::Error> {
    for rows in rows.chunks(at_once) {
        statement(rows).execute(&mut *db).await?;
    }
    Ok(())
}

fn namespaces(shard: ShardId, rows: &[&proto::NamespaceRow]) -> Query {
    query(NAMESPACES.upsert(), shard)
        .bind(column(rows, |w| w.name.clone()))
        .bind(column(rows, |w| w.version as i64))
        .bind(column(rows, |w| w.created_ms))
        .bind(column(rows, |w| stored(&w.description)))
}

fn topics(shard: ShardId, rows: &[&proto::TopicRow]) -> Query {
    query(TOPICS.upsert(), shard)
        .bind(column(rows, |w| w.id as i64))
        .bind(column(rows, |w| w.namespace.clone()))
        .bind(column(rows, |w| w.name.clone()))
        .bind(column(rows, |w| w.version as i64))
        .bind(column(rows, |w| w.created_ms))
        .bind(column(rows, |w| w.config_json.clone()))
}

fn partitions(shard: ShardId, rows: &[&proto::PartitionRow]) -> Query {
    query(PARTITIONS.upsert(), shard)
        .bind(column(rows, |w| w.topic as i64))
        .bind(column(rows, |w| w.partition as i32))
        .bind(column(rows, |w| w.log_start as i64))
        .bind(column(rows, |w| w.next as i64))
        .bind(column(rows, |w| w.retired as i64))
        .bind(column(rows, |w| w.bytes as i64))
        .bind(column(rows, |w| w.extents as i64))
        .bind(column(rows, |w| w.deleted))
        .bind(column(rows, |w| w.fencing_token.map(|token| token.to_string())))
        .bind(column(rows, |w| w.compaction.as_ref().map(Message::encode_to_vec)))
}

fn objects(shard: ShardId, rows: &[&proto::ObjectRow]) -> Query {
    query(OBJECTS.upsert(), shard)
        .bind(uuids(rows, |w| &w.id))
        .bind(column(rows, |w| w.size as i64))
        .bind(column(rows, |w| i64::from(w.live_extents)))
        .bind(column(rows, |w| w.committed_ms))
        .bind(column(rows, |w| w.released_ms))
        .bind(column(rows, |w| w.refused))
        .bind(column(rows, |w| w.answer.as_ref().map(Message::encode_to_vec)))
        .bind(column(rows, |w| w.key.clone()))
}

fn cursors(shard: ShardId, rows: &[&proto::CursorRow]) -> Query {
    query(CURSORS.upsert(), shard)
        .bind(column(rows, |w| w.namespace.clone()))
        .bind(column(rows, |w| w.cursor.clone()))
        .bind(column(rows, |w| w.topic.clone()))
        .bind(column(rows, |w| w.topic_id as i64))
        .bind(column(rows, |w| w.version as i64))
        .bind(column(rows, |w| w.updated_ms))
        .bind(column(rows, |w| list(w.offsets.iter().map(|o| o.partition as i32))))
        .bind(column(rows, |w| list(w.offsets.iter().map(|o| o.offset as i64))))
}

fn producers(shard: ShardId, rows: &[&proto::ProducerRow]) -> Query {
    let batches = |w: &&proto::ProducerRow| proto::ProducerRow { batches: w.batches.clone(), ..Default::default() }.encode_to_vec();
    query(PRODUCERS.upsert(), shard)
        .bind(column(rows, |w| w.topic as i64))
        .bind(column(rows, |w| w.partition as i32))
        .bind(column(rows, |w| stored(&w.id)))
        .bind(column(rows, |w| i64::from(w.epoch)))
        .bind(column(rows, |w| w.next_sequence as i64))
        .bind(column(rows, |w| w.seen_ms))
        .bind(column(rows, batches))
}

fn dedup(shard: ShardId, rows: &[&proto::DedupRow]) -> Query {
    query(DEDUP.upsert(), shard)
        .bind(column(rows, |w| w.topic as i64))
        .bind(uuids(rows, |w| &w.hash))
        .bind(column(rows, |w| w.partition as i32))
        .bind(column(rows, |w| w.offset as i64))
        .bind(column(rows, |w| w.expires_ms))
}

fn idempotency(shard: ShardId, rows: &[&proto::IdempotencyRow]) -> Query {
    query(IDEMPOTENCY.upsert(), shard)
        .bind(column(rows, |w| w.namespace.clone()))
        .bind(column(rows, |w| stored(&w.key)))
        .bind(column(rows, |w| w.expires_ms))
        .bind(column(rows, |w| Message::encode_to_vec(*w)))
}

pub(super) async fn delete_rows(db: &mut PgConnection, shard: ShardId, keys: &[RowKey]) -> Result<(), sqlx::Error> {
    let mut names = Vec::new();
    let (mut topics, mut partitions, mut objects) = (Vec::new(), Vec::new(), Vec::new());
    let (mut cursors, mut producers, mut hashes, mut idempotency) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for key in keys {
        match key {
            RowKey::Namespace(name) => names.push(name.to_string()),
            RowKey::Topic(id) => topics.push(id.0 as i64),
            RowKey::Partition(topic, index) => partitions.push((topic.0 as i64, index.0 as i32)),
            RowKey::Object(id) => objects.push(id.0),
            RowKey::Cursor((namespace, cursor, topic)) => cursors.push((namespace.to_string(), cursor.to_string(), topic.to_string())),
            RowKey::Producer((topic, index, id)) => producers.push((topic.0 as i64, index.0 as i32, stored(id))),
            RowKey::Dedup(topic, hash) => hashes.push((topic.0 as i64, Uuid::from_u128(*hash))),
            RowKey::Idempotency(namespace, key) => idempotency.push((namespace.to_string(), stored(key))),
            RowKey::Queue(_) | RowKey::QueuePartition(..) | RowKey::QueueBlock(..) | RowKey::Subject(_) | RowKey::Schema(..) => {}
            RowKey::Usage(_) | RowKey::UsageReporter(_) => {}
        }
    }
    put(db, &names, |rows| query(NAMESPACES.delete(), shard).bind(rows.to_vec())).await?;
    put(db, &topics, |rows| query(TOPICS.delete(), shard).bind(rows.to_vec())).await?;
    put(db, &partitions, |rows| query(PARTITIONS.delete(), shard).bind(column(rows, |k| k.0)).bind(column(rows, |k| k.1))).await?;
    put(db, &objects, |rows| query(OBJECTS.delete(), shard).bind(rows.to_vec())).await?;
    put(db, &cursors, |rows| {
        let query = query(CURSORS.delete(), shard).bind(column(rows, |k| k.0.clone()));
        query.bind(column(rows, |k| k.1.clone())).bind(column(rows, |k| k.2.clone()))
    })
    .await?;
    put(db, &producers, |rows| {
        let query = query(PRODUCERS.delete(), shard).bind(column(rows, |k| k.0));
        query.bind(column(rows, |k| k.1)).bind(column(rows, |k| k.2.clone()))
    })
    .await?;
    put(db, &hashes, |rows| query(DEDUP.delete(), shard).bind(column(rows, |k| k.0)).bind(column(rows, |k| k.1))).await?;
    put(db, &idempotency, |rows| {
        query(IDEMPOTENCY.delete(), shard).bind(column(rows, |k| k.0.clone())).bind(column(rows, |k| k.1.clone()))
    })
    .await?;
    queues::delete_rows(db, shard, keys).await?;
    schemas::delete_rows(db, shard, keys).await?;
    usage::delete_rows(db, shard, keys).await
}
