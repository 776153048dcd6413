//! What namespaces and topics used, and keep.

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use lakefall_queue::NamespaceName;
use lakefall_queue::usage::{Figure, Granularity, Holdings, ONE, Usage, UsageBucket, UsageCounts, UsageOf, UsageRange};
use serde_json::{Map, Value, json};

use crate::extract::{From, PathNames, Query};
use crate::problem::Result;
use crate::router::{Api, App};
use crate::topics::answer;

/// What may stand in the query.
const PARAMETERS: &[&str] = &["from", "to", "granularity"];

fn range(api: &Api, request: &Request) -> Result<UsageRange> {
    let query = Query::parse(request.uri(), PARAMETERS)?;
    let granularity = query.get("granularity").map(Granularity::parse).transpose()?.unwrap_or(Granularity::Total);
    Ok(UsageRange::new(granularity, query.timestamp("from")?, query.timestamp("to")?, api.ambient.now())?)
}

/// Each figure by its name: shared ones as numbers of requests, with up to six decimals.
fn counts(counts: &UsageCounts) -> Value {
    let figure = |figure: &Figure| {
        let count = counts.get(*figure);
        let number = if figure.is_shared() { json!(count as f64 / ONE as f64) } else { json!(count) };
        (figure.name().to_owned(), number)
    };
    Value::Object(Figure::ALL.iter().map(figure).collect::<Map<String, Value>>())
}

fn holdings(held: &Holdings) -> Value {
    let Holdings { topics, partitions, extents, cursors, queues, subjects, segment_bytes, parquet_bytes } = held;
    json!({
        "topics": topics,
        "partitions": partitions,
        "extents": extents,
        "cursors": cursors,
        "queues": queues,
        "subjects": subjects,
        "segment_bytes": segment_bytes,
        "parquet_bytes": parquet_bytes,
    })
}

fn told(namespace: &NamespaceName, of: &UsageOf, usage: &Usage) -> Result<Response> {
    let bucket = |bucket: &UsageBucket| json!({ "start": bucket.start, "end": bucket.end, "usage": counts(&bucket.counts) });
    let mut body = json!({
        "namespace": namespace,
        "granularity": usage.range.granularity.as_str(),
        "from": usage.range.from,
        "to": usage.range.to,
        "as_of": usage.as_of,
        "buckets": usage.buckets.iter().map(bucket).collect::<Vec<_>>(),
        "total": counts(&usage.total),
        "holdings": holdings(&usage.holdings),
    });
    if let UsageOf::Topic(topic) = of {
        body["topic"] = json!(topic);
    }
    answer(StatusCode::OK, &body)
}

/// What the caller's namespace used, and keeps.
#[utoipa::path(
    get, path = "/v1/usage", tag = "usage", operation_id = "get_usage",
    description = "Of whole hours, kept for two days, or whole days, kept for 90. Gateways and compactors report once a minute: what was used in the last one may be missing. A meter, not a bill: what a process that died had not reported is not in it.",
    params(crate::schema::UsageQuery),
    responses((status = 200, description = "What was used in each hour or day in which anything was, and in all; what is kept now", body = crate::schema::UsageOut), crate::schema::Refusals)
)]
pub(crate) async fn own(State(api): State<App>, From(caller): From, request: Request) -> Result<Response> {
    let range = range(&api, &request)?;
    let of = UsageOf::Namespace(caller.namespace.clone());
    told(&caller.namespace, &of, &api.verbs.usage(&caller, of.clone(), range).await?)
}

/// What a namespace used, and keeps.
#[utoipa::path(
    get, path = "/v1/namespaces/{namespace}/usage", tag = "usage", operation_id = "get_namespace_usage",
    params(crate::schema::NamespacePath, crate::schema::UsageQuery),
    responses((status = 200, description = "As of the caller's own", body = crate::schema::UsageOut), crate::schema::Refusals)
)]
pub(crate) async fn namespace(State(api): State<App>, From(caller): From, names: PathNames, request: Request) -> Result<Response> {
    let range = range(&api, &request)?;
    let namespace = names.namespace()?;
    let of = UsageOf::Namespace(namespace.clone());
    told(&namespace, &of, &api.verbs.usage(&caller, of.clone(), range).await?)
}

/// What a topic used, and keeps.
#[utoipa::path(
    get, path = "/v1/topics/{topic}/usage", tag = "usage", operation_id = "get_topic_usage",
    params(crate::schema::TopicPath, crate::schema::UsageQuery),
    responses((status = 200, description = "Its share of what its namespace used", body = crate::schema::UsageOut), crate::schema::Refusals)
)]
pub(crate) async fn topic(State(api): State<App>, From(caller): From, names: PathNames, request: Request) -> Result<Response> {
    let range = range(&api, &request)?;
    let of = UsageOf::Topic(names.topic()?);
    told(&caller.namespace, &of, &api.verbs.usage(&caller, of.clone(), range).await?)
}
