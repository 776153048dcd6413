//! Dead letters put back, and the operations that do so.

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;
use lakefall_queue::queue::{FILTER_MAX_BYTES, Operation, Redrive};
use lakefall_queue::{Error, TopicName};
use serde::Deserialize;

use super::JSON;
use crate::extract::{From, PathNames, Query};
use crate::problem::{self, Problem, Result};
use crate::produce::options::idempotency_key;
use crate::router::App;
use crate::strict::{json_body, typed};
use crate::topics::answer;

/// Longest id of an operation that is looked up.
const OPERATION_MAX: usize = 128;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RedriveIn {
    #[serde(default)]
    filter: Option<String>,
    #[serde(default)]
    to: Option<TopicName>,
    #[serde(default)]
    max_per_second: Option<u32>,
    #[serde(default)]
    dry_run: bool,
}

impl RedriveIn {
    fn check(self) -> Result<Redrive> {
        if self.max_per_second == Some(0) {
            return Err(Problem::invalid("/max_per_second", "max_per_second must be 1 or more"));
        }
        if self.filter.as_ref().is_some_and(|filter| filter.len() > FILTER_MAX_BYTES) {
            return Err(Problem::invalid("/filter", format!("a filter is at most {FILTER_MAX_BYTES} bytes")));
        }
        Ok(Redrive { filter: self.filter, to: self.to, max_per_second: self.max_per_second, dry_run: self.dry_run })
    }
}

/// Puts a queue's dead letters back.
#[utoipa::path(
    post, path = "/v1/queues/{queue}/redrive", tag = "messages", operation_id = "redrive",
    description = "Dead letters of the queue go back to the topics they came from, or to the topic `to`; each is put back and acked in one step. Goes on by itself: the answer names the operation.",
    params(crate::schema::QueuePath),
    request_body = crate::schema::RedriveBody,
    responses((status = 202, description = "Begun; `Location` names the operation", body = crate::schema::Operation), crate::schema::Refusals)
)]
pub(crate) async fn redrive(State(api): State<App>, From(caller): From, names: PathNames, request: Request) -> Result<Response> {
    Query::parse(request.uri(), &[])?;
    let queue = names.queue()?;
    no_idempotency_key(request.headers(), "redrive")?;
    let (_, _, body) = json_body(&api, &caller, request, JSON).await?;
    let wanted = typed::<RedriveIn>(body)?.check()?;
    accepted(&api.verbs.redrive(&caller, &queue, wanted).await?)
}

/// Answers that an operation was begun.
pub(crate) fn accepted(operation: &Operation) -> Result<Response> {
    let mut response = answer(StatusCode::ACCEPTED, operation)?;
    if let Ok(place) = HeaderValue::from_str(&format!("/v1/operations/{}", operation.id)) {
        response.headers_mut().insert(header::LOCATION, place);
    }
    Ok(response)
}

/// A second redrive or replay finds what the first left: nothing is done twice, so there is no first answer to give again.
pub(crate) fn no_idempotency_key(headers: &HeaderMap, what: &str) -> Result<()> {
    match idempotency_key(headers)? {
        None => Ok(()),
        Some(_) => {
            let reason = format!("a {what} takes no Idempotency-Key: a second one finds what the first left");
            Err(Problem::new(problem::NOT_SUPPORTED, reason))
        }
    }
}

fn operation_id(names: &PathNames) -> Result<&str> {
    let id = names.get("operation");
    if (1..=OPERATION_MAX).contains(&id.len()) {
        return Ok(id);
    }
    Err(Error::OperationNotFound(id.chars().take(64).collect()).into())
}

/// How an operation stands.
#[utoipa::path(
    get, path = "/v1/operations/{operation}", tag = "operations", operation_id = "get_operation",
    params(crate::schema::OperationPath),
    responses((status = 200, description = "The operation", body = crate::schema::Operation), crate::schema::Refusals)
)]
pub(crate) async fn get(State(api): State<App>, From(caller): From, names: PathNames, request: Request) -> Result<Response> {
    Query::parse(request.uri(), &[])?;
    let operation: Operation = api.verbs.operation(&caller, operation_id(&names)?).await?;
    answer(StatusCode::OK, &operation)
}

/// Stops an operation; what it did stays done.
#[utoipa::path(
    post, path = "/v1/operations/{operation}/cancel", tag = "operations", operation_id = "cancel_operation",
    params(crate::schema::OperationPath),
    responses((status = 200, description = "The operation as it is now", body = crate::schema::Operation), crate::schema::Refusals)
)]
pub(crate) async fn cancel(State(api): State<App>, From(caller): From, names: PathNames, request: Request) -> Result<Response> {
    Query::parse(request.uri(), &[])?;
    answer(StatusCode::OK, &api.verbs.cancel_operation(&caller, operation_id(&names)?).await?)
}
