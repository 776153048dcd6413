//! Namespaces: create, read, list, delete.

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use lakefall_queue::NamespaceName;
use lakefall_queue::verbs::{Namespace, Precondition};
use serde::Deserialize;

use crate::extract::{From, PathNames, Query, precondition};
use crate::problem::{Problem, Result};
use crate::router::App;
use crate::strict::{json_body, typed};
use crate::topics::{answer, conditional, page, tagged};

const JSON: &[&str] = &["application/json"];

/// Longest description.
const DESCRIPTION_MAX: usize = 4_096;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NamespaceIn {
    #[serde(default)]
    name: Option<NamespaceName>,
    #[serde(default)]
    description: String,
}

impl NamespaceIn {
    fn description(&self) -> Result<String> {
        if self.description.len() > DESCRIPTION_MAX {
            return Err(Problem::invalid("description", format!("description is at most {DESCRIPTION_MAX} bytes")));
        }
        Ok(self.description.clone())
    }
}

fn stored((namespace, new): (Namespace, bool)) -> Result<Response> {
    let status = if new { StatusCode::CREATED } else { StatusCode::OK };
    Ok(tagged(answer(status, &namespace)?, namespace.version))
}

/// Creates a namespace.
#[utoipa::path(
    post, path = "/v1/namespaces", tag = "namespaces", operation_id = "create_namespace",
    request_body = crate::schema::NewNamespace,
    responses((status = 201, description = "Created", body = crate::schema::Namespace), crate::schema::Refusals)
)]
pub(crate) async fn create(State(api): State<App>, From(caller): From, request: Request) -> Result<Response> {
    Query::parse(request.uri(), &[])?;
    let (_, _, body) = json_body(&api, &caller, request, JSON).await?;
    let new: NamespaceIn = typed(body)?;
    let name = new.name.clone().ok_or_else(|| Problem::invalid("name", "name must be the namespace's name"))?;
    stored(api.verbs.put_namespace(&caller, &name, new.description()?, Precondition::Absent).await?)
}

/// Creates a namespace or replaces its description.
#[utoipa::path(
    put, path = "/v1/namespaces/{namespace}", tag = "namespaces", operation_id = "put_namespace",
    params(crate::schema::NamespacePath, crate::schema::WriteCondition),
    request_body = crate::schema::NamespaceSettings,
    responses((status = 200, description = "Replaced", body = crate::schema::Namespace), (status = 201, description = "Created", body = crate::schema::Namespace), crate::schema::Refusals)
)]
pub(crate) async fn put(State(api): State<App>, From(caller): From, names: PathNames, request: Request) -> Result<Response> {
    Query::parse(request.uri(), &[])?;
    let name = names.namespace()?;
    let condition = precondition(request.headers())?;
    let (_, _, body) = json_body(&api, &caller, request, JSON).await?;
    let new: NamespaceIn = typed(body)?;
    if new.name.is_some() {
        return Err(Problem::invalid("name", "the name stands in the path"));
    }
    stored(api.verbs.put_namespace(&caller, &name, new.description()?, condition).await.map_err(conditional(condition))?)
}

/// A namespace.
#[utoipa::path(
    get, path = "/v1/namespaces/{namespace}", tag = "namespaces", operation_id = "get_namespace",
    params(crate::schema::NamespacePath),
    responses((status = 200, description = "The namespace", body = crate::schema::Namespace), crate::schema::Refusals)
)]
pub(crate) async fn get(State(api): State<App>, From(caller): From, names: PathNames, request: Request) -> Result<Response> {
    Query::parse(request.uri(), &[])?;
    stored((api.verbs.get_namespace(&caller, &names.namespace()?).await?, false))
}

/// Namespaces by name.
#[utoipa::path(
    get, path = "/v1/namespaces", tag = "namespaces", operation_id = "list_namespaces",
    params(crate::schema::PageQuery),
    responses((status = 200, description = "A page of namespaces", body = crate::schema::NamespaceList), crate::schema::Refusals)
)]
pub(crate) async fn list(State(api): State<App>, From(caller): From, request: Request) -> Result<Response> {
    let wanted = Query::parse(request.uri(), &["limit", "page_token"])?.page()?;
    page(&api.verbs.list_namespaces(&caller, wanted).await?)
}

/// Deletes an empty namespace.
#[utoipa::path(
    delete, path = "/v1/namespaces/{namespace}", tag = "namespaces", operation_id = "delete_namespace",
    params(crate::schema::NamespacePath, ("If-Match" = Option<String>, Header, description = "Only if it is at this ETag")),
    responses((status = 204, description = "Deleted"), crate::schema::Refusals)
)]
pub(crate) async fn delete(State(api): State<App>, From(caller): From, names: PathNames, request: Request) -> Result<Response> {
    Query::parse(request.uri(), &[])?;
    api.verbs.delete_namespace(&caller, &names.namespace()?, precondition(request.headers())?).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}
