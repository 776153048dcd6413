//! The cache disk: warm after a restart, and harmless when it is damaged, written by another version, full, hanging or
//! not there.

use std::path::Path;
use std::time::Duration;

use lakefall_storage::cache::{CacheConfig, DiskConfig, DiskState, Pool};
use tokio::time::Instant;

use crate::caches::{BLOCK, Bench, OPEN, config, id};

/// The files that blocks are in; beside them a probe comes and goes.
fn files(directory: &Path) -> Vec<std::path::PathBuf> {
    let all = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let files: Vec<_> = all.filter(|path| path.file_name().is_some_and(|name| name != "lakefall-probe")).collect();
    assert!(!files.is_empty());
    files
}

fn on(directory: &Path) -> CacheConfig {
    CacheConfig {
        disk: Some(DiskConfig { path: directory.to_owned(), bytes: 64 << 20 }),
        lookup_deadline: Duration::from_secs(10),
        ..config()
    }
}

#[tokio::test]
async fn a_cache_disk_is_still_warm_after_a_restart_and_damage_on_it_is_fetched_again() {
    let directory = tempfile::tempdir().unwrap();
    let bench = Bench::new(OPEN).await;
    let size = bench.content.len() as u64;
    let cache = bench.cache(on(directory.path())).await;
    bench.read(&cache, 0..size, Pool::Hot).await.unwrap();
    cache.close().await;
    let fetched = bench.gets();
    assert_eq!(fetched, 11);

    let cache = bench.cache(on(directory.path())).await;
    for pool in [Pool::Cold, Pool::Hot] {
        assert!(bench.read(&cache, 0..size, pool).await.unwrap() == bench.content);
    }
    assert_eq!(bench.gets(), fetched, "all blocks came from the disk");
    cache.close().await;

    // One bit in every page of every file: no block is whole any more.
    for path in files(directory.path()) {
        let mut bytes = std::fs::read(&path).unwrap();
        bytes.iter_mut().skip(2_048).step_by(4_096).for_each(|byte| *byte ^= 16);
        std::fs::write(&path, bytes).unwrap();
    }
    let cache = bench.cache(on(directory.path())).await;
    assert!(bench.read(&cache, 0..size, Pool::Hot).await.unwrap() == bench.content);
    assert!(bench.gets() > fetched, "damaged blocks came from the store");
}

#[tokio::test]
async fn a_cache_disk_that_fails_while_in_use_is_turned_off() {
    let directory = tempfile::tempdir().unwrap();
    let bench = Bench::new(OPEN).await;
    let size = bench.content.len() as u64;
    let cache = bench.cache(on(directory.path())).await;
    bench.read(&cache, 0..size, Pool::Hot).await.unwrap();
    cache.close().await;
    let cache = bench.cache(on(directory.path())).await;
    for path in files(directory.path()) {
        std::fs::File::options().write(true).open(path).unwrap().set_len(0).unwrap();
    }
    for _ in 0..2 {
        assert!(bench.read(&cache, 0..size, Pool::Hot).await.unwrap() == bench.content);
    }
    assert_eq!(bench.gets(), 22, "fetched once more, then kept in memory");
}

#[tokio::test]
async fn a_cache_disk_that_cannot_be_opened_is_done_without() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let bench = Bench::new(OPEN).await;
    let cache = bench.cache(on(&file.path().join("below"))).await;
    bench.read(&cache, 0..10, Pool::Hot).await.unwrap();
    assert_eq!(bench.read(&cache, 0..10, Pool::Hot).await.unwrap(), bench.content[..10]);
    assert_eq!(bench.gets(), 1);
}

#[tokio::test]
async fn a_cache_disk_written_with_other_blocks_is_harmless() {
    let directory = tempfile::tempdir().unwrap();
    let bench = Bench::new(OPEN).await;
    let size = bench.content.len() as u64;
    let cache = bench.cache(on(directory.path())).await;
    bench.read(&cache, 0..size, Pool::Hot).await.unwrap();
    cache.close().await;
    drop(cache);
    let larger = CacheConfig { block_bytes: 2 * BLOCK, ..on(directory.path()) };
    let cache = bench.cache(larger).await;
    for pool in [Pool::Cold, Pool::Hot] {
        assert!(bench.read(&cache, 0..size, pool).await.unwrap() == bench.content, "the same number is another range now");
    }
    assert_eq!(cache.disk(), DiskState::Used);
}

#[tokio::test]
async fn a_cache_disk_full_of_rubbish_is_harmless() {
    let directory = tempfile::tempdir().unwrap();
    let bench = Bench::new(OPEN).await;
    let size = bench.content.len() as u64;
    let cache = bench.cache(on(directory.path())).await;
    bench.read(&cache, 0..size, Pool::Hot).await.unwrap();
    cache.close().await;
    drop(cache);
    let mut state = 1_u64;
    for path in files(directory.path()) {
        let rubbish: Vec<u8> = (0..std::fs::metadata(&path).unwrap().len())
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (state >> 33) as u8
            })
            .collect();
        std::fs::write(&path, rubbish).unwrap();
    }
    let cache = bench.cache(on(directory.path())).await;
    for _ in 0..2 {
        assert!(bench.read(&cache, 0..size, Pool::Hot).await.unwrap() == bench.content);
    }
    assert_eq!(bench.gets(), 22);
}

#[tokio::test]
async fn damage_done_to_the_cache_disk_while_it_is_used_is_fetched_again() {
    let directory = tempfile::tempdir().unwrap();
    let bench = Bench::new(OPEN).await;
    let size = bench.content.len() as u64;
    let cache = bench.cache(on(directory.path())).await;
    bench.read(&cache, 0..size, Pool::Hot).await.unwrap();
    cache.close().await;
    drop(cache);
    let cache = bench.cache(on(directory.path())).await;
    assert!(bench.read(&cache, 0..100, Pool::Cold).await.unwrap() == bench.content[..100]);
    assert_eq!(bench.gets(), 11, "warm");
    for path in files(directory.path()) {
        let mut bytes = std::fs::read(&path).unwrap();
        bytes.iter_mut().skip(100).step_by(1_024).for_each(|byte| *byte ^= 1);
        // In place: the cache holds the files open.
        std::os::unix::fs::FileExt::write_all_at(&std::fs::File::options().write(true).open(&path).unwrap(), &bytes, 0).unwrap();
    }
    for pool in [Pool::Cold, Pool::Hot] {
        assert!(bench.read(&cache, 0..size, pool).await.unwrap() == bench.content);
    }
    assert!(bench.gets() > 11, "damaged blocks came from the store");
    assert_eq!(cache.disk(), DiskState::Used, "bad bytes are no failed disk");
}

/// The disk is read on a blocking thread; the only one that this runtime has is kept busy.
#[test]
fn a_cache_disk_that_hangs_is_passed_by() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(1).build().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let (release, hangs) = std::sync::mpsc::channel::<()>();
    runtime.block_on(async {
        let bench = Bench::new(OPEN).await;
        let size = bench.content.len() as u64;
        let cache = bench.cache(on(directory.path())).await;
        bench.read(&cache, 0..size, Pool::Hot).await.unwrap();
        cache.close().await;
        drop(cache);
        let impatient = CacheConfig { lookup_deadline: Duration::from_millis(30), ..on(directory.path()) };
        let cache = bench.cache(impatient).await;
        let fetched = bench.gets();
        let hanging = tokio::task::spawn_blocking(move || hangs.recv());
        for number in 0..10 {
            let start = number * BLOCK as u64;
            let started = Instant::now();
            let found = bench.read(&cache, start..start + 10, Pool::Cold).await.unwrap();
            assert_eq!(found, bench.content[start as usize..start as usize + 10]);
            assert!(started.elapsed() < Duration::from_secs(5), "a reader waited for the disk");
            let expected = if number < 2 { DiskState::Used } else { DiskState::PassedBy };
            assert_eq!(cache.disk(), expected, "after {} late lookups", number + 1);
        }
        assert_eq!(bench.gets(), fetched + 10, "all came from the store");
        release.send(()).unwrap();
        hanging.await.unwrap().unwrap();
    });
}

/// A small file system of its own; unmounted when dropped.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    /// `None`, and says why, where mounting is not permitted.
    fn mount() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let tried = std::process::Command::new("mount").args(["-t", "tmpfs", "-o", "size=8m", "tmpfs"]).arg(folder.path()).output();
        match tried {
            Ok(output) if output.status.success() => Some(Self(folder)),
            told => {
                println!("SKIPPED: a tmpfs cannot be mounted here: {told:?}");
                None
            }
        }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_cache_disk_is_turned_off_and_everybody_is_served() {
    let Some(disk) = SmallDisk::mount() else { return };
    let bench = Bench::new(OPEN).await;
    let small = CacheConfig { memory_bytes: 1 << 20, ..on(&disk.0.path().join("cache")) };
    let cache = bench.cache(small).await;
    assert_eq!(cache.disk(), DiskState::Used);
    let deadline = Instant::now() + Duration::from_secs(60);
    let mut number = 1_000;
    while cache.disk() != DiskState::Off {
        assert!(Instant::now() < deadline, "the disk is full and still in use");
        let object = id(number);
        bench.store.put_new(&object.key(), vec![bench.content.clone()]).await.unwrap();
        cache.fill(object, std::slice::from_ref(&bench.content), bench.content.len() as u64);
        let same = cache.get(object, bench.content.len() as u64, 0..10, Pool::Hot).await.unwrap();
        assert_eq!(same, bench.content[..10]);
        assert!(bench.read(&cache, 0..100, Pool::Hot).await.unwrap() == bench.content[..100]);
        number += 1;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    bench.read(&cache, 0..100, Pool::Hot).await.unwrap();
    let before = bench.gets();
    assert!(bench.read(&cache, 0..100, Pool::Hot).await.unwrap() == bench.content[..100]);
    assert_eq!(bench.gets(), before, "memory caches on");
    cache.close().await;
}
