//! Queues: create, describe, list, change, delete. What is done with their messages is in the modules.
//!
//! Must never decide what a lease, a filter or a receipt means: that is behind the verbs.

pub(crate) mod bindings;
mod message;
pub(crate) mod receive;
pub(crate) mod redrive;
pub(crate) mod settle;
mod stream;
pub(crate) mod upkeep;

use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use lakefall_queue::queue::{Queue, QueueConfig, QueueStart};
use lakefall_queue::verbs::{Page, Precondition};
use lakefall_queue::{Error, Offset, QueueName};
use serde_json::{Value, json};

use crate::extract::{From, PathNames, Query, parse_etag, precondition, single_header};
use crate::problem::{self, Problem, Result};
use crate::produce::options::{idempotency, idempotency_key};
use crate::produce::produce_to;
use crate::router::App;
use crate::strict::{json_body, typed};
use crate::topics::{PATCH_TRIES, answer, conditional, merge, page, tagged};

pub(crate) const JSON: &[&str] = &["application/json"];
const MERGE_PATCH: &[&str] = &["application/merge-patch+json", "application/json"];

/// A queue as the API shows it: settings, bindings, and the topics that it reads.
fn shown(queue: &Queue) -> Result<Value> {
    let unwritten = |_| Problem::new(problem::INTERNAL, "the queue cannot be written").unsure();
    let mut members = serde_json::to_value(queue).map_err(unwritten)?;
    members["sources"] = queue.sources.iter().map(|source| json!({"topic": source.name, "partitions": source.partitions})).collect();
    Ok(members)
}

/// A queue as an answer, with its ETag.
fn described(status: StatusCode, queue: &Queue) -> Result<Response> {
    Ok(tagged(answer(status, &shown(queue)?)?, queue.version))
}

fn created(queue: &Queue, new: bool) -> Result<Response> {
    let mut response = described(if new { StatusCode::CREATED } else { StatusCode::OK }, queue)?;
    if new && let Ok(place) = HeaderValue::from_str(&format!("/v1/queues/{}", queue.name)) {
        response.headers_mut().insert(header::LOCATION, place);
    }
    Ok(response)
}

fn config(body: Value) -> Result<QueueConfig> {
    let config: QueueConfig = typed(body)?;
    config.check()?;
    check_start("/start/offset", config.start)?;
    Ok(config)
}

/// An offset to start at is one that JSON carries exactly.
fn check_start(pointer: &str, start: QueueStart) -> Result<QueueStart> {
    match start {
        QueueStart::Offset(offset) if offset > Offset::MAX => Err(Problem::invalid(pointer, "an offset is at most 2^53")),
        _ => Ok(start),
    }
}

/// Creates a queue.
#[utoipa::path(
    post, path = "/v1/queues", tag = "queues", operation_id = "create_queue",
    params(("Idempotency-Key" = Option<String>, Header, description = "Replays the first answer for 24 hours", min_length = 1, max_length = 255)),
    request_body = crate::schema::NewQueue,
    responses((status = 201, description = "Created", body = crate::schema::Queue), crate::schema::Refusals)
)]
pub(crate) async fn create(State(api): State<App>, From(caller): From, request: Request) -> Result<Response> {
    Query::parse(request.uri(), &[])?;
    let (parts, raw, mut body) = json_body(&api, &caller, request, JSON).await?;
    let name = match body.as_object_mut().and_then(|members| members.remove("name")) {
        Some(Value::String(name)) => QueueName::new(&name)?,
        _ => return Err(Problem::invalid("name", "name must be the queue's name")),
    };
    let idempotency = idempotency(idempotency_key(&parts.headers)?, &parts, &raw);
    let (queue, new) = api.verbs.put_queue(&caller, &name, config(body)?, Precondition::Absent, idempotency).await?;
    created(&queue, new)
}

/// Creates a queue or replaces its settings.
#[utoipa::path(
    put, path = "/v1/queues/{queue}", tag = "queues", operation_id = "put_queue",
    params(crate::schema::QueuePath, crate::schema::WriteCondition),
    request_body = crate::schema::QueueSettings,
    responses((status = 200, description = "Replaced", body = crate::schema::Queue), (status = 201, description = "Created", body = crate::schema::Queue), crate::schema::Refusals)
)]
pub(crate) async fn put(State(api): State<App>, From(caller): From, names: PathNames, request: Request) -> Result<Response> {
    Query::parse(request.uri(), &[])?;
    let name = names.queue()?;
    let condition = precondition(request.headers())?;
    let (parts, raw, body) = json_body(&api, &caller, request, JSON).await?;
    let idempotency = idempotency(idempotency_key(&parts.headers)?, &parts, &raw);
    let put = api.verbs.put_queue(&caller, &name, config(body)?, condition, idempotency).await;
    let (queue, new) = put.map_err(conditional(condition))?;
    created(&queue, new)
}

/// A queue: its settings, its bindings, and the topics that it reads.
#[utoipa::path(
    get, path = "/v1/queues/{queue}", tag = "queues", operation_id = "describe_queue",
    params(crate::schema::QueuePath, ("If-None-Match" = Option<String>, Header, description = "Answers 304 while the queue is at this ETag")),
    responses((status = 200, description = "The queue", body = crate::schema::Queue), (status = 304, description = "Unchanged"), crate::schema::Refusals)
)]
pub(crate) async fn describe(State(api): State<App>, From(caller): From, names: PathNames, request: Request) -> Result<Response> {
    Query::parse(request.uri(), &[])?;
    let found = api.verbs.describe_queue(&caller, &names.queue()?).await?;
    let known = single_header(request.headers(), &header::IF_NONE_MATCH)?.and_then(parse_etag);
    if known == Some(found.version) {
        return Ok(tagged(StatusCode::NOT_MODIFIED.into_response(), found.version));
    }
    described(StatusCode::OK, &found)
}

/// Changes some settings (JSON Merge Patch, RFC 7396).
#[utoipa::path(
    patch, path = "/v1/queues/{queue}", tag = "queues", operation_id = "patch_queue",
    params(crate::schema::QueuePath, ("If-Match" = Option<String>, Header, description = "Only if the queue is at this ETag")),
    request_body(content((crate::schema::QueueSettings = "application/merge-patch+json"), (crate::schema::QueueSettings = "application/json"))),
    responses((status = 200, description = "Changed", body = crate::schema::Queue), crate::schema::Refusals)
)]
pub(crate) async fn patch(State(api): State<App>, From(caller): From, names: PathNames, request: Request) -> Result<Response> {
    Query::parse(request.uri(), &[])?;
    let name = names.queue()?;
    let condition = precondition(request.headers())?;
    let (_, _, patch) = json_body(&api, &caller, request, MERGE_PATCH).await?;
    let mut tries = 0;
    loop {
        tries += 1;
        let current = api.verbs.describe_queue(&caller, &name).await?;
        let unwritten = |_| Problem::new(problem::INTERNAL, "the queue's settings cannot be written");
        let mut merged = serde_json::to_value(&current.config).map_err(unwritten)?;
        merge(&mut merged, &patch);
        let wanted = match condition {
            Precondition::Version(_) => condition,
            _ => Precondition::Version(current.version),
        };
        match api.verbs.put_queue(&caller, &name, config(merged)?, wanted, None).await {
            Ok((queue, _)) => return described(StatusCode::OK, &queue),
            Err(Error::VersionMismatch { .. }) if wanted != condition && tries < PATCH_TRIES => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Deletes a queue. Its topics stay.
#[utoipa::path(
    delete, path = "/v1/queues/{queue}", tag = "queues", operation_id = "delete_queue",
    params(crate::schema::QueuePath, ("If-Match" = Option<String>, Header, description = "Only if the queue is at this ETag")),
    responses((status = 204, description = "Deleted"), crate::schema::Refusals)
)]
pub(crate) async fn delete(State(api): State<App>, From(caller): From, names: PathNames, request: Request) -> Result<Response> {
    Query::parse(request.uri(), &[])?;
    api.verbs.delete_queue(&caller, &names.queue()?, precondition(request.headers())?).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Queues by name.
#[utoipa::path(
    get, path = "/v1/queues", tag = "queues", operation_id = "list_queues",
    params(crate::schema::PageQuery),
    responses((status = 200, description = "A page of queues", body = crate::schema::QueueList), crate::schema::Refusals)
)]
pub(crate) async fn list(State(api): State<App>, From(caller): From, request: Request) -> Result<Response> {
    let wanted = Query::parse(request.uri(), &["limit", "page_token"])?.page()?;
    let found = api.verbs.list_queues(&caller, wanted).await?;
    let items = found.items.iter().map(shown).collect::<Result<Vec<Value>>>()?;
    page(&Page { items, next: found.next })
}

/// Sends messages to a queue's own topic.
#[utoipa::path(
    post, path = "/v1/queues/{queue}/messages", tag = "messages", operation_id = "send",
    description = "Appends one message or many to the queue's own topic, or to the only one that it reads: bodies, options and answers are those of producing.",
    params(
        crate::schema::QueuePath,
        crate::schema::ProduceQuery,
        ("Idempotency-Key" = Option<String>, Header, description = "Replays the first answer for 24 hours; 1 to 255 visible ASCII characters", min_length = 1, max_length = 255),
    ),
    request_body(
        description = "Any other media type is stored byte for byte as one message's value.",
        content(
            (crate::schema::ProduceBody = "application/json"),
            (String = "application/x-ndjson"),
            (crate::schema::AnyObject = "application/cloudevents+json"),
            (Vec<crate::schema::AnyObject> = "application/cloudevents-batch+json"),
            (Vec<u8> = "application/vnd.apache.arrow.stream"),
            (Vec<u8> = "application/octet-stream"),
        )
    ),
    responses((status = 200, description = "Stored", body = crate::schema::ProduceAnswer), crate::schema::Refusals)
)]
pub(crate) async fn send(State(api): State<App>, From(caller): From, names: PathNames, request: Request) -> Result<Response> {
    let topic = api.verbs.queue_topic(&caller, &names.queue()?).await?;
    produce_to(api, caller, topic, request).await
}
