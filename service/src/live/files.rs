//! The files that settings come from, and whether one has changed. Must never take half a file for a new one.

use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use crate::config::{Config, Sources};

/// What tells a file from what it was: a mounted folder of Kubernetes is exchanged as a whole, and its files are others then.
type Marks = Vec<Option<(u64, i64, i64, u64)>>;

/// The files, and how they were.
#[derive(Clone)]
pub(super) struct Files {
    paths: Vec<PathBuf>,
    /// When they were last taken.
    taken: Marks,
    /// At the last look.
    seen: Marks,
}

impl Files {
    /// The file of the settings, taken as it is now: to be asked before it is read, or what changes meanwhile is missed.
    pub(super) fn of_settings(sources: &Sources) -> Self {
        Self::taken(sources.file.iter().cloned().collect())
    }

    /// These, and those that hold certificates, which nobody has read yet.
    pub(super) fn and_certificates(mut self, config: &Config) -> Self {
        let tls = &config.metadata.tls;
        let more = Self::taken([&tls.ca, &tls.cert, &tls.key].into_iter().flatten().cloned().collect());
        self.paths.extend(more.paths);
        self.taken.extend(more.taken);
        self.seen.extend(more.seen);
        self
    }

    fn taken(paths: Vec<PathBuf>) -> Self {
        let mut files = Self { paths, taken: Marks::new(), seen: Marks::new() };
        files.look();
        files
    }

    /// Whether there is nothing to look at.
    pub(super) fn is_empty(&self) -> bool {
        self.paths.is_empty()
    }

    /// From now on they are taken as they are.
    pub(super) fn look(&mut self) {
        self.seen = self.marks();
        self.taken.clone_from(&self.seen);
    }

    /// Whether one has changed since they were taken, and none since the last look: then nobody is writing any more, and they count
    /// as taken.
    pub(super) fn have_changed(&mut self) -> bool {
        let before = std::mem::take(&mut self.seen);
        self.seen = self.marks();
        let settled = self.seen == before && self.seen != self.taken;
        if settled {
            self.taken.clone_from(&self.seen);
        }
        settled
    }

    fn marks(&self) -> Marks {
        let mark = |path: &PathBuf| {
            let found = std::fs::metadata(path).ok()?;
            Some((found.ino(), found.mtime(), found.mtime_nsec(), found.len()))
        };
        self.paths.iter().map(mark).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_taken_once_it_has_changed_and_changes_no_more() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lakefall.toml");
        std::fs::write(&path, "a").unwrap();
        let mut files = Files::of_settings(&Sources { file: Some(path.clone()), ..Sources::default() });
        assert!(!files.have_changed() && !files.have_changed());
        std::fs::write(&path, "ab").unwrap();
        assert!(!files.have_changed(), "somebody may still be writing it");
        std::fs::write(&path, "abc").unwrap();
        assert!(!files.have_changed(), "somebody was still writing it");
        assert!(files.have_changed());
        assert!(!files.have_changed());
        // As a mounted folder is exchanged: by a rename.
        let next = folder.path().join("next");
        std::fs::write(&next, "abc").unwrap();
        std::fs::rename(&next, &path).unwrap();
        assert!(!files.have_changed() && files.have_changed());
        std::fs::remove_file(&path).unwrap();
        assert!(!files.have_changed() && files.have_changed());
        std::fs::write(&path, "d").unwrap();
        files.look();
        assert!(!files.have_changed(), "it was taken as it is");
    }

    #[test]
    fn certificates_are_looked_at_beside_the_settings() {
        let folder = tempfile::tempdir().unwrap();
        let [file, cert] = ["lakefall.toml", "tls.crt"].map(|name| folder.path().join(name));
        std::fs::write(&cert, "a").unwrap();
        let mut config = Config::default();
        config.metadata.tls.cert = Some(cert.clone());
        let mut files = Files::of_settings(&Sources { file: Some(file.clone()), ..Sources::default() }).and_certificates(&config);
        for path in [&cert, &file] {
            std::fs::write(path, "ab").unwrap();
            assert!(!files.have_changed() && files.have_changed(), "{}", path.display());
        }
        assert!(!files.have_changed());
    }
}
