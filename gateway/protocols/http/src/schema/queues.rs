//! What queues and messages look like, for the OpenAPI document only.

use std::collections::BTreeMap;

use serde::Serialize;
use utoipa::ToSchema;

use super::StoredRecord;

/// Where a queue begins: `earliest`, `latest`, an offset or a time.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "read by the derive")]
pub(crate) enum QueueStart {
    Named(StartName),
    Offset(StartOffset),
    Time(StartTime),
}

/// Where a queue is to go on.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "read by the derive")]
pub(crate) enum SeekTarget {
    Named(StartName),
    Offset(StartOffset),
    Time(StartTime),
    Offsets(SeekOffsets),
}

/// The log start, or the end.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[expect(dead_code, reason = "read by the derive")]
pub(crate) enum StartName {
    Earliest,
    Latest,
}

/// Which messages of a topic come to a queue.
#[derive(Serialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
#[expect(dead_code, reason = "read by the derive")]
pub(crate) enum Match {
    /// Every message
    All {},
    /// Those with this routing key: the header `routing-key`, else the key
    Exact { key: String },
    /// Those whose routing key has this form: `*` is one word, `#` any number of words
    Wildcard {
        #[schema(max_length = 4096)]
        pattern: String,
    },
    /// Those with these headers, all of them or any
    Headers { headers: BTreeMap<String, String>, any: Option<bool> },
    /// Those for which this CEL expression is true
    Expression {
        #[schema(max_length = 4096)]
        expression: String,
    },
}

/// Receipts, or one.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "read by the derive")]
pub(crate) enum AckBody {
    Many(ReceiptList),
    One(OneReceipt),
}

/// Receipts with reasons, or without.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "read by the derive")]
pub(crate) enum RejectBody {
    Items(RejectItems),
    Receipts(ReceiptList),
}

schemas! {
    /// An offset of every partition.
    StartOffset {
        #[schema(minimum = 0, maximum = 9007199254740992i64)]
        offset: u64,
    }
    /// The first record of this time or later.
    StartTime { time: String, }
    /// Offsets by topic and partition.
    SeekOffsets { offsets: BTreeMap<String, BTreeMap<String, u64>>, }
    /// Where to go on.
    SeekBody { to: SeekTarget, }
    /// How long a message waits after a nack that names no delay.
    Retry {
        min: Option<String>, max: Option<String>,
        #[schema(minimum = 1, maximum = 10)]
        multiplier: Option<f64>,
        #[schema(minimum = 0, maximum = 1)]
        jitter: Option<f64>,
    }
    /// Where dead messages go.
    DeadLetter { topic: String, }
    /// A queue's settings.
    QueueSettings {
        /// Topics whose messages all come; without any, an own topic named like the queue
        topics: Option<Vec<String>>,
        start: Option<QueueStart>,
        /// 0 to 12 h; 30 s by default
        lease: Option<String>,
        #[schema(minimum = 1, maximum = 1000000)]
        max_attempts: Option<u32>,
        retry: Option<Retry>,
        #[schema(pattern = "^(none|key)$")]
        ordering: Option<String>,
        dead_letter: Option<DeadLetter>,
        /// 0 to 365 d
        delay: Option<String>,
        ttl: Option<String>,
        #[schema(minimum = 1, maximum = 10)]
        priorities: Option<u8>,
        #[schema(minimum = 1)]
        max_depth: Option<u64>,
        #[schema(pattern = "^(reject|drop_oldest|dead_letter)$")]
        overflow: Option<String>,
        #[schema(minimum = 1)]
        max_in_flight: Option<u64>,
        fair: Option<bool>,
        /// A CEL expression over `key`, `headers`, `value` and more
        #[schema(max_length = 4096)]
        filter: Option<String>,
    }
    /// A queue to be created.
    NewQueue {
        #[schema(pattern = "^[A-Za-z0-9][A-Za-z0-9._-]{0,248}$")]
        name: String,
        #[serde(flatten)]
        settings: QueueSettings,
    }
    /// A queue as it is.
    Queue {
        namespace: String, name: String, id: u64, version: u64,
        /// Raised by each seek and purge: receipts from before are of no use
        generation: u32,
        created_at: String,
        #[serde(flatten)]
        settings: QueueSettings,
        bindings: BTreeMap<String, BindingSettings>, sources: Vec<QueueSource>,
    }
    /// A topic that a queue reads.
    QueueSource { topic: String, partitions: u32, }
    /// A page of queues.
    QueueList { items: Vec<Queue>, next_page_token: Option<String>, }
    /// A topic, and which of its messages come.
    BindingSettings { topic: String, r#match: Match, }
    /// A binding.
    Binding { id: String, topic: String, r#match: Match, }
    /// A page of bindings.
    BindingList { items: Vec<Binding>, next_page_token: Option<String>, }
    /// What there is in a queue.
    QueueStats {
        ready: u64, leased: u64, delayed: u64, blocked: u64, dead: u64, oldest_age_seconds: Option<f64>, in_rate: f64, out_rate: f64,
        time_to_full_seconds: Option<f64>, acked_total: u64, dead_total: u64,
    }
    /// What is to be leased.
    ReceiveBody {
        #[schema(minimum = 1, maximum = 1000)]
        max: Option<u32>,
        /// 0 to 12 h; the queue's by default
        lease: Option<String>,
        /// How long to wait for a first message; here or in the query
        wait: Option<String>,
        #[schema(min_length = 1, max_length = 255)]
        request_id: Option<String>,
    }
    /// How many to look at.
    PeekBody {
        #[schema(minimum = 1, maximum = 1000)]
        max: Option<u32>,
    }
    /// Messages.
    Messages { messages: Vec<Message>, }
    /// A message: its lease and its record. Without a lease there is no receipt.
    Message {
        id: String, receipt: Option<String>, attempt: u32, lease_until: Option<String>,
        first_leased_at: Option<String>,
        #[serde(flatten)]
        record: StoredRecord,
    }
    /// Receipts as they were received.
    ReceiptList {
        #[schema(min_items = 1, max_items = 10000)]
        receipts: Vec<String>,
    }
    /// One receipt.
    OneReceipt { receipt: String, }
    /// What is given back.
    NackBody {
        #[schema(min_items = 1, max_items = 10000)]
        items: Vec<NackItem>,
    }
    /// A message to be delivered again.
    NackItem {
        receipt: String,
        /// 0 to 365 d; as the queue's `retry` says by default
        delay: Option<String>,
        #[schema(max_length = 1024)]
        reason: Option<String>,
    }
    /// What is kept for longer.
    ExtendBody {
        #[schema(min_items = 1, max_items = 10000)]
        items: Vec<ExtendItem>,
    }
    /// A message to be kept.
    ExtendItem {
        receipt: String,
        /// From now on, 0 to 12 h
        lease: String,
    }
    /// What is rejected.
    RejectItems {
        #[schema(min_items = 1, max_items = 10000)]
        items: Vec<RejectItem>,
    }
    /// A message that is never to be delivered again.
    RejectItem {
        receipt: String,
        #[schema(max_length = 1024)]
        reason: Option<String>,
    }
    /// What became of each receipt, in order.
    SettleAnswer { results: Vec<SettleResult>, ok: u64, }
    /// What became of a receipt.
    SettleResult {
        receipt: String,
        #[schema(pattern = "^(ok|expired|unknown|forged|failed)$")]
        status: String,
        /// Of an extension
        lease_until: Option<String>,
        /// Of a problem, unless the status is `ok`
        code: Option<String>,
        detail: Option<String>,
    }
    /// Which dead letters go back, and where.
    RedriveBody {
        #[schema(max_length = 4096)]
        filter: Option<String>,
        to: Option<String>,
        #[schema(minimum = 1)]
        max_per_second: Option<u32>,
        dry_run: Option<bool>,
    }
    /// Long work that goes on by itself.
    Operation {
        id: String, kind: String,
        #[schema(pattern = "^(running|succeeded|failed|cancelled)$")]
        status: String,
        started_at: String, ended_at: Option<String>, done: u64, skipped: u64, error: Option<String>,
    }
    /// Acks of a commit.
    CommitAcks {
        queue: String,
        #[schema(min_items = 1, max_items = 10000)]
        receipts: Vec<String>,
    }
    /// Nacks of a commit.
    CommitNacks {
        queue: String,
        #[schema(min_items = 1, max_items = 10000)]
        items: Vec<NackItem>,
    }
}
