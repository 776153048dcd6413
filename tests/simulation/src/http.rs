//! A client of the API on the simulated network: real HTTP, one request at a time, a connection to each gateway that is kept. It
//! hides nothing: an answer is a status and bytes, and no answer says whether the request may have arrived.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use serde_json::Value;

use crate::net::Stream;
use crate::trace::Trace;

/// Where gateways listen.
pub const PORT: u16 = 8080;
/// Longest wait for a connection.
const CONNECT: Duration = Duration::from_secs(2);

/// An answer, whatever its status.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The whole body.
    pub body: Bytes,
}

impl Answer {
    /// The body as JSON; null where it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// A problem's `code`, empty where there is none.
    pub fn code(&self) -> String {
        self.json()["code"].as_str().unwrap_or_default().to_owned()
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Places of the acks, in record order.
    pub fn places(&self) -> Vec<(u32, u64)> {
        let json = self.json();
        let place = |ack: &Value| Some((ack["partition"].as_u64()? as u32, ack["offset"].as_u64()?));
        json["acks"].as_array().into_iter().flatten().filter_map(place).collect()
    }
}

/// No answer.
#[derive(Clone, Debug)]
pub enum NoAnswer {
    /// Nobody took the connection: nothing happened.
    Unreachable,
    /// Whatever was sent may have arrived.
    Lost,
}

/// What a request came to: one of the three classes of answers.
#[derive(Clone, Debug)]
pub enum Outcome<T> {
    /// It happened.
    Ok(T),
    /// It certainly did not.
    Fail,
    /// Nobody knows.
    Info,
    /// The request was at fault, as the client never is: a defect.
    Wrong(Answer),
}

/// The class of an answer. Those with one of the `expected` codes are told by it, too.
pub fn class(sent: Result<Answer, NoAnswer>, expected: &[&str]) -> Outcome<Answer> {
    match sent {
        Ok(answer) if (200..300).contains(&answer.status) => Outcome::Ok(answer),
        Ok(answer) if matches!(answer.status, 500 | 502 | 503 | 504) || expected.contains(&answer.code().as_str()) => {
            if answer.json()["outcome"] == "not_applied" { Outcome::Fail } else { Outcome::Info }
        }
        Ok(answer) => Outcome::Wrong(answer),
        Err(NoAnswer::Unreachable) => Outcome::Fail,
        Err(NoAnswer::Lost) => Outcome::Info,
    }
}

/// A request.
#[derive(Clone, Debug)]
pub struct Ask {
    method: Method,
    path: String,
    media: &'static str,
    key: Option<String>,
    body: Bytes,
    patience: Duration,
}

impl Ask {
    /// A GET.
    pub fn get(path: impl Into<String>) -> Self {
        Self::new(Method::GET, path, "", Bytes::new())
    }

    /// A DELETE.
    pub fn delete(path: impl Into<String>) -> Self {
        Self::new(Method::DELETE, path, "", Bytes::new())
    }

    /// A request with a JSON body.
    pub fn json(method: Method, path: impl Into<String>, body: &Value) -> Self {
        Self::new(method, path, "application/json", body.to_string().into())
    }

    /// A POST of lines.
    pub fn lines(path: impl Into<String>, body: String) -> Self {
        Self::new(Method::POST, path, "application/x-ndjson", body.into())
    }

    fn new(method: Method, path: impl Into<String>, media: &'static str, body: Bytes) -> Self {
        Self { method, path: path.into(), media, key: None, body, patience: Duration::from_secs(20) }
    }

    /// With an `Idempotency-Key`.
    pub fn key(mut self, key: Option<&str>) -> Self {
        self.key = key.map(str::to_owned);
        self
    }

    /// Gives up after this time.
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }
}

/// A client.
pub struct Http {
    name: String,
    gateways: Vec<String>,
    at: usize,
    connections: Vec<Option<SendRequest<Full<Bytes>>>>,
    trace: Arc<Trace>,
}

impl Http {
    /// One that goes to these gateways, beginning at one of them.
    pub fn new(name: &str, gateways: &[String], at: usize, trace: &Arc<Trace>) -> Self {
        let connections = gateways.iter().map(|_| None).collect();
        Self { name: name.to_owned(), gateways: gateways.to_vec(), at: at % gateways.len(), connections, trace: Arc::clone(trace) }
    }

    /// Goes to the next gateway.
    pub fn turn(&mut self) {
        self.at = (self.at + 1) % self.gateways.len();
    }

    /// Goes to this gateway.
    pub fn go(&mut self, to: usize) {
        self.at = to % self.gateways.len();
    }

    /// Sends a request and takes the whole answer.
    pub async fn send(&mut self, ask: Ask) -> Result<Answer, NoAnswer> {
        let (method, path, gateway) = (ask.method.clone(), ask.path.clone(), self.gateways[self.at].clone());
        let told = self.tried(ask).await;
        let what = match &told {
            Ok(answer) if answer.status < 300 => format!("{} with {} bytes", answer.status, answer.body.len()),
            Ok(answer) => format!("{} {}", answer.status, answer.text()),
            Err(no) => format!("{no:?}"),
        };
        self.trace.line(&self.name, format_args!("{method} {gateway}{path}: {what}"));
        told
    }

    async fn tried(&mut self, ask: Ask) -> Result<Answer, NoAnswer> {
        let patience = ask.patience;
        let mut sender = match self.kept().await {
            Some(open) => open,
            None => tokio::time::timeout(CONNECT, self.connect()).await.ok().flatten().ok_or(NoAnswer::Unreachable)?,
        };
        let request = self.request(ask).ok_or(NoAnswer::Unreachable)?;
        let answered = async {
            let response = sender.send_request(request).await.ok()?;
            let status = response.status().as_u16();
            let body = response.into_body().collect().await.ok()?.to_bytes();
            Some((Answer { status, body }, sender))
        };
        let (answer, sender) = tokio::time::timeout(patience, answered).await.ok().flatten().ok_or(NoAnswer::Lost)?;
        self.connections[self.at] = Some(sender);
        Ok(answer)
    }

    /// The connection that was used last, if it is still good.
    async fn kept(&mut self) -> Option<SendRequest<Full<Bytes>>> {
        let mut open = self.connections[self.at].take()?;
        let ready = tokio::time::timeout(CONNECT, open.ready()).await;
        ready.is_ok_and(|ready| ready.is_ok()).then_some(open)
    }

    async fn connect(&self) -> Option<SendRequest<Full<Bytes>>> {
        let stream = Stream::connect(&self.gateways[self.at], PORT).await.ok()?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await.ok()?;
        tokio::spawn(connection);
        Some(sender)
    }

    fn request(&self, ask: Ask) -> Option<Request<Full<Bytes>>> {
        let mut request = Request::builder().method(ask.method).uri(ask.path).header("host", self.gateways[self.at].as_str());
        if !ask.media.is_empty() {
            request = request.header("content-type", ask.media);
        }
        if let Some(key) = ask.key {
            request = request.header("idempotency-key", key);
        }
        request.body(Full::new(ask.body)).ok()
    }
}
