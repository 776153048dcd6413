//! One caller's session: reads frames of asks, has them done side by side, and writes the answers as they come. Reads no
//! further while so much is under way or unread that memory would not be bounded; HTTP/2 then holds the caller back.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::Stream;
use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt};
use lakefall_queue::error::{Error, Result};
use lakefall_queue::ledger::{Query, Reply, SchemaQuery, wire};
use lakefall_queue::{ShardId, TraceContext};
use lakefall_service::trace::{self, FutureExt, KeyValue, Span, SpanKind, context_of};
use prost::Message;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};

use super::super::codec::replica_to_proto;
use super::super::outbox::Outbox;
use super::super::proto::{Answered, Answers, Ask, Asks, Elsewhere, answered, ask};
use super::super::{SESSION_ASKS, SESSION_BYTES};
use super::Host;
use crate::metrics as names;
use crate::node::NotDone;

/// Most items that one answer lists; callers that want more go on from there. Keeps an answer far below a frame's limit.
const LIST: usize = 16_384;
/// After it stopped, a session waits so long for its caller to say that nothing more is on the way.
const HALF_CLOSE: Duration = Duration::from_secs(2);

struct Shared {
    host: Arc<dyn Host>,
    answers: Outbox<Answered>,
    /// The writer took some answers, or is gone.
    taken: Notify,
    /// The writer is gone: so is the caller.
    gone: CancellationToken,
    /// Told to the caller with the next frame.
    stopping: CancellationToken,
}

/// The task that does the work, and the frames that it yields.
pub(super) fn open(
    host: Arc<dyn Host>,
    asks: Streaming<Asks>,
    stop: CancellationToken,
) -> (impl Future<Output = ()> + Send + 'static, impl Stream<Item = Result<Answers, Status>> + Send + 'static) {
    let shared = Arc::new(Shared {
        host,
        answers: Outbox::new(),
        taken: Notify::new(),
        gone: CancellationToken::new(),
        stopping: CancellationToken::new(),
    });
    let frames = Frames { shared: Arc::clone(&shared), told_stopping: false, stopping: None };
    (run(Closing(shared), asks, stop), frames)
}

/// Ends the frames, also when the task panics: the caller must not wait for answers that never come.
struct Closing(Arc<Shared>);

impl Drop for Closing {
    fn drop(&mut self) {
        self.0.answers.close();
    }
}

async fn run(closing: Closing, mut asks: Streaming<Asks>, stop: CancellationToken) {
    let shared = &closing.0;
    let mut under_way: FuturesUnordered<BoxFuture<'static, (usize, Answered)>> = FuturesUnordered::new();
    let (mut bytes, mut open) = (0, true);
    let mut late = None;
    loop {
        let (unread, unread_bytes) = shared.answers.waiting();
        let room = under_way.len() + unread < SESSION_ASKS && bytes + unread_bytes < SESSION_BYTES;
        if !open && under_way.is_empty() {
            return;
        }
        tokio::select! {
            Some((size, answered)) = under_way.next() => {
                bytes -= size;
                put(shared, answered);
            }
            frame = asks.message(), if open && room => match frame {
                Ok(Some(frame)) => {
                    metrics::histogram!(names::RPC_FRAME_ASKS, "side" => "server").record(frame.asks.len() as f64);
                    for ask in frame.asks {
                        let size = ask.encoded_len();
                        bytes += size;
                        let host = Arc::clone(&shared.host);
                        under_way.push(Box::pin(async move { (size, answer(&*host, ask).await) }));
                    }
                }
                Ok(None) => open = false,
                // The caller is gone, or sends what is no frame. Nobody reads answers.
                Err(status) => {
                    tracing::debug!(%status, "a metadata session broke");
                    return;
                }
            },
            () = shared.taken.notified(), if !room => {}
            () = shared.gone.cancelled() => return,
            () = stop.cancelled(), if late.is_none() => {
                late = Some(Instant::now() + HALF_CLOSE);
                shared.stopping.cancel();
            }
            () = until(late), if late.is_some() && open => open = false,
        }
    }
}

async fn until(late: Option<Instant>) {
    match late {
        Some(late) => tokio::time::sleep_until(late).await,
        None => std::future::pending().await,
    }
}

fn put(shared: &Shared, answered: Answered) {
    let size = answered.encoded_len();
    // Refused only when the caller is gone.
    let _ = shared.answers.put(answered, size);
}

async fn answer(host: &dyn Host, ask: Ask) -> Answered {
    let id = ask.id;
    let within = Duration::from_millis(u64::from(ask.within_ms).max(1));
    let span = traced(&ask);
    let done = done(host, ask).with_context(context_of(span.as_ref()));
    let (kind, what) = match tokio::time::timeout(within, done).await {
        Ok(done) => done,
        // Whoever asked has stopped waiting; it may have been handed over.
        Err(_) => ("late", outcome(wire::encode_reply(&Err(Error::unknown("the metadata service did not answer in time"))))),
    };
    if let Some(span) = span.filter(|_| kind != "ok") {
        span.failed(kind, "");
    }
    metrics::counter!(names::RPC_ASKS, "side" => "server", "outcome" => kind).increment(1);
    Answered { id, what: Some(what) }
}

/// A span for what is asked from within one.
fn traced(ask: &Ask) -> Option<Span> {
    if ask.traceparent.is_empty() || !trace::is_enabled() {
        return None;
    }
    let parent = TraceContext::parse(&ask.traceparent).filter(|parent| parent.sampled)?;
    let attributes = vec![
        KeyValue::new("rpc.system", "grpc"),
        KeyValue::new("rpc.service", "lakefall.metadata.v1.Metadata"),
        KeyValue::new("rpc.method", "Session"),
        KeyValue::new("lakefall.shard", i64::from(ask.shard)),
    ];
    Some(Span::start("lakefall.metadata.v1.Metadata/Session", SpanKind::Server, Some(&parent), [], attributes))
}

async fn done(host: &dyn Host, ask: Ask) -> (&'static str, answered::What) {
    let shard = ShardId(ask.shard);
    match ask.what {
        Some(ask::What::Command(bytes)) => match wire::decode_command(bytes) {
            Ok(command) => told(host.execute_here(shard, command).await, wire::encode_reply),
            Err(malformed) => refused(&malformed, wire::encode_reply),
        },
        Some(ask::What::Query(bytes)) => match wire::decode_query(bytes) {
            Ok(query) => told(host.query_here(shard, bounded(query)).await, wire::encode_answer),
            Err(malformed) => refused(&malformed, wire::encode_answer),
        },
        None => refused::<Reply>(&"it is of a kind that this replica does not know: upgrade the metadata replicas", wire::encode_reply),
    }
}

fn told<T>(done: Result<T, NotDone>, encode: impl Fn(&Result<T>) -> Bytes) -> (&'static str, answered::What) {
    match done {
        Ok(done) => ("ok", outcome(encode(&Ok(done)))),
        Err(NotDone::Failed(error)) => ("failed", outcome(encode(&Err(error)))),
        Err(NotDone::Elsewhere(owner)) => {
            ("elsewhere", answered::What::Elsewhere(Elsewhere { owner: owner.as_ref().map(replica_to_proto) }))
        }
    }
}

/// What cannot be read was certainly not done.
fn refused<T>(reason: &dyn std::fmt::Display, encode: impl Fn(&Result<T>) -> Bytes) -> (&'static str, answered::What) {
    ("malformed", outcome(encode(&Err(Error::unavailable(format!("the metadata service cannot read what it was asked: {reason}"))))))
}

fn outcome(bytes: Bytes) -> answered::What {
    answered::What::Outcome(bytes)
}

/// Lists are cut where every caller goes on from the end of what it got.
fn bounded(query: Query) -> Query {
    match query {
        Query::Locate { topic, partition, from, max_bytes, max_extents } => {
            Query::Locate { topic, partition, from, max_bytes, max_extents: max_extents.min(LIST) }
        }
        Query::Compactable { limit, after } => Query::Compactable { limit: limit.min(LIST), after },
        Query::Namespaces(mut page) => {
            page.limit = page.limit.min(LIST);
            Query::Namespaces(page)
        }
        Query::Topics(namespace, mut page) => {
            page.limit = page.limit.min(LIST);
            Query::Topics(namespace, page)
        }
        Query::Cursors(namespace, mut page) => {
            page.limit = page.limit.min(LIST);
            Query::Cursors(namespace, page)
        }
        Query::Queues(namespace, mut page) => {
            page.limit = page.limit.min(LIST);
            Query::Queues(namespace, page)
        }
        Query::Schema(mut query) => {
            if let SchemaQuery::Subjects(_, page) = &mut *query {
                page.limit = page.limit.min(LIST);
            }
            Query::Schema(query)
        }
        Query::QueuePeek(queue, max) => Query::QueuePeek(queue, max.min(LIST as u32)),
        Query::QueueFree { queue, topic, partition, from, most } => {
            Query::QueueFree { queue, topic, partition, from, most: most.min(LIST as u32) }
        }
        Query::Reclaimable { limit, after, after_object, now, grace } => {
            Query::Reclaimable { limit: limit.min(LIST), after, after_object, now, grace }
        }
        other @ (Query::Namespace(_)
        | Query::Topic(..)
        | Query::TopicById(_)
        | Query::Partitions(_)
        | Query::LocateTime { .. }
        | Query::Cursor(..)
        | Query::Objects(_)
        | Query::Position
        | Query::Queue(..)
        | Query::QueueNumbers(_)
        | Query::QueueLeases(_)
        | Query::Usage(_)) => other,
    }
}

/// The frames, made when the connection is free to write one.
struct Frames {
    shared: Arc<Shared>,
    told_stopping: bool,
    stopping: Option<Pin<Box<tokio_util::sync::WaitForCancellationFutureOwned>>>,
}

impl Stream for Frames {
    type Item = Result<Answers, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        let stopping = this.stopping.get_or_insert_with(|| Box::pin(this.shared.stopping.clone().cancelled_owned()));
        let stops = !this.told_stopping && stopping.as_mut().poll(context).is_ready();
        let answers = match this.shared.answers.poll_frame(context, Some) {
            Poll::Ready(Some(answers)) => answers,
            Poll::Ready(None) if !stops => return Poll::Ready(None),
            Poll::Pending if !stops => return Poll::Pending,
            Poll::Ready(None) | Poll::Pending => Vec::new(),
        };
        this.shared.taken.notify_one();
        this.told_stopping |= stops;
        Poll::Ready(Some(Ok(Answers { answers, now_ms: this.shared.host.now().as_millis(), stopping: stops })))
    }
}

impl Drop for Frames {
    fn drop(&mut self) {
        self.shared.gone.cancel();
    }
}
