//! `kill -9` at random moments while a replay runs, and the same request again after each: every record is copied once, in order.

use std::time::Duration;

use lakefall_tests::dice::{Dice, rounds, seed};
use lakefall_tests::process::binary;
use lakefall_tests::{Client, Options};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::process::Command;
use tokio::time::Instant;

use super::machine;

const KILLS: usize = 5;
const RECORDS: u64 = 4_000;
const PARTITIONS: u64 = 2;
/// Longest time for what takes seconds.
const PATIENCE: Duration = Duration::from_secs(60);

async fn filled(client: &Client) {
    client.create_topic("past", PARTITIONS as u32).await;
    client.create_topic("again", 1).await;
    for partition in 0..PARTITIONS {
        let lines: String = (0..RECORDS).map(|n| format!("{{\"n\":{n}}}\n")).collect();
        client.send(client.values("past", &format!("acks=none&partition={partition}"), lines)).await.unwrap().ok();
    }
}

/// Begins the replay, or goes on with it.
async fn begin(client: &Client, rate: Option<u64>) -> String {
    let from = json!({"topic": "past", "where": "n % 2 = 0"});
    let mut body = json!({"name": "again", "from": from, "to": {"topic": "again"}});
    if let Some(rate) = rate {
        body["max_per_second"] = rate.into();
    }
    let begun = client.call(Method::POST, "/v1/replays", &body).await;
    assert_eq!(begun.status, 202);
    begun.json()["id"].as_str().unwrap().to_owned()
}

async fn ended(client: &Client, id: &str) -> Value {
    let since = Instant::now();
    loop {
        let operation = client.get(&format!("/v1/operations/{id}")).await.unwrap().ok().json();
        if operation["status"] != "running" {
            return operation;
        }
        assert!(since.elapsed() < PATIENCE, "it does not end: {operation}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn copied(client: &Client) -> u64 {
    client.ends("again").await[0].1
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_record_is_copied_once_and_in_order_though_the_process_is_killed_in_the_middle() {
    let _machine = machine().await;
    let mut dice = Dice::new(seed("replay_kill_nine"));
    let mut server = Options::default().env("LAKEFALL_METADATA__CHECKPOINT_ENTRIES", 20).start().await;
    let client = server.client();
    filled(&client).await;
    let all = RECORDS / 2 * PARTITIONS;
    let mut before = 0;
    for kill in 0..KILLS * rounds(1) {
        begin(&client, Some(250)).await;
        let since = Instant::now();
        // Each kill falls into work.
        while copied(&client).await <= before && before < all {
            assert!(since.elapsed() < PATIENCE, "kill {kill}: nothing is copied after {before}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        tokio::time::sleep(Duration::from_millis(dice.between(1, 600))).await;
        server.kill_nine();
        server.start().await;
        before = copied(&client).await;
    }
    assert!(before > 0, "nothing was copied while it was killed");
    let operation = ended(&client, &begin(&client, None).await).await;
    assert_eq!((&operation["status"], operation["done"].as_u64()), (&json!("succeeded"), Some(all - before)), "{operation}");
    let rows = client.get(&format!("/v1/topics/again/records?from=earliest&limit={all}")).await.unwrap().ok().json();
    for partition in 0..PARTITIONS {
        let name = partition.to_string();
        let of = |record: &&Value| record["headers"]["replay-partition"] == name.as_str();
        let numbers = rows["records"].as_array().unwrap().iter().filter(of).map(|record| record["value"]["n"].as_u64().unwrap());
        assert!(numbers.eq((0..RECORDS).step_by(2)), "partition {partition}: something is missing, twice or out of order");
    }
    assert_eq!(copied(&client).await, all);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_command_copies_a_range_and_says_what_it_did() {
    let server = Options::default().start().await;
    let client = server.client();
    filled(&client).await;
    let run = async |more: &[&str]| {
        let line =
            ["replay", "--url", &client_url(&server), "some", "--from", "past", "--to", "again", "--partition", "1", "--start", "10"];
        let output = Command::new(binary()).args(line).args(more).output().await.unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr))
    };
    assert_eq!(run(&["--end", "30", "--dry-run"]).await, (Some(0), "would copy 20 records, passed over 0\n".to_owned()));
    assert_eq!(run(&["--end", "30"]).await, (Some(0), "copied 20 records, passed over 0\n".to_owned()));
    assert_eq!(run(&["--end", "30"]).await, (Some(0), "copied 0 records, passed over 0\n".to_owned()));
    assert_eq!(copied(&client).await, 20);
    assert!(server.metric("lakefall_replayed_records_total").await >= 20.0);
    let (code, told) = run(&["--end", "40"]).await;
    assert!(code == Some(1) && told.contains("replay_conflict"), "{code:?}: {told}");
}

fn client_url(server: &lakefall_tests::Server) -> String {
    format!("http://{}", server.address())
}
