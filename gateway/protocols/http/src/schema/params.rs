//! Paths, queries and headers, for the OpenAPI document only.

use utoipa::IntoParams;

macro_rules! path_params {
    ($($name:ident { $field:ident: $type:ty, $doc:literal $(, $rule:meta)* })*) => {
        $(
            #[derive(IntoParams)]
            #[into_params(parameter_in = Path)]
            #[expect(dead_code, reason = "read by the derive")]
            pub(crate) struct $name {
                #[doc = $doc]
                $(#[$rule])*
                $field: $type,
            }
        )*
    };
}

path_params! {
    TopicPath { topic: String, "The topic's name", param(pattern = "^[A-Za-z0-9][A-Za-z0-9._-]{0,248}$") }
    CursorPath { cursor: String, "The cursor's name", param(pattern = "^[A-Za-z0-9][A-Za-z0-9._-]{0,248}$") }
    QueuePath { queue: String, "The queue's name", param(pattern = "^[A-Za-z0-9][A-Za-z0-9._-]{0,248}$") }
    OperationPath { operation: String, "As the answer that began it names it", param(min_length = 1) }
    SubjectPath { subject: String, "The subject's name", param(pattern = "^[A-Za-z0-9][A-Za-z0-9._-]{0,248}$") }
    NamespacePath { namespace: String, "The namespace's name", param(pattern = "^[A-Za-z0-9][A-Za-z0-9._-]{0,248}$") }
}

/// A partition of a topic.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "read by the derive")]
pub(crate) struct PartitionPath {
    /// The topic's name
    #[param(pattern = "^[A-Za-z0-9][A-Za-z0-9._-]{0,248}$")]
    topic: String,
    /// The partition's number, from 0
    partition: u32,
}

/// A binding of a queue.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "read by the derive")]
pub(crate) struct BindingPath {
    /// The queue's name
    #[param(pattern = "^[A-Za-z0-9][A-Za-z0-9._-]{0,248}$")]
    queue: String,
    /// The binding's name
    #[param(pattern = "^[A-Za-z0-9][A-Za-z0-9._-]{0,248}$")]
    binding: String,
}

/// A version of a subject.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "read by the derive")]
pub(crate) struct SchemaVersionPath {
    /// The subject's name
    #[param(pattern = "^[A-Za-z0-9][A-Za-z0-9._-]{0,248}$")]
    subject: String,
    /// The version's number, or `latest`
    #[param(pattern = "^([1-9][0-9]{0,8}|latest)$")]
    version: String,
}

/// A message of a queue.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "read by the derive")]
pub(crate) struct MessagePath {
    /// The queue's name
    #[param(pattern = "^[A-Za-z0-9][A-Za-z0-9._-]{0,248}$")]
    queue: String,
    /// The message's id: `<topic>:<partition>-<offset>`, without the topic where the queue has one
    #[param(pattern = "^([A-Za-z0-9][A-Za-z0-9._-]{0,248}:)?[0-9]+-[0-9]+$")]
    message: String,
}

macro_rules! query_params {
    ($($name:ident { $($(#[$rule:meta])* $field:ident: $type:ty,)* })*) => {
        $(
            #[derive(IntoParams)]
            #[into_params(parameter_in = Query)]
            #[expect(dead_code, reason = "read by the derive")]
            pub(crate) struct $name {
                $($(#[$rule])* $field: Option<$type>,)*
            }
        )*
    };
}

query_params! {
    ProduceQuery {
        /// For records that name no partition themselves
        partition: u32,
        /// All partitions or none
        atomic: bool,
        /// How acknowledgements are written: `records` (default), `ranges` or `none`
        #[param(pattern = "^(records|ranges|none)$")]
        acks: String,
        /// NDJSON only: `records` (default) or `values`, where each line is the value
        #[param(pattern = "^(records|values)$")]
        format: String,
        /// NDJSON only: a JSON pointer that takes the key from the value
        #[param(pattern = "^/.*$")]
        key: String,
        /// NDJSON only: store the lines before a malformed one
        partial: bool,
        /// Only `durable`
        #[param(pattern = "^durable$")]
        durability: String,
        /// Append only if the partition's end is here
        #[param(minimum = 0)]
        expect_offset: u64,
        /// Refused when a higher one was seen
        #[param(minimum = 0)]
        fencing_token: u64,
        /// Idempotent producer: its name
        #[param(min_length = 1, max_length = 255)]
        producer_id: String,
        /// Idempotent producer: its instance
        #[param(minimum = 0)]
        producer_epoch: u32,
        /// Idempotent producer: the sequence of the first record
        #[param(minimum = 0)]
        producer_sequence: u64,
    }
    ReadQuery {
        /// Start at this offset
        #[param(minimum = 0, maximum = 9007199254740992i64)]
        offset: u64,
        /// Start at the first record of this time (RFC 3339, or milliseconds) or later
        timestamp: String,
        /// Start at `earliest` or `latest`
        #[param(pattern = "^(earliest|latest)$")]
        from: String,
        /// Start this many records before the end
        #[param(minimum = 0)]
        last: u64,
        /// At most this many records
        #[param(minimum = 1)]
        limit: u64,
        /// At most this many bytes per part, but at least one record
        #[param(minimum = 1)]
        max_bytes: u64,
        /// Stop before this offset
        #[param(minimum = 0, maximum = 9007199254740992i64)]
        until_offset: u64,
        /// Stop before the first record of this time or later
        until_timestamp: String,
        /// How long to wait for a first record, like `20s`
        #[param(pattern = "^[0-9]+(ms|s|m|h|d)$")]
        wait: String,
        /// Write all values as `json`, `utf8` or `base64`
        #[param(pattern = "^(json|utf8|base64)$")]
        encoding: String,
    }
    CursorQuery {
        /// Go on where the last answer ended
        cursor: String,
    }
    PageQuery {
        /// Most items of the page; 100 by default
        #[param(minimum = 1, maximum = 1000)]
        limit: u32,
        /// From the last page's `next_page_token`
        page_token: String,
    }
    CompatibilityQuery {
        /// The version that it would follow: a number, or `latest` (default)
        #[param(pattern = "^([1-9][0-9]{0,8}|latest)$")]
        version: String,
    }
    OffsetsQuery {
        /// `earliest`, `latest` (default) or a time
        at: String,
        /// Only this partition
        partition: u32,
    }
    ObjectsQuery {
        /// The partition; 0 by default
        partition: u32,
        /// Only ranges that reach this offset
        #[param(minimum = 0)]
        from_offset: u64,
        /// Most items of the page; 100 by default
        #[param(minimum = 1, maximum = 1000)]
        limit: u32,
        /// From the last page's `next_page_token`
        page_token: String,
    }
    ReceiveQuery {
        /// How long to wait for a first message, like `20s`; here or in the body
        #[param(pattern = "^[0-9]+(ms|s|m|h|d)$")]
        wait: String,
        /// Write all values as `json`, `utf8` or `base64`
        #[param(pattern = "^(json|utf8|base64)$")]
        encoding: String,
    }
    EncodingQuery {
        /// Write all values as `json`, `utf8` or `base64`
        #[param(pattern = "^(json|utf8|base64)$")]
        encoding: String,
    }
    StreamQuery {
        /// Most messages that are not settled; 100 by default
        #[param(minimum = 1, maximum = 1000)]
        credit: u32,
        /// How long each is leased; the queue's by default
        #[param(pattern = "^[0-9]+(ms|s|m|h|d)$")]
        lease: String,
        /// Write all values as `json`, `utf8` or `base64`
        #[param(pattern = "^(json|utf8|base64)$")]
        encoding: String,
    }
    DeadLettersQuery {
        /// Most dead letters; 100 by default
        #[param(minimum = 1, maximum = 1000)]
        limit: u32,
        /// Write all values as `json`, `utf8` or `base64`
        #[param(pattern = "^(json|utf8|base64)$")]
        encoding: String,
    }
    RequestQuery {
        /// How long to wait for the reply; 30 s by default
        #[param(pattern = "^[0-9]+(ms|s|m|h|d)$")]
        wait: String,
        /// The topic where the reply is awaited, unless the record names one; `<topic>.replies` by default
        #[param(pattern = "^[A-Za-z0-9][A-Za-z0-9._-]{0,248}$")]
        reply_to: String,
        /// Write the reply's value as `json`, `utf8` or `base64`
        #[param(pattern = "^(json|utf8|base64)$")]
        encoding: String,
    }
    UsageQuery {
        /// Where it begins (RFC 3339, or milliseconds), rounded down to the hour or day
        from: String,
        /// Where it ends, rounded up; now by default
        to: String,
        /// `hour`, `day` or `total` (default)
        #[param(pattern = "^(hour|day|total)$")]
        granularity: String,
    }
    CommitQuery {
        /// How acknowledgements are written: `records` (default), `ranges` or `none`
        #[param(pattern = "^(records|ranges|none)$")]
        acks: String,
    }
}

/// What is trimmed.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "read by the derive")]
pub(crate) struct TrimQuery {
    /// Records below are forgotten
    #[param(minimum = 0, maximum = 9007199254740992i64)]
    before_offset: u64,
    /// Only in this partition
    partition: Option<u32>,
}

/// A condition on a write.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "read by the derive")]
pub(crate) struct WriteCondition {
    /// Only if the resource is at this ETag, or `*`: if it exists
    #[param(rename = "If-Match")]
    if_match: Option<String>,
    /// `*`: only if it does not exist
    #[param(rename = "If-None-Match", pattern = "^\\*$")]
    if_none_match: Option<String>,
}
