//! Names of the metrics of this crate.

/// Records accepted and durable.
pub const PRODUCED_RECORDS: &str = "lakefall_produced_records_total";
/// Bytes of keys, values and headers accepted and durable.
pub const PRODUCED_BYTES: &str = "lakefall_produced_bytes_total";
/// Seconds from a batch's arrival in the open segment to its durable commit.
pub const PRODUCE_SECONDS: &str = "lakefall_produce_seconds";
/// Records answered to readers.
pub const READ_RECORDS: &str = "lakefall_read_records_total";
/// Bytes of keys, values and headers answered to readers.
pub const READ_BYTES: &str = "lakefall_read_bytes_total";
/// Bytes of a segment as uploaded.
pub const SEGMENT_BYTES: &str = "lakefall_segment_bytes";
/// Seconds that an upload took, repetitions included.
pub const UPLOAD_SECONDS: &str = "lakefall_upload_seconds";
/// Uploads under way.
pub const UPLOADS_IN_FLIGHT: &str = "lakefall_uploads_in_flight";
/// Uploads that were repeated.
pub const UPLOADS_REPEATED: &str = "lakefall_uploads_repeated_total";
/// Seconds that a commit took, repetitions included.
pub const COMMIT_SECONDS: &str = "lakefall_commit_seconds";
/// Bytes admitted and not yet stored.
pub const BUFFER_BYTES: &str = "lakefall_buffer_bytes";
/// Requests refused because the buffer was full.
pub const BUFFER_REFUSALS: &str = "lakefall_buffer_refusals_total";
/// Connections open.
pub const CONNECTIONS: &str = "lakefall_connections";
/// Connections closed at once because there were too many.
pub const CONNECTIONS_REFUSED: &str = "lakefall_connections_refused_total";
/// Looks for where records are, by whether it was remembered (`from="memory"`) or asked (`from="question"`).
pub const LOCATES: &str = "lakefall_locates_total";
/// Questions of readers that were sent to the metadata service: fewer than were asked, where several asked the same.
pub const QUESTIONS: &str = "lakefall_reader_questions_total";
/// Extents whose place is remembered.
pub const LOCATIONS: &str = "lakefall_locations";
/// Objects that were not where they were located, and were located anew.
pub const LOCATIONS_STALE: &str = "lakefall_locations_stale_total";
/// Times that news of the metadata service were missed, so that nothing remembered was believed any more.
pub const NEWS_MISSED: &str = "lakefall_news_missed_total";
/// Bytes of memory that answers to readers occupy until they are sent.
pub const READ_ROOM_BYTES: &str = "lakefall_read_room_bytes";
/// Reads that waited for room for their answer.
pub const READS_WAITED: &str = "lakefall_reads_waited_total";
/// Answers that were cut short because there was little room for answers.
pub const READS_CUT_SHORT: &str = "lakefall_reads_cut_short_total";
/// Uploads that may be under way at once, as the store bears.
pub const UPLOADS_ALLOWED: &str = "lakefall_uploads_allowed";
/// Uploads that the store denied for want of valid credentials. More than none is a matter for the operator.
pub const UPLOADS_DENIED: &str = "lakefall_uploads_denied_total";
/// Segments closed whose requests are not answered.
pub const SEGMENTS_UNSETTLED: &str = "lakefall_segments_unsettled";
/// Commits that were repeated.
pub const COMMITS_REPEATED: &str = "lakefall_commits_repeated_total";
/// Segments that a shard refused as a whole: they came too late, or were swept before.
pub const SEGMENTS_REFUSED: &str = "lakefall_segments_refused_total";
/// Messages that became dead when their record was gone from the log: there is no dead letter of them.
pub const DEAD_LETTERS_GONE: &str = "lakefall_dead_letters_gone_total";
/// Records that replays copied.
pub const REPLAYED_RECORDS: &str = "lakefall_replayed_records_total";
/// Messages leased to receivers.
pub const RECEIVED_MESSAGES: &str = "lakefall_received_messages_total";
/// Seconds from when a message was sent to its first lease.
pub const RECEIVE_SECONDS: &str = "lakefall_receive_seconds";
/// Settlements, by what was asked (`verdict`: `ack`, `nack`, `reject`, `extend`) and what became of them (`outcome`: `ok`,
/// `expired`, `unknown`, `forged`, `failed`).
pub const SETTLED_MESSAGES: &str = "lakefall_settled_messages_total";
/// Records that did not match their topic's schema, by what became of them (`outcome`: `refused`, `marked`).
pub const RECORDS_INVALID: &str = "lakefall_records_invalid_total";
