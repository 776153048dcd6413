//! What replays look like, for the OpenAPI document only.

use serde::Serialize;
use utoipa::ToSchema;

use super::StartOffset;

/// Where a replay begins. An offset needs a partition, unless the topic has one only.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "read by the derive")]
pub(crate) enum ReplayStart {
    Named(ReplayStartName),
    Offset(StartOffset),
    Timestamp(ReplayTime),
}

/// Where a replay ends. An offset needs a partition, unless the topic has one only.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "read by the derive")]
pub(crate) enum ReplayEnd {
    Named(ReplayEndName),
    Offset(StartOffset),
    Timestamp(ReplayTime),
}

/// The log start.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[expect(dead_code, reason = "read by the derive")]
pub(crate) enum ReplayStartName {
    Earliest,
}

/// The end, as it is when the replay begins.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[expect(dead_code, reason = "read by the derive")]
pub(crate) enum ReplayEndName {
    Latest,
}

/// Where copies go.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[expect(dead_code, reason = "read by the derive")]
pub(crate) enum ReplayTarget {
    /// A topic
    Topic(String),
    /// The topic that messages sent to this queue go to
    Queue(String),
}

schemas! {
    /// The first record with this timestamp or a later one.
    ReplayTime { timestamp: String, }
    /// Which records are copied: those that all of this holds for.
    ReplaySource {
        topic: String,
        /// `earliest` by default
        start: Option<ReplayStart>,
        /// `latest` by default
        end: Option<ReplayEnd>,
        partition: Option<u32>,
        key: Option<String>,
        /// A CEL expression over `key`, `headers`, `value` and more
        #[schema(max_length = 4096)]
        filter: Option<String>,
        /// An SQL predicate over the topic's table
        #[schema(max_length = 65536)]
        r#where: Option<String>,
    }
    /// What is copied, and where to.
    ReplayBody {
        /// The same request under the same name goes on where it was left
        #[schema(pattern = "^[A-Za-z0-9][A-Za-z0-9._-]{0,199}$")]
        name: String,
        from: ReplaySource,
        to: ReplayTarget,
        #[schema(minimum = 1)]
        max_per_second: Option<u32>,
        /// Only count
        dry_run: Option<bool>,
    }
}
