//! Refusals as RFC 9457 problem details: every code there is, and how a verb's error becomes one.
//!
//! Must never carry what a caller has no business with: internal texts stay in the log.

use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderValue, Response, StatusCode, header};
use axum::response::IntoResponse;
use lakefall_queue::error::InvalidRecord;
use lakefall_queue::sql::SqlRefusal;
use lakefall_queue::{Error, Outcome};
use serde_json::{Map, Value, json};

/// What a handler answers.
pub(crate) type Result<T, E = Problem> = std::result::Result<T, E>;

/// A kind of problem: stable for clients to match on.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Code {
    /// The stable word.
    pub(crate) name: &'static str,
    /// The HTTP status that goes with it.
    pub(crate) status: StatusCode,
    /// What it is called, for people.
    pub(crate) title: &'static str,
}

macro_rules! codes {
    ($($konst:ident = $name:literal, $status:ident, $title:literal;)*) => {
        $(pub(crate) const $konst: &Code = &Code { name: $name, status: StatusCode::$status, title: $title };)*
        /// Every code, for the documents and their test.
        pub(crate) const ALL: &[&Code] = &[$($konst),*];
    };
}

codes! {
    INVALID_ARGUMENT = "invalid_argument", BAD_REQUEST, "An argument is malformed or out of range";
    UNKNOWN_PARAMETER = "unknown_parameter", BAD_REQUEST, "There is no such query parameter or header";
    UNKNOWN_FIELD = "unknown_field", BAD_REQUEST, "There is no such field";
    MALFORMED_BODY = "malformed_body", BAD_REQUEST, "The body cannot be read";
    MALFORMED_RECORD = "malformed_record", BAD_REQUEST, "A record cannot be read";
    NOT_SUPPORTED = "not_supported", BAD_REQUEST, "Not available";
    SQL_INVALID = "sql_invalid", BAD_REQUEST, "The query is wrong, or does more than read";
    RECEIPT_FORGED = "receipt_forged", BAD_REQUEST, "Not a receipt of this service";
    SQL_TABLE_NOT_FOUND = "sql_table_not_found", NOT_FOUND, "There is no such table";
    NAMESPACE_NOT_FOUND = "namespace_not_found", NOT_FOUND, "There is no such namespace";
    TOPIC_NOT_FOUND = "topic_not_found", NOT_FOUND, "There is no such topic";
    PARTITION_NOT_FOUND = "partition_not_found", NOT_FOUND, "There is no such partition";
    CURSOR_NOT_FOUND = "cursor_not_found", NOT_FOUND, "There is no such cursor";
    QUEUE_NOT_FOUND = "queue_not_found", NOT_FOUND, "There is no such queue";
    BINDING_NOT_FOUND = "binding_not_found", NOT_FOUND, "The queue has no such binding";
    RECEIPT_NOT_FOUND = "receipt_not_found", NOT_FOUND, "The receipt is of another queue";
    MESSAGE_NOT_FOUND = "message_not_found", NOT_FOUND, "There is no such message in the queue";
    OPERATION_NOT_FOUND = "operation_not_found", NOT_FOUND, "There is no such operation";
    SCHEMA_NOT_FOUND = "schema_not_found", NOT_FOUND, "There is no such schema";
    ROUTE_NOT_FOUND = "route_not_found", NOT_FOUND, "There is nothing at this path";
    METHOD_NOT_ALLOWED = "method_not_allowed", METHOD_NOT_ALLOWED, "The path does not take this method";
    NOT_ACCEPTABLE = "not_acceptable", NOT_ACCEPTABLE, "No acceptable media type";
    REQUEST_TIMEOUT = "request_timeout", REQUEST_TIMEOUT, "The request came too slowly";
    ALREADY_EXISTS = "already_exists", CONFLICT, "The name is taken";
    NAMESPACE_NOT_EMPTY = "namespace_not_empty", CONFLICT, "The namespace is not empty";
    FENCED = "fenced", CONFLICT, "Another writer took over";
    PRODUCER_FENCED = "producer_fenced", CONFLICT, "A newer instance of the producer took over";
    SEQUENCE_GAP = "sequence_gap", CONFLICT, "The producer's batch came out of turn";
    IDEMPOTENCY_CONFLICT = "idempotency_conflict", CONFLICT, "The idempotency key was used for another request";
    STREAM_POISONED = "stream_poisoned", CONFLICT, "An earlier batch of the stream was refused";
    LEASE_EXPIRED = "lease_expired", CONFLICT, "The lease is over";
    LEASE_OVER = "lease_over", CONFLICT, "A lease that was to be settled with a commit is over";
    QUEUE_CHANGED = "queue_changed", CONFLICT, "The queue was changed meanwhile";
    QUEUE_WITHOUT_TOPIC = "queue_without_topic", CONFLICT, "The queue has no topic any more";
    DEAD_LETTER_CYCLE = "dead_letter_cycle", CONFLICT, "Dead letters would come back to their queue";
    REPLAY_CONFLICT = "replay_conflict", CONFLICT, "The replay runs, or its name is another's";
    DEAD_LETTER_QUEUE_TAKEN = "dead_letter_queue_taken", CONFLICT, "The queue of dead letters reads something else";
    SCHEMA_IN_USE = "schema_in_use", CONFLICT, "A topic uses the schema";
    SCHEMA_INCOMPATIBLE = "schema_incompatible", CONFLICT, "The schema is not compatible with the one before";
    OFFSET_TRIMMED = "offset_trimmed", GONE, "The offset is below the log start";
    PRECONDITION_FAILED = "precondition_failed", PRECONDITION_FAILED, "The condition does not hold";
    VERSION_MISMATCH = "version_mismatch", PRECONDITION_FAILED, "The resource changed";
    OFFSET_MISMATCH = "offset_mismatch", PRECONDITION_FAILED, "The partition ends elsewhere";
    TOO_LARGE = "too_large", PAYLOAD_TOO_LARGE, "Too large";
    URI_TOO_LONG = "uri_too_long", URI_TOO_LONG, "The URI is too long";
    UNSUPPORTED_MEDIA_TYPE = "unsupported_media_type", UNSUPPORTED_MEDIA_TYPE, "The media type is not taken here";
    UNSUPPORTED_ENCODING = "unsupported_encoding", UNSUPPORTED_MEDIA_TYPE, "The content encoding is not known";
    SCHEMA_INVALID = "schema_invalid", UNPROCESSABLE_ENTITY, "This is no schema that could be used";
    RECORD_INVALID = "record_invalid", UNPROCESSABLE_ENTITY, "A record does not match the topic's schema";
    SQL_LIMIT_EXCEEDED = "sql_limit_exceeded", UNPROCESSABLE_ENTITY, "The query needs more than one may";
    SQL_TIMEOUT = "sql_timeout", UNPROCESSABLE_ENTITY, "The query took longer than it may";
    QUEUE_FULL = "queue_full", TOO_MANY_REQUESTS, "The queue is full";
    HEADERS_TOO_LARGE = "headers_too_large", REQUEST_HEADER_FIELDS_TOO_LARGE, "Too many or too large headers";
    INTERNAL = "internal", INTERNAL_SERVER_ERROR, "A defect in Lakefall";
    DATA_UNAVAILABLE = "data_unavailable", INTERNAL_SERVER_ERROR, "Stored data cannot be read";
    NOT_COMMITTED = "not_committed", SERVICE_UNAVAILABLE, "Not now: nothing was applied";
    OUTCOME_UNKNOWN = "outcome_unknown", GATEWAY_TIMEOUT, "It may or may not have been applied";
    NO_REPLY = "no_reply", GATEWAY_TIMEOUT, "The request is stored, but nobody replied in time";
}

/// Where the codes are explained; `/<code>` follows.
pub(crate) const TYPE_BASE: &str = "https://lakefall.dev/problems/";

/// When to send again to a queue that is full.
const FULL_PAUSE: Duration = Duration::from_secs(1);

/// The media type of a problem.
pub(crate) const MEDIA_TYPE: &str = "application/problem+json";

/// A refusal, on its way to the caller.
#[derive(Clone, Debug)]
pub(crate) struct Problem(Box<Inner>);

#[derive(Clone, Debug)]
struct Inner {
    code: &'static Code,
    detail: String,
    outcome: Outcome,
    errors: Vec<(String, String)>,
    extras: Map<String, Value>,
    retry_after: Option<Duration>,
}

impl Problem {
    /// A refusal that changed nothing.
    pub(crate) fn new(code: &'static Code, detail: impl Into<String>) -> Self {
        Self(Box::new(Inner {
            code,
            detail: detail.into(),
            outcome: Outcome::NotApplied,
            errors: Vec::new(),
            extras: Map::new(),
            retry_after: None,
        }))
    }

    /// An argument that is malformed or out of range.
    pub(crate) fn invalid(field: impl Into<String>, reason: impl Into<String>) -> Self {
        let reason = reason.into();
        Self::new(INVALID_ARGUMENT, reason.clone()).at(field, reason)
    }

    /// Names the place that is wrong: a parameter, or a JSON pointer.
    pub(crate) fn at(mut self, pointer: impl Into<String>, reason: impl Into<String>) -> Self {
        self.0.errors.push((pointer.into(), reason.into()));
        self
    }

    /// Puts `prefix` before each place named: the error was found inside of it.
    pub(crate) fn inside(mut self, prefix: &str) -> Self {
        for (pointer, _) in &mut self.0.errors {
            *pointer = format!("{prefix}{}{pointer}", if pointer.starts_with('/') || pointer.is_empty() { "" } else { "/" });
        }
        self
    }

    /// Adds a member.
    pub(crate) fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.0.extras.insert(name.to_owned(), value.into());
        self
    }

    /// Says that the request may have taken effect, wholly or in part.
    pub(crate) fn unsure(mut self) -> Self {
        self.0.outcome = Outcome::Unknown;
        self
    }

    /// Says when to try again.
    pub(crate) fn after(mut self, wait: Duration) -> Self {
        self.0.retry_after = Some(wait);
        self
    }

    /// Replaces the kind and keeps the rest.
    pub(crate) fn recoded(mut self, code: &'static Code) -> Self {
        self.0.code = code;
        self
    }

    /// Puts `lead` before the detail.
    pub(crate) fn because(mut self, lead: &str) -> Self {
        self.0.detail = format!("{lead}: {}", self.0.detail);
        self
    }

    /// Whether the request may have taken effect.
    pub(crate) fn is_unknown(&self) -> bool {
        self.0.outcome == Outcome::Unknown
    }

    /// The first place named.
    pub(crate) fn place(&self) -> Option<&str> {
        self.0.errors.first().map(|(pointer, _)| pointer.as_str())
    }

    /// Names no place, so that others can be named.
    pub(crate) fn without_places(mut self) -> Self {
        self.0.errors.clear();
        self
    }

    /// What is wrong, for people.
    pub(crate) fn detail(&self) -> &str {
        &self.0.detail
    }

    /// The kind.
    pub(crate) fn code(&self) -> &'static Code {
        self.0.code
    }

    /// The members of RFC 9457 and Lakefall's own.
    pub(crate) fn to_json(&self, request_id: &str) -> Value {
        let inner = &self.0;
        let mut members = Map::new();
        members.insert("type".into(), format!("{TYPE_BASE}{}", inner.code.name).into());
        members.insert("title".into(), inner.code.title.into());
        members.insert("status".into(), inner.code.status.as_u16().into());
        members.insert("detail".into(), inner.detail.as_str().into());
        members.insert("code".into(), inner.code.name.into());
        let outcome = match inner.outcome {
            Outcome::NotApplied => "not_applied",
            Outcome::Unknown => "unknown",
        };
        members.insert("outcome".into(), outcome.into());
        members.insert("request_id".into(), request_id.into());
        if !inner.errors.is_empty() {
            let errors = inner.errors.iter().map(|(pointer, reason)| json!({"pointer": pointer, "reason": reason}));
            members.insert("errors".into(), errors.collect());
        }
        if let Some(after) = inner.retry_after {
            members.insert("retry_after".into(), after.as_secs_f64().into());
        }
        members.extend(inner.extras.clone());
        Value::Object(members)
    }

    /// The whole answer.
    pub(crate) fn render(&self, request_id: &str) -> Response<Body> {
        let mut response = Response::new(Body::from(self.to_json(request_id).to_string()));
        *response.status_mut() = self.0.code.status;
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
        if let Some(after) = self.0.retry_after {
            let seconds = after.as_millis().div_ceil(1_000).max(1) as u64;
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

impl IntoResponse for Problem {
    /// Only marks the answer: the edge renders it, as it alone knows the request id.
    fn into_response(self) -> Response<Body> {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = self.0.code.status;
        response.extensions_mut().insert(self);
        response
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        let outcome = error.outcome();
        let detail = error.to_string();
        let mut problem = match error {
            Error::Invalid { field, reason } => Problem::invalid(field, reason),
            Error::TooLarge { limit, actual, .. } => Problem::new(TOO_LARGE, detail).with("limit", limit).with("actual", actual),
            Error::NamespaceNotFound(_) => Problem::new(NAMESPACE_NOT_FOUND, detail),
            Error::TopicNotFound(_) => Problem::new(TOPIC_NOT_FOUND, detail),
            Error::PartitionNotFound { partitions, .. } => Problem::new(PARTITION_NOT_FOUND, detail).with("partitions", partitions),
            Error::CursorNotFound(_) => Problem::new(CURSOR_NOT_FOUND, detail),
            Error::AlreadyExists { .. } => Problem::new(ALREADY_EXISTS, detail),
            Error::NamespaceNotEmpty(_) => Problem::new(NAMESPACE_NOT_EMPTY, detail),
            Error::VersionMismatch { expected, actual } => {
                Problem::new(VERSION_MISMATCH, detail).with("expected", expected).with("actual", actual)
            }
            Error::OffsetMismatch { partition, expected, end } => {
                Problem::new(OFFSET_MISMATCH, detail).with("partition", partition.0).with("expected", expected.0).with("end", end.0)
            }
            Error::Fenced { token, current } => Problem::new(FENCED, detail).with("token", token).with("current", current),
            Error::ProducerFenced { epoch, current } => Problem::new(PRODUCER_FENCED, detail).with("epoch", epoch).with("current", current),
            Error::SequenceGap { sequence, expected } => {
                Problem::new(SEQUENCE_GAP, detail).with("sequence", sequence).with("expected", expected)
            }
            Error::IdempotencyConflict => Problem::new(IDEMPOTENCY_CONFLICT, detail),
            Error::StreamPoisoned => Problem::new(STREAM_POISONED, detail),
            Error::BelowLogStart { partition, offset, log_start } => {
                Problem::new(OFFSET_TRIMMED, detail).with("partition", partition.0).with("offset", offset.0).with("log_start", log_start.0)
            }
            Error::QueueNotFound(_) => Problem::new(QUEUE_NOT_FOUND, detail),
            Error::BindingNotFound { .. } => Problem::new(BINDING_NOT_FOUND, detail),
            Error::QueueFull { max_depth, .. } => Problem::new(QUEUE_FULL, detail).with("max_depth", max_depth).after(FULL_PAUSE),
            Error::QueueWithoutTopic(_) => Problem::new(QUEUE_WITHOUT_TOPIC, detail),
            Error::QueueChanged(_) => Problem::new(QUEUE_CHANGED, detail),
            Error::LeaseOver { partition, offset } => {
                Problem::new(LEASE_OVER, detail).with("partition", partition.0).with("offset", offset.0)
            }
            Error::ReceiptForged => Problem::new(RECEIPT_FORGED, detail),
            Error::ReceiptNotFound(_) => Problem::new(RECEIPT_NOT_FOUND, detail),
            Error::MessageNotFound(_) => Problem::new(MESSAGE_NOT_FOUND, detail),
            Error::DeadLetterCycle { .. } => Problem::new(DEAD_LETTER_CYCLE, detail.clone()).at("/dead_letter/topic", detail),
            Error::DeadLetterQueueTaken { .. } => Problem::new(DEAD_LETTER_QUEUE_TAKEN, detail),
            Error::NoReply { topic, partition, offset, .. } => {
                Problem::new(NO_REPLY, detail).with("topic", topic.as_str()).with("partition", partition.0).with("offset", offset.0)
            }
            Error::ReplayConflict { .. } => Problem::new(REPLAY_CONFLICT, detail),
            Error::OperationNotFound(_) => Problem::new(OPERATION_NOT_FOUND, detail),
            Error::SchemaNotFound { .. } => Problem::new(SCHEMA_NOT_FOUND, detail),
            Error::SchemaInUse { topic, .. } => Problem::new(SCHEMA_IN_USE, detail).with("topic", topic.as_str()),
            Error::SchemaInvalid(wrong) => Problem::new(SCHEMA_INVALID, detail).at(format!("/schema{}", wrong.pointer), wrong.reason),
            Error::SchemaIncompatible { version, reasons, .. } => {
                reasons.into_iter().fold(Problem::new(SCHEMA_INCOMPATIBLE, detail).with("version", version), |problem, wrong| {
                    problem.at(format!("/schema{}", wrong.pointer), wrong.reason)
                })
            }
            Error::RecordsInvalid(records) => invalid_records(detail, records),
            Error::Sql(refusal) => sql(refusal, detail),
            Error::Unavailable { retry_after, .. } => Problem::new(NOT_COMMITTED, detail).after(retry_after),
            Error::Unknown { .. } => Problem::new(OUTCOME_UNKNOWN, detail),
            Error::DataUnavailable { .. } => {
                tracing::error!(%detail, "stored data cannot be read");
                Problem::new(DATA_UNAVAILABLE, "stored data of this range cannot be read; an operator must act")
            }
            // `Internal`, and variants that are newer than this room.
            _ => {
                tracing::error!(%detail, "a verb failed");
                Problem::new(INTERNAL, "the request met a defect; the log tells more under this request_id")
            }
        };
        problem.0.outcome = outcome;
        problem
    }
}

/// Names the records that do not match, and the places in their values.
fn invalid_records(detail: String, records: Vec<InvalidRecord>) -> Problem {
    let first = records.first().map_or(0, |first| first.record as u64 + 1);
    records.into_iter().fold(
        Problem::new(RECORD_INVALID, detail).with("record", first),
        |problem, InvalidRecord { append, record, wrong }| {
            let append = append.map_or_else(String::new, |append| format!("/appends/{append}"));
            problem.at(format!("{append}/records/{record}/value{}", wrong.pointer), wrong.reason)
        },
    )
}

fn sql(refusal: SqlRefusal, detail: String) -> Problem {
    match refusal {
        SqlRefusal::Invalid { reason, place } => {
            let problem = Problem::new(SQL_INVALID, detail).at("/query", reason);
            match place {
                Some((line, column)) => problem.with("line", line).with("column", column),
                None => problem,
            }
        }
        SqlRefusal::TableNotFound { table, .. } => {
            Problem::new(SQL_TABLE_NOT_FOUND, detail.clone()).at("/query", detail).with("table", table)
        }
        SqlRefusal::LimitExceeded { .. } => Problem::new(SQL_LIMIT_EXCEEDED, detail),
        SqlRefusal::TimedOut { .. } => Problem::new(SQL_TIMEOUT, detail),
    }
}

/// Reads what serde_json says: which field, and of which record.
pub(crate) fn from_json(error: &serde_json::Error) -> Problem {
    let text = error.to_string();
    let (pointer, reason) = match text.split_once(": ") {
        Some((pointer, reason)) if pointer.starts_with('/') && !pointer.contains(' ') => (pointer, reason),
        _ => ("", text.as_str()),
    };
    let named = reason.split('`').nth(1).map(|field| format!("{pointer}/{field}"));
    let code = match &named {
        Some(_) if reason.starts_with("unknown field") => UNKNOWN_FIELD,
        Some(_) if reason.starts_with("duplicate field") || reason.starts_with("missing field") => INVALID_ARGUMENT,
        _ if error.is_data() => INVALID_ARGUMENT,
        _ => MALFORMED_BODY,
    };
    let place = match &named {
        Some(named) if ["unknown field", "duplicate field", "missing field"].iter().any(|words| reason.starts_with(words)) => named.clone(),
        _ => pointer.to_owned(),
    };
    Problem::new(code, if pointer.is_empty() { reason.to_owned() } else { format!("{pointer}: {reason}") }).at(place, reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_explained_in_the_documents() {
        let page = include_str!("../../../../docs/api/problems.md");
        for code in ALL {
            let heading = format!("### {} ({})", code.name, code.status.as_u16());
            assert!(page.contains(&heading), "docs/api/problems.md has no section {heading:?}");
        }
        let sections = page.lines().filter(|line| line.starts_with("### ")).count();
        assert_eq!(sections, ALL.len(), "docs/api/problems.md explains a code that is not there");
    }

    #[test]
    fn a_problem_says_whether_it_may_have_happened_and_when_to_come_back() {
        let busy = Problem::from(Error::unavailable("the buffer is full"));
        let answer = busy.render("r1");
        assert_eq!(answer.status(), 503);
        assert_eq!(answer.headers()["retry-after"], "1");
        assert_eq!(busy.to_json("r1")["outcome"], "not_applied");
        let unknown = Problem::from(Error::unknown("the connection broke"));
        assert_eq!(unknown.to_json("r1")["outcome"], "unknown");
        assert_eq!(unknown.render("r1").status(), 504);
    }

    #[test]
    fn what_is_wrong_in_json_is_named() {
        #[derive(Debug, serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        #[expect(dead_code, reason = "only read")]
        struct One {
            a: u8,
        }
        let refused = |text: &str| from_json(&serde_json::from_str::<One>(text).unwrap_err()).to_json("r");
        assert_eq!(refused("{\"b\":1}")["errors"][0]["pointer"], "/b");
        assert_eq!(refused("{\"b\":1}")["code"], "unknown_field");
        assert_eq!(refused("{\"a\":1,\"a\":2}")["errors"][0]["pointer"], "/a");
        assert_eq!(refused("{\"a\"")["code"], "malformed_body");
    }
}
