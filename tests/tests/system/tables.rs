//! Segments become Parquet files in a running server: other programs read the rows that were sent, the API reads the same
//! records, and a server that is killed at any step of it loses nothing.

use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use lakefall_servers::IcebergCatalog;
use lakefall_tests::process::command;
use lakefall_tests::rows::{Rows, flights, webhooks};
use lakefall_tests::{Client, Options, Server};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::machine;

/// From the last append until everything is in Parquet files.
const ROLLED: Duration = Duration::from_secs(180);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(200);

async fn topic(client: &Client, name: &str) {
    let settings = json!({"parquet": {"max_age": "1s", "infer_json": true}});
    client.call(Method::PUT, &format!("/v1/topics/{name}"), &settings).await.ok();
}

async fn load(client: &Client, topic: &str, rows: &Rows) {
    let request = client.values(topic, "", rows.gzip.clone()).header("content-encoding", "gzip");
    client.send(request).await.unwrap().ok();
}

/// Returns when all of a topic's records are in Parquet files.
async fn rolled(server: &Server, topic: &str, records: usize) {
    let (client, deadline) = (server.client(), Instant::now() + ROLLED);
    loop {
        let listed: Value = client.get(&format!("/v1/topics/{topic}/objects?limit=1000")).await.unwrap().ok().json();
        let objects = listed["items"].as_array().unwrap();
        let count: u64 = objects.iter().map(|object| object["records"].as_u64().unwrap()).sum();
        if count == records as u64 && objects.iter().all(|object| object["level"] == "parquet") {
            return;
        }
        assert!(Instant::now() < deadline, "not all of {topic} is in Parquet files: {listed}\n{}", server.log());
        tokio::time::sleep(LOOK).await;
    }
}

fn python() -> Option<std::ffi::OsString> {
    let python = std::env::var_os("LAKEFALL_TEST_PYTHON");
    if python.is_none() {
        println!("skipped: LAKEFALL_TEST_PYTHON does not name a Python with pyarrow and duckdb");
    }
    python
}

fn run(command: &mut Command) -> String {
    let ran = command.output().unwrap();
    let told = [ran.stdout, ran.stderr].map(|told| String::from_utf8_lossy(&told).into_owned()).join("\n");
    assert!(ran.status.success(), "{command:?} ended with {}:\n{told}", ran.status);
    told
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_programs_and_the_api_read_the_rows_that_were_sent() {
    let _machine = machine().await;
    let (rows, hooks) = (flights(), webhooks());
    // What was replaced goes soon, so that nobody sees it twice.
    let options = Options::default().env("LAKEFALL_COLLECTOR__GRACE_SECONDS", 1).env("LAKEFALL_COLLECTOR__INTERVAL_SECONDS", 1);
    let mut server = options.start().await;
    let client = server.client();
    for (name, rows) in [("flights", &rows), ("hooks", &hooks)] {
        topic(&client, name).await;
        load(&client, name, rows).await;
    }
    let began = Instant::now();
    let lines = rows.lines();
    rolled(&server, "flights", lines.len()).await;
    rolled(&server, "hooks", hooks.lines().len()).await;
    println!("tables: {} flights in Parquet files after {:?}", lines.len(), began.elapsed());
    let read = client.read_lines("flights", 0, 0).await;
    assert!(read.iter().map(|row| &row.value).eq(lines.iter()), "the API reads other values");
    let page = client.page("flights", 0, 200_000, "").await.unwrap();
    assert_eq!((page.rows[0].offset, &page.rows[0].value), (200_000, &lines[200_000]));
    server.stop().await;
    let fsck = run(command().args(["fsck", "--data-dir"]).arg(server.data_dir()));
    assert!(fsck.contains("clean"), "{fsck}");
    let Some(python) = python() else { return };
    let home = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(server.data_dir(), home.path().join("lakefall-data")).unwrap();
    std::fs::write(home.path().join("flights.ndjson"), &rows.text).unwrap();
    std::fs::write(home.path().join("hooks.ndjson"), &hooks.text).unwrap();
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut check = Command::new(&python);
    check.current_dir(home.path()).arg(here.join("tests/system/tables.py"));
    println!("tables: {}", run(check.args(["lakefall-data/objects/tables/default", "flights.ndjson", "hooks.ndjson"])).trim());
    // The examples of the manual, as they stand.
    let manual = std::fs::read_to_string(here.join("../docs/parquet.md")).unwrap();
    let examples: Vec<&str> = manual.split("```python\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    assert!(examples.len() >= 3);
    for example in examples {
        run(Command::new(&python).current_dir(home.path()).args(["-c", example]));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_killed_at_any_step_of_compaction_reads_the_same_afterwards() {
    let _machine = machine().await;
    for point in ["c1", "c2", "c3", "c4", "c5"] {
        let options = Options::default()
            .env("LAKEFALL_COLLECTOR__GRACE_SECONDS", 1)
            .env("LAKEFALL_COLLECTOR__INTERVAL_SECONDS", 1)
            .env("LAKEFALL_COMPACTOR__MERGE_INTERVAL_SECONDS", 1);
        let mut server = options.start().await;
        let client = server.client().persistent(Duration::from_secs(30));
        topic(&client, "t").await;
        server.kill_nine();
        server.set_env("LAKEFALL_FAILPOINTS", format!("{point}=kill"));
        server.start().await;
        server.unset_env("LAKEFALL_FAILPOINTS");
        let mut sent = Vec::new();
        while sent.len() < 200 && server.ended().is_none() {
            let value = json!({"n": sent.len()});
            let request = client.values("t", "", format!("{value}\n"));
            match tokio::time::timeout(Duration::from_secs(5), client.send(request)).await {
                Ok(Ok(answer)) if answer.status == 200 => sent.push(value.to_string()),
                _ => break,
            }
        }
        let status = server.wait_for_end().await;
        assert_eq!(status.signal(), Some(9), "at {point}:\n{}", server.log());
        server.start().await;
        let read = server.client().read_lines("t", 0, 0).await;
        let values: Vec<String> = read.iter().map(|row| String::from_utf8(row.value.to_vec()).unwrap()).collect();
        // One more may have been stored than was answered.
        assert!(values.len() <= sent.len() + 1 && values.starts_with(&sent), "at {point}: {} of {}", values.len(), sent.len());
        rolled(&server, "t", values.len()).await;
        let again = server.client().read_lines("t", 0, 0).await;
        assert!(read.iter().map(|row| &row.value).eq(again.iter().map(|row| &row.value)), "{point}");
        server.stop().await;
        let fsck = run(command().args(["fsck", "--data-dir"]).arg(server.data_dir()));
        assert!(fsck.contains("clean"), "{fsck}");
        println!("tables: killed at {point} after {} records, all there", values.len());
    }
}

/// Objects go when nobody may ask for the answer to their commit any more, which is minutes later.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_killed_while_it_deletes_what_was_replaced_reads_the_same_afterwards() {
    let _machine = machine().await;
    let options = Options::default().env("LAKEFALL_COLLECTOR__GRACE_SECONDS", 1).env("LAKEFALL_COLLECTOR__INTERVAL_SECONDS", 1);
    let mut server = options.start().await;
    let client = server.client();
    topic(&client, "t").await;
    let values: Vec<String> = (0..50).map(|n| json!({"n": n}).to_string()).collect();
    for value in &values {
        client.send(client.values("t", "", format!("{value}\n"))).await.unwrap().ok();
    }
    rolled(&server, "t", values.len()).await;
    server.stop().await;
    server.shift_clock("+10m");
    for point in ["c6", "c7"] {
        server.set_env("LAKEFALL_FAILPOINTS", format!("{point}=kill"));
        server.start_until_killed().await;
        server.unset_env("LAKEFALL_FAILPOINTS");
    }
    server.start().await;
    let read = server.client().read_lines("t", 0, 0).await;
    assert!(read.iter().map(|row| &row.value[..]).eq(values.iter().map(|value| value.as_bytes())), "records are other than those sent");
    server.stop().await;
    let fsck = run(command().args(["fsck", "--data-dir"]).arg(server.data_dir()));
    assert!(fsck.contains("clean"), "{fsck}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_to_be_compacted_is_shown() {
    let mut server = Server::start_default().await;
    let client = server.client();
    client.create_topic("t", 1).await;
    client.put("t", 0, &json!({"n": 1})).await;
    server.stop().await;
    let status = run(command().args(["compactor", "status", "--data-dir"]).arg(server.data_dir()));
    assert!(status.contains("default/t") && status.contains("waiting") && status.contains("backlog: "), "{status}");
    let status = run(command().args(["--json", "compactor", "status", "--data-dir"]).arg(server.data_dir()));
    let status: Value = serde_json::from_str(status.trim()).unwrap();
    assert_eq!((&status["partitions"][0]["end"], &status["unmerged_extents"]), (&json!(1), &json!(1)), "{status}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_with_a_schema_is_an_iceberg_table_with_its_columns() {
    let _machine = machine().await;
    let server = Server::start_default().await;
    let client = server.client();
    let schema = r#"{"type":"record","name":"R","fields":[{"name":"a","type":"int"},{"name":"s","type":"string"}]}"#;
    client.call(Method::POST, "/v1/schemas/r/versions", &json!({"type": "avro", "schema": schema})).await;
    let settings = json!({"parquet": {"max_age": "1s"}, "schema": {"subject": "r"}});
    client.call(Method::PUT, "/v1/topics/t", &settings).await;
    // 1 and "hi", three times.
    let record = json!({"value": "AgRoaQ==", "encoding": "base64"});
    client.call(Method::POST, "/v1/topics/t/records", &json!({"records": [record, record, record]})).await;
    rolled(&server, "t", 3).await;
    let metadata = server.data_dir().join("objects/tables/default/t/_iceberg/metadata");
    let deadline = Instant::now() + ROLLED;
    let version = loop {
        if let Ok(version) = std::fs::read_to_string(metadata.join("version-hint.text")) {
            break version;
        }
        assert!(Instant::now() < deadline, "no table was published:\n{}", server.log());
        tokio::time::sleep(LOOK).await;
    };
    let document: Value = serde_json::from_slice(&std::fs::read(metadata.join(format!("v{version}.metadata.json"))).unwrap()).unwrap();
    let summary = &document["snapshots"][0]["summary"];
    assert_eq!((&summary["lakefall.0.first"], &summary["lakefall.0.last"]), (&json!("0"), &json!("2")), "{document}");
    let Some(python) = python() else { return };
    let read = "import sys; from pyiceberg.table import StaticTable; \
        print([row['data'] for row in StaticTable.from_metadata(sys.argv[1]).scan().to_arrow().to_pylist()])";
    let told = run(Command::new(python).args(["-c", read]).arg(metadata.join(format!("v{version}.metadata.json"))));
    assert!(told.contains("[{'a': 1, 's': 'hi'}, {'a': 1, 's': 'hi'}, {'a': 1, 's': 'hi'}]"), "{told}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_s_table_is_in_the_catalog_once_that_is_back() {
    let _machine = machine().await;
    let catalog = IcebergCatalog::reserve();
    let server = Options::default().env("LAKEFALL_CATALOG__URI", catalog.uri()).start().await;
    let client = server.client();
    topic(&client, "t").await;
    client.put("t", 0, &json!({"n": 1})).await;
    rolled(&server, "t", 1).await;
    let deadline = Instant::now() + ROLLED;
    while !server.whole_log().contains("tables are not committed to the catalog") {
        assert!(Instant::now() < deadline, "nothing is told of a catalog that is away:\n{}", server.log());
        tokio::time::sleep(LOOK).await;
    }
    catalog.start_again().await;
    let table = format!("{}/v1/namespaces/default/tables/t", catalog.uri());
    let shown: Value = loop {
        let answer = reqwest::Client::new().get(&table).send().await.unwrap();
        if answer.status().is_success() {
            break answer.json().await.unwrap();
        }
        assert!(Instant::now() < deadline, "the table is not in the catalog:\n{}", server.log());
        tokio::time::sleep(LOOK).await;
    };
    assert_eq!(shown["metadata"]["snapshots"][0]["summary"]["lakefall.0.last"], "0", "{shown}");
    while !server.whole_log().contains("the catalog takes tables again") {
        assert!(Instant::now() < deadline, "its return is not told:\n{}", server.log());
        tokio::time::sleep(LOOK).await;
    }
    let Some(python) = python() else { return };
    let read = "import sys; from pyiceberg.catalog import load_catalog; \
        print([row['value'] for row in load_catalog('c', type='rest', uri=sys.argv[1]).load_table('default.t').scan().to_arrow().to_pylist()])";
    let told = run(Command::new(python).args(["-c", read, &catalog.uri()]));
    assert!(told.contains(r#"[b'{"n":1}']"#), "{told}");
}
