//! Makes the directories of a local store durable before an object is written into them.
//!
//! `LocalFileSystem::with_fsync` syncs each directory that *it* creates, but between one writer's mkdir and its fsync
//! another writer finds the directory there, syncs only its own file, and reports success for a path that a power cut
//! takes away. So directories are created and synced here first, and known durable before anybody uses them.

use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use super::StoreError;

/// The directories of a store that are known to survive a power cut.
#[derive(Debug)]
pub(super) struct LocalDirectories {
    root: PathBuf,
    durable: Mutex<HashSet<String>>,
}

impl LocalDirectories {
    /// Creates the root, and the directories over which segments are spread: 256 first uses would each cost a sync.
    pub(super) fn open(root: PathBuf) -> io::Result<Self> {
        make_durable(&root)?;
        let segments = root.join("seg");
        let mut durable = HashSet::new();
        for spread in 0..=u8::MAX {
            let name = format!("{spread:02x}");
            std::fs::create_dir_all(segments.join(&name))?;
            durable.insert(format!("seg/{name}"));
        }
        sync(&segments)?;
        sync(&root)?;
        Ok(Self { root, durable: Mutex::new(durable) })
    }

    /// Makes sure that the directory of `key` is there for good.
    pub(super) async fn prepare(self: &Arc<Self>, key: &str) -> Result<(), StoreError> {
        let Some((directory, _)) = key.rsplit_once('/') else { return Ok(()) };
        if self.durable.lock().unwrap_or_else(PoisonError::into_inner).contains(directory) {
            return Ok(());
        }
        let (this, directory) = (self.clone(), directory.to_owned());
        tokio::task::spawn_blocking(move || this.create(directory))
            .await
            .map_err(|error| StoreError::Unavailable { reason: error.to_string() })?
            .map_err(|error| StoreError::from_io(&error))
    }

    fn create(&self, directory: String) -> io::Result<()> {
        let path = self.root.join(&directory);
        std::fs::create_dir_all(&path)?;
        // From the root's child down to the directory, each name is an entry of its parent.
        for parent in path.ancestors().skip(1) {
            sync(parent)?;
            if parent == self.root {
                break;
            }
        }
        self.durable.lock().unwrap_or_else(PoisonError::into_inner).insert(directory);
        Ok(())
    }
}

/// Creates `root` and syncs the parents of what had to be created.
fn make_durable(root: &Path) -> io::Result<()> {
    let missing: Vec<PathBuf> =
        root.ancestors().take_while(|path| !path.exists()).filter_map(Path::parent).map(Path::to_path_buf).collect();
    std::fs::create_dir_all(root)?;
    missing.iter().try_for_each(|parent| sync(parent))
}

/// Directories can be synced only on Unix; elsewhere the file system orders them itself.
fn sync(directory: &Path) -> io::Result<()> {
    if cfg!(unix) { File::open(directory)?.sync_all() } else { Ok(()) }
}
