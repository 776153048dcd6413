//! What became of each receipt, as the answer says it: results in order, or, where nothing was settled, one problem.

use std::sync::Arc;

use axum::body::Body;
use axum::http::{HeaderValue, header};
use axum::response::Response;
use bytes::{BufMut, BytesMut};
use lakefall_queue::queue::Settled;
use lakefall_queue::{Error, QueueName, Timestamp};

use super::Wanted;
use crate::problem::{self, Problem, Result};
use crate::text::{TimeText, push_str, push_u64};

/// Bytes of a result beside its receipt, about.
const BESIDES: usize = 48;

struct Outcome {
    receipt: Arc<str>,
    status: &'static str,
    lease_until: Option<Timestamp>,
    problem: Option<Problem>,
}

/// The results of one request, in the order of its receipts.
pub(super) struct Results {
    /// The list's name in the body.
    list: String,
    outcomes: Vec<Outcome>,
}

impl Results {
    /// Joins what was refused here with what the verb answered, which is in order and leaves the former out.
    pub(super) fn new(queue: &QueueName, list: &str, wanted: Vec<Wanted>, settled: Vec<Settled>) -> Self {
        let mut settled = settled.into_iter();
        let outcomes = wanted.into_iter().map(|(receipt, verdict)| {
            let (status, lease_until, problem) = match verdict.map(|_| settled.next()) {
                Err(problem) => ("failed", None, Some(problem)),
                Ok(Some(settled)) => told(queue, settled),
                Ok(None) => ("failed", None, Some(Error::Internal("a settlement has no answer".to_owned()).into())),
            };
            Outcome { receipt, status, lease_until, problem }
        });
        Self { list: list.to_owned(), outcomes: outcomes.collect() }
    }

    /// How many were settled.
    pub(super) fn ok(&self) -> u64 {
        self.outcomes.iter().filter(|outcome| outcome.problem.is_none()).count() as u64
    }

    /// 200 with all results if any was settled, else the first one's problem with the places of all.
    pub(super) fn into_response(self) -> Result<Response> {
        let ok = self.ok();
        if ok == 0
            && let Some(problem) = self.problem()
        {
            return Err(problem);
        }
        let receipts: usize = self.outcomes.iter().map(|outcome| outcome.receipt.len() + BESIDES).sum();
        let mut out = BytesMut::with_capacity(receipts + 32);
        let mut until = TimeText::default();
        out.put_slice(b"{\"results\":");
        for (at, outcome) in self.outcomes.iter().enumerate() {
            out.put_u8(if at == 0 { b'[' } else { b',' });
            put_outcome(&mut out, &mut until, outcome);
        }
        out.put_slice(b"],\"ok\":");
        push_u64(&mut out, ok);
        out.put_u8(b'}');
        let mut response = Response::new(Body::from(out.freeze()));
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        Ok(response)
    }

    fn problem(&self) -> Option<Problem> {
        let mut whole = self.outcomes.first()?.problem.clone()?.without_places();
        for (at, outcome) in self.outcomes.iter().enumerate() {
            let Some(problem) = &outcome.problem else { continue };
            let item = if self.list == "receipt" { "/receipt".to_owned() } else { format!("/{}/{at}", self.list) };
            let place = problem.place().filter(|place| place.starts_with(&item)).map(str::to_owned);
            whole = whole.at(place.unwrap_or(item), problem.detail());
            if problem.is_unknown() {
                whole = whole.unsure();
            }
        }
        Some(whole)
    }
}

fn told(queue: &QueueName, settled: Settled) -> (&'static str, Option<Timestamp>, Option<Problem>) {
    match settled {
        Settled::Ok(until) => ("ok", until, None),
        Settled::Expired => {
            let detail = "the lease is over, or the message was leased again since: nothing changed";
            ("expired", None, Some(Problem::new(problem::LEASE_EXPIRED, detail)))
        }
        Settled::Unknown => ("unknown", None, Some(Error::ReceiptNotFound(queue.clone()).into())),
        Settled::Forged => ("forged", None, Some(Error::ReceiptForged.into())),
        Settled::Failed(error) => ("failed", None, Some(error.into())),
    }
}

fn put_outcome(out: &mut BytesMut, until: &mut TimeText, outcome: &Outcome) {
    out.put_slice(b"{\"receipt\":");
    push_str(out, &outcome.receipt);
    out.put_slice(b",\"status\":\"");
    out.put_slice(outcome.status.as_bytes());
    out.put_u8(b'"');
    if let Some(at) = outcome.lease_until {
        out.put_slice(b",\"lease_until\":");
        until.push(out, at);
    }
    if let Some(problem) = &outcome.problem {
        out.put_slice(b",\"code\":");
        push_str(out, problem.code().name);
        out.put_slice(b",\"detail\":");
        push_str(out, problem.detail());
    }
    out.put_u8(b'}');
}
