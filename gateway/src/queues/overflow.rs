//! Queues whose oldest messages become dead letters when there are too many. Whichever gateway hears of it looks after it, and
//! several may: each batch is appended to the dead-letter topic and taken out of the queue in one atom, of which one succeeds.
//! What no gateway did is done after the next append. Must never take a message that a receiver has.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use lakefall_queue::error::{Error, Result};
use lakefall_queue::ledger::{Answer, Query, QueueNumbers, Refusal};
use lakefall_queue::queue::{Overflow, Queue};
use lakefall_queue::{NamespaceName, Offset, PartitionIndex, QueueName, TopicId};
use tokio_util::sync::CancellationToken;

use super::bell::Bell;
use super::classify::is_over;
use super::dead::{Cause, Dying, gone, letter};
use super::filter::Filters;
use super::mover::{Found, Mover, Refused, taking};

/// Messages of one batch, at most.
const BATCH: u64 = 500;
/// Between two attempts while the stores are away.
const PAUSE: Duration = Duration::from_secs(1);

/// A partition of a queue.
type Place = (TopicId, PartitionIndex);

/// Looks after queues with too many messages, one after another.
pub(super) async fn run(mover: Mover, bell: Arc<Bell>, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = bell.overflowing.notified() => {}
            () = stop.cancelled() => return,
        }
        for (namespace, name) in bell.take_over() {
            let relieved = tokio::select! {
                relieved = relieve(&mover, &bell, &namespace, &name) => relieved,
                () = stop.cancelled() => return,
            };
            if let Err(error) = relieved {
                tracing::warn!(queue = %name, %error, "messages beyond the queue's bound could not become dead letters: they stay");
                tokio::select! {
                    () = tokio::time::sleep(PAUSE) => {}
                    () = stop.cancelled() => return,
                }
                bell.over(&namespace, &name);
            }
        }
    }
}

/// Makes dead letters of the oldest messages until no more are there than may be, or of those that are nobody may be taken.
async fn relieve(mover: &Mover, bell: &Bell, namespace: &NamespaceName, name: &QueueName) -> Result<()> {
    loop {
        let queue = match bell.known.ask(namespace, name).await {
            Ok(queue) if queue.config.overflow == Overflow::DeadLetter => queue,
            Ok(_) | Err(Error::QueueNotFound(_)) => return Ok(()),
            Err(error) => return Err(error),
        };
        let numbers = numbers(mover, &queue).await?;
        let depth = numbers.ready + numbers.leased + numbers.delayed + numbers.blocked;
        let over = depth.saturating_sub(queue.config.max_depth.unwrap_or(u64::MAX));
        if over == 0 {
            return Ok(());
        }
        let takes = Filters::new(&queue)?;
        // Each partition gives its share: which of several has the oldest message is not known without reading.
        let share = over.div_ceil(numbers.oldest.len().max(1) as u64).min(BATCH);
        let mut left = over;
        for (topic, partition, from) in numbers.oldest {
            left -= take(mover, (&queue, &takes), (topic, partition), from, share.min(left)).await?;
        }
        if left == over {
            return Ok(());
        }
    }
}

async fn numbers(mover: &Mover, queue: &Queue) -> Result<QueueNumbers> {
    match mover.metadata.query(queue.id.shard(), Query::QueueNumbers(queue.id)).await? {
        Answer::QueueNumbers(numbers) => Ok(*numbers),
        other => Err(Error::Internal(format!("asked for the numbers of a queue, got {other:?}"))),
    }
}

/// Makes dead letters of up to `most` messages of one partition; of what the queue does not deliver there are none. Returns how
/// many; those that another gateway was faster with are not among them.
async fn take(mover: &Mover, (queue, takes): (&Queue, &Filters), (topic, partition): Place, mut from: Offset, most: u64) -> Result<u64> {
    let (Some(source), Some(dead_letter)) = (mover.source(queue, topic).await?, &queue.config.dead_letter) else { return Ok(0) };
    let target = mover.topic(&queue.namespace, &dead_letter.topic).await?;
    let mut free = lakefall_queue::ledger::FreeMessages::default();
    // Pages may be empty, where many are leased or wait.
    while most > 0 && free.offsets.is_empty() && (free.next > from || free.next == Offset(0)) {
        from = free.next.max(from);
        free = mover.free(queue, topic, partition, from, most as u32).await?;
    }
    let mut wanted: BTreeSet<Offset> = free.offsets.iter().copied().collect();
    let mut taken = 0;
    while !wanted.is_empty() {
        let page = mover.page(&source, partition, &wanted).await;
        let (mut letters, mut offsets) = (Vec::new(), Vec::new());
        let now = mover.ambient.now();
        for (offset, found) in page.records {
            wanted.remove(&offset);
            let attempt = free.offsets.iter().position(|of| *of == offset).and_then(|at| free.attempts.get(at)).copied().unwrap_or(0);
            match found {
                Found::Record(record) if is_over(queue, &record, now) || !takes.take(topic, &source.name, &record) => offsets.push(offset),
                Found::Record(record) => {
                    let cause = Cause::Overflow;
                    let dying = Dying { topic, partition, offset, attempt, undelivered: 0, cause, error: None, record: None };
                    letters.push(letter(queue, &dying, *record, now));
                    offsets.push(offset);
                }
                // The queue goes on behind what its log lost.
                Found::Gone => gone(queue, topic, partition, offset),
                Found::Failed(error) => return Err(error),
            }
        }
        let count = offsets.len() as u64;
        if letters.is_empty() {
            mover.settle(taking(queue, topic, partition, offsets.into_iter())).await?;
            taken += count;
            continue;
        }
        match mover.append_and_settle(&target, letters, taking(queue, topic, partition, offsets.into_iter())).await {
            Ok(()) => taken += count,
            // Somebody has one of them by now: what is left is looked at anew.
            Err(Refused::Refusal(Refusal::Lease { .. })) => return Ok(taken),
            Err(Refused::Refusal(refusal)) => return Err(refusal.into_error()),
            Err(Refused::Failed(error)) => return Err(error),
        }
    }
    Ok(taken)
}
