//! Server-sent events: a live tail that resumes where it stopped.
//!
//! Must never poll: between records it sleeps in the verb, and wakes for the heartbeat.

use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderValue, header};
use axum::response::Response;
use bytes::{BufMut, Bytes, BytesMut};
use lakefall_queue::verbs::Fetched;

use super::json::RecordWriter;
use super::plan::{Plan, starts};
use super::{Place, Session, failed};
use crate::edge::Immediate;
use crate::metrics::{self, Open};
use crate::problem::Result;

/// Bytes of keys, values and headers fetched at once.
const PART: usize = 1 << 20;

/// How long a client waits before it connects again.
const HELLO: &[u8] = b"retry: 1000\n: connected\n\n";

const HEARTBEAT: &[u8] = b": heartbeat\n\n";

/// Heartbeats after which a tail of all partitions looks for new ones.
const LOOK_AGAIN: u32 = 4;

/// The answer. Where it begins is settled before, so that what can be refused gets its own status.
pub(super) async fn tail(session: Session, plan: Plan) -> Result<Response> {
    let from = plan.positions(&session).await?;
    let first = session.fetch(plan.next_read(&from, plan.limit.unwrap_or(usize::MAX), PART.min(plan.max_bytes), Duration::ZERO)).await?;
    let longest = Duration::from_secs(session.api.limits().wait_seconds.max(1));
    let beat = session.api.settings.heartbeat.min(longest);
    let writer = RecordWriter::new(&plan.topic, plan.encoding);
    let left = plan.limit.unwrap_or(usize::MAX);
    let state = Tail {
        session,
        plan,
        writer,
        beat,
        left,
        places: Vec::new(),
        first: Some(first),
        idle: 0,
        over: false,
        _open: Open::new(metrics::TAILS),
    };
    let events = futures::stream::unfold(state, |mut state| async move {
        let piece = state.next().await?;
        Some((Ok::<_, std::io::Error>(piece), state))
    });
    let mut response = Response::new(Body::from_stream(events));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response.extensions_mut().insert(Immediate);
    Ok(response)
}

struct Tail {
    session: Session,
    plan: Plan,
    writer: RecordWriter,
    beat: Duration,
    left: usize,
    places: Vec<Place>,
    first: Option<Fetched>,
    idle: u32,
    over: bool,
    _open: Open,
}

impl Tail {
    async fn next(&mut self) -> Option<Bytes> {
        if self.over {
            return None;
        }
        if let Some(first) = self.first.take() {
            let mut out = BytesMut::from(HELLO);
            self.put(&mut out, &first);
            return Some(first.admission.hold(out.freeze()));
        }
        if self.session.api.settings.shutdown.is_cancelled() {
            return None;
        }
        match self.fetch().await {
            Err(problem) => {
                self.over = true;
                let mut out = BytesMut::from(&b"event: problem\ndata: "[..]);
                out.put_slice(&failed(&self.session, &problem));
                out.put_u8(b'\n');
                Some(out.freeze())
            }
            Ok(fetched) if fetched.records.is_empty() => {
                self.idle += 1;
                self.places = fetched.next.iter().map(|p| (p.partition, p.next)).collect();
                self.over = finished(&fetched);
                Some(Bytes::from_static(HEARTBEAT))
            }
            Ok(fetched) => {
                let mut out = BytesMut::new();
                self.put(&mut out, &fetched);
                Some(fetched.admission.hold(out.freeze()))
            }
        }
    }

    async fn fetch(&mut self) -> Result<Fetched> {
        if self.idle >= LOOK_AGAIN {
            self.idle = 0;
            self.plan.add_new_partitions(&self.session, &mut self.places).await?;
        }
        let read = self.plan.next_read(&starts(&self.places), self.left, PART.min(self.plan.max_bytes), self.beat);
        self.session.fetch(read).await
    }

    /// Each event's id is the cursor after it: a client that stops there misses nothing and gets nothing twice.
    fn put(&mut self, out: &mut BytesMut, fetched: &Fetched) {
        if self.places.is_empty() {
            self.places = fetched.next.iter().map(|p| (p.partition, p.next)).collect();
            for record in fetched.records.iter().rev() {
                // Back to the first record of each partition, so that ids count up from there.
                self.reach(record.partition, record.offset);
            }
        }
        for record in &fetched.records {
            self.reach(record.partition, record.offset.plus(1));
            out.put_slice(b"id: ");
            out.put_slice(self.plan.cursor(&self.places).as_bytes());
            out.put_slice(b"\ndata: ");
            self.writer.put(out, record);
            out.put_slice(b"\n\n");
        }
        self.places = fetched.next.iter().map(|p| (p.partition, p.next)).collect();
        self.left -= fetched.records.len().min(self.left);
        self.over = self.left == 0 || finished(fetched);
    }

    fn reach(&mut self, partition: lakefall_queue::PartitionIndex, offset: lakefall_queue::Offset) {
        if let Some(place) = self.places.iter_mut().find(|(p, _)| *p == partition) {
            place.1 = offset;
        }
    }
}

/// Whether the bounds asked for leave nothing more to come.
fn finished(fetched: &Fetched) -> bool {
    !fetched.next.is_empty() && fetched.next.iter().all(|p| p.finished)
}
