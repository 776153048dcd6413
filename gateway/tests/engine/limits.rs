//! What a gateway takes in, and how it stops taking.

use std::sync::Arc;
use std::time::Duration;

use lakefall_queue::error::Error;
use lakefall_queue::verbs::{Append, Verbs};
use tokio::time::Instant;

use crate::support::faults::{Fault, Gate};
use crate::support::{Setup, World, append, caller, record, settle};

#[tokio::test(start_paused = true)]
async fn the_buffer_bounds_what_is_in_flight_and_is_freed_by_the_answer() {
    let mut setup = Setup::default();
    (setup.ingest.buffer_bytes, setup.ingest.admission_wait) = (10 << 10, Duration::from_millis(300));
    let world = World::with(setup).await;
    world.topic("t", 1).await;
    let gate = Gate::closed();
    world.objects.order_puts([Some(Fault::Hang(Arc::clone(&gate)))]);
    let admission = world.engine.admit(&caller(), 8 << 10).await.unwrap();
    let first = world.begin(Append { admission, ..append("t", vec![record("x")]) }).await;
    gate.arrived().await;
    let started = Instant::now();
    assert!(matches!(world.engine.admit(&caller(), 4 << 10).await, Err(Error::Unavailable { .. })));
    assert!((300..=320).contains(&started.elapsed().as_millis()), "refused after the wait");
    let fits = world.engine.admit(&caller(), 1 << 10).await.unwrap();
    gate.open();
    first.await.unwrap().unwrap();
    drop(fits);
    let started = Instant::now();
    drop(world.engine.admit(&caller(), 10 << 10).await.unwrap());
    assert_eq!(started.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_refused_request_gives_its_room_back() {
    let mut setup = Setup::default();
    setup.ingest.buffer_bytes = 10 << 10;
    let world = World::with(setup).await;
    world.topic("t", 1).await;
    world.objects.order_puts([Some(Fault::Full)]);
    let admission = world.engine.admit(&caller(), 10 << 10).await.unwrap();
    world.append(Append { admission, ..append("t", vec![record("x")]) }).await.unwrap_err();
    let admission = world.engine.admit(&caller(), 10 << 10).await.unwrap();
    world.append(Append { admission, ..append("nowhere", vec![record("x")]) }).await.unwrap_err();
    world.engine.admit(&caller(), 10 << 10).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_was_submitted_before_the_drain_is_answered_and_what_comes_later_is_refused() {
    for puts_per_second in [None, Some(0.01)] {
        let mut setup = Setup::default();
        (setup.ingest.puts_per_second, setup.ingest.put_burst) = (puts_per_second, 1);
        let world = World::with(setup).await;
        world.topic("t", 1).await;
        let gate = Gate::closed();
        world.objects.order_puts([Some(Fault::Hang(Arc::clone(&gate)))]);
        let before = [world.begin(append("t", vec![record("a")])).await, world.begin(append("t", vec![record("b")])).await];
        let engine = Arc::clone(&world.engine);
        let drained = tokio::spawn(async move { engine.drain().await });
        settle().await;
        assert!(!drained.is_finished());
        assert!(matches!(world.send("t", &["late"]).await, Err(Error::Unavailable { .. })));
        gate.open();
        let started = Instant::now();
        drained.await.unwrap();
        assert!(started.elapsed() < Duration::from_secs(1), "no token is waited for");
        for one in before {
            assert!(one.is_finished());
            one.await.unwrap().unwrap();
        }
        assert_eq!(world.values("t").await.len(), 2);
        world.engine.drain().await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_empty_request_and_a_record_larger_than_its_topic_takes_are_refused() {
    let world = World::new().await;
    let config = lakefall_queue::topic::TopicConfig { max_record_bytes: Some(4), ..Default::default() };
    world.topic_like("t", config).await;
    assert!(matches!(world.append(append("t", vec![])).await, Err(Error::Invalid { .. })));
    assert!(matches!(world.send("t", &["12345"]).await, Err(Error::TooLarge { limit: 4, actual: 5, .. })));
    world.send("t", &["1234"]).await.unwrap();
    assert_eq!(world.send("nowhere", &["x"]).await, Err(Error::TopicNotFound(crate::support::topic("nowhere"))));
}
