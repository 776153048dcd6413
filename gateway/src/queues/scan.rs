//! Reads ahead of what a queue has looked at, and says what is there. Bounded in records and bytes per pass. A partition whose
//! records cannot be read stands still, and is told with its error; it is never passed over.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::stream::{self, StreamExt};
use lakefall_queue::error::Error;
use lakefall_queue::ledger::Classified;
use lakefall_queue::topic::Topic;
use lakefall_queue::verbs::{Admission, Fetched, Read, Start};
use lakefall_queue::{Offset, PartitionIndex, StoredRecord, TopicId};
use lakefall_service::blocking;
use tokio::time::Instant;

use super::classify::{Found, classify};
use super::known::Known;
use super::mover::Mover;
use crate::read::Failure;

/// Most records and bytes of a pass.
const MOST: (usize, usize) = (10_000, 4 << 20);
/// Fewest records that a pass looks for: it costs hardly more than looking for one.
const FEWEST: usize = 1_000;
/// Partitions read at once.
const AT_ONCE: usize = 4;

/// A partition with records that were not looked at.
#[derive(Clone, Copy, Debug)]
pub(super) struct Unseen {
    pub(super) topic: TopicId,
    pub(super) partition: PartitionIndex,
    pub(super) from: Offset,
    pub(super) end: Offset,
}

/// What a pass found.
#[derive(Default)]
pub(super) struct Scanned {
    pub(super) classified: Vec<Classified>,
    /// Records that can be leased, by partition, with the room they occupy.
    pub(super) plain: Vec<(TopicId, PartitionIndex, Vec<StoredRecord>, Admission)>,
    /// Partitions that cannot be read, or whose topic is another one by now.
    pub(super) failed: Vec<(TopicId, PartitionIndex, Error)>,
}

impl Scanned {
    /// How many messages can be leased that could not before.
    pub(super) fn ready(&self) -> u64 {
        self.plain.iter().map(|(_, _, records, _)| records.len() as u64).sum()
    }

    /// Payload bytes of the largest of them.
    pub(super) fn largest(&self) -> usize {
        let records = self.plain.iter().flat_map(|(_, _, records, _)| records);
        records.map(StoredRecord::payload_bytes).max().unwrap_or(0)
    }
}

/// Looks at about as many records as are `wanted`.
pub(super) async fn scan(mover: &Mover, known: &Arc<Known>, unseen: Vec<Unseen>, wanted: u64) -> Scanned {
    let most = usize::try_from(wanted.saturating_mul(4)).unwrap_or(MOST.0).clamp(FEWEST, MOST.0);
    let left = (AtomicUsize::new(most), AtomicUsize::new(MOST.1));
    let mut scanned = Scanned::default();
    let one = |at: Unseen| {
        let left = &left;
        async move {
            let (records, bytes) = (left.0.load(Ordering::Relaxed), left.1.load(Ordering::Relaxed));
            if records == 0 || bytes == 0 {
                return None;
            }
            let seen = look(mover, known, at, records, bytes).await;
            if let Ok((found, _)) = &seen {
                let took = found.plain.iter().map(|record| record.payload_bytes().max(1)).sum::<usize>();
                let count = (found.classified.to.0 - found.classified.from.0) as usize;
                let _ = left.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |now| Some(now.saturating_sub(count)));
                let _ = left.1.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |now| Some(now.saturating_sub(took)));
            }
            Some((at, seen))
        }
    };
    let mut looks = stream::iter(unseen.into_iter().map(one)).buffered(AT_ONCE);
    while let Some(look) = looks.next().await {
        match look {
            None => {}
            Some((at, Ok((found, room)))) if found.classified.to > found.classified.from => {
                scanned.classified.push(found.classified);
                scanned.plain.push((at.topic, at.partition, found.plain, room));
            }
            Some((_, Ok(_))) => {}
            Some((at, Err(error))) => scanned.failed.push((at.topic, at.partition, error)),
        }
    }
    scanned
}

/// Looks at one partition.
async fn look(mover: &Mover, known: &Arc<Known>, at: Unseen, records: usize, bytes: usize) -> Result<(Found, Admission), Error> {
    let source = known.source(at.topic).ok_or_else(|| Error::QueueChanged(known.queue.name.to_string()))?;
    let topic = mover.topic(&known.queue.namespace, &source.name).await?;
    if topic.id != at.topic {
        return Err(Error::QueueChanged(known.queue.name.to_string()));
    }
    let mut from = at.from;
    let fetched = loop {
        match read(mover, &topic, at.partition, (from, at.end), (records, bytes)).await {
            Ok(fetched) => break fetched,
            // The ledger raises the floor to the log start before it takes in what was found.
            Err(Failure::Refused(Error::BelowLogStart { log_start, .. })) if log_start > from && log_start < at.end => from = log_start,
            Err(Failure::Refused(Error::BelowLogStart { log_start, .. })) if log_start >= at.end => {
                break Fetched { records: Vec::new(), next: Vec::new(), old: false, admission: Admission::default() };
            }
            Err(failure) => {
                if matches!(failure, Failure::TopicGone) {
                    mover.topics.forget(&topic.namespace, &topic.name);
                }
                return Err(failure.into_error());
            }
        }
    };
    let to = fetched.next.first().map_or(from, |position| position.next).min(at.end);
    let now = mover.ambient.now();
    let work = {
        let known = Arc::clone(known);
        let (name, partition, records) = (source.name.clone(), at.partition, fetched.records);
        move || classify(&known, (at.topic, &name), partition, (from, to.max(from)), records, now)
    };
    // Filters look into bodies, and there may be many: not where others wait for the same thread.
    let found =
        if known.filters.are_simple() { work() } else { blocking::run(work).await.map_err(|error| Error::Internal(error.to_string()))? };
    Ok((found, fetched.admission))
}

async fn read(
    mover: &Mover,
    topic: &Topic,
    partition: PartitionIndex,
    (from, end): (Offset, Offset),
    (max_records, max_bytes): (usize, usize),
) -> Result<Fetched, Failure> {
    let read = Read {
        topic: topic.name.clone(),
        from: vec![(partition, Start::Offset(from))],
        max_records,
        max_bytes,
        until_offset: Some(end),
        until_timestamp: None,
        wait: Duration::ZERO,
    };
    mover.reader.read(topic, &read, Instant::now()).await
}
