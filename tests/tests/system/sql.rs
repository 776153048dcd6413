//! SQL on the real executable: what is computed over records is what a direct computation says, to the last record that was
//! acknowledged; the examples of the manual answer what the manual says.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Stdio;

use lakefall_tests::process::binary;
use lakefall_tests::rows::{Rows, flights, webhooks};
use lakefall_tests::{Client, Server};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::process::Command;

use super::machine;

async fn load(client: &Client, topic: &str, rows: &Rows) {
    let request = client.values(topic, "acks=none", rows.gzip.clone()).header("content-encoding", "gzip");
    client.send(request).await.unwrap().ok();
}

async fn ask(client: &Client, query: &str) -> Value {
    let request = client.request(Method::POST, "/v1/sql").json(&json!({ "query": query }));
    let answer = client.send(request).await.unwrap();
    assert_eq!(answer.status, 200, "{query}: {}", answer.text());
    answer.json()
}

/// Flights and average delays by carrier, as computed here.
fn by_carrier<'a>(lines: impl Iterator<Item = &'a [u8]>) -> Vec<Value> {
    let mut carriers: BTreeMap<String, (u64, i64, u64)> = BTreeMap::new();
    for line in lines {
        let flight: Value = serde_json::from_slice(line).unwrap();
        let (flights, delay, delayed) = carriers.entry(flight["carrier"].as_str().unwrap().to_owned()).or_default();
        *flights += 1;
        if let Some(minutes) = flight["dep_delay"].as_i64() {
            *delay += minutes;
            *delayed += 1;
        }
    }
    carriers.into_iter().map(|(carrier, (flights, delay, delayed))| json!([carrier, flights, delay as f64 / delayed as f64])).collect()
}

const DELAYS: &str = "SELECT carrier, count(*), avg(dep_delay) FROM flights GROUP BY carrier ORDER BY carrier";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn delays_by_carrier_are_those_of_all_flights_that_were_acknowledged() {
    let _machine = machine().await;
    let rows = flights();
    let lines = rows.lines();
    let server = Server::start_default().await;
    let client = server.client();
    client.create_topic("flights", 3).await;
    load(&client, "flights", &rows).await;
    let answer = ask(&client, DELAYS).await;
    assert_eq!(answer["rows"], Value::from(by_carrier(lines.iter().map(|line| &line[..]))));
    // One more, and the very next query has it.
    for n in 1..=3_u64 {
        let late = json!({"carrier": "ZZ", "dep_delay": n * 10}).to_string();
        let request = client.values("flights", "", late);
        client.send(request).await.unwrap().ok();
        let answer = ask(&client, DELAYS).await;
        let last = answer["rows"].as_array().unwrap().last().unwrap();
        assert_eq!(*last, json!(["ZZ", n, (n + 1) as f64 * 5.0]));
        let ends: u64 = answer["watermarks"].as_array().unwrap().iter().map(|mark| mark["end"].as_u64().unwrap()).sum();
        assert_eq!(ends, lines.len() as u64 + n);
    }
    let counted = ask(&client, "SELECT _partition, count(*) FROM flights GROUP BY _partition ORDER BY _partition").await;
    let ends: Vec<Value> = answer["watermarks"].as_array().unwrap().iter().map(|mark| mark["end"].clone()).collect();
    for (row, end) in counted["rows"].as_array().unwrap().iter().zip(&ends) {
        assert!(row[1].as_u64() >= end.as_u64(), "{row}: {end}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nested_fields_of_webhooks_are_counted_as_they_were_sent() {
    let _machine = machine().await;
    let rows = webhooks();
    let server = Server::start_default().await;
    let client = server.client();
    client.create_topic("webhooks", 1).await;
    load(&client, "webhooks", &rows).await;
    let mut expected: BTreeMap<Option<String>, u64> = BTreeMap::new();
    for line in rows.lines() {
        let hook: Value = serde_json::from_slice(&line).unwrap();
        *expected.entry(hook["payload"]["action"].as_str().map(str::to_owned)).or_default() += 1;
    }
    let expected: Vec<Value> = expected.into_iter().map(|(action, count)| json!([action, count])).collect();
    let text = "SELECT payload['action'], count(*) FROM webhooks GROUP BY 1 ORDER BY 1 NULLS FIRST";
    assert_eq!(ask(&client, text).await["rows"], Value::from(expected));
}

/// The queries of the manual, each with the answer that stands behind it.
fn examples() -> Vec<(String, String)> {
    let page = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/sql.md")).unwrap();
    let fenced = |text: &str, kind: &str| {
        let (_, rest) = text.split_once(&format!("```{kind}\n"))?;
        rest.split_once("```").map(|(inner, rest)| (inner.to_owned(), rest.to_owned()))
    };
    let (mut examples, mut rest) = (Vec::new(), page);
    while let Some((query, behind)) = fenced(&rest, "sql") {
        let (answer, behind) = fenced(&behind, "csv").expect("an answer stands behind each query");
        examples.push((query, answer));
        rest = behind;
    }
    assert!(examples.len() >= 6, "docs/sql.md lost its examples");
    examples
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_examples_of_the_manual_answer_what_it_says() {
    let _machine = machine().await;
    let rows = flights();
    let server = Server::start_default().await;
    let client = server.client();
    client.create_topic("flights", 1).await;
    load(&client, "flights", &rows).await;
    for (query, expected) in examples() {
        let request = client.request(Method::POST, "/v1/sql").header("accept", "text/csv").json(&json!({ "query": query }));
        let answer = client.send(request).await.unwrap();
        assert_eq!(answer.status, 200, "{query}: {}", answer.text());
        // Rows that were made have the same columns, and other answers.
        if rows.real {
            assert_eq!(answer.text(), expected, "{query}");
        }
    }
}

async fn command(server: &Server, arguments: &[&str], input: Option<&str>) -> (bool, String) {
    let mut command = Command::new(binary());
    command.arg("--url").arg(format!("http://{}", server.address())).args(arguments).kill_on_drop(true);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).env("HOME", "/nonexistent");
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    tokio::io::AsyncWriteExt::write_all(&mut stdin, input.unwrap_or_default().as_bytes()).await.unwrap();
    drop(stdin);
    let output = child.wait_with_output().await.unwrap();
    let told = [output.stdout, output.stderr].map(|told| String::from_utf8_lossy(&told).into_owned()).concat();
    (output.status.success(), told)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_command_asks_once_or_in_a_shell() {
    let server = Server::start_default().await;
    let client = server.client();
    client.create_topic("t", 1).await;
    client.send(client.values("t", "", "{\"n\":1,\"s\":\"a\"}\n{\"n\":2,\"s\":null}\n")).await.unwrap().ok();
    let server = &server;
    let command = |arguments: &'static [&'static str], input: Option<&'static str>| command(server, arguments, input);
    let once = async |format: &str| {
        let arguments = ["sql", "SELECT n, s FROM t ORDER BY n", "--format", format];
        self::command(server, &arguments, None).await
    };
    assert_eq!(once("csv").await, (true, "n,s\n1,a\n2,\n".to_owned()));
    assert_eq!(once("ndjson").await, (true, "{\"n\":1,\"s\":\"a\"}\n{\"n\":2,\"s\":null}\n".to_owned()));
    let (_, page) = once("json").await;
    assert_eq!(serde_json::from_str::<Value>(&page).unwrap()["rows"], json!([[1, "a"], [2, null]]));
    let (_, table) = once("table").await;
    assert_eq!(table.lines().take(3).collect::<Vec<_>>(), ["n  s", "1  a", "2  NULL"]);
    assert_eq!(
        command(&["sql", "SELECT $1 + n AS x FROM t WHERE s = $2", "-p", "41", "-p", "a"], None).await,
        (true, "{\"x\":42}\n".to_owned())
    );
    let (ok, told) = command(&["sql", "SELECT m FROM t"], None).await;
    assert!(!ok && told.contains("sql_invalid"), "{told}");
    let input = "SELECT count(*) AS c\nFROM t;\nSELECT nothing;\n\\d\n\\q\n";
    let (ok, told) = command(&["sql"], Some(input)).await;
    assert!(ok && told.contains("{\"c\":2}") && told.contains("nothing") && told.contains("\"table_name\":\"t\""), "{told}");
}
