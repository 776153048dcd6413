//! Topics: create, describe, list, change, delete; their offsets, objects and trimming.

use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use lakefall_queue::topic::{Topic, TopicConfig};
use lakefall_queue::verbs::{Caller, Page, Position, Precondition, Start};
use lakefall_queue::{Error, Offset, PartitionIndex, TopicName};
use serde::Serialize;
use serde_json::{Value, json};

use crate::extract::{From, PathNames, Query, parse_timestamp, precondition, seal_token, single_header};
use crate::problem::{self, Problem, Result};
use crate::produce::options::{idempotency, idempotency_key};
use crate::router::App;
use crate::strict::{json_body, typed};

const JSON: &[&str] = &["application/json"];
const MERGE_PATCH: &[&str] = &["application/merge-patch+json", "application/json"];

/// How often a patch without `If-Match` starts over when somebody else was faster.
pub(crate) const PATCH_TRIES: u32 = 5;

/// An answer with a JSON body.
pub(crate) fn answer(status: StatusCode, body: &impl Serialize) -> Result<Response> {
    let text = serde_json::to_vec(body).map_err(|e| {
        tracing::error!(error = %e, "an answer cannot be written");
        Problem::new(problem::INTERNAL, "the answer cannot be written").unsure()
    })?;
    Ok((status, [(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], text).into_response())
}

/// Adds the ETag.
pub(crate) fn tagged(mut response: Response, version: u64) -> Response {
    if let Ok(tag) = HeaderValue::from_str(&format!("\"{version}\"")) {
        response.headers_mut().insert(header::ETAG, tag);
    }
    response
}

/// A page of a list.
pub(crate) fn page<T: Serialize>(page: &Page<T>) -> Result<Response> {
    let mut body = json!({ "items": page.items });
    if let Some(next) = &page.next {
        body["next_page_token"] = seal_token(next).into();
    }
    answer(StatusCode::OK, &body)
}

/// A refusal under a condition of the caller's: 412 rather than 409.
pub(crate) fn conditional(condition: Precondition) -> impl Fn(Error) -> Problem {
    move |error| {
        let taken = matches!(error, Error::AlreadyExists { .. });
        let problem = Problem::from(error);
        if taken && condition == Precondition::Absent { problem.recoded(problem::PRECONDITION_FAILED) } else { problem }
    }
}

fn created(topic: &Topic, new: bool) -> Result<Response> {
    let status = if new { StatusCode::CREATED } else { StatusCode::OK };
    let mut response = tagged(answer(status, topic)?, topic.version);
    if new && let Ok(place) = HeaderValue::from_str(&format!("/v1/topics/{}", topic.name)) {
        response.headers_mut().insert(header::LOCATION, place);
    }
    Ok(response)
}

fn config(api: &App, body: Value) -> Result<TopicConfig> {
    let config: TopicConfig = typed(body)?;
    config.check(&api.limits())?;
    Ok(config)
}

/// Creates a topic.
#[utoipa::path(
    post, path = "/v1/topics", tag = "topics", operation_id = "create_topic",
    params(("Idempotency-Key" = Option<String>, Header, description = "Replays the first answer for 24 hours", min_length = 1, max_length = 255)),
    request_body = crate::schema::NewTopic,
    responses((status = 201, description = "Created", body = crate::schema::Topic), crate::schema::Refusals)
)]
pub(crate) async fn create(State(api): State<App>, From(caller): From, request: Request) -> Result<Response> {
    Query::parse(request.uri(), &[])?;
    let (parts, raw, mut body) = json_body(&api, &caller, request, JSON).await?;
    let name = match body.as_object_mut().and_then(|members| members.remove("name")) {
        Some(Value::String(name)) => TopicName::new(&name)?,
        _ => return Err(Problem::invalid("name", "name must be the topic's name")),
    };
    let idempotency = idempotency(idempotency_key(&parts.headers)?, &parts, &raw);
    let config = config(&api, body)?;
    let (topic, new) = api.verbs.put_topic(&caller, &name, config, Precondition::Absent, idempotency).await?;
    created(&topic, new)
}

/// Creates a topic or replaces its settings.
#[utoipa::path(
    put, path = "/v1/topics/{topic}", tag = "topics", operation_id = "put_topic",
    params(crate::schema::TopicPath, crate::schema::WriteCondition),
    request_body = crate::schema::TopicSettings,
    responses((status = 200, description = "Replaced", body = crate::schema::Topic), (status = 201, description = "Created", body = crate::schema::Topic), crate::schema::Refusals)
)]
pub(crate) async fn put(State(api): State<App>, From(caller): From, names: PathNames, request: Request) -> Result<Response> {
    Query::parse(request.uri(), &[])?;
    let name = names.topic()?;
    let condition = precondition(request.headers())?;
    let (parts, raw, body) = json_body(&api, &caller, request, JSON).await?;
    let idempotency = idempotency(idempotency_key(&parts.headers)?, &parts, &raw);
    let config = config(&api, body)?;
    let (topic, new) = api.verbs.put_topic(&caller, &name, config, condition, idempotency).await.map_err(conditional(condition))?;
    created(&topic, new)
}

/// A topic, its settings and what its partitions hold.
#[utoipa::path(
    get, path = "/v1/topics/{topic}", tag = "topics", operation_id = "describe_topic",
    params(crate::schema::TopicPath, ("If-None-Match" = Option<String>, Header, description = "Answers 304 while the topic's settings are at this ETag")),
    responses((status = 200, description = "The topic", body = crate::schema::TopicDescription), (status = 304, description = "Unchanged"), crate::schema::Refusals)
)]
pub(crate) async fn describe(State(api): State<App>, From(caller): From, names: PathNames, request: Request) -> Result<Response> {
    Query::parse(request.uri(), &[])?;
    let found = api.verbs.describe_topic(&caller, &names.topic()?).await?;
    let known = single_header(request.headers(), &header::IF_NONE_MATCH)?.and_then(crate::extract::parse_etag);
    if known == Some(found.topic.version) {
        return Ok(tagged(StatusCode::NOT_MODIFIED.into_response(), found.topic.version));
    }
    Ok(tagged(answer(StatusCode::OK, &found)?, found.topic.version))
}

/// Changes some settings (JSON Merge Patch, RFC 7396).
#[utoipa::path(
    patch, path = "/v1/topics/{topic}", tag = "topics", operation_id = "patch_topic",
    params(crate::schema::TopicPath, ("If-Match" = Option<String>, Header, description = "Only if the topic is at this ETag")),
    request_body(content((crate::schema::TopicSettings = "application/merge-patch+json"), (crate::schema::TopicSettings = "application/json"))),
    responses((status = 200, description = "Changed", body = crate::schema::Topic), crate::schema::Refusals)
)]
pub(crate) async fn patch(State(api): State<App>, From(caller): From, names: PathNames, request: Request) -> Result<Response> {
    Query::parse(request.uri(), &[])?;
    let name = names.topic()?;
    let condition = precondition(request.headers())?;
    let (_, _, patch) = json_body(&api, &caller, request, MERGE_PATCH).await?;
    let mut tries = 0;
    loop {
        tries += 1;
        let current = api.verbs.describe_topic(&caller, &name).await?.topic;
        let mut merged = typed_back(&current.config)?;
        merge(&mut merged, &patch);
        let wanted = match condition {
            Precondition::Version(_) => condition,
            _ => Precondition::Version(current.version),
        };
        match api.verbs.put_topic(&caller, &name, config(&api, merged)?, wanted, None).await {
            Ok((topic, _)) => return Ok(tagged(answer(StatusCode::OK, &topic)?, topic.version)),
            Err(Error::VersionMismatch { .. }) if wanted != condition && tries < PATCH_TRIES => {}
            Err(error) => return Err(error.into()),
        }
    }
}

fn typed_back(config: &TopicConfig) -> Result<Value> {
    serde_json::to_value(config).map_err(|_| Problem::new(problem::INTERNAL, "the topic's settings cannot be written"))
}

/// RFC 7396: null removes, objects merge, everything else replaces.
pub(crate) fn merge(target: &mut Value, patch: &Value) {
    let (Value::Object(target_members), Value::Object(members)) = (&mut *target, patch) else {
        *target = patch.clone();
        return;
    };
    for (name, value) in members {
        match value {
            Value::Null => drop(target_members.remove(name)),
            Value::Object(_) => merge(target_members.entry(name).or_insert_with(|| json!({})), value),
            _ => drop(target_members.insert(name.clone(), value.clone())),
        }
    }
}

/// Deletes a topic and, in time, its records.
#[utoipa::path(
    delete, path = "/v1/topics/{topic}", tag = "topics", operation_id = "delete_topic",
    params(crate::schema::TopicPath, ("If-Match" = Option<String>, Header, description = "Only if the topic is at this ETag")),
    responses((status = 204, description = "Deleted"), crate::schema::Refusals)
)]
pub(crate) async fn delete(State(api): State<App>, From(caller): From, names: PathNames, request: Request) -> Result<Response> {
    Query::parse(request.uri(), &[])?;
    api.verbs.delete_topic(&caller, &names.topic()?, precondition(request.headers())?).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Topics by name.
#[utoipa::path(
    get, path = "/v1/topics", tag = "topics", operation_id = "list_topics",
    params(crate::schema::PageQuery),
    responses((status = 200, description = "A page of topics", body = crate::schema::TopicList), crate::schema::Refusals)
)]
pub(crate) async fn list(State(api): State<App>, From(caller): From, request: Request) -> Result<Response> {
    let wanted = Query::parse(request.uri(), &["limit", "page_token"])?.page()?;
    page(&api.verbs.list_topics(&caller, wanted).await?)
}

/// What `at` or `to` names: earliest, latest or a time.
pub(crate) fn named_start(field: &str, text: &str) -> Result<Start> {
    match text {
        "earliest" => Ok(Start::Earliest),
        "latest" => Ok(Start::Latest),
        time => parse_timestamp(field, time)
            .map(Start::Timestamp)
            .map_err(|p| p.because(&format!("{field} must be earliest, latest or a time"))),
    }
}

/// A time, `earliest` or `latest` as an offset in each partition.
#[utoipa::path(
    get, path = "/v1/topics/{topic}/offsets", tag = "topics", operation_id = "get_offsets",
    params(crate::schema::TopicPath, crate::schema::OffsetsQuery),
    responses((status = 200, description = "The offsets", body = crate::schema::Offsets), crate::schema::Refusals)
)]
pub(crate) async fn offsets(State(api): State<App>, From(caller): From, names: PathNames, request: Request) -> Result<Response> {
    let query = Query::parse(request.uri(), &["at", "partition"])?;
    let at = named_start("at", query.get("at").unwrap_or("latest"))?;
    let found = api.verbs.offsets(&caller, &names.topic()?, query.partition("partition")?, at).await?;
    let offsets: Vec<Value> = found.iter().map(|p| position(p, Some(p.next))).collect();
    answer(StatusCode::OK, &json!({ "offsets": offsets }))
}

fn position(at: &Position, offset: Option<Offset>) -> Value {
    let mut members = json!({"partition": at.partition, "log_start": at.log_start, "end": at.end});
    if let Some(offset) = offset {
        members["offset"] = offset.0.into();
    }
    if !at.current {
        members["stale"] = true.into();
    }
    members
}

/// Forgets records below an offset.
#[utoipa::path(
    delete, path = "/v1/topics/{topic}/records", tag = "records", operation_id = "trim",
    params(crate::schema::TopicPath, crate::schema::TrimQuery),
    responses((status = 200, description = "Where the log starts now", body = crate::schema::Trimmed), crate::schema::Refusals)
)]
pub(crate) async fn trim(State(api): State<App>, From(caller): From, names: PathNames, request: Request) -> Result<Response> {
    let query = Query::parse(request.uri(), &["before_offset", "partition"])?;
    let before = query.offset("before_offset")?.ok_or_else(|| Problem::invalid("before_offset", "before_offset must be given"))?;
    let starts = api.verbs.trim(&caller, &names.topic()?, query.partition("partition")?, before).await?;
    let partitions: Vec<Value> = starts.iter().map(|p| position(p, None)).collect();
    answer(StatusCode::OK, &json!({ "partitions": partitions }))
}

/// Which objects hold which offsets.
#[utoipa::path(
    get, path = "/v1/topics/{topic}/objects", tag = "topics", operation_id = "list_objects",
    params(crate::schema::TopicPath, crate::schema::ObjectsQuery),
    responses((status = 200, description = "A page of ranges, by offset", body = crate::schema::ObjectList), crate::schema::Refusals)
)]
pub(crate) async fn objects(State(api): State<App>, From(caller): From, names: PathNames, request: Request) -> Result<Response> {
    let query = Query::parse(request.uri(), &["partition", "from_offset", "limit", "page_token"])?;
    let partition = query.partition("partition")?.unwrap_or(PartitionIndex(0));
    let wanted = query.page()?;
    let after = wanted.after.as_deref().map(str::parse::<u64>);
    let from = match after {
        None => query.offset("from_offset")?.unwrap_or_default(),
        Some(Ok(offset)) => Offset(offset),
        Some(Err(_)) => return Err(Problem::invalid("page_token", "this page_token was not given by this list")),
    };
    let found = objects_of(&api, &caller, &names.topic()?, partition, from, wanted.limit).await?;
    page(&found)
}

async fn objects_of(
    api: &App,
    caller: &Caller,
    topic: &TopicName,
    partition: PartitionIndex,
    from: Offset,
    limit: usize,
) -> Result<Page<Value>> {
    let ranges = api.verbs.objects(caller, topic, partition, from, limit).await?;
    let next = ranges.last().filter(|_| ranges.len() >= limit).map(|last| last.first_offset.plus(last.records).to_string());
    let items = ranges.iter().map(|r| {
        json!({
            "object": r.object.to_string(), "level": r.level, "key": r.key, "partition": r.partition, "first_offset": r.first_offset,
            "records": r.records, "position": r.position, "length": r.length, "appended_at": r.appended_at,
        })
    });
    Ok(Page { items: items.collect(), next })
}
