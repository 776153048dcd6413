//! What many readers at the tail cost: the store and the metadata service are asked by the gateway, not by each reader.

use std::sync::Arc;
use std::time::Duration;

use lakefall_gateway::Engine;
use lakefall_queue::Offset;
use lakefall_queue::verbs::{Read, Start, Verbs};

use crate::support::metadata::Mood;
use crate::support::{World, append, caller, placed, read, settle, start_at, topic, values};

/// Reads on from the start until it has so many records.
fn tail(engine: &Arc<Engine>, records: usize) -> tokio::task::JoinHandle<Vec<String>> {
    let engine = Arc::clone(engine);
    tokio::spawn(async move {
        let (mut found, mut at) = (Vec::new(), 0);
        while found.len() < records {
            let one = Read { wait: Duration::from_secs(60), ..read("t", &[(0, start_at(at))]) };
            let page = engine.read(&caller(), one).await.unwrap();
            at = page.next[0].next.0;
            found.extend(values(&page.records));
        }
        found
    })
}

#[tokio::test(start_paused = true)]
async fn fifty_tail_readers_of_a_gateway_that_did_not_write_cost_one_get_for_each_segment_and_two_questions_for_each_notice() {
    let world = World::new().await;
    world.topic("t", 1).await;
    let (other, metadata) = world.gateway(false).await;
    let readers: Vec<_> = (0..50).map(|_| tail(&other, 40)).collect();
    settle().await;
    let asked = metadata.queries();
    let mut sent = Vec::new();
    for i in 0..40 {
        sent.push(i.to_string());
        world.send("t", &[&sent[i]]).await.unwrap();
        settle().await;
    }
    for reader in readers {
        assert_eq!(reader.await.unwrap(), sent);
    }
    assert_eq!(world.objects.puts(), 40);
    assert_eq!(world.objects.gets(), 40, "one for each block of each segment");
    let asked = metadata.queries() - asked;
    assert!(asked <= 80, "{asked} questions for 40 notices: who comes back to the end asks, together with the others");
}

#[tokio::test(start_paused = true)]
async fn readers_that_are_woken_ask_nobody_also_those_of_other_partitions() {
    let world = Arc::new(World::new().await);
    world.topic("t", 5).await;
    let (other, metadata) = world.gateway(false).await;
    let mut waiting = Vec::new();
    for _ in 0..50 {
        let from: Vec<_> = (0..5).map(|p| (p, Start::Latest)).collect();
        let (other, wait) = (Arc::clone(&other), Read { wait: Duration::from_secs(60), ..read("t", &from) });
        waiting.push(tokio::spawn(async move { values(&other.read(&caller(), wait).await.unwrap().records) }));
    }
    settle().await;
    let asked = metadata.queries();
    world.append(append("t", vec![placed(3, "a")])).await.unwrap();
    for one in waiting {
        assert_eq!(one.await.unwrap(), ["a"]);
    }
    assert_eq!(metadata.queries(), asked);
    assert_eq!(world.objects.gets(), 1);
}

#[tokio::test(start_paused = true)]
async fn where_all_partitions_begin_and_end_is_one_question() {
    let world = World::new().await;
    world.topic("t", 100).await;
    world.append(append("t", (0..100).map(|p| placed(p, "x")).collect())).await.unwrap();
    for start in [Start::Earliest, Start::Latest, Start::Last(1), start_at(0)] {
        let asked = world.metadata.queries();
        let positions = world.engine.offsets(&caller(), &topic("t"), None, start).await.unwrap();
        assert_eq!(world.metadata.queries() - asked, 1, "{start:?}");
        assert!(positions.iter().enumerate().all(|(i, p)| p.partition.0 == i as u32 && (p.log_start.0, p.end.0) == (0, 1)));
    }
    let all: Vec<_> = (0..100).map(|p| (p, start_at(1))).collect();
    let asked = world.metadata.queries();
    let found = world.read(read("t", &all)).await.unwrap();
    assert_eq!((found.records.len(), world.metadata.queries() - asked), (0, 1), "at the end of all");
}

#[tokio::test(start_paused = true)]
async fn readers_that_ask_the_same_at_once_ask_once_and_never_join_a_question_that_left_before() {
    let world = Arc::new(World::new().await);
    world.topic("t", 1).await;
    world.send("t", &["a"]).await.unwrap();
    let (other, metadata) = world.gateway(true).await;
    other.read(&caller(), read("t", &[(0, Start::Latest)])).await.unwrap();
    metadata.be(Mood::Late);
    let ask = || {
        let other = Arc::clone(&other);
        tokio::spawn(async move { other.read(&caller(), read("t", &[(0, start_at(1))])).await.unwrap().next[0].end })
    };
    let asked = metadata.queries();
    let first: Vec<_> = (0..10).map(|_| ask()).collect();
    settle().await;
    world.send("t", &["b"]).await.unwrap();
    let second: Vec<_> = (0..10).map(|_| ask()).collect();
    settle().await;
    metadata.be(Mood::Serving);
    for one in first {
        assert!(one.await.unwrap() >= Offset(1));
    }
    for one in second {
        assert_eq!(one.await.unwrap(), Offset(2), "acknowledged before they asked");
    }
    let asked = metadata.queries() - asked;
    assert!((2..=4).contains(&asked), "{asked}");
}
