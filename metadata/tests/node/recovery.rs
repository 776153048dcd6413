//! How long a start takes that finds much. Slow, and of this machine: run by hand,
//! `cargo test -p lakefall-metadata --test node -- --ignored --nocapture`.

use std::sync::Arc;
use std::time::Duration;

use lakefall_metadata::NodeConfig;
use lakefall_metadata::sqlite::SqliteStore;
use tokio::time::Instant;

use crate::support::fixtures::put_topic;
use crate::support::watched::Watched;
use crate::support::{Service, quiet};

const TOPICS: u32 = 1_000;
const PARTITIONS: u32 = 1_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "measures"]
async fn a_million_idle_partitions_are_served_again_within_20_seconds() {
    let dir = tempfile::tempdir().unwrap();
    let store = Watched::new(Arc::new(SqliteStore::open(&dir.path().join("metadata.sqlite")).await.unwrap()));
    let first = Service::start(&store, NodeConfig { checkpoint_entries: 100, ..quiet() }).await;
    for number in 0..TOPICS {
        first.execute(put_topic(&format!("topic-{number}"), PARTITIONS)).await.unwrap();
    }
    let started = Instant::now();
    first.tasks.shutdown(Duration::from_secs(600)).await.unwrap();
    println!("the last checkpoint took {:?}", started.elapsed());
    let started = Instant::now();
    let second = Service::start(&store, quiet()).await;
    second.node.ready().await;
    let took = started.elapsed();
    println!("{} partitions were served after {took:?}", TOPICS * PARTITIONS);
    second.stop().await;
    assert!(took < Duration::from_secs(20), "{took:?}");
}
