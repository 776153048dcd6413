//! Commits that settle leases: what is taken, what it becomes, and that it is taken are one decision.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::poll_immediate;
use lakefall_metadata::memory::Fault as JournalFault;
use lakefall_queue::error::Error;
use lakefall_queue::queue::{QueueConfig, Verdict};
use lakefall_queue::record::Properties;
use lakefall_queue::verbs::{Append, Appended, Commit, CursorMove, Idempotency, Precondition, TopicAppend, Verbs};
use lakefall_queue::{CursorName, Offset, PartitionIndex, Record};

use crate::support::faults::Fault;
use crate::support::messages::{commit_of, dying_after, header, nack, queue, reading, receive_from, texts};
use crate::support::{Dice, World, append, caller, placed, record, topic};

async fn world() -> World {
    let world = World::new().await;
    world.topic("in", 1).await;
    world.topic("out", 1).await;
    world.work_queue("q", reading(&["in"])).await;
    world
}

#[tokio::test(start_paused = true)]
async fn what_is_acked_and_what_it_becomes_are_applied_together() {
    let world = world().await;
    world.send("in", &["a", "b"]).await.unwrap();
    let messages = world.ready("q").await;
    assert_eq!(texts(&messages), ["a", "b"]);
    let commit = commit_of(Some(("out", vec![record("A"), record("B")])), "q", &messages, Verdict::Ack);
    let appended = world.engine.commit(&caller(), commit).await.unwrap();
    assert_eq!((appended.len(), appended[0].end), (1, Some(Offset(2))));
    assert_eq!(world.values("out").await, ["A", "B"]);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(world.ready("q").await.is_empty(), "they are finished");
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_is_over_refuses_everything() {
    let world = world().await;
    world.send("in", &["a", "b"]).await.unwrap();
    let messages = world.ready("q").await;
    tokio::time::sleep(Duration::from_secs(31)).await;
    let again = world.ready("q").await;
    assert_eq!(again.iter().map(|message| message.attempt).collect::<Vec<_>>(), [2, 2]);
    let late = commit_of(Some(("out", vec![record("late")])), "q", &messages, Verdict::Ack);
    let refused = world.engine.commit(&caller(), late).await.unwrap_err();
    assert_eq!(refused, Error::LeaseOver { partition: PartitionIndex(0), offset: Offset(0) });
    let mixed = [again[0].clone(), messages[1].clone()];
    let mixed = commit_of(Some(("out", vec![record("mixed")])), "q", &mixed, Verdict::Ack);
    let refused = world.engine.commit(&caller(), mixed).await.unwrap_err();
    assert_eq!(refused, Error::LeaseOver { partition: PartitionIndex(0), offset: Offset(1) });
    world.engine.commit(&caller(), commit_of(Some(("out", vec![record("ok")])), "q", &again, Verdict::Ack)).await.unwrap();
    assert_eq!(world.values("out").await, ["ok"]);
}

#[tokio::test(start_paused = true)]
async fn a_commit_repeated_without_a_key_is_refused_and_with_its_key_answered_as_the_first_time() {
    let world = world().await;
    world.send("in", &["a", "b"]).await.unwrap();
    let messages = world.ready("q").await;
    let first = || commit_of(Some(("out", vec![record("A")])), "q", &messages[..1], Verdict::Ack);
    world.engine.commit(&caller(), first()).await.unwrap();
    assert!(matches!(world.engine.commit(&caller(), first()).await, Err(Error::LeaseOver { offset: Offset(0), .. })));
    let idempotency = Some(Idempotency { key: "k".into(), fingerprint: 1 });
    let second =
        || Commit { idempotency: idempotency.clone(), ..commit_of(Some(("out", vec![record("B")])), "q", &messages[1..], Verdict::Ack) };
    let (one, two) = (world.engine.commit(&caller(), second()).await.unwrap(), world.engine.commit(&caller(), second()).await.unwrap());
    assert_eq!((one[0].ranges[0].first_offset, two[0].ranges[0].first_offset), (Offset(1), Offset(1)));
    assert!(two[0].ranges[0].duplicate);
    assert_eq!(world.values("out").await, ["A", "B"]);
}

#[tokio::test(start_paused = true)]
async fn receipts_and_cursors_alone_make_a_commit_too_and_store_nothing() {
    let world = world().await;
    world.send("in", &["a", "b"]).await.unwrap();
    let stored = world.objects.puts();
    let messages = world.ready("q").await;
    let cursor = CursorMove {
        cursor: CursorName::new("c").unwrap(),
        topic: topic("in"),
        offsets: vec![(PartitionIndex(0), Offset(2))],
        if_version: None,
    };
    let commit = Commit { cursors: vec![cursor], ..commit_of(None, "q", &messages, Verdict::Ack) };
    assert_eq!(world.engine.commit(&caller(), commit).await.unwrap(), []);
    assert_eq!(world.objects.puts(), stored);
    let cursor = world.engine.get_cursor(&caller(), &CursorName::new("c").unwrap()).await.unwrap();
    assert_eq!(cursor[0].positions[0].offset, Offset(2));
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(world.ready("q").await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_nack_and_an_extension_in_a_commit_do_what_they_do_elsewhere() {
    let world = world().await;
    world.send("in", &["a", "b"]).await.unwrap();
    let messages = world.ready("q").await;
    let mut commit = commit_of(Some(("out", vec![record("A")])), "q", &messages[..1], nack("later"));
    commit.settlements[0]
        .settlements
        .extend(crate::support::messages::settlements(&messages[1..], Verdict::Extend { lease: Duration::from_secs(300) }));
    world.engine.commit(&caller(), commit).await.unwrap();
    let again = world.ready("q").await;
    assert_eq!((texts(&again), again[0].attempt), (vec!["a".to_owned()], 2));
    tokio::time::sleep(Duration::from_secs(200)).await;
    assert_eq!(world.taken("q").await, ["a"], "the other one is still leased");
    tokio::time::sleep(Duration::from_secs(101)).await;
    assert_eq!(world.taken("q").await, ["b"]);
}

#[tokio::test(start_paused = true)]
async fn a_message_that_dies_by_a_commit_becomes_a_dead_letter_of_the_same_atom() {
    let world = world().await;
    world.work_queue("dying", dying_after(1, &["in"], "letters")).await;
    world.send("in", &["a", "b"]).await.unwrap();
    let messages = world.ready("dying").await;
    // The whole is refused, so there is no dead letter.
    let mut refused = commit_of(Some(("out", vec![record("x")])), "dying", &messages, nack("broken"));
    refused.appends[0].expect_offset = Some(Offset(7));
    assert!(matches!(world.engine.commit(&caller(), refused).await, Err(Error::OffsetMismatch { .. })));
    assert!(world.values("letters").await.is_empty());
    let commit = commit_of(Some(("out", vec![record("x")])), "dying", &messages, nack("broken"));
    let appended = world.engine.commit(&caller(), commit).await.unwrap();
    assert_eq!(appended.len(), 1, "dead letters are no part of the answer");
    assert_eq!(world.values("out").await, ["x"]);
    let letters = world.ready("letters").await;
    assert_eq!(texts(&letters), ["a", "b"]);
    assert_eq!(header(&letters[1], "dead-letter-error").as_deref(), Some("broken"));
    assert_eq!(header(&letters[1], "dead-letter-offset").as_deref(), Some("1"));
}

#[tokio::test(start_paused = true)]
async fn receipts_that_make_no_sense_are_refused_and_change_nothing() {
    let world = world().await;
    world.work_queue("other", reading(&["in"])).await;
    world.send("in", &["a"]).await.unwrap();
    let messages = world.ready("q").await;
    let of_another = commit_of(None, "other", &messages, Verdict::Ack);
    assert!(matches!(world.engine.commit(&caller(), of_another).await, Err(Error::ReceiptNotFound(_))));
    let mut forged = commit_of(None, "q", &messages, Verdict::Ack);
    forged.settlements[0].settlements[0].receipt = "abc".into();
    assert_eq!(world.engine.commit(&caller(), forged).await, Err(Error::ReceiptForged));
    let mut twice = commit_of(None, "q", &messages, Verdict::Ack);
    let copy = twice.settlements[0].settlements[0].clone();
    twice.settlements[0].settlements.push(copy);
    assert!(matches!(world.engine.commit(&caller(), twice).await, Err(Error::Invalid { .. })));
    let mut empty = commit_of(None, "q", &[], Verdict::Ack);
    assert!(matches!(world.engine.commit(&caller(), empty).await, Err(Error::Invalid { .. })));
    empty = commit_of(None, "q", &messages, Verdict::Extend { lease: Duration::from_secs(43_201) });
    assert!(matches!(world.engine.commit(&caller(), empty).await, Err(Error::Invalid { .. })));
    world.engine.commit(&caller(), commit_of(None, "q", &messages, Verdict::Ack)).await.unwrap();
}

/// One worker: takes messages and commits what they become; now and then it dies on the way, or is too slow.
async fn work(world: Arc<World>, engine: Arc<lakefall_gateway::Engine>, mut dice: Dice) {
    let mut idle = 0;
    while idle < 3 {
        let messages = match receive_from(&engine, "q", Duration::from_secs(20)).await {
            Ok(messages) => messages,
            Err(_) => continue,
        };
        idle = if messages.is_empty() { idle + 1 } else { 0 };
        for some in messages.chunks(1 + dice.below(4) as usize) {
            if dice.below(12) == 0 {
                tokio::time::sleep(Duration::from_secs(20)).await;
            }
            let put = [Fault::Before, Fault::After, Fault::Throttle].get(dice.below(12) as usize).cloned();
            let journal = [JournalFault::LoseReply, JournalFault::LoseRequest, JournalFault::Refuse].get(dice.below(12) as usize).copied();
            world.objects.order_puts([put]);
            world.journal.faults().order([journal]);
            let records = texts(some).iter().map(|text| record(&format!("effect of {text}"))).collect();
            let commit = commit_of(Some(("out", records)), "q", some, Verdict::Ack);
            let caller = caller();
            let mut call = Box::pin(engine.commit(&caller, commit));
            if dice.below(6) == 0 {
                // The worker dies while its commit is under way.
                for _ in 0..dice.below(40) {
                    if poll_immediate(&mut call).await.is_some() {
                        break;
                    }
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                continue;
            }
            // Whatever it says: what was not applied comes again.
            let _ = call.await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn whatever_fails_and_whoever_dies_each_message_has_its_effect_exactly_once() {
    let world = Arc::new(world().await);
    let mut expected = BTreeMap::new();
    for round in 0..10 {
        let values: Vec<String> = (0..20).map(|i| format!("{round}-{i}")).collect();
        expected.extend(values.iter().map(|value| (format!("effect of {value}"), 1)));
        world.append(append("in", values.iter().map(|value| record(value)).collect())).await.unwrap();
    }
    let other = world.other_engine().await;
    let workers = [(Arc::clone(&world.engine), 7), (other, 8), (Arc::clone(&world.engine), 9)];
    let workers = workers.map(|(engine, seed)| tokio::spawn(work(Arc::clone(&world), engine, Dice::new(seed))));
    for worker in workers {
        worker.await.unwrap();
    }
    let mut found = BTreeMap::new();
    for value in world.values("out").await {
        *found.entry(value).or_insert(0) += 1;
    }
    assert_eq!(found, expected);
    assert!(world.objects.fired() > 3, "faults were there");
}

#[tokio::test(start_paused = true)]
async fn every_way_to_append_to_a_full_queue_says_that_it_is_full() {
    let world = World::new().await;
    world.topic("in", 2).await;
    world.topic("out", 1).await;
    world.work_queue("q", QueueConfig { max_depth: Some(2), ..reading(&["in"]) }).await;
    world.append(append("in", vec![placed(0, "a")])).await.unwrap();
    let full = || Err(Error::QueueFull { queue: queue("q"), max_depth: 2 });
    let two = || vec![placed(0, "b"), placed(1, "c")];
    let dedup = |id: &str, record| Record {
        properties: Some(Box::new(Properties { dedup_id: Some(id.into()), ..Properties::default() })),
        ..record
    };
    assert_eq!(world.append(append("in", vec![placed(1, "b"), placed(1, "c")])).await, full());
    assert_eq!(world.append(Append { atomic: true, ..append("in", two()) }).await, full());
    let idempotency = Some(Idempotency { key: "k".into(), fingerprint: 1 });
    assert_eq!(world.append(Append { idempotency, ..append("in", two()) }).await, full());
    let claimed = || vec![dedup("1", placed(1, "b")), dedup("2", placed(1, "c"))];
    assert_eq!(world.append(append("in", claimed())).await, full());
    assert_eq!(
        world.append(Append { atomic: true, ..append("in", vec![dedup("1", placed(0, "b")), dedup("2", placed(1, "c"))]) }).await,
        full()
    );
    let mut commit = commit_of(Some(("out", vec![record("x")])), "q", &[], Verdict::Ack);
    commit.appends.push(TopicAppend::new(topic("in"), two()));
    assert_eq!(world.engine.commit(&caller(), commit).await.map(|_| ()), full().map(|_: Appended| ()));
    assert_eq!(world.values("in").await, ["a"]);
    assert!(world.values("out").await.is_empty());
    assert_eq!(world.taken("q").await, ["a"]);
    world.append(append("in", two())).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn of_many_that_send_to_a_queue_at_once_as_many_get_in_as_there_is_room_for() {
    let world = World::new().await;
    world.topic("in", 2).await;
    world.work_queue("q", QueueConfig { max_depth: Some(10), ..reading(&["in"]) }).await;
    world.objects.put_latency(Duration::from_millis(50));
    let mut sent = Vec::new();
    for number in 0..30_u32 {
        // Some of them in two partitions: these come in whole or not at all.
        let records = if number < 2 { vec![placed(0, "v"), placed(1, "v")] } else { vec![placed(number % 2, "v")] };
        let begun = world.begin(append("in", records)).await;
        sent.push((if number < 2 { 2 } else { 1 }, begun));
    }
    let mut stored = 0;
    for (records, one) in sent {
        match one.await.unwrap() {
            Ok(_) => stored += records,
            Err(error) => assert_eq!(error, Error::QueueFull { queue: queue("q"), max_depth: 10 }),
        }
    }
    assert_eq!(stored, 10);
    assert_eq!(world.taken("q").await.len(), 10);
}

#[tokio::test(start_paused = true)]
async fn a_receipt_of_a_queue_that_was_created_anew_is_good_at_a_gateway_that_only_knew_the_old_one() {
    let world = world().await;
    let (deaf, _) = world.gateway(true).await;
    deaf.queue_stats(&caller(), &queue("q")).await.unwrap();
    assert!(receive_from(&deaf, "q", Duration::ZERO).await.unwrap().is_empty());
    world.engine.delete_queue(&caller(), &queue("q"), Precondition::Always).await.unwrap();
    world.work_queue("q", reading(&["in"])).await;
    world.send("in", &["a"]).await.unwrap();
    let messages = world.ready("q").await;
    deaf.commit(&caller(), commit_of(Some(("out", vec![record("x")])), "q", &messages, Verdict::Ack)).await.unwrap();
    assert_eq!(world.values("out").await, ["x"]);
}
