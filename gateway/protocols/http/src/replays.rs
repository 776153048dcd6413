//! `POST /v1/replays`: a range of a topic copied into another one, or into a queue.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::Response;
use lakefall_queue::queue::FILTER_MAX_BYTES;
use lakefall_queue::replay::{Replay, ReplayEnd, ReplaySource, ReplayStart, ReplayTarget};
use lakefall_queue::sql::STATEMENT_BYTES;
use lakefall_queue::{PartitionIndex, ReplayName, TopicName};
use serde::Deserialize;

use crate::extract::{From, Query};
use crate::problem::{Problem, Result};
use crate::queues::JSON;
use crate::queues::redrive::{accepted, no_idempotency_key};
use crate::router::App;
use crate::strict::{json_body, typed};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ReplayIn {
    name: ReplayName,
    from: FromIn,
    to: ReplayTarget,
    #[serde(default)]
    max_per_second: Option<u32>,
    #[serde(default)]
    dry_run: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FromIn {
    topic: TopicName,
    #[serde(default)]
    start: ReplayStart,
    #[serde(default)]
    end: ReplayEnd,
    #[serde(default)]
    partition: Option<PartitionIndex>,
    #[serde(default)]
    key: Option<Arc<str>>,
    #[serde(default)]
    filter: Option<Arc<str>>,
    #[serde(default, rename = "where")]
    predicate: Option<Arc<str>>,
}

impl ReplayIn {
    fn check(self) -> Result<Replay> {
        if self.max_per_second == Some(0) {
            return Err(Problem::invalid("/max_per_second", "max_per_second must be 1 or more"));
        }
        let FromIn { topic, start, end, partition, key, filter, predicate } = self.from;
        for (field, text, most) in [("/from/filter", &filter, FILTER_MAX_BYTES), ("/from/where", &predicate, STATEMENT_BYTES)] {
            if text.as_ref().is_some_and(|text| text.len() > most) {
                return Err(Problem::invalid(field, format!("{field} is at most {most} bytes")));
            }
        }
        let from = ReplaySource { topic, start, end, partition, key, filter, predicate };
        Ok(Replay { name: self.name, from, to: self.to, max_per_second: self.max_per_second, dry_run: self.dry_run })
    }
}

/// Copies a range of a topic into another one.
#[utoipa::path(
    post, path = "/v1/replays", tag = "replays", operation_id = "replay",
    description = "Records of a topic are copied, in offset order, into another topic or a queue: a range of offsets or time, of one partition, with a key, or those that a CEL expression or an SQL predicate over the topic's table is true for. Each batch is appended together with the replay's progress, the cursor `replay.<name>`: the same request under the same name goes on where it was left, and copies nothing twice. Goes on by itself: the answer names the operation.",
    request_body = crate::schema::ReplayBody,
    responses((status = 202, description = "Begun; `Location` names the operation", body = crate::schema::Operation), crate::schema::Refusals)
)]
pub(crate) async fn replay(State(api): State<App>, From(caller): From, request: Request) -> Result<Response> {
    Query::parse(request.uri(), &[])?;
    no_idempotency_key(request.headers(), "replay")?;
    let (_, _, body) = json_body(&api, &caller, request, JSON).await?;
    let wanted = typed::<ReplayIn>(body)?.check()?;
    accepted(&api.verbs.replay(&caller, wanted).await?)
}
