//! The main job on real rows: load them, read them back, tail them, be killed in the middle of a second load.

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use lakefall_tests::client::Row;
use lakefall_tests::rows::{Rows, flights, gzip, webhooks};
use lakefall_tests::{Client, Server, client};
use reqwest::Method;
use serde_json::Value;
use tokio::time::{Instant, timeout};

use super::machine;

/// Records of one request of the second load.
const BATCH: usize = 1_000;

/// Loads all rows in one gzip body, as `curl --data-binary @flights.ndjson.gz` does.
async fn load(client: &Client, topic: &str, rows: &Rows) -> u64 {
    let request = client.values(topic, "acks=ranges", rows.gzip.clone()).header("content-encoding", "gzip");
    let answer = client.send(request).await.unwrap().ok().json();
    answer["count"].as_u64().unwrap()
}

fn equal(read: &[Row], sent: &[Bytes], first: u64) {
    assert_eq!(read.len(), sent.len());
    for (at, (row, line)) in read.iter().zip(sent).enumerate() {
        assert_eq!(row.offset, first + at as u64);
        assert!(row.value == *line, "offset {}: {:?} was sent as {line:?}", row.offset, row.value);
    }
}

/// Reads events of a live tail until `count` records came.
async fn hear(mut tail: reqwest::Response, count: usize) -> Vec<Row> {
    let (mut rows, mut buffer) = (Vec::new(), Vec::new());
    while rows.len() < count {
        let piece = timeout(Duration::from_secs(60), tail.chunk()).await.expect("the tail went silent").unwrap().expect("the tail ended");
        buffer.extend_from_slice(&piece);
        let whole = buffer.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let text = String::from_utf8(buffer.drain(..whole).collect()).unwrap();
        rows.extend(text.lines().filter_map(|line| line.strip_prefix("data: ")).map(client::row));
    }
    rows
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_flights_come_back_by_offset_live_and_after_a_kill() {
    let _machine = machine().await;
    let rows = flights();
    let lines = rows.lines();
    let mut server = Server::start_default().await;
    let client = server.client();
    client.create_topic("flights", 1).await;
    let tail = client.request(Method::GET, "/v1/topics/flights/records").header("accept", "text/event-stream").send().await.unwrap();
    let tail = tokio::spawn(hear(tail, lines.len()));
    let began = Instant::now();
    assert_eq!(load(&client, "flights", &rows).await, lines.len() as u64);
    let loaded = began.elapsed();
    equal(&tail.await.unwrap(), &lines, 0);
    println!("flights: {} rows ({}) loaded in {loaded:?} and heard live", lines.len(), if rows.real { "real" } else { "made" });
    let began = Instant::now();
    equal(&client.read_arrow("flights", 0, 0).await, &lines, 0);
    equal(&client.read_lines("flights", 0, 0).await, &lines, 0);
    let page = client.page("flights", 0, 200_000, "").await.unwrap();
    equal(&page.rows, &lines[200_000..200_000 + page.rows.len()], 200_000);
    println!("flights: read back as Arrow and NDJSON in {:?}", began.elapsed());

    // The second load, killed in its middle: four clients, batch after batch.
    let acked = second_load(&mut server, &lines).await;
    server.start().await;
    let read = client.read_arrow("flights", 0, 0).await;
    equal(&read[..lines.len()], &lines, 0);
    for (at, row) in read.iter().enumerate() {
        assert_eq!(row.offset, at as u64, "offsets are dense");
    }
    let mut seen: HashMap<u64, usize> = HashMap::new();
    for (batch, offsets) in &acked {
        assert_eq!(offsets.len(), BATCH);
        for (n, offset) in offsets.iter().enumerate() {
            let row = read
                .get(*offset as usize)
                .unwrap_or_else(|| panic!("acknowledged offset {offset} is lost: the log ends at {}", read.len()));
            assert!(row.value == lines[batch * BATCH + n], "offset {offset} holds another record");
            *seen.entry(*offset).or_default() += 1;
        }
    }
    assert!(seen.values().all(|times| *times == 1), "two records were acknowledged at one offset");
    println!("flights: killed in the second load with {} records of it acknowledged: all there, once", seen.len());
    server.stop().await;
}

/// Sends batches until the server, killed after some of them, is gone: the batches acknowledged, and where they are.
async fn second_load(server: &mut Server, lines: &[Bytes]) -> Vec<(usize, Vec<u64>)> {
    let (client, lines) = (server.client(), lines.to_vec());
    let (acks, mut acked) = tokio::sync::mpsc::unbounded_channel();
    let loads: Vec<_> = (0..4)
        .map(|worker| {
            let (client, lines, acks) = (client.clone(), lines.clone(), acks.clone());
            tokio::spawn(async move {
                for batch in (worker..lines.len() / BATCH).step_by(4) {
                    let body: Vec<u8> = lines[batch * BATCH..][..BATCH].iter().flat_map(|line| [&line[..], b"\n"].concat()).collect();
                    let request = client.values("flights", "", gzip(&body)).header("content-encoding", "gzip");
                    match client.send(request).await {
                        Ok(answer) if answer.status == 200 => {
                            let offsets = answer.offsets().into_iter().map(|(_, offset)| offset).collect();
                            acks.send((batch, offsets)).unwrap();
                        }
                        _ => return,
                    }
                }
            })
        })
        .collect();
    drop(acks);
    let mut all: Vec<(usize, Vec<u64>)> = Vec::new();
    while all.len() < 60 {
        all.push(acked.recv().await.expect("the load ended before the kill"));
    }
    server.kill_nine();
    for load in loads {
        load.await.unwrap();
    }
    while let Some(ack) = acked.recv().await {
        all.push(ack);
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn webhook_payloads_come_back_byte_for_byte() {
    let rows = webhooks();
    let lines = rows.lines();
    let mut server = Server::start_default().await;
    let client = server.client();
    client.create_topic("hooks", 1).await;
    assert_eq!(load(&client, "hooks", &rows).await, lines.len() as u64);
    // The same, each as a webhook would send it: any content type, one value.
    client.create_topic("raw", 1).await;
    for line in lines.iter().take(50) {
        let request = client.request(Method::POST, "/v1/topics/raw/records").header("content-type", "application/vnd.github+json");
        client.send(request.body(line.clone())).await.unwrap().ok();
    }
    for restarted in [false, true] {
        equal(&client.read_pages("hooks", 0, 0).await, &lines, 0);
        equal(&client.read_lines("hooks", 0, 0).await, &lines, 0);
        equal(&client.read_arrow("hooks", 0, 0).await, &lines, 0);
        equal(&client.read_arrow("raw", 0, 0).await, &lines[..50], 0);
        let nested: Value = serde_json::from_slice(&lines[7]).unwrap();
        let page: Value = client.get("/v1/topics/hooks/partitions/0/records?offset=7&limit=1").await.unwrap().json();
        assert_eq!(page["records"][0]["value"], nested);
        let value =
            client.request(Method::GET, "/v1/topics/hooks/partitions/0/records?offset=7").header("accept", "application/octet-stream");
        assert_eq!(client.send(value).await.unwrap().body, lines[7]);
        if !restarted {
            server.kill_nine();
            server.start().await;
        }
    }
}
