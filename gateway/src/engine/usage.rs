//! What namespaces and topics used: counted where the engine answers, and asked of the ledgers.

use std::sync::Arc;

use async_trait::async_trait;
use lakefall_queue::error::Result;
use lakefall_queue::ledger::{Answer, Query, UsageAnswer, UsageQuery};
use lakefall_queue::topic::Topic;
use lakefall_queue::usage::{Figure, Granularity, Usage, UsageBucket, UsageCounts, UsageOf, UsageRange, UsageVerbs};
use lakefall_queue::verbs::{Caller, Fetched, Read};
use lakefall_queue::{StoredRecord, Timestamp};

use super::Engine;
use super::resources::unexpected;

impl Engine {
    /// Reads, and counts what is answered.
    pub(super) async fn read_and_count(&self, caller: &Caller, read: Read) -> Result<Fetched> {
        let (read, deadline) = (&read, tokio::time::Instant::now() + read.wait);
        let answered = |topic: Arc<Topic>| async move {
            let fetched = self.reader.read(&topic, read, deadline).await?;
            if !fetched.records.is_empty() {
                let account = self.usage.of(&topic);
                account.add(Figure::ReadRecords, fetched.records.len() as u64);
                account.add(Figure::ReadBytes, fetched.records.iter().map(StoredRecord::payload_bytes).sum::<usize>() as u64);
            }
            Ok(fetched)
        };
        self.on_topic(caller, &read.topic, answered).await
    }
}

#[async_trait]
impl UsageVerbs for Engine {
    async fn usage(&self, caller: &Caller, of: UsageOf, range: UsageRange) -> Result<Usage> {
        let (namespace, topic) = match of {
            UsageOf::Namespace(namespace) => (namespace, None),
            UsageOf::Topic(topic) => (caller.namespace.clone(), Some(topic)),
        };
        let query = UsageQuery { namespace: namespace.clone(), topic, grain: range.grain, from: range.from, to: range.to };
        match self.ask(&namespace, Query::Usage(Box::new(query))).await? {
            Answer::Usage(answer) => Ok(told(*answer, range)),
            other => Err(unexpected(&other)),
        }
    }
}

fn told(answer: UsageAnswer, range: UsageRange) -> Usage {
    let UsageAnswer { now, buckets, holdings } = answer;
    let mut total = UsageCounts::default();
    buckets.iter().for_each(|(_, counts)| total.merge(counts));
    let buckets = match range.granularity {
        Granularity::Total => vec![UsageBucket { start: range.from, end: range.to, counts: total }],
        Granularity::Hour | Granularity::Day => {
            let bucket = |(start, counts): (Timestamp, UsageCounts)| UsageBucket { start, end: start.plus(range.grain.length()), counts };
            buckets.into_iter().map(bucket).collect()
        }
    };
    Usage { range, buckets, total, holdings, as_of: now }
}
