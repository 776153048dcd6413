//! A produce request of lines: whole where it fits one batch, else a stream of chunks, several in flight.
//!
//! Must never hold a long body, and never store a line after the first bad one.

use std::sync::Arc;

use axum::http::request::Parts;
use axum::response::Response;
use bytes::Bytes;
use lakefall_queue::verbs::Admission;

use super::acks::Acks;
use super::gather::{CHUNK, Gather};
use super::ndjson::{Count, parse_lines};
use super::options::{Job, idempotency};
use super::pipeline::Pipeline;
use super::{append_all, first_of, partly};
use crate::body::Incoming;
use crate::metrics;
use crate::problem::{Problem, Result};

/// Appends a body of lines.
pub(super) async fn produce_lines(job: Job, parts: &Parts, incoming: Incoming, key: Option<Arc<str>>) -> Result<Response> {
    let limit = job.shape.limits.batch_bytes;
    let must_be_whole = key.is_some() || job.options.atomic;
    if must_be_whole || incoming.exact_length().is_some_and(|length| length <= limit as u64) {
        let (body, admission) = incoming.collect(&*job.api.verbs, &job.caller, limit).await?;
        let key = idempotency(key, parts, &body);
        return whole(&job, body, admission, key).await;
    }
    let mut gather = Gather::new(incoming);
    if gather.exceeds(limit) {
        return streamed(job, gather, None).await;
    }
    // The length is not known: what ends within the limit is one batch, as if its length had been told.
    match gather.chunk(&job, limit).await? {
        Some((body, admission)) if gather.ended() => whole(&job, body, admission, None).await,
        first => streamed(job, gather, first).await,
    }
}

async fn whole(job: &Job, body: Bytes, admission: Admission, key: Option<lakefall_queue::verbs::Idempotency>) -> Result<Response> {
    let parsed = parse_lines(&body, &job.options.format, &job.shape, &mut Count::default());
    drop(body);
    match parsed.bad {
        None => Ok(append_all(job, parsed.records, key, admission).await?.into_response(job.options.acks)),
        Some(bad) if !job.options.partial || parsed.records.is_empty() => Err(bad.with("stored", 0)),
        Some(bad) => Err(partly(bad, &append_all(job, parsed.records, key, admission).await?)),
    }
}

/// Appends chunk after chunk as they are complete, each atomic per partition.
async fn streamed(job: Job, mut gather: Gather, first: Option<(Bytes, Admission)>) -> Result<Response> {
    let mut pipeline = Pipeline::new(job.clone());
    let mut acks = Acks::default();
    let mut count = Count::default();
    let mut failure: Option<Problem> = None;
    // Of an append; it goes before what was found in the body: its records may be stored all the same.
    let mut refused: Option<Problem> = None;
    let mut ended = false;
    if let Some((chunk, admission)) = first {
        failure = push_lines(&job, &mut pipeline, &mut count, chunk, admission);
    }
    loop {
        let reading = !ended && failure.is_none() && refused.is_none();
        tokio::select! {
            biased;
            Some(answer) = pipeline.next(), if !pipeline.is_empty() => match answer {
                Ok(appended) => acks.add(appended),
                Err(problem) => refused = Some(first_of(refused, problem)),
            },
            chunk = gather.chunk(&job, CHUNK), if reading && !pipeline.is_full() => match chunk {
                Ok(Some((chunk, admission))) => failure = push_lines(&job, &mut pipeline, &mut count, chunk, admission),
                Ok(None) => ended = true,
                Err(problem) => failure = Some(problem),
            },
            else => break,
        }
    }
    match refused.or(failure) {
        Some(problem) => Err(partly(problem, &acks)),
        None if count.records == 0 => Err(Problem::invalid("", "the body has no record")),
        None => Ok(acks.into_response(job.options.acks)),
    }
}

/// Hands a chunk's records over; a chunk with a bad line only where the caller asked for partial batches.
fn push_lines(job: &Job, pipeline: &mut Pipeline, count: &mut Count, chunk: Bytes, admission: Admission) -> Option<Problem> {
    let parsed = parse_lines(&chunk, &job.options.format, &job.shape, count);
    if !parsed.records.is_empty() && (parsed.bad.is_none() || job.options.partial) {
        ::metrics::counter!(metrics::PRODUCED).increment(parsed.records.len() as u64);
        pipeline.push_split(parsed.records, admission);
    }
    parsed.bad
}
