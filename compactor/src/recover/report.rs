//! What was found, for people and for scripts.

use std::collections::BTreeMap;

use lakefall_metadata::Identity;
use lakefall_queue::id::{Epoch, JournalSeq};
use lakefall_queue::ledger::JournalPosition;
use lakefall_queue::{PartitionIndex, ShardId, Timestamp};
use serde::Serialize;

use super::tables::{PassedOver, Survey, TableReport};
use crate::mark::{Halt, Mark};

/// Everything that was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Whether the collector may delete, and if not, why.
    pub state: State,
    /// The metadata store that was asked.
    pub cluster: String,
    /// Its incarnation.
    pub incarnation: String,
    /// The mark in the bucket; `None` if there is none or it cannot be read.
    pub mark: Option<MarkSeen>,
    /// How far each shard is, and was.
    pub shards: Vec<ShardReport>,
    /// Objects that were looked at.
    pub objects: u64,
    /// Objects that hold records for a shard which does not know the object, by the time when they were made.
    pub unknown: Vec<UnknownObject>,
    /// Records in those. Where nothing speaks for a loss, without what is in flight.
    pub records_at_risk: u64,
    /// Parquet files that no ledger knows, by topic. Their records have their offsets; those that a restored ledger still has in
    /// segments are no loss.
    pub tables: Vec<TableReport>,
    /// Parquet files of which nothing can be told.
    pub unreadable_tables: Vec<PassedOver>,
    /// When those were made.
    #[serde(skip)]
    pub(super) unreadable_minted: Vec<Timestamp>,
    /// Some of the Parquet files are kept until they are discarded.
    #[serde(skip)]
    tables_spared: bool,
}

/// Whether the collector may delete.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum State {
    /// The ledgers are at the mark or beyond.
    Healthy,
    /// No collector ran over this bucket yet.
    Unmarked,
    /// Nothing is deleted until the mark is written anew.
    Halted {
        /// The same word as in the metric.
        reason: &'static str,
        /// What happened.
        text: String,
    },
}

impl State {
    pub(super) fn of(halt: &Halt) -> Self {
        Self::Halted { reason: halt.reason(), text: halt.to_string() }
    }
}

/// The mark that is in the bucket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MarkSeen {
    /// How often an operator accepted.
    pub generation: u64,
    /// Whose it is.
    pub cluster: String,
    /// Of which incarnation.
    pub incarnation: String,
    /// When it was written, by the ledger's time.
    pub written_at: Timestamp,
}

/// How far a shard is, and was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ShardReport {
    /// Which one.
    pub shard: ShardId,
    /// Its last entry.
    pub seq: JournalSeq,
    /// The reign that wrote it.
    pub epoch: Epoch,
    /// When.
    pub time: Timestamp,
    /// The last entry by the mark.
    pub marked_seq: Option<JournalSeq>,
    /// The reign by the mark.
    pub marked_epoch: Option<Epoch>,
}

/// An object with records that a shard does not know of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct UnknownObject {
    /// Its key.
    pub key: String,
    /// Its bytes.
    pub bytes: u64,
    /// When its gateway made it.
    pub minted_at: Timestamp,
    /// When it was stored, by the store's clock.
    pub modified: Timestamp,
    /// It is kept until it is discarded.
    pub spared: bool,
    /// It is so young that its gateway may still be committing it.
    pub in_flight: bool,
    /// Why its content cannot be told.
    pub unreadable: Option<String>,
    /// Its records, by partition.
    pub ranges: Vec<RangeAtRisk>,
}

/// Consecutive records of one partition that a ledger does not know of. They were acknowledged, unless their gateway died
/// or was refused first. Their offsets are known to nobody any more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RangeAtRisk {
    /// `namespace/topic`; `None` if the ledger does not know the topic either.
    pub topic: Option<String>,
    /// The topic's id.
    pub topic_id: String,
    /// Which partition.
    pub partition: PartitionIndex,
    /// How many.
    pub records: u64,
    /// Their bytes.
    pub bytes: u64,
    /// The smallest timestamp.
    pub first_timestamp: Timestamp,
    /// The largest timestamp.
    pub last_timestamp: Timestamp,
}

impl Report {
    pub(super) fn new(
        state: State,
        identity: Identity,
        mark: Option<&Mark>,
        positions: &[JournalPosition],
        objects: u64,
        unknown: Vec<UnknownObject>,
        survey: Survey,
    ) -> Self {
        let shard = |(number, at): (usize, &JournalPosition)| {
            let shard = ShardId(number as u32);
            let marked = mark.and_then(|mark| mark.shards.iter().find(|marked| marked.shard == shard));
            ShardReport {
                shard,
                seq: at.seq,
                epoch: at.epoch,
                time: at.time,
                marked_seq: marked.map(|marked| marked.seq),
                marked_epoch: marked.map(|marked| marked.epoch),
            }
        };
        let seen = |mark: &Mark| MarkSeen {
            generation: mark.generation,
            cluster: mark.cluster.clone(),
            incarnation: mark.incarnation.clone(),
            written_at: mark.written_at,
        };
        let Identity { cluster, incarnation } = identity;
        let mut report = Self {
            state,
            cluster,
            incarnation,
            mark: mark.map(seen),
            shards: positions.iter().enumerate().map(shard).collect(),
            objects,
            records_at_risk: 0,
            unknown,
            tables_spared: survey.topics.values().flatten().any(|file| mark.is_some_and(|mark| mark.spares(file.object))),
            tables: survey.topics.iter().map(|(name, files)| TableReport::of(name, files)).collect(),
            unreadable_minted: survey.unreadable.iter().map(|(object, _)| object.minted_at()).collect(),
            unreadable_tables: survey.unreadable.into_iter().map(|(_, file)| file).collect(),
        };
        report.records_at_risk = report.at_risk().map(|range| range.records).sum();
        report
    }

    fn at_risk(&self) -> impl Iterator<Item = &RangeAtRisk> {
        let counts = |object: &&UnknownObject| self.is_halted() || object.spared || !object.in_flight;
        self.unknown.iter().filter(counts).flat_map(|object| &object.ranges)
    }

    /// Whether the collector deletes nothing until an operator accepts.
    pub fn is_halted(&self) -> bool {
        matches!(self.state, State::Halted { .. })
    }

    /// The ledgers as they were when this was found.
    pub(super) fn as_seen(&self) -> Option<Mark> {
        let identity = Identity { cluster: self.cluster.clone(), incarnation: self.incarnation.clone() };
        let at = |shard: &ShardReport| JournalPosition { seq: shard.seq, epoch: shard.epoch, time: shard.time };
        let positions: Vec<JournalPosition> = self.shards.iter().map(at).collect();
        (!positions.is_empty()).then(|| Mark::new(0, &identity, &positions, Timestamp::default(), Vec::new()))
    }

    /// For people: what happened, what may be lost, and what to do.
    pub fn lines(&self) -> Vec<String> {
        let mut lines = vec![format!("cluster     {} ({})", self.cluster, self.incarnation)];
        match &self.mark {
            Some(mark) => lines.push(format!("mark        {} ({}), written at {}", mark.cluster, mark.incarnation, mark.written_at)),
            None => lines.push("mark        none that can be read".to_owned()),
        }
        for shard in self.shards.iter().filter(|shard| shard.marked_seq.is_some_and(|seq| seq > shard.seq)) {
            let was = shard.marked_seq.unwrap_or_default();
            lines.push(format!("shard {:<5} is at entry {}, was at {}: {} lost", shard.shard, shard.seq, was, was.0 - shard.seq.0));
        }
        lines.push(format!("objects     {}, of which {} hold records that no ledger knows", self.objects, self.unknown.len()));
        lines.extend(self.unknown.iter().flat_map(UnknownObject::lines));
        lines.extend(self.table_lines());
        lines.push(String::new());
        if !self.unknown.is_empty() {
            let doubtful = self.is_halted() || self.unknown.iter().any(|object| object.spared);
            let what = if doubtful {
                "records may be lost: they were acknowledged, unless their gateway died or was refused first."
            } else {
                "records lie in objects that no ledger knows: their gateway died or was refused before it acknowledged them."
            };
            lines.push(format!("{} {what}", self.records_at_risk));
            lines.extend(self.by_partition());
            lines.push(String::new());
        }
        lines.extend(self.advice());
        lines
    }

    fn table_lines(&self) -> Vec<String> {
        let partitions = || self.tables.iter().flat_map(|table| &table.partitions);
        let (files, records): (u64, u64) = (partitions().map(|part| part.files).sum(), partitions().map(|part| part.records).sum());
        let others = self.unreadable_tables.len();
        if files == 0 && others == 0 {
            return Vec::new();
        }
        let mut lines = vec![format!(
            "tables      {files} Parquet files with {records} records that no ledger knows, and {others} that cannot be read"
        )];
        lines.extend(self.tables.iter().flat_map(TableReport::lines));
        lines.extend(self.unreadable_tables.iter().map(|PassedOver { key, reason }| format!("  {key}: {reason}")));
        lines
    }

    fn by_partition(&self) -> Vec<String> {
        let mut sums: BTreeMap<(&str, PartitionIndex), (u64, Timestamp, Timestamp)> = BTreeMap::new();
        for range in self.at_risk() {
            let sum = sums.entry((range.name(), range.partition)).or_insert((0, range.first_timestamp, range.last_timestamp));
            *sum = (sum.0 + range.records, sum.1.min(range.first_timestamp), sum.2.max(range.last_timestamp));
        }
        let line = |((topic, partition), (records, first, last))| {
            format!("  {topic} partition {partition}: {records} records of {first} to {last}")
        };
        sums.into_iter().map(line).collect()
    }

    fn advice(&self) -> Vec<String> {
        let kept = self.unknown.iter().any(|object| object.spared) || self.tables_spared;
        let discard = "`lakefall recover --discard` lets go of the objects that are kept although no ledger knows them.".to_owned();
        match &self.state {
            State::Healthy if kept => vec!["The ledgers did not go back: nothing needs to be done.".to_owned(), discard],
            State::Healthy => vec!["The ledgers did not go back: nothing needs to be done.".to_owned()],
            State::Unmarked => {
                vec!["No collector ran over this bucket yet: the first one writes a mark. Nothing needs to be done.".to_owned()]
            }
            State::Halted { text, .. } => {
                let mut lines = vec![
                    format!("HALTED: {text}."),
                    String::new(),
                    "If a later state of the metadata store exists (a standby, an archive of its log), restore that one: nothing is lost then."
                        .to_owned(),
                    "If not: keep this report, have producers send again what is listed, and run `lakefall recover --accept`. The collector goes"
                        .to_owned(),
                    "on from what the ledgers hold now, and keeps the objects listed here until `lakefall recover --discard`.".to_owned(),
                ];
                if !self.tables.is_empty() {
                    lines.push(
                        "If this is a new metadata store, take topics back over their Parquet files before any is made anew: `lakefall recover"
                            .to_owned(),
                    );
                    lines.push("--take-back NAMESPACE/TOPIC`, or `--take-back all`.".to_owned());
                }
                lines
            }
        }
    }
}

impl UnknownObject {
    fn lines(&self) -> Vec<String> {
        let mut notes = Vec::new();
        if self.in_flight {
            notes.push("may be being committed now");
        }
        if self.spared {
            notes.push("kept");
        }
        let notes = if notes.is_empty() { String::new() } else { format!(" ({})", notes.join(", ")) };
        let mut lines = vec![format!("  {} of {}, {} bytes{notes}", self.key, self.minted_at, self.bytes)];
        lines.extend(self.unreadable.iter().map(|reason| format!("    unreadable: {reason}")));
        let line = |range: &RangeAtRisk| {
            let (topic, partition, records) = (range.name(), range.partition, range.records);
            format!("    {topic} partition {partition}: {records} records of {} to {}", range.first_timestamp, range.last_timestamp)
        };
        lines.extend(self.ranges.iter().map(line));
        lines
    }
}

impl RangeAtRisk {
    fn name(&self) -> &str {
        self.topic.as_deref().unwrap_or(&self.topic_id)
    }
}
