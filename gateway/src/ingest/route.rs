//! Which partition a record goes to: the one it names, else its key's, else one chosen for the whole request.

use std::sync::atomic::{AtomicU32, Ordering};

use lakefall_queue::error::{Error, Result};
use lakefall_queue::ledger::LayoutRun;
use lakefall_queue::topic::Topic;
use lakefall_queue::verbs::Idempotency;
use lakefall_queue::{PartitionIndex, Record};

/// Chooses partitions.
#[derive(Default)]
pub(crate) struct Router {
    next: AtomicU32,
}

/// A request's records by partition.
pub(crate) struct Routed {
    /// In partition order; the records of each in the order of the request.
    pub(crate) parts: Vec<(PartitionIndex, Vec<Record>)>,
    /// The request's records, in its order, as runs of one partition.
    pub(crate) layout: Vec<LayoutRun>,
}

impl Router {
    /// Splits records over the partitions of `topic`. `append` is the request's index of this append.
    ///
    /// Records without key and partition all go to one partition, another one for each request: batches stay large. With
    /// an idempotency key the choice follows the key, so that a repeated request chooses the same.
    pub(crate) fn route(
        &self,
        topic: &Topic,
        partition: Option<PartitionIndex>,
        records: Vec<Record>,
        idempotency: Option<&Idempotency>,
        append: u32,
    ) -> Result<Routed> {
        let count = topic.config.partitions;
        let fallback = match (partition, idempotency) {
            (Some(partition), _) => partition,
            (None, _) if count == 1 => PartitionIndex(0),
            (None, Some(request)) => PartitionIndex(murmur2(request.key.as_bytes()) % count),
            (None, None) => PartitionIndex(self.next.fetch_add(1, Ordering::Relaxed) % count),
        };
        let choose = |record: &Record| match (record.partition, &record.key) {
            (Some(named), _) => named,
            (None, Some(key)) if partition.is_none() && count > 1 => PartitionIndex(murmur2(key) % count),
            _ => fallback,
        };
        let mut layout: Vec<LayoutRun> = Vec::new();
        for record in &records {
            let chosen = choose(record);
            if chosen.0 >= count {
                return Err(Error::PartitionNotFound { topic: topic.name.clone(), partition: chosen, partitions: count });
            }
            match layout.last_mut() {
                Some(run) if run.partition == chosen => run.count += 1,
                _ => layout.push(LayoutRun { append, topic: topic.id, partition: chosen, count: 1 }),
            }
        }
        let parts = match layout.as_slice() {
            [run] => vec![(run.partition, records)],
            _ => split(records, choose),
        };
        Ok(Routed { parts, layout })
    }
}

fn split(records: Vec<Record>, choose: impl Fn(&Record) -> PartitionIndex) -> Vec<(PartitionIndex, Vec<Record>)> {
    let mut parts = std::collections::BTreeMap::<PartitionIndex, Vec<Record>>::new();
    for record in records {
        parts.entry(choose(&record)).or_default().push(record);
    }
    parts.into_iter().collect()
}

/// Kafka's key hash (32-bit murmur2, seed 0x9747b28c, sign bit cleared), so that a key lies in the same partition whoever
/// produces it: `org.apache.kafka.common.utils.Utils.murmur2` and `BuiltInPartitioner.partitionForKey`.
fn murmur2(key: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    let mut hash = 0x9747_b28c_u32 ^ key.len() as u32;
    let mut words = key.chunks_exact(4);
    for word in &mut words {
        let mut k = u32::from_le_bytes([word[0], word[1], word[2], word[3]]).wrapping_mul(M);
        k ^= k >> 24;
        hash = hash.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    let rest = words.remainder();
    for (i, byte) in rest.iter().enumerate() {
        hash ^= u32::from(*byte) << (8 * i);
    }
    if !rest.is_empty() {
        hash = hash.wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    hash ^= hash >> 15;
    hash & 0x7fff_ffff
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The expected values stand in Kafka's own `UtilsTest.testMurmur2`.
    #[test]
    fn keys_hash_as_in_kafka() {
        for (key, expected) in
            [("21", -973_932_308_i32), ("foobar", -790_332_482), ("a-little-bit-long-string", -985_981_536), ("abc", 479_470_107)]
        {
            assert_eq!(murmur2(key.as_bytes()), (expected & 0x7fff_ffff) as u32, "{key}");
        }
    }
}
