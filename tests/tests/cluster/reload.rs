//! Settings that change while a process runs: on SIGHUP and when their file changes. A bad file changes none.

use std::path::{Path, PathBuf};
use std::time::Duration;

use lakefall_tests::Client;
use lakefall_tests::cluster::{Cluster, Options, Pods, Role, eventually};
use lakefall_tests::dice::{Dice, seed};
use lakefall_tests::process::Process;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use reqwest::Method;
use rustix::process::Signal;
use serde_json::json;
use tokio::time::timeout;

use super::recovery::is_rolled;

/// Longer than two looks at the files.
const SOON: Duration = Duration::from_secs(60);
/// In which nothing happens, if a bound holds.
const WHILE: Duration = Duration::from_secs(3);

/// A gateway, a replica and perhaps a compactor, each with a file of settings, which the environment does not overrule.
async fn with_file(options: Options, text: &str) -> (Cluster, PathBuf) {
    let mut cluster = options.gateways(1).replicas(1).prepare().await;
    let file = cluster.file("lakefall.toml");
    std::fs::write(&file, text).unwrap();
    for process in cluster.gateways.iter_mut().chain(&mut cluster.replicas).chain(&mut cluster.compactor) {
        process.unset_env("LAKEFALL_SEGMENT__PUTS_PER_SECOND");
        process.set_env("LAKEFALL_CONFIG", file.display());
    }
    cluster.start().await;
    (cluster, file)
}

/// Has a process read its settings again, and waits for what becomes of them.
async fn reload(process: &Process, outcome: &str) {
    let count = async || process.metric_of("lakefall_config_reloads_total", &format!("\"{outcome}\"")).await;
    let before = count().await;
    process.send(Signal::HUP);
    eventually(&format!("the settings are {outcome}"), SOON, async || count().await > before).await;
}

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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_rate_of_puts_holds_at_once_also_for_what_waits() {
    // A PUT in 50 s.
    let (slow, fast) = ("[segment]\nputs_per_second = 0.02\nput_burst = 1\n", "[segment]\nputs_per_second = 100\nput_burst = 100\n");
    let (mut cluster, file) = with_file(Options::default(), slow).await;
    let client = cluster.client();
    client.create_topic("t", 1).await;
    let put = |client: &Client| {
        let client = client.clone();
        tokio::spawn(async move { client.put("t", 0, &json!("x")).await })
    };
    // What a quiet time saved up, and then one that waits.
    assert_eq!(put(&client).await.unwrap(), 0);
    let mut waits = put(&client);
    assert!(timeout(WHILE, &mut waits).await.is_err(), "the rate of the start does not hold");
    std::fs::write(&file, fast).unwrap();
    reload(&cluster.gateways[0], "taken").await;
    // Within the client's patience, which is shorter than the wait was to be.
    assert_eq!(waits.await.unwrap(), 1);
    for offset in 2..12 {
        assert_eq!(put(&client).await.unwrap(), offset);
    }
    // And back.
    std::fs::write(&file, slow).unwrap();
    reload(&cluster.gateways[0], "taken").await;
    // One PUT, or nearly one, may be saved up from before. Once it is used up the next one waits.
    let prompt = async || timeout(WHILE, put(&client)).await.is_ok();
    assert!(!(prompt().await && prompt().await), "the lower rate does not hold");
    assert!(cluster.ended().is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_bound_on_compaction_holds_at_once_also_for_what_waits() {
    /// What the old bound would need for reading alone is longer.
    const PROMPT: Duration = Duration::from_secs(45);
    let (mut cluster, file) = with_file(Options::default().compactor(), "[compactor]\nmax_bytes_per_second = 65536\n").await;
    let client = cluster.client();
    client.call(Method::PUT, "/v1/topics/t", &json!({"parquet": {"max_age": "1s"}})).await;
    // 8 MiB, some 5 MiB of them compressed.
    let mut dice = Dice::new(seed("reload"));
    for _ in 0..32 {
        let text: String = (0..256 << 10).map(|_| char::from(b'a' + dice.between(0, 25) as u8)).collect();
        client.put("t", 0, &json!(text)).await;
    }
    let early = eventually("all is in Parquet files", SOON, async || is_rolled(&client, "t").await);
    assert!(timeout(WHILE * 2, early).await.is_err(), "the bound of the start does not hold");
    std::fs::write(&file, "[compactor]\nmax_bytes_per_second = 1073741824\n").unwrap();
    reload(cluster.compactor.as_ref().unwrap(), "taken").await;
    let took = eventually("all is in Parquet files", PROMPT, async || is_rolled(&client, "t").await).await;
    println!("reload: all was compacted {took:?} after the bound was raised");
    assert!(cluster.ended().is_none());
}

/// Writes the certificates of a new authority, with which every role shows who it is.
fn certify(folder: &Path) {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap().signed_by(&key, &authority).unwrap();
    for (name, pem) in [("ca.crt", authority.pem()), ("tls.crt", certificate.pem()), ("tls.key", key.serialize_pem())] {
        std::fs::write(folder.join(name), pem).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn renewed_certificates_are_used_for_connections_to_come_even_where_settings_are_refused() {
    let mut cluster = Options::default().gateways(3).replicas(1).prepare().await;
    let [of_replica, of_gateways] = ["replica.toml", "gateways.toml"].map(|name| cluster.file(name));
    let folder = of_replica.parent().unwrap().to_owned();
    let path = |name: &str| folder.join(name).display().to_string();
    let tls = format!("[metadata.tls]\nca = '{}'\ncert = '{}'\nkey = '{}'\n", path("ca.crt"), path("tls.crt"), path("tls.key"));
    certify(&folder);
    for file in [&of_replica, &of_gateways] {
        std::fs::write(file, &tls).unwrap();
    }
    let clear = cluster.advertised(0).to_owned();
    let encrypted = clear.replace("http://", "https://");
    for gateway in &mut cluster.gateways {
        gateway.replace_argument(&clear, &encrypted);
        gateway.set_env("LAKEFALL_CONFIG", of_gateways.display());
    }
    cluster.replicas[0].set_env("LAKEFALL_CONFIG", of_replica.display());
    cluster.replicas[0].start().await;
    cluster.gateways[0].start().await;
    let client = cluster.client();
    client.create_topic("t", 1).await;
    assert_eq!(client.put("t", 0, &json!("before")).await, 0);

    // A gateway that starts now does not trust what the replica was before. The other goes on over its connection.
    certify(&folder);
    reload(&cluster.replicas[0], "unchanged").await;
    cluster.gateways[1].start().await;
    assert_eq!(client.put("t", 0, &json!("renewed")).await, 1);
    // Which it has to open anew, to a replica that never was another.
    reload(&cluster.gateways[0], "unchanged").await;
    cluster.replicas[0].kill_nine();
    cluster.replicas[0].start().await;
    let goes_on = async || client.send(client.values("t", "partition=0", "\"again\"")).await.is_ok_and(|answer| answer.status == 200);
    eventually("the gateway comes back to the replica", SOON, goes_on).await;

    // As in an upgrade: the file has a setting that only another version knows.
    certify(&folder);
    std::fs::write(&of_replica, format!("{tls}[limits]\nof_the_next_version = 1\n")).unwrap();
    reload(&cluster.replicas[0], "refused").await;
    assert_eq!(cluster.replicas[0].metric("lakefall_config_refused").await, 1.0);
    cluster.gateways[2].start().await;
    assert!(cluster.ended().is_none());
}
