//! Leases handed out: one receive, a stream of them, and looks that lease nothing.
//!
//! Must never poll: waiting is the verb's, and ends when the process shuts down.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderValue, header};
use axum::response::Response;
use lakefall_queue::QueueName;
use lakefall_queue::queue::{Delivery, LEASE_MAX, RECEIVE_MAX, Receive};
use lakefall_queue::verbs::Caller;
use serde::Deserialize;

use super::message::{MessageWriter, span};
use super::{JSON, stream};
use crate::extract::{From, PathNames, Query, preferred_wait};
use crate::metrics;
use crate::problem::{Problem, Result};
use crate::read::plan::Encoding;
use crate::router::{Api, App};
use crate::strict::{json_body, typed};

/// Messages of a look where the caller names no number.
const LOOK_DEFAULT: u32 = 100;

/// Longest `request_id`, in bytes.
const REQUEST_ID_MAX: usize = 255;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ReceiveIn {
    #[serde(default)]
    max: Option<u64>,
    #[serde(default)]
    lease: Option<String>,
    #[serde(default)]
    wait: Option<String>,
    #[serde(default)]
    request_id: Option<Arc<str>>,
}

fn at_most(max: Option<u64>, default: u32) -> Result<u32> {
    match max {
        None => Ok(default),
        Some(max) if (1..=u64::from(RECEIVE_MAX)).contains(&max) => Ok(max as u32),
        Some(_) => Err(Problem::invalid("/max", format!("max must be 1 to {RECEIVE_MAX}"))),
    }
}

impl ReceiveIn {
    fn check(self, api: &Api, query: &Query<'_>, parts: &Parts) -> Result<Receive> {
        let longest = Duration::from_secs(api.limits().wait_seconds);
        let wait = match (self.wait, query.duration("wait", longest)?) {
            (Some(_), Some(_)) => return Err(Problem::invalid("/wait", "wait is given in the query and in the body")),
            (Some(text), None) => span("/wait", &text, longest, &format!("{}s", longest.as_secs()))?,
            (None, given) => given.or_else(|| preferred_wait(&parts.headers, longest)).unwrap_or_default(),
        };
        if self.request_id.as_ref().is_some_and(|id| id.is_empty() || id.len() > REQUEST_ID_MAX) {
            return Err(Problem::invalid("/request_id", format!("request_id must be 1 to {REQUEST_ID_MAX} bytes")));
        }
        Ok(Receive {
            max: at_most(self.max, 1)?,
            max_bytes: api.limits().read_bytes,
            lease: self.lease.map(|text| span("/lease", &text, LEASE_MAX, "12h")).transpose()?,
            wait,
            request_id: self.request_id,
        })
    }
}

/// Leases messages.
#[utoipa::path(
    post, path = "/v1/queues/{queue}/receive", tag = "messages", operation_id = "receive",
    description = "Leases up to `max` messages: nobody else gets them until `lease_until`, unless they are given back. An empty body means one message, at once. Repeated with the same `request_id`, it answers the same leases again, as long as they last.",
    params(crate::schema::QueuePath, crate::schema::ReceiveQuery, ("Prefer" = Option<String>, Header, description = "`wait=20`: how long to wait for a first message, in seconds")),
    request_body = crate::schema::ReceiveBody,
    responses((status = 200, description = "Messages; none if the wait ended with nothing", body = crate::schema::Messages), crate::schema::Refusals)
)]
pub(crate) async fn receive(State(api): State<App>, From(caller): From, names: PathNames, request: Request) -> Result<Response> {
    let queue = names.queue()?;
    let (parts, _, body) = json_body(&api, &caller, request, JSON).await?;
    let query = Query::parse(&parts.uri, &["wait", "encoding"])?;
    let encoding = Encoding::read(&query)?;
    let wanted = typed::<ReceiveIn>(body)?.check(&api, &query, &parts)?;
    let waits = !wanted.wait.is_zero();
    let delivery = tokio::select! {
        delivery = api.verbs.receive(&caller, &queue, wanted) => delivery?,
        // Nothing is leased to a caller who is about to be hung up on.
        () = api.settings.shutdown.cancelled(), if waits => Delivery::default(),
    };
    ::metrics::counter!(metrics::RECEIVED).increment(delivery.messages.len() as u64);
    Ok(messages(delivery, encoding))
}

fn messages(delivery: Delivery, encoding: Option<Encoding>) -> Response {
    let mut response = Response::new(Body::from(MessageWriter::new(encoding).page(delivery)));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// Leases messages as they come.
#[utoipa::path(
    get, path = "/v1/queues/{queue}/messages", tag = "messages", operation_id = "stream_messages",
    description = "Leases messages to this caller as they come, at most `credit` that are not settled: each ack, nack or reject makes room for another. `Accept` chooses NDJSON (a message per line; an empty line is a heartbeat) or server-sent events (a comment is a heartbeat). Goes on until the caller or the server leaves; a failure is the last line or an event `problem`.",
    params(crate::schema::QueuePath, crate::schema::StreamQuery),
    responses((status = 200, description = "Messages", content((String = "application/x-ndjson"), (String = "text/event-stream"))), crate::schema::Refusals)
)]
pub(crate) async fn messages_stream(State(api): State<App>, From(caller): From, names: PathNames, request: Request) -> Result<Response> {
    let form = stream::Form::of(request.headers())?;
    let query = Query::parse(request.uri(), &["credit", "lease", "encoding"])?;
    let credit = query.number("credit", 1, RECEIVE_MAX)?.unwrap_or(LOOK_DEFAULT);
    let lease = query.get("lease").map(|text| span("lease", text, LEASE_MAX, "12h")).transpose()?;
    let writer = MessageWriter::new(Encoding::read(&query)?);
    let consumer = api.verbs.consume(&caller, &names.queue()?, credit, lease).await?;
    Ok(stream::answer(api, caller, form, writer, consumer))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PeekIn {
    #[serde(default)]
    max: Option<u64>,
}

/// The next messages, without leasing them.
#[utoipa::path(
    post, path = "/v1/queues/{queue}/peek", tag = "messages", operation_id = "peek",
    params(crate::schema::QueuePath, crate::schema::EncodingQuery),
    request_body = crate::schema::PeekBody,
    responses((status = 200, description = "Messages without receipts", body = crate::schema::Messages), crate::schema::Refusals)
)]
pub(crate) async fn peek(State(api): State<App>, From(caller): From, names: PathNames, request: Request) -> Result<Response> {
    let queue = names.queue()?;
    let (parts, _, body) = json_body(&api, &caller, request, JSON).await?;
    let encoding = Encoding::read(&Query::parse(&parts.uri, &["encoding"])?)?;
    let max = at_most(typed::<PeekIn>(body)?.max, 1)?;
    Ok(messages(api.verbs.peek(&caller, &queue, max).await?, encoding))
}

/// The next dead letters, without leasing them.
#[utoipa::path(
    get, path = "/v1/queues/{queue}/dead-letters", tag = "messages", operation_id = "dead_letters",
    description = "The next messages of the queue on the dead-letter topic, which is named like it: they can be received, redriven and purged there.",
    params(crate::schema::QueuePath, crate::schema::DeadLettersQuery),
    responses((status = 200, description = "Messages without receipts", body = crate::schema::Messages), crate::schema::Refusals)
)]
pub(crate) async fn dead_letters(State(api): State<App>, From(caller): From, names: PathNames, request: Request) -> Result<Response> {
    let query = Query::parse(request.uri(), &["limit", "encoding"])?;
    let limit = query.number("limit", 1, RECEIVE_MAX)?.unwrap_or(LOOK_DEFAULT);
    let encoding = Encoding::read(&query)?;
    let dead = dead_letter_queue(&api, &caller, &names.queue()?).await?;
    Ok(messages(api.verbs.peek(&caller, &dead, limit).await?, encoding))
}

async fn dead_letter_queue(api: &App, caller: &Caller, queue: &QueueName) -> Result<QueueName> {
    let settings = api.verbs.describe_queue(caller, queue).await?.config;
    match &settings.dead_letter {
        Some(dead_letter) => Ok((&dead_letter.topic).into()),
        None => Err(Problem::invalid("queue", format!("queue {queue} keeps no dead letters: set its dead_letter.topic"))),
    }
}
