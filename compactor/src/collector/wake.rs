//! When the next round begins: when a notice brings work or something is due, but never sooner than the interval.

use std::sync::Arc;
use std::time::Duration;

use lakefall_metadata::News;
use lakefall_queue::clock::Ambient;
use lakefall_queue::ledger::Notice;
use tokio::sync::broadcast::{self, error::RecvError};
use tokio::time::Instant;

use super::Round;

/// How long to wait at most while something is due later: the clock may be set, and a machine may sleep.
const LOOK_AGAIN: Duration = Duration::from_secs(3_600);
/// Pause after a round that failed, at least.
const RETRY: Duration = Duration::from_secs(30);

/// Waits for work.
pub(super) struct Waker {
    notices: broadcast::Receiver<Arc<News>>,
    ambient: Ambient,
    interval: Duration,
}

impl Waker {
    pub(super) fn new(notices: broadcast::Receiver<Arc<News>>, ambient: Ambient, interval: Duration) -> Self {
        Self { notices, ambient, interval }
    }

    /// Returns when the round after `round` should begin.
    pub(super) async fn wait(&mut self, round: &Round) {
        let earliest = Instant::now() + self.interval;
        if round.failed {
            tokio::time::sleep(self.interval.max(RETRY)).await;
            self.notices = self.notices.resubscribe();
            return;
        }
        tokio::select! {
            () = until_due(&self.ambient, round) => {}
            () = brings_work(&mut self.notices, round) => {}
        }
        tokio::time::sleep_until(earliest).await;
        // The round to come sees all that was told until here.
        self.notices = self.notices.resubscribe();
    }
}

async fn until_due(ambient: &Ambient, round: &Round) {
    let Some(due) = round.due else { return std::future::pending().await };
    let left = due.as_millis().saturating_sub(ambient.now().as_millis()).max(0);
    // A millisecond later: what is due at a moment goes when that moment has passed.
    let left = Duration::from_millis(left.unsigned_abs().saturating_add(1));
    tokio::time::sleep(left.min(LOOK_AGAIN)).await;
}

async fn brings_work(notices: &mut broadcast::Receiver<Arc<News>>, round: &Round) {
    loop {
        match notices.recv().await {
            Ok(news) => match &*news {
                News::Durable { notices, .. } if notices.iter().any(|notice| concerns(notice, round)) => return,
                News::Durable { .. } => {}
                News::Missed => return,
            },
            // Missed some: look.
            Err(RecvError::Lagged(_)) => return,
            // The metadata service is gone: whoever runs the collector is stopping it.
            Err(RecvError::Closed) => return std::future::pending().await,
        }
    }
}

fn concerns(notice: &Notice, round: &Round) -> bool {
    match notice {
        Notice::TopicChanged { .. } => true,
        Notice::Appended { topic, .. } => round.watch.contains(topic),
        Notice::QueueChanged { .. } | Notice::QueueReady { .. } | Notice::QueueOver { .. } => false,
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::sync::atomic::{AtomicU64, Ordering};

    use futures::poll;
    use lakefall_queue::clock::{Clock, Entropy};
    use lakefall_queue::id::JournalSeq;
    use lakefall_queue::ledger::Extent;
    use lakefall_queue::{NamespaceName, Offset, PartitionIndex, SegmentId, ShardId, Timestamp, TopicId, TopicName};

    use super::*;

    struct Still(AtomicU64);

    impl Clock for Still {
        fn now(&self) -> Timestamp {
            Timestamp::from_millis(1_000)
        }

        fn elapsed(&self) -> Duration {
            Duration::ZERO
        }
    }

    impl Entropy for Still {
        fn draw(&self) -> u128 {
            u128::from(self.0.fetch_add(1, Ordering::SeqCst))
        }
    }

    fn ambient() -> Ambient {
        Ambient { clock: Arc::new(Still(AtomicU64::new(0))), entropy: Arc::new(Still(AtomicU64::new(0))) }
    }

    fn appended(topic: u64) -> Arc<News> {
        let extent = Extent {
            level: Default::default(),
            base_offset: Offset(0),
            records: 1,
            length: 1,
            object: SegmentId::mint(Timestamp::default(), 1),
            object_size: 1,
            position: 0,
            first_timestamp: Timestamp::default(),
            max_timestamp: Timestamp::default(),
            appended_at: Timestamp::default(),
        };
        let notice = Notice::Appended { topic: TopicId(topic), partition: PartitionIndex(0), extent };
        Arc::new(News::Durable { shard: ShardId(0), seq: JournalSeq(1), notices: vec![notice] })
    }

    fn changed() -> Arc<News> {
        let (namespace, name) = (NamespaceName::default_name(), TopicName::new("t").unwrap());
        let notice = Notice::TopicChanged { namespace, name, topic: TopicId(1) };
        Arc::new(News::Durable { shard: ShardId(0), seq: JournalSeq(1), notices: vec![notice] })
    }

    #[tokio::test]
    async fn while_nothing_is_due_only_a_notice_that_brings_work_begins_a_round() {
        let (sender, notices) = broadcast::channel(16);
        let mut waker = Waker::new(notices, ambient(), Duration::ZERO);
        let round = Round { watch: [TopicId(7)].into(), ..Round::default() };
        for work in [appended(7), changed()] {
            let mut waiting = pin!(waker.wait(&round));
            assert!(poll!(&mut waiting).is_pending());
            sender.send(appended(1)).unwrap();
            assert!(poll!(&mut waiting).is_pending(), "an append to a topic that keeps everything");
            sender.send(work).unwrap();
            waiting.await;
        }
    }

    #[tokio::test]
    async fn what_is_due_begins_a_round_and_what_is_due_later_does_not_yet() {
        let (_sender, notices) = broadcast::channel(16);
        let mut waker = Waker::new(notices, ambient(), Duration::ZERO);
        let due = |ms| Round { due: Some(Timestamp::from_millis(ms)), ..Round::default() };
        waker.wait(&due(1_000)).await;
        assert!(poll!(pin!(waker.wait(&due(100_000)))).is_pending());
    }
}
