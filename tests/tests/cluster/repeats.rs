//! Requests that come several times, late, through other gateways, or whose clients go away: each counts once.

use std::time::Duration;

use futures::future::join_all;
use lakefall_tests::Cluster;
use lakefall_tests::dice::{Dice, rounds, seed};
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

const PROMPT: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_repeated_through_both_gateways_at_once_is_stored_once_and_answered_alike() {
    let mut dice = Dice::new(seed("repeats"));
    let cluster = Cluster::start_default().await;
    let gateways = [cluster.client_of(0), cluster.client_of(1)];
    gateways[0].create_topic("t", 2).await;
    let requests = 25 * rounds(1) as u64;
    let mut stored = 0;
    for n in 0..requests {
        let lines: String = (0..dice.between(1, 5)).map(|line| format!("[{n},{line}]\n")).collect();
        let producer = format!("partition=0&producer_id=p&producer_epoch=0&producer_sequence={stored}");
        let keyed = dice.one_in(2);
        let copies = (0..dice.between(2, 5)).map(|copy| {
            let client = gateways[copy as usize % 2].clone();
            let request = client.values("t", if keyed { "partition=1" } else { &producer }, lines.clone());
            let request = if keyed { request.header("idempotency-key", format!("k-{n}")) } else { request };
            let late = Duration::from_millis(dice.between(0, 30));
            async move {
                tokio::time::sleep(late).await;
                client.send(request).await.unwrap()
            }
        });
        let answers = join_all(copies.collect::<Vec<_>>()).await;
        for answer in &answers {
            assert_eq!(answer.status, 200, "{}", answer.text());
            assert_eq!(answer.offsets(), answers[0].offsets(), "copies of one request were given other offsets");
        }
        if keyed {
            let other = gateways[1].values("t", "partition=1", format!("\"other {n}\"")).header("idempotency-key", format!("k-{n}"));
            let answer = gateways[1].send(other).await.unwrap();
            assert_eq!((answer.status, answer.code().as_str()), (409, "idempotency_conflict"));
        } else {
            stored += answers[0].offsets().len() as u64;
        }
    }
    for client in &gateways {
        assert_eq!(client.ends("t").await[0], (0, stored));
        for partition in 0..2 {
            let mut values: Vec<_> = client.read_pages("t", partition, 0).await.into_iter().map(|row| row.value).collect();
            let count = values.len();
            values.sort_unstable();
            values.dedup();
            assert_eq!(values.len(), count, "something is stored twice");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_go_away_at_any_moment_leave_whole_requests_and_clean_connections() {
    let mut dice = Dice::new(seed("disconnects"));
    let cluster = Cluster::start_default().await;
    let client = cluster.client();
    client.create_topic("t", 1).await;
    let requests = 200 * rounds(1) as u64;
    let address = |gateway: usize| cluster.gateways[gateway].address("HTTP API").trim_start_matches("http://").to_owned();
    let addresses = [address(0), address(1)];
    let hang_up = |n: u64, dice: &mut Dice| {
        let body = format!("[{n},0]\n[{n},1]\n[{n},2]\n");
        let head = format!(
            "POST /v1/topics/t/records?format=values&partition=0 HTTP/1.1\r\nhost: x\r\ncontent-type: application/x-ndjson\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        let (address, stay) = (addresses[n as usize % 2].clone(), Duration::from_micros(dice.between(0, 30_000)));
        async move {
            let mut stream = TcpStream::connect(address).await.unwrap();
            // With nothing left to linger for, the close is a reset.
            stream.set_zero_linger().unwrap();
            stream.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
            tokio::time::sleep(stay).await;
        }
    };
    let mut idle = 0;
    for first in (0..requests).step_by(20) {
        join_all((first..first + 20).map(|n| hang_up(n, &mut dice)).collect::<Vec<_>>()).await;
        let look = "select count(*) from pg_stat_activity where state like 'idle in transaction%' and clock_timestamp() - state_change > interval '1 s'";
        idle += cluster.sql(look).await.parse::<u32>().unwrap();
    }
    assert_eq!(idle, 0, "sessions sat in open transactions");
    // A last request, after which nothing of the others is under way.
    client.put("t", 0, &json!("last")).await;
    cluster.client_of(1).put("t", 0, &json!("last")).await;
    let rows = client.read_pages("t", 0, 0).await;
    assert_eq!(rows, cluster.client_of(1).read_pages("t", 0, 0).await);
    let mut values = rows.iter().filter(|row| row.value != b"\"last\""[..]).map(|row| String::from_utf8_lossy(&row.value).into_owned());
    let (mut whole, mut seen) = (0, std::collections::HashSet::new());
    while let Some(first) = values.next() {
        let n = first.trim_start_matches('[').split(',').next().unwrap().to_owned();
        let batch = [first, values.next().unwrap_or_default(), values.next().unwrap_or_default()];
        assert_eq!(batch, [0, 1, 2].map(|line| format!("[{n},{line}]")), "a request is not in one piece");
        assert!(seen.insert(n), "a request is stored twice");
        whole += 1;
    }
    println!("disconnects: of {requests} requests whose clients went away, {whole} are stored, each once and whole");
    assert!(whole > 0, "no request was stored: the clients went away too soon to mean anything");
    lakefall_tests::cluster::eventually("the gateways go on", PROMPT, async || {
        client.send(client.values("t", "partition=0", "1")).await.is_ok_and(|answer| answer.status == 200)
    })
    .await;
}
