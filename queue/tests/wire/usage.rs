//! Anything that may be reported or asked of usage.

use lakefall_queue::ledger::{Answer, Command, Query, UsageAnswer, UsageQuery};
use lakefall_queue::usage::{Figure, Grain, Holdings, UsageCounts, UsageItem, UsageReport};
use lakefall_queue::{NamespaceName, Timestamp};
use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;

use super::{namespace_name, topic_id, topic_name};

fn counts() -> impl Strategy<Value = UsageCounts> {
    vec(prop_oneof![Just(0), any::<u64>()], 0..=Figure::ALL.len()).prop_map(|counts| UsageCounts::from_list(&counts))
}

fn time() -> impl Strategy<Value = Timestamp> {
    any::<i64>().prop_map(Timestamp::from_millis)
}

pub(crate) fn command() -> impl Strategy<Value = Command> {
    let item = (namespace_name(), topic_id(), counts());
    let item = item.prop_map(|(namespace, topic, counts)| UsageItem { namespace, topic, counts });
    (any::<u128>(), any::<u64>(), vec(item, 0..4))
        .prop_map(|(reporter, sequence, items)| Command::ReportUsage(Box::new(UsageReport { reporter, sequence, items })))
}

pub(crate) fn query() -> impl Strategy<Value = Query> {
    let grain = prop_oneof![Just(Grain::Hour), Just(Grain::Day)];
    (namespace_name(), of(topic_name()), grain, time(), time()).prop_map(
        |(namespace, topic, grain, from, to): (NamespaceName, _, _, _, _)| {
            Query::Usage(Box::new(UsageQuery { namespace, topic, grain, from, to }))
        },
    )
}

pub(crate) fn answer() -> impl Strategy<Value = Answer> {
    (time(), vec((time(), counts()), 0..4), any::<[u64; 8]>()).prop_map(|(now, buckets, held)| {
        let [topics, partitions, extents, cursors, queues, subjects, segment_bytes, parquet_bytes] = held;
        let holdings = Holdings { topics, partitions, extents, cursors, queues, subjects, segment_bytes, parquet_bytes };
        Answer::Usage(Box::new(UsageAnswer { now, buckets, holdings }))
    })
}
