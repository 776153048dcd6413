//! Ten thousand live tails that wait, and one record that reaches them all.

use std::time::Duration;

use lakefall_tests::{Server, raw};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::machine;

const TAILS: u64 = 10_000;
/// Files that the test itself has open besides.
const SPARE: u64 = 500;
/// Connections opened at the same time: fewer than the listener's backlog.
const AT_ONCE: usize = 100;
const PATIENCE: Duration = Duration::from_secs(50);
/// What one waiting tail may cost the server.
const KIB_EACH: u64 = 40;

/// Raises this process's limit and returns how many tails fit into it.
fn tails_that_fit() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }).unwrap();
    let fits = limit.maximum.unwrap_or(u64::MAX).saturating_sub(SPARE);
    if fits < TAILS {
        println!("idle_tails: only {fits} tails instead of {TAILS}: the hard limit of open files is {:?}", limit.maximum);
    }
    fits.min(TAILS)
}

async fn open_tail(address: String) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"GET /v1/topics/t/records HTTP/1.1\r\nhost: x\r\naccept: text/event-stream\r\n\r\n").await.unwrap();
    raw::until(&mut stream, ": connected", PATIENCE).await;
    stream
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_record_reaches_ten_thousand_idle_tails() {
    let _machine = machine().await;
    let tails = tails_that_fit();
    let server = Server::start_default().await;
    let client = server.client();
    client.create_topic("t", 1).await;
    client.put("t", 0, &json!("before")).await;
    let before = server.resident_kib();
    let began = Instant::now();
    let (mut opening, mut open, mut asked) = (JoinSet::new(), Vec::new(), 0);
    while (open.len() as u64) < tails {
        while asked < tails && opening.len() < AT_ONCE {
            opening.spawn(open_tail(server.address()));
            asked += 1;
        }
        open.push(opening.join_next().await.unwrap().unwrap());
    }
    let opened = began.elapsed();
    let resident = server.resident_kib();
    let cpu = server.cpu_seconds();
    tokio::time::sleep(Duration::from_secs(2)).await;
    let idle_cpu = (server.cpu_seconds() - cpu) / 2.0;

    let began = Instant::now();
    client.put("t", 0, &json!("to all")).await;
    let mut hearing = JoinSet::new();
    for mut stream in open {
        hearing.spawn(async move {
            let heard = raw::until(&mut stream, "\"to all\"", PATIENCE).await;
            assert!(!heard.contains("\"before\""), "a tail begins at the end: {heard}");
            stream
        });
    }
    let open = hearing.join_all().await;
    let reached = began.elapsed();
    let each = resident.saturating_sub(before) / tails;
    println!(
        "idle_tails: {tails} tails opened in {opened:?}, one record reached all in {reached:?}; server {} MiB before, {} MiB with tails \
         ({each} KiB each), {} MiB after the record; {:.1} % of a core idle",
        before >> 10,
        resident >> 10,
        server.resident_kib() >> 10,
        idle_cpu * 100.0
    );
    assert!(each <= KIB_EACH, "a waiting tail costs {each} KiB");
    drop(open);
    // Those who leave are forgotten.
    let deadline = Instant::now() + PATIENCE;
    while server.metric("lakefall_connections").await > 50.0 {
        assert!(Instant::now() < deadline, "connections that were closed are still counted");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    client.put("t", 0, &json!("after")).await;
}
