//! Clients that draw things out, and too many of them: each is closed in time, and a good client notices nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use lakefall_tests::{Client, Options, Server, raw};
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::machine;

/// Timeouts of the servers here, in milliseconds.
const HEADER: u64 = 500;
const BODY: u64 = 500;
const WRITE: u64 = 1_000;
const IDLE: u64 = 3_000;
/// Readers that never read.
const STUCK: usize = 10;
/// What a loaded machine may add to them.
const MARGIN: Duration = Duration::from_secs(5);
/// Requests of a good client that are answered while bad ones are at work, at least.
const GOOD: u64 = 50;

async fn strict_server() -> Server {
    let options = Options::default().env("LAKEFALL_HTTP__HEADER_TIMEOUT_MS", HEADER).env("LAKEFALL_HTTP__BODY_TIMEOUT_MS", BODY);
    let server = options.env("LAKEFALL_HTTP__WRITE_TIMEOUT_MS", WRITE).env("LAKEFALL_HTTP__IDLE_TIMEOUT_MS", IDLE).start().await;
    server.client().create_topic("t", 1).await;
    server
}

/// Sends one byte every 50 ms until the server closes or `patience` ends; returns what was heard.
async fn drip(address: String, head: &'static [u8], bytes: &'static [u8], patience: Duration) -> raw::Heard {
    let stream = TcpStream::connect(address).await.unwrap();
    let (mut reading, mut writing) = stream.into_split();
    writing.write_all(head).await.unwrap();
    let dripping = tokio::spawn(async move {
        for byte in bytes.iter().cycle() {
            if writing.write_all(&[*byte]).await.is_err() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    let began = Instant::now();
    let mut heard = Vec::new();
    let closed = tokio::time::timeout(patience, tokio::io::AsyncReadExt::read_to_end(&mut reading, &mut heard)).await.is_ok();
    dripping.abort();
    raw::Heard { bytes: heard, closed, after: began.elapsed() }
}

/// A client that behaves, one request after the other, until told to stop: how many were answered, and the slowest.
async fn good_client(client: Client, stop: Arc<AtomicBool>) -> (u64, Duration) {
    let (mut answered, mut slowest) = (0, Duration::ZERO);
    while !stop.load(Ordering::Relaxed) {
        let began = Instant::now();
        client.put("t", 0, &json!("good")).await;
        slowest = slowest.max(began.elapsed());
        answered += 1;
    }
    (answered, slowest)
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_heads_and_bodies_are_closed_in_time_and_a_good_client_notices_nothing() {
    let _machine = machine().await;
    let server = strict_server().await;
    let stop = Arc::new(AtomicBool::new(false));
    let good = tokio::spawn(good_client(server.client(), Arc::clone(&stop)));
    let patience = Duration::from_millis(HEADER) + MARGIN;
    let mut slow = tokio::task::JoinSet::new();
    for _ in 0..100 {
        slow.spawn(drip(server.address(), b"GET /v1/topics HTTP/1.1\r\nhost: x\r\nx: ", b"y", patience));
    }
    while let Some(heard) = slow.join_next().await {
        let heard = heard.unwrap();
        assert!(heard.closed, "a head at 20 bytes/s is still read after {patience:?}");
        assert!(matches!(heard.status(), None | Some(408)), "{:?}", heard.status());
    }
    // A body of which nothing more comes.
    let head = b"POST /v1/topics/t/records HTTP/1.1\r\nhost: x\r\ncontent-type: text/plain\r\ncontent-length: 1000\r\n\r\nhello";
    for _ in 0..20 {
        let address = server.address();
        slow.spawn(async move { raw::say(&address, head, Duration::from_millis(BODY) + MARGIN).await });
    }
    while let Some(heard) = slow.join_next().await {
        let heard = heard.unwrap();
        assert!(heard.closed, "a body that stopped is still waited for");
        assert_eq!((heard.status(), heard.problem()["code"].as_str()), (Some(408), Some("request_timeout")));
    }
    // A body that never pauses for long, and never gets anywhere.
    let head = b"POST /v1/topics/t/records HTTP/1.1\r\nhost: x\r\ncontent-type: text/plain\r\ncontent-length: 100000\r\n\r\n";
    for _ in 0..20 {
        slow.spawn(drip(server.address(), head, b"z", patience));
    }
    while let Some(heard) = slow.join_next().await {
        let heard = heard.unwrap();
        assert_eq!((heard.status(), heard.problem()["code"].as_str()), (Some(408), Some("request_timeout")), "20 bytes/s are borne with");
    }
    // A stream of records may be as slow as it likes.
    let head =
        b"POST /v1/topics/t/records/stream HTTP/1.1\r\nhost: x\r\ncontent-type: application/x-ndjson\r\ntransfer-encoding: chunked\r\n\r\n";
    let heard = raw::say(&server.address(), head, Duration::from_millis(3 * BODY)).await;
    assert!(!heard.closed, "a silent stream was closed: {:?}", heard.status());
    // Connections that say nothing at all, or the beginning of an HTTP/2 preface.
    for said in [&b""[..], b"PRI * HT"] {
        let heard = raw::say(&server.address(), said, Duration::from_millis(IDLE) + MARGIN).await;
        assert!(heard.closed, "a connection that said {said:?} stays open");
    }
    stop.store(true, Ordering::Relaxed);
    let (answered, slowest) = good.await.unwrap();
    println!("slow_client: a good client got {answered} answers, the slowest after {slowest:?}");
    assert!(answered > GOOD, "a good client got only {answered} answers");
    let rows = server.client().read_pages("t", 0, 0).await;
    assert!(rows.iter().all(|row| &row.value[..] == b"\"good\""), "half a body was stored");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_between_requests_counts_from_the_last_answer() {
    let _machine = machine().await;
    let server = strict_server().await;
    let mut stream = TcpStream::connect(server.address()).await.unwrap();
    let request = b"GET /v1/topics/t/offsets HTTP/1.1\r\nhost: x\r\n\r\n";
    // Together longer than one idle connection may last.
    for _ in 0..4 {
        stream.write_all(request).await.unwrap();
        raw::until(&mut stream, "\"offsets\"", MARGIN).await;
        tokio::time::sleep(Duration::from_millis(IDLE / 3)).await;
    }
    let heard = raw::listen(&mut stream, MARGIN).await;
    assert!(heard.closed && heard.bytes.is_empty(), "an idle connection stays open");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_never_reads_is_closed_in_time() {
    let _machine = machine().await;
    let server = strict_server().await;
    let client = server.client();
    // More than the sockets' buffers hold.
    let value = json!("x".repeat(1 << 20));
    for _ in 0..24 {
        client.put("t", 0, &value).await;
    }
    let mut stuck = Vec::new();
    for _ in 0..STUCK {
        let mut stream = TcpStream::connect(server.address()).await.unwrap();
        let request = b"GET /v1/topics/t/partitions/0/records?from=earliest HTTP/1.1\r\nhost: x\r\naccept: application/x-ndjson\r\n\r\n";
        stream.write_all(request).await.unwrap();
        stuck.push(stream);
    }
    let began = Instant::now();
    // All go: the stuck ones, and the idle one that filled the topic.
    while server.metric("lakefall_connections").await > 0.0 || began.elapsed() < Duration::from_millis(WRITE / 2) {
        assert!(began.elapsed() < Duration::from_millis(WRITE) + 2 * MARGIN, "readers that never read are still served");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    println!("slow_client: readers that never read were closed after {:?}", began.elapsed());
    for mut stream in stuck {
        let heard = raw::listen(&mut stream, MARGIN).await;
        let whole = heard.bytes.ends_with(b"0\r\n\r\n");
        assert!(heard.closed && !whole, "cut after {} bytes: closed {}, looks whole {whole}", heard.bytes.len(), heard.closed);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_connection_too_many_gets_a_503_and_room_is_used_again() {
    const MOST: usize = 8;
    let server = Options::default().env("LAKEFALL_HTTP__MAX_CONNECTIONS", MOST).start().await;
    let mut open = Vec::new();
    for _ in 0..MOST {
        let mut stream = TcpStream::connect(server.address()).await.unwrap();
        stream.write_all(b"GET /v1/topics HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        raw::until(&mut stream, "\"items\"", MARGIN).await;
        open.push(stream);
    }
    for round in 0..20 {
        // As real clients do: the request is sent before anything is heard.
        let heard = raw::say(&server.address(), b"GET /v1/topics HTTP/1.1\r\nhost: x\r\n\r\n", MARGIN).await;
        assert!(heard.closed, "a refused connection stays open");
        assert_eq!((heard.status(), heard.problem()["code"].as_str()), (Some(503), Some("too_many_connections")), "round {round}");
        assert_eq!(heard.problem()["outcome"], "not_applied");
    }
    open[0].write_all(b"GET /v1/topics HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    raw::until(&mut open[0], "\"items\"", MARGIN).await;
    open.pop();
    let deadline = Instant::now() + MARGIN;
    while server.client().get("/v1/topics").await.map_or(0, |answer| answer.status) != 200 {
        assert!(Instant::now() < deadline, "a connection that was closed leaves no room");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
