//! How much one client's session carries. `cargo test -p lakefall-metadata --test rpc load -- --ignored --nocapture`

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use lakefall_metadata::Metadata;
use lakefall_queue::ShardId;
use lakefall_queue::ledger::{Command, Query};
use lakefall_queue::topic::TopicConfig;
use lakefall_queue::verbs::Precondition;
use lakefall_queue::{NamespaceName, TopicName};
use tokio::time::Instant;

use super::world::{World, commit};

const PARTITIONS: u32 = 10_000;
const EXTENTS: u32 = 80;

fn percentiles(mut times: Vec<Duration>) -> String {
    times.sort_unstable();
    let at = |part: f64| times[((times.len() - 1) as f64 * part) as usize];
    format!("p50 {:?}, p99 {:?}", at(0.5), at(0.99))
}

/// Seconds of processor time that this process took.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let ticks = stat.rsplit(')').next().unwrap().split_whitespace().skip(11).take(2);
    ticks.map(|ticks| ticks.parse::<f64>().unwrap()).sum::<f64>() / 100.0
}

async fn asked_one_by_one(metadata: &dyn Metadata) -> Vec<Duration> {
    let mut times = Vec::new();
    for _ in 0..2_000 {
        let started = Instant::now();
        metadata.query(ShardId(0), Query::Position).await.unwrap();
        times.push(started.elapsed());
    }
    times
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn commits_over_one_session() {
    let world = World::alone();
    let replica = world.replica().await;
    let client = world.client(&[&replica]).await;
    let config = TopicConfig { partitions: PARTITIONS, ..TopicConfig::default() };
    let wide = Command::PutTopic {
        namespace: NamespaceName::default_name(),
        name: TopicName::new("wide").unwrap(),
        config,
        condition: Precondition::Always,
        idempotency: None,
    };
    let Ok(lakefall_queue::ledger::Reply::Topic(topic, _)) = client.execute(ShardId(0), wide).await else { panic!("no topic") };
    println!("one question after the other, over the network: {}", percentiles(asked_one_by_one(&*client).await));
    println!("one question after the other, in this process: {}", percentiles(asked_one_by_one(&*replica.node).await));
    for (callers, over) in [(1, "the network"), (64, "the network"), (64, "nothing")] {
        let metadata: Arc<dyn Metadata> = if over == "nothing" { replica.node.clone() } else { client.clone() };
        let done = Arc::new(AtomicU64::new(0));
        let before = world.store.journal_len(ShardId(0)) as u64;
        let (started, cpu) = (Instant::now(), cpu_seconds());
        let end = started + Duration::from_secs(5);
        let writers: Vec<_> = (0..callers)
            .map(|_| {
                let (metadata, done) = (Arc::clone(&metadata), Arc::clone(&done));
                tokio::spawn(async move {
                    let mut times = Vec::new();
                    while Instant::now() < end {
                        let asked = Instant::now();
                        metadata.execute(ShardId(0), commit(topic.id, EXTENTS)).await.unwrap();
                        times.push(asked.elapsed());
                        done.fetch_add(1, Ordering::Relaxed);
                    }
                    times
                })
            })
            .collect();
        let mut times = Vec::new();
        for writer in writers {
            times.extend(writer.await.unwrap());
        }
        let seconds = started.elapsed().as_secs_f64();
        let commits = done.load(Ordering::Relaxed);
        let groups = world.store.journal_len(ShardId(0)) as u64 - before;
        println!(
            "{callers} callers over {over}: {:.0} extents/s, {:.0} commits/s, {:.0} groups/s, {:.2} us of cpu/extent, {}",
            (commits * u64::from(EXTENTS)) as f64 / seconds,
            commits as f64 / seconds,
            groups as f64 / seconds,
            (cpu_seconds() - cpu) * 1e6 / (commits * u64::from(EXTENTS)) as f64,
            percentiles(times)
        );
    }
}
