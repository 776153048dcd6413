//! Places for clusters on this machine: as many at once as it has cores, over all processes that run tests. Must be taken
//! before anything is started.

use std::fs::File;
use std::path::PathBuf;
use std::time::Duration;

/// A place, or the whole machine; free again when it is dropped.
#[derive(Debug)]
pub struct Place(#[expect(dead_code, reason = "their locks are the place")] Vec<File>);

/// Between two looks for a free place.
const LOOK: Duration = Duration::from_millis(20);

impl Place {
    /// Waits for a place among others.
    pub async fn shared() -> Self {
        let machine = open("machine");
        wait_for(|| machine.try_lock_shared().is_ok()).await;
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let places: Vec<File> = (0..cores).map(|place| open(&place.to_string())).collect();
        let mut taken = None;
        wait_for(|| {
            taken = places.iter().position(|place| place.try_lock().is_ok());
            taken.is_some()
        })
        .await;
        let place = places.into_iter().nth(taken.unwrap_or_default());
        Self(place.into_iter().chain([machine]).collect())
    }

    /// Waits until no other cluster is there, for tests that measure time. Others wait meanwhile.
    pub async fn alone() -> Self {
        let machine = open("machine");
        wait_for(|| machine.try_lock().is_ok()).await;
        Self(vec![machine])
    }
}

async fn wait_for(mut done: impl FnMut() -> bool) {
    // No deadline: others may take long, and have deadlines of their own.
    while !done() {
        tokio::time::sleep(LOOK).await;
    }
}

fn open(name: &str) -> File {
    let folder: PathBuf = std::env::temp_dir().join(format!("lakefall-places-{}", rustix::process::geteuid().as_raw()));
    std::fs::create_dir_all(&folder).unwrap();
    File::options().create(true).truncate(false).write(true).open(folder.join(name)).unwrap()
}
