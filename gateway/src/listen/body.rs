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

/// Ends with an error when no piece came for the timeout. The timer is set only while a piece is waited for.
pub(super) struct TimedBody {
    body: Incoming,
    timeout: Duration,
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
    pub(super) fn new(body: Incoming, timeout: Duration, unread: Unread) -> Self {
        Self { body, timeout, waiting: None, ended: false, unread }
    }
}

impl Body for TimedBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match Pin::new(&mut self.body).poll_frame(cx) {
            Poll::Ready(frame) => {
                self.waiting = None;
                self.ended |= frame.is_none();
                Poll::Ready(frame.map(|frame| frame.map_err(BodyError::from)))
            }
            Poll::Pending => {
                let deadline = Instant::now() + self.timeout;
                let waiting = self.waiting.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
                match waiting.as_mut().poll(cx) {
                    Poll::Ready(()) => Poll::Ready(Some(Err(BodyError::TooSlow(std::io::ErrorKind::TimedOut.into())))),
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
