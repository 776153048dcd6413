//! What becomes durable is told to clients, or that they missed it; never neither.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use lakefall_metadata::{Metadata, News};
use lakefall_queue::ledger::Notice;
use lakefall_queue::{ShardId, TopicId};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

use super::proxy::Ways;
use super::world::{Running, World, commit, namespace, namespaces, stored_at, topic, until};

const SOON: Duration = Duration::from_secs(10);

/// What a subscriber knows.
#[derive(Default)]
struct Heard {
    offsets: BTreeSet<(TopicId, u64)>,
    missed: u64,
}

impl Heard {
    /// Listens until `done` or, at the latest, until too long.
    async fn until(&mut self, news: &mut Receiver<Arc<News>>, done: impl Fn(&Self) -> bool) {
        while !done(self) {
            match tokio::time::timeout(SOON, news.recv()).await.expect("nothing more was told") {
                Ok(told) => self.take(&told),
                Err(RecvError::Lagged(_)) => self.missed += 1,
                Err(RecvError::Closed) => panic!("the news ended"),
            }
        }
    }

    fn take(&mut self, news: &News) {
        match news {
            News::Missed => self.missed += 1,
            News::Durable { notices, .. } => {
                for notice in notices {
                    if let Notice::Appended { topic, extent, .. } = notice {
                        self.offsets.insert((*topic, extent.base_offset.0));
                    }
                }
            }
        }
    }
}

/// Returns when the subscriber is told what happens.
async fn followed(replica: &Running, news: &mut Receiver<Arc<News>>) {
    let marks = topic(&*replica.node, &namespace("marks"), "marks").await;
    let mut heard = Heard::default();
    while heard.offsets.is_empty() {
        stored_at(replica.node.execute(ShardId(0), commit(marks.id, 1)).await);
        // The first of them may have become durable before the stream was there.
        while let Ok(Ok(told)) = tokio::time::timeout(Duration::from_millis(50), news.recv()).await {
            heard.take(&told);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_append_is_told_to_every_client() {
    let world = World::alone();
    let replica = world.replica().await;
    let (writer, reader) = (world.client(&[&replica]).await, world.client(&[&replica]).await);
    let mut news = reader.subscribe();
    followed(&replica, &mut news).await;
    let mut heard = Heard::default();
    let orders = topic(&*writer, &namespace("acme"), "orders").await;
    for offset in 0..100 {
        assert_eq!(stored_at(writer.execute(ShardId(0), commit(orders.id, 1)).await), offset);
    }
    heard.until(&mut news, |heard| heard.offsets.len() == 100).await;
    assert_eq!(heard.missed, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn news_go_on_where_they_were_after_a_connection_was_cut() {
    let world = World::alone();
    let replica = world.replica().await;
    let reader = world.client(&[&replica]).await;
    let mut news = reader.subscribe();
    followed(&replica, &mut news).await;
    let mut heard = Heard::default();
    let orders = topic(&*replica.node, &namespace("acme"), "orders").await;
    stored_at(replica.node.execute(ShardId(0), commit(orders.id, 1)).await);
    heard.until(&mut news, |heard| heard.offsets.contains(&(orders.id, 0))).await;
    let mut written = 1;
    for _ in 0..5 {
        // Before, while there is no connection, and after.
        replica.die();
        for _ in 0..20 {
            stored_at(replica.node.execute(ShardId(0), commit(orders.id, 1)).await);
        }
        replica.proxy.set(Ways::default());
        for _ in 0..20 {
            stored_at(replica.node.execute(ShardId(0), commit(orders.id, 1)).await);
        }
        written += 40;
        heard.until(&mut news, |heard| heard.offsets.contains(&(orders.id, written - 1))).await;
    }
    assert_eq!(heard.missed, 0, "nothing was missed");
    assert!((0..written).all(|offset| heard.offsets.contains(&(orders.id, offset))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_was_away_for_too_long_is_told_that_it_missed_something() {
    let world = World::alone();
    let replica = world.replica().await;
    let reader = world.client(&[&replica]).await;
    let mut news = reader.subscribe();
    followed(&replica, &mut news).await;
    let mut heard = Heard::default();
    let orders = topic(&*replica.node, &namespace("acme"), "orders").await;
    stored_at(replica.node.execute(ShardId(0), commit(orders.id, 1)).await);
    heard.until(&mut news, |heard| heard.offsets.contains(&(orders.id, 0))).await;
    replica.die();
    // More than is remembered.
    for _ in 0..4_200 {
        stored_at(replica.node.execute(ShardId(0), commit(orders.id, 1)).await);
    }
    replica.proxy.set(Ways::default());
    heard.until(&mut news, |heard| heard.missed > 0).await;
    stored_at(replica.node.execute(ShardId(0), commit(orders.id, 1)).await);
    heard.until(&mut news, |heard| heard.offsets.contains(&(orders.id, 4_201))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_between_the_old_owner_and_the_new_one() {
    const SHARDS: u32 = 4;
    let world = World::shared(SHARDS);
    let first = world.replica().await;
    let (writer, reader) = (world.client(&[&first]).await, world.client(&[&first]).await);
    let mut topics = Vec::new();
    for namespace in namespaces(SHARDS) {
        topics.push(topic(&*writer, &namespace, "orders").await.id);
    }
    let mut news = reader.subscribe();
    let mut heard = Heard::default();
    let mut written = 0;
    let mut second = None;
    for round in 0..30 {
        if round == 10 {
            second = Some(world.replica().await);
        }
        for topic in &topics {
            assert_eq!(stored_at(writer.execute(topic.shard(), commit(*topic, 1)).await), written);
        }
        written += 1;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let second = second.unwrap();
    until(Duration::from_secs(20), || async { second.node.roster().holdings.iter().any(|h| h.owner.as_ref() == Some(second.node.me())) })
        .await;
    // Whoever was told since the last thing it missed has everything since.
    let last: Vec<_> = topics.iter().map(|topic| (*topic, written)).collect();
    for topic in &topics {
        assert_eq!(stored_at(writer.execute(topic.shard(), commit(*topic, 1)).await), written);
    }
    heard.until(&mut news, |heard| last.iter().all(|key| heard.offsets.contains(key))).await;
    first.stop().await;
    heard.missed = 0;
    heard.until(&mut news, |heard| heard.missed > 0).await;
    for topic in &topics {
        assert_eq!(stored_at(writer.execute(topic.shard(), commit(*topic, 1)).await), written + 1);
    }
    heard.until(&mut news, |heard| topics.iter().all(|topic| heard.offsets.contains(&(*topic, written + 1)))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_reads_nothing_holds_nobody_up() {
    let world = World::alone();
    let (replica, orders) = {
        let replica = world.replica().await;
        let orders = topic(&*replica.node, &namespace("acme"), "orders").await;
        (replica, orders)
    };
    let reader = world.client(&[&replica]).await;
    let mut news = reader.subscribe();
    followed(&replica, &mut news).await;
    replica.proxy.set(Ways { hold_answers: true, ..Ways::default() });
    for expected in 0..6_000 {
        assert_eq!(stored_at(replica.node.execute(ShardId(0), commit(orders.id, 1)).await), expected);
    }
    replica.proxy.set(Ways::default());
    let mut heard = Heard::default();
    stored_at(replica.node.execute(ShardId(0), commit(orders.id, 1)).await);
    heard.until(&mut news, |heard| heard.offsets.contains(&(orders.id, 6_000))).await;
    assert!(heard.missed > 0 || heard.offsets.len() == 6_001, "some were not told, and this neither");
}
