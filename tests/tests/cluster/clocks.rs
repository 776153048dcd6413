//! Machines whose clocks are an hour off, made by libfaketime: order, leases and identities do not follow them.

use std::time::Duration;

use lakefall_tests::checker::Demands;
use lakefall_tests::clocks::shift;
use lakefall_tests::cluster::{LEASE, Options};
use lakefall_tests::dice::seed;
use lakefall_tests::load::{Load, Run};
use lakefall_tests::{Cluster, verdict};
use serde_json::json;

const PROMPT: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn owners_whose_clocks_are_two_hours_apart_replace_each_other_and_lose_nothing() {
    let seed = seed("owner_clocks");
    let mut cluster = Options::default().prepare().await;
    shift(&mut cluster.replicas[0], "+1h");
    shift(&mut cluster.replicas[1], "-1h");
    cluster.start().await;
    cluster.client().create_topic("load", 2).await;
    let (run, ways) = (Run::new("load", 2), cluster.ways());
    let mut load = Load::new(&run, seed);
    load.everyone(&ways);
    for kill in 0..4 {
        run.acked_more(50, PROMPT).await;
        let owner = cluster.wait_for_owner(0).await;
        run.recorder.fault("the owner goes");
        if kill % 2 == 0 {
            cluster.replicas[owner].kill_nine();
        } else {
            cluster.replicas[owner].stop().await;
        }
        let took = run.acked_more(50, LEASE + PROMPT).await;
        println!("owner_clocks: 50 records {took:?} after the owner went");
        cluster.replicas[owner].start().await;
    }
    load.finish().await;
    verdict::judge("owner_clocks", run, ways, Demands { faults: 4, acked: 300 }).await;
    assert!(cluster.ended().is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_whose_clock_is_an_hour_off_loses_nothing_and_says_what_is_wrong() {
    let mut cluster: Cluster = Options::default().gateways(3).prepare().await;
    shift(&mut cluster.gateways[0], "+1h");
    shift(&mut cluster.gateways[1], "-1h");
    cluster.start().await;
    let right = cluster.client_of(2);
    right.create_topic("t", 1).await;
    let skewed = [0, 1].map(|gateway| {
        let client = cluster.client_of(gateway).patience(PROMPT);
        tokio::spawn(async move { client.send(client.values("t", "partition=0", json!(gateway).to_string())).await.unwrap() })
    });
    for n in 0..10 {
        right.put("t", 0, &json!(format!("right {n}"))).await;
    }
    let mut acked = Vec::new();
    for (gateway, answer) in skewed.into_iter().enumerate() {
        let answer = answer.await.unwrap();
        let told = format!("{}\n{}", cluster.gateways[gateway].log(), answer.text());
        println!("gateway_clock: {}: {}", answer.status, answer.text());
        if answer.status == 200 {
            acked.push((answer.offsets()[0].1, json!(gateway).to_string()));
            continue;
        }
        // Its signatures are not valid at this hour.
        assert!(matches!(answer.status, 503 | 504), "{told}");
        assert!(told.contains("clock is wrong"), "nothing says that the clock is wrong:\n{told}");
    }
    let rows = right.read_pages("t", 0, 0).await;
    for (offset, value) in &acked {
        assert_eq!(rows[*offset as usize].value, value.as_bytes());
    }
    assert_eq!(rows.iter().filter(|row| row.value.starts_with(b"\"right")).count(), 10);
    assert_eq!(rows.len(), 10 + acked.len());
    assert!(cluster.ended().is_none());
}
