//! `POST /v1/sql`: a question in SQL, and its rows in the form that `Accept` names.
//!
//! A JSON page is held until it is whole, so that what goes wrong late is still a problem; the others are streams.

use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::response::Response;
use bytes::{BufMut, Bytes, BytesMut};
use futures::Stream;
use http_body_util::StreamBody;
use lakefall_queue::sql::{Parameter, Parameters, Rows, RowsForm, SqlRefusal, Statement, Watermark};
use lakefall_queue::time::parse_duration;
use lakefall_queue::{Error, TopicName};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::body::Incoming;
use crate::extract::{From, Query, media_type};
use crate::problem::{self, Problem, Result};
use crate::produce::json::utf8;
use crate::router::App;

/// Largest body of a request: the longest statement, escaped, and its parameters.
const BODY_BYTES: usize = 1 << 20;
/// Most parameters.
const PARAMETERS: usize = 1_000;
/// Rows of a JSON page where the caller names no number.
const PAGE_ROWS: u64 = 10_000;
/// Largest JSON page.
const PAGE_BYTES: usize = 64 << 20;
/// Longest header of watermarks: clients take some ten kilobytes of headers.
const WATERMARK_BYTES: usize = 4 << 10;

const WATERMARK: HeaderName = HeaderName::from_static("lakefall-watermark");
const STATISTICS: HeaderName = HeaderName::from_static("lakefall-statistics");

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SqlIn {
    query: String,
    #[serde(default)]
    params: Option<Value>,
    #[serde(default)]
    max_rows: Option<u64>,
    #[serde(default)]
    timeout: Option<String>,
}

const FORMS: &[(&str, RowsForm)] = &[
    ("application/json", RowsForm::JsonRows),
    ("application/x-ndjson", RowsForm::Lines),
    ("application/ndjson", RowsForm::Lines),
    ("text/csv", RowsForm::Csv),
    ("application/vnd.apache.arrow.stream", RowsForm::Arrow),
    ("application/*", RowsForm::JsonRows),
    ("text/*", RowsForm::Csv),
    ("*/*", RowsForm::JsonRows),
];

/// Answers a question in SQL.
#[utoipa::path(
    post, path = "/v1/sql", tag = "sql", operation_id = "sql",
    description = "One statement that reads (SELECT, WITH, EXPLAIN, SHOW TABLES, DESCRIBE). Tables are the topics of the namespace, and those of schema `system`. Every topic is seen in one snapshot: all that was acknowledged before the request. `Accept` chooses a JSON page, or a stream of NDJSON, CSV or Arrow; of a stream, `Lakefall-Watermark` tells the snapshot (`topic partition=log_start..end …`, once for each topic), and the trailer `Lakefall-Statistics` what it cost, for clients that take trailers.",
    request_body = crate::schema::SqlQuery,
    responses(
        (status = 200, description = "Rows", content(
            (crate::schema::SqlAnswer = "application/json"), (String = "application/x-ndjson"), (String = "text/csv"),
            (Vec<u8> = "application/vnd.apache.arrow.stream"))),
        crate::schema::Refusals,
    )
)]
pub(crate) async fn sql(State(api): State<App>, From(caller): From, request: Request) -> Result<Response> {
    let (parts, body) = request.into_parts();
    Query::parse(&parts.uri, &[])?;
    if media_type(&parts.headers)?.as_deref().is_some_and(|media| media != "application/json") {
        return Err(Problem::new(problem::UNSUPPORTED_MEDIA_TYPE, "the Content-Type must be application/json"));
    }
    let form = form(&parts.headers)?;
    let incoming = Incoming::new(&parts.headers, body, api.settings.max_decompressed_ratio)?;
    let (body, admission) = incoming.collect(&*api.verbs, &caller, BODY_BYTES).await?;
    let given: SqlIn = serde_json::from_str(utf8(&body)?).map_err(|e| problem::from_json(&e))?;
    drop((body, admission));
    let rows = api.verbs.sql(&caller, statement(given, form)?).await?;
    match form {
        RowsForm::JsonRows => page(rows).await,
        RowsForm::Lines | RowsForm::Csv | RowsForm::Arrow => stream(rows, form, caller.request_id.to_string()).await,
    }
}

/// The first form that the caller names and we know.
fn form(headers: &HeaderMap) -> Result<RowsForm> {
    let Some(accept) = headers.get(header::ACCEPT) else { return Ok(RowsForm::JsonRows) };
    let mut items = accept.to_str().unwrap_or("").split(',').map(|item| item.split(';').next().unwrap_or("").trim());
    let known = |item: &str| FORMS.iter().find(|(name, _)| name.eq_ignore_ascii_case(item)).map(|(_, form)| *form);
    items.find_map(known).ok_or_else(|| {
        Problem::new(
            problem::NOT_ACCEPTABLE,
            "rows come as application/json, application/x-ndjson, text/csv or application/vnd.apache.arrow.stream",
        )
    })
}

fn statement(given: SqlIn, form: RowsForm) -> Result<Statement> {
    if given.query.trim().is_empty() {
        return Err(Problem::invalid("/query", "the query is empty"));
    }
    if given.max_rows == Some(0) {
        return Err(Problem::invalid("/max_rows", "max_rows must be at least 1"));
    }
    let page_rows = (form == RowsForm::JsonRows).then_some(PAGE_ROWS);
    Ok(Statement {
        text: given.query.into(),
        parameters: parameters(given.params)?,
        form,
        max_rows: given.max_rows.or(page_rows),
        timeout: given.timeout.as_deref().map(timeout).transpose()?,
    })
}

fn timeout(text: &str) -> Result<Duration> {
    let refused = || Problem::invalid("/timeout", "timeout must be a duration like \"30s\" of more than nothing");
    parse_duration(text).ok().filter(|timeout| !timeout.is_zero()).ok_or_else(refused)
}

fn parameters(given: Option<Value>) -> Result<Parameters> {
    let count = match &given {
        Some(Value::Array(values)) => values.len(),
        Some(Value::Object(values)) => values.len(),
        _ => 0,
    };
    if count > PARAMETERS {
        return Err(Problem::invalid("/params", format!("at most {PARAMETERS} parameters are taken")));
    }
    match given {
        None | Some(Value::Null) => Ok(Parameters::None),
        Some(Value::Array(values)) => {
            let each = values.into_iter().enumerate().map(|(at, value)| parameter(&at.to_string(), value));
            Ok(Parameters::Listed(each.collect::<Result<_>>()?))
        }
        Some(Value::Object(values)) => named(values),
        Some(_) => Err(Problem::invalid("/params", "params must be an array for $1, $2, …, or an object for $name")),
    }
}

fn named(values: Map<String, Value>) -> Result<Parameters> {
    let each = values.into_iter().map(|(name, value)| {
        let value = parameter(&name, value)?;
        Ok((name, value))
    });
    Ok(Parameters::Named(each.collect::<Result<_>>()?))
}

fn parameter(name: &str, value: Value) -> Result<Parameter> {
    match value {
        Value::Null => Ok(Parameter::Null),
        Value::Bool(value) => Ok(Parameter::Boolean(value)),
        Value::String(text) => Ok(Parameter::Text(text)),
        Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(whole), _) => Ok(Parameter::Integer(whole)),
            (None, Some(float)) => Ok(Parameter::Float(float)),
            (None, None) => Err(Problem::invalid(format!("/params/{name}"), "the number is too large")),
        },
        Value::Array(_) | Value::Object(_) => {
            Err(Problem::invalid(format!("/params/{name}"), "a parameter is null, a boolean, a number or a string"))
        }
    }
}

async fn page(mut rows: Box<dyn Rows>) -> Result<Response> {
    let mut out = BytesMut::with_capacity(4 << 10);
    out.put_slice(b"{\"columns\":");
    put_json(&mut out, &rows.columns())?;
    out.put_slice(b",\"rows\":[");
    while let Some(portion) = rows.next().await? {
        if out.len() + portion.len() > PAGE_BYTES {
            let reason = format!("the answer is larger than {PAGE_BYTES} bytes: ask for application/x-ndjson, which is a stream");
            return Err(Error::from(SqlRefusal::LimitExceeded { reason }).into());
        }
        out.put_slice(&portion);
    }
    out.put_slice(b"],\"watermarks\":");
    put_json(&mut out, &rows.watermarks())?;
    out.put_slice(b",\"statistics\":");
    put_json(&mut out, &rows.statistics())?;
    out.put_slice(b"}");
    let mut response = Response::new(Body::from(out.freeze()));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(response)
}

fn put_json(out: &mut BytesMut, value: &impl serde::Serialize) -> Result<()> {
    serde_json::to_writer(out.writer(), value).map_err(|error| Problem::new(problem::INTERNAL, error.to_string()))
}

/// A streamed answer. Its first portion is waited for before it begins, so that what goes wrong by then is a problem.
async fn stream(mut rows: Box<dyn Rows>, form: RowsForm, request_id: String) -> Result<Response> {
    let first = rows.next().await?;
    let watermarks = watermarks(rows.watermarks());
    let content_type = match form {
        RowsForm::Lines | RowsForm::JsonRows => "application/x-ndjson",
        RowsForm::Csv => "text/csv; charset=utf-8; header=present",
        RowsForm::Arrow => "application/vnd.apache.arrow.stream",
    };
    let mut response = Response::new(Body::new(StreamBody::new(frames(rows, first, form, request_id))));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::TRAILER, HeaderValue::from(STATISTICS));
    for watermark in watermarks {
        headers.append(WATERMARK, watermark);
    }
    Ok(response)
}

/// What is left of a streamed answer.
enum Rest {
    Portion(Option<Bytes>),
    Broken,
    Done,
}

type Frame = http_body::Frame<Bytes>;

fn frames(rows: Box<dyn Rows>, first: Option<Bytes>, form: RowsForm, request_id: String) -> impl Stream<Item = std::io::Result<Frame>> {
    let state = (rows, Rest::Portion(first), request_id);
    futures::stream::unfold(state, move |(mut rows, rest, request_id)| async move {
        match rest {
            Rest::Done => None,
            Rest::Broken => Some((Err(std::io::Error::other("the query failed")), (rows, Rest::Done, request_id))),
            Rest::Portion(None) => {
                let mut trailers = HeaderMap::new();
                let text = serde_json::to_string(&rows.statistics()).ok();
                if let Some(value) = text.and_then(|text| HeaderValue::from_str(&text).ok()) {
                    trailers.insert(STATISTICS, value);
                }
                Some((Ok(Frame::trailers(trailers)), (rows, Rest::Done, request_id)))
            }
            Rest::Portion(Some(portion)) => match rows.next().await {
                Ok(next) => Some((Ok(Frame::data(portion)), (rows, Rest::Portion(next), request_id))),
                Err(error) => {
                    let problem = Problem::from(error);
                    tracing::warn!(%request_id, code = problem.code().name, "a query failed after its answer began");
                    let mut last = BytesMut::from(&portion[..]);
                    // The other forms have no place for a problem: the broken body alone says it.
                    if form == RowsForm::Lines {
                        last.put_slice(format!("{}\n", problem.to_json(&request_id)).as_bytes());
                    }
                    Some((Ok(Frame::data(last.freeze())), (rows, Rest::Broken, request_id)))
                }
            },
        }
    })
}

/// `flights 0=0..1234 1=7..99`, once for each topic. One that would be too long is left out: it stands in a JSON page.
fn watermarks(all: &[Watermark]) -> Vec<HeaderValue> {
    let mut topics: Vec<(&TopicName, String)> = Vec::new();
    for Watermark { topic, partition, log_start, end } in all {
        if topics.last().is_none_or(|(last, _)| *last != topic) {
            topics.push((topic, topic.to_string()));
        }
        if let Some((_, text)) = topics.last_mut() {
            text.push_str(&format!(" {partition}={log_start}..{end}"));
        }
    }
    topics.into_iter().filter(|(_, text)| text.len() <= WATERMARK_BYTES).filter_map(|(_, text)| HeaderValue::from_str(&text).ok()).collect()
}

#[cfg(test)]
mod tests {
    use lakefall_queue::{Offset, PartitionIndex};
    use serde_json::json;

    use super::*;

    #[test]
    fn parameters_are_scalars_with_numbers_or_names() {
        let listed = parameters(Some(json!([1, 2.5, "a", true, null]))).unwrap();
        let values = [Parameter::Integer(1), Parameter::Float(2.5), Parameter::Text("a".into()), Parameter::Boolean(true), Parameter::Null];
        assert_eq!(listed, Parameters::Listed(values.into()));
        assert_eq!(parameters(Some(json!({"a": 1}))).unwrap(), Parameters::Named(vec![("a".into(), Parameter::Integer(1))]));
        assert_eq!(parameters(Some(json!([[1]]))).unwrap_err().place(), Some("/params/0"));
        assert_eq!(parameters(Some(json!("a"))).unwrap_err().place(), Some("/params"));
    }

    #[test]
    fn a_watermark_stands_in_one_header_for_each_topic() {
        let mark = |topic: &str, partition, end| Watermark {
            topic: TopicName::new(topic).unwrap(),
            partition: PartitionIndex(partition),
            log_start: Offset(3),
            end: Offset(end),
        };
        let headers = watermarks(&[mark("a", 0, 9), mark("a", 1, 8), mark("b", 0, 7)]);
        assert_eq!(headers, ["a 0=3..9 1=3..8", "b 0=3..7"]);
    }
}
