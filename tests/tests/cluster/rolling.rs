//! A rolling restart: every process is told to stop and started again, one after the other, under load. Clients that have two
//! gateways notice nothing.

use std::sync::atomic::Ordering;
use std::time::Duration;

use lakefall_tests::checker::Demands;
use lakefall_tests::cluster::Options;
use lakefall_tests::dice::{rounds, seed};
use lakefall_tests::load::{Load, Run, Style};
use lakefall_tests::verdict;
use tokio::time::Instant;

/// A request that takes longer, tries at both gateways included, counts as failed.
const SLOWEST: Duration = Duration::from_secs(5);
/// A stop with nothing slow under way.
const PROMPT: Duration = Duration::from_secs(10);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_restart_under_load_fails_no_request_of_clients_with_two_gateways() {
    let seed = seed("rolling");
    let mut cluster = Options::default().shards(4).compactor().start().await;
    cluster.client().create_topic("load", 4).await;
    let (run, ways) = (Run::new("load", 4), cluster.ways());
    let mut load = Load::new(&run, seed);
    for _ in 0..2 {
        load.producer(&ways, Style::Keyed).producer(&ways, Style::Sequenced);
    }
    load.tail(&ways, 0).tail(&ways, 1);
    let mut stops = 0;
    for _ in 0..rounds(1) {
        for at in 0..5 {
            run.acked_more(200, PROMPT * 3).await;
            let process = match at {
                0 | 1 => &mut cluster.replicas[at],
                2 | 3 => &mut cluster.gateways[at - 2],
                _ => cluster.compactor.as_mut().unwrap(),
            };
            let began = Instant::now();
            process.stop().await;
            let took = began.elapsed();
            println!("rolling: {} stopped in {took:?}", process.name());
            assert!(took < PROMPT, "{} took {took:?} to stop", process.name());
            run.recorder.fault("SIGTERM");
            run.acked_more(100, PROMPT * 3).await;
            process.start().await;
            stops += 1;
        }
    }
    load.finish().await;
    let slowest = Duration::from_millis(run.tally.slowest_ms.load(Ordering::Relaxed));
    let [unknown, cut] = [&run.tally.unknown, &run.tally.cut].map(|count| count.load(Ordering::Relaxed));
    verdict::judge("rolling", run, ways, Demands { faults: stops, acked: 1_000 }).await;
    assert!(slowest < SLOWEST, "a send took {slowest:?}");
    assert_eq!(unknown, 0, "requests were answered that nobody knows");
    // A request that crosses the end of an idle connection gets no answer (RFC 9112, section 9.5); the clients sent it again.
    println!("rolling: {cut} requests met a connection that was just being closed");
    assert!(cut <= stops as u64 * 2, "{cut} requests were cut in {stops} stops");
}
