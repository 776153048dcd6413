//! What the wire looks like, for the OpenAPI document only: nothing here is read or written at run time.

macro_rules! schemas {
    ($($(#[$doc:meta])* $name:ident { $($(#[$rule:meta])* $field:ident: $type:ty,)* })*) => {
        $(
            $(#[$doc])*
            #[derive(Serialize, ToSchema)]
            pub(crate) struct $name {
                $($(#[$rule])* $field: $type,)*
            }
        )*
    };
}

mod params;
mod queues;
mod replays;
mod schemas;
mod usage;

use std::collections::BTreeMap;

use serde::Serialize;
use utoipa::openapi::{ContentBuilder, Ref, RefOr, Response, ResponseBuilder};
use utoipa::{IntoResponses, ToSchema};

pub(crate) use self::params::*;
pub(crate) use self::queues::*;
pub(crate) use self::replays::*;
pub(crate) use self::schemas::*;
pub(crate) use self::usage::*;
use crate::problem;

/// Every refusal is a problem (RFC 9457).
pub(crate) struct Refusals;

impl IntoResponses for Refusals {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        let mut by_status: BTreeMap<String, Vec<&str>> = BTreeMap::new();
        for code in problem::ALL {
            by_status.entry(code.status.as_u16().to_string()).or_default().push(code.name);
        }
        let described = |(status, codes): (String, Vec<&str>)| {
            let content = ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem"))).build();
            let response = ResponseBuilder::new().description(codes.join(", ")).content(problem::MEDIA_TYPE, content).build();
            (status, RefOr::T(response))
        };
        by_status.into_iter().map(described).collect()
    }
}

/// Any JSON object.
#[derive(Serialize, ToSchema)]
#[schema(value_type = Object)]
pub(crate) struct AnyObject(serde_json::Value);

/// One record, or a batch with options.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "read by the derive")]
pub(crate) enum ProduceBody {
    One(Box<NewRecord>),
    Many(Box<NewBatch>),
}

/// A cursor's target.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "read by the derive")]
pub(crate) enum ResetTarget {
    /// `earliest`, `latest` or a time.
    Named(String),
    Offsets(CursorOffsets),
}

schemas! {
    /// A refusal (RFC 9457). `outcome` tells whether it may have taken effect all the same.
    Problem {
        r#type: String, title: String, status: u16, detail: String, code: String,
        /// `not_applied` or `unknown`
        #[schema(pattern = "^(not_applied|unknown)$")]
        outcome: String,
        request_id: String, errors: Option<Vec<ProblemPlace>>,
        /// Seconds
        retry_after: Option<f64>,
        log_start: Option<u64>, end: Option<u64>, expected: Option<u64>,
        /// Of a stream: how many records were stored before
        stored: Option<u64>,
        /// Of NDJSON: which line, from 1
        line: Option<u64>,
        /// Which record, from 1
        record: Option<u64>,
    }
    /// What is wrong where.
    ProblemPlace { pointer: String, reason: String, }
    /// A record to append. Only `value` is needed.
    NewRecord {
        /// Any JSON; null is a tombstone
        value: serde_json::Value,
        key: Option<String>,
        #[schema(pattern = "^(utf8|base64)$")]
        key_encoding: Option<String>,
        /// What `value` is
        #[schema(pattern = "^(json|utf8|base64)$")]
        encoding: Option<String>,
        #[schema(value_type = Option<Object>)]
        headers: Option<serde_json::Value>,
        /// RFC 3339, or milliseconds
        timestamp: Option<String>,
        partition: Option<u32>, dedup_id: Option<String>, ordering_key: Option<String>,
        #[schema(minimum = 0, maximum = 9)]
        priority: Option<u8>,
        delay: Option<String>, deliver_at: Option<String>, ttl: Option<String>, expires_at: Option<String>,
        correlation_id: Option<String>, reply_to: Option<String>, traceparent: Option<String>, tracestate: Option<String>,
    }
    /// Records and on what condition they are appended.
    NewBatch {
        #[schema(min_items = 1)]
        records: Vec<NewRecord>,
        partition: Option<u32>, atomic: Option<bool>,
        #[schema(minimum = 0)]
        expect_offset: Option<u64>,
        #[schema(minimum = 0)]
        fencing_token: Option<u64>,
        producer: Option<Producer>,
    }
    /// An idempotent producer's place.
    Producer {
        #[schema(min_length = 1, max_length = 255)]
        id: String,
        epoch: u32,
        #[schema(minimum = 0)]
        sequence: u64,
    }
    /// Where records are. With `acks=ranges`, `first_offset` and `count` in place of `offset`.
    Ack { partition: u32, offset: Option<u64>, first_offset: Option<u64>, count: Option<u64>, duplicate: Option<bool>, }
    /// In the order of the records.
    ProduceAnswer { acks: Vec<Ack>, count: u64, acks_omitted: Option<bool>, end: Option<u64>, }
    /// A record as it is stored.
    StoredRecord {
        topic: String, partition: u32, offset: u64, timestamp: String, appended_at: String, key: Option<String>, key_encoding: Option<String>,
        value: serde_json::Value, encoding: Option<String>,
        #[schema(value_type = Option<Object>)]
        headers: Option<serde_json::Value>,
        dedup_id: Option<String>, ordering_key: Option<String>, correlation_id: Option<String>, reply_to: Option<String>,
        for_queue: Option<String>,
        /// Why it does not match the topic's schema
        schema_error: Option<String>,
        traceparent: Option<String>, tracestate: Option<String>, priority: Option<u8>, deliver_at: Option<String>, expires_at: Option<String>,
    }
    /// A page of one partition.
    PartitionPage {
        records: Vec<StoredRecord>, next_offset: u64, log_start: u64, end: u64,
        /// The metadata service does not answer: `end` is as it was told before, and there may be more
        stale: Option<bool>,
    }
    /// A page of all partitions.
    TopicPage { records: Vec<StoredRecord>, cursor: String, partitions: Vec<PartitionPlace>, }
    /// Where a reader is in a partition.
    PartitionPlace {
        partition: u32, next_offset: u64, log_start: u64, end: u64,
        /// As of a page of one partition
        stale: Option<bool>,
    }
    /// How long records are kept; absent means for ever.
    Retention { age: Option<String>, bytes: Option<u64>, }
    /// A topic's settings.
    TopicSettings {
        #[schema(minimum = 1)]
        partitions: Option<u32>,
        retention: Option<Retention>,
        #[schema(pattern = "^(delete|compact)$")]
        cleanup: Option<String>,
        #[schema(pattern = "^(none|lz4|zstd)$")]
        compression: Option<String>,
        #[schema(pattern = "^(express|standard|economy)$")]
        urgency: Option<String>,
        dedup_window: Option<String>, max_record_bytes: Option<u64>, schema: Option<TopicSchema>, parquet: Option<TopicParquet>,
    }
    /// What a topic's records are held against.
    TopicSchema {
        #[schema(pattern = "^[A-Za-z0-9][A-Za-z0-9._-]{0,248}$")]
        subject: String,
        /// What happens to records that do not match
        #[schema(pattern = "^(reject|mark)$")]
        invalid: Option<String>,
    }
    /// How a topic becomes a table.
    TopicParquet { enabled: Option<bool>, max_age: Option<String>, infer_json: Option<bool>, }
    /// A topic to be created.
    NewTopic {
        #[schema(pattern = "^[A-Za-z0-9][A-Za-z0-9._-]{0,248}$")]
        name: String,
        partitions: Option<u32>, retention: Option<Retention>, cleanup: Option<String>, compression: Option<String>, urgency: Option<String>,
        dedup_window: Option<String>, max_record_bytes: Option<u64>, schema: Option<TopicSchema>, parquet: Option<TopicParquet>,
    }
    /// A topic as it is.
    Topic {
        namespace: String, name: String, id: u64, version: u64, created_at: String, partitions: u32, retention: Retention, cleanup: String,
        compression: String, urgency: String, dedup_window: String, max_record_bytes: Option<u64>, schema: Option<TopicSchema>, parquet: Option<TopicParquet>,
    }
    /// A topic and what its partitions hold.
    TopicDescription {
        #[serde(flatten)]
        topic: Topic,
        partition_status: Vec<PartitionStatus>,
    }
    /// What a partition holds.
    PartitionStatus { partition: u32, log_start: u64, end: u64, bytes: u64, extents: u64, }
    /// A page of topics.
    TopicList { items: Vec<Topic>, next_page_token: Option<String>, }
    /// Offsets of partitions.
    Offsets { offsets: Vec<OffsetPlace>, }
    /// An offset of a partition.
    OffsetPlace {
        partition: u32, offset: u64, log_start: u64, end: u64,
        /// `end` is as it was told before, and there may be more
        stale: Option<bool>,
    }
    /// Where partitions start.
    Trimmed { partitions: Vec<TrimmedPartition>, }
    /// Where a partition starts.
    TrimmedPartition {
        partition: u32, log_start: u64, end: u64,
        /// `end` is as it was told before, and there may be more
        stale: Option<bool>,
    }
    /// A range of an object.
    ObjectRange { object: String, level: String, key: String, partition: u32, first_offset: u64, records: u64, position: u64, length: u64, appended_at: String, }
    /// A page of ranges.
    ObjectList { items: Vec<ObjectRange>, next_page_token: Option<String>, }
    /// A cursor.
    Cursor { name: String, lag: u64, topics: Vec<CursorInTopic>, }
    /// A cursor in one topic.
    CursorInTopic {
        cursor: String, topic: String, version: u64, updated_at: String, offsets: BTreeMap<String, u64>, lag: u64,
        lag_by_partition: BTreeMap<String, u64>,
    }
    /// A page of cursors.
    CursorList { items: Vec<CursorInTopic>, next_page_token: Option<String>, }
    /// Next offset to read, by partition.
    CursorOffsets { offsets: BTreeMap<String, u64>, }
    /// Where a cursor goes.
    CursorReset { to: ResetTarget, topic: Option<String>, }
    /// All or nothing.
    CommitBody {
        appends: Option<Vec<CommitAppend>>, cursors: Option<Vec<CommitMove>>, acks: Option<Vec<CommitAcks>>, nacks: Option<Vec<CommitNacks>>,
    }
    /// Records for one topic of a commit.
    CommitAppend {
        topic: String,
        #[schema(min_items = 1)]
        records: Vec<NewRecord>,
        partition: Option<u32>, expect_offset: Option<u64>, fencing_token: Option<u64>, producer: Option<Producer>,
    }
    /// A cursor move of a commit.
    CommitMove { cursor: String, topic: String, offsets: BTreeMap<String, u64>, if_version: Option<u64>, }
    /// In the order of the appends.
    CommitAnswer { appends: Vec<CommitAppended>, cursors: u64, acks: u64, nacks: u64, }
    /// One append of a commit.
    CommitAppended { topic: String, acks: Vec<Ack>, count: u64, end: Option<u64>, }
    /// A question in SQL.
    SqlQuery {
        /// One statement that reads
        #[schema(min_length = 1, max_length = 65536)]
        query: String,
        /// An array for `$1`, `$2`, …, or an object for `$name`: null, booleans, numbers and strings
        #[schema(value_type = Option<Object>)]
        params: Option<serde_json::Value>,
        #[schema(minimum = 1)]
        max_rows: Option<u64>,
        timeout: Option<String>,
    }
    /// Rows, in the order of the columns.
    SqlAnswer { columns: Vec<SqlColumn>, rows: Vec<Vec<serde_json::Value>>, watermarks: Vec<SqlWatermark>, statistics: SqlStatistics, }
    /// A column of an answer.
    SqlColumn {
        name: String,
        /// As Arrow writes it
        r#type: String,
        nullable: bool,
    }
    /// Which records of a partition were seen: from `log_start`, below `end`.
    SqlWatermark { topic: String, partition: u32, log_start: u64, end: u64, }
    /// What an answer cost.
    SqlStatistics {
        rows: u64, truncated: bool, bytes_read: u64, row_groups_read: u64, row_groups_pruned: u64, extents_read: u64, extents_pruned: u64,
        untyped: u64, elapsed_ms: u64,
    }
    /// A namespace to be created.
    NewNamespace {
        #[schema(pattern = "^[A-Za-z0-9][A-Za-z0-9._-]{0,248}$")]
        name: String,
        #[schema(max_length = 4096)]
        description: Option<String>,
    }
    /// A namespace's settings.
    NamespaceSettings {
        #[schema(max_length = 4096)]
        description: Option<String>,
    }
    /// A namespace.
    Namespace { name: String, version: u64, created_at: String, description: String, }
    /// A page of namespaces.
    NamespaceList { items: Vec<Namespace>, next_page_token: Option<String>, }
}
