//! A record as producers hand it in and as readers get it back. Bytes are shared slices: passing a record on copies
//! nothing.

use std::sync::Arc;

use bytes::Bytes;

use crate::id::{Offset, PartitionIndex};
use crate::time::Timestamp;

/// What is known of a value's bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ValueKind {
    /// Text or bytes: shown as a string where they are UTF-8, as base64 otherwise.
    #[default]
    Opaque,
    /// One JSON text (RFC 8259), checked when it was produced: shown as it stands.
    Json,
}

/// A header: a name that may occur more than once, and a value that may be absent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// UTF-8 name, never starting with [`Properties::RESERVED_PREFIX`].
    pub name: Arc<str>,
    /// The value's bytes; `None` is Kafka's null.
    pub value: Option<Bytes>,
}

/// What a record may carry besides key, value and headers. Stored as reserved headers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Properties {
    /// Records with the same id inside the topic's dedup window are stored once.
    pub dedup_id: Option<Arc<str>>,
    /// Messages of one ordering key are delivered one at a time.
    pub ordering_key: Option<Arc<str>>,
    /// 0 (last) to 9 (first).
    pub priority: Option<u8>,
    /// Not to be delivered before.
    pub deliver_at: Option<Timestamp>,
    /// Not to be delivered after.
    pub expires_at: Option<Timestamp>,
    /// Joins a reply to its request.
    pub correlation_id: Option<Arc<str>>,
    /// The topic where the reply goes.
    pub reply_to: Option<Arc<str>>,
    /// The only queue that takes this record: a dead letter that goes back to a topic which several queues read.
    pub for_queue: Option<Arc<str>>,
    /// Why it does not match its topic's schema, where the topic takes such records.
    pub schema_error: Option<Arc<str>>,
    /// W3C Trace Context `traceparent`.
    pub traceparent: Option<Arc<str>>,
    /// W3C Trace Context `tracestate`.
    pub tracestate: Option<Arc<str>>,
}

impl Properties {
    /// Header names that producers may not use: they carry the properties.
    pub const RESERVED_PREFIX: &'static str = "lakefall.";

    /// Whether nothing is set.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// A record to be appended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// Chooses the partition and the identity under key compaction.
    pub key: Option<Bytes>,
    /// The payload; `None` is a tombstone.
    pub value: Option<Bytes>,
    /// What the value's bytes are.
    pub kind: ValueKind,
    /// In the order given.
    pub headers: Vec<Header>,
    /// The producer's time; the gateway's clock when absent.
    pub timestamp: Option<Timestamp>,
    /// Goes before every other choice of the partition.
    pub partition: Option<PartitionIndex>,
    /// Present only where something is set: most records carry none.
    pub properties: Option<Box<Properties>>,
}

impl Record {
    /// Bytes of key, value and headers: what limits and quotas count.
    pub fn payload_bytes(&self) -> usize {
        self.key.as_ref().map_or(0, Bytes::len) + self.value.as_ref().map_or(0, Bytes::len) + header_bytes(&self.headers)
    }
}

/// A record as it stands in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredRecord {
    /// Its partition.
    pub partition: PartitionIndex,
    /// Its place in the partition.
    pub offset: Offset,
    /// The producer's time, or the gateway's where the producer gave none.
    pub timestamp: Timestamp,
    /// When its commit was journaled, by the ledger's clock.
    pub appended_at: Timestamp,
    /// See [`Record::key`].
    pub key: Option<Bytes>,
    /// See [`Record::value`].
    pub value: Option<Bytes>,
    /// See [`Record::kind`].
    pub kind: ValueKind,
    /// See [`Record::headers`].
    pub headers: Vec<Header>,
    /// See [`Record::properties`].
    pub properties: Option<Box<Properties>>,
}

impl StoredRecord {
    /// Bytes of key, value and headers.
    pub fn payload_bytes(&self) -> usize {
        self.key.as_ref().map_or(0, Bytes::len) + self.value.as_ref().map_or(0, Bytes::len) + header_bytes(&self.headers)
    }
}

fn header_bytes(headers: &[Header]) -> usize {
    headers.iter().map(|h| h.name.len() + h.value.as_ref().map_or(0, Bytes::len)).sum()
}
