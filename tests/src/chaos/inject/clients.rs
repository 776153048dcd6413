//! Clients that behave badly. What they send is in the history like everybody's.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use futures::future::join_all;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::{LASTS, Told, fired, missed};
use crate::chaos::deck::Kind;
use crate::chaos::world::{GATEWAYS, World};
use crate::dice::Dice;
use crate::history::{Promise, RecordId, body};

/// Their producers have numbers from here on.
static PRODUCERS: AtomicU32 = AtomicU32::new(100_000);
/// Requests whose clients go away, requests that come several times, and connections that say nothing.
const REQUESTS: u64 = 20;
const CONNECTIONS: usize = 60;
const PAD: usize = 500;

fn records(count: u64) -> (u32, Vec<(RecordId, String)>) {
    let producer = PRODUCERS.fetch_add(1, Ordering::Relaxed);
    let record = |seq| {
        let id = RecordId { producer, seq };
        (id, body(id, PAD))
    };
    (producer, (0..count).map(record).collect())
}

fn lines(records: &[(RecordId, String)]) -> String {
    records.iter().flat_map(|(_, body)| [body.as_str(), "\n"]).collect()
}

pub(super) async fn disconnects(world: &World, kind: &Kind, dice: &mut Dice) -> Told {
    let hang_ups = (0..REQUESTS).map(|_| {
        let (_, records) = records(3);
        let (gateway, stay) = (dice.between(0, GATEWAYS as u64 - 1) as usize, dice.between(0, 60_000));
        let partition = dice.between(0, u64::from(world.run.partitions) - 1);
        async move {
            let body = lines(&records);
            let head = format!(
                "POST /v1/topics/{}/records?format=values&partition={partition} HTTP/1.1\r\nhost: x\r\ncontent-type: application/x-ndjson\r\ncontent-length: {}\r\n\r\n",
                world.run.topic,
                body.len()
            );
            let op = world.run.recorder.invoke(Promise { once: false, pipelined: false }, &records);
            let sent = async {
                let mut stream = TcpStream::connect(world.cluster.listening(gateway)).await?;
                // With nothing left to linger for, the close is a reset.
                stream.set_zero_linger()?;
                stream.write_all(format!("{head}{body}").as_bytes()).await?;
                tokio::time::sleep(Duration::from_micros(stay)).await;
                std::io::Result::Ok(())
            };
            let sent = tokio::time::timeout(LASTS, sent).await.is_ok_and(|sent| sent.is_ok());
            world.run.recorder.info(op);
            sent
        }
    });
    let sent = join_all(hang_ups.collect::<Vec<_>>()).await.into_iter().filter(|sent| *sent).count();
    if sent == 0 {
        return missed("no gateway took a connection");
    }
    world.strike(kind);
    fired(format!("{sent} requests"))
}

pub(super) async fn duplicates(world: &World, kind: &Kind, dice: &mut Dice) -> Told {
    world.strike(kind);
    let (mut repeated, mut left_open) = (0, 0);
    for _ in 0..REQUESTS {
        let (producer, records) = records(dice.between(1, 5));
        let (body, key) = (lines(&records), format!("copies-{producer}"));
        let began = tokio::time::Instant::now();
        let op = world.run.recorder.invoke(Promise { once: true, pipelined: false }, &records);
        let mut places = Vec::new();
        // Until it is stored, as whoever was promised so does.
        while places.is_empty() && began.elapsed() < LASTS * 6 {
            let copies = (0..dice.between(2, 5)).map(|copy| {
                let client = world.client_of(copy as usize % GATEWAYS);
                let request = client.values(world.run.topic, "key=/seq", body.clone()).header("idempotency-key", &key);
                let late = Duration::from_millis(dice.between(0, 30));
                async move {
                    tokio::time::sleep(late).await;
                    client.send(request).await
                }
            });
            let answers = join_all(copies.collect::<Vec<_>>()).await;
            for answer in answers.into_iter().filter_map(Result::ok).filter(|answer| answer.status == 200) {
                let offsets = answer.offsets();
                if places.is_empty() {
                    places = offsets;
                    repeated += 1;
                } else if places != offsets {
                    world.found(format!("copies of one request were given other offsets: {places:?}, {offsets:?}"));
                }
            }
        }
        if places.is_empty() {
            left_open += 1;
        } else {
            world.run.ok(op, places, began);
        }
    }
    fired(format!("{repeated} requests, {left_open} left open"))
}

pub(super) async fn slow(world: &World, kind: &Kind) -> Told {
    let connections = (0..CONNECTIONS).map(|at| async move {
        let connection = async {
            let mut stream = TcpStream::connect(world.cluster.listening(at % GATEWAYS)).await?;
            for byte in b"GET /v1/topics HTTP/1.1\r\nx-slow: " {
                stream.write_all(&[*byte]).await?;
                tokio::time::sleep(LASTS / 30).await;
            }
            std::io::Result::Ok(())
        };
        tokio::time::timeout(LASTS * 2, connection).await.is_ok_and(|sent| sent.is_ok())
    });
    let held = join_all(connections).await.into_iter().filter(|held| *held).count();
    if held == 0 {
        return missed("no gateway took a connection");
    }
    world.strike(kind);
    fired(format!("{held} connections"))
}
