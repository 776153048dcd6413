//! `POST /v1/topics/{topic}/request`: a record is sent, and the answer to it awaited.
//!
//! Must never wait beyond the server's bound, nor say that nothing happened once the record may be stored.

use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::Response;
use bytes::{Bytes, BytesMut};
use lakefall_queue::verbs::{Caller, Request as Question};
use lakefall_queue::{Error, Record, TopicName};

use super::options::{idempotency_key, shape};
use super::record::Shape;
use super::{Kind, cloudevents, json, raw};
use crate::body::Incoming;
use crate::extract::{From, PathNames, Query, media_type, preferred_wait};
use crate::problem::{self, Problem, Result};
use crate::read::json::RecordWriter;
use crate::read::plan::Encoding;
use crate::router::App;

/// How long to wait where the caller does not say.
const WAIT: Duration = Duration::from_secs(30);

/// Sends a request and waits for its reply.
#[utoipa::path(
    post, path = "/v1/topics/{topic}/request", tag = "records", operation_id = "request",
    description = "Appends one record and answers the first record with the same `correlation_id` on the reply topic. The record gets a correlation id if it has none. Where nobody replies in time, the answer is 504 `no_reply`, which says where the request is stored.",
    params(crate::schema::TopicPath, crate::schema::RequestQuery),
    request_body(
        description = "One record, as it is produced.",
        content(
            (crate::schema::NewRecord = "application/json"),
            (crate::schema::AnyObject = "application/cloudevents+json"),
            (Vec<u8> = "application/octet-stream"),
        )
    ),
    responses((status = 200, description = "The reply", body = crate::schema::StoredRecord), crate::schema::Refusals)
)]
pub(crate) async fn request(State(api): State<App>, From(caller): From, names: PathNames, request: Request) -> Result<Response> {
    let (parts, body) = request.into_parts();
    let topic = names.topic()?;
    let query = Query::parse(&parts.uri, &["wait", "reply_to", "encoding"])?;
    let longest = Duration::from_secs(api.limits().wait_seconds);
    let wait = query.duration("wait", longest)?.or_else(|| preferred_wait(&parts.headers, longest)).unwrap_or(WAIT.min(longest));
    let reply_to = query.get("reply_to").map(TopicName::new).transpose()?;
    let encoding = Encoding::read(&query)?;
    if idempotency_key(&parts.headers)?.is_some() {
        return Err(Problem::new(problem::NOT_SUPPORTED, "a request takes no Idempotency-Key: give the record a dedup_id"));
    }
    let kind = Kind::of(media_type(&parts.headers)?.as_deref(), &parts.headers);
    if matches!(kind, Kind::Lines | Kind::EventBatch | Kind::Arrow) {
        return Err(Problem::new(problem::UNSUPPORTED_MEDIA_TYPE, "a request is one record: this media type carries many"));
    }
    kind.check_headers(&parts.headers)?;
    let shape = shape(&api, &parts.headers);
    let incoming = Incoming::new(&parts.headers, body, api.settings.max_decompressed_ratio)?;
    let (body, admission) = incoming.collect(&*api.verbs, &caller, shape.limits.batch_bytes).await?;
    let record = one_record(kind, &body, &parts.headers, &shape)?;
    let (topic, reply) = ask(&api, &caller, Question { topic, record, reply_to, wait, admission }).await?;
    let mut out = BytesMut::with_capacity(reply.payload_bytes() + 256);
    RecordWriter::new(&topic, encoding).put(&mut out, &reply);
    let mut response = Response::new(Body::from(out.freeze()));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(response)
}

async fn ask(api: &App, caller: &Caller, question: Question) -> Result<(TopicName, lakefall_queue::StoredRecord)> {
    tokio::select! {
        answer = api.verbs.request(caller, question) => Ok(answer?),
        () = api.settings.shutdown.cancelled() => Err(Error::unknown("the server stops, and no reply came so far").into()),
    }
}

fn one_record(kind: Kind, body: &Bytes, headers: &HeaderMap, shape: &Shape) -> Result<Record> {
    match kind {
        Kind::Json => json::parse_one(json::utf8(body)?, body, shape),
        Kind::Event => cloudevents::structured(body, headers, shape),
        Kind::EventBinary => cloudevents::binary(body, headers, shape),
        Kind::Raw | Kind::Lines | Kind::EventBatch | Kind::Arrow => raw::parse(body, headers, shape),
    }
}
