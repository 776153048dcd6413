//! What commands and questions may cost, in steps: messages, blocks, partitions or queues that are looked at.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests may fail a test")]

use bench::{Bench, LEASE, P0, item, offsets, single};

use super::steps::counted;
use super::{Classified, Mark, SettleAction, SettleMessages, Want};
use crate::id::{Offset, PartitionIndex};
use crate::ledger::{Command, SliceOutcome};
use crate::queue::{Ordering, Overflow, Queue, QueueConfig, QueueStart};

#[allow(dead_code, reason = "the tests of rules use the rest")]
#[path = "../../../tests/queues/bench.rs"]
mod bench;

const BLOCK: u32 = super::block::BLOCK as u32;

fn mark(index: u32) -> Mark {
    Mark { index, not_before: None, priority: 0, group: None }
}

fn want(max: u32) -> Vec<Want> {
    vec![Want { max, lease: LEASE, request: None }]
}

/// All messages of the queue's first partition, with these marks.
fn all(queue: &Queue, end: u32, marks: Vec<Mark>) -> Vec<Classified> {
    let (topic, to) = (queue.sources[0].topic, Offset(u64::from(end)));
    vec![Classified { topic, partition: P0, from: Offset(0), to, skipped: Vec::new(), marks }]
}

fn dropping(max_depth: u64) -> QueueConfig {
    QueueConfig { max_depth: Some(max_depth), overflow: Overflow::DropOldest, ..QueueConfig::default() }
}

#[test]
fn a_receive_does_not_look_for_priorities_that_were_drained() {
    let (mut bench, queue) = Bench::with_messages(QueueConfig::default(), 16 * BLOCK);
    let priority = |index: u32| if index.is_multiple_of(BLOCK) { 9 } else { 1 };
    let marks = (0..16 * BLOCK).map(|index| Mark { priority: priority(index), ..mark(index) }).collect();
    let urgent = bench.receive_with(&queue, all(&queue, 16 * BLOCK, marks), want(16)).grants.remove(0);
    assert_eq!(offsets(&urgent), (0..16).map(|block| block * u64::from(BLOCK)).collect::<Vec<_>>());
    let steps = counted(|| {
        let next = bench.receive_with(&queue, Vec::new(), want(1)).grants.remove(0);
        assert_eq!(offsets(&next), [1]);
    });
    assert!(steps < u64::from(BLOCK), "{steps} steps for one message");
}

#[test]
fn receivers_that_are_served_together_do_not_look_through_what_the_first_of_them_drained() {
    let (mut bench, queue) = Bench::with_messages(QueueConfig::default(), 16 * BLOCK);
    let marks = (0..16).map(|block| Mark { priority: 9, ..mark(block * BLOCK) }).collect();
    let steps = counted(|| {
        let wants = [16, 1, 1, 1].into_iter().flat_map(want).collect();
        let received = bench.receive_with(&queue, all(&queue, 16 * BLOCK, marks), wants);
        assert_eq!(received.grants[1..].iter().map(|grants| offsets(grants)[0]).collect::<Vec<_>>(), [1, 2, 3]);
    });
    assert!(steps < 64, "{steps} steps");
}

#[test]
fn dropping_the_oldest_message_steps_over_leased_ones_by_block() {
    let depth = 16 * BLOCK;
    let (mut bench, queue) = Bench::with_messages(dropping(u64::from(depth)), depth);
    assert_eq!(offsets(&bench.receive(&queue, depth)).len(), depth as usize);
    let mut steps = counted(|| drop(bench.append(queue.sources[0].topic, 1)));
    assert!(steps < 64, "{steps} steps over {depth} leased messages");
    assert_eq!(bench.numbers(&queue).ready, 0, "the new one went");
    // Extended leases are leased, whenever they were to end first.
    bench.pass(LEASE / 2);
    let grant = lakefall_queue::ledger::Grant { count: depth, ..first_of(&queue) };
    bench.settle(&queue, &grant, SettleAction::Extend { lease: LEASE });
    bench.pass(LEASE * 3 / 4);
    bench.append(queue.sources[0].topic, 1);
    steps = counted(|| drop(bench.append(queue.sources[0].topic, 1)));
    assert!(steps < 64, "{steps} steps over {depth} messages whose leases were extended");
    assert_eq!(bench.numbers(&queue).leased, u64::from(depth));
    bench.pass(LEASE);
    bench.append(queue.sources[0].topic, 1);
    assert_eq!((bench.numbers(&queue).leased, bench.numbers(&queue).ready), (0, u64::from(depth)), "what is over can go");
}

fn first_of(queue: &Queue) -> lakefall_queue::ledger::Grant {
    let topic = queue.sources[0].topic;
    lakefall_queue::ledger::Grant {
        topic,
        partition: P0,
        first: Offset(0),
        count: 1,
        attempt: 1,
        lease_until: bench::START,
        undelivered: 0,
        first_leased: None,
    }
}

#[test]
fn an_acknowledged_message_of_a_key_is_looked_for_in_no_partition_without_that_key() {
    let mut bench = Bench::new();
    let topic = bench.put_topic("many", 64);
    let config = QueueConfig { topics: vec![bench::topic_name("many")], start: QueueStart::Earliest, ..QueueConfig::default() };
    let queue = bench.put("work", QueueConfig { ordering: Ordering::Key, ..config });
    bench.append_to(topic, P0, 2);
    bench.append_to(topic, PartitionIndex(9), 1);
    let mut classified = bench.classified(&queue, vec![Mark { group: Some(1), ..mark(0) }, Mark { group: Some(2), ..mark(1) }]);
    classified[9].marks = vec![Mark { group: Some(2), ..mark(0) }];
    let leased = bench.receive_with(&queue, classified, want(10)).grants.remove(0);
    assert_eq!(leased.iter().map(|grant| grant.count).sum::<u32>(), 2);
    let of = |grant: &lakefall_queue::ledger::Grant| {
        let items = vec![item(grant, SettleAction::Ack)];
        Command::Settle(SettleMessages { queue: queue.id, generation: queue.generation, version: None, items })
    };
    let key_1 = leased.iter().find(|grant| grant.partition == P0 && grant.first.0 == 0).unwrap();
    let steps = counted(|| drop(bench.apply(of(&single(key_1, 0)))));
    assert!(steps == 0 && !bench.told_ready(), "{steps} steps for a key that has no other message");
    let key_2 =
        bench.receive(&queue, 10).into_iter().chain(leased.iter().flat_map(|grant| (0..u64::from(grant.count)).map(|i| single(grant, i))));
    let key_2 = key_2.into_iter().find(|grant| (grant.partition, grant.first.0) != (P0, 0)).unwrap();
    let steps = counted(|| drop(bench.apply(of(&key_2))));
    assert!(steps <= 2 && bench.told_ready(), "{steps} steps for a key with a message in another partition");
}

#[test]
fn an_append_looks_only_at_bounded_queues_that_may_be_full_by_now() {
    let mut bench = Bench::new();
    let topic = bench.put_topic("shared", 1);
    let reading = || QueueConfig { topics: vec![bench::topic_name("shared")], start: QueueStart::Earliest, ..QueueConfig::default() };
    for number in 0..200 {
        let overflow = if number % 2 == 0 { Overflow::Reject } else { Overflow::DropOldest };
        bench.put(&format!("q{number}"), QueueConfig { max_depth: Some(1_000), overflow, ..reading() });
    }
    let full = bench.put("full", QueueConfig { max_depth: Some(50), ..reading() });
    bench.append(topic, 1);
    let steps = counted(|| (1..50).for_each(|_| assert!(matches!(bench.append(topic, 1).slices[0], SliceOutcome::Stored(_)))));
    assert_eq!(steps, 0, "for 49 appends");
    let steps = counted(|| assert!(matches!(bench.append(topic, 1).slices[0], SliceOutcome::Refused(_))));
    assert_eq!(steps, 1, "only the one that is full");
    let grants = bench.receive(&full, 10);
    bench.settle(&full, &grants[0], SettleAction::Ack);
    assert!(matches!(bench.append(topic, 10).slices[0], SliceOutcome::Stored(_)));
    assert!(matches!(bench.append(topic, 1).slices[0], SliceOutcome::Refused(_)));
    // What was moved back is full at once.
    bench.put("full", QueueConfig { max_depth: None, ..reading() });
    bench.append(topic, 938);
    let moved = bench.put("moved", QueueConfig { max_depth: Some(999), start: QueueStart::Latest, ..reading() });
    bench.append(topic, 1);
    bench.seek(moved.name.as_str(), QueueStart::Earliest);
    assert!(matches!(bench.append(topic, 1).slices[0], SliceOutcome::Refused(_)));
}

#[test]
fn peeking_steps_over_delayed_and_leased_messages_by_block() {
    let messages = 64 * BLOCK;
    let (mut bench, queue) = Bench::with_messages(QueueConfig::default(), messages + 10);
    let later = Some(bench.now.plus(LEASE * 10));
    let marks = (0..messages).map(|index| Mark { not_before: later, ..mark(index) }).collect();
    bench.receive_with(&queue, all(&queue, messages, marks), Vec::new());
    let steps = counted(|| assert_eq!(bench.peek(&queue, 3), [messages, messages + 1, messages + 2].map(u64::from)));
    assert!(steps < 128, "{steps} steps over {messages} delayed messages");
    // Looked at, and plain: the delayed ones before them are stepped over by block.
    bench.receive_marked(&queue, Vec::new(), 0);
    let steps = counted(|| assert_eq!(bench.peek(&queue, 3), [messages, messages + 1, messages + 2].map(u64::from)));
    assert!(steps < 256, "{steps} steps over {messages} delayed messages");
    // All become due at once, and nobody receives: no more are looked at than are told.
    bench.pass(LEASE * 11);
    bench.ledger.wake(bench.now);
    let steps = counted(|| assert_eq!(bench.peek(&queue, 3), [0, 1, 2]));
    assert!(steps < 256, "{steps} steps");
}

#[test]
fn peeking_does_not_show_what_waits_behind_another_message_of_its_key() {
    let (mut bench, queue) = Bench::with_messages(QueueConfig { ordering: Ordering::Key, ..QueueConfig::default() }, 4);
    let of = |index: u32, group: u64| Mark { group: Some(group), ..mark(index) };
    let leased = bench.receive_marked(&queue, vec![of(0, 1), of(1, 1), of(2, 2), of(3, 2)], 1);
    assert_eq!(offsets(&leased), [0]);
    assert_eq!(bench.peek(&queue, 10), [2]);
    bench.settle(&queue, &leased[0], SettleAction::Release { delay: LEASE });
    assert_eq!(bench.peek(&queue, 10), [2]);
    bench.pass(LEASE);
    bench.ledger.wake(bench.now);
    assert_eq!(bench.peek(&queue, 10), [0, 2]);
}

#[test]
fn the_free_messages_of_a_partition_are_told_in_pages_of_bounded_cost() {
    let messages = 40 * BLOCK;
    let (mut bench, queue) = Bench::with_messages(QueueConfig::default(), messages);
    bench.receive(&queue, messages - 1);
    let topic = queue.sources[0].topic;
    let (mut from, mut found, mut pages) = (Offset(0), Vec::new(), 0);
    while from.0 < u64::from(messages) {
        let query = crate::ledger::Query::QueueFree { queue: queue.id, topic, partition: P0, from, most: 10 };
        let steps = counted(|| {
            let Ok(crate::ledger::Answer::QueueFree(free)) = bench.ledger.query(&query) else { panic!("no answer") };
            found.extend(free.offsets);
            from = free.next;
        });
        assert!(steps <= 16 * u64::from(BLOCK), "{steps} steps for a page");
        pages += 1;
    }
    assert_eq!((found, pages), (vec![Offset(u64::from(messages) - 1)], 3));
}
