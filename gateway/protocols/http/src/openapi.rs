//! The OpenAPI document, gathered from the handlers.

use utoipa::OpenApi;

use crate::{commit, cursors, namespaces, produce, read, schema, topics};

#[derive(OpenApi)]
#[openapi(
    info(title = "Lakefall", version = "1", description = "A message queue over object storage: the native HTTP API."),
    paths(
        produce::produce, produce::stream::produce_stream, read::read_partition, read::read_topic, topics::trim,
        topics::create, topics::list, topics::put, topics::describe, topics::patch, topics::delete, topics::offsets, topics::objects,
        cursors::list, cursors::get, cursors::delete, cursors::put, cursors::get_in_topic, cursors::delete_in_topic, cursors::reset,
        commit::commit,
        namespaces::create, namespaces::list, namespaces::put, namespaces::get, namespaces::delete,
    ),
    components(schemas(schema::Problem, schema::ProblemPlace, schema::StoredRecord)),
    tags(
        (name = "records", description = "Appending and reading"),
        (name = "topics", description = "Named logs and their settings"),
        (name = "cursors", description = "Named consumer positions"),
        (name = "commit", description = "Many changes, all or nothing"),
        (name = "namespaces", description = "Tenants"),
    )
)]
struct Document;

/// The OpenAPI 3.1 document as indented JSON, ending in a newline: what `/v1/openapi.json` serves.
pub fn document() -> String {
    let mut text = Document::openapi().to_pretty_json().unwrap_or_default();
    text.push('\n');
    text
}
