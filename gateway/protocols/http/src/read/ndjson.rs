//! Streams of records up to the end as it stood when the request came: NDJSON and Arrow.
//!
//! Fetches the next part while the current one is written; holds two parts at most.

use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderValue, header};
use axum::response::Response;
use bytes::{BufMut, Bytes, BytesMut};
use futures::StreamExt;
use lakefall_queue::verbs::{Fetched, Start};
use lakefall_queue::{Error, Offset, PartitionIndex, StoredRecord, turn};
use tokio::sync::oneshot;
use tokio_util::task::AbortOnDropHandle;

use super::json::RecordWriter;
use super::plan::{Plan, Scope, starts};
use super::{Place, Session, arrow, failed};
use crate::problem::{self, Problem, Result};

/// Bytes of keys, values and headers fetched at once.
const PART: usize = 2 << 20;

/// How records are written.
pub(super) enum Format {
    Lines,
    Arrow(Box<arrow::Encoder>),
}

/// The answer. The first part is fetched before it begins, so that what can be refused gets its own status.
pub(super) async fn stream(session: Session, plan: Plan, format: Format) -> Result<Response> {
    let one = match plan.scope {
        Scope::Partition(partition) => Some(partition),
        Scope::Topic => None,
    };
    let ends = session.api.verbs.offsets(&session.caller, &plan.topic, one, Start::Latest).await?;
    let ends: Vec<Place> = ends.into_iter().map(|p| (p.partition, p.end)).collect();
    let from = plan.positions(&session).await?;
    let left = plan.limit.unwrap_or(usize::MAX);
    let mut first = session.fetch(plan.next_read(&from, left, PART.min(plan.max_bytes), Duration::ZERO)).await?;
    let waited = first.records.is_empty() && !plan.wait.is_zero() && first.next.iter().all(|p| p.next >= p.end);
    if waited {
        let places: Vec<Place> = first.next.iter().map(|p| (p.partition, p.next)).collect();
        first = session.fetch(plan.next_read(&starts(&places), left, PART.min(plan.max_bytes), plan.wait)).await?.certain()?;
    }
    let content_type = match format {
        Format::Lines => "application/x-ndjson",
        Format::Arrow(_) => "application/vnd.apache.arrow.stream",
    };
    let output = Output { format, writer: RecordWriter::new(&plan.topic, plan.encoding) };
    // After a wait the snapshot is empty: what the wait found is the answer.
    let ends = if waited { Vec::new() } else { ends };
    let state = Parts { session, plan, output, ends, left, next: Step::Ready(first) };
    let parts = futures::stream::unfold(Some(state), |state| async move { state?.step().await });
    let pieces = parts.flat_map(|part| match part {
        Ok(pieces) => futures::stream::iter(pieces).map(Ok).left_stream(),
        Err(error) => futures::stream::iter([Err(error)]).right_stream(),
    });
    let mut response = Response::new(Body::from_stream(pieces));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    Ok(response)
}

enum Step {
    Ready(Fetched),
    Coming(AbortOnDropHandle<Result<Fetched>>),
    Broken,
    Done,
}

struct Parts {
    session: Session,
    plan: Plan,
    output: Output,
    /// The ends as they stood.
    ends: Vec<Place>,
    left: usize,
    next: Step,
}

type Pieces = std::io::Result<Vec<Bytes>>;

/// What makes bytes of records.
struct Output {
    format: Format,
    writer: RecordWriter,
}

impl Parts {
    async fn step(mut self) -> Option<(Pieces, Option<Self>)> {
        let fetched = match std::mem::replace(&mut self.next, Step::Done) {
            Step::Done => return None,
            Step::Broken => return Some((Err(std::io::Error::other("the read failed")), None)),
            Step::Ready(fetched) => fetched,
            Step::Coming(task) => match task.await.unwrap_or_else(|_| Err(Problem::new(problem::INTERNAL, "the read met a defect"))) {
                Ok(fetched) => fetched,
                Err(problem) => {
                    self.next = Step::Broken;
                    // Arrow has no place for a problem: the broken body alone says it.
                    let last = failed(&self.session, &problem);
                    let pieces = if matches!(self.output.format, Format::Lines) { vec![last] } else { Vec::new() };
                    return Some((Ok(pieces), Some(self)));
                }
            },
        };
        let records = self.inside(fetched.records);
        self.left -= records.len().min(self.left);
        let rest = self.unfinished(&fetched.next);
        let done = rest.is_empty() || self.left == 0;
        if !done {
            let read = self.plan.next_read(&starts(&rest), self.left, PART.min(self.plan.max_bytes), Duration::ZERO);
            let session = self.session.clone();
            // Aborted when the answer is dropped; decoding it uses another core while this part is written.
            self.next = Step::Coming(AbortOnDropHandle::new(tokio::spawn(async move { session.fetch(read).await })));
        }
        let output = self.output;
        let (output, mut pieces) = if fetched.old {
            match written_aside(&self.session, output, records, done).await {
                Ok(written) => written,
                // It was a defect: the broken body says so.
                Err(error) => return Some((Err(std::io::Error::other(error)), None)),
            }
        } else {
            output.write(&records, done)
        };
        self.output = output;
        if let Ok(Some(last)) = pieces.as_mut().map(|pieces| pieces.last_mut()) {
            *last = fetched.admission.hold(std::mem::take(last));
        }
        Some((pieces, (!done).then_some(self)))
    }

    fn end_of(&self, partition: PartitionIndex) -> Option<Offset> {
        self.ends.iter().find(|(p, _)| *p == partition).map(|(_, end)| *end)
    }

    /// Without what came after the request.
    fn inside(&self, mut records: Vec<StoredRecord>) -> Vec<StoredRecord> {
        if !self.ends.is_empty() {
            records.retain(|record| self.end_of(record.partition).is_some_and(|end| record.offset < end));
        }
        records.truncate(self.left);
        records
    }

    fn unfinished(&self, positions: &[lakefall_queue::verbs::Position]) -> Vec<Place> {
        let open = |p: &&lakefall_queue::verbs::Position| !p.finished && self.end_of(p.partition).is_some_and(|end| p.next < end);
        positions.iter().filter(open).map(|p| (p.partition, p.next)).collect()
    }
}

impl Output {
    fn write(mut self, records: &[StoredRecord], last: bool) -> (Self, Pieces) {
        let pieces = match &mut self.format {
            Format::Arrow(encoder) => encoder.encode(records, last).map_err(std::io::Error::other),
            Format::Lines => {
                let bytes: usize = records.iter().map(|r| r.payload_bytes() + 192).sum();
                let mut out = BytesMut::with_capacity(bytes);
                for record in records {
                    turn::step(record.payload_bytes());
                    self.writer.put(&mut out, record);
                    out.put_u8(b'\n');
                }
                Ok(vec![out.freeze()])
            }
        };
        (self, pieces)
    }
}

/// Writes where a replay takes no time from the tail.
async fn written_aside(session: &Session, output: Output, records: Vec<StoredRecord>, last: bool) -> Result<(Output, Pieces), Error> {
    let (answer, answered) = oneshot::channel();
    let work = move || {
        // Who asked may be gone.
        let _ = answer.send(output.write(&records, last));
    };
    session.api.verbs.aside(Box::new(work)).await?;
    answered.await.map_err(|_| Error::Internal("an answer was not written".to_owned()))
}
