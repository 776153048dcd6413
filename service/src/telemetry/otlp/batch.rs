//! From one span or log record to batches of them. The way in never waits; the way out is a task of its own.

use std::fmt;
use std::time::Duration;

use opentelemetry::{Context, InstrumentationScope};
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::logs::{LogProcessor, SdkLogRecord};
use opentelemetry_sdk::trace::{Span, SpanData, SpanProcessor};
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;
use tokio_util::sync::CancellationToken;

use crate::metrics::TELEMETRY_DROPPED;

/// Most spans or log records in one request.
const BATCH: usize = 512;

/// A log record and whose it is.
pub(super) type LogEntry = (SdkLogRecord, InstrumentationScope);

/// The way in. Full, or closed as the process stops, it drops what comes, and counts it.
struct Queue<T> {
    to: mpsc::Sender<T>,
    signal: &'static str,
}

impl<T> Queue<T> {
    fn put(&self, item: T) {
        let reason = match self.to.try_send(item) {
            Ok(()) => return,
            Err(TrySendError::Full(_)) => "full",
            Err(TrySendError::Closed(_)) => "stopped",
        };
        metrics::counter!(TELEMETRY_DROPPED, "signal" => self.signal, "reason" => reason).increment(1);
    }
}

impl<T> fmt::Debug for Queue<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Queue({})", self.signal)
    }
}

/// Where spans go when they end.
#[derive(Debug)]
pub(super) struct SpanQueue(Queue<SpanData>);

impl SpanQueue {
    pub(super) fn new(to: mpsc::Sender<SpanData>) -> Self {
        Self(Queue { to, signal: "traces" })
    }
}

impl SpanProcessor for SpanQueue {
    fn on_start(&self, _span: &mut Span, _context: &Context) {}

    fn on_end(&self, span: SpanData) {
        self.0.put(span);
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _timeout: Duration) -> OTelSdkResult {
        Ok(())
    }
}

/// Where log records go.
#[derive(Debug)]
pub(super) struct LogQueue(Queue<LogEntry>);

impl LogQueue {
    pub(super) fn new(to: mpsc::Sender<LogEntry>) -> Self {
        Self(Queue { to, signal: "logs" })
    }
}

impl LogProcessor for LogQueue {
    fn emit(&self, record: &mut SdkLogRecord, scope: &InstrumentationScope) {
        self.0.put((record.clone(), scope.clone()));
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _timeout: Duration) -> OTelSdkResult {
        Ok(())
    }
}

/// The way out.
pub(super) struct Batches<T> {
    pub(super) waiting: mpsc::Receiver<T>,
    /// How long the first of a batch waits for others.
    pub(super) linger: Duration,
    pub(super) stop: CancellationToken,
}

impl<T> Batches<T> {
    /// Sends batches one after the other until `stop`, and then what is left.
    pub(super) async fn run<F: Future<Output = ()>>(mut self, send: impl Fn(Vec<T>) -> F) {
        loop {
            let mut batch = Vec::new();
            tokio::select! {
                _ = self.waiting.recv_many(&mut batch, BATCH) => {}
                () = self.stop.cancelled() => break,
            }
            if batch.is_empty() {
                return;
            }
            let full = async {
                loop {
                    let room = BATCH - batch.len();
                    if room == 0 || self.waiting.recv_many(&mut batch, room).await == 0 {
                        return;
                    }
                }
            };
            tokio::select! {
                () = full => {}
                () = tokio::time::sleep(self.linger) => {}
                () = self.stop.cancelled() => {}
            }
            send(batch).await;
        }
        self.waiting.close();
        loop {
            let mut batch = Vec::new();
            if self.waiting.recv_many(&mut batch, BATCH).await == 0 {
                return;
            }
            send(batch).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_comes_within_the_linger_is_sent_together_and_the_rest_at_the_end() {
        let (to, waiting) = mpsc::channel(2_000);
        let stop = CancellationToken::new();
        let sent = Mutex::new(Vec::new());
        let run = Batches { waiting, linger: Duration::from_secs(1), stop: stop.clone() }.run(|batch: Vec<u32>| {
            sent.lock().unwrap().push(batch.len());
            std::future::ready(())
        });
        let feed = async {
            to.send(1).await.unwrap();
            tokio::time::sleep(Duration::from_millis(500)).await;
            to.send(2).await.unwrap();
            tokio::time::sleep(Duration::from_secs(1)).await;
            for number in 0..1_000 {
                to.send(number).await.unwrap();
            }
            stop.cancel();
        };
        futures::future::join(run, feed).await;
        let sent = sent.into_inner().unwrap();
        assert_eq!((sent[0], sent.iter().sum::<usize>()), (2, 1_002));
        assert!(sent.iter().all(|items| *items <= BATCH), "{sent:?}");
    }

    #[test]
    fn a_full_queue_drops_and_never_waits() {
        let (to, mut waiting) = mpsc::channel(1);
        let queue = Queue { to, signal: "traces" };
        queue.put(1);
        queue.put(2);
        assert_eq!((waiting.try_recv().ok(), waiting.try_recv().ok()), (Some(1), None));
    }
}
