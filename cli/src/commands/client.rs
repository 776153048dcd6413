//! The HTTP client of the commands: one request, its refusal as a problem, retries where repeating is safe.

use std::future::Future;
use std::time::Duration;

use lakefall_queue::clock::Entropy;
use lakefall_service::clock::SystemEntropy;
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde_json::Value;
use tokio::runtime::Runtime;
use url::Url;

use crate::args::ClientArgs;
use crate::failure::{Failure, Problem};

/// What a name must not carry into a path.
const SEGMENT: &AsciiSet =
    &CONTROLS.add(b' ').add(b'"').add(b'#').add(b'%').add(b'/').add(b'<').add(b'>').add(b'?').add(b'`').add(b'{').add(b'}');
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// First pause before repeating; it doubles each time.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// A name as one segment of a path.
pub(crate) fn segment(name: &str) -> String {
    utf8_percent_encode(name, SEGMENT).to_string()
}

/// Talks to one server for one namespace.
pub(crate) struct Client {
    http: reqwest::Client,
    base: Url,
    namespace: Option<String>,
    runtime: Runtime,
}

impl Client {
    /// A client of `--url` and `--namespace`.
    pub(crate) fn new(args: &ClientArgs) -> Result<Self, Failure> {
        let base = Url::parse(&args.url).map_err(|error| Failure::Usage(format!("--url {}: {error}", args.url)))?;
        if base.cannot_be_a_base() {
            return Err(Failure::Usage(format!("--url {}: use something like http://127.0.0.1:8080", args.url)));
        }
        let http = reqwest::Client::builder().connect_timeout(CONNECT_TIMEOUT).tcp_nodelay(true).build()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| Failure::Defect(format!("no runtime: {error}")))?;
        Ok(Self { http, base, namespace: args.namespace.clone(), runtime })
    }

    /// Runs a command's work to its end.
    pub(crate) fn blocking<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.block_on(work)
    }

    /// The server's address.
    pub(crate) fn base(&self) -> &Url {
        &self.base
    }

    /// The namespace that was asked for.
    pub(crate) fn namespace(&self) -> Option<&str> {
        self.namespace.as_deref()
    }

    /// A request to a path with its query.
    pub(crate) fn request(&self, method: Method, path_and_query: &str) -> RequestBuilder {
        let url = format!("{}{path_and_query}", self.base.as_str().trim_end_matches('/'));
        let request = self.http.request(method, url);
        match &self.namespace {
            Some(namespace) => request.header("lakefall-namespace", namespace),
            None => request,
        }
    }

    /// GETs JSON.
    pub(crate) async fn get(&self, path: &str) -> Result<Value, Failure> {
        json(accepted(self.request(Method::GET, path).send().await?).await?).await
    }

    /// GETs all pages of a list.
    pub(crate) async fn list(&self, path: &str) -> Result<Vec<Value>, Failure> {
        let mut items = Vec::new();
        let mut token: Option<String> = None;
        loop {
            let query =
                token.map(|token| format!("?page_token={}", segment(&token).replace('+', "%2B").replace('&', "%26"))).unwrap_or_default();
            let mut page = self.get(&format!("{path}{query}")).await?;
            if let Value::Array(more) = page["items"].take() {
                items.extend(more);
            }
            match page["next_page_token"].as_str() {
                Some(next) => token = Some(next.to_owned()),
                None => return Ok(items),
            }
        }
    }

    /// Sends JSON and reads JSON; null where the answer is empty. Sent with a key, so that a lost answer may be asked for again.
    pub(crate) async fn send(&self, method: Method, path: &str, body: &Value) -> Result<Value, Failure> {
        let key = idempotency_key();
        let creates = method == Method::POST;
        let request = || {
            let request = self.request(method.clone(), path).json(body);
            if creates { request.header("idempotency-key", &key) } else { request }
        };
        json(self.repeat(request, Duration::from_secs(10)).await?).await
    }

    /// Sends JSON that is safe to repeat by itself, without a key; reads JSON.
    pub(crate) async fn send_unkeyed(&self, method: Method, path: &str, body: &Value) -> Result<Value, Failure> {
        json(self.repeat(|| self.request(method.clone(), path).json(body), Duration::from_secs(10)).await?).await
    }

    /// DELETEs.
    pub(crate) async fn delete(&self, path: &str) -> Result<(), Failure> {
        accepted(self.request(Method::DELETE, path).send().await?).await.map(drop)
    }

    /// Creates something; that it is there already is well, and null.
    pub(crate) async fn create_if_absent(&self, path: &str, body: &Value) -> Result<Value, Failure> {
        match self.send(Method::POST, path, body).await {
            Err(Failure::Refused(problem)) if problem.code == "already_exists" => Ok(Value::Null),
            other => other,
        }
    }

    /// Sends a request again while the server has no room or the answer was lost, for as long as `patience`. The request
    /// must be safe to repeat: by its key, or by its method. The first connection is not repeated: a server that is not
    /// there is told at once.
    pub(crate) async fn repeat(&self, request: impl Fn() -> RequestBuilder, patience: Duration) -> Result<Response, Failure> {
        let give_up = tokio::time::Instant::now() + patience;
        let mut pause = FIRST_PAUSE;
        let mut connected = false;
        loop {
            let failure = match request().send().await {
                Ok(response) => {
                    connected = true;
                    let wait = retry_after(&response);
                    match accepted(response).await {
                        Err(Failure::Refused(problem)) if matches!(problem.status, 429 | 503 | 504) => {
                            pause = pause.max(wait);
                            Failure::Refused(problem)
                        }
                        settled => return settled,
                    }
                }
                Err(error) if error.is_builder() || (error.is_connect() && !connected) => return Err(error.into()),
                Err(error) => {
                    connected = true;
                    error.into()
                }
            };
            if tokio::time::Instant::now() + pause > give_up {
                return Err(failure);
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }
}

/// A key that no other request has.
pub(crate) fn idempotency_key() -> String {
    format!("{:032x}", SystemEntropy.draw())
}

/// The answer if it is a success, else its problem.
pub(crate) async fn accepted(response: Response) -> Result<Response, Failure> {
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let body = response.bytes().await.unwrap_or_default();
    let problem = serde_json::from_slice::<Problem>(&body).unwrap_or_else(|_| Problem {
        title: status.canonical_reason().unwrap_or("the server refused").to_owned(),
        detail: String::from_utf8_lossy(&body).chars().take(300).collect(),
        ..Problem::default()
    });
    Err(Failure::Refused(Box::new(Problem { status: status.as_u16(), ..problem })))
}

async fn json(response: Response) -> Result<Value, Failure> {
    if response.status() == StatusCode::NO_CONTENT {
        return Ok(Value::Null);
    }
    let body = response.bytes().await?;
    if body.is_empty() {
        return Ok(Value::Null);
    }
    serde_json::from_slice(&body).map_err(|error| Failure::Defect(format!("the answer is no JSON: {error}")))
}

/// The server's wish in seconds (RFC 9110, section 10.2.3), at most a minute.
fn retry_after(response: &Response) -> Duration {
    let seconds = response.headers().get("retry-after").and_then(|value| value.to_str().ok()).and_then(|text| text.parse().ok());
    Duration::from_secs(seconds.unwrap_or(0).min(60))
}
