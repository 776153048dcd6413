//! When the next round begins: when something is due, or enough was appended; and after a quiet time, soon after the first
//! append, be it to a partition where nothing waited: what its topic asks for is not known yet. Nobody is asked while nothing
//! happens.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use lakefall_metadata::News;
use lakefall_queue::clock::Ambient;
use lakefall_queue::ledger::Notice;
use lakefall_queue::{PartitionIndex, TopicId};
use tokio::sync::broadcast::{self, error::RecvError};
use tokio::time::Instant;

use super::rounds::Round;

/// How long to wait at most while something is due later: the clock may be set, and a machine may sleep.
const LOOK_AGAIN: Duration = Duration::from_secs(600);
/// Pauses after rounds that failed one after the other: the first and the longest, doubling.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// Partitions that are remembered, at some 24 bytes each.
const MOST_KNOWN: usize = 100_000;

/// Waits for work.
pub(super) struct Waker {
    notices: broadcast::Receiver<Arc<News>>,
    ambient: Ambient,
    /// From an append after a quiet time to the next round.
    settle: Duration,
    /// So many bytes appended begin a round.
    bytes: u64,
    retry: Duration,
    /// Partitions that were appended to since something was done: the rounds since then know when those are due.
    known: HashSet<(TopicId, PartitionIndex)>,
}

impl Waker {
    pub(super) fn new(notices: broadcast::Receiver<Arc<News>>, ambient: Ambient, settle: Duration, bytes: u64) -> Self {
        Self { notices, ambient, settle, bytes, retry: RETRY.0, known: HashSet::new() }
    }

    /// Returns when the round after `round` should begin.
    pub(super) async fn wait(&mut self, round: &Round) {
        if round.failed {
            tokio::time::sleep(self.retry).await;
            self.retry = (self.retry * 2).min(RETRY.1);
            self.notices = self.notices.resubscribe();
            return;
        }
        self.retry = RETRY.0;
        if round.did || self.known.len() > MOST_KNOWN {
            self.known.clear();
        }
        if round.did {
            return;
        }
        let begun = Instant::now();
        let quiet = round.due.is_none();
        let appended = appended(&mut self.notices, if quiet { 0 } else { self.bytes }, &mut self.known);
        tokio::select! {
            () = until_due(&self.ambient, round) => {}
            () = appended => {
                // What comes with the first append is seen too; and rounds do not follow each other without a pause.
                let earliest = if quiet { Instant::now() + self.settle } else { begun + self.settle.min(Duration::from_secs(1)) };
                tokio::time::sleep_until(earliest).await;
            }
        }
        // The round to come sees all that was told until here.
        self.notices = self.notices.resubscribe();
    }
}

async fn until_due(ambient: &Ambient, round: &Round) {
    let Some(due) = round.due else { return std::future::pending().await };
    let left = due.as_millis().saturating_sub(ambient.now().as_millis()).max(0);
    // A millisecond later: by then it is due. And never at once again, should clocks differ.
    let left = Duration::from_millis(left.unsigned_abs().saturating_add(1)).max(Duration::from_millis(100));
    tokio::time::sleep(left.min(LOOK_AGAIN)).await;
}

/// Returns when more than `bytes` were appended, or may have been, or anything to a partition that is not known; and when a topic
/// was changed.
async fn appended(notices: &mut broadcast::Receiver<Arc<News>>, bytes: u64, known: &mut HashSet<(TopicId, PartitionIndex)>) {
    let mut sum = 0;
    loop {
        match notices.recv().await {
            Ok(news) => match &*news {
                News::Durable { notices, .. } => {
                    let mut fresh = false;
                    for notice in notices {
                        match notice {
                            Notice::Appended { topic, partition, extent } => {
                                sum += u64::from(extent.length);
                                fresh |= known.insert((*topic, *partition));
                            }
                            Notice::TopicChanged { .. } => fresh = true,
                            Notice::QueueChanged { .. } | Notice::QueueReady { .. } | Notice::QueueOver { .. } => {}
                        }
                    }
                    if fresh || sum > bytes {
                        return;
                    }
                }
                News::Missed => return,
            },
            // Missed some: look.
            Err(RecvError::Lagged(_)) => return,
            // The metadata service is gone: whoever runs the compactor is stopping it.
            Err(RecvError::Closed) => return std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use lakefall_queue::id::JournalSeq;
    use lakefall_queue::ledger::{Extent, ObjectLevel};
    use lakefall_queue::{PartitionIndex, ShardId, Timestamp, TopicId};
    use lakefall_service::system_ambient;

    use super::super::plan::tests_chain;
    use super::*;

    fn news(bytes: u32) -> Arc<News> {
        news_of(1, bytes)
    }

    fn news_of(topic: u64, bytes: u32) -> Arc<News> {
        let extent: Extent = tests_chain(ObjectLevel::Segment, [(bytes, 0)])[0];
        let notice = Notice::Appended { topic: TopicId(topic), partition: PartitionIndex(0), extent };
        Arc::new(News::Durable { shard: ShardId(0), seq: JournalSeq(1), notices: vec![notice] })
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_quiet_time_any_append_begins_a_round_and_otherwise_only_many_bytes() {
        let (sender, notices) = broadcast::channel(16);
        let mut waker = Waker::new(notices, system_ambient(), Duration::from_secs(15), 1_000);
        sender.send(news(1)).unwrap();
        let begun = Instant::now();
        waker.wait(&Round::default()).await;
        assert_eq!(begun.elapsed(), Duration::from_secs(15));
        let due = Some(Timestamp::from_millis(i64::MAX / 2));
        let later = Round { due, ..Round::default() };
        sender.send(news(900)).unwrap();
        let waited = tokio::time::timeout(Duration::from_secs(60), waker.wait(&later)).await;
        assert!(waited.is_err(), "900 bytes began a round");
        sender.send(news(900)).unwrap();
        sender.send(news(200)).unwrap();
        tokio::time::timeout(Duration::from_secs(60), waker.wait(&later)).await.unwrap();
        sender.send(news_of(2, 1)).unwrap();
        tokio::time::timeout(Duration::from_secs(60), waker.wait(&later)).await.expect("another partition's first append begins a round");
    }

    #[tokio::test(start_paused = true)]
    async fn rounds_that_fail_are_repeated_later_and_later() {
        let (_sender, notices) = broadcast::channel(16);
        let mut waker = Waker::new(notices, system_ambient(), Duration::from_secs(15), 1_000);
        let failed = Round { failed: true, ..Round::default() };
        let begun = Instant::now();
        for _ in 0..8 {
            waker.wait(&failed).await;
        }
        assert_eq!(begun.elapsed(), Duration::from_secs(1 + 2 + 4 + 8 + 16 + 32 + 60 + 60));
    }
}
