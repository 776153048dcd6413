//! Retention: raises the log start of partitions whose oldest extents are too old or too much.

use std::collections::BTreeSet;

use lakefall_queue::error::Error;
use lakefall_queue::ledger::{Answer, Command, Extent, Query};
use lakefall_queue::topic::{PartitionStatus, Topic};
use lakefall_queue::verbs::PageRequest;
use lakefall_queue::{NamespaceName, Offset, PartitionIndex, ShardId, Timestamp, TopicId};

use super::{CollectError, Collector, earliest, unexpected};
use crate::metrics as names;
use crate::plan::{Plan, expires, plan};

/// Names asked for at once.
const PAGE: usize = 1_000;
/// Extents of a partition looked at before those that go are trimmed and let go of.
const EXTENTS: usize = 256;

/// What retention did in a shard, and what it waits for.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Expired {
    /// Partitions whose log start was raised.
    pub trims: u64,
    /// More has to go: retire, then expire again.
    pub more: bool,
    /// When the next extent becomes too old.
    pub due: Option<Timestamp>,
    /// Topics where an append brings work: those bounded by bytes, and those by age that have an empty partition.
    pub watch: BTreeSet<TopicId>,
}

impl Collector {
    /// Trims what the topics of a shard no longer keep.
    pub async fn expire(&self, shard: ShardId) -> Result<Expired, CollectError> {
        let mut expired = Expired::default();
        let mut page = PageRequest { after: None, limit: PAGE };
        loop {
            let namespaces = match self.ask(shard, Query::Namespaces(page.clone())).await? {
                Answer::Namespaces(found) => found,
                other => return Err(unexpected(&other)),
            };
            for namespace in namespaces.items {
                self.expire_namespace(shard, &namespace.name, &mut expired).await?;
            }
            let Some(next) = namespaces.next else { return Ok(expired) };
            page.after = Some(next);
        }
    }

    async fn expire_namespace(&self, shard: ShardId, namespace: &NamespaceName, expired: &mut Expired) -> Result<(), CollectError> {
        let mut page = PageRequest { after: None, limit: PAGE };
        loop {
            let topics = match self.metadata.query(shard, Query::Topics(namespace.clone(), page.clone())).await {
                Ok(Answer::Topics(found)) => found,
                Ok(other) => return Err(unexpected(&other)),
                // Deleted since it was listed.
                Err(Error::NamespaceNotFound(_)) => return Ok(()),
                Err(error) => return Err(error.into()),
            };
            for topic in topics.items.iter().filter(|topic| expires(&topic.config)) {
                self.expire_topic(shard, topic, expired).await?;
            }
            let Some(next) = topics.next else { return Ok(()) };
            page.after = Some(next);
        }
    }

    async fn expire_topic(&self, shard: ShardId, topic: &Topic, expired: &mut Expired) -> Result<(), CollectError> {
        let mut oldest = Vec::new();
        for index in (0..topic.config.partitions).map(PartitionIndex) {
            match self.oldest(shard, topic.id, index, EXTENTS).await? {
                Some(extents) => oldest.push(extents),
                None => return Ok(()),
            }
        }
        // After the extents: a status of before might count bytes that are gone, and too much would be trimmed.
        let status = match self.ask(shard, Query::Partitions(topic.id)).await? {
            Answer::Partitions(status) => status,
            other => return Err(unexpected(&other)),
        };
        let now = self.ambient.now();
        for status in &status {
            // A partition that came since is for the next round.
            let Some(extents) = oldest.get(status.partition.0 as usize) else { break };
            let found = plan(&topic.config.retention, status, extents, now);
            self.carry_out(shard, topic, status, &found).await?;
            expired.trims += u64::from(found.trim.is_some());
            expired.more |= found.more;
            expired.due = earliest(expired.due, found.due);
            if topic.config.retention.bytes.is_some() || (found.due.is_none() && !found.more) {
                expired.watch.insert(topic.id);
            }
        }
        Ok(())
    }

    async fn carry_out(&self, shard: ShardId, topic: &Topic, status: &PartitionStatus, found: &Plan) -> Result<(), CollectError> {
        let Some(before) = found.trim else { return Ok(()) };
        let command = Command::Trim { topic: topic.id, partition: Some(status.partition), before };
        self.metadata.execute(shard, command).await?;
        ::metrics::counter!(names::TRIMS).increment(1);
        tracing::debug!(topic = %topic.name, partition = status.partition.0, log_start = before.0, "retention raised the log start");
        Ok(())
    }

    /// A partition's oldest extents that were not let go of; `None` when the topic is gone.
    pub(super) async fn oldest(
        &self,
        shard: ShardId,
        topic: TopicId,
        partition: PartitionIndex,
        max_extents: usize,
    ) -> Result<Option<Vec<Extent>>, CollectError> {
        let query = Query::Locate { topic, partition, from: Offset(0), max_bytes: u64::MAX, max_extents };
        match self.metadata.query(shard, query).await {
            Ok(Answer::Located(located)) => Ok(Some(located.extents)),
            Ok(other) => Err(unexpected(&other)),
            // Also the ledger's word for a partition that is not there.
            Err(error @ Error::Unavailable { .. }) => match self.ask(shard, Query::Partitions(topic)).await? {
                Answer::Partitions(status) if status.iter().all(|s| s.partition != partition) => Ok(None),
                _ => Err(error.into()),
            },
            Err(error) => Err(error.into()),
        }
    }
}
