//! Pipelined streams: their batches commit in order, and nothing of them after a refusal.

use std::sync::Arc;

use lakefall_queue::error::Error;
use lakefall_queue::verbs::{Append, OrderToken, TopicAppend, Verbs};
use lakefall_queue::{Offset, Record};

use crate::support::faults::{Fault, Gate};
use crate::support::{Setup, World, append, append_of, placed, places, record, settle, topic};

fn streamed(token: OrderToken, records: Vec<Record>) -> Append {
    Append { order: Some(token), ..append("t", records) }
}

#[tokio::test(start_paused = true)]
async fn a_streams_batches_commit_in_order_though_the_first_upload_is_slow() {
    let world = World::new().await;
    world.topic("t", 1).await;
    let (token, gate) = (world.engine.open_stream(), Gate::closed());
    world.objects.order_puts([Some(Fault::Hang(Arc::clone(&gate)))]);
    let first = world.begin(streamed(token, vec![record("1")])).await;
    gate.arrived().await;
    let second = world.begin(streamed(token, vec![record("2")])).await;
    let third = world.begin(streamed(token, vec![record("3")])).await;
    assert_eq!(world.objects.puts(), 3, "they are uploaded at once");
    world.send("t", &["other"]).await.unwrap();
    assert!(!second.is_finished() && !third.is_finished());
    assert_eq!(world.values("t").await, ["other"]);
    gate.open();
    for (place, one) in [first, second, third].into_iter().enumerate() {
        assert_eq!(places(&one.await.unwrap().unwrap()), [(0, place as u64 + 1)]);
    }
    assert_eq!(world.values("t").await, ["other", "1", "2", "3"]);
}

#[tokio::test(start_paused = true)]
async fn when_the_first_is_refused_the_later_ones_of_the_stream_are_and_others_in_their_segment_are_not() {
    let mut setup = Setup::default();
    setup.ingest.uploads_eager = 1;
    let world = World::with(setup).await;
    world.topic("t", 1).await;
    let (token, gate) = (world.engine.open_stream(), Gate::closed());
    world.objects.order_puts([Some(Fault::Hang(Arc::clone(&gate)))]);
    // Refused by the ledger: the partition ends elsewhere.
    let wrong = TopicAppend { expect_offset: Some(Offset(77)), ..TopicAppend::new(topic("t"), vec![record("1")]) };
    let first = world.begin(Append { order: Some(token), ..append_of(wrong) }).await;
    gate.arrived().await;
    let second = world.begin(streamed(token, vec![record("2")])).await;
    let other = world.begin(append("t", vec![record("other")])).await;
    gate.open();
    assert!(matches!(first.await.unwrap(), Err(Error::OffsetMismatch { .. })));
    assert_eq!(second.await.unwrap(), Err(Error::StreamPoisoned));
    other.await.unwrap().unwrap();
    assert_eq!(world.objects.puts(), 2, "both in one segment");
    assert!(matches!(world.append(streamed(token, vec![record("3")])).await, Err(Error::StreamPoisoned)));
    assert_eq!(world.values("t").await, ["other"]);
}

#[tokio::test(start_paused = true)]
async fn a_stream_whose_upload_was_refused_stores_nothing_more() {
    let world = World::new().await;
    world.topic("t", 1).await;
    let (token, gate) = (world.engine.open_stream(), Gate::closed());
    world.objects.order_puts([Some(Fault::Full), Some(Fault::Hang(Arc::clone(&gate)))]);
    let first = world.begin(streamed(token, vec![record("1")])).await;
    let second = world.append(streamed(token, vec![record("2")]));
    gate.open();
    assert!(matches!(first.await.unwrap(), Err(Error::Unavailable { .. })));
    assert_eq!(second.await, Err(Error::StreamPoisoned));
    assert!(world.values("t").await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn nothing_after_a_refusal_is_stored_also_in_the_same_segment() {
    let world = World::new().await;
    world.topic("t", 1).await;
    let token = world.engine.open_stream();
    let wrong = TopicAppend { expect_offset: Some(Offset(77)), ..TopicAppend::new(topic("t"), vec![record("1")]) };
    let first = world.append(Append { order: Some(token), ..append_of(wrong) });
    let second = world.append(streamed(token, vec![record("2")]));
    let (first, second) = tokio::join!(first, second);
    assert!(matches!(first, Err(Error::OffsetMismatch { .. })));
    assert_eq!(second, Err(Error::StreamPoisoned));
    settle().await;
    assert!(world.values("t").await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_streams_batches_of_one_moment_share_a_segment_in_order() {
    let world = World::new().await;
    world.topic("t", 1).await;
    let token = world.engine.open_stream();
    let sent = (0..50).map(|i| world.append(streamed(token, vec![record(&i.to_string())])));
    for (i, acked) in futures::future::join_all(sent).await.into_iter().enumerate() {
        assert_eq!(places(&acked.unwrap()), [(0, i as u64)]);
    }
    assert_eq!(world.objects.puts(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_is_refused_on_the_way_in_stops_its_stream_too() {
    let world = World::new().await;
    world.topic("t", 1).await;
    let token = world.engine.open_stream();
    let astray = world.begin(streamed(token, vec![placed(7, "1")])).await;
    let next = world.begin(streamed(token, vec![record("2")])).await;
    assert!(matches!(astray.await.unwrap(), Err(Error::PartitionNotFound { .. })));
    assert_eq!(next.await.unwrap(), Err(Error::StreamPoisoned));
    world.append(streamed(world.engine.open_stream(), vec![record("another stream")])).await.unwrap();
    assert_eq!(world.values("t").await, ["another stream"]);
}
