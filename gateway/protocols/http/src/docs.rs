//! The OpenAPI document and its page for people, both inside the executable.

use std::sync::LazyLock;

use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;

use crate::openapi::document;

static DOCUMENT: LazyLock<Bytes> = LazyLock::new(|| document().into());

/// One file: it draws the document that this server serves, and loads nothing from anywhere else.
const PAGE: &str = include_str!("docs.html");

/// `/v1/openapi.json`.
pub(crate) async fn openapi() -> Response {
    ([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], DOCUMENT.clone()).into_response()
}

/// `/docs`.
pub(crate) async fn page() -> Response {
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8")),
        (
            header::CONTENT_SECURITY_POLICY,
            HeaderValue::from_static("default-src 'none'; connect-src 'self'; style-src 'unsafe-inline'; script-src 'unsafe-inline'"),
        ),
    ];
    (headers, PAGE).into_response()
}
