//! Messages that nobody could do: where they go, what is told of them, and how they come back.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use lakefall_metadata::memory::Fault as JournalFault;
use lakefall_queue::error::Error;
use lakefall_queue::queue::{Message, Operation, OperationStatus, Overflow, QueueConfig, QueueStart, Receive, Redrive, Settled, Verdict};
use lakefall_queue::record::{Header, Properties};
use lakefall_queue::verbs::{Caller, Verbs};
use lakefall_queue::{NamespaceName, Offset, Record};

use crate::support::faults::Fault;
use crate::support::messages::{commit_of, dying_after, header, nack, queue, reading, receive_from, settlements, texts};
use crate::support::metadata::Mood;
use crate::support::{START, World, append, caller, keyed, topic};

async fn world(attempts: u32) -> World {
    let world = World::new().await;
    world.topic("in", 1).await;
    world.work_queue("q", dying_after(attempts, &["in"], "letters")).await;
    world
}

/// Kills all that is in the queue.
async fn kill(world: &World, name: &str, values: &[&str]) {
    world.send("in", values).await.unwrap();
    let messages = world.ready(name).await;
    assert_eq!(texts(&messages), values);
    assert!(world.verdict(name, &messages, Verdict::Reject { reason: None }).await.iter().all(|settled| *settled == Settled::Ok(None)));
}

async fn redriven(world: &World, name: &str, redrive: Redrive) -> Operation {
    let started = world.engine.redrive(&caller(), &queue(name), redrive).await.unwrap();
    ended(world, &started).await
}

async fn ended(world: &World, started: &Operation) -> Operation {
    for _ in 0..10_000 {
        let operation = world.engine.operation(&caller(), &started.id).await.unwrap();
        if operation.status != OperationStatus::Running {
            return operation;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("it does not end");
}

fn counts(operation: &Operation) -> (OperationStatus, u64, u64) {
    (operation.status, operation.done, operation.skipped)
}

#[tokio::test(start_paused = true)]
async fn a_message_that_is_given_back_after_its_last_attempt_becomes_a_dead_letter_that_tells_where_it_came_from() {
    let world = world(2).await;
    let sent = Record {
        headers: vec![Header { name: "h".into(), value: Some(Bytes::from_static(b"kept")) }],
        properties: Some(Box::new(Properties {
            ordering_key: Some("order".into()),
            correlation_id: Some("c-1".into()),
            dedup_id: Some("once".into()),
            expires_at: Some(START.plus(Duration::from_secs(3_600))),
            ..Properties::default()
        })),
        ..keyed("k", "v")
    };
    world.append(append("in", vec![sent])).await.unwrap();
    let first = world.ready("q").await;
    assert_eq!(world.verdict("q", &first, nack("once")).await, [Settled::Ok(None)]);
    assert!(world.ready("letters").await.is_empty());
    let second = world.ready("q").await;
    assert_eq!((texts(&second), second[0].attempt), (vec!["v".to_owned()], 2));
    assert_eq!(world.verdict("q", &second, nack("no such customer")).await, [Settled::Ok(None)]);
    let letters = world.ready("letters").await;
    let letter = &letters[0];
    assert_eq!((letters.len(), letter.record.key.as_deref(), texts(&letters)), (1, Some(&b"k"[..]), vec!["v".to_owned()]));
    for (name, value) in [
        ("h", "kept"),
        ("dead-letter-queue", "q"),
        ("dead-letter-topic", "in"),
        ("dead-letter-partition", "0"),
        ("dead-letter-offset", "0"),
        ("dead-letter-attempts", "2"),
        ("dead-letter-reason", "max_attempts"),
        ("dead-letter-error", "no such customer"),
    ] {
        assert_eq!(header(letter, name).as_deref(), Some(value), "{name}");
    }
    assert!(header(letter, "dead-letter-at").unwrap().starts_with("2023-11-14T22:13:"));
    let properties = letter.record.properties.as_ref().unwrap();
    assert_eq!((properties.ordering_key.as_deref(), properties.correlation_id.as_deref()), (Some("order"), Some("c-1")));
    assert_eq!((&properties.dedup_id, properties.expires_at, properties.deliver_at), (&None, None, None));
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(world.ready("q").await.is_empty());
    assert_eq!(world.engine.queue_stats(&caller(), &queue("q")).await.unwrap().dead, 1);
}

#[tokio::test(start_paused = true)]
async fn a_rejected_message_is_dead_at_once_and_a_repeated_rejection_is_answered_alike() {
    let world = world(5).await;
    world.send("in", &["a"]).await.unwrap();
    let messages = world.ready("q").await;
    let reject = || Verdict::Reject { reason: Some("nonsense".into()) };
    assert_eq!(world.verdict("q", &messages, reject()).await, [Settled::Ok(None)]);
    assert_eq!(world.verdict("q", &messages, reject()).await, [Settled::Ok(None)], "again");
    let letters = world.ready("letters").await;
    assert_eq!(texts(&letters), ["a"], "once");
    assert_eq!(header(&letters[0], "dead-letter-reason").as_deref(), Some("rejected"));
    assert_eq!(header(&letters[0], "dead-letter-attempts").as_deref(), Some("1"));
}

#[tokio::test(start_paused = true)]
async fn of_two_receipts_of_one_message_the_newer_one_counts_in_whatever_order() {
    let world = world(5).await;
    world.send("in", &["a", "b"]).await.unwrap();
    let stale = world.ready("q").await;
    tokio::time::sleep(Duration::from_secs(31)).await;
    let good = world.ready("q").await;
    assert_eq!(texts(&good), ["a", "b"]);
    let both = [stale[0].clone(), good[0].clone(), good[1].clone(), stale[1].clone()];
    let answers = world.verdict("q", &both, Verdict::Reject { reason: None }).await;
    assert_eq!(answers, [Settled::Expired, Settled::Ok(None), Settled::Ok(None), Settled::Expired]);
    assert_eq!(texts(&world.ready("letters").await), ["a", "b"]);
}

#[tokio::test(start_paused = true)]
async fn a_message_whose_leases_all_ran_out_is_dead_without_being_delivered_again() {
    let world = world(2).await;
    world.send("in", &["a"]).await.unwrap();
    for attempt in 1..=2 {
        assert_eq!(world.ready("q").await[0].attempt, attempt);
        tokio::time::sleep(Duration::from_secs(31)).await;
    }
    assert!(world.ready("q").await.is_empty());
    tokio::time::sleep(Duration::from_secs(1)).await;
    let letters = world.ready("letters").await;
    assert_eq!(texts(&letters), ["a"]);
    assert_eq!(header(&letters[0], "dead-letter-attempts").as_deref(), Some("2"));
    assert_eq!(header(&letters[0], "dead-letter-error"), None);
}

#[tokio::test(start_paused = true)]
async fn no_message_dies_of_leases_that_were_delivered_to_nobody() {
    let world = world(3).await;
    world.send("in", &["a"]).await.unwrap();
    let messages = world.ready("q").await;
    world.verdict("q", &messages, nack("once")).await;
    // Who cannot read has nothing to deliver; the store is away for long.
    let (blind, _) = world.gateway(false).await;
    world.objects.every_get(Some(Fault::Throttle));
    let wait = |seconds| receive_from(&blind, "q", Duration::from_secs(seconds));
    for _ in 0..10 {
        let _ = wait(30).await;
    }
    world.objects.every_get(None);
    let messages = wait(120).await.unwrap();
    assert_eq!(texts(&messages), ["a"]);
    assert!(messages[0].attempt > 5, "the attempts tell of leases, not of deliveries: {}", messages[0].attempt);

    let nacked = blind.settle(&caller(), &queue("q"), settlements(&messages, nack("twice"))).await.unwrap();
    assert_eq!((nacked, world.ready("letters").await.len()), (vec![Settled::Ok(None)], 0), "two deliveries of three");
    let again = world.ready("q").await;
    assert_eq!(texts(&again), ["a"]);
    world.verdict("q", &again, nack("thrice")).await;
    let letters = world.ready("letters").await;
    assert_eq!(header(&letters[0], "dead-letter-attempts").as_deref(), Some("3"));
}

#[tokio::test(start_paused = true)]
async fn what_does_not_fit_into_an_answer_does_not_die_of_it() {
    let world = world(2).await;
    let large = "x".repeat(300_000);
    world.send("in", &[large.as_str(); 8]).await.unwrap();
    let all = Receive { max: 100, max_bytes: 16 << 20, lease: None, wait: Duration::ZERO, request_id: None };
    let messages = world.engine.receive(&caller(), &queue("q"), all).await.unwrap().messages;
    world.verdict("q", &messages, nack("all")).await;
    // The dispatcher goes home, and with it what it knows of their size.
    tokio::time::sleep(Duration::from_secs(60)).await;
    let mut taken = 0;
    for _ in 0..8 {
        let few = Receive { max: 100, max_bytes: 400_000, lease: None, wait: Duration::from_secs(1), request_id: None };
        let messages = world.engine.receive(&caller(), &queue("q"), few).await.unwrap().messages;
        world.verdict("q", &messages, Verdict::Ack).await;
        taken += messages.len();
    }
    assert_eq!((taken, world.ready("letters").await.len()), (8, 0));
}

#[tokio::test(start_paused = true)]
async fn who_waits_shorter_than_the_ledger_takes_gets_its_messages_all_the_same() {
    let world = Arc::new(world(1).await);
    world.ready("q").await;
    world.send("in", &["a"]).await.unwrap();
    world.metadata.be(Mood::LateLeases);
    let receiving = tokio::spawn({
        let world = Arc::clone(&world);
        async move { receive_from(&world.engine, "q", Duration::from_millis(5)).await }
    });
    tokio::time::sleep(Duration::from_millis(100)).await;
    world.metadata.be(Mood::Serving);
    assert_eq!(texts(&receiving.await.unwrap().unwrap()), ["a"]);
    let started = tokio::time::Instant::now();
    assert!(receive_from(&world.engine, "q", Duration::from_millis(5)).await.unwrap().is_empty());
    assert!(started.elapsed() < Duration::from_millis(50), "who has nothing to wait for does not: {:?}", started.elapsed());
}

#[tokio::test(start_paused = true)]
async fn without_a_dead_letter_topic_a_dead_message_is_finished_and_stays_in_the_log() {
    let world = World::new().await;
    world.topic("in", 1).await;
    world.work_queue("q", reading(&["in"])).await;
    world.send("in", &["a"]).await.unwrap();
    let messages = world.ready("q").await;
    assert_eq!(world.verdict("q", &messages, Verdict::Reject { reason: None }).await, [Settled::Ok(None)]);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(world.ready("q").await.is_empty());
    assert_eq!(world.values("in").await, ["a"]);
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_is_over_makes_no_dead_letter() {
    let world = world(1).await;
    world.send("in", &["a", "b"]).await.unwrap();
    let messages = world.ready("q").await;
    // One of them is kept.
    world.verdict("q", &messages[..1], Verdict::Extend { lease: Duration::from_secs(3_600) }).await;
    tokio::time::sleep(Duration::from_secs(31)).await;
    assert_eq!(world.verdict("q", &messages, nack("late")).await, [Settled::Ok(None), Settled::Expired]);
    assert_eq!(world.values("letters").await, ["a"]);
    assert!(world.ready("q").await.is_empty(), "it had one attempt");
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(world.values("letters").await, ["a", "b"]);
}

#[tokio::test(start_paused = true)]
async fn a_dead_letter_that_cannot_be_stored_keeps_its_message() {
    let world = world(1).await;
    world.send("in", &["a"]).await.unwrap();
    let messages = world.ready("q").await;
    world.verdict("q", &messages, Verdict::Extend { lease: Duration::from_secs(600) }).await;
    world.objects.every_put(Some(Fault::Before));
    let settled = world.verdict("q", &messages, nack("broken")).await;
    assert!(matches!(settled[..], [Settled::Failed(Error::Unavailable { .. })]), "{settled:?}");
    world.objects.every_put(None);
    assert!(world.values("letters").await.is_empty());
    assert_eq!(world.verdict("q", &messages, nack("broken")).await, [Settled::Ok(None)]);
    assert_eq!(world.values("letters").await, ["a"]);
}

#[tokio::test(start_paused = true)]
async fn a_dead_message_that_is_trimmed_away_is_finished_without_a_dead_letter() {
    let world = world(1).await;
    world.send("in", &["a", "b"]).await.unwrap();
    let messages = world.ready("q").await;
    world.engine.trim(&caller(), &topic("in"), None, Offset(1)).await.unwrap();
    assert_eq!(world.verdict("q", &messages, nack("broken")).await, [Settled::Ok(None), Settled::Ok(None)]);
    assert_eq!(world.values("letters").await, ["b"]);
}

#[tokio::test(start_paused = true)]
async fn dead_letters_are_stored_once_whatever_answers_are_lost() {
    for fault in [JournalFault::LoseReply, JournalFault::LoseRequest, JournalFault::Refuse] {
        let world = world(1).await;
        world.send("in", &["a", "b", "c"]).await.unwrap();
        let messages = world.ready("q").await;
        world.journal.faults().order([Some(fault)]);
        world.verdict("q", &messages, nack("broken")).await;
        world.verdict("q", &messages, nack("broken")).await;
        assert_eq!(world.values("letters").await, ["a", "b", "c"], "{fault:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn redriven_letters_go_back_for_the_queue_that_gave_them_up_and_for_no_other() {
    let world = world(1).await;
    world.work_queue("other", reading(&["in"])).await;
    kill(&world, "q", &["a", "b"]).await;
    assert_eq!(world.taken("other").await, ["a", "b"]);
    let operation = redriven(&world, "q", Redrive::default()).await;
    assert_eq!(counts(&operation), (OperationStatus::Succeeded, 2, 0));
    assert!(operation.ended_at.is_some() && operation.error.is_none());
    let again = world.ready("q").await;
    assert_eq!((texts(&again), again[0].attempt), (vec!["a".to_owned(), "b".to_owned()], 1));
    assert!(again.iter().all(|message| message.record.headers.is_empty()), "the dead-letter headers are gone");
    assert!(world.ready("other").await.is_empty());
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert!(world.ready("letters").await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_filter_says_which_letters_go_and_a_dry_run_only_counts_them() {
    let world = world(1).await;
    world.send("in", &["a", "b"]).await.unwrap();
    let messages = world.ready("q").await;
    world.verdict("q", &messages[..1], nack("timeout")).await;
    world.verdict("q", &messages[1..], nack("nonsense")).await;
    let filter = || Some("headers['dead-letter-error'] == 'timeout'".to_owned());
    let dry = redriven(&world, "q", Redrive { filter: filter(), dry_run: true, ..Redrive::default() }).await;
    assert_eq!(counts(&dry), (OperationStatus::Succeeded, 1, 1), "{dry:?}");
    assert_eq!(world.values("in").await.len(), 2);
    let operation = redriven(&world, "q", Redrive { filter: filter(), ..Redrive::default() }).await;
    assert_eq!(counts(&operation), (OperationStatus::Succeeded, 1, 1), "{operation:?}");
    assert_eq!(world.taken("q").await, ["a"]);
    let left = world.ready("letters").await;
    assert_eq!((texts(&left), left[0].attempt), (vec!["b".to_owned()], 1), "it can be received at once, and was not leased before");
    let refused = world.engine.redrive(&caller(), &queue("q"), Redrive { filter: Some("1 +".into()), ..Redrive::default() }).await;
    assert!(matches!(refused, Err(Error::Invalid { field, .. }) if field == "filter"));
}

#[tokio::test(start_paused = true)]
async fn letters_can_go_to_another_topic_but_not_to_the_one_they_lie_in() {
    let world = world(1).await;
    world.topic("elsewhere", 1).await;
    world.work_queue("w", reading(&["elsewhere"])).await;
    kill(&world, "q", &["a"]).await;
    let to = |name: &str| Redrive { to: Some(topic(name)), ..Redrive::default() };
    assert!(matches!(world.engine.redrive(&caller(), &queue("q"), to("letters")).await, Err(Error::Invalid { .. })));
    assert!(matches!(world.engine.redrive(&caller(), &queue("q"), to("nowhere")).await, Err(Error::TopicNotFound(_))));
    assert_eq!(counts(&redriven(&world, "q", to("elsewhere")).await), (OperationStatus::Succeeded, 1, 0));
    assert_eq!(world.taken("w").await, ["a"]);
    assert!(world.ready("q").await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn of_a_shared_dead_letter_topic_each_queue_redrives_its_own() {
    let world = world(1).await;
    world.work_queue("p", dying_after(1, &["in"], "letters")).await;
    kill(&world, "q", &["a"]).await;
    let messages = world.ready("p").await;
    world.verdict("p", &messages, Verdict::Reject { reason: None }).await;
    assert_eq!(counts(&redriven(&world, "p", Redrive::default()).await), (OperationStatus::Succeeded, 1, 1));
    assert_eq!(world.taken("p").await, ["a"]);
    assert!(world.ready("q").await.is_empty());
    assert_eq!(counts(&redriven(&world, "letters", Redrive::default()).await), (OperationStatus::Succeeded, 1, 0));
    assert_eq!(world.taken("q").await, ["a"]);
}

#[tokio::test(start_paused = true)]
async fn a_redrive_keeps_its_rate_and_is_stopped_between_two_batches() {
    let world = world(1).await;
    let values: Vec<String> = (0..40).map(|i| i.to_string()).collect();
    kill(&world, "q", &values.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let slowly = Redrive { max_per_second: Some(10), ..Redrive::default() };
    let begun = tokio::time::Instant::now();
    let started = world.engine.redrive(&caller(), &queue("q"), slowly).await.unwrap();
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    let stopped = world.engine.cancel_operation(&caller(), &started.id).await.unwrap();
    assert_eq!((counts(&stopped), begun.elapsed() < Duration::from_secs(2)), ((OperationStatus::Cancelled, 20, 0), true));
    let again = redriven(&world, "q", Redrive::default()).await;
    assert_eq!(counts(&again), (OperationStatus::Succeeded, 20, 0), "it goes on where it was left");
    assert_eq!(world.taken("q").await.len(), 40);
}

#[tokio::test(start_paused = true)]
async fn a_redrive_moves_each_letter_once_whatever_answers_are_lost() {
    let world = world(1).await;
    let values: Vec<String> = (0..60).map(|i| i.to_string()).collect();
    kill(&world, "q", &values.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let started = world.engine.redrive(&caller(), &queue("q"), Redrive { max_per_second: Some(20), ..Redrive::default() }).await.unwrap();
    world.journal.faults().order([None, Some(JournalFault::LoseReply), Some(JournalFault::Refuse), None, Some(JournalFault::LoseRequest)]);
    let operation = ended(&world, &started).await;
    assert_eq!(counts(&operation), (OperationStatus::Succeeded, 60, 0), "{operation:?}");
    let mut taken = world.taken("q").await;
    taken.sort_by_key(|value| value.parse::<u32>().unwrap());
    assert_eq!(taken, values);
}

#[tokio::test(start_paused = true)]
async fn what_dies_again_while_it_is_redriven_is_left_for_the_next_redrive() {
    let world = world(1).await;
    kill(&world, "q", &["a", "b", "c"]).await;
    let started = world.engine.redrive(&caller(), &queue("q"), Redrive { max_per_second: Some(1), ..Redrive::default() }).await.unwrap();
    for _ in 0..30 {
        let messages = world.ready("q").await;
        world.verdict("q", &messages, Verdict::Reject { reason: None }).await;
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let operation = ended(&world, &started).await;
    assert_eq!(counts(&operation), (OperationStatus::Succeeded, 3, 0));
    let letters = world.ready("letters").await;
    assert_eq!(texts(&letters), ["a", "b", "c"]);
    assert_eq!(letters[0].record.headers.iter().filter(|header| &*header.name == "dead-letter-queue").count(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_oldest_messages_beyond_the_bound_become_dead_letters_and_leased_ones_stay() {
    let world = World::new().await;
    world.topic("in", 1).await;
    let other = world.other_engine().await;
    let bounded = QueueConfig { max_depth: Some(3), overflow: Overflow::DeadLetter, ..dying_after(3, &["in"], "letters") };
    world.work_queue("q", bounded).await;
    world.send("in", &["a", "b", "c"]).await.unwrap();
    let held = receive_one(&world, "q").await;
    assert_eq!(texts(&held), ["a"]);
    world.send("in", &["d", "e"]).await.unwrap();
    tokio::time::sleep(Duration::from_secs(5)).await;
    let letters = world.ready("letters").await;
    assert_eq!(texts(&letters), ["b", "c"], "each once, whichever gateway was faster");
    assert_eq!(
        (header(&letters[0], "dead-letter-reason"), header(&letters[0], "dead-letter-attempts")),
        (Some("max_depth".into()), Some("0".into()))
    );
    assert_eq!(world.verdict("q", &held, Verdict::Ack).await, [Settled::Ok(None)]);
    assert_eq!(world.taken("q").await, ["d", "e"]);
    drop(other);
}

#[tokio::test(start_paused = true)]
async fn letters_that_somebody_has_are_left_to_them_and_those_of_a_failed_batch_to_everybody() {
    let world = world(1).await;
    kill(&world, "q", &["a", "b", "c"]).await;
    let held = receive_one(&world, "letters").await;
    assert_eq!(counts(&redriven(&world, "q", Redrive::default()).await), (OperationStatus::Succeeded, 2, 0));
    assert_eq!(world.taken("q").await, ["b", "c"]);
    world.verdict("letters", &held, Verdict::Extend { lease: Duration::ZERO }).await;
    // A full queue takes none back: nothing is out of reach for that.
    world.work_queue("q", QueueConfig { max_depth: Some(1), ..dying_after(1, &["in"], "letters") }).await;
    world.send("in", &["d"]).await.unwrap();
    let failed = redriven(&world, "q", Redrive::default()).await;
    assert_eq!(counts(&failed), (OperationStatus::Failed, 0, 0), "{failed:?}");
    assert_eq!(world.taken("letters").await, ["a"]);
}

#[tokio::test(start_paused = true)]
async fn a_dry_run_counts_more_letters_than_one_answer_tells() {
    let world = world(1).await;
    for _ in 0..25 {
        let some: Vec<String> = (0..100).map(|i| i.to_string()).collect();
        kill(&world, "q", &some.iter().map(String::as_str).collect::<Vec<_>>()).await;
    }
    let dry = redriven(&world, "q", Redrive { dry_run: true, ..Redrive::default() }).await;
    assert_eq!(counts(&dry), (OperationStatus::Succeeded, 2_500, 0));
    let kept = Redrive { filter: Some("false".to_owned()), ..Redrive::default() };
    assert_eq!(counts(&redriven(&world, "q", kept).await), (OperationStatus::Succeeded, 0, 2_500));
    assert_eq!(world.engine.queue_stats(&caller(), &queue("letters")).await.unwrap().leased, 0);
    assert_eq!(world.ready("letters").await[0].attempt, 1);
}

async fn receive_one(world: &World, name: &str) -> Vec<Message> {
    let receive = Receive { max: 1, max_bytes: 1 << 20, lease: None, wait: Duration::ZERO, request_id: None };
    world.engine.receive(&caller(), &queue(name), receive).await.unwrap().messages
}

#[tokio::test(start_paused = true)]
async fn operations_are_told_to_their_own_namespace_only_and_for_a_day() {
    let world = world(1).await;
    let operation = redriven(&world, "q", Redrive::default()).await;
    assert_eq!(counts(&operation), (OperationStatus::Succeeded, 0, 0));
    let stranger = Caller { namespace: NamespaceName::new("stranger").unwrap(), ..caller() };
    for id in [&*operation.id, "redrive-0-0"] {
        assert!(matches!(world.engine.operation(&stranger, id).await, Err(Error::OperationNotFound(_))));
        assert!(matches!(world.engine.cancel_operation(&stranger, id).await, Err(Error::OperationNotFound(_))));
    }
    assert_eq!(world.engine.cancel_operation(&caller(), &operation.id).await.unwrap(), operation, "it has ended");
    tokio::time::sleep(Duration::from_secs(24 * 3_600 + 1)).await;
    redriven(&world, "q", Redrive::default()).await;
    assert!(matches!(world.engine.operation(&caller(), &operation.id).await, Err(Error::OperationNotFound(_))));
    assert!(matches!(world.engine.redrive(&caller(), &queue("nobody"), Redrive::default()).await, Err(Error::QueueNotFound(_))));
    let never = Redrive { max_per_second: Some(0), ..Redrive::default() };
    assert!(matches!(world.engine.redrive(&caller(), &queue("q"), never).await, Err(Error::Invalid { .. })));
}

#[tokio::test(start_paused = true)]
async fn what_dies_by_settings_that_were_just_replaced_has_its_letter_by_the_new_ones() {
    let world = World::new().await;
    world.topic("in", 1).await;
    world.work_queue("q", reading(&["in"])).await;
    world.work_queue("letters", QueueConfig { start: QueueStart::Earliest, ..QueueConfig::default() }).await;
    // It is not told that the queue changes.
    let (deaf, _) = world.gateway(true).await;
    world.send("in", &["a", "b", "c"]).await.unwrap();
    let messages = receive_from(&deaf, "q", Duration::ZERO).await.unwrap();
    assert_eq!(texts(&messages), ["a", "b", "c"]);
    world.work_queue("q", dying_after(1, &["in"], "letters")).await;
    let reject = || Verdict::Reject { reason: None };
    let settled = deaf.settle(&caller(), &queue("q"), settlements(&messages[..1], reject())).await.unwrap();
    assert_eq!(settled, [Settled::Ok(None)]);
    assert_eq!(texts(&world.ready("letters").await), ["a"]);

    // And in a commit: the settings change once more.
    world.work_queue("q", reading(&["in"])).await;
    assert_eq!(deaf.settle(&caller(), &queue("q"), settlements(&messages[1..2], reject())).await.unwrap(), [Settled::Ok(None)]);
    world.work_queue("q", dying_after(1, &["in"], "letters")).await;
    deaf.commit(&caller(), commit_of(None, "q", &messages[2..], reject())).await.unwrap();
    assert_eq!(texts(&world.ready("letters").await), ["c"], "b died while there was no topic for it");
}
