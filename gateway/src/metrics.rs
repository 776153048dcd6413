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
