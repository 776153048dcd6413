//! The native HTTP room: HTTP requests in, [`lakefall_queue::verbs::Verbs`] called, HTTP answers out.
//!
//! Owns the wire of `/v1`: paths, media types, problems, OpenAPI. Must never own policy, storage, listeners or
//! credentials: those are the gateway's.

mod body;
mod commit;
mod cursors;
mod docs;
mod edge;
mod extract;
mod metrics;
mod namespaces;
mod openapi;
mod problem;
mod produce;
mod queues;
mod read;
mod replays;
mod router;
mod schema;
mod schemas;
mod sql;
mod strict;
mod text;
mod topics;
mod trace;
mod usage;

pub use openapi::document as openapi_document;
pub use router::{HttpSettings, is_long_lived, router};
