//! A request's body that gives up on a client that stops sending, and that tells when it was not read to its end.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep};

/// What a refused request may leave unread without its connection being closed: it is read away with the next piece.
const LEFT_OVER: u64 = 16 << 10;

/// Told by a body that was dropped with much of it unread: the connection cannot be used again, and the answer must say
/// so, or the client sends its next request into a closing connection.
#[derive(Clone, Default)]
pub(super) struct Unread(Arc<AtomicBool>);

impl Unread {
    /// Whether that is so.
    pub(super) fn get(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// Slowest client that is borne with, in bytes per second, averaged over the body and told from the first timeout on: a
/// byte now and then would otherwise hold a connection and its room in the buffer for ever.
const LEAST_RATE: u64 = 1 << 10;

/// Ends with an error when no piece came for the timeout, or too little for longer than that. The timer is set only while a
/// piece is waited for.
pub(super) struct TimedBody {
    body: Incoming,
    /// `None`: a stream that may be silent for as long as its client likes.
    timeout: Option<Duration>,
    begun: Instant,
    received: u64,
    waiting: Option<Pin<Box<Sleep>>>,
    ended: bool,
    unread: Unread,
}

impl Drop for TimedBody {
    fn drop(&mut self) {
        let much = self.body.size_hint().upper().is_none_or(|left| left > LEFT_OVER);
        if !self.ended && !self.body.is_end_stream() && much {
            self.unread.0.store(true, Ordering::Release);
        }
    }
}

/// Why a body ended early.
#[derive(Debug, thiserror::Error)]
pub(super) enum BodyError {
    /// Rooms know it by its [`std::io::ErrorKind::TimedOut`].
    #[error("the request's body was not sent in time")]
    TooSlow(#[source] std::io::Error),
    #[error(transparent)]
    Broken(#[from] hyper::Error),
}

impl TimedBody {
    /// The body of a request for `path`.
    pub(super) fn new(body: Incoming, path: &str, timeout: Duration, unread: Unread) -> Self {
        let timeout = (!lakefall_http::is_long_lived(path)).then_some(timeout);
        Self { body, timeout, begun: Instant::now(), received: 0, waiting: None, ended: false, unread }
    }

    fn crawls(&mut self, frame: &Frame<Bytes>) -> bool {
        self.received += frame.data_ref().map_or(0, |data| data.len() as u64);
        let Some(timeout) = self.timeout else { return false };
        // A clock is read only for pieces that could be part of a crawl.
        let small = self.received < timeout.as_secs().max(1) * LEAST_RATE * 64;
        let took = if small { self.begun.elapsed() } else { Duration::ZERO };
        took > timeout && self.received < took.as_secs() * LEAST_RATE
    }
}

fn too_slow() -> BodyError {
    BodyError::TooSlow(std::io::ErrorKind::TimedOut.into())
}

impl Body for TimedBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match Pin::new(&mut self.body).poll_frame(cx) {
            Poll::Ready(frame) => {
                self.waiting = None;
                self.ended |= frame.is_none();
                if let Some(Ok(piece)) = &frame
                    && self.crawls(piece)
                {
                    return Poll::Ready(Some(Err(too_slow())));
                }
                Poll::Ready(frame.map(|frame| frame.map_err(BodyError::from)))
            }
            Poll::Pending => {
                let Some(timeout) = self.timeout else { return Poll::Pending };
                let deadline = Instant::now() + timeout;
                let waiting = self.waiting.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
                match waiting.as_mut().poll(cx) {
                    Poll::Ready(()) => Poll::Ready(Some(Err(too_slow()))),
                    Poll::Pending => Poll::Pending,
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
