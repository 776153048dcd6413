//! What is told of usage to protobuf and back: reports, questions, answers and rows.

use super::codec::{Decoded, hash, hash_bytes, required};
use super::rows::proto;
use super::usage::{Reporter, UsageKey, UsageState};
use super::{Row, RowKey, UsageAnswer, UsageQuery};
use crate::id::{NamespaceName, TopicId, TopicName};
use crate::time::Timestamp;
use crate::usage::{Grain, Holdings, UsageCounts, UsageItem, UsageReport};

fn grain_to_proto(grain: Grain) -> i32 {
    use proto::UsageGrain as Wire;
    i32::from(match grain {
        Grain::Hour => Wire::Hour,
        Grain::Day => Wire::Day,
    })
}

fn grain_from_proto(grain: i32) -> Decoded<Grain> {
    use proto::UsageGrain as Wire;
    Ok(match required(Wire::try_from(grain).ok(), "a grain of usage")? {
        Wire::Hour => Grain::Hour,
        Wire::Day => Grain::Day,
    })
}

pub(super) fn report_to_proto(report: &UsageReport) -> proto::UsageReport {
    let item =
        |item: &UsageItem| proto::UsageItem { namespace: item.namespace.to_string(), topic: item.topic.0, counts: item.counts.to_list() };
    proto::UsageReport { reporter: hash_bytes(report.reporter), sequence: report.sequence, items: report.items.iter().map(item).collect() }
}

pub(super) fn report_from_proto(wire: proto::UsageReport) -> Decoded<UsageReport> {
    let item = |w: proto::UsageItem| {
        let namespace = NamespaceName::new(&w.namespace)?;
        Ok(UsageItem { namespace, topic: TopicId(w.topic), counts: UsageCounts::from_list(&w.counts) })
    };
    Ok(UsageReport {
        reporter: hash(&wire.reporter)?,
        sequence: wire.sequence,
        items: wire.items.into_iter().map(item).collect::<Decoded<_>>()?,
    })
}

pub(super) fn query_to_proto(query: &UsageQuery) -> proto::UsageQuery {
    proto::UsageQuery {
        namespace: query.namespace.to_string(),
        topic: query.topic.as_ref().map(ToString::to_string),
        grain: grain_to_proto(query.grain),
        from_ms: query.from.as_millis(),
        to_ms: query.to.as_millis(),
    }
}

pub(super) fn query_from_proto(wire: proto::UsageQuery) -> Decoded<UsageQuery> {
    Ok(UsageQuery {
        namespace: NamespaceName::new(&wire.namespace)?,
        topic: wire.topic.as_deref().map(TopicName::new).transpose()?,
        grain: grain_from_proto(wire.grain)?,
        from: Timestamp::from_millis(wire.from_ms),
        to: Timestamp::from_millis(wire.to_ms),
    })
}

pub(super) fn answer_to_proto(answer: &UsageAnswer) -> proto::UsageAnswer {
    let UsageAnswer { now, buckets, holdings } = answer;
    let Holdings { topics, partitions, extents, cursors, queues, subjects, segment_bytes, parquet_bytes } = *holdings;
    let bucket = |(start, counts): &(Timestamp, UsageCounts)| proto::UsageBucket { start_ms: start.as_millis(), counts: counts.to_list() };
    proto::UsageAnswer {
        now_ms: now.as_millis(),
        buckets: buckets.iter().map(bucket).collect(),
        holdings: Some(proto::UsageHoldings { topics, partitions, extents, cursors, queues, subjects, segment_bytes, parquet_bytes }),
    }
}

pub(super) fn answer_from_proto(wire: proto::UsageAnswer) -> Decoded<UsageAnswer> {
    let held = required(wire.holdings, "what is kept")?;
    let proto::UsageHoldings { topics, partitions, extents, cursors, queues, subjects, segment_bytes, parquet_bytes } = held;
    let bucket = |w: proto::UsageBucket| (Timestamp::from_millis(w.start_ms), UsageCounts::from_list(&w.counts));
    Ok(UsageAnswer {
        now: Timestamp::from_millis(wire.now_ms),
        buckets: wire.buckets.into_iter().map(bucket).collect(),
        holdings: Holdings { topics, partitions, extents, cursors, queues, subjects, segment_bytes, parquet_bytes },
    })
}

pub(super) fn usage_key(w: &proto::UsageRow) -> Decoded<UsageKey> {
    let topic = (w.topic > 0).then_some(TopicId(w.topic));
    Ok((NamespaceName::new(&w.namespace)?, topic, grain_from_proto(w.grain)?, Timestamp::from_millis(w.start_ms)))
}

pub(super) fn reporter_key(w: &proto::UsageReporterRow) -> Option<RowKey> {
    hash(&w.reporter).ok().map(RowKey::UsageReporter)
}

impl UsageState {
    pub(super) fn row(&self, key: &RowKey) -> Option<Row> {
        match key {
            RowKey::Usage(key) => {
                let (namespace, topic, grain, start) = key;
                Some(Row::Usage(proto::UsageRow {
                    namespace: namespace.to_string(),
                    topic: topic.map_or(0, |topic| topic.0),
                    grain: grain_to_proto(*grain),
                    start_ms: start.as_millis(),
                    counts: self.rows.get(key)?.to_list(),
                }))
            }
            RowKey::UsageReporter(reporter) => {
                let Reporter { sequence, seen_at } = *self.reporters.get(reporter)?;
                let reporter = hash_bytes(*reporter);
                Some(Row::UsageReporter(proto::UsageReporterRow { reporter, sequence, seen_ms: seen_at.as_millis() }))
            }
            _ => None,
        }
    }

    pub(super) fn restore_row(&mut self, w: &proto::UsageRow) -> Decoded<()> {
        self.restore(usage_key(w)?, UsageCounts::from_list(&w.counts));
        Ok(())
    }

    pub(super) fn restore_reporter(&mut self, w: &proto::UsageReporterRow) -> Decoded<()> {
        let reporter = Reporter { sequence: w.sequence, seen_at: Timestamp::from_millis(w.seen_ms) };
        self.reporters.insert(hash(&w.reporter)?, reporter);
        Ok(())
    }
}
