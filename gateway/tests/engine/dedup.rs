//! Records with a `dedup_id` are stored once in the topic's window, however they come again.

use lakefall_queue::Record;
use lakefall_queue::record::Properties;
use lakefall_queue::verbs::{Append, Verbs};

use crate::support::{Setup, World, append, places, record};

fn once(id: &str, value: &str) -> Record {
    Record { properties: Some(Box::new(Properties { dedup_id: Some(id.into()), ..Properties::default() })), ..record(value) }
}

#[tokio::test(start_paused = true)]
async fn a_duplicate_in_the_same_request_is_answered_with_the_firsts_place() {
    let world = World::new().await;
    world.topic("t", 1).await;
    let acked = world.append(append("t", vec![once("a", "1"), once("b", "2"), once("a", "3"), record("4")])).await.unwrap();
    assert_eq!(places(&acked), [(0, 0), (0, 1), (0, 0), (0, 2)]);
    let duplicates: Vec<bool> = acked.ranges.iter().map(|range| range.duplicate).collect();
    assert_eq!(duplicates, [false, true, false]);
    assert_eq!(world.values("t").await, ["1", "2", "4"]);
}

#[tokio::test(start_paused = true)]
async fn duplicates_across_requests_also_in_part_of_a_batch_are_stored_once() {
    let world = World::new().await;
    world.topic("t", 1).await;
    world.append(append("t", vec![once("a", "a"), once("b", "b")])).await.unwrap();
    let again = world.append(append("t", vec![once("b", "b"), once("a", "a")])).await.unwrap();
    assert_eq!(places(&again), [(0, 1), (0, 0)]);
    let mixed = world.append(append("t", vec![once("c", "c"), once("a", "a"), once("d", "d")])).await.unwrap();
    assert_eq!(places(&mixed), [(0, 2), (0, 0), (0, 3)]);
    assert_eq!(world.values("t").await, ["a", "b", "c", "d"]);
}

#[tokio::test(start_paused = true)]
async fn duplicates_in_another_partition_are_found() {
    let world = World::new().await;
    world.topic("t", 3).await;
    let at = |partition: u32, id: &str| Record { partition: Some(lakefall_queue::PartitionIndex(partition)), ..once(id, id) };
    let first = world.append(append("t", vec![at(2, "x")])).await.unwrap();
    let mixed = world.append(append("t", vec![at(0, "y"), at(1, "x"), at(2, "z")])).await.unwrap();
    assert_eq!(places(&mixed), [(0, 0), places(&first)[0], (2, 1)]);
    assert_eq!(world.values("t").await, ["y", "x", "z"]);
}

#[tokio::test(start_paused = true)]
async fn duplicates_in_any_partition_of_an_atomic_request_are_answered_and_the_rest_is_stored() {
    let world = World::new().await;
    world.topic("t", 12).await;
    let at = |partition: u32, id: &str| Record { partition: Some(lakefall_queue::PartitionIndex(partition)), ..once(id, id) };
    let old: Vec<Record> = (0..12).map(|p| at(p, &format!("old-{p}"))).collect();
    world.append(append("t", old.clone())).await.unwrap();
    let new: Vec<Record> = (0..12).map(|p| at(p, &format!("new-{p}"))).collect();
    let both: Vec<Record> = old.into_iter().rev().zip(new).flat_map(|(old, new)| [new, old]).collect();
    let acked = world.append(Append { atomic: true, ..append("t", both.clone()) }).await.unwrap();
    let expected: Vec<(u32, u64)> = (0..12).flat_map(|p| [(p, 1), (11 - p, 0)]).collect();
    assert_eq!(places(&acked), expected);
    let again = world.append(Append { atomic: true, ..append("t", both) }).await.unwrap();
    assert_eq!(places(&again), expected);
    assert_eq!(world.values("t").await.len(), 24);
}

#[tokio::test(start_paused = true)]
async fn duplicates_at_the_same_moment_are_stored_once() {
    for target_bytes in [4 << 20, 1] {
        let mut setup = Setup::default();
        setup.ingest.target_bytes = target_bytes;
        let world = World::with(setup).await;
        world.topic("t", 1).await;
        let racing = (0..8).map(|i| {
            let own = format!("own-{i}");
            world.append(append("t", vec![once("a", "a"), once(&own, &own), once("b", "b")]))
        });
        let answers = futures::future::join_all(racing).await;
        let answers: Vec<_> = answers.into_iter().map(|a| places(&a.unwrap())).collect();
        assert!(answers.iter().all(|a| a[0] == answers[0][0] && a[2] == answers[0][2]), "{answers:?}");
        assert_eq!(world.values("t").await.len(), 10);
    }
}

#[tokio::test(start_paused = true)]
async fn a_pipelined_stream_that_is_sent_again_in_other_batches_stores_the_rest_once_and_in_order() {
    for batch in [1, 3, 4, 7] {
        let world = World::new().await;
        world.topic("t", 1).await;
        let ids: Vec<String> = (0..20).map(|i| i.to_string()).collect();
        let before = ids[..10].chunks(5).map(|ids| world.append(append("t", ids.iter().map(|id| once(id, id)).collect())));
        futures::future::join_all(before).await.into_iter().for_each(|acked| drop(acked.unwrap()));
        let order = Some(world.engine.open_stream());
        let again = ids.chunks(batch).map(|ids| world.append(Append { order, ..append("t", ids.iter().map(|id| once(id, id)).collect()) }));
        let acked = futures::future::join_all(again).await;
        let acked: Vec<_> = acked.into_iter().flat_map(|acked| places(&acked.unwrap())).collect();
        assert_eq!(acked, (0..20).map(|i| (0, i)).collect::<Vec<_>>(), "batches of {batch}");
        assert_eq!(world.values("t").await, ids);
    }
}
