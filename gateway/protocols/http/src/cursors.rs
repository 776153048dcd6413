//! Named consumer positions: move, read, list, reset, forget.

use std::collections::BTreeMap;

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use lakefall_queue::verbs::{Admission, Caller, Commit, Cursor, CursorMove, Page, Precondition, Start};
use lakefall_queue::{CursorName, Error, Offset, PartitionIndex, TopicName};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::extract::{From, PathNames, Query, no_condition, precondition};
use crate::problem::{self, Problem, Result};
use crate::router::App;
use crate::strict::{json_body, typed};
use crate::topics::{answer, named_start, page, tagged};

const JSON: &[&str] = &["application/json"];

/// Offsets by partition, as JSON writes them.
pub(crate) type OffsetsIn = BTreeMap<String, u64>;

/// Checks offsets by partition.
pub(crate) fn offsets(given: OffsetsIn) -> Result<Vec<(PartitionIndex, Offset)>> {
    if given.is_empty() {
        return Err(Problem::invalid("offsets", "offsets must name at least one partition, like {\"0\": 123}"));
    }
    let wrong = |name: &str| Problem::invalid(format!("offsets/{name}"), "offsets are {\"<partition>\": <0 to 2^53>}");
    let check = |(name, offset): (String, u64)| match name.parse::<u32>() {
        Ok(partition) if offset <= Offset::MAX.0 && partition.to_string() == name => Ok((PartitionIndex(partition), Offset(offset))),
        _ => Err(wrong(&name)),
    };
    given.into_iter().map(check).collect()
}

fn in_topic(cursor: &Cursor) -> Value {
    let offsets: Map<String, Value> = cursor.positions.iter().map(|p| (p.partition.to_string(), p.offset.0.into())).collect();
    let lag: Map<String, Value> = cursor.positions.iter().map(|p| (p.partition.to_string(), p.lag.into())).collect();
    let total: u64 = cursor.positions.iter().map(|p| p.lag).sum();
    json!({
        "cursor": cursor.name, "topic": cursor.topic, "version": cursor.version, "updated_at": cursor.updated_at,
        "offsets": offsets, "lag": total, "lag_by_partition": lag,
    })
}

fn whole(name: &CursorName, topics: &[Cursor]) -> Result<Response> {
    let lag: u64 = topics.iter().flat_map(|c| &c.positions).map(|p| p.lag).sum();
    let topics: Vec<Value> = topics.iter().map(in_topic).collect();
    answer(StatusCode::OK, &json!({ "name": name, "lag": lag, "topics": topics }))
}

async fn find(api: &App, caller: &Caller, cursor: &CursorName) -> Result<Vec<Cursor>> {
    let found = api.verbs.get_cursor(caller, cursor).await?;
    if found.is_empty() { Err(Error::CursorNotFound(cursor.clone()).into()) } else { Ok(found) }
}

async fn find_in(api: &App, caller: &Caller, cursor: &CursorName, topic: &TopicName) -> Result<Cursor> {
    let found = find(api, caller, cursor).await?.into_iter().find(|c| c.topic == *topic);
    found.ok_or_else(|| Problem::new(problem::CURSOR_NOT_FOUND, format!("cursor {cursor} has no position in topic {topic}")))
}

/// Cursors by name, one item for each topic in which a cursor stands.
#[utoipa::path(
    get, path = "/v1/cursors", tag = "cursors", operation_id = "list_cursors",
    params(crate::schema::PageQuery),
    responses((status = 200, description = "A page of cursors", body = crate::schema::CursorList), crate::schema::Refusals)
)]
pub(crate) async fn list(State(api): State<App>, From(caller): From, request: Request) -> Result<Response> {
    let wanted = Query::parse(request.uri(), &["limit", "page_token"])?.page()?;
    let found = api.verbs.list_cursors(&caller, wanted).await?;
    page(&Page { items: found.items.iter().map(in_topic).collect::<Vec<_>>(), next: found.next })
}

/// A cursor in every topic where it stands, with its lag.
#[utoipa::path(
    get, path = "/v1/cursors/{cursor}", tag = "cursors", operation_id = "get_cursor",
    params(crate::schema::CursorPath),
    responses((status = 200, description = "The cursor", body = crate::schema::Cursor), crate::schema::Refusals)
)]
pub(crate) async fn get(State(api): State<App>, From(caller): From, names: PathNames, request: Request) -> Result<Response> {
    Query::parse(request.uri(), &[])?;
    let name = names.cursor()?;
    whole(&name, &find(&api, &caller, &name).await?)
}

/// A cursor in one topic.
#[utoipa::path(
    get, path = "/v1/cursors/{cursor}/topics/{topic}", tag = "cursors", operation_id = "get_cursor_in_topic",
    params(crate::schema::CursorPath, crate::schema::TopicPath),
    responses((status = 200, description = "The cursor", body = crate::schema::CursorInTopic), crate::schema::Refusals)
)]
pub(crate) async fn get_in_topic(State(api): State<App>, From(caller): From, names: PathNames, request: Request) -> Result<Response> {
    Query::parse(request.uri(), &[])?;
    let cursor = find_in(&api, &caller, &names.cursor()?, &names.topic()?).await?;
    Ok(tagged(answer(StatusCode::OK, &in_topic(&cursor))?, cursor.version))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MoveIn {
    offsets: OffsetsIn,
}

/// Moves a cursor in one topic; partitions not named stay where they are.
#[utoipa::path(
    put, path = "/v1/cursors/{cursor}/topics/{topic}", tag = "cursors", operation_id = "put_cursor",
    params(crate::schema::CursorPath, crate::schema::TopicPath, crate::schema::WriteCondition),
    request_body = crate::schema::CursorOffsets,
    responses((status = 200, description = "Moved", body = crate::schema::CursorInTopic), crate::schema::Refusals)
)]
pub(crate) async fn put(State(api): State<App>, From(caller): From, names: PathNames, request: Request) -> Result<Response> {
    Query::parse(request.uri(), &[])?;
    let (cursor, topic) = (names.cursor()?, names.topic()?);
    let if_version = match precondition(request.headers())? {
        Precondition::Always => None,
        Precondition::Absent => Some(0),
        Precondition::Version(version) => Some(version),
        Precondition::Present => Some(find_in(&api, &caller, &cursor, &topic).await?.version),
    };
    let (_, _, body) = json_body(&api, &caller, request, JSON).await?;
    let given: MoveIn = typed(body)?;
    let change = CursorMove { cursor, topic, offsets: offsets(given.offsets)?, if_version };
    let moved = api.verbs.put_cursor(&caller, change).await?;
    Ok(tagged(answer(StatusCode::OK, &in_topic(&moved))?, moved.version))
}

/// Forgets a cursor everywhere.
#[utoipa::path(
    delete, path = "/v1/cursors/{cursor}", tag = "cursors", operation_id = "delete_cursor",
    params(crate::schema::CursorPath),
    responses((status = 204, description = "Forgotten"), crate::schema::Refusals)
)]
pub(crate) async fn delete(State(api): State<App>, From(caller): From, names: PathNames, request: Request) -> Result<Response> {
    Query::parse(request.uri(), &[])?;
    no_condition(request.headers(), "deleting a cursor")?;
    api.verbs.delete_cursor(&caller, &names.cursor()?, None).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Forgets a cursor in one topic.
#[utoipa::path(
    delete, path = "/v1/cursors/{cursor}/topics/{topic}", tag = "cursors", operation_id = "delete_cursor_in_topic",
    params(crate::schema::CursorPath, crate::schema::TopicPath),
    responses((status = 204, description = "Forgotten"), crate::schema::Refusals)
)]
pub(crate) async fn delete_in_topic(State(api): State<App>, From(caller): From, names: PathNames, request: Request) -> Result<Response> {
    Query::parse(request.uri(), &[])?;
    no_condition(request.headers(), "deleting a cursor")?;
    api.verbs.delete_cursor(&caller, &names.cursor()?, Some(&names.topic()?)).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ResetIn {
    to: Value,
    #[serde(default)]
    topic: Option<TopicName>,
}

enum Target {
    Start(Start),
    Offsets(Vec<(PartitionIndex, Offset)>),
}

impl Target {
    fn read(to: Value) -> Result<Self> {
        match to {
            Value::String(text) => named_start("to", &text).map(Self::Start),
            Value::Number(millis) => named_start("to", &millis.to_string()).map(Self::Start),
            Value::Object(_) => offsets(typed::<MoveIn>(to)?.offsets).map(Self::Offsets),
            _ => Err(Problem::invalid("to", "to must be \"earliest\", \"latest\", a time or {\"offsets\": {…}}")),
        }
    }
}

/// Puts a cursor somewhere else, in one topic or in all where it stands, all or nothing.
#[utoipa::path(
    post, path = "/v1/cursors/{cursor}/reset", tag = "cursors", operation_id = "reset_cursor",
    params(crate::schema::CursorPath),
    request_body = crate::schema::CursorReset,
    responses((status = 200, description = "The cursor as it stands now", body = crate::schema::Cursor), crate::schema::Refusals)
)]
pub(crate) async fn reset(State(api): State<App>, From(caller): From, names: PathNames, request: Request) -> Result<Response> {
    Query::parse(request.uri(), &[])?;
    let name = names.cursor()?;
    let (_, _, body) = json_body(&api, &caller, request, JSON).await?;
    let given: ResetIn = typed(body)?;
    let target = Target::read(given.to)?;
    let topics = match given.topic {
        Some(topic) => vec![topic],
        None => find(&api, &caller, &name).await?.into_iter().map(|c| c.topic).collect(),
    };
    if matches!(target, Target::Offsets(_)) && topics.len() > 1 {
        return Err(Problem::invalid("topic", "offsets are of one topic: name it, as the cursor stands in several"));
    }
    let mut cursors = Vec::with_capacity(topics.len());
    for topic in topics {
        let offsets = match &target {
            Target::Offsets(offsets) => offsets.clone(),
            Target::Start(start) => {
                let found = api.verbs.offsets(&caller, &topic, None, *start).await?;
                found.into_iter().map(|p| (p.partition, p.next)).collect()
            }
        };
        cursors.push(CursorMove { cursor: name.clone(), topic, offsets, if_version: None });
    }
    let commit = Commit { appends: Vec::new(), cursors, settlements: Vec::new(), idempotency: None, admission: Admission::default() };
    api.verbs.commit(&caller, commit).await?;
    whole(&name, &find(&api, &caller, &name).await?)
}
