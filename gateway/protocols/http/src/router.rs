//! Which path is served by what, and what all handlers share.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::{delete, get, post, put};
use lakefall_queue::clock::Ambient;
use lakefall_queue::limits::Limits;
use lakefall_queue::trace::Sampling;
use lakefall_queue::verbs::Verbs;
use tokio_util::sync::CancellationToken;

use crate::metrics::RequestMetrics;
use crate::{commit, cursors, docs, edge, namespaces, produce, queues, read, replays, schemas, sql, topics, usage};

/// What the room is told by the gateway.
#[derive(Clone, Debug)]
pub struct HttpSettings {
    /// When cancelled, long polls answer what they have, tails and acknowledgement streams end in order.
    pub shutdown: CancellationToken,
    /// Silence after which a live tail gets a comment, so that proxies keep the connection. Default 15 s.
    pub heartbeat: Duration,
    /// How many times larger than sent a compressed body may become. Default 100.
    pub max_decompressed_ratio: u64,
    /// Which requests are traced; `None`: none of them, and nothing is looked at. Default none.
    pub sampling: Option<Sampling>,
    /// Most appends in flight of one streamed request: what it may hold of the ingest buffer is this many times 1 MiB. Default 16.
    pub stream_appends: usize,
}

impl Default for HttpSettings {
    fn default() -> Self {
        Self {
            shutdown: CancellationToken::new(),
            heartbeat: Duration::from_secs(15),
            max_decompressed_ratio: 100,
            sampling: None,
            stream_appends: 16,
        }
    }
}

/// What handlers share.
pub(crate) struct Api {
    pub(crate) verbs: Arc<dyn Verbs>,
    pub(crate) ambient: Ambient,
    pub(crate) settings: HttpSettings,
    pub(crate) metrics: RequestMetrics,
}

/// The shared state as handlers get it.
pub(crate) type App = Arc<Api>;

impl Api {
    /// The limits in force.
    pub(crate) fn limits(&self) -> Arc<Limits> {
        self.verbs.limits()
    }
}

/// Whether a request to `path` has a body that may be silent for long: the gateway's timeouts are not for it.
pub fn is_long_lived(path: &str) -> bool {
    path.ends_with("/records/stream")
}

fn queue_routes() -> Router<App> {
    use queues::{bindings, receive, redrive, settle, upkeep};
    Router::new()
        .route("/v1/queues", get(queues::list).post(queues::create))
        .route("/v1/queues/{queue}", put(queues::put).get(queues::describe).patch(queues::patch).delete(queues::delete))
        .route("/v1/queues/{queue}/bindings", get(bindings::list))
        .route("/v1/queues/{queue}/bindings/{binding}", put(bindings::put).get(bindings::get).delete(bindings::delete))
        .route("/v1/queues/{queue}/messages", post(queues::send).get(receive::messages_stream))
        .route("/v1/queues/{queue}/messages/{message}", delete(upkeep::cancel))
        .route("/v1/queues/{queue}/receive", post(receive::receive))
        .route("/v1/queues/{queue}/ack", post(settle::ack))
        .route("/v1/queues/{queue}/nack", post(settle::nack))
        .route("/v1/queues/{queue}/extend", post(settle::extend))
        .route("/v1/queues/{queue}/reject", post(settle::reject))
        .route("/v1/queues/{queue}/peek", post(receive::peek))
        .route("/v1/queues/{queue}/purge", post(upkeep::purge))
        .route("/v1/queues/{queue}/seek", post(upkeep::seek))
        .route("/v1/queues/{queue}/stats", get(upkeep::stats))
        .route("/v1/queues/{queue}/dead-letters", get(receive::dead_letters))
        .route("/v1/queues/{queue}/redrive", post(redrive::redrive))
        .route("/v1/operations/{operation}", get(redrive::get))
        .route("/v1/operations/{operation}/cancel", post(redrive::cancel))
}

fn schema_routes() -> Router<App> {
    Router::new()
        .route("/v1/schemas", get(schemas::list))
        .route("/v1/schemas/{subject}", get(schemas::describe).delete(schemas::delete_all))
        .route("/v1/schemas/{subject}/versions", get(schemas::versions).post(schemas::register))
        .route("/v1/schemas/{subject}/versions/{version}", get(schemas::get).delete(schemas::delete))
        .route("/v1/schemas/{subject}/compatibility", post(schemas::compatibility))
        .route("/v1/schemas/{subject}/config", get(schemas::get_config).put(schemas::put_config))
}

/// The native API: `/v1/…` and `/docs`. The caller serves it; connections, timeouts, TLS and credentials are its own.
pub fn router(verbs: Arc<dyn Verbs>, ambient: Ambient, settings: HttpSettings) -> Router {
    let api: App = Arc::new(Api { verbs, ambient, settings, metrics: RequestMetrics::default() });
    Router::new()
        .route("/v1/topics/{topic}/records", post(produce::produce).get(read::read_topic).delete(topics::trim))
        .route("/v1/topics/{topic}/records/stream", post(produce::stream::produce_stream))
        .route("/v1/topics/{topic}/request", post(produce::request::request))
        .route("/v1/topics/{topic}/partitions/{partition}/records", get(read::read_partition))
        .route("/v1/topics/{topic}/offsets", get(topics::offsets))
        .route("/v1/topics/{topic}/objects", get(topics::objects))
        .route("/v1/topics", get(topics::list).post(topics::create))
        .route("/v1/topics/{topic}", put(topics::put).get(topics::describe).patch(topics::patch).delete(topics::delete))
        .route("/v1/cursors", get(cursors::list))
        .route("/v1/cursors/{cursor}", get(cursors::get).delete(cursors::delete))
        .route("/v1/cursors/{cursor}/topics/{topic}", put(cursors::put).get(cursors::get_in_topic).delete(cursors::delete_in_topic))
        .route("/v1/cursors/{cursor}/reset", post(cursors::reset))
        .route("/v1/commit", post(commit::commit))
        .route("/v1/sql", post(sql::sql))
        .route("/v1/replays", post(replays::replay))
        .route("/v1/namespaces", get(namespaces::list).post(namespaces::create))
        .route("/v1/namespaces/{namespace}/usage", get(usage::namespace))
        .route("/v1/topics/{topic}/usage", get(usage::topic))
        .route("/v1/usage", get(usage::own))
        .route("/v1/namespaces/{namespace}", put(namespaces::put).get(namespaces::get).delete(namespaces::delete))
        .merge(queue_routes())
        .merge(schema_routes())
        .route("/v1/openapi.json", get(docs::openapi))
        .route("/docs", get(docs::page))
        .fallback(edge::not_found)
        .method_not_allowed_fallback(edge::method_not_allowed)
        .layer(axum::middleware::from_fn_with_state(Arc::clone(&api), edge::edge))
        .with_state(api)
}
