//! What every request passes: its id and caller, checks of its head, panics caught, problems rendered, answers
//! compressed, the request counted. One layer, as each costs every request.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use async_compression::Level;
use async_compression::tokio::bufread::{GzipEncoder, ZstdEncoder};
use axum::body::{Body, HttpBody};
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;
use futures::{FutureExt, TryStreamExt};
use lakefall_queue::NamespaceName;
use lakefall_queue::verbs::Caller;
use opentelemetry::trace::FutureExt as _;
use tokio::time::Instant;
use tokio_util::io::{ReaderStream, StreamReader};

use crate::extract::single_header;
use crate::problem::{self, Problem, Result};
use crate::router::App;
use crate::trace::{self, ServerSpan};

/// The request's id, in and out.
const REQUEST_ID: HeaderName = HeaderName::from_static("lakefall-request-id");
const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// The tenant, where nobody is authenticated.
const NAMESPACE: HeaderName = HeaderName::from_static("lakefall-namespace");

/// Longest path and query.
const URI_MAX: usize = 8 << 10;
/// Most headers, and most bytes of them.
const HEADERS_MAX: usize = 100;
const HEAD_MAX: usize = 16 << 10;
/// Smaller answers are not compressed: the frame would outweigh the gain.
const COMPRESS_MIN: u64 = 1 << 10;
/// Pieces in which a compressed answer leaves.
const PIECE: usize = 64 << 10;

/// Marks an answer that must reach the caller piece by piece, as it comes.
#[derive(Clone, Copy)]
pub(crate) struct Immediate;

/// The one layer.
pub(crate) async fn edge(State(api): State<App>, mut request: Request, next: Next) -> Response {
    let started = Instant::now();
    let request_id = request_id(&api, request.headers());
    let method = request.method().clone();
    let route = request.extensions().get::<MatchedPath>().cloned();
    let accepts = request.headers().get(header::ACCEPT_ENCODING).cloned();
    let span = trace::begun(&api, &request, route.as_ref().map(MatchedPath::as_str), &request_id);
    let mut response = match check_head(&request).and_then(|()| caller(request.headers(), &request_id)) {
        Err(problem) => problem.render(&request_id),
        Ok(mut caller) => {
            caller.trace = span.as_ref().and_then(ServerSpan::trace);
            request.extensions_mut().insert(caller);
            let handled = AssertUnwindSafe(next.run(request)).catch_unwind();
            let handled = match &span {
                None => handled.await,
                Some(span) => Box::pin(handled.with_context(span.context())).await,
            };
            match handled {
                Ok(response) => rendered(response, &request_id),
                Err(_) => {
                    tracing::error!(request_id = &*request_id, "a handler panicked");
                    Problem::new(problem::INTERNAL, "the request met a defect; the log tells more under this request_id")
                        .unsure()
                        .render(&request_id)
                }
            }
        }
    };
    if let Some(accepts) = accepts {
        response = compress(response, &accepts);
    }
    if let Ok(id) = HeaderValue::from_str(&request_id) {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    let route = route.as_ref().map_or("none", MatchedPath::as_str);
    if let Some(span) = span {
        span.answered(response.status(), route, &request_id);
    }
    api.metrics.record(route, &method, response.status(), started.elapsed());
    response
}

fn rendered(mut response: Response, request_id: &str) -> Response {
    let Some(problem) = response.extensions_mut().remove::<Problem>() else { return response };
    let mut full = problem.render(request_id);
    // What the router added, such as Allow.
    for (name, value) in response.headers() {
        full.headers_mut().entry(name).or_insert_with(|| value.clone());
    }
    full.headers_mut().remove(header::CONTENT_LENGTH);
    full
}

/// The caller's id if it is sane, else a fresh one.
fn request_id(api: &App, headers: &HeaderMap) -> Arc<str> {
    let sane = |id: &&str| (1..=128).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric() || b"._:-".contains(&b));
    let given = headers.get(REQUEST_ID).or_else(|| headers.get(X_REQUEST_ID)).and_then(|id| id.to_str().ok()).filter(sane);
    match given {
        Some(id) => id.into(),
        None => format!("{:032x}", api.ambient.entropy.draw()).into(),
    }
}

fn caller(headers: &HeaderMap, request_id: &Arc<str>) -> Result<Caller> {
    let namespace = match single_header(headers, &NAMESPACE)? {
        None => NamespaceName::default_name(),
        Some(name) => NamespaceName::new(name)?,
    };
    Ok(Caller { namespace, request_id: Arc::clone(request_id), trace: None })
}

fn check_head(request: &Request) -> Result<()> {
    let uri = request.uri();
    let uri_bytes = uri.path().len() + uri.query().map_or(0, |query| query.len() + 1);
    if uri_bytes > URI_MAX {
        return Err(Problem::new(problem::URI_TOO_LONG, format!("the URI is {uri_bytes} bytes: at most {URI_MAX} are allowed")));
    }
    let headers = request.headers();
    let head: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
    if headers.len() > HEADERS_MAX || head > HEAD_MAX {
        let text = format!("the head has {} headers of {head} bytes: at most {HEADERS_MAX} of {HEAD_MAX} are allowed", headers.len());
        return Err(Problem::new(problem::HEADERS_TOO_LARGE, text));
    }
    let announced =
        headers.get(header::CONTENT_LENGTH).is_some_and(|length| length != "0") || headers.contains_key(header::TRANSFER_ENCODING);
    if announced && matches!(*request.method(), Method::GET | Method::HEAD) {
        return Err(Problem::new(problem::MALFORMED_BODY, format!("a {} takes no body", request.method())));
    }
    Ok(())
}

/// No route has this path.
pub(crate) async fn not_found(request: Request) -> Problem {
    let path = request.uri().path();
    if path.starts_with("/v1/") && (path.contains("//") || path.ends_with('/')) {
        return Problem::invalid("path", "a name in the path is empty");
    }
    let shown: String = path.chars().take(200).collect();
    Problem::new(problem::ROUTE_NOT_FOUND, format!("there is nothing at {shown}; /docs lists what there is"))
}

/// The path has other methods; the router names them in `Allow`.
pub(crate) async fn method_not_allowed(request: Request) -> Problem {
    let shown: String = request.method().as_str().chars().take(32).collect();
    Problem::new(problem::METHOD_NOT_ALLOWED, format!("this path does not take {shown}"))
}

/// Compresses what is worth it, if the caller takes zstd or gzip.
fn compress(response: Response, accepts: &HeaderValue) -> Response {
    let has_body = response.status() != StatusCode::NO_CONTENT && response.status() != StatusCode::NOT_MODIFIED;
    let small = response.body().size_hint().exact().is_some_and(|bytes| bytes < COMPRESS_MIN);
    let keep = response.extensions().get::<Immediate>().is_some() || response.headers().contains_key(header::CONTENT_ENCODING);
    if !has_body || small || keep {
        return response;
    }
    let zstd = takes(accepts, "zstd");
    if !zstd && !takes(accepts, "gzip") {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    let plain = StreamReader::new(body.into_data_stream().map_err(std::io::Error::other));
    let body = if zstd {
        Body::from_stream(ReaderStream::with_capacity(ZstdEncoder::with_quality(plain, Level::Fastest), PIECE))
    } else {
        Body::from_stream(ReaderStream::with_capacity(GzipEncoder::with_quality(plain, Level::Fastest), PIECE))
    };
    parts.headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static(if zstd { "zstd" } else { "gzip" }));
    parts.headers.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
    parts.headers.remove(header::CONTENT_LENGTH);
    Response::from_parts(parts, body)
}

fn takes(accepts: &HeaderValue, coding: &str) -> bool {
    let items = accepts.to_str().unwrap_or("").split(',');
    items.filter_map(|item| item.split(';').next().map(|name| (name.trim(), item))).any(|(name, item)| {
        let refused =
            item.split(';').skip(1).any(|p| matches!(p.trim().strip_prefix("q=").map(str::parse::<f32>), Some(Ok(q)) if q == 0.0));
        name.eq_ignore_ascii_case(coding) && !refused
    })
}
