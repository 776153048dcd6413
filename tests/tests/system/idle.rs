//! An idle server does nothing: no request to the object store, no write to the metadata, next to no CPU.

use std::path::Path;
use std::time::{Duration, SystemTime};

use lakefall_tests::Server;
use reqwest::Method;
use serde_json::json;
use tokio::time::Instant;

use super::machine;

/// How long nothing may happen.
const IDLE: Duration = Duration::from_secs(5);
/// What ends shortly after load (uploads, a checkpoint, connections that were closed) has ended when nothing moved for so long.
const SETTLE: Duration = Duration::from_secs(2);
/// And it must have ended within this.
const SETTLED: Duration = Duration::from_secs(60);
/// Counters that must stand still.
const COUNTERS: [&str; 5] = [
    "lakefall_store_requests_total",
    "lakefall_store_bytes_total",
    "lakefall_metadata_groups_total",
    "lakefall_metadata_journal_bytes_total",
    "lakefall_metadata_checkpoints_total",
];

/// Names, sizes and times of change of all files below.
fn files(folder: &Path) -> Vec<(String, u64, SystemTime)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let data = entry.metadata().unwrap();
        if data.is_dir() {
            found.extend(files(&entry.path()));
        } else {
            found.push((entry.path().display().to_string(), data.len(), data.modified().unwrap()));
        }
    }
    found.sort();
    found
}

async fn counters(server: &Server) -> Vec<f64> {
    let mut values = Vec::new();
    for name in COUNTERS {
        values.push(server.metric(name).await);
    }
    values
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_server_sends_nothing_and_writes_nothing() {
    let _machine = machine().await;
    let server = Server::start_default().await;
    let client = server.client();
    client.create_topic("t", 4).await;
    for n in 0..50 {
        client.put("t", n % 4, &json!(n)).await;
    }
    // Someone waits all the time: waiting is no reason to do anything either.
    let mut tail = client.request(Method::GET, "/v1/topics/t/records").header("accept", "text/event-stream").send().await.unwrap();
    assert!(tail.chunk().await.unwrap().is_some());
    let deadline = Instant::now() + SETTLED;
    let (before, files_before) = loop {
        let now = (counters(&server).await, files(server.data_dir()));
        tokio::time::sleep(SETTLE).await;
        if (counters(&server).await, files(server.data_dir())) == now {
            break now;
        }
        assert!(Instant::now() < deadline, "an idle server does not come to rest");
    };
    assert!(before[0] > 0.0 && before[2] > 0.0, "the counters count nothing: {COUNTERS:?} {before:?}");
    let cpu = server.cpu_seconds();
    tokio::time::sleep(IDLE).await;
    let used = server.cpu_seconds() - cpu;
    assert_eq!(counters(&server).await, before, "{COUNTERS:?}");
    assert_eq!(files(server.data_dir()), files_before, "files changed while nothing happened");
    println!("idle: {:.2} % of a core, {} MiB resident", used / IDLE.as_secs_f64() * 100.0, server.resident_kib() >> 10);
    // One clock tick is 10 ms; the figure itself is measured over a minute by the bench.
    assert!(used <= 0.05, "an idle server used {used} s of CPU in {IDLE:?}");
    assert_eq!(client.put("t", 0, &json!("awake")).await, 13);
}
