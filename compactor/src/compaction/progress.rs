//! What compaction gets done, as metrics: bytes and files, what waits, and how long that takes at the present pace.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use lakefall_queue::Timestamp;
use lakefall_queue::ledger::{CompactablePartition, ObjectLevel};
use tokio::time::Instant;

use crate::metrics as names;

/// The pace is that of about so long.
const WINDOW: Duration = Duration::from_secs(60);

/// How fast it goes.
#[derive(Default)]
pub(super) struct Progress(Mutex<Paced>);

#[derive(Default)]
struct Paced {
    /// Bytes of inputs in a second, while there was work.
    rate: f64,
}

/// What waits in all shards.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Backlog {
    bytes: u64,
    since: Option<Timestamp>,
    unmerged: u64,
}

impl Backlog {
    pub(super) fn add(&mut self, partition: &CompactablePartition) {
        self.bytes += partition.unrolled_bytes;
        self.unmerged += partition.unmerged_extents;
        self.since = self.since.into_iter().chain(partition.unrolled_since).min();
    }
}

impl Progress {
    /// A job took the place of `bytes_in` since `begun`.
    pub(super) fn did(&self, level: ObjectLevel, bytes_in: u64, bytes_out: u64, begun: Instant) {
        metrics::counter!(names::BYTES_IN, "level" => level.as_str()).increment(bytes_in);
        metrics::counter!(names::BYTES_OUT, "level" => level.as_str()).increment(bytes_out);
        metrics::counter!(names::FILES, "level" => level.as_str()).increment(1);
        if level == ObjectLevel::Parquet {
            let took = begun.elapsed().as_secs_f64().max(1e-3);
            let weight = (took / WINDOW.as_secs_f64()).clamp(0.1, 1.0);
            let mut paced = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let now = bytes_in as f64 / took;
            paced.rate = if paced.rate == 0.0 { now } else { paced.rate + weight * (now - paced.rate) };
        }
    }

    pub(super) fn waits(&self, backlog: &Backlog, now: Timestamp) {
        let age = backlog.since.map_or(0, |since| now.as_millis().saturating_sub(since.as_millis()).max(0));
        let rate = self.0.lock().unwrap_or_else(PoisonError::into_inner).rate;
        metrics::gauge!(names::BACKLOG_BYTES).set(backlog.bytes as f64);
        metrics::gauge!(names::BACKLOG_SECONDS).set(age as f64 / 1e3);
        metrics::gauge!(names::BACKLOG_EXTENTS).set(backlog.unmerged as f64);
        metrics::gauge!(names::ETA_SECONDS).set(if rate > 0.0 { backlog.bytes as f64 / rate } else { 0.0 });
    }
}
