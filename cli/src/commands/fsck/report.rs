//! What fsck found, for people and for scripts.

use lakefall_queue::ledger::Extent;
use lakefall_queue::{Offset, PartitionIndex};
use serde::Serialize;

use crate::commands::output::table;

/// Everything that was found.
#[derive(Debug, Default, Serialize)]
pub(super) struct Report {
    /// No damage.
    pub(super) clean: bool,
    /// Each topic; deleted ones too, while they hold extents.
    pub(super) topics: Vec<TopicReport>,
    /// Objects in the store.
    pub(super) objects: u64,
    /// Their bytes.
    pub(super) bytes: u64,
    /// Objects that hold live records.
    pub(super) referenced: u64,
    /// Objects that nothing refers to any more, and that a server will delete.
    pub(super) released: u64,
    /// Objects that the metadata never heard of: a gateway died before its commit. Harmless.
    pub(super) orphans: Vec<String>,
    /// What a server that was killed was about to write. Harmless.
    pub(super) staging: Vec<String>,
    /// Things worth knowing that harm no record.
    pub(super) notes: Vec<String>,
    /// What is wrong.
    pub(super) damage: Vec<Damage>,
}

/// What the metadata says of a topic, and how much of it is damaged.
#[derive(Debug, Serialize)]
pub(super) struct TopicReport {
    /// Namespace and name.
    pub(super) topic: String,
    /// Its partitions.
    pub(super) partitions: u64,
    /// Extents of all partitions.
    pub(super) extents: u64,
    /// Records in them.
    pub(super) records: u64,
    /// Bytes of them.
    pub(super) bytes: u64,
    /// Extents that are damaged or missing.
    pub(super) damaged: u64,
}

/// The kinds of damage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Kind {
    /// An object that holds live records is not in the store.
    MissingObject,
    /// An object that holds live records has another size than when it was committed, or is damaged.
    DamagedObject,
    /// Extents and counts of the metadata do not fit together.
    Metadata,
}

/// Something that is wrong.
#[derive(Debug, Serialize)]
pub(super) struct Damage {
    pub(super) kind: Kind,
    /// The object's key, or the topic and partition.
    pub(super) place: String,
    /// What is wrong with it, as sentences.
    pub(super) reasons: Vec<String>,
    /// The live records that cannot be read because of it.
    pub(super) lost: Vec<LostRange>,
}

/// Offsets that cannot be read.
#[derive(Debug, Serialize)]
pub(super) struct LostRange {
    pub(super) topic: String,
    pub(super) partition: PartitionIndex,
    pub(super) first_offset: Offset,
    pub(super) next_offset: Offset,
}

impl Report {
    /// Notes damage of the metadata.
    pub(super) fn metadata(&mut self, place: String, reason: String) {
        self.damage.push(Damage { kind: Kind::Metadata, place, reasons: vec![reason], lost: Vec::new() });
    }

    /// The range of a topic that cannot be read.
    pub(super) fn lost(&mut self, topic: usize, partition: PartitionIndex, extent: &Extent) -> LostRange {
        self.topics[topic].damaged += 1;
        LostRange { topic: self.topics[topic].topic.clone(), partition, first_offset: extent.base_offset, next_offset: extent.end() }
    }

    /// The last word, and an order that does not depend on the store's.
    pub(super) fn close(&mut self) {
        self.clean = self.damage.is_empty();
        self.orphans.sort();
        self.staging.sort();
        self.damage.sort_by(|a, b| a.place.cmp(&b.place));
    }

    /// For people.
    pub(super) fn lines(&self) -> Vec<String> {
        let row = |t: &TopicReport| {
            let numbers = [t.partitions, t.extents, t.records, t.bytes, t.damaged].map(|number| number.to_string());
            [vec![t.topic.clone()], numbers.to_vec()].concat()
        };
        let rows: Vec<Vec<String>> = self.topics.iter().map(row).collect();
        let mut lines = table(&["TOPIC", "PARTITIONS", "EXTENTS", "RECORDS", "BYTES", "DAMAGED"], &rows);
        lines.push(String::new());
        lines.push(format!(
            "objects     {} with {} bytes: {} referenced, {} to be deleted",
            self.objects, self.bytes, self.referenced, self.released
        ));
        lines.push(format!("orphans     {} that the metadata does not know (harmless)", self.orphans.len()));
        lines.extend(self.orphans.iter().map(|key| format!("  {key}")));
        lines.push(format!("staging     {} files left by a server that was killed (harmless)", self.staging.len()));
        lines.extend(self.staging.iter().map(|path| format!("  {path}")));
        lines.extend(self.notes.iter().map(|note| format!("note        {note}")));
        for damage in &self.damage {
            lines.push(format!("DAMAGE      {}: {}", damage.place, damage.reasons.join("; ")));
            let lost = |l: &LostRange| {
                format!(
                    "  unreadable: {} partition {} offsets {} to {}",
                    l.topic,
                    l.partition,
                    l.first_offset,
                    l.next_offset.0.saturating_sub(1)
                )
            };
            lines.extend(damage.lost.iter().map(lost));
        }
        lines.push(if self.clean { "clean".to_owned() } else { format!("{} problem(s)", self.damage.len()) });
        lines
    }
}
