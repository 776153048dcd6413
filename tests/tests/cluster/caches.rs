//! Cache disks that lie, or are full: readers get the right records all the same, from the store.

use std::path::Path;
use std::time::Duration;

use lakefall_tests::cluster::{Cluster, Options, eventually};
use lakefall_tests::disk::{SmallDisk, flip_bits};
use lakefall_tests::rows::noise;
use lakefall_tests::{Client, Row};

const RECORDS: u64 = 120;
const PROMPT: Duration = Duration::from_secs(30);

/// A cluster whose first gateway has a disk tier in `folder`, and so little memory that reads come from below it.
async fn with_disk(folder: &Path) -> Cluster {
    let mut cluster = Options::default().prepare().await;
    let gateway = &mut cluster.gateways[0];
    gateway.set_env("LAKEFALL_CACHE__DISK_PATH", folder.display());
    gateway.set_env("LAKEFALL_CACHE__DISK_BYTES", 64 << 20);
    gateway.set_env("LAKEFALL_CACHE__MEMORY_BYTES", 1 << 20);
    gateway.set_env("LAKEFALL_CACHE__COLD_BYTES", 1 << 20);
    gateway.set_env("LAKEFALL_CACHE__BLOCK_BYTES", 64 << 10);
    cluster.start().await;
    cluster
}

/// Stores records of 200 KB each, and returns them as they must be read.
async fn fill(client: &Client, topic: &str) -> Vec<Row> {
    client.create_topic(topic, 1).await;
    let mut rows = Vec::new();
    for n in 0..RECORDS {
        let value = noise(n);
        let answer = client.send(client.values(topic, "partition=0", value.clone())).await.unwrap().ok();
        rows.push(Row { partition: 0, offset: answer.offsets()[0].1, value: value.into() });
    }
    rows
}

async fn same(client: &Client, topic: &str, expected: &[Row]) {
    let rows = client.read_lines(topic, 0, 0).await;
    assert_eq!(rows.len(), expected.len());
    for (row, expected) in rows.iter().zip(expected) {
        assert!(row == expected, "offset {} is not what was stored", expected.offset);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_that_flip_on_the_cache_disk_are_found_and_fetched_again() {
    let folder = tempfile::tempdir().unwrap();
    let mut cluster = with_disk(folder.path()).await;
    let client = cluster.client();
    let rows = fill(&client, "t").await;
    same(&client, "t", &rows).await;
    let hits = cluster.gateways[0].metric_of("lakefall_cache_hits_total", "disk").await;
    println!("caches: {hits} blocks came from the disk before the damage");
    assert!(hits > 0.0, "nothing was read from the disk: what is on it does not matter");
    // While it is down.
    cluster.gateways[0].stop().await;
    let down = flip_bits(folder.path());
    cluster.gateways[0].start().await;
    same(&client, "t", &rows).await;
    // While it is up.
    let up = flip_bits(folder.path());
    for _ in 0..2 {
        same(&client, "t", &rows).await;
    }
    let corrupt = cluster.gateways[0].metric("lakefall_cache_corrupt_total").await;
    println!("caches: {down} bits flipped while it was down, {up} while it was up; {corrupt} blocks were found damaged");
    assert!(down > 100 && up > 100, "nothing was on the disk: the test means nothing");
    assert!(cluster.ended().is_none());
    cluster.gateways[0].stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_cache_disk_costs_speed_only() {
    let Some(disk) = SmallDisk::mount(8) else { return };
    let mut cluster = with_disk(disk.path()).await;
    let client = cluster.client();
    let rows = fill(&client, "t").await;
    for _ in 0..2 {
        same(&client, "t", &rows).await;
    }
    same(&cluster.client_of(1), "t", &rows).await;
    let told = cluster.gateways[0].whole_log();
    let about_disk = told.lines().filter(|line| line.to_lowercase().contains("disk")).count();
    println!("caches: a full disk is mentioned in {about_disk} of {} lines", told.lines().count());
    assert!(about_disk < 20, "the log is flooded:\n{told}");
    assert!(cluster.ended().is_none());
    // It starts again over the same disk.
    cluster.gateways[0].kill_nine();
    cluster.gateways[0].start().await;
    eventually("it reads", PROMPT, async || client.page("t", 0, 0, "").await.is_ok()).await;
    same(&client, "t", &rows).await;
}
