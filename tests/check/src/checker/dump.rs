//! The checks behind the API, W1 to W8, on what the harness saw of metadata and bucket. Must judge only what was dumped: what
//! was looked at is in the history, and nothing else is known.

use std::collections::{BTreeMap, BTreeSet};

use super::{Check, Report, Subject, Topic};
use crate::history::{Dump, Name};

/// Longest time for which a session may be idle in a transaction.
const IDLE_MS: u64 = 1_000;

#[derive(Debug, Default)]
pub(super) struct Dumps {
    partitions: BTreeMap<(Name, u32), Partition>,
    extents: Vec<Extent>,
    tombstones: BTreeSet<Name>,
}

#[derive(Debug)]
struct Partition {
    log_start: u64,
    end: u64,
    committed: Option<u64>,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Extent {
    at: (Name, u32),
    first: u64,
    count: u64,
    object: Name,
}

impl Dumps {
    pub(super) fn take(&mut self, dump: Dump, report: &mut Report) {
        match dump {
            Dump::Partition { topic, partition, log_start, end, committed } => {
                self.partitions.insert((topic, partition), Partition { log_start, end, committed });
            }
            Dump::Extent { topic, partition, first, count, object, intact } => {
                report.examined(Check::W1, 1);
                if !intact {
                    let what = format!("the bytes of {topic}/{partition} from {first} on are not in {object} as they should be");
                    report.violation(Check::W1, Subject::Place(topic.clone(), partition, first), what);
                }
                self.extents.push(Extent { at: (topic, partition), first, count, object });
            }
            Dump::Tombstone { object } => drop(self.tombstones.insert(object)),
            Dump::Orphan { object, age_ms, allowed_ms } => {
                report.examined(Check::W3, 1);
                if age_ms > allowed_ms {
                    report.violation(Check::W3, Subject::Run, format!("orphan {object} is {age_ms} ms old, {allowed_ms} ms are allowed"));
                }
            }
            Dump::Chain { topic, partition, first, count, before, after } => {
                report.examined(Check::W4, 1);
                if before != after {
                    let what =
                        format!("{topic}/{partition}: {count} records from {first} on were {before} and are {after} after rewriting");
                    report.violation(Check::W4, Subject::Place(topic, partition, first), what);
                }
            }
            Dump::IdleSession { idle_ms } => {
                report.examined(Check::W8, 1);
                if idle_ms > IDLE_MS {
                    report.violation(Check::W8, Subject::Run, format!("a session is idle in a transaction for {idle_ms} ms"));
                }
            }
        }
    }

    pub(super) fn finish(&mut self, topics: &BTreeMap<Name, Topic>, report: &mut Report) {
        self.extents.sort();
        self.covered(report);
        for extent in &self.extents {
            report.examined(Check::W6, 1);
            if self.tombstones.contains(&extent.object) {
                let (topic, partition) = extent.at.clone();
                let what = format!("{topic}/{partition} from {} on lies in {}, which may be deleted", extent.first, extent.object);
                report.violation(Check::W6, Subject::Place(topic, partition, extent.first), what);
            }
        }
        self.counted(topics, report);
    }

    /// W2: the extents of a partition follow each other from the log's start to its end. One may begin before the log's start.
    fn covered(&self, report: &mut Report) {
        let mut next: BTreeMap<&(Name, u32), u64> = BTreeMap::new();
        for extent in &self.extents {
            let Some(partition) = self.partitions.get(&extent.at) else { continue };
            report.examined(Check::W2, 1);
            let end = extent.first.saturating_add(extent.count);
            let expected = next.insert(&extent.at, end);
            let follows = match expected {
                Some(expected) => extent.first == expected,
                None => extent.first <= partition.log_start,
            };
            if !follows {
                let expected = expected.unwrap_or(partition.log_start);
                let (topic, number) = extent.at.clone();
                let what = format!("{topic}/{number}: an extent begins at {}, where one should begin at {expected}", extent.first);
                report.violation(Check::W2, Subject::Place(topic, number, expected), what);
            }
        }
        for (at, partition) in self.partitions.iter().filter(|(_, partition)| partition.log_start < partition.end) {
            report.examined(Check::W2, 1);
            let reached = next.get(at).copied().unwrap_or(partition.log_start);
            if reached != partition.end {
                let what = format!("{}/{}: the extents end at {reached}, the partition at {}", at.0, at.1, partition.end);
                report.violation(Check::W2, Subject::Place(at.0.clone(), at.1, reached), what);
            }
        }
    }

    /// W7: the ends are where the last readers found them, and their sum is what was committed.
    fn counted(&self, topics: &BTreeMap<Name, Topic>, report: &mut Report) {
        for (at, partition) in &self.partitions {
            let Some(read) = topics.get(&at.0).and_then(|topic| topic.last_end(at.1)) else { continue };
            report.examined(Check::W7, 1);
            if read != partition.end {
                let what = format!("{}/{} ends at {} in the ledger, at {read} for readers", at.0, at.1, partition.end);
                report.violation(Check::W7, Subject::Place(at.0.clone(), at.1, read), what);
            }
        }
        let (mut counted, mut ends, mut committed) = (0, 0_u64, 0_u64);
        for (partition, records) in self.partitions.values().filter_map(|of| of.committed.map(|records| (of, records))) {
            counted += 1;
            ends = ends.saturating_add(partition.end);
            committed = committed.saturating_add(records);
        }
        report.examined(Check::W7, counted);
        if ends != committed {
            report.violation(Check::W7, Subject::Run, format!("{committed} records were committed, but the ends add up to {ends}"));
        }
    }
}
