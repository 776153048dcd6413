//! Places for clusters on this machine: as many at once as it has cores, over all processes that run tests. Must be taken
//! before anything is started, and one at a time: a test that waits for a second one while it holds the first may wait for
//! another that does the same.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::Instant;

/// A place, or the whole machine; free again when it is dropped.
#[derive(Debug)]
pub struct Place(#[expect(dead_code, reason = "their locks are the place")] Vec<File>);

/// Between two looks for a free place.
const LOOK: Duration = Duration::from_millis(20);
/// How long others may have the machine: the longest tests there are, some of them in a row.
const OTHERS: Duration = Duration::from_secs(1_200);
/// What took longer is told.
const TELL: Duration = Duration::from_secs(1);

impl Place {
    /// Waits for a place among others.
    pub async fn shared() -> Self {
        Self::shared_in(&folder(), OTHERS).await
    }

    /// Waits until no other cluster is there, for tests that measure time. Others wait meanwhile.
    pub async fn alone() -> Self {
        Self::alone_in(&folder(), OTHERS).await
    }

    async fn shared_in(folder: &Path, within: Duration) -> Self {
        let until = Instant::now() + within;
        let machine = open(folder, "machine");
        {
            // Whoever wants the machine alone stands in the door, and nobody goes past: else tests that follow each other
            // would keep the machine, and the one that waits would wait for the last of them.
            let door = open(folder, "door");
            wait_for("the door", until, || door.try_lock_shared().is_ok()).await;
            wait_for("the machine", until, || machine.try_lock_shared().is_ok()).await;
        }
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let places: Vec<File> = (0..cores).map(|place| open(folder, &place.to_string())).collect();
        let mut taken = None;
        wait_for("a place", until, || {
            taken = places.iter().position(|place| place.try_lock().is_ok());
            taken.is_some()
        })
        .await;
        let place = places.into_iter().nth(taken.unwrap_or_default());
        Self(place.into_iter().chain([machine]).collect())
    }

    async fn alone_in(folder: &Path, within: Duration) -> Self {
        let until = Instant::now() + within;
        let (door, machine) = (open(folder, "door"), open(folder, "machine"));
        wait_for("the door", until, || door.try_lock().is_ok()).await;
        wait_for("the machine", until, || machine.try_lock().is_ok()).await;
        Self(vec![machine])
    }
}

async fn wait_for(what: &str, until: Instant, mut done: impl FnMut() -> bool) {
    let began = Instant::now();
    let mut told = false;
    while !done() {
        if !told && began.elapsed() > TELL {
            told = true;
            tell(format_args!("cluster: waiting for {what}, which other tests of this machine have"));
        }
        assert!(
            Instant::now() < until,
            "other tests of this machine did not free {what} in {:?}: does one of them hang, or are too many started at once?",
            began.elapsed()
        );
        tokio::time::sleep(LOOK).await;
    }
    if began.elapsed() > TELL {
        tell(format_args!("cluster: waited {:?} for {what}, which other tests had", began.elapsed()));
    }
}

/// At once, and past the test runner, which shows what a test printed only when it has ended.
fn tell(what: std::fmt::Arguments<'_>) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "{what}");
}

fn folder() -> PathBuf {
    std::env::temp_dir().join(format!("lakefall-places-{}", rustix::process::geteuid().as_raw()))
}

fn open(folder: &Path, name: &str) -> File {
    std::fs::create_dir_all(folder).unwrap();
    File::options().create(true).truncate(false).write(true).open(folder.join(name)).unwrap()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_secs(20);

    #[tokio::test]
    async fn who_wants_the_machine_alone_gets_it_before_those_who_come_later() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().to_path_buf();
        let first = Place::shared_in(&path, SOON).await;
        let alone = tokio::spawn({
            let path = path.clone();
            async move { Place::alone_in(&path, SOON).await }
        });
        // It stands in the door.
        let door = open(&path, "door");
        while door.try_lock_shared().is_ok() {
            door.unlock().unwrap();
            tokio::time::sleep(LOOK).await;
        }
        let later = tokio::spawn({
            let path = path.clone();
            async move { Place::shared_in(&path, SOON).await }
        });
        tokio::time::sleep(LOOK * 5).await;
        assert!(!later.is_finished() && !alone.is_finished());
        drop(first);
        let alone = alone.await.unwrap();
        assert!(!later.is_finished(), "somebody is beside the one that is alone");
        drop(alone);
        later.await.unwrap();
    }

    #[tokio::test]
    #[should_panic(expected = "other tests of this machine did not free the machine")]
    async fn a_machine_that_is_never_freed_fails_the_test_that_waits_for_it() {
        let folder = tempfile::tempdir().unwrap().path().to_path_buf();
        let _held = Place::shared_in(&folder, SOON).await;
        Place::alone_in(&folder, LOOK * 3).await;
    }
}
