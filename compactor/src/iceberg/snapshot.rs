//! What the next snapshot's manifests are. Pure: manifests whose files are all still there are kept as they are.

use std::collections::BTreeMap;

use super::manifest::{ADDED, DELETED, EXISTING, Entry, ManifestFile};
use super::{TableFile, TableState};

/// Manifests beyond which all are written anew as one: readers fetch each.
const MOST_MANIFESTS: usize = 16;
/// Files of a manifest, at most.
const MOST_FILES: usize = 5_000;
const MILLIS_OF_DAY: i64 = 86_400_000;

/// A snapshot to be written.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Plan {
    /// Manifests that stay.
    pub(super) keep: Vec<ManifestFile>,
    /// Entries of each manifest to be written.
    pub(super) write: Vec<Vec<Entry>>,
    pub(super) added: Count,
    pub(super) deleted: Count,
}

/// Files and their rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Count {
    pub(super) files: u64,
    pub(super) rows: u64,
}

impl Plan {
    /// Whether there is anything to be told.
    pub(super) fn changes(&self) -> bool {
        self.added.files + self.deleted.files > 0
    }

    /// As Iceberg calls it: rows that only moved to other files are no change of the table.
    pub(super) fn operation(&self) -> &'static str {
        match (self.added.files, self.deleted.files) {
            (_, 0) => "append",
            (0, _) => "delete",
            _ if self.added.rows == self.deleted.rows => "replace",
            _ => "overwrite",
        }
    }
}

/// The snapshot that shows `state`, after one with these manifests.
pub(super) fn plan(before: Vec<(ManifestFile, Vec<Entry>)>, state: &TableState, snapshot: i64, sequence: i64) -> Plan {
    let mut wanted: BTreeMap<String, &TableFile> = state.files.iter().map(|file| (path(&state.root, &file.key), file)).collect();
    let mut plan = Plan::default();
    let mut rewritten = Vec::new();
    let merge = before.len() > MOST_MANIFESTS;
    for (file, entries) in before {
        let mut live: Vec<Entry> = entries.into_iter().filter(|entry| entry.status != DELETED).collect();
        let mut gone = 0;
        for entry in &mut live {
            entry.status = EXISTING;
            if wanted.remove(&entry.path).is_none() {
                (entry.status, entry.snapshot_id) = (DELETED, snapshot);
                plan.deleted.files += 1;
                plan.deleted.rows += entry.rows as u64;
                gone += 1;
            }
        }
        match (live.is_empty(), gone > 0 || merge) {
            (true, _) => {}
            (false, true) => rewritten.append(&mut live),
            (false, false) => plan.keep.push(file),
        }
    }
    let added: Vec<Entry> = wanted.into_iter().map(|(path, file)| added(path, file, snapshot, sequence)).collect();
    plan.added = Count { files: added.len() as u64, rows: added.iter().map(|entry| entry.rows as u64).sum() };
    plan.write = [added, rewritten].iter().flat_map(|entries| entries.chunks(MOST_FILES)).map(<[Entry]>::to_vec).collect();
    plan
}

/// Where readers find an object.
pub(super) fn path(root: &str, key: &str) -> String {
    format!("{}/{key}", root.trim_end_matches('/'))
}

fn added(path: String, file: &TableFile, snapshot: i64, sequence: i64) -> Entry {
    let partition = (file.partition.0 as i32).to_le_bytes().to_vec();
    let long = |number: i64| number.to_le_bytes().to_vec();
    let micros = |millis: i64| long(millis.saturating_mul(1_000));
    Entry {
        status: ADDED,
        snapshot_id: snapshot,
        sequence_number: sequence,
        path,
        day: i32::try_from(file.appended_at.as_millis().div_euclid(MILLIS_OF_DAY)).unwrap_or_default(),
        rows: file.rows as i64,
        size: file.size as i64,
        lower: vec![
            (1, partition.clone()),
            (2, long(file.first.0 as i64)),
            (3, micros(file.first_timestamp.as_millis())),
            (4, micros(file.appended_at.as_millis())),
        ],
        upper: vec![(1, partition), (2, long(file.last.0 as i64)), (3, micros(file.max_timestamp.as_millis()))],
    }
}

#[cfg(test)]
mod tests {
    use lakefall_queue::{Offset, PartitionIndex, Timestamp};

    use super::*;

    fn file(n: u64) -> TableFile {
        TableFile {
            key: format!("tables/d/t/{n:03}.parquet"),
            size: 100,
            rows: 10,
            partition: PartitionIndex(0),
            first: Offset(n * 10),
            last: Offset(n * 10 + 9),
            first_timestamp: Timestamp::from_millis(-1),
            max_timestamp: Timestamp::from_millis(1),
            appended_at: Timestamp::from_millis(-1),
        }
    }

    fn state(files: impl IntoIterator<Item = u64>) -> TableState {
        TableState {
            folder: "tables/d/t/".to_owned(),
            root: "s3://b/".to_owned(),
            position: 1,
            files: files.into_iter().map(file).collect(),
            columns: None,
            now: Timestamp::default(),
            entropy: 0,
        }
    }

    /// As it is found again.
    fn written(plan: Plan, known: Vec<(ManifestFile, Vec<Entry>)>) -> Vec<(ManifestFile, Vec<Entry>)> {
        let kept = known.into_iter().filter(|(file, _)| plan.keep.contains(file));
        let name = |entries: &[Entry]| format!("{}-{}", entries[0].snapshot_id, entries[0].path);
        let fresh = plan.write.iter().map(|entries| (ManifestFile::of(name(entries), 1, 1, 1, entries), entries.clone()));
        kept.chain(fresh).collect()
    }

    #[test]
    fn a_manifest_stays_while_its_files_do_and_is_written_anew_without_those_that_went() {
        let first = plan(Vec::new(), &state(0..3), 1, 1);
        assert_eq!((first.operation(), first.added, first.write.len()), ("append", Count { files: 3, rows: 30 }, 1));
        assert_eq!((first.write[0][0].day, first.write[0][0].path.as_str()), (-1, "s3://b/tables/d/t/000.parquet"));
        let before = written(first, Vec::new());
        let second = plan(before.clone(), &state(0..4), 2, 2);
        assert_eq!((second.operation(), second.keep.len(), second.write.len()), ("append", 1, 1));
        let before = written(second, before);
        assert!(!plan(before.clone(), &state(0..4), 3, 3).changes());
        let third = plan(before.clone(), &state(1..4), 3, 3);
        assert_eq!((third.operation(), third.deleted.files, third.keep.len()), ("delete", 1, 1));
        let statuses: Vec<i32> = third.write[0].iter().map(|entry| entry.status).collect();
        assert_eq!(statuses, [DELETED, EXISTING, EXISTING]);
        let before = written(third, before);
        let fourth = plan(before, &state([1, 2, 9]), 4, 4);
        assert_eq!((fourth.operation(), fourth.deleted.files), ("replace", 1));
    }

    #[test]
    fn many_manifests_become_one() {
        let mut before = Vec::new();
        for n in 1..=40_u64 {
            let next = plan(before.clone(), &state(0..n), n as i64, n as i64);
            assert!(next.changes());
            before = written(next, before);
            assert!(before.len() <= MOST_MANIFESTS + 2, "{}", before.len());
        }
        let files: usize = before.iter().map(|(_, entries)| entries.len()).sum();
        assert_eq!(files, 40);
    }
}
