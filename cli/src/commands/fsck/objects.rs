//! What is in the object store: each object is read whole, verified from itself, and compared with what the metadata says.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use lakefall_queue::ledger::key::{TABLES, parquet_id};
use lakefall_queue::ledger::{Extent, ObjectLevel};
use lakefall_queue::{PartitionIndex, SegmentId};
use lakefall_storage::batch::walk;
use lakefall_storage::parquet::{self, ParquetFile};
use lakefall_storage::segment;
use lakefall_storage::store::{ObjectInfo, Store, StoreError};

use super::known::{Known, KnownObject};
use super::report::{Damage, Kind, Report};
use crate::failure::Failure;

/// Verifies every segment and Parquet file, and looks for those that are missing.
pub(super) async fn check(store: &Store, known: &Known, report: &mut Report) -> Result<(), Failure> {
    let mut seen = BTreeSet::new();
    let mut listed = store.list("seg").chain(store.list(TABLES.trim_end_matches('/')));
    while let Some(info) = listed.try_next().await.map_err(|error| unlisted(&error))? {
        let id = SegmentId::from_key(&info.key).or_else(|| parquet_id(&info.key));
        if id.is_none() && info.key.starts_with(TABLES) {
            // Of whoever manages the Parquet files as tables.
            continue;
        }
        report.objects += 1;
        report.bytes += info.size;
        seen.extend(id);
        let Some(object) = id.and_then(|id| known.objects.get(&id)) else {
            note_damage("orphan", store, &info, report).await;
            report.orphans.push(info.key);
            continue;
        };
        if object.extents.is_empty() {
            report.released += 1;
            note_damage("unreferenced object", store, &info, report).await;
        } else {
            report.referenced += 1;
            check_object(store, &info, object, report).await;
        }
    }
    for (id, object) in known.objects.iter().filter(|(id, object)| !object.extents.is_empty() && !seen.contains(*id)) {
        let lost = object.extents.iter().map(|place| report.lost(place.topic, place.partition, &place.extent)).collect();
        report.damage.push(Damage {
            kind: Kind::MissingObject,
            place: object.key.clone().unwrap_or_else(|| id.key()),
            reasons: vec!["it is not in the store".to_owned()],
            lost,
        });
    }
    Ok(())
}

/// Objects that no live record needs: whatever is wrong with them harms nobody, and still tells of a failing disk.
async fn note_damage(what: &str, store: &Store, info: &ObjectInfo, report: &mut Report) {
    if let Err(reason) = read(store, info).await.and_then(|bytes| verify(&info.key, &bytes)) {
        report.notes.push(format!("{what} {}: {reason}", info.key));
    }
}

async fn check_object(store: &Store, info: &ObjectInfo, object: &KnownObject, report: &mut Report) {
    let (mut reasons, mut lost) = (Vec::new(), Vec::new());
    if let Some(size) = object.size.filter(|size| *size != info.size) {
        reasons.push(format!("it has {} bytes, and had {size} when it was committed", info.size));
    }
    let bytes = read(store, info).await;
    if let Err(reason) = bytes.as_ref().map_err(Clone::clone).and_then(|bytes| verify(&info.key, bytes)) {
        reasons.push(reason);
    }
    let bytes = bytes.unwrap_or_default();
    for place in &object.extents {
        let checked = match place.extent.level {
            ObjectLevel::Parquet => check_file(&bytes, place.partition, &place.extent),
            ObjectLevel::Segment | ObjectLevel::Merged => check_extent(&bytes, &place.extent),
        };
        if let Err(reason) = checked {
            lost.push(report.lost(place.topic, place.partition, &place.extent));
            reasons.push(format!("the extent at {}: {reason}", place.extent.base_offset));
        }
    }
    if !reasons.is_empty() {
        report.damage.push(Damage { kind: Kind::DamagedObject, place: info.key.clone(), reasons, lost });
    }
}

async fn read(store: &Store, info: &ObjectInfo) -> Result<Bytes, String> {
    store.get_range(&info.key, 0..info.size).await.map_err(|error| error.to_string())
}

fn verify(key: &str, bytes: &Bytes) -> Result<(), String> {
    if key.starts_with(TABLES) {
        return parquet::verify(bytes, None).map(|_| ()).map_err(|error| error.to_string());
    }
    segment::verify(bytes).map(|_| ()).map_err(|error| error.to_string())
}

/// A Parquet file is of the partition, and its records lie within the extent.
fn check_file(object: &Bytes, partition: PartitionIndex, extent: &Extent) -> Result<(), String> {
    let file = ParquetFile::open(object, object.len() as u64).map_err(|error| error.to_string())?;
    if file.partition() != partition || file.first() < extent.base_offset || file.last() >= extent.end() {
        return Err(format!("it holds offsets {} to {} of partition {}", file.first(), file.last(), file.partition()));
    }
    Ok(())
}

/// An extent's bytes are whole batches with the records and within the times that the metadata names.
fn check_extent(object: &Bytes, extent: &Extent) -> Result<(), String> {
    let end = extent.position.saturating_add(u64::from(extent.length));
    let within = (end <= object.len() as u64).then(|| object.slice(extent.position as usize..end as usize));
    let Some(bytes) = within else { return Err("it reaches beyond the end of the object".to_owned()) };
    let mut records = 0_u64;
    for step in walk(&bytes) {
        let (header, range) = step.map_err(|error| error.to_string())?;
        header.verify(&bytes[range]).map_err(|error| error.to_string())?;
        if header.max_timestamp > extent.max_timestamp || header.base_timestamp < extent.first_timestamp {
            return Err("a batch has timestamps outside of the extent's".to_owned());
        }
        if extent.level == ObjectLevel::Merged {
            header.appended_delta_ms().map_err(|error| error.to_string())?;
        }
        records += u64::from(header.records);
    }
    if records != u64::from(extent.records) {
        return Err(format!("it holds {records} records, and should hold {}", extent.records));
    }
    Ok(())
}

/// Files `key#number` in a folder of objects: a local store writes an object under such a name, and then renames it. The
/// store's own listing hides them.
pub(super) fn staging_files(root: &Path) -> Result<Vec<String>, Failure> {
    let mut found = Vec::new();
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        let cannot = |error: std::io::Error| Failure::Failed(format!("cannot read {}: {error}", folder.display()));
        for entry in std::fs::read_dir(&folder).map_err(cannot)? {
            let path: PathBuf = entry.map_err(cannot)?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.file_name().and_then(|name| name.to_str()).is_some_and(is_staging) {
                found.push(path.strip_prefix(root).unwrap_or(&path).display().to_string());
            }
        }
    }
    Ok(found)
}

fn is_staging(name: &str) -> bool {
    let number = name.rsplit_once('#').map(|(_, number)| number);
    number.is_some_and(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
}

fn unlisted(error: &StoreError) -> Failure {
    Failure::Failed(format!("the objects cannot be listed: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_staging_file_ends_with_a_number() {
        assert!(is_staging("a.seg#1") && is_staging("a.seg#27"));
        assert!(!is_staging("a.seg") && !is_staging("a.seg#") && !is_staging("a#b"));
    }
}
