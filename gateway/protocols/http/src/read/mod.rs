//! Reading: where from is told by the query, in which form by `Accept`.
//!
//! Must never poll: waiting is the verb's, and ends when the process shuts down.

mod arrow;
mod cursor;
pub(crate) mod json;
mod ndjson;
pub(crate) mod plan;
mod sse;

use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;
use bytes::{Bytes, BytesMut};
use lakefall_queue::verbs::{Caller, Fetched, Read};
use lakefall_queue::{PartitionIndex, TopicName};

use self::json::RecordWriter;
use self::plan::{Plan, Scope};
use crate::extract::{From, PathNames};
use crate::metrics;
use crate::problem::{self, Problem, Result};
use crate::router::App;

/// What a read may be answered as, the preferred first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Json,
    Lines,
    Events,
    Arrow,
    Value,
}

const FORMS: &[(&str, Form)] = &[
    ("application/json", Form::Json),
    ("application/x-ndjson", Form::Lines),
    ("application/ndjson", Form::Lines),
    ("text/event-stream", Form::Events),
    ("application/vnd.apache.arrow.stream", Form::Arrow),
    ("application/octet-stream", Form::Value),
    ("application/*", Form::Json),
    ("*/*", Form::Json),
];

/// The first form that the caller names and we know.
fn form(headers: &HeaderMap) -> Result<Form> {
    let Some(accept) = headers.get(header::ACCEPT) else { return Ok(Form::Json) };
    let items = accept.to_str().unwrap_or("").split(',').map(|item| item.split(';').next().unwrap_or("").trim());
    for item in items {
        if let Some((_, form)) = FORMS.iter().find(|(name, _)| name.eq_ignore_ascii_case(item)) {
            return Ok(*form);
        }
    }
    let names: Vec<&str> = FORMS.iter().take(6).map(|(name, _)| *name).collect();
    Err(Problem::new(problem::NOT_ACCEPTABLE, format!("records come as {}", names.join(", "))))
}

/// Reads one partition.
#[utoipa::path(
    get, path = "/v1/topics/{topic}/partitions/{partition}/records", tag = "records", operation_id = "read_partition",
    description = "Records of one partition from exactly one of offset, timestamp, from or last. `Accept` chooses the form: a JSON page, an NDJSON or Arrow stream up to the end as it stood when the request came, server-sent events, or one value.",
    params(crate::schema::PartitionPath, crate::schema::ReadQuery),
    responses(
        (status = 200, description = "Records", content(
            (crate::schema::PartitionPage = "application/json"), (String = "application/x-ndjson"), (String = "text/event-stream"),
            (Vec<u8> = "application/vnd.apache.arrow.stream"), (Vec<u8> = "application/octet-stream"))),
        (status = 204, description = "No value there (octet-stream only)"),
        crate::schema::Refusals,
    )
)]
pub(crate) async fn read_partition(State(api): State<App>, From(caller): From, names: PathNames, request: Request) -> Result<Response> {
    let scope = Scope::Partition(names.partition()?);
    read(api, caller, names.topic()?, scope, request).await
}

/// Reads all partitions.
#[utoipa::path(
    get, path = "/v1/topics/{topic}/records", tag = "records", operation_id = "read_topic",
    description = "Records of all partitions, from one of the starts or from the `cursor` of the last answer.",
    params(crate::schema::TopicPath, crate::schema::ReadQuery, crate::schema::CursorQuery),
    responses(
        (status = 200, description = "Records", content(
            (crate::schema::TopicPage = "application/json"), (String = "application/x-ndjson"), (String = "text/event-stream"),
            (Vec<u8> = "application/vnd.apache.arrow.stream"), (Vec<u8> = "application/octet-stream"))),
        (status = 204, description = "No value there (octet-stream only)"),
        crate::schema::Refusals,
    )
)]
pub(crate) async fn read_topic(State(api): State<App>, From(caller): From, names: PathNames, request: Request) -> Result<Response> {
    read(api, caller, names.topic()?, Scope::Topic, request).await
}

async fn read(api: App, caller: Caller, topic: TopicName, scope: Scope, request: Request) -> Result<Response> {
    let form = form(request.headers())?;
    let plan = Plan::read(&api, topic, scope, form, &request)?;
    drop(request);
    let session = Session { api, caller };
    match form {
        Form::Json => page(&session, plan).await,
        Form::Lines => ndjson::stream(session, plan, ndjson::Format::Lines).await,
        Form::Arrow => ndjson::stream(session, plan, ndjson::Format::Arrow(Box::new(arrow::Encoder::new()?))).await,
        Form::Events => sse::tail(session, plan).await,
        Form::Value => value(&session, plan).await,
    }
}

/// Who reads.
#[derive(Clone)]
struct Session {
    api: App,
    caller: Caller,
}

impl Session {
    /// Reads; a wait ends early, with what is there, when the process shuts down.
    async fn fetch(&self, read: Read) -> Result<Fetched> {
        let waits = !read.wait.is_zero();
        let mut at_once = read.clone();
        at_once.wait = Duration::ZERO;
        let verbs = &self.api.verbs;
        let fetched = tokio::select! {
            fetched = verbs.read(&self.caller, read) => fetched?,
            () = self.api.settings.shutdown.cancelled(), if waits => verbs.read(&self.caller, at_once).await?,
        };
        ::metrics::counter!(metrics::READ).increment(fetched.records.len() as u64);
        Ok(fetched)
    }
}

async fn page(session: &Session, plan: Plan) -> Result<Response> {
    let positions = plan.positions(session).await?;
    let read = plan.next_read(&positions, plan.limit_or_page(), plan.max_bytes, plan.wait);
    let fetched = session.fetch(read).await?.certain()?;
    let bytes: usize = fetched.records.iter().map(|r| r.payload_bytes() + 256).sum();
    let mut out = BytesMut::with_capacity(bytes + 256);
    let mut writer = RecordWriter::new(&plan.topic, plan.encoding);
    json::put_page(&mut out, &mut writer, &fetched, plan.scope, &plan.topic);
    let mut response = Response::new(Body::from(fetched.admission.hold(out.freeze())));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(response)
}

/// One record's value, as it was sent.
async fn value(session: &Session, plan: Plan) -> Result<Response> {
    let positions = plan.positions(session).await?;
    let fetched = session.fetch(plan.next_read(&positions, 1, plan.max_bytes, plan.wait)).await?.certain()?;
    let admission = fetched.admission;
    let mut response = Response::new(Body::empty());
    let found = fetched.records.into_iter().next();
    let Some((record, value)) = found.and_then(|mut record| record.value.take().map(|value| (record, value))) else {
        *response.status_mut() = StatusCode::NO_CONTENT;
        return Ok(response);
    };
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    headers.insert("lakefall-partition", HeaderValue::from(record.partition.0));
    headers.insert("lakefall-offset", HeaderValue::from(record.offset.0));
    if let Ok(at) = HeaderValue::from_str(&record.timestamp.to_string()) {
        headers.insert("lakefall-timestamp", at);
    }
    if let Some(key) = record.key.and_then(|key| HeaderValue::from_bytes(&key).ok()) {
        headers.insert("lakefall-key", key);
    }
    *response.body_mut() = Body::from(admission.hold(value));
    Ok(response)
}

/// What a streamed answer ends with when reading fails after it began: the problem, then a broken body, so that
/// nobody takes the answer for whole.
fn failed(session: &Session, problem: &Problem) -> Bytes {
    tracing::warn!(request_id = &*session.caller.request_id, code = problem.code().name, "a streamed read failed");
    format!("{}\n", problem.to_json(&session.caller.request_id)).into()
}

/// A place in a partition that a reader has reached.
type Place = (PartitionIndex, lakefall_queue::Offset);
