//! The names of this crate's metrics. Labels never carry a tenant's data.

/// Requests sent to the object store; labels `operation` (`put`, `get`, `head`, `list`, `delete`), `outcome` (`ok`, the kind of
/// [`crate::store::StoreError`], or `dropped`: nobody waited for the answer any more), `class` (`a`: writes and lists, `b`: reads,
/// `free`: deletes), `purpose` (`segment`, `parquet`, `iceberg`, `mark`, `other`: what the object is for) and `sender` (`gateway`,
/// `compactor`, `other`: the role that asks). What a bucket bills by.
pub const STORE_REQUESTS: &str = "lakefall_store_requests_total";
/// How long a request to a remote store took; label `operation`.
pub const STORE_SECONDS: &str = "lakefall_store_request_seconds";
/// Requests to the object store that were sent on behalf of no topic, like listings; label `class`. All others are in the usage.
pub const STORE_UNATTRIBUTED: &str = "lakefall_store_unattributed_requests_total";
/// Bytes sent to and got from the object store; labels `direction` (`put`, `get`), `purpose` and `sender`.
pub const STORE_BYTES: &str = "lakefall_store_bytes_total";
/// Failed requests that were worth repeating; labels `operation` and `outcome` (`sent`, or `refused` for want of budget).
pub const STORE_REPEATS: &str = "lakefall_store_repeats_total";
/// Late reads; label `outcome` (`sent` a second time, that second one `won`, `refused` for want of budget).
pub const STORE_HEDGES: &str = "lakefall_store_hedges_total";
/// Objects that came back cut or from another place than asked, and were read again.
pub const STORE_CUT_READS: &str = "lakefall_store_cut_reads_total";
/// How often credentials were asked for; label `outcome` (`ok`, `failed`).
pub const STORE_CREDENTIALS: &str = "lakefall_store_credentials_total";
/// Blocks found in the cache; label `tier` (`memory`, `cold`, `disk`).
pub const CACHE_HITS: &str = "lakefall_cache_hits_total";
/// Blocks that had to be fetched from the store.
pub const CACHE_MISSES: &str = "lakefall_cache_misses_total";
/// Cached blocks found damaged, dropped and fetched again.
pub const CACHE_CORRUPT: &str = "lakefall_cache_corrupt_total";
/// Lookups on the cache disk given up at the deadline.
pub const CACHE_TIMEOUTS: &str = "lakefall_cache_disk_timeouts_total";
/// Whether the cache disk is used: 1; passed by for a while after lookups that took too long: 0.5; turned off: 0.
pub const CACHE_DISK: &str = "lakefall_cache_disk_state";
