//! Producers of the log that send line after line on one long request and take acknowledgements as they come, many under way at a
//! time. After a fault they open another one. Must never judge: what they sent and what they were told is recorded.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt, stream};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use lakefall_check::history::{OpId, Promise, RecordId, body};
use serde_json::Value;
use tokio::sync::mpsc;

use crate::dice::Dice;
use crate::http::PORT;
use crate::log::{Run, TOPIC};
use crate::net::Stream;

/// Lines that wait for their acknowledgement, at most.
const WINDOW: usize = 16;
/// Between two lines, at most.
const PACE: Duration = Duration::from_millis(1_500);
/// Largest padding of a record.
const PAD: u64 = 60;
/// How long nothing may be said before the connection is given up.
const PATIENCE: Duration = Duration::from_secs(20);
/// Before another one is opened: the first time, then twice as long each time in which nothing was stored, up to the last.
const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(4));
/// Their producers are numbered from here on.
const FIRST: u32 = 100;

type Lines = StreamBody<BoxStream<'static, Result<Frame<Bytes>, Infallible>>>;

/// Sends line after line, until it is to stop.
pub async fn produce(run: Arc<Run>, gateways: Vec<String>, number: u32, mut dice: Dice) {
    let (producer, partition) = (FIRST + number, number % run.world.plan.partitions);
    let (mut seq, mut at, mut pause) = (0, number as usize, PAUSE.0);
    let promise = Promise { once: false, pipelined: true };
    while !run.is_stopped() {
        let acked = run.acked();
        let (lines, sent) = mpsc::channel::<Bytes>(WINDOW);
        let (invoked, open) = mpsc::channel::<OpId>(WINDOW);
        let gateway = gateways[at % gateways.len()].clone();
        let acks = tokio::spawn(take_acks(Arc::clone(&run), gateway, partition, sent, open));
        while !run.is_stopped() {
            tokio::time::sleep(dice.time(Duration::ZERO, PACE)).await;
            let id = RecordId { producer, seq };
            let record = (id, body(id, dice.between(0, PAD) as usize));
            let op = run.invoke(promise, Some(partition), std::slice::from_ref(&record));
            seq += 1;
            // Who takes acknowledgements is gone: the line never left.
            if invoked.send(op).await.is_err() {
                run.recorder.info(op);
                break;
            }
            // From here on it is told of by who takes acknowledgements.
            if lines.send(format!("{}\n", record.1).into()).await.is_err() {
                break;
            }
        }
        drop((lines, invoked));
        let _ = acks.await;
        at += 1;
        pause = if run.acked() > acked { PAUSE.0 } else { (pause * 2).min(PAUSE.1) };
        tokio::time::sleep(dice.time(pause / 2, pause)).await;
    }
}

/// Pairs acknowledgements with what was sent, in order; of what is left when the connection breaks nobody knows.
async fn take_acks(run: Arc<Run>, gateway: String, partition: u32, sent: mpsc::Receiver<Bytes>, mut open: mpsc::Receiver<OpId>) {
    let told = answers(&run, &gateway, partition, sent, &mut open).await;
    run.world.trace.line(&format!("stream to {gateway}/{partition}"), format_args!("{told}"));
    open.close();
    while let Some(op) = open.recv().await {
        run.recorder.info(op);
    }
}

/// Returns why it ended.
async fn answers(run: &Run, gateway: &str, partition: u32, sent: mpsc::Receiver<Bytes>, open: &mut mpsc::Receiver<OpId>) -> String {
    let begun = tokio::time::timeout(PATIENCE, begin(gateway, partition, sent)).await;
    let Ok(Some((response, _sender))) = begun else { return "no answer".to_owned() };
    if response.status() != 200 {
        return format!("status {}", response.status());
    }
    let (mut bytes, mut answer) = (Vec::new(), response.into_body());
    loop {
        let piece = match tokio::time::timeout(PATIENCE, answer.frame()).await {
            Err(_) => return "silence".to_owned(),
            Ok(None) => return "its end".to_owned(),
            Ok(Some(Err(error))) => return error.to_string(),
            Ok(Some(Ok(frame))) => frame.into_data().unwrap_or_default(),
        };
        bytes.extend_from_slice(&piece);
        while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = bytes.drain(..=end).collect();
            let ack: Value = serde_json::from_slice(&line).unwrap_or_default();
            let place = ack["partition"].as_u64().zip(ack["offset"].as_u64());
            let Some((partition, offset)) = place else {
                // Also where an earlier line was stored at last: what was behind it when it failed at first is not.
                if ack["status"].as_u64().is_none_or(|status| status < 500) && ack["code"] != "stream_poisoned" {
                    run.world.violation(format!("a stream in order was refused: {ack}"));
                }
                return ack.to_string();
            };
            match open.try_recv() {
                Ok(op) => run.stored(op, vec![(partition as u32, offset)]),
                Err(_) => run.world.violation(format!("an acknowledgement of nothing that was sent: {ack}")),
            }
        }
    }
}

/// Opens a connection and a request on it, whose body is what is sent from then on.
async fn begin(gateway: &str, partition: u32, sent: mpsc::Receiver<Bytes>) -> Option<(Response<Incoming>, SendRequest<Lines>)> {
    let connection = Stream::connect(gateway, PORT).await.ok()?;
    let (mut sender, driver) = handshake(TokioIo::new(connection)).await.ok()?;
    tokio::spawn(driver);
    let lines = stream::unfold(sent, |mut sent| async move { Some((Ok(Frame::data(sent.recv().await?)), sent)) });
    let request = Request::builder()
        .method(Method::POST)
        .uri(format!("/v1/topics/{TOPIC}/records/stream?format=values&partition={partition}"))
        .header("host", gateway)
        .header("content-type", "application/x-ndjson")
        .body(StreamBody::new(lines.boxed()))
        .ok()?;
    let response = sender.send_request(request).await.ok()?;
    Some((response, sender))
}
