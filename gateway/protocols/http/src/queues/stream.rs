//! Leases streamed to one receiver: NDJSON or server-sent events.
//!
//! Must never poll: between messages it sleeps in the verb, and wakes for the heartbeat.

use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::Response;
use bytes::{BufMut, Bytes, BytesMut};
use lakefall_queue::queue::{Consumer, Delivery};
use lakefall_queue::verbs::Caller;

use super::message::{MessageWriter, size};
use crate::edge::Immediate;
use crate::metrics::{self, Open};
use crate::problem::{self, Problem, Result};
use crate::router::App;

/// How messages are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// One per line.
    Lines,
    /// Server-sent events.
    Events,
}

impl Form {
    /// The first form that the caller names and we know.
    pub(super) fn of(headers: &HeaderMap) -> Result<Self> {
        let Some(accept) = headers.get(header::ACCEPT) else { return Ok(Self::Lines) };
        let items = accept.to_str().unwrap_or("").split(',').map(|item| item.split(';').next().unwrap_or("").trim().to_ascii_lowercase());
        for item in items {
            match item.as_str() {
                "application/x-ndjson" | "application/ndjson" | "application/*" | "*/*" => return Ok(Self::Lines),
                "text/event-stream" | "text/*" => return Ok(Self::Events),
                _ => {}
            }
        }
        let reason = "messages are streamed as application/x-ndjson or text/event-stream; POST …/receive answers JSON";
        Err(Problem::new(problem::NOT_ACCEPTABLE, reason))
    }

    fn heartbeat(self) -> Bytes {
        Bytes::from_static(match self {
            Self::Lines => b"\n",
            Self::Events => b": heartbeat\n\n",
        })
    }
}

/// What a stream of events begins with: how long a client waits before it connects again.
const HELLO: &[u8] = b"retry: 1000\n: connected\n\n";

/// The answer, which ends when the caller leaves, the queue goes, or the process shuts down.
pub(super) fn answer(api: App, caller: Caller, form: Form, writer: MessageWriter, consumer: Box<dyn Consumer>) -> Response {
    let longest = Duration::from_secs(api.limits().wait_seconds.max(1));
    let beat = api.settings.heartbeat.min(longest);
    let hello = (form == Form::Events).then(|| Bytes::from_static(HELLO));
    let state = Leases { api, caller, form, writer, consumer, beat, hello, over: false, _open: Open::new(metrics::CONSUMERS) };
    let pieces = futures::stream::unfold(state, |mut state| async move {
        let piece = state.next().await?;
        Some((Ok::<_, std::io::Error>(piece), state))
    });
    let mut response = Response::new(Body::from_stream(pieces));
    let media = match form {
        Form::Lines => "application/x-ndjson",
        Form::Events => "text/event-stream",
    };
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(media));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response.extensions_mut().insert(Immediate);
    response
}

struct Leases {
    api: App,
    caller: Caller,
    form: Form,
    writer: MessageWriter,
    consumer: Box<dyn Consumer>,
    beat: Duration,
    hello: Option<Bytes>,
    over: bool,
    _open: Open,
}

impl Leases {
    async fn next(&mut self) -> Option<Bytes> {
        if let Some(hello) = self.hello.take() {
            return Some(hello);
        }
        let shutdown = &self.api.settings.shutdown;
        if self.over || shutdown.is_cancelled() {
            return None;
        }
        let delivery = tokio::select! {
            delivery = self.consumer.next(self.beat) => delivery,
            () = shutdown.cancelled() => return None,
        };
        match delivery {
            Ok(delivery) if delivery.messages.is_empty() => Some(self.form.heartbeat()),
            Ok(delivery) => Some(self.written(delivery)),
            Err(error) => {
                self.over = true;
                Some(self.failed(&Problem::from(error)))
            }
        }
    }

    fn written(&mut self, delivery: Delivery) -> Bytes {
        ::metrics::counter!(metrics::RECEIVED).increment(delivery.messages.len() as u64);
        let mut out = BytesMut::with_capacity(size(&delivery));
        for message in &delivery.messages {
            if self.form == Form::Events {
                out.put_slice(b"data: ");
            }
            self.writer.put(&mut out, message);
            out.put_slice(if self.form == Form::Events { b"\n\n" } else { b"\n" });
        }
        delivery.admission.hold(out.freeze())
    }

    fn failed(&self, problem: &Problem) -> Bytes {
        let request_id = &*self.caller.request_id;
        tracing::warn!(request_id, code = problem.code().name, "a stream of messages failed");
        let problem = problem.to_json(request_id);
        match self.form {
            Form::Lines => format!("{problem}\n").into(),
            Form::Events => format!("event: problem\ndata: {problem}\n\n").into(),
        }
    }
}
