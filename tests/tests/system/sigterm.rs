//! SIGTERM: what was accepted is answered, what waits is told, and the process ends in time with code 0.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use lakefall_tests::checker::Demands;
use lakefall_tests::dice::{Dice, seed};
use lakefall_tests::history::{Promise, RecordId, body};
use lakefall_tests::load::Run;
use lakefall_tests::{Client, Server, raw, verdict};
use reqwest::Method;
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::machine;

/// Stops under load.
const ROUNDS: u64 = 5;
/// Records acknowledged before them, all together.
const ACKED: u64 = 1_000;
/// A stop with nothing slow under way ends sooner than this.
const PROMPT: Duration = Duration::from_secs(15);
/// A request that began so long before the signal was read by the server: later ones may meet a closed connection.
const UNDER_WAY: Duration = Duration::from_millis(100);

/// Sends until the server is gone. Returns requests that were under way when the signal came, and that got no answer.
async fn until_gone(run: Arc<Run>, client: Client, producer: u32, mut dice: Dice, signalled: Arc<OnceLock<Instant>>) -> usize {
    let (mut unanswered, mut seq) = (0, 0);
    loop {
        let count = dice.between(1, 50);
        let records: Vec<_> = (seq..seq + count).map(|seq| RecordId { producer, seq }).map(|id| (id, body(id, 100))).collect();
        seq += count;
        let lines: String = records.iter().flat_map(|(_, body)| [body.as_str(), "\n"]).collect();
        let op = run.recorder.invoke(Promise { once: false, pipelined: false }, &records);
        let began = Instant::now();
        match client.send(client.values(run.topic, &format!("partition={}", producer % run.partitions), lines)).await {
            Ok(answer) if answer.status == 200 => run.ok(op, answer.offsets(), began),
            Ok(answer) => {
                assert_eq!((answer.status, answer.code().as_str()), (503, "not_committed"), "{}", answer.text());
                run.recorder.fail(op);
            }
            Err(error) if error.is_connect() => {
                run.recorder.fail(op);
                return unanswered;
            }
            Err(_) => {
                unanswered += usize::from(signalled.get().is_none_or(|at| began + UNDER_WAY < *at));
                run.recorder.info(op);
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_under_load_answers_everything_under_way_and_loses_nothing() {
    let _machine = machine().await;
    let seed = seed("sigterm");
    let mut dice = Dice::new(seed);
    let mut server = Server::start_default().await;
    server.client().create_topic("load", 4).await;
    let run = Run::new("load", 4);
    let mut slowest = Duration::ZERO;
    for round in 0..ROUNDS {
        let signalled = Arc::new(OnceLock::new());
        let mut clients = JoinSet::new();
        for producer in 0..8 {
            let dice = Dice::new(seed + round * 100 + u64::from(producer));
            clients.spawn(until_gone(Arc::clone(&run), server.client(), round as u32 * 100 + producer, dice, Arc::clone(&signalled)));
        }
        // As much as the verdict asks for, and then any moment.
        run.acked_more(ACKED / ROUNDS, PROMPT * 12).await;
        tokio::time::sleep(Duration::from_millis(dice.between(1, 300))).await;
        let began = *signalled.get_or_init(Instant::now);
        run.recorder.fault("SIGTERM");
        server.stop().await;
        slowest = slowest.max(began.elapsed());
        let unanswered: usize = clients.join_all().await.into_iter().sum();
        assert_eq!(unanswered, 0, "requests under way got no answer in round {round}");
        server.start().await;
    }
    println!("sigterm: the slowest of {ROUNDS} stops under load took {slowest:?}");
    assert!(slowest < PROMPT, "a stop took {slowest:?}");
    verdict::judge("sigterm", run, &server.client(), Demands { faults: ROUNDS as usize, acked: ACKED as usize }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_under_way_is_finished_and_answered() {
    let mut server = Server::start_default().await;
    server.client().create_topic("t", 1).await;
    let mut upload = TcpStream::connect(server.address()).await.unwrap();
    let head = "POST /v1/topics/t/records HTTP/1.1\r\nhost: x\r\ncontent-type: text/plain\r\ncontent-length: 10\r\n\r\nhello";
    upload.write_all(head.as_bytes()).await.unwrap();
    // The server has taken the connection and waits for the rest once it counts it.
    let deadline = Instant::now() + PROMPT;
    while server.metric("lakefall_connections").await < 1.0 {
        assert!(Instant::now() < deadline);
        tokio::task::yield_now().await;
    }
    tokio::time::sleep(UNDER_WAY).await;
    server.send_sigterm();
    tokio::time::sleep(UNDER_WAY).await;
    upload.write_all(b"world").await.unwrap();
    let heard = raw::listen(&mut upload, PROMPT).await;
    assert!(heard.closed, "the connection stays open during a stop");
    let status = heard.status();
    assert!(matches!(status, Some(200 | 503)), "an upload under way got {status:?}: {}", String::from_utf8_lossy(&heard.bytes));
    assert_eq!(server.wait_for_end().await.code(), Some(0));
    server.start().await;
    let rows = server.client().read_pages("t", 0, 0).await;
    assert_eq!(rows.len(), usize::from(status == Some(200)), "the answer was {status:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn long_polls_tails_and_streams_end_at_once() {
    let mut server = Server::start_default().await;
    let client = server.client();
    client.create_topic("t", 1).await;
    let poll = {
        let client = client.clone();
        tokio::spawn(async move { client.get("/v1/topics/t/partitions/0/records?offset=0&wait=60s").await })
    };
    let mut tail = client.request(Method::GET, "/v1/topics/t/records").header("accept", "text/event-stream").send().await.unwrap();
    assert!(tail.chunk().await.unwrap().is_some());
    let mut stream = TcpStream::connect(server.address()).await.unwrap();
    let head = "POST /v1/topics/t/records/stream?format=values HTTP/1.1\r\nhost: x\r\ncontent-type: application/x-ndjson\r\ntransfer-encoding: chunked\r\n\r\n2\r\n1\n\r\n";
    // An acknowledgement says that the stream is open, and the record wakes the poll and the tail.
    stream.write_all(head.as_bytes()).await.unwrap();
    raw::until(&mut stream, "\"offset\":0", PROMPT).await;
    assert_eq!(poll.await.unwrap().unwrap().json()["records"].as_array().unwrap().len(), 1);
    let mut poll = TcpStream::connect(server.address()).await.unwrap();
    poll.write_all(b"GET /v1/topics/t/partitions/0/records?offset=1&wait=60s HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    tokio::time::sleep(UNDER_WAY).await;

    let began = Instant::now();
    server.send_sigterm();
    let (polled, streamed) = tokio::join!(raw::listen(&mut poll, PROMPT), raw::listen(&mut stream, PROMPT));
    assert_eq!((polled.status(), polled.closed), (Some(200), true), "a long poll is answered with what there is");
    assert_eq!(polled.problem()["records"], json!([]));
    assert!(
        streamed.closed && streamed.bytes.ends_with(b"0\r\n\r\n"),
        "a stream ends in order: {}",
        String::from_utf8_lossy(&streamed.bytes)
    );
    let rest = tokio::time::timeout(PROMPT, async { while let Ok(Some(_)) = tail.chunk().await {} }).await;
    assert!(rest.is_ok(), "a tail outlives a stop");
    assert_eq!(server.wait_for_end().await.code(), Some(0));
    assert!(began.elapsed() < PROMPT, "the stop took {:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_hangs_does_not_hold_the_stop_up_for_ever() {
    let mut server = lakefall_tests::Options::default().env("LAKEFALL_HTTP__DRAIN_MS", 1_000).start().await;
    server.client().create_topic("t", 1).await;
    let mut upload = TcpStream::connect(server.address()).await.unwrap();
    upload.write_all(b"POST /v1/topics/t/records HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\nhel").await.unwrap();
    tokio::time::sleep(UNDER_WAY).await;
    let began = Instant::now();
    server.send_sigterm();
    let status = server.wait_for_end().await;
    assert!(began.elapsed() < PROMPT, "the stop took {:?}", began.elapsed());
    println!("sigterm with a client that hangs: {status} after {:?}", began.elapsed());
    assert_eq!(status.code(), Some(0), "a client that hangs spoils the stop");
    server.start().await;
    assert_eq!(server.client().ends("t").await, [(0, 0)], "half a body was stored");
}
