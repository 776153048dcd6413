//! Names of the metrics of this crate.

use lakefall_queue::usage::Figure;

/// Journal appends (groups), by shard owner.
pub const GROUPS: &str = "lakefall_metadata_groups_total";
/// Commands in a group.
pub const GROUP_COMMANDS: &str = "lakefall_metadata_group_commands";
/// Bytes of journal entries.
pub const JOURNAL_BYTES: &str = "lakefall_metadata_journal_bytes_total";
/// Seconds that an append took.
pub const APPEND_SECONDS: &str = "lakefall_metadata_append_seconds";
/// Appends that had to be written again to learn whether they happened.
pub const APPENDS_REPEATED: &str = "lakefall_metadata_appends_repeated_total";
/// Checkpoints written.
pub const CHECKPOINTS: &str = "lakefall_metadata_checkpoints_total";
/// Seconds that a checkpoint took.
pub const CHECKPOINT_SECONDS: &str = "lakefall_metadata_checkpoint_seconds";
/// Times that an owner let go of a shard because it was unsure of it.
pub const STEP_DOWNS: &str = "lakefall_metadata_step_downs_total";
/// Checkpoints that failed; each is written again.
pub const CHECKPOINTS_FAILED: &str = "lakefall_metadata_checkpoints_failed_total";
/// Shards that this replica serves.
pub const SHARDS_HELD: &str = "lakefall_metadata_shards_held";
/// Leases that the store no longer granted when they were to be renewed.
pub const LEASES_LOST: &str = "lakefall_metadata_leases_lost_total";
/// Seconds from the wish to take a shard until it was served.
pub const TAKEOVER_SECONDS: &str = "lakefall_metadata_takeover_seconds";
/// Seconds from the last request taken until a shard was given back.
pub const HANDOVER_SECONDS: &str = "lakefall_metadata_handover_seconds";
/// Seconds that this machine's clock is ahead of the metadata store's.
pub const CLOCK_SKEW_SECONDS: &str = "lakefall_metadata_clock_skew_seconds";
/// Seconds since the store last told who holds what.
pub const ROLL_AGE_SECONDS: &str = "lakefall_metadata_roll_age_seconds";
/// Asks of the RPC by side, kind and outcome.
pub const RPC_ASKS: &str = "lakefall_metadata_rpc_asks_total";
/// Asks in a frame, by the side that wrote or read it: how well they are gathered.
pub const RPC_FRAME_ASKS: &str = "lakefall_metadata_rpc_frame_asks";
/// Asks that a replica sent elsewhere.
pub const RPC_REDIRECTS: &str = "lakefall_metadata_rpc_redirects_total";
/// Asks that were asked again after a pause, by kind.
pub const RPC_RETRIES: &str = "lakefall_metadata_rpc_retries_total";
/// Streams that broke, by stream.
pub const RPC_RECONNECTS: &str = "lakefall_metadata_rpc_reconnects_total";
/// Replicas whose news this process follows: fewer than there are, and what it remembers is forgotten when the next is followed.
pub const RPC_WATCHES: &str = "lakefall_metadata_rpc_watches";
/// Questions that were answered by an equal one's answer.
pub const RPC_SHARED_QUERIES: &str = "lakefall_metadata_rpc_shared_queries_total";
/// Reports of usage; label `outcome` (`ok`, or `failed`: reported again later).
pub const USAGE_REPORTS: &str = "lakefall_usage_reports_total";

/// What topics used, as it is reported; labels `tenant` (the namespace) and `topic`. A process names the first hundred topics and
/// thousand namespaces that it meets; the others are `_other`, so that the sum of a namespace's topics is always the namespace's.
/// Figures that several topics may share are in millionths.
pub const USAGE_PRODUCED_RECORDS: &str = "lakefall_usage_produced_records_total";
/// See [`USAGE_PRODUCED_RECORDS`].
pub const USAGE_PRODUCED_BYTES: &str = "lakefall_usage_produced_bytes_total";
/// See [`USAGE_PRODUCED_RECORDS`].
pub const USAGE_STORED_BYTES: &str = "lakefall_usage_stored_bytes_total";
/// See [`USAGE_PRODUCED_RECORDS`].
pub const USAGE_READ_RECORDS: &str = "lakefall_usage_read_records_total";
/// See [`USAGE_PRODUCED_RECORDS`].
pub const USAGE_READ_BYTES: &str = "lakefall_usage_read_bytes_total";
/// See [`USAGE_PRODUCED_RECORDS`].
pub const USAGE_RECEIVED_MESSAGES: &str = "lakefall_usage_received_messages_total";
/// See [`USAGE_PRODUCED_RECORDS`].
pub const USAGE_RECEIVED_BYTES: &str = "lakefall_usage_received_bytes_total";
/// See [`USAGE_PRODUCED_RECORDS`].
pub const USAGE_QUEUE_REQUESTS: &str = "lakefall_usage_queue_requests_total";
/// See [`USAGE_PRODUCED_RECORDS`].
pub const USAGE_CACHE_HITS: &str = "lakefall_usage_cache_hits_total";
/// See [`USAGE_PRODUCED_RECORDS`].
pub const USAGE_CACHE_MISSES: &str = "lakefall_usage_cache_misses_total";
/// See [`USAGE_PRODUCED_RECORDS`].
pub const USAGE_STORE_WRITES: &str = "lakefall_usage_store_writes_millionths_total";
/// See [`USAGE_PRODUCED_RECORDS`].
pub const USAGE_STORE_READS: &str = "lakefall_usage_store_reads_millionths_total";
/// See [`USAGE_PRODUCED_RECORDS`].
pub const USAGE_STORE_DELETES: &str = "lakefall_usage_store_deletes_millionths_total";
/// See [`USAGE_PRODUCED_RECORDS`].
pub const USAGE_STORE_SENT_BYTES: &str = "lakefall_usage_store_sent_bytes_total";
/// See [`USAGE_PRODUCED_RECORDS`].
pub const USAGE_STORE_GOT_BYTES: &str = "lakefall_usage_store_got_bytes_total";
/// See [`USAGE_PRODUCED_RECORDS`].
pub const USAGE_COMMITS: &str = "lakefall_usage_commits_millionths_total";

/// The metric of a figure of usage.
pub fn usage(figure: Figure) -> &'static str {
    match figure {
        Figure::ProducedRecords => USAGE_PRODUCED_RECORDS,
        Figure::ProducedBytes => USAGE_PRODUCED_BYTES,
        Figure::StoredBytes => USAGE_STORED_BYTES,
        Figure::ReadRecords => USAGE_READ_RECORDS,
        Figure::ReadBytes => USAGE_READ_BYTES,
        Figure::ReceivedMessages => USAGE_RECEIVED_MESSAGES,
        Figure::ReceivedBytes => USAGE_RECEIVED_BYTES,
        Figure::QueueRequests => USAGE_QUEUE_REQUESTS,
        Figure::CacheHits => USAGE_CACHE_HITS,
        Figure::CacheMisses => USAGE_CACHE_MISSES,
        Figure::StoreWrites => USAGE_STORE_WRITES,
        Figure::StoreReads => USAGE_STORE_READS,
        Figure::StoreDeletes => USAGE_STORE_DELETES,
        Figure::StoreSentBytes => USAGE_STORE_SENT_BYTES,
        Figure::StoreGotBytes => USAGE_STORE_GOT_BYTES,
        Figure::Commits => USAGE_COMMITS,
    }
}
