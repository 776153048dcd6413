//! Segments on their way into the object store: repeated, slowed down, refused, paced.

use std::sync::Arc;
use std::time::Duration;

use lakefall_gateway::engine::IngestConfig;
use lakefall_queue::error::Error;
use lakefall_queue::topic::Urgency;
use tokio::time::Instant;

use crate::support::faults::{Fault, Gate};
use crate::support::{Setup, World, append, places, record, settle};

fn setup(change: impl FnOnce(&mut IngestConfig)) -> Setup {
    let mut setup = Setup::default();
    change(&mut setup.ingest);
    setup
}

#[tokio::test(start_paused = true)]
async fn an_upload_that_fails_before_or_after_it_was_applied_is_repeated_and_stored_once() {
    for faults in [vec![Fault::Before], vec![Fault::After], vec![Fault::Before, Fault::After, Fault::Throttle, Fault::Before]] {
        let world = World::new().await;
        world.topic("t", 1).await;
        let count = faults.len();
        world.objects.order_puts(faults.into_iter().map(Some));
        assert_eq!(places(&world.send("t", &["a"]).await.unwrap()), [(0, 0)]);
        assert_eq!(places(&world.send("t", &["b"]).await.unwrap()), [(0, 1)]);
        assert_eq!(world.objects.fired(), count);
        assert_eq!(world.objects.puts(), count + 2);
        assert_eq!(world.objects.objects().await.len(), 2, "one object for each segment");
        assert_eq!(world.values("t").await, ["a", "b"]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_throttled_store_gets_fewer_uploads_at_once() {
    let world = World::with(setup(|ingest| (ingest.target_bytes, ingest.uploads_max) = (1, 8))).await;
    world.topic("t", 1).await;
    world.objects.put_latency(Duration::from_millis(50));
    let eight = || async {
        let mut begun = Vec::new();
        for _ in 0..8 {
            begun.push(world.begin(append("t", vec![record("x")])).await);
        }
        for one in begun {
            one.await.unwrap().unwrap();
        }
        world.objects.most_putting()
    };
    assert_eq!(eight().await, 8);
    world.objects.order_puts([Some(Fault::Throttle), Some(Fault::Throttle), Some(Fault::Throttle)]);
    world.send("t", &["slow down"]).await.unwrap();
    world.objects.most_putting();
    let at_once = eight().await;
    assert!((1..=4).contains(&at_once), "{at_once}");
    assert_eq!(world.values("t").await.len(), 17);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_full_refuses_at_once_and_nothing_is_visible() {
    let world = World::new().await;
    world.topic("t", 1).await;
    world.objects.order_puts([Some(Fault::Full)]);
    let started = Instant::now();
    assert!(matches!(world.send("t", &["a"]).await, Err(Error::Unavailable { .. })));
    assert!(started.elapsed() < Duration::from_millis(10));
    assert!(world.values("t").await.is_empty());
    assert_eq!(places(&world.send("t", &["b"]).await.unwrap()), [(0, 0)], "and the next one is taken");
}

#[tokio::test(start_paused = true)]
async fn a_store_that_denies_access_refuses_records_at_once_and_takes_the_next_when_it_does_no_longer() {
    let world = World::new().await;
    world.topic("t", 1).await;
    world.objects.every_put(Some(Fault::Denied));
    let started = Instant::now();
    let refused = world.send("t", &["refused"]).await;
    let Err(Error::Unavailable { reason, .. }) = refused else { panic!("{refused:?}") };
    assert_eq!(reason, "the records could not be stored: the object store denies access", "what the store says is not for callers");
    assert!(started.elapsed() < Duration::from_secs(1), "{:?}", started.elapsed());
    assert_eq!(world.objects.fired(), 1, "what is denied is not asked for again");
    world.objects.every_put(None);
    assert_eq!(places(&world.send("t", &["next"]).await.unwrap()), [(0, 0)]);
    assert_eq!(world.values("t").await, ["next"]);
}

#[tokio::test(start_paused = true)]
async fn a_burst_of_refusals_slows_the_uploads_down_once_and_success_brings_them_back() {
    let world = World::with(setup(|ingest| (ingest.target_bytes, ingest.uploads_max) = (1, 8))).await;
    world.topic("t", 1).await;
    world.objects.put_latency(Duration::from_millis(50));
    let many = |count: usize| {
        let world = &world;
        async move {
            let mut begun = Vec::new();
            for _ in 0..count {
                begun.push(world.begin(append("t", vec![record("x")])).await);
            }
            for one in begun {
                one.await.unwrap().unwrap();
            }
            world.objects.most_putting()
        }
    };
    assert_eq!(many(16).await, 8);
    // Eight at once are refused together: that is one sign and leaves four, and eight successes make it five.
    world.objects.order_puts(vec![Some(Fault::Throttle); 8]);
    many(8).await;
    let slowed = many(8).await;
    assert!((5..=6).contains(&slowed), "{slowed}");
    world.objects.every_put(Some(Fault::Throttle));
    let stuck = world.begin(append("t", vec![record("x")])).await;
    tokio::time::sleep(Duration::from_secs(20)).await;
    world.objects.every_put(None);
    stuck.await.unwrap().unwrap();
    world.objects.most_putting();
    assert!(many(2).await <= 2, "after twenty seconds of refusals, as few as can be");
    many(60).await;
    assert_eq!(many(16).await, 8, "as many as before");
    assert_eq!(world.values("t").await.len(), 16 + 8 + 8 + 1 + 2 + 60 + 16);
}

#[tokio::test(start_paused = true)]
async fn one_slow_upload_does_not_hold_up_other_segments() {
    let world = World::new().await;
    world.topic("t", 1).await;
    let gate = Gate::closed();
    world.objects.order_puts([Some(Fault::Hang(Arc::clone(&gate)))]);
    let slow = world.begin(append("t", vec![record("slow")])).await;
    gate.arrived().await;
    assert_eq!(places(&world.send("t", &["quick"]).await.unwrap()), [(0, 0)]);
    assert!(!slow.is_finished());
    gate.open();
    assert_eq!(places(&slow.await.unwrap().unwrap()), [(0, 1)]);
}

#[tokio::test(start_paused = true)]
async fn records_that_arrive_while_enough_uploads_are_under_way_share_a_segment() {
    let world = World::with(setup(|ingest| ingest.uploads_eager = 1)).await;
    world.topic("t", 1).await;
    let gate = Gate::closed();
    world.objects.order_puts([Some(Fault::Hang(Arc::clone(&gate)))]);
    let mut begun = vec![world.begin(append("t", vec![record("first")])).await];
    for i in 0..100 {
        begun.push(world.begin(append("t", vec![record(&i.to_string())])).await);
    }
    gate.open();
    for one in begun {
        one.await.unwrap().unwrap();
    }
    assert_eq!(world.objects.puts(), 2);
}

#[tokio::test(start_paused = true)]
async fn uploads_keep_to_the_burst_and_the_rate() {
    let world = World::with(setup(|ingest| (ingest.puts_per_second, ingest.put_burst) = (Some(10.0), 3))).await;
    world.topic("t", 1).await;
    let (started, mut begun) = (Instant::now(), Vec::new());
    while started.elapsed() < Duration::from_secs(1) {
        begun.push(world.begin(append("t", vec![record("x")])).await);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let puts = world.objects.puts();
    assert!((8..=13).contains(&puts), "{puts} uploads in a second at 10 a second and a burst of 3");
    let count = begun.len();
    for one in begun {
        one.await.unwrap().unwrap();
    }
    assert!(started.elapsed() < Duration::from_millis(1_200));
    assert_eq!(world.values("t").await.len(), count);
}

#[tokio::test(start_paused = true)]
async fn express_records_leave_at_once_whatever_the_rate() {
    let world = World::with(setup(|ingest| (ingest.puts_per_second, ingest.put_burst) = (Some(0.1), 1))).await;
    world.topic("standard", 1).await;
    world.topic_of("express", Urgency::Express).await;
    world.send("standard", &["takes the only token"]).await.unwrap();
    let waiting = world.begin(append("standard", vec![record("waits")])).await;
    assert!(!waiting.is_finished());
    let started = Instant::now();
    world.send("express", &["now"]).await.unwrap();
    assert!(started.elapsed() < Duration::from_millis(10));
    settle().await;
    assert!(waiting.is_finished(), "it rides along");
}

#[tokio::test(start_paused = true)]
async fn economy_records_wait_a_second_at_most_or_ride_along() {
    let world = World::new().await;
    world.topic("standard", 1).await;
    world.topic_of("economy", Urgency::Economy).await;
    let started = Instant::now();
    world.send("economy", &["alone"]).await.unwrap();
    let took = started.elapsed();
    assert!((900..=1_010).contains(&took.as_millis()), "{took:?}");
    let started = Instant::now();
    let waiting = world.begin(append("economy", vec![record("rides")])).await;
    assert!(!waiting.is_finished());
    world.send("standard", &["drives"]).await.unwrap();
    waiting.await.unwrap().unwrap();
    assert!(started.elapsed() < Duration::from_millis(10));
}
