//! Anything that may be asked of a ledger about queues, or answered.

use std::time::Duration;

use lakefall_queue::error::Error;
use lakefall_queue::ledger::{
    Answer, Classified, Command, FreeMessages, Grant, Mark, Notice, Peeked, PutQueue, Query, QueueNumbers, ReceiveMessages, Received,
    Refusal, Reply, ScanState, SeekQueue, SettleAction, SettleItem, SettleMessages, SettleOutcome, SettledRun, Want,
};
use lakefall_queue::queue::{Binding, DeadLetter, Match, Ordering, Overflow, Queue, QueueConfig, QueueStart, Retry, Source};
use lakefall_queue::{BindingName, Offset, PartitionIndex, QueueId, QueueName, Timestamp, TopicId};
use proptest::collection::{btree_map, vec};
use proptest::option::of;
use proptest::prelude::*;

use super::{condition, idempotency, name, namespace_name, offset, page, paged, partition, timestamp, topic_id, topic_name};

fn queue_name() -> impl Strategy<Value = QueueName> {
    name().prop_map(|n| QueueName::new(&n).unwrap())
}

fn binding_name() -> impl Strategy<Value = BindingName> {
    name().prop_map(|n| BindingName::new(&n).unwrap())
}

fn queue_id() -> impl Strategy<Value = QueueId> {
    any::<u64>().prop_map(QueueId)
}

/// As they are in settings and leases: whole milliseconds.
fn duration() -> impl Strategy<Value = Duration> {
    (0_u64..1 << 50).prop_map(Duration::from_millis)
}

/// As it can be written in settings.
fn start() -> impl Strategy<Value = QueueStart> {
    prop_oneof![
        Just(QueueStart::Earliest),
        Just(QueueStart::Latest),
        offset().prop_map(QueueStart::Offset),
        (0_i64..1 << 47).prop_map(|ms| QueueStart::Time(Timestamp::from_millis(ms)))
    ]
}

fn config() -> impl Strategy<Value = QueueConfig> {
    let retry =
        (duration(), duration(), 1.0..10.0, 0.0..1.0).prop_map(|(min, max, multiplier, jitter)| Retry { min, max, multiplier, jitter });
    let rules = (prop_oneof![Just(Ordering::None), Just(Ordering::Key)], prop_oneof![Just(Overflow::Reject), Just(Overflow::DropOldest)]);
    let bounds = (of(any::<u32>()), of(any::<u64>()), of(any::<u64>()), any::<u8>(), any::<bool>());
    let times = (duration(), duration(), of(duration()));
    (vec(topic_name(), 0..3), start(), retry, rules, bounds, times, of(topic_name()), of(".{0,9}")).prop_map(
        |(topics, start, retry, (ordering, overflow), (max_attempts, max_depth, max_in_flight, priorities, fair), times, dead, filter)| {
            QueueConfig {
                topics,
                start,
                lease: times.0,
                max_attempts,
                retry,
                ordering,
                dead_letter: dead.map(|topic| DeadLetter { topic }),
                delay: times.1,
                ttl: times.2,
                priorities,
                max_depth,
                overflow,
                max_in_flight,
                fair,
                filter,
            }
        },
    )
}

fn binding() -> impl Strategy<Value = Binding> {
    let matches = prop_oneof![
        Just(Match::All {}),
        ".{0,9}".prop_map(|key| Match::Exact { key }),
        ".{0,9}".prop_map(|pattern| Match::Wildcard { pattern }),
        (btree_map(".{0,9}", ".{0,9}", 0..3), any::<bool>()).prop_map(|(headers, any)| Match::Headers { headers, any }),
        ".{0,9}".prop_map(|expression| Match::Expression { expression }),
    ];
    (topic_name(), matches).prop_map(|(topic, matches)| Binding { topic, matches })
}

fn positions() -> impl Strategy<Value = Vec<(TopicId, PartitionIndex, Offset)>> {
    vec((topic_id(), partition(), offset()), 0..3)
}

fn queue() -> impl Strategy<Value = Queue> {
    let source = (topic_id(), topic_name(), any::<u32>()).prop_map(|(topic, name, partitions)| Source { topic, name, partitions });
    let numbers = (queue_id(), any::<u64>(), any::<u32>(), timestamp());
    (namespace_name(), queue_name(), numbers, config(), btree_map(binding_name(), binding(), 0..3), vec(source, 0..3)).prop_map(
        |(namespace, name, (id, version, generation, created_at), config, bindings, sources)| Queue {
            namespace,
            name,
            id,
            version,
            generation,
            created_at,
            config,
            bindings,
            sources,
        },
    )
}

fn classified() -> impl Strategy<Value = Classified> {
    let mark = (any::<u32>(), of(timestamp()), any::<u8>(), of(any::<u64>())).prop_map(|(index, not_before, priority, group)| Mark {
        index,
        not_before,
        priority,
        group,
    });
    (topic_id(), partition(), offset(), offset(), vec((any::<u32>(), any::<u32>()), 0..4), vec(mark, 0..5))
        .prop_map(|(topic, partition, from, to, skipped, marks)| Classified { topic, partition, from, to, skipped, marks })
}

/// Often with a neighbour that has most in common with it.
pub(crate) fn settle() -> impl Strategy<Value = SettleMessages> {
    let action = prop_oneof![
        Just(SettleAction::Ack),
        duration().prop_map(|delay| SettleAction::Release { delay }),
        duration().prop_map(|delay| SettleAction::Undelivered { delay }),
        duration().prop_map(|lease| SettleAction::Extend { lease }),
        Just(SettleAction::Bury),
        Just(SettleAction::Cancel),
    ];
    let runs = vec((offset(), any::<u32>()), 1..4);
    let group = (topic_id(), partition(), any::<u32>(), action, runs).prop_map(|(topic, partition, attempt, action, runs)| {
        let item = |(first, count)| SettleItem { topic, partition, first, count, attempt, action };
        runs.into_iter().map(item).collect::<Vec<_>>()
    });
    (queue_id(), any::<u32>(), of(any::<u64>()), vec(group, 0..4)).prop_map(|(queue, generation, version, groups)| SettleMessages {
        queue,
        generation,
        version,
        items: groups.concat(),
    })
}

pub(super) fn command() -> impl Strategy<Value = Command> {
    let want = (any::<u32>(), duration(), of(any::<u128>())).prop_map(|(max, lease, request)| Want { max, lease, request });
    let put = (
        (namespace_name(), queue_name(), config()),
        of(btree_map(binding_name(), binding(), 0..3)),
        positions(),
        condition(),
        of(idempotency()),
    );
    prop_oneof![
        put.prop_map(|((namespace, name, config), bindings, positions, condition, idempotency)| {
            Command::PutQueue(Box::new(PutQueue { namespace, name, config, bindings, positions, condition, idempotency }))
        }),
        (namespace_name(), queue_name(), condition()).prop_map(|(namespace, name, condition)| Command::DeleteQueue {
            namespace,
            name,
            condition
        }),
        (namespace_name(), queue_name(), of(prop_oneof![start(), timestamp().prop_map(QueueStart::Time)]), positions())
            .prop_map(|(namespace, name, start, positions)| Command::SeekQueue(SeekQueue { namespace, name, start, positions })),
        (queue_id(), any::<u32>(), vec(classified(), 0..3), vec(want, 0..3)).prop_map(|(queue, generation, classified, wants)| {
            Command::Receive(ReceiveMessages { queue, generation, classified, wants })
        }),
        settle().prop_map(Command::Settle),
    ]
}

pub(super) fn query() -> impl Strategy<Value = Query> {
    prop_oneof![
        (namespace_name(), queue_name()).prop_map(|(namespace, name)| Query::Queue(namespace, name)),
        (namespace_name(), page()).prop_map(|(namespace, page)| Query::Queues(namespace, page)),
        queue_id().prop_map(Query::QueueNumbers),
        (queue_id(), any::<u32>()).prop_map(|(queue, max)| Query::QueuePeek(queue, max)),
        settle().prop_map(Query::QueueLeases),
        (queue_id(), topic_id(), partition(), offset(), any::<u32>()).prop_map(|(queue, topic, partition, from, most)| Query::QueueFree {
            queue,
            topic,
            partition,
            from,
            most
        }),
    ]
}

pub(super) fn reply() -> impl Strategy<Value = Reply> {
    let first_leased = proptest::option::of(1..i64::MAX / 2).prop_map(|at| at.map(Timestamp::from_millis));
    let grant = (topic_id(), partition(), offset(), any::<[u32; 3]>(), timestamp(), first_leased).prop_map(
        |(topic, partition, first, [count, attempt, undelivered], lease_until, first_leased)| Grant {
            topic,
            partition,
            first,
            count,
            attempt,
            undelivered,
            lease_until,
            first_leased,
        },
    );
    let scan = (topic_id(), partition(), offset(), offset(), offset()).prop_map(|(topic, partition, scanned, end, log_start)| ScanState {
        topic,
        partition,
        scanned,
        end,
        log_start,
    });
    let received = (timestamp(), vec(vec(grant, 0..3), 0..3), vec(scan, 0..3), any::<u64>(), any::<bool>())
        .prop_map(|(now, grants, partitions, ready, held_back)| Received { now, grants, partitions, ready, held_back });
    prop_oneof![
        (queue(), any::<bool>()).prop_map(|(queue, created)| Reply::Queue(Box::new(queue), created)),
        received.prop_map(|received| Reply::Received(Box::new(received))),
        runs().prop_map(Reply::Settled),
    ]
}

fn runs() -> impl Strategy<Value = Vec<SettledRun>> {
    let outcome = prop_oneof![
        Just(SettleOutcome::Done),
        timestamp().prop_map(SettleOutcome::Until),
        Just(SettleOutcome::Expired),
        Just(SettleOutcome::Unknown),
        Just(SettleOutcome::Doubtful)
    ];
    vec((any::<u32>(), outcome).prop_map(|(count, outcome)| SettledRun { count, outcome }), 0..5)
}

pub(super) fn answer() -> impl Strategy<Value = Answer> {
    let peeked = (topic_id(), partition(), offset(), any::<u32>()).prop_map(|(topic, partition, offset, attempt)| Peeked {
        topic,
        partition,
        offset,
        attempt,
    });
    let numbers = (timestamp(), any::<[u64; 10]>(), positions()).prop_map(|(now, n, oldest)| QueueNumbers {
        now,
        ready: n[0],
        leased: n[1],
        delayed: n[2],
        blocked: n[3],
        dead: n[4],
        came: n[5],
        finished: n[6],
        acked_total: n[7],
        dead_total: n[8],
        oldest,
        state_bytes: n[9],
    });
    prop_oneof![
        queue().prop_map(|queue| Answer::Queue(Box::new(queue))),
        paged(queue()).prop_map(Answer::Queues),
        numbers.prop_map(|numbers| Answer::QueueNumbers(Box::new(numbers))),
        vec(peeked, 0..4).prop_map(Answer::QueuePeek),
        runs().prop_map(Answer::QueueLeases),
        (vec(offset(), 0..4), vec(any::<u32>(), 0..4), offset()).prop_map(|(offsets, attempts, next)| Answer::QueueFree(FreeMessages {
            offsets,
            attempts,
            next
        })),
    ]
}

pub(crate) fn notice() -> impl Strategy<Value = Notice> {
    prop_oneof![
        (namespace_name(), queue_name(), queue_id()).prop_map(|(namespace, name, queue)| Notice::QueueChanged { namespace, name, queue }),
        queue_id().prop_map(|queue| Notice::QueueReady { queue }),
        (namespace_name(), queue_name(), queue_id()).prop_map(|(namespace, name, queue)| Notice::QueueOver { namespace, name, queue }),
    ]
}

pub(super) fn refusal() -> impl Strategy<Value = Refusal> {
    prop_oneof![
        (queue_id(), topic_id(), partition(), offset()).prop_map(|(queue, topic, partition, offset)| Refusal::Lease {
            queue,
            topic,
            partition,
            offset
        }),
        (queue_name(), any::<u64>()).prop_map(|(queue, max_depth)| Refusal::QueueFull { queue, max_depth }),
        queue_name().prop_map(|queue| Refusal::QueueChanged { queue }),
    ]
}

pub(super) fn error() -> impl Strategy<Value = Error> {
    prop_oneof![
        queue_name().prop_map(Error::QueueNotFound),
        (queue_name(), binding_name()).prop_map(|(queue, binding)| Error::BindingNotFound { queue, binding }),
        (queue_name(), any::<u64>()).prop_map(|(queue, max_depth)| Error::QueueFull { queue, max_depth }),
        queue_name().prop_map(Error::QueueWithoutTopic),
        ".{0,9}".prop_map(Error::QueueChanged),
        (partition(), offset()).prop_map(|(partition, offset)| Error::LeaseOver { partition, offset }),
        Just(Error::ReceiptForged),
        queue_name().prop_map(Error::ReceiptNotFound),
        ".{0,9}".prop_map(Error::MessageNotFound),
        (queue_name(), topic_name()).prop_map(|(queue, topic)| Error::DeadLetterCycle { queue, topic }),
        (queue_name(), topic_name()).prop_map(|(queue, topic)| Error::DeadLetterQueueTaken { queue, topic }),
        (topic_name(), partition(), offset(), duration()).prop_map(|(topic, partition, offset, waited)| Error::NoReply {
            topic,
            partition,
            offset,
            waited
        }),
        ".{0,9}".prop_map(Error::OperationNotFound),
    ]
}
