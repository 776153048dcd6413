//! Bindings: which messages of which topic come to a queue.

use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use lakefall_queue::queue::{Binding, Queue};
use lakefall_queue::verbs::Page;
use lakefall_queue::{BindingName, Error};
use serde::Serialize;

use super::JSON;
use crate::extract::{From, PathNames, Query, no_condition};
use crate::problem::Result;
use crate::router::App;
use crate::strict::{json_body, typed};
use crate::topics::{answer, page, tagged};

/// A binding with its name.
#[derive(Serialize)]
struct Named<'a> {
    id: &'a BindingName,
    #[serde(flatten)]
    binding: &'a Binding,
}

fn shown(status: StatusCode, queue: &Queue, id: &BindingName) -> Result<Response> {
    let gone = || Error::BindingNotFound { queue: queue.name.clone(), binding: id.clone() };
    let binding = queue.bindings.get(id).ok_or_else(gone)?;
    Ok(tagged(answer(status, &Named { id, binding })?, queue.version))
}

/// Adds a binding or replaces it.
#[utoipa::path(
    put, path = "/v1/queues/{queue}/bindings/{binding}", tag = "queues", operation_id = "put_binding",
    params(crate::schema::BindingPath),
    request_body = crate::schema::BindingSettings,
    responses((status = 200, description = "Replaced", body = crate::schema::Binding), (status = 201, description = "Added", body = crate::schema::Binding), crate::schema::Refusals)
)]
pub(crate) async fn put(State(api): State<App>, From(caller): From, names: PathNames, request: Request) -> Result<Response> {
    Query::parse(request.uri(), &[])?;
    let (queue, id) = (names.queue()?, names.binding()?);
    no_condition(request.headers(), "a binding")?;
    let (_, _, body) = json_body(&api, &caller, request, JSON).await?;
    let (queue, new) = api.verbs.put_binding(&caller, &queue, &id, typed(body)?).await?;
    let mut response = shown(if new { StatusCode::CREATED } else { StatusCode::OK }, &queue, &id)?;
    if new && let Ok(place) = HeaderValue::from_str(&format!("/v1/queues/{}/bindings/{id}", queue.name)) {
        response.headers_mut().insert(header::LOCATION, place);
    }
    Ok(response)
}

/// A binding.
#[utoipa::path(
    get, path = "/v1/queues/{queue}/bindings/{binding}", tag = "queues", operation_id = "get_binding",
    params(crate::schema::BindingPath),
    responses((status = 200, description = "The binding", body = crate::schema::Binding), crate::schema::Refusals)
)]
pub(crate) async fn get(State(api): State<App>, From(caller): From, names: PathNames, request: Request) -> Result<Response> {
    Query::parse(request.uri(), &[])?;
    let queue = api.verbs.describe_queue(&caller, &names.queue()?).await?;
    shown(StatusCode::OK, &queue, &names.binding()?)
}

/// A queue's bindings by name.
#[utoipa::path(
    get, path = "/v1/queues/{queue}/bindings", tag = "queues", operation_id = "list_bindings",
    params(crate::schema::QueuePath, crate::schema::PageQuery),
    responses((status = 200, description = "A page of bindings", body = crate::schema::BindingList), crate::schema::Refusals)
)]
pub(crate) async fn list(State(api): State<App>, From(caller): From, names: PathNames, request: Request) -> Result<Response> {
    let wanted = Query::parse(request.uri(), &["limit", "page_token"])?.page()?;
    let queue = api.verbs.describe_queue(&caller, &names.queue()?).await?;
    let later = queue.bindings.iter().filter(|(id, _)| wanted.after.as_deref().is_none_or(|after| id.as_str() > after));
    let mut items: Vec<Named<'_>> = later.map(|(id, binding)| Named { id, binding }).take(wanted.limit + 1).collect();
    let more = items.len() > wanted.limit;
    items.truncate(wanted.limit);
    let next = items.last().filter(|_| more).map(|last| last.id.to_string());
    page(&Page { items, next })
}

/// Takes a binding away.
#[utoipa::path(
    delete, path = "/v1/queues/{queue}/bindings/{binding}", tag = "queues", operation_id = "delete_binding",
    params(crate::schema::BindingPath),
    responses((status = 204, description = "Taken away"), crate::schema::Refusals)
)]
pub(crate) async fn delete(State(api): State<App>, From(caller): From, names: PathNames, request: Request) -> Result<Response> {
    Query::parse(request.uri(), &[])?;
    no_condition(request.headers(), "a binding")?;
    api.verbs.delete_binding(&caller, &names.queue()?, &names.binding()?).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}
