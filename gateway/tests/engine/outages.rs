//! Records on their way in while the metadata service is away, or refuses a whole segment.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use lakefall_queue::ShardId;
use lakefall_queue::error::Error;
use lakefall_queue::ledger::Command;
use lakefall_queue::verbs::{Append, Verbs};
use tokio::time::Instant;

use crate::support::metadata::Mood;
use crate::support::{Setup, World, append, caller, places, record, settle};

#[tokio::test(start_paused = true)]
async fn while_commits_hang_the_buffer_fills_then_producers_are_refused_and_what_was_taken_is_stored_once() {
    let mut setup = Setup::default();
    (setup.ingest.buffer_bytes, setup.ingest.admission_wait) = (64 << 10, Duration::from_millis(200));
    let world = Arc::new(World::with(setup).await);
    world.topic("t", 1).await;
    world.send("t", &["before"]).await.unwrap();
    world.metadata.be(Mood::Silent);
    let producers = (0..200).map(|i: u64| {
        let world = Arc::clone(&world);
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(100 * i)).await;
            let started = Instant::now();
            let admission = match world.engine.admit(&caller(), 1 << 10).await {
                Ok(admission) => admission,
                Err(error) => {
                    assert!(matches!(&error, Error::Unavailable { retry_after, .. } if !retry_after.is_zero()), "{error:?}");
                    assert!(started.elapsed() <= Duration::from_millis(210), "refused quickly");
                    return None;
                }
            };
            let value = i.to_string();
            let acked = world.append(Append { admission, ..append("t", vec![record(&value)]) }).await;
            Some((value, places(&acked.unwrap())[0].1))
        })
    });
    let producers: Vec<_> = producers.collect();
    tokio::time::sleep(Duration::from_secs(30)).await;
    let attempts = world.metadata.commits().len();
    world.metadata.be(Mood::Serving);
    let answers: Vec<_> = join_all(producers).await.into_iter().map(Result::unwrap).collect();
    let acked: BTreeSet<(u64, String)> = answers.iter().flatten().map(|(value, offset)| (*offset, value.clone())).collect();
    assert_eq!(acked.len(), 64, "as many as the buffer holds");
    assert!(attempts <= 66, "{attempts} attempts: one for each segment, which hang");
    let found = crate::support::all(&world.engine, "t").await;
    let found: BTreeSet<(u64, String)> =
        found.iter().zip(crate::support::values(&found)).skip(1).map(|(r, value)| (r.offset.0, value)).collect();
    assert_eq!(found, acked, "each once, where its answer says");
    drop(world.engine.admit(&caller(), 64 << 10).await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_commit_that_is_never_answered_is_unknown_after_a_minute_and_one_that_is_refused_was_not_applied() {
    for (mood, unknown) in [(Mood::Silent, true), (Mood::Refusing, false)] {
        let world = World::new().await;
        world.topic("t", 1).await;
        world.send("t", &["known"]).await.unwrap();
        world.metadata.be(mood);
        let started = Instant::now();
        let answer = world.send("t", &["a"]).await;
        match answer {
            Err(Error::Unknown { .. }) => assert!(unknown),
            Err(Error::Unavailable { .. }) => assert!(!unknown),
            other => panic!("{other:?}"),
        }
        assert!((59..=61).contains(&started.elapsed().as_secs()), "{mood:?}: {:?}", started.elapsed());
        world.metadata.be(Mood::Serving);
        world.send("t", &["b"]).await.unwrap();
        let values = world.values("t").await;
        assert_eq!(values.last().unwrap(), "b");
        assert!(values.len() == 2 || unknown, "{values:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_topic_that_is_not_remembered_is_refused_quickly_while_the_metadata_service_is_silent() {
    let world = World::new().await;
    world.topic("t", 1).await;
    world.metadata.be(Mood::Silent);
    let started = Instant::now();
    assert!(matches!(world.send("t", &["a"]).await, Err(Error::Unavailable { .. })));
    assert!(started.elapsed() < Duration::from_secs(9));
}

#[tokio::test(start_paused = true)]
async fn while_commits_hang_many_small_requests_gather_in_few_segments() {
    let world = Arc::new(World::new().await);
    world.topic("t", 1).await;
    world.send("t", &["before"]).await.unwrap();
    world.metadata.be(Mood::Silent);
    let mut begun = Vec::new();
    for i in 0..2_000 {
        begun.push(world.begin(append("t", vec![record(&i.to_string())])).await);
    }
    let puts = world.objects.puts();
    assert!(puts <= 130, "{puts} segments");
    world.metadata.be(Mood::Serving);
    for one in begun {
        one.await.unwrap().unwrap();
    }
    assert_eq!(world.values("t").await.len(), 2_001);
    assert!(world.objects.puts() <= 140, "{}", world.objects.puts());
}

#[tokio::test(start_paused = true)]
async fn a_segment_that_was_swept_before_its_commit_is_refused_whole_and_its_streams_stop() {
    let world = World::new().await;
    world.topic("t", 2).await;
    world.send("t", &["before"]).await.unwrap();
    world.metadata.be(Mood::Silent);
    let token = world.engine.open_stream();
    let plain = world.begin(append("t", vec![record("plain")])).await;
    let streamed = world.begin(Append { order: Some(token), ..append("t", vec![record("streamed")]) }).await;
    let atomic =
        world.begin(Append { atomic: true, ..append("t", vec![crate::support::placed(0, "x"), crate::support::placed(1, "y")]) }).await;
    let segments: BTreeSet<_> = world.metadata.commits().into_iter().skip(1).collect();
    assert!(!segments.is_empty());
    let sweep = Command::RefuseSegments { segments: segments.into_iter().collect() };
    world.metadata.node.execute(ShardId(0), sweep).await.unwrap();
    world.metadata.be(Mood::Serving);
    for refused in [plain, streamed, atomic] {
        assert!(matches!(refused.await.unwrap(), Err(Error::Unavailable { .. })));
    }
    let next = Append { order: Some(token), ..append("t", vec![record("streamed later")]) };
    assert_eq!(world.append(next).await, Err(Error::StreamPoisoned));
    world.send("t", &["after"]).await.unwrap();
    settle().await;
    let mut values = world.values("t").await;
    values.sort();
    assert_eq!(values, ["after", "before"]);
}

#[tokio::test(start_paused = true)]
async fn a_gateway_whose_clock_is_far_behind_is_refused_and_loses_nothing() {
    let world = World::new().await;
    world.topic("t", 1).await;
    let late = world.engine_with_clock(-3_600).await;
    let refused = late.append(&caller(), append("t", vec![record("late")])).await;
    assert!(matches!(refused, Err(Error::Unavailable { .. })), "{refused:?}");
    assert_eq!(places(&world.send("t", &["on time"]).await.unwrap()), [(0, 0)]);
    assert_eq!(world.values("t").await, ["on time"]);
}
