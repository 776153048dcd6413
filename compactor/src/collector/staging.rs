//! Files that a killed process left in the folder of a local store. The store writes an object as `<key>#<number>` and then
//! gives it its name; its own listings hide such files. Without its name nobody can have committed it.

use std::io::{self, ErrorKind};
use std::path::Path;
use std::time::UNIX_EPOCH;

use lakefall_queue::Timestamp;

/// Removes those in a folder and in the folders below that were last written before `horizon`, and answers how many. One that is written all the
/// same, by a process that stood still since, cannot get its name any more: that write fails.
pub(super) fn remove(folder: &Path, horizon: Timestamp) -> io::Result<u64> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(0),
        Err(error) => return Err(error),
    };
    let mut removed = 0;
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            removed += remove(&entry.path(), horizon)?;
            continue;
        }
        if !entry.file_name().to_str().is_some_and(is_staging) || !is_older(&entry, horizon)? {
            continue;
        }
        match std::fs::remove_file(entry.path()) {
            Ok(()) => removed += 1,
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(removed)
}

fn is_older(entry: &std::fs::DirEntry, horizon: Timestamp) -> io::Result<bool> {
    let metadata = match entry.metadata() {
        Ok(metadata) => metadata,
        // It got its name meanwhile.
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    let since = metadata.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
    Ok(metadata.is_file() && Timestamp::default().plus(since) < horizon)
}

fn is_staging(name: &str) -> bool {
    let number = name.rsplit_once(".seg#").or_else(|| name.rsplit_once(".parquet#")).map(|(_, number)| number);
    number.is_some_and(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_staging_file_is_an_objects_and_ends_with_a_number() {
        assert!(is_staging("a.seg#1") && is_staging("a.seg#27") && is_staging("a.parquet#1"));
        assert!(!is_staging("a.seg") && !is_staging("a.seg#") && !is_staging("a#1") && !is_staging("a.seg#b"));
    }

    #[test]
    fn only_old_staging_files_are_removed() {
        let folder = tempfile::tempdir().unwrap();
        let names = ["a.seg#1", "b.seg#2", "c.seg", "notes"];
        for name in names {
            std::fs::write(folder.path().join(name), "x").unwrap();
        }
        std::fs::create_dir(folder.path().join("d.seg#3")).unwrap();
        let long_ago = UNIX_EPOCH + std::time::Duration::from_secs(1_000);
        std::fs::File::options().write(true).open(folder.path().join("a.seg#1")).unwrap().set_modified(long_ago).unwrap();
        std::fs::File::options().write(true).open(folder.path().join("c.seg")).unwrap().set_modified(long_ago).unwrap();
        let horizon = Timestamp::from_millis(2_000_000);
        assert_eq!(remove(folder.path(), horizon).unwrap(), 1);
        assert!(!folder.path().join("a.seg#1").exists() && folder.path().join("b.seg#2").exists() && folder.path().join("c.seg").exists());
        assert_eq!(remove(&folder.path().join("none"), horizon).unwrap(), 0);
    }
}
