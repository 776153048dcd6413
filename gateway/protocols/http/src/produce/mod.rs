//! `POST /v1/topics/{topic}/records`: a body of any media type becomes records, and their acknowledgement.
//!
//! Must never store part of a batch that it refuses, unless the caller asked for that.

pub(crate) mod acks;
mod arrow;
mod arrow_columns;
mod cloudevents;
mod gather;
mod headers;
pub(crate) mod json;
mod lines;
mod ndjson;
pub(crate) mod options;
mod pipeline;
mod raw;
pub(crate) mod record;
pub(crate) mod request;
pub(crate) mod stream;
mod value;

use axum::extract::{Request, State};
use axum::response::Response;
use lakefall_queue::verbs::{Admission, Append, Caller, Idempotency};
use lakefall_queue::{Record, TopicName};

use self::acks::Acks;
use self::json::{Batch, too_many};
use self::options::{Job, Options, idempotency, idempotency_key, shape};
use self::pipeline::Pipeline;
use crate::body::Incoming;
use crate::extract::{From, PathNames, media_type};
use crate::metrics;
use crate::problem::{Problem, Result};
use crate::router::App;

/// What a body is, by its media type and headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Json,
    Lines,
    Event,
    EventBatch,
    EventBinary,
    Arrow,
    Raw,
}

impl Kind {
    fn of(media: Option<&str>, headers: &axum::http::HeaderMap) -> Self {
        match media {
            Some("application/cloudevents+json") => Self::Event,
            Some("application/cloudevents-batch+json") => Self::EventBatch,
            _ if headers.contains_key("ce-specversion") => Self::EventBinary,
            Some("application/json") => Self::Json,
            Some("application/x-ndjson" | "application/ndjson" | "application/jsonl") => Self::Lines,
            Some("application/vnd.apache.arrow.stream") => Self::Arrow,
            _ => Self::Raw,
        }
    }

    /// Refuses `Lakefall-*` headers where the body says it all: they would be passed over.
    fn check_headers(self, headers: &axum::http::HeaderMap) -> Result<()> {
        match self {
            Self::Raw | Self::Event | Self::EventBinary => Ok(()),
            Self::Json | Self::Lines | Self::EventBatch | Self::Arrow => raw::no_headers(headers),
        }
    }
}

/// Appends the body's records to a topic.
#[utoipa::path(
    post, path = "/v1/topics/{topic}/records", tag = "records", operation_id = "produce",
    description = "Appends one record or many. The answer means: stored durably, at these offsets. A batch is atomic per partition.",
    params(
        crate::schema::TopicPath,
        crate::schema::ProduceQuery,
        ("Idempotency-Key" = Option<String>, Header, description = "Replays the first answer for 24 hours; 1 to 255 visible ASCII characters", min_length = 1, max_length = 255),
    ),
    request_body(
        description = "Any other media type is stored byte for byte as one record's value.",
        content(
            (crate::schema::ProduceBody = "application/json"),
            (String = "application/x-ndjson"),
            (crate::schema::AnyObject = "application/cloudevents+json"),
            (Vec<crate::schema::AnyObject> = "application/cloudevents-batch+json"),
            (Vec<u8> = "application/vnd.apache.arrow.stream"),
            (Vec<u8> = "application/octet-stream"),
        )
    ),
    responses(
        (status = 200, description = "Stored", body = crate::schema::ProduceAnswer),
        crate::schema::Refusals,
    )
)]
pub(crate) async fn produce(State(api): State<App>, From(caller): From, names: PathNames, request: Request) -> Result<Response> {
    produce_to(api, caller, names.topic()?, request).await
}

/// Appends a request's records to `topic`.
pub(crate) async fn produce_to(api: App, caller: Caller, topic: TopicName, request: Request) -> Result<Response> {
    let (parts, body) = request.into_parts();
    let options = Options::read(topic, &parts)?;
    let key = idempotency_key(&parts.headers)?;
    let kind = Kind::of(media_type(&parts.headers)?.as_deref(), &parts.headers);
    kind.check_headers(&parts.headers)?;
    let incoming = Incoming::new(&parts.headers, body, api.settings.max_decompressed_ratio)?;
    let shape = shape(&api, &parts.headers);
    let mut job = Job { api, caller, options, shape };
    if kind == Kind::Lines {
        return lines::produce_lines(job, &parts, incoming, key).await;
    }
    let limits = &job.shape.limits;
    let limit = if matches!(kind, Kind::Raw | Kind::EventBinary) { limits.value_bytes } else { limits.batch_bytes };
    let (body, admission) = incoming.collect(&*job.api.verbs, &job.caller, limit).await?;
    let mut batch = match kind {
        Kind::Json => json::parse(&body, &job.shape)?,
        Kind::Event => one(cloudevents::structured(&body, &parts.headers, &job.shape)?),
        Kind::EventBatch => many(cloudevents::batch(&body, &job.shape)?),
        Kind::EventBinary => one(cloudevents::binary(&body, &parts.headers, &job.shape)?),
        Kind::Arrow => many(arrow::parse(&body, &job.shape)?),
        Kind::Raw | Kind::Lines => one(raw::parse(&body, &parts.headers, &job.shape)?),
    };
    job.options.merge(&mut batch)?;
    let idempotency = idempotency(key, &parts, &body);
    drop(body);
    let acks = append_all(&job, batch.records, idempotency, admission).await?;
    Ok(acks.into_response(job.options.acks))
}

fn one(record: Record) -> Batch {
    many(vec![record])
}

fn many(records: Vec<Record>) -> Batch {
    Batch { records, ..Batch::default() }
}

/// Appends records that are all here: at once where they are one batch, else as ordered batches.
async fn append_all(job: &Job, records: Vec<Record>, idempotency: Option<Idempotency>, admission: Admission) -> Result<Acks> {
    let most = job.shape.limits.batch_records;
    if records.is_empty() {
        return Err(Problem::invalid("", "the body has no record"));
    }
    ::metrics::counter!(metrics::PRODUCED).increment(records.len() as u64);
    if records.len() <= most {
        let append = Append { batch: job.options.append(records, 0), atomic: job.options.atomic, idempotency, order: None, admission };
        return Ok(Acks::of(job.api.verbs.append(&job.caller, append).await?));
    }
    if idempotency.is_some() || job.options.atomic {
        return Err(too_many(records.len(), most));
    }
    let mut pipeline = Pipeline::new(job.clone());
    pipeline.push_split(records, admission);
    let mut acks = Acks::default();
    let mut failure = None;
    while let Some(answer) = pipeline.next().await {
        match answer {
            Ok(appended) => acks.add(appended),
            Err(problem) => failure = Some(first_of(failure, problem)),
        }
    }
    match failure {
        None => Ok(acks),
        Some(problem) => Err(partly(problem, &acks)),
    }
}

/// The refusal to tell of: the first, unless a later one leaves open whether its records are stored.
fn first_of(first: Option<Problem>, next: Problem) -> Problem {
    match first {
        Some(first) if first.is_unknown() || !next.is_unknown() => first,
        _ => next,
    }
}

/// A refusal that came after some records were stored: says which, and never that nothing happened.
fn partly(problem: Problem, acks: &Acks) -> Problem {
    let problem = problem.with("stored", acks.count);
    if acks.count == 0 {
        return problem;
    }
    let recoded = if problem.code() == crate::problem::NOT_COMMITTED { problem.recoded(crate::problem::OUTCOME_UNKNOWN) } else { problem };
    recoded.with("acks", acks.to_json()).unsure()
}
