//! A data folder that an older version left, killed in the middle of its work: today's executable reads all of it, goes on,
//! and finds it whole. Must never write the sample again once its version was shipped: a new format is a new sample.
//!
//! The sample of version 1 was killed with entries in its journal, and its `cluster` has no column `id`, as at first.
//! `UPDATE_FROZEN=1 cargo test -p lakefall-tests --test system upgrade` makes it anew.

use std::path::{Path, PathBuf};
use std::process::Command;

use lakefall_tests::process::command;
use lakefall_tests::{Client, Options};
use reqwest::Method;
use serde_json::{Value, json};

fn sample() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/frozen/data-folder-v1.tar.gz")
}

fn tar(arguments: &[&str], folder: &Path) {
    let status = Command::new("tar").args(arguments).arg(sample()).arg("-C").arg(folder).arg("data").status().unwrap();
    assert!(status.success(), "tar {arguments:?}: {status}");
}

/// Checkpoints so often that the sample has both tables and entries after them.
fn options(folder: &Path) -> Options {
    Options::default().data_dir(&folder.join("data")).env("LAKEFALL_METADATA__CHECKPOINT_ENTRIES", 7)
}

async fn fill(client: &Client) {
    for compression in ["none", "lz4", "zstd"] {
        let topic = json!({"name": compression, "partitions": 2, "compression": compression, "retention": {"age": "3650d"}});
        client.call(Method::POST, "/v1/topics", &topic).await;
        for n in 0..10 {
            let record = json!({"key": format!("k{n}"), "value": value(n), "headers": {"h": "ü"}, "partition": n % 2});
            client.call(Method::POST, &format!("/v1/topics/{compression}/records"), &record).await;
        }
    }
    client.send(client.request(Method::DELETE, "/v1/topics/lz4/records?before_offset=2&partition=0")).await.unwrap().ok();
    client.call(Method::PUT, "/v1/cursors/billing/topics/zstd", &json!({"offsets": {"0": 3, "1": 4}})).await;
    client.call(Method::PUT, "/v1/namespaces/team", &json!({"description": "Ångström"})).await;
    client.clone().in_namespace("team").create_topic("zstd", 1).await;
    client.clone().in_namespace("team").put("zstd", 0, &json!("of the team")).await;
    client.create_topic("gone", 1).await;
    client.send(client.request(Method::DELETE, "/v1/topics/gone")).await.unwrap().ok();
}

fn value(n: u64) -> Value {
    json!({"n": n, "text": "läke".repeat(n as usize), "float": 1.50})
}

#[tokio::test(flavor = "multi_thread")]
async fn the_data_folder_of_version_1_is_read_and_written_on() {
    let folder = tempfile::tempdir().unwrap();
    if std::env::var_os("UPDATE_FROZEN").is_some() {
        let mut server = options(folder.path()).start().await;
        fill(&server.client()).await;
        server.kill_nine();
        tar(&["-czf"], folder.path());
        std::fs::remove_dir_all(folder.path().join("data")).unwrap();
    }
    tar(&["-xzf"], folder.path());
    let mut server = options(folder.path()).start().await;
    let client = server.client();
    for (topic, start) in [("none", 0), ("lz4", 2), ("zstd", 0)] {
        assert_eq!(client.ends(topic).await, [(start, 5), (0, 5)], "{topic}");
        for partition in 0..2_u64 {
            let start = if partition == 0 { start } else { 0 };
            let page = client.get(&format!("/v1/topics/{topic}/partitions/{partition}/records?offset={start}")).await.unwrap().ok().json();
            for (at, record) in (start..).zip(page["records"].as_array().unwrap()) {
                let n = at * 2 + partition;
                let expected = (&json!(at), &json!(format!("k{n}")), &value(n), &json!("ü"));
                assert_eq!((&record["offset"], &record["key"], &record["value"], &record["headers"]["h"]), expected, "{topic}/{partition}");
            }
            assert_eq!(page["records"].as_array().unwrap().len() as u64, 5 - start);
        }
    }
    let cursor = client.get("/v1/cursors/billing/topics/zstd").await.unwrap().ok().json();
    assert_eq!(cursor["offsets"], json!({"0": 3, "1": 4}));
    let team = client.clone().in_namespace("team");
    assert_eq!(team.read_pages("zstd", 0, 0).await[0].value, b"\"of the team\""[..]);
    assert_eq!(client.get("/v1/namespaces/team").await.unwrap().ok().json()["description"], "Ångström");
    assert_eq!(client.get("/v1/topics/gone").await.unwrap().code(), "topic_not_found");
    for topic in ["none", "lz4", "zstd"] {
        assert_eq!(client.put(topic, 0, &json!("next")).await, 5);
    }
    // What it made of the folder is read again.
    server.stop().await;
    server.start().await;
    assert_eq!(client.read_pages("zstd", 0, 0).await.len(), 6);
    server.stop().await;
    let fsck = command().args(["fsck", "--data-dir"]).arg(server.data_dir()).output().unwrap();
    assert!(fsck.status.success(), "what is stored is not whole: {}", String::from_utf8_lossy(&fsck.stdout));
}
