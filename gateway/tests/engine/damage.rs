//! Stored bytes that are gone or wrong: an error, never an empty or a wrong answer.

use std::sync::Arc;
use std::time::Duration;

use lakefall_gateway::Engine;
use lakefall_queue::error::{Error, Result};
use lakefall_queue::verbs::{Fetched, Start, Verbs};

use crate::support::faults::Fault;
use crate::support::{World, append, caller, read, record, values};

async fn from_start(engine: &Arc<Engine>) -> Result<Fetched> {
    engine.read(&caller(), read("t", &[(0, Start::Earliest)])).await
}

#[tokio::test(start_paused = true)]
async fn an_object_that_is_missing_though_referred_to_is_told_not_skipped() {
    let world = World::new().await;
    world.topic("t", 1).await;
    world.send("t", &["a"]).await.unwrap();
    world.objects.remove_all().await;
    world.send("t", &["b"]).await.unwrap();
    let other = world.other_engine().await;
    assert!(matches!(from_start(&other).await, Err(Error::DataUnavailable { .. })));
    let later = other.read(&caller(), read("t", &[(0, crate::support::start_at(1))])).await.unwrap();
    assert_eq!(values(&later.records), ["b"], "what is there is read");
}

#[tokio::test(start_paused = true)]
async fn a_store_that_does_not_answer_is_unavailable() {
    let world = World::new().await;
    world.topic("t", 1).await;
    world.send("t", &["a"]).await.unwrap();
    let other = world.other_engine().await;
    for fault in [Fault::Before, Fault::Throttle] {
        world.objects.order_gets([Some(fault)]);
        assert!(matches!(from_start(&other).await, Err(Error::Unavailable { .. })));
    }
    assert_eq!(values(&from_start(&other).await.unwrap().records), ["a"]);
}

#[tokio::test(start_paused = true)]
async fn flipped_bits_are_an_error_or_harmless_and_never_wrong_bytes() {
    let world = World::new().await;
    world.topic("t", 1).await;
    let sent: Vec<String> = (0..20).map(|i| format!("value number {i}")).collect();
    world.append(append("t", sent.iter().map(|v| record(v)).collect())).await.unwrap();
    world.objects.every_get(Some(Fault::Flip));
    let mut refused = 0;
    for _ in 0..200 {
        let other = world.other_engine().await;
        match from_start(&other).await {
            Ok(found) => assert_eq!(values(&found.records), sent),
            Err(Error::DataUnavailable { .. }) => refused += 1,
            Err(other) => panic!("{other:?}"),
        }
    }
    assert!(refused > 50, "only {refused} of 200 flips hit the batch");
    assert!(world.objects.fired() >= 200);
}

#[tokio::test(start_paused = true)]
async fn old_and_recent_reads_see_the_same_bytes() {
    let world = World::new().await;
    world.topic("t", 1).await;
    let sent: Vec<String> = (0..500).map(|i| format!("{i}-{}", "x".repeat(i))).collect();
    for chunk in sent.chunks(50) {
        world.append(append("t", chunk.iter().map(|v| record(v)).collect())).await.unwrap();
    }
    assert_eq!(world.values("t").await, sent);
    tokio::time::sleep(Duration::from_secs(120)).await;
    assert_eq!(world.values("t").await, sent);
    let other = world.other_engine().await;
    assert_eq!(values(&crate::support::all(&other, "t").await), sent);
}

#[tokio::test(start_paused = true)]
async fn what_was_wrong_once_is_asked_for_again_and_not_remembered() {
    for fault in [Fault::Missing, Fault::Flip] {
        let world = World::new().await;
        world.topic("t", 1).await;
        let sent: Vec<String> = (0..200).map(|i| format!("value number {i}")).collect();
        world.append(append("t", sent.iter().map(|v| record(v)).collect())).await.unwrap();
        for age in [Duration::ZERO, Duration::from_secs(120)] {
            tokio::time::sleep(age).await;
            for _ in 0..20 {
                let other = world.other_engine().await;
                world.objects.order_gets([Some(fault.clone())]);
                for _ in 0..2 {
                    assert_eq!(values(&from_start(&other).await.unwrap().records), sent, "{fault:?}");
                }
            }
        }
    }
}
