//! The drills of docs/operations.md ("Restoring"), step by step: a database that is gone with its server is restored from a dump to
//! another one, over a bucket that went on since; and a database of which there is no dump at all, with topics taken back over their
//! Parquet files or made anew.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use lakefall_servers::{Postgres, S3, postgres};
use lakefall_tests::cluster::{Cluster, Options, Role, eventually};
use lakefall_tests::{Client, Row};
use reqwest::Method;
use serde_json::{Value, json};

const PROMPT: Duration = Duration::from_secs(90);
/// Records that are acknowledged before the dump begins: the bound is that none of them is lost.
const KEPT: u64 = 40;
/// Records that are acknowledged after it ended, and are lost to their offsets.
const LOST: u64 = 15;

fn options() -> Options {
    let options = Options::default().own_postgres().own_s3().compactor();
    let options = options.env(Role::Compactor, "LAKEFALL_COMPACTOR__MERGE_INTERVAL_SECONDS", 1);
    // With graces of an hour nothing would be deleted during a test, whatever the collector takes it for.
    options
        .env(Role::Compactor, "LAKEFALL_COLLECTOR__GRACE_SECONDS", 1)
        .env(Role::Compactor, "LAKEFALL_COLLECTOR__INTERVAL_SECONDS", 1)
        .env(Role::Compactor, "LAKEFALL_COLLECTOR__ORPHAN_GRACE_SECONDS", 1)
        .env(Role::Compactor, "LAKEFALL_COLLECTOR__ORPHAN_INTERVAL_SECONDS", 10)
}

/// Waits until the compactor has searched all of the bucket for orphans and come past so many objects that no ledger knows: those
/// that are left then, it spares.
async fn wait_for_search(cluster: &Cluster, unknown: usize) {
    let (client, compactor) = (cluster.client(), cluster.compactor.as_ref().unwrap());
    client.create_topic("search", 1).await;
    let searched = async || {
        // It only searches when something was appended.
        client.put("search", 0, &json!("again")).await;
        compactor.metric_of("lakefall_collector_sweeps_total", "\"ok\"").await >= 1.0
            && compactor.metric("lakefall_collector_spared_objects").await >= unknown as f64
    };
    let took = eventually("a search for orphans has spared what no ledger knows", PROMPT, searched).await;
    println!("recovery: {unknown} objects that no ledger knows were spared after {took:?}");
}

/// A server that has nothing in common with the one before.
async fn another_postgres(database: &str) -> Arc<Postgres> {
    let postgres = postgres::Options::default().own_identity().start().await;
    postgres.create_database(database).await;
    Arc::new(postgres)
}

/// Keys of all objects that hold records.
fn objects(root: &Path) -> BTreeSet<String> {
    let (mut found, mut folders) = (BTreeSet::new(), vec![root.join("lake/seg"), root.join("lake/tables")]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok) {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "seg" || extension == "parquet") {
                found.insert(path.strip_prefix(root.join("lake")).unwrap().to_string_lossy().into_owned());
            }
        }
    }
    found
}

fn bucket(cluster: &Cluster) -> BTreeSet<String> {
    objects(&cluster.s3.object_path(&cluster.bucket, ""))
}

async fn put(client: &Client, topic: &str, what: &str, count: u64) -> Vec<(u64, String)> {
    let mut sent = Vec::new();
    for n in 0..count {
        let value = json!(format!("{what} {n}"));
        sent.push((client.put(topic, 0, &value).await, value.to_string()));
    }
    sent
}

fn seen(rows: Vec<Row>) -> Vec<(u64, String)> {
    rows.into_iter().map(|row| (row.offset, String::from_utf8_lossy(&row.value).into_owned())).collect()
}

/// Whether all of a topic is in Parquet files.
pub(super) async fn is_rolled(client: &Client, topic: &str) -> bool {
    let listed: Value = client.get(&format!("/v1/topics/{topic}/objects?limit=1000")).await.unwrap().ok().json();
    let objects = listed["items"].as_array().unwrap();
    !objects.is_empty() && objects.iter().all(|object| object["level"] == "parquet")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_database_is_restored_from_a_dump_and_everything_acknowledged_before_it_is_read() {
    let mut cluster = options().start().await;
    cluster.wait_for_mark().await;
    let client = cluster.client();
    // Long enough for the dump to name segments that become Parquet after it.
    client.call(Method::PUT, "/v1/topics/t", &json!({"parquet": {"max_age": "8s"}})).await;
    let kept = put(&client, "t", "kept", KEPT).await;

    // Backup: a dump with the cluster running and written to, and the old versions that a bucket keeps.
    let going_on = tokio::spawn({
        let client = client.clone();
        async move { put(&client, "t", "meanwhile", 20).await }
    });
    cluster.s3.versions(&cluster.bucket).await;
    let dump = cluster.postgres.dump(&cluster.database).await;
    let versions = cluster.s3.versions(&cluster.bucket).await;
    let meanwhile = going_on.await.unwrap();

    // Life goes on: what the dump names is compacted and deleted, and more is acknowledged.
    let named: BTreeSet<String> = objects(&versions).into_iter().filter(|key| key.starts_with("seg/")).collect();
    eventually("all is in Parquet files", PROMPT, async || is_rolled(&client, "t").await).await;
    cluster.compactor.as_mut().unwrap().stop().await;
    // The collector deletes them five minutes later, when no late commit can name them any more. Here that is done at once; those that
    // were orphans it has found already.
    for key in &named {
        let deleted = std::fs::remove_file(cluster.s3.object_path(&cluster.bucket, &format!("lake/{key}")));
        assert!(deleted.is_ok() || !bucket(&cluster).contains(key), "{key} cannot be deleted: {deleted:?}");
    }
    let before = bucket(&cluster);
    let lost = put(&client, "t", "lost", LOST).await;
    let at_risk: BTreeSet<String> = bucket(&cluster).difference(&before).cloned().collect();
    assert!(!at_risk.is_empty());
    // These, and what compaction made since the dump.
    let unknown: BTreeSet<String> = bucket(&cluster).difference(&objects(&versions)).cloned().collect();
    assert!(at_risk.is_subset(&unknown));

    // The database is gone with its server. 1: everything is stopped.
    cluster.postgres.kill_nine().await;
    cluster.kill_nine();
    // 2: the dump is restored to a new server. The bucket is another one as well: a copy.
    let (restored, copied) = (another_postgres(&cluster.database).await, Arc::new(S3::start().await));
    restored.restore(&cluster.database, &dump).await;
    copied.take_bucket(&cluster.s3, &cluster.bucket).await;
    // Which keeps the old versions.
    let bucket_before = Arc::clone(&cluster.s3);
    cluster.move_to(restored, copied).await;
    // 3, in vain: before what was deleted is back, objects are missing, and 4 says so.
    let (whole, told) = cluster.run(&["fsck"]).await;
    assert!(!whole && told.contains("DAMAGE"), "objects of the dump are missing, and fsck finds none: {told}");
    cluster.s3.bring_back(&cluster.bucket, &versions).await;
    drop(bucket_before);
    // 4: look before anything runs.
    let (accepted, told) = cluster.run(&["recover"]).await;
    println!("{told}");
    assert!(!accepted && told.contains("HALTED"), "the collector is not halted: {told}");
    assert!(at_risk.iter().all(|key| told.contains(key)), "what was acknowledged after the dump is not listed: {told}");
    let (whole, told) = cluster.run(&["fsck"]).await;
    assert!(whole && told.contains("clean"), "what was brought back is not whole: {told}");

    // 5: replicas and gateways. Everything acknowledged before the dump began is there, at its offset.
    let mut compactor = cluster.compactor.take().unwrap();
    cluster.start().await;
    let client = cluster.client();
    let found = seen(client.read_pages("t", 0, 0).await);
    assert_eq!(found[..kept.len()], kept[..], "records that were acknowledged before the dump are not what they were");
    // Of what came meanwhile there is a beginning, and of what came after it nothing.
    let rest = &found[kept.len()..];
    assert_eq!(rest, &meanwhile[..rest.len()]);
    assert!(lost.iter().all(|(_, value)| found.iter().all(|(_, known)| known != value)));
    println!("recovery: {} records before the dump, {} of {} during it, {LOST} after it are lost", kept.len(), rest.len(), meanwhile.len());
    // Their offsets are given out again.
    let offset = client.put("t", 0, &json!("after")).await;
    assert_eq!(offset, found.len() as u64);

    // 7: the collector may go on. 8: compactors. Nothing that was listed is deleted.
    let (accepted, told) = cluster.run(&["recover", "--accept"]).await;
    assert!(accepted, "{told}");
    compactor.start().await;
    cluster.compactor = Some(compactor);
    eventually("all is in Parquet files again", PROMPT, async || is_rolled(&client, "t").await).await;
    wait_for_search(&cluster, unknown.len()).await;
    assert_eq!(cluster.compactor.as_ref().unwrap().metric("lakefall_collector_halted").await, 0.0);
    assert!(unknown.is_subset(&bucket(&cluster)), "what an operator was shown was deleted without being told to");
    let now = seen(cluster.client_of(1).read_pages("t", 0, 0).await);
    assert_eq!((&now[..found.len()], now.len()), (&found[..], found.len() + 1));
    assert!(cluster.ended().is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_without_any_dump_is_made_anew_and_nothing_that_is_stored_is_touched() {
    let mut cluster = options().start().await;
    cluster.wait_for_mark().await;
    let client = cluster.client();
    client.call(Method::PUT, "/v1/topics/t", &json!({"parquet": {"max_age": "1s"}})).await;
    put(&client, "t", "kept", KEPT).await;
    eventually("all is in Parquet files", PROMPT, async || is_rolled(&client, "t").await).await;
    // From here on nothing is deleted that the ledger let go of.
    cluster.compactor.as_mut().unwrap().stop().await;
    put(&client, "t", "last", LOST).await;
    let stored = bucket(&cluster);
    let tables: Vec<&String> = stored.iter().filter(|key| key.starts_with("tables/default/t/")).collect();
    assert!(!tables.is_empty(), "{stored:?}");

    cluster.postgres.kill_nine().await;
    cluster.kill_nine();
    let empty = another_postgres(&cluster.database).await;
    let s3 = Arc::clone(&cluster.s3);
    cluster.move_to(empty, s3).await;
    cluster.start().await;
    // Another cluster's bucket: nothing is deleted, and everything is listed.
    let halted = async || cluster.compactor.as_ref().unwrap().metric_of("lakefall_collector_halted", "other_cluster").await == 1.0;
    eventually("the collector is halted", PROMPT, async || halted().await).await;
    let (accepted, told) = cluster.run(&["recover"]).await;
    assert!(!accepted && told.contains("HALTED") && told.contains("that no ledger knows"), "{told}");
    // It is a cluster all the same: topics are made anew, and begin at 0.
    let client = cluster.client();
    assert_eq!(client.get("/v1/topics/t").await.unwrap().status, 404);
    client.call(Method::PUT, "/v1/topics/t", &json!({"parquet": {"max_age": "1s"}})).await;
    assert_eq!(client.put("t", 0, &json!("anew")).await, 0);
    let (accepted, told) = cluster.run(&["recover", "--accept"]).await;
    assert!(accepted, "{told}");
    let goes_on = async || client.put("t", 0, &json!("on")).await > 0 && !halted().await;
    eventually("the collector goes on", PROMPT, goes_on).await;
    eventually("all is in Parquet files", PROMPT, async || is_rolled(&client, "t").await).await;
    wait_for_search(&cluster, stored.len()).await;
    let left = bucket(&cluster);
    assert!(stored.is_subset(&left), "deleted: {:?}", stored.difference(&left).collect::<Vec<_>>());
    assert!(cluster.ended().is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_any_dump_a_topic_is_taken_back_over_its_parquet_files_and_read_at_the_same_offsets() {
    let mut cluster = options().start().await;
    cluster.wait_for_mark().await;
    let client = cluster.client();
    // One that was made before and is not asked for: the other's number is not the first.
    client.call(Method::PUT, "/v1/topics/unwanted", &json!({"parquet": {"max_age": "1s"}})).await;
    client.call(Method::PUT, "/v1/topics/t", &json!({"parquet": {"max_age": "1s"}})).await;
    put(&client, "unwanted", "unwanted", 3).await;
    let kept = put(&client, "t", "kept", KEPT).await;
    for topic in ["t", "unwanted"] {
        eventually("all is in Parquet files", PROMPT, async || is_rolled(&client, topic).await).await;
    }
    // What comes now is in segments only.
    cluster.compactor.as_mut().unwrap().stop().await;
    let lost = put(&client, "t", "lost", LOST).await;
    let stored = bucket(&cluster);

    cluster.postgres.kill_nine().await;
    cluster.kill_nine();
    let empty = another_postgres(&cluster.database).await;
    let s3 = Arc::clone(&cluster.s3);
    cluster.move_to(empty, s3).await;
    let mut compactor = cluster.compactor.take().unwrap();
    cluster.start().await;
    let client = cluster.client();
    assert_eq!(client.get("/v1/topics/t").await.unwrap().status, 404);
    let urls = cluster.metadata_urls();
    let (taken, told) = cluster.run(&["recover", "--metadata", &urls, "--take-back", "default/t"]).await;
    println!("{told}");
    assert!(taken && told.contains(&format!("taken back  1 topics: {KEPT} records")), "{told}");
    assert!(told.contains("default/unwanted") && told.contains("HALTED"), "{told}");
    assert_eq!(bucket(&cluster), stored, "an object was written or deleted");

    // The log, a gateway that was not asked before, and SQL.
    for client in [&client, &cluster.client_of(1)] {
        let is_there = async || client.get("/v1/topics/t").await.unwrap().status == 200;
        eventually("the gateway knows the topic", PROMPT, is_there).await;
        assert_eq!(seen(client.read_pages("t", 0, 0).await), kept);
    }
    let counted = async || {
        let request = client.request(Method::POST, "/v1/sql").json(&json!({"query": "SELECT count(*), min(_offset), max(_offset) FROM t"}));
        client.send(request).await.unwrap().ok().json()["rows"][0].clone()
    };
    assert_eq!(counted().await, json!([KEPT, 0, KEPT - 1]));
    assert_eq!(client.get("/v1/topics/unwanted").await.unwrap().status, 404);
    // Their offsets are given out again, as after any restore.
    assert_eq!(client.put("t", 0, &json!("after")).await, lost[0].0);
    assert_eq!(counted().await, json!([KEPT + 1, 0, KEPT]));

    let (accepted, told) = cluster.run(&["recover", "--accept"]).await;
    assert!(accepted, "{told}");
    client.call(Method::PUT, "/v1/topics/t", &json!({"parquet": {"max_age": "1s"}})).await;
    compactor.start().await;
    cluster.compactor = Some(compactor);
    eventually("all is in Parquet files again", PROMPT, async || is_rolled(&client, "t").await).await;
    let now = seen(client.read_pages("t", 0, 0).await);
    assert_eq!((&now[..kept.len()], now.len()), (&kept[..], kept.len() + 1));
    assert!(stored.is_subset(&bucket(&cluster)), "what nobody asked for, or was merged, was deleted");
    cluster.stop().await;
    let (whole, told) = cluster.run(&["fsck"]).await;
    assert!(whole, "what was taken back is not whole: {told}");
}
