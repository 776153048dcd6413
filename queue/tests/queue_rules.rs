//! The rules of queues by example: each test is the sentence it proves. What holds of all histories is in
//! `queue_properties.rs`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests may fail a test")]

#[path = "queues/bench.rs"]
mod bench;

use std::collections::BTreeMap;
use std::time::Duration;

use SettleOutcome::{Done, Expired, Unknown, Until};
use bench::{Bench, LEASE, P0, START, item, ns, offsets, put_queue, queue_name, single, topic_name};
use lakefall_queue::error::Error;
use lakefall_queue::ledger::{
    Answer, Atom, AtomOutcome, Classified, Command, Mark, Notice, PutQueue, Query, ReceiveMessages, Refusal, Reply, SettleAction,
    SettleMessages, SettleOutcome, Slice, SliceOutcome, Want,
};
use lakefall_queue::queue::{Binding, DeadLetter, Match, Ordering, Overflow, QueueConfig, QueueStart};
use lakefall_queue::verbs::{Idempotency, PageRequest, Precondition};
use lakefall_queue::{BindingName, NamespaceName, Offset, PartitionIndex, ShardId, TopicId};

fn mark(index: u32) -> Mark {
    Mark { index, not_before: None, priority: 0, group: None }
}

fn ordered() -> QueueConfig {
    QueueConfig { ordering: Ordering::Key, ..QueueConfig::default() }
}

fn bounded(max_depth: u64, overflow: Overflow) -> QueueConfig {
    QueueConfig { max_depth: Some(max_depth), overflow, ..QueueConfig::default() }
}

fn reading(topics: &[&str]) -> QueueConfig {
    QueueConfig { topics: topics.iter().map(|name| topic_name(name)).collect(), start: QueueStart::Earliest, ..QueueConfig::default() }
}

fn with_dead_letters(topic: &str) -> QueueConfig {
    QueueConfig { dead_letter: Some(DeadLetter { topic: topic_name(topic) }), ..QueueConfig::default() }
}

fn delete_topic(name: &str) -> Command {
    Command::DeleteTopic { namespace: ns(), name: topic_name(name), condition: Precondition::Always }
}

#[test]
fn messages_are_leased_oldest_first_and_to_one_receiver_at_a_time() {
    let (mut bench, queue) = Bench::with_messages(QueueConfig::default(), 10);
    assert_eq!(offsets(&bench.receive(&queue, 4)), [0, 1, 2, 3]);
    let grants = bench.receive(&queue, 100);
    assert_eq!(offsets(&grants), [4, 5, 6, 7, 8, 9]);
    assert_eq!((grants[0].attempt, grants[0].lease_until), (1, START.plus(LEASE)));
    assert!(bench.receive(&queue, 100).is_empty());
}

#[test]
fn a_receive_that_finds_nothing_is_not_journaled() {
    let (mut bench, queue) = Bench::with_messages(QueueConfig::default(), 1);
    bench.receive(&queue, 1);
    bench.receive(&queue, 1);
    assert!(bench.entries.last().unwrap().commands.is_empty());
}

#[test]
fn a_message_whose_lease_is_over_is_leased_again_before_fresh_ones_with_the_next_attempt() {
    let (mut bench, queue) = Bench::with_messages(QueueConfig::default(), 10);
    bench.receive(&queue, 2);
    bench.pass(LEASE);
    let grants = bench.receive(&queue, 3);
    assert_eq!(offsets(&grants), [0, 1, 2]);
    assert_eq!(grants.iter().map(|grant| grant.attempt).collect::<Vec<_>>(), [2, 1]);
}

#[test]
fn an_acknowledged_message_never_comes_back_and_acknowledging_twice_is_done() {
    let (mut bench, queue) = Bench::with_messages(QueueConfig::default(), 3);
    let grants = bench.receive(&queue, 3);
    assert_eq!(bench.settle(&queue, &grants[0], SettleAction::Ack), [Done, Done, Done]);
    assert_eq!(bench.settle(&queue, &grants[0], SettleAction::Ack), [Done, Done, Done]);
    assert!(bench.entries.last().unwrap().commands.is_empty(), "the second one is not journaled");
    bench.pass(LEASE);
    assert!(bench.receive(&queue, 3).is_empty());
    assert_eq!((bench.numbers(&queue).acked_total, bench.numbers(&queue).finished), (3, 3));
}

#[test]
fn a_lease_that_is_over_settles_nothing_even_if_nobody_took_the_message_since() {
    let (mut bench, queue) = Bench::with_messages(QueueConfig::default(), 1);
    let grants = bench.receive(&queue, 1);
    bench.pass(LEASE);
    for action in [SettleAction::Ack, SettleAction::Bury, SettleAction::Release { delay: LEASE }, SettleAction::Extend { lease: LEASE }] {
        assert_eq!(bench.settle(&queue, &grants[0], action), [Expired]);
    }
    let again = bench.receive(&queue, 1);
    assert_eq!(bench.settle(&queue, &grants[0], SettleAction::Ack), [Expired], "of the attempt before");
    assert_eq!(bench.settle(&queue, &again[0], SettleAction::Ack), [Done]);
}

#[test]
fn how_leases_stand_can_be_asked_without_settling_them() {
    let (mut bench, queue) = Bench::with_messages(QueueConfig::default(), 4);
    let grants = bench.receive(&queue, 3);
    bench.settle(&queue, &single(&grants[0], 0), SettleAction::Ack);
    bench.settle(&queue, &single(&grants[0], 1), SettleAction::Release { delay: LEASE });
    let before = bench.ledger.snapshot();
    let ask = |bench: &Bench, generation| {
        let items = vec![item(&lakefall_queue::ledger::Grant { count: 5, ..grants[0] }, SettleAction::Ack)];
        let leases = SettleMessages { queue: queue.id, generation, version: None, items };
        let Ok(Answer::QueueLeases(runs)) = bench.ledger.query(&Query::QueueLeases(leases)) else { panic!("no answer") };
        runs.into_iter().flat_map(|run| std::iter::repeat_n(run.outcome, run.count as usize)).collect::<Vec<_>>()
    };
    let until = Until(START.plus(LEASE));
    assert_eq!(ask(&bench, queue.generation), [Done, Expired, until, Unknown, Unknown]);
    assert_eq!(ask(&bench, queue.generation + 1), [Expired, Expired, Expired, Expired, Unknown], "of before it was moved");
    assert!(before == bench.ledger.snapshot());
    bench.pass(LEASE);
    bench.receive(&queue, 0);
    assert_eq!(ask(&bench, queue.generation)[2], Expired);
}

#[test]
fn what_was_never_leased_is_unknown() {
    let (mut bench, queue) = Bench::with_messages(QueueConfig::default(), 5);
    let grants = bench.receive(&queue, 1);
    let fresh = single(&grants[0], 3);
    assert_eq!(bench.settle(&queue, &fresh, SettleAction::Ack), [Unknown]);
    let beyond = lakefall_queue::ledger::Grant { count: 1_000_000, ..single(&grants[0], 4) };
    assert_eq!(bench.settle(&queue, &beyond, SettleAction::Ack).len(), 1_000_000);
    let elsewhere = lakefall_queue::ledger::Grant { partition: PartitionIndex(7), ..grants[0] };
    assert_eq!(bench.settle(&queue, &elsewhere, SettleAction::Ack), [Unknown]);
}

#[test]
fn a_released_message_comes_back_after_its_delay_and_with_none_at_once() {
    let (mut bench, queue) = Bench::with_messages(QueueConfig::default(), 2);
    let grants = bench.receive(&queue, 2);
    assert_eq!(bench.settle(&queue, &single(&grants[0], 0), SettleAction::Release { delay: Duration::ZERO }), [Done]);
    assert!(bench.told_ready());
    assert_eq!(bench.settle(&queue, &single(&grants[0], 1), SettleAction::Release { delay: Duration::from_secs(5) }), [Done]);
    assert!(!bench.told_ready());
    assert_eq!(offsets(&bench.receive(&queue, 9)), [0]);
    assert_eq!(bench.ledger.wake_at(), Some(START.plus(Duration::from_secs(5))));
    bench.pass(Duration::from_millis(4_999));
    assert!(bench.receive(&queue, 9).is_empty());
    bench.pass(Duration::from_millis(1));
    assert_eq!(offsets(&bench.receive(&queue, 9)), [1]);
}

#[test]
fn giving_back_twice_is_done_as_the_first_time_and_the_first_one_s_delay_stands() {
    let (mut bench, queue) = Bench::with_messages(QueueConfig::default(), 1);
    let grants = bench.receive(&queue, 1);
    let release = SettleAction::Release { delay: Duration::from_secs(5) };
    for action in [release, release, SettleAction::Extend { lease: Duration::ZERO }] {
        assert_eq!(bench.settle(&queue, &grants[0], action), [Done]);
    }
    assert!(bench.entries.last().unwrap().commands.is_empty(), "the first one's delay stands");
    for action in [SettleAction::Ack, SettleAction::Bury, SettleAction::Extend { lease: LEASE }] {
        assert_eq!(bench.settle(&queue, &grants[0], action), [Expired]);
    }
}

#[test]
fn giving_back_is_answered_again_as_the_first_time_although_another_receiver_has_the_message_or_finished_it() {
    let (mut bench, queue) = Bench::with_messages(QueueConfig::default(), 2);
    let release = SettleAction::Release { delay: Duration::ZERO };
    let grants = bench.receive(&queue, 2);
    let (first, second) = (single(&grants[0], 0), single(&grants[0], 1));
    assert_eq!(bench.settle(&queue, &first, release), [Done]);
    let taken = bench.receive(&queue, 1);
    assert_eq!((offsets(&taken), taken[0].attempt), (vec![0], 2));
    // Its answer may have been lost: whoever gave it back asks again, and takes nothing from who has it now.
    assert_eq!(bench.settle(&queue, &first, release), [Done]);
    assert!(bench.entries.last().unwrap().commands.is_empty(), "nothing changes by it");
    for action in [SettleAction::Ack, SettleAction::Bury, SettleAction::Extend { lease: LEASE }] {
        assert_eq!(bench.settle(&queue, &first, action), [Expired]);
    }
    // A lease that ended by itself was not given back, whoever has the message since.
    bench.pass(LEASE);
    assert_eq!(bench.receive(&queue, 2).len(), 2);
    assert_eq!(bench.settle(&queue, &second, release), [Expired]);
    let third = lakefall_queue::ledger::Grant { attempt: 3, ..first };
    assert_eq!(bench.settle(&queue, &third, SettleAction::Ack), [Done]);
    assert_eq!(bench.settle(&queue, &first, release), [Done]);
    assert!(bench.ledger.snapshot() == bench.replayed().snapshot());
    bench.pass(Duration::from_secs(60));
    assert_eq!(bench.settle(&queue, &first, release), [Expired], "that is too long ago to be known");
}

#[test]
fn a_lease_that_was_delivered_to_nobody_is_an_attempt_but_no_delivery() {
    let (mut bench, queue) = Bench::with_messages(QueueConfig::default(), 2);
    let grants = bench.receive(&queue, 2);
    assert_eq!((grants[0].attempt, grants[0].deliveries()), (1, 1));
    let undelivered = SettleAction::Undelivered { delay: Duration::from_secs(5) };
    assert_eq!(bench.settle(&queue, &single(&grants[0], 0), undelivered), [Done]);
    assert_eq!(bench.settle(&queue, &single(&grants[0], 0), undelivered), [Done], "once");
    bench.settle(&queue, &single(&grants[0], 1), SettleAction::Release { delay: Duration::from_secs(5) });
    assert!(bench.receive(&queue, 2).is_empty());
    bench.pass(Duration::from_secs(5));
    let grants = bench.receive(&queue, 2);
    let told: Vec<_> = grants.iter().map(|grant| (grant.first.0, grant.attempt, grant.undelivered, grant.deliveries())).collect();
    assert_eq!(told, [(0, 2, 1, 1), (1, 2, 0, 2)]);
    bench.pass(LEASE);
    assert_eq!(bench.receive(&queue, 1)[0].deliveries(), 2, "it may have been delivered");
    assert!(bench.ledger.snapshot() == bench.replayed().snapshot());
}

#[test]
fn an_extended_lease_lasts_from_now_on_and_an_extension_by_nothing_gives_it_back() {
    let (mut bench, queue) = Bench::with_messages(QueueConfig::default(), 1);
    let grants = bench.receive(&queue, 1);
    bench.pass(Duration::from_secs(20));
    let until = bench.now.plus(LEASE);
    assert_eq!(bench.settle(&queue, &grants[0], SettleAction::Extend { lease: LEASE }), [Until(until)]);
    bench.pass(Duration::from_secs(29));
    assert!(bench.receive(&queue, 1).is_empty());
    assert_eq!(bench.settle(&queue, &grants[0], SettleAction::Extend { lease: Duration::ZERO }), [Done]);
    assert!(bench.told_ready());
    assert_eq!(bench.receive(&queue, 1)[0].attempt, 2);
}

#[test]
fn a_lease_of_nothing_is_over_a_millisecond_later_and_gives_no_message_twice_at_once() {
    let (mut bench, queue) = Bench::with_messages(QueueConfig::default(), 1);
    let want = Want { max: 5, lease: Duration::ZERO, request: None };
    let classified = bench.classified(&queue, Vec::new());
    let received = bench.receive_with(&queue, classified, vec![want, want]);
    assert_eq!((offsets(&received.grants[0]), offsets(&received.grants[1])), (vec![0], vec![]));
    bench.pass(Duration::from_millis(1));
    assert_eq!(offsets(&bench.receive(&queue, 5)), [0]);
}

#[test]
fn a_message_tells_when_it_was_leased_first_however_often_it_is_leased_again_and_whoever_owns_it() {
    let (mut bench, queue) = Bench::with_messages(QueueConfig::default(), 4);
    let first = |grants: &[lakefall_queue::ledger::Grant]| grants.iter().map(|grant| grant.first_leased).collect::<Vec<_>>();
    let urgent = Mark { priority: 5, ..mark(2) };
    bench.pass(Duration::from_millis(1_700));
    let (one, later) = (Some(START.plus(Duration::from_secs(1))), Some(START.plus(Duration::from_secs(10))));
    assert_eq!(first(&bench.receive_marked(&queue, vec![urgent], 2)), [one, one], "to the second");
    bench.now = START.plus(Duration::from_secs(10));
    assert_eq!(first(&bench.receive(&queue, 1)), [later]);
    bench.pass(LEASE);
    let store = bench.ledger.checkpoint();
    let mut owner = lakefall_queue::ledger::Ledger::restore(ShardId(0), &store.shard, store.puts).unwrap();
    let command = ReceiveMessages {
        queue: queue.id,
        generation: queue.generation,
        classified: Vec::new(),
        wants: vec![Want { max: 9, lease: LEASE, request: None }],
    };
    let Ok(Reply::Received(received)) = owner.apply(&Command::Receive(command), bench.now).reply else { panic!("no reply") };
    assert_eq!(received.grants[0].iter().map(|grant| (grant.first.0, grant.attempt)).collect::<Vec<_>>(), [(2, 2), (0, 2), (1, 2), (3, 1)]);
    assert_eq!(first(&received.grants[0]), [one, one, later, Some(START.plus(Duration::from_secs(40)))]);
    assert_eq!(first(&bench.receive(&queue, 9)), first(&received.grants[0]));
}

#[test]
fn a_repeated_receive_gets_the_leases_that_go_on_and_new_ones_when_none_does() {
    let (mut bench, queue) = Bench::with_messages(QueueConfig::default(), 10);
    let want = Want { max: 3, lease: LEASE, request: Some(77) };
    let classified = bench.classified(&queue, Vec::new());
    let first = bench.receive_with(&queue, classified, vec![want]).grants.remove(0);
    assert_eq!(bench.receive_with(&queue, Vec::new(), vec![want]).grants[0], first);
    bench.settle(&queue, &single(&first[0], 1), SettleAction::Ack);
    assert_eq!(offsets(&bench.receive_with(&queue, Vec::new(), vec![want]).grants[0]), [0, 2]);
    bench.pass(LEASE);
    let later = bench.receive_with(&queue, Vec::new(), vec![want]).grants.remove(0);
    assert_eq!(offsets(&later), [0, 2, 3]);
}

#[test]
fn a_receive_whose_leases_were_extended_is_remembered_as_long_as_they_go_on() {
    let (mut bench, queue) = Bench::with_messages(QueueConfig::default(), 10);
    let want = |request| vec![Want { max: 1, lease: LEASE, request: Some(request) }];
    let classified = bench.classified(&queue, Vec::new());
    let first = bench.receive_with(&queue, classified, want(1)).grants.remove(0);
    bench.settle(&queue, &first[0], SettleAction::Extend { lease: LEASE * 3 });
    bench.pass(LEASE);
    bench.receive_with(&queue, Vec::new(), want(2));
    assert_eq!(offsets(&bench.receive_with(&queue, Vec::new(), want(1)).grants[0]), [0], "though others were forgotten since");
}

#[test]
fn a_repeated_receive_gets_nothing_that_was_leased_anew_since_its_topic_was_bound_again() {
    let mut bench = Bench::new();
    let topic = bench.put_topic("in", 1);
    bench.put_topic("other", 1);
    bench.append(topic, 2);
    let queue = bench.put("work", reading(&["in"]));
    let want = |request| vec![Want { max: 1, lease: LEASE, request }];
    let classified = bench.classified(&queue, Vec::new());
    assert_eq!(offsets(&bench.receive_with(&queue, classified, want(Some(1))).grants[0]), [0]);
    bench.put("work", reading(&["other"]));
    let queue = bench.put("work", reading(&["in"]));
    let classified = bench.classified(&queue, Vec::new());
    assert_eq!(offsets(&bench.receive_with(&queue, classified, want(None)).grants[0]), [0], "somebody else has it now");
    assert_eq!(offsets(&bench.receive_with(&queue, Vec::new(), want(Some(1))).grants[0]), [1]);
}

#[test]
fn skipped_messages_are_finished_and_delayed_ones_come_when_they_are_due() {
    let (mut bench, queue) = Bench::with_messages(QueueConfig::default(), 6);
    let topic = queue.sources[0].topic;
    let due = START.plus(Duration::from_secs(60));
    let classified = Classified {
        topic,
        partition: P0,
        from: Offset(0),
        to: Offset(6),
        skipped: vec![(0, 2), (5, 1)],
        marks: vec![Mark { not_before: Some(due), ..mark(3) }],
    };
    let received = bench.receive_with(&queue, vec![classified.clone()], vec![Want { max: 10, lease: LEASE, request: None }]);
    assert_eq!(offsets(&received.grants[0]), [2, 4]);
    assert_eq!((bench.numbers(&queue).delayed, bench.numbers(&queue).leased), (1, 2));
    bench.settle(&queue, &received.grants[0][0], SettleAction::Ack);
    bench.settle(&queue, &received.grants[0][1], SettleAction::Ack);
    assert!(bench.ledger.wake(START.plus(LEASE)).is_empty(), "those leases were settled");
    assert_eq!(bench.ledger.wake_at(), Some(due));
    bench.pass(Duration::from_secs(60));
    // What was classified before is passed over.
    let received = bench.receive_with(&queue, vec![classified], vec![Want { max: 10, lease: LEASE, request: None }]);
    assert_eq!(offsets(&received.grants[0]), [3]);
}

#[test]
fn classification_that_begins_too_far_on_is_ignored() {
    let (mut bench, queue) = Bench::with_messages(QueueConfig::default(), 6);
    let topic = queue.sources[0].topic;
    let classified = Classified { topic, partition: P0, from: Offset(1), to: Offset(6), skipped: vec![(0, 5)], marks: vec![] };
    let received = bench.receive_with(&queue, vec![classified], Vec::new());
    assert_eq!((received.partitions[0].scanned, received.partitions[0].end, received.ready), (Offset(0), Offset(6), 0));
}

#[test]
fn higher_priorities_are_leased_first_and_as_many_as_the_queue_tells_apart() {
    let (mut bench, queue) = Bench::with_messages(QueueConfig { priorities: 5, ..QueueConfig::default() }, 6);
    let marks = vec![Mark { priority: 2, ..mark(1) }, Mark { priority: 9, ..mark(3) }, Mark { priority: 4, ..mark(5) }];
    assert_eq!(offsets(&bench.receive_marked(&queue, marks, 4)), [3, 5, 1, 0]);
}

#[test]
fn messages_of_one_key_are_leased_one_at_a_time_in_order_and_other_keys_go_on() {
    let (mut bench, queue) = Bench::with_messages(ordered(), 6);
    let of = |index: u32, group: u64| Mark { group: Some(group), ..mark(index) };
    let marks = vec![of(0, 1), of(1, 1), of(2, 2), of(3, 1), of(4, 2)];
    let grants = bench.receive_marked(&queue, marks, 10);
    // 5 has no key.
    assert_eq!(offsets(&grants), [0, 2, 5]);
    assert_eq!(bench.numbers(&queue).blocked, 3);
    bench.settle(&queue, &grants[0], SettleAction::Release { delay: Duration::from_secs(9) });
    assert!(!bench.told_ready());
    assert!(bench.receive(&queue, 10).is_empty(), "a delayed message holds those behind it");
    bench.pass(Duration::from_secs(9));
    let grants = bench.receive(&queue, 10);
    assert_eq!((offsets(&grants), grants[0].attempt), (vec![0], 2));
    bench.settle(&queue, &grants[0], SettleAction::Bury);
    assert!(bench.told_ready(), "the next one's turn has come");
    assert_eq!(offsets(&bench.receive(&queue, 10)), [1]);
}

#[test]
fn a_key_is_leased_once_over_all_partitions() {
    let mut bench = Bench::new();
    let topic = bench.put_topic("two", 2);
    let queue = bench.put("work", QueueConfig { ordering: Ordering::Key, ..reading(&["two"]) });
    for partition in [P0, PartitionIndex(1)] {
        bench.append_to(topic, partition, 1);
    }
    let mut classified = bench.classified(&queue, vec![Mark { group: Some(5), ..mark(0) }]);
    classified[1].marks = vec![Mark { group: Some(5), ..mark(0) }];
    let want = Want { max: 10, lease: LEASE, request: None };
    let first = bench.receive_with(&queue, classified, vec![want]).grants.remove(0);
    assert_eq!(offsets(&first), [0]);
    assert!(bench.receive(&queue, 10).is_empty());
    bench.settle(&queue, &first[0], SettleAction::Ack);
    assert!(bench.told_ready());
    let second = bench.receive(&queue, 10);
    assert_ne!(second[0].partition, first[0].partition);
}

#[test]
fn partitions_share_a_receive_and_take_turns_in_beginning() {
    let mut bench = Bench::new();
    let topic = bench.put_topic("three", 3);
    let queue = bench.put("work", reading(&["three"]));
    (0..3).for_each(|index| drop(bench.append_to(topic, PartitionIndex(index), 100)));
    let counts = |grants: &[lakefall_queue::ledger::Grant]| {
        let mut counts = [0; 3];
        grants.iter().for_each(|grant| counts[grant.partition.0 as usize] += grant.count);
        counts
    };
    assert_eq!(counts(&bench.receive(&queue, 30)), [10, 10, 10]);
    let mut first = [0; 3];
    for _ in 0..30 {
        first[bench.receive(&queue, 1)[0].partition.0 as usize] += 1;
    }
    assert_eq!(first, [10, 10, 10]);
}

#[test]
fn no_more_than_max_in_flight_are_leased_and_who_waits_is_told_when_there_is_room() {
    let (mut bench, queue) = Bench::with_messages(QueueConfig { max_in_flight: Some(3), ..QueueConfig::default() }, 10);
    let grants = bench.receive(&queue, 10);
    assert_eq!(offsets(&grants), [0, 1, 2]);
    assert!(bench.receive_with(&queue, Vec::new(), Vec::new()).held_back);
    bench.settle(&queue, &single(&grants[0], 1), SettleAction::Ack);
    assert!(bench.told_ready());
    assert_eq!(offsets(&bench.receive(&queue, 10)), [3]);
    bench.pass(LEASE);
    assert_eq!(offsets(&bench.receive(&queue, 2)), [0, 2]);
}

#[test]
fn a_message_is_cancelled_whether_it_is_delayed_or_not_even_looked_at_but_not_while_somebody_has_it() {
    let (mut bench, queue) = Bench::with_messages(QueueConfig::default(), 2);
    let later = Mark { not_before: Some(START.plus(LEASE)), ..mark(0) };
    let grants = bench.receive_marked(&queue, vec![later], 1);
    assert_eq!(offsets(&grants), [1]);
    bench.append(queue.sources[0].topic, 2);
    let message = |offset| lakefall_queue::ledger::Grant { first: Offset(offset), attempt: 0, ..grants[0] };
    for offset in [0, 3] {
        assert_eq!(bench.settle(&queue, &message(offset), SettleAction::Cancel), [Done]);
        assert_eq!(bench.settle(&queue, &message(offset), SettleAction::Cancel), [Expired], "it is finished");
    }
    assert_eq!(bench.settle(&queue, &message(1), SettleAction::Cancel), [Expired], "it is leased");
    bench.settle(&queue, &grants[0], SettleAction::Release { delay: LEASE });
    assert_eq!(bench.settle(&queue, &message(1), SettleAction::Cancel), [Done]);
    bench.pass(LEASE);
    assert_eq!(offsets(&bench.receive(&queue, 10)), [2]);
    assert_eq!(bench.settle(&queue, &message(4), SettleAction::Cancel), [Unknown]);
}

#[test]
fn a_lease_that_ends_wakes_once_and_nothing_is_journaled_for_it() {
    let (mut bench, queue) = Bench::with_messages(QueueConfig::default(), 2);
    assert_eq!(bench.ledger.wake_at(), None);
    let grants = bench.receive(&queue, 2);
    let end = START.plus(LEASE);
    assert_eq!(bench.ledger.wake_at(), Some(end));
    let before = bench.ledger.snapshot();
    assert!(bench.ledger.wake(START).is_empty());
    assert_eq!(bench.ledger.wake(end), [Notice::QueueReady { queue: queue.id }]);
    assert_eq!((bench.ledger.wake(end), bench.ledger.wake_at()), (vec![], None));
    assert!(before == bench.ledger.snapshot());
    assert_eq!((bench.numbers(&queue).ready, bench.numbers(&queue).leased), (2, 0));
    // Whatever a clock ahead of the group's time was told, leases go on by the group's.
    assert_eq!(bench.settle(&queue, &grants[0], SettleAction::Ack), [Done, Done]);
}

#[test]
fn time_does_not_go_back_behind_a_receive_that_was_not_journaled() {
    let (mut bench, queue) = Bench::with_messages(QueueConfig::default(), 1);
    bench.receive(&queue, 1);
    let look = ReceiveMessages { queue: queue.id, generation: queue.generation, classified: Vec::new(), wants: Vec::new() };
    assert!(!bench.ledger.apply(&Command::Receive(look), START.plus(LEASE)).changed);
    // The next group sees that the lease is over, and so does its replay.
    assert_eq!(bench.ledger.group_time(START), START.plus(LEASE));
}

#[test]
fn what_is_acknowledged_in_time_wakes_nobody() {
    let (mut bench, queue) = Bench::with_messages(QueueConfig::default(), 3);
    let first = bench.receive(&queue, 1);
    bench.pass(Duration::from_secs(10));
    bench.receive(&queue, 1);
    bench.settle(&queue, &first[0], SettleAction::Ack);
    assert!(bench.ledger.wake(START.plus(LEASE)).is_empty());
    assert_eq!(bench.ledger.wake_at(), Some(START.plus(Duration::from_secs(40))));
}

#[test]
fn what_the_log_lost_is_finished_and_the_queue_goes_on_behind_it() {
    let (mut bench, queue) = Bench::with_messages(QueueConfig::default(), 10_000);
    let grants = bench.receive(&queue, 5);
    let trim = Command::Trim { topic: queue.sources[0].topic, partition: None, before: Offset(9_000) };
    bench.apply(trim);
    assert_eq!(bench.settle(&queue, &single(&grants[0], 0), SettleAction::Ack), [Done]);
    assert_eq!(bench.settle(&queue, &single(&grants[0], 1), SettleAction::Extend { lease: LEASE }), [Expired]);
    assert_eq!(offsets(&bench.receive(&queue, 2)), [9_000, 9_001]);
    assert_eq!((bench.numbers(&queue).leased, bench.numbers(&queue).ready), (2, 998));
}

#[test]
fn a_full_queue_refuses_messages_until_some_are_finished() {
    let (mut bench, queue) = Bench::with_messages(bounded(3, Overflow::Reject), 3);
    let topic = queue.sources[0].topic;
    let full = Refusal::QueueFull { queue: queue_name("work"), max_depth: 3 };
    assert_eq!(bench.append(topic, 1).slices, [SliceOutcome::Refused(full.clone())]);
    let grants = bench.receive(&queue, 1);
    assert_eq!(bench.append(topic, 1).slices, [SliceOutcome::Refused(full)], "a leased message is not finished");
    bench.settle(&queue, &grants[0], SettleAction::Ack);
    assert_eq!(bench.append(topic, 1).slices, [SliceOutcome::Stored(Offset(3))]);
    bench.apply(Command::Trim { topic, partition: None, before: Offset(4) });
    assert_eq!(bench.append(topic, 3).slices, [SliceOutcome::Stored(Offset(4))]);
}

#[test]
fn what_one_topic_fills_is_no_room_for_the_others_of_the_queue() {
    let mut bench = Bench::new();
    let topics = ["a", "b", "c"].map(|name| bench.put_topic(name, 1));
    let config = QueueConfig { topics: ["a", "b", "c"].map(topic_name).to_vec(), ..bounded(20, Overflow::Reject) };
    bench.put("work", QueueConfig { start: QueueStart::Earliest, ..config });
    assert_eq!(bench.append(topics[0], 16).slices, [SliceOutcome::Stored(Offset(0))]);
    assert_eq!(bench.append(topics[1], 1).slices, [SliceOutcome::Stored(Offset(0))]);
    let full = Refusal::QueueFull { queue: queue_name("work"), max_depth: 20 };
    assert_eq!(bench.append(topics[1], 4).slices, [SliceOutcome::Refused(full.clone())]);
    assert_eq!(bench.append(topics[2], 3).slices, [SliceOutcome::Stored(Offset(0))]);
    assert_eq!(bench.append(topics[0], 1).slices, [SliceOutcome::Refused(full)]);
}

#[test]
fn an_atom_that_a_full_queue_has_no_room_for_is_refused_as_a_whole() {
    let (mut bench, queue) = Bench::with_messages(bounded(3, Overflow::Reject), 1);
    let topic = queue.sources[0].topic;
    let slice = |records| (topic, P0, Slice { length: 10, records, atom: Some(0), ..Slice::default() });
    let atom = Atom { namespace: ns(), idempotency: None, layout: Vec::new(), cursors: Vec::new(), settles: Vec::new() };
    let reply = bench.commit(vec![slice(2), slice(1)], vec![atom]);
    assert_eq!(reply.atoms, [AtomOutcome::Refused(Refusal::QueueFull { queue: queue_name("work"), max_depth: 3 })]);
}

#[test]
fn what_an_atom_acknowledges_makes_room_for_what_it_appends() {
    for overflow in [Overflow::Reject, Overflow::DropOldest] {
        let (mut bench, queue) = Bench::with_messages(bounded(3, overflow), 3);
        let topic = queue.sources[0].topic;
        let grants = bench.receive(&queue, 1);
        let slice = |records| (topic, P0, Slice { length: 10, records, atom: Some(0), ..Slice::default() });
        let items = vec![item(&grants[0], SettleAction::Ack)];
        let settles = vec![SettleMessages { queue: queue.id, generation: queue.generation, version: None, items }];
        let atom = Atom { namespace: ns(), idempotency: None, layout: Vec::new(), cursors: Vec::new(), settles };
        if overflow == Overflow::Reject {
            let full = AtomOutcome::Refused(Refusal::QueueFull { queue: queue_name("work"), max_depth: 3 });
            assert_eq!(bench.commit(vec![slice(2)], vec![atom.clone()]).atoms, [full], "one leaves, two come");
        }
        assert_eq!(bench.commit(vec![slice(1)], vec![atom]).atoms, [AtomOutcome::Applied]);
        assert_eq!(offsets(&bench.receive(&queue, 10)), [1, 2, 3], "none had to go for it");
    }
}

#[test]
fn a_queue_that_drops_keeps_its_newest_messages_and_those_that_are_leased() {
    let (mut bench, queue) = Bench::with_messages(bounded(5, Overflow::DropOldest), 5);
    let topic = queue.sources[0].topic;
    bench.receive(&queue, 1);
    bench.append(topic, 3);
    assert_eq!(offsets(&bench.receive(&queue, 10)), [4, 5, 6, 7]);
    bench.append(topic, 20_000);
    assert_eq!(bench.numbers(&queue).ready, 0, "all room is leased");
    bench.pass(LEASE);
    bench.append(topic, 20_000);
    assert_eq!(offsets(&bench.receive(&queue, 10)), [40_003, 40_004, 40_005, 40_006, 40_007]);
    assert!(bench.numbers(&queue).state_bytes < 4_096, "{}", bench.numbers(&queue).state_bytes);
}

#[test]
fn nothing_is_finished_for_good_by_settings_that_are_not_the_queues_any_more() {
    let (mut bench, queue) = Bench::with_messages(QueueConfig::default(), 2);
    let grants = bench.receive(&queue, 2);
    bench.put_topic("letters", 1);
    let changed = bench.put("work", QueueConfig { topics: vec![topic_name("work")], ..with_dead_letters("letters") });
    assert_eq!((queue.version, changed.version, changed.generation), (1, 2, queue.generation));
    let bury = |version| SettleMessages {
        queue: queue.id,
        generation: queue.generation,
        version,
        items: vec![item(&single(&grants[0], 0), SettleAction::Bury)],
    };
    assert_eq!(bench.refusal(Command::Settle(bury(Some(1)))), Error::QueueChanged("work".to_owned()));
    let atom = |version| Atom { namespace: ns(), idempotency: None, layout: Vec::new(), cursors: Vec::new(), settles: vec![bury(version)] };
    let stale = Refusal::QueueChanged { queue: queue_name("work") };
    assert_eq!(bench.commit(Vec::new(), vec![atom(Some(1))]).atoms, [AtomOutcome::Refused(stale)]);
    assert_eq!(bench.commit(Vec::new(), vec![atom(Some(2))]).atoms, [AtomOutcome::Applied]);
    assert_eq!(bench.settle(&queue, &single(&grants[0], 1), SettleAction::Ack), [Done], "an ack hangs on no settings");
}

#[test]
fn a_queue_whose_oldest_become_dead_letters_tells_that_it_has_too_many_and_refuses_from_twice_the_bound_on() {
    let mut bench = Bench::new();
    let alone = bounded(3, Overflow::DeadLetter);
    assert!(matches!(bench.refusal(put_queue("work", alone.clone())), Error::Invalid { field, .. } if field == "overflow"));
    let queue = bench.put("work", QueueConfig { dead_letter: with_dead_letters("work.dead").dead_letter, ..alone });
    let topic = queue.sources[0].topic;
    let over = |bench: &Bench| bench.notices.iter().any(|notice| matches!(notice, Notice::QueueOver { queue: of, .. } if *of == queue.id));
    bench.append(topic, 3);
    assert!(!over(&bench));
    bench.append(topic, 1);
    assert!(over(&bench));
    assert_eq!(bench.append(topic, 2).slices, [SliceOutcome::Stored(Offset(4))]);
    assert_eq!(bench.append(topic, 1).slices, [SliceOutcome::Refused(Refusal::QueueFull { queue: queue_name("work"), max_depth: 6 })]);
}

#[test]
fn an_atom_settles_all_its_leases_or_nothing() {
    let (mut bench, queue) = Bench::with_messages(QueueConfig::default(), 3);
    let grants = bench.receive(&queue, 2);
    let out = bench.put_topic("out", 1);
    let atom = |items| Atom {
        namespace: ns(),
        idempotency: None,
        layout: Vec::new(),
        cursors: Vec::new(),
        settles: vec![SettleMessages { queue: queue.id, generation: queue.generation, version: None, items }],
    };
    let slice = || vec![(out, P0, Slice { length: 10, records: 1, atom: Some(0), ..Slice::default() })];
    let lease = |offset| Refusal::Lease { queue: queue.id, topic: grants[0].topic, partition: P0, offset: Offset(offset) };
    let (good, bad) = (item(&grants[0], SettleAction::Ack), item(&single(&grants[0], 2), SettleAction::Ack));
    assert_eq!(bench.commit(slice(), vec![atom(vec![good, bad])]).atoms, [AtomOutcome::Refused(lease(2))]);
    assert_eq!(bench.commit(slice(), vec![atom(vec![good, good])]).atoms, [AtomOutcome::Refused(lease(0))], "a message twice");
    let other = Atom { namespace: NamespaceName::new("other").unwrap(), ..atom(vec![good]) };
    assert_eq!(bench.commit(slice(), vec![other]).atoms, [AtomOutcome::Refused(lease(0))], "another namespace's lease");
    let reply = bench.commit(slice(), vec![atom(vec![good])]);
    assert_eq!((&reply.atoms[..], &reply.slices[..]), (&[AtomOutcome::Applied][..], &[SliceOutcome::Stored(Offset(0))][..]));
    // Its effect comes once, however often it is tried.
    assert_eq!(bench.commit(slice(), vec![atom(vec![good])]).atoms, [AtomOutcome::Refused(lease(0))]);
    assert_eq!(bench.numbers(&queue).acked_total, 2);
    // Leases alone make an atom, too.
    let last = bench.receive(&queue, 1);
    let alone = vec![atom(vec![item(&last[0], SettleAction::Bury)])];
    assert_eq!(bench.commit(Vec::new(), alone).atoms, [AtomOutcome::Applied]);
    assert_eq!(bench.numbers(&queue).dead_total, 1);
}

#[test]
fn a_moved_queue_forgets_its_leases_and_their_receipts_are_stale() {
    let (mut bench, queue) = Bench::with_messages(QueueConfig::default(), 5);
    let grants = bench.receive(&queue, 3);
    let moved = bench.seek("work", QueueStart::Earliest);
    assert_eq!(moved.generation, queue.generation + 1);
    assert_eq!(bench.settle(&queue, &grants[0], SettleAction::Ack), [Expired, Expired, Expired]);
    let stale = ReceiveMessages { queue: queue.id, generation: queue.generation, classified: Vec::new(), wants: Vec::new() };
    assert_eq!(bench.refusal(Command::Receive(stale)), Error::QueueChanged("work".to_owned()));
    assert_eq!(offsets(&bench.receive(&moved, 10)), [0, 1, 2, 3, 4]);
    let purged = bench.seek("work", QueueStart::Latest);
    assert!(bench.receive(&purged, 10).is_empty());
    assert_eq!(bench.numbers(&purged).ready, 0);
}

#[test]
fn a_queue_is_created_with_its_topic_its_dead_letter_topic_and_the_queue_of_that() {
    let mut bench = Bench::new();
    let queue = bench.put("work", with_dead_letters("work.dead"));
    assert_eq!((queue.config.topics.clone(), queue.sources.len()), (vec![topic_name("work")], 1));
    let Ok(Answer::Queue(dead)) = bench.ledger.query(&Query::Queue(ns(), queue_name("work.dead"))) else { panic!("no queue") };
    assert_eq!(dead.sources[0].name, topic_name("work.dead"));
    bench.append(dead.sources[0].topic, 4);
    assert_eq!(bench.numbers(&queue).dead, 4);
    assert_eq!(bench.put("work", QueueConfig { lease: LEASE * 2, ..queue.config.clone() }).version, 2);
}

#[test]
fn topics_that_are_not_there_are_refused_unless_they_are_the_new_queues_own() {
    let mut bench = Bench::new();
    let missing = |name| Error::TopicNotFound(topic_name(name));
    assert_eq!(bench.refusal(put_queue("work", reading(&["orders"]))), missing("orders"));
    bench.put_topic("orders", 1);
    let queue = bench.put("work", reading(&["orders", "work"]));
    assert_eq!(queue.sources.len(), 2);
    assert_eq!(bench.refusal(put_queue("work", with_dead_letters("gone"))), missing("gone"));
}

#[test]
fn settings_that_cannot_be_are_refused_and_change_nothing() {
    let (mut bench, _) = Bench::with_messages(QueueConfig::default(), 0);
    assert!(matches!(bench.refusal(put_queue("work", ordered())), Error::Invalid { field, .. } if field == "ordering"));
    let endless = QueueConfig { lease: Duration::from_secs(50_000), ..QueueConfig::default() };
    assert!(matches!(bench.refusal(put_queue("other", endless)), Error::Invalid { field, .. } if field == "lease"));
    let binding = Binding { topic: topic_name("work"), matches: Match::All {} };
    let bindings: BTreeMap<_, _> = (0..1_001).map(|n| (BindingName::new(&format!("b{n}")).unwrap(), binding.clone())).collect();
    let Command::PutQueue(mut put) = put_queue("work", QueueConfig::default()) else { panic!() };
    put.bindings = Some(bindings);
    assert!(matches!(bench.refusal(Command::PutQueue(put)), Error::Invalid { field, .. } if field == "bindings"));
}

#[test]
fn dead_letters_may_not_come_back_to_their_queue_through_any_chain() {
    let mut bench = Bench::new();
    let cycle = |queue, topic| Error::DeadLetterCycle { queue: queue_name(queue), topic: topic_name(topic) };
    assert_eq!(bench.refusal(put_queue("a", with_dead_letters("a"))), cycle("a", "a"));
    bench.put("a", with_dead_letters("b"));
    bench.put_topic("c", 1);
    bench.put("b", QueueConfig { topics: vec![topic_name("b")], ..with_dead_letters("c") });
    // c is the queue of b's dead letters by now.
    let back = QueueConfig { topics: vec![topic_name("c")], ..with_dead_letters("a") };
    assert_eq!(bench.refusal(put_queue("c", back)), cycle("c", "a"));
}

#[test]
fn a_queue_named_like_a_dead_letter_topic_reads_it_or_is_refused_whichever_was_first() {
    let mut bench = Bench::new();
    let taken = Error::DeadLetterQueueTaken { queue: queue_name("failed"), topic: topic_name("failed") };
    bench.put_topic("x", 1);
    bench.put("failed", reading(&["x"]));
    assert_eq!(bench.refusal(put_queue("jobs", with_dead_letters("failed"))), taken);
    // Nor by a change of settings, nor when the topic is there.
    bench.put("jobs", QueueConfig::default());
    bench.put_topic("failed", 1);
    assert_eq!(bench.refusal(put_queue("jobs", with_dead_letters("failed"))), taken);
    bench.put("failed", reading(&["x", "failed"]));
    bench.put("jobs", with_dead_letters("failed"));
    // The other way round: letters go there.
    assert_eq!(bench.refusal(put_queue("failed", reading(&["x"]))), taken);
    bench.apply(Command::DeleteQueue { namespace: ns(), name: queue_name("failed"), condition: Precondition::Always });
    assert_eq!(bench.refusal(put_queue("failed", reading(&["x"]))), taken);
    bench.put("failed", reading(&["failed"]));
}

#[test]
fn a_queue_that_was_put_with_an_idempotency_key_is_answered_again() {
    let mut bench = Bench::new();
    let put = |fingerprint, lease| {
        let Command::PutQueue(put) = put_queue("work", QueueConfig { lease, ..QueueConfig::default() }) else { panic!() };
        Command::PutQueue(Box::new(PutQueue { idempotency: Some(Idempotency { key: "k".into(), fingerprint }), ..*put }))
    };
    let first = bench.apply(put(1, LEASE)).reply.unwrap();
    bench.put("work", QueueConfig { lease: LEASE * 2, ..QueueConfig::default() });
    let again = bench.apply(put(1, LEASE));
    assert_eq!((again.reply.unwrap(), again.changed), (first, false));
    assert_eq!(bench.refusal(put(2, LEASE)), Error::IdempotencyConflict);
}

#[test]
fn a_topic_deleted_under_a_queue_leaves_it_and_a_queue_without_topics_says_so() {
    let mut bench = Bench::new();
    bench.put_topic("orders", 1);
    let queue = bench.put("work", reading(&["orders", "work"]));
    bench.append(queue.sources[0].topic, 3);
    let grants = bench.receive(&queue, 3);
    bench.apply(delete_topic("orders"));
    assert!(bench.notices.iter().any(|notice| matches!(notice, Notice::QueueChanged { queue: id, .. } if *id == queue.id)));
    assert_eq!(bench.settle(&queue, &grants[0], SettleAction::Ack), [Unknown, Unknown, Unknown]);
    let Ok(Answer::Queue(left)) = bench.ledger.query(&Query::Queue(ns(), queue_name("work"))) else { panic!("no queue") };
    assert_eq!((left.config.topics.clone(), left.version), (vec![topic_name("work")], 2));
    bench.apply(delete_topic("work"));
    let receive = ReceiveMessages { queue: queue.id, generation: queue.generation, classified: Vec::new(), wants: Vec::new() };
    assert_eq!(bench.refusal(Command::Receive(receive)), Error::QueueWithoutTopic(queue_name("work")));
}

#[test]
fn new_partitions_of_a_topic_join_its_queues_from_their_first_record() {
    let mut bench = Bench::new();
    bench.put_topic("orders", 1);
    let queue = bench.put("work", QueueConfig { start: QueueStart::Latest, ..reading(&["orders"]) });
    let topic = bench.put_topic("orders", 2);
    bench.append_to(topic, PartitionIndex(1), 2);
    assert_eq!(offsets(&bench.receive(&queue, 10)), [0, 1]);
}

#[test]
fn a_queue_begins_where_it_was_told() {
    let mut bench = Bench::new();
    let topic = bench.put_topic("orders", 1);
    bench.append(topic, 10);
    bench.apply(Command::Trim { topic, partition: None, before: Offset(2) });
    let starts =
        [(QueueStart::Earliest, 2), (QueueStart::Latest, 10), (QueueStart::Offset(Offset(5)), 5), (QueueStart::Offset(Offset(0)), 2)];
    for (number, (start, expected)) in starts.into_iter().enumerate() {
        let queue = bench.put(&format!("q{number}"), QueueConfig { start, ..reading(&["orders"]) });
        let received = bench.receive_with(&queue, Vec::new(), Vec::new());
        assert_eq!(received.partitions[0].scanned, Offset(expected), "{start:?}");
    }
    let Command::PutQueue(mut put) = put_queue("at", QueueConfig { start: QueueStart::Time(START), ..reading(&["orders"]) }) else {
        panic!()
    };
    put.positions = vec![(topic, P0, Offset(7))];
    let Ok(Reply::Queue(queue, true)) = bench.apply(Command::PutQueue(put)).reply else { panic!("no queue") };
    assert_eq!(bench.receive_with(&queue, Vec::new(), Vec::new()).partitions[0].scanned, Offset(7));
}

#[test]
fn a_deleted_queue_leaves_its_topic_and_none_of_its_rows() {
    let (mut bench, queue) = Bench::with_messages(QueueConfig::default(), 5);
    bench.receive(&queue, 2);
    bench.ledger.checkpoint();
    let delete = Command::DeleteQueue { namespace: ns(), name: queue_name("work"), condition: Precondition::Always };
    assert!(bench.apply(delete.clone()).changed);
    assert_eq!(bench.refusal(delete), Error::QueueNotFound(queue_name("work")));
    let checkpoint = bench.ledger.checkpoint();
    assert_eq!((checkpoint.puts.len(), checkpoint.deletes.len()), (0, 3), "the queue, its partition, its block");
    assert!(bench.ledger.topics().any(|topic| topic.name == topic_name("work")));
    assert_eq!(bench.ledger.wake_at(), None);
}

#[test]
fn a_namespace_with_a_queue_is_not_empty() {
    let mut bench = Bench::new();
    let namespace = NamespaceName::new("tenant").unwrap();
    bench.apply(Command::PutNamespace { name: namespace.clone(), description: String::new(), condition: Precondition::Always });
    let Command::PutQueue(put) = put_queue("work", QueueConfig::default()) else { panic!() };
    bench.apply(Command::PutQueue(Box::new(PutQueue { namespace: namespace.clone(), ..*put })));
    bench.apply(Command::DeleteTopic { namespace: namespace.clone(), name: topic_name("work"), condition: Precondition::Always });
    let delete = Command::DeleteNamespace { name: namespace.clone(), condition: Precondition::Always };
    assert_eq!(bench.refusal(delete), Error::NamespaceNotEmpty(namespace));
}

#[test]
fn queues_are_listed_by_name() {
    let mut bench = Bench::new();
    for name in ["b", "a", "c"] {
        bench.put(name, QueueConfig::default());
    }
    let page = |after: Option<&str>| {
        let request = PageRequest { after: after.map(str::to_owned), limit: 2 };
        let Ok(Answer::Queues(page)) = bench.ledger.query(&Query::Queues(ns(), request)) else { panic!("no answer") };
        (page.items.into_iter().map(|queue| queue.name.to_string()).collect::<Vec<_>>(), page.next)
    };
    assert_eq!(page(None), (vec!["a".to_owned(), "b".to_owned()], Some("b".to_owned())));
    assert_eq!(page(Some("b")), (vec!["c".to_owned()], None));
}

#[test]
fn peeking_shows_what_is_next_and_changes_nothing() {
    let (mut bench, queue) = Bench::with_messages(QueueConfig::default(), 6);
    let grants = bench.receive_marked(&queue, vec![Mark { priority: 3, ..mark(4) }], 2);
    assert_eq!(offsets(&grants), [4, 0]);
    bench.append(queue.sources[0].topic, 1);
    let before = bench.ledger.snapshot();
    assert_eq!(bench.peek(&queue, 10), [1, 2, 3, 5, 6]);
    assert_eq!(bench.peek(&queue, 2), [1, 2]);
    bench.settle(&queue, &grants[0], SettleAction::Release { delay: Duration::ZERO });
    assert_eq!(bench.peek(&queue, 2), [4, 1]);
    assert!(before != bench.ledger.snapshot());
}

#[test]
fn a_million_messages_in_flight_cost_16_bytes_each_and_finished_ones_a_bit() {
    const MESSAGES: u32 = 1_000_000;
    let (mut bench, queue) = Bench::with_messages(QueueConfig::default(), MESSAGES);
    let classified = |from, to| Classified {
        topic: queue.sources[0].topic,
        partition: P0,
        from: Offset(from),
        to: Offset(to),
        skipped: Vec::new(),
        marks: Vec::new(),
    };
    // As gateways do it: a thousand at a time.
    let want = Want { max: 1_000, lease: LEASE, request: None };
    for from in (0..u64::from(MESSAGES)).step_by(1_000) {
        let received = bench.receive_with(&queue, vec![classified(from, from + 1_000)], vec![want]);
        assert_eq!(received.grants[0][0].count, 1_000);
    }
    let in_flight = bench.numbers(&queue);
    assert_eq!(in_flight.leased, u64::from(MESSAGES));
    let each = in_flight.state_bytes as f64 / f64::from(MESSAGES);
    println!("{} bytes for each of {MESSAGES} messages in flight", each);
    assert!(each <= 16.0, "{each} bytes for each message in flight");

    let all = lakefall_queue::ledger::Grant {
        topic: TopicId(queue.sources[0].topic.0),
        partition: P0,
        first: Offset(1),
        count: MESSAGES - 1,
        attempt: 1,
        undelivered: 0,
        lease_until: START.plus(LEASE),
        first_leased: None,
    };
    // Every second one first: no run of them is all finished, and half of the entries stay.
    let of =
        |offset: u32| lakefall_queue::ledger::SettleItem { first: Offset(u64::from(offset)), count: 1, ..item(&all, SettleAction::Ack) };
    let items = (1..MESSAGES).filter(|offset| offset % 4_096 != 7).map(of).collect();
    let command = SettleMessages { queue: queue.id, generation: queue.generation, version: None, items };
    bench.apply(Command::Settle(command));
    let holes = f64::from(MESSAGES / 4_096 + 1);
    let bits = bench.numbers(&queue).state_bytes as f64 * 8.0 / f64::from(MESSAGES);
    println!("{bits} bits for each finished message above an unfinished one, with {holes} holes");
    bench.settle(&queue, &all, SettleAction::Ack);
    let bits = bench.numbers(&queue).state_bytes as f64 * 8.0 / f64::from(MESSAGES);
    println!("{bits} bits for each finished message above one unfinished one");
    assert!(bits <= 1.0, "{bits} bits for each finished message");
}

#[test]
fn a_message_in_flight_costs_16_bytes_at_most_whichever_others_are_acknowledged() {
    const MESSAGES: u32 = 200_000;
    let (mut bench, queue) = Bench::with_messages(QueueConfig::default(), MESSAGES);
    let topic = queue.sources[0].topic;
    let want = Want { max: 1_000, lease: LEASE, request: None };
    let mut most: f64 = 0.0;
    for from in (0..u64::from(MESSAGES)).step_by(1_000) {
        let classified = Classified { topic, partition: P0, from: Offset(from), to: Offset(from + 1_000), skipped: vec![], marks: vec![] };
        let grants = bench.receive_with(&queue, vec![classified], vec![want]).grants.remove(0);
        // Every other one, bit by bit.
        for part in 0..5 {
            let acked = (part * 200..part * 200 + 200).filter(|i| i % 2 == 1).map(|i| item(&single(&grants[0], i), SettleAction::Ack));
            bench.apply(Command::Settle(SettleMessages {
                queue: queue.id,
                generation: queue.generation,
                version: None,
                items: acked.collect(),
            }));
            let numbers = bench.numbers(&queue);
            if numbers.leased > 50_000 {
                most = most.max(numbers.state_bytes as f64 / numbers.leased as f64);
            }
        }
    }
    println!("{most} bytes for each message in flight, at most");
    assert!(most <= 16.0, "{most} bytes for each message in flight");
}

#[test]
fn an_atom_takes_messages_that_nobody_has_and_no_others() {
    let (mut bench, queue) = Bench::with_messages(QueueConfig::default(), 4);
    let grants = bench.receive(&queue, 1);
    let atom = |first, count| Atom {
        namespace: ns(),
        idempotency: None,
        layout: Vec::new(),
        cursors: Vec::new(),
        settles: vec![SettleMessages {
            queue: queue.id,
            generation: queue.generation,
            version: None,
            items: vec![lakefall_queue::ledger::SettleItem {
                first: Offset(first),
                count,
                attempt: 0,
                ..item(&grants[0], SettleAction::Cancel)
            }],
        }],
    };
    let lease = |offset| Refusal::Lease { queue: queue.id, topic: grants[0].topic, partition: P0, offset: Offset(offset) };
    assert_eq!(bench.commit(Vec::new(), vec![atom(0, 2)]).atoms, [AtomOutcome::Refused(lease(0))], "somebody has it");
    assert_eq!(bench.commit(Vec::new(), vec![atom(1, 2)]).atoms, [AtomOutcome::Applied]);
    assert_eq!(bench.commit(Vec::new(), vec![atom(2, 2)]).atoms, [AtomOutcome::Refused(lease(2))], "it is finished");
    bench.pass(LEASE);
    assert_eq!(bench.commit(Vec::new(), vec![atom(0, 1)]).atoms, [AtomOutcome::Applied], "nobody has it any more");
    assert_eq!(offsets(&bench.receive(&queue, 10)), [3]);
}

/// Prints times; asserts only what no machine can miss.
#[test]
fn receiving_and_acknowledging_cost_about_the_same_with_a_million_in_flight() {
    let mut times = Vec::new();
    for in_flight in [0_u64, 1_000_000] {
        let (mut bench, queue) = Bench::with_messages(QueueConfig::default(), 1_010_000);
        let topic = queue.sources[0].topic;
        let classified =
            |from, to| vec![Classified { topic, partition: P0, from: Offset(from), to: Offset(to), skipped: vec![], marks: vec![] }];
        for from in (0..in_flight).step_by(10_000) {
            bench.receive_with(&queue, classified(from, from + 10_000), vec![Want { max: 10_000, lease: LEASE, request: None }]);
        }
        let clock = Stopwatch::start();
        for round in 0..100 {
            let from = in_flight + round * 100;
            let received = bench.receive_with(&queue, classified(from, from + 100), vec![Want { max: 100, lease: LEASE, request: None }]);
            assert_eq!(bench.settle(&queue, &received.grants[0][0], SettleAction::Ack).len(), 100);
        }
        times.push(clock.elapsed() / 100);
    }
    println!("receive and ack of 100: {:?} with none in flight, {:?} with a million", times[0], times[1]);
    assert!(times[1] < times[0] * 20, "{times:?}");
}

/// The only clock that tests of the core look at.
struct Stopwatch(std::time::Instant);

impl Stopwatch {
    #[expect(clippy::disallowed_methods, reason = "a measurement needs the machine's clock")]
    fn start() -> Self {
        Self(std::time::Instant::now())
    }

    fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
}
