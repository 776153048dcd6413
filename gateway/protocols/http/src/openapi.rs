//! The OpenAPI document, gathered from the handlers.

use utoipa::OpenApi;

use crate::queues::{self, bindings, receive, redrive, settle, upkeep};
use crate::{commit, cursors, namespaces, produce, read, replays, schema, schemas, sql, topics, usage};

#[derive(OpenApi)]
#[openapi(
    info(title = "Lakefall", version = "1", description = "A message queue over object storage: the native HTTP API."),
    paths(
        produce::produce, produce::stream::produce_stream, produce::request::request, read::read_partition, read::read_topic, topics::trim,
        topics::create, topics::list, topics::put, topics::describe, topics::patch, topics::delete, topics::offsets, topics::objects,
        cursors::list, cursors::get, cursors::delete, cursors::put, cursors::get_in_topic, cursors::delete_in_topic, cursors::reset,
        queues::create, queues::list, queues::put, queues::describe, queues::patch, queues::delete,
        bindings::list, bindings::put, bindings::get, bindings::delete, upkeep::stats, upkeep::purge, upkeep::seek,
        queues::send, receive::receive, receive::messages_stream, settle::ack, settle::nack, settle::extend, settle::reject,
        receive::peek, upkeep::cancel, receive::dead_letters, redrive::redrive, redrive::get, redrive::cancel,
        schemas::list, schemas::describe, schemas::delete_all, schemas::register, schemas::versions, schemas::get, schemas::delete,
        schemas::compatibility, schemas::get_config, schemas::put_config,
        commit::commit, sql::sql, replays::replay,
        namespaces::create, namespaces::list, namespaces::put, namespaces::get, namespaces::delete,
        usage::own, usage::namespace, usage::topic,
    ),
    components(schemas(schema::Problem, schema::ProblemPlace, schema::StoredRecord)),
    tags(
        (name = "records", description = "Appending and reading"),
        (name = "topics", description = "Named logs and their settings"),
        (name = "queues", description = "Messages to be done once: settings, bindings, statistics"),
        (name = "messages", description = "Sending, receiving, settling, dead letters"),
        (name = "operations", description = "Long work that goes on by itself"),
        (name = "cursors", description = "Named consumer positions"),
        (name = "schemas", description = "What records look like: versions, compatibility"),
        (name = "commit", description = "Many changes, all or nothing"),
        (name = "sql", description = "Topics as tables"),
        (name = "replays", description = "Copies of a range of a topic"),
        (name = "namespaces", description = "Tenants"),
        (name = "usage", description = "What namespaces and topics use"),
    )
)]
struct Document;

/// The OpenAPI 3.1 document as indented JSON, ending in a newline: what `/v1/openapi.json` serves.
pub fn document() -> String {
    let mut text = Document::openapi().to_pretty_json().unwrap_or_default();
    text.push('\n');
    text
}
