//! Consuming: every reader takes pages of one partition, one after the other, and counts the records in them truly: by
//! decoding Arrow, by counting lines, by parsing JSON.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arrow_ipc::reader::StreamDecoder;
use bytes::Bytes;
use http::{Method, header};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde::Deserialize;
use tokio::task::JoinSet;

use super::pace::Pace;
use super::produce::recover;
use super::stats::Stats;
use super::target::{Connection, Fault, Target, broken};
use crate::failure::Failure;

/// How long a following reader's request waits at the end of the log.
const FOLLOW_WAIT: &str = "1s";

/// How pages are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum ReadFormat {
    /// A JSON page.
    Json,
    /// One record per line.
    Ndjson,
    /// Arrow IPC stream.
    Arrow,
}

impl ReadFormat {
    /// Records of a request unless told otherwise: streams are as long as one likes, a page is held in memory.
    pub(super) fn page_records(self) -> u64 {
        match self {
            Self::Json => 10_000,
            Self::Ndjson | Self::Arrow => 1_000_000,
        }
    }

    fn media_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Ndjson => "application/x-ndjson",
            Self::Arrow => "application/vnd.apache.arrow.stream",
        }
    }
}

/// What all readers share.
pub(super) struct Plan {
    pub(super) target: Arc<Target>,
    pub(super) topic: String,
    pub(super) format: ReadFormat,
    pub(super) page_records: u64,
    pub(super) page_bytes: u64,
    /// Records after which all readers stop.
    pub(super) records: Option<u64>,
    /// Time after which all readers stop.
    pub(super) duration: Option<Duration>,
    /// Wait at the end of the log instead of stopping there.
    pub(super) follow: bool,
    pub(super) pace: Arc<Pace>,
    /// Records read by all.
    pub(super) taken: AtomicU64,
    /// Set when readers that follow should stop.
    pub(super) progress: Option<Arc<super::tail::Progress>>,
}

/// A reader's place.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) partition: u32,
    pub(super) from: u64,
    /// The end of the log when the run began.
    pub(super) end: u64,
}

/// Opens one connection for each place.
pub(super) async fn open(target: &Arc<Target>, places: Vec<Place>) -> Result<Vec<(Connection, Place)>, Failure> {
    let mut opened = Vec::with_capacity(places.len());
    for place in places {
        opened.push((Connection::open(Arc::clone(target)).await?, place));
    }
    Ok(opened)
}

/// Reads all places until the plan ends.
pub(super) async fn work(plan: &Arc<Plan>, readers: Vec<(Connection, Place)>) -> Result<Stats, Failure> {
    let stats = Arc::new(Mutex::new(Stats::new()?));
    let mut workers = JoinSet::new();
    for (connection, place) in readers {
        workers.spawn(reader(Arc::clone(plan), connection, place, Arc::clone(&stats)));
    }
    while let Some(ended) = workers.join_next().await {
        ended.map_err(|error| Failure::Defect(error.to_string()))??;
    }
    let stats = Arc::into_inner(stats).ok_or_else(|| Failure::Defect("a reader outlived its thread".into()))?;
    Ok(stats.into_inner().unwrap_or_else(PoisonError::into_inner))
}

async fn reader(plan: Arc<Plan>, mut connection: Connection, mut place: Place, stats: Arc<Mutex<Stats>>) -> Result<(), Failure> {
    while !plan.is_over(place) {
        let began = plan.pace.now();
        let page = plan.page(&mut connection, place).await;
        let took = plan.pace.now().saturating_sub(began);
        match page {
            Ok(page) => {
                stats.lock().unwrap_or_else(PoisonError::into_inner).answered(page.records, page.bytes, took);
                plan.taken.fetch_add(page.records, Ordering::Relaxed);
                place.from += page.records;
                if page.records == 0 && !plan.follow {
                    return Ok(());
                }
            }
            Err(fault) => {
                stats.lock().unwrap_or_else(PoisonError::into_inner).failed(&fault);
                recover(&mut connection, &fault).await;
            }
        }
    }
    Ok(())
}

impl Plan {
    fn is_over(&self, place: Place) -> bool {
        let taken = self.taken.load(Ordering::Relaxed);
        let produced_all = self
            .progress
            .as_ref()
            .is_some_and(|progress| progress.done.load(Ordering::Acquire) && taken >= progress.acknowledged.load(Ordering::Acquire));
        produced_all
            || self.records.is_some_and(|records| taken >= records)
            || self.duration.is_some_and(|duration| self.pace.now() - self.pace.began() >= duration)
            || (!self.follow && place.from >= place.end)
    }

    async fn page(&self, connection: &mut Connection, place: Place) -> Result<Page, Fault> {
        let wait = if self.follow { format!("&wait={FOLLOW_WAIT}") } else { String::new() };
        let left = self.records.map_or(u64::MAX, |records| records.saturating_sub(self.taken.load(Ordering::Relaxed)));
        let path = format!(
            "/v1/topics/{}/partitions/{}/records?offset={}&limit={}&max_bytes={}{wait}",
            crate::commands::segment(&self.topic),
            place.partition,
            place.from,
            self.page_records.min(left).max(1),
            self.page_bytes,
        );
        let prepared = self.target.prepare(Method::GET, &path, &[(header::ACCEPT, self.format.media_type())]);
        let prepared = prepared.map_err(|failure| Fault::Refused(failure.to_string()))?;
        let answer = connection.send(&prepared, Bytes::new()).await?;
        Counter::new(self.format).count(answer).await
    }
}

/// What a page held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Page {
    records: u64,
    bytes: u64,
}

/// Counts the records of one answer as its pieces arrive.
enum Counter {
    Json(Vec<u8>),
    Ndjson(u64),
    Arrow(Box<StreamDecoder>, u64),
}

impl Counter {
    fn new(format: ReadFormat) -> Self {
        match format {
            ReadFormat::Json => Self::Json(Vec::new()),
            ReadFormat::Ndjson => Self::Ndjson(0),
            ReadFormat::Arrow => Self::Arrow(Box::default(), 0),
        }
    }

    async fn count(mut self, mut answer: Incoming) -> Result<Page, Fault> {
        let mut bytes = 0;
        while let Some(frame) = answer.frame().await {
            if let Ok(data) = frame.map_err(broken)?.into_data() {
                bytes += data.len() as u64;
                self.take(data)?;
            }
        }
        Ok(Page { records: self.finish()?, bytes })
    }

    fn take(&mut self, data: Bytes) -> Result<(), Fault> {
        match self {
            Self::Json(all) => all.extend_from_slice(&data),
            Self::Ndjson(lines) => *lines += memchr::memchr_iter(b'\n', &data).count() as u64,
            Self::Arrow(decoder, records) => {
                let mut buffer = arrow_buffer::Buffer::from(data);
                while !buffer.is_empty() {
                    if let Some(batch) = decoder.decode(&mut buffer).map_err(unreadable)? {
                        *records += batch.num_rows() as u64;
                    }
                }
            }
        }
        Ok(())
    }

    fn finish(self) -> Result<u64, Fault> {
        #[derive(Deserialize)]
        struct JsonPage {
            records: Vec<serde::de::IgnoredAny>,
        }
        match self {
            Self::Json(all) => serde_json::from_slice::<JsonPage>(&all).map(|page| page.records.len() as u64).map_err(unreadable),
            Self::Ndjson(lines) => Ok(lines),
            Self::Arrow(mut decoder, records) => decoder.finish().map(|()| records).map_err(unreadable),
        }
    }
}

fn unreadable(error: impl std::fmt::Display) -> Fault {
    Fault::Refused(format!("unreadable answer: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::payload::{Format, Payload, bodies};

    #[test]
    fn arrow_records_are_counted_however_the_stream_is_cut() {
        let body = bodies(Format::Arrow, Payload::Random, None, 50, 9).unwrap()[0].bytes.clone();
        for cut in [1, 7, 64, 4096] {
            let mut counter = Counter::new(ReadFormat::Arrow);
            for piece in body.chunks(cut) {
                counter.take(Bytes::copy_from_slice(piece)).unwrap();
            }
            assert_eq!(counter.finish().unwrap(), 9);
        }
    }

    #[test]
    fn json_pages_and_lines_are_counted() {
        let mut json = Counter::new(ReadFormat::Json);
        json.take(Bytes::from_static(br#"{"records":[{"value":1},{"#)).unwrap();
        json.take(Bytes::from_static(br#""value":2}],"next_offset":2}"#)).unwrap();
        assert_eq!(json.finish().unwrap(), 2);
        let mut lines = Counter::new(ReadFormat::Ndjson);
        lines.take(Bytes::from_static(b"{}\n{}\n{}")).unwrap();
        lines.take(Bytes::from_static(b"\n")).unwrap();
        assert_eq!(lines.finish().unwrap(), 3);
    }
}
