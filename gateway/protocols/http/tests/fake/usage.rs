//! Usage as it was not: the same for everyone.

use async_trait::async_trait;
use lakefall_queue::usage::*;
use lakefall_queue::verbs::Caller;
use lakefall_queue::*;

use super::Fake;

#[async_trait]
impl UsageVerbs for Fake {
    async fn usage(&self, _: &Caller, of: UsageOf, range: UsageRange) -> Result<Usage> {
        match of {
            UsageOf::Namespace(name) if name != NamespaceName::default_name() => return Err(Error::NamespaceNotFound(name)),
            UsageOf::Topic(name) => self.with(&name, |_, _| Ok(()))?,
            UsageOf::Namespace(_) => {}
        }
        let mut total = UsageCounts::default();
        total.add(Figure::ProducedRecords, 7);
        total.add(Figure::StoreWrites, ONE / 4);
        let buckets = vec![UsageBucket { start: range.from, end: range.to, counts: total }];
        let holdings = Holdings { topics: 1, parquet_bytes: 9, ..Holdings::default() };
        Ok(Usage { range, buckets, total, holdings, as_of: range.to })
    }
}
