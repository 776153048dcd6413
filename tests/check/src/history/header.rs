//! A history's first line: what is known of the run, and what it must show. Must be enough to judge the history with nothing
//! else at hand.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::Name;
use crate::checker::Check;

/// The name of the format, in every header.
pub(super) const FORMAT: &str = "lakefall-history";
/// Its version: raised when a reader of the one before would misunderstand.
pub(super) const VERSION: u32 = 1;

/// What is known of a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Header {
    /// What it was, for people: a test's name, a seed, a commit.
    pub run: String,
    /// Topics of which more is known than the defaults.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub topics: BTreeMap<Name, TopicFacts>,
    /// The same for queues.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub queues: BTreeMap<Name, QueueFacts>,
    /// What the history must show, or prove nothing.
    pub expect: Expect,
}

/// What is known of a topic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TopicFacts {
    /// Somebody trims it, or retention does: its log may start above 0.
    pub trimmed: bool,
    /// Only the last record of each key is kept: offsets may be empty, and H1 and H5 are not judged.
    pub cleaned: bool,
    /// Its histories are small enough to be searched for an order that explains them: H8 is judged.
    pub linearizable: bool,
}

/// What a queue promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct QueueFacts {
    /// Attempts after which a message is dead.
    pub max_attempts: Option<u32>,
    /// Whether messages of one key keep their order.
    pub ordered: bool,
    /// Within which the same dedup id means the same message; without, for ever.
    pub dedup_window_ms: Option<u64>,
    /// After which a message may be gone without delivery: its time to live, or the topic's retention; without, never.
    pub keeps_ms: Option<u64>,
    /// How far the server's clock may go apart from the recorder's within one lease.
    pub clock_ms: u64,
    /// How soon something must come after its lease is over or its delay has passed.
    pub redelivery_ms: u64,
    /// The history is small enough to be searched for an order that explains it: H8 is judged. No lease ends within it by itself.
    pub linearizable: bool,
}

impl Default for QueueFacts {
    fn default() -> Self {
        Self {
            max_attempts: None,
            ordered: false,
            dedup_window_ms: None,
            keeps_ms: None,
            clock_ms: 5,
            redelivery_ms: 10_000,
            linearizable: false,
        }
    }
}

/// What a history must show.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Expect {
    /// Checks that must have looked at something.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub checks: BTreeSet<Check>,
    /// Kinds of faults, each of which must have been injected at least once.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub faults: BTreeSet<String>,
    /// Faults of any kind, at least.
    pub fault_count: u64,
    /// Acknowledged records and messages, at least.
    pub acked: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct HeaderLine {
    r#type: HeaderType,
    format: String,
    version: u32,
    #[serde(default)]
    run: String,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    topics: BTreeMap<Name, TopicFacts>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    queues: BTreeMap<Name, QueueFacts>,
    #[serde(default)]
    expect: Expect,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum HeaderType {
    Header,
}

impl Header {
    /// The line, with its end.
    pub fn to_line(&self) -> String {
        let Self { run, topics, queues, expect } = self.clone();
        let line = HeaderLine { r#type: HeaderType::Header, format: FORMAT.to_owned(), version: VERSION, run, topics, queues, expect };
        super::codec::line(&line)
    }

    /// What a first line says, or why it is none.
    pub fn from_line(line: &[u8]) -> Result<Self, String> {
        let line: HeaderLine = serde_json::from_slice(line).map_err(|error| format!("no header: {error}"))?;
        if line.format != FORMAT {
            return Err(format!("the format is {:?}, not {FORMAT:?}", line.format));
        }
        if line.version != VERSION {
            return Err(format!("version {} of the format, but only {VERSION} is known", line.version));
        }
        let HeaderLine { run, topics, queues, expect, .. } = line;
        Ok(Self { run, topics, queues, expect })
    }
}
