//! The owner's timer: what becomes due in a queue by itself is told in time, and nothing is journaled by it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use lakefall_metadata::memory::MemoryStore;
use lakefall_metadata::{Metadata, News};
use lakefall_queue::ledger::{
    Classified, Command, Notice, PutQueue, ReceiveMessages, Received, Reply, SettleAction, SettleItem, SettleMessages, Want,
};
use lakefall_queue::queue::{Queue, QueueConfig, QueueStart};
use lakefall_queue::verbs::Precondition;
use lakefall_queue::{Offset, QueueId, QueueName, TopicId};
use tokio::sync::broadcast::Receiver;
use tokio::time::Instant;

use crate::support::fixtures::{P0, SHARD, commit, ns, topic_name};
use crate::support::watched::Watched;
use crate::support::{Service, memory, quiet, stored_at};

struct Bench {
    memory: Arc<MemoryStore>,
    store: Arc<Watched>,
    service: Service,
    topic: TopicId,
    queue: Queue,
}

impl Bench {
    /// A queue on a topic of ten messages.
    async fn start() -> Self {
        let (memory, store) = memory();
        let (service, topic) = Service::with_topic(&store, quiet()).await;
        let put = PutQueue {
            namespace: ns(),
            name: QueueName::new("billing").unwrap(),
            config: QueueConfig { topics: vec![topic_name("orders")], start: QueueStart::Earliest, ..QueueConfig::default() },
            bindings: None,
            positions: Vec::new(),
            condition: Precondition::Always,
            idempotency: None,
        };
        let Ok(Reply::Queue(queue, true)) = service.execute(Command::PutQueue(Box::new(put))).await else { panic!("no queue") };
        assert_eq!(stored_at(service.execute(commit(1, topic, 10)).await), 0);
        Self { memory, store, service, topic, queue: *queue }
    }

    /// Leases so many messages for so long.
    async fn receive(&self, max: u32, lease: Duration) -> Received {
        let (topic, partition) = (self.topic, P0);
        let classified = Classified { topic, partition, from: Offset(0), to: Offset(10), skipped: Vec::new(), marks: Vec::new() };
        let receive = ReceiveMessages {
            queue: self.queue.id,
            generation: self.queue.generation,
            classified: vec![classified],
            wants: vec![Want { max, lease, request: None }],
        };
        match self.service.execute(Command::Receive(receive)).await {
            Ok(Reply::Received(received)) => *received,
            other => panic!("nothing received: {other:?}"),
        }
    }

    async fn settle(&self, first: u64, count: u32, action: SettleAction) {
        let items = vec![SettleItem { topic: self.topic, partition: P0, first: Offset(first), count, attempt: 1, action }];
        let settle = SettleMessages { queue: self.queue.id, generation: self.queue.generation, version: None, items };
        self.service.execute(Command::Settle(settle)).await.unwrap();
    }

    fn journaled(&self) -> usize {
        self.memory.journal_len(SHARD)
    }
}

/// When the queue is told of, and at which entry.
async fn ready(live: &mut Receiver<Arc<News>>, queue: QueueId) -> (Instant, u64) {
    tokio::time::timeout(Duration::from_secs(86_400), next_ready(live, queue)).await.expect("it is told within a day")
}

async fn next_ready(live: &mut Receiver<Arc<News>>, queue: QueueId) -> (Instant, u64) {
    loop {
        if let News::Durable { seq, notices, .. } = &*live.recv().await.unwrap()
            && notices.contains(&Notice::QueueReady { queue })
        {
            return (Instant::now(), seq.0);
        }
    }
}

fn soon_after(at: Instant, due: Instant) -> bool {
    at >= due && at <= due + Duration::from_millis(5)
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_is_over_wakes_who_waits_within_milliseconds_and_journals_nothing() {
    let bench = Bench::start().await;
    let mut live = bench.service.node.subscribe();
    let began = Instant::now();
    assert_eq!(bench.receive(10, Duration::from_secs(5)).await.grants[0][0].count, 10);
    let journaled = bench.journaled();
    let (at, seq) = ready(&mut live, bench.queue.id).await;
    assert!(soon_after(at, began + Duration::from_secs(5)), "{:?}", at - began);
    assert_eq!(seq, journaled as u64, "told at the last entry");
    assert_eq!(bench.journaled(), journaled);
    // And that is all: once is enough.
    let quiet = tokio::time::timeout(Duration::from_secs(3_600), ready(&mut live, bench.queue.id)).await;
    assert!(quiet.is_err(), "told again after {:?}", began.elapsed());
    assert_eq!(bench.journaled(), journaled);
    let again = bench.receive(10, Duration::from_secs(5)).await;
    assert_eq!((again.grants[0][0].count, again.grants[0][0].attempt), (10, 2), "the messages are there again");
    bench.service.stop().await;
}

#[tokio::test(start_paused = true)]
async fn the_timer_follows_what_is_asked_meanwhile() {
    let bench = Bench::start().await;
    let mut live = bench.service.node.subscribe();
    let began = Instant::now();
    bench.receive(2, Duration::from_secs(60)).await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    // Sooner than what it waits for.
    bench.settle(1, 1, SettleAction::Release { delay: Duration::from_secs(3) }).await;
    let (at, _) = ready(&mut live, bench.queue.id).await;
    assert!(soon_after(at, began + Duration::from_secs(13)), "{:?}", at - began);
    // And later: who was told takes what is there, and the other one is kept for longer.
    bench.receive(1, Duration::from_secs(200)).await;
    bench.settle(0, 1, SettleAction::Extend { lease: Duration::from_secs(100) }).await;
    let (at, _) = ready(&mut live, bench.queue.id).await;
    assert!(soon_after(at, began + Duration::from_secs(113)), "{:?}", at - began);
    bench.service.stop().await;
}

#[tokio::test(start_paused = true)]
async fn nothing_is_told_of_what_was_finished_in_time() {
    let bench = Bench::start().await;
    let mut live = bench.service.node.subscribe();
    bench.receive(10, Duration::from_secs(5)).await;
    bench.settle(0, 10, SettleAction::Ack).await;
    let quiet = tokio::time::timeout(Duration::from_secs(3_600), ready(&mut live, bench.queue.id)).await;
    assert!(quiet.is_err());
    bench.service.stop().await;
}

#[tokio::test(start_paused = true)]
async fn who_was_away_when_it_became_due_is_told_when_it_comes_back() {
    let bench = Bench::start().await;
    bench.receive(10, Duration::from_secs(5)).await;
    let seen = bench.service.node.follow(&BTreeMap::new()).at;
    tokio::time::sleep(Duration::from_secs(6)).await;
    let followed = bench.service.node.follow(&seen);
    assert_eq!(followed.at, seen, "no entry was journaled");
    let told = |news: &Arc<News>| matches!(&**news, News::Durable { notices, .. } if notices[..] == [Notice::QueueReady { queue: bench.queue.id }]);
    assert!(followed.missed.len() == 1 && told(&followed.missed[0]), "{:?}", followed.missed);
    bench.service.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_became_due_while_nobody_owned_the_shard_is_told_by_the_next_owner() {
    let bench = Bench::start().await;
    bench.receive(10, Duration::from_secs(5)).await;
    bench.service.stop().await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    let service = Service::start(&bench.store, quiet()).await;
    let mut live = service.node.subscribe();
    let began = Instant::now();
    service.node.ready().await;
    let (at, _) = ready(&mut live, bench.queue.id).await;
    // Its clock begins anew, five seconds before the end of the leases.
    assert!(at - began <= Duration::from_millis(5_005), "{:?}", at - began);
    service.stop().await;
}
