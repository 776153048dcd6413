//! Work on queues that goes on by itself, and what is asked of it. Pure data.

use std::sync::Arc;

use serde::Serialize;

use crate::id::TopicName;
use crate::time::Timestamp;

/// What to put back from the dead letters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Redrive {
    /// Only dead letters for which this CEL expression is true.
    pub filter: Option<String>,
    /// Where to; the topic that each came from when absent.
    pub to: Option<TopicName>,
    /// At most this many per second.
    pub max_per_second: Option<u32>,
    /// Only count.
    pub dry_run: bool,
}

/// Long work that goes on by itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Operation {
    /// Names it.
    pub id: Arc<str>,
    /// What it does.
    pub kind: &'static str,
    /// How it stands.
    pub status: OperationStatus,
    /// When it began.
    pub started_at: Timestamp,
    /// When it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Timestamp>,
    /// Messages done so far (in a dry run: found).
    pub done: u64,
    /// Messages passed over, as a filter says.
    pub skipped: u64,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// How an [`Operation`] stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum OperationStatus {
    /// Going on.
    Running,
    /// All done.
    Succeeded,
    /// Stopped by an error; what was done stays done.
    Failed,
    /// Stopped by a caller; what was done stays done.
    Cancelled,
}
