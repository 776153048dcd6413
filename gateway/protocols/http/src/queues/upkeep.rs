//! What is done with a queue as a whole: statistics, purge, seek; and with one message that nobody has.

use std::collections::BTreeMap;

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use lakefall_queue::TopicName;
use lakefall_queue::queue::{QueueStart, SeekTo};
use serde::Deserialize;
use serde_json::Value;

use super::message::parse_id;
use super::{JSON, check_start, described};
use crate::cursors::{OffsetsIn, offsets};
use crate::extract::{From, PathNames, Query, no_condition};
use crate::problem::{Problem, Result};
use crate::router::App;
use crate::strict::{json_body, typed};
use crate::topics::answer;

/// How a queue stands.
#[utoipa::path(
    get, path = "/v1/queues/{queue}/stats", tag = "queues", operation_id = "queue_stats",
    params(crate::schema::QueuePath),
    responses((status = 200, description = "What there is in the queue", body = crate::schema::QueueStats), crate::schema::Refusals)
)]
pub(crate) async fn stats(State(api): State<App>, From(caller): From, names: PathNames, request: Request) -> Result<Response> {
    Query::parse(request.uri(), &[])?;
    answer(StatusCode::OK, &api.verbs.queue_stats(&caller, &names.queue()?).await?)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

/// Finishes all messages of a queue.
#[utoipa::path(
    post, path = "/v1/queues/{queue}/purge", tag = "queues", operation_id = "purge_queue",
    description = "Everything that was sent so far is finished for this queue; leases are over. The records stay in their topics.",
    params(crate::schema::QueuePath),
    responses((status = 200, description = "The queue as it is now", body = crate::schema::Queue), crate::schema::Refusals)
)]
pub(crate) async fn purge(State(api): State<App>, From(caller): From, names: PathNames, request: Request) -> Result<Response> {
    Query::parse(request.uri(), &[])?;
    let queue = names.queue()?;
    no_condition(request.headers(), "purging a queue")?;
    let (_, _, body) = json_body(&api, &caller, request, JSON).await?;
    let Nothing {} = typed(body)?;
    described(StatusCode::OK, &api.verbs.seek_queue(&caller, &queue, SeekTo::Start(QueueStart::Latest)).await?)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SeekIn {
    to: Value,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PlacesIn {
    offsets: BTreeMap<TopicName, OffsetsIn>,
}

fn target(to: Value) -> Result<SeekTo> {
    if to.get("offsets").is_none() {
        let start: QueueStart = typed(to).map_err(|p| p.inside("/to"))?;
        return Ok(SeekTo::Start(check_start("/to/offset", start)?));
    }
    let given: PlacesIn = typed(to).map_err(|p| p.inside("/to"))?;
    if given.offsets.is_empty() {
        return Err(Problem::invalid("/to/offsets", "offsets must name at least one topic, like {\"orders\": {\"0\": 123}}"));
    }
    let mut places = Vec::new();
    for (topic, given) in given.offsets {
        let found = offsets(given).map_err(|p| p.inside(&format!("/to/offsets/{topic}")))?;
        places.extend(found.into_iter().map(|(partition, offset)| (topic.clone(), partition, offset)));
    }
    Ok(SeekTo::Offsets(places))
}

/// Moves a queue: what was settled before counts no more.
#[utoipa::path(
    post, path = "/v1/queues/{queue}/seek", tag = "queues", operation_id = "seek_queue",
    description = "Everything that the queue knew of its messages is forgotten, also who leases them; it goes on where `to` says. Partitions that `to.offsets` does not name go on where they are.",
    params(crate::schema::QueuePath),
    request_body = crate::schema::SeekBody,
    responses((status = 200, description = "The queue as it is now", body = crate::schema::Queue), crate::schema::Refusals)
)]
pub(crate) async fn seek(State(api): State<App>, From(caller): From, names: PathNames, request: Request) -> Result<Response> {
    Query::parse(request.uri(), &[])?;
    let queue = names.queue()?;
    no_condition(request.headers(), "moving a queue")?;
    let (_, _, body) = json_body(&api, &caller, request, JSON).await?;
    let to = target(typed::<SeekIn>(body)?.to)?;
    described(StatusCode::OK, &api.verbs.seek_queue(&caller, &queue, to).await?)
}

/// Cancels a message that nobody has leased, a delayed one above all.
#[utoipa::path(
    delete, path = "/v1/queues/{queue}/messages/{message}", tag = "messages", operation_id = "cancel_message",
    params(crate::schema::MessagePath),
    responses((status = 204, description = "Cancelled: this queue will not deliver it"), crate::schema::Refusals)
)]
pub(crate) async fn cancel(State(api): State<App>, From(caller): From, names: PathNames, request: Request) -> Result<Response> {
    Query::parse(request.uri(), &[])?;
    no_condition(request.headers(), "cancelling a message")?;
    let queue = names.queue()?;
    let (topic, partition, offset) = parse_id(names.get("message"))?;
    let topic = match topic {
        Some(topic) => topic,
        None => api.verbs.queue_topic(&caller, &queue).await?,
    };
    api.verbs.cancel_message(&caller, &queue, &topic, partition, offset).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}
