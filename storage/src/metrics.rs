//! The names of this crate's metrics. Labels never carry a tenant's data.

/// Requests sent to the object store; labels `operation` (`put`, `get`, `head`, `list`, `delete`) and `outcome` (`ok`, or
/// the kind of [`crate::store::StoreError`]). What a bucket bills by.
pub const STORE_REQUESTS: &str = "lakefall_store_requests_total";
/// Bytes sent to and got from the object store; label `direction` (`put`, `get`).
pub const STORE_BYTES: &str = "lakefall_store_bytes_total";
/// Blocks found in the cache; label `tier` (`memory`, `cold`, `disk`).
pub const CACHE_HITS: &str = "lakefall_cache_hits_total";
/// Blocks that had to be fetched from the store.
pub const CACHE_MISSES: &str = "lakefall_cache_misses_total";
/// Cached blocks found damaged, dropped and fetched again.
pub const CACHE_CORRUPT: &str = "lakefall_cache_corrupt_total";
/// Lookups on the cache disk given up at the deadline.
pub const CACHE_TIMEOUTS: &str = "lakefall_cache_disk_timeouts_total";
