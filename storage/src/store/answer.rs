//! What a service answered, by types. `object_store` keeps the status of a failed request to itself, so the layer below
//! it listens: each answer leaves its status, its error code and its pause here, for the attempt that asked. It must
//! never let through what an error body holds besides code and message: S3 repeats signatures and session tokens there.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures::TryStreamExt;
use http::header::{CONTENT_LENGTH, DATE, RETRY_AFTER};
use http::{HeaderMap, StatusCode};
use object_store::ClientOptions;
use object_store::client::{HttpClient, HttpConnector, HttpError, HttpRequest, HttpResponse, HttpService, ReqwestConnector};

/// Error bodies are read up to here; those of S3 have some hundred bytes.
const MAX_ERROR_BODY: usize = 16 << 10;
/// A message is shown up to here.
const MAX_MESSAGE: usize = 300;

tokio::task_local! {
    static HEARD: Arc<Mutex<Option<Answer>>>;
}

/// The last answer to an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    /// The service's own word, like `SlowDown`; a HEAD has none.
    pub(crate) code: Option<String>,
    pub(crate) message: Option<String>,
    /// How long the service wants to be left alone.
    pub(crate) retry_after: Option<Duration>,
    /// The service's clock, as it writes it.
    pub(crate) date: Option<String>,
}

impl Answer {
    /// Whether the service did not do what it was asked. A redirection that is left over names no place: S3 answers so
    /// to a request for a bucket of another region.
    pub(super) fn refuses(&self) -> bool {
        !self.status.is_success() && self.status != StatusCode::NOT_MODIFIED
    }

    /// Whether other credentials might do: the service does not know these, or no longer. Without a code it may be so.
    pub(super) fn refuses_credentials(&self) -> bool {
        match self.code.as_deref() {
            Some("ExpiredToken" | "InvalidToken" | "TokenRefreshRequired" | "InvalidAccessKeyId" | "SignatureDoesNotMatch") => true,
            Some(_) => false,
            None => matches!(self.status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN),
        }
    }
}

/// Runs one attempt and tells the last answer that came on its way.
pub(crate) async fn listen<T>(attempt: impl Future<Output = T>) -> (T, Option<Answer>) {
    let heard = Arc::new(Mutex::new(None));
    let outcome = HEARD.scope(heard.clone(), attempt).await;
    let answer = heard.lock().unwrap_or_else(PoisonError::into_inner).take();
    (outcome, answer)
}

/// Connects as `object_store` does by itself, and listens.
#[derive(Debug)]
pub(super) struct Listening;

impl HttpConnector for Listening {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(Listener(ReqwestConnector::default().connect(options)?)))
    }
}

#[derive(Debug)]
struct Listener(HttpClient);

#[async_trait]
impl HttpService for Listener {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        // An attempt that breaks off has no answer, whatever an earlier request of it got.
        note(None);
        let response = self.0.execute(request).await?;
        let mut answer = Answer {
            status: response.status(),
            code: None,
            message: None,
            retry_after: retry_after(response.headers()),
            date: text(response.headers(), DATE.as_str()),
        };
        if !answer.refuses() {
            note(Some(answer));
            return Ok(response);
        }
        let (mut parts, body) = response.into_parts();
        let body = collect(body.bytes_stream()).await;
        answer.code = element(&body, "Code");
        answer.message = element(&body, "Message");
        let safe = format!("{}", Said(&answer));
        note(Some(answer));
        parts.headers.remove(CONTENT_LENGTH);
        Ok(HttpResponse::from_parts(parts, safe.into()))
    }
}

fn note(answer: Option<Answer>) {
    // Requests that no attempt asked for, as for a token in the background, have nobody to tell.
    let _ = HEARD.try_with(|heard| *heard.lock().unwrap_or_else(PoisonError::into_inner) = answer);
}

/// The code and the message, which hold no secrets.
struct Said<'a>(&'a Answer);

impl std::fmt::Display for Said<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Answer { code, message, .. } = self.0;
        match (code, message) {
            (Some(code), Some(message)) => write!(f, "{code}: {message}"),
            (Some(one), None) | (None, Some(one)) => f.write_str(one),
            (None, None) => Ok(()),
        }
    }
}

impl std::fmt::Display for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.status)?;
        if self.code.is_some() || self.message.is_some() { write!(f, " {}", Said(self)) } else { Ok(()) }
    }
}

/// What arrives of a body, up to the bound.
async fn collect(mut stream: futures::stream::BoxStream<'static, Result<bytes::Bytes, HttpError>>) -> String {
    let mut body = Vec::new();
    // What breaks off has told enough: the status is known.
    while let Ok(Some(chunk)) = stream.try_next().await {
        body.extend_from_slice(&chunk[..chunk.len().min(MAX_ERROR_BODY - body.len())]);
        if body.len() == MAX_ERROR_BODY {
            break;
        }
    }
    String::from_utf8_lossy(&body).into_owned()
}

/// The text of the first `<name>`, in one line. S3, GCS and Azure all write it without attributes.
fn element(body: &str, name: &str) -> Option<String> {
    let (_, rest) = body.split_once(&format!("<{name}>"))?;
    let (text, _) = rest.split_once(&format!("</{name}>"))?;
    let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_MESSAGE).collect();
    (!line.trim().is_empty()).then(|| line.trim().to_owned())
}

fn text(headers: &HeaderMap, name: &str) -> Option<String> {
    headers.get(name)?.to_str().ok().map(str::to_owned)
}

/// Only the form in seconds: the one with a date would need this machine's clock to be right.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    text(headers, RETRY_AFTER.as_str())?.trim().parse().ok().map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_an_error_body_only_code_and_message_are_taken_in_one_line() {
        let body = "<?xml version=\"1.0\"?><Error><Code>SignatureDoesNotMatch</Code><Message>not\nyours</Message>\
                    <StringToSign>secret</StringToSign></Error>";
        assert_eq!(element(body, "Code").as_deref(), Some("SignatureDoesNotMatch"));
        assert_eq!(element(body, "Message").as_deref(), Some("not yours"));
        assert_eq!(element("<html>no</html>", "Code"), None);
        assert_eq!(element("<Code>cut off", "Code"), None);
    }

    #[test]
    fn a_pause_is_understood_in_seconds() {
        let mut headers = HeaderMap::new();
        assert_eq!(retry_after(&headers), None);
        headers.insert(RETRY_AFTER, "7".parse().unwrap());
        assert_eq!(retry_after(&headers), Some(Duration::from_secs(7)));
        headers.insert(RETRY_AFTER, "Wed, 21 Oct 2015 07:28:00 GMT".parse().unwrap());
        assert_eq!(retry_after(&headers), None);
    }
}
