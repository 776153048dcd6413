//! Producers of every kind and a tailing reader, which go on through kills until they are told to stop.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use lakefall_tests::dice::Dice;
use lakefall_tests::history::{Asked, OpId, Promise, RecordId, Recorder, body};
use lakefall_tests::{Answer, Client};
use reqwest::Method;
use serde_json::Value;
use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;

/// Between two tries while the server is down.
const PAUSE: Duration = Duration::from_millis(10);
/// Largest padding of a record.
const PAD: u64 = 200;
/// Lines of a stream that wait for their acknowledgement at most.
const STREAM_WINDOW: usize = 200;

/// What all clients of a run share.
pub(crate) struct Run {
    pub(crate) recorder: Recorder,
    pub(crate) topic: &'static str,
    pub(crate) partitions: u32,
    stopped: AtomicBool,
}

impl Run {
    pub(crate) fn new(topic: &'static str, partitions: u32) -> Arc<Self> {
        Arc::new(Self { recorder: Recorder::default(), topic, partitions, stopped: AtomicBool::new(false) })
    }

    /// Producers finish what they have begun and end; readers end.
    pub(crate) fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }
}

/// How a producer sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    /// Batches to one partition; one whose outcome is unknown is sometimes sent again.
    Plain,
    /// Sequence numbers: sent again until it is acknowledged.
    Sequenced,
    /// An `Idempotency-Key`, over all partitions: sent again until it is acknowledged.
    Keyed,
}

/// What became of a try.
enum Try {
    Stored(Vec<(u32, u64)>),
    Refused,
    Unknown,
}

/// The three classes of answers: applied; certainly not applied; unknown.
fn class(sent: Result<Answer, reqwest::Error>) -> Try {
    match sent {
        Ok(answer) if answer.status == 200 => Try::Stored(answer.offsets()),
        Ok(answer) => {
            let problem = answer.json();
            assert!(matches!(answer.status, 500 | 503 | 504), "the load is in order, but was refused: {problem}");
            if problem["outcome"] == "not_applied" { Try::Refused } else { Try::Unknown }
        }
        Err(error) if error.is_connect() => Try::Refused,
        Err(_) => Try::Unknown,
    }
}

/// Sends batch after batch.
pub(crate) async fn produce(run: Arc<Run>, client: Client, producer: u32, style: Style, mut dice: Dice) {
    let mut seq = 0;
    while !run.is_stopped() {
        let count = dice.between(1, 60);
        let records: Vec<(RecordId, String)> = (seq..seq + count).map(|seq| record(producer, seq, &mut dice)).collect();
        let query = match style {
            Style::Plain => format!("partition={}", producer % run.partitions),
            Style::Sequenced => {
                format!("partition={}&producer_id=p{producer}&producer_epoch=0&producer_sequence={seq}", producer % run.partitions)
            }
            Style::Keyed => "key=/seq".to_owned(),
        };
        let lines: String = records.iter().flat_map(|(_, body)| [body.as_str(), "\n"]).collect();
        let key = (style == Style::Keyed).then(|| format!("{producer}-{seq}"));
        let once = style != Style::Plain;
        let mut op = run.recorder.invoke(Promise { once, pipelined: false }, &records);
        loop {
            let mut request = client.values(run.topic, &query, lines.clone());
            if let Some(key) = &key {
                request = request.header("idempotency-key", key);
            }
            match class(client.send(request).await) {
                Try::Stored(places) => {
                    run.recorder.ok(op, places);
                    break;
                }
                // What is sent again with a promise is the same send: it stays open until it is acknowledged.
                Try::Refused | Try::Unknown if once => {}
                Try::Refused => {
                    run.recorder.fail(op);
                    break;
                }
                Try::Unknown => {
                    run.recorder.info(op);
                    if dice.one_in(2) {
                        break;
                    }
                    op = run.recorder.invoke(Promise { once, pipelined: false }, &records);
                }
            }
            tokio::time::sleep(PAUSE).await;
        }
        seq += count;
        if matches!(style, Style::Plain) && dice.one_in(20) {
            // A pause lets segments leave that hold little.
            tokio::time::sleep(PAUSE).await;
        }
    }
}

fn record(producer: u32, seq: u64, dice: &mut Dice) -> (RecordId, String) {
    let id = RecordId { producer, seq };
    (id, body(id, dice.between(0, PAD) as usize))
}

/// Sends line after line on one long request, and takes acknowledgements as they come; opens another after a kill.
pub(crate) async fn stream(run: Arc<Run>, client: Client, producer: u32, mut dice: Dice) {
    let mut seq = 0;
    while !run.is_stopped() {
        let (lines, sent) = mpsc::channel::<Result<String, std::io::Error>>(8);
        let (invoked, open) = mpsc::channel::<OpId>(STREAM_WINDOW);
        let path = format!("/v1/topics/{}/records/stream?format=values&partition={}", run.topic, producer % run.partitions);
        let request = client.request(Method::POST, &path).header("content-type", "application/x-ndjson");
        let request = request.body(reqwest::Body::wrap_stream(ReceiverStream::new(sent)));
        let acks = tokio::spawn(take_acks(Arc::clone(&run), request, open));
        while !run.is_stopped() {
            let record = record(producer, seq, &mut dice);
            let op = run.recorder.invoke(Promise { once: false, pipelined: true }, std::slice::from_ref(&record));
            seq += 1;
            // Either end is gone when the connection broke: the record was perhaps sent, or never was.
            if invoked.send(op).await.is_err() || lines.send(Ok(format!("{}\n", record.1))).await.is_err() {
                run.recorder.info(op);
                break;
            }
        }
        drop((lines, invoked));
        acks.await.unwrap();
        tokio::time::sleep(PAUSE).await;
    }
}

/// Pairs acknowledgements with what was sent, in order; what is left when the connection breaks is unknown.
async fn take_acks(run: Arc<Run>, request: reqwest::RequestBuilder, mut open: mpsc::Receiver<OpId>) {
    if let Ok(response) = request.send().await
        && response.status() == 200
    {
        let mut bytes = Vec::new();
        let mut pieces = response.bytes_stream();
        'answer: while let Some(Ok(piece)) = pieces.next().await {
            bytes.extend_from_slice(&piece);
            while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = bytes.drain(..=end).collect();
                let ack: Value = serde_json::from_slice(&line).unwrap();
                let Some(offset) = ack["offset"].as_u64() else {
                    assert!(ack["status"].as_u64().is_some_and(|status| status >= 500), "the stream is in order, but was refused: {ack}");
                    break 'answer;
                };
                let op = open.recv().await.expect("an acknowledgement of nothing that was sent");
                run.recorder.ok(op, vec![(ack["partition"].as_u64().unwrap() as u32, offset)]);
            }
        }
    }
    open.close();
    while let Some(op) = open.recv().await {
        run.recorder.info(op);
    }
}

/// Follows one partition by long polls.
pub(crate) async fn tail(run: Arc<Run>, client: Client, reader: u32, partition: u32) {
    let mut at = 0;
    while !run.is_stopped() {
        let asked = run.recorder.now();
        // The server may be down: then ask again.
        let Ok(page) = client.page(run.topic, partition, at, "&wait=200ms").await else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        run.recorder.read(Asked { reader, last: false, at: asked, partition, from: at }, &page.rows, page.end);
        assert_eq!(page.next, at + page.rows.len() as u64, "the page goes on elsewhere than it ends");
        at = page.next;
    }
}
