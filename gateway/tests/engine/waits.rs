//! Readers that wait: woken by an append, and silent until then.

use std::sync::Arc;
use std::time::Duration;

use lakefall_queue::verbs::{Read, Start};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::support::{World, append, placed, read, settle, values};

async fn wait(world: &Arc<World>, from: &[(u32, Start)], seconds: u64) -> JoinHandle<Vec<String>> {
    let (world, read) = (Arc::clone(world), Read { wait: Duration::from_secs(seconds), ..read("t", from) });
    let waiting = tokio::spawn(async move { values(&world.read(read).await.unwrap().records) });
    settle().await;
    waiting
}

#[tokio::test(start_paused = true)]
async fn a_waiting_reader_is_woken_by_an_append_and_otherwise_answers_at_its_deadline() {
    let world = Arc::new(World::new().await);
    world.topic("t", 1).await;
    let waiting = wait(&world, &[(0, Start::Latest)], 30).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(!waiting.is_finished());
    let started = Instant::now();
    world.send("t", &["a"]).await.unwrap();
    assert_eq!(waiting.await.unwrap(), ["a"]);
    assert!(started.elapsed() < Duration::from_millis(10));
    let started = Instant::now();
    assert!(wait(&world, &[(0, Start::Latest)], 30).await.await.unwrap().is_empty());
    assert!((30_000..30_010).contains(&started.elapsed().as_millis()));
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_waits_on_many_partitions_is_woken_by_any() {
    let world = Arc::new(World::new().await);
    world.topic("t", 5).await;
    for partition in 0..5 {
        let all: Vec<_> = (0..5).map(|p| (p, Start::Latest)).collect();
        let waiting = wait(&world, &all, 30).await;
        world.append(append("t", vec![placed(partition, "x")])).await.unwrap();
        assert_eq!(waiting.await.unwrap(), ["x"]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_reader_beyond_the_end_waits_for_its_offset() {
    let world = Arc::new(World::new().await);
    world.topic("t", 1).await;
    let waiting = wait(&world, &[(0, crate::support::start_at(2))], 30).await;
    world.send("t", &["0", "1"]).await.unwrap();
    settle().await;
    assert!(!waiting.is_finished());
    world.send("t", &["2"]).await.unwrap();
    assert_eq!(waiting.await.unwrap(), ["2"]);
}

#[tokio::test(start_paused = true)]
async fn a_thousand_waiting_readers_are_silent_and_all_get_the_record() {
    let world = Arc::new(World::new().await);
    world.topic("t", 1).await;
    let mut waiting = Vec::new();
    for _ in 0..1_000 {
        let (world, read) = (Arc::clone(&world), Read { wait: Duration::from_secs(60), ..read("t", &[(0, Start::Latest)]) });
        waiting.push(tokio::spawn(async move { values(&world.read(read).await.unwrap().records) }));
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    let asked = world.metadata.queries();
    tokio::time::sleep(Duration::from_secs(50)).await;
    assert_eq!(world.metadata.queries(), asked, "nobody asks while nothing happens");
    world.send("t", &["a"]).await.unwrap();
    for one in waiting {
        assert_eq!(one.await.unwrap(), ["a"]);
    }
    assert!(world.metadata.queries() - asked < 10, "they are told where the record is");
    assert_eq!(world.objects.gets(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_tail_that_reads_on_gets_every_record_once_while_others_append() {
    let world = Arc::new(World::new().await);
    world.topic("t", 1).await;
    let tail = {
        let world = Arc::clone(&world);
        tokio::spawn(async move {
            let (mut found, mut at) = (Vec::new(), Start::Earliest);
            while found.len() < 300 {
                let one = world.read(Read { wait: Duration::from_secs(5), max_records: 7, ..read("t", &[(0, at)]) }).await.unwrap();
                at = Start::Offset(one.next[0].next);
                found.extend(one.records);
            }
            found.iter().map(|r| r.offset.0).collect::<Vec<_>>()
        })
    };
    for i in 0..100 {
        world.send("t", &["a", "b", "c"]).await.unwrap();
        if i % 10 == 0 {
            tokio::time::sleep(Duration::from_millis(3)).await;
        }
    }
    assert_eq!(tail.await.unwrap(), (0..300).collect::<Vec<_>>());
}
