//! Settings that change while a process runs: on SIGHUP and when their file changes. A bad file changes nothing.

use std::time::Duration;

use lakefall_tests::Client;
use lakefall_tests::cluster::{Options, Pods, Role, eventually};
use reqwest::Method;
use rustix::process::Signal;
use serde_json::json;

/// Longer than two looks at the files.
const SOON: Duration = Duration::from_secs(60);

/// The status of a record with a value of so many bytes.
async fn status(client: &Client, bytes: usize) -> u16 {
    let request = client.values("t", "partition=0", json!("x".repeat(bytes)).to_string());
    client.send(request).await.unwrap().status
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_takes_new_settings_while_it_serves_and_refuses_bad_ones() {
    let mut pods = Pods::start(Options::default(), 1, 0, 0).await;
    let file = pods.cluster.file("lakefall.toml");
    std::fs::write(&file, "[limits]\nvalue_bytes = 2048\n").unwrap();
    pods.set_file(Role::Gateway, file.to_str().unwrap());
    pods.scale(Role::Gateway, 1).await;
    let client = pods.client();
    client.create_topic("t", 1).await;
    let gateway = &pods.gateways[0].process;
    let outcomes = async |outcome: &str| gateway.metric_of("lakefall_config_reloads_total", outcome).await;
    assert_eq!((status(&client, 1_000).await, status(&client, 4_000).await), (200, 413));

    // On SIGHUP, at once; what cannot change is told of.
    std::fs::write(&file, "[limits]\nvalue_bytes = 8192\n[log]\nlevel = 'info,lakefall_gateway=debug'\n[http]\ndrain_ms = 1234\n").unwrap();
    gateway.send(Signal::HUP);
    eventually("the settings are taken", SOON, async || outcomes("taken").await == 1.0).await;
    assert_eq!((status(&client, 4_000).await, status(&client, 10_000).await), (200, 413));
    assert_eq!(gateway.metric("lakefall_config_settings_waiting").await, 1.0);
    let shown = client.send(client.request(Method::GET, &format!("{}/debug/config", gateway.admin()))).await.unwrap().ok().text();
    assert!(shown.contains("value_bytes = 8192") && shown.contains("drain_ms = 25000"), "{shown}");
    let log = gateway.whole_log();
    assert!(log.contains("http.drain_ms") && log.contains("hold from the next start on"), "{log}");

    // A bad one changes nothing, and the process goes on.
    for bad in ["[limits]\nvalue_bytes = 1\n", "[log]\nlevel = 'so=so=so'\n", "nonsense"] {
        let before = outcomes("refused").await;
        std::fs::write(&file, bad).unwrap();
        gateway.send(Signal::HUP);
        eventually("the settings are refused", SOON, async || outcomes("refused").await > before).await;
        assert_eq!(gateway.metric("lakefall_config_refused").await, 1.0);
        assert_eq!((status(&client, 4_000).await, status(&client, 10_000).await), (200, 413), "{bad:?} is in use");
    }
    assert!(gateway.whole_log().contains("limits.value_bytes is 1"), "{}", gateway.log());

    // By itself, when the file changes: as a mounted folder is exchanged.
    let next = pods.cluster.file("next.toml");
    std::fs::write(&next, "[limits]\nvalue_bytes = 16384\n").unwrap();
    std::fs::rename(&next, &file).unwrap();
    let took = eventually("the changed file is taken", SOON, async || status(&client, 10_000).await == 200).await;
    println!("reload: a changed file was taken after {took:?}");
    assert_eq!(gateway.metric("lakefall_config_refused").await, 0.0);
    pods.assert_all_run();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_and_compactors_take_a_log_level_while_they_work() {
    let mut pods = Pods::start(Options::default(), 0, 0, 0).await;
    let file = pods.cluster.file("lakefall.toml");
    std::fs::write(&file, "[log]\nlevel = 'info'\n").unwrap();
    for role in [Role::Metadata, Role::Compactor] {
        pods.set_file(role, file.to_str().unwrap());
        pods.scale(role, 1).await;
    }
    std::fs::write(&file, "[log]\nlevel = 'warn'\n[compactor]\nmax_bytes_per_second = 1000000\n").unwrap();
    for pod in [&pods.replicas[0], &pods.compactors[0]] {
        pod.process.send(Signal::HUP);
        let taken = async || pod.process.metric_of("lakefall_config_reloads_total", "taken").await >= 1.0;
        eventually("the settings are taken", SOON, taken).await;
        // What is below the new level is not logged any more.
        assert!(!pod.process.whole_log().contains("the settings were read again"), "{}", pod.process.log());
    }
    pods.assert_all_run();
}
