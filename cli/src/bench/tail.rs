//! The way from the producer's schedule to a live reader: records carry the moment they were due, and a tail (server-sent
//! events) subtracts it from the moment it saw them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, header};
use http_body_util::BodyExt;
use hyper::body::Incoming;

use super::pace::Pace;
use super::stats::Stats;
use super::target::{Connection, Target, broken};
use crate::failure::Failure;

/// What stands before the moment in a record.
const MARK: &[u8] = b"\"bench_us\":\"";
/// Digits of the moment in microseconds.
const DIGITS: usize = 16;
/// How long the tail waits for records that were acknowledged and not seen.
const PATIENCE: Duration = Duration::from_secs(5);

/// A body with room for the moment.
#[derive(Clone, Debug)]
pub(super) struct Stamp {
    template: Vec<u8>,
    at: usize,
}

impl Stamp {
    /// A JSON record of about `record_bytes`.
    pub(super) fn new(record_bytes: usize) -> Self {
        let padding = "x".repeat(record_bytes.saturating_sub(50));
        let head = "{\"value\":{\"bench_us\":\"";
        let template = format!("{head}{}\",\"note\":\"{padding}\"}}}}", "0".repeat(DIGITS));
        Self { template: template.into_bytes(), at: head.len() }
    }

    /// The same, of a message that is to be delivered so much later.
    pub(super) fn delayed(record_bytes: usize, delay: Option<Duration>) -> Self {
        let mut stamp = Self::new(record_bytes);
        if let Some(delay) = delay {
            stamp.template.pop();
            stamp.template.extend_from_slice(format!(",\"delay\":\"{}\"}}", lakefall_queue::time::format_duration(delay)).as_bytes());
        }
        stamp
    }

    /// The body of a record that was due at `due`.
    pub(super) fn write(&self, due: Duration) -> Bytes {
        let mut body = self.template.clone();
        let digits = format!("{:0width$}", due.as_micros(), width = DIGITS);
        body[self.at..self.at + DIGITS].copy_from_slice(&digits.as_bytes()[..DIGITS]);
        body.into()
    }
}

/// What producers and the tail tell each other.
#[derive(Default)]
pub(super) struct Progress {
    /// Producers are done.
    pub(super) done: AtomicBool,
    /// Records acknowledged in all.
    pub(super) acknowledged: AtomicU64,
}

/// Opens a live tail at the topic's end.
pub(super) async fn open(target: &Arc<Target>, topic: &str) -> Result<Incoming, Failure> {
    let path = format!("/v1/topics/{}/records?from=latest", crate::commands::segment(topic));
    let prepared = target.prepare(Method::GET, &path, &[(header::ACCEPT, "text/event-stream")])?;
    let mut connection = Connection::open(Arc::clone(target)).await?;
    connection.send(&prepared, Bytes::new()).await.map_err(Failure::from)
}

/// Reads the tail until it has seen what was acknowledged, or lost patience.
pub(super) async fn work(mut tail: Incoming, pace: &Pace, progress: &Progress) -> Result<Stats, Failure> {
    let mut stats = Stats::new()?;
    let mut buffer: Vec<u8> = Vec::new();
    let mut last = pace.now();
    loop {
        let done = progress.done.load(Ordering::Acquire);
        let patience_lost = pace.now().saturating_sub(last) > PATIENCE;
        if done && (stats.records >= progress.acknowledged.load(Ordering::Acquire) || patience_lost) {
            return Ok(stats);
        }
        let Ok(frame) = tokio::time::timeout(Duration::from_millis(50), tail.frame()).await else { continue };
        match frame {
            Some(Ok(frame)) => buffer.extend_from_slice(frame.data_ref().map_or(&[][..], |data| data)),
            Some(Err(error)) => {
                stats.failed(&broken(error));
                return Ok(stats);
            }
            None => return Ok(stats),
        }
        let now = pace.now();
        scan(&mut buffer, |due, length| stats.answered(1, length, now.saturating_sub(due)));
        last = now;
    }
}

/// The moments in a whole answer.
pub(super) fn moments(answer: &[u8], mut seen: impl FnMut(Duration)) {
    for found in memchr::memmem::find_iter(answer, MARK) {
        let digits = answer.get(found + MARK.len()..found + MARK.len() + DIGITS);
        if let Some(micros) = digits.and_then(|digits| std::str::from_utf8(digits).ok()).and_then(|digits| digits.parse().ok()) {
            seen(Duration::from_micros(micros));
        }
    }
}

/// Finds the moments in the buffer and leaves what may be the beginning of the next.
fn scan(buffer: &mut Vec<u8>, mut seen: impl FnMut(Duration, u64)) {
    let mut from = 0;
    while let Some(found) = memchr::memmem::find(&buffer[from..], MARK) {
        let start = from + found + MARK.len();
        let Some(digits) = buffer.get(start..start + DIGITS) else {
            from += found;
            break;
        };
        if let Some(micros) = std::str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok()) {
            seen(Duration::from_micros(micros), (start + DIGITS - from) as u64);
        }
        from = start + DIGITS;
    }
    let keep = buffer.len().saturating_sub(MARK.len() + DIGITS).max(from);
    buffer.drain(..keep.min(buffer.len()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_found_however_the_stream_is_cut() {
        let stamp = Stamp::new(200);
        let mut stream = Vec::new();
        for micros in [7, 123_456_789] {
            stream.extend_from_slice(b"id: 1\ndata: ");
            stream.extend_from_slice(&stamp.write(Duration::from_micros(micros)));
            stream.extend_from_slice(b"\n\n");
        }
        for cut in 1..50 {
            let (mut buffer, mut seen) = (Vec::new(), Vec::new());
            for piece in stream.chunks(cut) {
                buffer.extend_from_slice(piece);
                scan(&mut buffer, |due, _| seen.push(due.as_micros()));
            }
            assert_eq!(seen, [7, 123_456_789], "cut into pieces of {cut}");
        }
    }

    #[test]
    fn a_stamped_body_is_one_json_record() {
        let body: serde_json::Value = serde_json::from_slice(&Stamp::new(1024).write(Duration::from_secs(1))).unwrap();
        assert_eq!(body["value"]["bench_us"], "0000000001000000");
    }
}
