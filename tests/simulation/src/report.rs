//! What came of one seed, as one line of JSON between processes.

use std::collections::BTreeMap;

use serde_json::{Value, json};

/// What came of one seed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// The seed.
    pub seed: u64,
    /// What is wrong; empty: all is well.
    pub violations: Vec<String>,
    /// Simulated milliseconds.
    pub simulated_ms: u64,
    /// Records whose append was acknowledged.
    pub acked: u64,
    /// Messages whose send was acknowledged.
    pub messages: u64,
    /// Calls of clients.
    pub calls: u64,
    /// Sends that ended in doubt, of records and of messages.
    pub unknown: u64,
    /// Extents that compaction had made by the end.
    pub compacted: u64,
    /// Objects that the ledgers had let go of or refused by the end.
    pub let_go: u64,
    /// How often each kind of fault happened.
    pub faults: BTreeMap<String, u64>,
    /// How often the planted bug was made.
    pub planted: u64,
    /// The digest of the trace.
    pub digest: String,
}

impl Outcome {
    /// As JSON.
    pub fn to_json(&self) -> Value {
        json!({
            "seed": self.seed,
            "violations": self.violations,
            "simulated_ms": self.simulated_ms,
            "acked": self.acked,
            "messages": self.messages,
            "calls": self.calls,
            "unknown": self.unknown,
            "compacted": self.compacted,
            "let_go": self.let_go,
            "faults": self.faults,
            "planted": self.planted,
            "digest": self.digest,
        })
    }

    /// From JSON; `None` if it is something else.
    pub fn from_json(value: &Value) -> Option<Self> {
        let number = |name: &str| value[name].as_u64();
        let text = |value: &Value| value.as_str().map(str::to_owned);
        Some(Self {
            seed: number("seed")?,
            violations: value["violations"].as_array()?.iter().map(text).collect::<Option<_>>()?,
            simulated_ms: number("simulated_ms")?,
            acked: number("acked")?,
            messages: number("messages")?,
            calls: number("calls")?,
            unknown: number("unknown")?,
            compacted: number("compacted")?,
            let_go: number("let_go")?,
            faults: value["faults"]
                .as_object()?
                .iter()
                .map(|(name, count)| Some((name.clone(), count.as_u64()?)))
                .collect::<Option<_>>()?,
            planted: number("planted")?,
            digest: text(&value["digest"])?,
        })
    }
}
