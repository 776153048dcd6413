//! Leases settled: acked, given back, rejected, kept for longer. One result per receipt, in order.
//!
//! Must never let one bad receipt keep the others from being settled.

mod answer;
mod lists;

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::Response;
use lakefall_queue::queue::{DELAY_MAX, LEASE_MAX, Settlement, Verdict};
use lakefall_queue::verbs::Caller;
use lakefall_queue::{Error, QueueName};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use self::answer::Results;
pub(crate) use self::lists::{Items, Receipts};
use super::JSON;
use super::message::span;
use crate::body::Incoming;
use crate::extract::{From, PathNames, Query, media_type};
use crate::metrics;
use crate::problem::{self, Problem, Result};
use crate::produce::json::utf8;
use crate::router::App;

/// Longest reason, in bytes.
const REASON_MAX: usize = 1_024;

/// A receipt and what its caller says of it; a refusal if that is out of bounds.
pub(super) type Wanted = (Arc<str>, Result<Verdict>);

/// A message that is given back.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NackIn {
    receipt: Arc<str>,
    #[serde(default)]
    delay: Option<String>,
    #[serde(default)]
    reason: Option<String>,
}

impl NackIn {
    /// What is to happen; `pointer` is the item's place.
    pub(crate) fn check(self, pointer: &str) -> Wanted {
        let delay = self.delay.map(|text| span(&format!("{pointer}/delay"), &text, DELAY_MAX, "365d")).transpose();
        let verdict = delay.and_then(|delay| Ok(Verdict::Nack { delay, reason: reason(pointer, self.reason)? }));
        (self.receipt, verdict)
    }
}

fn reason(pointer: &str, text: Option<String>) -> Result<Option<String>> {
    match text {
        Some(text) if text.len() > REASON_MAX => {
            Err(Problem::invalid(format!("{pointer}/reason"), format!("a reason is at most {REASON_MAX} bytes")))
        }
        text => Ok(text),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ExtendIn {
    receipt: Arc<str>,
    lease: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RejectIn {
    receipt: Arc<str>,
    #[serde(default)]
    reason: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AcksIn {
    #[serde(default)]
    receipts: Option<Receipts>,
    #[serde(default)]
    receipt: Option<Arc<str>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ItemsIn<T: DeserializeOwned> {
    #[serde(bound = "")]
    items: Items<T>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RejectsIn {
    #[serde(default)]
    items: Option<Items<RejectIn>>,
    #[serde(default)]
    receipts: Option<Receipts>,
}

/// Says that messages are done.
#[utoipa::path(
    post, path = "/v1/queues/{queue}/ack", tag = "messages", operation_id = "ack",
    description = "Finishes leased messages. Each receipt is settled by itself and has its own result, in order; acking twice is ok. Where none could be settled, the answer is a problem with the status of the first.",
    params(crate::schema::QueuePath),
    request_body = crate::schema::AckBody,
    responses((status = 200, description = "A result for each receipt", body = crate::schema::SettleAnswer), crate::schema::Refusals)
)]
pub(crate) async fn ack(State(api): State<App>, From(caller): From, names: PathNames, request: Request) -> Result<Response> {
    let queue = names.queue()?;
    let given: AcksIn = body(&api, &caller, request).await?;
    let (list, receipts) = match (given.receipts, given.receipt) {
        (Some(receipts), None) => ("receipts", receipts.0),
        (None, Some(receipt)) => ("receipt", vec![receipt]),
        _ => return Err(Problem::invalid("/receipts", "give either receipts or receipt")),
    };
    settle(&api, &caller, queue, list, receipts.into_iter().map(|receipt| (receipt, Ok(Verdict::Ack))).collect()).await
}

/// Gives messages back.
#[utoipa::path(
    post, path = "/v1/queues/{queue}/nack", tag = "messages", operation_id = "nack",
    description = "Gives leased messages back: they are delivered again after `delay`, or as the queue's `retry` says. After the last attempt a message becomes a dead letter.",
    params(crate::schema::QueuePath),
    request_body = crate::schema::NackBody,
    responses((status = 200, description = "A result for each receipt", body = crate::schema::SettleAnswer), crate::schema::Refusals)
)]
pub(crate) async fn nack(State(api): State<App>, From(caller): From, names: PathNames, request: Request) -> Result<Response> {
    let queue = names.queue()?;
    let given: ItemsIn<NackIn> = body(&api, &caller, request).await?;
    settle(&api, &caller, queue, "items", given.items.checked(NackIn::check)).await
}

/// Keeps messages for longer.
#[utoipa::path(
    post, path = "/v1/queues/{queue}/extend", tag = "messages", operation_id = "extend",
    description = "Leases messages anew to who has them, for `lease` from now on; `0s` gives them back.",
    params(crate::schema::QueuePath),
    request_body = crate::schema::ExtendBody,
    responses((status = 200, description = "A result for each receipt", body = crate::schema::SettleAnswer), crate::schema::Refusals)
)]
pub(crate) async fn extend(State(api): State<App>, From(caller): From, names: PathNames, request: Request) -> Result<Response> {
    let queue = names.queue()?;
    let given: ItemsIn<ExtendIn> = body(&api, &caller, request).await?;
    let check = |item: ExtendIn, pointer: &str| {
        let lease = span(&format!("{pointer}/lease"), &item.lease, LEASE_MAX, "12h");
        (item.receipt, lease.map(|lease| Verdict::Extend { lease }))
    };
    settle(&api, &caller, queue, "items", given.items.checked(check)).await
}

/// Sends messages to the dead letters at once.
#[utoipa::path(
    post, path = "/v1/queues/{queue}/reject", tag = "messages", operation_id = "reject",
    description = "Never to be delivered again: to the dead letters, or, where the queue keeps none, finished.",
    params(crate::schema::QueuePath),
    request_body = crate::schema::RejectBody,
    responses((status = 200, description = "A result for each receipt", body = crate::schema::SettleAnswer), crate::schema::Refusals)
)]
pub(crate) async fn reject(State(api): State<App>, From(caller): From, names: PathNames, request: Request) -> Result<Response> {
    let queue = names.queue()?;
    let given: RejectsIn = body(&api, &caller, request).await?;
    let (list, wanted) = match (given.items, given.receipts) {
        (Some(items), None) => {
            let check =
                |item: RejectIn, pointer: &str| (item.receipt, reason(pointer, item.reason).map(|reason| Verdict::Reject { reason }));
            ("items", items.checked(check))
        }
        (None, Some(receipts)) => {
            ("receipts", receipts.0.into_iter().map(|receipt| (receipt, Ok(Verdict::Reject { reason: None }))).collect())
        }
        _ => return Err(Problem::invalid("/items", "give either items or receipts")),
    };
    settle(&api, &caller, queue, list, wanted).await
}

/// A body of receipts: larger than settings may be.
async fn body<T: DeserializeOwned>(api: &App, caller: &Caller, request: Request) -> Result<T> {
    Query::parse(request.uri(), &[])?;
    let (parts, body) = request.into_parts();
    if media_type(&parts.headers)?.as_deref().is_some_and(|media| !JSON.contains(&media)) {
        return Err(Problem::new(problem::UNSUPPORTED_MEDIA_TYPE, "the Content-Type must be application/json"));
    }
    let incoming = Incoming::new(&parts.headers, body, api.settings.max_decompressed_ratio)?;
    let (body, _room) = incoming.collect(&*api.verbs, caller, api.limits().batch_bytes).await?;
    serde_json::from_str(utf8(&body)?).map_err(|e| problem::from_json(&e))
}

/// Settles what is in bounds and answers for all, in order.
async fn settle(api: &App, caller: &Caller, queue: QueueName, list: &str, wanted: Vec<Wanted>) -> Result<Response> {
    if wanted.is_empty() {
        return Err(Problem::invalid(format!("/{list}"), "there must be at least one receipt"));
    }
    let sent = wanted.iter().filter_map(|(receipt, verdict)| {
        let verdict = verdict.as_ref().ok()?.clone();
        Some(Settlement { receipt: Arc::clone(receipt), verdict })
    });
    let sent: Vec<Settlement> = sent.collect();
    let asked = sent.len();
    let settled = if sent.is_empty() { Vec::new() } else { api.verbs.settle(caller, &queue, sent).await? };
    if settled.len() != asked {
        return Err(Error::Internal(format!("{asked} settlements got {} answers", settled.len())).into());
    }
    let results = Results::new(&queue, list, wanted, settled);
    ::metrics::counter!(metrics::SETTLED).increment(results.ok());
    results.into_response()
}
