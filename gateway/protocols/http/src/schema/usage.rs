//! Usage as it looks on the wire, for the OpenAPI document only.

use serde::Serialize;
use utoipa::ToSchema;

schemas! {
    /// What was used, and what is kept.
    UsageOut {
        namespace: String,
        /// Where it is a topic's
        topic: Option<String>,
        #[schema(pattern = "^(hour|day|total)$")]
        granularity: String,
        /// The time asked for, in whole hours or days
        from: String, to: String,
        /// When it was as told
        as_of: String,
        /// Hours or days in which anything was used; one for a total
        buckets: Vec<UsageBucket>,
        /// All of them together
        total: UsageFigures,
        holdings: UsageHoldings,
    }
    /// What was used in an hour, a day, or all of the time.
    UsageBucket { start: String, end: String, usage: UsageFigures, }
    /// Requests and commits that serve several topics are shared among them by their bytes: so they may be broken numbers.
    UsageFigures {
        /// Records stored, each once however often it was sent
        produced_records: u64,
        /// Bytes of their keys, values and headers
        produced_bytes: u64,
        /// Bytes of their batches, compressed, in segments
        stored_bytes: u64,
        /// Records answered to readers
        read_records: u64,
        /// Bytes of their keys, values and headers
        read_bytes: u64,
        /// Messages leased to receivers
        received_messages: u64,
        /// Bytes of their keys, values and headers
        received_bytes: u64,
        /// Requests to queues: receiving, settling, peeking
        queue_requests: u64,
        /// Pieces of objects that the cache had
        cache_hits: u64,
        /// Pieces of objects that were fetched
        cache_misses: u64,
        /// Requests to the object store that write or list (class A)
        store_writes: f64,
        /// Requests to the object store that read (class B)
        store_reads: f64,
        /// Requests to the object store that delete
        store_deletes: f64,
        /// Bytes sent to the object store
        store_sent_bytes: u64,
        /// Bytes got from the object store
        store_got_bytes: u64,
        /// Commits of segments in the metadata store
        commits: f64,
    }
    /// What is kept just now.
    UsageHoldings {
        topics: u64, partitions: u64,
        /// Ranges of objects: a row of the metadata store each
        extents: u64,
        /// Positions of named cursors
        cursors: u64,
        /// Queues; of a topic, those that read it
        queues: u64,
        /// Subjects of schemas
        subjects: u64,
        /// Bytes in segments, merged or not
        segment_bytes: u64,
        /// Bytes in Parquet files
        parquet_bytes: u64,
    }
}
