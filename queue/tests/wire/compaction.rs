//! Anything that compactors say and ask.

use std::time::Duration;

use lakefall_queue::ledger::{
    Answer, Claim, ClaimWork, Command, Compactable, CompactablePartition, NewExtent, ObjectLevel, Query, Swap, SwapPart, TakeBack,
    TakenFile, TakenPartition, Work,
};
use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;

use super::{config, namespace_name, offset, partition, retired, segment, timestamp, topic_id, topic_name};

pub(crate) fn level() -> impl Strategy<Value = ObjectLevel> {
    prop_oneof![Just(ObjectLevel::Segment), Just(ObjectLevel::Merged), Just(ObjectLevel::Parquet)]
}

fn work() -> impl Strategy<Value = Work> {
    prop_oneof![Just(Work::Merge), (topic_id(), partition()).prop_map(|(topic, partition)| Work::Partition(topic, partition))]
}

prop_compose! {
    fn part()(
        topic in topic_id(), partition in partition(), generation in any::<u64>(), old in vec(retired(), 0..4),
        (position, length) in any::<(u64, u32)>(), first_timestamp in timestamp(), max_timestamp in timestamp(),
        appended_at in timestamp(), (settled, rest_since) in (of(offset()), of(timestamp()))
    ) -> SwapPart {
        let new = NewExtent { position, length, first_timestamp, max_timestamp, appended_at };
        SwapPart { topic, partition, generation, old, new, settled, rest_since }
    }
}

prop_compose! {
    fn taken_file()(
        object in segment(), base_offset in offset(), (records, length) in any::<(u32, u32)>(), first_timestamp in timestamp(),
        max_timestamp in timestamp(), appended_at in timestamp()
    ) -> TakenFile {
        TakenFile { object, base_offset, records, length, first_timestamp, max_timestamp, appended_at }
    }
}

prop_compose! {
    fn taken()(
        namespace in namespace_name(), name in topic_name(), topic in topic_id(), created_at in timestamp(), config in config(),
        partitions in vec((partition(), vec(taken_file(), 0..3)), 0..3)
    ) -> TakeBack {
        let partitions = partitions.into_iter().map(|(partition, files)| TakenPartition { partition, files }).collect();
        TakeBack { namespace, name, topic, created_at, config, partitions }
    }
}

pub(crate) fn command() -> impl Strategy<Value = Command> {
    let swap = (segment(), any::<u64>(), level(), of(".{1,30}"), vec(part(), 0..3)).prop_map(|(object, size, level, key, parts)| {
        Command::Swap(Box::new(Swap { object, size, level, key: key.map(Into::into), parts }))
    });
    let claim = (any::<u128>(), 0_u64..1 << 40, vec(work(), 0..4))
        .prop_map(|(worker, lease_ms, works)| Command::Claim(ClaimWork { worker, lease: Duration::from_millis(lease_ms), works }));
    let unclaim = (any::<u128>(), vec(work(), 0..4)).prop_map(|(worker, works)| Command::Unclaim { worker, works });
    prop_oneof![swap, claim, unclaim, taken().prop_map(|taken| Command::TakeBack(Box::new(taken)))]
}

pub(crate) fn query() -> impl Strategy<Value = Query> {
    prop_oneof![
        (any::<usize>(), of((topic_id(), partition()))).prop_map(|(limit, after)| Query::Compactable { limit, after }),
        topic_id().prop_map(Query::TopicById),
    ]
}

prop_compose! {
    fn compactable()(
        (topic, partition, generation) in (topic_id(), partition(), any::<u64>()),
        (retired, log_start, settled) in (offset(), offset(), offset()),
        (rolled, merged, end) in (offset(), offset(), offset()),
        (unmerged_bytes, unmerged_extents, unrolled_bytes, small) in any::<(u64, u64, u64, u32)>(),
        unrolled_since in of(timestamp())
    ) -> CompactablePartition {
        CompactablePartition {
            topic, partition, generation, retired, log_start, settled, rolled, merged, end, unmerged_bytes, unmerged_extents,
            unrolled_bytes, unrolled_since, small,
        }
    }
}

pub(crate) fn answer() -> impl Strategy<Value = Answer> {
    let claim = (work(), any::<u128>(), timestamp()).prop_map(|(work, worker, until)| Claim { work, worker, until });
    (vec(compactable(), 0..3), any::<bool>(), vec(claim, 0..3), timestamp())
        .prop_map(|(partitions, more, claims, now)| Answer::Compactable(Compactable { partitions, more, claims, now }))
}
