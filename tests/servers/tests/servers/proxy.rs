//! The TCP proxy: each harm against an echo server, and the lost reply against PostgreSQL.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use lakefall_servers::proxy::{Direction, Loss};
use lakefall_servers::{Postgres, Proxy};
use sqlx::{Connection, PgConnection, Row};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, timeout};

use crate::common::until;

/// Nothing came in this time: it is long for the loopback, and short for a test.
const QUIET: Duration = Duration::from_millis(60);

/// Answers each byte with itself plus `add`.
async fn echo(add: u8) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let mut bytes = [0; 4096];
                while let Ok(n @ 1..) = stream.read(&mut bytes).await {
                    bytes[..n].iter_mut().for_each(|byte| *byte = byte.wrapping_add(add));
                    if stream.write_all(&bytes[..n]).await.is_err() {
                        break;
                    }
                }
            });
        }
    });
    address
}

async fn exchange(stream: &mut TcpStream, bytes: &[u8]) -> io::Result<Vec<u8>> {
    stream.write_all(bytes).await?;
    let mut answer = vec![0; bytes.len()];
    stream.read_exact(&mut answer).await?;
    Ok(answer)
}

async fn open(proxy: &Proxy) -> TcpStream {
    TcpStream::connect(proxy.address()).await.unwrap()
}

#[tokio::test]
async fn bytes_pass_unchanged_and_ends_are_passed_on() {
    let proxy = Proxy::start(echo(0).await).await;
    let mut stream = open(&proxy).await;
    let sent: Vec<u8> = (0..300_000_u32).map(|n| (n % 251) as u8).collect();
    let (mut from, mut to) = stream.split();
    let write = async {
        to.write_all(&sent).await.unwrap();
        to.shutdown().await.unwrap();
    };
    let mut received = Vec::new();
    let read = async { from.read_to_end(&mut received).await.unwrap() };
    tokio::join!(write, read);
    assert!(received == sent);
    until("the connection is gone", async || proxy.counts().open == 0).await;
    let counts = proxy.counts();
    assert_eq!((counts.connections, counts.bytes_to_server, counts.bytes_to_client, counts.broken), (1, 300_000, 300_000, 0));
}

#[tokio::test]
async fn latency_and_jitter_delay_and_keep_the_order() {
    let proxy = Proxy::start(echo(0).await).await;
    let mut stream = open(&proxy).await;
    let latency = Duration::from_millis(40);
    proxy.latency(Direction::ToServer, latency, Duration::from_millis(10));
    proxy.latency(Direction::ToClient, latency, Duration::ZERO);
    let start = Instant::now();
    assert_eq!(exchange(&mut stream, b"a").await.unwrap(), b"a");
    assert!(start.elapsed() >= 2 * latency, "{:?}", start.elapsed());
    for n in 0..50 {
        stream.write_all(&[n]).await.unwrap();
    }
    let mut received = [0; 50];
    let start = Instant::now();
    stream.read_exact(&mut received).await.unwrap();
    assert_eq!(received.to_vec(), (0..50).collect::<Vec<u8>>());
    assert!(start.elapsed() < 50 * latency, "each piece waited for the one before it: {:?}", start.elapsed());
    proxy.heal().await;
    until("an exchange is quicker than the latency", async || {
        let start = Instant::now();
        exchange(&mut stream, b"a").await.unwrap();
        start.elapsed() < latency
    })
    .await;
}

#[tokio::test]
async fn bandwidth_is_limited() {
    let proxy = Proxy::start(echo(0).await).await;
    proxy.bandwidth(Direction::ToServer, Some(100_000));
    let start = Instant::now();
    exchange(&mut open(&proxy).await, &[7; 20_000]).await.unwrap();
    assert!(start.elapsed() >= Duration::from_millis(190), "20 kB at 100 kB/s took {:?}", start.elapsed());
}

#[tokio::test]
async fn a_silent_direction_holds_back_until_it_heals_while_the_other_passes() {
    for direction in [Direction::ToServer, Direction::ToClient] {
        let proxy = Proxy::start(echo(0).await).await;
        let mut stream = open(&proxy).await;
        exchange(&mut stream, b"a").await.unwrap();
        proxy.blackhole(direction, true);
        stream.write_all(b"b").await.unwrap();
        let mut answer = [0];
        timeout(QUIET, stream.read_exact(&mut answer)).await.expect_err("the silent direction passed something");
        match direction {
            Direction::ToServer => assert_eq!(proxy.counts().bytes_to_server, 1),
            Direction::ToClient => until("the other direction passes", async || proxy.counts().bytes_to_server == 2).await,
        }
        proxy.blackhole(direction, false);
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"b");
    }
}

#[tokio::test]
async fn a_cut_comes_after_exactly_so_many_bytes_and_once() {
    let proxy = Proxy::start(echo(0).await).await;
    for (direction, received) in [(Direction::ToClient, 5), (Direction::ToServer, 5)] {
        let mut stream = open(&proxy).await;
        let before = proxy.counts();
        proxy.cut_after(direction, received);
        stream.write_all(b"0123456789").await.unwrap();
        let mut answer = Vec::new();
        let error = stream.read_to_end(&mut answer).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        let after = proxy.counts();
        let passed = match direction {
            Direction::ToClient => after.bytes_to_client - before.bytes_to_client,
            Direction::ToServer => after.bytes_to_server - before.bytes_to_server,
        };
        assert_eq!((passed, after.cuts - before.cuts), (received, 1), "{direction:?}");
        assert_eq!(exchange(&mut open(&proxy).await, b"0123456789").await.unwrap(), b"0123456789");
    }
}

#[tokio::test]
async fn connections_are_reset_refused_and_sent_elsewhere() {
    let proxy = Proxy::start(echo(0).await).await;
    let mut stream = open(&proxy).await;
    exchange(&mut stream, b"a").await.unwrap();
    proxy.reset_all();
    assert_eq!(stream.read(&mut [0]).await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    let mut kept = open(&proxy).await;
    exchange(&mut kept, b"a").await.unwrap();
    proxy.refuse(true).await;
    assert_eq!(TcpStream::connect(proxy.address()).await.unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
    assert_eq!(exchange(&mut kept, b"a").await.unwrap(), b"a", "a connection that was there did not stay");
    proxy.refuse(false).await;
    proxy.retarget(echo(1).await);
    assert_eq!(exchange(&mut open(&proxy).await, b"a").await.unwrap(), b"b");
    assert_eq!(exchange(&mut kept, b"a").await.unwrap(), b"a");
    drop(proxy);
    assert_eq!(kept.read(&mut [0]).await.unwrap_or(0), 0, "a connection outlived its proxy");
}

#[tokio::test]
async fn a_server_that_is_not_there_is_a_reset() {
    let target = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let proxy = Proxy::start(target).await;
    let ended = open(&proxy).await.read(&mut [0]).await;
    assert_eq!(ended.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    assert_eq!(proxy.counts().broken, 1);
}

#[tokio::test]
async fn a_lost_reply_leaves_the_statement_done() {
    let postgres = Postgres::shared().await;
    let database = postgres.fresh_database().await;
    postgres.sql(&database, "create table t (n int); grant all on t to lakefall").await;
    let proxy = Proxy::before_postgres(postgres.address()).await;
    let url = postgres.url_at(proxy.address(), &database);
    let rows = async || postgres.sql(&database, "select count(*) from t").await;
    let insert = "insert into t values (1)";
    for (loss, done) in [(Loss::Reset, "2"), (Loss::Silence, "4")] {
        // The usual way of clients: prepared, its own transaction.
        let mut connection = PgConnection::connect(&url).await.unwrap();
        proxy.lose_reply("INSERT", 2, loss);
        sqlx::query(insert).execute(&mut connection).await.unwrap();
        let second = sqlx::query(insert).execute(&mut connection);
        match loss {
            Loss::Reset => assert!(second.await.is_err(), "the reply came"),
            Loss::Silence => {
                let waiting = async {
                    second.await.expect_err("the reply came");
                    panic!("the connection ended");
                };
                let done = until("the insert is committed", async || rows().await == done);
                tokio::select! { () = done => {}, () = waiting => {} }
            }
        }
        assert_eq!(rows().await, done, "{loss:?}: the insert is not committed");
    }
    assert_eq!((proxy.counts().replies_seen, proxy.counts().replies_lost), (4, 2));
    // A transaction of several statements: only the reply to its COMMIT is lost.
    proxy.lose_every_reply("COMMIT", 1, Loss::Reset);
    let mut connection = PgConnection::connect(&url).await.unwrap();
    let mut transaction = connection.begin().await.unwrap();
    for _ in 0..3 {
        sqlx::query(insert).execute(&mut *transaction).await.unwrap();
    }
    transaction.commit().await.unwrap_err();
    assert_eq!(rows().await, "7");
    proxy.heal().await;
    let mut connection = PgConnection::connect(&url).await.unwrap();
    let big = sqlx::query("select repeat('x', 1000000) from generate_series(1, 3)").fetch_all(&mut connection).await.unwrap();
    assert!(big.iter().all(|row| row.get::<String, _>(0).len() == 1_000_000));
    assert_eq!(proxy.counts().replies_lost, 3);
}
