//! What topics used: counted where it happened, shared where several had it, reported to the ledger.

use std::sync::Arc;

use lakefall_gateway::engine::Engine;
use lakefall_queue::usage::{Figure, Granularity, ONE, Usage, UsageCounts, UsageOf, UsageRange, UsageVerbs};
use lakefall_queue::verbs::{Start, Verbs};

use crate::support::faults::Fault;
use crate::support::{World, append, caller, read, record, topic};

async fn used(world: &World, engine: &Engine, of: UsageOf) -> Usage {
    let range = UsageRange::new(Granularity::Total, None, None, world.ambient.now()).unwrap();
    engine.usage(&caller(), of, range).await.unwrap()
}

/// What topics and their namespace used in all, which must be the same.
async fn all(world: &World, engine: &Engine, topics: &[&str]) -> (Vec<UsageCounts>, UsageCounts) {
    let mut of = Vec::new();
    let mut sum = UsageCounts::default();
    for name in topics {
        let counts = used(world, engine, UsageOf::Topic(topic(name))).await.total;
        sum.merge(&counts);
        of.push(counts);
    }
    let namespace = used(world, engine, UsageOf::Namespace(caller().namespace)).await.total;
    assert_eq!(sum, namespace, "a namespace uses what its topics use");
    (of, namespace)
}

#[tokio::test(start_paused = true)]
async fn records_and_bytes_count_for_their_topic_and_a_segments_requests_are_shared() {
    let world = World::new().await;
    world.topic("a", 1).await;
    world.topic("b", 1).await;
    for _ in 0..10 {
        let (one, other) = tokio::join!(world.send("a", &["12345", "123"]), world.send("b", &["1234567890"]));
        one.unwrap();
        other.unwrap();
    }
    let fetched = world.read(read("a", &[(0, Start::Earliest)])).await.unwrap();
    assert_eq!(fetched.records.len(), 20);
    world.engine.drain().await;
    let (of, namespace) = all(&world, &world.engine, &["a", "b"]).await;
    let figures = |counts: &UsageCounts| {
        [Figure::ProducedRecords, Figure::ProducedBytes, Figure::ReadRecords, Figure::ReadBytes].map(|f| counts.get(f))
    };
    assert_eq!(figures(&of[0]), [20, 80, 20, 80]);
    assert_eq!(figures(&of[1]), [10, 100, 0, 0]);
    let puts = world.objects.puts() as u64;
    assert_eq!(namespace.get(Figure::StoreWrites), puts * ONE);
    assert_eq!(namespace.get(Figure::Commits), puts * ONE, "one commit for each segment in one shard");
    assert!(of.iter().all(|counts| counts.get(Figure::StoreWrites) > 0 && counts.get(Figure::StoredBytes) > 0), "{of:?}");
    assert!(namespace.get(Figure::StoreSentBytes) > namespace.get(Figure::StoredBytes), "headers and indexes are shared too");
    assert!(of[0].get(Figure::CacheHits) > 0 && of[0].get(Figure::CacheMisses) == 0 && of[1].get(Figure::CacheHits) == 0);
}

#[tokio::test(start_paused = true)]
async fn what_is_fetched_counts_for_the_topic_that_is_read_and_gateways_add_up() {
    let world = World::new().await;
    world.topic("a", 1).await;
    world.send("a", &["one", "two"]).await.unwrap();
    let other = world.other_engine().await;
    other.read(&caller(), read("a", &[(0, Start::Earliest)])).await.unwrap();
    other.append(&caller(), append("a", vec![record("three")])).await.unwrap();
    world.engine.drain().await;
    other.drain().await;
    let (of, _) = all(&world, &other, &["a"]).await;
    assert_eq!((of[0].get(Figure::ProducedRecords), of[0].get(Figure::ReadRecords)), (3, 2));
    assert_eq!(of[0].get(Figure::StoreReads), world.objects.gets() as u64 * ONE);
    assert!(of[0].get(Figure::CacheMisses) > 0 && of[0].get(Figure::StoreGotBytes) > 0);
}

#[tokio::test(start_paused = true)]
async fn requests_that_failed_count_as_sent_and_records_that_were_not_stored_do_not() {
    let world = World::new().await;
    world.topic("a", 1).await;
    world.objects.order_puts([Some(Fault::Before), Some(Fault::After)]);
    world.send("a", &["x"]).await.unwrap();
    let keyed = || {
        let mut append = append("a", vec![record("y")]);
        append.batch.expect_offset = Some(lakefall_queue::Offset(77));
        append
    };
    world.append(keyed()).await.unwrap_err();
    world.engine.drain().await;
    let (of, _) = all(&world, &world.engine, &["a"]).await;
    assert_eq!((of[0].get(Figure::ProducedRecords), of[0].get(Figure::ProducedBytes)), (1, 1));
    assert_eq!(of[0].get(Figure::StoreWrites), world.objects.puts() as u64 * ONE);
}

#[tokio::test(start_paused = true)]
async fn a_repeated_request_is_stored_and_counted_once() {
    let world = World::new().await;
    world.topic("a", 1).await;
    let keyed = || {
        let mut append = append("a", vec![record("once")]);
        append.idempotency = Some(lakefall_queue::verbs::Idempotency { key: "k".into(), fingerprint: 1 });
        append
    };
    let engine = Arc::clone(&world.engine);
    for _ in 0..3 {
        engine.append(&caller(), keyed()).await.unwrap();
    }
    engine.drain().await;
    let (of, _) = all(&world, &engine, &["a"]).await;
    assert_eq!((of[0].get(Figure::ProducedRecords), of[0].get(Figure::ProducedBytes)), (1, 4));
}
