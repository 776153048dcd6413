//! Usage: what gateways and compactors report, added up by namespace and topic, by hour and day. Must never count a report
//! twice, and never hold more rows than its bounds, whatever is reported.
//!
//! What is counted is counted in the hour in which it was reported, by the ledger's time. Nothing else depends on it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::{Applied, Ledger, Reply, RowKey};
use crate::error::Result;
use crate::id::{NamespaceName, PartitionIndex, TopicId, TopicName};
use crate::time::Timestamp;
use crate::usage::{Grain, Holdings, UsageCounts, UsageReport};

/// Rows of single topics in a shard, some 200 bytes each. Beyond it the oldest go early; the rows of namespaces stay.
const TOPIC_ROWS: usize = 200_000;
/// One in so many goes at once, so that not every report has to look for the oldest among all.
const GO_AT_ONCE: usize = 8;
/// How long the number of a silent process's last report is remembered: for so long a report that comes late is not counted again.
const REPORTER_WINDOW: Duration = Duration::from_secs(7 * 86_400);

/// Where something is counted: without a topic, for the whole namespace.
pub(crate) type UsageKey = (NamespaceName, Option<TopicId>, Grain, Timestamp);

/// Usage of which hours or days.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsageQuery {
    /// Whose.
    pub namespace: NamespaceName,
    /// A topic's; without it, the whole namespace's.
    pub topic: Option<TopicName>,
    /// By hours or days.
    pub grain: Grain,
    /// The first start.
    pub from: Timestamp,
    /// Not in it any more.
    pub to: Timestamp,
}

/// What the ledger knows of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsageAnswer {
    /// The ledger's time.
    pub now: Timestamp,
    /// Hours or days in which something was used, in order.
    pub buckets: Vec<(Timestamp, UsageCounts)>,
    /// What is kept now.
    pub holdings: Holdings,
}

/// A process that reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reporter {
    pub(crate) sequence: u64,
    pub(crate) seen_at: Timestamp,
}

/// The usage of a shard's namespaces.
#[derive(Clone, Debug, Default)]
pub(crate) struct UsageState {
    pub(crate) rows: BTreeMap<UsageKey, UsageCounts>,
    pub(crate) reporters: BTreeMap<u128, Reporter>,
    /// How many of the rows are of topics.
    topic_rows: usize,
    /// The hour in which old rows were last looked for: that of the ledger's time.
    swept: Timestamp,
}

impl UsageState {
    pub(crate) fn keys(&self) -> impl Iterator<Item = RowKey> {
        self.rows.keys().cloned().map(RowKey::Usage).chain(self.reporters.keys().copied().map(RowKey::UsageReporter))
    }

    /// A row as it was stored.
    pub(crate) fn restore(&mut self, key: UsageKey, counts: UsageCounts) {
        let of_topic = key.1.is_some();
        if self.rows.insert(key, counts).is_none() && of_topic {
            self.topic_rows += 1;
        }
    }

    /// The state is as of `time`: what was over by then is not in it.
    pub(crate) fn restored(&mut self, time: Timestamp) {
        self.swept = Grain::Hour.start(time);
    }

    fn count(&mut self, key: UsageKey, counts: &UsageCounts, dirty: &mut BTreeSet<RowKey>) {
        if key.1.is_some() && !self.rows.contains_key(&key) {
            self.topic_rows += 1;
        }
        self.rows.entry(key.clone()).or_default().merge(counts);
        dirty.insert(RowKey::Usage(key));
    }

    fn remove(&mut self, keys: Vec<UsageKey>, dirty: &mut BTreeSet<RowKey>) {
        for key in keys {
            if self.rows.remove(&key).is_some() && key.1.is_some() {
                self.topic_rows -= 1;
            }
            dirty.insert(RowKey::Usage(key));
        }
    }

    /// Lets go of the oldest rows of topics if there are more than `most`, whatever their grain: what ended first goes first. By
    /// their start, the day that goes on would go before all of its hours.
    fn keep_bounds(&mut self, most: usize, dirty: &mut BTreeSet<RowKey>) {
        if self.topic_rows <= most {
            return;
        }
        let over = self.topic_rows - (most - most / GO_AT_ONCE);
        let mut of_topics: Vec<&UsageKey> = self.rows.keys().filter(|(_, topic, ..)| topic.is_some()).collect();
        let age = |key: &&UsageKey| {
            let (namespace, topic, grain, start) = *key;
            (start.plus(grain.length()), *grain, *topic, namespace.clone())
        };
        if over < of_topics.len() {
            of_topics.select_nth_unstable_by_key(over, age);
            of_topics.truncate(over);
        }
        let gone = of_topics.into_iter().cloned().collect();
        self.remove(gone, dirty);
    }

    /// Forgets what is older than it is kept for. Looks once in an hour.
    pub(crate) fn expire(&mut self, now: Timestamp, dirty: &mut BTreeSet<RowKey>) {
        let hour = Grain::Hour.start(now);
        if hour <= self.swept {
            return;
        }
        self.swept = hour;
        let is_over = |key: &&UsageKey| key.3 < key.2.oldest(now);
        let gone = self.rows.keys().filter(is_over).cloned().collect();
        self.remove(gone, dirty);
        let silent = now.minus(REPORTER_WINDOW);
        self.reporters.retain(|reporter, known| {
            let stays = known.seen_at >= silent;
            if !stays {
                dirty.insert(RowKey::UsageReporter(*reporter));
            }
            stays
        });
    }

    /// A topic was deleted. What it used stays in its namespace's sums.
    pub(crate) fn forget_topic(&mut self, namespace: &NamespaceName, topic: TopicId, dirty: &mut BTreeSet<RowKey>) {
        let from = (namespace.clone(), Some(topic), Grain::Hour, Timestamp::from_millis(i64::MIN));
        let of = self.rows.range(from..).map(|(key, _)| key).take_while(|key| key.0 == *namespace && key.1 == Some(topic));
        let gone = of.cloned().collect();
        self.remove(gone, dirty);
    }

    /// A namespace was deleted.
    pub(crate) fn forget_namespace(&mut self, namespace: &NamespaceName, dirty: &mut BTreeSet<RowKey>) {
        let from = (namespace.clone(), None, Grain::Hour, Timestamp::from_millis(i64::MIN));
        let gone = self.rows.range(from..).map(|(key, _)| key).take_while(|key| key.0 == *namespace).cloned().collect();
        self.remove(gone, dirty);
    }
}

impl Ledger {
    /// Takes a report, unless it or a later one of the same process was taken.
    pub(super) fn report_usage(&mut self, report: &UsageReport, now: Timestamp) -> Applied {
        let UsageReport { reporter, sequence, items } = report;
        if self.usage.reporters.get(reporter).is_some_and(|known| known.sequence >= *sequence) {
            return Applied::unchanged(Ok(Reply::Done));
        }
        self.usage.reporters.insert(*reporter, Reporter { sequence: *sequence, seen_at: now });
        self.dirty.insert(RowKey::UsageReporter(*reporter));
        for item in items {
            if !self.namespaces.contains_key(&item.namespace) {
                // Deleted since: nobody is left to be told.
                continue;
            }
            // Of a topic that was deleted since, only its namespace's sum is counted.
            let topic = self.topics.get(&item.topic).filter(|topic| topic.namespace == item.namespace).map(|topic| Some(topic.id));
            for grain in [Grain::Hour, Grain::Day] {
                for of in [None].into_iter().chain(topic) {
                    self.usage.count((item.namespace.clone(), of, grain, grain.start(now)), &item.counts, &mut self.dirty);
                }
            }
        }
        self.usage.keep_bounds(TOPIC_ROWS, &mut self.dirty);
        Applied::changed(Reply::Done)
    }

    pub(super) fn query_usage(&self, query: &UsageQuery) -> Result<UsageAnswer> {
        let UsageQuery { namespace, topic, grain, from, to } = query;
        self.require_namespace(namespace)?;
        let topic = topic.as_ref().map(|name| self.topic_id(namespace, name).map(|id| (id, name))).transpose()?;
        let id = topic.map(|(id, _)| id);
        let buckets = if from < to {
            let range = (namespace.clone(), id, *grain, *from)..(namespace.clone(), id, *grain, *to);
            self.usage.rows.range(range).map(|((.., start), counts)| (*start, *counts)).collect()
        } else {
            Vec::new()
        };
        let holdings = match topic {
            Some((id, name)) => self.holdings_of_topic(namespace, id, name),
            None => self.holdings_of_namespace(namespace),
        };
        Ok(UsageAnswer { now: self.time, buckets, holdings })
    }

    fn holdings_of_topic(&self, namespace: &NamespaceName, id: TopicId, name: &TopicName) -> Holdings {
        let mut held = Holdings { topics: 1, queues: self.queues.reader_count(id), ..Holdings::default() };
        self.add_partitions(id, &mut held);
        held.cursors = self.cursors_in(namespace).filter(|(.., topic)| topic == name).count() as u64;
        held
    }

    fn holdings_of_namespace(&self, namespace: &NamespaceName) -> Holdings {
        let mut held = Holdings { queues: self.queues.count_of(namespace), ..Holdings::default() };
        for (_, id) in self.names.range((namespace.clone(), TopicName::first())..).take_while(|((of, _), _)| of == namespace) {
            held.topics += 1;
            self.add_partitions(*id, &mut held);
        }
        held.cursors = self.cursors_in(namespace).count() as u64;
        held.subjects = self.schemas.count_of(namespace);
        held
    }

    fn add_partitions(&self, topic: TopicId, held: &mut Holdings) {
        let of = self.partitions.range((topic, PartitionIndex(0))..=(topic, PartitionIndex(u32::MAX)));
        for (_, partition) in of {
            let unrolled = partition.compaction.as_ref().map_or(0, |state| state.unrolled_bytes).min(partition.bytes);
            held.partitions += 1;
            held.extents += partition.extents;
            held.segment_bytes += unrolled;
            held.parquet_bytes += partition.bytes - unrolled;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::ShardId;

    const HOUR: Duration = Grain::Hour.length();
    /// A day begins.
    const DAWN: Timestamp = Timestamp::from_millis(19_000 * 86_400_000);

    /// Counts something for so many topics at a time, as a report does, and keeps the bounds. Answers the rows that went.
    fn count(usage: &mut UsageState, topics: u64, now: Timestamp, most: usize) -> Vec<UsageKey> {
        let mut dirty = BTreeSet::new();
        for topic in 1..=topics {
            for grain in [Grain::Hour, Grain::Day] {
                for of in [None, Some(TopicId::new(ShardId(0), topic))] {
                    let key = (NamespaceName::default_name(), of, grain, grain.start(now));
                    usage.count(key, &UsageCounts::from_list(&[1]), &mut dirty);
                }
            }
        }
        usage.keep_bounds(most, &mut dirty);
        let gone = dirty.into_iter().filter_map(|key| match key {
            RowKey::Usage(key) => (!usage.rows.contains_key(&key)).then_some(key),
            _ => None,
        });
        gone.collect()
    }

    #[test]
    fn beyond_the_bound_the_oldest_rows_of_topics_go_some_at_once_whatever_their_grain() {
        let mut usage = UsageState::default();
        let at = |hour: u32| DAWN.plus(hour * HOUR);
        // A day and the hours of two, of four topics each: 4 of days and 44 of hours are within the bound.
        for hour in 0..11 {
            assert!(count(&mut usage, 4, at(hour), 48).is_empty());
        }
        let hours = |gone: &[UsageKey]| gone.iter().map(|(.., grain, start)| (*grain, *start)).collect::<BTreeSet<_>>();
        let gone = count(&mut usage, 4, at(11), 48);
        assert_eq!((gone.len(), usage.topic_rows), (10, 42), "down to seven eighths");
        assert_eq!(hours(&gone), BTreeSet::from([0, 1, 2].map(|hour| (Grain::Hour, at(hour)))), "the first hours, and no day");
        assert!(gone.iter().all(|key| key.1.is_some()), "the sums of namespaces stay");
        // There is room again for a while.
        assert!(count(&mut usage, 4, at(12), 48).is_empty());
        // The next day, the hours of the day before go, and the day itself before any hour that began since.
        let gone = count(&mut usage, 12, at(24), 48);
        assert_eq!(gone.len(), 28);
        assert!(gone.iter().all(|(.., grain, start)| *grain == Grain::Hour && *start < at(24)));
        let gone = count(&mut usage, 20, at(25), 48);
        assert!(hours(&gone).contains(&(Grain::Day, at(0))), "{gone:?}");
        assert!(!hours(&gone).contains(&(Grain::Hour, at(25))) && !hours(&gone).contains(&(Grain::Day, at(24))), "{gone:?}");
        assert_eq!(usage.topic_rows, usage.rows.keys().filter(|key| key.1.is_some()).count());
    }

    #[test]
    fn more_topics_than_the_bound_at_once_keep_as_many_rows_as_there_may_be() {
        let mut usage = UsageState::default();
        let gone = count(&mut usage, 100, DAWN, 48);
        assert_eq!((gone.len(), usage.topic_rows), (158, 42));
        assert!(gone.iter().all(|key| key.1.is_some()));
        let again = count(&mut usage, 100, DAWN, 48);
        assert_eq!((again.len(), usage.topic_rows), (158, 42));
    }
}
