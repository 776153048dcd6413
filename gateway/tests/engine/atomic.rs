//! Appends and cursor moves that happen together or not at all.

use lakefall_queue::error::{Error, Result};
use lakefall_queue::verbs::{Admission, Appended, Commit, CursorMove, Idempotency, TopicAppend, Verbs};
use lakefall_queue::{CursorName, Offset, PartitionIndex};

use crate::support::{World, caller, placed, places, record, topic};

fn to(name: &str, value: &str) -> TopicAppend {
    TopicAppend::new(topic(name), vec![record(value)])
}

fn moved(offset: u64, if_version: Option<u64>) -> CursorMove {
    let cursor = CursorName::new("c").unwrap();
    CursorMove { cursor, topic: topic("in"), offsets: vec![(PartitionIndex(0), Offset(offset))], if_version }
}

async fn commit(world: &World, appends: Vec<TopicAppend>, cursors: Vec<CursorMove>, key: Option<&str>) -> Result<Vec<Appended>> {
    let idempotency = key.map(|key| Idempotency { key: key.into(), fingerprint: 1 });
    world.engine.commit(&caller(), Commit { appends, cursors, settlements: Vec::new(), idempotency, admission: Admission::default() }).await
}

async fn world() -> World {
    let world = World::new().await;
    world.topic("in", 1).await;
    world.topic("a", 1).await;
    world.topic("b", 3).await;
    world.send("in", &["1", "2", "3"]).await.unwrap();
    world
}

async fn cursor(world: &World) -> Option<(u64, u64)> {
    let found = world.engine.get_cursor(&caller(), &CursorName::new("c").unwrap()).await.ok()?;
    Some((found[0].version, found[0].positions[0].offset.0))
}

#[tokio::test(start_paused = true)]
async fn a_commit_appends_to_all_topics_and_moves_its_cursors() {
    let world = world().await;
    let b = TopicAppend::new(topic("b"), vec![placed(2, "x"), placed(0, "y"), placed(2, "z")]);
    let acked = commit(&world, vec![to("a", "v"), b], vec![moved(2, Some(0))], None).await.unwrap();
    assert_eq!(places(&acked[0]), [(0, 0)]);
    assert_eq!(places(&acked[1]), [(2, 0), (0, 0), (2, 1)]);
    assert_eq!(
        (world.values("a").await, world.values("b").await),
        (vec!["v".to_owned()], vec!["y".to_owned(), "x".to_owned(), "z".to_owned()])
    );
    assert_eq!(cursor(&world).await.unwrap().1, 2);
}

#[tokio::test(start_paused = true)]
async fn one_condition_that_fails_leaves_nothing_anywhere() {
    let world = world().await;
    commit(&world, vec![], vec![moved(1, Some(0))], None).await.unwrap();
    let before = cursor(&world).await;
    let mismatch = TopicAppend { expect_offset: Some(Offset(7)), partition: Some(PartitionIndex(1)), ..to("b", "no") };
    let refused = commit(&world, vec![to("a", "no"), mismatch], vec![moved(2, None)], None).await;
    assert_eq!(refused, Err(Error::OffsetMismatch { partition: PartitionIndex(1), expected: Offset(7), end: Offset(0) }));
    let stale = commit(&world, vec![to("a", "no"), to("b", "no")], vec![moved(2, Some(99))], None).await;
    assert!(matches!(stale, Err(Error::VersionMismatch { expected: 99, .. })), "{stale:?}");
    let beyond = commit(&world, vec![to("a", "no")], vec![moved(1_000, None)], None).await;
    assert!(matches!(beyond, Err(Error::Invalid { .. })), "{beyond:?}");
    assert!(world.values("a").await.is_empty() && world.values("b").await.is_empty());
    assert_eq!(cursor(&world).await, before);
}

#[tokio::test(start_paused = true)]
async fn a_commit_of_cursors_only_stores_no_object_and_a_repeated_one_is_replayed() {
    let world = world().await;
    let puts = world.objects.puts();
    commit(&world, vec![], vec![moved(1, Some(0))], Some("key")).await.unwrap();
    commit(&world, vec![], vec![moved(1, Some(0))], Some("key")).await.unwrap();
    assert_eq!(cursor(&world).await.unwrap().1, 1);
    assert!(matches!(commit(&world, vec![], vec![moved(2, Some(0))], None).await, Err(Error::VersionMismatch { .. })));
    assert_eq!(world.objects.puts(), puts);
}

#[tokio::test(start_paused = true)]
async fn a_repeated_commit_gets_the_first_answer() {
    let world = world().await;
    let b = || TopicAppend::new(topic("b"), vec![placed(2, "x"), placed(0, "y"), placed(2, "z")]);
    let first = commit(&world, vec![to("a", "v"), b()], vec![moved(2, None)], Some("key")).await.unwrap();
    world.send("a", &["between"]).await.unwrap();
    let again = commit(&world, vec![to("a", "v"), b()], vec![moved(2, None)], Some("key")).await.unwrap();
    assert_eq!(again.iter().map(places).collect::<Vec<_>>(), first.iter().map(places).collect::<Vec<_>>());
    assert_eq!(world.values("a").await, ["v", "between"]);
}

#[tokio::test(start_paused = true)]
async fn the_winners_of_racing_read_process_write_loops_are_stored_exactly_once() {
    let world = world().await;
    let racing = (0..10).map(|i| {
        let (world, value) = (&world, i.to_string());
        async move { commit(world, vec![to("a", &value)], vec![moved(3, Some(0))], None).await }
    });
    let won = futures::future::join_all(racing).await.into_iter().filter(Result::is_ok).count();
    assert_eq!(won, 1);
    assert_eq!(world.values("a").await.len(), 1);
}
