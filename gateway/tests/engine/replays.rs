//! Replays: what is copied, that it is copied once whatever happens, and what is refused.

use std::time::Duration;

use bytes::Bytes;
use lakefall_gateway::Engine;
use lakefall_metadata::memory::Fault as JournalFault;
use lakefall_queue::error::Error;
use lakefall_queue::queue::{Operation, OperationStatus, Overflow, QueueConfig};
use lakefall_queue::record::{Header, Properties};
use lakefall_queue::replay::{Replay, ReplayEnd, ReplaySource, ReplayStart, ReplayTarget};
use lakefall_queue::sql::SqlRefusal;
use lakefall_queue::verbs::{Precondition, Verbs};
use lakefall_queue::{CursorName, Offset, PartitionIndex, Record, ReplayName, StoredRecord, Timestamp, ValueKind};

use crate::support::messages::queue;
use crate::support::metadata::Mood;
use crate::support::{START, World, all, append, caller, keyed, placed, topic};

/// All of topic `in`, to topic `out`.
fn whole() -> Replay {
    let from = ReplaySource {
        topic: topic("in"),
        start: ReplayStart::Earliest,
        end: ReplayEnd::Latest,
        partition: None,
        key: None,
        filter: None,
        predicate: None,
    };
    let name = ReplayName::new("again").unwrap();
    Replay { name, from, to: ReplayTarget::Topic(topic("out")), max_per_second: None, dry_run: false }
}

fn part(change: impl FnOnce(&mut ReplaySource)) -> Replay {
    let mut replay = whole();
    change(&mut replay.from);
    replay
}

async fn world(partitions: u32) -> World {
    let world = World::new().await;
    world.topic("in", partitions).await;
    world.topic("out", 1).await;
    world
}

/// With the numbers below `count` in topic `in`.
async fn counted(count: u64) -> World {
    let world = world(1).await;
    send(&world, 0, count).await;
    world
}

async fn send(world: &World, from: u64, until: u64) {
    let number = |n: u64| Record { kind: ValueKind::Json, ..keyed(&format!("k{}", n % 3), &n.to_string()) };
    world.append(append("in", (from..until).map(number).collect())).await.unwrap();
}

fn numbers(range: impl IntoIterator<Item = u64>) -> Vec<String> {
    range.into_iter().map(|n| n.to_string()).collect()
}

async fn ended(engine: &Engine, started: &Operation) -> Operation {
    for _ in 0..10_000 {
        let operation = engine.operation(&caller(), &started.id).await.unwrap();
        if operation.status != OperationStatus::Running {
            return operation;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("it does not end");
}

async fn replayed(world: &World, replay: Replay) -> Operation {
    let started = world.engine.replay(&caller(), replay).await.unwrap();
    ended(&world.engine, &started).await
}

fn counts(operation: &Operation) -> (OperationStatus, u64, u64) {
    (operation.status, operation.done, operation.skipped)
}

async fn refused(world: &World, replay: Replay) -> Error {
    world.engine.replay(&caller(), replay).await.unwrap_err()
}

fn text(record: &StoredRecord, name: &str) -> String {
    let header = record.headers.iter().find(|header| &*header.name == name).unwrap();
    String::from_utf8(header.value.clone().unwrap().to_vec()).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_copy_is_the_record_with_its_origin_and_without_what_was_said_of_delivery() {
    let world = world(2).await;
    let sent = Record {
        headers: vec![Header { name: "h".into(), value: Some(Bytes::from_static(b"kept")) }],
        timestamp: Some(Timestamp::from_millis(1_600_000_000_000)),
        partition: Some(PartitionIndex(1)),
        properties: Some(Box::new(Properties {
            ordering_key: Some("order".into()),
            dedup_id: Some("once".into()),
            deliver_at: Some(START.plus(Duration::from_secs(3_600))),
            ..Properties::default()
        })),
        kind: ValueKind::Json,
        ..keyed("k", "7")
    };
    world.append(append("in", vec![sent])).await.unwrap();
    let tombstone = Record { value: None, partition: Some(PartitionIndex(1)), ..keyed("k", "") };
    world.append(append("in", vec![tombstone])).await.unwrap();
    assert_eq!(counts(&replayed(&world, whole()).await), (OperationStatus::Succeeded, 2, 0));
    let copies = all(&world.engine, "out").await;
    let copy = &copies[0];
    assert_eq!((copy.key.as_deref(), copy.value.as_deref(), copy.kind), (Some(&b"k"[..]), Some(&b"7"[..]), ValueKind::Json));
    assert_eq!(copy.timestamp, Timestamp::from_millis(1_600_000_000_000));
    let told: Vec<String> = ["h", "replay-topic", "replay-partition", "replay-offset"].map(|name| text(copy, name)).into();
    assert_eq!(told, ["kept", "in", "1", "0"]);
    let properties = copy.properties.as_ref().unwrap();
    assert_eq!((properties.ordering_key.as_deref(), &properties.dedup_id, properties.deliver_at), (Some("order"), &None, None));
    assert_eq!((copies[1].value.as_ref(), text(&copies[1], "replay-offset").as_str()), (None, "1"));
    // A copy of the copy tells where it was copied from last.
    world.topic("third", 1).await;
    let mut further = part(|from| from.topic = topic("out"));
    further.to = ReplayTarget::Topic(topic("third"));
    assert_eq!(counts(&replayed(&world, further).await), (OperationStatus::Succeeded, 2, 0));
    let copies = all(&world.engine, "third").await;
    assert_eq!((text(&copies[0], "replay-topic").as_str(), copies[0].headers.len()), ("out", 4));
}

#[tokio::test(start_paused = true)]
async fn a_range_is_copied_by_offset_and_by_time() {
    let world = counted(10).await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    send(&world, 10, 20).await;
    let middle = START.plus(Duration::from_secs(5));
    for (name, start, end, expected) in [
        ("a", ReplayStart::Offset(Offset(3)), ReplayEnd::Offset(Offset(6)), 3..6),
        ("b", ReplayStart::Timestamp(middle), ReplayEnd::Latest, 10..20),
        ("c", ReplayStart::Earliest, ReplayEnd::Timestamp(middle), 0..10),
        ("d", ReplayStart::Offset(Offset(20)), ReplayEnd::Offset(Offset(20)), 0..0),
        ("e", ReplayStart::Offset(Offset(15)), ReplayEnd::Timestamp(middle), 0..0),
    ] {
        world.topic(name, 1).await;
        let mut replay = part(|from| (from.start, from.end) = (start, end));
        (replay.name, replay.to) = (ReplayName::new(name).unwrap(), ReplayTarget::Topic(topic(name)));
        let operation = replayed(&world, replay).await;
        assert_eq!(counts(&operation), (OperationStatus::Succeeded, expected.end - expected.start, 0), "{name}: {operation:?}");
        assert_eq!(world.values(name).await, numbers(expected), "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn partitions_are_copied_in_their_order_and_one_can_be_named() {
    let world = world(3).await;
    world.topic("two", 2).await;
    let records = (0..30_u32).map(|n| placed(n % 3, &n.to_string())).collect();
    world.append(append("in", records)).await.unwrap();
    let mut replay = whole();
    replay.to = ReplayTarget::Topic(topic("two"));
    assert_eq!(counts(&replayed(&world, replay).await), (OperationStatus::Succeeded, 30, 0));
    let copies = all(&world.engine, "two").await;
    for partition in ["0", "1", "2"] {
        let offsets = copies.iter().filter(|copy| text(copy, "replay-partition") == partition).map(|copy| text(copy, "replay-offset"));
        assert_eq!(offsets.collect::<Vec<_>>(), numbers(0..10), "partition {partition}");
    }
    let only = part(|from| from.partition = Some(PartitionIndex(2)));
    assert_eq!(
        counts(&replayed(&world, Replay { name: ReplayName::new("one").unwrap(), ..only }).await),
        (OperationStatus::Succeeded, 10, 0)
    );
    assert_eq!(world.values("out").await, numbers((0..30).filter(|n| n % 3 == 2)));
}

#[tokio::test(start_paused = true)]
async fn a_key_and_an_expression_say_what_is_copied_and_a_dry_run_only_counts() {
    let world = counted(30).await;
    let some = |dry_run| {
        let filter = "value >= 10".into();
        Replay { dry_run, ..part(|from| (from.key, from.filter) = (Some("k1".into()), Some(filter))) }
    };
    assert_eq!(counts(&replayed(&world, some(true)).await), (OperationStatus::Succeeded, 7, 23));
    assert!(world.values("out").await.is_empty());
    assert_eq!(counts(&replayed(&world, some(false)).await), (OperationStatus::Succeeded, 7, 23));
    assert_eq!(world.values("out").await, numbers((10..30).filter(|n| n % 3 == 1)));
}

#[tokio::test]
async fn a_predicate_in_sql_says_what_is_copied() {
    let world = world(2).await;
    let records = (0..40_u32).map(|n| Record { kind: ValueKind::Json, ..placed(n % 2, &n.to_string()) }).collect();
    world.append(append("in", records)).await.unwrap();
    let some = part(|from| from.predicate = Some("_offset % 5 = 0 OR _partition = 1 AND _offset = 7 -- and no more".into()));
    let operation = replayed(&world, some).await;
    assert_eq!(counts(&operation), (OperationStatus::Succeeded, 9, 31), "{operation:?}");
    assert_eq!(world.values("out").await, numbers([0, 10, 20, 30, 1, 11, 15, 21, 31]));
    for (wrong, told) in
        [("", "/from/where"), ("true) OR (true", "end of the predicate"), ("nowhere = 1", "nowhere"), ("1 = 1 ORDER BY 1", "predicate")]
    {
        let refused = refused(&world, part(|from| from.predicate = Some(wrong.into()))).await;
        let Error::Sql(SqlRefusal::Invalid { reason, .. }) = &refused else { panic!("{wrong}: {refused:?}") };
        assert!(reason.contains(told), "{wrong}: {reason}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_replay_ends_where_the_topic_ended_when_it_began_and_copies_nothing_twice() {
    let world = counted(10).await;
    assert_eq!(counts(&replayed(&world, whole()).await), (OperationStatus::Succeeded, 10, 0));
    send(&world, 10, 20).await;
    assert_eq!(counts(&replayed(&world, whole()).await), (OperationStatus::Succeeded, 0, 0));
    assert_eq!(world.values("out").await, numbers(0..10));
    let another = part(|from| from.key = Some("k1".into()));
    assert!(matches!(refused(&world, another.clone()).await, Error::ReplayConflict { .. }), "its name is taken");
    let progress = CursorName::new("replay.again").unwrap();
    world.engine.delete_cursor(&caller(), &progress, None).await.unwrap();
    assert_eq!(counts(&replayed(&world, another.clone()).await), (OperationStatus::Succeeded, 7, 13));
    assert!(matches!(refused(&world, whole()).await, Error::ReplayConflict { .. }), "what an earlier one left is not taken for its place");
    world.engine.delete_cursor(&caller(), &progress, None).await.unwrap();
    assert_eq!(counts(&replayed(&world, whole()).await), (OperationStatus::Succeeded, 20, 0), "it began anew");
}

#[tokio::test(start_paused = true)]
async fn a_replay_keeps_its_rate_and_goes_on_where_it_was_cancelled() {
    let world = counted(60).await;
    let slowly = Replay { max_per_second: Some(10), ..whole() };
    let begun = tokio::time::Instant::now();
    let started = world.engine.replay(&caller(), slowly.clone()).await.unwrap();
    assert!(matches!(refused(&world, slowly).await, Error::ReplayConflict { .. }), "it runs");
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    let stopped = world.engine.cancel_operation(&caller(), &started.id).await.unwrap();
    assert_eq!((stopped.status, begun.elapsed() < Duration::from_secs(3)), (OperationStatus::Cancelled, true));
    assert!((20..=30).contains(&stopped.done), "{stopped:?}");
    let again = replayed(&world, whole()).await;
    assert_eq!(counts(&again), (OperationStatus::Succeeded, 60 - stopped.done, 0));
    assert_eq!(world.values("out").await, numbers(0..60));
}

#[tokio::test(start_paused = true)]
async fn another_gateway_goes_on_where_one_was_cut_off() {
    let world = counted(100).await;
    let started = world.engine.replay(&caller(), Replay { max_per_second: Some(10), ..whole() }).await.unwrap();
    tokio::time::sleep(Duration::from_millis(3_500)).await;
    // The first gateway runs on, and does not know yet.
    let other = world.other_engine().await;
    let taken_over = other.replay(&caller(), whole()).await.unwrap();
    let taken_over = ended(&other, &taken_over).await;
    let first = ended(&world.engine, &started).await;
    let statuses = [first.status, taken_over.status];
    assert!(statuses.contains(&OperationStatus::Failed), "one of them finds the replay moved: {first:?} {taken_over:?}");
    let again = other.replay(&caller(), whole()).await.unwrap();
    assert_eq!(ended(&other, &again).await.status, OperationStatus::Succeeded);
    assert_eq!(world.values("out").await, numbers(0..100), "each once, and in order");
}

#[tokio::test(start_paused = true)]
async fn each_record_is_copied_once_whatever_answers_are_lost() {
    let world = counted(80).await;
    let started = world.engine.replay(&caller(), Replay { max_per_second: Some(10), ..whole() }).await.unwrap();
    let faults =
        [Some(JournalFault::LoseReply), None, Some(JournalFault::Refuse), Some(JournalFault::LoseRequest), Some(JournalFault::LoseReply)];
    world.journal.faults().order(faults);
    tokio::time::sleep(Duration::from_secs(2)).await;
    world.metadata.be(Mood::Refusing);
    tokio::time::sleep(Duration::from_secs(5)).await;
    world.metadata.be(Mood::Serving);
    let operation = ended(&world.engine, &started).await;
    assert_eq!(counts(&operation), (OperationStatus::Succeeded, 80, 0), "{operation:?}");
    assert_eq!(world.values("out").await, numbers(0..80));
}

#[tokio::test(start_paused = true)]
async fn what_expired_before_the_replay_came_to_it_is_passed_over() {
    let world = counted(100).await;
    let started = world.engine.replay(&caller(), Replay { max_per_second: Some(10), ..whole() }).await.unwrap();
    tokio::time::sleep(Duration::from_millis(500)).await;
    world.engine.cancel_operation(&caller(), &started.id).await.unwrap();
    world.engine.trim(&caller(), &topic("in"), None, Offset(50)).await.unwrap();
    assert_eq!(counts(&replayed(&world, whole()).await), (OperationStatus::Succeeded, 50, 40));
    assert_eq!(world.values("out").await, numbers((0..10).chain(50..100)));
}

#[tokio::test(start_paused = true)]
async fn a_replay_into_a_full_queue_waits_for_its_receivers() {
    let world = counted(20).await;
    let bounded = QueueConfig { max_depth: Some(10), overflow: Overflow::Reject, ..QueueConfig::default() };
    world.engine.put_queue(&caller(), &queue("q"), bounded, Precondition::Always, None).await.unwrap();
    let replay = Replay { to: ReplayTarget::Queue(queue("q")), max_per_second: Some(10), ..whole() };
    let started = world.engine.replay(&caller(), replay).await.unwrap();
    tokio::time::sleep(Duration::from_secs(60)).await;
    let waits = world.engine.operation(&caller(), &started.id).await.unwrap();
    assert_eq!((waits.status, waits.done), (OperationStatus::Running, 10));
    let mut taken = world.taken("q").await;
    assert_eq!(ended(&world.engine, &started).await.done, 20);
    taken.extend(world.taken("q").await);
    assert_eq!(taken, numbers(0..20));
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_copied_is_refused_at_once() {
    let world = counted(10).await;
    world.topic("many", 3).await;
    world.engine.trim(&caller(), &topic("in"), None, Offset(2)).await.unwrap();
    let invalid = |error: Error| matches!(error, Error::Invalid { .. });
    let offsets =
        |start: u64, end: u64| part(|from| (from.start, from.end) = (ReplayStart::Offset(Offset(start)), ReplayEnd::Offset(Offset(end))));
    assert!(invalid(refused(&world, Replay { to: ReplayTarget::Topic(topic("in")), ..whole() }).await));
    assert!(invalid(refused(&world, Replay { max_per_second: Some(0), ..whole() }).await));
    assert!(invalid(refused(&world, Replay { name: ReplayName::new(&"x".repeat(201)).unwrap(), ..whole() }).await));
    assert!(invalid(refused(&world, part(|from| from.filter = Some("1 +".into()))).await));
    assert!(invalid(refused(&world, offsets(3, 11)).await), "the end is beyond the topic's");
    assert!(invalid(refused(&world, offsets(6, 5)).await));
    assert!(matches!(refused(&world, offsets(1, 5)).await, Error::BelowLogStart { .. }));
    let late = part(|from| {
        (from.start, from.end) = (ReplayStart::Timestamp(START.plus(Duration::from_secs(9))), ReplayEnd::Timestamp(START));
    });
    assert!(invalid(refused(&world, late).await));
    let of_which = part(|from| (from.topic, from.start) = (topic("many"), ReplayStart::Offset(Offset(0))));
    assert!(invalid(refused(&world, of_which).await), "an offset of which partition?");
    assert!(matches!(refused(&world, part(|from| from.partition = Some(PartitionIndex(1)))).await, Error::PartitionNotFound { .. }));
    assert!(matches!(refused(&world, part(|from| from.topic = topic("nowhere"))).await, Error::TopicNotFound(_)));
    assert!(matches!(refused(&world, Replay { to: ReplayTarget::Topic(topic("nowhere")), ..whole() }).await, Error::TopicNotFound(_)));
    assert!(matches!(refused(&world, Replay { to: ReplayTarget::Queue(queue("nowhere")), ..whole() }).await, Error::QueueNotFound(_)));
    let nothing_kept = world.engine.get_cursor(&caller(), &CursorName::new("replay.again").unwrap()).await;
    assert!(matches!(nothing_kept, Err(Error::CursorNotFound(_))));
    assert!(world.values("out").await.is_empty());
    world.engine.delete_topic(&caller(), &topic("out"), Precondition::Always).await.unwrap();
    assert!(matches!(refused(&world, whole()).await, Error::TopicNotFound(_)));
}
