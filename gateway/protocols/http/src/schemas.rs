//! Schemas: subjects, their versions, how those are judged.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use lakefall_queue::schema::{Compatibility, SchemaText, SchemaType, SchemaVersion, Subject};
use lakefall_queue::verbs::Page;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::extract::{From, PathNames, Query, no_condition, precondition};
use crate::problem::{Problem, Result};
use crate::router::App;
use crate::strict::{json_body, typed};
use crate::topics::{answer, conditional, page, tagged};

const JSON: &[&str] = &["application/json"];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SchemaIn {
    #[serde(default = "json_schema")]
    r#type: SchemaType,
    schema: Value,
    #[serde(default)]
    message: Option<String>,
}

fn json_schema() -> SchemaType {
    SchemaType::Json
}

impl SchemaIn {
    /// A schema in JSON may stand as it is, or as text like those that are not JSON.
    fn text(self) -> Result<SchemaText> {
        let text = match self.schema {
            Value::String(text) => text,
            Value::Null => return Err(Problem::invalid("schema", "schema must be the schema: its text, or JSON")),
            _ if self.r#type == SchemaType::Protobuf => return Err(Problem::invalid("schema", "a Protobuf schema is a text")),
            json => json.to_string(),
        };
        Ok(SchemaText { kind: self.r#type, text: text.into(), message: self.message.map(Arc::from) })
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ConfigIn {
    compatibility: Compatibility,
}

/// What was registered, as it was: JSON as JSON, where it is.
fn shown(version: &SchemaVersion) -> Value {
    let SchemaText { kind, text, message } = &version.schema;
    let schema = match kind {
        SchemaType::Json | SchemaType::Avro => serde_json::from_str(text).unwrap_or_else(|_| Value::from(&**text)),
        SchemaType::Protobuf => Value::from(&**text),
    };
    let mut shown = json!({
        "subject": version.subject, "version": version.version, "id": version.id, "type": kind, "schema": schema,
        "created_at": version.created_at,
    });
    if let Some(message) = message {
        shown["message"] = Value::from(&**message);
    }
    shown
}

fn described(subject: &Subject) -> Value {
    json!({
        "namespace": subject.namespace, "name": subject.name, "compatibility": subject.compatibility, "versions": subject.versions,
        "created_at": subject.created_at,
    })
}

/// `latest` or a number.
fn numbered(field: &str, text: &str) -> Result<Option<u32>> {
    match text {
        "latest" => Ok(None),
        number => match number.parse() {
            Ok(version) if version > 0 => Ok(Some(version)),
            _ => Err(Problem::invalid(field, format!("{field} must be latest or a version's number, from 1"))),
        },
    }
}

/// Subjects by name.
#[utoipa::path(
    get, path = "/v1/schemas", tag = "schemas", operation_id = "list_subjects",
    params(crate::schema::PageQuery),
    responses((status = 200, description = "A page of subjects", body = crate::schema::SubjectList), crate::schema::Refusals)
)]
pub(crate) async fn list(State(api): State<App>, From(caller): From, request: Request) -> Result<Response> {
    let wanted = Query::parse(request.uri(), &["limit", "page_token"])?.page()?;
    let found = api.verbs.list_subjects(&caller, wanted).await?;
    page(&Page { items: found.items.iter().map(described).collect(), next: found.next })
}

/// A subject and its versions.
#[utoipa::path(
    get, path = "/v1/schemas/{subject}", tag = "schemas", operation_id = "describe_subject",
    params(crate::schema::SubjectPath),
    responses((status = 200, description = "The subject", body = crate::schema::SubjectOut), crate::schema::Refusals)
)]
pub(crate) async fn describe(State(api): State<App>, From(caller): From, names: PathNames, request: Request) -> Result<Response> {
    Query::parse(request.uri(), &[])?;
    let subject = api.verbs.describe_subject(&caller, &names.subject()?).await?;
    Ok(tagged(answer(StatusCode::OK, &described(&subject))?, subject.revision))
}

/// Deletes a subject and all its versions, unless a topic uses it.
#[utoipa::path(
    delete, path = "/v1/schemas/{subject}", tag = "schemas", operation_id = "delete_subject",
    params(crate::schema::SubjectPath, ("If-Match" = Option<String>, Header, description = "Only if the subject is at this ETag")),
    responses((status = 204, description = "Deleted"), crate::schema::Refusals)
)]
pub(crate) async fn delete_all(State(api): State<App>, From(caller): From, names: PathNames, request: Request) -> Result<Response> {
    Query::parse(request.uri(), &[])?;
    api.verbs.delete_schema(&caller, &names.subject()?, None, precondition(request.headers())?).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Registers a version.
#[utoipa::path(
    post, path = "/v1/schemas/{subject}/versions", tag = "schemas", operation_id = "register_schema",
    description = "Registers a version, and the subject if it is new. The same schema again is answered with the version that has it.",
    params(crate::schema::SubjectPath),
    request_body = crate::schema::NewSchema,
    responses(
        (status = 201, description = "Registered", body = crate::schema::SchemaOut),
        (status = 200, description = "Was registered before", body = crate::schema::SchemaOut),
        crate::schema::Refusals,
    )
)]
pub(crate) async fn register(State(api): State<App>, From(caller): From, names: PathNames, request: Request) -> Result<Response> {
    Query::parse(request.uri(), &[])?;
    no_condition(request.headers(), "registering a schema")?;
    let subject = names.subject()?;
    let (_, _, body) = json_body(&api, &caller, request, JSON).await?;
    let (version, new) = api.verbs.register_schema(&caller, &subject, typed::<SchemaIn>(body)?.text()?).await?;
    let mut response = answer(if new { StatusCode::CREATED } else { StatusCode::OK }, &shown(&version))?;
    if new && let Ok(place) = HeaderValue::from_str(&format!("/v1/schemas/{subject}/versions/{}", version.version)) {
        response.headers_mut().insert(header::LOCATION, place);
    }
    Ok(response)
}

/// The numbers of a subject's versions.
#[utoipa::path(
    get, path = "/v1/schemas/{subject}/versions", tag = "schemas", operation_id = "list_versions",
    params(crate::schema::SubjectPath),
    responses((status = 200, description = "All versions, without their texts", body = crate::schema::VersionList), crate::schema::Refusals)
)]
pub(crate) async fn versions(State(api): State<App>, From(caller): From, names: PathNames, request: Request) -> Result<Response> {
    Query::parse(request.uri(), &[])?;
    let subject = api.verbs.describe_subject(&caller, &names.subject()?).await?;
    Ok(tagged(answer(StatusCode::OK, &json!({ "items": subject.versions }))?, subject.revision))
}

/// A version.
#[utoipa::path(
    get, path = "/v1/schemas/{subject}/versions/{version}", tag = "schemas", operation_id = "get_schema",
    params(crate::schema::SchemaVersionPath),
    responses((status = 200, description = "The version", body = crate::schema::SchemaOut), crate::schema::Refusals)
)]
pub(crate) async fn get(State(api): State<App>, From(caller): From, names: PathNames, request: Request) -> Result<Response> {
    Query::parse(request.uri(), &[])?;
    let version = numbered("version", names.get("version"))?;
    answer(StatusCode::OK, &shown(&api.verbs.get_schema(&caller, &names.subject()?, version).await?))
}

/// Deletes a version, unless it is the latest and a topic uses it.
#[utoipa::path(
    delete, path = "/v1/schemas/{subject}/versions/{version}", tag = "schemas", operation_id = "delete_schema",
    params(crate::schema::SchemaVersionPath, ("If-Match" = Option<String>, Header, description = "Only if the subject is at this ETag")),
    responses((status = 204, description = "Deleted"), crate::schema::Refusals)
)]
pub(crate) async fn delete(State(api): State<App>, From(caller): From, names: PathNames, request: Request) -> Result<Response> {
    Query::parse(request.uri(), &[])?;
    let Some(version) = numbered("version", names.get("version"))? else {
        return Err(Problem::invalid("version", "name the version that is to be deleted by its number"));
    };
    api.verbs.delete_schema(&caller, &names.subject()?, Some(version), precondition(request.headers())?).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Whether a schema may follow a version, as the subject judges it.
#[utoipa::path(
    post, path = "/v1/schemas/{subject}/compatibility", tag = "schemas", operation_id = "check_schema",
    params(crate::schema::SubjectPath, crate::schema::CompatibilityQuery),
    request_body = crate::schema::NewSchema,
    responses((status = 200, description = "The verdict", body = crate::schema::CompatibilityOut), crate::schema::Refusals)
)]
pub(crate) async fn compatibility(State(api): State<App>, From(caller): From, names: PathNames, request: Request) -> Result<Response> {
    let version = numbered("version", Query::parse(request.uri(), &["version"])?.get("version").unwrap_or("latest"))?;
    let subject = names.subject()?;
    let (_, _, body) = json_body(&api, &caller, request, JSON).await?;
    let reasons = api.verbs.check_schema(&caller, &subject, version, typed::<SchemaIn>(body)?.text()?).await?;
    let shown: Vec<Value> = reasons.iter().map(|wrong| json!({"pointer": wrong.pointer, "reason": wrong.reason})).collect();
    answer(StatusCode::OK, &json!({"compatible": shown.is_empty(), "reasons": shown}))
}

/// How new versions of a subject are judged.
#[utoipa::path(
    get, path = "/v1/schemas/{subject}/config", tag = "schemas", operation_id = "get_subject_config",
    params(crate::schema::SubjectPath),
    responses((status = 200, description = "The settings", body = crate::schema::SubjectConfig), crate::schema::Refusals)
)]
pub(crate) async fn get_config(State(api): State<App>, From(caller): From, names: PathNames, request: Request) -> Result<Response> {
    Query::parse(request.uri(), &[])?;
    let subject = api.verbs.describe_subject(&caller, &names.subject()?).await?;
    Ok(tagged(answer(StatusCode::OK, &json!({ "compatibility": subject.compatibility }))?, subject.revision))
}

/// Says how new versions of a subject are judged, which is created if it is not there.
#[utoipa::path(
    put, path = "/v1/schemas/{subject}/config", tag = "schemas", operation_id = "put_subject_config",
    params(crate::schema::SubjectPath, crate::schema::WriteCondition),
    request_body = crate::schema::SubjectConfig,
    responses((status = 200, description = "Replaced", body = crate::schema::SubjectConfig), (status = 201, description = "The subject was created", body = crate::schema::SubjectConfig), crate::schema::Refusals)
)]
pub(crate) async fn put_config(State(api): State<App>, From(caller): From, names: PathNames, request: Request) -> Result<Response> {
    Query::parse(request.uri(), &[])?;
    let subject = names.subject()?;
    let condition = precondition(request.headers())?;
    let (_, _, body) = json_body(&api, &caller, request, JSON).await?;
    let wanted = typed::<ConfigIn>(body)?.compatibility;
    let (subject, new) = api.verbs.put_compatibility(&caller, &subject, wanted, condition).await.map_err(conditional(condition))?;
    let status = if new { StatusCode::CREATED } else { StatusCode::OK };
    Ok(tagged(answer(status, &json!({ "compatibility": subject.compatibility }))?, subject.revision))
}
