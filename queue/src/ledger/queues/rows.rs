//! Queues as rows and back. Only what is stored is told; the rest is counted when all rows are there.

use std::collections::BTreeSet;

use super::super::codec::{Decoded, Malformed, hash, hash_bytes};
use super::super::queue_codec::{grant_from_proto, grant_to_proto, queue_from_proto, queue_to_proto};
use super::super::rows::proto;
use super::super::{Ledger, Row, RowKey};
use super::Queues;
use super::block::{BLOCK, Block};
use super::partition::QueuePartition;
use super::returned::Returned;
use super::state::{QueueState, RememberedReceive};
use crate::id::{PartitionIndex, QueueId, TopicId};
use crate::time::Timestamp;

/// Rows of queues that are being restored: they come in any order.
#[derive(Default)]
pub(in super::super) struct QueueRows {
    queues: Vec<proto::QueueRow>,
    partitions: Vec<proto::QueuePartitionRow>,
    blocks: Vec<proto::QueueBlockRow>,
}

impl QueueRows {
    /// Takes a row if it is of a queue.
    pub(in super::super) fn take(&mut self, row: Row) -> Option<Row> {
        match row {
            Row::Queue(row) => self.queues.push(row),
            Row::QueuePartition(row) => self.partitions.push(row),
            Row::QueueBlock(row) => self.blocks.push(row),
            other => return Some(other),
        }
        None
    }
}

impl Ledger {
    pub(in super::super) fn restore_queues(&mut self, rows: QueueRows) -> Decoded<()> {
        for row in rows.queues {
            let queue = queue_from_row(row)?;
            self.queues.by_id.insert(queue.about.id, queue);
        }
        for row in rows.partitions {
            let key = (TopicId(row.topic), PartitionIndex(row.partition));
            let queue = self.queues.by_id.get_mut(&QueueId(row.queue)).ok_or_else(|| astray("a partition of a queue", row.queue))?;
            if row.floor > row.head || row.head > row.scanned {
                return Err(astray("a partition of a queue whose bounds cross", row.queue));
            }
            queue.partitions.insert(key, QueuePartition::restore(key, row.floor, row.head, row.scanned));
        }
        for row in rows.blocks {
            let key = (TopicId(row.topic), PartitionIndex(row.partition));
            let partition = self.queues.by_id.get_mut(&QueueId(row.queue)).and_then(|queue| queue.partitions.get_mut(&key));
            let partition = partition.ok_or_else(|| astray("a block of messages", row.queue))?;
            let block = Block::restore(row.all_finished, &row.finished, &row.entries, &row.groups, &row.firsts);
            let block = block.filter(|_| row.block < u64::MAX / BLOCK).ok_or_else(|| astray("a malformed block", row.queue))?;
            partition.blocks.insert(row.block, block);
        }
        let ids: Vec<QueueId> = self.queues.by_id.keys().copied().collect();
        for id in ids {
            if let Some(queue) = self.queues.by_id.get_mut(&id) {
                queue.count();
                // Nothing of this is news to the store.
                queue.flush(&mut BTreeSet::new());
            }
            self.queues.index(id);
        }
        Ok(())
    }
}

impl Queues {
    /// The row of a key; `None` for other keys, and for what is not there.
    pub(in super::super) fn row(&self, key: &RowKey) -> Option<Row> {
        let partition = |id: &QueueId, topic: &TopicId, index: &PartitionIndex| self.by_id.get(id)?.partitions.get(&(*topic, *index));
        Some(match key {
            RowKey::Queue(id) => Row::Queue(queue_row(self.by_id.get(id)?)),
            RowKey::QueuePartition(id, topic, index) => {
                let partition = partition(id, topic, index)?;
                Row::QueuePartition(proto::QueuePartitionRow {
                    queue: id.0,
                    topic: topic.0,
                    partition: index.0,
                    floor: partition.floor,
                    head: partition.head,
                    scanned: partition.scanned,
                })
            }
            RowKey::QueueBlock(id, topic, index, number) => {
                let (all_finished, finished, entries, groups, firsts) = partition(id, topic, index)?.blocks.get(number)?.encode();
                Row::QueueBlock(proto::QueueBlockRow {
                    queue: id.0,
                    topic: topic.0,
                    partition: index.0,
                    block: *number,
                    finished: finished.into(),
                    entries: entries.into(),
                    groups: groups.into(),
                    firsts: firsts.into(),
                    all_finished,
                })
            }
            _ => return None,
        })
    }

    /// The keys of all rows.
    pub(in super::super) fn keys(&self) -> impl Iterator<Item = RowKey> {
        self.by_id.values().flat_map(|queue| {
            let mut keys = BTreeSet::new();
            queue.mark_all(&mut keys);
            keys
        })
    }
}

fn queue_row(queue: &QueueState) -> proto::QueueRow {
    let receive = |(request, known): (&u128, &RememberedReceive)| proto::RememberedReceive {
        request: hash_bytes(*request),
        until_ms: known.until.as_millis(),
        grants: known.grants.iter().map(grant_to_proto).collect(),
    };
    proto::QueueRow {
        sources: queue.sources.iter().map(|topic| topic.0).collect(),
        acked_total: queue.acked_total,
        dead_total: queue.dead_total,
        receives: queue.receives.iter().map(receive).collect(),
        returned: queue.returned.to_rows(),
        ..queue_to_proto(&queue.about).row.unwrap_or_default()
    }
}

fn queue_from_row(mut row: proto::QueueRow) -> Decoded<QueueState> {
    let (receives, sources) = (std::mem::take(&mut row.receives), std::mem::take(&mut row.sources));
    let returned = Returned::from_rows(std::mem::take(&mut row.returned));
    let (acked_total, dead_total) = (row.acked_total, row.dead_total);
    let mut queue = QueueState::new(queue_from_proto(proto::Queue { row: Some(row), sources: Vec::new() })?);
    for known in receives {
        let grants = known.grants.iter().map(grant_from_proto).collect();
        let remembered = RememberedReceive { until: Timestamp::from_millis(known.until_ms), grants };
        queue.receives.insert(hash(&known.request)?, remembered);
    }
    queue.sources = sources.into_iter().map(TopicId).collect();
    (queue.acked_total, queue.dead_total, queue.returned) = (acked_total, dead_total, returned);
    Ok(queue)
}

fn astray(what: &str, queue: u64) -> Malformed {
    Malformed(format!("{what} {} cannot be restored", QueueId(queue)))
}
