//! News for those who were away: everything since, once and in order; or that something was missed.

use std::collections::BTreeMap;
use std::sync::Arc;

use lakefall_metadata::{Followed, Metadata, News};
use lakefall_queue::id::JournalSeq;
use lakefall_queue::ledger::Notice;
use lakefall_queue::{ShardId, TopicId};
use tokio::sync::broadcast::error::TryRecvError;

use crate::support::cluster::Cluster;
use crate::support::fixtures::{SHARD, commit};
use crate::support::{Service, memory, quiet, stored_at};

/// The bases that were told of, after whether something was missed.
fn told(followed: &mut Followed) -> (bool, Vec<u64>) {
    let mut all = std::mem::take(&mut followed.missed);
    loop {
        match followed.live.try_recv() {
            Ok(news) => all.push(news),
            Err(TryRecvError::Empty | TryRecvError::Closed) => break,
            Err(TryRecvError::Lagged(_)) => all.push(Arc::new(News::Missed)),
        }
    }
    let mut bases = Vec::new();
    let mut missed = false;
    for news in all {
        match &*news {
            News::Missed => missed = true,
            News::Durable { notices, .. } => bases.extend(notices.iter().map(|notice| match notice {
                Notice::Appended { extent, .. } => extent.base_offset.0,
                other => panic!("{other:?}"),
            })),
        }
    }
    (missed, bases)
}

async fn append(service: &Service, topic: TopicId, numbers: std::ops::Range<u64>) {
    for number in numbers {
        assert_eq!(stored_at(service.execute(commit(number, topic, 1)).await), number);
    }
}

#[tokio::test(start_paused = true)]
async fn who_comes_back_is_told_what_it_missed_and_what_comes() {
    let (_, store) = memory();
    let (service, topic) = Service::with_topic(&store, quiet()).await;
    append(&service, topic, 0..5).await;
    let seen = service.node.follow(&BTreeMap::new()).at;
    assert_eq!(seen[&SHARD], JournalSeq(7), "the reign's entry, the topic's, and five");
    append(&service, topic, 5..9).await;
    let mut followed = service.node.follow(&seen);
    append(&service, topic, 9..12).await;
    assert_eq!(told(&mut followed), (false, (5..12).collect()));
    let mut fresh = service.node.follow(&BTreeMap::new());
    append(&service, topic, 12..13).await;
    assert_eq!(told(&mut fresh), (false, vec![12]), "one who saw nothing is told what comes");
    let mut up_to_date = service.node.follow(&fresh.at);
    assert_eq!(told(&mut up_to_date), (false, vec![12]));
}

#[tokio::test(start_paused = true)]
async fn who_was_away_for_too_long_is_told_that_it_missed_something() {
    let (_, store) = memory();
    let (service, topic) = Service::with_topic(&store, quiet()).await;
    let seen = service.node.follow(&BTreeMap::new()).at;
    append(&service, topic, 0..6_000).await;
    let mut followed = service.node.follow(&seen);
    let (missed, bases) = told(&mut followed);
    assert!(missed);
    assert!(bases.is_sorted() && bases.last() == Some(&5_999) && bases.len() >= 1_000, "{}", bases.len());
    // From what is still known on, nothing is missing.
    let from = 6_000 - bases.len() as u64;
    assert_eq!(bases, (from..6_000).collect::<Vec<_>>());
    let known = BTreeMap::from([(SHARD, JournalSeq(2 + from))]);
    assert_eq!(told(&mut service.node.follow(&known)), (false, bases));
    let unknown = BTreeMap::from([(SHARD, JournalSeq(1 + from))]);
    assert!(told(&mut service.node.follow(&unknown)).0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_falls_between_what_was_missed_and_what_comes() {
    let (_, store) = memory();
    let (service, topic) = Service::with_topic(&store, quiet()).await;
    let service = Arc::new(service);
    let writer = Arc::clone(&service);
    let writes = tokio::spawn(async move { append(&writer, topic, 0..1_000).await });
    let mut followers = Vec::new();
    let mut seen = BTreeMap::from([(SHARD, JournalSeq(2))]);
    while !writes.is_finished() {
        let followed = service.node.follow(&seen);
        let from = seen[&SHARD].0 - 2;
        seen.clone_from(&followed.at);
        followers.push((from, followed));
        tokio::task::yield_now().await;
    }
    writes.await.unwrap();
    assert!(followers.len() > 10, "{}", followers.len());
    for (from, mut followed) in followers {
        assert_eq!(told(&mut followed), (false, (from..1_000).collect()));
    }
}

#[tokio::test(start_paused = true)]
async fn subscribers_are_told_that_a_reign_began_as_the_one_before_may_have_told_too_little() {
    let (cluster, members) = Cluster::of(1, 2).await;
    let shard = ShardId(0);
    let owner = cluster.owner(&members, shard).await;
    let heir = members.iter().find(|member| member.node.me() != owner.node.me()).unwrap();
    let topic = owner.topic(shard, cluster.namespace(shard)).await;
    for number in 0..3 {
        owner.node.execute_here(shard, commit(number, topic, 1)).await.unwrap();
    }
    let seen = owner.node.follow(&BTreeMap::new()).at;
    let mut subscribed = heir.node.subscribe();
    assert!(heir.node.follow(&seen).at.is_empty(), "it serves nothing");
    owner.leave().await;
    assert!(owner.node.follow(&seen).at.is_empty(), "nor does the other any more");
    cluster.owner(std::slice::from_ref(heir), shard).await;
    assert!(matches!(&*subscribed.recv().await.unwrap(), News::Missed));
    // Who saw all that the reign before wrote has missed nothing.
    assert_eq!(told(&mut heir.node.follow(&seen)), (false, vec![]));
    let less = BTreeMap::from([(shard, JournalSeq(seen[&shard].0 - 1))]);
    assert_eq!(told(&mut heir.node.follow(&less)), (true, vec![]));
}
