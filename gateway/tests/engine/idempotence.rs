//! Requests that are repeated, and writers that must not both write.

use lakefall_queue::error::Error;
use lakefall_queue::verbs::{Append, Idempotency, ProducerStamp, TopicAppend};
use lakefall_queue::{Offset, PartitionIndex, Record};

use crate::support::{World, append, append_of, keyed, places, record, topic};

fn stamped(epoch: u32, sequence: u64, values: &[&str]) -> Append {
    let batch = TopicAppend::new(topic("t"), values.iter().map(|v| record(v)).collect());
    let producer = Some(ProducerStamp { id: "p".into(), epoch, sequence });
    append_of(TopicAppend { producer, partition: Some(PartitionIndex(0)), ..batch })
}

fn once(key: &str, fingerprint: u128, records: Vec<Record>) -> Append {
    Append { idempotency: Some(Idempotency { key: key.into(), fingerprint }), ..append("t", records) }
}

#[tokio::test(start_paused = true)]
async fn an_idempotent_producers_retried_batch_gets_its_first_offsets() {
    let world = World::new().await;
    world.topic("t", 1).await;
    assert_eq!(places(&world.append(stamped(0, 0, &["a", "b"])).await.unwrap()), [(0, 0), (0, 1)]);
    assert_eq!(places(&world.append(stamped(0, 2, &["c"])).await.unwrap()), [(0, 2)]);
    let again = world.append(stamped(0, 0, &["a", "b"])).await.unwrap();
    assert_eq!(places(&again), [(0, 0), (0, 1)]);
    assert!(again.ranges[0].duplicate);
    assert_eq!(world.values("t").await, ["a", "b", "c"]);
}

#[tokio::test(start_paused = true)]
async fn a_producers_gap_is_refused_and_its_older_instance_is_fenced() {
    let world = World::new().await;
    world.topic("t", 1).await;
    world.append(stamped(1, 0, &["a"])).await.unwrap();
    assert_eq!(world.append(stamped(1, 5, &["b"])).await, Err(Error::SequenceGap { sequence: 5, expected: 1 }));
    world.append(stamped(2, 0, &["c"])).await.unwrap();
    assert_eq!(world.append(stamped(1, 1, &["d"])).await, Err(Error::ProducerFenced { epoch: 1, current: 2 }));
    assert_eq!(world.values("t").await, ["a", "c"]);
}

#[tokio::test(start_paused = true)]
async fn an_idempotent_producers_pipelined_batches_keep_their_order_over_slow_uploads() {
    use crate::support::faults::{Fault, Gate};
    let world = World::new().await;
    world.topic("t", 1).await;
    let gate = Gate::closed();
    world.objects.order_puts([Some(Fault::Hang(gate.clone()))]);
    let first = world.begin(stamped(0, 0, &["a"])).await;
    let second = world.begin(stamped(0, 1, &["b"])).await;
    assert!(!second.is_finished());
    gate.open();
    assert_eq!(places(&first.await.unwrap().unwrap()), [(0, 0)]);
    assert_eq!(places(&second.await.unwrap().unwrap()), [(0, 1)]);
}

#[tokio::test(start_paused = true)]
async fn a_conditional_append_that_finds_another_end_tells_it() {
    let world = World::new().await;
    world.topic("t", 1).await;
    let expecting =
        |end, value| append_of(TopicAppend { expect_offset: Some(Offset(end)), ..TopicAppend::new(topic("t"), vec![record(value)]) });
    world.append(expecting(0, "a")).await.unwrap();
    let refused = world.append(expecting(0, "b")).await;
    assert_eq!(refused, Err(Error::OffsetMismatch { partition: PartitionIndex(0), expected: Offset(0), end: Offset(1) }));
    // Of many at one moment, in one segment or in several, one wins.
    let racing = (0..20).map(|i| world.append(expecting(1, if i % 2 == 0 { "even" } else { "odd" })));
    let won = futures::future::join_all(racing).await.into_iter().filter(Result::is_ok).count();
    assert_eq!(won, 1);
    assert_eq!(world.values("t").await.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn an_older_fencing_token_is_refused_by_its_partition() {
    let world = World::new().await;
    world.topic("t", 2).await;
    let fenced = |partition, token| {
        let batch = TopicAppend::new(topic("t"), vec![record("x")]);
        append_of(TopicAppend { fencing_token: Some(token), partition: Some(PartitionIndex(partition)), ..batch })
    };
    world.append(fenced(0, 5)).await.unwrap();
    world.append(fenced(0, 5)).await.unwrap();
    assert_eq!(world.append(fenced(0, 4)).await, Err(Error::Fenced { token: 4, current: 5 }));
    world.append(fenced(1, 4)).await.unwrap();
    let two = TopicAppend { fencing_token: Some(9), ..TopicAppend::new(topic("t"), (0..20).map(|i| keyed(&i.to_string(), "x")).collect()) };
    assert!(matches!(world.append(append_of(two)).await, Err(Error::Invalid { .. })), "it holds for one partition");
}

#[tokio::test(start_paused = true)]
async fn a_repeated_idempotency_key_replays_the_first_answer_over_all_partitions() {
    let world = World::new().await;
    world.topic("t", 4).await;
    let records = || (0..40).map(|i| keyed(&format!("k{}", i * 7 % 11), &i.to_string())).collect::<Vec<_>>();
    let first = world.append(once("key", 1, records())).await.unwrap();
    assert!(first.ranges.len() > 4, "interleaved");
    world.send("t", &["between"]).await.unwrap();
    let again = world.append(once("key", 1, records())).await.unwrap();
    assert_eq!(places(&again), places(&first));
    assert!(again.ranges.iter().all(|range| range.duplicate) && first.ranges.iter().all(|range| !range.duplicate));
    assert_eq!(world.values("t").await.len(), 41);
    // Without keys and partitions the choice follows the idempotency key.
    let first = world.append(once("other", 1, vec![record("x")])).await.unwrap();
    assert_eq!(places(&world.append(once("other", 1, vec![record("x")])).await.unwrap()), places(&first));
}

#[tokio::test(start_paused = true)]
async fn an_idempotency_key_of_another_request_is_a_conflict() {
    let world = World::new().await;
    world.topic("t", 1).await;
    world.append(once("key", 1, vec![record("a")])).await.unwrap();
    assert_eq!(world.append(once("key", 2, vec![record("b")])).await, Err(Error::IdempotencyConflict));
    assert_eq!(world.values("t").await, ["a"]);
}

#[tokio::test(start_paused = true)]
async fn duplicates_of_one_request_at_the_same_moment_are_stored_once() {
    for target_bytes in [4 << 20, 1] {
        let mut setup = crate::support::Setup::default();
        setup.ingest.target_bytes = target_bytes;
        let world = World::with(setup).await;
        world.topic("t", 3).await;
        let records = || (0..10).map(|i| keyed(&i.to_string(), "v")).collect::<Vec<_>>();
        let racing = (0..10).map(|_| world.append(once("key", 1, records())));
        let answers: Vec<_> = futures::future::join_all(racing).await.into_iter().map(|a| places(&a.unwrap())).collect();
        assert!(answers.iter().all(|answer| *answer == answers[0]));
        assert_eq!(world.values("t").await.len(), 10);
    }
}

#[tokio::test(start_paused = true)]
async fn an_atomic_request_is_stored_in_all_partitions_or_in_none() {
    let world = World::new().await;
    world.topic("t", 3).await;
    let records = (0..9).map(|i| crate::support::placed(i % 3, &i.to_string())).collect();
    let acked = world.append(Append { atomic: true, ..append("t", records) }).await.unwrap();
    assert_eq!(places(&acked), [(0, 0), (1, 0), (2, 0), (0, 1), (1, 1), (2, 1), (0, 2), (1, 2), (2, 2)]);
}
