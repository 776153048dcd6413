//! What a queue must know of records before it leases them: which it does not take, which wait for their time, which go
//! first, which follow one another. A pure function of the queue and the records.

use lakefall_queue::ledger::{Classified, Mark};
use lakefall_queue::queue::{Ordering, Queue};
use lakefall_queue::{Offset, PartitionIndex, StoredRecord, Timestamp, TopicId, TopicName};
use std::time::Duration;
use xxhash_rust::xxh3::xxh3_64;

use super::known::Known;

/// A message that was due for longer than this needs no mark, and one that expired before it is finished unleased: no clock is
/// that wrong.
const LONG_DUE: Duration = Duration::from_secs(60);

/// Records of a partition, and what was found in them.
pub(super) struct Found {
    pub(super) classified: Classified,
    /// Those that can be leased, in offset order.
    pub(super) plain: Vec<StoredRecord>,
}

/// Classifies the records of a partition from `from` to before `to`; what is not among `records` is no longer there.
pub(super) fn classify(
    known: &Known,
    (topic, name): (TopicId, &TopicName),
    partition: PartitionIndex,
    (from, to): (Offset, Offset),
    records: Vec<StoredRecord>,
    now: Timestamp,
) -> Found {
    let mut classified = Classified { topic, partition, from, to, skipped: Vec::new(), marks: Vec::new() };
    let mut plain = Vec::with_capacity(records.len());
    let mut next = from;
    for record in records.into_iter().filter(|record| record.offset >= from && record.offset < to) {
        skip(&mut classified, next, record.offset);
        next = record.offset.plus(1);
        // What expired lately by this gateway's clock is judged by the ledger's, once it is leased.
        if is_over(&known.queue, &record, now.minus(LONG_DUE)) || !known.filters.take(topic, name, &record) {
            skip(&mut classified, record.offset, next);
            continue;
        }
        let mark = mark(&known.queue, &record, from, now);
        let waits = mark.as_ref().is_some_and(|mark| mark.not_before.is_some_and(|at| at > now));
        classified.marks.extend(mark);
        if !waits {
            plain.push(record);
        }
    }
    skip(&mut classified, next, to);
    Found { classified, plain }
}

/// Whether a message is not to be delivered any more.
pub(super) fn is_over(queue: &Queue, record: &StoredRecord, now: Timestamp) -> bool {
    let expires = record.properties.as_ref().and_then(|properties| properties.expires_at);
    let aged = queue.config.ttl.map(|ttl| record.appended_at.plus(ttl));
    [expires, aged].into_iter().flatten().any(|end| end <= now)
}

fn skip(classified: &mut Classified, first: Offset, end: Offset) {
    if end <= first {
        return;
    }
    let (index, count) = ((first.0 - classified.from.0) as u32, (end.0 - first.0) as u32);
    match classified.skipped.last_mut() {
        Some((last, length)) if *last + *length == index => *length += count,
        _ => classified.skipped.push((index, count)),
    }
}

fn mark(queue: &Queue, record: &StoredRecord, from: Offset, now: Timestamp) -> Option<Mark> {
    let properties = record.properties.as_deref();
    let own = properties.and_then(|properties| properties.deliver_at);
    let delayed = || (!queue.config.delay.is_zero()).then(|| record.appended_at.plus(queue.config.delay));
    let not_before = own.or_else(delayed).filter(|at| *at > now.minus(LONG_DUE));
    let priority = properties.and_then(|properties| properties.priority).unwrap_or(0).min(queue.config.priorities.saturating_sub(1));
    let group = match queue.config.ordering {
        Ordering::None => None,
        Ordering::Key => {
            let named = properties.and_then(|properties| properties.ordering_key.as_deref()).map(str::as_bytes);
            named.or(record.key.as_deref()).map(xxh3_64)
        }
    };
    let plain = not_before.is_none() && priority == 0 && group.is_none();
    (!plain).then(|| Mark { index: (record.offset.0 - from.0) as u32, not_before, priority, group })
}
