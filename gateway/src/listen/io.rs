//! A socket that gives up on a client that draws things out: a head that does not end, an answer that is not taken, a
//! connection that lies idle.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::rt::{Read, ReadBuf, ReadBufCursor, Write};
use hyper_util::rt::TokioIo;
use lakefall_service::failpoint;
use lakefall_service::net::Wire;
use tokio::time::{Instant, Sleep};

use super::ListenConfig;

/// What an HTTP/1.1 connection is doing, told by the service to the socket.
#[derive(Clone, Default)]
pub(super) struct Phase(Arc<Doing>);

#[derive(Default)]
struct Doing {
    phase: AtomicU8,
    lingers: AtomicBool,
}

const IDLE: u8 = 0;
const HEAD: u8 = 1;
const BUSY: u8 = 2;
const CLOSING: u8 = 3;

/// How long what a client still sends is read and thrown away, once it was refused. Closed at once instead, the socket
/// would be reset, and a client in the middle of a large body would see that instead of the answer.
const LINGER: Duration = Duration::from_secs(2);

impl Phase {
    /// A request's head was read.
    pub(super) fn busy(&self) {
        self.0.phase.store(BUSY, Ordering::Relaxed);
    }

    /// The body was not read to its end: close with patience.
    pub(super) fn linger(&self) {
        self.0.lingers.store(true, Ordering::Relaxed);
    }

    /// Idle again when `body` was sent or dropped.
    pub(super) fn until_sent(self, body: Body) -> Body {
        Body::new(SentBody { body, phase: self })
    }

    fn get(&self) -> u8 {
        self.0.phase.load(Ordering::Relaxed)
    }
}

/// An answer whose end makes the connection idle.
struct SentBody {
    body: Body,
    phase: Phase,
}

impl Drop for SentBody {
    fn drop(&mut self) {
        self.phase.0.phase.store(IDLE, Ordering::Relaxed);
    }
}

impl HttpBody for SentBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A timer that is set only while something is waited for.
#[derive(Default)]
struct Timer {
    sleep: Option<Pin<Box<Sleep>>>,
    armed: Option<u8>,
}

impl Timer {
    /// Whether `after` has passed since the wait of this `kind` began.
    fn expired(&mut self, kind: u8, after: Duration, cx: &mut Context<'_>) -> bool {
        if self.armed != Some(kind) {
            self.armed = Some(kind);
            let deadline = Instant::now() + after;
            match &mut self.sleep {
                Some(sleep) => sleep.as_mut().reset(deadline),
                None => self.sleep = Some(Box::pin(tokio::time::sleep_until(deadline))),
            }
        }
        self.sleep.as_mut().is_some_and(|sleep| sleep.as_mut().poll(cx).is_ready())
    }

    fn disarm(&mut self) {
        self.armed = None;
    }
}

/// The socket.
pub(super) struct TimedIo<S> {
    io: TokioIo<S>,
    phase: Option<Phase>,
    header_timeout: Duration,
    idle_timeout: Duration,
    write_timeout: Duration,
    reading: Timer,
    writing: Timer,
    /// Our side is closed.
    shut: bool,
}

impl<S: Wire> TimedIo<S> {
    /// Without a phase reads are not timed: HTTP/2 has its own pings.
    pub(super) fn new(stream: S, config: &ListenConfig, phase: Option<Phase>) -> Self {
        Self {
            io: TokioIo::new(stream),
            phase,
            header_timeout: config.header_timeout,
            idle_timeout: config.idle_timeout,
            write_timeout: config.write_timeout,
            reading: Timer::default(),
            writing: Timer::default(),
            shut: false,
        }
    }

    /// Reads until the client closes its side too, or [`LINGER`] is over.
    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        let mut bytes = [0_u8; 8 << 10];
        loop {
            let mut sink = ReadBuf::new(&mut bytes);
            match Pin::new(&mut self.io).poll_read(cx, sink.unfilled()) {
                Poll::Ready(Ok(())) if !sink.filled().is_empty() => {}
                Poll::Ready(_) => return Poll::Ready(Ok(())),
                Poll::Pending if self.reading.expired(CLOSING, LINGER, cx) => return Poll::Ready(Ok(())),
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    fn check_reading(&mut self, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        let Some(phase) = &self.phase else { return Poll::Pending };
        let after = match phase.get() {
            HEAD => self.header_timeout,
            IDLE => self.idle_timeout,
            _ => {
                self.reading.disarm();
                return Poll::Pending;
            }
        };
        if self.reading.expired(phase.get(), after, cx) { Poll::Ready(Err(too_slow())) } else { Poll::Pending }
    }

    fn check_writing(&mut self, cx: &mut Context<'_>) -> Poll<std::io::Result<usize>> {
        if self.writing.expired(BUSY, self.write_timeout, cx) { Poll::Ready(Err(too_slow())) } else { Poll::Pending }
    }
}

fn too_slow() -> std::io::Error {
    std::io::Error::new(std::io::ErrorKind::TimedOut, "the client took too long")
}

impl<S: Wire> Read for TimedIo<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: ReadBufCursor<'_>) -> Poll<std::io::Result<()>> {
        match Pin::new(&mut self.io).poll_read(cx, buf) {
            Poll::Pending => self.check_reading(cx),
            ready => {
                // The first bytes after a pause begin a head; it ends when the service is called.
                let begun = |phase: &Phase| phase.0.phase.compare_exchange(IDLE, HEAD, Ordering::Relaxed, Ordering::Relaxed).is_ok();
                if self.phase.as_ref().is_some_and(begun) {
                    self.reading.disarm();
                }
                ready
            }
        }
    }
}

impl<S: Wire> Write for TimedIo<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<std::io::Result<usize>> {
        match Pin::new(&mut self.io).poll_write(cx, buf) {
            Poll::Pending => self.check_writing(cx),
            ready => {
                self.writing.disarm();
                // The kernel has it: a client may see the answer.
                failpoint::hit("k9");
                ready
            }
        }
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bufs: &[std::io::IoSlice<'_>]) -> Poll<std::io::Result<usize>> {
        match Pin::new(&mut self.io).poll_write_vectored(cx, bufs) {
            Poll::Pending => self.check_writing(cx),
            ready => {
                self.writing.disarm();
                // The kernel has it: a client may see the answer.
                failpoint::hit("k9");
                ready
            }
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        // The end of an answer begins a pause, but hyper reads anew only when bytes come, if it tried before the answer.
        if self.phase.as_ref().is_some_and(|phase| phase.get() == IDLE) && self.check_reading(cx).is_ready() {
            cx.waker().wake_by_ref();
        }
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        if !self.shut {
            ready!(Pin::new(&mut self.io).poll_shutdown(cx))?;
            self.shut = true;
        }
        if self.phase.as_ref().is_some_and(|phase| phase.0.lingers.load(Ordering::Relaxed)) {
            self.poll_linger(cx)
        } else {
            Poll::Ready(Ok(()))
        }
    }
}
